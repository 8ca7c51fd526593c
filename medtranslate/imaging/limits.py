"""What a file may claim, against its bytes and free memory; packed streams in and out.

A header is only a claim, and a stream that unpacks a thousandfold is only a small file. So nothing
is allocated before its size is held against the file, and a stream is read to its tested end, where
its checksum is.
"""

from __future__ import annotations

import bz2
import gzip
import zlib
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from io import BufferedReader
from pathlib import Path
from typing import IO, Any, BinaryIO

from medtranslate.errors import Unreadable, UntrustedInput

FREE_BYTES = 512 * 2**20
"""Bytes of voxels that a file may hold at any ratio: air and masks pack very well."""

LARGEST_RATIO = 200
"""Bytes of voxels to bytes of file beyond `FREE_BYTES`; a head scan packs 2 to 20 times."""

LEAST_CHECKED = 2**28
"""Bytes below which memory is not asked for: any machine that runs a network has as many."""

SLACK = 4096
"""Most bytes after the voxels that a file may hold, less than a slice: some writers pad."""

CHUNK = 2**20

_GZIP_LEVEL = 1
"""A higher level takes many times as long and saves a few percent on a scan."""

_DEFLATE_RATIO = 1032
"""Bytes that one byte of a deflate stream can stand for at most (zlib's technical notes)."""

_MOST = {"raw": 1, "gzip": _DEFLATE_RATIO, "zlib": _DEFLATE_RATIO}


def check_claim(wanted: int, there: int, path: Path, *, packing: str = "") -> None:
    """Refuse voxels that a file of its size cannot hold, or that no scan would hold so tightly.

    Parameters
    ----------
    wanted : int
        Bytes of voxels that the header claims.
    there : int
        Bytes of the file that can hold them.
    path : Path
        For the message.
    packing : str
        ``"raw"``, ``"gzip"``, ``"zlib"``; ``""`` for any other.

    Raises
    ------
    Unreadable
        They cannot lie in the file.
    UntrustedInput
        They would unpack like a bomb.
    """
    if packing in _MOST and there * _MOST[packing] < wanted:
        most = there * _MOST[packing]
        raise Unreadable(f"truncated: at most {most} of {wanted} bytes are there", path=path)
    if wanted > max(FREE_BYTES, there * LARGEST_RATIO):
        raise UntrustedInput(
            f"{wanted} bytes of voxels in {there} bytes of file unpack like a bomb", path=path
        )


def check_memory(wanted: int, path: Path) -> None:
    """Refuse what would take more memory than is free.

    Parameters
    ----------
    wanted : int
        Bytes that reading takes at its peak.
    path : Path
        For the message.

    Raises
    ------
    UntrustedInput
        There is less.
    """
    if wanted < LEAST_CHECKED:
        return
    free = free_memory()
    if free is not None and wanted > free:
        raise UntrustedInput(
            f"reading it takes {wanted / 2**30:.1f} GiB of memory, {free / 2**30:.1f} are free",
            path=path,
        )


def free_memory() -> int | None:
    """Return the bytes that this process can still take, None where the system does not say."""
    found = []
    with suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        line = next(line for line in lines if line.startswith("MemAvailable:"))
        found.append(int(line.split()[1]) * 1024)
    with suppress(OSError, ValueError, StopIteration):  # a container's limit, control group v2
        group = Path("/sys/fs/cgroup")
        most = int((group / "memory.max").read_text(encoding="ascii"))
        lines = (group / "memory.stat").read_text(encoding="ascii").splitlines()
        held = next(line for line in lines if line.startswith("anon "))
        found.append(most - int(held.split()[1]))
    return min(found) if found else None


@contextmanager
def opened(path: Path) -> Iterator[BufferedReader | gzip.GzipFile]:
    """Open a file that may be gzipped (its content decides); damage becomes `Unreadable`."""
    try:
        with path.open("rb") as raw:
            packed = raw.read(2) == b"\x1f\x8b"
            raw.seek(0)
            if packed:
                with gzip.GzipFile(fileobj=raw) as unpacked:
                    yield unpacked
            else:
                yield raw
    except EOFError as error:
        raise Unreadable("truncated: the gzip stream ends early", path=path) from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise Unreadable(f"damaged gzip stream: {error}", path=path) from error
    except OSError as error:
        raise Unreadable(f"cannot be read: {error.strerror or error}", path=path) from error


def packer(raw: IO[bytes], path: Path) -> AbstractContextManager[Any]:
    """Give what to write through: gzip without name or time, so the same image is the same file."""
    if path.suffix.lower() == ".gz":
        return gzip.GzipFile("", "wb", _GZIP_LEVEL, raw, mtime=0)
    return nullcontext(raw)


@contextmanager
def damage_named(path: Path) -> Iterator[None]:
    """Turn what reading a damaged stream raises into `Unreadable`."""
    try:
        yield
    except EOFError as error:
        fault = "truncated or damaged: the compressed voxels end early"
        raise Unreadable(fault, path=path) from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise Unreadable(f"damaged: the compressed voxels: {error}", path=path) from error
    except OSError as error:  # without a number it is bzip2's
        what = "cannot be read" if error.errno else "damaged: the compressed voxels"
        raise Unreadable(f"{what}: {error.strerror or error}", path=path) from error


def unpacked(file: BinaryIO, packing: str) -> Iterator[bytes]:
    """Yield what the rest of a file holds, in pieces, to its end and its checksums.

    Parameters
    ----------
    file : binary file
        Read from where it stands.
    packing : str
        ``"raw"``, ``"gzip"``, ``"zlib"`` (or gzip, as MetaImage has it) or ``"bz2"``.

    Raises
    ------
    EOFError, OSError, zlib.error
        The stream is truncated or damaged, or other bytes follow it; see `damage_named`.
    """
    if packing == "raw":
        yield from iter(lambda: file.read(CHUNK), b"")
    elif packing == "gzip":
        with gzip.GzipFile(fileobj=file) as stream:
            yield from iter(lambda: stream.read(CHUNK), b"")
    elif packing == "zlib":
        yield from _inflated(file)
    else:
        yield from _unzipped(file)


def _inflated(file: BinaryIO) -> Iterator[bytes]:
    stream = zlib.decompressobj(32 + zlib.MAX_WBITS)
    while not stream.eof:
        piece = stream.unconsumed_tail or file.read(CHUNK // 4)
        if not piece:
            raise EOFError
        yield stream.decompress(piece, CHUNK)
    if (stream.unused_data + file.read(CHUNK)).strip(b"\0"):
        raise zlib.error("other bytes follow the stream")


def _unzipped(file: BinaryIO) -> Iterator[bytes]:
    """Yield what streams of bzip2 hold, one or several in a row."""
    rest = file.read(CHUNK // 4)
    while True:
        stream = bz2.BZ2Decompressor()
        while not stream.eof:
            if stream.needs_input and not rest:
                rest = file.read(CHUNK // 4)
                if not rest:
                    raise EOFError
            yield stream.decompress(rest, CHUNK)
            rest = b""
        rest = stream.unused_data or file.read(CHUNK // 4)
        if not rest:
            return


def fill(target: memoryview, pieces: Iterator[bytes], skip: int = 0) -> tuple[int, int]:
    """Copy a stream into memory, after the first bytes, and count what it holds.

    Parameters
    ----------
    target : memoryview of bytes
        To be filled.
    pieces : iterator of bytes
        The stream; read to its end, or until there is more than `left_over` passes.
    skip : int
        Bytes at its beginning that are left out.

    Returns
    -------
    got, extra : int
        Bytes put into the target, and bytes after those.
    """
    got = extra = 0
    for piece in pieces:
        if skip:
            skip, piece = max(skip - len(piece), 0), piece[skip:]
        taken = min(len(piece), len(target) - got)
        target[got : got + taken] = piece[:taken]
        got += taken
        extra += len(piece) - taken
        if extra > SLACK:
            break
    return got, extra


def left_over(extra: int, slice_bytes: int, path: Path) -> list[str]:
    """Give a sentence on bytes after the voxels, or refuse a file that holds a slice more.

    Parameters
    ----------
    extra : int
        Bytes after the voxels.
    slice_bytes : int
        Bytes of one slice.
    path : Path
        For the message.

    Raises
    ------
    Unreadable
        There are so many that the header cannot be believed.
    """
    if extra <= 0:
        return []
    if extra >= min(slice_bytes, SLACK):
        raise Unreadable(
            f"damaged: {extra} bytes of voxels more than the header describes", path=path
        )
    return [f"{extra} bytes after the voxels are not read."]
