"""Mutation score: how many small wrong changes of a module its tests notice.

``python -m mutation.run geometry`` in the folder ``tests``; works in a copy of the repository, one
change at a time. A run of the tests without a change notes which test executes which line. A
changed function is put in the place of its original in a forked copy of the process that has
collected the tests, and the tests that execute the changed statement run there, quickest first,
until one fails.
What runs at import (constants, defaults) is tried with tests that are collected anew.

Survivors are printed. Those of ``equivalent.jsonl``, which says why no test could notice them, do
not count. A test that takes longer than ``--longest`` is left out: the score is at worst too low.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import json
import os
import random
import resource
import shutil
import sys
import tempfile
import threading
import time
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

import pytest

from .operators import Mutant, mutants

REPOSITORY = Path(__file__).resolve().parents[2]
COPIED = ("medtranslate", "tests", "transforms", "bundles", "pyproject.toml")
EQUIVALENT = Path(__file__).with_name("equivalent.jsonl")


@dataclass(frozen=True)
class Target:
    """Modules that must not be wrong, and the tests that hold them; paths in the repository."""

    modules: tuple[str, ...]
    tests: tuple[str, ...]


TARGETS = {
    "geometry": Target(
        (
            "medtranslate/transforms/geometry.py",
            "medtranslate/transforms/placement.py",
            "medtranslate/transforms/untilt.py",
            "medtranslate/imaging/source.py",
            "medtranslate/imaging/nifti.py",
            "medtranslate/imaging/dicom/read/geometry.py",
            "medtranslate/imaging/dicom/read/regrid.py",
        ),
        (
            "tests/transforms/test_geometry.py",
            "tests/transforms/test_placement.py",
            "tests/transforms/test_untilt.py",
            "tests/transforms/test_inverse.py",
            "tests/imaging/test_base.py",
            "tests/imaging/test_collation.py",
            "tests/imaging/test_nifti.py",
            "tests/imaging/test_nifti_bad.py",
            "tests/imaging/test_reader.py",
            "tests/imaging/test_source.py",
            "tests/imaging/test_writer.py",
            "tests/imaging/dicom/test_dicom_geometry.py",
            "tests/imaging/dicom/test_dicom_regrid.py",
            "tests/imaging/dicom/test_dicom_faults.py",
            "tests/imaging/dicom/test_dicom_as_found.py",
        ),
    ),
    "derived": Target(
        (
            "medtranslate/imaging/dicom/derive/computed.py",
            "medtranslate/imaging/dicom/derive/instances.py",
            "medtranslate/imaging/dicom/derive/measured.py",
            "medtranslate/imaging/dicom/derive/repair.py",
            "medtranslate/imaging/dicom/derive/stored_values.py",
            "medtranslate/imaging/dicom/derive/writer.py",
        ),
        (
            "tests/imaging/dicom/test_dicom_header.py",
            "tests/imaging/dicom/test_dicom_writer.py",
            "tests/imaging/dicom/test_dicom_repair.py",
            "tests/imaging/dicom/test_dicom_measured.py",
            "tests/imaging/dicom/test_dicom_template.py",
            "tests/imaging/dicom/test_dicom_regrid.py",
            "tests/imaging/dicom/test_dicom_faults.py",
            "tests/imaging/dicom/test_dicom_as_found.py",
            "tests/imaging/dicom/test_dicom_encoding.py",
        ),
    ),
    "intensity": Target(
        (
            "medtranslate/transforms/intensity.py",
            "medtranslate/transforms/units.py",
            "medtranslate/transforms/head.py",
            "medtranslate/imaging/dicom/read/pixels.py",
            "medtranslate/imaging/dicom/read/values.py",
        ),
        (
            "tests/transforms/test_intensity.py",
            "tests/transforms/test_head.py",
            "tests/transforms/test_bias.py",
            "tests/transforms/test_inverse.py",
            "tests/transforms/test_monai.py",
            "tests/imaging/dicom/test_dicom_values.py",
            "tests/imaging/dicom/test_dicom_faults.py",
            "tests/imaging/dicom/test_dicom_as_found.py",
            "tests/imaging/dicom/test_dicom_compressed.py",
            "tests/imaging/dicom/test_dicom_limits.py",
            "tests/imaging/dicom/test_dicom_size.py",
        ),
    ),
    "files": Target(
        ("medtranslate/files.py",),
        ("tests/test_files.py", "tests/faults/test_files.py", "tests/imaging/test_writer.py"),
    ),
}


@dataclass
class Executed:
    """What each test executed of the modules, and how long it took."""

    lines: dict[str, set[tuple[str, int]]] = field(default_factory=lambda: defaultdict(set))
    seconds: Counter[str] = field(default_factory=Counter)

    def of(self, mutant: Mutant, longest: float) -> list[str]:
        """Give the tests that execute a changed statement, quickest first."""
        wanted = {(mutant.path, line) for line in range(mutant.line, mutant.last + 1)}
        tests = [test for test in self.seconds if mutant.always or self.lines[test] & wanted]
        return sorted(
            (test for test in tests if self.seconds[test] <= longest), key=self.seconds.__getitem__
        )


class Forked:
    """A forked process that runs a task, in a process group that ends with it."""

    def __init__(
        self, task: Callable[[Callable[[Any], None]], None], cpu: int, wall: float
    ) -> None:
        context = get_context("fork")
        self.ours, theirs = context.Pipe(duplex=False)
        self.until = time.monotonic() + wall

        def work() -> None:
            os.setpgid(0, 0)
            resource.setrlimit(resource.RLIMIT_CPU, (cpu, cpu + 5))
            try:
                task(theirs.send)
            finally:
                theirs.close()
                os._exit(0)

        self.process = context.Process(target=work)
        self.process.start()
        theirs.close()

    def messages(self) -> Iterator[Any]:
        """Give what the task sends, until it ends, dies or has taken too long."""
        try:
            while self.ours.poll(max(0.0, self.until - time.monotonic())):
                yield self.ours.recv()
        except EOFError:
            return
        finally:
            for end in (lambda: os.killpg(self.process.pid or 0, 9), self.process.kill):
                with suppress(OSError):
                    end()
            self.process.join()
            self.ours.close()


@dataclass
class Copy:
    """A copy of the repository, in which one file at a time is changed."""

    folder: Path
    turn: int = 0

    @contextmanager
    def changed(self, mutant: Mutant) -> Iterator[None]:
        """Let a file have another content; its time never repeats, so bytecode is never stale."""
        path = self.folder / mutant.path
        before = path.read_bytes()
        try:
            self._write(path, mutant.content)
            yield
        finally:
            self._write(path, before)

    def _write(self, path: Path, content: bytes) -> None:
        self.turn += 1
        path.write_bytes(content)
        os.utime(path, (1e9 + self.turn, 1e9 + self.turn))

    def put_in_place(self, mutant: Mutant) -> bool:
        """Give the function that is changed its new code in this process; False where none is."""
        path = str(self.folder / mutant.path)
        new = dict(_functions(compile(mutant.content, path, "exec")))
        done = False
        gc.unfreeze()  # what the tests have frozen is not among the objects otherwise
        for one in gc.get_objects():  # `isinstance` would ask lazy objects, which warn
            if type(one) is FunctionType and one.__code__.co_filename == path:
                code = new.get(one.__code__.co_qualname)
                inside = code is not None and any(
                    mutant.line <= line <= mutant.last for line in _lines(code)
                )
                if inside and code != one.__code__:
                    one.__code__ = code
                    done = True
        return done


def _functions(code: CodeType) -> Iterator[tuple[str, CodeType]]:
    for inside in code.co_consts:
        if isinstance(inside, CodeType):
            yield inside.co_qualname, inside
            yield from _functions(inside)


def _lines(code: CodeType) -> set[int]:
    own = {line for _, _, line in code.co_lines() if line is not None}
    return own.union(*(_lines(inside) for _, inside in _functions(code)))


class Trial:
    """A pytest plugin that tries changes with the tests that it collected.

    Sends a pair for each thing learnt: ``"executed"``, ``"modules"`` and ``"survived"``.
    """

    def __init__(self, copy: Copy, tried: list[Mutant], longest: float, send: Any) -> None:
        self.copy, self.tried, self.longest, self.send = copy, tried, longest, send
        self.executed = Executed()
        self.files = {str(copy.folder / one.path): one.path for one in tried}
        self.failed, self.current = False, ""

    def trace(self, frame: Any, event: str, argument: Any) -> Any:
        name = self.files.get(frame.f_code.co_filename)
        if name is None:
            return None
        self.executed.lines[self.current].add((name, frame.f_lineno))
        return self.trace

    def pytest_runtest_logreport(self, report: Any) -> None:
        self.failed = self.failed or report.failed

    def pytest_runtestloop(self, session: Any) -> bool:
        if session.testsfailed:
            raise SystemExit("tests cannot be collected")
        items = {item.nodeid: item for item in session.items}
        self.executed = self._witnessed(list(items.values()))
        self.send(("executed", (dict(self.executed.lines), self.executed.seconds)))
        for number, mutant in enumerate(self.tried):
            if not mutant.always:
                tests = [items[name] for name in self.executed.of(mutant, self.longest)]
                self.send(("survived", (number, self._survives(mutant, tests))))
        return True

    def _run(self, items: list[Any]) -> bool:
        """Run tests until one fails; give whether none did."""
        for item, following in zip(items, [*items[1:], None], strict=True):
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
            if self.failed:
                return False
        return True

    def _witnessed(self, items: list[Any]) -> Executed:
        def work(send: Any) -> None:
            for item, following in zip(items, [*items[1:], None], strict=True):
                self.current, begun = item.nodeid, time.process_time()
                threading.settrace(self.trace)  # slices are decoded in threads
                sys.settrace(self.trace)
                item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
                sys.settrace(None)
                threading.settrace(None)
                self.executed.seconds[item.nodeid] = time.process_time() - begun
                if self.failed:  # tracing makes it too slow, or it needs what the copy lacks
                    print(f"left out, as it fails without a change: {item.nodeid}", flush=True)
                    del self.executed.seconds[item.nodeid]
                    self.failed = False
            send((dict(self.executed.lines), self.executed.seconds, list(sys.modules)))

        for lines, seconds, modules in Forked(work, 3600, 3600).messages():
            self.send(("modules", modules))
            made = Executed(seconds=seconds)
            made.lines.update(lines)
            return made
        raise SystemExit("the tests fail without a change")

    def _survives(self, mutant: Mutant, items: list[Any]) -> bool:
        if not items:
            return True

        def work(send: Any) -> None:
            if not self.copy.put_in_place(mutant):
                raise ValueError(f"{mutant}: not put in place")
            send("in place")
            send(self._run(items))

        seconds = sum(self.executed.seconds[item.nodeid] for item in items)
        with self.copy.changed(mutant):
            said = list(Forked(work, int(20 + 5 * seconds), 300 + 50 * seconds).messages())
        if not said:
            print(f"not tried: {mutant}", flush=True)
        return said == ["in place", True] or not said


def pytest_in(log: Path, arguments: list[str], plugins: list[Any]) -> int:
    """Run pytest in this process with what it prints in a file; give its exit status."""
    number = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(number, stream)
    given = ["-x", "-q", "-s", "-n", "0", "-p", "no:cacheprovider", "--hypothesis-seed=0"]
    with warnings.catch_warnings():
        return int(pytest.main([*given, *arguments], plugins=plugins))


def survivors(
    target: Target, tried: list[Mutant], folder: Path, longest: float
) -> Iterator[Mutant]:
    """Try changes; give those that no test notices."""
    copy, executed, log = Copy(folder), Executed(), folder / "log"
    modules: list[str] = []

    def work(send: Any) -> None:
        pytest_in(log, list(target.tests), [Trial(copy, tried, longest, send)])

    for kind, what in Forked(work, 10**6, 10**6).messages():
        if kind == "executed":
            executed.lines.update(what[0])
            executed.seconds.update(what[1])
        elif kind == "modules":
            modules = what
        elif what[1]:
            yield tried[what[0]]
    if not executed.seconds:
        raise SystemExit(log.read_text()[-4000:])
    _load(modules, folder)
    for mutant in tried:
        if mutant.always and _survives_import(mutant, copy, executed.of(mutant, longest)):
            yield mutant


def _load(modules: list[str], folder: Path) -> None:
    """Load what tests need of other packages, once for all forks."""
    ours = {path.stem for path in (folder / "tests").iterdir()} | {"medtranslate", "__mp_main__"}
    for name in modules:
        if name.split(".")[0] not in ours:
            with suppress(Exception):
                importlib.import_module(name)


def _survives_import(mutant: Mutant, copy: Copy, tests: list[str]) -> bool:
    def work(send: Any) -> None:
        send(pytest_in(copy.folder / "log", tests, []))

    with copy.changed(mutant):
        return list(Forked(work, 300, 3000).messages()) == [0]


def equivalent() -> set[tuple[str, str, str]]:
    """Give the changes that no test could notice, by file, line of code and change."""
    lines = EQUIVALENT.read_text(encoding="utf-8").splitlines()
    return {(one["file"], one["code"], one["change"]) for one in map(json.loads, lines)}


def chosen(target: Target, sample: int, seed: int, only: str) -> tuple[list[Mutant], int]:
    """Give changes to try, by file and line, and of how many they are a sample."""
    known = equivalent()
    every = [
        one
        for module in target.modules
        if only in module
        for one in mutants(module, (REPOSITORY / module).read_bytes())
        if (one.path, one.code, one.change) not in known
    ]
    tried = random.Random(seed).sample(every, min(sample or len(every), len(every)))
    return sorted(tried, key=lambda one: (one.path, one.line)), len(every)


def score(target: Target, tried: list[Mutant], longest: float) -> int:
    """Try changes; print survivors and the score of each module, and give how many were noticed."""
    left: Counter[str] = Counter()
    with tempfile.TemporaryDirectory(prefix="mutation-") as name:
        folder = Path(name).resolve()
        for part in map(REPOSITORY.joinpath, COPIED):
            if part.is_dir():
                ignored = shutil.ignore_patterns("__pycache__", ".hypothesis")
                shutil.copytree(part, folder / part.name, ignore=ignored)
            else:
                shutil.copy(part, folder / part.name)
        os.chdir(folder)
        sys.path[:0] = [name, f"{name}/tests"]
        os.environ["PYTHONPATH"] = name
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        sys.dont_write_bytecode = False
        for mutant in survivors(target, tried, folder, longest):
            print(mutant, flush=True)
            left[mutant.path] += 1
        os.chdir("/")
    for module, count in Counter(mutant.path for mutant in tried).items():
        print(f"  {module}: {count - left[module]} of {count}")
    return len(tried) - left.total()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("--sample", type=int, default=0, help="try so many, at random; 0: all")
    parser.add_argument("--seed", type=int, default=0, help="of the sample")
    parser.add_argument(
        "--longest", type=float, default=15.0, help="leave out slower tests, traced s"
    )
    parser.add_argument("--only", default="", help="modules whose path has this in it")
    options = parser.parse_args()
    for library in ("OMP", "MKL", "OPENBLAS"):
        os.environ[f"{library}_NUM_THREADS"] = "1"
    target, begun = TARGETS[options.target], time.monotonic()
    tried, count = chosen(target, options.sample, options.seed, options.only)
    killed = score(target, tried, options.longest)
    share = 100 * killed / max(1, len(tried))
    print(
        f"{options.target}: {killed} of {len(tried)} ({share:.1f} %), of {count} changes; ", end=""
    )
    print(f"{time.monotonic() - begun:.0f} s")


if __name__ == "__main__":
    main()
