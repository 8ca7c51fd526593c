from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from medtranslate.imaging.guess_modality import guess_image_2d, guess_volume

Y, X = np.mgrid[-64:64, -64:64]
RADIUS = np.hypot(X / 46, Y / 56).astype(np.float32)


def head(skull: float, brain: float, scalp: float) -> np.ndarray:
    """Gray levels (128, 128) of an oval head with a skull a tenth of its radius thick."""
    levels = np.zeros_like(RADIUS)
    levels[RADIUS <= 1.0] = scalp
    levels[RADIUS <= 0.93] = skull
    levels[RADIUS <= 0.80] = brain
    return levels


def stack(slice_: np.ndarray) -> np.ndarray:
    return np.repeat(slice_[..., None], 4, axis=2).astype(np.float32)


def test_a_bright_closed_ring_is_ct():
    modality, basis = guess_image_2d(head(skull=255, brain=110, scalp=60))
    assert modality == "CT"
    assert basis.startswith("guess: ")


def test_a_dark_skull_below_a_thin_scalp_is_mr():
    levels = head(skull=15, brain=120, scalp=90)
    levels[56:66, 60:70] = 255
    assert guess_image_2d(levels)[0] == "MR"


def test_an_empty_image_cannot_be_told():
    assert guess_image_2d(np.zeros((64, 64), np.float32)) == ("", "guess: no head can be seen")


@pytest.mark.parametrize(
    ("slice_", "modality", "reason"),
    [
        (np.where(RADIUS > 1, -1000, head(900, 35, 0)), "CT", "as air in HU"),
        (np.where(RADIUS > 1, -3024, head(900, 35, 0)), "CT", "as air in HU"),
        (head(30, 700, 400), "MR", "as MR signal does"),
        (np.where(RADIUS > 1, 0, head(1900, 1059, 1024)), "", "CT with an offset"),
        (head(100, 35, 0) - 20, "", "neither HU with air nor MR signal"),
        (head(3.1, 0.2, 0.1) - 0.4, "", "neither HU with air nor MR signal"),
        (head(255, 110, 60), "", "CT skull"),
    ],
)
def test_volumes_by_their_range(slice_, modality, reason):
    guessed, basis = guess_volume(stack(slice_))
    assert guessed == modality
    assert basis.startswith("guess: ")
    assert reason in basis


@pytest.mark.data
def test_accuracy_on_real_images(shared_data):
    """Every twelfth image of the training folders; the docstring gives the whole."""
    folder = shared_data / "brain-ct-mri"
    listed = (folder / "not-mr.txt").read_text().split()
    wrong_files = {name.rsplit("/", 1)[-1] for name in listed if name.startswith("trainB")}
    for name, truth in (("trainA", "CT"), ("trainB", "MR")):
        files = sorted((folder / name).iterdir())[::12]
        guesses = [
            guess_image_2d(np.asarray(Image.open(path).convert("L")).T)[0]
            for path in files
            if path.name not in wrong_files
        ]
        right = np.mean([guess == truth for guess in guesses])
        wrong = np.mean([guess not in (truth, "") for guess in guesses])
        assert right > 0.88
        assert wrong < 0.05
