"""Programs of others that tests run."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest


def tool(name: str | Path) -> str:
    """Find a program or a plug-in, or skip; where MEDTRANSLATE_REQUIRE_TOOLS is 1, fail.

    In an active environment pynetdicom's scripts come before the programs of dcmtk whose names they
    have, and know other options; so scripts come last.
    """
    folders = [*os.get_exec_path(), "/usr/sbin", "/sbin"]
    found = [path for folder in folders if (path := shutil.which(name, path=folder))]
    if not found and Path(name).is_file():
        found = [str(name)]
    if not found:
        if os.environ.get("MEDTRANSLATE_REQUIRE_TOOLS") == "1":
            pytest.fail(f"{name} is not installed, and it must be")
        pytest.skip(f"{name} is not installed")
    return min(found, key=_is_script)


def _is_script(path: str) -> bool:
    with Path(path).open("rb") as opened:
        return opened.read(2) == b"#!"
