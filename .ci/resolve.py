"""Ask pip whether medtranslate can be installed beside MONAI Label and the MONAI Deploy App SDK.

Nothing is installed. What each program requires is resolved together with what medtranslate
requires, without packages of gigabytes or such as are built from source. Run it where torch is
installed, or pip fetches it: ``python .ci/resolve.py [PROGRAM ...]``. Exit 1 where one combination
has no solution.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

PROGRAMS = ("monailabel", "monai-deploy-app-sdk")
LEFT_OUT = {"sam2", "holoscan-cu13", "holoscan-cli", "holoscan"}
PIP = (
    sys.executable,
    "-m",
    "pip",
    "install",
    "--dry-run",
    "--quiet",
    "--disable-pip-version-check",
)


def requirements_of(program: str) -> list[str]:
    """Return what a program requires, without its extras."""
    report = subprocess.run(
        [*PIP, "--ignore-installed", "--no-deps", "--report", "-", program],
        check=True,
        capture_output=True,
        text=True,
    )
    wanted = json.loads(report.stdout)["install"][0]["metadata"].get("requires_dist", [])
    names = {each: re.split(r"[^\w.-]", each, maxsplit=1)[0].lower() for each in wanted}
    return [each for each in wanted if "extra ==" not in each and names[each] not in LEFT_OUT]


def main(programs: list[str]) -> int:
    """Resolve each program's requirements with ours; return how many have no solution."""
    project = tomllib.loads(Path(__file__, "../../pyproject.toml").resolve().read_text())["project"]
    failed = 0
    for program in programs or PROGRAMS:
        done = subprocess.run(
            [*PIP, *project["dependencies"], *requirements_of(program)],
            capture_output=True,
            text=True,
        )
        failed += done.returncode != 0
        print(f"{'ok' if not done.returncode else 'no solution'}: medtranslate and {program}")
        if done.returncode:
            print(done.stderr.strip()[-2000:])
    return min(failed, 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
