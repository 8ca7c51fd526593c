"""An archive takes the derived series: Orthanc, on loopback in a network namespace of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from .factory import series, write

SCRIPT = Path(__file__).with_name("orthanc_loopback.py")


def namespace(unshare):
    """Give the command that enters a fresh network namespace, or skip."""
    for options in (["-n"], ["-rn"]):
        command = [unshare, *options]
        if subprocess.run([*command, "true"], capture_output=True, timeout=20).returncode == 0:
            return command
    if os.environ.get("MEDTRANSLATE_REQUIRE_TOOLS") == "1":
        pytest.fail("network namespaces are not permitted here, and they must be")
    pytest.skip("network namespaces are not permitted here")


@pytest.mark.slow
def test_an_archive_takes_what_it_gave(tmp_path, tool):
    orthanc, storescu = tool("Orthanc"), tool("storescu")
    enter = namespace(tool("unshare"))
    sources = [write(tmp_path / modality, series(modality)) for modality in ("CT", "MR")]
    command = [*enter, sys.executable, SCRIPT, orthanc, storescu, tmp_path, *sources]
    done = subprocess.run(command, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout.splitlines()[-1])
    assert told == [
        {"instances": 4, "dicomweb": True, "equal": 4, "modality": target}
        for target in ("MR", "CT")
    ]
