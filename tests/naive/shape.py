"""RESHAPE, PAD, STRIDED_SLICE, CONCATENATION: values move, none changes."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from .node import Node, zero_point_of

Array = npt.NDArray[Any]


def reshape(node: Node) -> Array:
    """The output tensor's shape, which the file states."""
    return node.array(0).reshape(node.output.shape)


def pad(node: Node) -> Array:
    """input 1: (rank, 2) counts before and after; filled with real 0, which is the zero point."""
    fill = 0 if node.output.quantization is None or node.output.dtype == "float32" else zero_point_of(node.output)
    return np.pad(node.array(0), [(int(a), int(b)) for a, b in node.array(1)], constant_values=fill)


def strided_slice(node: Node) -> Array:
    """begin, end, strides (rank,) with the begin, end and shrink masks; no ellipsis and no new axis."""
    if node.option("ellipsis_mask") or node.option("new_axis_mask"):
        raise ValueError("STRIDED_SLICE: ellipsis and new axis are not in any model here")
    index: list[slice | int] = []
    for k, (begin, end, stride) in enumerate(zip(*(node.array(i).tolist() for i in (1, 2, 3)), strict=True)):
        if node.option("shrink_axis_mask") >> k & 1:
            index.append(begin)
            continue
        first = None if node.option("begin_mask") >> k & 1 else begin
        last = None if node.option("end_mask") >> k & 1 else end
        index.append(slice(first, last, stride))
    return node.array(0)[tuple(index)]


def concatenation(node: Node) -> Array:
    """All inputs along one axis; quantized inputs have the output's scale."""
    return np.concatenate([a for a in node.arrays if a is not None], axis=node.option("axis"))
