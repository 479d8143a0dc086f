"""One array in, one out, element by element: tables, change of scale or type, float functions. Units are elements."""

from __future__ import annotations

import numpy as np
from numba import njit

from .fixedpoint import clamp, multiply_double, multiply_half_up
from .memory import f32, fill, float_of_bits, i16, i32, u8
from .transcendental import exp_f32, logistic_f32, tanh_f32
from .words.instruction import FLOAT, FLOAT64, HALF_UP
from .words.unary import (
    ALPHA,
    CLAMP,
    EXP,
    FROM,
    FUNCTION,
    HARD_SWISH,
    HI,
    LO,
    LOGISTIC,
    M_DOWN,
    M_UP,
    MODE,
    RANGE,
    S_DOWN,
    S_UP,
    SCALE,
    SYMMETRIC,
    TABLE,
    TANH,
    TO,
    ZERO_X,
    ZERO_Y,
    N,
    X,
    Y,
)


@njit(error_model="numpy")
def table_u8(g, scratch, lo, hi):
    """y = TABLE[x], 256 entries: every 8-bit function of one 8-bit value."""
    x, y, table = u8(g[X]), u8(g[Y]), u8(g[TABLE])
    for i in range(lo, hi):
        y[i] = table[x[i]]


@njit(error_model="numpy")
def rescale(g, scratch, lo, hi):
    """Integers of one scale to integers of another, double rounding, with a factor of its own below the zero point."""
    for i in range(lo, hi):
        if g[FROM] == 0:
            x = np.int64(u8(g[X])[i])
        elif g[FROM] == 1:
            x = np.int64(i16(g[X])[i])
        else:
            x = np.int64(i32(g[X])[i])
        x -= g[ZERO_X]
        if g[MODE] == HALF_UP:
            q = multiply_half_up(x, g[M_UP], g[S_UP])
        else:
            q = multiply_double(x, g[M_UP], g[S_UP]) if x >= 0 else multiply_double(x, g[M_DOWN], g[S_DOWN])
        q = clamp(q + g[ZERO_Y], g[LO], g[HI])
        if g[TO] == 0:
            u8(g[Y])[i] = np.uint8(q)
        else:
            i16(g[Y])[i] = np.int16(q)


@njit(error_model="numpy")
def quantize_f32(g, scratch, lo, hi):
    """float32 to 8 or 16 bits: x / scale, ties away from zero (in float64 for FLOAT64); x · SCALE, ties to even, for FLOAT."""
    x, scale = f32(g[X]), float_of_bits(g[SCALE])
    low, high = np.float32(g[LO] - g[ZERO_Y]), np.float32(g[HI] - g[ZERO_Y])
    for i in range(lo, hi):
        if g[MODE] == FLOAT:
            r = np.rint(np.float32(x[i] * scale))
        elif g[MODE] == FLOAT64:
            wide = np.float64(x[i]) / np.float64(scale)
            r = np.float32(np.trunc(wide + np.copysign(0.5, wide)))
        else:
            v = np.float32(x[i] / scale)
            whole = np.floor(abs(v))
            r = whole + np.float32(1) if np.float32(abs(v) - whole) >= np.float32(0.5) else whole
            r = r if v >= 0 else -r
        q = np.int64(min(max(r, low), high)) + g[ZERO_Y]
        if g[TO] == 0:
            u8(g[Y])[i] = np.uint8(q)
        else:
            i16(g[Y])[i] = np.int16(q)


@njit(error_model="numpy")
def dequantize_f32(g, scratch, lo, hi):
    """8 or 16 bits to float32: scale · (q − zero point), one float32 product."""
    y, scale = f32(g[Y]), float_of_bits(g[SCALE])
    for i in range(lo, hi):
        q = (np.int64(u8(g[X])[i]) if g[FROM] == 0 else np.int64(i16(g[X])[i])) - g[ZERO_X]
        y[i] = np.float32(np.float32(q) * scale)


@njit(error_model="numpy")
def unary_f32(g, scratch, lo, hi):
    """float32 functions; CLAMP is RELU and its kind."""
    x, y = f32(g[X]), f32(g[Y])
    low, high, alpha = float_of_bits(g[LO]), float_of_bits(g[HI]), float_of_bits(g[ALPHA])
    if g[FUNCTION] == CLAMP:
        for i in range(lo, hi):
            y[i] = min(max(x[i], low), high)
    elif g[FUNCTION] == LOGISTIC:
        for i in range(lo, hi):
            y[i] = logistic_f32(x[i])
    elif g[FUNCTION] == TANH:
        for i in range(lo, hi):
            y[i] = tanh_f32(x[i])
    elif g[FUNCTION] == EXP:
        for i in range(lo, hi):
            y[i] = exp_f32(x[i])
    elif g[FUNCTION] == HARD_SWISH:
        for i in range(lo, hi):
            v = np.float32(x[i] + np.float32(3))
            v = min(max(v, np.float32(0)), np.float32(6))
            y[i] = np.float32(np.float32(x[i] * v) * np.float32(0.16666667))
    else:
        for i in range(lo, hi):
            y[i] = x[i] if x[i] >= 0 else np.float32(x[i] * alpha)


@njit(error_model="numpy")
def dynamic_u8(g, scratch, lo, hi):
    """N float32 to u8 with a scale and zero point found now, written to RANGE: TFLite's hybrid kernels. One unit.

    SYMMETRIC: tensor_utils::SymmetricQuantizeFloats (±127 about 128), else AsymmetricQuantizeFloats, both + 128.
    """
    x, y, n = f32(g[X]), u8(g[Y]), g[N]
    low, high = np.float32(0), np.float32(0)
    for i in range(n):
        low, high = min(low, x[i]), max(high, x[i])
    if low == high:
        fill(g[Y], np.int64(128), n)
        f32(g[RANGE])[0] = np.float32(1)
        i32(g[RANGE])[1] = np.int32(128)
        return
    if g[MODE] == SYMMETRIC:
        span = max(-low, high)
        inverse, zero, bottom = np.float32(np.float32(127) / span), np.float32(0), np.float32(-127)
        f32(g[RANGE])[0] = np.float32(span / np.float32(127))
    else:
        scale = (np.float64(high) - np.float64(low)) / 255.0
        from_low, from_high = -128.0 - low / scale, 127.0 - high / scale
        point = from_low if 128.0 + abs(low / scale) < 127.0 + abs(high / scale) else from_high
        zero = (
            np.float32(-128) if point <= -128.0 else np.float32(127) if point >= 127.0 else np.float32(np.rint(point))
        )
        f32(g[RANGE])[0] = np.float32(scale)
        inverse, bottom = np.float32(np.float32(1) / np.float32(scale)), np.float32(-128)
    i32(g[RANGE])[1] = np.int32(zero) + np.int32(128)
    for i in range(n):
        v = np.float32(zero + np.float32(x[i] * inverse))
        q = np.float32(np.trunc(np.float32(v + np.copysign(np.float32(0.5), v))))
        y[i] = np.uint8(np.int64(min(max(q, bottom), np.float32(127))) + 128)
