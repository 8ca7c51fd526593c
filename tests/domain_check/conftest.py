"""A synthetic head phantom, prepared, at half resolution."""

from __future__ import annotations

import pytest
import torch

from medtranslate.domain_check import half_resolution
from medtranslate.domain_check.calibration import CalibrationSlices
from medtranslate.files import shipped
from medtranslate.phantom import Phantom
from medtranslate.transforms import Prepared, load_recipe


@pytest.fixture(scope="session")
def head() -> Prepared:
    """A synthetic head CT of twelve slices, prepared."""
    scan = Phantom(shape=(96, 112, 12), spacing=(2.0, 2.0, 9.0)).volume()
    return load_recipe(shipped("transforms/ct-volume.yaml")).prepare(scan)


@pytest.fixture(scope="session")
def halves(head: Prepared) -> torch.Tensor:
    """Its slices that show a head, at half resolution."""
    shown = head.head.flatten(1).float().mean(1) > 0.05
    return half_resolution(head.slices[shown], head.head[shown])


@pytest.fixture(scope="session")
def slices(halves: torch.Tensor) -> dict[str, CalibrationSlices]:
    """The phantom as both modalities: dark and bright exchanged for MR."""
    shade, cover = halves.unbind(1)
    other = torch.stack([cover - shade, cover], dim=1)
    return {name: CalibrationSlices(each, each) for name, each in (("CT", halves), ("MR", other))}
