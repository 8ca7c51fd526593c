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


PUBLIC = [
    (package, name)
    for package in ("medtranslate", "medtranslate.packaging")
    for name in sorted(set(importlib.import_module(package).__all__) - {"__version__"})
]


@pytest.mark.parametrize(("package", "name"), PUBLIC)
def test_every_public_name_has_an_example(package: str, name: str) -> None:
    public = getattr(importlib.import_module(package), name)
    if inspect.ismodule(public):
        texts = [public.__doc__ or "", *(each.__doc__ or "" for each in vars(public).values())]
    else:
        members = vars(public).values() if inspect.isclass(public) else ()
        functions = [getattr(member, "__func__", member) for member in members]
        texts = [public.__doc__ or "", *(f.__doc__ or "" for f in functions if callable(f))]

    assert any(">>>" in text for text in texts), name
