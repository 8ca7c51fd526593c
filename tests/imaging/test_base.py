from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medtranslate.errors import Unsupported
from medtranslate.imaging.base import beyond_float32, to_float32, to_integers, to_stored


def test_native_float32_is_not_copied():
    stored = np.ones((3, 4, 5), np.float32, order="F")
    assert to_float32(stored, 1.0, 0.0) is stored


def test_memory_order_is_kept():
    assert to_float32(np.ones((3, 4, 5), np.int16, order="F"), 1.0, 0.0).flags.f_contiguous


def test_scaling_is_rounded_once():
    stored = np.full((3, 3, 1), 16777217, np.int32)
    expected = np.float32(16777217 * np.float64(np.float32(0.1)) + 0.3)
    assert to_float32(stored, float(np.float32(0.1)), 0.3)[0, 0, 0] == expected


@given(
    number=st.integers(-(2**15), 2**15 - 1),
    slope=st.floats(0.001, 1000).map(lambda x: float(np.float32(x))),
    inter=st.floats(-2000, 2000).map(lambda x: float(np.float32(x))),
)
def test_stored_numbers_come_back_or_are_given_up(number, slope, inter):
    stored = np.full((3, 3, 2), number, np.int16)
    voxels = to_float32(stored, slope, inter)
    again = to_stored(voxels, "int16", slope, inter)
    if again is not None:
        assert np.array_equal(to_float32(again, slope, inter), voxels)


@pytest.mark.parametrize(
    ("value", "dtype"), [(256, "uint8"), (-1, "uint16"), (0.5, "int16"), (2.0**63, "int64")]
)
def test_what_would_lose_something_is_given_up(value, dtype):
    assert to_stored(np.full((3, 3, 1), value, np.float32), dtype) is None


def test_integers_are_rounded_to_nearest_and_checked():
    voxels = np.array([-1000.4, 0.5, 1.5, 99.6], np.float32).reshape(2, 2, 1)
    assert to_integers(voxels, "int16").ravel().tolist() == [-1000, 0, 2, 100]
    for value in (np.nan, np.inf, 32767.6):
        with pytest.raises(Unsupported, match="do not fit int16"):
            to_integers(np.full((2, 2, 1), value, np.float32), "int16")


def test_large_integers_are_noticed():
    assert beyond_float32(np.array([2**24 + 1], np.int32))
    assert not beyond_float32(np.array([2**24], np.int64))
    assert not beyond_float32(np.array([65535], np.uint16))
