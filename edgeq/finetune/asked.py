"""What the float model is asked: the samples to learn from, varied (varied.py), some moved to where they wake units that the
given ones leave idle (sought.py); of an autoencoder, what it makes of those (imagined.py)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from edgeq.calibrate import evenly
from edgeq.finetune.imagined import Imagined
from edgeq.finetune.rows import Rows
from edgeq.finetune.sought import MOST_UNITS, Sought
from edgeq.finetune.varied import Spread, varied
from edgeq.graph import Array, Graph

SOUGHT = 0.5
"""The share of the varied samples that is moved to where it wakes other units."""

MOST_SEEN = 1024
"""Samples that mean and spread come from."""

DRAFTS, WOKEN = 4096, 8
"""Samples that an autoencoder is shown for others to be made from, and how many units are woken in each at most."""

DRAWN = 32
"""Of those at once: each time units of other layers are woken."""

JUDGED = 512
"""Samples that are made to judge by, about."""

MOST_KEPT = 96 << 20
"""Bytes of inputs that are held at once, as many samples as that may be."""


class Asked:
    """Samples of `rows` by their numbers, those of `learn` for others to be made from. targets: the float graph's; answer:
    what it answers to inputs; piece: how many samples may go through it at once."""

    def __init__(
        self,
        graph: Graph,
        targets: Sequence[int],
        answer: Callable[[list[Array]], list[Array]],
        rows: Rows,
        learn: Array,
        piece: int,
    ) -> None:
        self.rows, self.learn = rows, learn
        some = rows.take(some_of(learn, rows, MOST_SEEN))
        self._spread = [Spread.of(a) for a in some]
        self._rows_a_sample = max(
            1, graph.tensors[graph.inputs[0]].shape[0] if graph.tensors[graph.inputs[0]].shape else 1
        )
        self._sought = Sought(graph, targets, some, self._spread, piece) if Sought.possible(graph, some) else None
        self._imagined: Imagined | None = None
        if len(some) == len(targets) == 1 and Sought.possible(graph, some):

            def taken(a: Array) -> Array:
                return answer([a])[0]

            if Imagined.possible(taken, some[0]):
                self._imagined = Imagined(taken, some[0], self._drafts(), self._spread[0])

    def varied(self, numbers: Array, draw: np.random.Generator) -> list[Array]:
        """As many samples as `numbers`, made from these and others by chance."""
        if self._imagined is not None:
            return [self._imagined.made(len(numbers), draw)]
        inputs = self._mixed(numbers, draw)
        n = round(SOUGHT * len(numbers))
        moved = self._woken([a[:n] for a in inputs], draw) if n else None
        return inputs if moved is None else [np.concatenate([m, a[n:]]) for m, a in zip(moved, inputs, strict=True)]

    def elsewhere(self, inputs: Sequence[Array], draw: np.random.Generator) -> list[Array] | None:
        """Samples like those to learn from, made from `inputs` alone, as many or JUDGED; None where nothing can be varied."""
        if self._imagined is not None:
            return [self._imagined.made(len(inputs[0]), draw, inputs[0])]
        woken = self._woken(inputs, draw)
        if woken is not None or any(a.dtype != np.float32 or not len(a) for a in inputs):
            return woken
        count = len(inputs[0]) // self._rows_a_sample
        times = max(1, min(JUDGED, MOST_KEPT // max(1, sum(a.nbytes for a in inputs) // count)) // count)
        made = [varied(inputs, self._others(inputs, count, draw), count, self._spread, draw) for _ in range(times)]
        return [np.concatenate(parts) for parts in zip(*made, strict=True)]

    @property
    def unlike(self) -> bool:
        """Whether what is made `elsewhere` is unlike the samples that it is made from."""
        return self._imagined is not None or (self._sought is not None and bool(self._sought.layers))

    def _others(self, inputs: Sequence[Array], count: int, draw: np.random.Generator) -> list[Array]:
        """The same samples in another order."""
        order = draw.permutation(count)
        return [a.reshape(count, -1, *a.shape[1:])[order].reshape(a.shape) for a in inputs]

    def _mixed(self, numbers: Array, draw: np.random.Generator) -> list[Array]:
        others = self.rows.take(draw.choice(self.learn, len(numbers)))
        return varied(self.rows.take(numbers), others, len(numbers), self._spread, draw)

    def _woken(self, inputs: Sequence[Array], draw: np.random.Generator, most: int = MOST_UNITS) -> list[Array] | None:
        if self._sought is None or not self._sought.layers:
            return None
        return self._sought.moved(inputs, draw, most)

    def _drafts(self) -> Array:
        """(n, …): variations in which units were woken, always the same ones."""
        draw, found = np.random.default_rng(0), []
        one = sum(a.nbytes for a in self.rows.take(self.learn[:1]))
        for _ in range(max(1, min(DRAFTS, MOST_KEPT // max(1, one)) // DRAWN)):
            inputs = self._mixed(draw.choice(self.learn, DRAWN), draw)
            found.append((self._woken(inputs, draw, WOKEN) or inputs)[0])
        return np.concatenate(found)


def some_of(numbers: Array, rows: Rows, most: int) -> Array:
    """At most so many of the samples' numbers, evenly spread, no more than may be held at once."""
    one = sum(a.nbytes for a in rows.take(numbers[:1]))
    return evenly(numbers, max(1, min(most, MOST_KEPT // max(1, one))))
