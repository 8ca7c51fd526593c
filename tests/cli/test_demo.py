"""demo: a phantom and its conversion, all or nothing."""

from __future__ import annotations

from functools import partial

import nibabel as nib
import pytest

from medtranslate.conversion import demo
from medtranslate.phantom import Phantom

FILES = {
    "head-ct.nii.gz",
    "head-ct_mri.nii.gz",
    "head-ct_mri_preview.png",
    "head-ct-slice.png",
    "head-ct-slice_mri.png",
    "head-ct-slice_mri_preview.png",
}


@pytest.fixture
def coarse(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the demo of a phantom that is drawn and translated in no time."""
    monkeypatch.setattr(demo, "Phantom", partial(Phantom, (48, 52, 2), (4.5, 4.25, 26.0)))


def test_the_files_are_there_and_named(command, tiny_bundle, tmp_path, coarse) -> None:
    done = command("demo", "-o", tmp_path / "shown", "--bundle", tiny_bundle)

    assert done.code == 0, done.err
    assert {path.name for path in (tmp_path / "shown").iterdir()} == FILES
    for name in FILES:
        assert f"{tmp_path / 'shown' / name}: " in done.out
    made = nib.load(tmp_path / "shown" / "head-ct_mri.nii.gz")
    assert made.shape == nib.load(tmp_path / "shown" / "head-ct.nii.gz").shape
    assert made.header["descrip"].item().startswith(b"SYNTHETIC MR")


def test_a_second_demo_asks_for_overwrite_and_spares_what_is_foreign(
    command, tiny_bundle, tmp_path, coarse
) -> None:
    folder = tmp_path / "shown"
    folder.mkdir()
    (folder / "mine.txt").write_text("mine")

    done = command("demo", "-o", folder, "--bundle", tiny_bundle, "--overwrite")
    assert done.code == 8 and "holds mine.txt" in done.err

    (folder / "mine.txt").rename(folder / "head-ct.nii.gz")
    assert command("demo", "-o", folder, "--bundle", tiny_bundle).code == 8
    assert command("demo", "-o", folder, "--bundle", tiny_bundle, "--overwrite").code == 0


def test_a_failure_leaves_nothing(
    command, tiny_bundle, tmp_path, monkeypatch, listed, coarse
) -> None:
    from medtranslate.translation import Translator

    def fail(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Translator, "translate_prepared", fail)

    assert command("demo", "-o", tmp_path / "shown", "--bundle", tiny_bundle).code == 130
    assert listed() == set()


@pytest.mark.parametrize("bundle", ["none"])
def test_without_a_model_nothing_is_written(command, tmp_path, bundle, listed) -> None:
    done = command("demo", "-o", tmp_path / "shown", "--bundle", tmp_path / bundle)

    assert done.code == 10 and listed() == set()
