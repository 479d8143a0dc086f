"""Weights that lie on a grid already, and the step of it.

A float model may have been made of a quantized one, or trained with fake quantization (Jacob et al., "Quantization and Training
of Neural Networks for Efficient Integer-Arithmetic-Only Inference", CVPR 2018): its weights are then whole numbers of a step,
one step for a tensor, or one for each channel, as a batch norm's factor leaves it. Codes that count in that step, and not in a
127th of the largest weight, lose nothing. A step may leave some weights beyond ±127, since uint8 weights lie up to 255 steps
from zero: whether to clip those or to leave the grid is for the caller to measure.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

MOST: Final = 511
"""Steps from zero at most: nine bits and a sign. Of finer grids 8 bits make nothing better than of none."""

NEAR: Final = 1e-3
"""Of a step, how far from a whole number of them a weight may lie: float32 rounds a product of two numbers and a batch norm's
factor to 2⁻²³ of itself, which is 6 · 10⁻⁵ of a step at the far end of the grid."""

LOOKED: Final = 8
"""Channels that are looked at before all, and weights of a channel."""

BLOCK: Final = 64
"""Channels that are looked at together."""


def steps(w: Array, per_channel: bool) -> Array:
    """A scale for each row of w (channels, k) at which its codes are whole numbers: (channels,) float64, 0 where there is none.

    One for all without `per_channel`, then of shape (1,). Where the codes reach less far than ±127, the scale is the step or a
    whole fraction of it, such that they reach beyond ±63: nothing then depends on more than the largest weight's size.
    """
    reals = w.astype(np.float64)
    if not per_channel:
        whole = _of_all(reals)
        return np.array([whole])
    found = np.zeros(len(reals))
    top = np.abs(reals).max(axis=1, initial=0.0)
    live = np.flatnonzero(top > 0)
    some = live[np.linspace(0, len(live) - 1, LOOKED).astype(int)] if len(live) > LOOKED else live
    if not any(_step(reals[c]) for c in some):
        return found
    for start in range(0, len(live), BLOCK):
        block = live[start : start + BLOCK]
        found[block] = _each(reals[block])
    return found


def _each(w: Array) -> Array:
    """`_step` of each row of w (channels, k), none of which is all 0: (channels,), the same numbers in a tenth of the time."""
    s = np.sort(np.abs(w), axis=1)
    new = s > 0
    new[:, 1:] &= s[:, 1:] > s[:, :-1]
    top, steps = s[:, -1:], np.arange(1, MOST + 1)  # to the largest weight
    able = np.ones((len(s), MOST), bool)
    able[new.sum(axis=1) > MOST] = False
    some = s[:, np.linspace(0, s.shape[1] - 1, LOOKED).astype(int)]
    for k in _telling(s.shape[1]):  # of what these leave, which is little, the others
        able &= _near(s[:, k : k + 1] * (steps / top))
    rows, places = np.nonzero(able)
    able[rows, places] = _near(some[rows] * ((places + 1)[:, None] / top[rows])).all(axis=1)
    found, left = np.zeros(len(s)), np.flatnonzero(able.any(axis=1))
    while len(left):  # the fewest steps that a few weights allow, then the next
        first = able[left].argmax(axis=1)
        good = _near(s[left] * ((first + 1)[:, None] / top[left])).all(axis=1)
        for c, count in zip(left[good].tolist(), (first[good] + 1).tolist(), strict=True):
            found[c] = _fitted(s[c, new[c]], count)
        able[left, first] = False
        left = left[~good]
        left = left[able[left].any(axis=1)]
    return found


def _telling(count: int) -> tuple[int, int, int]:
    """Of so many weights in ascending order those that are looked at first, one by one: soon no number of steps is left. Where
    most are next to nothing, as where a channel is never used, only the largest tell."""
    return max(count - 2, 0), count // 2, count // 4


def _near(ratios: Array) -> Array:
    """Which of them are as good as whole numbers."""
    return np.asarray(np.abs(ratios - np.rint(ratios)) < NEAR)


def _fitted(u: Array, count: int) -> float:
    """The scale of weights of these sizes (ascending, each once), the largest of which is so many steps."""
    codes = np.rint(u * (count / u[-1]))
    step = float((u @ codes) / (codes @ codes))  # least squares: the largest weight is rounded as the others are
    return step / max(1, 127 // count)


def _of_all(w: Array) -> float:
    """The scale of a whole tensor, 0 where there is none."""
    flat = w.reshape(-1)
    part = flat[:: max(1, flat.size // (4 * MOST))]
    if len(np.unique(np.abs(part))) > MOST + 1:
        return 0.0
    return _step(flat)


def _step(w: Array) -> float:
    """The scale of some weights (k,), 0 where there is none."""
    u = np.unique(np.abs(w))
    u = u[u > 0]
    if not 0 < len(u) <= MOST:
        return 0.0
    counts = np.arange(1, MOST + 1)  # of steps to the largest weight
    for k in _telling(len(u)):
        counts = counts[_near(u[k] * (counts / u[-1]))]
        if not len(counts):
            return 0.0
    counts = counts[_near(u * (counts[:, None] / u[-1])).all(axis=1)]
    return _fitted(u, int(counts[0])) if len(counts) else 0.0


__all__ = ["MOST", "steps"]
