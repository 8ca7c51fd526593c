"""The examples in docstrings run, and what is public has one."""

from __future__ import annotations

import doctest
import importlib
import inspect
import pkgutil

import pytest

import medtranslate

MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(medtranslate.__path__, "medtranslate.")
    if not module.name.endswith("__main__")
)
FINDER = doctest.DocTestFinder(exclude_empty=True)


@pytest.mark.parametrize("name", ["medtranslate", *MODULES])
def test_examples_run(name: str) -> None:
    module = importlib.import_module(name)
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    for example in FINDER.find(module, name):
        runner.run(example)

    assert runner.failures == 0, f"{name}: {runner.failures} examples fail"


PACKAGES = [
    module.name
    for module in pkgutil.iter_modules(medtranslate.__path__, "medtranslate.")
    if module.ispkg
]


@pytest.mark.parametrize("package", ["medtranslate", *PACKAGES])
def test_every_public_name_has_an_example(package: str) -> None:
    home = importlib.import_module(package)
    public = {name: getattr(home, name) for name in getattr(home, "__all__", ())}
    shown = {
        name: _texts(one) for name, one in public.items() if inspect.ismodule(one) or callable(one)
    }

    assert [name for name, texts in shown.items() if not any(">>>" in t for t in texts)] == []


def _texts(public: object) -> list[str]:
    """Return the docstrings of a module, a function, or a class and its members."""
    members = vars(public).values() if isinstance(public, type) or inspect.ismodule(public) else ()
    functions = [getattr(member, "__func__", member) for member in members]
    return [each.__doc__ or "" for each in (public, *functions) if callable(each) or each is public]
