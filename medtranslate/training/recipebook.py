"""The recipes that a run prepares its scans by, by the kind of input."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from medtranslate.errors import InputMissing
from medtranslate.files import shipped
from medtranslate.transforms import Recipe, load_recipe


@dataclass(frozen=True)
class RecipeBook:
    """Recipes from one folder, ``ct-volume.yaml`` and so on.

    Attributes
    ----------
    recipes : dict of str to Recipe
        By file name without suffix: modality, hyphen, kind.
    texts : dict of str to str
        The files' contents, which a bundle carries and by which a cache is known.
    """

    recipes: dict[str, Recipe]
    texts: dict[str, str]

    @classmethod
    def read(cls, folder: Path | None = None) -> RecipeBook:
        """Read a folder of recipes; those that medtranslate ships where none is given.

        Raises
        ------
        InputMissing
            The folder is not there or holds no recipe.
        ModelUnusable
            A recipe is not valid.
        """
        folder = folder or shipped("transforms")
        paths = sorted(folder.glob("*.yaml"))
        if not paths:
            raise InputMissing("no recipes (*.yaml) there", path=folder)
        return cls(
            {path.stem: load_recipe(path) for path in paths},
            {path.stem: path.read_text(encoding="utf-8") for path in paths},
        )

    def recipe(self, modality: str, kind: str) -> Recipe | None:
        """Return the recipe for a kind of input, if there is one."""
        return self.recipes.get(f"{modality.lower()}-{kind}")

    def digest(self, modality: str) -> str:
        """Return the SHA-256 over the recipes of a modality."""
        total = hashlib.sha256()
        for name, text in sorted(self.of(modality).items()):
            total.update(f"{name}\0{text}\0".encode())
        return total.hexdigest()

    def of(self, modality: str) -> dict[str, str]:
        """Return the texts of a modality's recipes."""
        return {n: text for n, text in self.texts.items() if n.startswith(f"{modality.lower()}-")}
