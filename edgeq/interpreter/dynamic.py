"""One subgraph whose shapes depend on values: inputs that stay where they are, outputs that come with a run."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

import numpy as np

from edgeq.dynamic import Evaluator
from edgeq.engine import zeros
from edgeq.graph import NUMPY_DTYPES, Array, Graph
from edgeq.machine import Machine
from edgeq.plan.types import Rounding


class DynamicSession:
    """As Session, of a graph that is planned while it runs. An output has no memory before the first run, as in TFLite."""

    def __init__(
        self,
        graph: Graph,
        shapes: Mapping[int, Sequence[int]],
        machine: Machine,
        rounding: Rounding,
        threads: int,
        *,
        keep: bool,
        shared: dict[str | int, Array] | None = None,
    ) -> None:
        self.graph = graph
        self._evaluator = Evaluator(graph, machine, rounding, threads, keep=keep)
        self._shared = shared
        self.arrays: dict[int, Array] = {}
        for i in graph.inputs:
            t = graph.tensors[i]
            self.arrays[i] = zeros(tuple(shapes.get(i, t.shape)), NUMPY_DTYPES[t.dtype])
        self._watch()

    def invoke(self) -> None:
        """Run once, from the inputs' arrays to the outputs'; those of another shape than before get new arrays."""
        variables = self._evaluator.variables
        variables.update(self._shared or {})
        found = self._evaluator.run([self.arrays[i].copy() for i in self.graph.inputs])
        if self._shared is not None:
            self._shared.update((key, value) for key, value in variables.items() if isinstance(key, str))
        for i, value in zip(self.graph.outputs, found, strict=True):
            self._put(i, value)
        self._watch()

    def _put(self, i: int, value: Array) -> None:
        memory = self.arrays.get(i)
        if memory is not None and memory.shape == value.shape:
            memory[...] = value
        else:
            self.arrays[i] = np.array(value)

    def reset(self) -> None:
        """Forget what earlier runs have left in variable tensors; resource variables stay, as in TFLite."""
        self._evaluator.reset(resources=False)

    def held(self) -> bool:
        """Whether anybody but this session refers to the memory of an input or output."""
        return [sys.getrefcount(a) for a in self._watched] != self._references

    def computed(self, i: int) -> Array | None:
        """A copy of what the last run has computed, None if nothing is left of it."""
        found = self._evaluator.values.get(i)
        return None if found is None else found.copy()

    def shape(self, i: int) -> tuple[int, ...] | None:
        """The shape that a tensor has now, None where nothing has computed it."""
        found = self.arrays.get(i, self._evaluator.values.get(i))
        return None if found is None else found.shape

    def close(self) -> None:
        """Release what was planned."""
        self._evaluator.close()

    def _watch(self) -> None:
        self._watched = list(self.arrays.values())
        self._references = [sys.getrefcount(a) for a in self._watched]
