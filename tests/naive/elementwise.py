"""ADD, SUB, MUL, LEAKY_RELU, RELU and RELU6."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.graph import Activation

from .delegation import takes
from .fixedpoint import (
    float32_requantize,
    multiply_by_quantized_multiplier,
    multiply_once_rounded,
    quantize_multiplier,
    rounding_divide_by_pot,
)
from .node import Node, activation_range, centred, f32, float_activation, scale_of, zero_point_of

Array = npt.NDArray[Any]

LANES = 16  # what LiteRT's AVX2 loop takes at a time


def add(node: Node) -> Array:
    """x + y, broadcast."""
    return sum_of(node, 1)


def sub(node: Node) -> Array:
    """x − y, broadcast."""
    return sum_of(node, -1)


def sum_of(node: Node, sign: int) -> Array:
    """x + sign · y."""
    if node.output.dtype == "float32":
        real = node.array(0) + node.array(1) if sign > 0 else node.array(0) - node.array(1)
        return float_activation(node.option("fused_activation_function"), real)
    if takes(node):
        return xnnpack_sum(node, sign)
    if (
        node.output.dtype == "int16"
        and node.option("pot_scale_int16", False)
        and None not in (shifts := pot_shifts(node))
    ):
        return pot_sum(node, sign, shifts)
    return tflite_sum(node, sign)


def pot_shifts(node: Node) -> list[int | None]:
    """log2(s_k / s_out) for both inputs, None where one of the two scales is not a power of two."""
    parts = [math.frexp(float(scale_of(t))) for t in (node.tensor(0), node.tensor(1), node.output)]
    return [k - parts[2][1] if f == parts[2][0] == 0.5 else None for f, k in parts[:2]]


def pot_sum(node: Node, sign: int, shifts: list[int | None]) -> Array:
    """reference_ops::Add on int16 with power-of-two scales: one input is shifted right, rounding. Others are refused."""
    x, y = (rounding_divide_by_pot(centred(node, k), -(n or 0)) for k, n in enumerate(shifts))
    return node.clamp(x + sign * y)


def tflite_sum(node: Node, sign: int) -> Array:
    """add.cc and sub.cc: both inputs are brought to twice the larger input scale over 2^left_shift, added, brought back."""
    left_shift = 15 if node.output.dtype == "int16" else 20
    s1, s2, s_out = float(scale_of(node.tensor(0))), float(scale_of(node.tensor(1))), float(scale_of(node.output))
    twice_max = 2 * max(s1, s2)
    x, y = centred(node, 0) << left_shift, centred(node, 1) << left_shift
    to_x, to_y = quantize_multiplier(s1 / twice_max), quantize_multiplier(s2 / twice_max)
    total = multiply_by_quantized_multiplier(x, *to_x) + sign * multiply_by_quantized_multiplier(y, *to_y)
    if node.xnnpack and node.op.code == "ADD" and node.output.dtype == "int16" and same_shape(x, y):
        # LiteRT's AVX2 loop for int16 rounds each input once; its tail, SUB and broadcasts are as in the reference.
        vector = np.arange(x.size).reshape(x.shape) < x.size // LANES * LANES
        total = np.where(vector, multiply_once_rounded(x, *to_x) + multiply_once_rounded(y, *to_y), total)
    back = quantize_multiplier(twice_max / ((1 << left_shift) * s_out))
    return node.clamp(multiply_by_quantized_multiplier(total, *back) + zero_point_of(node.output))


def same_shape(x: Array, y: Array) -> bool:
    """Whether nothing is broadcast: equal shapes but for leading ones."""
    rank = max(x.ndim, y.ndim)
    return (1,) * (rank - x.ndim) + x.shape == (1,) * (rank - y.ndim) + y.shape


def xnnpack_sum(node: Node, sign: int) -> Array:
    """XNNPACK `xnn_init_qs8_add_minmax_params`: the two scale ratios as multipliers of about 20 bits, one rounding, half up."""
    s_out = scale_of(node.output)
    ratios = [float(f32(scale_of(node.tensor(k)) / s_out)) for k in (0, 1)]
    # The larger ratio gets 21 significant bits: its exponent sets the shift of both.
    shift = 20 - (math.frexp(max(ratios))[1] - 1)
    m = [int(np.rint(r * 2.0**shift)) for r in ratios]
    acc = centred(node, 0) * m[0] + sign * centred(node, 1) * m[1]
    return node.clamp(((acc + (1 << (shift - 1))) >> shift) + zero_point_of(node.output))


def mul(node: Node) -> Array:
    """x · y, broadcast."""
    if node.output.dtype == "float32":
        return float_activation(node.option("fused_activation_function"), node.array(0) * node.array(1))
    product = centred(node, 0) * centred(node, 1)
    # mul.cc takes the real multiplier in float32, unlike every other operation.
    scale = f32(scale_of(node.tensor(0)) * scale_of(node.tensor(1))) / scale_of(node.output)
    if takes(node):
        q = float32_requantize(product, scale)
    else:
        q = multiply_by_quantized_multiplier(product, *quantize_multiplier(float(scale)))
    return node.clamp(q + zero_point_of(node.output))


def leaky_relu(node: Node) -> Array:
    """x where x ≥ 0, alpha · x below."""
    alpha = f32(node.option("alpha"))
    if node.output.dtype == "float32":
        x = node.array(0)
        return np.where(x >= 0, x, x * alpha)
    x = centred(node, 0)
    # activations.cc, LeakyReluPrepare: both quotients in float32.
    positive = f32(scale_of(node.tensor(0)) / scale_of(node.output))
    negative = f32(f32(scale_of(node.tensor(0)) * alpha) / scale_of(node.output))
    if takes(node):
        # XNNPACK `xnn_init_qs8_lrelu_params`: 8.8 multipliers, half up.
        m = np.where(x >= 0, int(np.rint(256 * positive)), int(np.rint(256 * f32(positive * alpha))))
        return node.clamp(((x * m + 128) >> 8) + zero_point_of(node.output))
    up = multiply_by_quantized_multiplier(x, *quantize_multiplier(float(positive)))
    down = multiply_by_quantized_multiplier(x, *quantize_multiplier(float(negative)))
    return node.clamp(np.where(x >= 0, up, down) + zero_point_of(node.output))


def relu_with(activation: Activation) -> Callable[[Node], Array]:
    """RELU, RELU6 and RELU_N1_TO_1 as operations of their own."""

    def relu(node: Node) -> Array:
        if node.output.dtype == "float32":
            return float_activation(activation, node.array(0))
        low, high = activation_range(activation, node.output)
        scale = f32(scale_of(node.tensor(0)) / scale_of(node.output))
        q = multiply_by_quantized_multiplier(centred(node, 0), *quantize_multiplier(float(scale)))
        return np.clip(q + zero_point_of(node.output), low, high).astype(node.output.dtype)

    return relu
