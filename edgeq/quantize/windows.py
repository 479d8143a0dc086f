"""What a layer's weights meet: its input as rows, one for each product that they take part in (im2col)."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.graph import Op, Padding

Array = npt.NDArray[Any]


def rows(op: Op, x: Array, weights: tuple[int, ...], most: int) -> Array | None:
    """At most `most` rows of a layer's input, evenly spread, float32; None for a layer that is not laid out so.

    CONV_2D: (n, kh·kw·in_c), in the order of a weight's own axes; DEPTHWISE_CONV_2D: (n, kh·kw, in_c); FULLY_CONNECTED:
    (n, k). weights: their shape. Groups are None.
    """
    if op.code == "FULLY_CONNECTED":
        return _spread(x.reshape(-1, weights[1]), most)
    if op.code not in ("CONV_2D", "DEPTHWISE_CONV_2D") or op.options is None or x.ndim != 4:
        return None
    if op.code == "CONV_2D" and weights[3] != x.shape[3]:
        return None
    values = op.options.values
    window, stride = weights[1:3], (values["stride_h"], values["stride_w"])
    dilation = (values.get("dilation_h_factor") or 1, values.get("dilation_w_factor") or 1)
    places = []
    for size, k, s, d in zip(x.shape[1:3], window, stride, dilation, strict=True):
        extent = (k - 1) * d + 1
        same = values["padding"] == Padding.SAME
        count = -(-size // s) if same else (size - extent) // s + 1
        before = max((count - 1) * s + extent - size, 0) // 2 if same else 0
        places.append(np.arange(count)[:, None] * s + np.arange(k) * d - before)  # (out, k), −1 and less: the border
    down, right = places
    total = x.shape[0] * len(down) * len(right)
    at = np.arange(0, total, -(-total // most))
    image, at = np.divmod(at, len(down) * len(right))
    i, j = down[at // len(right)], right[at % len(right)]  # (n, kh), (n, kw)
    inside = ((i >= 0) & (i < x.shape[1]))[:, :, None] & ((j >= 0) & (j < x.shape[2]))[:, None, :]
    i, j = np.clip(i, 0, x.shape[1] - 1), np.clip(j, 0, x.shape[2] - 1)
    found = x[image[:, None, None], i[:, :, None], j[:, None, :]] * inside[..., None]
    if op.code == "CONV_2D":
        return np.asarray(found.reshape(len(found), -1), np.float32)
    return np.asarray(found.reshape(len(found), -1, x.shape[3]), np.float32)


def _spread(x: Array, most: int) -> Array:
    return np.array(x[:: -(-len(x) // most)], np.float32)  # its own: what it is cut from may be written again
