"""SOFTMAX along the last axis; units are rows.

u8: exp of an 8-bit difference takes 256 values, which the plan computes in gemmlowp's fixed point; what is left at run time is
a sum, one reciprocal and a product each. s16: two 513-entry tables with interpolation. Sources: TFLite reference softmax.h.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from .curves import exp_below, most_lanes, sum_lanes
from .fixedpoint import clamp, doubling_high_multiply, multiply_double, rounding_shift_right
from .memory import f32, float_of_bits, i16, i32, u8
from .simd import (
    L,
    add_f32,
    first_lanes,
    load_f32,
    max_f32,
    mul_f32,
    splat_f32,
    store,
    store_f32_some,
    sub_f32,
    zero_f32,
)
from .words.softmax import BETA, FLOAT_TABLE, MODE, MULTIPLIER, SHIFT, TABLE, TABLE2, N, X, Y


@njit(error_model="numpy", inline="always")
def bits(x):
    """Bits that x > 0 needs."""
    n = np.int64(0)
    while x > 0:
        x >>= 1
        n += 1
    return n


@njit(error_model="numpy")
def reciprocal(a):
    """gemmlowp one_over_one_plus_x_for_x_in_0_1, Q0.31: three Newton–Raphson steps."""
    half = (a + np.int64(2147483648)) >> 1
    x = np.int64(1515870810) + doubling_high_multiply(half, np.int64(-1010580540))
    for _ in range(3):
        step = doubling_high_multiply(x, np.int64(536870912) - doubling_high_multiply(half, x))
        x = x + clamp(step << 2, np.int64(-2147483648), np.int64(2147483647))
    return clamp(x << 1, np.int64(-2147483648), np.int64(2147483647))


@njit(error_model="numpy")
def softmax_u8(g, scratch, lo, hi):
    """8-bit: TABLE[255 + difference] is exp in Q0.31 (FIXED) or float32 (FLOAT_TABLE)."""
    n = g[N]
    for row in range(lo, hi):
        x, y = u8(g[X] + row * n), u8(g[Y] + row * n)
        top = np.int64(0)
        for i in range(n):
            top = max(top, np.int64(x[i]))
        if g[MODE] == FLOAT_TABLE:
            table = f32(g[TABLE] + 4 * (255 - top))
            total = np.float32(0)
            for i in range(n):
                total += table[np.int64(x[i])]
            inverse = np.float32(np.float32(1) / np.float32(total * float_of_bits(g[BETA])))
            for i in range(n):
                p = np.float32(table[np.int64(x[i])] * inverse)
                y[i] = np.uint8(clamp(np.int64(np.floor(np.float64(p) + 0.5)), np.int64(0), np.int64(255)))
        else:
            exps = i32(g[TABLE] + 4 * (255 - top))
            total_q = np.int64(0)
            for i in range(n):
                total_q += rounding_shift_right(np.int64(exps[np.int64(x[i])]), np.int64(12))
            headroom = max(32 - bits(total_q), np.int64(0))
            inverse_q = reciprocal((total_q << headroom) - np.int64(2147483648))
            shift = 12 - headroom + 31 - 8
            for i in range(n):
                q = doubling_high_multiply(inverse_q, np.int64(exps[np.int64(x[i])]))
                y[i] = np.uint8(clamp(rounding_shift_right(q, shift), np.int64(0), np.int64(255)))


@njit(error_model="numpy", inline="always")
def look_up(x, table):
    """The upper 9 bits of an int16 choose the entry, the lower 7 interpolate, half up."""
    index = 256 + (x >> 7)
    base = np.int64(table[index])
    return base + (((np.int64(table[index + 1]) - base) * (x & 127) + 64) >> 7)


@njit(error_model="numpy")
def softmax_s16(g, scratch, lo, hi):
    """16-bit: output in Q0.15."""
    n = g[N]
    exps, inverses = i16(g[TABLE]), i16(g[TABLE2])
    for row in range(lo, hi):
        x, y = i16(g[X] + 2 * row * n), i16(g[Y] + 2 * row * n)
        top = np.int64(-32768)
        for i in range(n):
            top = max(top, np.int64(x[i]))
        total = np.int64(0)
        for i in range(n):
            d = multiply_double(np.int64(x[i]) - top, g[MULTIPLIER], g[SHIFT]) + 32767
            e = look_up(clamp(d, np.int64(-32768), np.int64(32767)), exps)
            y[i] = np.int16(e)
            total += e
        headroom = 32 - bits(total)
        shifted = ((total << (headroom - 1)) + 8192) >> 14
        inverse = look_up(clamp(shifted - 98304, np.int64(-32768), np.int64(32767)), inverses)
        shift = 31 - headroom
        for i in range(n):
            q = (np.int64(y[i]) * inverse + (np.int64(1) << (shift - 1))) >> shift
            y[i] = np.int16(clamp(q, np.int64(0), np.int64(32767)))


@njit(error_model="numpy")
def greatest(x, n):
    """The greatest of n floats at address x; reads past the end."""
    top = splat_f32(f32(x)[0])
    whole = n // L * L
    for i in range(0, whole, L):
        top = max_f32(top, load_f32(x + 4 * i))
    if whole < n:
        top = max_f32(top, first_lanes(load_f32(x + 4 * whole), n - whole, top))
    return most_lanes(top)


@njit(error_model="numpy")
def exponentials(x, y, n, top, beta):
    """e^(β(x − top)) of n floats at address x, none above top, to address y, and their sum; reads past the end."""
    most, by, sums = splat_f32(top), splat_f32(beta), zero_f32()
    whole = n // L * L
    for i in range(0, whole, L):
        e = exp_below(mul_f32(sub_f32(load_f32(x + 4 * i), most), by))
        store(y + 4 * i, e)
        sums = add_f32(sums, e)
    if whole < n:
        e = exp_below(mul_f32(sub_f32(load_f32(x + 4 * whole), most), by))
        store_f32_some(y + 4 * whole, e, n - whole)
        sums = add_f32(sums, first_lanes(e, n - whole, zero_f32()))
    return sum_lanes(sums)


@njit(error_model="numpy")
def softmax_f32(g, scratch, lo, hi):
    """float32."""
    n, beta = g[N], float_of_bits(g[BETA])
    for row in range(lo, hi):
        x, y = g[X] + 4 * row * n, g[Y] + 4 * row * n
        total = exponentials(x, y, n, greatest(x, n), beta)
        inverse = splat_f32(np.float32(np.float32(1) / total))
        whole = n // L * L
        for i in range(0, whole, L):
            store(y + 4 * i, mul_f32(load_f32(y + 4 * i), inverse))
        store_f32_some(y + 4 * whole, mul_f32(load_f32(y + 4 * whole), inverse), n - whole)
