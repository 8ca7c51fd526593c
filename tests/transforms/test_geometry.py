from __future__ import annotations

import numpy as np
import pytest
import torch
from head_scans import ORIENTATIONS, centered
from monai.data import MetaTensor

from medtranslate.errors import Unsupported
from medtranslate.transforms import AxialSlices, FindTissue, ImageFrame, ImageFramed
from medtranslate.transforms.base import head_of, unpack_mask

LPS = np.diag([-1.0, -1.0, 1.0])


def middle(shape):
    return tuple((n - 1) / 2 for n in shape)


def place(shape, axes):
    return AxialSlices().layout(shape, centered(axes, shape), middle(shape)).placement()


def there(placement, volume):
    volume = torch.from_numpy(np.array(volume, dtype=np.float32))
    return placement.to_network(volume, lambda v: v)


def back(placement, frames):
    out = placement.empty()
    placement.from_network(frames, out, lambda values, chunk: values)
    return out


def test_rows_run_to_posterior_columns_to_left_slices_to_superior():
    shape = (40, 50, 6)
    x, y, z = np.meshgrid(*(np.arange(n) for n in shape), indexing="ij")
    placement = place(shape, np.diag([0.9, 0.9, 5.0]))  # RAS
    assert placement.axes == (2, 1, 0)
    rows, columns, slices = (there(placement, v)[:, 103:153, 108:148] for v in (y, x, z))
    assert (rows.diff(dim=1) == -1).all()  # y grows to anterior, rows to posterior
    assert (columns.diff(dim=2) == -1).all()  # x grows to the right, columns to the left
    assert (slices.diff(dim=0) == 1).all()


@pytest.mark.parametrize("orientation", ORIENTATIONS, ids=lambda o: f"{o[:, 0]}{o[:, 1]}")
def test_slices_are_never_mixed(orientation):
    """A volume whose axial slices are each constant comes back to the last bit."""
    lengths, spacing = np.array([61, 70, 5]), np.array([1.7, 1.3, 5.0])
    order, signs = orientation[:, 0].astype(int), orientation[:, 1]
    shape = tuple(int(n) for n in lengths[order])
    axes = np.zeros((3, 3))
    axes[order, range(3)] = spacing[order] * signs
    height = list(order).index(2)
    levels = np.array([3.0, -70.0, 900.0, 1.0, 40.0])
    volume = np.broadcast_to(np.expand_dims(levels, [a for a in range(3) if a != height]), shape)
    placement = place(shape, axes)
    frames = there(placement, volume)
    inside = frames[:, 128, 128].numpy()
    np.testing.assert_allclose(inside, levels if signs[height] > 0 else levels[::-1], rtol=1e-6)
    np.testing.assert_allclose(back(placement, frames).numpy(), volume, rtol=1e-5)


@pytest.mark.parametrize("level", [-300.0, -100.0, 50.0, 200.0, 300.0])
def test_tissue_is_found_whether_or_not_its_level_is_clipped_away(level):
    volume = torch.full((1, 60, 60, 4), -1000.0)
    volume[0, 10:50, 10:50] = 250.0 if level < 250 else 400.0
    scan = FindTissue(above=level)(MetaTensor(volume, affine=np.diag([1, 1, 5.0, 1])))
    cut = AxialSlices(pixel=1.0, clip=(-100, 225))(scan)
    assert cut.max() == 225 and cut.min() == -100
    mask = unpack_mask(cut.meta["tissue"]["mask"], (256, 256, 4))
    assert mask[108:148, 108:148].all() and int(mask.sum()) == pytest.approx(4 * 40 * 40, rel=0.02)


def test_a_frame_is_filled_and_clips_where_asked():
    assert ImageFrame(clip=[-10, 20]).clip == (-10.0, 20.0)
    framed = ImageFramed("image")({"image": MetaTensor(torch.ones(1, 100, 80, 1))})["image"]
    assert framed.shape == (1, 256, 256, 1)
    assert int((framed[0, 128, :, 0] > 0.5).sum()) == 256


def test_a_longer_volume_is_cropped_and_a_shorter_one_padded():
    placement = place((400, 100, 3), np.diag([0.9, 0.9, 5.0]))
    frames = there(placement, torch.ones(400, 100, 3))
    assert frames[0].sum() == 256 * 100
    seen = placement.seen  # (rows, columns) of the image's plane
    assert seen.shape == (100, 400)
    assert seen.all(0).sum() == 256
    assert not seen[:, :72].any()
    assert seen[:, 72:328].all()


def test_the_field_is_centered_on_the_head_but_stays_on_the_volume():
    shape = (400, 400, 3)
    affine = centered(np.diag([0.9, 0.9, 5.0]), shape)
    for center, first in ((199.5, 72), (150.0, 22), (100.0, 0), (390.0, 144)):
        seen = AxialSlices().layout(shape, affine, (center, 199.5, 1)).placement().seen
        assert int(seen[200].nonzero()[0]) == pytest.approx(first, abs=1)
        assert int(seen[200].sum()) in (255, 256, 257)


def test_a_center_counts_only_along_axes_longer_than_the_field():
    shape = (100, 400, 3)
    affine = centered(np.diag([0.9, 0.9, 5.0]), shape)
    a = AxialSlices().layout(shape, affine, (20.0, 199.5, 1))
    b = AxialSlices().layout(shape, affine, (80.0, 199.5, 1))
    assert a == b


def rotation(degrees, axis):
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    plane = [i for i in range(3) if i != axis]
    turned = np.eye(3)
    turned[np.ix_(plane, plane)] = [[c, -s], [s, c]]
    return turned


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("degrees", [-40, -5, 17, 40])
def test_oblique_volumes_keep_their_own_slices(axis, degrees):
    shape = (90, 80, 4)
    straight = place(shape, LPS @ np.diag([1, 1.2, 5]))
    turned = place(shape, rotation(degrees, axis) @ LPS @ np.diag([1, 1.2, 5]))
    assert turned.axes == straight.axes
    # Turned back by cosines and sines, lengths differ in the sixteenth digit.
    torch.testing.assert_close(turned.rows, straight.rows)
    torch.testing.assert_close(turned.columns, straight.columns)


@pytest.mark.parametrize("tilt", [-25, 10, 25])
def test_a_tilted_gantry_shears_slices_which_stay_as_they_are(tilt):
    axes = LPS @ np.diag([0.5, 0.5, 5])
    sheared = axes.copy()
    sheared[1, 2] = 5 * np.tan(np.radians(tilt))
    straight, tilted = place((64, 64, 5), axes), place((64, 64, 5), sheared)
    assert torch.equal(tilted.rows, straight.rows)
    assert torch.equal(tilted.columns, straight.columns)
    assert tilted.axes == straight.axes


def test_a_sagittal_volume_in_thick_slices_is_refused():
    with pytest.raises(Unsupported, match=r"another plane, 5\.00 mm apart"):
        place((30, 256, 256), np.diag([5.0, 1.0, 1.0]))
    with pytest.raises(Unsupported, match="another plane"):
        place((256, 30, 256), np.diag([1.0, 5.0, 1.0]))


@pytest.mark.parametrize("axes", [[1.2, 1, 1], [1, 1.5, 1], [2, 2, 2], [1, 1, 7], [2, 2, 1.99]])
def test_thin_slices_of_any_plane_and_thick_axial_ones_are_taken(axes):
    assert len(place((64, 64, 30), np.diag(np.array(axes, dtype=float))).slices) == 30


@pytest.mark.parametrize(("shear", "taken"), [(0.05, True), (0.2, False)])
def test_shear_in_the_slice_plane(shear, taken):
    axes = np.diag([1.0, 1.0, 5.0])
    axes[0, 1] = shear
    if taken:
        place((64, 64, 4), axes)
        return
    with pytest.raises(Unsupported, match=r"11\.3 degrees from a right angle"):
        place((64, 64, 4), axes)


@pytest.mark.parametrize("value", [0.0, np.nan, np.inf])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_an_affine_that_places_nothing_is_refused(axis, value):
    affine = np.diag([1.0, 1.0, 5.0, 1.0])
    affine[axis, axis] = value
    with pytest.raises(Unsupported, match="places no voxels"):
        AxialSlices().layout((64, 64, 4), affine, (31.5, 31.5, 1.5))


def test_axes_in_one_plane_are_refused():
    affine = np.eye(4)
    affine[:3, 2] = [1, 1, 0]
    with pytest.raises(Unsupported):
        AxialSlices().layout((64, 64, 4), affine, (31.5, 31.5, 1.5))


@pytest.mark.parametrize("shape", [(150, 150), (256, 256), (333, 201), (640, 512), (1920, 1080)])
@pytest.mark.parametrize("fill", [1.0, 0.92])
def test_the_longer_side_of_a_2d_image_fills_its_share(shape, fill):
    placement = ImageFrame(fill).layout((*shape, 1), np.eye(4), (0, 0, 0)).placement()
    frame = there(placement, torch.ones(*shape, 1))[0]
    rows, columns = (int(frame.amax(axis).sum()) for axis in (1, 0))
    assert columns == pytest.approx(256 * fill * shape[0] / max(shape), abs=1)
    assert rows == pytest.approx(256 * fill * shape[1] / max(shape), abs=1)
    assert placement.seen.all()


def test_a_2d_image_of_the_networks_size_is_left_alone():
    image = torch.rand(256, 256, 2)
    placement = ImageFrame().layout((256, 256, 2), np.eye(4), (0, 0, 0)).placement()
    frames = there(placement, image)
    assert torch.equal(frames, image.permute(2, 1, 0))
    assert torch.equal(back(placement, frames), image)


@pytest.mark.parametrize(
    "wrong", [{"size": 255}, {"pixel": 0.0}, {"pixel": -0.9}], ids=lambda w: str(w)
)
def test_what_no_grid_can_have(wrong):
    with pytest.raises(ValueError):
        AxialSlices(**wrong)


@pytest.mark.parametrize(
    "wrong",
    [{"size": 254}, {"fill": 0.0}, {"fill": 1.2}, {"clip": [1.0, 1.0]}, {"clip": [1.0]}],
    ids=str,
)
def test_what_no_frame_can_have(wrong):
    with pytest.raises(ValueError):
        ImageFrame(**wrong)


def test_axial_slices_closer_together_than_their_pixels_are_wide_are_taken():
    assert place((96, 96, 120), np.diag([2.3, 2.3, 1.25])).axes[0] == 2
    with pytest.raises(Unsupported, match=r"another plane, 2\.30 mm apart"):
        place((60, 128, 128), np.diag([2.3, 1.25, 1.25]))


@pytest.mark.parametrize("signs", [(1, 1, 1), (-1, -1, 1), (-1, 1, -1), (1, -1, -1)])
def test_the_affine_of_network_slices_places_them_where_they_were(signs):
    shape = (40, 50, 6)
    affine = centered(np.diag(np.array(signs) * [0.9, 0.9, 5.0]), shape)
    index = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1)
    world = index @ affine[:3, :3].T + affine[:3, 3]
    for axis in range(3):
        values = torch.from_numpy(world[..., axis].astype(np.float32))[None]
        slices = AxialSlices()(MetaTensor(values, affine=torch.from_numpy(affine)))
        grid = np.stack(np.meshgrid(*map(np.arange, slices.shape[1:]), indexing="ij"), -1)
        placed = grid @ slices.affine.numpy()[:3, :3].T + slices.affine.numpy()[:3, 3]
        inside = (slice(104, 152), slice(109, 147))  # of 50 rows and 40 columns, without the rim
        np.testing.assert_allclose(slices.numpy()[0][inside], placed[inside][..., axis], atol=2e-3)


def test_a_volume_without_tissue_is_centered_on_itself():
    shape = (400, 300, 3)
    affine = centered(np.diag([0.9, 0.9, 5.0]), shape)
    volume = MetaTensor(torch.ones(1, *shape), affine=torch.from_numpy(affine))
    slices = AxialSlices()(volume)
    center = slices.affine.numpy() @ [127.5, 127.5, 1, 1]
    np.testing.assert_allclose(center, affine @ [199.5, 149.5, 1, 1], atol=1e-6)


def test_slices_come_back_to_the_grid_with_where_they_were_seen():
    shape = (300, 60, 3)
    affine = centered(np.diag([0.9, 0.9, 5.0]), shape)
    volume = MetaTensor(torch.rand(1, *shape), affine=torch.from_numpy(affine))
    cut = AxialSlices()
    back = cut.inverse(cut(volume))
    seen = head_of(back)
    assert back.shape == volume.shape and torch.equal(back.affine, volume.affine)
    assert seen.sum() == 256 * 60 * 3 and bool(seen[22:278].all())
    torch.testing.assert_close(back[0][seen], volume[0][seen], rtol=0, atol=1e-5)
    half = cut(volume)[:, :, :128]
    with pytest.raises(ValueError, match=r"\(3, 256, 128\) slices for \(3, 256, 256\)"):
        cut.inverse(half)


def test_slices_center_on_the_head_that_was_found():
    volume = torch.zeros(1, 64, 64, 3)
    volume[0, 40:56, 10:26] = 100.0
    image = MetaTensor(volume, affine=torch.eye(4, dtype=torch.float64))

    cut = AxialSlices(pixel=1.0, size=32)(FindTissue(above=50.0)(image))

    rows, columns = torch.nonzero(cut[0, ..., 1].as_tensor() > 50, as_tuple=True)
    assert (int(rows.min()), int(rows.max())) == (8, 23)
    assert (int(columns.min()), int(columns.max())) == (8, 23)
