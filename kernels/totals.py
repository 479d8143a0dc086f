"""Sums of bytes, 4·L of them side by side: what averages and means are made of."""

from __future__ import annotations

import numpy as np
from numba import njit

from .simd import (
    add_i32,
    add_short,
    as_i32,
    load_quad,
    once,
    splat_quad,
    unpack8_high,
    unpack8_low,
    unpack16_high,
    unpack16_low,
    zero_i32,
)

SHORT = 257
"""Bytes whose sum surely fits 16 bits."""


@njit(error_model="numpy", inline="always")
def widen_short(low, high, a, b, c, d):
    """a, b, c, d + the sums of 16 bits in two quads."""
    none = splat_quad(np.int64(0))
    a, b = add_i32(a, as_i32(unpack16_low(low, none))), add_i32(b, as_i32(unpack16_high(low, none)))
    return a, b, add_i32(c, as_i32(unpack16_low(high, none))), add_i32(d, as_i32(unpack16_high(high, none)))


@njit(error_model="numpy", inline="always")
def add_quads(x, pitch, columns, line, rows):
    """Sums of 4·L bytes at address x and of those `pitch` on, …, and so in `rows` lines; four vectors in the order of pack_u8."""
    none = splat_quad(np.int64(0))
    a, b, c, d = zero_i32(), zero_i32(), zero_i32(), zero_i32()
    together = rows if rows * columns <= SHORT else np.int64(1)
    for _ in range(rows // together):
        first, left = x, columns
        while left > 0:
            n = min(left, np.int64(SHORT))
            low, high, p = none, none, first
            for r in range(together):
                p = first + r * line
                for _ in range(n):
                    once()
                    v = load_quad(p)
                    low, high = add_short(low, unpack8_low(v, none)), add_short(high, unpack8_high(v, none))
                    p += pitch
            a, b, c, d = widen_short(low, high, a, b, c, d)
            first, left = p, left - n
        x += line
    return a, b, c, d
