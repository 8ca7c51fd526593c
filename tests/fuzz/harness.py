"""Reads damaged files in a process that may die, and judges what came of each.

``python -m fuzz.harness --files 20000`` in the folder ``tests``. A failure is reduced to the fewest
edits that still fail, and printed as a line for ``failures.jsonl``, which the suite replays.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import random
import resource
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medtranslate.bundle import Bundle
from medtranslate.errors import MedTranslateError
from medtranslate.imaging import read, survey
from medtranslate.training.checkpoints import Checkpoint

from .mutations import Edit, apply, is_blind, mutate
from .seeds import Seed, seeds

PATIENCE = 40.0
"""Seconds until a file counts as a hang."""

MEMORY = 2**30
"""Bytes that reading a small file may take."""

CODES = {3, 4, 5, 6, 10, 12, 13}
"""Exit codes of what may be wrong with an input."""


@dataclass(frozen=True)
class Outcome:
    """What came of one file: how it ended, and what it held or said."""

    end: str
    detail: str = ""
    digest: str = ""
    notes: int = 0
    seconds: float = 0.0


def held_by(path: Path) -> tuple[bytes, int]:
    """Give what a scan, a bundle or a checkpoint holds, and how much was noticed about it."""
    if path.is_dir():
        bundle = Bundle.load(path)
        states = [one.network.state_dict() for one in bundle.generators.values()]
        return b"".join(bytes(t.numpy()) for state in states for t in state.values()), 0
    if path.suffix == ".ckpt":
        loaded = Checkpoint.load(path)
        return b"".join(bytes(t.numpy()) for t in loaded.tensors.values()), 0
    for finding in survey(path):
        assert "\n" not in finding.error
    image = read(path)
    affine = image.affine.numpy().round(3) + 0.0
    held = image.numpy().tobytes() + affine.tobytes() + bytes(str(image.shape), "ascii")
    return held, len(image.meta["source"]["faults"])


def look(path: Path) -> Outcome:
    """Read a file as `read` and `survey` do."""
    begin, before = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    digest, notes = "", 0
    try:
        held, notes = held_by(path)
        digest = hashlib.sha256(held).hexdigest()
        end, detail = "read", ""
    except MedTranslateError as error:
        end, detail = "named", f"{error.exit_code} {error.fault}"
        if error.exit_code not in CODES or "\n" in str(error) or str(path.parent) not in str(error):
            end = "badly named"
    except Exception as error:
        end, detail = "unexpected", f"{type(error).__name__}: {error}"
    taken = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    if taken > MEMORY:
        end, detail = "memory", f"{taken >> 20} MiB"
    return Outcome(end, detail[:200], digest, notes, time.monotonic() - begin)


def _serve(pipe: Any) -> None:
    warnings.simplefilter("ignore")
    while True:
        pipe.send(look(Path(pipe.recv())))


@dataclass
class Reader:
    """A process that reads one file after another; where it dies or hangs, another follows."""

    process: Any = None
    pipe: Any = None

    def read(self, path: Path) -> Outcome:
        """Give what came of a file."""
        if self.process is None:
            context = multiprocessing.get_context("fork")
            self.pipe, theirs = context.Pipe()
            self.process = context.Process(target=_serve, args=(theirs,), daemon=True)
            self.process.start()
            theirs.close()
        self.pipe.send(str(path))
        try:
            if self.pipe.poll(PATIENCE):
                return self.pipe.recv()
            end = Outcome("hang", f"over {PATIENCE:.0f} s")
        except EOFError:
            self.process.join()
            end = Outcome("crash", f"exit code {self.process.exitcode}")
        self.stop()
        return end

    def stop(self) -> None:
        """End the process."""
        if self.process is not None:
            self.process.kill()
            self.process.join()
            self.process = None


@dataclass
class Fuzzer:
    """Damages seeds and judges what comes of it."""

    folder: Path
    reader: Reader = field(default_factory=Reader)
    whole: dict[str, Outcome] = field(default_factory=dict)

    def judge(self, seed: Seed, edits: list[Edit]) -> Outcome:
        """Read a damaged copy; an outcome whose `end` is no failure is right."""
        whole = self.whole.get(seed.name)
        if whole is None:
            whole = self.whole[seed.name] = self._read(seed, seed.content)
            assert whole.end == "read", (seed.name, whole)
        damaged = apply(seed, edits)
        seen = self._read(seed, damaged)
        if seen.end != "read":
            return seen
        if seen.digest == whole.digest:
            return Outcome("right", seconds=seen.seconds)
        if seen.notes > whole.notes or is_blind(seed, damaged):
            return Outcome("other volume", seconds=seen.seconds)
        return Outcome("silent", "another volume without a word", seconds=seen.seconds)

    def _read(self, seed: Seed, content: bytes) -> Outcome:
        for name, other in seed.beside.items():
            path = self.folder / name
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(other)
        path = self.folder / seed.name
        path.write_bytes(seed.pack(content))
        try:
            return self.reader.read(self.folder / "bundle" if seed.beside else path)
        finally:
            if seed.beside:
                path.unlink()

    def least(self, seed: Seed, edits: list[Edit], end: str) -> list[Edit]:
        """Give the fewest of the edits that still end so."""
        for edit in list(edits):
            fewer = [one for one in edits if one is not edit]
            if fewer and self.judge(seed, fewer).end == end:
                edits = fewer
        return edits


RIGHT = frozenset({"right", "named", "other volume"})


@contextmanager
def fuzzer() -> Iterator[Fuzzer]:
    """Give a fuzzer with a folder and a process of its own."""
    with tempfile.TemporaryDirectory(prefix="fuzz-") as name:
        one = Fuzzer(Path(name))
        try:
            yield one
        finally:
            one.reader.stop()


def record(seed: Seed, edits: list[Edit], outcome: Outcome) -> dict[str, Any]:
    """Give a failure as builtins."""
    plain = [[at, taken, put.hex()] for at, taken, put in edits]
    return {"seed": seed.name, "edits": plain, "end": outcome.end, "detail": outcome.detail}


def run(files: int, seconds: float, start: int, say: Any = print) -> tuple[Counter, list[dict]]:
    """Read damaged copies of all seeds in turn, until there were so many or time is up."""
    chance, made = random.Random(start), seeds()
    ends: Counter[str] = Counter()
    failures = []
    until = time.monotonic() + seconds
    with fuzzer() as one:
        for number in range(files):
            if time.monotonic() > until:
                break
            seed = made[number % len(made)]
            edits = mutate(seed, chance)
            outcome = one.judge(seed, edits)
            ends[outcome.end] += 1
            ends["slow (over 5 s)"] += outcome.seconds > 5
            if outcome.end not in RIGHT:
                failure = record(seed, one.least(seed, edits, outcome.end), outcome)
                failures.append(failure)
                say(json.dumps(failure), flush=True)
    return ends, failures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=20_000)
    parser.add_argument("--seconds", type=float, default=1e9)
    parser.add_argument("--start", type=int, default=0, help="of the random numbers")
    options = parser.parse_args()
    ends, _ = run(options.files, options.seconds, options.start)
    print(json.dumps(dict(ends)))


if __name__ == "__main__":
    main()
