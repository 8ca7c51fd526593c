"""Decompression in processes of its own.

The decoders that pydicom's plugins bring are C and C++; on damaged frames some of them end the
process they run in (GDCM on JPEG lossless and JPEG-LS does). Here that ends a child, and becomes
an error that names the file. Children also decode in parallel, and what they print stays theirs.
"""

from __future__ import annotations

import json
import os
import queue
import struct
import subprocess
import sys
import threading
import weakref
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.uid import JPEG2000TransferSyntaxes

from medtranslate.errors import Unreadable
from medtranslate.imaging.dicom.encoding import Encoding
from medtranslate.imaging.dicom.values import shown

WORKER = Path(__file__).with_name("codec_worker.py")
PATIENCE = 120.0
"""Seconds after which a frame that is still not decoded is given up."""


class Codec:
    """Decompresses frames in child processes, which start when first needed.

    Safe to call from several threads; each call has a child to itself. A copy in another process,
    forked or unpickled, starts children of its own.
    """

    def __init__(self) -> None:
        self._owner = -1
        self._idle: queue.SimpleQueue[subprocess.Popen[bytes]] = queue.SimpleQueue()

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__()  # type: ignore[misc]

    def decode(self, content: bytes, encoding: Encoding) -> np.ndarray:
        """Decompress one frame.

        Parameters
        ----------
        content : bytes
            The frame's codestream.
        encoding : Encoding
            How it is stored.

        Returns
        -------
        numpy.ndarray
            Integers (rows, columns), signed as `encoding` says.

        Raises
        ------
        Unreadable
            It cannot be decompressed; the path is the caller's to add.
        """
        child = self._take()
        timer = threading.Timer(PATIENCE, child.kill)
        timer.start()
        try:
            done, answer = _ask(child, content, encoding)
        except (OSError, EOFError):
            child.kill()
            child.wait()
            raise Unreadable("the pixel data are damaged: their decoder gave up") from None
        finally:
            timer.cancel()
        self._idle.put(child)
        if not done:
            reason = shown(answer.decode("utf-8", "replace")) or "no reason told"
            raise Unreadable(f"the pixel data cannot be decoded: {reason}")
        kind = f"<{'i' if encoding.signed else 'u'}{encoding.allocated // 8}"
        return np.frombuffer(answer, dtype=kind).reshape(encoding.rows, encoding.columns)

    def _take(self) -> subprocess.Popen[bytes]:
        if self._owner != os.getpid():
            self._owner, self._idle = os.getpid(), queue.SimpleQueue()
        try:
            return self._idle.get_nowait()
        except queue.Empty:
            child = subprocess.Popen(
                [sys.executable, str(WORKER)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"},
            )
            weakref.finalize(self, _dismiss, child, os.getpid())
            return child


def _ask(child: subprocess.Popen[bytes], content: bytes, encoding: Encoding) -> tuple[bool, bytes]:
    """Send one frame and take the answer.

    Raises
    ------
    OSError, EOFError
        The child ended.
    """
    plugin = "pylibjpeg" if encoding.transfer_syntax in JPEG2000TransferSyntaxes else ""
    request = {
        "syntax": encoding.transfer_syntax,
        "plugin": plugin,
        "rows": encoding.rows,
        "columns": encoding.columns,
        "number_of_frames": 1,
        "samples_per_pixel": 1,
        "photometric_interpretation": encoding.photometric,
        "bits_allocated": encoding.allocated,
        "bits_stored": encoding.stored,
        "pixel_representation": int(encoding.signed),
        "pixel_keyword": "PixelData",
    }
    head = json.dumps(request).encode()
    to, back = child.stdin, child.stdout
    if to is None or back is None:
        raise EOFError
    for part in (head, content):
        to.write(struct.pack("<Q", len(part)) + part)
    to.flush()
    told = back.read(9)
    if len(told) != 9:
        raise EOFError
    done, length = struct.unpack("<BQ", told)
    answer = back.read(length)
    if len(answer) != length:
        raise EOFError
    return bool(done), answer


def _dismiss(child: subprocess.Popen[bytes], owner: int) -> None:
    """End a child that is no longer needed; a forked copy leaves its parent's children alone."""
    if os.getpid() != owner or child.poll() is not None:
        return
    child.kill()
    child.wait()
    for pipe in (child.stdin, child.stdout):
        if pipe is not None:
            pipe.close()
