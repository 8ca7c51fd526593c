"""What lies where in a run's folder, and who may write to it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from medtranslate.errors import OutputExists, OutputFailed, TrainingFailed
from medtranslate.files import is_temporary, remove_leftovers


@dataclass(frozen=True)
class RunFolder:
    """The files of one training run.

    Attributes
    ----------
    folder : path

    Examples
    --------
    >>> RunFolder(Path("run")).last.as_posix()
    'run/checkpoints/last.safetensors'
    """

    folder: Path

    @property
    def last(self) -> Path:
        """The newest checkpoint: what ``--resume`` goes on from."""
        return self.folder / "checkpoints" / "last.safetensors"

    @property
    def best(self) -> Path:
        """The weights with the best validation figure."""
        return self.folder / "checkpoints" / "best.safetensors"

    @property
    def losses(self) -> Path:
        """Means of the losses, a row an interval."""
        return self.folder / "losses.csv"

    @property
    def validation(self) -> Path:
        """Validation figures, a row a time."""
        return self.folder / "validation.csv"

    @property
    def data(self) -> Path:
        """What was used, skipped and why."""
        return self.folder / "data.json"

    @property
    def config(self) -> Path:
        """The settings, as ``--config`` takes them; a checkpoint has its own copy."""
        return self.folder / "config.yaml"

    @property
    def tensorboard(self) -> Path:
        """TensorBoard's log folder."""
        return self.folder / "tensorboard"

    @property
    def samples(self) -> Path:
        """Sample grids by step."""
        return self.folder / "samples"

    @property
    def page(self) -> Path:
        """The run page."""
        return self.folder / "run.html"

    @property
    def bundle(self) -> Path:
        """The result: a bundle that ``convert`` uses."""
        return self.folder / "bundle"

    def check_fresh(self) -> None:
        """Refuse a folder that holds anything already.

        Raises
        ------
        OutputExists
        """
        if self._content:
            remedy = (
                "--resume goes on with it, --overwrite replaces it"
                if self.last.is_file()
                else "give another folder"
            )
            raise OutputExists("exists already", path=self.folder, remedy=remedy)

    def check_begun(self) -> None:
        """Refuse a folder that holds anything but a run that was killed before it saved anything.

        Raises
        ------
        OutputExists
            Something is not of a run, or there is a bundle, though no checkpoint to go on from.
        """
        self._check_only_a_run()
        if self.bundle.exists() and not self.last.is_file():
            raise OutputExists(
                "holds a bundle, but no checkpoint to go on from",
                path=self.folder,
                remedy="--overwrite replaces it",
            )

    @property
    def _content(self) -> list[Path]:
        """What lies in the folder, sorted, without lock and unfinished work."""
        if not self.folder.is_dir():
            return []
        inside = sorted(self.folder.iterdir())
        return [one for one in inside if one.name != _LOCK and not is_temporary(one.name)]

    @contextmanager
    def claimed(self, *, replace: bool = False) -> Iterator[None]:
        """Make the folder and keep other trainings out of it until the block ends.

        The claim ends with the process, however that ends.

        Parameters
        ----------
        replace : bool
            Remove an earlier run first.

        Raises
        ------
        OutputExists
            A folder to replace holds something that is not of a run.
        TrainingFailed
            Another process trains there.
        OutputFailed
            The folder cannot be created.
        """
        if replace:
            self._check_only_a_run()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = (self.folder / _LOCK).open("a")
        except OSError as error:
            raise OutputFailed(f"cannot be created: {error.strerror}", path=self.folder) from error
        with lock:
            try:
                _lock(lock)
            except OSError:
                raise TrainingFailed(
                    "in use: another training writes to this folder", path=self.folder
                ) from None
            self._fill(replace)
            for folder in (self.folder, self.last.parent, self.samples):
                remove_leftovers(folder)
            yield

    def _fill(self, replace: bool) -> None:
        try:
            for path in self._files if replace else ():
                if path.is_dir():
                    shutil.rmtree(path)
                else:
                    path.unlink(missing_ok=True)
            for folder in (self.last.parent, self.samples):
                folder.mkdir(exist_ok=True)
        except OSError as error:
            raise OutputFailed(f"cannot be created: {error.strerror}", path=self.folder) from error

    @property
    def _files(self) -> tuple[Path, ...]:
        return (
            self.bundle, self.last.parent, self.losses, self.validation, self.data, self.config,
            self.tensorboard, self.samples, self.page,
        )  # fmt: skip

    def _check_only_a_run(self) -> None:
        others = [one for one in self._content if one not in self._files]
        if others:
            raise OutputExists(
                f"holds {others[0].name}, which is not of a run",
                path=self.folder,
                remedy="give another folder",
            )


_LOCK = ".lock"

if os.name == "nt":
    import msvcrt

    def _lock(file: IO[str]) -> None:
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
else:
    import fcntl

    def _lock(file: IO[str]) -> None:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
