"""Pooling and reductions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgeq.graph import Array
from edgeq.reverse.node import Node, Outcome, single
from edgeq.reverse.windows import window


def average_pool_2d(node: Node) -> Outcome:
    """The mean over the part of each window that lies in the image."""
    x = node.array(0)
    at = window(node, x.shape, (int(node.option("filter_height")), int(node.option("filter_width"))))
    taps = [(i, j) for i in range(at.size[0]) for j in range(at.size[1])]
    inside = at.padded(np.ones((1, *x.shape[1:3], 1), x.dtype))
    count = sum(inside[at.tap(i, j)] for i, j in taps)
    xp = at.padded(x)
    y = np.zeros((x.shape[0], *at.out, x.shape[3]), x.dtype)
    for i, j in taps:
        y += xp[at.tap(i, j)]

    def gradient(g: Array) -> Array:
        share = g / count
        spread = np.zeros_like(xp)
        for i, j in taps:
            spread[at.tap(i, j)] += share
        return at.cut(spread, x.shape)

    return single(y / count, gradient)


def max_pool_2d(node: Node) -> Outcome:
    """The largest value of each window; the first of equals has the gradient."""
    x = node.array(0)
    at = window(node, x.shape, (int(node.option("filter_height")), int(node.option("filter_width"))))
    xp = at.padded(x, -np.inf)
    taps = [(i, j) for i in range(at.size[0]) for j in range(at.size[1])]
    y = np.full((x.shape[0], *at.out, x.shape[3]), -np.inf, x.dtype)
    which = np.zeros(y.shape, np.int32)
    for k, (i, j) in enumerate(taps):
        seen = xp[at.tap(i, j)]
        better = seen > y
        y[better] = seen[better]
        which[better] = k

    def gradient(g: Array) -> Array:
        spread = np.zeros_like(xp)
        for k, (i, j) in enumerate(taps):
            spread[at.tap(i, j)] += np.where(which == k, g, 0)
        return at.cut(spread, x.shape)

    return single(y, gradient)


def _axes(node: Node) -> tuple[int, ...]:
    x = node.array(0)
    return tuple(sorted({int(a) % x.ndim for a in np.asarray(node.array(1)).reshape(-1)}))


def mean(node: Node) -> Outcome:
    """The mean over axes."""
    x, axes = node.array(0), _axes(node)
    count = int(np.prod([x.shape[a] for a in axes])) if axes else 1
    kept = tuple(1 if a in axes else n for a, n in enumerate(x.shape))
    y = x.mean(axis=axes).astype(x.dtype).reshape(node.shapes[0])
    return single(y, lambda g: np.broadcast_to(g.reshape(kept) / count, x.shape), None)


def total(node: Node) -> Outcome:
    """SUM over axes."""
    x, axes = node.array(0), _axes(node)
    kept = tuple(1 if a in axes else n for a, n in enumerate(x.shape))
    y = x.sum(axis=axes).astype(x.dtype).reshape(node.shapes[0])
    return single(y, lambda g: np.broadcast_to(g.reshape(kept), x.shape), None)


def extreme(largest: bool):  # type: ignore[no-untyped-def]
    """REDUCE_MAX and REDUCE_MIN: equals share the gradient."""

    def rule(node: Node) -> Outcome:
        x, axes = node.array(0), _axes(node)
        kept = tuple(1 if a in axes else n for a, n in enumerate(x.shape))
        y = (x.max if largest else x.min)(axis=axes).reshape(kept)
        hit = (x == y).astype(x.dtype)
        share = hit / hit.sum(axis=axes, keepdims=True)
        return single(y.reshape(node.shapes[0]), lambda g: g.reshape(kept) * share, None)

    return rule


def softmax(node: Node) -> Outcome:
    """Over the last axis, of beta · x."""
    x, beta = node.array(0), float(node.option("beta", 1.0))
    e = np.exp((x - x.max(axis=-1, keepdims=True)) * beta)
    y = e / e.sum(axis=-1, keepdims=True)
    return single(y, lambda g: beta * y * (g - (g * y).sum(axis=-1, keepdims=True)))


def log_softmax(node: Node) -> Outcome:
    """Over the last axis."""
    x = node.array(0)
    shifted = x - x.max(axis=-1, keepdims=True)
    y = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return single(y, lambda g: g - np.exp(y) * g.sum(axis=-1, keepdims=True))


def l2_normalization(node: Node) -> Outcome:
    """x / ‖x‖ over the last axis."""
    x = node.array(0)
    norm = np.sqrt(np.maximum((x * x).sum(axis=-1, keepdims=True), 1e-6))
    y = x / norm

    def gradient(g: Array) -> Array:
        inner: Array = (g - y * (g * y).sum(axis=-1, keepdims=True)) / norm
        return inner

    return single(y, gradient)


def unpacked(given: Sequence[Array], axis: int) -> Array:
    """Gradients of slices as that of the whole."""
    return np.stack(given, axis=axis)
