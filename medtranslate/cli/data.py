"""``medtranslate data``: look at scans before training, and prepare them to carry elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medtranslate.cli import options
from medtranslate.cli.endings import say
from medtranslate.modality import CONTRASTS
from medtranslate.text import as_json

if TYPE_CHECKING:
    from medtranslate.training.data_check import Findings
    from medtranslate.training.prepared import PreparedSet

data = typer.Typer(no_args_is_help=True, help="Check folders of scans, and prepare them once.")

Folder = Annotated[
    Path, typer.Argument(metavar="FOLDER", help="Folder of scans, or a file of prepared slices.")
]
Pairs = Annotated[
    Path,
    typer.Argument(
        metavar="FOLDER", help="Registered scans: equal names in its folders ct and mri."
    ),
]
ModalityOption = Annotated[
    str, options.modality("--modality", "-m", help="Modality of the scans: ct or mri.")
]
Include = Annotated[
    list[Path] | None, typer.Option(metavar="FILE", help="List of the files to take; repeatable.")
]
Recipes = Annotated[
    Path | None, typer.Option(metavar="FOLDER", help="Recipes to use instead of the shipped ones.")
]
Cache = Annotated[Path | None, typer.Option(metavar="FOLDER", help="Folder for prepared slices.")]
Workers = Annotated[int, typer.Option(help="Processes that prepare scans.", min=0)]
Against = Annotated[
    Path | None,
    typer.Option(
        metavar="FOLDER", help="Folder of the same modality (a test set) to find shared images in."
    ),
]
ListOut = Annotated[
    Path | None,
    typer.Option("--list", metavar="FILE", help="Write the clean scans' names, for --include."),
]
Report = Annotated[
    Path | None, typer.Option("--report", metavar="FILE", help="Write all findings as JSON.")
]
Output = Annotated[Path, options.output("The .safetensors file to write.", "FILE")]
Labels = Annotated[
    Path, typer.Argument(metavar="LABELS", help="Label map of a whole head, or a folder of them.")
]
LabelFile = Annotated[Path, options.output("The .npz file to write.", "FILE")]
RenderedPairs = Annotated[Path, options.output("Folder to write.", "FOLDER")]
Count = Annotated[int, typer.Option("--count", "-n", min=1, help="How many pairs.")]
Seed = Annotated[int, typer.Option(min=0, help="The same seed renders the same pairs.")]
_CONTRASTS = {**{name: name.upper() for name in CONTRASTS}, "random": "random"}
Contrast = Annotated[
    str | None,
    options.choice(
        tuple(_CONTRASTS), "--contrast", help="Contrast of the MR; drawn for each by default."
    ),
]
Force = Annotated[
    bool, typer.Option("--force", help="Take modality and units as given, whatever they look like.")
]


@data.command()
def check(
    folder: Folder,
    modality: ModalityOption,
    include: Include = None,
    against: Against = None,
    list_out: ListOut = None,
    report: Report = None,
    overwrite: options.Overwrite = False,
    recipes: Recipes = None,
    cache: Cache = None,
    workers: Workers = 2,
) -> None:
    """Find unreadable scans, the wrong modality and near copies before a day is lost on them."""
    from medtranslate.files import whole_file
    from medtranslate.training.data_check import check as look

    def slices(source: Path, lists: list[Path] | None) -> PreparedSet:
        return _slices(source, modality, lists, recipes, cache, workers, trusted=True)

    others = None if against is None else slices(against, None)
    findings = look(slices(folder, include), others)
    _show(findings)
    if list_out is not None:
        findings.write_list(list_out, overwrite=overwrite)
    if report is not None:
        with whole_file(report, overwrite=overwrite) as temporary:
            temporary.write_text(as_json(findings.as_dict()), encoding="utf-8")


@data.command()
def prepare(
    folder: Folder,
    modality: ModalityOption,
    output: Output,
    include: Include = None,
    recipes: Recipes = None,
    cache: Cache = None,
    workers: Workers = 2,
    overwrite: options.Overwrite = False,
    force: Force = False,
) -> None:
    """Prepare a folder into one file that train takes in its place, on any machine."""
    _check_output(output, overwrite=overwrite)
    prepared = _slices(folder, modality, include, recipes, cache, workers, trusted=force)
    prepared.save(output)
    say(f"{len(prepared.records)} scans, {len(prepared)} slices: {output}")
    if prepared.left_out:
        first = prepared.left_out[0]
        say(f"{len(prepared.left_out)} left out, such as {first.name}: {first.reason}")


@data.command()
def labels(labels: Labels, output: LabelFile, overwrite: options.Overwrite = False) -> None:
    """Read label maps into one file that train --labels takes in their place, on any machine."""
    from medtranslate.cli.progress import ProgressDisplay
    from medtranslate.errors import OutputFailed
    from medtranslate.files import check_target
    from medtranslate.label_synthesis import LabelMaps
    from medtranslate.label_synthesis.maps import FILE_SUFFIX

    if output.suffix != FILE_SUFFIX:
        raise OutputFailed(f"label maps go into a {FILE_SUFFIX} file", path=output)
    check_target(output, overwrite)
    with ProgressDisplay() as display:
        maps = LabelMaps.read(labels, progress=display.counter("reading label maps"))
    maps.save(output, overwrite=overwrite)
    say(f"label maps: {len(maps)}, {output}")


@data.command()
def pair(
    folder: Pairs,
    output: Output,
    recipes: Recipes = None,
    cache: Cache = None,
    overwrite: options.Overwrite = False,
) -> None:
    """Prepare registered pairs into one file that train --paired takes, on any machine."""
    from medtranslate.cli.progress import ProgressDisplay
    from medtranslate.training.pairs import prepare_pairs
    from medtranslate.training.preparation import RecipeBook, default_cache

    _check_output(output, overwrite=overwrite)
    with ProgressDisplay() as display:
        progress = display.counter("preparing pairs")
        pairs = prepare_pairs(folder, RecipeBook.read(recipes), cache or default_cache(), progress)
    pairs.save(output)
    say(f"{len(pairs.ct.records)} pairs of scans, {len(pairs)} slices: {output}")


def _check_output(output: Path, *, overwrite: bool) -> None:
    from medtranslate.errors import OutputExists, OutputFailed
    from medtranslate.training.prepared import SUFFIX

    if output.suffix != SUFFIX:
        raise OutputFailed(f"its name must end in {SUFFIX}", path=output)
    if output.exists() and not overwrite:
        raise OutputExists("exists already", path=output, remedy="--overwrite")


@data.command()
def render(
    labels: Labels,
    output: RenderedPairs,
    count: Count = 24,
    seed: Seed = 0,
    contrast: Contrast = None,
    overwrite: options.Overwrite = False,
) -> None:
    """Render pairs of CT and MR from label maps of whole heads, to look at."""
    from medtranslate.label_synthesis import render_pairs

    wanted = _CONTRASTS[contrast] if contrast else None
    render_pairs(labels, output, count, seed, contrast=wanted, overwrite=overwrite)
    say(f"{count} pairs: {output}")


def _slices(
    folder: Path,
    modality: str,
    include: list[Path] | None,
    recipes: Path | None,
    cache: Path | None,
    workers: int,
    *,
    trusted: bool,
) -> PreparedSet:

    from medtranslate.cli.progress import ProgressDisplay
    from medtranslate.imaging.scans import FileList
    from medtranslate.modality import Modality
    from medtranslate.training.preparation import Preparation, RecipeBook, default_cache

    wanted = FileList.read(include or ())
    with ProgressDisplay() as display:
        progress = display.counter("preparing scans")
        preparation = Preparation(
            RecipeBook.read(recipes), cache or default_cache(), workers, trusted, progress
        )
        return preparation.slices(folder, Modality.parse(modality).value, wanted)


def _show(findings: Findings) -> None:
    prepared = findings.prepared
    empty = sum(record.empty for record in prepared.records)
    say(f"{prepared.modality}: {len(prepared.records)} scans, {len(prepared)} slices to train on")
    if empty:
        say(f"{empty} empty slices left out")
    for reason, count in findings.reasons.most_common():
        first = next(each.name for each in prepared.left_out if each.reason == reason)
        say(f"{count} left out, such as {first}: {reason}")
    if prepared.doubtful:
        shown = ", ".join(prepared.doubtful[:3])
        say(f"{len(prepared.doubtful)} look like the other modality, such as {shown}")
    if foreign := prepared.foreign_units:
        say(f"{len(foreign)} not in HU, such as {foreign[0].name}: {foreign[0].reason}")
    if findings.copies:
        repeats = sum(len(group) - 1 for group in findings.copies)
        shown = ", ".join(findings.copies[0][:3])
        say(f"{repeats} near copies in {len(findings.copies)} groups, such as {shown}")
    if findings.shared:
        name, copy = next(iter(findings.shared.items()))
        say(f"{len(findings.shared)} shared with the other folder, such as {name} and {copy}")
    say(f"{len(findings.clean)} scans are clean")
