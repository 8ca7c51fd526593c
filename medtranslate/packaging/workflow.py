"""A bundle's own ``inference.yaml``, run by MONAI: what it brings as code is executed."""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path

from monai.bundle import ConfigWorkflow

from medtranslate.bundle import Bundle
from medtranslate.errors import ModelUnusable
from medtranslate.imaging import read, write
from medtranslate.modality import Modality
from medtranslate.packaging.reference import (
    Comparison,
    compare_voxels,
    phantom_scan,
    reference_translator,
)

INFERENCE_FILE = Path("configs/inference.yaml")


def check_workflow(bundle: Bundle) -> Comparison:
    """Run a trusted bundle's inference on the phantom, and compare with our own translation.

    Parameters
    ----------
    bundle : Bundle
        Its first direction is run; it needs recipes for volumes.

    Raises
    ------
    ModelUnusable
        The workflow lacks a property that MONAI asks for, fails, or writes nothing.
    """
    to = next(iter(bundle.generators))
    modality = Modality.parse(to).other
    with tempfile.TemporaryDirectory() as made:
        source, results = Path(made) / "phantom.nii.gz", Path(made) / "results"
        write(phantom_scan(modality, "volume"), source)
        ours = reference_translator(bundle).translate(source, to=to, modality=modality, check=False)
        run_inference(bundle.folder, source, results, to)
        files = sorted(path for path in results.rglob("*") if path.is_file())
        if len(files) != 1:
            fault = f"wrote {len(files)} files for one scan"
            raise ModelUnusable(fault, path=bundle.folder / INFERENCE_FILE)
        got = read(files[0]).as_tensor()[0].numpy()
    expected = ours.as_tensor()[0].numpy()
    if got.shape != expected.shape:
        fault = f"gives {got.shape} for a scan of {expected.shape}"
        raise ModelUnusable(fault, path=bundle.folder / INFERENCE_FILE)
    return compare_voxels(bundle, to, got, expected)


def run_inference(folder: Path, source: Path, results: Path, to: str) -> None:
    """Run ``configs/inference.yaml`` of a bundle through MONAI, in float32 on the CPU."""
    path = folder / INFERENCE_FILE
    if not path.is_file():
        raise ModelUnusable("no such file", path=path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            workflow = ConfigWorkflow(
                config_file=str(path),
                meta_file=str(folder / "configs/metadata.json"),
                logging_file=False,
                workflow_type="inference",
                bundle_root=str(folder),
                input=str(source),
                source=Modality.parse(to).other.value,
                output_dir=str(results),
                to=to,
                precision="float32",
                device="$torch.device('cpu')",
            )
            workflow.initialize()
            lacking = workflow.check_properties()
            if not lacking:
                workflow.run()
                workflow.finalize()
    except Exception as error:
        told = " ".join(str(error).split())
        raise ModelUnusable(f"MONAI cannot run it: {told}", path=path) from error
    if lacking:
        raise ModelUnusable(f"lacks what MONAI asks for: {', '.join(lacking)}", path=path)
