"""Import only what a command needs, where a process runs that command and ends.

``import monai`` imports every module of MONAI and, through them, pytorch-ignite, matplotlib,
TensorBoard and torch's distributed tensors. That takes longer than torch itself, and nothing that
reads or converts a scan uses it. pydicom imports an HTTP client, for test files; nibabel imports
pydicom. All take a package that cannot be imported as one that is not installed, and do without.

Python callers are not concerned: nothing is changed for them.
"""

from __future__ import annotations

import pkgutil
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

COMMANDS = frozenset({"convert", "inspect", "view", "demo"})
"""Commands that read and convert; the others train, evaluate and package."""

HIDDEN = frozenset(
    {
        *("ignite", "tensorboard", "tensorboardX", "mlflow", "clearml"),
        *("matplotlib", "skimage", "sklearn", "pandas", "IPython"),
        *("cupy", "cucim", "itk", "nrrd", "openslide", "tifffile", "imagecodecs", "zarr", "h5py"),
        *("torchvision", "transformers", "huggingface_hub", "onnx", "onnxscript"),
        *("onnxruntime", "tensorrt", "nvidia.nvimgcodec", "nni", "optuna", "lmdb", "gdown", "fire"),
        *("requests", "tqdm", "psutil", "pynvml"),
        "scipy",  # a quarter of all imports; no transform that a recipe may name uses it
    }
)
"""Packages that MONAI and pydicom use where they are installed, and no command here needs.

Not among them: einops, which some of MONAI's networks compute with.
"""


IMPORTERS = frozenset({"monai", "nibabel", "pydicom", "torch"})
"""From what they are hidden; whoever else imports them, as the page of a report, gets them."""


class _Hiding(MetaPathFinder):
    """Make packages look as if they were not installed; pydicom until there is DICOM to read."""

    _dicom = False

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Refuse what is hidden; leave all else to the next finder."""
        if name.startswith("medtranslate.imaging.dicom."):
            self._dicom = True
        if name == "pydicom" and not self._dicom:  # nibabel tries it
            raise ModuleNotFoundError(f"{name} is not needed yet", name=name)
        if (name in HIDDEN or name.partition(".")[0] in HIDDEN) and _importing():
            raise ModuleNotFoundError(f"{name} is not used here", name=name)
        return None


def _importing() -> bool:
    """Tell whether a module of `IMPORTERS` is being imported."""
    loaded = [m for name, m in sys.modules.items() if name.partition(".")[0] in IMPORTERS]
    specs = (getattr(module, "__spec__", None) for module in loaded)
    # as importlib itself tells a module that is half imported
    return any(getattr(spec, "_initializing", False) for spec in specs)


def lean_imports() -> None:
    """Hide optional packages, and keep MONAI from importing all of itself, for this process."""
    if "monai" in sys.modules:
        return
    sys.meta_path.insert(0, _Hiding())
    pkgutil.walk_packages = _walk(pkgutil.walk_packages)  # MONAI imports what this yields


def _walk(
    every: Callable[..., Iterator[pkgutil.ModuleInfo]],
) -> Callable[..., Iterator[pkgutil.ModuleInfo]]:
    """Yield of MONAI only ``monai.apps``, which MONAI imports first, and which brings the core."""

    def walk(
        path: Iterable[str] | None = None,
        prefix: str = "",
        onerror: Callable[[str], None] | None = None,
    ) -> Iterator[pkgutil.ModuleInfo]:
        if prefix != "monai.":
            return every(path, prefix, onerror)
        found = pkgutil.iter_modules(path, prefix)
        return (module for module in found if module.name == "monai.apps")

    return walk
