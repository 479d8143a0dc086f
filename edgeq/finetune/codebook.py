"""Weights of few levels: what a codebook model's channels hold, and what learning may do to them.

Such a layer stays what it is: each channel keeps its number of levels, which lie on the integer grid. Two things are
learned. Weights are kept in full precision and read as the nearest level (steps.py says what gradient that has); a level has
the gradient of all weights that are read as it.
"""

from __future__ import annotations

import numpy as np

from edgeq.graph import Array
from edgeq.records import dataclass

SIZES = (4, 8, 16)
"""Levels of a channel's codebook: those of 2, 3 and 4 bits."""


MOST_SHARED = 512
"""Weights to a codebook that channels with short rows may share."""


@dataclass(frozen=True, eq=False)
class Codebook:
    """levels: (books, k) float64 in units of the weights' step, ascending, a book with fewer repeats its last; book:
    (channels,) which one each channel uses."""

    levels: Array
    book: Array

    def read(self, v: Array) -> tuple[Array, Array]:
        """Weights (channels, n) float32 in steps → (their levels, rounded to codes, float32; which are above the middle
        between two levels: (k − 1, channels, n) bool)."""
        codes = np.rint(self.levels)
        middles = (0.5 * (codes[:, 1:] + codes[:, :-1]))[self.book].astype(v.dtype)
        rises = np.diff(codes, axis=1)[self.book].astype(v.dtype)
        above = v > middles.T[:, :, None]
        found = np.repeat(codes[self.book, :1].astype(v.dtype), v.shape[1], axis=1)
        for rise, higher in zip(rises.T, above, strict=True):
            found += rise[:, None] * higher
        return found, above

    def gathered(self, above: Array, gradient: Array) -> Array:
        """The levels' gradient (books, k): the sum of `gradient` (channels, n) over the weights that are read as each."""
        books, k = self.levels.shape
        sums = np.empty((len(self.book), k + 1))  # of what is above each middle
        sums[:, 0], sums[:, k] = gradient.sum(axis=1, dtype=np.float64), 0
        for j, higher in enumerate(above):
            sums[:, j + 1] = (gradient * higher).sum(axis=1, dtype=np.float64)
        found = np.zeros((books, k))
        np.add.at(found, self.book, sums[:, :-1] - sums[:, 1:])
        return found

    def at(self, levels: Array) -> Codebook:
        """The codebook with other levels."""
        return Codebook(levels, self.book)


def codebook_of(rows: Array, most: int) -> Codebook | None:
    """The codebook of codes (channels, n) counted from the zero point, None where a channel has more than `most` levels.

    As many neighbouring channels as agree on one share it, up to MOST_SHARED weights.
    """
    channels, n = rows.shape
    for share in range(min(channels, max(1, -(-MOST_SHARED // max(n, 1)))), 0, -1):
        found = [np.unique(rows[at : at + share]) for at in range(0, channels, share)]
        size = max(len(f) for f in found)
        if size <= most:
            padded = [np.concatenate([f, np.repeat(f[-1:], size - len(f))]) for f in found]
            return Codebook(np.array(padded, np.float64), np.arange(channels) // share)
    return None


def levels_of(rows: Array) -> int | None:
    """The size of the codebooks that a layer's codes (channels, n) keep to, None for a layer without.

    Each layer is told by itself: a codebook recipe leaves some of them whole. Nine weights have few levels in any layer;
    where there are four times as many weights as levels, few levels are meant.
    """
    most = max(len(np.unique(row)) for row in rows)
    return next((size for size in SIZES if most <= size and 4 * most <= rows.shape[1]), None)
