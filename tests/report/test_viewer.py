"""Volumes in a page are those of the files, and all that a page needs is in it."""

from __future__ import annotations

import base64
import gzip
import json
import re
from collections.abc import Mapping
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from medtranslate import html
from medtranslate.report import viewer
from medtranslate.report.viewer import ViewedGrid, ViewedVolume, embedded, scan_view

NO_CODE = {"code": "", "license": "BSD"}
AFFINE = np.array([[-0.5, 0, 0, 40], [0, 0.5, 0.2, -30], [0, 0, 3.0, 7], [0, 0, 0, 1]])


def values(volume: ViewedVolume) -> np.ndarray:
    """Voxels as any reader of NIfTI sees them."""
    return np.asarray(nib.Nifti1Image.from_bytes(gzip.decompress(volume.data)).dataobj)


def a_view(shape: tuple[int, int, int] = (6, 5, 4)) -> viewer.ScanView:
    rng = np.random.default_rng(0)
    ct = rng.integers(-1024, 3000, shape).astype(np.float32)
    mr = rng.random(shape, dtype=np.float32) * 800
    error = np.floor(rng.random(shape) * 4000).astype(np.float32) / 64
    error[2, 3, 1] = 70.0
    maps = [("cycle error", "HU", error, 60.0)]
    return scan_view(ct, mr, AFFINE, modality="CT", maps=maps, slices=[1, 3])


@given(
    arrays.arrays(np.float32, (3, 4, 2), elements=st.integers(-2048, 2047).map(float)),
    st.integers(0, 4),
)
def test_values_that_16_bits_hold_are_exact_in_a_page(whole: np.ndarray, power: int) -> None:
    voxels = whole / np.float32(2**power)

    shown = scan_view(voxels, voxels, AFFINE, modality="CT").volumes[0]

    assert shown.step == 0
    np.testing.assert_array_equal(values(shown), voxels)


def test_other_values_are_off_by_at_most_half_of_the_step_that_the_page_states() -> None:
    view = a_view()
    _, mr, error = view.volumes
    rng = np.random.default_rng(0)
    rng.integers(-1024, 3000, (6, 5, 4))
    expected = rng.random((6, 5, 4), dtype=np.float32) * 800

    assert 0 < mr.step < 0.02
    assert np.abs(values(mr) - expected).max() <= mr.step * 0.51
    assert error.step == 0
    note = json.loads(embedded(view, "v")["content"])["note"]
    assert f"SYNTHETIC MR to {mr.step:.3g}" in note


def test_a_volume_in_a_page_names_nothing_and_lies_where_the_scan_lies() -> None:
    image = nib.Nifti1Image.from_bytes(gzip.decompress(a_view().volumes[0].data))

    np.testing.assert_allclose(image.affine, AFFINE, atol=1e-6)
    assert image.header["descrip"] == image.header["aux_file"] == image.header["db_name"] == b""
    assert not image.header.extensions


def test_a_large_volume_is_thinned_where_it_is_sampled_finest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(viewer, "LARGEST", 40)
    voxels = np.arange(120, dtype=np.float32).reshape(6, 5, 4)

    view = scan_view(voxels, voxels, AFFINE, modality="CT")

    assert view.stride == (2, 2, 1)
    np.testing.assert_array_equal(values(view.volumes[0]), voxels[::2, ::2])
    grid = ViewedGrid.of((6, 5, 4), AFFINE)
    np.testing.assert_allclose(grid.affine @ [1, 2, 3, 1], AFFINE @ [2, 4, 3, 1])
    assert "one of 2, 2, 1 voxels" in json.loads(embedded(view, "v")["content"])["note"]


def test_a_viewer_looks_first_at_the_largest_error_of_the_worst_slices() -> None:
    assert a_view().places[0] == ("slice 1", (2, 3, 1))
    assert [name for name, _ in a_view().places] == ["slice 1", "slice 3"]


def page(view: viewer.ScanView, niivue: Mapping[str, str] = NO_CODE) -> str:
    """Render a page with one viewer."""
    return html.render(
        "view",
        title="a page",
        label="SYNTHETIC MR",
        view=embedded(view, "view-0"),
        files=[],
        meanings=[],
        niivue=niivue,
    )


def test_a_page_contains_its_volumes_and_forbids_every_request() -> None:
    view = a_view()

    text = page(view)

    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)
    assert policy is not None
    assert "default-src 'none'" in policy[1]
    assert "http" not in policy[1]
    assert not re.search(r'(?:src|href)\s*=\s*"', text)
    found = re.findall(r'<script type="text/plain" id="view-0-\d">(.*?)</script>', text)
    assert [base64.b64decode(one) for one in found] == [one.data for one in view.volumes]


def test_what_a_viewer_shows_cannot_end_its_script() -> None:
    one = np.zeros((3, 3, 3), dtype=np.float32)
    view = scan_view(one, one, AFFINE, modality="CT", maps=[("</script><b>", "HU", one, 1.0)])

    content: dict[str, Any] = embedded(view, "v")

    assert "<" not in content["content"]
    assert json.loads(content["content"])["volumes"][2]["name"] == "</script><b>"
