"""Two arrays of integers with scales in, one out, a vector at a time: 8-bit products; 16-bit sums, differences and products.

Shapes are described as in elementwise.py.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from .elementwise import offsets
from .fixedpoint import clamp, rounding_shift_right
from .memory import float_of_bits, i16
from .runs import integers, put, spread
from .simd import (
    L,
    add_f32,
    add_i32,
    as_i32,
    clamp_f32,
    clamp_i32,
    mul_f32,
    mul_i32,
    multiply_double_rounded,
    multiply_single,
    once,
    splat_f32,
    splat_i32,
    sub_i32,
    to_f32,
)
from .words.elementwise import (
    A_STEP,
    B_STEP,
    FLAT,
    HI,
    INNER,
    LEFT,
    LO,
    MA,
    MB,
    MODE,
    MY,
    OPERATION,
    PRODUCT,
    SA,
    SB,
    SY,
    ZERO_A,
    ZERO_B,
    ZERO_Y,
    A,
    B,
    Y,
)
from .words.instruction import FLOAT, POWER_OF_TWO, SINGLE
from .words.kinds import S16, U8

MAGIC, MAGIC_BITS = 12582912.0, 0x4B400000
"""As in scales.py."""


@njit(error_model="numpy", inline="always")
def multiplied(x, multiplier, shift):
    """multiply_double of lanes by one multiplier and shift."""
    left, right = splat_i32(np.int32(max(shift, np.int64(0)))), splat_i32(np.int32(max(-shift, np.int64(0))))
    return multiply_double_rounded(x, splat_i32(np.int32(multiplier)), left, right)


@njit(error_model="numpy")
def _product_row(g, kind, a, a_step, b, b_step, y, n):
    """n elements of a kind at addresses a, b, y; a_step, b_step: bytes from one vector to the next, 0 to stay."""
    zero_a, zero_b = splat_i32(np.int32(g[ZERO_A])), splat_i32(np.int32(g[ZERO_B]))
    zero_y = splat_i32(np.int32(g[ZERO_Y]))
    bottom, top = g[LO] - g[ZERO_Y], g[HI] - g[ZERO_Y]
    scale, low, high = splat_f32(float_of_bits(g[MY])), splat_f32(np.float32(bottom)), splat_f32(np.float32(top))
    least, most, even = splat_i32(np.int32(bottom)), splat_i32(np.int32(top)), g[MODE] == FLOAT
    step = L if kind == U8 else 2 * L
    while n > 0:
        once()
        p = mul_i32(sub_i32(integers(a, kind), zero_a), sub_i32(integers(b, kind), zero_b))
        if even:
            v = add_f32(clamp_f32(mul_f32(to_f32(p), scale), low, high), splat_f32(np.float32(MAGIC)))
            q = sub_i32(as_i32(v), splat_i32(np.int32(MAGIC_BITS)))
        else:
            q = clamp_i32(multiplied(p, g[MY], g[SY]), least, most)
        put(y, add_i32(q, zero_y), kind, n, n)
        a, b, y, n = a + a_step, b + b_step, y + step, n - L


@njit(error_model="numpy")
def _sum_row(g, a, a_step, b, b_step, y, n):
    """The same of int16 sums and differences; MB's sign is SUB's."""
    zero_a, zero_b = splat_i32(np.int32(g[ZERO_A])), splat_i32(np.int32(g[ZERO_B]))
    zero_y = splat_i32(np.int32(g[ZERO_Y]))
    least, most = splat_i32(np.int32(g[LO] - g[ZERO_Y])), splat_i32(np.int32(g[HI] - g[ZERO_Y]))
    up, ma, mb = splat_i32(np.int32(np.int64(1) << g[LEFT])), splat_i32(np.int32(g[MA])), splat_i32(np.int32(g[MB]))
    while n > 0:
        once()
        p = mul_i32(sub_i32(integers(a, np.int64(S16)), zero_a), up)
        q = mul_i32(sub_i32(integers(b, np.int64(S16)), zero_b), up)
        if g[MODE] == SINGLE:
            total = add_i32(multiply_single(p, ma, np.int32(31 - g[SA])), multiply_single(q, mb, np.int32(31 - g[SB])))
        else:
            p, q = multiplied(p, g[MA], g[SA]), multiplied(q, abs(g[MB]), g[SB])
            total = add_i32(p, q) if g[MB] >= 0 else sub_i32(p, q)
        total = clamp_i32(multiplied(total, g[MY], g[SY]), least, most)
        put(y, add_i32(total, zero_y), np.int64(S16), n, n)
        a, b, y, n = a + a_step, b + b_step, y + 2 * L, n - L


@njit(error_model="numpy")
def _shifted_row(g, a, a_step, b, b_step, y, n):
    """int16 whose scales are powers of two: one input loses bits."""
    for i in range(n):
        once()
        p, q = np.int64(i16(a)[i * a_step]), np.int64(i16(b)[i * b_step])
        total = rounding_shift_right(p, g[SA]) + g[MB] * rounding_shift_right(q, g[SB])
        i16(y)[i] = np.int16(clamp(total, g[LO], g[HI]))


@njit(error_model="numpy")
def _row(g, scratch, kind, oa, ob, oy, n):
    size = np.int64(1) if kind == U8 else np.int64(2)
    a, b, y, pitch = g[A] + size * oa, g[B] + size * ob, g[Y] + size * oy, size * L
    if g[MODE] == POWER_OF_TWO:
        _shifted_row(g, a, g[A_STEP], b, g[B_STEP], y, n)
        return
    if not g[A_STEP]:
        a = spread(a, kind, scratch)
    if not g[B_STEP]:
        b = spread(b, kind, scratch + 4 * L)
    if kind == U8 or g[OPERATION] == PRODUCT:
        _product_row(g, kind, a, pitch * g[A_STEP], b, pitch * g[B_STEP], y, n)
    else:
        _sum_row(g, a, pitch * g[A_STEP], b, pitch * g[B_STEP], y, n)


@njit(error_model="numpy")
def _rows(g, scratch, kind, lo, hi):
    if g[FLAT]:
        _row(g, scratch, kind, lo * g[A_STEP], lo * g[B_STEP], lo, hi - lo)
        return
    for unit in range(lo, hi):
        oa, ob, oy = offsets(g, unit)
        _row(g, scratch, kind, oa, ob, oy, g[INNER])


@njit(error_model="numpy")
def mul_u8(g, scratch, lo, hi):
    """8-bit product."""
    _rows(g, scratch, np.int64(U8), lo, hi)


@njit(error_model="numpy")
def binary_s16(g, scratch, lo, hi):
    """16-bit sum, difference or product, double rounding."""
    _rows(g, scratch, np.int64(S16), lo, hi)
