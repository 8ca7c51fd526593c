"""2D images as network-grid slices: sizing, refusals, and what tells CT from MRI."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from medtranslate.errors import (
    EvaluationFailed,
    InputMissing,
    Unreadable,
    Unsupported,
    WrongModality,
)
from medtranslate.evaluation.slices import (
    SliceSet,
    check_modality,
    fit_to_grid,
    gray_levels,
    read_slices,
    to_eight_bit,
    to_network,
)


def image(rows: int, columns: int, seed: int = 0) -> Image.Image:
    gray = np.random.default_rng(seed).integers(0, 256, (rows, columns), dtype=np.uint8)
    return Image.fromarray(gray)


def write(folder: Path, *images: Image.Image, suffix: str = ".png") -> Path:
    folder.mkdir(exist_ok=True)
    for number, each in enumerate(images):
        each.save(folder / f"p{number}{suffix}")
    return folder


def test_an_image_of_256_is_its_own_slice() -> None:
    given = image(256, 256)
    np.testing.assert_array_equal(fit_to_grid(given), np.asarray(given))


def test_half_size_is_the_mean_of_two_by_two() -> None:
    given = image(512, 512)
    means = np.asarray(given, dtype=float).reshape(256, 2, 256, 2).mean(axis=(1, 3))
    assert np.abs(fit_to_grid(given) - means).max() <= 1  # Pillow rounds twice


@pytest.mark.parametrize(
    ("size", "resampling"),
    [((300, 400), Image.Resampling.LANCZOS), ((150, 100), Image.Resampling.BICUBIC)],
)
def test_the_filter_goes_with_the_scale(size: tuple[int, int], resampling: int) -> None:
    given = image(*size)
    expected = given.resize(
        (round(size[1] * 256 / max(size)), round(size[0] * 256 / max(size))), resampling
    )
    canvas = fit_to_grid(given)
    top, left = (256 - expected.height) // 2, (256 - expected.width) // 2
    inside = canvas[top : top + expected.height, left : left + expected.width]
    np.testing.assert_array_equal(inside, np.asarray(expected))
    assert canvas.sum() == inside.sum()  # black around it


def test_gray_levels_survive_the_network_scale() -> None:
    slices = np.arange(256, dtype=np.uint8).repeat(256).reshape(1, 256, 256)
    scaled = to_network(slices)
    assert scaled.shape == (1, 1, 256, 256)
    assert (float(scaled.min()), float(scaled.max())) == (-1.0, 1.0)
    np.testing.assert_array_equal(to_eight_bit(gray_levels(scaled)), slices)
    assert gray_levels(torch.full((1, 1, 256, 256), 1.2)).max() == 255


def test_a_folder_is_read_in_sorted_order(tmp_path: Path) -> None:
    folder = write(tmp_path / "mri", image(100, 200), image(512, 512, 1), image(256, 256, 2))
    (folder / "notes.txt").write_text("no image")
    found = read_slices(folder, "mri")
    assert found.names == ("p0.png", "p1.png", "p2.png")
    assert found.sizes == ((100, 200), (512, 512), (256, 256))
    assert found.slices.shape == (3, 256, 256)
    assert found.cases == found.names
    assert read_slices(folder, "mri", ["p2.png", "p0.png"]).names == ("p0.png", "p2.png")


def test_equal_channels_are_read_as_they_are(tmp_path: Path) -> None:
    gray = image(256, 256)
    folder = write(tmp_path / "mri", gray, gray.convert("RGB"))
    found = read_slices(folder, "mri").slices
    np.testing.assert_array_equal(found[0], found[1])


def test_the_digest_follows_the_content(synthetic_set) -> None:
    one, same, other = (synthetic_set("ct", seed=seed) for seed in (1, 1, 2))
    assert one.digest == same.digest != other.digest


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(InputMissing, match="nowhere: no such folder of images"):
        read_slices(tmp_path / "nowhere", "ct")


def test_no_images(tmp_path: Path) -> None:
    with pytest.raises(EvaluationFailed, match="holds no 2D images"):
        read_slices(tmp_path, "ct")


def test_one_image_is_refused(tmp_path: Path) -> None:
    folder = write(tmp_path / "ct", image(256, 256))
    with pytest.raises(EvaluationFailed, match=r"1 ct image\(s\).*needs 2"):
        read_slices(folder, "ct")


def test_a_truncated_image_is_named(tmp_path: Path) -> None:
    folder = write(tmp_path / "ct", image(256, 256), image(256, 256, 1))
    whole = (folder / "p1.png").read_bytes()
    (folder / "p1.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(Unreadable, match=r"p1\.png: damaged"):
        read_slices(folder, "ct")


def test_sixteen_bits_are_refused(tmp_path: Path) -> None:
    deep = Image.fromarray(np.full((256, 256), 3000, dtype=np.uint16))
    folder = write(tmp_path / "ct", deep, deep)
    with pytest.raises(Unsupported, match=r"p0\.png: not an 8-bit image"):
        read_slices(folder, "ct")


def test_slices_of_another_size_are_refused() -> None:
    with pytest.raises(EvaluationFailed, match=r"must be uint8 \(N, 256, 256\)"):
        SliceSet("ct", ("a", "b"), np.zeros((2, 128, 128), np.uint8))


def test_each_modality_passes_as_itself(synthetic_set) -> None:
    check_modality(synthetic_set("ct"))
    check_modality(synthetic_set("mri"))


def test_exchanged_folders_are_noticed(synthetic_set) -> None:
    ct = synthetic_set("ct")
    given = SliceSet("mri", ct.names, ct.slices, folder="testA")
    with pytest.raises(WrongModality, match="testA: given as MRI, but the images look like CT"):
        check_modality(given)


@pytest.mark.data
def test_real_folders_pass_as_themselves_and_not_as_each_other(shared_data: Path) -> None:
    for folder, modality, other in (("testA", "ct", "mri"), ("testB", "mri", "ct")):
        where = shared_data / "brain-ct-mri" / folder
        names = sorted(each.name for each in where.iterdir())[::20]
        check_modality(read_slices(where, modality, names))
        with pytest.raises(WrongModality):
            check_modality(read_slices(where, other, names))
