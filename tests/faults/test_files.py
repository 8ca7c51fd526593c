"""Whole files and folders through failures, kills and power cuts, at each operation in turn."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from random import Random

import pytest
from faults.injection import KINDS, Faults, Operation, injected

from medtranslate import files
from medtranslate.errors import OutputFailed
from medtranslate.files import is_temporary, remove_leftovers, whole_file, whole_folder


def write_file(folder: Path) -> None:
    with whole_file(folder / "scan.nii", overwrite=True) as temporary:
        temporary.write_bytes(b"new" * 1000)


def write_folder(folder: Path) -> None:
    with whole_folder(folder / "series", overwrite=True) as temporary:
        for number in range(3):
            (temporary / f"{number}.dcm").write_bytes(b"new" * 1000)


WRITERS = {"file": write_file, "folder": write_folder, "folder, by two renames": write_folder}


@pytest.fixture(params=WRITERS)
def writer(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable:
    if "two renames" in request.param:
        monkeypatch.setattr(files, "_renamed", lambda source, target, flag: False)
    else:  # its system call passes no audit hook
        real = files._renamed

        def renamed(source: Path, target: Path, flag: int) -> bool:
            sys.audit("os.rename", str(source), str(target), -1, -1)
            return real(source, target, flag)

        monkeypatch.setattr(files, "_renamed", renamed)
    return WRITERS[request.param]


def lay(folder: Path) -> Path:
    folder.mkdir()
    (folder / "scan.nii").write_bytes(b"old" * 500)
    (folder / "series").mkdir()
    for number in range(2):
        (folder / "series" / f"{number}.dcm").write_bytes(b"old" * 500)
    return folder


def content(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not any(map(is_temporary, path.relative_to(folder).parts))
    }


def operations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Callable) -> Faults:
    with injected(Faults(lay(tmp_path / "counted")), monkeypatch) as faults:
        write(tmp_path / "counted")
    return faults


@pytest.mark.parametrize("error", KINDS)
def test_whichever_operation_fails_the_old_or_the_new_is_there_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writer: Callable, error: str
) -> None:
    count = len(operations(tmp_path, monkeypatch, writer).seen)
    new = content(tmp_path / "counted")
    assert count >= 8
    for nth in range(count):
        folder = lay(tmp_path / f"{nth}")
        old, raised = content(folder), False
        with injected(Faults(folder, nth, error), monkeypatch) as faults:
            try:
                writer(folder)
            except OutputFailed:
                raised = True
        assert content(folder) in ((old, new) if raised else (new,)), faults.failed
        # What clears up is tried again by the next run; Python makes an interrupted write again.
        again = faults.failed.removes or (faults.failed.kind, error) == ("write", "EINTR")
        assert raised or again or faults.failed.kind == "read", faults.failed
        remove_leftovers(folder)
        assert not [path for path in folder.iterdir() if is_temporary(path.name)]


def test_a_kill_at_any_operation_leaves_the_old_or_the_new_and_the_next_write_clears_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writer: Callable
) -> None:
    count = len(operations(tmp_path, monkeypatch, writer).seen)
    new = content(tmp_path / "counted")
    for nth in range(count):
        folder = lay(tmp_path / f"{nth}")
        old = content(folder)
        faults = Faults(folder, nth, killed=True)
        with injected(faults, monkeypatch), suppress(OutputFailed):
            writer(folder)
        remove_leftovers(folder)
        assert content(folder) in (old, new), faults.failed
        writer(folder)
        assert content(folder) == new
        assert not [path for path in folder.iterdir() if is_temporary(path.name)]


def check_order(seen: list[Operation]) -> int:
    """Assert that nothing gets its name before it is on the disk; return how many names there are.

    Every file below what is renamed, and every folder, was synced after its last change, and the
    folder that holds the new name is synced afterwards.
    """
    names = 0
    for place, rename in enumerate(seen):
        if rename.kind != "os.rename" or not _unfinished(rename.path) or _unfinished(rename.target):
            continue
        names += 1
        before, after = seen[:place], seen[place + 1 :]
        inside = [one for one in before if f"{one.path}/".startswith(f"{rename.path}/")]
        for path in {one.path for one in inside if one.kind in ("create", "write", "os.mkdir")}:
            kinds = [one.kind for one in inside if one.path == path]
            gone = kinds[-1] in ("os.rename", "os.rmdir", "os.remove")
            if gone or _unfinished(path.removeprefix(rename.path)):
                continue
            assert kinds[-1] in ("sync", "read") and "sync" in kinds, (path, kinds)
        parent = str(Path(rename.target).parent)
        assert any(one.kind == "sync" and one.path == parent for one in after), rename
    return names


def _unfinished(path: str) -> bool:
    return any(map(is_temporary, Path(path).parts))


def test_everything_is_on_the_disk_before_it_gets_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writer: Callable
) -> None:
    assert check_order(operations(tmp_path, monkeypatch, writer).seen) == 1


def test_what_could_not_be_cleared_up_inside_a_folder_is_not_published(tmp_path: Path) -> None:
    with whole_folder(tmp_path / "out") as temporary:
        (temporary / "1.dcm").write_text("slice")
        (temporary / ".medtranslate-abcdefgh.part").mkdir()
        (temporary / ".medtranslate-abcdefgh.part" / "1.dcm").write_text("half a slice")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["1.dcm"]


WRITES_ON = """
import itertools, sys
from pathlib import Path
from medtranslate.files import whole_file, whole_folder

folder = Path(sys.argv[1])
for turn in itertools.count(int(sys.argv[2])):
    with whole_file(folder / "scan.nii", overwrite=True) as temporary:
        temporary.write_text(f"{turn} " * 20000)
    with whole_folder(folder / "series", overwrite=True) as temporary:
        for number in range(20):
            (temporary / f"{number}.dcm").write_text(f"{turn} " * 500)
    print(turn, flush=True)
"""


def test_kill_9_at_random_moments(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    random = Random(0)
    done = 0
    for _ in range(200 if request.config.getoption("--every-fault", default=False) else 6):
        command = [sys.executable, "-c", WRITES_ON, str(tmp_path), str(done)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            done = int(process.stdout.readline())  # both are there from now on
            time.sleep(random.uniform(0, 0.05))
            process.kill()
        file = set((tmp_path / "scan.nii").read_text().split())
        series = [path.read_text() for path in sorted((tmp_path / "series").iterdir())]
        assert len(file) == 1 and (tmp_path / "scan.nii").read_text().count(" ") == 20000
        assert len(series) == 20 and len(set(series)) == 1 and series[0].count(" ") == 500
        assert all(done <= int(turn) for turn in (*file, series[0].split()[0]))
        assert len([path for path in tmp_path.iterdir() if is_temporary(path.name)]) <= 1
    remove_leftovers(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"scan.nii", "series"}
