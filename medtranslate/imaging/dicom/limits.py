"""What is asked of files from strangers: limits, beyond which a file is refused by name."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Sizes beyond which input is refused rather than read.

    Parameters
    ----------
    files : int
        Files below one folder.
    folders : int
        Depth of folders below the one given.
    file_bytes : int
        Bytes of one file, and of one inflated file.
    header_bytes : int
        Bytes read from one file before its pixel data.
    sequence_depth : int
        Sequences nested in one another.
    side : int
        Rows or Columns of one slice.
    frames : int
        NumberOfFrames of one file.
    voxels : int
        Voxels of one volume; 4 bytes each.
    """

    files: int = 50_000
    folders: int = 16
    file_bytes: int = 8 * 2**30
    header_bytes: int = 256 * 2**20
    sequence_depth: int = 16
    side: int = 8192
    frames: int = 20_000
    voxels: int = 2**30


LIMITS = Limits()
