"""Damage: random edits, and edits that know where a format keeps its numbers and words."""

from __future__ import annotations

import random
import struct
import zlib

from .seeds import Seed

Edit = tuple[int, int, bytes]
"""Where, how many bytes are taken out, and what is put there."""

NUMBERS = [
    struct.pack(order + kind, value)
    for order in "<>"
    for kind, values in {
        "b": (0, 1, -1, 127, -128),
        "h": (0, 1, 3, 7, 8, 255, 256, 32767, -32768, -1, 512),
        "i": (0, 1, 2, 2**31 - 1, -(2**31), -1, 65536, 2**24),
        "q": (0, 1, 2**63 - 1, -1, 2**32, 2**40),
        "f": (0.0, 1.0, float("nan"), float("inf"), -float("inf"), 1e38, 1e-40, 0.5),
    }.items()
    for value in values
]
WORDS = [
    *(b"0", b"-1", b"1", b"2", b"99999999999999999999", b"nan", b"inf", b"1e999", b"", b" ", b"x"),
    *(
        b"/etc/passwd",
        b"../secret.raw",
        b"-",
        b"LIST",
        b"LIST 3",
        b"%s%n%d",
        b"\x1b]0;X\x07\x1b[2J",
    ),
    *(
        b"A" * 300,
        b"A" * 1500,
        b"9" * 70_000,
        b"\0" * 9,
        b"True",
        b"False",
        b"raw",
        b"gzip",
        b"MSB",
    ),
    *(b"$__import__('os')._exit(3)", b"$0", b"_target_: os._exit", b"{", b"[", b"!!python/name:os"),
    *(b"(nan,0,0)", b"none", b"MET_LONG_LONG", b"double", b"big", b"\xff\xfe", b"1 2 3", b"0 0 0"),
]
VRS = [b"SQ", b"UN", b"OB", b"US", b"LO", b"PN", b"FD", b"AT", b"\0\0", b"ZZ", b"L\x89"]


def mutate(seed: Seed, chance: random.Random) -> list[Edit]:
    """Give up to four edits of a seed."""
    return [_edit(seed, chance) for _ in range(chance.choice((1, 1, 1, 2, 4)))]


def apply(seed: Seed, edits: list[Edit]) -> bytes:
    """Give the damaged content, before it is packed."""
    content = bytearray(seed.content)
    for at, taken, put in edits:
        content[at : at + taken] = put
    if seed.name.endswith(".png"):
        _mend_checksums(content)
    return bytes(content)


def is_blind(seed: Seed, damaged: bytes) -> bool:
    """Say whether damage touches what no reader can check."""
    first, last = _changed(seed.content, damaged)
    if len(damaged) != len(seed.content):
        return any(start < last and first < end for start, end in seed.blind)
    changed = [n for n in range(first, last) if seed.content[n] != damaged[n]]
    return any(start <= n < end for n in changed for start, end in seed.blind)


def _changed(one: bytes, other: bytes) -> tuple[int, int]:
    shorter = min(len(one), len(other))
    first = next((n for n in range(shorter) if one[n] != other[n]), shorter)
    same = next(
        (n for n in range(shorter - first) if one[-1 - n] != other[-1 - n]), shorter - first
    )
    return first, len(one) - same


def _edit(seed: Seed, chance: random.Random) -> Edit:
    size = len(seed.content)
    at = chance.randrange(size if chance.random() < 0.3 else min(size, 700))
    if seed.fields and chance.random() < 0.5:
        start, end = chance.choice(seed.fields)
        if seed.name.endswith((".mha", ".nrrd", ".yaml")):
            return start + 2, max(end - start - 3, 0), chance.choice(WORDS)
        number = chance.choice(NUMBERS)[: end - start]
        if seed.name.endswith(".dcm") and chance.random() < 0.3:
            return max(start, 0), 2, chance.choice(VRS)
        return start, len(number), number
    match chance.randrange(9):
        case 0:
            return at, 1, bytes([seed.content[at] ^ 1 << chance.randrange(8)])
        case 1:
            return at, 1, chance.randbytes(1)
        case 2:
            number = chance.choice(NUMBERS)
            return at, len(number), number
        case 3:
            return at, size, b""
        case 4:
            return at, chance.choice((1, 4, 16, 500)), b""
        case 5:
            return at, 0, chance.choice(WORDS)
        case 6:
            length = chance.choice((1, 4, 30, 300))
            return at, 0, seed.content[at : at + length] * chance.choice((1, 2, 50))
        case 7:
            other = chance.randrange(size)
            return at, 16, seed.content[other : other + 16]
        case _:
            return size, 0, chance.choice((b"\0", b"\0" * 4000, seed.content[:4000], b"x" * 9))


def _mend_checksums(content: bytearray) -> None:
    """Set the checksum of each chunk of a PNG, half of the time: damage must get past it."""
    if zlib.crc32(content) & 1:
        return
    at = 8
    while at + 12 <= len(content):
        length = int.from_bytes(content[at : at + 4], "big")
        end = at + 8 + length
        if end + 4 > len(content):
            return
        content[end : end + 4] = struct.pack(">I", zlib.crc32(content[at + 4 : end]))
        at = end + 4
