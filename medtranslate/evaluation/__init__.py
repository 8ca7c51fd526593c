"""How good a translation is: distances between sets of images, paired errors, the table.

``FolderEvaluation`` goes from bundles and folders to an ``Evaluation``; ``Evaluator`` does so from
arrays and any callable. Names load on first use: the package needs torch, MONAI and matplotlib.
"""

from __future__ import annotations

import importlib
from typing import Any

_HOMES = {
    "Candidate": "evaluated_model",
    "Cost": "evaluated_model",
    "Distances": "distances",
    "Evaluation": "results",
    "Evaluator": "evaluator",
    "FeatureExtractor": "features",
    "FolderEvaluation": "folders",
    "SliceSet": "slices",
    "KidScore": "features",
    "LesionTest": "lesions",
    "Protocol": "protocol",
    "RealData": "results",
    "find_weights": "inception",
    "kid": "distances",
    "lesion_test": "lesions",
    "read_slices": "slices",
    "show": "table",
    "write_report": "report",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'medtranslate.evaluation' has no attribute {name!r}")
    return getattr(importlib.import_module(f"medtranslate.evaluation.{_HOMES[name]}"), name)
