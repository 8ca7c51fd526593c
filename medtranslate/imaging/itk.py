"""MetaImage and NRRD, in and out, through SimpleITK.

ITK places voxels in LPS (x to the patient's left, y to the back); the contract is RAS, so the
first two rows of the affine change sign on the way in and on the way out.

ITK follows a header to whatever file it names, reads a damaged compressed MetaImage without a word,
and reports damage on stderr; so the text of a header is looked at first: names, sizes, checksums.
"""

from __future__ import annotations

import json
import math
import re
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from monai.data import MetaTensor

from medtranslate.errors import OutputFailed, Unreadable, Unsupported, UntrustedInput
from medtranslate.imaging.base import (
    RefusingReader,
    ScanWriter,
    beyond_float32,
    check_even,
    to_derived,
    to_float32,
    to_stored,
)
from medtranslate.imaging.guess_modality import guess_volume, labeled
from medtranslate.imaging.source import (
    LPS_TO_RAS,
    Scan,
    check_affine,
    check_shape,
    make_source,
    synthesis_of,
)

SUFFIXES = (".mha", ".mhd", ".nrrd", ".nhdr")


_ENGINES = {"metaimage": "MetaImageIO", "nrrd": "NrrdImageIO"}
_SCALARS = {
    **{sitk.sitkUInt8: 1, sitk.sitkInt8: 1, sitk.sitkUInt16: 2, sitk.sitkInt16: 2},
    **{sitk.sitkUInt32: 4, sitk.sitkInt32: 4, sitk.sitkUInt64: 8, sitk.sitkInt64: 8},
    **{sitk.sitkFloat32: 4, sitk.sitkFloat64: 8},
}
_STORABLE = frozenset(
    [f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)] + ["float32", "float64"]
)
_MODALITY_KEYS = {"MET_MOD_CT": "CT", "MET_MOD_MR": "MR"}
_LABEL_KEY = "SYNTHETIC"
_ANATOMICAL_SPACES = (
    "left-posterior-superior",
    "right-anterior-superior",
    "left-anterior-superior",
)


class ItkReader(RefusingReader):
    """MONAI reader of one volume in a MetaImage (.mha, .mhd) or NRRD (.nrrd, .nhdr) file.

    Raises
    ------
    Unreadable
        From `get_data`: empty, truncated, damaged, or another format.
    Unsupported
        From `get_data`: several volumes, several or complex components, a degenerate affine, NaN
        or infinite voxels, an NRRD space that is not anatomical.
    UntrustedInput
        From `get_data`: the header names a file outside its folder.
    """

    suffixes = SUFFIXES

    def load(self, paths: tuple[Path, ...]) -> Scan:
        """Read the volume of the one path given."""
        if len(paths) != 1:
            raise Unsupported("several volume files are several scans", path=paths[0])
        (path,) = paths
        header, reader = open_header(path)
        shape, affine, faults = judge(reader, path)
        size = math.prod(reader.GetSize()) * _SCALARS[reader.GetPixelIDValue()]
        check_voxels(header, size, path)
        try:
            image = reader.Execute()
        except RuntimeError as error:
            raise Unreadable(f"damaged: {_last_line(error)}", path=path) from error
        stored = sitk.GetArrayViewFromImage(image).T.reshape(shape, order="F")
        if stored.dtype == np.float32:
            stored = stored.copy(order="F")  # the view dies with ITK's image
        if beyond_float32(stored):
            faults.append("Integers beyond 2^24 are rounded to float32.")
        voxels = to_float32(stored, 1.0, 0.0, path)
        modality, basis = tagged_modality(reader) or guess_volume(voxels)
        source = make_source(
            format=header.format,
            kind="volume",
            files=[path],
            modality=modality,
            modality_basis=basis,
            shape=shape,
            affine=affine,
            dtype=stored.dtype,
            faults=faults,
            header={
                "origin": list(reader.GetOrigin()),
                "spacing": list(reader.GetSpacing()),
                "direction": list(reader.GetDirection()),
            },
        )
        return Scan(voxels, source)


class ItkWriter(ScanWriter):
    """MONAI writer of one volume to a MetaImage (.mha) or NRRD (.nrrd) file, compressed.

    A translated image is written in ``synthesis["dtype"]``, with its label under the key
    ``SYNTHETIC`` and its full record, as JSON, under ``SYNTHESIS``. Any other image goes back in
    its source's stored type where that loses nothing, else as float32.
    """

    def encode(
        self, image: MetaTensor, source: dict[str, Any], temporary: Path, path: Path
    ) -> None:
        """Write header and voxels."""
        check_even(source, path)
        voxels = image.as_tensor()[0].detach().cpu().numpy()
        synthesis = synthesis_of(image)
        if synthesis:
            stored = to_derived(voxels, synthesis["dtype"], path)
        else:
            exact = to_stored(voxels, source["dtype"]) if source["dtype"] in _STORABLE else None
            stored = voxels.astype(np.float32, copy=False) if exact is None else exact
        out = sitk.GetImageFromArray(stored.T)
        _place(out, source)
        if synthesis:
            out.SetMetaData(_LABEL_KEY, synthesis["label"])
            out.SetMetaData("SYNTHESIS", json.dumps(synthesis))
        format = "nrrd" if temporary.suffix.lower() == ".nrrd" else "metaimage"
        try:
            sitk.WriteImage(out, str(temporary), True, 1, imageIO=_ENGINES[format])
        except RuntimeError as error:
            raise OutputFailed(f"cannot be written: {_last_line(error)}", path=path) from error
        _check_written(temporary, stored.nbytes, path)


def open_header(path: Path) -> tuple[TextHeader, sitk.ImageFileReader]:
    """Read the header, by our eyes and by ITK's, without the voxels.

    Raises
    ------
    Unreadable, UntrustedInput, Unsupported
        See `read_text_header`.
    """
    header = read_text_header(path)
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    reader.SetImageIO(_ENGINES[header.format])
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise Unreadable(f"damaged header: {_last_line(error)}", path=path) from error
    return header, reader


def judge(
    reader: sitk.ImageFileReader, path: Path
) -> tuple[tuple[int, int, int], np.ndarray, list[str]]:
    """Give shape (X, Y, Z), affine (RAS mm) and faults of a header, or refuse it.

    Raises
    ------
    Unsupported
        Components, shape, space or affine cannot be translated exactly.
    """
    if reader.GetNumberOfComponents() != 1 or reader.GetPixelIDValue() not in _SCALARS:
        raise Unsupported("voxels with several or complex components are no scan", path=path)
    shape = check_shape(tuple(reader.GetSize()), path)
    faults = []
    space = _metadata(reader, "NRRD_space")
    if _metadata(reader, "ITK_InputFilterName") == "NrrdImageIO":
        if not space:
            faults.append("The header names no space; left-posterior-superior is assumed.")
        elif space not in _ANATOMICAL_SPACES:
            raise Unsupported(f"the space {space} does not say where left is", path=path)
    return shape, check_affine(affine_ras(reader), path), faults


def tagged_modality(reader: sitk.ImageFileReader) -> tuple[str, str] | None:
    """Give the modality that a header or a label states, with its basis, else None."""
    modality = _MODALITY_KEYS.get(_metadata(reader, "Modality"), "")
    return (modality, "header Modality") if modality else labeled(label_of(reader))


def label_of(reader: sitk.ImageFileReader | sitk.Image) -> str:
    """Return the label of a synthetic image (`ItkWriter`), else an empty string."""
    return _metadata(reader, _LABEL_KEY)


def affine_ras(reader: sitk.ImageFileReader | sitk.Image) -> np.ndarray:
    """Return the 4x4 affine (RAS mm) of an image of ITK, which places voxels in LPS mm."""
    axes = reader.GetDimension()
    direction = np.asarray(reader.GetDirection()).reshape(axes, axes)
    known = min(axes, 3)
    affine = np.eye(4)
    affine[:known, :known] = (direction * np.asarray(reader.GetSpacing()))[:known, :known]
    affine[:known, 3] = reader.GetOrigin()[:known]
    return LPS_TO_RAS @ affine


def _place(out: sitk.Image, source: dict[str, Any]) -> None:
    """Set origin, spacing and direction: as read where the source was ITK's, else by the affine."""
    header = source["header"]
    if source["format"] in _ENGINES and len(header["spacing"]) == 3 and min(header["spacing"]) > 0:
        out.SetOrigin(header["origin"])
        out.SetSpacing(header["spacing"])
        out.SetDirection(header["direction"])
        return
    affine = LPS_TO_RAS @ np.asarray(source["affine"])
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    out.SetOrigin(affine[:3, 3].tolist())
    out.SetSpacing(spacing.tolist())
    out.SetDirection((affine[:3, :3] / spacing).ravel().tolist())


def _check_written(temporary: Path, wanted: int, path: Path) -> None:
    """Read the file's structure back: ITK does not report every short write."""
    try:
        header, _ = open_header(temporary)
        check_voxels(header, wanted, temporary)
    except Unreadable as error:
        raise OutputFailed(f"was not written whole: {error.fault}", path=path) from error


def _metadata(reader: sitk.ImageFileReader | sitk.Image, key: str) -> str:
    return reader.GetMetaData(key) if reader.HasMetaDataKey(key) else ""


def _last_line(error: RuntimeError) -> str:
    return str(error).strip().splitlines()[-1].strip()


_LONGEST_HEADER = 2**16
_CHUNK = 2**20
_COUNTS = {
    **dict.fromkeys(("DimSize", "Offset", "Position", "Origin", "CenterOfRotation"), 1),
    **dict.fromkeys(("ElementSpacing", "ElementSize"), 1),
    **dict.fromkeys(("TransformMatrix", "Rotation", "Orientation"), 2),
}
"""Numbers that a MetaImage field holds, as a power of the count of axes."""

_WINDOW_BITS = {"zlib": zlib.MAX_WBITS, "gzip": 16 + zlib.MAX_WBITS}


@dataclass(frozen=True)
class TextHeader:
    """Where the voxels lie, by the header's text.

    Parameters
    ----------
    format : str
        ``"metaimage"`` or ``"nrrd"``.
    voxels : Path
        The file that holds the voxels: the header's own, or one beside it.
    offset : int
        First byte of the voxels in that file.
    packing : str
        ``"raw"``, ``"zlib"``, ``"gzip"``, or ``""`` for an encoding that only ITK knows.
    """

    format: str
    voxels: Path
    offset: int
    packing: str


def read_text_header(path: Path) -> TextHeader:
    """Read the header of a MetaImage or NRRD file.

    Raises
    ------
    Unreadable
        Empty, or neither format, or the file with the voxels is missing.
    UntrustedInput
        The header sends the reader out of its own folder.
    Unsupported
        The voxels are spread over a list of files.
    """
    with path.open("rb") as file:
        block = file.read(_LONGEST_HEADER)
    if not block:
        raise Unreadable("the file is empty", path=path)
    if block.startswith(b"NRRD"):
        return _nrrd(block, path)
    if re.match(rb"\s*(Comment|ObjectType|NDims)\s*=", block):
        return _metaimage(block, path)
    raise Unreadable("neither a MetaImage nor an NRRD file", path=path)


def companion(path: Path) -> Path | None:
    """Give the file beside a header that holds its voxels, None where the header's own does."""
    voxels = read_text_header(path).voxels
    return voxels if voxels != path else None


def check_voxels(header: TextHeader, wanted: int, path: Path) -> None:
    """Refuse voxels that are truncated or whose checksum is wrong, where ITK would not tell.

    Parameters
    ----------
    header : TextHeader
        From `read_text_header`.
    wanted : int
        Bytes of voxels that the header's sizes ask for.
    path : Path
        The file given, for the message.

    Raises
    ------
    Unreadable
        Too few bytes, or a damaged stream.
    """
    if header.packing == "raw":
        there = header.voxels.stat().st_size - header.offset
        if there < wanted:
            raise Unreadable(f"truncated: {there} of {wanted} bytes of voxels", path=path)
    elif header.packing in _WINDOW_BITS:
        _check_stream(header, wanted, path)


def _check_stream(header: TextHeader, wanted: int, path: Path) -> None:
    stream, got = zlib.decompressobj(_WINDOW_BITS[header.packing]), 0
    with header.voxels.open("rb") as file:
        file.seek(header.offset)
        try:
            while not stream.eof and got <= wanted:
                piece = stream.unconsumed_tail or file.read(_CHUNK)
                if not piece:
                    raise Unreadable("truncated: the compressed voxels end early", path=path)
                got += len(stream.decompress(piece, _CHUNK))
        except zlib.error as error:
            raise Unreadable(f"damaged voxels: {error}", path=path) from error
    if got != wanted:
        raise Unreadable(f"damaged voxels: {got} of {wanted} bytes in the stream", path=path)


def _metaimage(block: bytes, path: Path) -> TextHeader:
    place = re.search(rb"^ElementDataFile\s*=[ \t]*([^\r\n]*?)[ \t]*\r?\n", block + b"\n", re.M)
    if place is None:
        raise Unreadable("truncated or damaged MetaImage header", path=path)
    name = place[1].decode("utf-8", "replace")
    if name.upper() == "LIST" or "%" in name:
        raise Unsupported("the voxels are spread over a list of files", path=path)
    text = block[: place.end()]
    _check_fields(text, path)
    packed = re.search(rb"^CompressedData\s*=\s*True", text, re.M | re.I)
    skipped = re.search(rb"^HeaderSize\s*=\s*(-?\d+)", text, re.M)
    local = name.upper() == "LOCAL"
    voxels = path if local else _beside(path, name)
    offset = place.end() if local else int(skipped[1]) if skipped else 0
    # A header size of -1 means: whatever precedes the voxels at the end of the file.
    return TextHeader("metaimage", voxels, max(offset, 0), "zlib" if packed else "raw")


def _check_fields(text: bytes, path: Path) -> None:
    """Refuse a MetaImage header on which ITK would crash or speak for itself.

    Raises
    ------
    Unreadable
        A line is no ``Key = value``, a field that ITK needs is missing, or has a wrong count of
        numbers.
    """
    fields: dict[str, str] = {}
    for line in text.decode("utf-8", "replace").strip().split("\n"):
        key, equals, value = line.strip(" \t\r").partition("=")
        if not equals or not key.strip().isidentifier() or not value.strip("\t").isprintable():
            raise Unreadable(f"damaged MetaImage header: {line.strip()[:40]!r}", path=path)
        fields[key.strip()] = value.strip()
    axes = fields.get("NDims", "")
    if axes not in ("2", "3", "4"):
        raise Unreadable(f"damaged MetaImage header: NDims is {axes!r}", path=path)
    if not re.fullmatch(r"MET_[A-Z_]+", fields.get("ElementType", "")):
        raise Unreadable("damaged MetaImage header: no ElementType", path=path)
    first = next(iter(key for key in fields if key in ("NDims", *_COUNTS)))
    if first != "NDims" or "DimSize" not in fields:
        raise Unreadable("damaged MetaImage header: NDims or DimSize out of place", path=path)
    for key, power in _COUNTS.items():
        if key in fields and not _are_numbers(fields[key], int(axes) ** power):
            raise Unreadable(f"damaged MetaImage header: {key} is {fields[key]!r}", path=path)


def _are_numbers(text: str, count: int) -> bool:
    try:
        return len([float(word) for word in text.split()]) == count
    except ValueError:
        return False


def _nrrd(block: bytes, path: Path) -> TextHeader:
    end = re.search(rb"\r?\n\r?\n", block)
    text = block[: end.start()] if end else block
    named = re.search(rb"^data ?file:[ \t]*([^\r\n]*?)[ \t]*\r?$", text, re.M | re.I)
    if named is None and end is None:
        raise Unreadable("truncated or damaged NRRD header", path=path)
    name = named[1].decode("utf-8", "replace") if named else ""
    if name.upper().startswith("LIST") or "%" in name:
        raise Unsupported("the voxels are spread over a list of files", path=path)
    encoding = re.search(rb"^encoding:[ \t]*(\w+)", text, re.M | re.I)
    packings = {b"raw": "raw", b"gzip": "gzip", b"gz": "gzip"}
    packing = packings.get(encoding[1].lower(), "") if encoding else ""
    skips = re.search(rb"^(line|byte) ?skip:", text, re.M | re.I)
    voxels = _beside(path, name) if named else path
    offset = 0 if named or end is None else end.end()
    return TextHeader("nrrd", voxels, offset, "" if skips else packing)


def _beside(path: Path, name: str) -> Path:
    name = name.removeprefix("./")
    if not name or Path(name).name != name or "\\" in name or name == "..":
        raise UntrustedInput(f"its voxels are said to lie outside its folder: {name}", path=path)
    voxels = path.with_name(name)
    if voxels.is_symlink() and voxels.resolve().parent != path.resolve().parent:
        raise UntrustedInput(f"its voxels lie behind a link out of its folder: {name}", path=path)
    if not voxels.is_file():
        raise Unreadable(f"the file with its voxels is missing: {name}", path=path)
    return voxels
