"""Imports run one way, are light where they must be, and change nothing in MONAI."""

from __future__ import annotations

import ast
import importlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

import medtranslate

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "medtranslate"
HEAVY = {
    "torch",
    "monai",
    "numpy",
    "SimpleITK",
    "nibabel",
    "pydicom",
    "matplotlib",
    "ignite",
    "PIL",
}
LIGHT_COUNT = 40  # the interpreter alone, with typing, is 27; with torch it is over 1000


def in_a_fresh_interpreter(code: str) -> object:
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def allowed_by_architecture() -> dict[str, set[str]]:
    """Read the table of docs/architecture.md: which rooms each room imports, in its order."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)(?:/|\.py)` \|.*\| ([^|]*) \|$", text, flags=re.MULTILINE)
    return {room: set(re.findall(r"`(\w+)`", cell)) for room, cell in rows}


def imports_of(file: Path) -> Iterator[tuple[str, int]]:
    """Yield the medtranslate rooms that a file imports, at any depth, each with its line."""
    inside = file.relative_to(PACKAGE).with_suffix("").parts
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = ["medtranslate", *inside[: len(inside) - node.level]] if node.level else []
            start = ".".join([*above, *filter(None, [node.module])])
            names = [f"{start}.{alias.name}" for alias in node.names]
        for name in names:
            first, _, rest = name.partition(".")
            if first == "medtranslate" and rest:
                yield rest.split(".")[0], node.lineno


def test_the_architecture_names_every_room_once() -> None:
    rooms = {
        path.stem
        for path in PACKAGE.iterdir()
        if path.suffix == ".py" or (path / "__init__.py").is_file()
    } - {"__init__", "__main__"}

    assert rooms <= set(allowed_by_architecture())


def test_the_architecture_puts_every_room_below_what_it_imports() -> None:
    rooms = list(allowed_by_architecture())
    for place, (room, imported) in enumerate(allowed_by_architecture().items()):
        assert imported <= set(rooms[:place]), room


def test_rooms_import_what_the_architecture_names_and_nothing_else() -> None:
    allowed = allowed_by_architecture()
    wrong = []
    used: dict[str, set[str]] = {room: set() for room in allowed}
    for file in sorted(PACKAGE.rglob("*.py")):
        room = file.relative_to(PACKAGE).with_suffix("").parts[0]
        if room in ("__init__", "__main__"):  # the package itself only points at its rooms
            continue
        for imported, line in imports_of(file):
            used.setdefault(room, set()).add(imported)
            if imported not in allowed.get(room, set()) | {room, "__version__"}:
                wrong.append(f"{file.relative_to(ROOT)}:{line}: {room} imports {imported}")

    assert wrong == []
    unused = {room: names - used[room] for room, names in allowed.items()}
    assert {room: names for room, names in unused.items() if names} == {}


SCRIPTS = [
    path
    for folder in ("benchmarks", "bundles", "docs", "integrations")
    for path in sorted((ROOT / folder).rglob("*.py"))
]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_script_beside_the_package_imports_what_is_there(script: Path) -> None:
    for node in ast.walk(ast.parse(script.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            wanted = [(alias.name, "") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            wanted = [(node.module or "", alias.name) for alias in node.names]
        else:
            continue
        for module, name in wanted:
            if module.split(".")[0] != "medtranslate":
                continue
            loaded = importlib.import_module(module)
            submodule = f"{module}.{name}"
            assert not name or hasattr(loaded, name) or find_spec(submodule), submodule


def test_importing_medtranslate_is_light() -> None:
    loaded = in_a_fresh_interpreter(
        "import json, sys; before = set(sys.modules); import medtranslate;"
        "print(json.dumps(sorted(set(sys.modules) - before)))"
    )

    assert isinstance(loaded, list)
    assert {name.split(".")[0] for name in loaded} & HEAVY == set()
    assert len(loaded) <= LIGHT_COUNT, loaded


def test_every_public_name_loads() -> None:
    for name in medtranslate.__all__:
        assert getattr(medtranslate, name) is not None


def test_type_checkers_see_every_public_name_where_it_loads_from() -> None:
    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    typed = {
        alias.name: node.module
        for block in tree.body
        if isinstance(block, ast.If)
        for node in ast.walk(block)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }

    assert typed == medtranslate._HOMES
    assert set(medtranslate.__all__) == {*typed, "__version__"}
    assert dir(medtranslate) == sorted(medtranslate.__all__)
    assert (PACKAGE / "py.typed").is_file()


IMPORT_ALL = """
import importlib, json, pkgutil, sys
from monai.data import image_writer
from monai.transforms.io import array

def defaults():
    return [
        {k: [str(w) for w in v] for k, v in image_writer.SUPPORTED_WRITERS.items()},
        {k: str(v) for k, v in array.SUPPORTED_READERS.items()},
    ]

before = defaults()
import medtranslate
modules = [m.name for m in pkgutil.walk_packages(medtranslate.__path__, "medtranslate.")
           if not m.name.endswith("__main__")]
library = [m for m in modules if not m.startswith("medtranslate.cli")]
for module in library:
    importlib.import_module(module)
typer = "typer" in sys.modules
for module in modules:
    importlib.import_module(module)
after = defaults()
writers = [w.__module__ for ext in ("nii.gz", "nrrd", "png", "npy", "no-such-suffix")
           for w in image_writer.resolve_writer(ext, error_if_not_found=False)]
print(json.dumps(
    {"modules": modules, "typer": typer, "before": before, "after": after, "writers": writers}
))
"""


@pytest.fixture(scope="module")
def everything_imported() -> dict[str, Any]:
    """What a process sees that imports every module, those of the command line last."""
    result = in_a_fresh_interpreter(IMPORT_ALL)
    assert isinstance(result, dict) and "medtranslate.imaging.base" in result["modules"]
    return result


def test_importing_every_module_changes_none_of_monais_readers_and_writers(
    everything_imported: dict[str, Any],
) -> None:
    assert everything_imported["after"] == everything_imported["before"]
    # MONAI fills its table of writers on first use, and only if it is empty by then.
    assert {name.split(".")[0] for name in everything_imported["writers"]} == {"monai"}


def test_the_library_needs_no_command_line(everything_imported: dict[str, Any]) -> None:
    assert everything_imported["typer"] is False
