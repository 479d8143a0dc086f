"""The integer arithmetic that TFLite's kernels are written in, in int64 NumPy.

Sources: gemmlowp `fixedpoint/fixedpoint.h` (SaturatingRoundingDoublingHighMul, RoundingDivideByPOT) and TensorFlow Lite
`kernels/internal/common.h`, `kernels/internal/quantization_util.cc`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

INT32_MAX = (1 << 31) - 1
INT32_MIN = -(1 << 31)


def round_half_away(x: Array | float) -> Array:
    """C's `round`: ties go away from zero. Keeps the float type of x; the result is integral."""
    x = np.asarray(x)
    # |x| - floor(|x|) is exact, so a value just below a tie is never pushed over it (floor(x + 0.5) would do that).
    whole = np.floor(np.abs(x))
    return np.copysign(whole + (np.abs(x) - whole >= 0.5), x)


def quantize_multiplier(real: float) -> tuple[int, int]:
    """QuantizeMultiplier: real ≈ q · 2^(shift − 31) with q in [2^30, 2^31), rounded half away from zero."""
    if real == 0.0:
        return 0, 0
    fraction, shift = math.frexp(real)
    q = math.floor(fraction * (1 << 31) + 0.5)
    if q == 1 << 31:
        q //= 2
        shift += 1
    return (0, 0) if shift < -31 else (q, shift)


def bit_length(x: Array) -> Array:
    """Bits that positive x below 2^53 needs: 32 less a C compiler's count of leading zeros."""
    return np.frexp(x.astype(np.float64))[1].astype(np.int64)


def wrap32(x: Array) -> Array:
    """x modulo 2^32, as the signed 32-bit number that a C compiler's int32_t arithmetic leaves."""
    return ((x + (1 << 31)) & 0xFFFFFFFF) - (1 << 31)


def saturating_rounding_doubling_high_mul(a: Array, b: Array | int) -> Array:
    """a · b / 2^31 to nearest, ties upwards, saturated where a = b = −2^31.

    gemmlowp writes it with a nudge that depends on the sign and a division that truncates towards zero; for both signs that is
    (a · b + 2^30) >> 31.
    """
    high = (np.asarray(a, np.int64) * np.asarray(b, np.int64) + (1 << 30)) >> 31
    return np.minimum(high, INT32_MAX)


def rounding_divide_by_pot(x: Array, exponent: Array | int) -> Array:
    """x / 2^exponent to nearest, ties away from zero."""
    mask = (np.int64(1) << np.asarray(exponent, np.int64)) - 1
    threshold = (mask >> 1) + (x < 0)
    return (x >> exponent) + ((x & mask) > threshold)


def multiply_by_quantized_multiplier(x: Array, multiplier: Array | int, shift: Array | int) -> Array:
    """MultiplyByQuantizedMultiplier on int32, double rounding: the shift left wraps, the high multiplication rounds, the
    shift right rounds again."""  # fmt: skip
    shift = np.asarray(shift, np.int64)
    left, right = np.maximum(shift, 0), np.maximum(-shift, 0)
    return rounding_divide_by_pot(saturating_rounding_doubling_high_mul(wrap32(x << left), multiplier), right)


def multiply_half_up(x: Array, multiplier: Array | int, shift: Array | int) -> Array:
    """As multiply_by_quantized_multiplier, but the shift right rounds ties upwards: LiteRT's AVX2 requantization."""
    shift = np.asarray(shift, np.int64)
    left, right = np.maximum(shift, 0), np.maximum(-shift, 0)
    high = saturating_rounding_doubling_high_mul(wrap32(x << left), multiplier)
    return (high + ((np.int64(1) << right) >> 1)) >> right


def multiply_once_rounded(x: Array, multiplier: Array | int, shift: Array | int) -> Array:
    """x · multiplier · 2^(shift − 31) with one rounding, half up."""
    total_shift = 31 - np.asarray(shift, np.int64)
    return (x * multiplier + (np.int64(1) << (total_shift - 1))) >> total_shift


def multiply_by_quantized_multiplier_int64(x: Array, multiplier: Array | int, shift: Array | int) -> Array:
    """MultiplyByQuantizedMultiplier on int64 (int16 activations): a 16-bit multiplier and one rounding, half up."""
    multiplier, shift = np.asarray(multiplier, np.int64), np.asarray(shift, np.int64)
    reduced = np.where(multiplier < 0x7FFF0000, (multiplier + (1 << 15)) >> 16, 0x7FFF)
    total_shift = 15 - shift
    return (x * reduced + (np.int64(1) << (total_shift - 1))) >> total_shift


def float32_requantize(acc: Array, scale: Array | np.float32) -> Array:
    """XNNPACK's fp32 requantization: the accumulator to float32, times a float32 scale, to nearest, ties to even."""
    return np.rint(acc.astype(np.float32) * np.asarray(scale, np.float32)).astype(np.int64)
