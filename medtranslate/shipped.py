"""Where the recipes and bundles lie that come with medtranslate.

In a checkout (and so in an editable install) they are the repository's top-level folders
``transforms`` and ``bundles``; in an installed wheel they are folders of the package.
"""

from __future__ import annotations

import tomllib
from pathlib import Path

from medtranslate.errors import InputMissing

_PACKAGE = Path(__file__).resolve().parent


def shipped(name: str) -> Path:
    """Find shipped data, in the checkout before an installed copy.

    Parameters
    ----------
    name : str
        Relative path with forward slashes: ``"transforms"``, ``"transforms/ct-volume.yaml"``,
        ``"bundles/brain_ct_mri"``.

    Returns
    -------
    pathlib.Path
        Absolute path of the file or folder, which exists.

    Raises
    ------
    InputMissing
        Where medtranslate ships nothing of that name.
    """
    path = _home() / name
    if not path.exists():
        raise InputMissing("medtranslate ships no such file or folder", path=path)
    return path


def _home() -> Path:
    """Return the folder that holds ``transforms`` and ``bundles``."""
    root = _PACKAGE.parent
    return root if _is_checkout(root) else _PACKAGE


def _is_checkout(root: Path) -> bool:
    """Tell the repository from any folder that the package was copied or installed into."""
    metadata = root / "pyproject.toml"
    if not (root / "transforms").is_dir() or not metadata.is_file():
        return False
    try:
        project = tomllib.loads(metadata.read_text(encoding="utf-8"))["project"]["name"]
    except (OSError, ValueError, KeyError, TypeError):
        return False  # somebody else's file
    return bool(project == "medtranslate")
