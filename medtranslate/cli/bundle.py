"""``medtranslate bundle``: describe, verify, export and import models."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medtranslate.cli import options as shared
from medtranslate.cli.endings import say

bundle = typer.Typer(no_args_is_help=True, help="Describe, verify, export and import bundles.")

Folder = Annotated[
    Path | None,
    typer.Argument(
        metavar="BUNDLE",
        parser=shared.given_path,
        help="Folder of the bundle; by default the shipped one.",
    ),
]
Existing = Annotated[
    Path,
    typer.Argument(metavar="BUNDLE", parser=shared.given_path, help="Folder of the bundle."),
]
NewBundle = Annotated[Path, shared.output("Folder to write.", metavar="BUNDLE")]
Name = Annotated[str, typer.Option("--name", help="Name of the model; by default unchanged.")]
Version = Annotated[
    str, typer.Option("--model-version", help="Version of the model; by default unchanged.")
]
TrustCode = Annotated[
    bool,
    typer.Option(
        "--trust-code",
        help="Also run its inference.yaml through MONAI, which executes code that it names.",
    ),
]
Source = Annotated[
    Path,
    typer.Argument(
        metavar="SOURCE", parser=shared.given_path, help="A run, a checkpoint or another bundle."
    ),
]
Weights = Annotated[
    Path | None,
    typer.Option(
        "--weights", metavar="SOURCE", help="Run, checkpoint or bundle to take weights from."
    ),
]
Note = Annotated[str, typer.Option("--note", help="Entry of the version in the changelog.")]
License = Annotated[
    Path | None, typer.Option("--license", metavar="FILE", help="License of the weights.")
]
ModelZoo = Annotated[bool, typer.Option("--model-zoo", help="Use the layout of MONAI's Model Zoo.")]
Serves = Annotated[
    str | None,
    shared.modality("--to", help="Modality that its configs make; by default that of the source."),
]


@bundle.command()
def info(folder: Folder = None, verbose: shared.Verbose = False) -> None:
    """Describe a bundle: networks, weights, recipes, training, license."""
    from medtranslate.bundle import Bundle
    from medtranslate.packaging.describe import describe

    for name, value in describe(Bundle.load(folder)):
        say(f"{name:<18}{value}")


@bundle.command()
def verify(
    folder: Folder = None, trust_code: TrustCode = False, verbose: shared.Verbose = False
) -> None:
    """Verify that a bundle is complete and gives the same results as when it was made.

    Ends with exit code 10 if it is not. No code of the bundle is run unless --trust-code is given.
    """
    from medtranslate.bundle import default_bundle
    from medtranslate.errors import ModelUnusable
    from medtranslate.packaging.verify import verify as checks

    checked = folder or default_bundle()
    faults = 0
    for check in checks(checked, trust_code=trust_code):
        say(f"{check.result:<13}{check.name}: {check.detail}")
        faults += check.result == "fault"
    if faults:
        raise ModelUnusable(f"{faults} of its checks failed", path=checked)


@bundle.command()
def export(
    source: Source,
    output: NewBundle,
    name: Name = "",
    version: Version = "",
    to: Serves = None,
    license: License = None,
    model_zoo: ModelZoo = False,
    verbose: shared.Verbose = False,
) -> None:
    """Write a self-contained bundle from a run, one of its checkpoints or another bundle."""
    from medtranslate.packaging.export import ExportOptions, export_bundle

    options = ExportOptions(name, version, to or "", license, model_zoo)
    large = export_bundle(source, output, options)
    say(f"{output}: written")
    if model_zoo:
        for path in large:
            say(f"note: {path} is over 25 MB: the Zoo wants a link in large_files.yml")


@bundle.command()
def refresh(
    folder: Existing,
    weights: Weights = None,
    version: Version = "",
    note: Note = "",
    verbose: shared.Verbose = False,
) -> None:
    """Regenerate files of a bundle: hashes, metadata, workflows, reference.

    With --weights also its weights, recipes and training facts. Its card, its license and the
    texts in configs/metadata.json stay; figures of an evaluation are removed with their weights.
    """
    from medtranslate.packaging.export import refresh_bundle

    for gone in refresh_bundle(folder, weights, version=version, note=note):
        say(f"removed: {gone}")
    say(f"{folder}: regenerated")


CtToMri = Annotated[
    Path | None,
    typer.Option("--ct-to-mri", metavar="FILE", help="Generator that makes MRI."),
]
MriToCt = Annotated[
    Path | None,
    typer.Option("--mri-to-ct", metavar="FILE", help="Generator that makes CT."),
]
ForeignRecipes = Annotated[
    Path | None,
    typer.Option(
        "--recipes",
        metavar="FOLDER",
        help="Recipes; by default those of whole 2D images and usual volumes.",
    ),
]


@bundle.command()
def import_cyclegan(
    output: NewBundle,
    ct_to_mri: CtToMri = None,
    mri_to_ct: MriToCt = None,
    name: Name = "",
    version: Version = "1.0.0",
    recipes: ForeignRecipes = None,
    verbose: shared.Verbose = False,
) -> None:
    """Make a bundle from generators trained with junyanz/pytorch-CycleGAN-and-pix2pix.

    That program calls them latest_net_G_A.pth, which makes B from A, and latest_net_G_B.pth. If its
    folder A held CT, --ct-to-mri is latest_net_G_A.pth.
    """
    given = {"mri": ct_to_mri, "ct": mri_to_ct}
    files = {to: file for to, file in given.items() if file is not None}
    if not files:
        raise typer.BadParameter("give --ct-to-mri FILE, --mri-to-ct FILE or both")

    from medtranslate.packaging.cyclegan_import import import_cyclegan as make
    from medtranslate.packaging.cyclegan_import import recipes_in
    from medtranslate.packaging.reference import write_reference

    own = None if recipes is None else recipes_in(recipes)
    make(files, output, name=name, version=version, recipes=own, finish=write_reference)
    say(f"{output}: makes {' and '.join(files)}")


Labels = Annotated[
    Path,
    typer.Argument(
        metavar="LABELS",
        help="Label maps of whole heads: a folder, or a file of `medtranslate data labels`.",
    ),
]
Paired = Annotated[
    Path | None,
    typer.Option(
        "--paired",
        metavar="FOLDER",
        help="Registered scans: equal names in its folders ct and mri, or a file of data pair.",
    ),
]
Contrasts = Annotated[
    Path | None,
    typer.Option(
        "--contrasts", metavar="FILE", help="Contrasts of the paired MR, a NAME,CONTRAST a line."
    ),
]
Slices = Annotated[
    int, typer.Option(min=8, help="Rendered slices to fit to, for each direction of the model.")
]
Seed = Annotated[int, typer.Option(min=0, help="The same seed gives the same networks.")]


@bundle.command()
def fit_expected_error(
    folder: Existing,
    labels: Labels,
    paired: Paired = None,
    contrasts: Contrasts = None,
    slices: Slices = 600,
    seed: Seed = 0,
    device: shared.Device = "auto",
    quiet: shared.Quiet = False,
    verbose: shared.Verbose = False,
) -> None:
    """Fit the networks that predict the error of a bundle's results, and store them in it.

    Pairs of CT and MRI are rendered from the label maps and translated; the networks learn how far
    each place lies from the truth. Registered scans, where there are any, teach them what real
    errors are like. One map in ten is held out to measure on, and one pair in ten. The default
    takes about half an hour on one core.
    """
    from medtranslate.cli.progress import ProgressDisplay
    from medtranslate.label_synthesis import LabelMaps
    from medtranslate.packaging.fit_error import FitSettings, fit_bundle, registered_pairs
    from medtranslate.training.preparation import default_cache

    if contrasts is not None and paired is None:
        raise typer.BadParameter("--contrasts are those of --paired scans")

    with ProgressDisplay(quiet=quiet) as display:
        reading = display.counter("reading label maps")
        maps = LabelMaps.read(labels, cache=default_cache(), progress=reading)
        pairs = None
        if paired is not None:
            preparing = display.counter("preparing pairs")
            pairs = registered_pairs(folder, paired, contrasts, default_cache(), preparing)
        found = fit_bundle(
            folder,
            maps,
            FitSettings(slices=slices),
            paired=pairs,
            seed=seed,
            device=device,
            progress=display.step,
        )
    for to, figures in found.items():
        for kind, one in figures.items():
            text = f"rank correlation {one.spearman:.2f}, AUROC of the worst tenth {one.auroc:.2f}"
            say(f"error to {to}: {text}, in {kind} slices that were held out", quiet=quiet)
    say(f"{folder}: carries them now", quiet=quiet)


To = Annotated[str, shared.modality("--to", help="Generator to export, by what it makes.")]
NetworkFile = Annotated[
    Path,
    typer.Option(
        "--output",
        "-o",
        metavar="FILE",
        help="A .ts, .pt2 (torch.export) or .onnx file.",
    ),
]


@bundle.command()
def export_network(
    to: To,
    output: NetworkFile,
    folder: Folder = None,
    contrast: shared.Contrast = None,
    overwrite: shared.Overwrite = False,
    verbose: shared.Verbose = False,
) -> None:
    """Write one generator as TorchScript, torch.export or ONNX, and how far the results differ.

    The network takes and gives slices, (batch, 1, 256, 256) in [-1, 1], float32. The file runs
    without medtranslate; the recipes that prepare a scan are described in its metadata.
    """
    from medtranslate.bundle import Bundle
    from medtranslate.packaging.formats import export_network as write

    loaded = Bundle.load(folder)
    found = write(loaded, to, output, overwrite=overwrite, contrast=contrast or "")
    say(
        f"{output}: differs by at most {found.largest:.4f}, on average {found.mean:.5f} of 255 "
        f"gray levels from float32, over {found.slices} slices of a synthetic head phantom"
    )
