"""Scans of a cohort, and workers that are threads of this process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from distributed import LocalCluster
from scan_fixtures import *  # noqa: F403

from medtranslate.cohort import Cohort, Workers, convert_cohort


@pytest.fixture(scope="session")
def scheduler() -> Iterator[str]:
    """The address of a scheduler with one worker."""
    with LocalCluster(
        n_workers=1, threads_per_worker=2, processes=False, dashboard_address="127.0.0.1:0"
    ) as cluster:
        yield cluster.scheduler_address


@pytest.fixture
def scans(save: Callable[..., Path], ct_voxels: Any, tmp_path: Path) -> Path:
    """A folder with two heads, one of them in a folder of its own, and a corrupt file."""
    save(ct_voxels, "scans/a.nii.gz")
    save(ct_voxels + 1, "scans/more/b.nii.gz")
    (tmp_path / "scans" / "bad.nii").write_bytes(b"no header")
    return tmp_path / "scans"


@pytest.fixture
def cohort(scheduler: str, tiny_bundle: Path, tmp_path: Path) -> Callable[..., Cohort]:
    """Convert a cohort into ``tmp_path / "out"`` with the tiny bundle."""
    return partial(
        convert_cohort,
        to="mri",
        output=tmp_path / "out",
        bundle=tiny_bundle,
        device="cpu",
        workers=Workers(scheduler=scheduler),
    )
