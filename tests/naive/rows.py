"""Matrices that are both computed, rows normalized, values placed by others, boxes that suppress each other."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from . import fixedpoint as fx
from .floating import in_order
from .node import Node, centred, f32, scale_of, zero_point_of
from .recurrent import inverse_root, symmetric

Array = npt.NDArray[Any]


def product(node: Node, x: Array, w: Array, bias: Array | None = None) -> Array:
    """Integers x (…, m, k) · w (…, k, n), less their zero points, in the output's numbers."""
    total = x @ w + (0 if bias is None else bias)
    s_x, s_w, s_y = scale_of(node.tensor(0)), scale_of(node.tensor(1)), scale_of(node.output)
    q, shift = fx.quantize_multiplier(float(f32(s_x * s_w)) / float(s_y))
    if node.output.dtype == "int16":
        reduced = (q + (1 << 15)) >> 16 if q < 0x7FFF0000 else 0x7FFF
        y = (total * reduced + (1 << (14 - shift))) >> (15 - shift)
    elif node.xnnpack and node.op.code == "FULLY_CONNECTED":
        y = fx.multiply_half_up(total, q, shift)
    else:
        y = fx.multiply_by_quantized_multiplier(total, q, shift)
    return node.clamp(y + zero_point_of(node.output))


def batch_matmul(node: Node) -> Array:
    """BATCH_MATMUL: float32 along k in order, integers, or int8 weights on float32 rows that are quantized first."""
    x, w = node.array(0), node.array(1)
    hybrid = x.dtype != w.dtype
    if x.dtype != f32:
        x, w = centred(node, 0), centred(node, 1)
    x = np.swapaxes(x, -1, -2) if node.option("adj_x", False) else x
    w = np.swapaxes(w, -1, -2) if node.option("adj_y", False) else w
    if hybrid:
        rows = x.reshape(-1, x.shape[-1])
        q, scale, zero = symmetric(rows, bool(node.option("asymmetric_quantize_inputs", False)))
        total = (q - zero[:, None]).reshape(x.shape) @ w.astype(np.int64)
        return total.astype(f32) * (scale * scale_of(node.tensor(1))).reshape(*x.shape[:-1], 1)
    if x.dtype == f32:
        return in_order(x[..., :, k, None] * w[..., None, k, :] for k in range(x.shape[-1]))
    return product(node, x, w)


def computed_weights(node: Node) -> Array:
    """FULLY_CONNECTED whose weights are computed."""
    w = node.array(1)
    if w.dtype == f32:
        x = node.array(0).reshape(-1, w.shape[1])
        y = in_order(x[:, k, None] * w[None, :, k] for k in range(x.shape[1]))
        return np.maximum(y, 0) if node.option("fused_activation_function") else y
    return product(node, centred(node, 0), centred(node, 1).T)


# --- rows -------------------------------------------------------------------------------------------------------------------


def l2_normalization(node: Node) -> Array:
    """x / √Σx²; int8 folds the scale of 1/128 into the inverse root's shift."""
    x = node.array(0)
    if x.dtype == f32:
        norm = np.maximum(np.sqrt(in_order(np.moveaxis(x * x, -1, 0))), f32(1e-6))
        return x / norm[..., None]
    d = centred(node, 0)
    out = np.zeros(d.shape, np.int64)
    for at in np.ndindex(d.shape[:-1]):
        q, down = inverse_root(int((d[at] * d[at]).sum()))
        folded = 7 if node.output.dtype == "int8" else 0
        out[at] = fx.multiply_by_quantized_multiplier(d[at] << (7 - folded), q, folded - down)
    return node.clamp(out + (128 if node.output.dtype == "uint8" else 0))


def log_softmax(node: Node) -> Array:
    """x − max − log Σ exp(x − max)."""
    x = node.array(0)
    if x.dtype == f32:
        d = x - x.max(axis=-1, keepdims=True)
        return d - np.log(np.exp(d.astype(np.float64)).sum(axis=-1, keepdims=True)).astype(f32)
    d = x.astype(np.int64) - x.max(axis=-1, keepdims=True).astype(np.int64)
    steps = d.astype(f32) * scale_of(node.tensor(0))
    total = in_order(np.moveaxis(np.exp(steps.astype(np.float64)).astype(f32), -1, 0))
    v = (steps - np.log(total.astype(np.float64)).astype(f32)[..., None]) * f32(16)
    return node.clamp(np.floor(v.astype(np.float64) + 0.5).astype(np.int64) + zero_point_of(node.output))


def local_response_normalization(node: Node) -> Array:
    """x / (bias + alpha · Σ neighbours' x²)^beta; the reference kernel leaves the last neighbour out."""
    x, radius = node.array(0), node.option("radius")
    out = np.zeros_like(x)
    for c in range(x.shape[-1]):
        near = x[..., max(c - radius, 0) : c + radius + (1 if node.xnnpack else 0)]
        base = node.option("bias") + node.option("alpha") * (near.astype(np.float64) ** 2).sum(axis=-1)
        out[..., c] = x[..., c] * base ** -node.option("beta")
    return out


# --- places -----------------------------------------------------------------------------------------------------------------


def one_hot(node: Node) -> Array:
    """indices, depth, on, off."""
    depth = int(node.array(1))
    hot = node.array(0)[..., None] == np.arange(depth)
    y = np.where(hot, node.array(2), node.array(3))
    return y if node.option("axis") == -1 else np.moveaxis(y, -1, node.option("axis"))


def segment(function: Callable[[Any, Any], Any], first: Callable[[Any], Any]) -> Callable[[Node], Array]:
    """Rows that share an id are joined; an id below 0 leaves its row out."""

    def run(node: Node) -> Array:
        x = node.array(0)
        y = np.full(node.output.shape, first(np.finfo(f32) if x.dtype == f32 else np.iinfo(x.dtype)), x.dtype)
        with np.errstate(all="ignore"):
            for row, k in zip(x, node.array(1), strict=True):
                if k >= 0:
                    y[k] = function(y[k], row)
        return y

    return run


def reverse_sequence(node: Node) -> Array:
    """The first lengths[b] steps of batch b backwards."""
    x, step, batch = node.array(0), node.option("seq_dim"), node.option("batch_dim")
    y = np.moveaxis(x, (batch, step), (0, 1)).copy()
    for b, n in enumerate(node.array(1)):
        y[b, :n] = y[b, :n][::-1].copy()
    return np.moveaxis(y, (0, 1), (batch, step))


def bucketize(node: Node) -> Array:
    """How many boundaries lie at or below."""
    return np.searchsorted(np.asarray(node.option("boundaries"), f32), node.array(0), side="right").astype(np.int32)


def sparse_to_dense(node: Node) -> Array:
    """indices, shape, values, default."""
    y = np.full(node.array(1), node.array(3))
    for at, v in zip(node.array(0), node.array(2), strict=True):
        y[tuple(at)] = v
    return y


def matrix_diag(node: Node) -> Array:
    """Vectors on diagonals of zeros, or of input 0."""
    setting = node.op.code == "MATRIX_SET_DIAG"
    y = node.array(0).copy() if setting else np.zeros(node.output.shape, node.output.dtype)
    for k in range(min(y.shape[-2:])):
        y[..., k, k] = node.array(int(setting))[..., k]
    return y


# --- boxes ------------------------------------------------------------------------------------------------------------------


def overlap(a: Array, b: Array) -> np.float32:
    """Intersection over union of two boxes given by opposite corners."""
    low, high = (
        np.maximum(np.minimum(a[:2], a[2:]), np.minimum(b[:2], b[2:])),
        np.minimum(np.maximum(a[:2], a[2:]), np.maximum(b[:2], b[2:])),
    )
    areas = [f32(abs(v[2] - v[0]) * abs(v[3] - v[1])) for v in (a, b)]
    if min(areas) <= 0:
        return f32(0)
    both = f32(math.prod(np.maximum(high - low, f32(0))))
    return f32(both / f32(f32(areas[0] + areas[1]) - both))


def non_max_suppression(node: Node) -> tuple[Array, ...]:
    """The best candidate again and again; V5 softens those that it overlaps."""
    boxes, most = node.array(0), int(node.array(2))
    limit, least = f32(node.array(3)), f32(node.array(4))
    soft = node.op.code.endswith("5")
    sigma = f32(node.array(5)) if soft else f32(0)
    values, start = node.array(1).copy(), {}
    alive, picked, scores = set(np.flatnonzero(values > least).tolist()), [], []
    while alive and len(picked) < most:
        best = min(alive, key=lambda i: (-values[i], i))
        before, hard = values[best], False
        for j in range(len(picked) - 1, start.get(best, 0) - 1, -1):
            iou = overlap(boxes[best], boxes[picked[j]])
            if iou >= limit:
                hard = True
                break
            if sigma > 0:
                values[best] *= f32(math.exp(f32(f32(f32(-0.5 / sigma) * iou) * iou)))
            if values[best] <= least:
                break
        start[best] = len(picked)
        if hard or values[best] <= least:
            alive.discard(best)
        elif values[best] == before:
            alive.discard(best)
            picked.append(best)
            scores.append(values[best])
    room = [0] * (most - len(picked))
    found = (np.array(picked + room, np.int32), np.array(scores + room, f32), np.array(len(picked), np.int32))
    return found if soft else (found[0], found[2])
