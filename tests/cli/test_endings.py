"""A signal, a full disk, a broken pipe: how the process ends and what it leaves."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from medtranslate.files import is_temporary
from medtranslate.imaging import nifti
from medtranslate.translation import Translator


@pytest.mark.parametrize(
    ("number", "code", "said"),
    [(signal.SIGTERM, 143, "terminated"), (signal.SIGINT, 130, "interrupted")],
)
def test_a_signal_during_translation_leaves_nothing(
    convert, ct, listed, monkeypatch, request, number, code, said
) -> None:
    monkeypatch.setattr(
        Translator, "translate_slices", lambda *a, **k: os.kill(os.getpid(), number)
    )
    # A shell lets its background jobs ignore SIGINT, which Python then does too.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))

    done = convert(ct, "--to", "mri")

    assert (done.code, done.err) == (code, f"medtranslate: error: {said}\n")
    assert listed() == {"scan.nii.gz"}


def test_a_signal_while_writing_leaves_nothing(convert, ct, listed, monkeypatch) -> None:
    write, seen = nifti._write, []

    def killed(*arguments: object) -> None:
        write(*arguments)
        seen.extend(listed())
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(nifti, "_write", killed)

    assert convert(ct, "--to", "mri", "-o", ct.parent / "new folder").code == 143
    assert any(".part" in name for name in seen)
    assert listed() == {"scan.nii.gz"}


def test_the_handlers_of_signals_are_given_back(convert, ct) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]

    convert(ct, "--to", "ct")

    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before


@pytest.mark.parametrize(("name", "code"), [("SIGTERM", 143), ("SIGINT", 130)])
def test_an_import_does_not_swallow_a_signal(tmp_path, name, code) -> None:
    """A module that is imported while the signal comes, and that catches all it can."""
    (tmp_path / "greedy.py").write_text(f"""
import os, signal, time
try:
    os.kill(os.getpid(), signal.{name})
    time.sleep(0.02)
except BaseException:
    pass
""")
    program = """
import signal, time, typer
signal.signal(signal.SIGINT, signal.default_int_handler)
from medtranslate.cli.endings import run

app = typer.Typer()

@app.command()
def work():
    import greedy
    for _ in range(500):  # the second signal comes between two sleeps
        time.sleep(0.01)
    print("went on")

raise SystemExit(run(app, []))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )

    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr.count("\n") == 1


def test_a_kill_leaves_no_output_under_its_name(convert, ct, listed, monkeypatch) -> None:
    """SIGKILL while writing: nothing can be cleaned up, but nothing looks like a result."""
    write = nifti._write

    def killed(*arguments: object) -> None:
        write(*arguments)
        os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(nifti, "_write", killed)
    process = os.fork()
    if process == 0:
        try:
            convert(ct, "--to", "mri")
        finally:
            os._exit(0)
    _, status = os.waitpid(process, 0)

    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
    left = listed() - {"scan.nii.gz"}
    assert len(left) == 2 and all(is_temporary(name.split("/")[0]) for name in left)


@contextmanager
def little_space() -> Iterator[None]:
    """Let this process write no file of more than 2000 bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def test_a_full_disk_leaves_nothing(convert, ct, listed) -> None:
    with little_space():
        done = convert(ct, "--to", "mri")

    assert done.code == 9
    assert done.err == (
        f"medtranslate: error: {ct.parent / 'scan_mri.nii.gz'}: cannot be written: File too large\n"
    )
    assert listed() == {"scan.nii.gz"}


def test_help_answers_in_half_a_second() -> None:
    """One of several does, in time on a core, so that a busy machine does not decide."""

    def on_a_core() -> float:
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        return used.ru_utime + used.ru_stime

    took = []
    for _ in range(5):
        start = on_a_core()
        done = subprocess.run(
            [sys.executable, "-m", "medtranslate", "--help"], capture_output=True, text=True
        )
        took.append(on_a_core() - start)
        assert done.returncode == 0 and "convert" in done.stdout
        if took[-1] < 0.5:
            break

    assert min(took) < 0.5


def run_and_name_what_is_heavy(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a process of its own; heavy packages that it imported end its stdout."""
    code = f"""
import sys
sys.argv[1:] = {list(arguments)!r}
from medtranslate.cli import main
try:
    main()
finally:
    heavy = {{"torch", "monai", "numpy", "SimpleITK", "nibabel", "pydicom", "PIL"}}
    print("heavy:", *sorted(heavy & set(sys.modules)))
"""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)


@pytest.mark.parametrize("command", ["convert", "inspect", "demo"])
def test_help_imports_nothing_heavy(command: str) -> None:
    done = run_and_name_what_is_heavy(command, "--help")

    assert done.returncode == 0, done.stderr
    assert "Usage: medtranslate" in done.stdout and done.stdout.endswith("heavy:\n")


@pytest.mark.parametrize("arguments", [("convert", "--to", "mri"), ("inspect",)])
def test_a_mistyped_path_is_told_before_anything_heavy_is_imported(
    arguments: tuple[str, ...], tmp_path: Path
) -> None:
    done = run_and_name_what_is_heavy(*arguments, str(tmp_path / "scna.nii.gz"))

    assert done.returncode == 3
    assert done.stderr == f"medtranslate: error: {tmp_path}/scna.nii.gz: no such file or folder\n"
    assert done.stdout == "heavy:\n"


@pytest.mark.parametrize("arguments", [[], ["data"], ["bundle"]])
def test_without_arguments_there_is_the_help_line_by_line(command, arguments) -> None:
    done = command(*arguments)

    assert done.code == 2 and done.out == ""
    assert done.err.startswith("Usage: medtranslate") and done.err.count("\n") > 5


def test_version(command) -> None:
    import medtranslate

    assert command("--version").out == f"medtranslate {medtranslate.__version__}\n"


def test_every_command_has_its_help(command) -> None:
    said = command("--help").out
    for name in ("convert", "inspect", "demo", "train", "evaluate"):
        assert f"\n  {name} " in said
        assert command(name, "--help").code == 0
