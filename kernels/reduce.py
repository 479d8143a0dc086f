"""MEAN and other reductions over one run of neighbouring axes. Units are results.

The plan brings the input to (outer, reduced, inner); results are (outer, inner).
"""

from __future__ import annotations

import numpy as np
from numba import njit

from .cells import integer, put_integer
from .fixedpoint import clamp, multiply_double
from .memory import f32, float_of_bits, i16, i32, u8
from .words.instruction import FLOAT
from .words.kinds import F32
from .words.reduce import (
    ADD,
    BIAS,
    CENTRE,
    GREATEST,
    HI,
    INNER,
    KIND,
    LO,
    MODE,
    MULTIPLIER,
    MULTIPLY,
    OPERATION,
    REDUCED,
    SHIFT,
    ZERO_X,
    ZERO_Y,
    X,
    Y,
)

SUMS = 1024  # int32 of scratch; a reduction of up to 2^23 values fits


@njit(error_model="numpy", inline="always")
def _requantize(total, g):
    if g[MODE] == FLOAT:  # over raw numbers, CENTRE being what the arena adds to them; both zero points are in BIAS
        raw = np.float32(total - g[CENTRE] * g[REDUCED])
        scaled = np.float32(raw * float_of_bits(g[MULTIPLIER]))
        return clamp(np.int64(np.rint(np.float32(scaled + float_of_bits(g[BIAS])))) + g[CENTRE], g[LO], g[HI])
    q = multiply_double(total - g[ZERO_X] * g[REDUCED], g[MULTIPLIER], g[SHIFT])
    return clamp(q + g[ZERO_Y], g[LO], g[HI])


@njit(error_model="numpy")
def mean_u8(g, scratch, lo, hi):
    """8-bit mean, up to SUMS neighbouring results at a time."""
    sums, inner = i32(scratch), g[INNER]
    unit = lo
    while unit < hi:
        outer = unit // inner
        first = unit - outer * inner
        n = min(min(inner - first, hi - unit), np.int64(SUMS))
        for c in range(n):
            sums[c] = np.int32(0)
        for r in range(g[REDUCED]):
            x = u8(g[X] + (outer * g[REDUCED] + r) * inner + first)
            for c in range(n):
                sums[c] += np.int32(x[c])
        for c in range(n):
            u8(g[Y])[unit + c] = np.uint8(_requantize(np.int64(sums[c]), g))
        unit += n


@njit(error_model="numpy")
def mean_s16(g, scratch, lo, hi):
    """16-bit mean."""
    for unit in range(lo, hi):
        outer = unit // g[INNER]
        x = i16(g[X] + 2 * (outer * g[REDUCED] * g[INNER] + unit - outer * g[INNER]))
        total = np.int64(0)
        for r in range(g[REDUCED]):
            total += np.int64(x[r * g[INNER]])
        i16(g[Y])[unit] = np.int16(_requantize(total, g))


@njit(error_model="numpy")
def mean_f32(g, scratch, lo, hi):
    """float32 mean, summed in float64."""
    for unit in range(lo, hi):
        outer = unit // g[INNER]
        x = f32(g[X] + 4 * (outer * g[REDUCED] * g[INNER] + unit - outer * g[INNER]))
        total = np.float64(0)
        for r in range(g[REDUCED]):
            total += np.float64(x[r * g[INNER]])
        f32(g[Y])[unit] = np.float32(total / np.float64(g[REDUCED]))


@njit(error_model="numpy")
def joined(operation, a, b):
    """One more element."""
    if operation == ADD:
        return a + b
    if operation == MULTIPLY:
        return a * b
    if operation == GREATEST:
        return max(a, b)
    return min(a, b)


@njit(error_model="numpy")
def reduce_any(g, scratch, lo, hi):
    """Sums, products and extremes of float32 in raster order, or of integers, which wrap; ANY is the greatest bool."""
    operation = g[OPERATION]
    for unit in range(lo, hi):
        outer = unit // g[INNER]
        first = outer * g[REDUCED] * g[INNER] + unit - outer * g[INNER]
        if g[KIND] == F32:
            x = f32(g[X])
            total = x[first]
            for r in range(1, g[REDUCED]):
                total = np.float32(joined(operation, total, x[first + r * g[INNER]]))
            f32(g[Y])[unit] = total
        else:
            whole = integer(g[X], g[KIND], first)
            for r in range(1, g[REDUCED]):
                whole = joined(operation, whole, integer(g[X], g[KIND], first + r * g[INNER]))
            put_integer(g[Y], g[KIND], unit, whole)
