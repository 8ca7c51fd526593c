from __future__ import annotations

import pickle

import pytest
import torch
from monai.data import Dataset, MetaTensor
from monai.transforms import Compose, Flipd, Identityd, Lambdad

from medtranslate.errors import ModelUnusable, WrongModality
from medtranslate.translation import (
    RandTranslateModalityd,
    TranslateModality,
    TranslateModalityd,
    Translator,
    transforms,
)


def test_in_a_compose(translator, ct):
    pipeline = Compose([Identityd("image"), TranslateModalityd("image", "mri", translator)])
    label = torch.ones(1)
    out = pipeline({"image": ct, "label": label})
    assert torch.equal(out["image"], translator.translate(ct, to="mri"))
    assert isinstance(out["image"], MetaTensor)
    assert out["label"] is label


def test_the_array_transform_gives_the_same(translator, ct):
    assert torch.equal(TranslateModality("mri", translator)(ct), translator.translate(ct, to="mri"))


def test_the_dictionary_given_is_not_changed(translator, ct):
    data = {"image": ct}
    TranslateModalityd("image", "mri", translator)(data)
    assert data["image"] is ct


def test_several_keys(translator, ct, mr):
    out = TranslateModalityd(["a", "b"], "mri", translator)({"a": ct, "b": ct.clone()})
    assert torch.equal(out["a"], out["b"])
    with pytest.raises(WrongModality):
        TranslateModalityd(["a", "b"], "mri", translator)({"a": ct, "b": mr})


def test_missing_keys(translator, ct):
    with pytest.raises(KeyError):
        TranslateModalityd("image", "mri", translator)({"other": ct})
    lenient = TranslateModalityd("image", "mri", translator, allow_missing_keys=True)
    assert lenient({"other": ct})["other"] is ct


def test_modality_is_handed_on(translator, ct):
    ct.meta["source"]["modality"] = ""
    out = TranslateModalityd("image", "mri", translator, modality="CT")({"image": ct})
    assert out["image"].meta["synthesis"]["modality"] == "MR"


@pytest.mark.parametrize(("prob", "translated"), [(0.0, 0), (1.0, 20)])
def test_certain_and_never(translator, ct, prob, translated, monkeypatch):
    calls = []
    monkeypatch.setattr(
        Translator, "translate", lambda self, image, **how: calls.append(how) or image
    )
    transform = RandTranslateModalityd("image", "mri", prob, translator)
    for _ in range(20):
        transform({"image": ct})
    assert len(calls) == translated


def test_a_probability_follows_the_seed(translator, ct, monkeypatch):
    monkeypatch.setattr(Translator, "translate", lambda self, image, **how: image + 1)
    drawn = []
    for _ in range(2):
        pipeline = Compose([RandTranslateModalityd("image", "mri", 0.5, translator)])
        pipeline.set_random_state(7)
        drawn.append([bool((pipeline({"image": ct})["image"] != ct).any()) for _ in range(30)])
    assert drawn[0] == drawn[1]
    assert 5 < sum(drawn[0]) < 25


def test_rand_translates_as_the_other_does(translator, ct):
    out = RandTranslateModalityd("image", "mri", 1.0, translator)({"image": ct})
    assert torch.equal(out["image"], translator.translate(ct, to="mri"))


def test_transforms_before_it_are_still_undone(translator, ct):
    flip = Flipd("image", 2)
    out = Compose([flip, TranslateModalityd("image", "mri", translator)])({"image": ct})
    assert not torch.equal(out["image"].affine, ct.affine)
    undone = flip.inverse(out)
    assert torch.equal(undone["image"].affine, ct.affine)


def test_transforms_after_it_work(translator, ct):
    pipeline = Compose(
        [TranslateModalityd("image", "mri", translator), Lambdad("image", lambda x: x / 4095)]
    )
    assert pipeline({"image": ct})["image"].max() <= 1


def test_without_a_model_it_is_loaded_when_first_asked(bundle_folder, ct, monkeypatch):
    loaded = []

    def load():
        loaded.append(True)
        return load_from(bundle_folder, device="cpu")

    load_from = Translator.load
    monkeypatch.setattr(transforms.Translator, "load", load)
    transform = TranslateModalityd("image", "mri")
    assert not loaded
    again = pickle.loads(pickle.dumps(transform))  # as a worker gets it
    for _ in range(2):
        again({"image": ct})
    assert len(loaded) == 1
    assert again.translator is again.translator


def test_without_any_model(ct, monkeypatch):
    def none():
        raise ModelUnusable("this copy ships no model")

    monkeypatch.setattr(transforms.Translator, "load", none)
    with pytest.raises((ModelUnusable, RuntimeError), match="ships no model"):
        TranslateModalityd("image", "mri")({"image": ct})


def test_as_a_data_set(translator, ct):
    data = Dataset([{"image": ct}], TranslateModalityd("image", "mri", translator))
    assert data[0]["image"].meta["synthesis"]["modality"] == "MR"
