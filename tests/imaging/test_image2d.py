from __future__ import annotations

import json

import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image, PngImagePlugin

from medtranslate.errors import Unreadable, Unsupported, UntrustedInput
from medtranslate.imaging import image2d, read, write

GRAY = np.arange(30 * 20, dtype=np.uint16).reshape(20, 30)  # 20 rows, 30 columns
GRAY8 = (GRAY % 256).astype(np.uint8)


def refused(path, kind, fault):
    with pytest.raises(kind, match=fault) as caught:
        read(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".tiff"])
@pytest.mark.parametrize("array", [GRAY, GRAY8], ids=["16", "8"])
def test_columns_become_x_and_rows_y(tmp_path, suffix, array):
    Image.fromarray(array).save(tmp_path / f"p{suffix}")

    image = read(tmp_path / f"p{suffix}")

    assert image.shape == (1, 30, 20, 1)
    assert np.array_equal(image.numpy()[0, :, :, 0], array.T)
    assert np.array_equal(image.affine.numpy(), np.diag([-1.0, -1.0, 1.0, 1.0]))
    source = image.meta["source"]
    assert (source["format"], source["kind"]) == ("image", "image")
    assert source["dtype"] == array.dtype.name


def test_a_jpeg(tmp_path):
    flat = np.full((20, 30), 77, np.uint8)
    Image.fromarray(flat).save(tmp_path / "p.jpg")
    assert np.array_equal(read(tmp_path / "p.jpg").numpy()[0, :, :, 0], flat.T)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "P"])
def test_color_with_equal_channels_is_gray(tmp_path, mode):
    Image.fromarray(GRAY8).convert(mode).save(tmp_path / "p.png")
    image = read(tmp_path / "p.png")
    assert np.array_equal(image.numpy()[0, :, :, 0], GRAY8.T)
    assert image.meta["source"]["faults"] == []


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_sixteen_bit_color_keeps_its_low_bits(tmp_path, suffix):
    color = np.repeat((GRAY * 99)[..., None], 3, axis=2)
    sitk.WriteImage(sitk.GetImageFromArray(color, isVector=True), str(tmp_path / f"p{suffix}"))
    image = read(tmp_path / f"p{suffix}")
    assert np.array_equal(image.numpy()[0, :, :, 0], (GRAY * 99).T)
    assert image.meta["source"]["dtype"] == "uint16"


def test_noise_between_channels_is_averaged_and_said(tmp_path):
    color = np.repeat(GRAY8[..., None] // 2, 3, axis=2)
    color[3, 4] += np.array([0, 6, 12], np.uint8)
    Image.fromarray(color).save(tmp_path / "p.png")
    image = read(tmp_path / "p.png")
    assert image[0, 4, 3, 0] == GRAY8[3, 4] // 2 + 6
    assert image.meta["source"]["faults"] == [
        "p.png: color noise of up to 12 gray levels averaged."
    ]


def test_colored_text_is_refused(tmp_path):
    color = np.repeat(GRAY8[..., None] // 2, 3, axis=2)
    color[3, 4:9, 0] += 17
    Image.fromarray(color).save(tmp_path / "p.png")
    refused(tmp_path / "p.png", Unsupported, "channels differ by up to 17 of 255")


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_is_refused(tmp_path, mode):
    clear = Image.fromarray(GRAY8).convert(mode)
    clear.putalpha(254)
    clear.save(tmp_path / "p.png")
    refused(tmp_path / "p.png", Unsupported, "alpha channel")


def test_a_transparent_gray_level_is_refused(tmp_path):
    Image.fromarray(GRAY8).save(tmp_path / "p.png", transparency=7)
    refused(tmp_path / "p.png", Unsupported, "alpha channel")


def test_other_depths_are_refused(tmp_path):
    Image.fromarray(GRAY8 > 9).save(tmp_path / "p.png")
    refused(tmp_path / "p.png", Unsupported, "kind 1 ")
    Image.fromarray(GRAY.astype(np.float32)).save(tmp_path / "p.tif")
    refused(tmp_path / "p.tif", Unsupported, "kind F ")


def test_an_animation_is_refused(tmp_path):
    frames = [Image.fromarray(GRAY8), Image.fromarray(GRAY8[::-1])]
    frames[0].save(tmp_path / "p.png", save_all=True, append_images=frames[1:])
    refused(tmp_path / "p.png", Unsupported, "an animation of 2")


def test_a_tiff_of_several_pages_is_a_stack(tmp_path):
    pages = [Image.fromarray(GRAY + page) for page in range(3)]
    pages[0].save(tmp_path / "p.tif", save_all=True, append_images=pages[1:])

    image = read(tmp_path / "p.tif")
    write(image, tmp_path / "again.tif")

    assert image.shape == (1, 30, 20, 3)
    assert np.array_equal(image.numpy()[0, :, :, 2], (GRAY + 2).T)
    again = read(tmp_path / "again.tif")
    assert np.array_equal(again.numpy(), image.numpy())
    assert again.meta["source"]["dtype"] == "uint16"


def test_exif_orientation_is_obeyed_and_said(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    Image.fromarray(GRAY8).save(tmp_path / "p.png", exif=exif)
    image = read(tmp_path / "p.png")
    assert image.shape == (1, 20, 30, 1)
    assert np.array_equal(image.numpy()[0, :, :, 0].T, np.rot90(GRAY8, -1))
    assert "EXIF" in image.meta["source"]["faults"][0]


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif"])
def test_empty_text_and_truncated_files(tmp_path, suffix):
    path = tmp_path / f"p{suffix}"
    path.touch()
    refused(path, Unreadable, "the file is empty")
    path.write_text("Dear colleague,")
    refused(path, Unreadable, "not a PNG, JPEG or TIFF")
    Image.fromarray(GRAY8).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    refused(path, Unreadable, "damaged or truncated")


def test_too_small_and_too_large(tmp_path, monkeypatch):
    Image.fromarray(GRAY8[:2]).save(tmp_path / "p.png")
    refused(tmp_path / "p.png", Unsupported, "fewer than 3 voxels")
    Image.fromarray(GRAY8).save(tmp_path / "q.png")
    monkeypatch.setattr(image2d, "MAX_PIXELS", 500)
    refused(tmp_path / "q.png", UntrustedInput, "30x20 pixels")


def test_a_folder_is_a_stack_in_natural_order(tmp_path):
    for number in (10, 9, 1):
        Image.fromarray(GRAY8 // 16 * 0 + number).save(tmp_path / f"ct{number}.png")
    (tmp_path / ".hidden.png").write_text("no")
    (tmp_path / "notes.txt").write_text("no")

    image = read(tmp_path)

    assert image.shape == (1, 30, 20, 3)
    assert image.numpy()[0, 0, 0].tolist() == [1, 9, 10]
    names = [name.rsplit("/", 1)[1] for name in image.meta["source"]["files"]]
    assert names == ["ct1.png", "ct9.png", "ct10.png"]


def test_unequal_2d_images_are_no_stack(tmp_path):
    Image.fromarray(GRAY8).save(tmp_path / "a.png")
    Image.fromarray(GRAY8[:-1]).save(tmp_path / "b.png")
    with pytest.raises(Unsupported, match=r"b.png: 30x19 pixels, but a.png has 30x20: no stack"):
        read(tmp_path)
    Image.fromarray(GRAY).save(tmp_path / "b.png")
    with pytest.raises(Unsupported, match=r"b.png: uint16 pixels, but a.png has uint8"):
        read(tmp_path)


def test_a_folder_without_scans(tmp_path):
    with pytest.raises(Unreadable, match="no scan in this folder"):
        read(tmp_path)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("array", [GRAY, GRAY8], ids=["16", "8"])
def test_round_trip(tmp_path, suffix, array):
    Image.fromarray(array).save(tmp_path / "a.png")
    write(read(tmp_path / "a.png"), tmp_path / f"b{suffix}")
    out = np.asarray(Image.open(tmp_path / f"b{suffix}"))
    assert out.dtype == array.dtype
    assert np.array_equal(out, array)


def test_a_result_says_that_it_is_synthetic(tmp_path, translated, synthesis):
    Image.fromarray(GRAY8).save(tmp_path / "a.png")
    made = translated(read(tmp_path / "a.png"), dtype="uint8")
    for suffix in (".png", ".jpg", ".tif"):
        write(made, tmp_path / f"b{suffix}")

    png = Image.open(tmp_path / "b.png")
    assert png.text["Description"] == synthesis["label"]
    assert json.loads(png.text["Synthesis"])["weights_sha256"] == synthesis["weights_sha256"]
    assert np.array_equal(np.asarray(png), GRAY8)
    assert Image.open(tmp_path / "b.jpg").info["comment"].decode() == synthesis["label"]
    assert Image.open(tmp_path / "b.tif").tag_v2[270] == synthesis["label"]
    for suffix in (".png", ".jpg", ".tif"):
        source = read(tmp_path / f"b{suffix}").meta["source"]
        assert (source["modality"], source["modality_basis"]) == ("MR", "label SYNTHETIC MR")


def test_a_stack_goes_into_a_folder_under_its_own_names(tmp_path, translated, synthesis):
    (tmp_path / "in").mkdir()
    for name in ("ct2", "ct10"):
        Image.fromarray(GRAY8).save(tmp_path / "in" / f"{name}.png")
    image = translated(read(tmp_path / "in"), dtype="uint8")

    write(image, tmp_path / "out")

    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["ct10.png", "ct2.png"]
    assert Image.open(tmp_path / "out" / "ct2.png").text["Description"] == synthesis["label"]
    with pytest.raises(Unsupported, match="a stack of 2 images"):
        write(image, tmp_path / "out.png")
    assert not (tmp_path / "out.png").exists()


def test_what_a_2d_image_cannot_hold_is_refused(tmp_path, nifti_file, voxels):
    with pytest.raises(Unsupported, match="a volume would lose its spacing"):
        write(read(nifti_file(voxels)), tmp_path / "out.png")
    Image.fromarray(GRAY).save(tmp_path / "a.png")
    image = read(tmp_path / "a.png")
    with pytest.raises(Unsupported, match=r"out.jpg: a JPEG holds 8 bit"):
        write(image, tmp_path / "out.jpg")
    image += 0.5
    with pytest.raises(Unsupported, match="do not fit uint16"):
        write(image, tmp_path / "out.png")
    assert not (tmp_path / "out.png").exists()


@pytest.mark.data
def test_real_images(shared_data):
    ct = read(shared_data / "brain-ct-mri" / "trainA" / "ct1.png")
    assert ct.shape == (1, 256, 256, 1)
    assert ct.meta["source"]["modality"] == "CT"
    with pytest.raises(Unsupported, match="color"):  # a cross-hair in color
        read(shared_data / "brain-ct-mri" / "trainB" / "mri1387.jpg")


def test_png_text_of_strangers_is_no_bomb(tmp_path):
    text = PngImagePlugin.PngInfo()
    text.add_text("Comment", "a" * 10_000_000, zip=True)
    Image.fromarray(GRAY8).save(tmp_path / "p.png", pnginfo=text)
    refused(tmp_path / "p.png", Unreadable, "damaged or truncated")
