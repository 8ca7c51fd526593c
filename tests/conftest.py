"""What every test may ask for."""

from __future__ import annotations

import functools
import gc
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
from hypothesis import settings

# A process of tests has one thread, and so have the programs that it starts: several processes of
# tests do not contend for cores. Set before anything imports torch, which reads it once.
for _library in ("OMP", "MKL", "OPENBLAS"):
    os.environ[f"{_library}_NUM_THREADS"] = "1"
os.environ["ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"] = "1"

TESTS = Path(__file__).resolve().parent

# A busy machine is no fault of the code: what a property costs is measured in benchmarks/.
settings.register_profile("without-deadline", deadline=None)
settings.load_profile("without-deadline")


LARGEST = 4
"""Most processes to test in: each takes 1.5 GB."""


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Run all tests in a process a core, and tests that are named in this process alone."""
    everything = {TESTS, TESTS.parent}
    if config.args_source is pytest.Config.ArgsSource.ARGS and not everything & {
        Path(each).resolve() for each in config.args
    }:
        return 0
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return min(cores or 1, LARGEST)


def pytest_collection_finish() -> None:
    """Let the garbage collector skip the million objects that imports have made."""
    gc.collect()
    gc.freeze()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--every-fault",
        action="store_true",
        help="tests/faults: let each file operation fail with every error; tests/imaging/dicom: "
        "read every damaged copy (minutes, not seconds)",
    )
    parser.addoption(
        "--fault-step",
        type=int,
        default=1,
        help="with --every-fault: let each N-th operation fail, other ones with each error",
    )
    parser.addoption(
        "--fuzz-seconds",
        type=float,
        default=5.0,
        help="tests/fuzz: read damaged files for so long",
    )


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The real scans, which lie beside the checkout and are never part of it."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the real scans are not beside this checkout")
    return folder


@pytest.fixture(scope="session", autouse=True)
def commands_built_once() -> Iterator[None]:
    """Build the parsers of all commands once, not for each of hundreds of calls."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(typer.main, "get_command", functools.cache(typer.main.get_command))
        yield


@pytest.fixture
def plots_undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the plots of pages empty: Matplotlib takes longer than what most pages are about."""
    from medtranslate import html

    monkeypatch.setattr(html, "figure_uri", lambda figure: "data:image/png;base64,")


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with the shipped recipes and narrow, untrained generators: fast, and no model."""
    import torch

    from medtranslate.bundle import Networks, save_bundle
    from medtranslate.files import shipped
    from medtranslate.networks import Compact

    spec = {"_target_": "medtranslate.networks.Compact", "width": 16, "blocks": 1}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        generators = {to: Compact(width=16, blocks=1) for to in ("mri", "ct")}
    folder = tmp_path_factory.mktemp("model") / "tiny"
    networks = Networks(dict.fromkeys(generators, spec), generators)
    recipes = sorted(shipped("transforms").glob("*.yaml"))
    return save_bundle(folder, networks, recipes, name="tiny", version="0.0")


@pytest.fixture(scope="session")
def loaded_models() -> dict[Any, Any]:
    """What `loaded_once` keeps."""
    return {}


@pytest.fixture
def loaded_once(
    tiny_bundle: Path, loaded_models: dict[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Load the tiny bundle once for all tests that ask for the same device and precision."""
    from medtranslate.translation import Translator, translator

    load = Translator.load

    def loaded(bundle: Any = None, **options: Any) -> Translator:
        if str(bundle) != str(tiny_bundle):
            return load(bundle, **options)
        key = (translator.load_domain, *sorted(options.items()))  # tests put checks of their own in
        if key not in loaded_models:
            loaded_models[key] = load(bundle, **options)
        return loaded_models[key]

    monkeypatch.setattr(Translator, "load", loaded)
