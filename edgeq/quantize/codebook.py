"""Weights with few different codes: a codebook for each channel, on the int8 grid.

The levels are where Σ h·(w − level)² over a channel's weights is least, h the diagonal of the layer's Hessian: weights
whose inputs are large count more (Lloyd, "Least squares quantization in PCM", 1982; so weighted in Kim et al.,
"SqueezeLLM", ICML 2024). They are whole numbers of int8, so every runtime takes the model for an ordinary one, and a
sealed bundle stores an index for each weight. Channels whose rows are too short to pay for a codebook of their own share
one. Or the levels are 0 and ± powers of two of the largest (Zhou et al., "Incremental Network Quantization", ICLR 2017).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

ROUNDS = 25
"""Of assigning weights to levels and levels to weights."""

WORTH = 12
"""Bytes of indices to a byte of levels: shorter rows share."""


def sharing(row: int, count: int) -> int:
    """How many channels of `row` weights share a codebook of `count` levels."""
    bits = (count - 1).bit_length()
    return max(1, -(-WORTH * count * 8 // (bits * row)))


def levels(w: Array, importance: Array, count: int, kind: str) -> Array:
    """(n, count) int64, ascending: for each row of w (n, k), real weights in units of their scales, in [−127, 127].

    importance: (k,) or (n, k), ≥ 0. Rows that share a codebook have the same. A codebook may name a level twice.
    """
    n, k = w.shape
    if kind == "pow2":
        return np.broadcast_to(_powers(count), (n, count))
    share = min(sharing(k, count), n)
    groups = -(-n // share)
    values, weights = np.zeros((groups * share, k)), np.zeros((groups * share, k))
    values[:n] = w
    weights[:n] = np.maximum(np.broadcast_to(importance, w.shape), 0) + 1e-12 * float(np.max(importance, initial=1e-30))
    values, weights = values.reshape(groups, -1), weights.reshape(groups, -1)
    order = np.argsort(values, axis=1, kind="stable")
    values, weights = np.take_along_axis(values, order, 1), np.take_along_axis(weights, order, 1)
    found = _clustered(values, weights, count)
    codes = np.clip(np.rint(found), -127, 127).astype(np.int64)
    return np.repeat(np.sort(codes, axis=1), share, axis=0)[:n]


def nearest(column: Array, levels: Array) -> Array:
    """The level next to each value: column (n,), levels (n, count) ascending → (n,)."""
    middles = (levels[:, 1:] + levels[:, :-1]) / 2
    return np.asarray(np.take_along_axis(levels, (column[:, None] > middles).sum(axis=1)[:, None], 1)[:, 0])


def plain(w: Array, levels: Array) -> Array:
    """Every weight at the level next to it: w (n, k), levels (n, count) → (n, k)."""
    at = np.zeros(w.shape, np.int64)
    for j in range(levels.shape[1] - 1):
        at += w > ((levels[:, j] + levels[:, j + 1]) / 2)[:, None]
    return np.asarray(np.take_along_axis(levels, at, 1))


def _clustered(values: Array, weights: Array, count: int) -> Array:
    """Lloyd's iteration on rows of ascending values (g, m) → (g, count): a level's weights lie side by side.

    It starts at equal shares of √weight-like mass, ∛density being what is best for many levels (Panter & Dite 1951).
    """
    g, m = values.shape
    mass = np.concatenate([np.zeros((g, 1)), np.cumsum(weights, axis=1)], axis=1)
    moment = np.concatenate([np.zeros((g, 1)), np.cumsum(weights * values, axis=1)], axis=1)
    # Spans of equal ∛(weight · gap²): fine where weights are dense, never empty where they are sparse.
    gaps = np.diff(values, axis=1, prepend=values[:, :1])
    spread = np.cumsum(np.cbrt(np.maximum(weights, 1e-300) * np.maximum(gaps, 1e-9) ** 2), axis=1)
    goals = (np.arange(count) + 0.5) / count * spread[:, -1:]
    rows = np.arange(g)[:, None]
    start = np.stack([np.searchsorted(spread[i], goals[i]) for i in range(g)])
    found = np.take_along_axis(values, np.minimum(start, m - 1), 1)
    for _ in range(ROUNDS):
        middles = (found[:, 1:] + found[:, :-1]) / 2
        cut = np.stack([np.searchsorted(values[i], middles[i], side="right") for i in range(g)])
        cut = np.concatenate([np.zeros((g, 1), np.int64), cut, np.full((g, 1), m)], axis=1)
        total = mass[rows, cut[:, 1:]] - mass[rows, cut[:, :-1]]
        sums = moment[rows, cut[:, 1:]] - moment[rows, cut[:, :-1]]
        moved = np.where(total > 0, sums / np.where(total > 0, total, 1), found)
        if np.array_equal(moved, found):
            break
        found = np.sort(moved, axis=1)
    return found


def _powers(count: int) -> Array:
    """0, and powers of two of 127 on both sides, one more above."""
    up = [round(127 / 2**j) for j in range(count // 2)]
    return np.array(sorted({0, *up, *(-u for u in up[: count // 2 - 1])}), np.int64)
