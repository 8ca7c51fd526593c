"""A phantom, converted: a folder of files that is whole or absent."""

from __future__ import annotations

from pathlib import Path

from medtranslate.conversion.checks import Loaded
from medtranslate.conversion.inputs import find
from medtranslate.conversion.options import Request
from medtranslate.conversion.outputs import Job, place
from medtranslate.conversion.scan import convert_scan
from medtranslate.conversion.targets import check_path
from medtranslate.conversion.timings import Trace
from medtranslate.errors import OutputExists
from medtranslate.files import whole_folder
from medtranslate.imaging import write
from medtranslate.phantom import Phantom
from medtranslate.translation import Translator

VOLUME, PICTURE = "head-ct.nii.gz", "head-ct-slice.png"


def demonstrate(folder: Path, bundle: str = "", *, overwrite: bool = False) -> list[str]:
    """Write a phantom and its conversions into a folder.

    Parameters
    ----------
    folder : Path
        The folder to be.
    bundle : str
        The model's folder; ``""`` for the shipped one.
    overwrite : bool
        Replace an earlier demo; a folder that holds anything else is never replaced.

    Returns
    -------
    list of str
        What lies where, a line each.

    Raises
    ------
    ModelUnusable, OutputExists, OutputFailed
        Nothing is written.
    """
    check_path(folder, overwrite=overwrite, folder=True)
    _refuse_foreign(folder)
    loaded = Loaded.of(Translator.load(bundle or None))
    with whole_folder(folder, overwrite=overwrite) as temporary:
        lines = []
        for name, image, what in (
            (VOLUME, Phantom().volume(), "head phantom in HU"),
            (PICTURE, Phantom().picture(), "one slice as a picture"),
        ):
            source = write(image, temporary / name)
            job = _convert(source, loaded)
            lines.append(f"{folder / name}: {what}")
            lines.append(f"{folder / job.output.name}: the same as synthetic MRI")
            if job.preview:
                lines.append(f"{folder / job.preview.name}: both side by side")
    return lines


def _convert(source: Path, loaded: Loaded) -> Job:
    request = Request(to="mri", modality="CT", force=True)  # a phantom need not look like a head
    (job,) = place(find(source), request, alone=True).jobs
    convert_scan(job, loaded, request, Trace(), lambda done, of: None)
    return job


def _refuse_foreign(folder: Path) -> None:
    """Keep --overwrite from removing what no demo wrote."""
    if not folder.is_dir():
        return
    foreign = [one.name for one in folder.iterdir() if not one.name.startswith("head-ct")]
    if foreign:
        fault = f"holds {foreign[0]}, which no demo wrote"
        raise OutputExists(fault, path=folder, remedy="choose another folder")
