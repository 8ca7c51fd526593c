"""2D images: PNG, JPEG and TIFF of 8 or 16 bit, one alone or equal ones as a stack.

A 2D image has no spacing and no units. Its voxels are gray levels, X over the columns and Y over
the rows, and its affine is ``diag(-1, -1, 1, 1)`` as the contract says. Files are decoded in a
child process (`child`).
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medtranslate.errors import MedTranslateError, Unreadable, Unsupported
from medtranslate.files import check_present, whole_folder
from medtranslate.imaging.base import RefusingReader, ScanWriter, to_integers, to_stored
from medtranslate.imaging.child import PATIENCE, Answer, children
from medtranslate.imaging.contrast import agreed, of_name
from medtranslate.imaging.guess_modality import guess_image_2d, labeled
from medtranslate.imaging.limits import check_claim, check_memory
from medtranslate.imaging.source import (
    Scan,
    check_shape,
    check_source,
    make_source,
    short_label,
    synthesis_of,
)

if TYPE_CHECKING:
    from monai.data import MetaTensor

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

MAX_PAGES = 4096
"""Most pages of a TIFF."""

JPEG_QUALITY = 95


class Image2DReader(RefusingReader):
    """MONAI reader of an image, of several equal ones, or of a folder of them, as one stack.

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
        From `get_data`: more than `MAX_PIXELS` pixels or `MAX_PAGES` pages, or a bomb (`limits`).

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from medtranslate.phantom import Phantom
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "slice.png")
    ...     Image2DWriter().save(Phantom((64, 80, 1), (3.0, 3.0, 5.0)).image_2d(), path)
    ...     scan = Image2DReader().read(path)
    >>> scan.voxels.shape, scan.source["kind"]
    ((64, 80, 1), 'image')
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
        read = _Pages(files)
        for file in files:
            read.read(file)
        stack = np.stack(read.pages)
        voxels = stack.astype(np.float32).transpose(2, 1, 0)
        middle = stack[len(stack) // 2].T
        modality, basis = labeled(read.description) or guess_image_2d(middle)
        source = make_source(
            format="image",
            kind="image",
            files=files,
            modality=modality,
            modality_basis=basis,
            contrast=agreed(map(of_name, files)),
            shape=voxels.shape,
            affine=IMAGE_2D_AFFINE,
            dtype=stack.dtype,
            faults=read.faults,
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

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from PIL import Image
    >>> from medtranslate.phantom import Phantom
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "slice.png")
    ...     Image2DWriter().save(Phantom((64, 80, 1), (3.0, 3.0, 5.0)).image_2d(), path)
    ...     Image.open(path).size
    (64, 80)
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


@dataclass(frozen=True)
class ImageFile:
    """What a PNG, JPEG or TIFF file says of itself.

    Parameters
    ----------
    size : tuple of int
        Columns and rows of the first page.
    count : int
        Pages of a TIFF, frames of an animation.
    description : str
        PNG's Description, JPEG's comment or TIFF's ImageDescription.
    """

    size: tuple[int, int]
    count: int
    description: str


def look_at(path: Path) -> ImageFile:
    """Read what an image file says of itself, without decoding it.

    Raises
    ------
    Unreadable
        Empty, truncated, damaged, or no PNG, JPEG or TIFF.
    UntrustedInput
        More than `MAX_PIXELS` pixels, or more than `MAX_PAGES` pages.
    """
    with closing(_asked("look", path)) as answers:
        return _image_file(next(answers))


def read_gray(path: Path) -> np.ndarray:
    """Read the first page of an 8-bit image as uint8 gray levels (Y, X), whatever its colors.

    Raises
    ------
    Unreadable, UntrustedInput
        As `look_at`.
    Unsupported
        It has other than 8 bits.
    """
    with closing(_asked("gray", path)) as answers:
        answer = next(answers)
    return np.frombuffer(answer.content, dtype=np.uint8).reshape(answer.head["shape"])


def _image_file(answer: Answer) -> ImageFile:
    head = answer.head
    return ImageFile((head["size"][0], head["size"][1]), head["count"], head["description"])


def _asked(task: str, path: Path) -> Generator[Answer, None, None]:
    """Let a child look at, or decode, an image file; what it refuses names the file."""
    check_present(path)
    size = path.stat().st_size
    if size == 0:
        raise Unreadable("the file is empty", path=path)
    request = {"path": str(path.absolute()), "max_pixels": MAX_PIXELS, "max_pages": MAX_PAGES}
    try:
        yield from children().ask(
            task, request, failed="damaged or truncated image", patience=PATIENCE + size / 1e6
        )
    except MedTranslateError as error:
        raise type(error)(error.fault, path=path, remedy=error.remedy) from error


class _Pages:
    """The pages of one or several files, while they are read: equal ones, and not too many."""

    def __init__(self, files: Sequence[Path]) -> None:
        self.files = files
        self.pages: list[np.ndarray] = []
        self.faults: list[str] = []
        self.description = ""
        self._file_bytes = sum(file.stat().st_size for file in files)
        self._held = 0

    def read(self, path: Path) -> None:
        """Read the pages of one file, each of shape (Y, X), uint8 or uint16."""
        with closing(_asked("pages", path)) as answers:
            first = _image_file(next(answers))
            check_shape((*first.size, 1), path)
            if path == self.files[0]:
                self.description = first.description
            for answer in answers:
                self._add(self._page(answer, path), path)

    def _page(self, answer: Answer, path: Path) -> np.ndarray:
        head = answer.head
        pixels = np.frombuffer(answer.content, dtype=head["dtype"]).reshape(head["shape"])
        if head["turned"]:
            self.faults.append(f"{path.name}: turned upright, as its EXIF orientation says.")
        check_shape((pixels.shape[1], pixels.shape[0], 1), path)
        return pixels if pixels.ndim == 2 else _gray(pixels, path, self.faults)

    def _add(self, page: np.ndarray, path: Path) -> None:
        _check_equal(page, self.pages, path, self.files[0])
        self._held += page.nbytes
        check_claim(self._held, self._file_bytes, path)
        check_memory(self._held + 4 * page.size * (len(self.pages) + 1), path)
        self.pages.append(page)


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
    from PIL.PngImagePlugin import PngInfo

    text = PngInfo()
    if synthesis:
        text.add_text("Description", short_label(synthesis, 1000))
        text.add_text("Synthesis", json.dumps(synthesis))
    _save(page, path, format="PNG", pnginfo=text)


def _save_jpeg(page: np.ndarray, path: Path, synthesis: dict[str, Any], target: Path) -> None:
    if page.dtype != np.uint8:
        raise Unsupported("a JPEG holds 8 bit", path=target, remedy="write .png or .tif")
    label = short_label(synthesis, 1000).encode("ascii") if synthesis else b""
    _save(page, path, format="JPEG", quality=JPEG_QUALITY, comment=label)


def _save_tiff(pages: list[np.ndarray], path: Path, synthesis: dict[str, Any]) -> None:
    from PIL import Image

    first, *rest = pages
    described = {"description": short_label(synthesis, 1000)} if synthesis else {}
    several = (
        {"save_all": True, "append_images": [Image.fromarray(page) for page in rest]}
        if rest
        else {}
    )
    _save(first, path, format="TIFF", compression="tiff_adobe_deflate", **several, **described)


def _save(page: np.ndarray, path: Path, **options: Any) -> None:
    """Encode in memory first: Pillow does not report a JPEG that a full disk cuts short."""
    from PIL import Image  # what only reads does without

    content = io.BytesIO()
    Image.fromarray(page).save(content, **options)
    path.write_bytes(content.getbuffer())
