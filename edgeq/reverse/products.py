"""Sums of products: convolutions, fully connected layers, matrix products."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgeq.graph import Array, Padding
from edgeq.reverse.node import Node, Outcome, summed
from edgeq.reverse.windows import Window, window


def conv_2d(node: Node) -> Outcome:
    """x (n, h, w, in_c), w (out_c, kh, kw, in_c / groups), optional bias (out_c,)."""
    x, w = node.array(0), node.array(1)
    at = window(node, x.shape, (w.shape[1], w.shape[2]))
    groups = x.shape[3] // w.shape[3]
    xp = at.padded(x)
    parts = np.split(xp, groups, axis=3) if groups > 1 else [xp]
    rows = [at.patches(np.ascontiguousarray(p)) for p in parts]
    matrices = [m.reshape(m.shape[0], -1) for m in np.split(w, groups)]
    y = np.concatenate([r @ m.T for r, m in zip(rows, matrices, strict=True)], axis=1)

    def back(given: Sequence[Array]) -> Sequence[Array | None]:
        g = given[0].reshape(-1, w.shape[0])
        pieces = np.split(g, groups, axis=1)
        gx = gw = None
        if node.wants(0):
            filters = np.split(w, groups)
            spread = [at.spread(p, m, (*xp.shape[:3], w.shape[3])) for p, m in zip(pieces, filters, strict=True)]
            gx = at.cut(np.concatenate(spread, axis=3) if groups > 1 else spread[0], x.shape)
        if node.wants(1):
            gw = np.concatenate([p.T @ r for p, r in zip(pieces, rows, strict=True)]).reshape(w.shape)
        return [gx, gw, g.sum(axis=0) if node.wants(2) else None]

    return (_biased(node, y, 2).reshape(x.shape[0], *at.out, w.shape[0]),), back


def depthwise_conv_2d(node: Node) -> Outcome:
    """x (n, h, w, in_c), w (1, kh, kw, in_c · multiplier), optional bias."""
    x, w = node.array(0), node.array(1)
    multiplier = w.shape[3] // x.shape[3]
    at = window(node, x.shape, (w.shape[1], w.shape[2]))
    xp = at.padded(np.repeat(x, multiplier, axis=3) if multiplier > 1 else x)
    taps = [(i, j) for i in range(w.shape[1]) for j in range(w.shape[2])]
    y = np.zeros((x.shape[0], *at.out, w.shape[3]), x.dtype)
    for i, j in taps:
        y += xp[at.tap(i, j)] * w[0, i, j]

    def back(given: Sequence[Array]) -> Sequence[Array | None]:
        g = given[0]
        gx = gw = None
        if node.wants(0):
            spread = np.zeros_like(xp)
            for i, j in taps:
                spread[at.tap(i, j)] += g * w[0, i, j]
            gx = at.cut(spread, (*x.shape[:3], w.shape[3]))
            if multiplier > 1:
                gx = gx.reshape(*x.shape, multiplier).sum(axis=4)
        if node.wants(1):
            gw = np.empty_like(w)
            for i, j in taps:
                gw[0, i, j] = np.einsum("nhwc,nhwc->c", xp[at.tap(i, j)], g)
        return [gx, gw, g.sum(axis=(0, 1, 2)) if node.wants(2) else None]

    return (_biased(node, y, 2),), back


def fully_connected(node: Node) -> Outcome:
    """x (…, k) in rows of k, w (out, k), optional bias (out,)."""
    x, w = node.array(0), node.array(1)
    rows = x.reshape(-1, w.shape[1])

    def back(given: Sequence[Array]) -> Sequence[Array | None]:
        g = given[0].reshape(-1, w.shape[0])
        return [
            (g @ w).reshape(x.shape) if node.wants(0) else None,
            g.T @ rows if node.wants(1) else None,
            g.sum(axis=0) if node.wants(2) else None,
        ]

    return (_biased(node, rows @ w.T, 2).reshape(node.shapes[0]),), back


def transpose_conv(node: Node) -> Outcome:
    """output shape, w (out_c, kh, kw, in_c), x (n, h, w, in_c), optional bias: the gradient of a convolution's input."""
    w, x = node.array(1), node.array(2)
    _, height, width, out_c = node.shapes[0]
    size = (w.shape[1], w.shape[2])
    stride = (int(node.option("stride_h", 1)), int(node.option("stride_w", 1)))
    same = node.option("padding", Padding.SAME) == Padding.SAME
    out = (x.shape[1], x.shape[2])
    before, after = [0, 0], [0, 0]
    for a, n in enumerate((height, width)):
        total = max((out[a] - 1) * stride[a] + size[a] - n, 0)
        before[a] = total // 2 if same else 0
        # What the walk does not reach is border too: those outputs get nothing but the bias.
        after[a] = (out[a] - 1) * stride[a] + size[a] - n - before[a]
    at = Window(size, stride, (1, 1), (before[0], before[1]), (max(after[0], 0), max(after[1], 0)), out)
    padded = (
        x.shape[0], height + at.before[0] + at.after[0], width + at.before[1] + at.after[1], out_c,
    )  # fmt: skip
    matrix = w.transpose(1, 2, 0, 3).reshape(-1, w.shape[3])  # (kh·kw·out_c, in_c)
    rows = x.reshape(-1, x.shape[3])
    y = at.cut(at.scattered(rows @ matrix.T, padded), node.shapes[0])

    def back(given: Sequence[Array]) -> Sequence[Array | None]:
        met = at.patches(np.ascontiguousarray(at.padded(given[0])))
        gw = None
        if node.wants(1):
            gw = (met.T @ rows).reshape(*size, out_c, -1).transpose(2, 0, 1, 3)
        gx = (met @ matrix).reshape(x.shape) if node.wants(2) else None
        return [None, gw, gx, given[0].sum(axis=(0, 1, 2)) if node.wants(3) else None]

    return (_biased(node, y, 3),), back


def batch_matmul(node: Node) -> Outcome:
    """x (…, m, k) times y (…, k, n), either transposed; leading dimensions broadcast."""
    a, b = node.array(0), node.array(1)
    left, right = (bool(node.option(name, False)) for name in ("adj_x", "adj_y"))
    p = a.swapaxes(-1, -2) if left else a
    q = b.swapaxes(-1, -2) if right else b

    def back(given: Sequence[Array]) -> Sequence[Array | None]:
        g = given[0]
        ga = gb = None
        if node.wants(0):
            ga = summed(g @ q.swapaxes(-1, -2), p.shape)
            ga = ga.swapaxes(-1, -2) if left else ga
        if node.wants(1):
            gb = summed(p.swapaxes(-1, -2) @ g, q.shape)
            gb = gb.swapaxes(-1, -2) if right else gb
        return [ga, gb]

    return (p @ q,), back


def _biased(node: Node, y: Array, k: int) -> Array:
    return y + node.array(k) if node.has(k) else y
