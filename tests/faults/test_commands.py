"""Commands while file operations fail: nothing half-written or lost, one line, the right code.

A failing operation is chosen from those that a clean run makes: some of them, with another error
each; with ``--every-fault`` each of them with every error.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

import nibabel as nib
import numpy as np
import pytest
import torch
from faults.injection import KINDS, Faults, Operation, injected
from faults.test_files import check_order
from training.phantoms import TINY, prepared

from medtranslate import html
from medtranslate.bundle.save import content_of
from medtranslate.cli.app import app
from medtranslate.cli.endings import run, sentence
from medtranslate.errors import (
    InputMissing,
    ModelUnusable,
    OutputExists,
    OutputFailed,
    Unreadable,
    exit_code,
)
from medtranslate.evaluation import evaluated_model, features, folders, report
from medtranslate.files import is_temporary, remove_leftovers
from medtranslate.packaging import RunPackager
from medtranslate.phantom import Phantom
from medtranslate.training import Cadence, Training
from medtranslate.training.checkpoints import Checkpoint
from medtranslate.training.run_folder import RunFolder
from medtranslate.translation import Translator

RESULTS = {"head.nii.gz", "head_preview.png", "r.json", "r.html"}
OUTPUT, INPUT = {OutputFailed.exit_code}, {InputMissing.exit_code, Unreadable.exit_code}
MODEL = {ModelUnusable.exit_code}


@dataclass(frozen=True)
class Ended:
    code: int
    said: str


Command = Callable[[Path], Ended]


@pytest.fixture
def every(request: pytest.FixtureRequest) -> int:
    """How many operations further the next one fails with the same error; 0 for a few in all."""
    option = request.config.getoption
    return option("--fault-step") if option("--every-fault") else 0


@pytest.fixture(autouse=True)
def temporary_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))


def chosen(seen: list[Operation], every: int, some: int = 9) -> Iterator[tuple[int, str]]:
    """Give numbers of operations, and the error that each meets."""
    kinds = list(KINDS)
    if every:
        for turn, kind in enumerate(kinds):
            # Only a write can be short; any other operation would meet the same as of ENOSPC.
            numbers = [
                nth for nth, one in enumerate(seen) if kind != "short write" or one.kind == "write"
            ][turn % every :: every]
            for nth in numbers:
                yield nth, kind
            print(f"{kind}: {len(numbers)} of {len(seen)} operations failed in turn", flush=True)
        return
    worth = [nth for nth, one in enumerate(seen) if not one.removes]
    step = max(1, len(worth) // some)
    for turn, nth in enumerate(worth[::step]):
        kind = kinds[turn % len(kinds)]
        yield nth, "EIO" if kind == "short write" and seen[nth].kind != "write" else kind


def content(folder: Path) -> dict[str, str]:
    """Hash what lies in a folder, temporary files aside."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not any(map(is_temporary, path.relative_to(folder).parts))
    }


def counted(command: Command, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Faults:
    with injected(Faults(folder), monkeypatch) as faults:
        ended = command(folder)
    assert ended.code == 0, ended.said
    return faults


def failed(
    command: Command,
    folder: Path,
    fault: tuple[int, str],
    monkeypatch: pytest.MonkeyPatch,
    spared: Path | None = None,
) -> tuple[Ended, Operation]:
    """Run a command with one failing operation; check what holds for all of them.

    A folder that is spared may fail without an error, as a cache does.
    """
    with injected(Faults(folder, *fault), monkeypatch) as faults:
        ended = command(folder)
    met = faults.failed
    assert met is not None
    assert ended.code != 1, (fault, met, ended.said)
    if ended.code:
        assert ended.said.count("medtranslate: error: ") == 1, ended.said
        assert ended.said.strip().count("\n") == 0, ended.said
    elif spared is None or not Path(met.path).is_relative_to(spared):
        # A folder may be there already, what clears up is tried again by the next run, and
        # Python makes an interrupted call again.
        assert met.kind in ("read", "os.mkdir") or met.removes or fault[1] == "EINTR", met
    for inside in [folder, *filter(Path.is_dir, folder.rglob("*"))]:
        remove_leftovers(inside)
    left = [path for path in folder.rglob("*") if is_temporary(path.name)]
    assert left == [], (met, left)
    return ended, met


@pytest.fixture(scope="module")
def translator(tiny_bundle: Path) -> Translator:
    return Translator.load(tiny_bundle, device="cpu")


@pytest.fixture
def convert(
    translator: Translator, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Command:
    monkeypatch.setattr(Translator, "load", lambda *_, **__: translator)

    def call(folder: Path) -> Ended:
        reports = ("--report", folder / "out/r.json", "--report", folder / "out/r.html")
        given = ("convert", folder / "head.nii.gz", "--to", "mri", "--force", "--quiet")
        options = ("-o", folder / "out/head.nii.gz", "--no-cycle", "--overwrite", *reports)
        code = run(app, [str(one) for one in (*given, *options)])
        return Ended(code, capsys.readouterr().err)

    return call


def lay(folder: Path, old: bytes = b"") -> Path:
    """Make a folder with a scan, and with earlier results where `old` is given."""
    (folder / "out").mkdir(parents=True)
    (folder / "tmp").mkdir()
    head = Phantom((48, 52, 2), (4.5, 4.25, 26.0)).volume()
    voxels = head.as_tensor()[0].numpy().astype(np.int16)
    nib.save(nib.Nifti1Image(voxels, np.asarray(head.affine)), folder / "head.nii.gz")
    if old:
        for name in ("head.nii.gz", "head_preview.png"):
            (folder / "out" / name).write_bytes(old)
        for name in ("r.json", "r.html"):
            (folder / "out" / name).write_bytes(b"{" + old)
    return folder


def whole(path: Path, old: bytes) -> bool:
    """Say whether a result is the old one, or a new one to its last byte."""
    if old in path.read_bytes()[:100]:
        return True
    if path.name == "head.nii.gz":
        return bool(np.isfinite(nib.load(path).get_fdata()).all())
    text = path.read_bytes().rstrip()
    return text.endswith((b"}", b"</html>", b"IEND\xaeB`\x82"))


def test_convert(
    convert: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, every: int
) -> None:
    seen = counted(convert, lay(tmp_path / "clean"), monkeypatch).seen
    assert check_order(seen) == 4
    for nth, kind in chosen(seen, every):
        old = b"an earlier result"
        folder = lay(tmp_path / f"{nth} {kind}", old)
        scan = (folder / "head.nii.gz").read_bytes()

        ended, met = failed(convert, folder, (nth, kind), monkeypatch)

        assert (folder / "head.nii.gz").read_bytes() == scan
        assert set(content(folder / "out")) == {
            "head.nii.gz",
            "head_preview.png",
            "r.json",
            "r.html",
        }
        assert all(whole(folder / "out" / name, old) for name in content(folder / "out")), met
        reads_scan = met.kind == "read" and met.path == str(folder / "head.nii.gz")
        codes = INPUT if reads_scan else OUTPUT if met.changes else OUTPUT | INPUT
        assert ended.code in codes | {0}, (met, kind, ended)


@pytest.fixture
def train(monkeypatch: pytest.MonkeyPatch) -> Command:
    monkeypatch.setattr(html, "figure_uri", lambda figure: "data:image/png;base64,")

    def call(folder: Path, **options: object) -> Ended:
        given = {"cadence": Cadence(record_steps=1, grid_steps=2, checkpoint_minutes=0), **options}
        try:
            Training(
                folder / "ct.safetensors",
                folder / "mri.safetensors",
                folder / "out",
                replace(TINY, epochs=1, steps_per_epoch=2),
                device="cpu",
                on_finished=RunPackager("tiny"),
                **given,
            ).run()
        except Exception as error:
            return Ended(exit_code(error), f"medtranslate: error: {sentence(error)}\n")
        return Ended(0, "")

    return call


class Grays(torch.nn.Module):
    """Stands in for the Inception network and its weights: mean grays of 16 fields."""

    origin, digest = "synthetic", "0" * 64

    def extractor(self) -> Grays:
        return self

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor]:
        pooled = images[:, 0].float().reshape(-1, 4, 64, 4, 64).mean(dim=(2, 4))
        return (pooled.reshape(len(images), 16) / 64,)


@pytest.fixture
def evaluate(
    translator: Translator, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Command:
    monkeypatch.setattr(Translator, "load", lambda *_, **__: translator)
    monkeypatch.setattr(folders, "find_weights", lambda *_, **__: Grays())
    monkeypatch.setattr(features, "FEATURES", 16)
    monkeypatch.setattr(evaluated_model, "cost", lambda *_: evaluated_model.Cost(0, 0.0))
    monkeypatch.setattr(report, "page", lambda evaluation: "<html>a page</html>")

    def call(folder: Path) -> Ended:
        given = ("evaluate", "tiny", "--ct", folder / "ct", "--mri", folder / "mri", "--force")
        options = ("--cache", folder / "cache", "-o", folder / "out", "--overwrite", "--quiet")
        code = run(app, [str(one) for one in (*given, *options, "--device", "cpu")])
        return Ended(code, capsys.readouterr().err)

    return call


def lay_test_sets(folder: Path) -> Path:
    (folder / "tmp").mkdir(parents=True)
    head = Phantom((48, 52, 2), (4.5, 4.25, 26.0)).volume()
    for name, slope in (("ct", 1), ("mri", -0.5)):
        (folder / name).mkdir()
        for shift in range(2):
            voxels = np.roll(head.as_tensor()[0].numpy() * slope, shift, axis=0).astype(np.int16)
            scan = nib.Nifti1Image(voxels, np.asarray(head.affine))
            nib.save(scan, folder / name / f"head-{shift}.nii.gz")
    return folder


def figures(folder: Path) -> dict[str, object]:
    """Read an evaluation, but for its folders and the time that it took."""
    made = json.loads((folder / "evaluation.json").read_text())
    for row in made["directions"]:
        row.pop("seconds_per_slice")
    for images in made["sets"]:
        images.pop("folder")
    return {name: value for name, value in made.items() if name != "seconds"}


def test_evaluate(
    evaluate: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, every: int
) -> None:
    clean = lay_test_sets(tmp_path / "clean")
    seen = counted(evaluate, clean, monkeypatch).seen
    assert check_order(seen) == 3  # the features of two sets, and the report
    expected = figures(clean / "out")
    for nth, kind in chosen(seen, every, some=3):
        folder = lay_test_sets(tmp_path / f"{nth} {kind}")
        (folder / "out").mkdir()
        old = dict.fromkeys(content(clean / "out"), b"{an earlier report}")
        for name, earlier in old.items():
            (folder / "out" / name).write_bytes(earlier)
        before = content(folder / "ct") | content(folder / "mri")

        ended, met = failed(evaluate, folder, (nth, kind), monkeypatch, spared=folder / "cache")

        assert content(folder / "ct") | content(folder / "mri") == before
        made = {path.name: path.read_bytes() for path in (folder / "out").iterdir()}
        assert set(made) == set(old)
        if made != old:  # also where the name of a whole report could not be synced
            assert figures(folder / "out") == expected
            assert made["evaluation.html"] == b"<html>a page</html>"
        assert ended.code or made != old
        codes = OUTPUT if met.changes else OUTPUT | INPUT
        assert ended.code in codes | {0}, (met, kind, ended)
        assert evaluate(folder).code == 0
        assert figures(folder / "out") == expected


def lay_slices(folder: Path) -> Path:
    (folder / "tmp").mkdir(parents=True)
    prepared("CT", 3).save(folder / "ct.safetensors")
    prepared("MR", 3).save(folder / "mri.safetensors")
    return folder


def test_train_and_resume(
    train: Callable[..., Ended], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, every: int
) -> None:
    clean = lay_slices(tmp_path / "clean")
    seen = counted(train, clean, monkeypatch).seen
    check_order(seen)
    expected = Checkpoint.load(RunFolder(clean / "out").last).tensors
    for nth, kind in chosen(seen, every, some=3):
        folder = lay_slices(tmp_path / f"{nth} {kind}")

        ended, met = failed(train, folder, (nth, kind), monkeypatch)

        codes = OUTPUT if met.changes else OUTPUT | INPUT | MODEL | {14}
        assert ended.code in codes | {0}, (met, ended)
        last = RunFolder(folder / "out").last
        if last.exists():
            Checkpoint.load(last)
        again = train(folder, resume=True)
        assert again.code == 0, (met, again)
        made = Checkpoint.load(last).tensors
        assert all(bool((made[name] == expected[name]).all()) for name in expected), met
        assert content_of(folder / "out" / "bundle")["name"] == "tiny"


def test_bundle_export(
    tiny_bundle: Path,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    every: int,
) -> None:
    # The package has a function of the module's name.
    exporting = sys.modules["medtranslate.packaging.export"]
    monkeypatch.setattr(exporting, "write_reference", lambda folder: None)

    def export(folder: Path) -> Ended:
        given = ("bundle", "export", tiny_bundle, "-o", folder / "out", "--name", "mine")
        code = run(app, [str(one) for one in given])
        return Ended(code, capsys.readouterr().err)

    (tmp_path / "clean" / "tmp").mkdir(parents=True)
    seen = counted(export, tmp_path / "clean", monkeypatch).seen
    assert check_order(seen) == 1
    expected = content(tmp_path / "clean" / "out")
    before = content(tiny_bundle)
    for nth, kind in chosen(seen, every):
        folder = tmp_path / f"{nth} {kind}"
        (folder / "tmp").mkdir(parents=True)

        ended, met = failed(export, folder, (nth, kind), monkeypatch)

        codes = OUTPUT if met.changes else OUTPUT | MODEL | INPUT
        assert ended.code in codes | {0}, (met, ended)
        made = content(folder / "out")  # whole also where its name could not be synced
        assert made == expected or (ended.code and made == {}), met
        assert content(tiny_bundle) == before


def killed(command: Command, folder: Path, seconds: float) -> None:
    """Run a command in a fork of this process, and end it by SIGKILL after so long."""
    process = os.fork()
    if process == 0:
        try:
            command(folder)
        finally:
            os._exit(0)
    time.sleep(seconds)
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)


def moments(command: Command, folder: Path, every: int) -> Iterator[float]:
    """Run a command to its end, then give random moments of the time that it took."""
    begun = time.monotonic()
    ended = command(folder)
    assert ended.code == 0, ended.said
    taken, random = time.monotonic() - begun, Random(0)
    for _ in range(100 if every else 3):
        yield random.uniform(0, taken)


def check_cleared(folder: Path) -> None:
    """Assert that the run after a kill removed what the kill left."""
    left = [path for path in folder.rglob("*") if is_temporary(path.name)]
    assert left == []


def test_kill_9_while_a_folder_is_converted(
    translator: Translator,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    every: int,
) -> None:
    monkeypatch.setattr(Translator, "load", lambda *_, **__: translator)

    def convert(folder: Path) -> Ended:
        given = ("convert", folder / "scans", "-o", folder / "out", "--to", "mri", "--force")
        options = ("--no-cycle", "--quiet", "--overwrite", "--report", folder / "r.json")
        code = run(app, [str(one) for one in (*given, *options)])
        return Ended(code, capsys.readouterr().err)

    def lay_scans(folder: Path) -> Path:
        head = lay(folder) / "head.nii.gz"
        (folder / "scans").mkdir()
        for number in range(3):
            shutil.copy(head, folder / "scans" / f"head-{number}.nii.gz")
        return folder

    clean = lay_scans(tmp_path / "clean")
    expected: dict[str, str] = {}
    for nth, seconds in enumerate(moments(convert, clean, every)):
        expected = expected or content(clean / "out")
        assert len(expected) == 6, expected  # a result and a preview each
        folder = lay_scans(tmp_path / str(nth))

        killed(convert, folder, seconds)

        assert content(folder / "out").items() <= expected.items()
        report = folder / "r.json"
        assert not report.exists() or json.loads(report.read_text())
        again = convert(folder)
        assert again.code == 0, (seconds, again)
        assert content(folder / "out") == expected, seconds
        check_cleared(folder / "out")


def test_kill_9_while_a_model_is_trained(
    train: Callable[..., Ended], tmp_path: Path, every: int
) -> None:
    clean = lay_slices(tmp_path / "clean")
    for nth, seconds in enumerate(moments(train, clean, every)):
        folder = lay_slices(tmp_path / str(nth))

        killed(train, folder, seconds)

        last = RunFolder(folder / "out").last
        if last.exists():
            Checkpoint.load(last)
        again = train(folder, resume=(folder / "out").exists())
        assert again.code == 0, (seconds, again)
        expected = Checkpoint.load(RunFolder(clean / "out").last).tensors
        made = Checkpoint.load(last).tensors
        assert all(bool((made[name] == expected[name]).all()) for name in expected), seconds
        assert content_of(folder / "out" / "bundle")["name"] == "tiny"
        check_cleared(folder / "out")


def test_kill_9_while_a_bundle_is_exported(
    tiny_bundle: Path,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    every: int,
) -> None:
    monkeypatch.setattr(
        sys.modules["medtranslate.packaging.export"], "write_reference", lambda folder: None
    )

    def export(folder: Path) -> Ended:
        folder.mkdir(exist_ok=True)
        given = ("bundle", "export", tiny_bundle, "-o", folder / "out", "--name", "mine")
        code = run(app, [str(one) for one in given])
        return Ended(code, capsys.readouterr().err)

    before = content(tiny_bundle)
    for nth, seconds in enumerate(moments(export, tmp_path / "clean", every)):
        expected = content(tmp_path / "clean" / "out")
        folder = tmp_path / str(nth)

        killed(export, folder, seconds)

        made = content(folder / "out")
        assert made in ({}, expected), seconds
        again = export(folder)
        assert again.code == (OutputExists.exit_code if made else 0), (seconds, again)
        assert content(folder / "out") == expected
        assert content(tiny_bundle) == before
        check_cleared(folder)
