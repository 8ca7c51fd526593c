"""A bundle's generated files, written anew: after other weights, an edit, a newer medtranslate."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from medtranslate.bundle.facts import METADATA_FILE, Facts
from medtranslate.bundle.load import MODEL_FILE, file_hash
from medtranslate.bundle.save import generated_files, write_texts
from medtranslate.bundle.workflows import workflow_files
from medtranslate.errors import ModelUnusable
from medtranslate.networks import complete_spec
from medtranslate.transforms import read_yaml

REFERENCE_FILE = Path("configs/reference.json")
_MAY_RUN = (".yaml", ".yml", ".conf", ".py", ".pyc", ".so", ".sh")


def refresh(folder: Path, *, version: str = "", note: str = "", facts: Facts | None = None) -> None:
    """Write hashes, metadata and workflows of a bundle anew; its words and its card stay.

    Parameters
    ----------
    folder : path
        The bundle.
    version : str
        A new one; without it, the version stays.
    note : str
        What the version brings, for the changelog.
    facts : Facts, optional
        Instead of the words in the metadata.

    Raises
    ------
    ModelUnusable
        There is no bundle, or weights that it names are missing.
    OSError
        A file cannot be written.
    """
    content, facts = content_of(folder), facts or facts_of(folder)
    version = version or str(content["version"])
    content |= {"version": version}
    if note:
        facts = replace(facts, changelog={**facts.changelog, version: note})
    for spec in content["generators"].values():
        weights = folder / str(spec["weights"])
        if not weights.is_file():
            raise ModelUnusable("the weights are missing", path=weights)
        spec |= {"network": complete_spec(spec["network"]), "sha256": file_hash(weights)}
    write_texts(folder, generated_files(content, facts))


def content_of(folder: Path) -> dict[str, Any]:
    """Read a bundle's ``model.yaml``."""
    return read_yaml(folder / MODEL_FILE)


def facts_of(folder: Path) -> Facts:
    """Read what a bundle's metadata say in words; nothing where it has no metadata."""
    path = folder / METADATA_FILE
    return Facts.of(read_yaml(path)) if path.is_file() else Facts()


def foreign_workflows(folder: Path) -> tuple[list[str], list[str]]:
    """Find what is not as medtranslate writes it among the files that MONAI or Python would run.

    Returns
    -------
    (list of str, list of str)
        Places in the bundle of workflows that are missing, and of files that may hold code.
    """
    content, facts = content_of(folder), facts_of(folder)
    expected = workflow_files(content, facts)
    missing = [str(place) for place in expected if not (folder / place).is_file()]
    data = {MODEL_FILE, METADATA_FILE, REFERENCE_FILE}
    data |= {MODEL_FILE.parent / str(file) for file in content["recipes"].values()}
    found = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    own = [
        str(place)
        for place in found
        if (place.suffix.lower() in _MAY_RUN or place.match("configs/*.json"))
        and place not in data
        and _text(folder / place) != expected.get(place)
    ]
    return missing, own


def _text(path: Path) -> str:
    return path.read_bytes().decode("utf-8", "replace")
