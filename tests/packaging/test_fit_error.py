"""An expected error is fitted to rendered pairs, and stays with the weights that it is of."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from label_maps import write_labels
from tiny_bundles import shipped_recipes, tiny_networks

from medtranslate.bundle import Bundle, save_bundle
from medtranslate.errors import TrainingFailed
from medtranslate.label_synthesis import LabelMaps
from medtranslate.packaging.export import refresh_bundle
from medtranslate.packaging.fit_error import (
    Examples,
    FitSettings,
    fit_bundle,
    make_examples,
    measure,
)
from medtranslate.packaging.verify import verify
from medtranslate.quality import load_error_predictors
from medtranslate.translation import Translator

QUICK = FitSettings(slices=2, held_out=2, steps=40, batch_size=2)


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> LabelMaps:
    """One small head, twice."""
    path = write_labels(tmp_path_factory.mktemp("labels") / "head.nii.gz")
    one = LabelMaps.read(path)
    return replace(one, maps=one.maps * 2)


@pytest.fixture(scope="module")
def fitted(tiny_bundle: Path, labels: LabelMaps, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fitted") / "tiny"
    shutil.copytree(tiny_bundle, folder)
    fit_bundle(folder, labels, QUICK, device="cpu")
    return folder


def translator(bundle: Path) -> Translator:
    return Translator.load(bundle, device="cpu", precision="float32")


def test_the_mean_expected_error_is_the_mean_error_of_the_held_out_slices(fitted, labels) -> None:
    predictors = load_error_predictors(Bundle.load(fitted))

    assert list(predictors.networks) == ["mri", "ct"]
    assert predictors.fitted["label_maps"] == 2 and set(predictors.fitted["held_out"]) == {
        "mri",
        "ct",
    }
    held_out = replace(labels, maps=labels.maps[1:])
    for to, network in predictors.networks.items():
        examples = make_examples(translator(fitted), held_out, to, 2, QUICK, seed=1)
        weight = examples.inputs[:, :1].float()
        with torch.inference_mode():
            predicted = (network.of_inputs(examples.inputs.float()) * weight).sum()
        true = (examples.error.float() * weight).sum()
        assert float(predicted / true) == pytest.approx(1, abs=0.02)  # 16 bit
        assert -1 <= measure(network, examples).spearman <= 1


def test_examples_show_the_error_of_the_result(fitted, labels) -> None:
    still = replace(QUICK, moved=0.0)

    examples = make_examples(translator(fitted), labels, "ct", 2, still, seed=5)
    again = make_examples(translator(fitted), labels, "ct", 2, still, seed=5)

    head, source, result = examples.inputs[:, :3].float().split(1, dim=1)
    assert len(examples) == 2 and examples.error.shape == source.shape == (2, 1, 128, 128)
    assert (examples.error[head == 0] == 0).all() and examples.error[
        head == 1
    ].float().mean() > 0.05
    assert (source[head == 0] == -1).all() and (result[head == 0] == -1).all()
    assert torch.equal(examples.inputs, again.inputs) and torch.equal(examples.error, again.error)


def test_one_label_map_is_not_enough(tiny_bundle, labels) -> None:
    with pytest.raises(TrainingFailed, match="two label maps or more"):
        fit_bundle(tiny_bundle, replace(labels, maps=labels.maps[:1]), QUICK)


def test_a_bundle_that_predicts_errors_is_whole(fitted) -> None:
    checks = {check.name: check for check in verify(fitted)}

    found = checks["learned checks"]
    said = "no domain check, no contrast classifier, expected error"
    assert (found.result, found.detail) == ("ok", said)


def test_an_expected_error_goes_with_the_weights_that_it_is_of(fitted, tmp_path) -> None:
    folder = Path(shutil.copytree(fitted, tmp_path / "tiny"))
    other = save_bundle(
        tmp_path / "other", tiny_networks(), shipped_recipes(), name="other", version="3"
    )

    gone = refresh_bundle(folder, other)

    assert any("expected error" in one and "fit-expected-error" in one for one in gone)
    assert Bundle.load(folder).expected_error is None
    assert not (folder / "configs/expected_error.safetensors").exists()
    assert Bundle.load(fitted).expected_error is not None


def test_examples_know_how_many_they_are() -> None:
    assert len(Examples(torch.zeros(3, 3, 4, 4), torch.zeros(3, 1, 4, 4))) == 3
