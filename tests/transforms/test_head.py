from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data import MetaTensor
from PIL import Image, ImageDraw

from medtranslate.transforms import FindTissue, HeadMask
from medtranslate.transforms.base import head_of
from medtranslate.transforms.head import FixedThreshold, OtsuThreshold, heads

ROWS, COLUMNS = np.mgrid[:256, :256]


def ellipse(rows=128, columns=128, tall=95, wide=75):
    return ((ROWS - rows) / tall) ** 2 + ((COLUMNS - columns) / wide) ** 2 <= 1


def found(tissue):
    return heads(tissue[None])[0]


def agreement(a, b):
    return (a & b).sum() / (a | b).sum()


HEAD = ellipse()


def test_a_head_alone():
    assert agreement(found(HEAD), HEAD) > 0.98


def test_air_inside_belongs_to_it():
    sinuses = ellipse(60, 128, 12, 20) | ellipse(128, 100, 4, 4)
    assert agreement(found(HEAD & ~sinuses), HEAD) > 0.98


def test_skin_alone_is_enough():
    """An MR skull is dark: skin, a gap, brain."""
    skin = HEAD & ~ellipse(tall=92, wide=72)
    brain = ellipse(tall=80, wide=62)
    assert agreement(found(skin | brain), HEAD) > 0.98


def test_a_head_rest_is_left_out():
    arc = ellipse(150, 128, 100, 100) & ~ellipse(150, 128, 97, 97) & (ROWS > 160)
    assert not (arc & HEAD).any()
    assert agreement(found(HEAD | arc), HEAD) > 0.97


def test_a_head_rest_that_touches_is_worn_off():
    bar = (np.abs(ROWS - 223) < 2) & (COLUMNS > 20) & (COLUMNS < 236)
    mask = found(HEAD | bar)
    assert agreement(mask, HEAD) > 0.96
    assert not mask[:, :40].any()


def test_a_printed_frame_is_not_the_head():
    frame = np.ones((256, 256), dtype=bool)
    frame[4:-4, 4:-4] = False
    assert agreement(found(HEAD | frame), HEAD) > 0.97


def test_text_in_the_corner_is_left_out():
    page = Image.new("1", (256, 256))
    ImageDraw.Draw(page).text((4, 4), "HEAD 5.0 mm", fill=1)
    ImageDraw.Draw(page).text((200, 240), "R 2019", fill=1)
    text = np.array(page)
    assert text.sum() > 100
    mask = found(HEAD | text)
    assert agreement(mask, HEAD) > 0.98
    assert not (mask & text & ~ellipse(tall=100, wide=80)).any()


def test_two_parts_are_both_kept():
    """Low slices cut the face and the neck apart."""
    parts = ellipse(80, 128, 40, 50) | ellipse(190, 128, 30, 40)
    assert agreement(found(parts), parts) > 0.96


def test_a_head_cut_off_at_the_border():
    cut = ellipse(200, 128)
    assert agreement(found(cut), cut) > 0.97


@pytest.mark.parametrize(("radius", "seen"), [(3, False), (4, False), (5, True), (7, True)])
def test_the_vertex_is_a_head_from_nine_pixels_on(radius, seen):
    vertex = ellipse(tall=radius, wide=radius)
    assert found(vertex).any() == seen
    if seen:
        assert agreement(found(vertex), vertex) > 0.97


def test_what_lies_at_the_level_is_air():
    volume = torch.zeros(1, 40, 30, 9)
    volume[0, 20:31, 4:11, 2:5] = 10
    found = FindTissue(above=0)(MetaTensor(volume)).meta["tissue"]
    assert found == {"level": 0.0, "center": [25.0, 7.0, 3.0]}


def test_noise_in_the_air_is_no_head():
    noise = np.random.default_rng(0).random((256, 256)) < 0.002
    assert not found(noise).any()
    assert agreement(found(HEAD | noise), HEAD) > 0.97


@pytest.mark.parametrize("nothing", [np.zeros((256, 256), bool), ROWS == 128, COLUMNS == 0])
def test_no_head(nothing):
    assert not found(nothing).any()


def test_slices_do_not_know_of_each_other():
    stack = np.stack([HEAD, np.zeros_like(HEAD), ellipse(tall=50, wide=50)])
    masks = heads(stack)
    assert masks.shape == stack.shape
    assert masks.dtype == bool
    for mask, tissue in zip(masks, stack, strict=True):
        np.testing.assert_array_equal(mask, found(tissue))


@settings(max_examples=25, deadline=None)
@given(st.integers(90, 166), st.integers(90, 166), st.integers(25, 80), st.integers(25, 80))
def test_any_ellipse_is_found_and_turns_with_the_image(rows, columns, tall, wide):
    head = ellipse(rows, columns, tall, wide)
    mask = found(head)
    assert agreement(mask, head) > 0.93
    assert not (head & ~mask).any() or (head & ~mask).sum() < 0.01 * head.sum()
    for turned, tissue in (
        (mask.T, head.T),
        (mask[::-1], head[::-1]),
        (mask[:, ::-1], head[:, ::-1]),
    ):
        np.testing.assert_array_equal(found(np.ascontiguousarray(tissue)), turned)


def test_fixed_threshold():
    assert FixedThreshold(-300).level(np.array([1.0, 2.0])) == -300


def test_otsu_lies_between_air_and_tissue():
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.normal(20, 5, 5000), rng.normal(500, 80, 5000)])
    assert 60 < OtsuThreshold(0.45).level(values) < 250


@pytest.mark.parametrize("scale", [0.01, 1, 1000])
def test_otsu_follows_the_scale(scale):
    rng = np.random.default_rng(0)
    values = np.concatenate([np.zeros(5000), rng.normal(500, 80, 5000)])
    once = OtsuThreshold(0.45).level(values)
    assert OtsuThreshold(0.45).level(values * scale) == pytest.approx(once * scale, rel=0.02)


def test_otsu_of_a_constant_lets_nothing_through():
    values = np.full(100, 7.0)
    assert not (values > OtsuThreshold(0.45).level(values)).any()


def test_one_bright_vessel_does_not_lift_otsu():
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.normal(20, 5, 5000), rng.normal(500, 80, 5000), [2e5, 3e5]])
    assert 40 < OtsuThreshold(0.45).level(values) < 300


@pytest.mark.parametrize("wrong", [{}, {"above": 1.0, "otsu": 0.5}], ids=str)
def test_tissue_is_said_in_one_way(wrong):
    with pytest.raises(ValueError, match="either above or otsu"):
        FindTissue(**wrong)


def test_the_mask_of_slices_that_no_geometry_cut():
    slices = MetaTensor(torch.from_numpy(HEAD.astype(np.float32) * 700)[None, ..., None])
    masked = HeadMask()(FindTissue(otsu=0.45)(slices))
    np.testing.assert_array_equal(head_of(masked)[..., 0], found(HEAD))
    assert "tissue" not in masked.meta
    with pytest.raises(ValueError, match="FindTissue comes before"):
        HeadMask()(slices)


def scan(background=0):
    """A 2D image of a head (1, X, Y, 1), 8 bit, whose center is brighter."""
    gray = np.where(HEAD, 120, background)
    gray[ellipse(tall=40, wide=30)] = 180
    return gray


def as_image(gray):
    return MetaTensor(torch.from_numpy(gray.T.astype(np.float32))[None, ..., None])


def gray_of(gray, **threshold):
    out = FindTissue(of_white=True, **threshold)(as_image(gray))
    return out[0, ..., 0].numpy().T, out.meta["tissue"]


@pytest.mark.parametrize("shade", [30, 90, 230])
@pytest.mark.parametrize("threshold", [{"above": 0.08}, {"otsu": 0.45}], ids=["ct", "mr"])
def test_a_bright_page_is_black_to_the_program(shade, threshold):
    noise = np.random.default_rng(0).integers(-4, 5, HEAD.shape)
    page = np.where(HEAD, scan(), shade + noise)
    expected, tissue = gray_of(scan(), **threshold)

    got, of_page = gray_of(page, **threshold)

    np.testing.assert_array_equal(got, expected)
    assert of_page == tissue


@pytest.mark.parametrize("frames", [[255], [230, 40], [40, 255, 60]])
def test_frames_round_a_head_are_taken_off(frames):
    gray = np.where(HEAD, scan(), frames[-1] if len(frames) > 1 else 0)
    for shade in reversed(frames[:-1] if len(frames) > 1 else frames):
        gray = np.pad(gray, 5, constant_values=shade)
    inner = (slice(5 * max(1, len(frames) - 1), -5 * max(1, len(frames) - 1)),) * 2

    got, _ = gray_of(gray, above=0.08)

    np.testing.assert_array_equal(got[inner], scan())
    got[inner] = 0
    assert not got.any()


@pytest.mark.parametrize("shade", [75, 110])
def test_a_label_in_a_gray_image_is_no_framed_head(shade):
    """Air and head differ by less than the noise beside frames: the label alone stands out."""
    gray = np.where(HEAD, shade + 20, shade)
    labeled = gray.copy()
    labeled[20:36, 20:40] = 255
    kept = gray_of(labeled, above=0.08)[0]
    assert (kept[HEAD] == gray[HEAD]).all()


@pytest.mark.parametrize("quality", [60, 75, 90])
def test_frames_in_a_jpeg_are_taken_off_with_the_specks_around_them(quality):
    gray = np.pad(np.pad(scan(), 4, constant_values=235), (26, 36), constant_values=128)
    stream = io.BytesIO()
    Image.fromarray(gray.astype(np.uint8)).save(stream, "JPEG", quality=quality)
    stored = np.array(Image.open(stream)).astype(np.float32)

    got, _ = gray_of(stored, above=0.08)

    inner = (slice(30, -40), slice(30, -40))
    kept = got[inner] > 0
    assert agreement(kept & (stored[inner] > 60), HEAD) > 0.97
    got[inner] = 0
    assert not (got > 60).any()


@pytest.mark.parametrize(
    "gray",
    [scan(), scan(15), 255 - scan(), np.tile(np.arange(256), (256, 1)), np.full((3, 3), 90)],
    ids=["black background", "dark background", "negative", "no background", "few pixels"],
)
def test_what_has_no_page_stays_as_it_is(gray):
    np.testing.assert_array_equal(gray_of(gray, above=0.08)[0], gray)


def test_gray_inside_a_head_is_no_page():
    gray = np.where(HEAD, scan(), 60)
    gray[ellipse(tall=10, wide=10)] = 60
    got, _ = gray_of(gray, above=0.08)
    assert got[128, 128] == 60 and got[0, 0] == 0
