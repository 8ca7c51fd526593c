"""What a conversion leaves: the result, its maps, its preview; each whole or absent."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from monai.data import MetaTensor

from medtranslate.conversion.options import Request
from medtranslate.conversion.outputs import FOLDERS, Job
from medtranslate.errors import OutputFailed
from medtranslate.imaging import write
from medtranslate.imaging.dicom import adopt_template, repairs, write_series
from medtranslate.imaging.image2d import write_stack


def write_result(result: MetaTensor, job: Job, request: Request) -> None:
    """Write a result in the format that was asked for."""
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


def mended(result: MetaTensor, request: Request) -> list[str]:
    """Say what the derived series adds to or mends of the attributes that it carries on."""
    placed = adopt_template(result, request.template) if request.template else result
    return [f"In the result: {note}" for note in repairs(placed)]


@contextmanager
def folder_made(folder: Path | None) -> Iterator[None]:
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
