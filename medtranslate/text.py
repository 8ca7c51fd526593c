"""Text from files and headers, made safe for terminals, pages and JSON.

A file name may hold bytes that are no UTF-8 (Python keeps them as lone surrogates), and a header
may hold control characters that move a terminal's cursor. Both are escaped wherever text leaves the
program, so that no name ends a batch and no file writes on a screen.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Mapping
from typing import Any

_JOINERS = "\u200c\u200d"  # of Persian and Indic names, and of emoji
_ESCAPED = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


def escaped(text: str, *, lines: bool = False) -> str:
    r"""Return a text with control characters and undecodable bytes as backslash escapes.

    Parameters
    ----------
    text : str
        From a file name, a header or a library.
    lines : bool
        Keep line ends and tabs.

    Examples
    --------
    >>> print(escaped("M\udcfcller\x1b[31m\nCT"))
    M\xfcller\x1b[31m\nCT
    """
    if text.isprintable():
        return text
    return "".join(c if lines and c in "\n\t" else _escaped(c) for c in text)


def one_line(text: str) -> str:
    r"""Return a text in one line, escaped.

    Examples
    --------
    >>> print(one_line("a\n\n  b\x07"))
    a b\x07
    """
    return escaped(" ".join(text.split()))


def plain(value: Any) -> Any:
    r"""Return builtins with every text in them escaped, keys as well.

    Examples
    --------
    >>> plain({"files": ["K\udcf6ln.nii"]})
    {'files': ['K\\xf6ln.nii']}
    """
    if isinstance(value, str):
        return escaped(value, lines=True)
    if isinstance(value, Mapping):
        return {plain(key): plain(inside) for key, inside in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inside) for inside in value]
    return value


def as_json(content: Any) -> str:
    """Return builtins as indented JSON text of valid UTF-8, with a line end."""
    return json.dumps(plain(content), indent=2, ensure_ascii=False) + "\n"


def _escaped(character: str) -> str:
    if character in _JOINERS or unicodedata.category(character) not in _ESCAPED:
        return character
    if character in "\n\r\t":
        return repr(character)[1:-1]
    number = ord(character)
    if 0xDC80 <= number <= 0xDCFF:  # a byte of a file name (PEP 383)
        return f"\\x{number - 0xDC00:02x}"
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}"
