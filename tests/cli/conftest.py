"""Scans to convert and the command to convert them with, in this process."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from scan_fixtures import *  # noqa: F403

from medtranslate.cli.app import app
from medtranslate.cli.endings import run
from medtranslate.cli.progress import ProgressLines


@dataclass(frozen=True)
class Done:
    code: int
    out: str
    err: str


Command = Callable[..., Done]


@pytest.fixture
def command(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, loaded_once: None
) -> Command:
    """Run a command line and give its exit code and what it said."""
    monkeypatch.setattr(ProgressLines, "SECONDS", math.inf)  # however slow the machine

    def call(*arguments: object) -> Done:
        code = run(app, [str(one) for one in arguments])
        said = capsys.readouterr()
        return Done(code, said.out, said.err)

    return call


@pytest.fixture
def convert(command: Command, tiny_bundle: Path) -> Command:
    """Run ``convert`` with the tiny bundle, on the processor."""
    return lambda *arguments: command(
        "convert", *arguments, "--bundle", tiny_bundle, "--device", "cpu"
    )
