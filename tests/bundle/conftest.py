"""A tiny bundle, scans to translate with it, and MONAI's runner."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
from monai.bundle import ConfigWorkflow
from tiny_bundles import tiny_bundle as make_tiny_bundle

from medtranslate.imaging import write
from medtranslate.packaging.reference import phantom_scan, write_reference

Run = Callable[..., None]


@pytest.fixture(scope="session")
def complete(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with all its files; not to be changed."""
    folder = make_tiny_bundle(tmp_path_factory.mktemp("bundle") / "tiny")
    write_reference(folder)
    return folder


@pytest.fixture(scope="session")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a CT and an MR volume of the same phantom."""
    folder = tmp_path_factory.mktemp("scans")
    for modality in ("CT", "MR"):
        write(phantom_scan(modality, "volume"), folder / f"{modality.lower()}.nii.gz")
    return folder


@pytest.fixture(autouse=True)
def _logging_as_it_was():
    """MONAI's workflows set up logging for the whole process."""
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    yield
    root.handlers[:], root.level = before, level
    logging.disable(logging.NOTSET)


def workflow(bundle: Path, name: str, kind: str, **overrides: object) -> ConfigWorkflow:
    """A bundle's workflow, as `monai.bundle.create_workflow` gives it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = ConfigWorkflow(
            config_file=str(bundle / "configs" / f"{name}.yaml"),
            workflow_type=kind,
            logging_file=False,
            bundle_root=str(bundle),
            **overrides,
        )
        made.initialize()
    return made
