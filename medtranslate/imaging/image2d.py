"""2D images: PNG, JPEG and TIFF of 8 or 16 bit, one alone or equal ones as a stack.

A 2D image has no spacing and no units. Its voxels are gray levels, X over the columns and Y over
the rows, and its affine is ``diag(-1, -1, 1, 1)`` as the contract says.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from monai.data import MetaTensor
from PIL import Image, ImageOps, PngImagePlugin, UnidentifiedImageError

from medtranslate.errors import Unreadable, Unsupported, UntrustedInput
from medtranslate.files import whole_folder
from medtranslate.imaging.base import RefusingReader, ScanWriter, to_integers, to_stored
from medtranslate.imaging.guess_modality import guess_image_2d, labeled
from medtranslate.imaging.source import (
    Scan,
    check_shape,
    check_source,
    make_source,
    short_label,
    synthesis_of,
)

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")

IMAGE_2D_AFFINE = np.diag([-1.0, -1.0, 1.0, 1.0])
"""X from the patient's right to left, Y from anterior to posterior, as a radiologist looks."""

COLOR_NOISE = 16
"""Largest difference between the channels of a gray image, in 8-bit gray levels.

Of the 1744 MR images in the training folder of "CT and MRI brain scans", 1631 are gray or have
equal channels and 67 differ by 2 to 16 levels: compression of the color signal. The 44 that differ
by more hold colored lines, marks, letters or a tint (and 2 are transparent).
"""

MAX_PIXELS = 2**26
"""Most pixels of a 2D image (8192 x 8192): a header is only a claim."""

JPEG_QUALITY = 95

_FORMATS = ("PNG", "JPEG", "TIFF")
_DEEP_ENGINES = {"PNG": "PNGImageIO", "TIFF": "TIFFImageIO"}
_SIXTEEN_BITS = ("I;16", "I;16B", "I;16L")
_IMAGE_DESCRIPTION = 270  # TIFF 6.0, section 8


class Image2DReader(RefusingReader):
    """MONAI reader of a image, of several equal ones, or of a folder of them, as one stack.

    Voxels of shape (X, Y, N), N images in natural order of their names; a TIFF of several pages
    is such a stack by itself.

    Raises
    ------
    Unreadable
        From `get_data`: empty, truncated, damaged, or no image.
    Unsupported
        From `get_data`: color, transparency, animation, other depths than 8 and 16 bit, 2D images
        of different size or depth.
    UntrustedInput
        From `get_data`: more than `MAX_PIXELS` pixels.
    """

    suffixes = SUFFIXES

    def load(self, paths: tuple[Path, ...]) -> Scan:
        """Read the 2D images named, or those in the one folder named."""
        if len(paths) == 1 and paths[0].is_dir():
            files = images_in(paths[0])
            if not files:
                raise Unreadable("no 2D images in this folder", path=paths[0])
        else:
            files = list(paths)
        pages: list[np.ndarray] = []
        faults: list[str] = []
        for file in files:
            for page in _read_pages(file, faults):
                _check_equal(page, pages, file, files[0])
                pages.append(page)
        stack = np.stack(pages)
        voxels = stack.astype(np.float32).transpose(2, 1, 0)
        middle = stack[len(stack) // 2].T
        modality, basis = labeled(_description(files[0])) or guess_image_2d(middle)
        source = make_source(
            format="image",
            kind="image",
            files=files,
            modality=modality,
            modality_basis=basis,
            shape=voxels.shape,
            affine=IMAGE_2D_AFFINE,
            dtype=stack.dtype,
            faults=faults,
        )
        return Scan(voxels, source)


class Image2DWriter(ScanWriter):
    """MONAI writer of one image to PNG (8 or 16 bit), JPEG (8 bit, quality 95) or TIFF.

    A translated image is written in ``synthesis["dtype"]`` (uint8), any other in its source's
    type. The label goes into PNG's ``Description``, JPEG's comment or TIFF's ImageDescription. A
    stack goes into a TIFF of several pages, or with `write_stack` into a folder.

    Raises
    ------
    Unsupported
        The image is a volume or, for PNG and JPEG, a stack, or values do not fit.
    """

    def encode(
        self, image: MetaTensor, source: dict[str, Any], temporary: Path, path: Path
    ) -> None:
        """Write the pixels and, for a translated image, what made it."""
        pages = _pages(image, source, path)
        synthesis = synthesis_of(image)
        suffix = temporary.suffix.lower()
        if suffix in (".tif", ".tiff"):
            _save_tiff(pages, temporary, synthesis)
            return
        if len(pages) > 1:
            raise Unsupported(
                f"a stack of {len(pages)} images does not fit into one file of this format",
                path=path,
                remedy="write a folder or a .tif",
            )
        if suffix == ".png":
            _save_png(pages[0], temporary, synthesis)
        else:
            _save_jpeg(pages[0], temporary, synthesis, path)


def write_stack(image: MetaTensor, folder: Path, *, overwrite: bool = False) -> None:
    """Write each image of a stack as a PNG into a folder, whole or not at all.

    The PNGs are named after the images read, where those were as many; else by number.

    Raises
    ------
    Unsupported, OutputExists, OutputFailed
        See `Image2DWriter` and `whole_folder`.
    """
    source = check_source(image, folder)
    pages = _pages(image, source, folder)
    stems = [Path(file).stem for file in source["files"]]
    if len(set(stems)) != len(pages):
        stems = [f"{number:04d}" for number in range(1, len(pages) + 1)]
    with whole_folder(folder, overwrite=overwrite) as temporary:
        for stem, page in zip(stems, pages, strict=True):
            _save_png(page, temporary / f"{stem}.png", synthesis_of(image))


def images_in(folder: Path) -> list[Path]:
    """List the 2D images that lie directly in a folder, in natural order, hidden ones left out."""
    names = (path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    return sorted((path for path in names if not path.name.startswith(".")), key=natural_key)


def natural_key(path: Path) -> list[tuple[int, int | str]]:
    """Give a key by which ``ct9.png`` comes before ``ct10.png``."""
    parts = re.split(r"(\d+)", path.name.lower())
    return [(0, int(part)) if part.isdigit() else (1, part) for part in parts if part]


def described(image: Image.Image) -> str:
    """Give the description that a PNG, a JPEG or a TIFF carries, else an empty string."""
    tags = getattr(image, "tag_v2", {})
    found = (
        image.info.get("Description") or image.info.get("comment") or tags.get(_IMAGE_DESCRIPTION)
    )
    return found.decode("utf-8", "replace") if isinstance(found, bytes) else str(found or "")


def _description(path: Path) -> str:
    with opened_image(path) as image:
        return described(image)


@contextmanager
def opened_image(path: Path) -> Iterator[Image.Image]:
    """Open a 2D image without decoding it; damage met in the block becomes `Unreadable`.

    Raises
    ------
    Unreadable
        Empty, truncated, damaged, or no PNG, JPEG or TIFF.
    UntrustedInput
        More than `MAX_PIXELS` pixels.
    """
    if path.stat().st_size == 0:
        raise Unreadable("the file is empty", path=path)
    try:
        with Image.open(path, formats=_FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                size = f"{image.width}x{image.height}"
                raise UntrustedInput(f"{size} pixels are more than a 2D image may have", path=path)
            yield image
    except Image.DecompressionBombError as error:
        raise UntrustedInput("more pixels than a 2D image may have", path=path) from error
    except UnidentifiedImageError as error:
        raise Unreadable("not a PNG, JPEG or TIFF image", path=path) from error
    except (OSError, SyntaxError, ValueError, TypeError, KeyError, EOFError) as error:
        raise Unreadable(f"damaged or truncated image: {error}", path=path) from error


def _read_pages(path: Path, faults: list[str]) -> list[np.ndarray]:
    """Read the pages of one file, each of shape (Y, X), uint8 or uint16."""
    with opened_image(path) as image:
        count = getattr(image, "n_frames", 1)
        if count > 1 and image.format != "TIFF":
            raise Unsupported(f"an animation of {count} frames is not a scan", path=path)
        pages = []
        for number in range(count):
            if count > 1:
                image.seek(number)
            check_shape((image.width, image.height, 1), path)
            pages.append(_read_page(image, path, faults))
    for page in pages:
        _check_equal(page, pages, path, path)
    return pages


def _read_page(image: Image.Image, path: Path, faults: list[str]) -> np.ndarray:
    if _is_deep_color(image):
        return _gray(_read_deep_color(image, path), path, faults)
    upright = ImageOps.exif_transpose(image)
    if upright.size != image.size or image.getexif().get(0x0112, 1) != 1:
        faults.append(f"{path.name}: turned upright, as its EXIF orientation says.")
    if upright.mode in _SIXTEEN_BITS:
        return np.asarray(upright, dtype=np.uint16)
    if upright.mode == "L" and "transparency" not in upright.info:
        return np.asarray(upright)
    if upright.mode in ("RGB", "P", "L", "LA", "RGBA", "PA"):
        return _gray(np.asarray(upright.convert("RGBA")), path, faults)
    raise Unsupported(f"pixels of kind {upright.mode} are not 8 or 16 bit gray", path=path)


def _is_deep_color(image: Image.Image) -> bool:
    """Say whether Pillow would cut 16-bit color down to 8 bit without a word."""
    return image.mode in ("RGB", "RGBA", "LA") and any(
        ";16" in str(tile.args) for tile in getattr(image, "tile", [])
    )


def _read_deep_color(image: Image.Image, path: Path) -> np.ndarray:
    engine = _DEEP_ENGINES.get(image.format or "")
    if engine is None or getattr(image, "n_frames", 1) > 1:
        raise Unsupported("16-bit color in several pages is not read", path=path)
    try:
        return sitk.GetArrayFromImage(sitk.ReadImage(str(path), imageIO=engine))
    except RuntimeError as error:
        raise Unreadable("damaged or truncated image", path=path) from error


def _gray(channels: np.ndarray, path: Path, faults: list[str]) -> np.ndarray:
    """Give gray for (Y, X, C) whose color channels are equal but for compression noise.

    C is 2 (gray, alpha), 3 (red, green, blue) or 4 (with alpha).
    """
    full = np.iinfo(channels.dtype).max
    if channels.shape[2] in (2, 4) and int(channels[..., -1].min()) < full:
        raise Unsupported("transparent pixels (alpha channel)", path=path)
    colors = channels[..., : 1 if channels.shape[2] == 2 else 3]
    spread = (colors.max(axis=2) - colors.min(axis=2)).max() / full * 255
    if spread > COLOR_NOISE:
        raise Unsupported(
            f"color: its channels differ by up to {spread:.0f} of 255 gray levels",
            path=path,
            remedy="remove colored text, lines and marks",
        )
    if spread == 0:
        return np.ascontiguousarray(colors[..., 0])
    faults.append(f"{path.name}: color noise of up to {spread:.0f} gray levels averaged.")
    gray: np.ndarray = np.rint(colors.mean(axis=2)).astype(channels.dtype)
    return gray


def _check_equal(page: np.ndarray, pages: list[np.ndarray], path: Path, first: Path) -> None:
    if pages and page.shape != pages[0].shape:
        size, other = page.shape[::-1], pages[0].shape[::-1]
        raise Unsupported(
            f"{size[0]}x{size[1]} pixels, but {first.name} has {other[0]}x{other[1]}: no stack",
            path=path,
            remedy="give the 2D images one by one",
        )
    if pages and page.dtype != pages[0].dtype:
        raise Unsupported(
            f"{page.dtype} pixels, but {first.name} has {pages[0].dtype}: no stack", path=path
        )


def _pages(image: MetaTensor, source: dict[str, Any], path: Path) -> list[np.ndarray]:
    """Return the pages of a 2D image, each of shape (Y, X), in the type to write."""
    if source["kind"] != "image":
        raise Unsupported(
            "a volume would lose its spacing and its units in a 2D image",
            path=path,
            remedy="write .nii.gz, .mha, .nrrd or DICOM",
        )
    voxels = image.as_tensor()[0].detach().cpu().numpy()
    synthesis = synthesis_of(image)
    if synthesis:
        stored = to_integers(voxels, synthesis["dtype"], path)
    else:
        exact = to_stored(voxels, source["dtype"])
        if exact is None:
            raise Unsupported(f"values do not fit {source['dtype']} gray levels", path=path)
        stored = exact
    if stored.dtype not in (np.uint8, np.uint16):
        raise Unsupported(f"a 2D image holds 8 or 16 bit, not {stored.dtype}", path=path)
    return [np.ascontiguousarray(stored[..., z].T) for z in range(stored.shape[2])]


def _save_png(page: np.ndarray, path: Path, synthesis: dict[str, Any]) -> None:
    text = PngImagePlugin.PngInfo()
    if synthesis:
        text.add_text("Description", short_label(synthesis, 1000))
        text.add_text("Synthesis", json.dumps(synthesis))
    _save(Image.fromarray(page), path, format="PNG", pnginfo=text)


def _save_jpeg(page: np.ndarray, path: Path, synthesis: dict[str, Any], target: Path) -> None:
    if page.dtype != np.uint8:
        raise Unsupported("a JPEG holds 8 bit", path=target, remedy="write .png or .tif")
    label = short_label(synthesis, 1000).encode("ascii") if synthesis else b""
    _save(Image.fromarray(page), path, format="JPEG", quality=JPEG_QUALITY, comment=label)


def _save_tiff(pages: list[np.ndarray], path: Path, synthesis: dict[str, Any]) -> None:
    first, *rest = (Image.fromarray(page) for page in pages)
    described = {"description": short_label(synthesis, 1000)} if synthesis else {}
    several = {"save_all": True, "append_images": rest} if rest else {}
    _save(first, path, format="TIFF", compression="tiff_adobe_deflate", **several, **described)


def _save(image: Image.Image, path: Path, **options: Any) -> None:
    """Encode in memory first: Pillow does not report a JPEG that a full disk cuts short."""
    content = io.BytesIO()
    image.save(content, **options)
    path.write_bytes(content.getbuffer())
