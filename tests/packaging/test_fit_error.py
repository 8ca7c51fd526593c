"""An expected error is fitted to rendered pairs, and stays with the weights that it is of."""

from __future__ import annotations

import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from label_maps import write_labels
from tiny_bundles import all_hu_bundle, contrast_networks, shipped_recipes, tiny_networks
from typer.testing import CliRunner

from medtranslate.bundle import Bundle, save_bundle
from medtranslate.cli.app import app
from medtranslate.errors import InvalidOption, TrainingFailed
from medtranslate.label_synthesis import LabelMaps
from medtranslate.packaging import fit_error
from medtranslate.packaging.export import refresh_bundle
from medtranslate.packaging.fit_error import (
    Examples,
    FitSettings,
    fit_bundle,
    make_examples,
    measure,
    registered_pairs,
)
from medtranslate.packaging.verify import verify
from medtranslate.quality import load_error_predictors
from medtranslate.training import Settings
from medtranslate.training.pairs import PreparedPairs
from medtranslate.training.preparation import RecipeBook
from medtranslate.training.prepared import PreparedSet, ScanRecord, to_gray
from medtranslate.training.rendered import RenderedSource
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


@pytest.fixture(scope="module")
def registered(labels: LabelMaps) -> PreparedPairs:
    """Three pairs of one slice, as registered scans are prepared."""
    pairs = RenderedSource(labels, Settings(rendered_block_size=3), torch.device("cpu")).pairs(0, 3)
    book = RecipeBook.read()
    records = tuple(ScanRecord(f"{number}.png", "", 1, 0) for number in range(3))
    sides = (
        PreparedSet(
            modality, to_gray(image, pairs.head[:, 0]), torch.arange(3, dtype=torch.int32), records,
            recipes=book.of(modality),
        )
        for modality, image in (("CT", pairs.ct), ("MR", pairs.mri))
    )  # fmt: skip
    return PreparedPairs(*sides)


def test_registered_pairs_are_fitted_to_as_they_lie(fitted, registered) -> None:
    examples = make_examples(translator(fitted), registered, "mri", 3, QUICK, seed=0)
    assert len(examples) == 3

    shown = make_examples(translator(fitted), registered, "ct", 3, replace(QUICK, moved=0), seed=0)
    pairs = registered.source(0, torch.device("cpu")).pairs(0, 3)
    made = translator(fitted).translate_slices(pairs.mri, to="ct").clamp(-1, 1)
    error = (made.masked_fill(~pairs.head, -1) - pairs.ct).abs()
    expected = torch.nn.functional.avg_pool2d(error, 2)
    torch.testing.assert_close(shown.error.float(), expected, rtol=0, atol=2e-3)
    moved = make_examples(translator(fitted), registered, "ct", 9, QUICK, seed=0)
    assert QUICK.moved > 0 and torch.equal(moved.error, shown.error)


def test_the_command_takes_registered_pairs_beside_label_maps(
    tiny_bundle, labels, registered, tmp_path, monkeypatch
) -> None:
    quick = partial(FitSettings, held_out=2, steps=4, batch_size=2)
    monkeypatch.setattr(fit_error, "FitSettings", quick)
    folder = Path(shutil.copytree(tiny_bundle, tmp_path / "tiny"))
    registered.save(tmp_path / "pairs.safetensors")
    labels.save(tmp_path / "labels.npz")
    command = ["bundle", "fit-expected-error", str(folder), str(tmp_path / "labels.npz")]

    ran = CliRunner().invoke(
        app, [*command, "--paired", str(tmp_path / "pairs.safetensors"), "--slices", "8"]
    )
    assert ran.exit_code == 0, ran.output
    assert load_error_predictors(Bundle.load(folder)).fitted["registered_slices"] == 3
    assert "in rendered slices" in ran.output and "in registered slices" in ran.output

    (tmp_path / "list.csv").write_text("0.png,t1\n")
    refused = CliRunner().invoke(app, [*command, "--contrasts", str(tmp_path / "list.csv")])
    assert refused.exit_code == 2 and "--paired" in refused.output


def test_an_mri_is_made_of_pairs_whose_contrast_is_known(labels, registered, tmp_path) -> None:
    folder = save_bundle(
        tmp_path / "coded", contrast_networks(), shipped_recipes(), name="coded", version="1"
    )
    with pytest.raises(TrainingFailed, match=r"MR is fitted .* there are 0 .*--contrasts"):
        fit_bundle(folder, labels, QUICK, paired=registered)
    registered.save(tmp_path / "pairs.safetensors")
    (tmp_path / "list.csv").write_text("1.png,flair\n2.png,t1\n")

    pairs = registered_pairs(folder, tmp_path / "pairs.safetensors", tmp_path / "list.csv")
    assert pairs.mri.codes is not None and pairs.mri.codes.tolist() == [0, 2, 1]
    found = fit_bundle(folder, labels, replace(QUICK, steps=2), paired=pairs, device="cpu")
    assert set(found["mri"]) == set(found["ct"]) == {"rendered", "registered"}

    other = tmp_path / "coded" / "configs" / "recipes" / "ct-volume.yaml"
    other.write_text(other.read_text().replace("pixel: 0.9", "pixel: 1.0"))
    with pytest.raises(TrainingFailed, match="prepared by other recipes: ct-volume differ"):
        registered_pairs(folder, tmp_path / "pairs.safetensors")


def test_a_list_of_contrasts_is_for_a_model_that_has_some(tiny_bundle, tmp_path) -> None:
    with pytest.raises(InvalidOption, match="tiny has no contrasts to choose from"):
        registered_pairs(tiny_bundle, tmp_path / "pairs.safetensors", tmp_path / "list.csv")


def test_one_registered_pair_is_not_enough(tiny_bundle, labels, registered) -> None:
    one = registered.without(["0.png", "1.png"])
    with pytest.raises(TrainingFailed, match="two registered pairs of known contrast or more"):
        fit_bundle(tiny_bundle, labels, QUICK, paired=one)


def test_pairs_prepared_for_a_window_serve_a_bundle_of_all_hu(registered, tmp_path) -> None:
    registered.save(tmp_path / "pairs.safetensors")
    folder = all_hu_bundle(tmp_path / "wide")
    pairs = registered_pairs(folder, tmp_path / "pairs.safetensors")
    assert len(pairs) == 3 and "share: 0.6" in pairs.ct.recipes["ct-volume"]
