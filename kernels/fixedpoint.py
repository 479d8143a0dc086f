"""Scalar fixed-point arithmetic: gemmlowp's primitives, as TFLite's reference kernels use them.

Every function takes and returns int64 holding an int32 (or the width it names), so that nothing widens behind the reader's
back. Sources: gemmlowp fixedpoint.h; tensorflow/lite/kernels/internal/common.h.
"""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(error_model="numpy", inline="always")
def doubling_high_multiply(a, b):
    """SaturatingRoundingDoublingHighMul of two int32: (2·a·b + 2^31) >> 32, ties towards +∞."""
    return (np.int64(a) * np.int64(b) + (np.int64(1) << 30)) >> 31


@njit(error_model="numpy", inline="always")
def rounding_shift_right(x, exponent):
    """RoundingDivideByPOT: x / 2^exponent, ties away from zero."""
    mask = (np.int64(1) << exponent) - np.int64(1)
    remainder = x & mask
    threshold = (mask >> 1) + (np.int64(1) if x < 0 else np.int64(0))
    return (x >> exponent) + (np.int64(1) if remainder > threshold else np.int64(0))


@njit(error_model="numpy", inline="always")
def multiply_double(x, multiplier, shift):
    """MultiplyByQuantizedMultiplier, double rounding: x · multiplier · 2^(shift − 31)."""
    left = shift if shift > 0 else np.int64(0)
    right = -shift if shift < 0 else np.int64(0)
    return rounding_shift_right(doubling_high_multiply(wrap32(x << left), multiplier), right)


@njit(error_model="numpy", inline="always")
def multiply_half_up(x, multiplier, shift):
    """As multiply_double, but the second rounding is half up (ruy's and the optimised builtins' vector loops)."""
    left = shift if shift > 0 else np.int64(0)
    right = -shift if shift < 0 else np.int64(0)
    high = doubling_high_multiply(wrap32(x << left), multiplier)
    return (high + ((np.int64(1) << right) >> 1)) >> right


@njit(error_model="numpy", inline="always")
def multiply_single(x, multiplier, shift):
    """x · multiplier · 2^(shift − 31), rounded once, half up."""
    return (x * multiplier + (np.int64(1) << (30 - shift))) >> (31 - shift)


@njit(error_model="numpy", inline="always")
def wrap32(x):
    """The int32 that the low 32 bits of x are, as int64."""
    return (x << 32) >> 32


@njit(error_model="numpy", inline="always")
def saturate32(x):
    """x clamped to int32."""
    return min(max(x, np.int64(-2147483648)), np.int64(2147483647))


@njit(error_model="numpy", inline="always")
def clamp(x, lo, hi):
    """min(max(x, lo), hi)."""
    return min(max(x, lo), hi)


@njit(error_model="numpy", inline="always")
def round_half_away(x):
    """float64 → int64, ties away from zero (std::round)."""
    return np.int64(np.trunc(x + np.copysign(0.5, x)))


@njit(error_model="numpy")
def inverse_root(x):
    """GetInvSqrtQuantizedMultiplierExp: 1 / √x of an int32 x ≥ 0 as a multiplier and a shift to the right."""
    if x <= 1:
        return np.int64(2147483647), np.int64(0)
    shift, bits = np.int64(11), np.int64(0)
    while x >= 536870912:
        x //= 4
        shift += 1
    while (x >> bits) > 0:
        bits += 1
    pairs = (31 - bits) // 2 - 1
    shift -= pairs
    x <<= 2 * pairs
    half = rounding_shift_right(x >> 1, np.int64(1))
    y = np.int64(268435456)  # 1 with three integer bits; a product of two has six, of three nine
    for _ in range(5):
        y3 = saturate32(doubling_high_multiply(doubling_high_multiply(y, y), y) << 6)
        y = saturate32((doubling_high_multiply(np.int64(402653184), y) - doubling_high_multiply(half, y3)) << 3)
    y = doubling_high_multiply(y, np.int64(1518500250))
    if shift < 0:
        return y << -shift, np.int64(0)
    return y, shift
