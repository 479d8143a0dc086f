"""Sums in memory to int8 or int16, in every rounding family; tiles that requantize in registers are kernels/tile.py's."""

from __future__ import annotations

import numpy as np
from numba import njit

from .fixedpoint import clamp, multiply_double, multiply_half_up, round_half_away
from .memory import f64, i32, i64
from .memory import i16 as _i16
from .simd import (
    L,
    add_i32,
    clamp_i32,
    load_f32,
    load_i32,
    mul_i32,
    multiply_double_rounded,
    scale_to_i32,
    splat_f32,
    splat_i32,
    store_u8,
    store_u8_some,
)
from .words.conv import BIAS, FAMILY, HI, LEFT, LO, MULTIPLIER, RIGHT, SUM_WEIGHT, Y_PITCH, ZERO_POINT, N, Y
from .words.instruction import FLOAT, FLOAT64, HALF_UP, REDUCED


@njit(error_model="numpy")
def finish_u8(g, acc, count, nv, first, n0, sums):
    """Bias, requantize and store `count` rows of a tile, output channels n0 … n0 + nv·L − 1 as far as there are any."""
    zero_point = splat_i32(np.int32(g[ZERO_POINT]))
    for j in range(nv):
        n = n0 + j * L
        left = g[N] - n
        if left <= 0:
            break
        bias = load_i32(g[BIAS] + n * 4)
        y = g[Y] + first * g[Y_PITCH] + n
        if g[FAMILY] == FLOAT:
            scale = load_f32(g[MULTIPLIER] + n * 4)
            lo = splat_f32(np.float32(g[LO] - g[ZERO_POINT]))
            hi = splat_f32(np.float32(g[HI] - g[ZERO_POINT]))
            for i in range(count):
                v = add_i32(load_i32(acc + (i * nv + j) * L * 4), bias)
                if sums:
                    s = load_i32(acc + (count * nv + i) * L * 4)
                    v = add_i32(v, mul_i32(s, splat_i32(np.int32(g[SUM_WEIGHT]))))
                q = add_i32(scale_to_i32(v, scale, lo, hi), zero_point)
                if left >= L:
                    store_u8(y, q)
                else:
                    store_u8_some(y, q, left)
                y += g[Y_PITCH]
        else:
            multiplier = load_i32(g[MULTIPLIER] + n * 4)
            shl = load_i32(g[LEFT] + n * 4)
            shr = load_i32(g[RIGHT] + n * 4)
            lo_i = splat_i32(np.int32(g[LO]))
            hi_i = splat_i32(np.int32(g[HI]))
            for i in range(count):
                v = add_i32(load_i32(acc + (i * nv + j) * L * 4), bias)
                if sums:
                    s = load_i32(acc + (count * nv + i) * L * 4)
                    v = add_i32(v, mul_i32(s, splat_i32(np.int32(g[SUM_WEIGHT]))))
                q = clamp_i32(add_i32(multiply_double_rounded(v, multiplier, shl, shr), zero_point), lo_i, hi_i)
                if left >= L:
                    store_u8(y, q)
                else:
                    store_u8_some(y, q, left)
                y += g[Y_PITCH]


@njit(error_model="numpy", inline="always")
def requantize_s16(g, total, n):
    """A sum of channel n to int16, in the family that FAMILY names; RIGHT holds 15 − s for REDUCED, else the shift s."""
    if g[FAMILY] == FLOAT64:
        q = round_half_away(np.float64(total) * f64(g[MULTIPLIER])[n])
    else:
        multiplier, shift = np.int64(i32(g[MULTIPLIER])[n]), np.int64(i32(g[RIGHT])[n])
        if g[FAMILY] == REDUCED:
            q = (total * multiplier + (np.int64(1) << (shift - 1))) >> shift
        elif g[FAMILY] == HALF_UP:
            q = multiply_half_up(total, multiplier, shift)
        else:
            q = multiply_double(total, multiplier, shift)
    return clamp(q, g[LO], g[HI])


@njit(error_model="numpy")
def finish_s16(g, sums, target, first, count):
    """Bias, requantize and store `count` int64 sums, those of channels first … first + count − 1, to address `target`."""
    y, bias = _i16(target), i64(g[BIAS] + first * 8)
    if g[FAMILY] != REDUCED:
        for n in range(count):
            y[n] = np.int16(requantize_s16(g, sums[n] + bias[n], first + n))
        return
    multiplier, shift = i32(g[MULTIPLIER] + first * 4), i32(g[RIGHT] + first * 4)
    lo, hi = g[LO], g[HI]
    for n in range(count):
        by = np.int64(shift[n])
        q = ((sums[n] + bias[n]) * np.int64(multiplier[n]) + (np.int64(1) << (by - 1))) >> by
        y[n] = np.int16(clamp(q, lo, hi))
