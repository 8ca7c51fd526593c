"""The contrast of a synthetic MRI: asked for, kept through the volume, and written down."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_bundles import contrast_networks, tiny_bundle
from typer.testing import CliRunner

from medtranslate import ConversionOptions, Translator, convert, read, write
from medtranslate.bundle import Bundle
from medtranslate.bundle.metadata import METADATA_FILE, check_metadata
from medtranslate.bundle.save import content_of
from medtranslate.cli.app import app
from medtranslate.errors import InvalidOption
from medtranslate.imaging.source import short_label
from medtranslate.packaging.formats import export_network
from medtranslate.phantom import Phantom
from medtranslate.quality.cycle import cycle_error, nearest_contrast, reconstruct
from medtranslate.quality.error_map import Pair

NAMES = {"t1", "flair"}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_bundle(tmp_path_factory.mktemp("contrast") / "bundle", contrast_networks())


@pytest.fixture(scope="module")
def scan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    phantom = Phantom((48, 52, 2), (4.5, 4.25, 26.0)).volume()
    return write(phantom, tmp_path_factory.mktemp("scan") / "head-ct.nii.gz")


@pytest.fixture(scope="module")
def translator(bundle: Path) -> Translator:
    return Translator.load(bundle, device="cpu", precision="float32")


def test_a_translator_makes_the_contrast_asked_for_and_the_first_by_default(
    translator: Translator, scan: Path
) -> None:
    assert translator.bundle.contrasts == ("t1", "flair")
    assert "in t1" in repr(translator) and not translator.contrast

    def made(contrast: str) -> torch.Tensor:
        return translator.translate(read(scan), to="mri", contrast=contrast).as_tensor()

    assert translator.for_contrast("flair") is translator.for_contrast("flair")
    assert torch.equal(made(""), made("t1"))
    assert not torch.equal(made("flair"), made("t1"))
    loaded = Translator.load(translator.bundle, device="cpu", precision="float32", contrast="flair")
    assert torch.equal(loaded.translate(read(scan), to="mri").as_tensor(), made("flair"))


def test_a_ct_is_made_for_the_contrast_that_the_mri_is_said_to_have(
    scan: Path, tmp_path: Path
) -> None:
    networks = contrast_networks(told=("mri", "ct"))
    translator = Translator.load(tiny_bundle(tmp_path / "both", networks), device="cpu")
    mr = read(write(translator.translate(read(scan), to="mri"), tmp_path / "mr.nii.gz"))

    def made(contrast: str, translator: Translator = translator) -> torch.Tensor:
        result = translator.translate(mr, to="ct", check=False, contrast=contrast)
        assert result.meta["synthesis"]["source_contrast"] == contrast
        assert result.meta["synthesis"]["contrast"] == ""
        assert cycle_error(translator, mr, result).contrast in ({contrast} - {""} or NAMES)
        return result.as_tensor()

    unknown, t1, flair = map(made, ("", "t1", "flair"))
    assert not torch.equal(unknown, t1) and not torch.equal(t1, flair)
    # A model that tells no contrasts apart where it makes a CT makes one CT.
    plain = tiny_bundle(tmp_path / "mri", contrast_networks())
    same = Translator.load(plain, device="cpu")
    assert torch.equal(made("", same), unknown) and torch.equal(made("flair", same), unknown)


@pytest.mark.parametrize("contrast", ["t1", "flair"])
def test_an_mri_is_reconstructed_in_the_contrast_that_comes_nearest(
    translator: Translator, scan: Path, contrast: str, tmp_path: Path
) -> None:
    made = translator.translate(read(scan), to="mri", contrast=contrast)
    mr = read(write(made, tmp_path / "mr.nii.gz"))
    ct = translator.translate(mr, to="ct", check=False)
    pair = Pair.of(translator, mr, ct)
    # What the model would make of this CT in one contrast is of that contrast.
    middle = pair.holds[[len(pair.holds) // 2]]
    slices = pair.prepared.slices.clone()
    slices[middle] = reconstruct(translator.for_contrast(contrast), pair, middle)

    pair = replace(pair, prepared=replace(pair.prepared, slices=slices))

    assert nearest_contrast(translator.for_contrast("flair"), pair) == contrast


@pytest.mark.parametrize("contrast", ["", "flair"])
def test_a_ct_is_reconstructed_from_the_contrast_that_was_made(
    translator: Translator, scan: Path, contrast: str
) -> None:
    made = translator.translate(read(scan), to="mri", contrast=contrast)
    assert cycle_error(translator, read(scan), made).contrast == (contrast or "t1")


def test_the_contrast_is_in_file_report_and_label(bundle: Path, scan: Path, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    options = ConversionOptions(
        to="mri", contrast="FLAIR", bundle=bundle, force=True, reports=report, preview=False,
        output=tmp_path / "mri.nii.gz", device="cpu",
    )  # fmt: skip

    done = convert(scan, options=options)

    label = "SYNTHETIC MR FLAIR from CT, tiny 0.7, NOT FOR DIAGNOSIS"
    assert done.synthesis["contrast"] == "flair" and done.synthesis["label"] == label
    content = json.loads(report.read_text())
    assert content["model"]["contrasts"] == ["t1", "flair"]
    assert content["conversions"][0]["synthesis"]["contrast"] == "flair"
    assert content["options"]["contrast"] == "flair"
    again = read(tmp_path / "mri.nii.gz")
    assert again.meta["source"]["modality"] == "MR"
    long = {"modality": "MR", "contrast": "flair", "label": "x" * 90, "model": "m", "version": "1"}
    assert short_label(long, 79) == "SYNTHETIC MR FLAIR, NOT FOR DIAGNOSIS, m 1"


def test_a_contrast_that_the_model_lacks_is_one_line_before_anything_is_read(
    bundle: Path, tmp_path: Path
) -> None:
    scan = tmp_path / "head.nii.gz"
    scan.write_bytes(b"no scan")
    command = ["convert", str(scan), "--to", "mri", "-o", str(tmp_path / "mri.nii.gz")]

    def refused(*more: str) -> str:
        done = CliRunner().invoke(app, [*command, *more])
        assert not (tmp_path / "mri.nii.gz").exists()
        assert isinstance(done.exception, InvalidOption) and done.exception.exit_code == 2
        return str(done.exception)

    assert "tiny 0.7 has no contrast pd, but t1, flair" in refused(
        "--contrast", "pd", "--bundle", str(bundle)
    )
    plain = str(tiny_bundle(tmp_path / "plain"))
    assert "tiny 0.7 has no choice of MR contrast" in refused("--contrast", "t2", "--bundle", plain)
    with pytest.raises(InvalidOption, match="must be one of t1, t1c, t2, flair, pd, got 't9'"):
        ConversionOptions(to="mri", contrast="t9")


def test_a_bundle_says_which_contrasts_it_makes(bundle: Path) -> None:
    metadata = check_metadata(bundle, content_of(bundle))
    assert metadata["mr_contrasts"] == ["t1", "flair"]
    assert json.loads((bundle / METADATA_FILE).read_text())["mr_contrasts"] == ["t1", "flair"]
    shown = CliRunner().invoke(app, ["bundle", "info", str(bundle)])
    assert shown.exit_code == 0
    assert "t1, flair" in shown.output
    assert Bundle.load().contrasts == ("t1", "t1c", "t2", "flair", "pd")


def test_an_exported_network_makes_one_contrast(translator: Translator, tmp_path: Path) -> None:
    file = tmp_path / "flair.ts"
    found = export_network(translator.bundle, "mri", file, contrast="flair")
    assert found.largest < 0.1
    frames = torch.rand(1, 1, 256, 256, generator=torch.Generator().manual_seed(0)) * 2 - 1
    made = torch.jit.load(str(file))(frames)
    expected = translator.for_contrast("flair").translate_slices(frames, to="mri")
    np.testing.assert_allclose(made.numpy(), expected.numpy(), atol=1e-3)
