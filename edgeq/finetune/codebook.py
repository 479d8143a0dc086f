"""Weights of few levels: what a codebook model's channels hold, and what learning may do to them.

Such a model stays what it is: each channel keeps its number of levels, which lie on the integer grid. Two things move.
Weights are learned in full precision and read as the nearest level (steps.py says what gradient that has); a level moves
along with the mean of the weights that are read as it (Lloyd's step of k-means).
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
        """Weights (channels, n) in steps → (their levels, rounded to codes; which level each is)."""
        codes = np.rint(self.levels)
        middles = 0.5 * (codes[:, 1:] + codes[:, :-1])[self.book]
        which = np.zeros(v.shape, np.int64)
        for k in range(middles.shape[1]):
            which += v > middles[:, k : k + 1]
        return np.take_along_axis(codes[self.book], which, axis=1), which

    def followed(self, which: Array, moves: Array, low: int, high: int) -> Codebook:
        """The codebook after its weights moved by `moves` (channels, n), in steps: each level by the mean of those that
        are read as it."""
        books, k = self.levels.shape
        flat = (which + k * self.book[:, None]).reshape(-1)
        count = np.bincount(flat, minlength=books * k)
        total = np.bincount(flat, moves.reshape(-1), books * k)
        moved = (total / np.maximum(count, 1)).reshape(books, k)
        return Codebook(np.clip(np.sort(self.levels + moved, axis=1), low, high), self.book)


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


def bits_of(tensors: list[Array]) -> int | None:
    """The size of codebooks that all of a model's weights (channels, n) keep to, None for a model without.

    Channels of nine weights have few levels in any model; those of 64 or more decide.
    """
    large = [rows for rows in tensors if rows.shape[1] >= 4 * SIZES[-1]]
    if not large:
        return None
    most = max(len(np.unique(row)) for rows in large for row in rows)
    return next((size for size in SIZES if most <= size), None)
