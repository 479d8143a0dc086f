"""Samples on their way through a graph, all as far as each other: for what looks at one layer after another, and changes it.

At a frontier lie the tensors that the operations behind it have computed and those ahead still read, of all samples. To show the
next tensor, only the operations in between are planned and run; those ahead may have other constants each time. A frontier that
would take too many BYTES is not kept: then the way from the last one that was is gone once more, which is short, since
layers widen and narrow in turn. A graph that remembers, branches, or plans by values is run from its inputs each time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, TypeVar

import numpy as np

from edgeq.calibrate import Inputs, spread, workers
from edgeq.check import sound
from edgeq.engine import Context, Program
from edgeq.errors import ModelError
from edgeq.feed import stacked
from edgeq.graph import NUMPY_DTYPES, Array, Graph, Op
from edgeq.machine import get
from edgeq.plan import make_plan
from edgeq.plan.types import Plan
from edgeq.quantize.canonical import prune
from edgeq.records import replace

BYTES: Final = 4 << 20
"""Of the tensors at a frontier, of all samples, or half as much as these take themselves."""

TOGETHER: Final = 2 << 20
"""Bytes that a thread looks at together."""

Result = TypeVar("Result")


class Frontier:
    """Samples that go through one graph from one wanted tensor to the next."""

    def __init__(self, graph: Graph, inputs: Sequence[Inputs], wanted: Sequence[int]) -> None:
        """inputs: as the graph takes them; wanted: the tensors to come to, none computed before one in front of it. Raises
        CheckError and UnsupportedError for a graph that is not sound."""
        self._graph, self._inputs, self._wanted = sound(graph), inputs, list(wanted)
        self._producers = graph.main.producers()
        self._held: dict[int, Array] = {}
        self._place = 0  # of the first operation ahead
        self._room = max(BYTES, sum(a.nbytes for x in inputs for a in x) // 2) if BYTES else 0
        plain = all(t.dtype in NUMPY_DTYPES and not t.is_variable for t in graph.tensors)
        self._moves = plain and len(graph.subgraphs) == 1

    def stage(self, graph: Graph | None = None) -> Stage:
        """The way to the next wanted tensor, to be gone by all samples before another is asked for.

        graph: the first one with other constants in operations that are still ahead.
        """
        given = self._graph if graph is None else graph
        tensor = self._wanted.pop(0)
        if tensor in self._held or tensor not in self._producers:
            return Stage(given, self._inputs, self._held, (), (tensor,))
        end = max(self._place, self._producers[tensor] + 1)
        live = self._live(end) if self._moves else []
        if sum(_nbytes(given, i) for i in live) * len(self._inputs) > self._room:
            live = []
        new = [i for i in live if i not in self._held and i != tensor]
        stage = None
        if self._moves:
            stage = _stage(given, self._inputs, self._held, given.ops[self._place : end], (tensor, *new))
        if stage is None:
            self._moves, self._place, self._held, live = False, 0, {}, []
            stage = _from_inputs(given, self._inputs, given.ops[:end], tensor)
        if live:
            fresh = {i: stage.kept(i) for i in live if i not in self._held}
            self._place, self._held = end, {i: fresh[i] if i in fresh else self._held[i] for i in live}
        return stage

    def _live(self, end: int) -> list[int]:
        """What is computed before operation `end`, and read from there on or wanted again."""
        later = {i for op in self._graph.ops[end:] for i in op.inputs} | set(self._wanted)
        return sorted(i for i in later if self._producers.get(i, end) < end)


class Stage:
    """The way from one frontier to a tensor."""

    def __init__(
        self,
        graph: Graph,
        inputs: Sequence[Inputs],
        held: Mapping[int, Array],
        sources: Sequence[int],
        targets: Sequence[int],
        plan: Plan | None = None,
    ) -> None:
        """sources: what the plan reads, held or an input of the graph; targets: what it writes, the tensor first."""
        self._graph, self._inputs, self._held, self._sources, self._targets = graph, inputs, held, sources, targets
        self._program = None if plan is None else Program(plan, get())
        self._kept: dict[int, Array] = {}
        self._contexts: dict[int, Context] = {}
        self.alone = plan is not None and bool(plan.initial)
        """Whether one worker has to do all samples, in their order."""
        self.nanoseconds = 0.0 if plan is None else float(plan.nanoseconds)
        self.nbytes = sum(_nbytes(graph, i) for i in (*sources, *targets))
        """Of what a sample brings and takes away."""

    def kept(self, i: int) -> Array:
        """Where a target of all samples will be, (samples, …)."""
        t = self._graph.tensors[i]
        return self._kept.setdefault(i, np.empty((len(self._inputs), *t.shape), NUMPY_DTYPES[t.dtype]))

    def values(self, worker: int, start: int, stop: int) -> Array:
        """The tensor on samples start … stop − 1, (stop − start, …), codes where it holds codes; not to be written to."""
        if self._program is None:
            return self._fed(self._targets[0], start, stop)
        context = self._contexts.get(worker)
        if context is None:
            context = self._contexts[worker] = self._program.acquire()
        out = []
        for i in self._targets:
            t = self._graph.tensors[i]
            shape = (stop - start, *t.shape)
            out.append(self._kept[i][start:stop] if i in self._kept else np.empty(shape, NUMPY_DTYPES[t.dtype]))
        self._program.run_in(context, [self._fed(i, start, stop) for i in self._sources], out, stop - start)
        return out[0]

    def _fed(self, i: int, start: int, stop: int) -> Array:
        if i in self._held:
            return self._held[i][start:stop]
        k = self._graph.inputs.index(i)
        return stacked([x[k] for x in self._inputs[start:stop]])


def gone(
    ways: Sequence[Stage], samples: int, nbytes: int, function: Callable[[int, list[Array]], Result]
) -> Iterator[Result]:
    """function(number of the first, the tensor that each of the ways leads to) for some samples at a time, in their order.

    It is called from as many threads as there are processors for it; how samples are cut does not depend on that. nbytes: that a
    sample takes in it, beside what comes and goes.
    """
    size = nbytes + sum(way.nbytes for way in ways)
    at_once = max(1, min(TOGETHER // size, -(-samples // 2)))

    def look(worker: int, start: int) -> Result:
        stop = min(start + at_once, samples)
        return function(start, [way.values(worker, start, stop) for way in ways])

    alone = any(way.alone for way in ways)
    count = (
        1 if alone else workers(at_once * (size + sum(way.nanoseconds for way in ways)))
    )  # a byte takes about one, too
    yield from spread(count, range(0, samples, at_once), look)


def _stage(
    graph: Graph, inputs: Sequence[Inputs], held: Mapping[int, Array], ops: Sequence[Op], targets: Sequence[int]
) -> Stage | None:
    """The way through these operations; None where it cannot be planned by itself."""
    needed, own = set(targets), []
    for op in reversed(ops):
        if needed & {*op.outputs}:
            own.append(op)
            needed |= {*op.inputs}
    made = {i for op in own for i in op.outputs}
    sources = sorted(i for i in needed - made if i >= 0 and graph.tensors[i].data is None)
    part = replace(graph.with_main(ops=tuple(own[::-1]), inputs=tuple(sources), outputs=tuple(targets)), signatures=())
    part, place = prune(part)
    try:
        plan = make_plan(part, get().isa)
    except ModelError:  # what lies behind is a constant to what is ahead
        return None
    stated = all(plan.tensors[place[i]].shape == graph.tensors[i].shape for i in targets)
    there = all(i in held or i in graph.inputs for i in sources)
    whole = not plan.required and not plan.initial and stated and there
    return Stage(graph, inputs, held, sources, targets, plan) if whole else None


def _from_inputs(graph: Graph, inputs: Sequence[Inputs], ops: Sequence[Op], tensor: int) -> Stage:
    """The way from the graph's inputs."""
    part = replace(graph.with_main(ops=tuple(ops), outputs=(tensor,)), signatures=())
    return Stage(graph, inputs, {}, graph.inputs, (tensor,), make_plan(part, get().isa))


def _nbytes(graph: Graph, i: int) -> int:
    return graph.tensors[i].size * NUMPY_DTYPES[graph.tensors[i].dtype].itemsize
