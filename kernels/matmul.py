"""Matrices multiplied that are both computed: BATCH_MATMUL, FULLY_CONNECTED with computed weights, hybrid products.

x (…, M, K) · w (…, K, N), row by row: units are rows of the output, (batch, M). A row's sums stay in scratch, COLUMNS at a time;
the inner loop runs along a row of w, so that it becomes vectors. Rows of the output lie PITCH elements apart.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from .fixedpoint import clamp, multiply_double, multiply_half_up
from .memory import f32, float_of_bits, i16, i32, i64, u8
from .words.instruction import DOUBLE, REDUCED
from .words.matmul import (
    BIAS,
    FAMILY,
    HI,
    HYBRID,
    LO,
    MULTIPLIER,
    PITCH,
    RANGE,
    SCALES,
    SHIFT,
    SUMS,
    W_STEP,
    WIDE,
    X_STEP,
    ZERO_W,
    ZERO_X,
    ZERO_Y,
    K,
    M,
    N,
    W,
    X,
    Y,
)

COLUMNS = 1024


@njit(error_model="numpy")
def matmul_f32(g, scratch, lo, hi):
    """float32, from 0 along K; then the bias, if there is one; clamped."""
    sums, n, k = f32(scratch), g[N], g[K]
    low, high = float_of_bits(g[LO]), float_of_bits(g[HI])
    for unit in range(lo, hi):
        batch = unit // g[M]
        x = f32(g[X] + 4 * (batch * g[X_STEP] + (unit - batch * g[M]) * k))
        for first in range(0, n, COLUMNS):
            count = min(n - first, np.int64(COLUMNS))
            for j in range(count):
                sums[j] = np.float32(0)
            for i in range(k):
                a, w = x[i], f32(g[W] + 4 * (batch * g[W_STEP] + i * n + first))
                for j in range(count):
                    sums[j] += a * w[j]
            y = f32(g[Y] + 4 * (unit * g[PITCH] + first))
            if g[BIAS]:
                bias = f32(g[BIAS] + 4 * first)
                for j in range(count):
                    y[j] = min(max(np.float32(sums[j] + bias[j]), low), high)
            else:
                for j in range(count):
                    y[j] = min(max(sums[j], low), high)


@njit(error_model="numpy")
def requantized(g, total):
    """A sum in the output's numbers."""
    if g[FAMILY] == REDUCED:
        q = (total * g[MULTIPLIER] + (np.int64(1) << (g[SHIFT] - 1))) >> g[SHIFT]
    elif g[FAMILY] == DOUBLE:
        q = multiply_double(total, g[MULTIPLIER], g[SHIFT])
    else:
        q = multiply_half_up(total, g[MULTIPLIER], g[SHIFT])
    return clamp(q + g[ZERO_Y], g[LO], g[HI])


@njit(error_model="numpy")
def sums_u8(g, sums, x, w, count):
    """int32 sums of a row of K bytes times `count` columns from address w."""
    n, zx, zw = g[N], np.int32(g[ZERO_X]), np.int32(g[ZERO_W])
    for j in range(count):
        sums[j] = np.int32(0)
    for i in range(g[K]):
        a, row = np.int32(np.int32(u8(x)[i]) - zx), u8(w + i * n)
        for j in range(count):
            sums[j] += np.int32(a * np.int32(np.int32(row[j]) - zw))


@njit(error_model="numpy")
def matmul_u8(g, scratch, lo, hi):
    """8 bits times 8 bits: to 8 bits, or (HYBRID) to float32 by the row's and the column's scale."""
    sums, n, k = i32(scratch), g[N], g[K]
    low, high = float_of_bits(g[LO]), float_of_bits(g[HI])
    for unit in range(lo, hi):
        batch = unit // g[M]
        x = g[X] + batch * g[X_STEP] + (unit - batch * g[M]) * k
        for first in range(0, n, COLUMNS):
            count = min(n - first, np.int64(COLUMNS))
            sums_u8(g, sums, x, g[W] + batch * g[W_STEP] + first, count)
            if g[FAMILY] == HYBRID:
                scale, zero = f32(g[RANGE] + 8 * unit)[0], i32(g[RANGE] + 8 * unit)[1]
                y = f32(g[Y] + 4 * (unit * g[PITCH] + first))
                scales, columns = f32(g[SCALES] + 4 * first), i32(g[SUMS] + 4 * (batch * (g[W_STEP] != 0) * n + first))
                for j in range(count):
                    v = np.float32(np.float32(sums[j] - zero * columns[j]) * np.float32(scale * scales[j]))
                    if g[BIAS]:
                        v = np.float32(v + f32(g[BIAS])[first + j])
                    y[j] = min(max(v, low), high)
                continue
            at = unit * g[PITCH] + first
            for j in range(count):
                total = sums[j]
                if g[BIAS]:
                    total += i32(g[BIAS])[first + j]
                q = requantized(g, np.int64(total))
                if g[WIDE]:
                    i16(g[Y])[at + j] = np.int16(q)
                else:
                    u8(g[Y])[at + j] = np.uint8(q)


@njit(error_model="numpy")
def matmul_s16(g, scratch, lo, hi):
    """16 bits times 16 bits, sums in int64."""
    sums, n, k = i64(scratch), g[N], g[K]
    for unit in range(lo, hi):
        batch = unit // g[M]
        x = i16(g[X] + 2 * (batch * g[X_STEP] + (unit - batch * g[M]) * k))
        for first in range(0, n, COLUMNS):
            count = min(n - first, np.int64(COLUMNS))
            for j in range(count):
                sums[j] = np.int64(0)
            for i in range(k):
                a, w = np.int64(x[i]), i16(g[W] + 2 * (batch * g[W_STEP] + i * n + first))
                for j in range(count):
                    sums[j] += a * np.int64(w[j])
            y = i16(g[Y] + 2 * (unit * g[PITCH] + first))
            for j in range(count):
                y[j] = np.int16(requantized(g, sums[j]))
