"""torch-fidelity beside a broken torchvision, or absent."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from medtranslate.errors import EvaluationFailed
from medtranslate.evaluation.fidelity import fidelity

BROKEN_TORCHVISION = """
import torch
torch.library.register_fake("torchvision::nms")(lambda dets, scores, iou_threshold: dets)
torch.library.register_fake("torchvision::qnms")(lambda dets, scores, iou_threshold: dets)
"""

CHECK = """
import sys
sys.path.insert(0, sys.argv[1])
from medtranslate.evaluation.fidelity import fidelity
assert fidelity("metric_fid").MADE == 1
assert "torchvision" not in sys.modules
import torch
assert not hasattr(torch.ops.torchvision, "nms")
assert fidelity("metric_fid") is sys.modules["torch_fidelity.metric_fid"]
"""


def test_a_broken_torchvision_is_worked_around_and_not_left_behind(tmp_path: Path) -> None:
    for package, content in {
        "torchvision": BROKEN_TORCHVISION,
        "torch_fidelity": "import torchvision",
    }.items():
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text(content)
    (tmp_path / "torch_fidelity" / "metric_fid.py").write_text("MADE = 1")
    done = subprocess.run(
        [sys.executable, "-c", CHECK, str(tmp_path)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_its_absence_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("torch_fidelity", "torch_fidelity.metric_fid"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(EvaluationFailed, match=r"not installed.*medtranslate\[evaluate\]"):
        fidelity("metric_fid")
