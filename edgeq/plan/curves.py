"""LOGISTIC, TANH and HARD_SWISH on integers as functions of numbers, from which tables are made. Formulas: docs/exactness.md."""

from __future__ import annotations

import math

import numpy as np

from edgeq.errors import CheckError
from edgeq.graph import Array
from edgeq.plan import gemmlowp16
from edgeq.plan.multiplier import f32, quantize_multiplier
from edgeq.plan.tables import rounding_shift_right, saturated


def sigmoid_table() -> Array:
    """sigmoid_table_uint16 of kernels/internal/common.cc: σ(i / 24) in Q0.16, moved by half of interpolation's error."""
    value = 65536 / (1 + np.exp(-np.arange(513) / 48))
    error = value[1::2] - (value[:-1:2] + value[2::2]) / 2
    table: Array = np.floor(value[:-1:2] + error / 2 + 0.5).astype(np.int64)
    table[255] = 65535
    return table


def steps(x: Array, scale: float, exact: tuple[int, ...]) -> Array:
    """Input in units of 1 / (3 · 4096): shifted where the scale is 2^(k − 12), k in `exact`, else by a 15-bit multiplier."""
    fraction, exponent = math.frexp(scale)
    if fraction == 0.5 and exponent + 11 in exact:
        return x * (3 << (exponent + 11))
    multiplier, shift = scale * 4096.0 * 3.0, 0
    if multiplier >= 2.0**31:  # int32 in the runtimes
        raise CheckError(
            f"an int16 input of LOGISTIC or TANH has scale {scale:g}, at most {2.0**31 / (4096 * 3):g} is expected"
        )
    while multiplier <= 32767.0 / 2.0 and shift <= 30:
        multiplier, shift = multiplier * 2.0, shift + 1
    return (x * int(multiplier) + ((1 << shift) >> 1)) >> shift


def interpolated(magnitude: Array, bits: int, end: int) -> Array:
    """σ at magnitude · 2^-bits entries of the table, Q0.(16 + bits); `end` where the table ends."""
    table = sigmoid_table()
    index = np.minimum(magnitude >> bits, 254)
    value = (table[index] << bits) + (magnitude & ((1 << bits) - 1)) * (table[index + 1] - table[index])
    return np.where(magnitude >> bits >= 255, end, value)


def logistic_int16(x: Array, scale: float, optimized: bool) -> Array:
    """int16 input of this scale → Q0.15; `optimized`: LiteRT's builtin, which takes gemmlowp's way for scale 2^-12."""
    if optimized and scale == 2.0**-12:
        return gemmlowp16.logistic(np.maximum(x, -32767))
    a = steps(x, scale, (0,))
    value = interpolated(np.abs(a), 9, 0x7FFF << 10)
    return np.where(a >= 0, value + (1 << 9), (1 << 25) - value + (1 << 9) - 1) >> 10


def tanh_int16(x: Array, scale: float, optimized: bool) -> Array:
    """As logistic_int16; LiteRT's builtin also takes gemmlowp's way for scale 2^-11."""
    if optimized and scale in (2.0**-12, 2.0**-11):
        return gemmlowp16.tanh(np.maximum(saturated(x << (scale == 2.0**-11), 16), -32767))
    a = steps(x, scale, (0, 1))
    value = interpolated(np.abs(a), 8, 0xFFFF << 8)
    return np.where(a >= 0, value - (1 << 23) + (1 << 7), (1 << 23) - value + (1 << 7) - 1) >> 8


def short_multiplier(real: np.float32) -> tuple[int, int]:
    """QuantizeMultiplier, the mantissa in 16 bits."""
    q, shift = quantize_multiplier(float(real))
    return (0x7FFF if q >= 0x7FFF8000 else (q + (1 << 15)) >> 16), shift


def hard_swish(x: Array, s_in: np.float32, s_out: np.float32) -> Array:
    """reference_ops::HardSwish on centred 8-bit numbers: int16 arithmetic at 128 times the input's resolution."""
    fine = f32(f32(1 / 128) * s_in)
    out_multiplier, out_shift = short_multiplier(f32(fine / s_out))
    relu_multiplier, relu_shift = short_multiplier(f32(fine / f32(3 / 32768)))
    wide = x << 7
    relu = saturated(wide << (relu_shift - 1), 16) if relu_shift > 0 else wide
    relu = gemmlowp16.multiply(relu, relu_multiplier)
    if relu_shift > 0:
        relu = saturated(relu << 1, 16)
    elif relu_shift < 0:
        relu = rounding_shift_right(relu, -relu_shift)
    product = gemmlowp16.multiply(wide, out_multiplier) * ((relu + (1 << 15)) >> 1)
    halved = np.where(product >= 0, product >> 15, -((-product) >> 15))  # SaturatingDoublingHighMul truncates
    return rounding_shift_right(halved, -out_shift)
