"""The module for 3D Slicer, with a stand-in for what it uses of Slicer's API."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from scan_fixtures import *  # noqa: F403

from medtranslate.errors import InvalidOption, OutOfDomain, WrongModality

MODULE = Path(__file__).parents[1] / "integrations/slicer/MedTranslate/MedTranslate.py"


@dataclass
class Node:
    """A volume of the scene."""

    image: Any
    name: str

    def GetName(self) -> str:  # noqa: N802
        return self.name


def load(path: str, properties: dict[str, Any]) -> Node:
    image = nib.load(path)
    return Node(nib.Nifti1Image(np.asarray(image.dataobj), image.affine), properties["name"])


@pytest.fixture
def logic(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    slicer = ModuleType("slicer")
    slicer.util = SimpleNamespace(
        saveNode=lambda node, path: nib.save(node.image, path), loadVolume=load
    )
    base = ModuleType("slicer.ScriptedLoadableModule")
    for name in ("", "Logic", "Widget"):
        setattr(base, f"ScriptedLoadableModule{name}", type(f"Base{name}", (), {}))
    monkeypatch.setitem(sys.modules, "slicer", slicer)
    monkeypatch.setitem(sys.modules, "slicer.ScriptedLoadableModule", base)
    spec = importlib.util.spec_from_file_location("MedTranslate", MODULE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module.MedTranslateLogic()


def test_a_volume_of_the_scene_becomes_a_volume_and_an_error_map(
    logic: Any, ct: Path, tiny_bundle: Path
) -> None:
    shares: list[float] = []

    made = logic.translate(
        Node(nib.load(ct), "Head"),
        to="mri",
        force=True,
        progress=shares.append,
        bundle=tiny_bundle,
        device="cpu",
    )

    assert (made["volume"].name, made["error"].name) == ("Head SYNTHETIC MR", "Head cycle error")
    for node in (made["volume"], made["error"]):
        assert node.image.shape == nib.load(ct).shape
        np.testing.assert_array_equal(node.image.affine, nib.load(ct).affine)
    assert made["label"].startswith("SYNTHETIC MR")
    assert shares[-1] == 1.0


def test_what_cannot_be_translated_is_refused_with_the_reason(logic: Any) -> None:
    with pytest.raises(InvalidOption, match="no volume is chosen"):
        logic.translate(None, to="ct")


def test_a_result_is_not_translated_back_as_if_it_were_a_scan(
    logic: Any, ct: Path, tiny_bundle: Path
) -> None:
    image = nib.load(ct)
    image.header["descrip"] = b"SYNTHETIC MR, NOT FOR DIAGNOSIS"

    with pytest.raises((WrongModality, OutOfDomain), match="SYNTHETIC MR"):
        logic.translate(Node(image, "made"), to="mri", bundle=tiny_bundle, device="cpu")
