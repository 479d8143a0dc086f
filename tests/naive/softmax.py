"""SOFTMAX: float, 8-bit in gemmlowp fixed point, 16-bit by table."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from .fixedpoint import (
    INT32_MAX,
    INT32_MIN,
    bit_length,
    multiply_by_quantized_multiplier,
    quantize_multiplier,
    round_half_away,
    rounding_divide_by_pot,
    saturating_rounding_doubling_high_mul,
)
from .node import Node, f32, scale_of

Array = npt.NDArray[Any]

INTEGER_BITS = 5  # kScaledDiffIntegerBits: the scaled difference is Q5.26
ACCUMULATION_BITS = 12  # kAccumulationIntegerBits: the sum of exponentials is Q12.19


def softmax(node: Node) -> Array:
    """exp(beta · x) normalised along the last axis."""
    if node.output.dtype == "float32":
        x = node.array(0)
        e = exponential((x - x.max(axis=-1, keepdims=True)) * f32(node.option("beta", 1.0)))
        return e / np.add.accumulate(e, axis=-1, dtype=f32)[..., -1:]
    if node.output.dtype == "int16":
        return softmax_int16(node)
    return softmax_by_table(node) if node.xnnpack else softmax_8bit(node)


def exponential(x: Array) -> Array:
    """exp in float32, correctly rounded; the C library's expf is one ulp off in about one value of a thousand."""
    return np.exp(x.astype(np.float64)).astype(f32)


# --- 8 bits, LiteRT's optimised builtin (XNNPACK does not take it) --------------------------------------------------------


def softmax_by_table(node: Node) -> Array:
    """optimized_ops::Softmax: 256 float32 exponentials, summed in float32 from left to right, one product per element."""
    scale = f32(-scale_of(node.tensor(0)) * f32(node.option("beta", 1.0)))
    table = exponential(scale * np.arange(256, dtype=f32))
    x = node.array(0).astype(np.int64)
    e = table[x.max(axis=-1, keepdims=True) - x]
    total = np.add.accumulate(e, axis=-1, dtype=f32)[..., -1:]
    scaled = e * (f32(1) / (total * scale_of(node.output)))
    info = np.iinfo(node.output.dtype)
    return np.clip(round_half_away(scaled) + info.min, info.min, info.max).astype(info.dtype)


# --- 8 bits, the reference ------------------------------------------------------------------------------------------------


def softmax_8bit(node: Node) -> Array:
    """reference_ops::Softmax for int8 and uint8; the output's scale is 1/256 and its zero point the type's minimum."""
    real = min(
        node.option("beta", 1.0) * float(scale_of(node.tensor(0))) * (1 << (31 - INTEGER_BITS)), float(INT32_MAX)
    )
    if real >= 1 << 30:  # one step is further than exp reaches: only the greatest elements count
        x = node.array(0).astype(np.int64)
        first = x == x.max(axis=-1, keepdims=True)
        info = np.iinfo(node.output.dtype)
        share = np.where(first, np.floor(256 / first.sum(axis=-1, keepdims=True) + 0.5), 0)
        return np.clip(share + info.min, info.min, info.max).astype(node.output.dtype)
    multiplier, left_shift = quantize_multiplier(real)
    # CalculateInputRadius: below diff_min the exponential is taken as 0.
    diff_min = -int(np.floor(((1 << INTEGER_BITS) - 1) * (1 << (31 - INTEGER_BITS)) / (1 << left_shift)))
    x = node.array(0).astype(np.int64)
    diff = x - x.max(axis=-1, keepdims=True)
    counted = diff >= diff_min
    scaled = saturating_rounding_doubling_high_mul(np.where(counted, diff, 0) << left_shift, multiplier)
    e = np.where(counted, exp_on_negative_values(scaled), 0)
    total = rounding_divide_by_pot(e, ACCUMULATION_BITS).sum(axis=-1, keepdims=True)
    headroom = 32 - bit_length(total)
    reciprocal = one_over_one_plus_x((total << headroom) - (1 << 31))
    bits_over_unit = ACCUMULATION_BITS - headroom
    y = rounding_divide_by_pot(saturating_rounding_doubling_high_mul(reciprocal, e), bits_over_unit + 31 - 8)
    info = np.iinfo(node.output.dtype)
    return np.clip(np.where(counted, y, 0) + info.min, info.min, info.max).astype(node.output.dtype)


def exp_on_negative_values(a: Array) -> Array:
    """gemmlowp exp_on_negative_values: a Q5.26 ≤ 0 to exp(a) Q0.31, a quarter's remainder by polynomial, the rest by bits."""
    quarter = 1 << (31 - INTEGER_BITS - 2)
    low = (a & (quarter - 1)) - quarter  # in [-1/4, 0)
    result = exp_on_interval_between_negative_one_quarter_and_0_excl(low << INTEGER_BITS)
    remainder = low - a
    # exp(-2^k) in Q0.31 for k = -2 … 4.
    for k, factor in (
        (-2, 1672461947),
        (-1, 1302514674),
        (0, 790015084),
        (1, 290630308),
        (2, 39332535),
        (3, 720401),
        (4, 242),
    ):
        bit = 1 << (31 - INTEGER_BITS + k)
        result = np.where(remainder & bit, saturating_rounding_doubling_high_mul(result, factor), result)
    return np.where(a == 0, INT32_MAX, result)


def exp_on_interval_between_negative_one_quarter_and_0_excl(a: Array) -> Array:
    """Four terms of the series around −1/8, a and the result Q0.31."""
    constant_term, third = 1895147668, 715827883  # exp(-1/8), 1/3
    mul = saturating_rounding_doubling_high_mul
    x = a + (1 << 28)
    x2 = mul(x, x)
    x3, x4 = mul(x2, x), mul(x2, x2)
    tail = rounding_divide_by_pot(mul(rounding_divide_by_pot(x4, 2) + x3, third) + x2, 1)
    return constant_term + mul(x + tail, constant_term)


def one_over_one_plus_x(a: Array) -> Array:
    """gemmlowp one_over_one_plus_x_for_x_in_0_1: three Newton-Raphson steps on a half denominator, Q0.31."""
    mul = saturating_rounding_doubling_high_mul
    half = (a + INT32_MAX + 1) >> 1  # RoundingHalfSum of non-negative numbers
    x = 1515870810 + mul(half, -1010580540)  # 48/17 − 32/17 · half, Q2.29
    for _ in range(3):
        x = x + np.clip(mul(x, (1 << 29) - mul(half, x)) << 2, INT32_MIN, INT32_MAX)
    return np.clip(x << 1, INT32_MIN, INT32_MAX)


# --- 16 bits --------------------------------------------------------------------------------------------------------------


def softmax_int16(node: Node) -> Array:
    """reference_ops::SoftmaxInt16: exp and 1/(1+x) from 513-entry tables with linear interpolation; output scale 2^-15."""
    exp_table = table(np.exp, -10.0, 0.0)
    reciprocal_table = table(lambda v: 1.0 / (1.0 + v), 0.0, 1.0)
    real = float(scale_of(node.tensor(0))) * node.option("beta", 1.0) / (10.0 / 65535.0)
    x = node.array(0).astype(np.int64)
    scaled = multiply_by_quantized_multiplier(x - x.max(axis=-1, keepdims=True), *quantize_multiplier(real))
    e = look_up(np.clip(scaled + 32767, -32768, 32767), exp_table)
    total = e.sum(axis=-1, keepdims=True)
    headroom_plus_one = 32 - bit_length(total)
    shifted = ((total << (headroom_plus_one - 1)) + (1 << 13)) >> 14
    reciprocal = look_up(np.clip(shifted - ((1 << 15) + (1 << 16)), -32768, 32767), reciprocal_table)
    right_shift = 31 - headroom_plus_one
    y = (e * reciprocal + (np.int64(1) << (right_shift - 1))) >> right_shift
    return np.clip(y, 0, 32767).astype(np.int16)


def table(function: Callable[[Array], Array], low: float, high: float) -> Array:
    """gen_lut: 513 entries over [low, high] in Q0.15, each but the last moved by half the error at the interval's middle."""
    x = np.linspace(low, high, 513)
    value, middle = function(x) * 32768.0, function(x[:-1] + (x[1] - x[0]) / 2) * 32768.0
    sample = round_half_away(value)
    error = round_half_away((value[1:] + sample[:-1]) / 2) - round_half_away(middle)
    entries = np.append(sample[:-1] - round_half_away(error / 2), sample[-1])
    return np.clip(entries, -32768, 32767).astype(np.int64)


def look_up(x: Array, entries: Array) -> Array:
    """LUTLookup: the upper 9 bits choose the entry, the lower 7 interpolate, half up."""
    index = 256 + (x >> 7)
    base = entries[index]
    return base + (((entries[index + 1] - base) * (x & 0x7F) + 64) >> 7)
