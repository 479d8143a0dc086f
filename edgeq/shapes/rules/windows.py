"""Operations that slide a window over an image, sized by TFLite's kernels/padding.h."""

from __future__ import annotations

from collections.abc import Sequence

from edgeq.graph import Padding
from edgeq.shapes.node import Node, Shape


def conv_2d(n: Node) -> Sequence[Shape]:
    """Input (n, h, w, c), weights (out, kh, kw, c / groups)."""
    (batch, h, w, c), (out, kh, kw, group) = n.rank(0, 4), n.rank(1, 4)
    if group < 1 or c % group:
        raise n.wrong(f"{c} input channels for weights of {group}")
    rows = _window(n, h, kh, n.option("stride_h", 1), n.option("dilation_h_factor", 1))
    return [(batch, rows, _window(n, w, kw, n.option("stride_w", 1), n.option("dilation_w_factor", 1)), out)]


def depthwise_conv_2d(n: Node) -> Sequence[Shape]:
    """Input (n, h, w, c), weights (1, kh, kw, c · multiplier)."""
    (batch, h, w, c), (_, kh, kw, out) = n.rank(0, 4), n.rank(1, 4)
    if c < 1 or out % c:
        raise n.wrong(f"{c} input channels for weights of {out}")
    rows = _window(n, h, kh, n.option("stride_h", 1), n.option("dilation_h_factor", 1))
    return [(batch, rows, _window(n, w, kw, n.option("stride_w", 1), n.option("dilation_w_factor", 1)), out)]


def conv_3d(n: Node) -> Sequence[Shape]:
    """Input (n, d, h, w, c), weights (kd, kh, kw, c, out)."""
    (batch, *sizes, c), (*kernel, group, out) = n.rank(0, 5), n.rank(1, 5)
    if c != group:
        raise n.wrong(f"{c} input channels for weights of {group}")
    spatial = [
        _window(n, size, k, n.option(f"stride_{a}", 1), n.option(f"dilation_{a}_factor", 1))
        for size, k, a in zip(sizes, kernel, "dhw", strict=True)
    ]
    return [(batch, *spatial, out)]


def conv_3d_transpose(n: Node) -> Sequence[Shape]:
    """Input 0 is the output's shape."""
    out, x = tuple(n.integers(0)), n.rank(2, 5)
    if len(out) != 5 or out[0] != x[0]:
        raise n.wrong(f"an output of shape {list(out)} for an input of shape {list(x)}")
    return [out]


def rfft2d(n: Node) -> Sequence[Shape]:
    """Input 1 is the transform's lengths along the last two axes."""
    x, lengths = n.shape(0), n.integers(1)
    if len(x) < 2 or len(lengths) != 2 or min(lengths) < 1:
        raise n.wrong(f"lengths {lengths} for shape {list(x)}")
    return [(*x[:-2], lengths[0], lengths[1] // 2 + 1)]


def transpose_conv(n: Node) -> Sequence[Shape]:
    """Input 0 is the output's shape."""
    out, x = tuple(n.integers(0)), n.shape(2)
    if len(out) != len(x) or out[0] != x[0]:
        raise n.wrong(f"an output of shape {list(out)} for an input of shape {list(x)}")
    return [out]


def pool_2d(n: Node) -> Sequence[Shape]:
    """Input (n, h, w, c)."""
    batch, h, w, c = n.rank(0, 4)
    rows = _window(n, h, n.option("filter_height", 1), n.option("stride_h", 1))
    return [(batch, rows, _window(n, w, n.option("filter_width", 1), n.option("stride_w", 1)), c)]


def _window(n: Node, size: int, window: int, stride: int, dilation: int = 1) -> int:
    """ComputeOutSize of kernels/padding.h."""
    if stride < 1 or dilation < 1 or window < 1:
        raise n.wrong(f"stride {stride}, dilation {dilation}, window {window}; at least 1 is expected")
    extent = (window - 1) * dilation + 1
    out = -(-size // stride) if n.option("padding") == Padding.SAME else (size + stride - extent) // stride
    if out < 1 and size:
        raise n.wrong(f"a window of {extent} does not fit an input of {size}")
    return max(out, 0)
