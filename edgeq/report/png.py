"""A picture as a PNG file in a data URI: what a page needs to show a sample. Format: W3C PNG, third edition."""

from __future__ import annotations

import base64
import struct
import zlib

import numpy as np

from edgeq.graph import Array

MOST = 96
"""Pixels to a side; larger pictures are thinned out."""


def picture(values: Array) -> str | None:
    """A data URI of an array that looks like a picture, (1, h, w, 1 or 3); None of another. Values are stretched to 0 … 255."""
    if values.ndim != 4 or values.shape[0] != 1 or values.shape[3] not in (1, 3) or min(values.shape[1:3]) < 2:
        return None
    a = np.asarray(values[0], np.float64)
    step = max(1, -(-max(a.shape[:2]) // MOST))
    return _uri(_stretched(a[::step, ::step]))


def heat(values: Array) -> str | None:
    """A data URI of any other array as gray levels: rows of its last axis, or one long row folded; None if it is too small."""
    a = np.squeeze(np.asarray(values, np.float64))
    if a.size < 4:
        return None
    if a.ndim == 1:
        width = int(np.ceil(np.sqrt(a.size) * 2))
        padded = np.full(-(-a.size // width) * width, a.min())
        padded[: a.size] = a
        a = padded.reshape(-1, width)
    a = a.reshape(a.shape[0], -1)
    steps = [max(1, -(-n // MOST)) for n in a.shape]
    return _uri(_stretched(a[:: steps[0], :: steps[1], None]))


def _stretched(a: Array) -> Array:
    low, high = float(a.min()), float(a.max())
    bright: Array = np.rint((a - low) * (255.0 / (high - low) if high > low else 0.0)).astype(np.uint8)
    return bright


def _uri(a: Array) -> str:
    h, w, c = a.shape
    rows = np.zeros((h, 1 + w * c), np.uint8)  # each row begins with its filter, none
    rows[:, 1:] = a.reshape(h, -1)
    head = struct.pack(">IIBBBBB", w, h, 8, 2 if c == 3 else 0, 0, 0, 0)
    parts = [(b"IHDR", head), (b"IDAT", zlib.compress(rows.tobytes(), 9)), (b"IEND", b"")]
    data = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(d)) + kind + d + struct.pack(">I", zlib.crc32(kind + d)) for kind, d in parts
    )
    return "data:image/png;base64," + base64.b64encode(data).decode()
