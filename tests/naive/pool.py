"""AVERAGE_POOL_2D and MAX_POOL_2D: windows over the elements that exist; padding is never counted."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from .floating import in_order
from .node import Node, float_activation
from .windows import patches

Array = npt.NDArray[Any]


def windows(node: Node, x: Array) -> Array:
    """x (n, h, w, c) to (n, out_h, out_w, kh, kw, c)."""
    size = (node.option("filter_height"), node.option("filter_width"))
    return patches(x, size, (node.option("stride_h"), node.option("stride_w")), (1, 1), node.option("padding"))


def average_pool_2d(node: Node) -> Array:
    """Sum over the window divided by its valid elements; integers round half away from zero. Same scale in and out."""
    x = node.array(0)
    count = windows(node, np.ones_like(x, np.int64)).sum(axis=(3, 4))
    if node.output.dtype == "float32":
        taps = windows(node, x)
        total = in_order(taps[..., i, j, :] for i in range(taps.shape[3]) for j in range(taps.shape[4]))
        return float_activation(node.option("fused_activation_function"), total / count.astype(np.float32))
    total = windows(node, x.astype(np.int64)).sum(axis=(3, 4))
    magnitude = (np.abs(total) + count // 2) // count
    return node.clamp(np.where(total >= 0, magnitude, -magnitude))


def max_pool_2d(node: Node) -> Array:
    """Maximum over the window's valid elements. Same scale in and out."""
    x = node.array(0).astype(np.float64)
    # Outside is minus infinity: shifting by the minimum makes the zeros of `patches` just that, exactly for what pools hold.
    low = x.min()
    best = windows(node, x - low).max(axis=(3, 4)) + low
    if node.output.dtype == "float32":
        return float_activation(node.option("fused_activation_function"), best).astype(np.float32)
    return node.clamp(best.astype(np.int64))
