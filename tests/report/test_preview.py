"""The preview shows the right slices, the right way round, and says what they are."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from PIL import Image

from medtranslate.errors import OutputExists
from medtranslate.imaging.source import make_source
from medtranslate.report.preview import SIDE, draw, panels, save_preview

LABEL = "SYNTHETIC MR from CT, tiny 0.0, NOT FOR DIAGNOSIS"
SYNTHESIS = {"modality": "MR", "label": LABEL, "background": 0.0, "window": [], "dtype": "int16"}


def scan(voxels: np.ndarray, affine: np.ndarray, **about: object) -> MetaTensor:
    options = {"format": "array", "kind": "volume", "dtype": "int16", "modality": "CT", **about}
    source = make_source(shape=voxels.shape, affine=affine, **options)
    meta = {"source": source, "affine": torch.from_numpy(affine)}
    return MetaTensor(torch.from_numpy(voxels.astype(np.float32))[None], meta=meta)


def translated(image: MetaTensor, voxels: np.ndarray) -> MetaTensor:
    meta = {**image.meta, "synthesis": SYNTHESIS}
    return MetaTensor(torch.from_numpy(voxels.astype(np.float32))[None], meta=meta)


def marked_scan(order: tuple[int, ...], signs: tuple[int, ...]) -> MetaTensor:
    """A cube of tissue with bone at the right, in front and below, stored in any axis order."""
    world = np.full((20, 20, 20), -1000.0)  # axes to the left, to posterior, upwards
    world[2:18, 2:18, 2:18] = 40
    world[3:6, 3:6, 3:6] = 100
    affine = np.diag([-2.0, -2.0, 2.0, 1.0])
    stored = np.transpose(world, order)
    columns = affine[:, [*order, 3]]
    for axis, sign in enumerate(signs):
        if sign < 0:
            stored = np.flip(stored, axis)
            columns[:3, 3] += columns[:3, axis] * 19
            columns[:3, axis] *= -1
    return scan(np.ascontiguousarray(stored), columns)


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
@pytest.mark.parametrize("signs", [(1, 1, 1), (-1, 1, -1), (-1, -1, -1)])
def test_right_is_left_front_is_up_whatever_the_axes(order, signs) -> None:
    image = marked_scan(order, signs)

    lowest, *_, highest = panels(image, translated(image, image.as_tensor()[0].numpy() + 1000))

    half = SIDE // 2
    assert lowest.source.shape == (SIDE, SIDE)
    assert lowest.caption == "slice 4 of 20, from below"
    corner = lowest.source[:half, :half]
    assert (corner == 255).sum() > 500 and (lowest.source == 255).sum() == (corner == 255).sum()
    assert (highest.source == 255).sum() == 0


def test_pixels_are_square_in_millimeters() -> None:
    voxels = np.full((10, 40, 3), 40.0)
    image = scan(voxels, np.diag([-4.0, -0.5, 5.0, 1.0]))

    (first, *_) = panels(image, translated(image, voxels))

    assert first.source.shape == (SIDE // 2, SIDE)


def test_a_ct_is_shown_in_the_brain_window_and_an_mr_by_its_percentiles() -> None:
    voxels = np.zeros((12, 12, 1))
    voxels[:4], voxels[4:8], voxels[8:] = -20, 40, 3000
    image = scan(voxels, np.diag([-1.0, -1.0, 1.0, 1.0]))

    (panel,) = panels(image, translated(image, np.abs(voxels)))

    middle = panel.source[SIDE // 2]
    assert (middle[5], middle[SIDE // 2], middle[-5]) == (0, 127, 255)
    assert panel.result[0, -5] == 255
    assert (panel.source_name, panel.result_name) == ("CT", "SYNTHETIC MR")


def test_slices_are_taken_where_the_head_is() -> None:
    voxels = np.full((8, 8, 100), -1000.0)
    made = np.zeros((8, 8, 100))
    made[2:6, 2:6, 40:61] = 5.0
    image = scan(voxels, np.diag([-1.0, -1.0, 1.0, 1.0]))

    numbers = [int(one.caption.split()[1]) for one in panels(image, translated(image, made))]

    assert len(numbers) == 6 and numbers[0] > 41 and numbers[-1] < 61


def test_an_empty_result_is_still_shown() -> None:
    voxels = np.full((8, 8, 3), -1000.0)
    image = scan(voxels, np.diag([-1.0, -1.0, 1.0, 1.0]))

    assert len(panels(image, translated(image, np.zeros((8, 8, 3))))) == 3


def test_an_image_has_its_name_and_no_letters() -> None:
    voxels = np.full((8, 8, 1), 200.0)
    image = scan(
        voxels, np.diag([-1.0, -1.0, 1.0, 1.0]), kind="image", files=["a/b.png"], dtype="uint8"
    )

    (panel,) = panels(image, translated(image, voxels))

    assert panel.caption == "b.png" and not panel.placed
    assert panel.source.min() == panel.source.max() == 200


def test_the_file_is_labeled_and_whole(tmp_path) -> None:
    voxels = np.full((8, 8, 4), 40.0)
    image = scan(voxels, np.diag([-1.0, -1.0, 1.0, 1.0]))
    shown = panels(image, translated(image, voxels))

    save_preview(shown, tmp_path / "p.png", LABEL)

    shown_file = Image.open(tmp_path / "p.png")
    assert shown_file.info["Description"] == f"{LABEL}; preview"
    assert shown_file.size == draw(shown, LABEL).size
    head = np.asarray(shown_file.convert("RGB"))[:28].astype(int)
    assert ((head[..., 0] > 200) & (head[..., 2] < 120)).sum() > 200  # the label, in amber
    with pytest.raises(OutputExists):
        save_preview(shown, tmp_path / "p.png", LABEL)
    assert [path.name for path in tmp_path.iterdir()] == ["p.png"]
