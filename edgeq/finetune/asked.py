"""What the float model is asked: the samples to learn from, varied (varied.py), and some moved to where they wake units
that the given ones leave idle (sought.py)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgeq.finetune.rows import Rows
from edgeq.finetune.sought import Sought
from edgeq.finetune.varied import Spread, varied
from edgeq.graph import Array, Graph

SOUGHT = 0.5
"""The share of the varied samples that is moved to where it wakes other units."""

MOST_SEEN = 1024
"""Samples that mean and spread come from."""

MOST_KEPT = 96 << 20
"""Bytes of inputs that are held at once, as many samples as that may be."""


class Asked:
    """Samples of `rows` by their numbers, those of `learn` for others to be made from. targets: the float graph's; piece:
    how many samples may go through it at once."""

    def __init__(self, graph: Graph, targets: Sequence[int], rows: Rows, learn: Array, piece: int) -> None:
        self.rows, self.learn = rows, learn
        some = rows.take(some_of(learn, rows, MOST_SEEN))
        self._spread = [Spread.of(a) for a in some]
        self._sought = Sought(graph, targets, some, self._spread, piece) if Sought.possible(graph, some) else None

    def varied(self, numbers: Array, draw: np.random.Generator) -> list[Array]:
        """As many samples as `numbers`, made from these and others by chance."""
        others = self.rows.take(draw.choice(self.learn, len(numbers)))
        inputs = varied(self.rows.take(numbers), others, len(numbers), self._spread, draw)
        n = round(SOUGHT * len(numbers))
        moved = self.woken([a[:n] for a in inputs], draw) if n else None
        return inputs if moved is None else [np.concatenate([m, a[n:]]) for m, a in zip(moved, inputs, strict=True)]

    def woken(self, inputs: Sequence[Array], draw: np.random.Generator) -> list[Array] | None:
        """Samples that wake other units, one for each of these; None where there is nothing to wake."""
        if self._sought is None or not self._sought.layers:
            return None
        return self._sought.moved(inputs, draw)


def some_of(numbers: Array, rows: Rows, most: int) -> Array:
    """At most so many of the samples' numbers, evenly spread, no more than may be held at once."""
    one = sum(a.nbytes for a in rows.take(numbers[:1]))
    most = max(1, min(most, MOST_KEPT // max(1, one)))
    return numbers if len(numbers) <= most else numbers[np.linspace(0, len(numbers) - 1, most).round().astype(int)]
