"""Where an image came from: building ``meta["source"]`` and holding writers to it.

The keys are fixed in ``docs/architecture.md``. Everything in it is a builtin, because ``LoadImage``
accepts nothing else, and images carry it as one piece of text (`SourceRecord`), because collation
takes lists and dictionaries apart.
"""

from __future__ import annotations

import base64
import json
import math
import zlib
from collections.abc import ItemsView, Iterable, Iterator, KeysView, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from nibabel import orientations

from medtranslate.errors import Unsupported, UntrustedInput
from medtranslate.modality import Modality

if TYPE_CHECKING:
    import torch
    from monai.data import MetaTensor

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])

TILTED = 0.1
"""Angle between the slice axis and the normal from which a volume counts as tilted, degrees."""

AFFINE_TOLERANCE = 1e-4
"""Largest difference (mm, or mm per voxel) at which an affine still agrees with its source."""


LARGEST_VOLUME = 2**31
"""Most voxels that a volume may claim (8 GiB as float32): a header is only a claim."""


class SourceRecord(str):
    """``meta["source"]``: a read-only mapping that torch and MONAI batch as one piece of text.

    What two scans say of themselves differs in length (files, anomalies, headers of different
    formats), and collation transposes lists and dictionaries found in metadata. Text it leaves
    alone, in both directions; so the record is its own JSON, read by key like the dictionary that
    it was made from. To change it, make a `dict` of it and a new record of that.

    Parameters
    ----------
    text : str
        JSON of the record; `SourceRecord.of` writes it.

    Examples
    --------
    >>> record = SourceRecord.of({"modality": "CT", "files": ["a.dcm", "b.dcm"]})
    >>> record["files"]
    ['a.dcm', 'b.dcm']
    >>> dict(record) | {"modality": "MR"}
    {'modality': 'MR', 'files': ['a.dcm', 'b.dcm']}
    """

    _parsed: dict[str, Any]

    @classmethod
    def of(cls, record: Mapping[str, Any] | SourceRecord) -> SourceRecord:
        """Return a mapping of builtins as a record."""
        return record if isinstance(record, SourceRecord) else cls(json.dumps(dict(record)))

    def _mapping(self) -> dict[str, Any]:
        if "_parsed" not in self.__dict__:
            self._parsed = json.loads(str.__str__(self))
        return self._parsed

    def __getitem__(self, key: str) -> Any:  # type: ignore[override]
        return self._mapping()[key]

    def get(self, key: str, default: Any = None) -> Any:
        """Return the value of a key, or the default."""
        return self._mapping().get(key, default)

    def keys(self) -> KeysView[str]:
        """Return the keys, so that `dict` takes the record for a mapping."""
        return self._mapping().keys()

    def items(self) -> ItemsView[str, Any]:
        """Return keys and values."""
        return self._mapping().items()

    def __iter__(self) -> Iterator[str]:
        return iter(self._mapping())

    def __len__(self) -> int:
        return len(self._mapping())

    def __contains__(self, key: object) -> bool:
        return key in self._mapping()

    def __eq__(self, other: object) -> bool:
        if isinstance(other, SourceRecord):
            return self._mapping() == other._mapping()
        return self._mapping() == other if isinstance(other, Mapping) else str.__eq__(self, other)

    __hash__ = str.__hash__

    def __deepcopy__(self, memo: dict[int, Any]) -> SourceRecord:
        return self  # MONAI copies metadata at every operation

    def __reduce__(self) -> tuple[type[SourceRecord], tuple[str]]:
        return SourceRecord, (str.__str__(self),)


@dataclass(frozen=True)
class Scan:
    """What a reader hands on: voxels and where they came from.

    Parameters
    ----------
    voxels : numpy.ndarray
        Float32 of shape (X, Y, Z), in physical units, finite. Any memory order.
    source : dict
        ``meta["source"]``, from `make_source`.
    """

    voxels: np.ndarray
    source: dict[str, Any]

    def meta(self) -> dict[str, Any]:
        """Give the metadata that a MONAI reader returns beside (X, Y, Z) voxels."""
        affine = np.asarray(self.source["affine"], dtype=np.float64)
        return {
            "affine": affine,
            "original_affine": affine.copy(),
            "spatial_shape": np.asarray(self.source["shape"], dtype=np.int64),
            "original_channel_dim": float("nan"),
            "space": "RAS",
            "source": SourceRecord.of(self.source),
        }

    def image(self) -> MetaTensor:
        """Give the image of the contract: float32 `MetaTensor` of shape (1, X, Y, Z)."""
        import torch
        from monai.data import MetaTensor

        meta = self.meta()
        meta["original_channel_dim"] = 0
        meta["filename_or_obj"] = first_file(self.source) or ""
        return MetaTensor(torch.from_numpy(self.voxels)[None], meta=meta)


def make_source(
    *,
    format: str,
    kind: str,
    shape: Iterable[int],
    affine: np.ndarray,
    dtype: np.dtype | type | str,
    files: Iterable[str | Path] = (),
    modality: str = "",
    modality_basis: str = "",
    contrast: tuple[str, str] = ("", ""),
    faults: Iterable[str] = (),
    even: bool = True,
    header: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Build ``meta["source"]`` in builtins only.

    Parameters
    ----------
    format : str
        ``"nifti"``, ``"metaimage"``, ``"nrrd"``, ``"image"``, ``"dicom"`` or ``"array"``.
    kind : str
        ``"volume"`` or ``"image"``.
    shape : iterable of int
        (X, Y, Z) as read.
    affine : numpy.ndarray
        4x4, voxel to world, RAS mm.
    dtype : dtype
        Type of the stored values, before scaling.
    files : iterable of path
        The files read; for DICOM one a slice, in slice order.
    modality : str
        ``"CT"``, ``"MR"`` or ``""``.
    modality_basis : str
        How the modality is known.
    contrast : (contrast, basis)
        As header or name state it (`imaging.contrast`); it counts where the scan is an MR, which
        may be settled later.
    faults : iterable of str
        What was noticed, a sentence each.
    even : bool
        False where slices are not evenly spaced.
    header : dict, optional
        Builtins that the writer of this format needs.

    Returns
    -------
    dict
        The source record.
    """
    return {
        "format": format,
        "kind": kind,
        "files": [str(name) for name in files],
        "modality": str(modality),
        "modality_basis": modality_basis,
        "contrast": contrast[0],
        "contrast_basis": contrast[1],
        "shape": [int(length) for length in shape],
        "affine": np.asarray(affine, dtype=np.float64).tolist(),
        "dtype": np.dtype(dtype).newbyteorder("=").name,
        "faults": [str(fault) for fault in faults],
        "even": bool(even),
        "header": header or {},
    }


def array_source(image: MetaTensor, *, modality: str = "", basis: str = "given") -> dict[str, Any]:
    """Build the source of an image made in memory: shape (1, X, Y, Z), affine in RAS mm."""
    return make_source(
        format="array",
        kind="volume",
        shape=image.shape[1:],
        affine=affine_of(image),
        dtype=str(image.dtype).removeprefix("torch."),
        modality=modality,
        modality_basis=basis if modality else "",
    )


def check_source(image: MetaTensor, path: str | Path | None = None) -> dict[str, Any]:
    """Give the source of an image that is about to be written, if they still agree.

    Parameters
    ----------
    image : MetaTensor
        Shape (1, X, Y, Z), with ``meta["source"]``.
    path : path, optional
        The output, for the message.

    Returns
    -------
    dict
        A copy of ``image.meta["source"]``.

    Raises
    ------
    Unsupported
        There is no source, or shape or affine no longer agree with it.
    """
    source = getattr(image, "meta", {}).get("source")
    if not source:
        raise Unsupported("the image does not say where it came from (no source)", path=path)
    expected, shape = [1, *source["shape"]], list(image.shape)
    if shape != expected:
        raise Unsupported(f"shape {shape} no longer agrees with its source {expected}", path=path)
    drift = np.abs(affine_of(image) - np.asarray(source["affine"]))
    if not np.all(drift <= AFFINE_TOLERANCE):
        raise Unsupported(
            f"the affine no longer agrees with its source (differs by up to {drift.max():.3g})",
            path=path,
        )
    return dict(source)


def affine_of(image: MetaTensor) -> np.ndarray:
    """Give the 4x4 float64 affine (RAS mm) that an image carries."""
    return image.affine.detach().cpu().numpy().astype(np.float64)


def orientation(affine: Any) -> str:
    """Return the directions of the axes of a 4x4 RAS affine.

    Examples
    --------
    >>> orientation(np.diag([-1.0, -1.0, 1.0, 1.0]))
    'LPS'
    """
    codes = orientations.aff2axcodes(np.asarray(affine, dtype=np.float64))
    return "".join(code or "?" for code in codes)


def first_file(source: Mapping[str, Any]) -> str | None:
    """Return the file that a fault of a source is reported with; None for an image in memory."""
    return source["files"][0] if source["files"] else None


def synthesis_of(image: MetaTensor) -> dict[str, Any]:
    """Give ``meta["synthesis"]`` of a translated image, ``{}`` for any other."""
    return image.meta.get("synthesis") or {}


def short_label(synthesis: dict[str, Any], limit: int) -> str:
    """Give the label in ASCII and at most `limit` characters; version, then name give way."""
    label: str = synthesis["label"].encode("ascii", "replace").decode()
    if len(label) <= limit:
        return label
    contrast = f" {synthesis['contrast'].upper()}" if synthesis.get("contrast") else ""
    frame = f"SYNTHETIC {synthesis['modality']}{contrast}, NOT FOR DIAGNOSIS, "
    name = str(synthesis["model"]).encode("ascii", "replace").decode()
    whole = f"{frame}{name} {synthesis['version']}"
    return whole if len(whole) <= limit else f"{frame}{name}"[:limit]


def like_scan(voxels: torch.Tensor, image: MetaTensor, source: Mapping[str, Any]) -> MetaTensor:
    """Return voxels (X, Y, Z) as an image with the affine, metadata and source of a scan."""
    from monai.data import MetaTensor

    made = MetaTensor(voxels[None])
    made.copy_meta_from(image)
    made.affine = image.affine.clone()
    made.meta["source"] = SourceRecord.of(source)
    return made


def units_of(source: Mapping[str, Any]) -> str:
    """Return the units of a scan, from its source record."""
    if source["kind"] == "image":
        return "gray levels"
    return "HU" if source["modality"] == "CT" else "scanner units"


def check_affine(affine: np.ndarray, path: str | Path | None = None) -> np.ndarray:
    """Give the 4x4 affine back if it can place voxels; else refuse.

    Raises
    ------
    Unsupported
        The affine holds NaN or infinity, or is singular (a zero axis, or axes in one plane).
    """
    affine = np.asarray(affine, dtype=np.float64)
    if not np.all(np.isfinite(affine)):
        raise Unsupported("the affine is not finite", path=path)
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    if np.any(lengths <= 0):
        axis = "XYZ"[int(np.argmin(lengths))]
        raise Unsupported(f"the affine is zero along axis {axis}", path=path)
    if abs(np.linalg.det(affine[:3, :3] / lengths)) < 1e-6:
        raise Unsupported("the affine is singular: its axes lie in one plane", path=path)
    return affine


def check_shape(shape: tuple[int, ...], path: str | Path | None = None) -> tuple[int, int, int]:
    """Give (X, Y, Z) for the shape of one volume of at least 3x3 voxels in two of its axes.

    Trailing axes of length 1 are dropped; a missing Z is 1.

    Raises
    ------
    Unsupported
        There is more than one volume, or too few voxels to be an image.
    UntrustedInput
        The shape claims more than `LARGEST_VOLUME` voxels.
    """
    if any(length < 1 for length in shape):
        raise Unsupported(f"shape {list(shape)} has no voxels", path=path)
    if any(length != 1 for length in shape[3:]):
        count = math.prod(shape[3:])
        raise Unsupported(
            f"shape {list(shape)} holds {count} volumes", path=path, remedy="give one volume"
        )
    volume = (*shape[:3], 1, 1, 1)[:3]
    if math.prod(volume) > LARGEST_VOLUME:
        raise UntrustedInput(f"shape {list(volume)} claims too many voxels", path=path)
    if sum(length >= 3 for length in volume) < 2:
        raise Unsupported(
            f"shape {list(volume)} is no image: fewer than 3 voxels along the in-plane axes",
            path=path,
        )
    return volume  # type: ignore[return-value]


def check_modality(modality: str) -> str:
    """Return the code of a modality that a caller named, ``"CT"`` or ``"MR"``; ``""`` for none."""
    return Modality.parse(modality).value if modality else ""


def pack_bits(mask: np.ndarray) -> str:
    """Return a bool array as text, which metadata can hold: bits, deflated, base64."""
    return base64.b64encode(zlib.compress(np.packbits(mask).tobytes(), 1)).decode("ascii")


def unpack_bits(text: str, shape: tuple[int, ...]) -> np.ndarray:
    """Return the bool array of a shape that `pack_bits` wrote."""
    bits = np.frombuffer(zlib.decompress(base64.b64decode(text)), dtype=np.uint8)
    return np.unpackbits(bits, count=math.prod(shape)).reshape(shape).view(bool)
