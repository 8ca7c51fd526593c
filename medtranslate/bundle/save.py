"""Writing a bundle, whole or not at all: weights, recipes, and the files that follow from them.

What MONAI runs (``inference.yaml``, ``train.yaml`` and so on) says how the parts go together; which
networks, weights and recipes those are stays in ``model.yaml`` alone, which they read.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import save
from torch import nn

from medtranslate.bundle.load import FORMAT, MODEL_FILE, PART_KEY
from medtranslate.bundle.metadata import METADATA_FILE, Facts, make_metadata, model_card
from medtranslate.errors import InvalidOption, ModelUnusable
from medtranslate.files import file_hash, whole_file, whole_folder
from medtranslate.modality import TARGETS, Modality
from medtranslate.networks import complete_spec, generator_name
from medtranslate.transforms import load_recipe
from medtranslate.transforms.load import read_yaml

PARTS = {
    part: Path(f"configs/{part}.safetensors") for part in ("domain", "contrast", "expected_error")
}
"""Files of what is learned beside the generators, by their keys in ``model.yaml``."""

REFERENCE_FILE = Path("configs/reference.json")
_TEMPLATES = Path(__file__).parent / "templates"
_WEIGHTS: dict[str, str] = {
    to: f"models/{Modality.parse(to).direction}.safetensors" for to in TARGETS
}
_DISCRIMINATORS: dict[str, str] = {to: f"discriminators/{to}.safetensors" for to in TARGETS}
_MAY_RUN = (
    *(".yaml", ".yml", ".json", ".conf", ".cfg", ".ini"),
    *(".py", ".pyc", ".pyd", ".so", ".dll", ".sh", ".bat", ".ps1", ".ipynb", ".pkl", ".pickle"),
)
_FIELD = re.compile(r"\{(\w+)\}")
_RUN_BY_MONAI = ("$", "%", "@")  # an expression, a part of another file, a reference
_RUN_ANYWHERE = ("$", "%")  # metadata may well begin with the name of an account
_EPOCHS = 200  # the paper's
# Settings that need other weights to start from, or one GPU.
_NEEDS_MORE = ("trained_generators", "anchor_weight", "anchored_generators", "cuda_graph")


@dataclass(frozen=True, eq=False)
class Networks:
    """The networks of a model that is to be saved.

    Parameters
    ----------
    specs : mapping of str to mapping
        By target, ``_target_`` and arguments of the generator.
    generators : mapping of str to nn.Module
        By target.
    discriminators : mapping of str to nn.Module
        By target; kept so that training can go on from the bundle; may be empty.
    dtype : torch.dtype
        Of the weights in the file. A network trained elsewhere keeps float32, so that it gives what
        it gave there.

    Examples
    --------
    >>> from medtranslate.networks import Compact
    >>> spec = {"_target_": "medtranslate.networks.Compact", "width": 16, "blocks": 1}
    >>> Networks({"mri": spec}, {"mri": Compact(width=16, blocks=1)})
    Networks(mri)
    """

    specs: Mapping[str, Mapping[str, Any]]
    generators: Mapping[str, nn.Module]
    discriminators: Mapping[str, nn.Module] = field(default_factory=dict)
    dtype: torch.dtype = torch.float16

    def __repr__(self) -> str:
        return f"Networks({', '.join(self.generators)})"


def save_bundle(
    folder: str | Path,
    networks: Networks,
    recipes: list[Path],
    *,
    name: str,
    version: str,
    facts: Facts | None = None,
    finish: Callable[[Path], None] = lambda folder: None,
) -> Path:
    """Write a bundle: weights and recipes copied, so that it stands alone, and MONAI's files.

    Parameters
    ----------
    folder : path
        Must not exist, or be empty.
    networks : Networks
        Generators, and discriminators where they are kept.
    recipes : list of Path
        Recipe files to copy.
    name, version : str
        Which model this is.
    facts : Facts, optional
        What its metadata say in words.
    finish : callable
        Given the folder under its temporary name, when all but what this adds is there.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    OutputExists, OutputFailed
        If the folder exists or cannot be written; nothing is left behind.
    ModelUnusable
        If a recipe could not be loaded again.

    Examples
    --------
    >>> import tempfile
    >>> from medtranslate.bundle import Bundle
    >>> from medtranslate.files import shipped
    >>> from medtranslate.networks import build_generator, generator_spec
    >>> spec = generator_spec("compact", {"width": 16, "blocks": 1})
    >>> networks = Networks({"mri": spec}, {"mri": build_generator(spec)})
    >>> recipes = [shipped(f"transforms/{name}-volume.yaml") for name in ("ct", "mr")]
    >>> with tempfile.TemporaryDirectory() as made:
    ...     Bundle.load(save_bundle(f"{made}/mine", networks, recipes, name="mine", version="1"))
    Bundle('mine', '1', makes mri)
    """
    folder, facts = Path(folder), facts or Facts()
    for recipe in recipes:
        load_recipe(recipe)

    with whole_folder(folder, parents=True) as whole:
        content = _fill(whole, networks, recipes, name, version)
        write_texts(whole, generated_files(content, facts))
        write_texts(whole, {Path("docs/README.md"): model_card(content, facts)})
        finish(whole)
    return folder


def generated_files(content: Mapping[str, Any], facts: Facts) -> dict[Path, str]:
    """Return the texts that follow from ``model.yaml`` and facts, by their place in the bundle.

    Raises
    ------
    ModelUnusable
        A text is one that MONAI would run as code or follow to another file.
    """
    metadata = make_metadata(content, facts)
    check_runs_nothing(content, "model.yaml")
    check_runs_nothing(metadata, "metadata.json", _RUN_ANYWHERE)
    return {
        MODEL_FILE: yaml.safe_dump(dict(content), sort_keys=False, allow_unicode=True),
        METADATA_FILE: json.dumps(metadata, indent=2, ensure_ascii=False) + "\n",
        **workflow_files(content, facts),
    }


def check_name(text: str, option: str) -> None:
    """Refuse a name or a version that MONAI would run as code where a config holds it.

    Raises
    ------
    InvalidOption
    """
    if text.lstrip().startswith(_RUN_BY_MONAI) or not text.isprintable():
        raise InvalidOption(
            f"{option} {text!r} would be read as code", remedy="begin it with a letter or a digit"
        )


def check_runs_nothing(value: Any, where: str, starts: tuple[str, ...] = _RUN_BY_MONAI) -> None:
    """Refuse a text that MONAI would run, resolve or read from another file, at any depth.

    Raises
    ------
    ModelUnusable
        The message names the place.
    """
    if isinstance(value, Mapping):
        for key, inside in value.items():
            check_runs_nothing(key, where, starts)
            check_runs_nothing(inside, f"{where}: {key}", starts)
    elif isinstance(value, list | tuple):
        for inside in value:
            check_runs_nothing(inside, where, starts)
    elif isinstance(value, str) and len(value.strip()) > 1 and value.lstrip().startswith(starts):
        # a sign alone, as in "unit": "%", says nothing to run
        shown = value if len(value) < 40 else f"{value[:37]}..."
        raise ModelUnusable(f"{where}: MONAI would run {shown!r} as code")


def write_texts(folder: Path, texts: Mapping[Path, str]) -> None:
    """Write texts below a folder, each whole or not at all, replacing what is there."""
    for place, text in texts.items():
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        _replace(folder / place, text.encode("utf-8"))


def _fill(
    folder: Path, networks: Networks, recipes: list[Path], name: str, version: str
) -> dict[str, Any]:
    """Write weights and recipes, and return the content of ``model.yaml``."""
    for sub in ("configs/recipes", "models", *(["discriminators"] * bool(networks.discriminators))):
        (folder / sub).mkdir(parents=True)
    for to, discriminator in networks.discriminators.items():
        _save(discriminator, folder / _DISCRIMINATORS[to], networks.dtype)
    generators = {}
    for to, generator in networks.generators.items():
        _save(generator, folder / _WEIGHTS[to], networks.dtype)
        generators[to] = {
            "network": complete_spec(networks.specs[to]),
            "weights": _WEIGHTS[to],
            "sha256": file_hash(folder / _WEIGHTS[to]),
        }
    for recipe in recipes:
        shutil.copyfile(recipe, folder / "configs/recipes" / recipe.name)
    return {
        "format": FORMAT,
        "name": name,
        "version": version,
        "generators": generators,
        "recipes": {recipe.stem: f"recipes/{recipe.name}" for recipe in recipes},
    }


def _save(network: nn.Module, path: Path, dtype: torch.dtype) -> None:
    state = {key: _as_stored(value, dtype) for key, value in network.state_dict().items()}
    path.write_bytes(save(state))  # not `save_file`, which makes a file that only its owner reads


def _as_stored(value: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Copy a tensor: some of MONAI's networks hold a layer twice, and views are refused."""
    wanted = dtype if value.is_floating_point() else value.dtype
    return value.detach().to("cpu", wanted, copy=True).contiguous()


def refresh(folder: Path, *, version: str = "", note: str = "", facts: Facts | None = None) -> None:
    """Rewrite the hashes, metadata and workflows of a bundle; its words and its card stay.

    Parameters
    ----------
    folder : path
        The bundle.
    version : str
        A new one; without it, the version stays.
    note : str
        What the version brings, for the changelog.
    facts : Facts, optional
        Instead of the words in the metadata.

    Raises
    ------
    ModelUnusable
        There is no bundle, or weights that it names are missing.
    OSError
        A file cannot be written.
    """
    content, facts = content_of(folder), facts or facts_of(folder)
    version = version or str(content["version"])
    content |= {"version": version}
    if note:
        facts = replace(facts, changelog={**facts.changelog, version: note})
    for spec in content["generators"].values():
        weights = folder / str(spec["weights"])
        if not weights.is_file():
            raise ModelUnusable("the weights are missing", path=weights)
        spec |= {"network": complete_spec(spec["network"]), "sha256": file_hash(weights)}
    write_texts(folder, generated_files(content, facts))


def content_of(folder: Path) -> dict[str, Any]:
    """Read a bundle's ``model.yaml``."""
    return read_yaml(folder / MODEL_FILE)


def facts_of(folder: Path) -> Facts:
    """Read the descriptive part of a bundle's metadata; the defaults where it has none."""
    path = folder / METADATA_FILE
    return Facts.of(read_yaml(path)) if path.is_file() else Facts()


def foreign_workflows(folder: Path) -> tuple[list[str], list[str]]:
    """Find files that MONAI or Python would run and that are not as medtranslate writes them.

    Returns
    -------
    (list of str, list of str)
        Places in the bundle of workflows that are missing, and of files that may hold code.

    Raises
    ------
    ModelUnusable
        What medtranslate itself would write holds code, because a name or a setting does.
    """
    content, facts = content_of(folder), facts_of(folder)
    expected = workflow_files(content, facts)
    missing = [str(place) for place in expected if not (folder / place).is_file()]
    ours = (MODEL_FILE, METADATA_FILE, REFERENCE_FILE)
    for place in ours:
        if (folder / place).is_file():
            starts = _RUN_ANYWHERE if place == METADATA_FILE else _RUN_BY_MONAI
            check_runs_nothing(read_yaml(folder / place), place.name, starts)
    data = {*ours, *(MODEL_FILE.parent / str(file) for file in content["recipes"].values())}
    found = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    own = [
        str(place)
        for place in found
        if place.suffix.lower() in _MAY_RUN
        and place not in data
        and _text(folder / place) != expected.get(place)
        and not _is_data(folder / place)
    ]
    return missing, own


def _is_data(path: Path) -> bool:
    """Tell whether a file is JSON or YAML without an expression, a reference or an object."""
    if path.suffix.lower() not in (".json", ".yaml", ".yml"):
        return False
    try:
        check_runs_nothing(read_yaml(path), path.name, (*_RUN_BY_MONAI, "_target_"))
    except ModelUnusable:
        return False
    return True


def _text(path: Path) -> str:
    return path.read_bytes().decode("utf-8", "replace")


def workflow_files(content: Mapping[str, Any], facts: Facts) -> dict[Path, str]:
    """Return the workflows of a model, as MONAI runs them.

    Parameters
    ----------
    content : mapping
        Of its ``model.yaml``. The first generator is the direction that is taken unless another
        is asked for.
    facts : Facts
        Where its training settings are.

    Returns
    -------
    dict of Path to str
        Texts, by the file's place in the bundle. A model whose network cannot be trained here (an
        imported color generator) has no ``train.yaml``.
    """
    to = next(iter(content["generators"]))
    fields = {"to": to}
    names = ["inference.yaml", "evaluate.yaml", "logging.conf"]
    settings = _settings(content["generators"][to]["network"], facts)
    if settings:
        names += ["train.yaml", "multi_gpu_train.yaml"]
        epochs = settings.pop("epochs", _EPOCHS)
        fields |= {
            "epochs": str(_checked({"epochs": epochs})["epochs"]),
            "settings": _block(_checked(settings)),
            "name": _quoted(content["name"], "name"),
            "version": _quoted(content["version"], "version"),
        }
    return {Path("configs") / name: _filled(name, fields) for name in names}


def _settings(spec: Mapping[str, Any], facts: Facts) -> dict[str, Any]:
    """Return the settings that the model was trained with, or what its network alone says.

    Settings that need other weights to start from, or one GPU, are left out.
    """
    name = generator_name(spec)
    if not name:
        return {}
    implied = ("_target_", "spatial_dims", "in_channels", "out_channels", "contrasts")
    arguments = {key: value for key, value in spec.items() if key not in implied}
    known = dict(facts.training.get("settings", {}))
    network = {"network": name, "network_arguments": arguments}
    settings = network | known | network
    return {name: value for name, value in settings.items() if name not in _NEEDS_MORE}


def _quoted(text: Any, where: str) -> str:
    """Return a text as YAML and JSON have it in quotes."""
    check_runs_nothing(str(text), where)
    return json.dumps(str(text))


def _checked(settings: dict[str, Any]) -> dict[str, Any]:
    """Return training settings that cannot run anything: plain values under plain names.

    Raises
    ------
    ModelUnusable
        A name is none, a value is a text that MONAI would run, or the epochs are no number.
    """
    for name, value in settings.items():
        where = f"training.settings.{name}"
        check_runs_nothing(value, where)
        names = [name, *(value if isinstance(value, Mapping) else ())]
        if any(not str(one).isidentifier() or str(one).startswith("_") for one in names):
            raise ModelUnusable(f"{where}: is no setting")
        if name == "epochs" and (not isinstance(value, int) or isinstance(value, bool)):
            raise ModelUnusable(f"{where}: {value!r} is no number")
    return settings


def _block(settings: Mapping[str, Any]) -> str:
    plain = json.loads(json.dumps(settings))  # tuples are lists in YAML
    text = yaml.safe_dump(plain, sort_keys=False, default_flow_style=None)
    return "".join(f"  {line}\n" for line in text.splitlines()).rstrip("\n")


def _filled(name: str, fields: Mapping[str, str]) -> str:
    """Fill a template in one pass: what a field brings is not searched for other fields."""
    text = (_TEMPLATES / name).read_text(encoding="utf-8")
    return _FIELD.sub(lambda found: fields.get(found[1], found[0]), text)


def part_bytes(about: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> bytes:
    """Serialize what is learned beside the generators, as `load.read_part` reads it."""
    contiguous = {name: each.contiguous() for name, each in tensors.items()}
    return save(contiguous, metadata={PART_KEY: json.dumps(about)})


def attach(folder: Path, part: str, numbers: bytes) -> None:
    """Add what is learned beside the generators to a bundle, in place of what it has.

    Parameters
    ----------
    folder : path
        The bundle's; ``model.yaml`` is there already, and is written anew.
    part : str
        Of `PARTS`: ``"domain"``, ``"contrast"`` or ``"expected_error"``.
    numbers : bytes
        A safetensors file.

    Raises
    ------
    OSError
        If it cannot be written; attach it again, or the bundle may not load.

    Examples
    --------
    >>> import tempfile
    >>> from medtranslate.bundle import Bundle
    >>> from medtranslate.files import shipped
    >>> from medtranslate.networks import build_generator, generator_spec
    >>> spec = generator_spec("compact", {"width": 16, "blocks": 1})
    >>> networks = Networks({"mri": spec}, {"mri": build_generator(spec)})
    >>> recipes = [shipped(f"transforms/{name}-volume.yaml") for name in ("ct", "mr")]
    >>> numbers = (shipped("bundles/brain_ct_mri") / PARTS["domain"]).read_bytes()
    >>> with tempfile.TemporaryDirectory() as made:
    ...     folder = save_bundle(f"{made}/mine", networks, recipes, name="mine", version="1")
    ...     attach(folder, "domain", numbers)
    ...     Bundle.load(folder).domain.name
    'domain.safetensors'
    """
    path, model = folder / PARTS[part], folder / MODEL_FILE
    content = read_yaml(model)
    _replace(path, numbers)
    content[part] = {"numbers": PARTS[part].as_posix(), "sha256": file_hash(path)}
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
    _replace(model, text.encode("utf-8"))


def _replace(path: Path, content: bytes) -> None:
    with whole_file(path, overwrite=True) as temporary:
        temporary.write_bytes(content)
