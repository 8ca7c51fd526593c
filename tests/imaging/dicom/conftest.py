"""Reading for the tests of DICOM, and the tools that others trust."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import tools
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
    """`tools.tool`, as a fixture."""
    return tools.tool
