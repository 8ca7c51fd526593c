"""Reading for the tests of DICOM, and the tools that others trust."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from monai.data import MetaTensor

from medtranslate.imaging.dicom import DicomReader


@pytest.fixture
def read() -> Callable[..., MetaTensor]:
    """Read a series, raising what the reader refuses."""

    def read_image(path: Path | list[Path], series: str = "") -> MetaTensor:
        reader = DicomReader(series=series)
        scan = reader.read(path)
        reader.get_data(scan)
        return scan.image()

    return read_image


@pytest.fixture
def tool() -> Callable[[str], str]:
    """Find a program, or skip; where MEDTRANSLATE_REQUIRE_TOOLS is 1 its absence fails."""

    def find(name: str) -> str:
        found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")
        if found is None:
            if os.environ.get("MEDTRANSLATE_REQUIRE_TOOLS") == "1":
                pytest.fail(f"{name} is not installed, and it must be")
            pytest.skip(f"{name} is not installed")
        return found

    return find
