"""The contrast classifier: fitted on MR of known contrast, carried by a bundle, asked for a CT."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from label_maps import write_labels
from tiny_bundles import contrast_networks, tiny_bundle
from training.phantoms import prepared

from medtranslate import Bundle, Translator
from medtranslate.bundle import attach
from medtranslate.bundle.save import PARTS
from medtranslate.errors import ModelUnusable
from medtranslate.label_synthesis import LabelMaps
from medtranslate.packaging.contrasts import ContrastFit, _rendered, fit_contrasts
from medtranslate.phantom import Phantom
from medtranslate.training.data import Data
from medtranslate.training.prepared import PreparedSet, from_gray
from medtranslate.translation.contrast import (
    SURE,
    ContrastClassifier,
    ToldContrast,
    load_contrast_classifier,
)

CONTRASTS = ("t1", "t2")
FEW = ContrastFit(steps=120, real=8, learning_rate=5e-3)


def coded(count: int, start: int = 0) -> PreparedSet:
    """Give heads whose fluid is bright (T2), and in every other slice dark (T1)."""
    heads = prepared("MR", count, start)
    odd = (torch.arange(count) % 2 == 1)[:, None, None]
    slices = torch.where(odd & (heads.slices > 215), 60, heads.slices)
    codes = {each.name: 1 + (n % 2 == 0) for n, each in enumerate(heads.records)}
    return replace(heads, slices=slices.to(torch.uint8)).coded(codes)


@pytest.fixture(scope="module")
def numbers() -> bytes:
    made = fit_contrasts(Data(prepared("CT", 2), coded(24)), CONTRASTS, settings=FEW)
    assert made is not None
    return made


@pytest.fixture(scope="module")
def bundle(numbers: bytes, tmp_path_factory: pytest.TempPathFactory) -> Path:
    networks = contrast_networks(CONTRASTS, told=("mri", "ct"))
    folder = tiny_bundle(tmp_path_factory.mktemp("contrast") / "bundle", networks)
    attach(folder, "contrast", numbers)
    return folder


def test_a_classifier_tells_bright_fluid_from_dark_in_heads_that_it_has_not_seen(
    bundle: Path,
) -> None:
    classifier = load_contrast_classifier(Bundle.load(bundle))
    assert classifier is not None
    slices, head = from_gray(coded(12, start=100).slices)
    told = classifier.tell_each(slices, head[:, 0])
    assert [each.contrast for each in told] == ["t2", "t1"] * 6


def test_slices_of_one_scan_vote_and_those_with_little_head_do_not(bundle: Path) -> None:
    classifier = load_contrast_classifier(Bundle.load(bundle))
    assert classifier is not None
    slices, head = from_gray(coded(12, start=100).slices)
    t2, t1 = slices[::2], slices[1::2]
    little = torch.zeros_like(head[::2, 0])
    little[:, :40, :40] = True  # 2 % of the slice
    told = classifier.tell(torch.cat([t2, t1]), torch.cat([head[::2, 0], little]))
    assert told == classifier.tell(t2, head[::2, 0]) and told.contrast == "t2"
    assert classifier.tell(t1, little) is None
    # Of 48 every second one has a vote, of which there are 24.
    many = torch.cat([t2, t1]).repeat(4, 1, 1, 1)
    heads = torch.cat([head[::2, 0], head[1::2, 0]]).repeat(4, 1, 1)
    places = torch.linspace(0, 47, 24).round().long()
    assert classifier.tell(many, heads) == classifier.tell(many[places], heads[places])


def test_a_fit_sees_rendered_slices_of_every_contrast_too(tmp_path: Path) -> None:
    maps = LabelMaps.read(write_labels(tmp_path / "head.nii.gz"))
    features, classes = _rendered(maps, ContrastFit(rendered_slices=6), seed=3)
    assert features.shape == (6, 2, 64, 64)
    assert set(classes[:5].tolist()) == set(range(5)) and classes[5] == classes[0]
    few = ContrastFit(steps=2, rendered=2, rendered_slices=2)
    plain = fit_contrasts(Data(prepared("CT", 2), coded(24)), CONTRASTS, settings=few)
    more = fit_contrasts(Data(prepared("CT", 2), coded(24), labels=maps), CONTRASTS, settings=few)
    assert plain != more


def test_with_few_slices_of_known_contrast_or_one_contrast_alone_there_is_no_classifier() -> None:
    assert fit_contrasts(Data(prepared("CT", 2), coded(19)), CONTRASTS, settings=FEW) is None
    assert fit_contrasts(Data(prepared("CT", 2), prepared("MR", 24)), CONTRASTS) is None
    alone = coded(48)
    one = replace(alone, codes=torch.where(torch.arange(48) % 2 == 0, 2, 0))
    assert fit_contrasts(Data(prepared("CT", 2), one), CONTRASTS, settings=FEW) is None


def test_t1_with_and_without_contrast_agent_count_as_one_and_doubt_is_no_contrast() -> None:
    classifier = ContrastClassifier(("t1", "t1c", "t2"))
    told = classifier._told(torch.tensor([0.5, 0.3, 0.2]).log())
    assert told.contrast == "t1" and told.probability == pytest.approx(0.8)
    assert ToldContrast("t1", SURE).clear == "t1"
    assert ToldContrast("t1", SURE - 0.01).clear == ""


def test_a_ct_is_made_for_the_contrast_told_unless_one_is_asked_for(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    translator = Translator.load(bundle, device="cpu")
    ct = Phantom((48, 52, 2), (4.5, 4.25, 26.0)).volume()
    mr = translator.translate(ct, to="mri", check=False)
    mr.meta["source"] = {**mr.meta["source"], "modality": "MR"}

    def made(told: ToldContrast | None, contrast: str = "") -> tuple[str, torch.Tensor]:
        monkeypatch.setattr(ContrastClassifier, "tell", lambda self, slices, head: told)
        result = translator.translate(mr, to="ct", check=False, contrast=contrast)
        return result.meta["synthesis"]["source_contrast"], result.as_tensor()

    (sure, t2), (asked, t1), (doubtful, unknown), (none, nothing) = (
        made(ToldContrast("t2", 0.9)),
        made(ToldContrast("t2", 0.9), "t1"),
        made(ToldContrast("t2", 0.6)),
        made(None),
    )
    assert (sure, asked, doubtful, none) == ("t2", "t1", "", "")
    assert not torch.equal(t2, t1) and not torch.equal(t2, unknown)
    assert torch.equal(unknown, nothing)

    mr.meta["source"] = {**mr.meta["source"], "contrast": "t2"}  # as its header or name states
    assert made(ToldContrast("t1", 0.9))[0] == "t2"
    assert made(ToldContrast("t1", 0.9), "t1")[0] == "t1"


def test_a_damaged_classifier_is_refused_by_name(bundle: Path, tmp_path: Path) -> None:
    folder = tiny_bundle(tmp_path / "bundle", contrast_networks(CONTRASTS))
    assert load_contrast_classifier(Bundle.load(folder)) is None
    attach(folder, "contrast", b"no numbers")
    with pytest.raises(ModelUnusable, match="not the numbers of a contrast classifier"):
        Translator.load(folder, device="cpu")
    (folder / PARTS["contrast"]).unlink()
    with pytest.raises(ModelUnusable, match="the numbers of its contrast classifier are missing"):
        Bundle.load(folder)
