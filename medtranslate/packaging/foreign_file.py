"""A file of weights from another program, read as data: nothing in it is ever executed."""

from __future__ import annotations

import pickle
import warnings
from pathlib import Path
from typing import Any, NoReturn

import torch

from medtranslate.errors import InputMissing, ModelUnusable

_PREFIXES = ("module.", "_orig_mod.")
_PLAIN = "give the generator's state dict, as torch.save(network.state_dict(), PATH) writes it"

State = dict[str, torch.Tensor]


def read_state(path: str | Path) -> State:
    """Read a state dict that ``torch.save`` wrote.

    Parameters
    ----------
    path : path
        A ``.pth``, of any version of torch, in its zip or its older format.

    Returns
    -------
    dict of str to float tensor
        On the CPU, all finite, of the float type in the file. The prefixes that ``DataParallel``
        and ``torch.compile`` put before names are gone.

    Raises
    ------
    InputMissing
        If there is no such file.
    ModelUnusable
        If it is damaged, holds Python objects other than tensors, holds something that is no
        state dict, claims tensors larger than itself, or weights that are not finite.
    """
    path = Path(path)
    if not path.is_file():
        raise InputMissing("no such file", path=path)
    content = _load(path)
    if not isinstance(content, dict) or not content:
        _refuse(path, f"holds a {type(content).__name__}, no state dict")
    for name, value in content.items():
        _check_entry(path, name, value)
    # torch.save compresses nothing; a claim beyond the file's size is a strided view or an attack.
    claimed = sum(value.numel() * value.element_size() for value in content.values())
    if claimed > path.stat().st_size:
        _refuse(path, "claims tensors larger than the file that holds them")
    for name, value in content.items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            _refuse(path, f"{name} holds values that are NaN or infinite")
    return {_bare(name): value for name, value in content.items()}


def _load(path: Path) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of old formats, which are read all the same
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        fault = "holds Python objects, which could run code, or is no file of torch: not loaded"
        raise ModelUnusable(fault, path=path, remedy=_PLAIN) from error
    except Exception as error:  # damaged files fail anywhere in torch's reader
        raise ModelUnusable("damaged, or no file that torch wrote", path=path) from error


def _check_entry(path: Path, name: Any, value: Any) -> None:
    if isinstance(name, str) and isinstance(value, torch.Tensor):
        # Counters of batches are whole numbers; sparse and quantised tensors are no weights.
        if value.layout == torch.strided and not value.is_quantized and not value.is_complex():
            return
        _refuse(path, f"{name} is no plain tensor")
    kind = type(value).__name__
    _refuse(path, f"holds {name!r}, a {kind}, where a state dict has tensors")


def _bare(name: str) -> str:
    while name.startswith(_PREFIXES):
        name = name.split(".", 1)[1]
    return name


def _refuse(path: Path, fault: str) -> NoReturn:
    raise ModelUnusable(fault, path=path, remedy=_PLAIN)
