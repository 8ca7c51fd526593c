"""The schema is generated from the model, and describes the reports that version 1 described."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from pydantic import ValidationError

from medtranslate.report import ConversionReport, schema

FIRST = json.loads((Path(__file__).parent / "report-1.schema.json").read_text(encoding="utf-8"))
"""The schema that was written by hand and came with the first reports."""
ADDED = {
    "contrast",
    "contrast_basis",
    "contrasts",
    "engine",
    "figures",
    "expected_error",
    "expected_error_map",
    "grain",
    "source_contrast",
}
"""Fields that later reports have too; readers of the first ones ignore them."""

SHA = "0" * 64
FILES = {"path": "scan.nii", "files": [{"path": "scan.nii", "sha256": SHA}]}
MEASURE = {
    "error": 6.1, "units": "HU", "share_of_range": 0.05, "range": [-20.0, 100.0],
    "slice_axis": "Z", "worst_slices": [3],
    "slices": [{"index": 3, "error": 6.1, "voxels": 10, "peak": None}],
}  # fmt: skip
CONVERTED = {
    "status": "converted",
    "input": {"given": "scan.nii", **FILES},
    **dict.fromkeys(("output", "preview", "error_map"), FILES),
    "variation_map": None,
    "source": {
        "format": "nifti", "kind": "volume", "modality": "CT", "modality_basis": "given",
        "shape": [4, 5, 6], "affine": [[1.0, 0.0, 0.0, 0.0]] * 4, "dtype": "int16", "even": True,
        "spacing_mm": [1.0, 1.0, 1.0], "orientation": "RAS",
    },
    "synthesis": {
        "modality": "MR", "model": "m", "version": "1", "weights_sha256": SHA, "label": "SYNTHETIC",
        "dtype": "int16", "background": 0.0, "window": [],
    },
    "recipes": {
        side: {"name": "CT-volume", "sha256": SHA, "content": {"type": "Recipe"}}
        for side in ("source", "target")
    },
    "domain": {
        "verdict": "passed", "forced": False, "score": 0.2, "limits": {"warn": 1.5, "refuse": 2.2},
        "reasons": [], "slices": [None, 0.2],
    },
    "unseen": {
        "outside_field_voxels": 3, "above_window_share": 0.1, "below_window_share": 0.0,
        "below_skull_base_slices": None, "unlike_training_slices": [1],
    },
    "cycle_error": MEASURE,
    "variation": None,
    "warnings": ["A fault."],
    "seconds": {"read": 0.1},
    "error": None,
}  # fmt: skip
FAILED = {
    **CONVERTED,
    "status": "failed", "source": {}, "synthesis": {},
    **dict.fromkeys(("output", "preview", "error_map", "recipes", "unseen", "cycle_error")),
    "domain": {"verdict": "not checked", "reasons": ["no calibration"]},
    "error": {"kind": "Unreadable", "exit_code": 4, "message": "scan.nii: is damaged"},
}  # fmt: skip


def content(**parts: Any) -> dict[str, Any]:
    return {
        "schema": 1,
        "created": "2026-01-01T00:00:00+00:00",
        "options": {"to": "mri"},
        "software": {"python": "3.11", "torch": "2.9"},
        "device": {
            "processor": "cpu", "name": "x", "precision": "float32", "batch_size": 4, "threads": 2,
        },
        "model": {"name": "m", "version": "1", "folder": "/b", "weights_sha256": {"mri": SHA}},
        "seconds": {"load": 1.0, "total": 2.0},
        "peak_memory_bytes": {"host": 5},
        "exit_code": 0,
        "conversions": [CONVERTED, FAILED],
        **parts,
    }  # fmt: skip


WHOLE = content()
WITHOUT_A_MODEL = content(device={}, model={}, conversions=[FAILED])
WITH_A_NEW_KEY = content(conversions=[{**CONVERTED, "later": 1}], later={"a": 1})
ACCEPTED = [WHOLE, WITHOUT_A_MODEL, WITH_A_NEW_KEY]
WRONG = [
    content(schema=2),
    content(device={"processor": "cpu"}),
    content(conversions=[{**CONVERTED, "status": "perhaps"}]),
    content(conversions=[{**CONVERTED, "domain": {**CONVERTED["domain"], "verdict": "odd"}}]),
    content(conversions=[{**CONVERTED, "cycle_error": {**MEASURE, "units": "mm"}}]),
    content(conversions=[{k: v for k, v in CONVERTED.items() if k != "warnings"}]),
]


@pytest.mark.parametrize("report", ACCEPTED)
def test_what_the_first_schema_accepts_is_accepted(report: dict[str, Any]) -> None:
    for each in (FIRST, schema()):
        Draft202012Validator(each).validate(report)
    model = ConversionReport.model_validate(report)
    assert model.model_dump(mode="json", by_alias=True, exclude_unset=True) == report


@pytest.mark.parametrize("report", WRONG)
def test_what_the_first_schema_refuses_is_refused(report: dict[str, Any]) -> None:
    for each in (FIRST, schema()):
        assert not Draft202012Validator(each).is_valid(report)
    with pytest.raises(ValidationError):
        ConversionReport.model_validate(report)


def fields(node: Any, root: dict[str, Any]) -> set[str]:
    """Name every property of a schema."""
    if isinstance(node, list):
        return set().union(*(fields(each, root) for each in node))
    if not isinstance(node, dict):
        return set()
    named = set(node["properties"]) if isinstance(node.get("properties"), dict) else set()
    return named.union(*(fields(each, root) for each in node.values()))


def test_the_schema_has_the_fields_of_the_first_one_and_those_added_since() -> None:
    Draft202012Validator.check_schema(schema())
    assert fields(schema(), schema()) == fields(FIRST, FIRST) | ADDED


def test_every_field_is_described() -> None:
    parts = {"ConversionReport": schema(), **schema()["$defs"]}

    missing = [
        f"{name}.{field}"
        for name, part in parts.items()
        for field, spec in part.get("properties", {}).items()
        if not spec.get("description")
    ]

    assert missing == []


def test_the_documentation_lists_every_field_of_a_report_and_of_a_conversion() -> None:
    text = (Path(__file__).parents[2] / "docs/reference/report.md").read_text(encoding="utf-8")
    named = {*schema()["properties"], *schema()["$defs"]["ScanReport"]["properties"]}

    missing = {
        name for name in named - {"schema", "created", "conversions"} if f"`{name}`" not in text
    }

    assert missing == set()
