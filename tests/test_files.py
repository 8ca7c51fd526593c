"""Paths, hashes and shipped data; writing through failures is in tests/faults."""

from __future__ import annotations

import errno
import hashlib
import os
import time
from pathlib import Path

import pytest

from medtranslate import files
from medtranslate.errors import InputMissing, OutputExists, OutputFailed, Unreadable
from medtranslate.files import (
    cache_folder,
    check_present,
    check_target,
    check_target_folder,
    file_hash,
    is_temporary,
    reading,
    remove_leftovers,
    shipped,
    temporary_folder,
    whole_file,
    whole_folder,
)
from medtranslate.imaging import read


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ("version https://git-lfs.github.com/spec/v1\noid sha256:ab", "a pointer of Git LFS"),
        ("/annex/objects/SHA256E-s12--ab.nii.gz\n", "a pointer of git-annex"),
        ("<!DOCTYPE html><html>403 Forbidden", "a web page"),
        ("\n<HTML><body>Log in</body>", "a web page"),
    ],
)
@pytest.mark.parametrize("name", ["scan.nii.gz", "slice.dcm", "scan.mha", "scan.nrrd", "image.png"])
def test_what_stands_for_a_file_that_was_not_fetched_is_named(
    tmp_path: Path, content: str, fault: str, name: str
) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(InputMissing, match=f"is {fault}, not the file itself") as refused:
        read(tmp_path / name)
    assert refused.value.path == tmp_path / name
    with pytest.raises(InputMissing, match=refused.value.fault):
        read(tmp_path)


@pytest.mark.parametrize(
    ("number", "kind", "fault"),
    [
        (errno.EACCES, InputMissing, "cannot be opened: Permission denied"),
        (errno.ENOENT, InputMissing, "cannot be opened: No such file"),
        (errno.EIO, Unreadable, "cannot be read: Input/output error"),
    ],
)
def test_what_cannot_be_read_is_named(number: int, kind: type[Exception], fault: str) -> None:
    with pytest.raises(kind, match=f"a.png: {fault}"), reading("a.png"):
        raise OSError(number, os.strerror(number))


def test_shipped_data_lie_in_the_checkout_and_in_an_installed_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package, recipes = tmp_path / "medtranslate", tmp_path / "transforms"
    (package / "data" / "transforms").mkdir(parents=True)
    recipes.mkdir()
    monkeypatch.setattr(files, "_PACKAGE", package)
    assert shipped("transforms") == package / "data" / "transforms"  # no pyproject.toml

    for foreign in ('[project]\nname = "other"', "[tool.x]", "project = 1", "= damaged"):
        (tmp_path / "pyproject.toml").write_text(foreign)
        assert shipped("transforms") == package / "data" / "transforms"
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "medtranslate"')
    assert shipped("transforms") == recipes
    recipes.rmdir()
    assert shipped("transforms") == package / "data" / "transforms"
    with pytest.raises(InputMissing, match="ships no such file") as raised:
        shipped("bundles/none")
    assert raised.value.path == package / "data" / "bundles" / "none"


def test_the_hash_of_a_file_is_that_of_its_bytes(tmp_path: Path) -> None:
    content = bytes(range(256)) * 1000
    (tmp_path / "scan").write_bytes(content)
    assert file_hash(tmp_path / "scan") == hashlib.sha256(content).hexdigest()
    assert file_hash(str(tmp_path / "scan")) == hashlib.sha256(content).hexdigest()
    with pytest.raises(InputMissing, match="cannot be opened: No such file") as raised:
        file_hash(tmp_path / "none")
    assert raised.value.path == tmp_path / "none"
    with pytest.raises(Unreadable, match="cannot be read: Is a directory") as unread:
        file_hash(tmp_path)
    assert unread.value.path == tmp_path


def test_the_cache_lies_where_the_user_wants_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    for unset in (None, ""):
        monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
        if unset is not None:
            monkeypatch.setenv("XDG_CACHE_HOME", unset)
        assert cache_folder() == Path("/home/someone/.cache/medtranslate")
    monkeypatch.setenv("XDG_CACHE_HOME", "/cache")
    assert cache_folder("prepared", "ct") == Path("/cache/medtranslate/prepared/ct")


def denied(number: int) -> OSError:
    return OSError(number, os.strerror(number))


def test_an_input_that_cannot_be_opened_is_refused_by_its_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "scan").write_bytes(b"voxels")
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "gone")
    os.mkfifo(tmp_path / "pipe")
    for name in ("scan", "empty", "."):
        check_present(tmp_path / name)
    faults = {
        "gone": "no such file or folder",
        "link": "is a link to a file that is not there",
        "pipe": "is no regular file",
    }
    for name, fault in faults.items():
        with pytest.raises(InputMissing) as raised:
            check_present(tmp_path / name)
        assert (raised.value.fault, raised.value.path) == (fault, tmp_path / name)
    for number, fault in (
        (errno.EACCES, "no permission to read"),
        (errno.EIO, "cannot be opened: Input/output error"),
    ):
        for method, name in (("open", "scan"), ("iterdir", "empty")):

            def fail(*_: object, number: int = number, **__: object) -> None:
                raise denied(number)

            with monkeypatch.context() as patch:
                patch.setattr(Path, method, fail)
                with pytest.raises(InputMissing) as raised:
                    check_present(tmp_path / name)
            assert (raised.value.fault, raised.value.path) == (fault, tmp_path / name)


def test_what_is_in_the_way_of_an_output_is_named_before_anything_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("old")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "1.dcm").write_text("old")
    (tmp_path / "left").mkdir()
    (tmp_path / "left" / ".medtranslate-abcdefgh.part").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "gone")
    (tmp_path / "locked").mkdir()
    long = "x" * (os.pathconf(tmp_path, "PC_NAME_MAX") + 1)

    for check in (check_target, check_target_folder):
        for name, fault in (
            (long, "its name would be too long"),
            ("none/file", "its folder does not exist"),
            ("file/below", "its folder does not exist"),
        ):
            with pytest.raises(OutputFailed, match=fault) as raised:
                check(tmp_path / name, False)
            assert raised.value.path == tmp_path / name
        check(tmp_path / long[:-1], False)
        with monkeypatch.context() as patch:
            patch.setattr(os, "access", lambda path, how: how != os.W_OK | os.X_OK)
            with pytest.raises(OutputFailed, match="no permission in its folder"):
                check(tmp_path / "locked" / "new", False)
        monkeypatch.chdir(tmp_path)
        check(Path("new"), False)

    for overwrite in (False, True):
        with pytest.raises(OutputFailed, match="is a folder, a file was to be written") as raised:
            check_target(tmp_path / "full", overwrite)
        assert raised.value.path == tmp_path / "full"
        for name in ("file", "link"):
            with pytest.raises(OutputFailed, match="is a file, a folder was to be"):
                check_target_folder(tmp_path / name, overwrite)
        check_target_folder(tmp_path / "left", overwrite)
        check_target_folder(tmp_path / "new", overwrite)
    check_target(tmp_path / "file", True)
    check_target(tmp_path / "link", True)
    check_target_folder(tmp_path / "full", True)
    taken = {"file": check_target, "link": check_target, "full": check_target_folder}
    for name, check in taken.items():
        with pytest.raises(OutputExists, match="exists already") as exists:
            check(tmp_path / name, False)
        assert exists.value.path == tmp_path / name
        assert exists.value.remedy == "overwriting must be asked for"


def test_a_file_gets_its_name_only_when_it_is_whole(tmp_path: Path) -> None:
    goal = tmp_path / "scan.nii.gz"
    with whole_file(goal) as temporary:
        assert temporary.name == "scan.nii.gz" and temporary.parent.parent == tmp_path
        assert is_temporary(temporary.parent.name)
        assert temporary.parent.stat().st_mode & 0o077 == 0
        temporary.write_bytes(b"new")
        assert not goal.exists()
    assert goal.read_bytes() == b"new" and list(tmp_path.iterdir()) == [goal]
    with pytest.raises(OutputExists), whole_file(goal):
        raise AssertionError("never reached")
    with pytest.raises(KeyError), whole_file(goal, overwrite=True) as temporary:
        temporary.write_bytes(b"half")
        raise KeyError
    assert goal.read_bytes() == b"new" and list(tmp_path.iterdir()) == [goal]


def test_a_file_that_came_into_being_meanwhile_is_not_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    goal = tmp_path / "scan.nii.gz"
    with pytest.raises(OutputExists) as raised, whole_file(goal) as temporary:
        temporary.write_bytes(b"new")
        goal.write_bytes(b"of somebody else")
    assert raised.value.path == goal
    assert goal.read_bytes() == b"of somebody else"
    goal.unlink()
    monkeypatch.setattr(files, "check_target", lambda path, overwrite: None)  # between the two
    with pytest.raises(OutputExists), whole_file(goal) as temporary:
        temporary.write_bytes(b"new")
        goal.write_bytes(b"of somebody else")
    assert goal.read_bytes() == b"of somebody else" and list(tmp_path.iterdir()) == [goal]


def test_a_folder_is_filled_beside_and_exchanged(tmp_path: Path) -> None:
    goal = tmp_path / "a" / "series"
    with pytest.raises(OutputFailed, match="its folder does not exist"), whole_folder(goal):
        raise AssertionError("never reached")
    with whole_folder(goal, parents=True) as temporary:
        assert temporary.parent.parent == goal.parent and not goal.exists()
        (temporary / "1.dcm").write_text("old")
    with whole_folder(goal, parents=True, overwrite=True) as temporary:
        (temporary / "2.dcm").write_text("new")
    assert [path.name for path in goal.iterdir()] == ["2.dcm"]
    assert list(goal.parent.iterdir()) == [goal]
    with pytest.raises(OutputExists), whole_folder(goal):
        raise AssertionError("never reached")
    (tmp_path / "empty").mkdir()
    with whole_folder(tmp_path / "empty") as temporary:
        (temporary / "3.dcm").write_text("new")
    assert [path.name for path in (tmp_path / "empty").iterdir()] == ["3.dcm"]


def test_a_temporary_folder_is_gone_when_its_block_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files.tempfile, "tempdir", str(tmp_path))
    (tmp_path / ".medtranslate-abcdefgh.part").mkdir()  # of a process that was killed
    with temporary_folder() as folder:
        (folder / "1.dcm").write_text("slice")
        assert list(tmp_path.iterdir()) == [folder]
        remove_leftovers(tmp_path)  # another process that begins meanwhile
        assert (folder / "1.dcm").exists()
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(files.tempfile, "tempdir", str(tmp_path / "none"))
    with pytest.raises(OutputFailed) as raised, temporary_folder():
        raise AssertionError("never reached")
    assert raised.value.path == tmp_path / "none"


def test_only_what_nobody_works_in_any_more_is_cleared_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    day, now = 24 * 3600, time.time()
    old, new = tmp_path / ".0123456789abcdef.part.nii", tmp_path / ".0123456789abcdee.part.nii"
    others = tmp_path / ".medtranslate-ofothers.part"
    link = tmp_path / ".medtranslate-linklink.part"
    for path in (old, new):
        path.write_text("half")
    os.utime(old, (now, now - day - 60))
    os.utime(new, (now, now - day + 60))
    others.mkdir()
    link.symlink_to(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(os, "getuid", lambda: others.stat().st_uid + 1)
        remove_leftovers(tmp_path)
        assert old.exists() and others.exists()
    remove_leftovers(tmp_path)
    assert set(tmp_path.iterdir()) == {new, link}

    # Where no lock can be had (another file system, Windows), age decides.
    monkeypatch.setattr(files, "_lock", lambda folder: None)
    for name, age in (("youngyou", day - 60), ("oldoldol", day + 60)):
        (tmp_path / f".medtranslate-{name}.part").mkdir()
        os.utime(tmp_path / f".medtranslate-{name}.part", (now, now - age))
    remove_leftovers(tmp_path)
    assert set(tmp_path.iterdir()) == {new, link, tmp_path / ".medtranslate-youngyou.part"}
    remove_leftovers(tmp_path / "none")


def test_a_folder_that_was_set_aside_comes_back_unless_its_successor_is_there(
    tmp_path: Path,
) -> None:
    aside = tmp_path / ".medtranslate-abcdefgh.part" / "replaced" / "series"
    aside.mkdir(parents=True)
    (aside / "1.dcm").write_text("old")
    remove_leftovers(tmp_path)
    assert (tmp_path / "series" / "1.dcm").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["series"]

    aside.mkdir(parents=True)
    (aside / "1.dcm").write_text("older")
    remove_leftovers(tmp_path)
    assert (tmp_path / "series" / "1.dcm").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["series"]


def test_the_only_copy_of_a_folder_stays_where_it_cannot_be_put_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    aside = tmp_path / ".medtranslate-abcdefgh.part" / "replaced" / "series"
    aside.mkdir(parents=True)
    (aside / "1.dcm").write_text("old")

    def fail(*_: object) -> None:
        raise denied(errno.EIO)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", fail)
        remove_leftovers(tmp_path)
    assert (aside / "1.dcm").read_text() == "old"
    remove_leftovers(tmp_path)
    assert (tmp_path / "series" / "1.dcm").read_text() == "old"


@pytest.mark.parametrize("name", [".medtranslate-x8fz3k1q.part", ".0123456789abcdef.part.nii.gz"])
def test_temporary_names(name: str) -> None:
    assert is_temporary(name)
    assert not is_temporary(f"a{name}") and not is_temporary(f"{name}/x")
    assert not is_temporary(name.replace("part", "parts"))


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP, errno.EIO])
def test_a_folder_that_cannot_be_synced_is_an_error_only_where_folders_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    real, synced = os.fsync, []

    def sync(descriptor: int) -> None:
        synced.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()))
        if Path(synced[-1]).is_dir():
            raise denied(number)
        real(descriptor)

    before = len(list(Path("/proc/self/fd").iterdir()))
    monkeypatch.setattr(os, "fsync", sync)
    if number == errno.EIO:
        with pytest.raises(OutputFailed, match="Input/output error"):
            _write(tmp_path / "scan.nii")
    else:
        _write(tmp_path / "scan.nii")
    assert synced[-1] == str(tmp_path) and len(synced) == 2
    assert len(list(Path("/proc/self/fd").iterdir())) == before  # nothing stays open


def _write(path: Path) -> None:
    with whole_file(path) as temporary:
        temporary.write_bytes(b"new")
