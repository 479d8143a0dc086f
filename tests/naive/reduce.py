"""MEAN."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from .delegation import takes
from .fixedpoint import multiply_by_quantized_multiplier, quantize_multiplier
from .floating import in_order
from .node import Node, f32, scale_of, zero_point_of

Array = npt.NDArray[Any]


def mean(node: Node) -> Array:
    """Mean over the axes of input 1 (int32), keeping them as 1 where keep_dims says so."""
    axes = tuple(sorted(int(a) % node.array(0).ndim for a in np.atleast_1d(node.array(1))))
    keep = bool(node.option("keep_dims", False))
    if node.output.dtype == "float32":
        x = np.moveaxis(node.array(0), axes, range(len(axes)))
        total = in_order(x.reshape(-1, *x.shape[len(axes) :]))
        return (total / f32(node.array(0).size // total.size)).reshape(node.output.shape)
    s_in, s_out = scale_of(node.tensor(0)), scale_of(node.output)
    raw = node.array(0).astype(np.int64)
    total = raw.sum(axis=axes, keepdims=keep)
    n = raw.size // total.size
    offset = n * zero_point_of(node.tensor(0))
    if takes(node):
        # XNNPACK sums raw values; both zero points are in a float32 bias that is added before the rounding, ties to even.
        m = f32(s_in / s_out) * (f32(1) / f32(n))
        bias = f32(zero_point_of(node.output)) - f32(offset) * m
        return node.clamp(np.rint(total.astype(f32) * m + bias).astype(np.int64))
    q = divided(total - offset, n, float(s_in) / float(s_out))
    return node.clamp(q + zero_point_of(node.output))


def divided(total: Array, n: int, real: float) -> Array:
    """reference_ops::QuantizedMeanOrSum: 1/n is folded into the fixed-point multiplier by an integer division."""
    multiplier, shift = quantize_multiplier(real)
    # As many bits as n has are kept, so that the quotient loses none (bounded by the shift that the arithmetic allows).
    bits = min(n.bit_length() - 1, 32, 31 + shift)
    return multiply_by_quantized_multiplier(total, (multiplier << bits) // n, shift - bits)
