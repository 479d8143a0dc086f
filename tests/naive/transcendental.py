"""LOGISTIC, TANH and HARD_SWISH: a table of 256 for 8 bits, one of 256 with interpolation for 16, HARD_SWISH in fixed point."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from . import gemmlowp16
from .fixedpoint import quantize_multiplier, round_half_away, rounding_divide_by_pot
from .node import Node, centred, f32, scale_of, zero_point_of

Array = npt.NDArray[Any]


def sigmoid_table() -> Array:
    """sigmoid_table_uint16 of kernels/internal/common.cc: σ(i / 24) in Q0.16, i = 0 … 255.

    Each entry is moved by half the error that linear interpolation makes in the middle of the step behind it.
    """
    steps = np.arange(513) / 48
    value = 65536 / (1 + np.exp(-steps))
    error = value[1::2] - (value[:-1:2] + value[2::2]) / 2
    table = np.floor(value[:-1:2] + error / 2 + 0.5).astype(np.int64)
    table[255] = 65535  # the end, where the tables' users saturate
    return table


SIGMOID = sigmoid_table()


def logistic(node: Node) -> Array:
    """1 / (1 + exp(−x))."""
    if node.output.dtype == "float32":
        return (1 / (1 + np.exp(-node.array(0).astype(np.float64)))).astype(f32)
    if node.output.dtype == "int16":
        return logistic_int16(node)
    return by_table(node, lambda x: f32(1) / (f32(1) + np.exp(-x.astype(np.float64)).astype(f32)))


def tanh(node: Node) -> Array:
    """tanh(x)."""
    if node.output.dtype == "float32":
        return np.tanh(node.array(0).astype(np.float64)).astype(f32)
    if node.output.dtype == "int16":
        return tanh_int16(node)
    return by_table(node, lambda x: np.tanh(x.astype(np.float64)).astype(f32))


def by_table(node: Node, function: Callable[[Array], Array]) -> Array:
    """8 bits: the function in float32 on all 256 values; ties away from zero, XNNPACK's to even."""
    info = np.iinfo(node.output.dtype)
    q = np.arange(info.min, info.max + 1)
    real = function((q - zero_point_of(node.tensor(0))).astype(f32) * scale_of(node.tensor(0)))
    scaled = real * (f32(1) / scale_of(node.output))
    rounded = np.rint(scaled) if node.xnnpack else round_half_away(scaled)
    table = np.clip(rounded + zero_point_of(node.output), info.min, info.max).astype(info.dtype)
    return table[node.array(0).astype(np.int64) - info.min]


# --- 16 bits --------------------------------------------------------------------------------------------------------------


def pot_shift(node: Node) -> int | None:
    """log2(scale) + 12 where the input's scale is a power of two, None where it is not."""
    fraction, exponent = math.frexp(float(scale_of(node.tensor(0))))
    return 12 + exponent - 1 if fraction == 0.5 else None


def table_input(node: Node, pot_shifts: tuple[int, ...]) -> Array:
    """Input × 3 · 4096 · scale, the tables' unit: (x · m + half) >> shift with m of 15 bits; exact for some powers of two."""
    x, scale = node.array(0).astype(np.int64), float(scale_of(node.tensor(0)))
    if (exact := pot_shift(node)) in pot_shifts:
        return x * (3 << exact)
    multiplier, shift = scale * 4096.0 * 3.0, 0
    while multiplier <= 32767.0 / 2.0 and shift <= 30:
        multiplier, shift = multiplier * 2.0, shift + 1
    return (x * int(multiplier) + ((1 << shift) >> 1)) >> shift


def interpolated(magnitude: Array, bits: int, end: int) -> Array:
    """σ at magnitude · 2^-bits table steps, in Q0.(16 + bits); `end` where the table ends."""
    index = np.minimum(magnitude >> bits, 254)
    left, right = SIGMOID[index], SIGMOID[index + 1]
    value = (left << bits) + (magnitude & ((1 << bits) - 1)) * (right - left)
    return np.where(magnitude >> bits >= 255, end, value)


def logistic_int16(node: Node) -> Array:
    """reference_integer_ops::Logistic; the output's scale is 2^-15. LiteRT's builtin goes another way for scale 2^-12."""
    if node.xnnpack and pot_shift(node) == 0:
        return gemmlowp16.logistic(np.maximum(node.array(0).astype(np.int64), -32767)).astype(np.int16)
    x = table_input(node, (0,))
    value = interpolated(np.abs(x), 9, 0x7FFF << 10)
    return (np.where(x >= 0, value + (1 << 9), (1 << 25) - value + (1 << 9) - 1) >> 10).astype(np.int16)


def tanh_int16(node: Node) -> Array:
    """reference_integer_ops::Tanh: 2σ(2x) − 1; the output's scale is 2^-15. LiteRT's builtin differs for scales 2^-12, 2^-11."""
    if node.xnnpack and (shift := pot_shift(node)) in (0, 1):
        x = gemmlowp16.saturated(node.array(0).astype(np.int64) << shift)
        return gemmlowp16.tanh(np.maximum(x, -32767)).astype(np.int16)
    x = table_input(node, (0, 1))
    value = interpolated(np.abs(x), 8, 0xFFFF << 8)
    half, unit = 1 << 7, 1 << 23
    return (np.where(x >= 0, value - unit + half, unit - value + half - 1) >> 8).astype(np.int16)


# --- HARD_SWISH -----------------------------------------------------------------------------------------------------------


def hard_swish(node: Node) -> Array:
    """x · relu6(x + 3) / 6."""
    if node.output.dtype == "float32":
        x = node.array(0)
        return x * np.clip(x + f32(3), f32(0), f32(6)) / f32(6)
    return hard_swish_8bit(node)


def hard_swish_8bit(node: Node) -> Array:
    """reference_ops::HardSwish: int16 arithmetic on the input at 128 times its resolution."""
    hires = f32(f32(1 / 128) * scale_of(node.tensor(0)))
    out_multiplier, out_shift = quantize_multiplier(float(f32(hires / scale_of(node.output))))
    relu_multiplier, relu_shift = quantize_multiplier(float(f32(hires / f32(3 / 32768))))
    out16, relu16 = down_to_int16(out_multiplier), down_to_int16(relu_multiplier)
    x = centred(node, 0) << 7
    scaled = high_mul16(x, out16)
    relu = x
    if relu_shift > 0:
        relu = saturate16(relu << (relu_shift - 1))
    relu = high_mul16(relu, relu16)
    if relu_shift > 0:
        relu = saturate16(relu << 1)
    if relu_shift < 0:
        relu = rounding_divide_by_pot(relu, -relu_shift)
    relu = (relu + (1 << 15)) >> 1
    product = scaled * relu
    q = np.where(product >= 0, product >> 15, -((-product) >> 15))  # SaturatingDoublingHighMul truncates
    return node.clamp(rounding_divide_by_pot(q, -out_shift) + zero_point_of(node.output))


def down_to_int16(multiplier: int) -> int:
    """DownScaleInt32ToInt16Multiplier."""
    return 0x7FFF if multiplier >= 0x7FFF8000 else (multiplier + (1 << 15)) >> 16


def high_mul16(a: Array, b: int) -> Array:
    """SaturatingRoundingDoublingHighMul on int16: ties upwards."""
    return (a * b + (1 << 14)) >> 15


def saturate16(x: Array) -> Array:
    """Clamped to int16."""
    return np.clip(x, -32768, 32767)
