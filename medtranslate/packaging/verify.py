"""Whether a bundle is whole and does what it did: check after check, without running its code."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from monai.bundle import ConfigWorkflow

from medtranslate.bundle import Bundle
from medtranslate.bundle.metadata import SIDE, check_metadata
from medtranslate.bundle.save import REFERENCE_FILE, content_of, foreign_workflows
from medtranslate.domain_check import load_domain
from medtranslate.errors import MedTranslateError, ModelUnusable
from medtranslate.files import temporary_folder
from medtranslate.imaging import read, write
from medtranslate.modality import Modality
from medtranslate.packaging.reference import (
    Comparison,
    compare_reference,
    compare_voxels,
    phantom_scan,
    reference_translator,
)
from medtranslate.packaging.zoo import check_state_dicts
from medtranslate.quality.expected_error import load_error_predictors
from medtranslate.translation.contrast import load_contrast_classifier


@dataclass(frozen=True)
class Check:
    """One check.

    Parameters
    ----------
    name : str
        What was checked.
    result : {"ok", "fault", "not checked"}
    detail : str
        What was found, in a line.
    """

    name: str
    result: str
    detail: str


def verify(bundle: Path, *, trust_code: bool = False) -> Iterator[Check]:
    """Check a bundle; yield each check when it is done.

    Parameters
    ----------
    bundle : path
        Its folder.
    trust_code : bool
        Also run the bundle's own ``inference.yaml`` as MONAI would, which may hold code, and
        compare what it makes with the stored reference.
    """
    try:
        loaded = Bundle.load(bundle)
    except MedTranslateError as error:
        yield Check("networks, recipes and weights", "fault", str(error))
        return
    makes = " and ".join(loaded.generators)
    found = f"makes {makes}, {len(loaded.recipes)} recipes, hashes as stated"
    yield Check("networks, recipes and weights", "ok", found)
    checks: dict[str, Callable[[], Check]] = {
        "metadata": lambda: _metadata(loaded),
        "network in and out": lambda: _networks(loaded),
        "learned checks": lambda: _learned_checks(loaded),
        "reference": lambda: _reference(loaded),
        "state dicts for the Model Zoo": lambda: _state_dicts(loaded),
        "workflows": lambda: _workflows(loaded),
    }
    if trust_code:
        checks["inference.yaml, run by MONAI"] = lambda: _run(loaded)
    for name, check in checks.items():
        try:
            made = check()
        except MedTranslateError as error:
            made = _fault(str(error))
        yield Check(name, made.result, made.detail)


_ok = partial(Check, "", "ok")
_fault = partial(Check, "", "fault")
_not_checked = partial(Check, "", "not checked")


def _metadata(bundle: Bundle) -> Check:
    metadata = check_metadata(bundle.folder, content_of(bundle.folder))
    return _ok(f"version {metadata['version']}, MONAI's schema of 2024-07-25 by our own rules")


def _networks(bundle: Bundle) -> Check:
    """Send noise through each generator, as MONAI's ``verify_net_in_out`` does."""
    noise = torch.rand(1, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(0)) * 2 - 1
    for to, generator in bundle.generators.items():
        with torch.inference_mode():
            made = generator.network(noise)
        if made.shape != noise.shape or made.dtype != torch.float32:
            return _fault(f"{to}: gives {tuple(made.shape)} {made.dtype}")
        if not bool((made.abs() <= 1).all()):  # not finite is not within either
            return _fault(f"{to}: gives values outside [-1, 1]")
    return _ok(f"(1, 1, {SIDE}, {SIDE}) float32 in [-1, 1] both ways")


def _learned_checks(bundle: Bundle) -> Check:
    """Load what is learned beside the generators; send noise through what predicts errors."""
    domain, predictors = load_domain(bundle), load_error_predictors(bundle)
    held = {
        "domain check": domain,
        "contrast classifier": load_contrast_classifier(bundle),
        "expected error": predictors,
    }
    if not any(one is not None for one in held.values()):
        return _not_checked("none there")
    noise = torch.rand(2, 1, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(0)) * 2 - 1
    for to, network in predictors.networks.items() if predictors else ():
        with torch.inference_mode():
            error = network(*noise, torch.ones(1, 1, SIDE, SIDE, dtype=torch.bool))
        if not bool((error > 0).all() and error.isfinite().all()):
            return _fault(f"expected error to {to}: is not finite and above 0")
    said = (name if one is not None else f"no {name}" for name, one in held.items())
    return _ok(", ".join(said))


def _reference(bundle: Bundle) -> Check:
    if not (bundle.folder / REFERENCE_FILE).is_file():
        return _not_checked(f"no {REFERENCE_FILE}; `medtranslate bundle refresh` writes one")
    found = compare_reference(bundle)
    detail = "; ".join(_summary(one) for one in found)
    return _ok(detail) if all(one.agrees for one in found) else _fault(detail)


def _summary(one: Comparison) -> str:
    if one.equal:
        return f"{one.to} equal to the last voxel"
    return f"{one.to} within {one.worst:.3g} of the stored means (tolerance {one.tolerance:g})"


def _state_dicts(bundle: Bundle) -> Check:
    compared = check_state_dicts(bundle.folder, bundle)
    if not compared:
        return _not_checked("none there; `medtranslate bundle export --model-zoo` writes them")
    return _ok(f"{', '.join(compared)}: the weights of the safetensors")


def _workflows(bundle: Bundle) -> Check:
    """Report workflows that are not as medtranslate writes them, and may hold code."""
    missing, own = foreign_workflows(bundle.folder)
    if own:
        return _not_checked(
            f"{', '.join(own)}: not as medtranslate writes them, so may hold code; none was run"
        )
    if missing:
        return _not_checked(f"{', '.join(missing)}: missing, so MONAI cannot run them")
    return _ok("as medtranslate writes them")


def _run(bundle: Bundle) -> Check:
    found = check_workflow(bundle)
    detail = f"properties complete; {_summary(found)}"
    return _ok(detail) if found.agrees else _fault(detail)


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
    with temporary_folder() as made:
        source, results = made / "phantom.nii.gz", made / "results"
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
        reason = " ".join(str(error).split())
        raise ModelUnusable(f"MONAI cannot run it: {reason}", path=path) from error
    if lacking:
        raise ModelUnusable(f"lacks what MONAI asks for: {', '.join(lacking)}", path=path)
