"""The child process that decompresses frames; see `Codec`. Run as a script, never imported.

It imports nothing of medtranslate, so that it starts quickly. Each request on stdin is a length,
a JSON object (``syntax``, ``plugin`` and the Image Pixel module) and the compressed frame behind
its own length; each answer on stdout is one byte (1: decoded), a length and the little endian
integers, or the reason.
"""

import json
import struct
import sys
from typing import Any, BinaryIO

from pydicom.encaps import encapsulate
from pydicom.pixels import get_decoder
from pydicom.uid import UID

MEMORY = 8 * 2**30
"""Address space that a damaged frame may make a decoder ask for, bytes."""


def decoded(request: dict[str, Any], content: bytes) -> bytes:
    """Decode one frame to the bytes of (rows, columns) integers."""
    syntax, plugin = request.pop("syntax"), request.pop("plugin")
    words, _ = get_decoder(UID(syntax)).as_array(
        encapsulate([content]), index=0, raw=True, decoding_plugin=plugin, **request
    )
    shape = (request["rows"], request["columns"])
    if words.shape != shape:
        raise ValueError(f"it decodes to {words.shape}, not {shape}")
    size = request["bits_allocated"] // 8
    return bytes(words.astype(f"<{words.dtype.kind}{size}").tobytes())


def block(stream: BinaryIO) -> bytes | None:
    """Read one length and what it counts; None at the end of the stream."""
    head = stream.read(8)
    return stream.read(struct.unpack("<Q", head)[0]) if len(head) == 8 else None


def main() -> None:
    """Answer requests until stdin ends, as it does when the parent is gone."""
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    except (ImportError, ValueError, OSError):
        # Not every system has such limits; the sizes were checked by the parent already.
        pass
    while (head := block(sys.stdin.buffer)) is not None:
        content = block(sys.stdin.buffer) or b""
        try:
            answer, done = decoded(json.loads(head), content), 1
        except Exception as error:
            answer, done = str(error).encode("utf-8", "replace"), 0
        sys.stdout.buffer.write(struct.pack("<BQ", done, len(answer)) + answer)
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
