"""Running a graph operation by operation, several samples side by side, in the memory of a plain inference.

What looks at activations (calibration) need not keep them all: each tensor is shown right after its operation, while it is
in the cache, and its place is then used again. Samples lie in lanes, an arena each, so that a look at a tensor costs one
call for all of them. A graph whose plan branches, remembers, or calls back is run whole, every tensor kept.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from weakref import WeakKeyDictionary

import numpy as np
from numpy.lib.stride_tricks import as_strided

from edgeq.check import sound
from edgeq.engine import Context, aligned, judge
from edgeq.errors import InputError
from edgeq.graph import NUMPY_DTYPES, Array, Graph
from edgeq.kernels.isa import Isa
from edgeq.kernels.words import frame as fw
from edgeq.kernels.words.instruction import OP, ORIGIN, SCRATCH_BYTES, WORDS
from edgeq.machine import get
from edgeq.plan import Plan, make_plan
from edgeq.plan.refit import OtherLayoutError, Patch, Refit
from edgeq.plan.runnable import CONSTANT, SLACK
from edgeq.plan.types import FLIPPED, Rounding
from edgeq.records import replace

LANES = 16
"""Samples side by side at most."""

LANE_BYTES = 2 << 20
"""Of all lanes' arenas, where one alone is smaller: what a processor's caches hold."""

WALK_BYTES = 3 << 20
"""Of the arenas of samples that go side by side all the way."""

MOST_ALONE = 20
"""Tensors, that are shown while samples go one by one, from the beginning for each."""


class Stepper:
    """A graph made ready; `lanes` samples go through it at once. Twins share plan and constants, for other threads."""

    def __init__(self, graph: Graph, watched: Sequence[int] | None = None, rounding: str = "xnnpack") -> None:
        """watched: the tensors that are shown, all that are computed or fed by default."""
        graph = sound(graph)
        self._machine = get()
        plans = _PLANS.setdefault(graph, {})
        if rounding not in plans:
            plans[rounding] = _planned(graph, self._machine.isa, Rounding(rounding))
        self._ready(graph, *plans[rounding], watched)

    @classmethod
    def once(cls, graph: Graph, watched: Collection[int], lane_bytes: int = LANE_BYTES) -> Stepper:
        """A stepper of a graph that no other goes through, a part of one that was checked: its constants are kept in the plan
        alone, and it has no memory to run in: its twins do."""
        step = object.__new__(cls)
        step._machine = get()
        shown = not set(watched) <= {*graph.inputs, *graph.outputs}
        plan, whole = _planned(graph, step._machine.isa, Rounding.XNNPACK, shown=shown, framed=True)
        bare = tuple(t if t.data is None else replace(t, data=None) for t in graph.tensors)
        plan = replace(plan, tensors=bare, folded={}, instructions=())
        step._ready(graph.with_main(tensors=bare), plan, whole, watched, lane_bytes, opened=False)
        return step

    def _ready(
        self,
        graph: Graph,
        plan: Plan,
        whole: bool,
        watched: Collection[int] | None,
        lane_bytes: int = LANE_BYTES,
        *,
        opened: bool = True,
    ) -> None:
        self.graph, self.plan = graph, plan
        self.lanes = 1 if plan.initial else max(1, min(LANES, lane_bytes // max(plan.arena_bytes, 1)))
        wanted = {i for i, t in enumerate(graph.tensors) if t.data is None} if watched is None else set(watched)
        self._fed = [(k, i) for k, i in enumerate(graph.inputs) if i in wanted]
        self._steps = _steps(graph, plan, wanted - set(graph.inputs), whole)
        if opened:
            self._open()

    def _open(self) -> None:
        stride = -(-(self.plan.arena_bytes + SLACK) // 64) * 64
        self._arenas = aligned(self.lanes * stride).reshape(self.lanes, stride)
        self._lanes = Lanes(self.plan, self._arenas)
        self._shown = [[(i, self._view(i)) for i in tensors] for _, _, tensors in self._steps]

    @property
    def nanoseconds(self) -> float:
        """What a sample takes, as the plan estimates it."""
        return float(self.plan.nanoseconds)

    @property
    def call_nanoseconds(self) -> float:
        """What one entry into the machine takes: of so many the way of a few samples is made, with a look between them."""
        return self.nanoseconds / max(len(self._steps), 1)

    def twin(self) -> Stepper:
        """Another with memory of its own."""
        other = object.__new__(Stepper)
        other.__dict__.update(self.__dict__)
        other._open()
        return other

    def run(self, samples: Sequence[Sequence[Array]]) -> Iterator[tuple[int, Array]]:
        """At most `lanes` samples, each as the graph's inputs take it → each watched tensor in the order of execution, with
        its values on all samples, (samples, elements): valid until the next is asked for. Of a stepper that was made `once`
        rows may not follow one another: (samples, rows, elements of a row).
        """
        arrays = [self._fitting(x) for x in samples]
        self._lanes.feed(arrays)
        for k, i in self._fed:
            yield i, np.stack([x[k].reshape(-1) for x in arrays])
        for (start, end, _), shown in zip(self._steps, self._shown, strict=True):
            self._lanes.execute(start, end)
            for i, view in shown:
                yield i, self._values(i, view[: len(arrays)])

    def _values(self, i: int, view: Array) -> Array:
        return (view ^ FLIPPED).view(np.int8) if self.graph.tensors[i].dtype == "int8" else view

    def _fitting(self, x: Sequence[Array]) -> list[Array]:
        out = []
        for a, i in zip(x, self.graph.inputs, strict=True):
            t = self.graph.tensors[i]
            if a.shape != t.shape or a.dtype != NUMPY_DTYPES[t.dtype]:
                raise InputError(f"input {t.name!r} is {a.dtype}{list(a.shape)}, {t.dtype}{list(t.shape)} is expected")
            out.append(np.ascontiguousarray(a))
        return out

    def _view(self, i: int) -> Array:
        t = self.plan.tensors[i]
        dtype = np.dtype(np.uint8) if t.dtype == "int8" else NUMPY_DTYPES[t.dtype]
        if i in self.plan.framed:
            place, frame = self.plan.framed[i]
            start, row = self.plan.offset(place), frame.w * frame.c
            pixels = self._arenas[:, start : start + (frame.h - 1) * frame.pitch + row].view(dtype)
            shape = (self.lanes, frame.h, row // dtype.itemsize)
            return as_strided(pixels, shape, (pixels.strides[0], frame.pitch, dtype.itemsize), writeable=False)
        start = self.plan.offset(self.plan.places[i])
        return self._arenas[:, start : start + t.size * dtype.itemsize].view(dtype)


class Lanes:
    """Samples' ways through one plan, an arena each. An operation of all of them is one entry into the machine: its table holds
    the instructions of every lane, operation after operation."""

    def __init__(self, plan: Plan, arenas: Array) -> None:
        """arenas: (lanes, bytes) uint8, of which each row begins at a multiple of 64."""
        self._run, self._plan, self._arenas = get().run, plan, arenas
        self._one = Context(plan, plan.constants, 1, arenas[0])  # the first lane's own table, for a sample alone
        lanes, rows = len(arenas), len(plan.table)
        self._bases = np.array([[a.ctypes.data] for a in arenas])
        self._base = plan.constants.ctypes.data
        # What branches counts from the beginning of its lane's table, so there lanes stay behind one another.
        self._apart = bool((plan.table[:, OP] < 0).any())
        origins = plan.table[:, ORIGIN]
        cuts = np.flatnonzero(origins[1:] != origins[:-1]) + 1 if rows and not self._apart else np.zeros(0, np.int64)
        self._ends = [0, *cuts.tolist(), rows]
        self._table = self._one.table if lanes == 1 else self._laid_out(lanes, rows)
        ports = plan.inputs
        self._frame = f = np.zeros(fw.RECORDS + fw.RECORD_WORDS * lanes * len(ports), np.int64)
        f[: fw.RECORDS] = self._one.frame[: fw.RECORDS]
        f[fw.BATCH] = f[fw.THREADS] = 1
        f[fw.N_INPUTS] = f[fw.N_OUTPUTS] = 0
        for k, p in enumerate(ports):
            record = f[fw.RECORDS :].reshape(lanes, len(ports), fw.RECORD_WORDS)[:, k]
            placed = p.place.block == CONSTANT
            record[:, fw.PLACE] = self._base + p.place.offset if placed else self._bases[:, 0] + plan.offset(p.place)
            record[:, fw.BYTES : fw.BYTES + len(p.words)] = p.words
        self._address = f.ctypes.data
        self._at, self._first = self._table.ctypes.data, self._one.table.ctypes.data
        self._used = lanes

    def _laid_out(self, lanes: int, rows: int) -> Array:
        """(lanes · rows, WORDS) int64: of each operation the rows of all lanes, with addresses filled in."""
        plan, table = self._plan, np.empty((lanes * rows, WORDS), np.int64)
        # Of a row of the plan's: where the first lane's is, how far the next lane's.
        first, apart = np.empty((2, rows), np.int64)
        for start, end in zip(self._ends, self._ends[1:], strict=False):
            table[lanes * start : lanes * end].reshape(lanes, -1)[:] = plan.table[start:end].reshape(-1)
            first[start:end], apart[start:end] = lanes * start + np.arange(end - start), end - start
        flat, each = table.reshape(-1), np.arange(lanes)[:, None]
        for words, base in ((plan.arena_words, self._bases), (plan.constant_words, self._base)):
            row, word = np.divmod(words, WORDS)
            flat[(first[row] + each * apart[row]) * WORDS + word] += base
        return table

    def feed(self, arrays: Sequence[Sequence[Array]]) -> None:
        """Samples, for as many lanes, which take them as they begin; they have to be there until then."""
        ports = len(self._plan.inputs)
        self._frame[fw.N_INPUTS] = len(arrays) * ports
        if ports:
            slots = self._frame[fw.RECORDS :: fw.RECORD_WORDS]
            slots[: len(arrays) * ports] = [a.ctypes.data for x in arrays for a in x]
        self._used = len(arrays)

    def go_on(self, used: int) -> None:
        """So many lanes hold what samples have left there."""
        self._used, self._frame[fw.N_INPUTS] = used, 0

    def execute(self, start: int, end: int) -> None:
        """Instructions start … end − 1, whole operations, in the lanes that are used."""
        lanes, used = len(self._arenas), self._used
        if used == 1:
            self._enter(self._first + start * WORDS * 8, end - start)
        elif self._apart:
            for k in range(used):
                self._enter(self._at + (k * self._ends[-1] + start) * WORDS * 8, end - start)
        elif used == lanes or start == end:  # without instructions samples are taken all the same
            self._enter(self._at + lanes * start * WORDS * 8, lanes * (end - start))
        else:
            for a, b in zip(self._ends, self._ends[1:], strict=False):
                if start <= a < end:
                    self._enter(self._at + lanes * a * WORDS * 8, used * (b - a))

    def _enter(self, table: int, count: int) -> None:
        f = self._frame
        f[fw.INSTRUCTIONS], f[fw.COUNT] = table, count
        judge(self._run(self._address, 0))
        f[fw.N_INPUTS] = 0

    def patch(self, patch: Patch) -> None:
        """One operation in other numbers, in every lane."""
        start, rows, lanes = patch.start // WORDS, len(patch.words) // WORDS, len(self._arenas)
        words = np.tile(patch.words, (lanes, 1))
        words[:, patch.arena] += self._bases
        words[:, patch.constants] += self._base
        self._table[lanes * start : lanes * (start + rows)] = words.reshape(-1, WORDS)
        self._one.table[start : start + rows] = words[0].reshape(-1, WORDS)


class Forms:
    """Plans that run operation by operation, of graphs that differ in scales and biases alone: the first is planned whole, the
    others where they differ (edgeq.plan.refit)."""

    def __init__(self) -> None:
        self._refit: Refit | None = None

    def of(self, graph: Graph) -> Refit:
        """What plans the graph's forms, made by the first that is asked for. Raises OtherLayoutError if none can be."""
        if self._refit is None:
            self._refit = Refit(graph, get().isa, shown=True)
        if not self._refit.able:
            raise OtherLayoutError
        return self._refit

    def remember(self, graph: Graph) -> None:
        """Steppers of this graph need no plan of their own, if it is a form of what was planned."""
        if self._refit is not None and "xnnpack" not in _PLANS.setdefault(graph, {}):
            plan = self._refit.of(graph)
            if plan is not None:
                _PLANS[graph]["xnnpack"] = plan, False


class Walk(Stepper):
    """One way through a graph with several samples at once, on which scales and biases may change: the operation that was
    computed last is computed again, and the rest follows from that.

    Where images at the beginning are so large that no WALK_BYTES hold those of all samples, samples go through the beginning one
    by one, as often as something there has changed, and side by side from where they have become small.
    """

    def __init__(self, graph: Graph, forms: Forms, samples: int, shown: Collection[int]) -> None:
        """samples: how many go; shown: the tensors that are.

        Raises OtherLayoutError for a graph that does not go operation by operation, or does not become small soon.
        """
        self._machine = get()
        self.graph = sound(graph)
        self._refit = forms.of(self.graph)
        plan = self._refit.of(self.graph)
        if plan is None:
            raise OtherLayoutError
        self.plan, self.lanes = plan, samples
        self._fed = []
        self._steps = _steps(graph, plan, set(shown), False)
        self._room = WALK_BYTES // max(samples, 1) - SCRATCH_BYTES
        self._alone = self._until_small()
        self._open()
        self._kept: list[Array] = []
        self._changed_from: int | None = None

    def _until_small(self) -> int:
        """How many of the steps samples take one by one."""
        large = [self._reach(n) > self._room for n in self.plan.table[:, ORIGIN].tolist()]
        last = len(large) - large[::-1].index(True) if any(large) else 0
        found = sum(start < last for start, _, _ in self._steps)
        if found > MOST_ALONE or (found and found == len(self._steps)):
            raise OtherLayoutError
        return found

    def _reach(self, n: int) -> int:
        """Bytes of the arena up to where the last of an operation's tensors ends."""
        ends = [
            self.plan.offset(place) + self.plan.tensors[i].size * NUMPY_DTYPES[self.plan.tensors[i].dtype].itemsize
            for i in (*self.graph.ops[n].inputs, *self.graph.ops[n].outputs)
            if i >= 0 and (place := self.plan.places.get(i)) is not None
        ]
        return max(ends, default=0)

    def means(
        self, samples: Sequence[Sequence[Array]], of: Callable[[int, Array], Array]
    ) -> Iterator[tuple[int, Array]]:
        """Each tensor that is shown, and what `of` makes of its values (some samples, elements), a row for each: of all."""
        arrays = [self._fitting(x) for x in samples]
        views = [dict(shown) for shown in self._shown]
        for (_, end, shown), view in zip(self._steps[: self._alone], views, strict=False):
            rows = []
            for x in arrays:
                self._lanes.feed([x])
                self._lanes.execute(0, end)
                rows.append([of(i, self._values(i, view[i][:1])) for i in shown])
            for j, i in enumerate(shown):
                yield i, np.concatenate([row[j] for row in rows])
        start = self._steps[self._alone - 1][1] if self._alone else 0
        if start:
            self._begin(arrays, start)
        else:
            self._lanes.feed(arrays)
        for (_, end, shown), view in zip(self._steps[self._alone :], views[self._alone :], strict=True):
            self._lanes.execute(start, end)
            for i in shown:
                yield i, of(i, self._values(i, view[i][: len(arrays)]))
            if self._changed_from is not None:
                self._lanes.execute(self._changed_from, end)
            self._changed_from, start = None, end

    def _begin(self, arrays: Sequence[Sequence[Array]], start: int) -> None:
        """Each sample up to instruction `start` in the first lane, and what behind it is read into its own."""
        reach = max(map(self._reach, set(self.plan.table[start:, ORIGIN].tolist())))
        for lane in range(len(arrays) - 1, -1, -1):
            self._lanes.feed([arrays[lane]])
            self._lanes.execute(0, start)
            if lane:
                self._arenas[lane, :reach] = self._arenas[0, :reach]
        self._lanes.go_on(len(arrays))
        self._changed_from = None

    def change(self, graph: Graph, n: int) -> None:
        """Go on with this graph, another in the numbers of operation n alone, the one whose output was shown last. Raises
        OtherLayoutError if it is no form of the first."""
        patch = self._refit.patch(graph, n)
        self._lanes.patch(patch)
        self._kept.append(patch.kept)  # must be there while it runs
        self._changed_from = patch.start // WORDS


_PLANS: WeakKeyDictionary[Graph, dict[str, tuple[Plan, bool]]] = WeakKeyDictionary()
"""By graph and rounding, for as long as the graph is there: quantizing goes through one graph again and again."""


def forget(graph: Graph) -> None:
    """Keep no plan of the graph any longer."""
    _PLANS.pop(graph, None)


def _planned(
    graph: Graph, isa: Isa, rounding: Rounding, *, shown: bool = True, framed: bool = False
) -> tuple[Plan, bool]:
    """A checked graph's plan, and whether it is run whole, every tensor kept. shown: not only outputs are; framed: tensors may
    lie in frames."""
    plan = make_plan(graph, isa, rounding, shown=shown, framed=framed)
    if plan.initial or any(i.kernel in ("branch", "call_out") for i in plan.instructions):
        return make_plan(graph, isa, rounding, keep=True), True
    return plan, False


def _steps(graph: Graph, plan: Plan, wanted: set[int], whole: bool) -> list[tuple[int, int, list[int]]]:
    """Instructions start … end − 1, and the watched tensors that can be seen then."""
    count = len(plan.table)
    if whole:
        return [(0, count, sorted(wanted & set(plan.places)))]
    ends = [0] * len(graph.ops)
    for at, op_index in enumerate(plan.table[:, ORIGIN].tolist()):
        ends[op_index] = at + 1
    steps: list[tuple[int, int, list[int]]] = []
    start = end = 0
    for n, op in enumerate(graph.ops):
        end = max(end, ends[n])
        seen = [i for i in op.outputs if i in wanted and (i in plan.places or i in plan.framed)]
        if seen:  # what is behind the last of them need not run
            steps.append((start, end, seen))
            start = end
    return steps
