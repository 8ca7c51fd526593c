"""Where a bundle keeps the numbers of its domain check."""

from __future__ import annotations

from pathlib import Path

import yaml

from medtranslate.bundle.load import MODEL_FILE, file_hash
from medtranslate.transforms import read_yaml

DOMAIN_FILE = Path("configs/domain.safetensors")


def attach_domain(folder: Path, numbers: bytes) -> None:
    """Give a bundle the numbers of a domain check, in place of those that it has.

    Parameters
    ----------
    folder : path
        The bundle's; ``model.yaml`` is there already, and is written anew.
    numbers : bytes
        A safetensors file.

    Raises
    ------
    OSError
        If it cannot be written; attach it again, or the bundle may not load.
    """
    path, model = folder / DOMAIN_FILE, folder / MODEL_FILE
    content = read_yaml(model)
    _replace(path, numbers)
    content["domain"] = {"numbers": DOMAIN_FILE.as_posix(), "sha256": file_hash(path)}
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
    _replace(model, text.encode("utf-8"))


def _replace(path: Path, content: bytes) -> None:
    temporary = path.with_name(f".{path.name}.part")
    try:
        temporary.write_bytes(content)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
