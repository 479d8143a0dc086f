"""Plans of graphs that differ in the values of float constants alone: one is made, and of the others the constants are filled in.

Where each value goes is found out, not known: the same graph is planned with a number for each value in place of the values, and
what comes out of that beside the first plan says which of them lies where. If that does not explain every byte (a value that was
computed with, a constant that was there already), there is no such plan, and the graph is planned as any other.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from edgeq.graph import Array, Graph
from edgeq.kernels.isa import Isa
from edgeq.plan.build import make_plan
from edgeq.plan.types import Plan, Rounding
from edgeq.records import replace

MOST: Final = 1 << 17
"""Values: more take longer to compute with than to plan, and finding out where they lie takes ten times their memory."""


def too_large(graph: Graph) -> bool:
    """Whether a graph's floats are so many that no plan of it is filled in."""
    return sum(t.size for t in graph.tensors if t.dtype == "float32" and t.data is not None) > MOST


class Repack:
    """Plans of graphs like the first, whose plan is given: in the same memory, with other values in `constants`."""

    def __init__(self, graph: Graph, plan: Plan, isa: Isa, rounding: Rounding) -> None:
        """plan: the graph's, whose constants from now on are those of the graph that was asked for last."""
        self._graph, self._plan, self._isa, self._rounding = graph, plan, isa, rounding
        self._changed: tuple[int, ...] = ()
        self._to: Array | None = None
        self._from = np.zeros(0, np.int32)

    def of(self, graph: Graph) -> Plan | None:
        """The plan of another graph, until the next one is asked for, whose values take the place of these in the memory of the
        first's constants; None where it is not the first with other floats in them.
        """
        changed = self._others(graph)
        if changed is None:
            return None
        if changed and not self._changed:
            self._changed = changed
            self._find(changed)
        if not set(changed) <= set(self._changed) or (changed and self._to is None):
            return None
        if self._to is not None:
            self._plan.constants.view(np.float32)[self._to] = _values(graph, self._changed)[self._from]
        return self._plan

    def _others(self, graph: Graph) -> tuple[int, ...] | None:
        """The constants that are others than the first graph's, None where more is."""
        old = self._graph
        same = len(old.subgraphs) == len(graph.subgraphs) == 1 and old.ops is graph.ops
        same = same and (old.inputs, old.outputs) == (graph.inputs, graph.outputs)
        if not same or len(old.tensors) != len(graph.tensors):
            return None
        found = [i for i, (a, b) in enumerate(zip(old.tensors, graph.tensors, strict=True)) if a is not b]
        for a, b in ((old.tensors[i], graph.tensors[i]) for i in found):
            if (a.dtype, a.shape, a.quantization) != ("float32", b.shape, b.quantization) or b.dtype != "float32":
                return None
            if not isinstance(a.data, np.ndarray) or not isinstance(b.data, np.ndarray):
                return None
        return tuple(found)

    def _find(self, changed: tuple[int, ...]) -> None:
        """Where the values of these constants lie."""
        values = _values(self._graph, changed)
        if not values.size or values.size > MOST or (values == np.arange(1, values.size + 1)).any():
            return
        tensors, start = list(self._graph.tensors), 1  # 0 is what lies between
        for i in changed:
            t = tensors[i]
            numbers = np.arange(start, start + t.size, dtype=np.float32).reshape(t.shape)
            tensors[i], start = replace(t, data=numbers, buffer=0), start + t.size
        numbered = make_plan(self._graph.with_main(tensors=tuple(tensors)), self._isa, self._rounding)
        old, new = self._plan.constants.view(np.float32), numbered.constants.view(np.float32)
        if old.shape != new.shape or not np.array_equal(self._plan.table, numbered.table):
            return
        to = np.flatnonzero(old.view(np.uint32) != new.view(np.uint32))
        which = new[to]
        known = (which >= 1) & (which < start) & (which == np.floor(which))  # what is not is no number, and so NaN
        if not known.all():
            return
        source = which.astype(np.int32) - 1
        if np.array_equal(values[source], old[to]):
            self._to, self._from = to.astype(np.int32), source


def _values(graph: Graph, tensors: tuple[int, ...]) -> Array:
    """The values of some constants behind one another."""
    return np.concatenate([np.asarray(graph.tensors[i].data).reshape(-1) for i in tensors])
