"""The check that comes with the shipped bundle, on synthetic scans and on the real ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from head_scans import image_2d
from monai.data import MetaTensor

from medtranslate.bundle import Bundle
from medtranslate.domain_check import DomainCheck, Judgment, load_domain
from medtranslate.imaging import read
from medtranslate.phantom import Phantom
from medtranslate.transforms import Prepared

VOLUMES = ["dicom/ct-head-tilted", "dicom/mr-brain-t2", "nifti/mr-brain-t2w.nii.gz"]


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return Bundle.load()


@pytest.fixture(scope="module")
def check(bundle: Bundle) -> DomainCheck:
    found = load_domain(bundle)
    assert found is not None
    return found


def judged(check: DomainCheck, bundle: Bundle, scan: MetaTensor, modality: str = "") -> Judgment:
    source = dict(scan.meta["source"])
    source["modality"] = modality or source["modality"]
    prepared = bundle.recipe(source["modality"], source["kind"]).prepare(scan)
    return check.judge(prepared, source)


def turned(prepared: Prepared, quarters: int) -> Prepared:
    return Prepared(
        prepared.slices.rot90(quarters, (2, 3)).contiguous(),
        prepared.head.rot90(quarters, (1, 2)).contiguous(),
        prepared.limits,
        prepared.placement,
    )


def disc(rows: float, columns: float) -> np.ndarray:
    y, x = np.mgrid[-1:1:256j, -1:1:256j]
    return np.where(np.hypot(x / columns, y / rows) < 1, 120.0, 0.0)


def box() -> np.ndarray:
    gray = np.zeros((256, 256))
    gray[60:200, 70:190] = 140
    return gray


def noise() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (256, 256)).astype(float)


@pytest.mark.parametrize("modality", ["CT", "MR"])
@pytest.mark.parametrize(
    "gray", [disc(0.5, 0.5), box(), noise(), np.zeros((256, 256))],
    ids=["disc", "box", "noise", "empty"],
)  # fmt: skip
def test_what_is_no_head_is_refused(
    check: DomainCheck, bundle: Bundle, modality: str, gray: np.ndarray
) -> None:
    judgment = judged(check, bundle, image_2d(gray, modality))

    assert judgment.verdict != "passed"
    assert judgment.reasons


def test_a_synthetic_head_phantom_is_not_refused(check: DomainCheck, bundle: Bundle) -> None:
    assert judged(check, bundle, Phantom().volume()).verdict != "refused"


def test_left_and_right_exchanged_leave_the_verdict(check: DomainCheck, bundle: Bundle) -> None:
    scan = Phantom().image_2d()
    mirrored = image_2d(scan.as_tensor()[0, ..., 0].numpy().T[:, ::-1].copy(), "CT")

    here, there = (judged(check, bundle, each) for each in (scan, mirrored))

    assert here.verdict == there.verdict
    assert here.score == pytest.approx(there.score, abs=0.02)


@pytest.mark.data
@pytest.mark.parametrize("name", VOLUMES)
def test_real_heads_are_not_refused_but_on_their_side_they_are(
    check: DomainCheck, bundle: Bundle, shared_data: Path, name: str
) -> None:
    scan = read(shared_data / name)
    source = scan.meta["source"]
    prepared = bundle.recipe(source["modality"], source["kind"]).prepare(scan)

    assert check.judge(prepared, source).verdict != "refused"
    for quarters in (1, 3):
        aside = check.judge(turned(prepared, quarters), source)
        assert aside.verdict == "refused"
        assert aside.reasons[0].startswith("lying on its side")


@pytest.mark.data
@pytest.mark.parametrize("name", VOLUMES)
def test_real_heads_given_as_the_other_modality_are_refused(
    check: DomainCheck, bundle: Bundle, shared_data: Path, name: str
) -> None:
    scan = read(shared_data / name)
    other = {"CT": "MR", "MR": "CT"}[scan.meta["source"]["modality"]]

    assert judged(check, bundle, scan, other).verdict == "refused"


@pytest.mark.data
@pytest.mark.parametrize("name", VOLUMES[1:])
def test_the_scale_of_mr_units_says_nothing(
    check: DomainCheck, bundle: Bundle, shared_data: Path, name: str
) -> None:
    scan = read(shared_data / name)
    louder = scan.clone()
    louder.mul_(torch.tensor(3.5))

    here, there = (judged(check, bundle, each) for each in (scan, louder))

    assert there.verdict == here.verdict
    assert there.score == pytest.approx(here.score, abs=0.05)
