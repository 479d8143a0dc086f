"""From one scale to another, a vector of elements at a time: tables of bytes, QUANTIZE, DEQUANTIZE. Units are elements."""

from __future__ import annotations

import numpy as np
from numba import njit

from .fixedpoint import clamp, multiply_half_up
from .memory import f32, float_of_bits, i16, i32, u8
from .simd import (
    LOOKS_UP,
    L,
    add_f32,
    add_i32,
    as_i32,
    clamp_f32,
    clamp_i32,
    div_f32,
    in_rows,
    load_f32,
    load_i16_as_i32,
    load_i32,
    load_quad,
    load_table,
    load_u8_as_i32,
    looked_up,
    mul_f32,
    multiply_double_rounded,
    once,
    pack_u8,
    splat_f32,
    splat_i32,
    store,
    store_f32_some,
    store_i16,
    store_i16_some,
    store_quad_some,
    store_u8,
    store_u8_some,
    sub_f32,
    sub_i32,
    to_f32,
    truncated,
    turned,
    where_greater,
    zero_f32,
    zero_i32,
)
from .words.instruction import DOUBLE, FLOAT
from .words.unary import (
    FROM,
    HI,
    LO,
    M_DOWN,
    M_UP,
    MODE,
    S_DOWN,
    S_UP,
    SCALE,
    TABLE,
    TO,
    ZERO_X,
    ZERO_Y,
    X,
    Y,
)

MAGIC, MAGIC_BITS = 12582912.0, 0x4B400000
"""1.5 · 2^23: added to a float32 within ±2^22, it rounds to even, and what the bits are above its own is the integer."""

BELOW_HALF = 0.49999997
"""The greatest float32 below 0.5."""


@njit(error_model="numpy")
def table_u8(g, scratch, lo, hi):
    """y = TABLE[x], 256 entries: every 8-bit function of one 8-bit value."""
    if LOOKS_UP:
        table, x, y = load_table(g[TABLE]), g[X], g[Y]
        for i in range(lo, hi, 4 * L):
            once()
            v = looked_up(table, load_quad(x + i))
            if hi - i >= 4 * L:
                store(y + i, v)
            else:
                store_quad_some(y + i, v, hi - i)
    else:
        bytes_x, bytes_y, bytes_table = u8(g[X]), u8(g[Y]), u8(g[TABLE])
        for i in range(lo, hi):
            once()
            bytes_y[i] = bytes_table[bytes_x[i]]


@njit(error_model="numpy", inline="always")
def loaded(address, kind, i):
    """L integers from number i on: of kind 0 u8, 1 s16, 2 s32."""
    if kind == 0:
        return load_u8_as_i32(address + i)
    if kind == 1:
        return load_i16_as_i32(address + 2 * i)
    return load_i32(address + 4 * i)


@njit(error_model="numpy", inline="always")
def put(address, kind, i, q, count):
    """Lanes to numbers i … of kind 0 u8 or 1 s16: all or the first `count`."""
    if kind == 0 and count >= L:
        store_u8(address + i, q)
    elif kind == 0:
        store_u8_some(address + i, q, count)
    elif count >= L:
        store_i16(address + 2 * i, q)
    else:
        store_i16_some(address + 2 * i, q, count)


@njit(error_model="numpy", inline="always")
def either(x, up, down):
    """`up` in lanes that are not negative, else `down`."""
    return where_greater(zero_i32(), x, splat_i32(np.int32(down)), splat_i32(np.int32(up)))


@njit(error_model="numpy")
def rescale(g, scratch, lo, hi):
    """Integers of one scale to integers of another, double rounding, with a factor of its own below the zero point."""
    none, zero, kind, to = np.int64(0), splat_i32(np.int32(g[ZERO_X])), g[FROM], g[TO]
    if g[MODE] == DOUBLE:
        low, high = splat_i32(np.int32(g[LO] - g[ZERO_Y])), splat_i32(np.int32(g[HI] - g[ZERO_Y]))
        for i in range(lo, hi, L):
            once()
            x = sub_i32(loaded(g[X], kind, i), zero)
            left, right = (
                either(x, max(g[S_UP], none), max(g[S_DOWN], none)),
                either(x, max(-g[S_UP], none), max(-g[S_DOWN], none)),
            )
            q = clamp_i32(multiply_double_rounded(x, either(x, g[M_UP], g[M_DOWN]), left, right), low, high)
            put(g[Y], to, i, add_i32(q, splat_i32(np.int32(g[ZERO_Y]))), hi - i)
        return
    for i in range(lo, hi):
        once()
        v = np.int64(u8(g[X])[i]) if kind == 0 else np.int64(i16(g[X])[i]) if kind == 1 else np.int64(i32(g[X])[i])
        w = clamp(multiply_half_up(v - g[ZERO_X], g[M_UP], g[S_UP]) + g[ZERO_Y], g[LO], g[HI])
        if to == 0:
            u8(g[Y])[i] = np.uint8(w)
        else:
            i16(g[Y])[i] = np.int16(w)


@njit(error_model="numpy", inline="always")
def rounded_away(v):
    """float32 lanes within ±2^22 to int32, halves away from zero."""
    size = where_greater(zero_f32(), v, turned(v, np.int32(-2147483648)), v)
    whole = truncated(size)
    over = sub_f32(size, to_f32(whole))
    q = where_greater(over, splat_f32(np.float32(BELOW_HALF)), add_i32(whole, splat_i32(np.int32(1))), whole)
    return where_greater(zero_f32(), v, sub_i32(zero_i32(), q), q)


@njit(error_model="numpy", inline="always")
def coded(address, scale, low, high, zero, even):
    """L float32 as integers: products by the scale, ties to even, or quotients, ties away from zero."""
    if even:
        v = add_f32(clamp_f32(mul_f32(load_f32(address), scale), low, high), splat_f32(np.float32(MAGIC)))
        return add_i32(as_i32(v), zero)
    return add_i32(rounded_away(clamp_f32(div_f32(load_f32(address), scale), low, high)), zero)


@njit(error_model="numpy")
def quantize_f32(g, scratch, lo, hi):
    """float32 to 8 or 16 bits: x / scale, ties away from zero (in float64 for FLOAT64); x · SCALE, ties to even, for FLOAT.

    The bounds are whole numbers: what is beyond them may as well be cut off before it is rounded.
    """
    low, high = np.float32(g[LO] - g[ZERO_Y]), np.float32(g[HI] - g[ZERO_Y])
    even, by, x = g[MODE] == FLOAT, float_of_bits(g[SCALE]), g[X]
    if even or g[MODE] == DOUBLE:
        zero = splat_i32(np.int32(g[ZERO_Y] - MAGIC_BITS if even else g[ZERO_Y]))
        scale, least, most = splat_f32(by), splat_f32(low), splat_f32(high)
        if g[TO] == 0:
            for i in range(lo, hi, 4 * L):
                once()
                at = x + 4 * i
                a, b = coded(at, scale, least, most, zero, even), coded(at + 4 * L, scale, least, most, zero, even)
                at += 8 * L
                c, d = coded(at, scale, least, most, zero, even), coded(at + 4 * L, scale, least, most, zero, even)
                q = in_rows(pack_u8(a, b, c, d))
                if hi - i >= 4 * L:
                    store(g[Y] + i, q)
                else:
                    store_quad_some(g[Y] + i, q, hi - i)
        else:
            for i in range(lo, hi, L):
                once()
                put(g[Y], np.int64(1), i, coded(x + 4 * i, scale, least, most, zero, even), hi - i)
        return
    for i in range(lo, hi):
        once()
        wide = np.float64(f32(x)[i]) / np.float64(by)
        r = np.float32(np.trunc(wide + np.copysign(0.5, wide)))
        q = np.int64(min(max(r, low), high)) + g[ZERO_Y]
        if g[TO] == 0:
            u8(g[Y])[i] = np.uint8(q)
        else:
            i16(g[Y])[i] = np.int16(q)


@njit(error_model="numpy")
def dequantize_f32(g, scratch, lo, hi):
    """8 or 16 bits to float32: scale · (q − zero point), one float32 product."""
    x, y, kind, scale, zero = g[X], g[Y], g[FROM], splat_f32(float_of_bits(g[SCALE])), splat_i32(np.int32(g[ZERO_X]))
    for i in range(lo, hi, L):
        once()
        v = mul_f32(to_f32(sub_i32(loaded(x, kind, i), zero)), scale)
        if hi - i >= L:
            store(y + 4 * i, v)
        else:
            store_f32_some(y + 4 * i, v, hi - i)
