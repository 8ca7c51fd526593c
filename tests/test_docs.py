"""The site leaves nothing out: every page is in its navigation, every package in the reference."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import typer
import yaml

from medtranslate.cli.app import app
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


def test_every_package_with_a_python_interface_is_in_the_reference() -> None:
    packages = {
        path.stem
        for path in (ROOT / "medtranslate").iterdir()
        if path.suffix == ".py" or (path / "__init__.py").is_file()
    } - {"__init__", "__main__", "cli", "html"}  # html: pages, no interface
    shown = re.findall(
        r"^::: medtranslate\.(\w+)$",
        (DOCS / "reference" / "api.md").read_text(encoding="utf-8"),
        re.MULTILINE,
    )

    assert packages - set(shown) == set()
    assert len(shown) == len(set(shown)), "a package is shown twice"


def test_every_file_that_a_page_includes_is_there() -> None:
    lines = [
        line.strip()
        for page in DOCS.rglob("*.md")
        for line in page.read_text(encoding="utf-8").splitlines()
        if re.match(r"\s*--\s*8", line)  # also one that a formatter took for Python
    ]
    named = [re.fullmatch(r'--8<-- "([^"]+)"', line) for line in lines]

    assert len(lines) > 5 and all(named), lines
    assert [one[1] for one in named if one and not (ROOT / one[1]).is_file()] == []


def commands() -> list[tuple[str, list[str]]]:
    """Return each medtranslate command in a bash block of the documentation, and its page."""
    pages = [ROOT / "README.md", *DOCS.rglob("*.md"), *(ROOT / "bundles").rglob("*.md")]
    found = []
    for page in pages:
        text = page.read_text(encoding="utf-8")
        for block in re.findall(r"^```(?:bash)?[^\n]*\n(.*?)^```$", text, flags=re.S | re.M):
            lines = block.replace("\\\n", " ").splitlines()
            words = [shlex.split(line, comments=True) for line in lines if "medtranslate " in line]
            for line in words:
                if "medtranslate" in line:
                    call = line[line.index("medtranslate") + 1 :]
                    found.append((str(page.relative_to(ROOT)), call))
    return found


@pytest.mark.parametrize(("page", "call"), commands())
def test_a_command_in_the_documentation_exists_with_its_options(page: str, call: list[str]) -> None:
    command = typer.main.get_command(app)
    while hasattr(command, "commands") and call and call[0] in command.commands:
        command = command.commands[call.pop(0)]
    known = {option for parameter in command.params for option in parameter.opts}
    given = {word.split("=")[0] for word in call if re.match(r"--?[a-z]", word)}

    assert given - known - {"-h", "--help"} == set(), page
