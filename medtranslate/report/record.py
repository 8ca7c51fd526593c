"""The JSON report: what was made from what, by which model, on which device."""

from __future__ import annotations

import functools
import platform
import re
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medtranslate import errors
from medtranslate.errors import InputMissing, Unreadable
from medtranslate.files import file_hash, whole_file
from medtranslate.imaging.source import orientation
from medtranslate.text import as_json, plain

if TYPE_CHECKING:
    from medtranslate.translation import Translator

OUTPUTS = ("output", "preview", "expected_error_map", "error_map", "variation_map", "figures")
"""Keys of the files that a conversion writes."""

CHECKS = ("recipes", "domain", "unseen", "expected_error", "cycle_error", "variation")
"""Keys of the checks of a conversion."""

_BESIDE = "preview|expected_error|error|variation|figures"
"""What the names of files beside a result end in."""

_SUFFIX = re.compile(r"(\.nii)?\.[a-z]\w*$", re.IGNORECASE)

_LIBRARIES = ("medtranslate", "torch", "monai", "numpy", "nibabel", "SimpleITK", "pydicom")


def report(
    conversions: list[dict[str, Any]],
    options: Mapping[str, Any],
    translator: Translator | None,
    *,
    exit_code: int,
    seconds: Mapping[str, float],
) -> dict[str, Any]:
    """Return the report of one call, in builtins that follow `ConversionReport`.

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

    Examples
    --------
    >>> made = report([], {"to": "mri"}, None, exit_code=3, seconds={"load": 0.0, "total": 0.2})
    >>> made["exit_code"], made["options"]
    (3, {'to': 'mri'})
    """
    from medtranslate.report.model import SCHEMA, ConversionReport  # takes a while to define

    content = {
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
    checked = ConversionReport.model_validate(plain(content))
    return checked.model_dump(mode="json", by_alias=True, exclude_unset=True)


def anonymous(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return a report that names no file, folder or series, and so no patient.

    Scans are numbered in the order of the report. What was given on the command line, hashes of
    files and the words of an error go as well, as these quote names and headers; the kind and the
    meaning of the error stay.

    Parameters
    ----------
    content : mapping
        From `report`.
    """
    options = {k: v for k, v in content["options"].items() if k not in _NAMING_OPTIONS}
    scans = [anonymous_scan(f"scan {n}", one) for n, one in enumerate(content["conversions"], 1)]
    model = dict(content["model"]) | ({"folder": ""} if content["model"] else {})
    return {**content, "options": options, "model": model, "conversions": scans}


_NAMING_OPTIONS = frozenset(
    {"inputs", "output", "series", "template", "uid_seed", "reports", "bundle"}
)


def anonymous_scan(name: str, scan: Mapping[str, Any]) -> dict[str, Any]:
    """Return one of a report's ``"conversions"`` without the names of files, as `anonymous` does.

    Parameters
    ----------
    name : str
        What the scan is called instead, such as ``"scan 3"``.
    scan : mapping
        From `conversion`.
    """
    paths = [scan["input"]["given"], scan["input"]["path"]]
    paths += [file["path"] for file in scan["input"]["files"]]
    paths += [scan[key]["path"] for key in OUTPUTS if scan.get(key)]
    written = {
        key: scan.get(key) and {"path": f"{name}, {key.replace('_', ' ')}", "files": []}
        for key in OUTPUTS
    }
    error = scan["error"] and {**scan["error"], "message": _meaning(scan["error"]["kind"])}
    return {
        **scan,
        "input": {"given": name, "path": name, "files": []},
        **written,
        "warnings": [without_paths(paths, name, one) for one in scan["warnings"]],
        "error": error,
    }


_UID = re.compile(r"(, )?\b\d+(\.\d+){5,}\b")


def without_paths(paths: Iterable[str], name: str, text: str) -> str:
    """Return a text in which paths, and the names of their files, are replaced by a name.

    What names other files that were left out, or a series, loses these names.

    Examples
    --------
    >>> without_paths(["/scans/mueller.nii"], "scan 1", "mueller.nii has no spacing")
    'scan 1 has no spacing'
    >>> without_paths(["/scans/mueller_mri.nii"], "scan 1", "mueller_mri_error.nii is missing")
    'scan 1 is missing'
    >>> without_paths([], "scan 1", "smith 1, smith 2: left out: another series, 1.2.826.0.1.7.9")
    'other files: left out: another series'
    """
    if (at := text.find(": left out")) > 0:
        text = f"other files{text[at:]}"
    text = _UID.sub("", text)
    names = {part for path in paths for part in (path, Path(path).name) if len(part) > 1}
    for part in sorted(names, key=len, reverse=True):
        stem = re.escape(_SUFFIX.sub("", part))
        text = re.sub(rf"{stem}(_\w+)?_({_BESIDE})\b(\.\w+)*", name, text)
        text = text.replace(part, name)
    return text


def _meaning(kind: str) -> str:
    """Return what an error means whatever it was met in, from its class."""
    found = getattr(errors, kind, None)
    return (found.__doc__ or "").partition("\n")[0] if found else "An unexpected error."


def conversion(
    given: Path,
    *,
    read: Path | None,
    written: Mapping[str, Path | None],
    source: Mapping[str, Any],
    synthesis: Mapping[str, Any],
    found: Mapping[str, Any],
    notes: Iterable[str],
    seconds: Mapping[str, float],
    error: Exception | None,
    skipped: bool = False,
) -> dict[str, Any]:
    """Return the report of one conversion, done or failed, in builtins (`ScanReport`).

    Parameters
    ----------
    given : Path
        The argument of the command line.
    read : Path or None
        The file or folder read, None where there was none.
    written : mapping of str to (Path or None)
        What was written as each of `OUTPUTS`; those that are missing were not.
    source, synthesis : mapping
        ``meta["source"]``, empty where it was not read, and ``meta["synthesis"]``, empty where it
        failed.
    found : mapping
        What was found as each of `CHECKS`, in builtins; those that are missing were not made.
    notes : iterable of str
        What was noticed, a sentence each.
    seconds : mapping of str to float
        By stage.
    error : Exception or None
        Why it failed.
    skipped : bool
        Whether it was left out because its result exists.
    """
    taken = [Path(name) for name in source.get("files", [])]
    files = dict.fromkeys(Path(str(path).split("!/")[0]) for path in taken)
    return {
        "status": "failed" if error else "skipped" if skipped else "converted",
        "input": {"given": str(given), "path": str(read or given), "files": hashes(files)},
        **{name: _file(written.get(name)) for name in OUTPUTS},
        "source": _source(source),
        "synthesis": dict(synthesis),
        **{name: found.get(name) for name in CHECKS},
        "warnings": list(notes),
        "seconds": {name: round(value, 3) for name, value in seconds.items()},
        "error": None if error is None else _error(error),
    }


def write_report(content: Mapping[str, Any], path: Path, *, overwrite: bool = False) -> None:
    """Write a report as JSON, complete or not at all.

    Raises
    ------
    OutputExists, OutputFailed
        It exists, or cannot be written.

    Examples
    --------
    >>> import json, tempfile
    >>> made = report([], {"to": "mri"}, None, exit_code=3, seconds={"load": 0.0, "total": 0.2})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_report(made, Path(folder, "report.json"))
    ...     json.loads(Path(folder, "report.json").read_text())["exit_code"]
    3
    """
    with whole_file(path, overwrite=overwrite) as temporary:
        temporary.write_text(as_json(content), encoding="utf-8")


def hashes(paths: Iterable[Path]) -> list[dict[str, str]]:
    """Return path and SHA-256 of files, and of the files directly in folders.

    What is gone by now, or cannot be read any more, is left out.
    """
    files = [
        file
        for path in paths
        for file in (sorted(one for one in path.iterdir()) if path.is_dir() else [path])
    ]
    found = []
    for file in files:
        with suppress(InputMissing, Unreadable):
            found.append({"path": str(file), "sha256": file_hash(file)})
    return found


def peak_memory(translator: Translator | None) -> dict[str, int]:
    """Return the peak memory of this process in bytes: ``"host"`` and, with CUDA, ``"device"``.

    ``"host"`` is absent where the system does not report it (Windows).
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
        import torch

        peak["device"] = torch.cuda.max_memory_allocated(translator.device.processor)
    return peak


def _file(path: Path | None) -> dict[str, Any] | None:
    return None if path is None else {"path": str(path), "files": hashes([path])}


def _source(source: Mapping[str, Any]) -> dict[str, Any]:
    if not source:
        return {}
    keys = ("format", "kind", "modality", "modality_basis", "shape", "affine", "dtype", "even")
    found = {key: source[key] for key in keys}
    if source["modality"] == "MR":
        found |= {key: source.get(key, "") for key in ("contrast", "contrast_basis")}
    if source["kind"] == "volume":
        affine = np.asarray(source["affine"], dtype=np.float64)
        found["spacing_mm"] = [float(f"{v:.6g}") for v in np.linalg.norm(affine[:3, :3], axis=0)]
        found["orientation"] = orientation(affine)
    return found


def _error(error: Exception) -> dict[str, Any]:
    known = errors.named(error)
    code = errors.exit_code(known)
    return {"kind": type(known).__name__, "exit_code": code, "message": str(known)}


def _device(translator: Translator | None) -> dict[str, Any]:
    if translator is None:
        return {}
    import torch  # here alone, so that the report of a refusal does without

    device = translator.device
    name = platform.processor() or platform.machine()
    if device.processor.type == "cuda":
        name = torch.cuda.get_device_name(device.processor)
    return {
        "processor": str(device.processor),
        "name": name,
        "engine": device.engine.value,
        "precision": device.precision.value,
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
        "contrasts": list(bundle.contrasts),
    }


@functools.cache  # each is in a long text that is parsed
def _versions() -> dict[str, str]:
    found = {}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue  # run from a checkout that is not installed
    return found
