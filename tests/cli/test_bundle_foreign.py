"""``bundle import-cyclegan`` and ``bundle export-network``."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from cyclegan_checkpoints import foreign, resnet
from PIL import Image

from medtranslate.networks import GrayThroughRGB
from medtranslate.phantom import Phantom


@pytest.fixture
def weights(tmp_path):
    """A color generator as the other program saves it."""
    path = tmp_path / "latest_net_G_A.pth"
    torch.save(foreign(resnet(3)), path)
    return path


def test_a_2d_image_is_converted_as_the_generator_would(command, weights, tmp_path):
    bundle = tmp_path / "theirs"
    done = command("bundle", "import-cyclegan", "--ct-to-mri", weights, "-o", bundle)
    assert (done.code, done.err) == (0, "")
    assert done.out == f"{bundle}: makes mri\n"
    assert (bundle / "configs/reference.json").is_file()

    gray = Phantom((256, 256, 2), (0.9, 0.9, 9.0)).image_2d().as_tensor()[0, ..., 0].T.numpy()
    Image.fromarray(gray.astype(np.uint8)).save(tmp_path / "ct.png")
    options = ("--from", "ct", "--to", "mri", "--bundle", bundle, "--device", "cpu", "--no-preview")
    done = command("convert", tmp_path / "ct.png", *options, "-o", tmp_path / "mri.png")
    assert done.code == 0, done.err

    with torch.inference_mode():
        unit = torch.from_numpy(gray / 127.5 - 1).float()[None, None]
        made = GrayThroughRGB(resnet(3))(unit)[0, 0]
    there = ((made + 1) / 2 * 255).numpy().astype(np.uint8)  # cut, as the other program does
    here = np.asarray(Image.open(tmp_path / "mri.png"))
    assert there.std() > 5
    assert np.abs(here.astype(int) - there).max() <= 1


def test_a_direction_must_be_said(command, tmp_path):
    done = command("bundle", "import-cyclegan", "-o", tmp_path / "theirs")
    assert done.code == 2
    assert "--ct-to-mri FILE, --mri-to-ct FILE or both" in done.err


def test_what_is_no_generator(command, tmp_path):
    path = tmp_path / "latest_net_D_A.pth"
    torch.save({"model.0.weight": torch.ones(8, 1, 4, 4)}, path)
    done = command("bundle", "import-cyclegan", "--mri-to-ct", path, "-o", tmp_path / "theirs")
    assert done.code == 10
    assert done.err.count("\n") == 1
    assert f"{path}: is a discriminator, no generator" in done.err
    assert list(tmp_path.iterdir()) == [path]


def test_export_says_the_error(command, tiny_bundle, tmp_path):
    path = tmp_path / "mri.ts"
    done = command("bundle", "export-network", tiny_bundle, "--to", "mri", "-o", path)
    assert done.code == 0, done.err
    assert done.out.startswith(f"{path}: differs by at most 0.0")
    assert path.is_file()
    again = command("bundle", "export-network", tiny_bundle, "--to", "mri", "-o", path)
    assert again.code == 8
