from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load, save

from medtranslate.bundle import Bundle, attach
from medtranslate.domain_check import DomainCheck, anomalies
from medtranslate.domain_check.anomalies import ANOMALIES, ON_ITS_SIDE, VIEW_ANOMALIES
from medtranslate.domain_check.calibration import (
    CalibrationSettings,
    CalibrationSlices,
    anomaly_scale,
    calibrate,
)
from medtranslate.domain_check.check import FORMAT, load_domain, to_bytes
from medtranslate.domain_check.classifier import augmented, extract_features
from medtranslate.errors import ModelUnusable
from medtranslate.transforms import Prepared

QUICK = CalibrationSettings(
    classifiers=2, examples=64, epochs=1, view_examples=128, view_epochs=1, variants=1
)


def of_format(number: int) -> dict[str, str]:
    """The metadata of a check of that format."""
    about = {"format": number, "limits": [1.5, 2.2], "namers": {"CT": 2, "MR": 2}}
    return {"medtranslate": json.dumps(about)}


@pytest.fixture(scope="module")
def quick(slices: dict[str, CalibrationSlices]) -> DomainCheck:
    """A check that knows little, but is one."""
    return calibrate(slices, settings=QUICK)


@pytest.fixture
def bundle(tiny_bundle: Path, tmp_path: Path, quick: DomainCheck) -> Path:
    """A bundle with a check."""
    folder = tmp_path / "bundle"
    shutil.copytree(tiny_bundle, folder)
    attach(folder, "domain", to_bytes(quick))
    return folder


def test_a_bundle_gives_back_the_check_that_it_was_given(
    bundle: Path, quick: DomainCheck, head: Prepared
) -> None:
    loaded = load_domain(Bundle.load(bundle))

    assert loaded is not None
    for modality in ("CT", "MR"):
        before, after = (c.judge(head, {"modality": modality}) for c in (quick, loaded))
        assert after.limits == before.limits
        assert after.score == pytest.approx(before.score, abs=0.05)  # weights are kept in 16 bit
        assert after.slices is not None and len(after.slices) == len(head.slices)


def with_planes(slices: dict[str, CalibrationSlices]) -> dict[str, CalibrationSlices]:
    return {name: replace(each, planes=each.fit.rot90(1, (2, 3))) for name, each in slices.items()}


def test_slices_of_other_planes_teach_it_the_other_views_and_leave_the_rest(
    slices: dict[str, CalibrationSlices], quick: DomainCheck, halves: torch.Tensor
) -> None:
    more = calibrate(with_planes(slices), settings=QUICK).modalities["CT"]

    known = quick.modalities["CT"]
    assert len(known.anomalies.knots) == len(ANOMALIES) - len(VIEW_ANOMALIES)
    assert len(more.anomalies.knots) == len(ANOMALIES)
    odds, before = (each.classifiers.log_odds(halves, "CT") for each in (more, known))
    torch.testing.assert_close(odds[:, : before.shape[1]], before)


def test_the_networks_of_a_check_can_learn_the_other_views_afterwards(
    slices: dict[str, CalibrationSlices], quick: DomainCheck, halves: torch.Tensor, bundle: Path
) -> None:
    more = calibrate(with_planes(slices), settings=QUICK, start=quick)
    attach(bundle, "domain", to_bytes(more))

    loaded = load_domain(Bundle.load(bundle))

    assert loaded is not None
    odds = loaded.modalities["MR"].classifiers.log_odds(halves, "MR")
    before = quick.modalities["MR"].classifiers.log_odds(halves, "MR")
    assert odds.shape[1] == len(ANOMALIES)
    for scale, kept in ((c.modalities["MR"].anomalies.knots, len(before.T)) for c in (loaded,)):
        assert torch.equal(scale[:kept], quick.modalities["MR"].anomalies.knots)
    torch.testing.assert_close(odds[:, : before.shape[1]], before, atol=0.05, rtol=0.05)


def test_a_check_of_format_2_is_read(bundle: Path, quick: DomainCheck, head: Prepared) -> None:
    attach(bundle, "domain", save(load(to_bytes(quick)), metadata=of_format(2)))

    loaded = load_domain(Bundle.load(bundle))

    assert loaded is not None
    before, after = (c.judge(head, {"modality": "CT"}) for c in (quick, loaded))
    assert after.score == pytest.approx(before.score, abs=0.05)


def test_its_numbers_are_few(quick: DomainCheck) -> None:
    assert len(to_bytes(quick)) < 300_000 * QUICK.classifiers


def test_a_bundle_without_a_check_has_none(tiny_bundle: Path) -> None:
    assert load_domain(Bundle.load(tiny_bundle)) is None


def test_the_same_slices_and_seed_make_the_same_check_and_leave_the_random_state_alone(
    slices: dict[str, CalibrationSlices], quick: DomainCheck
) -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()

    assert to_bytes(calibrate(slices, settings=QUICK)) == to_bytes(quick)

    assert torch.equal(torch.get_rng_state(), before)


def test_networks_of_a_check_are_fitted_from_different_draws(
    slices: dict[str, CalibrationSlices], quick: DomainCheck
) -> None:
    alone = calibrate(slices, settings=replace(QUICK, classifiers=1))
    first, second = quick.modalities["CT"].classifiers.members
    only = alone.modalities["CT"].classifiers.members[0]

    assert torch.equal(first.orientation[0].weight, only.orientation[0].weight)
    assert not torch.equal(first.orientation[0].weight, second.orientation[0].weight)


def test_log_odds_are_averaged_over_the_members_and_the_augmented_slices(
    quick: DomainCheck, halves: torch.Tensor
) -> None:
    ensemble = quick.modalities["CT"].classifiers

    odds = ensemble.log_odds(halves[:2], "CT")

    shown = [
        each.flip(3) if flip else each for each in augmented(halves[:2]) for flip in (False, True)
    ]
    features = [extract_features(each, "CT") for each in shown]
    answers = [one(each.images, each.scalars) for one in ensemble.members for each in features]
    by_hand = [torch.cat([said[:, 1:] - said[:, :1] for said in each], 1) for each in answers]
    torch.testing.assert_close(odds, torch.stack(by_hand).mean(0), rtol=1e-4, atol=1e-4)


def test_what_lies_on_its_side_is_measured_on_broader_heads_too() -> None:
    odds = torch.linspace(0, 1, 201)[:, None].expand(-1, len(ANOMALIES))

    knots = anomaly_scale(odds, odds + 10).knots

    for anomaly, found in zip(ANOMALIES, knots.tolist(), strict=True):
        broad = anomaly == ON_ITS_SIDE
        expected = [5.5, 10.6, 10.8, 10.9, 10.96] if broad else [0.5, 0.8, 0.9, 0.95, 0.98]
        assert found == pytest.approx(expected, abs=2e-3)


def test_broader_heads_change_that_scale_alone(
    slices: dict[str, CalibrationSlices], quick: DomainCheck, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(anomalies, "BROADENED", {"CT": 1.0, "MR": 1.6})

    other = calibrate(slices, settings=QUICK)

    for modality, anomaly in (("CT", None), ("MR", ON_ITS_SIDE)):
        before, after = (each.modalities[modality].anomalies.knots for each in (quick, other))
        kept = (before == after).all(1).tolist()
        changed = [name for name, same in zip(ANOMALIES, kept, strict=False) if not same]
        assert changed == ([anomaly] if anomaly else [])


def test_the_mirror_image_gets_the_same_verdict(quick: DomainCheck, head: Prepared) -> None:
    mirrored = Prepared(
        head.slices.flip(3).contiguous(), head.head.flip(2).contiguous(),
        head.limits, head.placement,
    )  # fmt: skip

    here, there = (quick.judge(each, {"modality": "CT"}) for each in (head, mirrored))

    assert there.verdict == here.verdict
    assert there.score == pytest.approx(here.score, abs=1e-2)


def test_changed_numbers_are_refused(bundle: Path) -> None:
    file = bundle / "configs/domain.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"\x01")

    with pytest.raises(ModelUnusable, match="SHA-256"):
        Bundle.load(bundle)


def test_missing_numbers_are_refused(bundle: Path) -> None:
    (bundle / "configs/domain.safetensors").unlink()

    with pytest.raises(ModelUnusable, match="missing"):
        Bundle.load(bundle)


@pytest.mark.parametrize("content", [b"", b"no safetensors"])
def test_what_is_no_check_is_refused(bundle: Path, content: bytes) -> None:
    attach(bundle, "domain", content)

    with pytest.raises(ModelUnusable, match="not the numbers"):
        load_domain(Bundle.load(bundle))


def test_numbers_may_not_lie_outside_the_bundle(bundle: Path) -> None:
    model = bundle / "configs/model.yaml"
    content = yaml.safe_load(model.read_text(encoding="utf-8"))
    content["domain"]["numbers"] = "../elsewhere.safetensors"
    model.write_text(yaml.safe_dump(content), encoding="utf-8")

    with pytest.raises(ModelUnusable, match="outside"):
        Bundle.load(bundle)


def test_weights_that_are_not_finite_are_refused(bundle: Path, quick: DomainCheck) -> None:
    tensors = load(to_bytes(quick))
    tensors["CT.slice"] = torch.full_like(tensors["CT.slice"], math.nan)
    attach(bundle, "domain", save(tensors, metadata=of_format(FORMAT)))

    with pytest.raises(ModelUnusable, match="not the numbers"):
        load_domain(Bundle.load(bundle))


def test_a_check_of_another_format_is_refused_with_what_to_do(
    bundle: Path, quick: DomainCheck
) -> None:
    attach(bundle, "domain", save(load(to_bytes(quick)), metadata=of_format(FORMAT + 1)))

    with pytest.raises(
        ModelUnusable, match=r"of format 4, but this version reads 2 and 3 .*--resume"
    ):
        load_domain(Bundle.load(bundle))
