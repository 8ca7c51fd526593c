"""Options are spelled alike in all commands, in any case, and complete in a shell."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import pytest

from medtranslate.cli.app import COMMANDS
from medtranslate.cli.progress import ProgressDisplay, ProgressLines

DATA = ("check", "prepare", "pair", "render")
BUNDLE = ("info", "verify", "export", "refresh", "import-cyclegan", "export-network")


def completions(line: str) -> list[str]:
    """Return what a shell is offered for the last word of a command line."""
    words = line.split(" ")
    done = subprocess.run(
        [sys.executable, "-m", "medtranslate"],
        env={
            **os.environ,
            "_MEDTRANSLATE_COMPLETE": "complete_bash",
            "COMP_WORDS": line,
            "COMP_CWORD": str(len(words) - 1),
        },
        capture_output=True,
        text=True,
    )
    return done.stdout.split()


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("medtranslate conv", ["convert"]),
        ("medtranslate convert --to ", ["mri", "ct"]),
        ("medtranslate convert --format n", ["nii.gz", "nii", "nrrd"]),
        ("medtranslate convert --precision ", ["auto", "float32", "bf16"]),
        ("medtranslate bundle export-network --to m", ["mri"]),
    ],
)
def test_a_shell_completes_commands_and_choices(line: str, offered: list[str]) -> None:
    assert completions(line) == offered


def test_names_are_accepted_in_any_case_and_usual_spelling(convert, ct, tmp_path) -> None:
    options = ["--to", "MR", "--from", "Ct", "-f", "NII", "--precision", "Float32", "-q"]

    done = convert(ct, *options, "--report", tmp_path / "r.json")

    assert (done.code, done.out, done.err) == (0, "", "")
    assert (tmp_path / "scan_mri.nii").is_file()
    options = json.loads((tmp_path / "r.json").read_text())["options"]
    assert (options["to"], options["modality"]) == ("mri", "CT")


def test_the_short_form_of_verbose_shows_a_traceback(command, ct, monkeypatch) -> None:
    from medtranslate.conversion import inspection

    monkeypatch.setattr(inspection, "survey", lambda path: 1 / 0)

    assert "Traceback" in command("inspect", ct, "-v").err
    assert "Traceback" not in command("inspect", ct).err


@pytest.mark.parametrize("name", ["gpu", "cuda:first", "cpu:"])
def test_a_device_that_no_machine_has_is_refused_at_once(command, ct, name) -> None:
    done = command("convert", ct, "--to", "mri", "--device", name)

    assert done.code == 11 and f"no device {name!r}" in done.err and done.err.count("\n") == 1


def test_a_result_does_not_go_to_standard_output(convert, ct, listed) -> None:
    done = convert(ct, "--to", "mri", "-o", "-")

    assert done.code == 2 and "results are files or folders" in done.err
    assert listed() == {"scan.nii.gz"}


def test_a_short_form_means_the_same_in_every_command(command) -> None:
    lines = [*COMMANDS, *(f"data {one}" for one in DATA), *(f"bundle {one}" for one in BUNDLE)]
    meanings: dict[str, set[str]] = {}
    for line in lines:
        said = command(*line.split(), "--help").out
        for short, name in re.findall(r"^  (-\w), (--[\w-]+)", said, re.MULTILINE):
            meanings.setdefault(short, set()).add(name)
        for name in ("--output", "--quiet", "--verbose"):
            if name in said:
                assert f"-{name[2]}, {name}" in said, line

    assert {short: names for short, names in meanings.items() if len(names) > 1} == {}
    assert meanings.keys() == {"-f", "-h", "-m", "-n", "-o", "-q", "-v"}


def test_progress_without_a_terminal_is_a_few_lines(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seconds = iter(range(0, 10_000, 3))
    monkeypatch.setattr("medtranslate.cli.progress.time.monotonic", lambda: next(seconds))
    lines = ProgressLines()

    for done in range(101):
        lines.step("long.nii.gz", done, 100)
    for name in ("a.nii.gz", "b.nii.gz"):
        lines.step(name, 0, 0)
        lines.step(name, 2, 2)

    said = capsys.readouterr().err.splitlines()
    assert said == [f"medtranslate: long.nii.gz: {share} %" for share in range(10, 101, 10)]


def test_progress_of_one_step_ends_when_all_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    with ProgressDisplay() as display:
        show = display.counter("preparing scans")
        show(1, 2)
        assert display._bars.live.is_started
        show(2, 2)
        assert not display._bars.live.is_started
        show(1, 3)  # the next folder
        assert display._bars.live.is_started
    assert not display._bars.live.is_started
