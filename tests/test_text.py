"""Text of others, made safe for terminals, pages and JSON."""

from __future__ import annotations

import json
import os
import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from medtranslate.errors import InputMissing
from medtranslate.text import as_json, escaped, one_line, plain

ANY = st.text(st.characters(exclude_categories=()), max_size=40)  # lone surrogates, too


@given(ANY)
def test_escaped_text_is_utf_8_and_moves_no_cursor(text: str) -> None:
    for made in (escaped(text), one_line(text), escaped(text, lines=True).replace("\n", "")):
        made.encode("utf-8")
        assert not {unicodedata.category(c) for c in made.replace("\t", "")} & {"Cc", "Cs", "Zl"}
    assert escaped(escaped(text)) == escaped(text)


@given(st.text(st.characters(categories=("L", "N", "P", "Zs")), max_size=40))
def test_text_without_control_characters_stays_as_it_is(text: str) -> None:
    assert escaped(text) == text


@given(st.dictionaries(ANY, st.lists(ANY, max_size=3), max_size=3))
def test_json_of_any_names_is_valid_utf_8(content: dict[str, list[str]]) -> None:
    assert json.loads(as_json(content).encode("utf-8")) == plain(content)


def test_a_latin_1_name_and_an_escape_sequence_are_readable_in_messages() -> None:
    name = os.fsdecode(b"M\xfcller\x1b[2J.nii")
    error = InputMissing("says \x07", path=name)
    assert str(error) == r"M\xfcller\x1b[2J.nii: says \x07" and error.path == name
