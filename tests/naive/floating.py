"""float32 sums of products in the order of TFLite's reference kernels, so that BUILTIN_REF is met bit for bit.

Every product and every sum is rounded to float32 by itself: the runtimes' x86-64 builds do not fuse them. Weights in int8 on
float32 activations (dynamic range quantization) are TFLite's hybrid kernels: the activations are quantized when they are seen.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.graph import Padding

from .fixedpoint import round_half_away
from .node import Node, f32, float_activation, quantization
from .windows import geometry, patches

Array = npt.NDArray[Any]


def weights(node: Node) -> Array:
    """Weights in float32; int8 ones have a twin for CONV_2D with one scale only."""
    w = node.array(1)
    if w.dtype != f32:
        raise NotImplementedError(f"no twin for {node.op.code} of float32 with {w.dtype} weights")
    return w


def in_order(terms: Iterable[Array]) -> Array:
    """Float32 sum of arrays, from the first to the last, starting at 0."""
    total: Array = np.zeros((), f32)
    for term in terms:
        total = total + term
    return total


def finish(node: Node, total: Array, bias: int = 2) -> Array:
    """Bias, if there is one, then the activation."""
    biased = total + node.array(bias) if node.has(bias) else total
    return float_activation(node.option("fused_activation_function"), biased)


def conv_2d(node: Node) -> Array:
    """reference_ops::Conv: over rows, columns and channels of the window; conv.cc EvalHybrid with int8 weights."""
    if node.array(1).dtype == np.int8 and not quantization(node.tensor(1)).per_axis:
        return hybrid_conv_2d(node)
    x, w = node.array(0), weights(node)
    p = patches(x, w.shape[1:3], **geometry(node))
    # Filter k of g groups reads the channels of its own group.
    groups = x.shape[3] // w.shape[3]
    first = np.arange(w.shape[0]) // (w.shape[0] // groups) * w.shape[3]
    return finish(node, in_order(p[..., i, j, first + c] * w[:, i, j, c] for i, j, c in np.ndindex(w.shape[1:])))


def depthwise_conv_2d(node: Node) -> Array:
    """reference_ops::DepthwiseConv: over rows and columns of the window."""
    x, w = node.array(0), weights(node)
    p = patches(np.repeat(x, w.shape[3] // x.shape[3], axis=3), w.shape[1:3], **geometry(node))
    return finish(node, in_order(p[..., i, j, :] * w[0, i, j] for i, j in np.ndindex(w.shape[1:3])))


def fully_connected(node: Node) -> Array:
    """reference_ops::FullyConnected: along the input."""
    w = weights(node)
    x = node.array(0).reshape(-1, w.shape[1])
    y = finish(node, in_order(x[:, k, None] * w[:, k] for k in range(w.shape[1])))
    return y.reshape(node.output.shape)


def transpose_conv(node: Node) -> Array:
    """reference_ops::TransposeConv: input pixels in raster order, each adding its products channel by channel."""
    w, x = weights(node), node.array(2)
    out_shape = tuple(int(d) for d in node.array(0))
    steps = (node.option("stride_h"), node.option("stride_w"))
    before = [
        max((size - 1) * s + k - out, 0) // 2 if node.option("padding") == Padding.SAME else 0
        for size, s, k, out in zip(x.shape[1:3], steps, w.shape[1:3], out_shape[1:3], strict=True)
    ]
    y = np.zeros(out_shape, f32)
    for i, j, c, a, b in np.ndindex(*x.shape[1:], *w.shape[1:3]):
        row, column = i * steps[0] - before[0] + a, j * steps[1] - before[1] + b
        if 0 <= row < out_shape[1] and 0 <= column < out_shape[2]:
            y[:, row, column] += x[:, i, j, c, None] * w[:, a, b, c]
    return finish(node, y, bias=3)


# --- int8 weights on float32 activations ----------------------------------------------------------------------------------


def hybrid_conv_2d(node: Node) -> Array:
    """conv.cc EvalHybrid, per-tensor weights: each image to int8 by its own scale, integer sums, one float32 product."""
    x, w = node.array(0), node.array(1)
    images = []
    for image in x:
        q, scale = symmetric_quantize_floats(image[None])
        p = patches(q.astype(np.float64), w.shape[1:3], **geometry(node))
        sums = np.tensordot(p, w.astype(np.float64), axes=([3, 4, 5], [1, 2, 3]))
        images.append(sums.astype(f32) * f32(scale * f32(quantization(node.tensor(1)).scale[0])))
    return finish(node, np.concatenate(images))


def symmetric_quantize_floats(x: Array) -> tuple[Array, np.float32]:
    """tensor_utils::SymmetricQuantizeFloats: round(x · 127 / max|x|) in ±127, and the scale max|x| / 127."""
    reach = np.abs(x).max()
    if reach == 0:
        return np.zeros_like(x), f32(1)
    return np.clip(round_half_away(x * f32(f32(127) / reach)), -127, 127), f32(reach / f32(127))
