"""Thousands of damaged copies: each ends in a right volume or a named error, within seconds.

A third of them is read by default, all of them with ``--every-fault``.
"""

from __future__ import annotations

import collections
import os
import random
import resource
import warnings

import pytest

from medtranslate.errors import MedTranslateError
from medtranslate.imaging.dicom import DicomReader, find_series, write_series

from .compress import compress
from .damage import DAMAGES, check_right
from .factory import enhanced, save, series, translated, write

SECONDS = 5.0
"""Longest that one damaged copy may take on a core; about a hundred times what it does."""
MEGABYTES = 700
"""Most that the peak of this process may grow over one kind of series."""

KINDS = {
    "CT": 600,
    "MR": 450,
    "enhanced": 450,
    "rle": 200,
    "jpeg2000": 200,
    "jpeg-lossless": 120,
    "jpeg-ls": 120,
}
"""Damaged copies by kind of series, 2,140 in all."""


def on_a_core():
    """Give the time that this process and those it waited for were computing, in seconds."""
    return sum(os.times()[:4])


def build(kind, folder):
    """Write a small whole series of a kind."""
    if kind == "enhanced":
        folder.mkdir()
        save(enhanced(count=3, rows=12, columns=10), folder / "e.dcm")
        return
    write(folder, series("MR" if kind == "MR" else "CT", count=3, rows=12, columns=10))
    if kind not in ("CT", "MR"):
        for path in folder.iterdir():
            compress(path, kind)


def outcome(reader, folder, write_to):
    """Give what reading (and writing) ends in; anything but a right volume or our error raises."""
    try:
        scan = reader.read(folder)
        reader.get_data(scan)
    except MedTranslateError as error:
        assert error.fault and "\n" not in str(error), str(error)
        return type(error).__name__
    image = scan.image()
    check_right(image, folder)
    if write_to is not None:
        try:
            write_series(translated(image), write_to, overwrite=True)
        except MedTranslateError as error:
            return f"not written: {type(error).__name__}"
    return "volume"


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_damaged_copies_end_in_a_right_volume_or_a_named_error(tmp_path, kind, request):
    copies = KINDS[kind] // (1 if request.config.getoption("--every-fault") else 3)
    folder = tmp_path / "in"
    build(kind, folder)
    whole = {path: path.read_bytes() for path in sorted(folder.iterdir())}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    ends, reader = collections.Counter(), DicomReader()
    for seed in range(copies):
        chance = random.Random(f"{kind} {seed}")
        path, damage = chance.choice(list(whole)), DAMAGES[seed % len(DAMAGES)]
        with warnings.catch_warnings():
            # pydicom, not medtranslate, writes and judges the damaged copies here.
            warnings.simplefilter("ignore")
            path.write_bytes(damage(whole[path], chance))
            begun = on_a_core()
            try:
                ends[outcome(reader, folder, tmp_path / "out" if seed % 8 == 0 else None)] += 1
                if seed % 4 == 1:
                    find_series(folder)
            except Exception as error:
                raise AssertionError(f"{kind} seed {seed}, {damage.__name__}: {error!r}") from error
        assert on_a_core() - begun < SECONDS, f"{kind} seed {seed} took too long"
        path.write_bytes(whole[path])
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak) / 1024
    assert grown < MEGABYTES, f"memory grew by {grown:.0f} MB"
    assert ends["volume"] > 0 and len(ends) > 2, ends
