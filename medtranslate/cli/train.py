"""``medtranslate train``: two folders of unpaired scans to a bundle."""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from medtranslate.device import Precision

if TYPE_CHECKING:
    from medtranslate.training import Outcome


class Network(StrEnum):
    """The generators by name."""

    RESNET9 = "resnet9"
    UNET256 = "unet256"
    COMPACT = "compact"


class Which(StrEnum):
    """Generators, by what they make."""

    BOTH = "both"
    MRI = "mri"
    CT = "ct"


class Adversarial(StrEnum):
    """The forms of equation 1."""

    LEAST_SQUARES = "least-squares"
    LOG = "log"


class Layout(StrEnum):
    """How pictures lie in memory."""

    AUTO = "auto"
    CONTIGUOUS = "contiguous"
    CHANNELS_LAST = "channels-last"


def _option(help: str, *names: str, **more: Any) -> Any:
    return typer.Option(*names, help=help, **more)


Ct = Annotated[Path, typer.Argument(help="Folder of CT scans, or slices prepared earlier.")]
Mri = Annotated[Path, typer.Argument(help="Folder of MR scans, or slices prepared earlier.")]
Output = Annotated[Path, typer.Option("--output", "-o", help="Folder for the run and its bundle.")]

Include = Annotated[
    list[Path] | None, _option("List of the files to take; may be given several times.")
]
Validate = Annotated[
    list[Path] | None,
    _option("List of files to keep out of training and to choose the best weights by (KID)."),
]
Recipes = Annotated[Path | None, _option("Folder of recipes, instead of the shipped ones.")]
Cache = Annotated[Path | None, _option("Folder for prepared slices.")]
Workers = Annotated[int, _option("Processes that prepare scans.", min=0)]
Force = Annotated[bool, _option("Take the folders' modalities as given.", "--force")]
Weights = Annotated[
    Path | None, _option("File of Inception weights for KID, instead of finding them.")
]

NetworkOption = Annotated[Network, _option("The generator.")]
Width = Annotated[
    int | None, _option("Channels of the generator; its own number where left out.", min=8)
]
Blocks = Annotated[
    int | None, _option("Residual blocks; the generator's own number if left out.", min=1)
]
DiscriminatorWidth = Annotated[int, _option("Channels of the PatchGAN.", min=1)]
Average = Annotated[float, _option("Decay of the generators' moving average; 0: none.")]
InitFrom = Annotated[Path | None, _option("Bundle, run or checkpoint to start the weights from.")]
Name = Annotated[str, _option("Name of the bundle.")]

Epochs = Annotated[int, _option("The second half decays to zero.", min=1)]
StepsPerEpoch = Annotated[int, _option("0: once through the larger set.", min=0)]
BatchSize = Annotated[int, _option("Pairs a step and process.", min=1)]
Rate = Annotated[float, _option("Learning rate of the generators.")]
DiscriminatorRate = Annotated[float, _option("Learning rate of the discriminators.")]
AdversarialOption = Annotated[Adversarial, _option("Form of the adversarial loss.")]
Cycle = Annotated[float, _option("Weight of the cycle loss (lambda).")]
CycleOfMri = Annotated[float, _option("Weight of an MRI's way back, as a share of lambda.")]
Identity = Annotated[float, _option("Identity loss as a share of lambda; 0: none.")]
IdentityOf = Annotated[Which, _option("Generators that the identity loss is of.")]
Learns = Annotated[
    Which, _option("Generators that learn; the other stays as --init-from gives it.")
]
Hold = Annotated[
    float, _option("Weight of staying close to what --init-from makes, seen coarsely; 0: free.")
]
HoldOf = Annotated[Which, _option("Generators that are held.")]
Pool = Annotated[int, _option("Earlier fakes kept for each discriminator.", min=0)]
HidingNoise = Annotated[
    float, _option("Noise on fakes before the way back, against hidden sources.")
]
Seed = Annotated[int, _option("Of every random choice.")]

Flip = Annotated[bool, _option("Mirror left and right, half of the time.")]
Size = Annotated[float, _option("Larger or smaller by up to this share.")]
Rotation = Annotated[float, _option("Turned by up to so many degrees.")]
Shift = Annotated[float, _option("Shifted by up to so many pixels.")]
Crop = Annotated[
    str | None, _option("Rows x columns round the head, such as 224x192; all if left out.")
]
Reduce = Annotated[int, _option("Average so many pixels a side into one.", min=1)]
WholeEpochs = Annotated[
    int, _option("Last epochs, on whole frames whatever --crop and --reduce say.", min=0)
]

Resume = Annotated[bool, _option("Go on with the run in the output folder, exactly.", "--resume")]
MaxMinutes = Annotated[float | None, _option("Stop cleanly after so long.")]
CheckpointMinutes = Annotated[float, _option("Between checkpoints.")]
RecordSteps = Annotated[int, _option("Steps that a row of losses.csv is of.", min=1)]
PictureSteps = Annotated[int, _option("Steps between picture grids; 0: none.", min=0)]
ValidateEpochs = Annotated[int, _option("Epochs between validations.", min=1)]

Device = Annotated[str, _option("Such as cpu or cuda:0; the best one where left out.")]
PrecisionOption = Annotated[Precision, _option("auto takes bf16 where the processor has it.")]
LayoutOption = Annotated[Layout, _option("auto takes channels-last on a GPU.")]
Compile = Annotated[bool, _option("Compile the networks first.", "--compile")]
CudaGraph = Annotated[bool, _option("Run a step as one CUDA graph.", "--cuda-graph")]


def train(
    ct: Ct,
    mri: Mri,
    output: Output,
    include: Include = None,
    validate: Validate = None,
    recipes: Recipes = None,
    cache: Cache = None,
    workers: Workers = 2,
    force: Force = False,
    inception_weights: Weights = None,
    network: NetworkOption = Network.RESNET9,
    width: Width = None,
    blocks: Blocks = None,
    discriminator_width: DiscriminatorWidth = 64,
    average: Average = 0.999,
    init_from: InitFrom = None,
    name: Name = "trained",
    epochs: Epochs = 200,
    steps_per_epoch: StepsPerEpoch = 0,
    batch_size: BatchSize = 1,
    rate: Rate = 2e-4,
    discriminator_rate: DiscriminatorRate = 2e-4,
    adversarial: AdversarialOption = Adversarial.LEAST_SQUARES,
    cycle: Cycle = 10.0,
    cycle_of_mri: CycleOfMri = 1.0,
    identity: Identity = 0.5,
    identity_of: IdentityOf = Which.BOTH,
    learns: Learns = Which.BOTH,
    hold: Hold = 0.0,
    hold_of: HoldOf = Which.BOTH,
    pool: Pool = 50,
    hiding_noise: HidingNoise = 0.0,
    seed: Seed = 0,
    flip: Flip = True,
    size: Size = 0.10,
    rotation: Rotation = 0.0,
    shift: Shift = 8.0,
    crop: Crop = None,
    reduce: Reduce = 1,
    whole_epochs: WholeEpochs = 0,
    resume: Resume = False,
    max_minutes: MaxMinutes = None,
    checkpoint_minutes: CheckpointMinutes = 5.0,
    record_steps: RecordSteps = 50,
    picture_steps: PictureSteps = 1000,
    validate_epochs: ValidateEpochs = 1,
    device: Device = "auto",
    precision: PrecisionOption = Precision.AUTO,
    layout: LayoutOption = Layout.AUTO,
    compile: Compile = False,
    cuda_graph: CudaGraph = False,
) -> None:
    """Learn CT to MRI and MRI to CT from two folders of unpaired scans.

    The defaults are the CycleGAN paper's recipe. The run's folder holds checkpoints, losses.csv,
    TensorBoard's logs, pictures, run.html and at the end the bundle that convert takes. Stopped
    by a signal or --max-minutes, it saves and leaves: the same command with --resume goes on
    exactly. Under torchrun it uses all processes.
    """
    from rich.console import Console

    from medtranslate.evaluation import KidScore
    from medtranslate.packaging import RunPackager
    from medtranslate.training import Cadence, Settings, Training
    from medtranslate.training.handlers import Preparing, ProgressBar

    arguments = {"width": width, "blocks": blocks}
    settings = Settings(
        network=network.value,
        network_arguments={key: n for key, n in arguments.items() if n is not None},
        discriminator_width=discriminator_width,
        epochs=epochs,
        steps_per_epoch=steps_per_epoch,
        batch_size=batch_size,
        rate=rate,
        discriminator_rate=discriminator_rate,
        adversarial=adversarial.value,
        cycle=cycle,
        cycle_of_mri=cycle_of_mri,
        identity=identity,
        identity_of=identity_of.value,
        learns=learns.value,
        hold=hold,
        hold_of=hold_of.value,
        pool=pool,
        hiding_noise=hiding_noise,
        average=average,
        flip=flip,
        size=size,
        rotation=rotation,
        shift=shift,
        crop=_rows_and_columns(crop),
        reduce=reduce,
        whole_epochs=whole_epochs,
        precision=precision.value,
        layout=layout.value,
        compile=compile,
        cuda_graph=cuda_graph,
        seed=seed,
    )
    # Of the processes that torchrun starts, the first speaks.
    quiet = os.environ.get("RANK", "0") != "0"
    console = Console(stderr=True, quiet=quiet)
    with Preparing(console) as preparing:
        outcome = Training(
            ct=ct,
            mri=mri,
            output=output,
            settings=settings,
            include=include or (),
            validate=validate or (),
            recipes=recipes,
            cache=cache,
            device=device,
            workers=workers,
            resume=resume,
            init_from=init_from,
            max_minutes=max_minutes,
            trusted=force,
            cadence=Cadence(record_steps, picture_steps, validate_epochs, checkpoint_minutes),
            score=KidScore.find(inception_weights, device=device) if validate else None,
            handlers=[ProgressBar(console)],
            preparing=preparing,
            on_finished=RunPackager(name),
        ).run()
    _say(outcome, Console(quiet=quiet))


def _rows_and_columns(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    rows, cross, columns = text.partition("x")
    if not (cross and rows.isdigit() and columns.isdigit()):
        raise typer.BadParameter(f"{text!r} is not rows x columns, such as 224x192")
    return int(rows), int(columns)


def _say(outcome: Outcome, console: Any) -> None:
    if outcome.finished:
        line = f"finished after {outcome.step} steps: {outcome.folder / 'bundle'}"
    else:
        line = (
            f"stopped at step {outcome.step} of {outcome.steps} ({outcome.stopped}); "
            "the same command with --resume goes on"
        )
    console.print(line, highlight=False, soft_wrap=True)
