"""The site leaves nothing out: every page is in its navigation, every package in the reference."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from medtranslate.transforms.load import MONAIS, OURS

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"


def test_every_page_is_in_the_navigation() -> None:
    settings = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    listed = set(re.findall(r"[\w/-]+\.md", yaml.safe_dump(settings["nav"])))
    pages = {str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md")}

    assert pages - listed == set()


def test_the_recipe_page_lists_every_transform_that_a_recipe_may_use() -> None:
    page = (DOCS / "reference" / "recipes.md").read_text(encoding="utf-8")

    assert [name for name in (*OURS, *MONAIS) if f"`{name}`" not in page] == []


def test_every_package_but_the_command_line_is_in_the_reference() -> None:
    packages = {
        path.stem
        for path in (ROOT / "medtranslate").iterdir()
        if path.suffix == ".py" or (path / "__init__.py").is_file()
    } - {"__init__", "__main__", "cli"}
    shown = re.findall(
        r"^::: medtranslate\.(\w+)$",
        (DOCS / "reference" / "api.md").read_text(encoding="utf-8"),
        re.MULTILINE,
    )

    assert packages - set(shown) == set()
