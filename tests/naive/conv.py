"""CONV_2D, DEPTHWISE_CONV_2D, FULLY_CONNECTED, TRANSPOSE_CONV.

Sums of integer products are taken in float64: they stay far below 2^53, so they are exact. Requantization is chosen by
(dtype, rounding); docs/exactness.md holds the table and the counts behind it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.graph import Padding

from . import floating
from .delegation import takes
from .fixedpoint import (
    float32_requantize,
    multiply_by_quantized_multiplier,
    multiply_by_quantized_multiplier_int64,
    multiply_half_up,
    quantize_multiplier,
    round_half_away,
)
from .node import Node, centred, f32, quantization, scale_of, zero_point_of
from .windows import geometry, patches

Array = npt.NDArray[Any]


def operands(node: Node, x: int = 0, w: int = 1) -> tuple[Array, Array]:
    """Input and weights less their zero points, as float64."""
    return centred(node, x).astype(np.float64), centred(node, w).astype(np.float64)


def finish(node: Node, acc: Array, x: int = 0, w: int = 1, bias: int = 2) -> Array:
    """Bias, requantization, activation: (…, out_c) float64 sums to the output's type."""
    total = acc.astype(np.int64)
    if node.has(bias):
        total = total + node.array(bias).astype(np.int64)
    wide = node.tensor(bias).dtype == "int64" if node.has(bias) else wide_without_bias(node)
    return node.clamp(requantize(node, total, x, w, wide) + zero_point_of(node.output))


def wide_without_bias(node: Node) -> bool:
    """Whether the runtime sums in int64 where no bias says which width: LiteRT's TRANSPOSE_CONV int16."""
    return node.xnnpack and node.op.code == "TRANSPOSE_CONV" and node.output.dtype == "int16"


def requantize(node: Node, acc: Array, x: int, w: int, wide: bool) -> Array:
    """Accumulators of scale s_in · s_w[c] to the output's scale; channels last. `wide`: the runtime's are int64."""
    s_in, s_w, s_out = scale_of(node.tensor(x)), quantization(node.tensor(w)).scale.astype(f32), scale_of(node.output)
    if takes(node):
        return float32_requantize(acc, s_in * s_w / s_out)
    dense = node.op.code == "FULLY_CONNECTED"
    if node.xnnpack and dense and wide:
        # LiteRT's FULLY_CONNECTED leaves fixed point: one float64 product, half away from zero.
        exact = np.float64(s_in) * s_w.astype(np.float64) / np.float64(s_out)
        return round_half_away(acc.astype(np.float64) * exact).astype(np.int64)
    if len(s_w) == 1 and (node.output.dtype == "uint8" or dense):
        # GetQuantizedConvolutionMultipler: the product of the two scales is taken in float32, the quotient in float64.
        real = (s_in * s_w).astype(np.float64) / np.float64(s_out)
    else:
        # PopulateConvolutionQuantizationParams: all in float64.
        real = np.float64(s_in) * s_w.astype(np.float64) / np.float64(s_out)
    if wide:
        return multiply_by_quantized_multiplier_int64(acc, *multipliers(real))
    if node.xnnpack and node.op.code != "DEPTHWISE_CONV_2D":
        return multiply_half_up(acc, *multipliers(real))  # the builtins' matrix product, ruy
    return multiply_by_quantized_multiplier(acc, *multipliers(real))


def multipliers(real: Array) -> tuple[Array, Array]:
    """(k,) real multipliers to (k,) mantissas and (k,) shifts."""
    pairs = [quantize_multiplier(float(r)) for r in real]
    return np.array([q for q, _ in pairs], np.int64), np.array([s for _, s in pairs], np.int64)


def conv_2d(node: Node) -> Array:
    """x (n, h, w, in_c), weights (out_c, kh, kw, in_c / groups)."""
    if node.output.dtype == "float32":
        return floating.conv_2d(node)
    x, w = operands(node)
    groups = x.shape[3] // w.shape[3]
    acc = []
    for part, filters in zip(np.split(x, groups, axis=3), np.split(w, groups, axis=0), strict=True):
        p = patches(part, w.shape[1:3], **geometry(node))
        acc.append(np.tensordot(p, filters, axes=([3, 4, 5], [1, 2, 3])))
    return finish(node, np.concatenate(acc, axis=3))


def depthwise_conv_2d(node: Node) -> Array:
    """x (n, h, w, in_c), weights (1, kh, kw, in_c · depth_multiplier); output channel c reads input channel c // multiplier."""
    if node.output.dtype == "float32":
        return floating.depthwise_conv_2d(node)
    x, w = operands(node)
    x = np.repeat(x, w.shape[3] // x.shape[3], axis=3)
    p = patches(x, w.shape[1:3], **geometry(node))
    return finish(node, np.einsum("nhwklc,klc->nhwc", p, w[0]))


def fully_connected(node: Node) -> Array:
    """x (…, k) flattened to rows of k, weights (out, k)."""
    if node.output.dtype == "float32":
        return floating.fully_connected(node)
    x, w = operands(node)
    y = finish(node, x.reshape(-1, w.shape[1]) @ w.T)
    return y.reshape(*x.shape[:-1], -1) if node.option("keep_num_dims", False) else y


def transpose_conv(node: Node) -> Array:
    """inputs: output shape (4,) int32, weights (out_c, kh, kw, in_c), x (n, h, w, in_c), bias; each input pixel is spread."""
    if node.output.dtype == "float32":
        return floating.transpose_conv(node)
    out_shape = tuple(int(d) for d in node.array(0))
    x, w = operands(node, x=2, w=1)
    kh, kw = w.shape[1:3]
    sh, sw = node.option("stride_h"), node.option("stride_w")
    n, h, width, _ = x.shape
    full = np.zeros(
        (n, max((h - 1) * sh + kh, out_shape[1] + kh), max((width - 1) * sw + kw, out_shape[2] + kw), w.shape[0])
    )
    spread = np.tensordot(x, w, axes=([3], [3]))  # (n, h, w, out_c, kh, kw)
    for i in range(h):
        for j in range(width):
            full[:, i * sh : i * sh + kh, j * sw : j * sw + kw] += spread[:, i, j].transpose(0, 2, 3, 1)
    top, left = (
        (max((size - 1) * s + k - out, 0)) // 2 if node.option("padding") == Padding.SAME else 0
        for size, s, k, out in ((h, sh, kh, out_shape[1]), (width, sw, kw, out_shape[2]))
    )
    acc = full[:, top : top + out_shape[1], left : left + out_shape[2]]
    return finish(node, acc, x=2, w=1, bias=3)
