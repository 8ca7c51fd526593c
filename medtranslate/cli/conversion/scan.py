"""One scan from file to file: read, settle what it is, translate, write, show."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from monai.data import MetaTensor

from medtranslate.assurance.preview import Panel, panels, save_preview
from medtranslate.cli.conversion.outputs import FOLDERS, Job
from medtranslate.cli.conversion.request import Request
from medtranslate.errors import OutputFailed, Unsupported, WrongModality
from medtranslate.imaging import read, write
from medtranslate.imaging.dicom import adopt_template, regrid, repairs, untilt, write_series
from medtranslate.imaging.picture import write_stack
from medtranslate.translation import Translator
from medtranslate.translation.translator import Progress


@dataclass
class Clock:
    """Seconds by stage, kept also of a conversion that fails."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the time that the block takes to a stage."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start


@dataclass(frozen=True)
class Converted:
    """What is known of a scan that was converted.

    Parameters
    ----------
    source, synthesis : mapping
        ``meta["source"]`` and ``meta["synthesis"]`` of the result.
    panels : tuple of Panel
        Source beside result.
    """

    source: Mapping[str, Any]
    synthesis: Mapping[str, Any]
    panels: tuple[Panel, ...]


def convert_scan(
    job: Job,
    translator: Translator,
    request: Request,
    clock: Clock,
    progress: Progress,
    voted: tuple[str, str] = ("", ""),
) -> Converted:
    """Convert one scan; the result is whole or absent.

    Parameters
    ----------
    job : Job
        Where from and where to.
    translator : Translator
        The model.
    request : Request
        What was asked for.
    clock : Clock
        Takes the time.
    progress : function
        Called with the slices done and the slices in all.
    voted : (modality, basis)
        What the folder of a picture was found to show.

    Raises
    ------
    MedTranslateError
        The file and the fault are in the message.
    """
    with clock.stage("read"):
        image = _read(job, request, voted)
    with clock.stage("translate"):
        result = translator.translate(image, to=request.to, progress=progress)
    with clock.stage("write"), _made(job.home and job.output.parent):
        _write(result, job, request)
    shown: tuple[Panel, ...] = ()
    if request.preview:
        with clock.stage("preview"):
            shown = panels(image, result)
            if job.preview is not None:
                label = str(result.meta["synthesis"]["label"])
                save_preview(shown, job.preview, label, overwrite=request.overwrite)
    source = dict(result.meta["source"])
    if job.format == "dicom":
        source["faults"] = [*source["faults"], *_repairs(result, request)]
    return Converted(source, result.meta["synthesis"], shown)


def _repairs(result: MetaTensor, request: Request) -> list[str]:
    """Say what the derived series adds to or mends of the attributes that it carries on."""
    placed = adopt_template(result, request.template) if request.template else result
    return [f"In the result: {note}" for note in repairs(placed)]


def _read(job: Job, request: Request, voted: tuple[str, str]) -> MetaTensor:
    """Read a scan as it will be translated; refuse here what could not be written."""
    image = read(job.item.path, series=job.item.series)
    _settle_modality(image.meta["source"], job.item.path, request, voted)
    if request.untilt:
        image = untilt(image)
    if request.regrid:
        image = regrid(image)
    if not image.meta["source"]["even"] and job.format != "dicom":
        raise Unsupported(
            f"its slices are not evenly spaced, which {job.format} cannot say",
            path=job.item.path,
            remedy="write --format dicom, or an even grid with --regrid",
        )
    if request.template:
        adopt_template(image, request.template)  # refuses now what `write_series` would then
    return image


def _settle_modality(
    source: dict[str, Any], path: Path, request: Request, voted: tuple[str, str]
) -> None:
    """Decide in a source record what the scan is: header, user, folder, guess."""
    found, basis = source["modality"], source["modality_basis"]
    stated = bool(found) and not basis.startswith("guess")
    if request.modality:
        if stated and found != request.modality:
            fault = f"{basis} says {found}, --from says {request.modality}"
            if not request.force:
                remedy = "--force believes --from"
                raise WrongModality(fault, path=path, remedy=remedy)
            source["faults"] = [*source["faults"], f"{fault}, which is believed (--force)"]
        source |= {"modality": request.modality, "modality_basis": "given"}
    elif voted[0] and not stated:
        if found not in ("", voted[0]):
            fault = f"looks like {found} among pictures that look like {voted[0]} ({basis})"
            raise WrongModality(fault, path=path, remedy="say which: --from ct or --from mri")
        source |= {"modality": voted[0], "modality_basis": voted[1]}


def _write(result: MetaTensor, job: Job, request: Request) -> None:
    if job.format == "dicom":
        write_series(
            result,
            job.output,
            overwrite=request.overwrite,
            template=request.template or None,
            uid_seed=request.uid_seed,
            keep_private=request.keep_private,
        )
    elif job.format in FOLDERS:
        write_stack(result, job.output, overwrite=request.overwrite)
    else:
        write(result, job.output, overwrite=request.overwrite)


@contextmanager
def _made(folder: Path | None) -> Iterator[None]:
    """Make a folder of results if it is missing; take it away again if the block fails."""
    if folder is None:
        yield
        return
    missing = [one for one in (folder, *folder.parents) if not one.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputFailed(f"cannot be made: {error.strerror}", path=folder) from error
    try:
        yield
    except BaseException:
        for one in missing:
            if not any(one.iterdir()):
                one.rmdir()
        raise
