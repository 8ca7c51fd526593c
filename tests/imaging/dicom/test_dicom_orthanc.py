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
@pytest.mark.parametrize(("modality", "target"), [("CT", "MR"), ("MR", "CT")])
def test_an_archive_takes_what_it_gave(tmp_path, tool, modality, target):
    orthanc, storescu = tool("Orthanc"), tool("storescu")
    enter = namespace(tool("unshare"))
    source = write(tmp_path / "in", series(modality))
    command = [*enter, sys.executable, str(SCRIPT), orthanc, storescu, str(source), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout.splitlines()[-1])
    assert told == {"instances": 4, "dicomweb": True, "equal": 4, "modality": target}
