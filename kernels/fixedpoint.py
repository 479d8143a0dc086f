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
