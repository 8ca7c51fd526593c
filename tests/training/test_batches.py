"""The order in which slices are drawn, and the batches of it."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from training.phantoms import prepared

from medtranslate.errors import TrainingFailed
from medtranslate.training.batches import Order, UnpairedBatches

CPU = torch.device("cpu")


@given(count=st.integers(2, 40), start=st.integers(0, 200), length=st.integers(1, 30))
def test_an_order_is_the_same_wherever_one_enters_it(count: int, start: int, length: int) -> None:
    whole = Order(count, 7, "ct").places(0, start + length)

    assert torch.equal(Order(count, 7, "ct").places(start, length), whole[start:])


@given(count=st.integers(2, 40), seed=st.integers(0, 1000))
def test_every_slice_is_seen_once_before_any_is_seen_again(count: int, seed: int) -> None:
    places = Order(count, seed, "mri").places(0, 3 * count).reshape(3, count)

    assert bool((places.sort(dim=1).values == torch.arange(count)).all())


def test_processes_share_a_step_without_overlap() -> None:
    ct, mri = prepared("CT", 6), prepared("MR", 5)

    def batches(size: int, rank: int = 0, processes: int = 1) -> UnpairedBatches:
        return UnpairedBatches(ct, mri, size, 3, CPU, 0, rank, processes)

    whole = next(iter(batches(4)))
    parts = [next(iter(batches(2, rank, 2))) for rank in (0, 1)]

    for name in ("ct", "mri"):
        assert torch.equal(whole[name], torch.cat([part[name] for part in parts]))
    assert len(batches(4)) == len(batches(2, 0, 2)) == 2


def test_one_slice_is_too_few() -> None:
    with pytest.raises(TrainingFailed, match="1 CT slice"):
        UnpairedBatches(prepared("CT", 1), prepared("MR", 5), 1, 0, CPU)
