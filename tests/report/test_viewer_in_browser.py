"""The viewer in a browser: it draws, its values are the arrays', and it asks for nothing."""

from __future__ import annotations

import io
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from PIL import Image
from report.test_viewer import page as page_of

from medtranslate.report.viewer import library, scan_view

SHAPE = (24, 28, 12)
TURN = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, -0.2], [-0.2, 0.0, -1.0]])
"""Axes that NiiVue swaps and turns, and that are oblique."""
AFFINE = np.eye(4)
AFFINE[:3, :3] = TURN * (2.0, 2.0, 4.0)
AFFINE[:3, 3] = (24.0, -28.0, 5.0)
SOFTWARE_WEBGL = ["--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader"]
PATIENCE = 240_000.0  # milliseconds: without a GPU and on a busy machine, shaders take their time


def missing(what: str) -> None:
    if os.environ.get("MEDTRANSLATE_REQUIRE_TOOLS") == "1":
        pytest.fail(f"{what} is missing")
    pytest.skip(f"{what} is missing")


@dataclass
class Opened:
    """A page in the browser, and what it did."""

    page: Any
    volumes: list[np.ndarray]
    requests: list[str] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)

    @property
    def readout(self) -> tuple[tuple[int, ...], list[float]]:
        """Voxel and values under the crosshair, from the text that a person reads."""
        text = self.page.inner_text(".viewer output")
        place, values = text.split(": ", 1)
        voxel = tuple(map(int, re.findall(r"-?\d+", place.split("(")[0])))
        return voxel, [float(re.findall(r"-?[\d.]+", one)[0]) for one in values.split(";")]


def made(rng: np.random.Generator) -> list[np.ndarray]:
    """A ball as scan and result, with a value of its own in each voxel of the scan, and a map."""
    at = np.indices(SHAPE) - np.reshape(SHAPE, (3, 1, 1, 1)) / 2
    ball = (at / np.reshape(SHAPE, (3, 1, 1, 1))) ** 2
    inside = ball.sum(0) < 0.2
    scan = np.where(inside, rng.integers(-20, 100, SHAPE), -1000).astype(np.float32)
    result = np.where(inside, rng.integers(1, 800, SHAPE), 0).astype(np.float32)
    error = np.where(inside, rng.integers(0, 3840, SHAPE) / 64, 0).astype(np.float32)
    return [scan, result, error]


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opened]:
    """A page that lies on disk, opened; small, so that a processor draws it."""
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        missing("chromium")
    try:
        from playwright.sync_api import sync_playwright
    except ModuleNotFoundError:
        missing("playwright")
    niivue = library()
    if niivue is None:
        missing("NiiVue, which hatch_build.py fetches,")
    volumes = made(np.random.default_rng(0))
    view = scan_view(
        volumes[0],
        volumes[1],
        AFFINE,
        modality="CT",
        maps=[("cycle error", "HU", volumes[2], 60.0)],
        slices=[5, 3],
    )
    path = tmp_path_factory.mktemp("page") / "page.html"
    path.write_text(page_of(view, niivue), encoding="utf-8")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=program,
            args=[*SOFTWARE_WEBGL, "--enable-unsafe-swiftshader"],
            timeout=PATIENCE,
        )
        page = browser.new_page(viewport={"width": 640, "height": 560})
        page.set_default_timeout(PATIENCE)
        found = Opened(page, volumes)
        page.on("request", lambda one: found.requests.append(one.url))
        page.on("console", lambda one: found.messages.append(f"{one.type}: {one.text}"))
        page.on("pageerror", lambda one: found.messages.append(str(one)))
        page.goto(path.as_uri())
        page.wait_for_selector(".viewer[data-ready=true]")
        yield found
        browser.close()


def pixels(opened: Opened) -> list[np.ndarray]:
    """Both canvases as they are seen, (rows, columns, RGB)."""
    opened.page.wait_for_timeout(500)
    shots = [one.screenshot() for one in opened.page.query_selector_all(".panel")]
    return [np.asarray(Image.open(io.BytesIO(shot)).convert("RGB")) for shot in shots]


def test_scan_and_result_are_drawn(opened: Opened) -> None:
    scan, result = pixels(opened)

    for shown in (scan, result):
        colors = np.unique(shown.reshape(-1, 3), axis=0)
        assert len(colors) > 50
        assert (shown.max(2) > 40).mean() > 0.1
    assert not np.array_equal(scan, result)


def test_the_values_under_the_cursor_are_those_of_the_arrays(opened: Opened) -> None:
    canvas = opened.page.query_selector(".panel canvas").bounding_box()
    seen = set()

    for across, down in ((0.17, 0.4), (0.2, 0.6), (0.5, 0.5), (0.8, 0.45)):
        opened.page.mouse.click(
            canvas["x"] + across * canvas["width"], canvas["y"] + down * canvas["height"]
        )
        opened.page.wait_for_timeout(300)
        voxel, values = opened.readout
        seen.add(voxel)
        assert values == pytest.approx([float(one[voxel]) for one in opened.volumes], abs=1e-3)
    assert len(seen) >= 3


def test_a_click_into_one_view_moves_the_other(opened: Opened) -> None:
    place = """() => {
        const [viewer] = window.medtranslateViewers.values();
        return viewer.views.map((one) => Array.from(one.scene.crosshairPos));
    }"""
    canvas = opened.page.query_selector_all(".panel canvas")[1].bounding_box()
    opened.page.mouse.click(
        canvas["x"] + 0.22 * canvas["width"], canvas["y"] + 0.55 * canvas["height"]
    )
    opened.page.wait_for_timeout(500)

    one, other = opened.page.evaluate(place)

    assert one == pytest.approx(other, abs=1e-4)


def test_a_button_goes_to_the_largest_error_of_a_slice(opened: Opened) -> None:
    opened.page.click("text=slice 3")

    voxel, values = opened.readout

    error = opened.volumes[2][..., 3]
    assert voxel[2] == 3
    assert values[2] == pytest.approx(error.max(), abs=1e-3)


def test_the_window_and_the_opacity_change_what_is_seen(opened: Opened) -> None:
    before = pixels(opened)[0]

    opened.page.evaluate(
        """() => {
            const [opacity] = document.querySelectorAll("[title='opacity of the map']");
            opacity.value = 0; opacity.dispatchEvent(new Event("input"));
        }"""
    )
    plain = pixels(opened)[0]
    opened.page.fill("fieldset >> nth=0 >> [title=white]", "2000")
    opened.page.keyboard.press("Tab")
    dark = pixels(opened)[0]

    hue = np.ptp(before.astype(int), axis=2).mean(), np.ptp(plain.astype(int), axis=2).mean()
    assert hue[1] < hue[0] / 2  # colors of the map are gone
    assert dark.mean() < plain.mean() / 2


def test_the_page_asks_for_nothing_and_reports_no_error(opened: Opened) -> None:
    assert [one for one in opened.requests if not one.startswith(("file:", "data:", "blob:"))] == []
    assert len([one for one in opened.requests if one.startswith("file:")]) == 1
    assert opened.messages == []
