"""The README's commands are the ones that are run, and its Python is Python."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
FIRST_SCREEN = 40  # lines


def command(mark: str) -> str:
    """Return the one command in the code block below ``<!-- mark -->``."""
    found = re.findall(rf"^<!-- {mark} -->\n```bash\n(.*)\n```$", README, flags=re.MULTILINE)
    assert len(found) == 1, f"README.md has {len(found)} commands marked {mark!r}"
    return str(found[0])


def test_ci_runs_the_test_command_word_for_word() -> None:
    lines = (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()

    assert lines.count(command("test")) == 1


def test_both_commands_make_their_own_environment_and_are_on_the_first_screen() -> None:
    top = README.splitlines()[:FIRST_SCREEN]

    for mark in ("try", "test"):
        assert command(mark).startswith("python3 -m venv .venv && .venv/bin/pip install ")
        assert command(mark) in top


def test_python_examples_compile() -> None:
    examples = re.findall(r"^```python\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)

    assert examples
    for example in examples:
        compile(example, "README.md", "exec")


def test_every_link_into_the_repository_leads_somewhere() -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)", README)

    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []
