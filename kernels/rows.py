"""Rows normalized: L2_NORMALIZATION, LOG_SOFTMAX, LOCAL_RESPONSE_NORMALIZATION. Units are rows of N elements."""

from __future__ import annotations

import numpy as np
from numba import njit

from .fixedpoint import clamp, inverse_root, multiply_double
from .memory import f32, float_of_bits, u8
from .softmax import exponentials, greatest
from .transcendental import log_f64, power_f64, root
from .words.rows import (
    ALPHA,
    BEHIND,
    BETA,
    BIAS,
    FOLDED,
    L2_NORMALIZE,
    LOG_SOFTMAX,
    OPERATION,
    RADIUS,
    SCALE,
    TABLE,
    ZERO_X,
    ZERO_Y,
    N,
    X,
    Y,
)


@njit(error_model="numpy")
def row_f32(g, scratch, lo, hi):
    """float32: x / √Σx² (at least 1e-6), x − max − log Σ exp(x − max), or x / (bias + alpha · Σ of neighbours' x²)^beta."""
    n, alpha, beta, bias = g[N], float_of_bits(g[ALPHA]), float_of_bits(g[BETA]), float_of_bits(g[BIAS])
    for row in range(lo, hi):
        x, y = f32(g[X] + 4 * row * n), f32(g[Y] + 4 * row * n)
        total = np.float32(0)
        if g[OPERATION] == L2_NORMALIZE:
            for i in range(n):
                total += np.float32(x[i] * x[i])
            norm = max(root(total), np.float32(1e-6))
            for i in range(n):
                y[i] = np.float32(x[i] / norm)
        elif g[OPERATION] == LOG_SOFTMAX:
            top = greatest(g[X] + 4 * row * n, n)
            total = exponentials(g[X] + 4 * row * n, g[Y] + 4 * row * n, n, top, np.float32(1))
            log = np.float32(log_f64(np.float64(total)))
            for i in range(n):
                y[i] = np.float32(np.float32(x[i] - top) - log)
        else:
            for i in range(n):
                total = np.float32(0)
                for j in range(max(i - g[RADIUS], np.int64(0)), min(i + g[BEHIND] + 1, n)):
                    total += np.float32(x[j] * x[j])
                base = np.float32(bias + np.float32(alpha * total))
                y[i] = np.float32(x[i] * np.float32(power_f64(np.float64(base), -np.float64(beta))))


@njit(error_model="numpy")
def row_u8(g, scratch, lo, hi):
    """8 bits: x / √Σx² in 1/128; or LOG_SOFTMAX by a TABLE of exponentials (256 float32, of 0 down to −255 steps)."""
    n = g[N]
    for row in range(lo, hi):
        x, y = u8(g[X] + row * n), u8(g[Y] + row * n)
        if g[OPERATION] == L2_NORMALIZE:
            total = np.int64(0)
            for i in range(n):
                d = np.int64(x[i]) - g[ZERO_X]
                total += d * d
            inverse, shift = inverse_root(clamp(total, np.int64(0), np.int64(2147483647)))
            for i in range(n):
                q = multiply_double((np.int64(x[i]) - g[ZERO_X]) << (7 - g[FOLDED]), inverse, g[FOLDED] - shift)
                y[i] = np.uint8(clamp(q + 128, np.int64(0), np.int64(255)))
        else:
            top, sum_ = np.int64(0), np.float32(0)
            for i in range(n):
                top = max(top, np.int64(x[i]))
            for i in range(n):
                sum_ += f32(g[TABLE])[255 - top + np.int64(x[i])]
            log = np.float32(log_f64(np.float64(sum_)))
            scale = float_of_bits(g[SCALE])
            for i in range(n):
                v = np.float32(np.float32(scale * np.float32(np.int64(x[i]) - top)) - log)
                q = np.floor(np.float64(np.float32(v * np.float32(16))) + 0.5)
                y[i] = np.uint8(clamp(np.int64(q) + g[ZERO_Y], np.int64(0), np.int64(255)))
