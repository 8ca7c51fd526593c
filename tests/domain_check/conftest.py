"""A made head, prepared and halved."""

from __future__ import annotations

import pytest
import torch

from medtranslate.domain_check import Slices, halved
from medtranslate.files import shipped
from medtranslate.phantom import Phantom
from medtranslate.transforms import Prepared, load_recipe


@pytest.fixture(scope="session")
def head() -> Prepared:
    """A made head CT of twelve slices, prepared."""
    scan = Phantom(shape=(96, 112, 12), spacing=(2.0, 2.0, 9.0)).volume()
    return load_recipe(shipped("transforms/ct-volume.yaml")).prepare(scan)


@pytest.fixture(scope="session")
def halves(head: Prepared) -> torch.Tensor:
    """Its slices that show a head, halved."""
    shown = head.head.flatten(1).float().mean(1) > 0.05
    return halved(head.slices[shown], head.head[shown])


@pytest.fixture(scope="session")
def slices(halves: torch.Tensor) -> dict[str, Slices]:
    """The made head as both modalities: dark and bright exchanged for MR."""
    shade, cover = halves.unbind(1)
    other = torch.stack([cover - shade, cover], dim=1)
    return {name: Slices(each, each) for name, each in (("CT", halves), ("MR", other))}
