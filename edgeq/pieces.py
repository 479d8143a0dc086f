"""A float model that is run in pieces: of a large one, neither all weights nor their plan are ever there at once.

A piece is some operations in a row. All samples go through one piece, then through the next: between two pieces a few small
tensors of each sample wait. A piece is planned when its turn comes and let go behind it, so that a float model of 14 MB takes as
much as its largest layer; the weights of a piece stay in the cache while samples pass; and behind the first, large images so many
more samples go side by side.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import Final, TypeVar

from edgeq.calibrate import CALL_NS, Inputs, cut, in_chunks, spread, workers
from edgeq.graph import Array, Graph
from edgeq.records import dataclass, replace
from edgeq.stepping import Stepper
from edgeq.trim import give_back

WHOLE_BYTES: Final = 2 << 20
"""Of weights: a model with no more of them is run whole."""

HEAVY_BYTES: Final = 3 << 19
"""Of weights: a piece is to have no more, and of models that have fewer inputs are asked."""

WAITING_BYTES: Final = 4 << 20
"""Of tensors between two pieces, of all samples that wait."""

ARENA_BYTES: Final = 20 << 20
"""Of all threads: two with images of megabytes are not worth as much memory as all that they save."""

WIDER: Final = 8
"""Times less memory that what follows needs, for which a piece ends."""

Result = TypeVar("Result")
Shown = Iterator[tuple[int, Array]]
Look = Callable[[int, Shown, int, int], Result]
"""Called with the worker, tensors and their values on some samples in the order of execution, the number of the first sample
and how many there are; it has to go through all of them."""


@dataclass(frozen=True, eq=False)
class Floats:
    """A float model. graph: what there is; where it is run in pieces the constants of its layers may be hollow. ends: behind
    which operation each piece ends; part: the operations from one index to another as a graph, with all its numbers.
    """

    graph: Graph
    ends: tuple[int, ...]
    part: Callable[[int, int], Graph]

    @property
    def whole(self) -> bool:
        """Whether it is run as any other graph."""
        return len(self.ends) <= 1

    @property
    def heavy(self) -> bool:
        """Whether it has more weights than a piece is to have."""
        return sum(_constant_bytes(self.graph, k) for k in range(len(self.graph.ops))) > HEAVY_BYTES


def whole(graph: Graph) -> Floats:
    """A model that is run whole."""
    return Floats(graph, (len(graph.ops),), lambda start, stop: graph)


def in_parts(graph: Graph) -> Floats:
    """A float graph with all its numbers, in pieces if it is large."""
    return Floats(graph, ends_of(graph), partial(part_of, graph))


def part_of(graph: Graph, start: int, stop: int) -> Graph:
    """Some operations of a graph with one subgraph: tensors keep their indices, what comes from before becomes inputs, what is
    read behind becomes outputs. What begins at the beginning has all of the graph's inputs."""
    ops = graph.ops[start:stop]
    made = {i for op in ops for i in op.outputs}
    fed = {i for op in ops for i in op.inputs if i >= 0 and graph.tensors[i].data is None} - made
    read = {i for op in graph.ops[stop:] for i in op.inputs} | set(graph.outputs)
    inputs = tuple(sorted(fed)) if start else graph.inputs
    main = graph.with_main(ops=ops, inputs=inputs, outputs=tuple(sorted(made & read)))
    return replace(main, signatures=(), metadata=())


def ends_of(graph: Graph) -> tuple[int, ...]:
    """Behind which operations pieces of a float model end; its weights may be in codes yet. One end for what is run whole:
    models with few weights, and those that branch, remember or compute anything but floats on the way."""
    n = len(graph.ops)
    weights = [_constant_bytes(graph, k) for k in range(n)]
    plain = len(graph.subgraphs) == 1 and not any(t.is_variable for t in graph.tensors)
    if sum(weights) <= WHOLE_BYTES or not plain:
        return (n,)
    live = [_live_bytes(graph, k) for k in range(n + 1)]
    need = [_activation_bytes(graph, k) for k in range(n)]
    need = [max(need[k:]) for k in range(n)]
    found: list[int] = []
    start = 0
    while start < n:
        reach, total = start + 1, weights[start]
        while reach < n and total + weights[reach] <= HEAVY_BYTES and WIDER * need[reach] > need[start]:
            total += weights[reach]
            reach += 1
        if reach < n:  # somewhere in the second half of what would do, where least waits
            able = [
                (waits, -k)
                for k in range(max((start + reach + 1) // 2, start + 1), reach + 1)
                if (waits := live[k]) is not None
            ]
            if not able:
                return (n,)
            reach = -min(able)[1]
        found.append(reach)
        start = reach
    return tuple(found)


def _constant_bytes(graph: Graph, k: int) -> int:
    return sum(4 * graph.tensors[i].size for i in graph.ops[k].inputs if i >= 0 and graph.tensors[i].data is not None)


def _activation_bytes(graph: Graph, k: int) -> int:
    op = graph.ops[k]
    return sum(4 * graph.tensors[i].size for i in {*op.inputs, *op.outputs} if i >= 0 and graph.tensors[i].data is None)


def _live_bytes(graph: Graph, k: int) -> int | None:
    """What of a sample waits before operation k, as floats; None where other than numbers would have to."""
    made = {i for op in graph.ops[:k] for i in op.outputs} | set(graph.inputs)
    read = {i for op in graph.ops[k:] for i in op.inputs} | set(graph.outputs)
    waiting = [graph.tensors[i] for i in made & read if graph.tensors[i].data is None]
    if any(t.dtype not in ("float32", "int8", "uint8", "int16") for t in waiting):
        return None
    return sum(4 * t.size for t in waiting)


class Passage:
    """Samples on their way through a model's pieces: `first` takes some through the first piece, `rest` all that wait through
    the others. Looks come on as many threads as are worth it, and their results in the order of the samples."""

    def __init__(self, floats: Floats, watched: Iterable[int]) -> None:
        self._floats, self._watched, graph = floats, frozenset(watched), floats.graph
        self._later = [{i for op in graph.ops[end:] for i in op.inputs} for end in floats.ends]
        waits = max(_live_bytes(graph, end) or 1 for end in floats.ends[:-1])
        self._waiting: list[dict[int, Array]] = []
        self._open: list[Stepper] = []
        self._first = self._piece(0)
        self.lanes = self._first.lanes
        self.room = max(self.lanes, WAITING_BYTES // waits)

    @property
    def waiting(self) -> int:
        """How many samples wait behind the first piece; `room` at most should."""
        return len(self._waiting)

    def first(self, inputs: Iterable[Inputs], look: Look[Result]) -> Iterator[Result]:
        """Samples, through the first piece; a look's number counts those that wait already."""
        fed = self._floats.graph.inputs
        self._open = self._open or self._opened(self._first)

        def counted() -> Iterator[tuple[int, list[Inputs]]]:
            for _, some in cut(inputs, self.lanes):
                number = len(self._waiting)
                kept = [{i: a.reshape(-1) for i, a in zip(fed, x, strict=True) if i in self._later[0]} for x in some]
                self._waiting += kept
                yield number, some

        def one(worker: int, item: tuple[int, list[Inputs]]) -> Result:
            return self._looked(0, self._open[worker], worker, *item, look)

        yield from spread(len(self._open), counted(), one)

    def rest(self, look: Look[Result]) -> Iterator[Result]:
        """All that wait, through the other pieces; none waits any more."""
        self._open = []
        if not self._waiting:  # as many had come as there was room for, and then no more
            return
        for k in range(1, len(self._floats.ends)):
            give_back()  # what the last piece leaves free, the next one does not fit in
            yield from self._through(k, self._opened(self._piece(k)), look)
        self._waiting.clear()
        give_back()

    def _through(self, k: int, steppers: Sequence[Stepper], look: Look[Result]) -> Iterator[Result]:
        tensors = [(i, steppers[0].graph.tensors[i].shape) for i in steppers[0].graph.inputs]

        def one(worker: int, start: int) -> Result:
            some = [
                tuple(there[i].reshape(shape) for i, shape in tensors)
                for there in self._waiting[start : start + steppers[0].lanes]
            ]
            return self._looked(k, steppers[worker], worker, start, some, look)

        yield from spread(len(steppers), range(0, len(self._waiting), steppers[0].lanes), one)

    def _looked(
        self, k: int, step: Stepper, worker: int, number: int, some: Sequence[Inputs], look: Look[Result]
    ) -> Result:
        """A look at samples in piece k, of which what later pieces read is kept."""
        later, rows = self._later[k], self._waiting[number : number + len(some)]

        def shown() -> Shown:
            for i, values in step.run(some):
                if i in later:
                    for row, one in zip(rows, values, strict=True):
                        row[i] = one.copy()
                if i in self._watched:
                    yield i, values

        found = look(worker, shown(), number, len(some))
        for row in rows:
            for i in [i for i in row if i not in later]:
                del row[i]
        return found

    def _piece(self, k: int) -> Stepper:
        start = self._floats.ends[k - 1] if k else 0
        graph = self._floats.part(start, self._floats.ends[k])
        shown = {i for op in graph.ops for i in op.outputs} | set(() if k else graph.inputs)
        return Stepper.once(graph, shown & (self._watched | self._later[k]))

    def _opened(self, step: Stepper) -> list[Stepper]:
        """Steppers with memory of their own, for as many threads as there is work and memory for."""
        pays = step.call_nanoseconds >= CALL_NS
        count = workers(step.nanoseconds * step.lanes) if pays else 1
        count = min(count, max(1, ARENA_BYTES // (step.lanes * max(step.plan.arena_bytes, 1))))
        return [step.twin() for _ in range(count)]


def in_pieces(floats: Floats, inputs: Iterable[Inputs], look: Look[Result], watched: Sequence[int]) -> Iterator[Result]:
    """look(worker, what is shown, number of the first, how many) for all samples, piece after piece: of each tensor the results
    come in the order of the samples."""
    if floats.whole:
        yield from in_chunks(
            floats.graph, inputs, lambda w, step, n, some: look(w, step.run(some), n, len(some)), watched
        )
        return
    passage, coming, done = Passage(floats, watched), iter(inputs), 0

    def there(worker: int, shown: Shown, number: int, count: int) -> Result:
        return look(worker, shown, done + number, count)

    while True:
        yield from passage.first(islice(coming, passage.room), there)
        count = passage.waiting
        yield from passage.rest(there)
        if count < passage.room:
            return
        done += count
