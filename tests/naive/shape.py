"""RESHAPE, PAD, STRIDED_SLICE, CONCATENATION: values move, none changes."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from .fixedpoint import round_half_away
from .node import Node, f32, scale_of, zero_point_of

Array = npt.NDArray[Any]


def reshape(node: Node) -> Array:
    """The output tensor's shape, which the file states."""
    return node.array(0).reshape(node.output.shape)


def pad(node: Node) -> Array:
    """input 1: (rank, 2) counts before and after; filled with real 0, which is the zero point."""
    fill = 0 if node.output.quantization is None or node.output.dtype == "float32" else zero_point_of(node.output)
    return np.pad(node.array(0), [(int(a), int(b)) for a, b in node.array(1)], constant_values=fill)


def strided_slice(node: Node) -> Array:
    """begin, end, strides (rank,) with the begin, end and shrink masks; ellipsis and new axis as in NumPy."""
    index: list[Any] = []
    for k, (begin, end, stride) in enumerate(zip(*(node.array(i).tolist() for i in (1, 2, 3)), strict=True)):
        if node.option("ellipsis_mask") >> k & 1:
            index.append(...)
            continue
        if node.option("new_axis_mask") >> k & 1:
            index.append(None)
            continue
        if node.option("shrink_axis_mask") >> k & 1:
            index.append(begin)
            continue
        first = None if node.option("begin_mask") >> k & 1 else begin
        last = None if node.option("end_mask") >> k & 1 else end
        index.append(slice(first, last, stride))
    return node.array(0)[tuple(index)]


def concatenation(node: Node) -> Array:
    """All inputs along one axis; quantized inputs have the output's scale, but for uint8, which is brought to it."""
    parts = [node.array(k) if node.output.dtype != "uint8" else rescaled(node, k) for k in range(len(node.arrays))]
    return np.concatenate(parts, axis=node.option("axis"))


def rescaled(node: Node, k: int) -> Array:
    """reference_ops::ConcatenationWithScaling: one float32 product and sum, half away from zero."""
    x, y = node.tensor(k), node.output
    if (scale_of(x), zero_point_of(x)) == (scale_of(y), zero_point_of(y)):
        return node.array(k)
    scale = scale_of(x) * (f32(1) / scale_of(y))
    v = node.array(k).astype(f32) * scale + -f32(zero_point_of(x)) * scale
    return np.clip(round_half_away(v) + zero_point_of(y), 0, 255).astype(np.uint8)
