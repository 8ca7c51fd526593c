"""Option types that commands share, so that an option is spelled and explained alike everywhere.

Names of choices are accepted in any case, with the usual other spellings: ``--to MR``,
``--precision bfloat16``. Nothing heavy is imported here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any

import typer

from medtranslate.device import ALIASES, check_device_name
from medtranslate.device import Precision as Precisions
from medtranslate.modality import CONTRASTS, TARGETS, Modality

PRECISIONS = tuple(precision.value for precision in Precisions)


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
        help="Contrast of the MRI to make, where the model has several; by default its first.",
    ),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace results that exist.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")]
Verbose = Annotated[
    bool, typer.Option("--verbose", "-v", help="Print every note, and a traceback with an error.")
]
