"""Scans to convert, and options that convert them with the tiny model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from scan_fixtures import *  # noqa: F403


@pytest.fixture
def tiny(tiny_bundle: Path, loaded_once: None) -> dict[str, Any]:
    """Options that name the tiny model, on the processor."""
    return {"to": "mri", "bundle": tiny_bundle, "device": "cpu"}
