"""Invariants of geometry: any orientation, any order, any spacing; and the real series."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from medtranslate.errors import Unsupported
from medtranslate.imaging.dicom.read.geometry import stack
from medtranslate.imaging.dicom.read.headers import read_header

from .factory import save, series


@pytest.fixture(scope="module")
def a_slice(tmp_path_factory):
    path = save(series(count=1)[0], tmp_path_factory.mktemp("slice") / "one.dcm")
    return read_header(path).slices[0]


angles = st.floats(-3.1, 3.1)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    turn=st.tuples(angles, angles, angles),
    gaps=st.lists(st.floats(0.5, 9.0), min_size=1, max_size=8),
    shear=st.tuples(st.floats(-0.5, 0.5), st.floats(-0.5, 0.5)),
    order=st.randoms(use_true_random=False),
    even=st.booleans(),
)
def test_any_stack_is_ordered_and_placed(a_slice, turn, gaps, shear, order, even):
    """Slices come back in the order of the normal, and the affine puts each where it is."""
    a, b, c = turn
    spin = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    nod = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    yaw = np.array([[np.cos(c), 0, np.sin(c)], [0, 1, 0], [-np.sin(c), 0, np.cos(c)]])
    frame = spin @ nod @ yaw
    if even:
        gaps = [gaps[0]] * len(gaps)
    heights = np.concatenate([[0.0], np.cumsum(gaps)])
    axis = frame[:, 2] + shear[0] * frame[:, 0] + shear[1] * frame[:, 1]
    positions = np.array([10.0, -20.0, 30.0]) + heights[:, None] * axis
    orientation = (*frame[:, 0], *frame[:, 1])
    slices = [
        replace(a_slice, position=tuple(place), orientation=orientation, instance=str(index))
        for index, place in enumerate(positions)
    ]
    shuffled = list(slices)
    order.shuffle(shuffled)
    found = stack(shuffled)
    assert [one.instance for one in found.slices] == [str(i) for i in range(len(slices))]
    np.testing.assert_allclose(np.diff(found.distances), gaps, atol=1e-6)
    if even:
        assert found.even
    if found.even:
        indices = np.array([[0, 0, k, 1] for k in range(len(slices))]).T
        ras = (found.affine @ indices)[:3].T
        np.testing.assert_allclose(ras * [-1, -1, 1], positions, atol=1e-2)
    expected = np.degrees(np.arctan(np.hypot(*shear)))
    assert abs(found.tilt - expected) < 1e-3


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "shape", "modality", "told"),
    [
        ("ct-head-tilted", (1, 512, 512, 28), "CT", ("18.5 degrees", "gaps from 1.08 to 7 mm")),
        ("mr-brain-t2", (1, 384, 512, 55), "MR", ("gaps from 2.5 to 5 mm",)),
    ],
)
def test_real_series_is_exact_slice_by_slice(read, shared_data, name, shape, modality, told):
    image = read(Path(shared_data) / "dicom" / name)
    source = image.meta["source"]
    assert image.shape == shape and source["modality"] == modality and source["even"] is False
    for sentence in told:
        assert any(sentence in fault for fault in source["faults"])
    heights = []
    for index, (path, record) in enumerate(
        zip(source["files"], source["header"]["slices"], strict=True)
    ):
        one = pydicom.dcmread(path)
        assert record["position"] == [float(x) for x in one.ImagePositionPatient]
        slope, offset = float(one.get("RescaleSlope", 1)), float(one.get("RescaleIntercept", 0))
        expected = one.pixel_array * slope + offset
        if modality == "CT":
            expected[one.pixel_array == one.PixelPaddingValue] = -1000
        np.testing.assert_array_equal(image.as_tensor()[0, :, :, index].numpy().T, expected)
        orientation = [float(x) for x in one.ImageOrientationPatient]
        heights.append(np.dot(record["position"], np.cross(orientation[:3], orientation[3:])))
    assert (np.diff(heights) > 0).all()


def test_how_far_away_and_how_large_a_slice_may_be(a_slice):
    stack([replace(a_slice, position=(0.0, 1e5, 0.0))])
    with pytest.raises(Unsupported, match="farther than 100 m away") as raised:
        stack([replace(a_slice, position=(0.0, -100000.5, 0.0))])
    assert raised.value.path == a_slice.path
    stack([replace(a_slice, spacing=(1000.0, 1.0))])
    for spacing in ((1000.5, 1.0), (1.0, 0.0)):
        with pytest.raises(Unsupported, match="PixelSpacing is"):
            stack([replace(a_slice, spacing=spacing)])


@pytest.mark.parametrize(
    ("written", "thickness", "note"),
    [
        ("2.5", 2.5, "its SliceThickness is taken as spacing"),
        ("x", 1.0, "no SliceThickness: 1 mm is taken"),
        ("", 1.0, "no SliceThickness: 1 mm is taken"),
        ("0", 1.0, "no SliceThickness: 1 mm is taken"),
        ("1000", 1.0, "no SliceThickness: 1 mm is taken"),
    ],
)
def test_the_spacing_of_one_slice(a_slice, written, thickness, note):
    found = stack([replace(a_slice, attributes={"SliceThickness": written})])
    np.testing.assert_array_equal(found.affine[:3, 2], [0, 0, thickness])
    assert note in found.notes[0] and found.even and found.tilt == 0


def test_what_tells_slices_at_one_position_apart(a_slice):
    def refusal(**changes):
        with pytest.raises(Unsupported, match="2 or more slices share positions") as raised:
            stack([replace(a_slice, instance="1"), replace(a_slice, **changes)])
        assert raised.value.path == a_slice.path.parent
        return raised.value.fault.partition("at one position; ")[2]

    assert refusal(instance="2") == (
        "no attribute but SOPInstanceUID tells them apart: they are duplicates"
    )
    assert refusal(instance="1") == "they are the same instance (SOPInstanceUID)"
    telling = {**a_slice.telling, "EchoTime": "90", "KVP": "80"}
    assert refusal(instance="2", telling=telling) == "EchoTime tells them apart: none and 90"
    near = replace(a_slice, instance="2", position=(*a_slice.position[:2], 40.011))
    assert len(stack([a_slice, near]).slices) == 2


@pytest.mark.parametrize("off", [0.009, 0.011])
def test_a_volume_is_even_within_a_hundredth_of_a_mm(a_slice, off):
    heights = (0.0, 5.0 + off, 10.0)
    slices = [
        replace(a_slice, instance=str(n), position=(0.0, 0.0, z)) for n, z in enumerate(heights)
    ]
    found = stack(slices)
    assert found.even is (off < 0.01)
    assert bool(found.notes) is not found.even
    if not found.even:
        assert found.notes[0] == (
            "slices are not even: gaps from 4.99 to 5.01 mm, median 5 mm; "
            "each slice keeps its own position"
        )
    np.testing.assert_allclose(found.affine[:3, 2], [0, 0, 5])
