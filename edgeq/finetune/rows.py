"""Samples by number: what learning needs that goes through them again and again, in any order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property

import numpy as np

from edgeq.feed import Source, count, feed
from edgeq.graph import Array, Graph

KEPT = 64 << 20
"""Bytes of samples that are kept as they are asked for, if all of them are no more."""


class Rows:
    """The inferences of a source, by number. Arrays are sliced when asked for, or kept if they are small; what only goes by
    once is kept."""

    def __init__(self, graph: Graph, source: Source) -> None:
        self._graph = graph
        self._kept: list[tuple[Array, ...]] | None = None
        self._source: Array | Mapping[str, Array] | None = None
        if isinstance(source, (np.ndarray, Mapping)):
            self._source = source
            self._count = count(graph, source) or 0
        else:
            self._kept = [tuple(np.array(a) for a in x) for x in feed(graph, source)]
            self._count = len(self._kept)

    def __len__(self) -> int:
        return self._count

    def take(self, numbers: Sequence[int] | Array) -> list[Array]:
        """The inputs (n·shape[0], …) of these inferences, in the order of the graph's inputs, as edgeq.feed gives them."""
        if self._whole is not None:
            at = np.asarray(numbers, np.int64)
            return [a[at].reshape(-1, *a.shape[2:]) for a in self._whole]
        return self._joined(numbers)

    @cached_property
    def _whole(self) -> list[Array] | None:
        """All inputs (count, shape[0], …), None where they are too large to keep, or have no axis to tell them by."""
        one = self._one(0) if self._count else ()
        if not one or self._count * sum(a.nbytes for a in one) > KEPT or not all(a.ndim for a in one):
            return None
        return [np.stack(parts) for parts in zip(*(self._one(k) for k in range(self._count)), strict=True)]

    def _joined(self, numbers: Sequence[int] | Array) -> list[Array]:
        found = [self._one(int(k)) for k in numbers]
        return [np.concatenate(parts) if parts[0].ndim else np.stack(parts) for parts in zip(*found, strict=True)]

    def _one(self, k: int) -> tuple[Array, ...]:
        if self._kept is not None:
            return self._kept[k]
        assert self._source is not None
        names = self._graph.input_names()
        arrays = self._source if isinstance(self._source, Mapping) else {names[0]: self._source}
        if len(names) == 1 and names[0] not in arrays:
            arrays = {names[0]: arrays["x"]}
        cut = {}
        for name in names:
            a = np.asarray(arrays[name])
            step = len(a) // self._count
            cut[name] = a[k * step : (k + 1) * step]
        return next(feed(self._graph, cut, lambda _: f"sample {k}"))
