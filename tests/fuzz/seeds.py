"""Whole small files of every format that is read, made here, and where damage cannot be noticed.

A seed is a scan in one file. Its `blind` spans hold what no reader can check: voxels without a
checksum, and numbers of a header that another number would replace. Anywhere else, damage must be
refused, reported, or leave the volume as it is.
"""

from __future__ import annotations

import bz2
import gzip
import io
import re
import tempfile
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import SimpleITK as sitk
import torch
from imaging.dicom.compress import SYNTAXES, compress
from imaging.dicom.factory import enhanced, save, series
from PIL import Image
from pydicom.uid import DeflatedExplicitVRLittleEndian

from medtranslate.bundle import Bundle, Networks, save_bundle
from medtranslate.files import shipped
from medtranslate.networks import Compact
from medtranslate.training.checkpoints import Checkpoint

Span = tuple[int, int]


def as_it_is(content: bytes) -> bytes:
    return content


@dataclass(frozen=True, eq=False)
class Seed:
    """One file.

    Parameters
    ----------
    name : str
        With the suffix of its format.
    content : bytes
        What is damaged.
    blind : tuple of (int, int)
        Where damage may change the volume unnoticed.
    fields : tuple of (int, int)
        Where numbers of its structure lie.
    pack : callable
        Makes the file of the damaged content: packs it, for damage below a checksum.
    beside : dict
        The other files of a bundle, by name.
    """

    name: str
    content: bytes
    blind: tuple[Span, ...] = ()
    fields: tuple[Span, ...] = ()
    pack: Callable[[bytes], bytes] = as_it_is
    beside: dict[str, bytes] = field(default_factory=dict)


RNG = np.random.default_rng(7)
VOXELS = RNG.integers(-1000, 1500, (9, 8, 5)).astype(np.int16)
GRAY = RNG.integers(0, 255, (20, 24)).astype(np.uint8)


def seeds() -> list[Seed]:
    """Make one seed of each kind."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        scans = [*niftis(), *text_headers(folder), *images(folder), *dicoms(folder)]
        return [*scans, *bundles(folder), checkpoint(folder)]


def niftis() -> list[Seed]:
    first = nib.Nifti1Image(VOXELS, np.diag([2.0, 2.0, 5.0, 1.0]))
    second = nib.Nifti2Image(VOXELS.astype(">f4"), np.diag([-2.0, 2.0, 5.0, 1.0]))
    plain, other = first.to_bytes(), second.to_bytes()
    # pixdim to scl_inter, spatial unit, then codes, quaternion and sform; then the voxels.
    blind = ((70, 108), (112, 120), (123, 124), (252, 328), (352, len(plain)))
    blind2 = ((12, 14), (104, 168), (176, 192), (344, 502), (544, len(other)))
    fields = (*((at, at + 2) for at in (40, 42, 44, 46, 48, 70, 72)), (108, 112), (0, 4))
    fields2 = (*((at, at + 8) for at in (16, 24, 32, 40, 48, 168)), (12, 14), (0, 4))
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("a/scan.nii", plain)
    packed = gzip.compress(plain, mtime=0)
    return [
        Seed("one.nii", plain, blind, fields),
        Seed("two.nii", other, blind2, fields2),
        Seed("outer.nii.gz", packed, fields=((3, 4), (len(packed) - 8, len(packed)))),
        Seed("inner.nii.gz", plain, blind, fields, gzip.compress),
        Seed("a.zip", archive.getvalue(), fields=((18, 30),)),
    ]


def text_headers(folder: Path) -> list[Seed]:
    image = sitk.GetImageFromArray(np.ascontiguousarray(VOXELS.T))
    image.SetSpacing((2.0, 2.5, 5.0))
    made = []
    for name, packed in (("raw.mha", 0), ("zlib.mha", 1), ("raw.nrrd", 0), ("gzip.nrrd", 1)):
        sitk.WriteImage(image, str(folder / name), bool(packed))
        made.append(text_seed(name, (folder / name).read_bytes(), packed=bool(packed)))
    header = (folder / "raw.nrrd").read_bytes().split(b"\n\n")[0] + b"\n\n"
    digits = " ".join(map(str, VOXELS.ravel(order="F"))).encode()
    voxels = VOXELS.tobytes(order="F")
    texts = {"ascii": digits, "hex": voxels.hex().encode(), "bzip2": bz2.compress(voxels)}
    for kind, content in texts.items():
        whole = header.replace(b"encoding: raw", f"encoding: {kind}".encode()) + content
        made.append(text_seed(f"{kind}.nrrd", whole, packed=kind == "bzip2"))
    return made


def text_seed(name: str, content: bytes, *, packed: bool) -> Seed:
    """Make a seed of which values of the header, and voxels that are not packed, are blind."""
    end = re.search(rb"LOCAL\n|\n\n", content).end()
    values = re.finditer(rb"[=:][^\n]*\n", content[:end])
    blind = [(one.start(), one.end()) for one in values]
    return Seed(name, content, (*blind, *(() if packed else ((end, len(content)),))), tuple(blind))


def images(folder: Path) -> list[Seed]:
    made = []
    deep = (GRAY.astype(np.uint16) * 251, GRAY)
    color = np.repeat(GRAY[..., None], 3, axis=2)
    for name, pixels in (("deep.png", deep[0]), ("gray.png", GRAY), ("color.png", color)):
        Image.fromarray(pixels).save(folder / name)
        made.append(Seed(name, (folder / name).read_bytes(), fields=((8, 33),)))
    Image.fromarray(GRAY).save(folder / "a.jpg", quality=95)
    options = {"compression": "tiff_adobe_deflate"}
    Image.fromarray(deep[0]).save(folder / "deep.tif")
    Image.fromarray(GRAY).save(folder / "packed.tif", **options)
    page = Image.fromarray(GRAY)
    page.save(folder / "pages.tif", save_all=True, append_images=[page] * 2)
    vector = sitk.GetImageFromArray(np.repeat(deep[0][..., None], 3, axis=2), isVector=True)
    sitk.WriteImage(vector, str(folder / "color.tif"))
    for name in ("a.jpg", "deep.tif", "packed.tif", "pages.tif", "color.tif"):
        content = (folder / name).read_bytes()
        # Neither has a checksum.
        made.append(Seed(name, content, ((0, len(content)),), ((4, 8), *tiff_fields(content))))
    return made


def tiff_fields(content: bytes) -> list[Span]:
    if content[:2] != b"II":
        return []
    start = int.from_bytes(content[4:8], "little")
    count = int.from_bytes(content[start : start + 2], "little")
    return [(start + 2 + 12 * n + part, start + 2 + 12 * n + part + 4)
            for n in range(count) for part in (0, 4, 8)]  # fmt: skip


def dicoms(folder: Path) -> list[Seed]:
    save(series(count=1)[0], folder / "ct.dcm")
    save(series("MR", count=1)[0], folder / "mr.dcm")
    save(enhanced(), folder / "enhanced.dcm")
    save(series(count=1)[0], folder / "deflated.dcm", DeflatedExplicitVRLittleEndian)
    for syntax in SYNTAXES:
        save(series(count=1)[0], folder / f"{syntax}.dcm")
        compress(folder / f"{syntax}.dcm", syntax)
    made = [dicom_seed(path) for path in sorted(folder.glob("*.dcm"))]
    whole = (folder / "deflated.dcm").read_bytes()
    start = 144 + int.from_bytes(whole[140:144], "little")
    body = zlib.decompress(whole[start:], -zlib.MAX_WBITS)

    def deflated(content: bytes) -> bytes:
        deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        return whole[:start] + deflater.compress(content) + deflater.flush()

    return [*made, Seed("inner-deflated.dcm", body, ((0, len(body)),), pack=deflated)]


def bundles(folder: Path) -> list[Seed]:
    """Make a seed of each kind of file in a bundle; only weights have a checksum."""
    spec = {"_target_": "medtranslate.networks.Compact", "width": 16, "blocks": 1}
    generators = {to: Compact(width=16, blocks=1) for to in ("mri", "ct")}
    recipes = sorted(shipped("transforms").glob("*.yaml"))
    networks = Networks(dict.fromkeys(generators, spec), generators)
    bundle = save_bundle(folder / "bundle", networks, recipes, name="tiny", version="0.0")
    files = {
        f"bundle/{path.relative_to(bundle)}": path.read_bytes()
        for path in sorted(bundle.rglob("*"))
        if path.is_file()
    }
    loaded = Bundle.load(bundle)
    first = {}
    for name, content in files.items():
        if name.endswith((".yaml", ".safetensors", ".pt")):
            first.setdefault(name.rsplit("/", 2)[-2] + Path(name).suffix, (name, content))
    assert loaded.generators
    return [
        Seed(
            name,
            content,
            ((0, len(content)),) if name.endswith(".yaml") else (),
            tuple((one.start(), one.end()) for one in re.finditer(rb":[^\n]*\n", content[:20_000])),
            beside=files,
        )
        for name, content in first.values()
    ]


def checkpoint(folder: Path) -> Seed:
    """Make a checkpoint, which has no checksum."""
    tensors = {"generators.mri.weight": torch.arange(12.0).reshape(3, 4)}
    Checkpoint(tensors, {"step": 3}).save(folder / "last.ckpt")
    content = (folder / "last.ckpt").read_bytes()
    return Seed("last.ckpt", content, ((0, len(content)),), ((0, 8), (8, 60)))


def dicom_seed(path: Path) -> Seed:
    """Make a seed with the heads of its elements as fields; no value has a checksum."""
    content = path.read_bytes()
    fields = []
    for element in pydicom.dcmread(path, force=True).values():
        at = getattr(element, "value_tell", 0) or getattr(element, "file_tell", 0) or 0
        if at:
            fields += [(at - 8, at - 4), (at - 4, at)]
    return Seed(path.name, content, ((0, len(content)),), tuple(fields))
