"""Option types that commands share, so that an option is spelled and explained alike everywhere.

Names of choices are accepted in any case, with the usual other spellings: ``--to MR``,
``--precision bfloat16``. Nothing heavy is imported here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from medtranslate.device import ALIASES, check_device_name
from medtranslate.device import Engine as Engines
from medtranslate.device import Precision as Precisions
from medtranslate.files import FORMATS
from medtranslate.modality import CONTRASTS, TARGETS, Modality

if TYPE_CHECKING:
    from medtranslate.conversion import ConversionOptions

PRECISIONS = tuple(precision.value for precision in Precisions)
ENGINES = tuple(engine.value for engine in Engines)


def choice(
    known: Sequence[str],
    *names: str,
    help: str,
    aliases: Mapping[str, str] = MappingProxyType({}),
) -> Any:
    """Return an option that takes one of several names, in any case, and completes them.

    Parameters
    ----------
    known : sequence of str
        The names, in lower case.
    *names : str
        Of the option, such as ``"--to"``.
    help : str
        Help text.
    aliases : mapping of str to str
        Other spellings in lower case, and the name that each stands for.
    """

    def parse(text: str) -> str:
        name = aliases.get(text.lower(), text.lower())
        if name not in known:
            raise typer.BadParameter(f"{text!r} is not one of {', '.join(map(repr, known))}.")
        return name

    return typer.Option(
        *names,
        help=help,
        parser=parse,
        metavar=f"[{'|'.join(known)}]",
        autocompletion=_completion(known),
    )


def modality(*names: str, help: str) -> Any:
    """Return an option that takes ``ct`` or ``mri``."""
    return choice(TARGETS, *names, help=help, aliases={"mr": Modality.MR.target})


def output(help: str, metavar: str = "PATH") -> Any:
    """Return the option ``--output``/``-o``."""
    return typer.Option("--output", "-o", metavar=metavar, help=help)


def given(text: str) -> str:
    """Parse an input path: refuse an empty one, which would be the current folder."""
    if not text:
        raise typer.BadParameter("is empty; is a variable unset?")
    return text


def given_path(text: str) -> Path:
    """Parse an input path, as `given`."""
    return Path(given(text))


def _completion(known: Sequence[str]) -> Callable[[str], list[str]]:
    def complete(incomplete: str) -> list[str]:
        return [one for one in known if one.startswith(incomplete.lower())]

    return complete


Bundle = Annotated[
    str,
    typer.Option("--bundle", metavar="FOLDER", help="Model to use; by default the shipped one."),
]
Device = Annotated[
    str,
    typer.Option(
        "--device",
        metavar="DEVICE",
        parser=check_device_name,
        autocompletion=_completion(["auto", "cpu", "cuda"]),
        help="auto (a GPU if there is one), cpu, cuda, cuda:N or mps.",
    ),
]
Engine = Annotated[
    str,
    choice(
        ENGINES,
        "--engine",
        help="What computes the networks; openvino compiles them for the CPU (extra openvino).",
    ),
]
Precision = Annotated[
    str,
    choice(
        PRECISIONS,
        "--precision",
        help="Precision that the networks compute in.",
        aliases=ALIASES,
    ),
]
BatchSize = Annotated[
    int | None,
    typer.Option(
        "--batch-size", min=1, help="Slices per pass; by default 4 on a CPU, 32 on a GPU."
    ),
]
Threads = Annotated[
    int | None,
    typer.Option(
        "--threads", min=1, help="CPU threads of a process; by default one for each core."
    ),
]
Contrast = Annotated[
    str | None,
    choice(
        CONTRASTS,
        "--contrast",
        help="Contrast of the MRI, made (by default the model's first) or given.",
    ),
]
Grain = Annotated[
    float,
    typer.Option(
        "--grain",
        metavar="HU",
        help="Add noise of this standard deviation to a synthetic CT; real ones have about 4.",
    ),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace results that exist.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")]
Verbose = Annotated[
    bool, typer.Option("--verbose", "-v", help="Print every note, and a traceback with an error.")
]

# Of a conversion, beside those above.
To = Annotated[str, modality("--to", help="Modality to make.")]
From = Annotated[
    str | None,
    modality("--from", help="Modality of the source; by default its DICOM tag, or a guess."),
]
Format = Annotated[
    str | None,
    choice(
        FORMATS,
        "--format",
        "-f",
        help="Format of results; by default that of the source.",
    ),
]
Untilt = Annotated[bool, typer.Option("--untilt", help="Undo a gantry tilt, slice by slice.")]
Regrid = Annotated[
    bool, typer.Option("--regrid", help="Resample unevenly spaced DICOM slices to even steps.")
]
UidSeed = Annotated[
    str,
    typer.Option("--uid-seed", metavar="TEXT", help="Derive DICOM UIDs from TEXT: repeatable."),
]
KeepPrivate = Annotated[
    bool, typer.Option("--keep-private", help="Copy private DICOM attributes into results.")
]
Force = Annotated[
    bool,
    typer.Option(
        "--force", help="Believe --from over a header, and convert what the domain check refuses."
    ),
]
SkipExisting = Annotated[
    bool, typer.Option("--skip-existing", help="Leave out scans whose result exists.")
]
Part = Annotated[
    str,
    typer.Option(
        "--part", metavar="I/N", help="Convert part I of N of the scans: one call for each part."
    ),
]
Preview = Annotated[
    bool,
    typer.Option(
        "--preview/--no-preview", help="Write an image of source and result side by side."
    ),
]
Cycle = Annotated[
    bool,
    typer.Option("--cycle/--no-cycle", help="Translate back and measure the cycle error."),
]
Variation = Annotated[
    bool,
    typer.Option(
        "--variation",
        help="Translate mirrored and shifted too, and measure the variation; adds 2.5 conversions.",
    ),
]
Map = Annotated[
    bool, typer.Option("--map", help="Write the error maps as images beside the result.")
]


def conversion_options(given: Mapping[str, Any], **more: Any) -> ConversionOptions:
    """Return the options of a conversion that a command was given.

    Parameters
    ----------
    given : mapping
        The command's parameters; those that are named like an option of a conversion are taken,
        unless they are None, which leaves it at its default.
    **more
        Further options.
    """
    from medtranslate.conversion import ConversionOptions

    known = {one.name for one in fields(ConversionOptions)} - more.keys()
    taken = {name: value for name, value in given.items() if name in known and value is not None}
    return ConversionOptions(**taken, **more)
