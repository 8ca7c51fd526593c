"""Label maps, and slices cut out of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from medtranslate.errors import InputMissing, Unreadable, Unsupported
from medtranslate.label_synthesis import PLAIN_CUT, LabelMap
from medtranslate.label_synthesis.cut import cut
from medtranslate.label_synthesis.draw import Draw

PLAIN = replace(PLAIN_CUT, size=64, pixel=3.0)


def slices(label_map, settings=PLAIN, count=4, seed=1):
    draw = Draw(seed, count, settings.size, torch.device("cpu"))
    return cut([label_map] * count, draw, settings)


def test_rows_run_to_the_back_and_columns_to_the_left(label_map, table):
    eye = table.is_any(slices(label_map, replace(PLAIN, thickness=(30.0,), sublayers=15)), "eye")
    places = eye.any(0).any(0).nonzero()

    rows, columns = places.float().mean(0).tolist()
    assert rows < 28  # the front
    assert columns < 31  # the patient's right


def test_turned_to_another_plane_rows_run_down_and_the_brain_is_found(label_map, table):
    for plane, axis in (("coronal", 1), ("sagittal", 0)):
        turned = label_map.in_plane(plane, table)

        assert turned.classes.shape[1] == label_map.classes.shape[2]
        assert turned.classes.shape[2] == label_map.classes.shape[axis]
        layers = table.is_any(turned.classes, "white_matter", "cortex", "deep_gray")
        places = layers.any(0).any(0).nonzero()[:, 0] - (turned.classes.shape[2] - 1) / 2
        assert turned.brain == pytest.approx(
            (float(places[0]) * turned.spacing[2], float(places[-1]) * turned.spacing[2])
        )


def test_a_map_stored_along_other_axes_gives_the_same_slices(image, label_map, table):
    turned = image.as_tensor().permute(0, 3, 1, 2).flip(2)
    affine = np.asarray(image.affine)[:, [2, 0, 1, 3]].copy()
    affine[:, 3] += affine[:, 1] * (turned.shape[2] - 1)
    affine[:, 1] *= -1
    again = LabelMap.of(MetaTensor(turned.contiguous(), affine=affine), table)

    assert torch.equal(again.classes, label_map.classes)
    assert torch.equal(slices(again), slices(label_map))


def test_a_pixel_has_the_size_that_was_asked_for(label_map):
    width = (slices(label_map, count=16) > 0).any(1).any(1).sum(1).max()

    assert width == pytest.approx(2 * 25 + 1, abs=2)  # 150 mm at 3 mm


def test_a_far_shift_takes_the_head_over_the_border(label_map):
    far = replace(PLAIN, far_share=1.0, far_shift=60.0)
    heads = (slices(label_map, far, count=16) > 0).any(1)

    assert heads[:, [0, -1]].any() or heads[:, :, [0, -1]].any()


def test_specks_outside_the_head_are_left_out(image, label_map, table):
    image[0, 2, 2, 2] = 507

    assert torch.equal(LabelMap.of(image, table).classes, label_map.classes)


def test_voxels_of_other_sizes_are_cut_in_mm(image, label_map, table):
    coarse = LabelMap.of(
        MetaTensor(image.as_tensor()[..., ::1], affine=np.diag([2.0, 2.0, 2.0, 1.0])), table
    )
    widths = [(slices(one, count=16) > 0).any(1).any(1).sum(1).max() for one in (coarse, label_map)]

    assert widths[0] / widths[1] == pytest.approx(2 / 3, abs=0.05)


@pytest.mark.parametrize(
    ("change", "error", "fault"),
    [
        (lambda image: image + 0.5, Unreadable, "no whole numbers"),
        (lambda image: image * 0 + 507, Unsupported, "no brain"),
        (lambda image: image * 0, Unsupported, "no brain"),
        (lambda image: image + 7000 * (image == 2), Unreadable, "labels without a tissue: 7002"),
        (lambda image: image[..., :1], Unsupported, "is a volume"),
    ],
)
def test_what_is_no_label_map_of_a_head_is_refused(image, table, change, error, fault):
    with pytest.raises(error, match=fault):
        LabelMap.of(change(image), table)


def test_a_map_is_read_from_nifti(file, label_map, table):
    assert torch.equal(LabelMap.read(file, table).classes, label_map.classes)


def test_a_missing_file_is_missing_input(tmp_path, table):
    with pytest.raises(InputMissing):
        LabelMap.read(tmp_path / "none.nii.gz", table)
