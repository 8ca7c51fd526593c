"""A slice's peak is its worst patch, deep in the head, with the sign of what was lost."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from medtranslate.quality.peak_error import PATCH, RIM, peaks

SIDE = 64


def blank(count: int = 1) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Nothing lost, a grey scan, and a head of 60 x 60 pixels in a field of 64."""
    head = torch.zeros(count, SIDE, SIDE, dtype=torch.bool)
    head[:, 2:62, 2:62] = True
    return torch.zeros(count, 1, SIDE, SIDE), torch.zeros(count, 1, SIDE, SIDE), head


def test_a_lost_structure_counts_with_its_share_of_the_patch() -> None:
    lost, source, head = blank(2)
    lost[0, 0, 30:33, 30:33] = -9.0
    lost[1, 0, 20:32, 20:32] = 5.0

    assert peaks(lost, source, head) == pytest.approx([9.0 * 9 / PATCH**2, 5.0])


def test_noise_and_soft_edges_cancel_out() -> None:
    lost, source, head = blank()
    lost[0, 0, :, 30], lost[0, 0, :, 31] = 40.0, -40.0

    assert peaks(lost, source, head)[0] == pytest.approx(40.0 / PATCH)


def test_a_slice_that_is_brighter_all_over_has_lost_nothing() -> None:
    lost, source, head = blank(2)
    lost += 7.0
    lost[1, 0, 20:32, 20:32] = 4.0

    assert peaks(lost, source, head) == pytest.approx([0.0, 3.0])


def test_the_rim_and_what_the_network_could_not_see_are_passed_over() -> None:
    lost, source, head = blank(3)
    first = 2 + RIM - PATCH // 2  # that a patch reaches whose middle is deep enough
    lost[0, 0, :first], lost[0, 0, :, :first] = 50.0, 50.0
    lost[1, 0, first, 30] = PATCH**2
    lost[2, 0, 30, 30] = 50.0
    source[2, 0, 30, 30] = 1.0

    assert peaks(lost, source, head) == pytest.approx([0.0, 1.0, 0.0])


def test_a_head_without_room_has_none() -> None:
    lost, source, head = blank(2)
    head[0] = False
    head[0, 20 : 20 + 2 * RIM, 20 : 20 + 2 * RIM] = True

    assert peaks(lost, source, head) == [None, 0.0]


@given(row=st.integers(12, 51), column=st.integers(12, 51), turns=st.integers(0, 3))
def test_it_does_not_depend_on_the_place_or_the_direction(row, column, turns) -> None:
    lost, source, head = blank()
    lost[0, 0, row, column] = -float(PATCH**2)

    turned = torch.rot90(lost, turns, (2, 3))
    assert peaks(turned, source, head)[0] == pytest.approx(1.0)


def test_the_field_s_border_is_no_place_deep_in_the_head() -> None:
    lost, source, head = blank()
    head[:] = True
    lost[0, 0, :4] = 50.0

    assert peaks(lost, source, head) == [0.0]
