"""A training run from scans to a checkpoint, for the command line and for MONAI bundles."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from medtranslate.device import (
    choose_device,
    choose_precision,
    keep_freed_memory,
    worth_compiling,
)
from medtranslate.errors import TrainingFailed
from medtranslate.files import whole_file
from medtranslate.imaging.scans import FileList
from medtranslate.label_synthesis import LabelMaps
from medtranslate.text import as_json
from medtranslate.training.checkpoints import Checkpoint, restore, start_from
from medtranslate.training.contrasts import ContrastList
from medtranslate.training.data import Data
from medtranslate.training.distributed import World, joined
from medtranslate.training.models import Models
from medtranslate.training.pairs import PreparedPairs, prepare_pairs
from medtranslate.training.preparation import Preparation, Progress, RecipeBook, default_cache
from medtranslate.training.prepared import PreparedSet
from medtranslate.training.rendered import RenderedSource, shown_slices
from medtranslate.training.run_folder import RunFolder
from medtranslate.training.session import Interrupts, Outcome, Session
from medtranslate.training.settings import Cadence, Settings, dump_config
from medtranslate.training.validation import Score
from medtranslate.transforms.load import with_range

RENDERED_STEPS = 1000
"""Steps an epoch of a run on label maps alone, which have no end."""


@dataclass(frozen=True)
class Training:
    """Train both directions on unpaired scans, pairs and label maps, up to a checkpoint.

    Parameters
    ----------
    ct, mri : path or None
        Folders of unpaired scans (2D images, NIfTI, DICOM, mixed, nested), or files of slices
        prepared earlier. None for both: the pairs are also the unpaired scans; with label maps
        alone there are none.
    output : path
        The run's folder.
    settings : Settings
    paired : path, optional
        Registered scans for the supervised terms, as `prepare_pairs` takes them.
    labels : path, optional
        Label maps of whole heads, as `LabelMaps.read` takes them, of which pairs for the supervised
        terms are rendered.
    contrast_list : path, optional
        Which MR scan has which contrast (`ContrastList`), where `settings.contrasts` names any; the
        contrast of scans that it does not name is unknown.
    include : sequence of path
        Lists of the files to take; a folder of which they name none is taken whole.
    validate : sequence of path
        Lists of files to keep out of training and to choose the best checkpoint by.
    recipes : path, optional
        Folder of recipes, instead of those that come with medtranslate.
    cache : path, optional
        Where prepared slices are kept; the user's cache folder where left out.
    device : str
        ``"auto"``, ``"cpu"``, ``"cuda"``, ``"cuda:1"``...
    workers : int
        Processes that prepare scans.
    resume : bool
        Go on with the run in `output`, exactly; start it if it has saved nothing yet.
    overwrite : bool
        Replace an earlier run in `output`.
    init_from : path, optional
        Bundle, run or checkpoint to start the weights from.
    max_minutes : float, optional
        Stop cleanly after so long.
    trusted : bool
        Believe the folders' modalities and units, whatever the scans look like.
    cadence : Cadence
        How often to record, draw, validate and save.
    score : callable, optional
        Judges held-out slices; needed where `validate` is given.
    handlers : sequence
        MONAI's or Ignite's, attached to the trainer.
    preparing : callable
        Called with the number of scans prepared and the total.
    on_finished : callable
        Given the run's folder and its data when all epochs are done, in the first process; it makes
        the bundle (`medtranslate.packaging.RunPackager`).

    Examples
    --------
    >>> import tempfile
    >>> from medtranslate.imaging import write
    >>> from medtranslate.phantom import Phantom
    >>> small = Settings(
    ...     network="compact",
    ...     network_arguments={"width": 8, "blocks": 1},
    ...     discriminator_width=8,
    ...     discriminator_layers=1,
    ...     epochs=1,
    ... )
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     ct, mri, run, cache = (Path(folder, name) for name in ("ct", "mri", "run", "cache"))
    ...     for seed, path in enumerate([ct / "a.png", ct / "b.png", mri / "a.png", mri / "b.png"]):
    ...         path.parent.mkdir(exist_ok=True)
    ...         head = Phantom(shape=(96, 96, 1), spacing=(2.4, 2.4, 5.0), seed=seed)
    ...         _ = write(head.image_2d(), path)
    ...     Training(ct, mri, run, small, cache=cache, device="cpu", trusted=True).run().step
    2
    """

    ct: Path | None
    mri: Path | None
    output: Path
    settings: Settings = field(default_factory=Settings)
    paired: Path | None = None
    labels: Path | None = None
    contrast_list: Path | None = None
    include: Sequence[Path] = ()
    validate: Sequence[Path] = ()
    recipes: Path | None = None
    cache: Path | None = None
    device: str = "auto"
    workers: int = 0
    resume: bool = False
    overwrite: bool = False
    init_from: Path | None = None
    max_minutes: float | None = None
    trusted: bool = False
    cadence: Cadence = field(default_factory=Cadence)
    score: Score | None = None
    handlers: Sequence[Any] = ()
    preparing: Progress = lambda done, total: None
    on_finished: Callable[[RunFolder, Data], None] = lambda run, data: None

    def __post_init__(self) -> None:
        for name in (
            "ct",
            "mri",
            "output",
            "paired",
            "labels",
            "contrast_list",
            "recipes",
            "cache",
            "init_from",
        ):  # text in YAML
            value = getattr(self, name)
            object.__setattr__(self, name, None if value is None else Path(value))
        for name in ("include", "validate"):
            object.__setattr__(self, name, tuple(Path(path) for path in getattr(self, name)))
        nothing = self.ct is None and self.paired is None and self.labels is None
        if (self.ct is None) != (self.mri is None) or nothing:
            raise TrainingFailed(
                "give folders of CT and of MRI, or pairs, or label maps, or all of them"
            )
        if self.paired is None and self.labels is None and not self.settings.unpaired:
            raise TrainingFailed(
                "without pairs, adversarial_weight, cycle_weight and anchor_weight cannot all be 0"
            )
        if self._labels_alone:
            self._check_labels_alone()
        if self.contrast_list is not None and not self.settings.contrasts:
            raise TrainingFailed(
                "a list of contrasts is given, but the run has none",
                remedy="--set contrasts=[t1,t2,flair]",
            )
        if self.validate and self.score is None:
            raise TrainingFailed("validation lists are given, but nothing to score by")
        taught = self.labels is not None and self.settings.rendered_weight > 0
        if self.settings.ct_range == "full" and not taught:
            raise TrainingFailed(
                "ct_range is full, but nothing teaches HU beyond the window: real CT are prepared "
                "in it",
                remedy="give label maps and rendered_weight, or ct_range=window",
            )
        if self.init_from is None:
            self._check_from_nothing()

    def run(self) -> Outcome:
        """Train until all epochs are done or there is a reason to stop.

        Raises
        ------
        OutputExists
            The run's folder holds something, and it was not to be resumed.
        TrainingFailed, WrongModality, InputMissing, OutputFailed, DeviceUnusable
            Data, settings, model or device cannot be used; the message says which and why.
        """
        interrupts = Interrupts(self.max_minutes)
        run = RunFolder(self.output)
        with ExitStack() as stack:
            world = stack.enter_context(joined(self.device))
            device = choose_device(self.device, world.local_rank)
            self._check_graph(world, device)
            if world.leads:
                resuming = self.resume and run.last.is_file()
                if self.resume and not resuming and not self.overwrite:
                    run.check_begun()
                elif not (resuming or self.overwrite):
                    run.check_fresh()
                stack.enter_context(run.claimed(replace=not resuming))
            with world.leader_first():
                data = self.data(RecipeBook.read(self.recipes))
            # Images have one size, so looking for the fastest convolution pays.
            stack.enter_context(torch.backends.cudnn.flags(enabled=True, benchmark=True))
            stack.enter_context(interrupts.listening())
            session = self._session(run, world, data, Models(self.settings, device))
            outcome = session.run(interrupts)
            if outcome.finished and world.leads:
                self.on_finished(run, data)
            return outcome

    def data(self, book: RecipeBook) -> Data:
        """Prepare the scans, or find them prepared."""
        included, held_out = FileList.read(self.include), FileList.read(self.validate)
        wanted = replace(included, lines=included.lines + held_out.lines)
        # Validation lists alone hold out what they name, and leave the rest to train on.
        listed = wanted if included.lines else None
        preparation = Preparation(
            book, self.cache or default_cache(), self.workers, self.trusted, self.preparing
        )
        pairs = None
        if self.paired is not None:
            pairs = prepare_pairs(
                self.paired, book, preparation.cache, self.preparing, trusted=self.trusted
            )
        labels = None
        if self.labels is not None:
            labels = LabelMaps.read(self.labels, cache=preparation.cache, progress=self.preparing)
        if self._labels_alone:
            assert labels is not None
            source = RenderedSource(labels, self.settings, torch.device("cpu"))
            ct, mri = shown_slices(source, (book.of("CT"), book.of("MR")))
        elif self.ct is not None and self.mri is not None:
            ct = preparation.slices(self.ct, "CT", listed)
            mri = preparation.slices(self.mri, "MR", listed)
        else:
            assert pairs is not None
            ct, mri = pairs.ct, pairs.mri
        every = [name for each in (ct, mri) for name in each.names]
        every += pairs.names if pairs is not None else []
        included.check_all_found(every)
        held_out.check_all_found(every)
        if self.settings.contrasts:
            mri, pairs = self._coded(mri, pairs)
        if not held_out.lines:
            return Data(ct, mri, pairs=pairs, labels=labels)
        (ct, ct_held_out), (mri, mri_held_out) = (_split(each, held_out) for each in (ct, mri))
        if pairs is not None:
            pairs = pairs.without(held_out.named(pairs.names))
        return Data(ct, mri, ct_held_out, mri_held_out, pairs, labels)

    def _coded(
        self, mri: PreparedSet, pairs: PreparedPairs | None
    ) -> tuple[PreparedSet, PreparedPairs | None]:
        """Give MR slices the contrast codes of the list."""
        names = [*mri.names, *(pairs.mri.names if pairs is not None else [])]
        codes: dict[str, int] = {}
        if self.contrast_list is not None:
            contrasts = self.settings.contrasts
            codes = ContrastList.read(self.contrast_list, contrasts).codes(names, contrasts)
        if pairs is not None:
            pairs = replace(pairs, mri=pairs.mri.coded(codes))
        return mri.coded(codes), pairs

    def _session(self, run: RunFolder, world: World, data: Data, models: Models) -> Session:
        checkpoint = None
        precision = choose_precision(self.settings.precision, models.device)
        about = {
            "settings": self.settings.as_dict(),
            "data": data.digest(),
            "processes": world.size,
            "recipes": {**self._ct_recipes(data), **data.mri.recipes},
        }
        if self.resume and run.last.is_file():
            checkpoint = Checkpoint.load(run.last)
            self._check_same(checkpoint, about, run.last)
            precision = checkpoint.about["precision"]
            restore(models, checkpoint, world.rank, run.last)
        elif self.init_from is not None:
            start_from(models, self.init_from)
        if self.settings.compile and worth_compiling(models.device):
            models.compile()
        if models.device.type == "cpu":
            keep_freed_memory()
        session = Session(
            run, world, data, models, {**about, "precision": precision},
            self.cadence, self.score, self.handlers, checkpoint,
        )  # fmt: skip
        if world.leads:
            _write(run.data, data.report())
            _write_config(run.config, self.settings, self.cadence, session.about, models.device)
        return session

    def _ct_recipes(self, data: Data) -> Mapping[str, str]:
        """Return the CT's recipes as the run's bundle has them: `ct_range` says what it writes."""
        full = self.settings.ct_range == "full"
        return {name: with_range(text, full=full) for name, text in data.ct.recipes.items()}

    @property
    def _labels_alone(self) -> bool:
        return self.ct is None and self.paired is None and self.labels is not None

    def _check_labels_alone(self) -> None:
        if self.settings.unpaired:
            raise TrainingFailed(
                "label maps alone have no real scans for the adversarial, cycle and anchor terms",
                remedy="give folders of CT and of MRI, or set adversarial_weight=0, cycle_weight=0 "
                "and anchor_weight=0",
            )
        if self.validate:
            raise TrainingFailed("validation lists name scans, and there are label maps alone")
        if not self.settings.steps_per_epoch:
            settings = replace(self.settings, steps_per_epoch=RENDERED_STEPS)
            object.__setattr__(self, "settings", settings)

    def _check_from_nothing(self) -> None:
        if self.settings.trained_generators != "both":
            raise TrainingFailed(
                f"the generator beside {self.settings.trained_generators} needs weights",
                remedy="--init-from",
            )
        if self.settings.anchored:
            raise TrainingFailed("anchor_weight needs initial weights", remedy="--init-from")

    def _check_graph(self, world: World, device: torch.device) -> None:
        if self.settings.cuda_graph and (device.type != "cuda" or world.size > 1):
            raise TrainingFailed(
                "a CUDA graph is made of one process's steps on a GPU",
                remedy="set cuda_graph=false",
            )

    def _check_same(self, checkpoint: Checkpoint, about: dict[str, Any], path: Path) -> None:
        then = Settings.from_dict(checkpoint.about["settings"]).as_dict()
        different = [
            f"{name} was {then[name]} and is now {value}"
            for name, value in about["settings"].items()
            if then[name] != value
        ]
        if checkpoint.about["processes"] != about["processes"]:
            different.append(f"processes were {checkpoint.about['processes']}")
        if checkpoint.about["data"] != about["data"]:
            different.append("the scans, lists or recipes are not those it was started with")
        if different:
            raise TrainingFailed(
                f"cannot be resumed exactly: {'; '.join(different)}",
                path=path,
                remedy="give the same settings and data, or --init-from in a new folder",
            )


def _split(prepared: PreparedSet, held_out: FileList) -> tuple[PreparedSet, PreparedSet]:
    """Return what is trained on, and what is kept out of it."""
    names = [record.name for record in prepared.records]
    kept = held_out.named(names)
    if not kept or len(kept) == len(names):
        raise TrainingFailed(
            f"the validation lists name {len(kept)} of {len(names)} {prepared.modality} scans; "
            "some must be left to train on, and some to validate on"
        )
    return prepared.only(set(names) - kept), prepared.only(kept)


def _write(path: Path, content: Any) -> None:
    with whole_file(path, overwrite=True) as temporary:
        temporary.write_text(as_json(content), encoding="utf-8")


def _write_config(
    path: Path, settings: Settings, cadence: Cadence, about: dict[str, Any], device: torch.device
) -> None:
    """Write the settings for ``--config``, and for the reader what else the run depends on."""
    versions = ", ".join(f"{name} {number}" for name, number in about["versions"].items())
    heading = (
        f"# {versions}\n# {about['processes']} process(es) on {device} in {about['precision']}\n"
    )
    with whole_file(path, overwrite=True) as temporary:
        temporary.write_text(heading + dump_config(settings, cadence), encoding="utf-8")
