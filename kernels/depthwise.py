"""Depthwise convolution: one filter a channel, vectors of channels, the input already padded.

The weights lie [tap][channel], channels padded to whole vectors; the plan repeats input channels where the multiplier is above
one, so that output channel c always reads input channel c.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from .conv import requantize_s16
from .memory import i16, i32, i64
from .simd import (
    L,
    add_i32,
    clamp_f32,
    clamp_i32,
    fma,
    load_f32,
    load_i16_as_i32,
    load_i32,
    load_u8_as_i32,
    mul_i32,
    multiply_double_rounded,
    scale_to_i32,
    splat_f32,
    splat_i32,
    store,
    store_f32_some,
    store_u8,
    store_u8_some,
)
from .words.depthwise import (
    BIAS,
    COLUMN,
    FAMILY,
    HI,
    IMAGE,
    LEFT,
    LO,
    MULTIPLIER,
    N_TAPS,
    OUT_HW,
    OUT_W,
    PADDED_N,
    RIGHT,
    ROW,
    TAPS,
    Y_PITCH,
    ZERO_POINT,
    N,
    W,
    X,
    Y,
)
from .words.instruction import FLOAT


@njit(error_model="numpy", inline="always")
def address(g, pixel):
    """Where the window of an output pixel begins."""
    image = pixel // g[OUT_HW]
    rest = pixel - image * g[OUT_HW]
    line = rest // g[OUT_W]
    return g[X] + image * g[IMAGE] + line * g[ROW] + (rest - line * g[OUT_W]) * g[COLUMN]


@njit(error_model="numpy")
def depthwise_u8(g, scratch, lo, hi):
    """Activations u8, weights int32 (already less their zero point)."""
    taps, n_taps, pitch = i64(g[TAPS]), g[N_TAPS], g[PADDED_N] * 4
    zero_point = splat_i32(np.int32(g[ZERO_POINT]))
    lo_f, hi_f = splat_f32(np.float32(g[LO] - g[ZERO_POINT])), splat_f32(np.float32(g[HI] - g[ZERO_POINT]))
    lo_i, hi_i = splat_i32(np.int32(g[LO])), splat_i32(np.int32(g[HI]))
    as_float = g[FAMILY] == FLOAT
    for pixel in range(lo, hi):
        x = address(g, pixel)
        y = g[Y] + pixel * g[Y_PITCH]
        for n in range(0, g[N], L):
            acc = load_i32(g[BIAS] + n * 4)
            w = g[W] + n * 4
            for t in range(n_taps):
                acc = add_i32(acc, mul_i32(load_u8_as_i32(x + taps[t] + n), load_i32(w)))
                w += pitch
            if as_float:
                q = add_i32(scale_to_i32(acc, load_f32(g[MULTIPLIER] + n * 4), lo_f, hi_f), zero_point)
            else:
                q = multiply_double_rounded(
                    acc, load_i32(g[MULTIPLIER] + n * 4), load_i32(g[LEFT] + n * 4), load_i32(g[RIGHT] + n * 4)
                )
                q = clamp_i32(add_i32(q, zero_point), lo_i, hi_i)
            left = g[N] - n
            if left >= L:
                store_u8(y + n, q)
            else:
                store_u8_some(y + n, q, left)


@njit(error_model="numpy")
def depthwise_f32(g, scratch, lo, hi):
    """float32: fused multiply-adds, clamped."""
    taps, n_taps, pitch = i64(g[TAPS]), g[N_TAPS], g[PADDED_N] * 4
    low, high = load_f32(g[MULTIPLIER]), load_f32(g[MULTIPLIER] + 4 * L)
    for pixel in range(lo, hi):
        x = address(g, pixel)
        y = g[Y] + pixel * g[Y_PITCH]
        for n in range(0, g[N], L):
            acc = load_f32(g[BIAS] + n * 4)
            w = g[W] + n * 4
            for t in range(n_taps):
                acc = fma(acc, load_f32(x + taps[t] + n * 4), load_f32(w))
                w += pitch
            v = clamp_f32(acc, low, high)
            left = g[N] - n
            if left >= L:
                store(y + n * 4, v)
            else:
                store_f32_some(y + n * 4, v, left)


@njit(error_model="numpy")
def depthwise_s16(g, scratch, lo, hi):
    """Activations int16, weights int8 held as int32; the plan allows at most 511 taps, whose products fit int32."""
    taps, n_taps, pitch = i64(g[TAPS]), g[N_TAPS], g[PADDED_N] * 4
    bias, lanes = i64(g[BIAS]), i32(scratch)
    for pixel in range(lo, hi):
        x = address(g, pixel)
        y = i16(g[Y] + pixel * g[Y_PITCH])
        for n in range(0, g[N], L):
            acc = splat_i32(np.int32(0))
            w = g[W] + n * 4
            for t in range(n_taps):
                acc = add_i32(acc, mul_i32(load_i16_as_i32(x + taps[t] + n * 2), load_i32(w)))
                w += pitch
            store(scratch, acc)
            for j in range(min(g[N] - n, np.int64(L))):
                total = np.int64(lanes[j]) + bias[n + j]
                q = requantize_s16(g, total, n + j)
                y[n + j] = np.int16(q)
