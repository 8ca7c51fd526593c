"""The captured step: refused without a GPU; on one, the same as the step itself."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from training.phantoms import TINY, prepared

from medtranslate.errors import TrainingFailed
from medtranslate.training.batches import UnpairedBatches
from medtranslate.training.models import Models
from medtranslate.training.run import Training
from medtranslate.training.trainer import CycleGANTrainer

pytestmark = pytest.mark.usefixtures("plots_undrawn")

STEPS = 12
on_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")


def test_it_is_refused_without_a_gpu(tmp_path: Path) -> None:
    for modality in ("CT", "MR"):
        prepared(modality, 3).save(tmp_path / f"{modality}.safetensors")
    settings = replace(TINY, cuda_graph=True)

    with pytest.raises(TrainingFailed, match="one process's steps on a GPU"):
        Training(
            tmp_path / "CT.safetensors", tmp_path / "MR.safetensors", tmp_path / "run", settings,
            device="cpu",
        ).run()  # fmt: skip
    assert not (tmp_path / "run").exists()


def losses(*, captured: bool) -> list[dict[str, float]]:
    """Train on the GPU, a change of the image size in the middle; give each step's losses."""
    device = torch.device("cuda", 0)
    settings = replace(
        TINY,
        cuda_graph=captured,
        precision="float32",
        memory_format="contiguous",
        intermediate_noise=0.05,
        rotation_degrees=5.0,
        crop=(28, 24),
        downsampling=8,
        full_slice_epochs=1,
        epochs=2,
        steps_per_epoch=STEPS,
    )
    models = Models(settings, device)
    batches = UnpairedBatches(
        prepared("CT", 6), prepared("MR", 5), settings.batch_size, 0, device, STEPS
    )
    trainer = CycleGANTrainer(models, batches)
    found = []
    for step, given in zip(range(2 * STEPS), batches, strict=False):
        trainer.state.iteration, trainer.state.epoch = step + 1, 1 + step // STEPS
        found.append({n: float(loss) for n, loss in trainer._iteration(trainer, given).items()})
    return found


@on_gpu
def test_it_does_what_the_step_does() -> None:
    for plain, captured in zip(losses(captured=False), losses(captured=True), strict=True):
        assert captured == pytest.approx(plain, rel=2e-2, abs=2e-3)
