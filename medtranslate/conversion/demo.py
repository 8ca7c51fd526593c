"""Convert a synthetic head phantom: a folder of files that is complete or absent."""

from __future__ import annotations

from os import PathLike
from pathlib import Path

from medtranslate.conversion.batch import check_path
from medtranslate.conversion.inputs import find
from medtranslate.conversion.interface import ConversionOptions, Trace
from medtranslate.conversion.plan import PlannedScan, place
from medtranslate.conversion.scan import convert_scan
from medtranslate.errors import OutputExists
from medtranslate.files import whole_folder
from medtranslate.imaging import write
from medtranslate.phantom import Phantom
from medtranslate.translation import Translator

VOLUME, IMAGE_2D = "head-ct.nii.gz", "head-ct-slice.png"


def demo(
    folder: str | PathLike[str] = "medtranslate-demo",
    *,
    translator: Translator | None = None,
    bundle: str | PathLike[str] = "",
    overwrite: bool = False,
) -> dict[Path, str]:
    """Write a synthetic head phantom (a CT volume and a 2D image) and its conversion to MRI.

    Parameters
    ----------
    folder : path
        Folder to write.
    translator : Translator, optional
        A loaded model.
    bundle : path
        Folder of the model to load otherwise; ``""`` for the shipped one.
    overwrite : bool
        Replace an earlier demo; a folder that holds anything else is never replaced.

    Returns
    -------
    dict of Path to str
        The files written, and what each is.

    Raises
    ------
    ModelUnusable, OutputExists, OutputFailed
        Nothing is written.
    """
    folder = Path(folder)
    check_path(folder, overwrite=overwrite, folder=True)
    _refuse_foreign(folder)
    model = translator or Translator.load(str(bundle) or None)
    files: dict[Path, str] = {}
    with whole_folder(folder, overwrite=overwrite) as temporary:
        for name, image, what in (
            (VOLUME, Phantom().volume(), "synthetic head phantom in HU"),
            (IMAGE_2D, Phantom().image_2d(), "one slice of it as a 2D image"),
        ):
            job = _convert(write(image, temporary / name), model)
            files[folder / name] = what
            files[folder / job.output.name] = "the same as synthetic MRI"
            if job.preview:
                files[folder / job.preview.name] = "both side by side"
    return files


def _convert(source: Path, translator: Translator) -> PlannedScan:
    # A phantom need not look like a head to the domain check.
    options = ConversionOptions(to="mri", modality="CT", force=True)
    (job,) = place(find(source), options, alone=True).jobs
    convert_scan(job, translator, options, Trace())
    return job


def _refuse_foreign(folder: Path) -> None:
    """Keep `overwrite` from removing what no demo wrote."""
    if not folder.is_dir():
        return
    foreign = [one.name for one in folder.iterdir() if not one.name.startswith("head-ct")]
    if foreign:
        fault = f"holds {foreign[0]}, which no demo wrote"
        raise OutputExists(fault, path=folder, remedy="choose another folder")
