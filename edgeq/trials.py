"""Graphs that differ in scales and biases alone, one after another on the same inputs: what a search for these runs.

The first is planned, of the others only what changed (edgeq.plan.refit), and the memory is there already.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np

from edgeq.calibrate import Inputs, processors, stride
from edgeq.check import sound
from edgeq.engine import Context, Program
from edgeq.feed import let_go, quantmod_of, stacked
from edgeq.graph import NUMPY_DTYPES, Array, Graph
from edgeq.machine import get
from edgeq.plan import make_plan
from edgeq.plan.refit import OtherLayoutError, Refit
from edgeq.plan.repack import Repack, too_large
from edgeq.plan.types import Plan, Rounding
from edgeq.quantmod import QuantMod
from edgeq.records import replace

TOGETHER: Final = 1 << 20
"""Bytes of inputs, and of outputs that are thinned, that the machine is given at once."""

STACKED: Final = 2 << 20
"""Bytes of all inputs, up to which they are kept a second time, as the machine takes them."""

ALONE: Final = 1 << 14
"""Bytes of an input, from which an entry into the machine for each takes less than laying several out behind one another."""

BEFORE: Final = 1 << 20
"""Bytes of constants, up to which the plan that graphs before had is kept, too."""

ARENA_BYTES: Final = 3 << 20
"""Of more than two threads, all together."""

ALL: Final = slice(None)

THREADS_NS: Final = 600_000
"""Of all inputs' inferences, estimated: for less, starting a thread takes longer than it saves."""


class Plans:
    """Plans of graphs that differ in numbers alone, from which the values of some tensors come out."""

    def __init__(self, tensors: Sequence[int]) -> None:
        self.tensors = tuple(tensors)
        self._refits: list[Refit] = []
        self._repack: Repack | None = None
        self._known: list[tuple[Graph, Plan, object]] = []

    def of(self, graph: Graph, checked: bool = False) -> tuple[Plan, object]:
        """A graph's plan, and whose memory it runs in: plans of the same owner need no other.

        checked: it differs from a graph that was checked in the values of constants alone.
        """
        if checked:
            return self._filled(replace(graph.with_main(outputs=self.tensors), signatures=()))
        found = next((known for known in self._known if known[0] is graph), None)
        if found is None:
            found = graph, *self._fitted(replace(graph.with_main(outputs=self.tensors), signatures=()))
            self._known = [*self._known[-1:], found]  # a search holds what is new against what was best
        return found[1:]

    def _filled(self, whole: Graph) -> tuple[Plan, object]:
        plan = self._repack.of(whole) if self._repack is not None else None
        if plan is not None:
            return plan, self._repack
        plan = make_plan(whole, get().isa, Rounding.XNNPACK)
        if self._repack is not None or too_large(whole):
            return plan, object()
        self._repack = Repack(whole, plan, get().isa, Rounding.XNNPACK)
        return plan, self._repack

    def rest(self) -> None:
        """Keep no plan but those that others are made of."""
        self._known = []
        for refit in self._refits:
            refit.rest()

    def _fitted(self, whole: Graph) -> tuple[Plan, object]:
        for refit in self._refits:
            plan = refit.of(whole)
            if plan is not None:
                return plan, refit
        try:  # with weights of its own: what comes next will have these, or those of the graph before
            refit = Refit(sound(whole), get().isa)
        except OtherLayoutError:
            return make_plan(sound(whole), get().isa, Rounding.XNNPACK), object()
        self._refits = [refit, *(r for r in self._refits[:1] if r.plan.constants.nbytes <= BEFORE)]
        return refit.plan, refit


class Trials:
    """The values of some tensors on some inputs (as edgeq.feed gives them), for one graph after another."""

    def __init__(self, plans: Plans | Sequence[int], inputs: Sequence[Inputs], most: int = 0) -> None:
        """plans: of the tensors, or the tensors, for plans of its own; most: of a tensor's elements, evenly spread, so many at
        most; 0: all.
        """
        self._plans = plans if isinstance(plans, Plans) else Plans(plans)
        self._tensors, self._inputs, self._most = self._plans.tensors, inputs, most
        self._contexts: list[Context] = []
        self._stacked: dict[tuple[int | None, ...], list[Array]] = {}
        self._owner: object = None
        self._last: Plan | None = None

    def answers(self, graph: Graph, *, checked: bool = False, part: slice = ALL) -> tuple[Array, ...]:
        """(inputs, elements) of each tensor, codes where they hold codes, in the memory of a plain inference.

        part: of these inputs alone; checked: it differs from a graph that was checked in the values of constants alone.
        Raises CheckError and UnsupportedError for a graph that is not sound or does not run.
        """
        plan = self._taken_up(graph, checked)
        inputs = range(*part.indices(len(self._inputs)))
        shapes = [plan.tensors[i].shape for i in self._tensors]
        dtypes = [NUMPY_DTYPES[plan.tensors[i].dtype] for i in self._tensors]
        steps = [stride(shape, self._most) for shape in shapes]
        sizes = [math.prod(shape) for shape in shapes]
        out = [np.empty((len(inputs), -(-n // k)), d) for n, k, d in zip(sizes, steps, dtypes, strict=True)]
        if not inputs:
            return tuple(out)
        thinned = sum(n * d.itemsize for n, k, d in zip(sizes, steps, dtypes, strict=True) if k > 1)
        at_once = max(1, TOGETHER // max(1, thinned, sum(a.nbytes for a in self._inputs[0])))
        count = processors() if plan.nanoseconds * len(inputs) >= THREADS_NS and not plan.initial else 1
        count = min(count, max(2, ARENA_BYTES // max(plan.arena_bytes, 1)))
        at_once = max(1, min(at_once, -(-len(inputs) // count)))
        program = Program(plan, get())
        while len(self._contexts) < count:
            self._contexts.append(Context(plan, program.constants, 1))
        read = [quantmod_of(plan.tensors[i]) for i in graph.inputs]
        alone = all(self._inputs[0][k].nbytes >= ALONE for k in range(len(read)))

        def one(context: Context, start: int) -> None:
            there = [a[start : start + at_once] for a in out]
            count = len(there[0])
            whole = [np.empty((count, n), a.dtype) if k > 1 else a for a, n, k in zip(there, sizes, steps, strict=True)]
            if alone:
                for n, x in enumerate(self._inputs[k] for k in inputs[start : start + count]):
                    fed = [
                        _taken(np.ascontiguousarray(a), plan, k, q)
                        for k, (a, q) in enumerate(zip(x, read, strict=True))
                    ]
                    program.run_in(context, fed, [a[n] for a in whole], 1)
                    let_go(x)
            else:
                parts = enumerate(zip(self._fed(part, start, at_once), read, strict=True))
                program.run_in(context, [_taken(a, plan, k, q) for k, (a, q) in parts], whole, count)
            for a, values, k in zip(there, whole, steps, strict=True):
                if k > 1:
                    a[:] = values[:, ::k]

        _shared_out(self._contexts[:count], range(0, len(inputs), at_once), one)
        return tuple(out)

    def rest(self) -> None:
        """Let go of the memory that graphs ran in, and of inputs as it takes them; what comes next makes both anew."""
        self._contexts, self._owner, self._last = [], None, None
        self._stacked.clear()
        self._plans.rest()

    def _fed(self, part: slice, start: int, count: int) -> list[Array]:
        """Some inputs of a part behind one another: those that are small are laid out once."""
        key = part.start, part.stop, part.step, start, count
        found = self._stacked.get(key)
        if found is None:
            some = [self._inputs[k] for k in range(*part.indices(len(self._inputs)))[start : start + count]]
            found = [stacked([x[k] for x in some]) for k in range(len(some[0]))]
            if len(self._inputs) * sum(a.nbytes for a in some[0]) <= STACKED:
                self._stacked[key] = found
        return found

    def _taken_up(self, graph: Graph, checked: bool) -> Plan:
        """The graph's plan, which the contexts there are will run."""
        if checked and too_large(graph):  # the last one's plan need not be there beside the next one's
            self._contexts, self._owner, self._last = [], None, None
        plan, owner = self._plans.of(graph, checked)
        if owner is not self._owner:
            self._contexts, self._owner = [], owner
        elif plan is not self._last:
            for context in self._contexts:
                context.adopt(plan, plan.constants)
        self._last = plan
        return plan


def _taken(values: Array, plan: Plan, k: int, q: QuantMod | None) -> Array:
    """An input as the plan's takes it: the machine quantizes float32."""
    floats = values.dtype == np.float32 and plan.inputs[k].float_words is not None
    return values if q is None or floats or values.dtype == q.dtype else q.quantize(values)


def _shared_out(contexts: Sequence[Context], items: Sequence[int], one: Callable[[Context, int], None]) -> None:
    """one(context, item) for each of the items, a context for each thread."""
    failed: list[BaseException] = []
    waiting = iter(items)  # next() is one step of the interpreter, so no two threads get the same

    def work(context: Context) -> None:
        try:
            for item in waiting:
                one(context, item)
        except BaseException as error:
            failed.append(error)

    others = [threading.Thread(target=work, args=(c,)) for c in contexts[1 : len(items)]]
    for t in others:
        t.start()
    work(contexts[0])
    for t in others:
        t.join()
    if failed:
        raise failed[0]
