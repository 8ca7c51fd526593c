"""The domain check of a run: calibrated on its slices, and on heads rendered from label maps."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
import torch

from medtranslate.bundle import Bundle
from medtranslate.domain_check import load_domain
from medtranslate.domain_check.anomalies import ANOMALIES, VIEW_ANOMALIES
from medtranslate.domain_check.calibration import CalibrationSettings
from medtranslate.label_synthesis import LabelMap, LabelMaps, TissueTable
from medtranslate.packaging import calibrate
from medtranslate.packaging.calibrate import RenderedHeads, calibrate_from_run
from medtranslate.training.data import Data
from medtranslate.training.prepared import PreparedSet, ScanRecord

QUICK = CalibrationSettings(
    classifiers=1, examples=128, epochs=1, view_examples=128, view_epochs=1, variants=0
)


@pytest.fixture(scope="module")
def labels() -> LabelMaps:
    """A ball of white matter in a box of it that is longer than broad, and higher than long."""
    table = TissueTable.read()
    block = torch.full((40, 50, 60), table.index("white_matter"), dtype=torch.uint8)
    return LabelMaps((LabelMap(block, (3.0, 3.0, 3.0), (-88.5, 88.5)),), table)


def prepared(modality: str, count: int = 100) -> PreparedSet:
    """Ellipses with a gradient, each of another scan."""
    y, x = torch.meshgrid(torch.linspace(-1, 1, 256), torch.linspace(-1, 1, 256), indexing="ij")
    widths = torch.linspace(0.5, 0.6, count)[:, None, None]
    gray = torch.where(x**2 / widths**2 + y**2 / 0.6 < 1, 120 + 80 * y, 0).to(torch.uint8)
    records = tuple(ScanRecord(str(n), str(n), 1, 0, modality, "") for n in range(count))
    return PreparedSet(modality, gray, torch.arange(count, dtype=torch.int32), records)


def known(numbers: bytes, folder: Path) -> int:
    """How many anomalies a check knows."""
    path = folder / "domain.safetensors"
    path.write_bytes(numbers)
    check = load_domain(cast(Bundle, SimpleNamespace(domain=path)))
    assert check is not None
    return len(check.modalities["MR"].anomalies.knots)


def test_rendered_heads_have_both_modalities_and_all_planes(labels: LabelMaps) -> None:
    heads = RenderedHeads.of(labels, seed=0, axial=3, planes=2)

    for modality in ("CT", "MR"):
        assert heads.axial[modality].shape == (3, 2, 128, 128)
        assert heads.planes[modality].shape == (4, 2, 128, 128)
        shade, cover = heads.planes[modality].float().unbind(1)
        assert bool((shade <= cover).all()) and float(cover.mean()) > 0.1


def test_label_maps_teach_a_runs_check_the_other_views(
    labels: LabelMaps, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calibrate, "_RENDERED", 4)
    monkeypatch.setattr(calibrate, "_OTHER_PLANES", 2)
    data = Data(prepared("CT"), prepared("MR"))

    without = calibrate_from_run(data, settings=QUICK)
    taught = calibrate_from_run(replace(data, labels=labels), settings=QUICK)

    assert without is not None and taught is not None
    assert known(without, tmp_path) == len(ANOMALIES) - len(VIEW_ANOMALIES)
    assert known(taught, tmp_path) == len(ANOMALIES)


def test_few_slices_calibrate_no_check() -> None:
    assert calibrate_from_run(Data(prepared("CT", 99), prepared("MR"))) is None
