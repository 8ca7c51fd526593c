"""MetaImage and NRRD, in and out.

Both place voxels in LPS (x to the patient's left, y to the back); the contract is RAS, so the
first two rows of the affine change sign on the way in and on the way out.

ITK writes them, but does not read them: see `text_headers`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medtranslate.errors import MedTranslateError, OutputFailed, Unsupported
from medtranslate.imaging.base import (
    RefusingReader,
    ScanWriter,
    beyond_float32,
    check_even,
    to_derived,
    to_float32,
    to_stored,
)
from medtranslate.imaging.contrast import of_name
from medtranslate.imaging.guess_modality import guess_volume, labeled
from medtranslate.imaging.limits import damage_named, unpacked
from medtranslate.imaging.source import (
    LPS_TO_RAS,
    Scan,
    make_source,
    synthesis_of,
)
from medtranslate.imaging.text_fields import TextHeader
from medtranslate.imaging.text_headers import read_stored, read_text_header

if TYPE_CHECKING:
    import SimpleITK as sitk
    from monai.data import MetaTensor

SUFFIXES = (".mha", ".mhd", ".nrrd", ".nhdr")

LABEL_KEY = "SYNTHETIC"
"""Key of the label of a translated image."""

_ENGINES = {"metaimage": "MetaImageIO", "nrrd": "NrrdImageIO"}
_STORABLE = frozenset(
    [f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)] + ["float32", "float64"]
)
_MODALITY_KEYS = {"MET_MOD_CT": "CT", "MET_MOD_MR": "MR"}


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

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from medtranslate.phantom import Phantom
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "head.mha")
    ...     ItkWriter().save(Phantom((32, 40, 3), (6.0, 6.0, 40.0)).volume(), path)
    ...     scan = ItkReader().read(path)
    >>> scan.voxels.shape, scan.source["format"]
    ((32, 40, 3), 'metaimage')
    """

    suffixes = SUFFIXES

    def load(self, paths: tuple[Path, ...]) -> Scan:
        """Read the volume of the one path given."""
        if len(paths) != 1:
            raise Unsupported("several volume files are several scans", path=paths[0])
        (path,) = paths
        header = read_text_header(path)
        stored, notes = read_stored(header)
        faults = [*header.faults, *notes]
        if beyond_float32(stored):
            faults.append("Integers beyond 2^24 are rounded to float32.")
        voxels = to_float32(stored, 1.0, 0.0, path)
        modality, basis = tagged_modality(header) or guess_volume(voxels)
        source = make_source(
            format=header.format,
            kind="volume",
            files=[path],
            modality=modality,
            modality_basis=basis,
            contrast=of_name(path),
            shape=header.shape,
            affine=header.affine,
            dtype=stored.dtype,
            faults=faults,
            header={
                "origin": header.origin,
                "spacing": header.spacing,
                "direction": header.direction,
            },
        )
        return Scan(voxels, source)


class ItkWriter(ScanWriter):
    """MONAI writer of one volume to a MetaImage (.mha) or NRRD (.nrrd) file, compressed.

    A translated image is written in ``synthesis["dtype"]``, with its label under the key
    ``SYNTHETIC`` and its full record, as JSON, under ``SYNTHESIS``. Any other image goes back in
    its source's stored type where that loses nothing, else as float32.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import SimpleITK as sitk
    >>> from medtranslate.phantom import Phantom
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "head.nrrd")
    ...     ItkWriter().save(Phantom((32, 40, 3), (6.0, 6.0, 40.0)).volume(), path)
    ...     sitk.ReadImage(path).GetSpacing()
    (6.0, 6.0, 40.0)
    """

    def encode(
        self, image: MetaTensor, source: dict[str, Any], temporary: Path, path: Path
    ) -> None:
        """Write header and voxels."""
        import SimpleITK as sitk

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
            out.SetMetaData(LABEL_KEY, synthesis["label"])
            out.SetMetaData("SYNTHESIS", json.dumps(synthesis))
        format = "nrrd" if temporary.suffix.lower() == ".nrrd" else "metaimage"
        try:
            sitk.WriteImage(out, str(temporary), True, 1, imageIO=_ENGINES[format])
        except RuntimeError as error:
            raise OutputFailed(f"cannot be written: {_last_line(error)}", path=path) from error
        _check_written(temporary, stored.nbytes, path)


def tagged_modality(header: TextHeader) -> tuple[str, str] | None:
    """Give the modality that a header or a label states, with its basis, else None."""
    modality = _MODALITY_KEYS.get(header.texts.get("Modality", ""), "")
    return (modality, "header Modality") if modality else labeled(label_of(header))


def label_of(header: TextHeader) -> str:
    """Return the label of a synthetic image (`ItkWriter`), else an empty string."""
    return header.texts.get(LABEL_KEY, "")


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
    """Read the file back: ITK does not report every short write."""
    try:
        header = read_text_header(temporary)
        with damage_named(temporary), header.voxels.open("rb") as file:
            file.seek(header.offset)
            got = sum(map(len, unpacked(file, header.packing)))
    except MedTranslateError as error:
        raise OutputFailed(f"was not written whole: {error.fault}", path=path) from error
    if got != wanted:
        raise OutputFailed(f"was not written whole: {got} of {wanted} bytes", path=path)


def _last_line(error: RuntimeError) -> str:
    return str(error).strip().splitlines()[-1].strip()
