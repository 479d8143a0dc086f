"""Seeded mutations of anything, with a taste for what means something to the parsers of the trust side."""

from __future__ import annotations

import random

TOKENS = [
    b'"', b"{", b"}", b"[", b"]", b",", b":", b"\\", b"\\u0000", b"\\ud800", b"null", b"true", b"NaN", b"-0", b"1e9",
    b"9" * 40, b"\x00", b"\xff", b"\xc3\xa9", b"\xef\xbb\xbf", b"[" * 100, b'{"a":' * 50, b"=", b"A" * 100, b"-----", b"\n",
]  # fmt: skip
"""What means something to one of the parsers."""


def mutate(data: bytes, rng: random.Random) -> bytes:
    """One to four changes: a bit, a byte, a token, a piece cut, doubled or moved."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        place, length = rng.randrange(len(out) + 1), rng.choice((1, 2, 4, 16, 64))
        match rng.randrange(6):
            case 0:
                out[place : place + 1] = bytes([rng.randrange(256)])
            case 1 if place < len(out):
                out[place] ^= 1 << rng.randrange(8)
            case 2:
                out[place:place] = rng.choice(TOKENS)
            case 3:
                del out[place : place + length]
            case 4:
                out[place:place] = out[place : place + length]
            case _:
                end = rng.randrange(len(out) + 1)
                out[place : place + length] = out[end : end + length]
    return bytes(out)
