"""What depthwise kernels share: four rows of bytes interleaved for a byte dot, and sums requantized and stored in that order.

Requantization is XNNPACK's, in float32, of sums that fit an int32 when scaled.
"""

from __future__ import annotations

from numba import njit

from .simd import (
    L,
    cap,
    codes,
    load_f32,
    pack_codes,
    pack_plain,
    store,
    store_quad_some,
    unpack8_high,
    unpack8_low,
    unpack16_high,
    unpack16_low,
)

P = 4 * L  # bytes of a block, and of a vector of int32


@njit(error_model="numpy", inline="always")
def woven(r0, r1, r2, r3):
    """Four rows of bytes → four quads; lane 4p + e of quad j is byte 16p + 4j + e of each row (simd.pack_u8)."""
    low01, low23 = unpack8_low(r0, r1), unpack8_low(r2, r3)
    high01, high23 = unpack8_high(r0, r1), unpack8_high(r2, r3)
    return (
        unpack16_low(low01, low23),
        unpack16_high(low01, low23),
        unpack16_low(high01, high23),
        unpack16_high(high01, high23),
    )


@njit(error_model="numpy", inline="always")
def finish(a0, a1, a2, a3, m, y, left, hi, zero_point, lo):
    """Requantize a block of sums, multipliers at address m, and store `left` bytes of it (all from P on)."""
    a0, a1 = codes(a0, load_f32(m)), codes(a1, load_f32(m + P))
    a2, a3 = codes(a2, load_f32(m + 2 * P)), codes(a3, load_f32(m + 3 * P))
    if zero_point == 0 and lo == 0 and hi == 255:  # as behind a ReLU: saturation is all there is to do
        q = pack_plain(a0, a1, a2, a3)
    else:
        q = cap(pack_codes(a0, a1, a2, a3, zero_point, lo), hi)
    if left >= P:
        store(y, q)
    else:
        store_quad_some(y, q, left)
