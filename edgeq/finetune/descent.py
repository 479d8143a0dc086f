"""Codes found by coordinate descent, and levels by least squares, for what a layer is to write.

With E = Ŵ − T, what a layer's codes lack of real weights T, H the second moments of what it reads and G those of the loss's
gradient at what it writes, the loss rises by about tr(G·E·H·Eᵀ) (Martens and Grosse, "Optimizing Neural Networks with
Kronecker-factored Approximate Curvature", ICML 2015; for rounding Tseng et al., "Model-Preserving Adaptive Rounding", 2025).
One weight after another goes to the code or the level that makes this least, all others staying where they are, until none moves;
then a codebook's levels go where it is least with every weight at the level that it has, which is a linear problem.
"""

from __future__ import annotations

import numpy as np

from edgeq.graph import Array

PASSES, ROUNDS = 3, 2
"""Times that all weights are gone through, and that levels are fitted between."""

SETTLED = 1e-3
"""The share of weights that still move, for which another pass is not worth it."""

_LIMIT = 127.0


def descended(codes: Array, target: Array, h: Array, levels: Array | None, g: Array | None = None) -> Array:
    """Codes (channels, k) that cost less than `codes`. target: (channels, k) in the same steps; h: (k, k), of depthwise layers
    (channels, k, k); levels: (channels, count) that weights may have, None for all of ±127; g: (channels, channels), None where
    channels do not depend on one another."""
    found = np.array(codes, np.float64)
    slope = found - target
    slope = np.einsum("ci,cij->cj", slope, h) if h.ndim == 3 else slope @ h
    diagonal = np.einsum("...jj->...j", h)
    order = np.argsort(-(diagonal.mean(axis=0) if h.ndim == 3 else diagonal), kind="stable")
    for _ in range(PASSES):
        moved = 0
        for j in order:
            if g is None:
                step = _nearest(found[:, j] - slope[:, j] / diagonal[..., j], levels) - found[:, j]
            else:
                step = _coupled(found[:, j], g @ slope[:, j], g, float(diagonal[j]), levels)
            count = np.count_nonzero(step)
            if count:
                moved += count
                found[:, j] += step
                slope += step[:, None] * h[..., j, :]
        if moved < SETTLED * found.size:
            break
    return found


def _coupled(column: Array, slope: Array, g: Array, h: float, levels: Array | None) -> Array:
    """How the codes of a column move, the one first that gains most by it: each changes the others' slopes."""
    step, diagonal = np.zeros(len(column)), np.diag(g) * h
    for _ in range(2 * len(column)):
        now = column + step
        by = _nearest(now - slope / diagonal, levels) - now
        gain = by * (2 * slope + diagonal * by)
        i = int(gain.argmin())
        if gain[i] >= 0:
            break
        step[i] += by[i]
        slope = slope + g[:, i] * (h * by[i])
    return step


def _nearest(values: Array, levels: Array | None) -> Array:
    if levels is None:
        return np.asarray(np.clip(np.rint(values), -_LIMIT, _LIMIT))
    at = np.abs(levels - values[:, None]).argmin(axis=1)
    return np.asarray(np.take_along_axis(levels, at[:, None], 1)[:, 0])


def levelled(
    codes: Array, target: Array, h: Array, levels: Array, book: Array, g: Array | None = None
) -> tuple[Array, Array]:
    """Codes (channels, k) and levels (books, count) of a codebook layer: descent and levels in turns. h: (k, k); book:
    (channels,) which one each channel uses."""
    for _ in range(ROUNDS):
        codes = descended(codes, target, h, levels[book], g)
        which = np.abs(levels[book][:, None, :] - codes[:, :, None]).argmin(axis=2)
        moved = _least_squares(which, target, h, levels, book)
        other = np.take_along_axis(moved[book], which, 1)
        gain = np.bincount(book, _cost(codes - target, h) - _cost(other - target, h), len(levels))
        codes = np.where((gain > 0)[book][:, None], other, codes)
        levels = np.where((gain > 0)[:, None], np.sort(moved, axis=1), levels)
    return codes, levels


def _cost(e: Array, h: Array) -> Array:
    return np.asarray(((e @ h) * e).sum(axis=1))


def _least_squares(which: Array, target: Array, h: Array, levels: Array, book: Array) -> Array:
    """Levels (books, count), whole numbers, that weights read as `which` (channels, k) would cost least with."""
    count = levels.shape[1]
    found, pulled = levels.copy(), target @ h
    for b in range(len(levels)):
        left, right = np.zeros((count, count)), np.zeros(count)
        for c in np.flatnonzero(book == b):
            chosen = np.eye(count)[which[c]]
            left += chosen.T @ (h @ chosen)
            right += chosen.T @ pulled[c]
        # A level that nothing is read as stays where it is.
        ridge = 1e-9 * np.trace(left) + 1e-30
        found[b] = np.linalg.solve(left + ridge * np.eye(count), right + ridge * levels[b])
    return np.asarray(np.clip(np.rint(found), -_LIMIT, _LIMIT))
