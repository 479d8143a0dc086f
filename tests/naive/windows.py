"""Windows over images: what convolutions and pools slide."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.graph import Padding

from .node import Node

Array = npt.NDArray[Any]


def patches(
    x: Array, window: tuple[int, int], stride: tuple[int, int], dilation: tuple[int, int], padding: int
) -> Array:
    """Windows of x (n, h, w, c), zeros outside: (n, out_h, out_w, window_h, window_w, c)."""
    pads = [(0, 0)]
    for size, k, s, d in zip(x.shape[1:3], window, stride, dilation, strict=True):
        extent = (k - 1) * d + 1
        total = max((-(-size // s) - 1) * s + extent - size, 0) if padding == Padding.SAME else 0
        pads.append((total // 2, total - total // 2))
    x = np.pad(x, [*pads, (0, 0)])
    extents = tuple((k - 1) * d + 1 for k, d in zip(window, dilation, strict=True))
    views = np.lib.stride_tricks.sliding_window_view(x, extents, axis=(1, 2))[:, :: stride[0], :: stride[1]]
    return views[..., :: dilation[0], :: dilation[1]].transpose(0, 1, 2, 4, 5, 3)


def geometry(node: Node) -> dict[str, Any]:
    """Stride, dilation and padding options as `patches` takes them."""
    return {
        "stride": (node.option("stride_h"), node.option("stride_w")),
        "dilation": (node.option("dilation_h_factor", 1) or 1, node.option("dilation_w_factor", 1) or 1),
        "padding": node.option("padding"),
    }
