"""The script that docs/how-to/monai-pipeline.md shows, on two DICOM series."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from imaging.dicom import factory

from medtranslate import Translator, read
from medtranslate.phantom import Phantom

PAGE = Path(__file__).parents[2] / "docs/how-to/monai-pipeline.md"


@pytest.fixture
def series(tmp_path: Path) -> list[Path]:
    """Two CT series of a head phantom, with other values in every other slice."""
    voxels = Phantom((128, 128, 3), (1.6, 1.6, 24.0)).volume().as_tensor()[0].numpy()
    folders = []
    for number in (1, 2):
        instances = factory.series(
            "CT", count=3, rows=128, columns=128, step=(0.0, 0.0, 24.0), spacing=(1.6, 1.6)
        )
        for index, instance in enumerate(instances):
            pixels = voxels[..., index] + (5 * number if index % 2 else 0)
            factory.put_pixels(instance, np.ascontiguousarray(pixels.T.astype("<i2")))
        folders.append(factory.write(tmp_path / f"ct-{number}", instances))
    return folders


def test_the_script_of_the_docs_gives_the_voxels_of_translate(series, tmp_path, monkeypatch):
    script = PAGE.read_text().split('```python title="pipeline.py"\n')[1].split("```")[0]
    for name, folder in zip(("first.nii.gz", "second.nii.gz"), series, strict=True):
        assert name in script
        script = script.replace(name, folder.name)
    monkeypatch.chdir(tmp_path)

    exec(compile(script, str(PAGE), "exec"), {})

    model = Translator.load(device="cpu", precision="float32")
    for folder in series:
        written = read(tmp_path / "results" / f"{folder.name}_mri.nii.gz")
        expected = model.translate(folder, to="mri", check=False)
        difference = (written.as_tensor() - expected.as_tensor()).abs()
        # A float sum depends on the batch: here 4 slices at a time of both scans together.
        assert difference.max() <= 1 and difference.mean() < 1e-3
        torch.testing.assert_close(written.affine, expected.affine, atol=1e-5, rtol=0)
        assert len(expected.unique()) > 100
