"""The child process that decodes with third-party libraries; see `child`. Run, never imported.

It imports nothing of medtranslate, and each library when it is first needed, so that it starts
quickly. A request on stdin is a JSON object with the name of a task, and content, each behind its
length; an answer on stdout is such pairs, one for each part, of which the last says that it is, or
why the task is refused.
"""

from __future__ import annotations

import json
import os
import struct
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

MEMORY = 6 * 2**30
"""Address space that a damaged file may make a decoder ask for, bytes."""

IDLE = 120.0
"""Seconds without a task after which this process ends."""

ORIENTATION = 274  # TIFF 6.0, section 8, and EXIF
DESCRIPTION = 270
BITS_PER_SAMPLE = 258
BYTE_ORDERS = {b"II*\0": "<", b"MM\0*": ">"}

Part = tuple[dict[str, Any], bytes]


class Refused(Exception):
    """A task that cannot be done: the name of an error and what is wrong."""


def frame(request: dict[str, Any], content: bytes) -> Iterator[Part]:
    """Decode one compressed DICOM frame to the bytes of (rows, columns) integers."""
    from pydicom.encaps import encapsulate
    from pydicom.pixels import get_decoder
    from pydicom.uid import UID

    syntax, plugin = request.pop("syntax"), request.pop("plugin")
    words, _ = get_decoder(UID(syntax)).as_array(
        encapsulate([content]), index=0, raw=True, decoding_plugin=plugin, **request
    )
    shape = (request["rows"], request["columns"])
    if words.shape != shape:
        raise ValueError(f"it decodes to {words.shape}, not {shape}")
    size = request["bits_allocated"] // 8
    yield {}, words.astype(f"<{words.dtype.kind}{size}").tobytes()


def look(request: dict[str, Any], content: bytes) -> Iterator[Part]:
    """Say what a PNG, JPEG or TIFF file holds, without decoding it."""
    with opened(request) as image:
        yield about(image, request), b""


def pages(request: dict[str, Any], content: bytes) -> Iterator[Part]:
    """Decode the pages of a PNG, JPEG or TIFF file: `about` it first, then each page."""
    import numpy as np

    with opened(request) as image:
        head = about(image, request)
        yield head, b""
        if head["animation"]:
            raise Refused("Unsupported", f"an animation of {head['count']} frames is not a scan")
        for number in range(head["count"]):
            if head["count"] > 1:
                image.seek(number)
            check_size(image, request)
            pixels, turned = page(image, request["path"], head["count"])
            layout = {"shape": pixels.shape, "dtype": pixels.dtype.str, "turned": turned}
            yield {**layout, "mode": image.mode}, np.ascontiguousarray(pixels).tobytes()


def gray(request: dict[str, Any], content: bytes) -> Iterator[Part]:
    """Decode the first page of an 8-bit image to gray levels, whatever its colors."""
    import numpy as np

    with opened(request) as image:
        if image.mode not in ("1", "L", "LA", "P", "RGB", "RGBA"):
            raise Refused("Unsupported", f"not an 8-bit image (Pillow mode {image.mode})")
        pixels = np.asarray(image.convert("L"))
        yield {"shape": pixels.shape}, pixels.tobytes()


def page(image: Any, path: str, count: int) -> tuple[Any, bool]:
    """Decode one page upright: (Y, X) or (Y, X, C) integers, and whether it had to be turned."""
    import numpy as np
    from PIL import ImageOps

    deep = is_deep_color(image)  # before Pillow decodes it, as it does for a PNG's EXIF
    turned = image.getexif().get(ORIENTATION, 1) in range(2, 9)
    if deep:
        if count > 1:
            raise Refused("Unsupported", "16-bit color in several pages is not read")
        return deep_color(path, image), turned
    upright = ImageOps.exif_transpose(image)
    if upright.mode in ("I;16", "I;16B", "I;16L"):
        stored = np.asarray(upright, dtype=np.uint16)
        # Pillow inverts 8-bit pages whose white is zero, and forgets 16-bit ones.
        inverted = image.format == "TIFF" and image.tag_v2.get(262) == 0
        return (65535 - stored if inverted else stored), turned
    if upright.mode == "L" and "transparency" not in upright.info:
        return np.asarray(upright), turned
    if upright.mode in ("RGB", "P", "L", "LA", "RGBA", "PA"):
        return np.asarray(upright.convert("RGBA")), turned
    raise Refused("Unsupported", f"pixels of kind {upright.mode} are not 8 or 16 bit gray")


def is_deep_color(image: Any) -> bool:
    """Say whether Pillow would cut 16-bit color down to 8 bit without a word."""
    bits = getattr(image, "tag_v2", {}).get(BITS_PER_SAMPLE, ())
    deep = max(bits if isinstance(bits, tuple) else (bits,), default=0) > 8
    return image.mode in ("RGB", "RGBA", "RGBX", "LA", "CMYK") and (
        deep or any(";16" in str(tile.args) for tile in image.tile)
    )


def deep_color(path: str, image: Any) -> Any:
    """Decode 16-bit color with ITK, which takes 8 bit of a page that is to be turned."""
    import numpy as np
    import SimpleITK as sitk

    engine = {"PNG": "PNGImageIO", "TIFF": "TIFFImageIO"}.get(image.format)
    if engine is None:
        raise Refused("Unsupported", f"16-bit color in {image.format} is not read")
    orientation = image.getexif().get(ORIENTATION, 1)
    content = Path(path).read_bytes()
    with temporary_folder() as folder:
        copy = Path(folder, f"page.{image.format.lower()}")
        copy.write_bytes(upright_tag(content) if image.format == "TIFF" else content)
        try:
            pixels = sitk.GetArrayFromImage(sitk.ReadImage(str(copy), imageIO=engine))
        except RuntimeError:
            raise Refused("Unreadable", "damaged or truncated image") from None
    if pixels.dtype != np.uint16 or pixels.ndim != 3:
        raise Refused("Unsupported", "16-bit color stored in a way that is not read")
    flips: dict[int, Callable[[Any], Any]] = {
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.swapaxes(0, 1),
        6: lambda a: a.swapaxes(0, 1)[:, ::-1],
        7: lambda a: a.swapaxes(0, 1)[::-1, ::-1],
        8: lambda a: a.swapaxes(0, 1)[::-1],
    }
    return flips.get(orientation, lambda a: a)(pixels)


@contextmanager
def temporary_folder() -> Iterator[str]:
    """Do as `medtranslate.files.temporary_folder`: if this process is killed, the next one cleans.

    The folder has the name that is looked for there, and the lock that says whose it is.
    """
    with ExitStack() as stack, tempfile.TemporaryDirectory(".part", ".medtranslate-") as folder:
        with suppress(ImportError, OSError):  # Windows has no such lock, and opens no folders
            import fcntl

            lock = os.open(folder, os.O_RDONLY)
            stack.callback(os.close, lock)
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield folder


def upright_tag(content: bytes) -> bytes:
    """Give a TIFF whose first directory says that its page is upright."""
    order = BYTE_ORDERS.get(content[:4])
    if order is None:
        raise Refused("Unsupported", "16-bit color in a BigTIFF is not read")
    (start,) = struct.unpack(f"{order}I", content[4:8])
    (count,) = struct.unpack(f"{order}H", content[start : start + 2])
    changed = bytearray(content)
    for at in range(start + 2, start + 2 + 12 * count, 12):
        if struct.unpack(f"{order}H", content[at : at + 2])[0] == ORIENTATION:
            changed[at + 2 : at + 12] = struct.pack(f"{order}HIHH", 3, 1, 1, 0)
    return bytes(changed)


def opened(request: dict[str, Any]) -> Any:
    """Open an image file, if its directories end and its pixels are not too many."""
    from PIL import Image, UnidentifiedImageError

    # The limit of the request decides, with a message of its own.
    Image.MAX_IMAGE_PIXELS = None
    with Path(request["path"]).open("rb") as file:
        check_directories(file, request["max_pages"])
    try:
        image = Image.open(request["path"], formats=("PNG", "JPEG", "TIFF"))
    except UnidentifiedImageError:
        raise Refused("Unreadable", "not a PNG, JPEG or TIFF image") from None
    check_size(image, request)
    return image


def check_size(image: Any, request: dict[str, Any]) -> None:
    """Refuse an image of more pixels than the request allows, before it is decoded."""
    if image.width * image.height > request["max_pixels"]:
        size = f"{image.width}x{image.height}"
        raise Refused("UntrustedInput", f"{size} pixels are more than a 2D image may have")


def about(image: Any, request: dict[str, Any]) -> dict[str, Any]:
    """Give format, size, count of pages and description of an open image."""
    tags = getattr(image, "tag_v2", {})
    text = image.info.get("Description") or image.info.get("comment") or tags.get(DESCRIPTION) or ""
    count = getattr(image, "n_frames", 1)
    return {
        "format": image.format,
        "size": image.size,
        "count": count,
        "animation": count > 1 and image.format != "TIFF",
        "description": text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text),
    }


def check_directories(file: BinaryIO, most: int) -> None:
    """Follow the chain of a TIFF's directories; refuse one that has no end, or too many."""
    start = file.read(16)
    order = {b"II": "<", b"MM": ">"}.get(start[:2])
    version = struct.unpack(f"{order}H", start[2:4])[0] if order and len(start) >= 8 else 0
    if version not in (42, 43):
        return
    count_kind, entry, link = ("H", 12, "I") if version == 42 else ("Q", 20, "Q")
    link_bytes, count_bytes = struct.calcsize(f"={link}"), struct.calcsize(f"={count_kind}")
    first = start[4:8] if version == 42 else start[8:16]
    (at,) = struct.unpack(f"{order}{link}", first) if len(first) == link_bytes else (0,)
    seen: set[int] = set()
    while at:
        if at in seen:
            raise Refused("Unreadable", "damaged: its directories of pages run in a circle")
        seen.add(at)
        if len(seen) > most:
            raise Refused("UntrustedInput", f"more than {most} pages are not a scan")
        if at >= 2**62:
            raise Refused("Unreadable", "damaged or truncated image: a directory lies nowhere")
        file.seek(at)
        head = file.read(count_bytes)
        if len(head) < count_bytes:
            raise Refused("Unreadable", "damaged or truncated image: a directory is missing")
        (count,) = struct.unpack(f"{order}{count_kind}", head)
        file.seek(min(at + count_bytes + entry * count, 2**62))
        last = file.read(link_bytes)
        if len(last) < link_bytes:
            return  # Pillow takes it for the last one as well
        (at,) = struct.unpack(f"{order}{link}", last)


TASKS: dict[str, Callable[[dict[str, Any], bytes], Iterator[Part]]] = {
    "frame": frame,
    "look": look,
    "pages": pages,
    "gray": gray,
}


def block(stream: BinaryIO) -> bytes | None:
    """Read one length and what it counts; None at the end of the stream."""
    head = stream.read(8)
    return stream.read(struct.unpack("<Q", head)[0]) if len(head) == 8 else None


def send(head: dict[str, Any], content: bytes = b"") -> None:
    """Write one part of an answer."""
    text = json.dumps(head).encode("utf-8", "replace")
    for part in (text, content):
        sys.stdout.buffer.write(struct.pack("<Q", len(part)))
        sys.stdout.buffer.write(part)


def limit_memory() -> None:
    """Hold this process to `MEMORY`, where the system can."""
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    except (ImportError, ValueError, OSError):
        # Not every system has such limits; the sizes were checked by the parent already.
        pass


def limit_time(seconds: float) -> None:
    """Let the next task compute for so long, even where no parent is left to end it."""
    try:
        import resource

        used = resource.getrusage(resource.RUSAGE_SELF)
        soft = int(used.ru_utime + used.ru_stime + seconds) + 1
        resource.setrlimit(resource.RLIMIT_CPU, (soft, resource.getrlimit(resource.RLIMIT_CPU)[1]))
    except (ImportError, ValueError, OSError):
        pass


def answer(head: bytes, content: bytes) -> None:
    """Do one task, and say how it ended."""
    try:
        request = json.loads(head)
        limit_time(request.pop("patience"))
        parts = TASKS[request.pop("task")](request, content)
        part = next(parts)
        for following in parts:
            send(*part)
            part = following
        send({**part[0], "last": True}, part[1])
    except Refused as refusal:
        send({"refusal": refusal.args[0], "fault": refusal.args[1]})
    except MemoryError:
        send({"refusal": "UntrustedInput", "fault": "more memory is asked for than a scan takes"})
    except Exception as error:
        send({"failure": str(error) or type(error).__name__})


def main() -> None:
    """Answer requests until stdin ends, as it does when the parent is gone, or none comes."""
    limit_memory()
    while True:
        timer = threading.Timer(IDLE, os._exit, (0,))
        timer.daemon = True
        timer.start()
        head = block(sys.stdin.buffer)
        timer.cancel()
        if head is None:
            return
        answer(head, block(sys.stdin.buffer) or b"")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
