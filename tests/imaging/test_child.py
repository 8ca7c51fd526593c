"""Third-party decoders run in children: what happens to a child is one error, and no more."""

from __future__ import annotations

import os
import signal
import struct
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image

from medtranslate.errors import Unreadable, Unsupported, UntrustedInput
from medtranslate.files import remove_leftovers
from medtranslate.imaging import child, child_worker, image2d, read, survey
from medtranslate.imaging.child import Children

GRAY = (np.arange(600, dtype=np.uint16) * 99).reshape(20, 30)


@pytest.fixture
def png(tmp_path):
    Image.fromarray(GRAY).save(tmp_path / "a.png")
    return tmp_path / "a.png"


def ask(pool, path, **options):
    request = {"path": str(path), "max_pixels": 10**6, "max_pages": 9}
    return list(pool.ask("pages", request, failed="damaged image", **options))


def only_child(pool):
    (process,) = pool._idle.queue
    return process


def test_one_child_serves_one_file_after_another(png):
    pool = Children()
    ask(pool, png)
    first = only_child(pool)
    assert len(ask(pool, png)[1].content) == GRAY.nbytes
    assert only_child(pool) is first


def test_a_child_that_ended_for_want_of_tasks_is_replaced(png):
    pool = Children()
    ask(pool, png)
    first = only_child(pool)
    first.stdin.close()
    first.wait()
    ask(pool, png)
    assert only_child(pool) is not first


@pytest.mark.parametrize("hang", ['__import__("time").sleep(60)', "[0 for _ in iter(int, 1)]"])
def test_a_crash_and_a_hang_are_errors_and_the_next_file_is_read(png, tmp_path, monkeypatch, hang):
    worker = Path(child_worker.__file__).read_text(encoding="utf-8")
    crashing = worker.replace(
        '    """Say what a PNG',
        '    content or __import__("time").sleep(60)\n    os.abort()\n    """Say what a PNG',
    )
    assert crashing != worker
    (tmp_path / "worker.py").write_text(crashing, encoding="utf-8")
    monkeypatch.setattr(child, "WORKER", tmp_path / "worker.py")
    pool = Children()
    ask(pool, png)
    with pytest.raises(Unreadable, match="damaged image: its decoder crashed"):
        list(pool.ask("look", {}, b"crash", failed="damaged image"))
    begin = time.monotonic()
    with pytest.raises(Unreadable, match="damaged image: it is not decoded after 1 s"):
        list(pool.ask("look", {}, failed="damaged image", patience=1))
    assert time.monotonic() - begin < 20
    assert len(ask(pool, png)) == 2


def test_a_child_killed_from_outside_is_named(png):
    pool = Children()
    answers = pool.ask("frame", {}, b"", failed="damaged image")
    ask(pool, png)
    os.kill(only_child(pool).pid, signal.SIGKILL)
    with pytest.raises(Unreadable):  # of a new child, where the old one was seen to be gone
        next(answers)


def test_a_copy_in_another_process_has_children_of_its_own(png):
    pool = Children()
    ask(pool, png)
    process = os.fork()
    if process == 0:
        try:
            ask(pool, png)
            os._exit(0)
        except BaseException:
            os._exit(1)
    assert os.waitpid(process, 0)[1] == 0
    assert len(ask(pool, png)) == 2


def tiff_of(entries, end=0, data=b""):
    """Make a little-endian TIFF of one directory: entries (tag, type, count, value)."""
    packed = b"".join(struct.pack("<HHII", *entry) for entry in sorted(entries))
    start = 8 + len(data)
    return (
        struct.pack("<2sHI", b"II", 42, start) + data
        + struct.pack("<H", len(entries)) + packed + struct.pack("<I", start if end else 0)
    )  # fmt: skip


def test_a_tiff_whose_directories_run_in_a_circle(tmp_path):
    path = tmp_path / "a.tif"
    path.write_bytes(tiff_of([(256, 3, 1, 30), (257, 3, 1, 20)], end=1))
    with pytest.raises(Unreadable, match="in a circle"):
        read(path)
    (found,) = survey(path)
    assert "in a circle" in found.error


def test_a_tiff_of_too_many_pages(tmp_path, monkeypatch):
    page = Image.fromarray(GRAY)
    page.save(tmp_path / "a.tif", save_all=True, append_images=[page] * 3)
    monkeypatch.setattr(image2d, "MAX_PAGES", 3)
    with pytest.raises(UntrustedInput, match="more than 3 pages"):
        read(tmp_path / "a.tif")


@pytest.mark.parametrize("orientation", range(1, 9))
def test_sixteen_bit_color_is_turned_without_losing_bits(tmp_path, orientation):
    color = np.repeat(GRAY[..., None], 3, axis=2)
    path = tmp_path / "a.tif"
    sitk.WriteImage(sitk.GetImageFromArray(color, isVector=True), str(path))
    content = bytearray(path.read_bytes())
    (start,) = struct.unpack("<I", content[4:8])
    at = start + 2 + 12 * list(Image.open(path).tag_v2).index(274)
    content[at + 8 : at + 10] = struct.pack("<H", orientation)
    path.write_bytes(content)
    exif = Image.Exif()
    exif[274] = orientation
    Image.fromarray(GRAY).save(tmp_path / "gray.png", exif=exif)
    image = read(path)
    assert image.meta["source"]["dtype"] == "uint16"
    np.testing.assert_array_equal(image.numpy(), read(tmp_path / "gray.png").numpy())
    assert len(image.meta["source"]["faults"]) == (orientation != 1)


def test_a_sixteen_bit_tiff_whose_white_is_zero(tmp_path):
    Image.fromarray(GRAY).save(tmp_path / "a.tif", tiffinfo={262: 0})
    content = bytearray((tmp_path / "a.tif").read_bytes())
    (start,) = struct.unpack("<I", content[4:8])
    at = start + 2 + 12 * list(Image.open(tmp_path / "a.tif").tag_v2).index(262)
    content[at + 8 : at + 10] = struct.pack("<H", 0)
    (tmp_path / "a.tif").write_bytes(content)
    np.testing.assert_array_equal(read(tmp_path / "a.tif").numpy()[0, :, :, 0], 65535 - GRAY.T)


def test_small_images_that_make_a_large_stack_are_a_bomb(tmp_path, monkeypatch):
    for number in range(4):
        Image.fromarray(np.zeros((2000, 2000), np.uint8)).save(tmp_path / f"{number}.png")
    monkeypatch.setattr("medtranslate.imaging.limits.FREE_BYTES", 10**7)
    with pytest.raises(UntrustedInput, match="unpack like a bomb"):
        read(tmp_path)


def test_what_a_color_image_is_refused_for_does_not_cost_its_child(tmp_path):
    Image.fromarray(np.dstack([GRAY % 256, GRAY % 7, GRAY % 9]).astype(np.uint8)).save(
        tmp_path / "a.png"
    )
    seen = []
    for _ in range(2):
        with pytest.raises(Unsupported, match="color"):
            read(tmp_path / "a.png")
        seen.append({process.pid for process in child.children()._idle.queue})
    assert seen[1] <= seen[0]


def test_what_a_killed_child_leaves_is_known_and_its_living_folder_stays(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with child_worker.temporary_folder() as living:
        (tmp_path / ".medtranslate-killed.part").mkdir()
        remove_leftovers(tmp_path)
        assert [one.name for one in tmp_path.iterdir()] == [Path(living).name]
    assert list(tmp_path.iterdir()) == []
