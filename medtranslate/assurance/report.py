"""The report: what was made from what, by which model, on what; for machines and for the record."""

from __future__ import annotations

import hashlib
import json
import platform
import sys
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nibabel import orientations

from medtranslate.errors import MedTranslateError
from medtranslate.imaging.whole import whole_file
from medtranslate.translation import Translator

SCHEMA = 1
"""Version of the report's schema; it grows by keys, and the number changes when one changes."""

_LIBRARIES = ("medtranslate", "torch", "monai", "numpy", "nibabel", "SimpleITK", "pydicom")


def report(
    conversions: list[dict[str, Any]],
    options: Mapping[str, Any],
    translator: Translator | None,
    *,
    exit_code: int,
    seconds: Mapping[str, float],
) -> dict[str, Any]:
    """Put together the report of one call, in builtins.

    Parameters
    ----------
    conversions : list of dict
        One a scan, from `conversion`.
    options : mapping
        As given on the command line.
    translator : Translator or None
        The model, None where none was loaded.
    exit_code : int
        Of the whole call.
    seconds : mapping of str to float
        ``"load"`` and ``"total"``.
    """
    return {
        "schema": SCHEMA,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "options": dict(options),
        "software": {"python": platform.python_version(), **_versions()},
        "device": _device(translator),
        "model": _model(translator),
        "seconds": {name: round(value, 3) for name, value in seconds.items()},
        "peak_memory_bytes": peak_memory(translator),
        "exit_code": exit_code,
        "conversions": conversions,
    }


def conversion(
    given: Path,
    *,
    read: Path | None,
    output: Path | None,
    preview: Path | None,
    source: Mapping[str, Any],
    synthesis: Mapping[str, Any],
    seconds: Mapping[str, float],
    error: Exception | None,
) -> dict[str, Any]:
    """Describe one conversion, done or failed, in builtins.

    Parameters
    ----------
    given : Path
        The argument of the command line.
    read : Path or None
        The file or folder read, None where there was none.
    output, preview : Path or None
        What was written.
    source, synthesis : mapping
        ``meta["source"]`` and ``meta["synthesis"]``; empty where it failed.
    seconds : mapping of str to float
        By stage.
    error : Exception or None
        Why it failed.
    """
    taken = [Path(name) for name in source.get("files", [])]
    files = dict.fromkeys(Path(str(path).split("!/")[0]) for path in taken)
    return {
        "status": "failed" if error else "converted",
        "input": {"given": str(given), "path": str(read or given), "files": hashes(files)},
        "output": None if output is None else {"path": str(output), "files": hashes([output])},
        "preview": None if preview is None else {"path": str(preview), "files": hashes([preview])},
        "source": _source(source),
        "synthesis": dict(synthesis),
        "warnings": list(source.get("faults", [])),
        "seconds": {name: round(value, 3) for name, value in seconds.items()},
        "error": None if error is None else _error(error),
    }


def write_report(content: Mapping[str, Any], path: Path, *, overwrite: bool = False) -> None:
    """Write a report as JSON, whole or not at all.

    Raises
    ------
    OutputExists, OutputFailed
        It exists, or cannot be written.
    """
    with whole_file(path, overwrite=overwrite) as temporary:
        temporary.write_text(as_json(content), encoding="utf-8")


def as_json(content: Mapping[str, Any]) -> str:
    """Give a report as text."""
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def hashes(paths: Iterable[Path]) -> list[dict[str, str]]:
    """Give path and SHA-256 of files, and of the files directly in folders."""
    files = [
        file
        for path in paths
        for file in (sorted(one for one in path.iterdir()) if path.is_dir() else [path])
    ]
    return [{"path": str(file), "sha256": _hash(file)} for file in files if file.is_file()]


def peak_memory(translator: Translator | None) -> dict[str, int]:
    """Give the most memory this process has held so far: ``"host"`` and, with CUDA, ``"device"``.

    Bytes; ``"host"`` is absent where the system does not tell (Windows).
    """
    peak: dict[str, int] = {}
    try:
        import resource
    except ImportError:
        pass
    else:
        unit = 1 if sys.platform == "darwin" else 1024  # getrusage(2): macOS says bytes, Linux kB
        peak["host"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    if translator is not None and translator.device.processor.type == "cuda":
        peak["device"] = torch.cuda.max_memory_allocated(translator.device.processor)
    return peak


def orientation(affine: Any) -> str:
    """Name the directions in which the axes of a 4x4 RAS affine run, such as ``"LPS"``."""
    codes = orientations.aff2axcodes(np.asarray(affine, dtype=np.float64))
    return "".join(code or "?" for code in codes)


def _source(source: Mapping[str, Any]) -> dict[str, Any]:
    if not source:
        return {}
    keys = ("format", "kind", "modality", "modality_basis", "shape", "affine", "dtype", "even")
    told = {key: source[key] for key in keys}
    if source["kind"] == "volume":
        affine = np.asarray(source["affine"], dtype=np.float64)
        told["spacing_mm"] = [float(f"{v:.6g}") for v in np.linalg.norm(affine[:3, :3], axis=0)]
        told["orientation"] = orientation(affine)
    return told


def _error(error: Exception) -> dict[str, Any]:
    code = error.exit_code if isinstance(error, MedTranslateError) else MedTranslateError.exit_code
    return {"kind": type(error).__name__, "exit_code": code, "message": str(error)}


def _device(translator: Translator | None) -> dict[str, Any]:
    if translator is None:
        return {}
    device = translator.device
    name = platform.processor() or platform.machine()
    if device.processor.type == "cuda":
        name = torch.cuda.get_device_name(device.processor)
    return {
        "processor": str(device.processor),
        "name": name,
        "precision": str(device.dtype).removeprefix("torch."),
        "batch_size": device.batch,
        "threads": torch.get_num_threads(),
    }


def _model(translator: Translator | None) -> dict[str, Any]:
    if translator is None:
        return {}
    bundle = translator.bundle
    return {
        "name": bundle.name,
        "version": bundle.version,
        "folder": str(bundle.folder),
        "weights_sha256": {to: one.sha256 for to, one in bundle.generators.items()},
    }


def _versions() -> dict[str, str]:
    found = {}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue  # run from a checkout that is not installed
    return found


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
