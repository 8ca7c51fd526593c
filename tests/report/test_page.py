"""The page says in plain words what the report says in JSON, and trusts no name in it."""

from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser
from typing import Any

import numpy as np
from PIL import Image

from medtranslate.quality.cycle import WorstSlice
from medtranslate.report.page import findings, page, write_page

NOTHING = {"recipes": None, "domain": None, "unseen": None, "cycle_error": None, "variation": None}


def cycle(peaks: list[float | None]) -> dict[str, Any]:
    return {
        "error": 6.1,
        "units": "HU",
        "share_of_range": 0.0508,
        "range": [-20.0, 100.0],
        "slices": [
            {"index": i, "error": 2.0, "voxels": 10, "peak": peak} for i, peak in enumerate(peaks)
        ],
        "worst_slices": sorted(range(len(peaks)), key=lambda i: -(peaks[i] or 0)),
    }


def conversion(name: str = "scan.nii", **found: Any) -> dict[str, Any]:
    return {
        "status": "converted",
        "input": {"given": name, "path": name, "files": []},
        "output": {"path": "out.nii", "files": []},
        "preview": None,
        "error_map": None,
        "variation_map": None,
        "source": {"kind": "volume", "modality": "CT"},
        "synthesis": {"modality": "MR", "label": "SYNTHETIC"},
        **NOTHING,
        "warnings": [],
        "seconds": {},
        "error": None,
        **found,
    }


def content(*conversions: dict[str, Any]) -> dict[str, Any]:
    return {
        "schema": 1,
        "created": "now",
        "exit_code": 0,
        "software": {"torch": "2"},
        "model": {},
        "device": {},
        "seconds": {"total": 1.0},
        "conversions": list(conversions),
    }


class Tags(HTMLParser):
    """Holds a page to closed tags."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_every_figure_is_told_in_words() -> None:
    lines = " ".join(
        findings(
            conversion(
                cycle_error=cycle([5.0, 9.0, 3.0]),
                variation={"error": 41.0, "units": "arbitrary units", "share_of_range": 0.01},
                domain={
                    "verdict": "warned",
                    "score": 1.7,
                    "limits": {"warn": 1.5, "refuse": 2.5},
                    "reasons": ["it is dark"],
                    "forced": False,
                },
                unseen={
                    "outside_field_voxels": 7,
                    "above_window_share": 0.2,
                    "below_window_share": 0.1,
                    "below_skull_base_slices": [0, 1, 2],
                    "unlike_training_slices": [5],
                },
                warnings=["a fault"],
            )
        )
    )

    assert (
        "6.1 HU on average, 5.1% of the range" in lines
        and "largest at one place of slice 1: 9.0." in lines
    )
    assert "changes by 41.0 arbitrary units" in lines
    assert "Domain check: warned (it is dark); anomaly score 1.7" in lines
    assert (
        "7 voxels that are not air" in lines and "20.0% is plain white to it, 10.0% plain" in lines
    )
    assert "Slices 0 to 2 are below the skull base" in lines and "Slice 5 is unlike" in lines
    assert lines.endswith("a fault")


def test_what_was_not_found_out_is_not_findings() -> None:
    assert list(findings(conversion())) == []
    unchecked = {"verdict": "not checked", "reasons": ["no calibration"]}
    assert list(findings(conversion(domain=unchecked))) == [
        "Domain check: not made, no calibration."
    ]


def test_a_page_is_whole_html_and_trusts_no_name(tmp_path) -> None:
    nasty = '<script>alert("x")</script>.nii'
    failed = {**conversion(nasty), "output": None, "source": {}, "synthesis": {}}
    failed["error"] = {"kind": "Unreadable", "exit_code": 4, "message": f"{nasty}: is & damaged"}

    write_page(content(failed, conversion(nasty)), [(), ()], tmp_path / "r.html")

    text = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "<script" not in text and "&lt;script&gt;" in text and "is &amp; damaged" in text
    tags = Tags()
    tags.feed(text.replace("<!doctype html>", ""))
    assert tags.open == []


def test_images_and_bars_are_those_of_the_slices() -> None:
    plane = np.zeros((256, 256), np.uint8)
    lost = plane.copy()
    lost[10:20, 30:50] = 255
    look = WorstSlice(1, 2.0, 9.0, plane + 60, plane + 120, plane + 90, lost)

    text = page(content(conversion(cycle_error=cycle([5.0, 9.0, None]))), [[look]])

    encoded = re.findall(r"base64,([A-Za-z0-9+/=]+)", text)
    shown = [np.asarray(Image.open(io.BytesIO(base64.b64decode(one)))) for one in encoded]
    assert [int(one[0, 0].flat[0]) for one in shown] == [60, 120, 90, 30]
    assert shown[3][15, 40].tolist() == [252, 254, 164]  # inferno's brightest
    assert "Slice 1: 2.0 HU on average, 9.0 HU at the worst place" in text
    heights = re.findall(r'<rect class="(\w+)" [^>]*height="([\d.]+)"', text)
    mean = ("mean", "22.22")  # of 9
    assert heights == [("worst", "55.56"), mean, ("worst", "100.00"), mean, mean]  # no worst place
    assert "cycle error: white is 60 HU or more" in text

    alone = page(content(conversion(cycle_error=cycle([9.0]))), [[look]])
    assert "Of the slices that show" in text and "Of the slices that show" not in alone
