"""A scan from its file, settled in what it is; what could not be written is refused here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from monai.data import MetaTensor

from medtranslate.conversion.options import Request
from medtranslate.conversion.outputs import Job
from medtranslate.errors import Unsupported, WrongModality
from medtranslate.imaging import read
from medtranslate.imaging.dicom import adopt_template, check_replaceable, regrid, untilt


def read_scan(job: Job, request: Request, voted: tuple[str, str]) -> MetaTensor:
    """Read a scan as it will be translated.

    Parameters
    ----------
    job : Job
        Where from and where to.
    request : Request
        What was asked for.
    voted : (modality, basis)
        What the folder of a picture was found to show.

    Raises
    ------
    WrongModality, Unsupported, OutputExists
        It is not what it is said to be, or its result or map could not be written.
    """
    image = read(job.item.path, series=job.item.series)
    _settle_modality(image.meta["source"], job.item.path, request, voted)
    if request.untilt:
        image = untilt(image)
    if request.regrid:
        image = regrid(image)
    if not image.meta["source"]["even"]:
        _check_even(job)
    if job.format == "dicom":
        _check_series(image, job, request)
    return image


def _check_series(image: MetaTensor, job: Job, request: Request) -> None:
    """Refuse now what `write_series` would refuse when all is done."""
    if request.template:
        image = adopt_template(image, request.template)
    check_replaceable(job.output, image.meta["source"]["files"])


def _check_even(job: Job) -> None:
    fault = "its slices are not evenly spaced, which {} cannot say"
    if job.format != "dicom":
        remedy = "write --format dicom, or an even grid with --regrid"
        raise Unsupported(fault.format(job.format), path=job.item.path, remedy=remedy)
    if job.maps:
        remedy = "leave out --map (the report has a figure a slice), or make a grid with --regrid"
        raise Unsupported(fault.format("a map"), path=job.item.path, remedy=remedy)


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
