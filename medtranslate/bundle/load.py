"""Loading a bundle: networks, recipes and weights from data, never from code.

``configs/model.yaml`` says what a bundle holds. It is free of ``$`` expressions and names only
classes of an allow-list, so that a bundle from somebody else can be loaded without trusting it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import nn

from medtranslate.errors import InputMissing, InvalidOption, MedTranslateError, ModelUnusable
from medtranslate.files import file_hash, shipped
from medtranslate.modality import TARGETS, Modality
from medtranslate.networks import InvalidSpec, contrasts_of
from medtranslate.networks import build_generator as build_network
from medtranslate.networks.generators import TARGETS as NETWORKS
from medtranslate.transforms import Recipe, load_recipe
from medtranslate.transforms.load import line_of, read_yaml, refuse

Part = TypeVar("Part")

FORMAT = 2
MODEL_FILE = Path("configs/model.yaml")
_UPGRADE = (
    "write its recipes (configs/recipes) anew as MONAI transforms, or copy those that medtranslate "
    "ships (docs/reference/recipes.md), then set format: 2"
)
PART_KEY = "medtranslate"
"""Key of the metadata of a part's file: JSON with its ``format`` and what else the part needs."""

_NUMBERS = {
    "domain": "domain check",
    "expected_error": "expected error",
    "contrast": "contrast classifier",
}
_TRAIN = "train one: medtranslate train CT_FOLDER MR_FOLDER -o RUN; then give --bundle RUN/bundle"


@dataclass(frozen=True, eq=False)
class Generator:
    """One direction of a model.

    Parameters
    ----------
    network : nn.Module
        Float32, in evaluation mode, without gradients; (N, 1, 256, 256) in [-1, 1] both ways.
    sha256 : str
        Of the weights' file.
    stored : torch.dtype
        Of the weights in the file.

    Examples
    --------
    >>> Bundle.load().generator("mri")
    Generator(Compact, sha256=...)
    """

    network: nn.Module
    sha256: str
    stored: torch.dtype = torch.float16

    def __repr__(self) -> str:
        return f"Generator({type(self.network).__name__}, sha256={self.sha256[:12]}...)"


@dataclass(frozen=True, eq=False)
class Bundle:
    """A loaded model.

    Parameters
    ----------
    folder : Path
        Where it was loaded from.
    name, version : str
        Which model this is.
    generators : mapping of str to Generator
        By target: ``"mri"`` and ``"ct"``.
    recipes : mapping of str to Recipe
        By modality and kind: ``"CT-volume"``, ``"CT-image"``, ``"MR-volume"``, ``"MR-image"``.
    domain : Path or None
        Numbers of the domain check (`medtranslate.domain_check.load_domain`), where it carries any.
    expected_error : Path or None
        Weights of the networks that predict errors of its results
        (`medtranslate.quality.expected_error.load_error_predictors`), where it carries any.
    contrast_classifier : Path or None
        Weights of the network that tells the contrast of an MRI
        (`medtranslate.translation.contrast.load_contrast_classifier`), where it carries one.

    Examples
    --------
    >>> Bundle.load()
    Bundle('brain_ct_mri', '1.0.0', makes mri and ct)
    """

    folder: Path
    name: str
    version: str
    generators: Mapping[str, Generator]
    recipes: Mapping[str, Recipe]
    domain: Path | None = None
    expected_error: Path | None = None
    contrast_classifier: Path | None = None

    @classmethod
    def load(cls, folder: str | Path | None = None) -> Bundle:
        """Load a bundle from a folder; without one, the bundle that medtranslate ships.

        Raises
        ------
        ModelUnusable
            If a file is missing or damaged, a hash is wrong, the format is newer, a config names
            something outside the allow-list, or a recipe makes slices of a size that a network
            does not take; the message names the file and the place.
        """
        folder = Path(folder) if folder is not None else default_bundle()
        path = folder / MODEL_FILE
        if not path.is_file():
            raise ModelUnusable(f"no bundle here (no {MODEL_FILE})", path=folder, remedy=_TRAIN)
        content = read_yaml(path)
        if (found := content.get("format")) != FORMAT:
            fault = f"{found!r}, but this version reads format {FORMAT}"
            refuse(path, "format", fault, _UPGRADE if found == 1 else None)
        generators = _mapping(content, "generators", path)
        recipes = _mapping(content, "recipes", path)
        if unknown := [to for to in generators if to not in TARGETS]:
            refuse(path, "generators", f"{unknown[0]!r} is none of {', '.join(TARGETS)}")
        bundle = cls(
            folder,
            str(content.get("name", folder.name)),
            str(content.get("version", "0")),
            {to: _generator(folder, to, generators, path) for to in TARGETS if to in generators},
            _recipes(path, recipes),
            *(_numbers(folder, content, path, name) for name in _NUMBERS),
        )
        _check_sizes(bundle, path)
        return bundle

    def __repr__(self) -> str:
        makes = " and ".join(self.generators)
        return f"{type(self).__name__}({self.name!r}, {self.version!r}, makes {makes})"

    @property
    def contrasts(self) -> tuple[str, ...]:
        """The MR contrasts that it tells apart, the default first; most models have none."""
        told = (contrasts_of(each.network) for each in self.generators.values())
        return next(filter(None, told), ())

    @property
    def default_contrast(self) -> str:
        """The MR contrast that is made unless another is asked for; ``""`` in a model without."""
        made = self.generators.get(Modality.MR.target)
        return "" if made is None else "".join(contrasts_of(made.network)[:1])

    def contrast_code(self, contrast: str, to: str = Modality.MR.target) -> int:
        """Return the code that a generator takes for a contrast of the MRI, made or given.

        Parameters
        ----------
        contrast : str
            ``""`` is the default one of an MRI that is made, and an unknown one of one given.
        to : str
            ``"mri"`` or ``"ct"``.

        Returns
        -------
        int
            From 1; 0 for an unknown contrast, and where the generator takes no code.

        Raises
        ------
        InvalidOption
            The model does not tell this contrast from others.

        Examples
        --------
        >>> Bundle.load().contrast_code("flair")
        4
        >>> Bundle.load().contrast_code("adc")
        Traceback (most recent call last):
        medtranslate.errors.InvalidOption: brain_ct_mri 1.0.0 has no contrast adc, but t1, t1c, ...
        """
        known, model = self.contrasts, f"{self.name} {self.version}"
        if not known and contrast:
            raise InvalidOption(f"{model} has no choice of MR contrast: leave out {contrast}")
        if contrast and contrast not in known:
            raise InvalidOption(f"{model} has no contrast {contrast}, but {', '.join(known)}")
        codes = contrasts_of(self.generator(to).network)
        chosen = contrast or (self.default_contrast if to == Modality.MR.target else "")
        return codes.index(chosen) + 1 if chosen in codes else 0

    @property
    def precision(self) -> str:
        """The precision that its generators are computed in by default, as `Device.pick` takes it.

        Weights of 16 bits in whatever is fastest. Wider ones, as an import keeps them, in float32:
        they are to give what they gave where they were trained.
        """
        wide = any(each.stored.itemsize > 2 for each in self.generators.values())
        return "float32" if wide else "auto"

    def generator(self, to: str) -> Generator:
        """Return the generator that makes ``"mri"`` or ``"ct"``; ModelUnusable if there is none."""
        if to not in self.generators:
            raise ModelUnusable(f"makes no {to}", path=self.folder)
        return self.generators[to]

    def recipe(self, modality: str, kind: str) -> Recipe:
        """Return the recipe for ``"CT"`` or ``"MR"``, ``"volume"`` or ``"image"``."""
        key = f"{modality}-{kind}"
        if key not in self.recipes:
            raise ModelUnusable(f"has no recipe for a {modality} {kind}", path=self.folder)
        return self.recipes[key]

    def in_window(self, slices: torch.Tensor, modality: Modality) -> torch.Tensor:
        """Return slices that a generator gave as `ToUnits.in_window` shows them.

        Of a modality without a recipe, values are the window.
        """
        recipes = [each for each in self.recipes.values() if each.modality == modality]
        return recipes[0].in_window(slices) if recipes else slices.clamp(-1, 1)


def default_bundle() -> Path:
    """Return the folder of the bundle that medtranslate ships.

    Raises
    ------
    ModelUnusable
        This copy of medtranslate carries none.

    Examples
    --------
    >>> default_bundle().name
    'brain_ct_mri'
    """
    try:
        return shipped("bundles/brain_ct_mri")
    except InputMissing as error:
        raise ModelUnusable("this copy ships no model", remedy=_TRAIN) from error


def build_generator(spec: Any, path: Path, where: str) -> nn.Module:
    """Build a generator from its ``_target_`` and arguments, through the allow-list."""
    if not isinstance(spec, dict) or "_target_" not in spec:
        refuse(path, where, f"needs a _target_: {', '.join(NETWORKS)}")
    try:
        return build_network(spec)
    except InvalidSpec as error:
        refuse(path, f"{where}.{error.where}".rstrip("."), error.fault)


def _mapping(content: dict[str, Any], key: str, path: Path, above: str = "") -> dict[str, Any]:
    value = content.get(key)
    if not isinstance(value, dict) or not value:
        refuse(path, f"{above}{key}", "is missing or no mapping")
    return value


def _generator(folder: Path, to: str, specs: dict[str, Any], path: Path) -> Generator:
    spec = _mapping(specs, to, path, "generators.")
    where = f"generators.{to}"
    # Without memory until the weights are there: a config may claim any width.
    with torch.device("meta"):
        network = build_generator(spec.get("network"), path, f"{where}.network")
    if any(getattr(network, end) != 1 for end in ("in_channels", "out_channels")):
        refuse(path, f"{where}.network", "takes or makes more than one channel")
    weights = _inside(folder, spec.get("weights"), path, f"{where}.weights")
    if not weights.is_file():
        named = f"the weights are missing, which line {line_of(path, f'{where}.weights')} of"
        raise ModelUnusable(f"{named} {path.name} names", path=weights, remedy=_TRAIN)
    digest = _check_hash(weights, spec.get("sha256"), path, f"{where}.sha256")
    stored = load_weights(network, weights)
    return Generator(network.eval().requires_grad_(False), digest, stored)


def load_weights(network: nn.Module, path: Path) -> torch.dtype:
    """Fill a network from safetensors of any float type; ModelUnusable if they do not fit.

    The network may lie on the meta device; it is float32 on the CPU afterward. Returns the widest
    type in the file.
    """
    try:
        kept = load_file(path)
        state = {k: _as_float32(v) for k, v in kept.items()}
        network.load_state_dict(state, assign=True)
    except (SafetensorError, OSError) as error:
        raise ModelUnusable(f"not readable as safetensors: {error}", path=path) from error
    except RuntimeError as error:
        raise ModelUnusable("these weights belong to another network", path=path) from error
    floats = (each.dtype for each in kept.values() if each.is_floating_point())
    return max(floats, key=lambda dtype: dtype.itemsize, default=torch.float16)


def _as_float32(stored: torch.Tensor) -> torch.Tensor:
    """Copy a tensor as float32; counters and tables of indices stay whole numbers."""
    wanted = torch.float32 if stored.is_floating_point() else stored.dtype
    return stored.to(wanted, copy=True)


def _recipes(path: Path, files: dict[str, Any]) -> dict[str, Recipe]:
    recipes: dict[str, Recipe] = {}
    for name, file in files.items():
        where = f"recipes.{name}"
        recipe = load_recipe(_inside(path.parent, file, path, where))
        key = f"{recipe.modality}-{recipe.kind}"
        if key in recipes:
            refuse(path, where, f"a second recipe for a {recipe.modality} {recipe.kind}")
        recipes[key] = recipe
        # What the generator gives is one thing, whatever the result is written to.
        shares = {each.share for each in recipes.values() if each.modality == recipe.modality}
        if len(shares) > 1:
            fault = f"its window takes another share than that of other {recipe.modality} recipes"
            refuse(path, where, fault)
    return recipes


def _check_sizes(bundle: Bundle, path: Path) -> None:
    for to, generator in bundle.generators.items():
        multiple: int = generator.network.multiple  # type: ignore[assignment]
        for name, recipe in bundle.recipes.items():
            size = recipe.grid.size
            if size % multiple:
                fault = f"takes sides that {multiple} divides, but {name} makes {size}x{size}"
                refuse(path, f"generators.{to}.network", fault)


def _check_hash(file: Path, stated: Any, path: Path, where: str) -> str:
    """Return the SHA-256 of a file that is what the model's file states."""
    try:
        digest = file_hash(file)
    except MedTranslateError as error:
        raise ModelUnusable(error.fault, path=file) from error
    if digest != stated:
        fault = f"its SHA-256 is not the one that {path.name} states in line {line_of(path, where)}"
        raise ModelUnusable(fault, path=file)
    return digest


def _numbers(folder: Path, content: dict[str, Any], path: Path, name: str) -> Path | None:
    """Return the file of numbers that a model's file names, if it names one and it is whole."""
    if name not in content:
        return None
    spec = _mapping(content, name, path)
    file = _inside(folder, spec.get("numbers"), path, f"{name}.numbers")
    if not file.is_file():
        raise ModelUnusable(f"the numbers of its {_NUMBERS[name]} are missing", path=file)
    _check_hash(file, spec.get("sha256"), path, f"{name}.sha256")
    return file


def read_part(
    path: Path,
    name: str,
    formats: Collection[int],
    build: Callable[[dict[str, Any], dict[str, torch.Tensor]], Part],
    *,
    remedy: str,
    if_damaged: str | None = None,
) -> Part:
    """Read the file of what a bundle has learned beside its generators.

    Parameters
    ----------
    path : path
        A safetensors file, as `save.part_bytes` makes it.
    name : str
        Of the part, with its article, for messages.
    formats : collection of int
        Those that this version reads.
    build : callable
        Makes the part of its metadata and tensors; what it raises means a damaged file.
    remedy, if_damaged : str
        What to do about another format, and about a damaged file.

    Raises
    ------
    ModelUnusable
        The file is damaged or of another format.
    """
    try:
        with safe_open(path, framework="pt") as opened:
            about = json.loads((opened.metadata() or {})[PART_KEY])
            tensors = {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118
        if about["format"] not in formats:
            known = " and ".join(map(str, formats))
            fault = f"{name} of format {about['format']}, but this version reads {known}"
            raise ModelUnusable(fault, path=path, remedy=remedy)
        if not all(bool(each.isfinite().all()) for each in tensors.values()):
            raise ValueError("numbers that are not finite")
        return build(about, tensors)
    except (SafetensorError, KeyError, ValueError, TypeError, RuntimeError, OSError) as error:
        fault = f"not the numbers of {name}"
        raise ModelUnusable(fault, path=path, remedy=if_damaged) from error


def _inside(folder: Path, name: Any, path: Path, where: str) -> Path:
    """Resolve a name that must stay inside the bundle's folder."""
    if not isinstance(name, str) or "\0" in name:
        refuse(path, where, f"{name!r} names no file")
    inside = (folder / name).resolve()
    if not inside.is_relative_to(folder.resolve()):
        refuse(path, where, f"{name!r} lies outside the bundle")
    return inside
