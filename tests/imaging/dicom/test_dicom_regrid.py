"""Even grids made on request: what stays exact, what is interpolated, and that it is said."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch

from medtranslate.errors import Unsupported
from medtranslate.imaging.dicom import regrid, untilt, write_series
from medtranslate.imaging.io import read as read_scan
from medtranslate.imaging.io import write as write_scan

from .factory import series, translated, write

ANGLE = np.radians(18.5)
TILTED = (1.0, 0.0, 0.0, 0.0, np.cos(ANGLE), -np.sin(ANGLE))


def world_ramp(made, direction):
    """Give each slice values that are linear in space: ``direction`` (LPS, per mm), plus 500."""
    for one in made:
        row, column = (np.array([float(x) for x in one.ImageOrientationPatient])[s] for s in (
            slice(0, 3), slice(3, 6)))  # fmt: skip
        place = np.array([float(x) for x in one.ImagePositionPatient])
        y, x = np.mgrid[: one.Rows, : one.Columns]
        points = place + x[..., None] * 0.5 * row + y[..., None] * 0.75 * column
        one.PixelData = np.rint(points @ direction + 500).astype("<i2").tobytes()
    return made


def field(image):
    """Give the LPS position of every voxel, (X, Y, Z, 3)."""
    index = np.stack(np.meshgrid(*[np.arange(n) for n in image.shape[1:]], indexing="ij"), -1)
    ras = index @ image.affine.numpy()[:3, :3].T + image.affine.numpy()[:3, 3]
    return ras * [-1, -1, 1]


def test_an_upright_series_has_no_tilt_to_undo(tmp_path, read):
    image = read(write(tmp_path, series("CT", count=3)))

    with pytest.raises(Unsupported, match="is upright, no tilt to undo") as refused:
        untilt(image)
    assert refused.value.path is not None


def test_untilt_shifts_within_slices_and_mixes_none(tmp_path, read):
    made = series(orientation=TILTED, step=(0, 0, 3.0), count=5, rows=32)
    for index, one in enumerate(made):
        one.PixelData = np.full((32, 12), 100 * index, "<i2").tobytes()
    image = read(write(tmp_path / "in", made))
    upright = untilt(image)
    axes = upright.affine.numpy()[:3, :3] / np.linalg.norm(upright.affine.numpy()[:3, :3], axis=0)
    np.testing.assert_allclose(axes.T @ axes, np.eye(3), atol=1e-9)
    assert upright.meta["source"]["even"] is True
    assert any("untilted by 18.5 degrees" in f for f in upright.meta["source"]["faults"])
    for index in range(5):
        values = np.unique(upright.numpy()[0, :, :, index])
        inner = values[(values > -1000) & (values < 100 * index)]
        # Only the rim, where a slice meets air, may hold values between the two.
        assert 100 * index in values and len(inner) <= 2


@pytest.mark.parametrize("work", [untilt, regrid])
def test_a_field_that_is_linear_in_space_stays_itself(tmp_path, read, work):
    direction = np.array([3.0, -2.0, 4.0])
    made = series(orientation=TILTED, step=(0, 0, 3.0), count=7, rows=32, columns=24)
    if work is regrid:
        del made[3]
    image = read(write(tmp_path / "in", world_ramp(made, direction)))
    resampled = work(image)
    assert resampled.meta["source"]["even"] is True
    expected = field(resampled) @ direction + 500
    values = resampled.numpy()[0]
    inside = values > -900
    edge = np.zeros_like(inside)
    edge[1:-1, 1:-1] = inside[1:-1, 1:-1] & inside[1:-1, 2:] & inside[1:-1, :-2]
    assert edge.mean() > 0.5
    assert np.abs(values - expected)[edge].max() < 1.01


def test_regrid_of_a_missing_slice_keeps_the_others(tmp_path, read):
    made = series(count=6)
    gone = made.pop(2)
    image = read(write(tmp_path / "in", made))
    even = regrid(image)
    assert even.shape == (1, 12, 16, 6)
    kept = [0, 1, 3, 4, 5]
    np.testing.assert_allclose(even.numpy()[..., kept], image.numpy(), atol=1e-3)
    middle = (image.numpy()[..., 1] + image.numpy()[..., 2]) / 2
    np.testing.assert_allclose(even.numpy()[..., 2], middle, atol=1e-3)
    np.testing.assert_allclose(even.affine.numpy()[:3, 2], [0, 0, 2.5])
    assert any("5 slices to 6, 2.5 mm apart" in f for f in even.meta["source"]["faults"])
    assert gone.InstanceNumber == 3


def test_what_was_resampled_is_never_written_as_a_derived_series(tmp_path, read):
    made = series(count=6)
    del made[2]
    image = translated(read(write(tmp_path / "in", made)))
    with pytest.raises(Unsupported, match="no DICOM series on the same slices"):
        write_series(regrid(image), tmp_path / "out")


def test_one_slice_has_no_grid(tmp_path, read):
    with pytest.raises(Unsupported, match="one slice"):
        regrid(read(write(tmp_path / "in", series(count=1))))


def test_slices_that_lie_on_no_line_are_not_laid_anew(tmp_path, read):
    made = series(count=4)
    made[1].ImagePositionPatient = ["-19.4", "-30", "42.5"]
    made[3].ImagePositionPatient = ["-20", "-30", "49"]
    with pytest.raises(Unsupported, match=r"up to 0\.6 mm off one line"):
        regrid(read(write(tmp_path / "off", made)))
    made[1].ImagePositionPatient = ["-19.6", "-30", "42.5"]
    even = regrid(read(write(tmp_path / "near", made)))
    assert even.dtype == torch.float32
    np.testing.assert_allclose(even.affine.numpy()[:3, 3], [20, 30, 40])
    np.testing.assert_allclose(even.affine.numpy()[:3, 2], [0, 0, 2.5])


def test_only_a_series_tells_where_its_slices_are(tmp_path, read):
    image = read(write(tmp_path / "in", series(count=5, orientation=TILTED)))
    again = read_scan(write_scan(image, tmp_path / "a.nii.gz"))
    for work in (regrid, untilt):
        with pytest.raises(Unsupported, match="only a DICOM series tells where each") as raised:
            work(again)
        assert raised.value.path == str(tmp_path / "a.nii.gz")


@pytest.mark.parametrize("sign", [-1, 1])
def test_the_canvas_of_an_untilted_series_is_as_large_as_its_slices_reach(tmp_path, read, sign):
    orientation = (*TILTED[:5], sign * TILTED[5])
    made = series(orientation=orientation, step=(0, 0, 3.0), count=5, rows=32)
    image = read(write(tmp_path / "in", made))
    upright = untilt(image)
    # 12 mm along Z move the last slice by 12 sin(18.5) = 3.81 mm within its plane: 5.08 rows.
    assert upright.shape == (1, 12, 38, 5)
    source = upright.meta["source"]
    assert source["shape"] == [12, 38, 5] and source["header"]["tilt"] == pytest.approx(0, abs=1e-5)
    np.testing.assert_allclose(
        np.linalg.norm(upright.affine.numpy()[:3, :3], axis=0), [0.5, 0.75, 3 * np.cos(ANGLE)]
    )
    placed = np.array([one["position"] for one in source["header"]["slices"]]) * [-1, -1, 1]
    columns = upright.affine.numpy()[:3]
    expected = columns[:, 3] + np.arange(5)[:, None] * columns[:, 2]
    np.testing.assert_allclose(placed, expected, atol=1e-9)


def test_an_even_series_has_nothing_to_lay_anew(tmp_path, read):
    with pytest.raises(Unsupported, match=r"even steps already \(leave out --regrid\)"):
        regrid(read(write(tmp_path / "in", series(count=5))))


def test_a_translated_image_is_filled_with_its_background(tmp_path, read):
    made = series("MR", orientation=TILTED, step=(0, 0, 3.0), count=5, rows=32)
    upright = untilt(translated(read(write(tmp_path / "in", made))))
    assert upright.numpy().min() == -1000


@pytest.mark.data
def test_the_real_tilted_uneven_series_becomes_even_and_upright(read, shared_data):
    image = read(Path(shared_data) / "dicom" / "ct-head-tilted")
    even = regrid(untilt(image))
    assert even.meta["source"]["even"] is True
    axes = even.affine.numpy()[:3, :3]
    axes = axes / np.linalg.norm(axes, axis=0)
    np.testing.assert_allclose(axes.T @ axes, np.eye(3), atol=1e-6)


def test_nifti_takes_the_shear_and_refuses_uneven_slices(tmp_path, read):
    image = read(write(tmp_path / "tilted", series(orientation=TILTED)))
    path = write_scan(image, tmp_path / "tilted.nii.gz")
    np.testing.assert_allclose(nibabel.load(path).affine, image.affine.numpy(), atol=1e-5)
    made = series(count=6)
    del made[2]
    uneven = read(write(tmp_path / "uneven", made))
    with pytest.raises(Unsupported, match="even"):
        write_scan(uneven, tmp_path / "uneven.nii.gz")
    assert not (tmp_path / "uneven.nii.gz").exists()
    assert nibabel.load(write_scan(regrid(uneven), tmp_path / "e.nii.gz")).shape == (12, 16, 6)
