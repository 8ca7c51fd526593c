"""The changes that the mutation score is counted over."""

from __future__ import annotations

import json

from mutation.operators import mutants
from mutation.run import EQUIVALENT, REPOSITORY, TARGETS

SOURCE = b'''"""A module."""

SIDE: int = 3


def place(x: float, *, flip: bool = True) -> float:
    """Say where."""
    if x < 2 and not flip:
        raise ValueError(f"no place {x + 1}")
    y = [-x, SIDE][0]
    y += len("word")
    return y
'''


def test_each_change_is_of_one_place_and_keeps_the_lines() -> None:
    made = mutants("a.py", SOURCE)
    for one in made:
        lines, before = one.content.splitlines(), SOURCE.splitlines()
        assert len(lines) == len(before)
        assert [n for n in range(len(lines)) if lines[n] != before[n]] == [one.line - 1]
    assert {(one.line, one.change) for one in made} == {
        (3, "3 -> 4"),
        (6, "True -> False"),
        (8, "x < 2 and not flip -> (not (x < 2 and not flip))"),
        (8, "< -> <="),
        (8, "2 -> 3"),
        (8, "and -> or"),
        (8, "not flip -> (flip)"),
        (9, 'raise ValueError(f"no place {x + 1}") -> pass'),
        (10, "[-x, SIDE][0] -> None"),
        (10, "-x -> (x)"),
        (10, "0 -> 1"),
        (11, "+ -> -"),
        (11, '"word" -> ("word" + \'XX\')'),
        (12, "y -> None"),
    }
    assert {one.line for one in made if one.always} == {3, 6}


def test_targets_and_equivalent_changes_are_of_files_that_are_there() -> None:
    for target in TARGETS.values():
        for path in (*target.modules, *target.tests):
            assert (REPOSITORY / path).is_file(), path
    for line in EQUIVALENT.read_text(encoding="utf-8").splitlines():
        one = json.loads(line)
        lines = (REPOSITORY / one["file"]).read_text(encoding="utf-8").splitlines()
        assert one["code"] in map(str.strip, lines), one
        assert one["change"].split(" -> ")[0] in one["code"], one
        assert one["why"]
