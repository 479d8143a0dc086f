"""A float model that is run in pieces: of a large one, neither all weights nor their plan are ever there at once.

A piece is some operations in a row, or some output channels of one operation that has more weights than a piece is to have. All
samples go through one piece, then through the next: between two a few small tensors of each sample wait. A piece is planned when
its turn comes and let go behind it, so that a float model of 14 MB takes as much as a few of its layers; the weights of a piece
stay in the cache while samples pass; and behind the first, large images so many more samples go side by side.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from functools import partial
from itertools import islice
from threading import Lock
from typing import Final, TypeVar

import numpy as np

from edgeq.calibrate import CALL_NS, Inputs, in_chunks, spread, workers
from edgeq.check import sound
from edgeq.graph import Array, Graph, Tensor
from edgeq.records import dataclass, replace
from edgeq.stepping import LANE_BYTES, Stepper
from edgeq.trim import give_back

WHOLE_BYTES: Final = 2 << 20
"""Of weights: a model with no more of them is run whole."""

HEAVY_BYTES: Final = 3 << 19
"""Of weights: of models that have fewer more inputs are asked."""

PIECE_BYTES: Final = 15 << 16
"""Of weights, that a piece is to have at most: while it is made, they are there four times, and arrays of less than a mebibyte
take memory that was there before (edgeq/trim.py). An operation that has more is cut by output channels."""

LITTLE: Final = 1 << 10
"""Of constants, that are more than that piece is to have: an average's axes, a shape."""

CHANNELS: Final = 16
"""Output channels that stay together where an operation is cut."""

WAITING_BYTES: Final = 6 << 20
"""Of tensors between two pieces, of all samples that wait."""

ARENA_BYTES: Final = 12 << 20
"""Of all threads together."""

BESIDE: Final = 4
"""Times less memory for samples side by side, where another model runs at the same time."""

WIDER: Final = 8
"""Times less memory that what follows needs, for which a piece ends."""

LARGE: Final = 1 << 20
"""Of what an operation reads and writes: where no more is needed, no piece ends for that."""

Result = TypeVar("Result")
Shown = Iterator[tuple[int, Array]]
Look = Callable[[int, Shown, int, int], Result]
"""Called with the worker, tensors and their values on some samples in the order of execution, the number of the first sample
and how many there are; it has to go through all of them. Values are (samples, elements) or (samples, rows, elements of a row)."""


@dataclass(frozen=True)
class Piece:
    """Operations start … stop − 1 of a graph; channels: of the one operation these output channels alone."""

    start: int
    stop: int
    channels: tuple[int, int] | None = None


@dataclass(frozen=True, eq=False)
class Floats:
    """A float model. graph: what there is; where it is run in pieces the constants of its layers may be hollow. part: a piece as
    a graph, with all its numbers.
    """

    graph: Graph
    pieces: tuple[Piece, ...]
    part: Callable[[Piece], Graph]

    @property
    def whole(self) -> bool:
        """Whether it is run as any other graph."""
        return len(self.pieces) <= 1

    @property
    def heavy(self) -> bool:
        """Whether it has more weights than a piece is to have."""
        return sum(_constant_bytes(self.graph, k) for k in range(len(self.graph.ops))) > HEAVY_BYTES


def whole(graph: Graph) -> Floats:
    """A model that is run whole."""
    return Floats(graph, (Piece(0, len(graph.ops)),), lambda piece: graph)


def in_parts(graph: Graph) -> Floats:
    """A float graph with all its numbers, in pieces if it is large."""
    pieces = divided(graph)
    if len(pieces) == 1:
        return whole(graph)
    graph = sound(graph)
    return Floats(graph, pieces, partial(part_of, graph))


_NOTHING: Final = Tensor("", (), "float32")
"""In the place of a tensor that a piece has nothing to do with."""


def part_of(graph: Graph, piece: Piece) -> Graph:
    """A piece of a graph with one subgraph: tensors keep their indices, what comes from before becomes inputs, what is
    read behind becomes outputs. What begins at the beginning has all of the graph's inputs."""
    ops = graph.ops[piece.start : piece.stop]
    made = {i for op in ops for i in op.outputs}
    fed = {i for op in ops for i in op.inputs if i >= 0 and graph.tensors[i].data is None} - made
    read = {i for op in graph.ops[piece.stop :] for i in op.inputs} | set(graph.outputs)
    inputs = tuple(sorted(fed)) if piece.start else graph.inputs
    there = made.union(inputs, *(op.inputs for op in ops))
    tensors = [t if i in there else _NOTHING for i, t in enumerate(graph.tensors)]
    if piece.channels is not None:
        for i in (*ops[0].inputs[1:], *ops[0].outputs):
            tensors[i] = of_channels(tensors[i], piece.channels) if i >= 0 else _NOTHING
    main = graph.with_main(tensors=tuple(tensors), ops=ops, inputs=inputs, outputs=tuple(sorted(made & read)))
    return replace(main, signatures=(), metadata=())


def of_channels(t: Tensor, channels: tuple[int, int]) -> Tensor:
    """Some output channels of a layer's weights or biases, the first axis of either, or of its output, the last axis."""
    count, part = channels[1] - channels[0], slice(*channels)
    if t.data is None:
        return replace(t, shape=(*t.shape[:-1], count), shape_signature=None)
    q = t.quantization
    if q is not None and len(q.scale) > 1:
        q = replace(q, scale=q.scale[part], zero_point=q.zero_point[part])
    return replace(t, shape=(count, *t.shape[1:]), shape_signature=None, data=np.asarray(t.data)[part], quantization=q)


def divided(graph: Graph) -> tuple[Piece, ...]:
    """The pieces of a float model; its weights may be in codes yet. One for what is run whole: models with few weights, and
    those that branch, remember or compute anything but floats on the way."""
    n = len(graph.ops)
    alone = (Piece(0, n),)
    weights = [_constant_bytes(graph, k) for k in range(n)]
    plain = len(graph.subgraphs) == 1 and not any(t.is_variable for t in graph.tensors)
    if sum(weights) <= WHOLE_BYTES or not plain:
        return alone
    live = [_live_bytes(graph, k) for k in range(n + 1)]
    need = [_activation_bytes(graph, k) for k in range(n)]
    need = [max(need[k:]) for k in range(n)]
    found: list[Piece] = []
    start = 0
    while start < n:
        if weights[start] > PIECE_BYTES and _has_channels(graph, start) and live[start + 1] is not None:
            found += _slices(graph, start, weights[start])
            start += 1
            continue
        reach, total = start + 1, weights[start]
        while (
            reach < n
            and total + weights[reach] <= max(PIECE_BYTES, weights[start] + LITTLE)
            and (WIDER * need[reach] > need[start] or need[start] < LARGE)
        ):
            total += weights[reach]
            reach += 1
        if reach < n:  # somewhere in the second half of what would do, where least waits
            able = [
                (waits, -k)
                for k in range(max((start + reach + 1) // 2, start + 1), reach + 1)
                if (waits := live[k]) is not None
            ]
            if not able:
                return alone
            reach = -min(able)[1]
        found.append(Piece(start, reach))
        start = reach
    return tuple(found)


def _has_channels(graph: Graph, k: int) -> bool:
    """Whether each output channel of an operation comes from weights and a bias of its own, the first axis of either."""
    op = graph.ops[k]
    if op.code not in ("CONV_2D", "FULLY_CONNECTED") or len(op.inputs) < 2 or len(op.outputs) != 1:
        return False
    x, (w, *biases) = graph.tensors[op.inputs[0]], (graph.tensors[i] for i in op.inputs[1:] if i >= 0)
    y = graph.tensors[op.outputs[0]]
    rows = w.shape[0] if w.data is not None and w.shape else 0
    return (
        rows > CHANNELS
        and w.sparsity is None
        and np.asarray(w.data).shape == w.shape  # not in halves of bytes
        and x.shape[-1:] == w.shape[-1:]  # else in groups
        and y.shape[-1:] == (rows,)
        and (w.quantization is None or len(w.quantization.scale) <= 1 or w.quantization.axis == 0)
        and all(b.data is not None and b.shape == (rows,) for b in biases)
    )


def _slices(graph: Graph, k: int, nbytes: int) -> list[Piece]:
    rows = graph.tensors[graph.ops[k].inputs[1]].shape[0]
    each = -(-rows // (-(-nbytes // PIECE_BYTES)) // CHANNELS) * CHANNELS
    return [Piece(k, k + 1, (at, min(at + each, rows))) for at in range(0, rows, each)]


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

    def __init__(self, floats: Floats, watched: Iterable[int], threads: int | None = None) -> None:
        """threads: at most; as many as there is work for by default."""
        self._floats, self._watched, graph = floats, frozenset(watched), floats.graph
        self._threads = threads
        self._later = [self._read_behind(piece) for piece in floats.pieces]
        waits = max(sum(4 * graph.tensors[i].size for i in later) for later in self._later[:-1]) or 1
        self._waiting: list[dict[int, Array]] = []
        self._open: list[Stepper] = []
        first = self._piece(0)
        self._first: Stepper | None = first
        give_back()  # what making it leaves, beside the largest images
        self.lanes = first.lanes
        self.room = max(self.lanes, WAITING_BYTES // waits)

    def _read_behind(self, piece: Piece) -> set[int]:
        """What waits behind a piece: what is read there, and where more of an operation's channels come, those that are there."""
        graph = self._floats.graph
        ends = piece.channels is None or piece.channels[1] == graph.tensors[graph.ops[piece.start].outputs[0]].shape[-1]
        read = {i for op in graph.ops[piece.stop if ends else piece.start :] for i in op.inputs}
        made = {i for op in graph.ops[: piece.stop] for i in op.outputs} | set(graph.inputs)
        return (made & read) | (set() if ends else set(graph.ops[piece.start].outputs))

    @property
    def waiting(self) -> int:
        """How many samples wait behind the first piece; `room` at most should."""
        return len(self._waiting)

    def first(self, inputs: Iterable[Inputs], look: Look[Result]) -> Iterator[Result]:
        """Samples, through the first piece; a look's number counts those that wait already."""
        fed = self._floats.graph.inputs
        assert self._first is not None
        self._open = self._open or self._opened(self._first)

        def counted() -> Iterator[tuple[int, list[Inputs]]]:
            coming = iter(inputs)
            while some := list(islice(coming, self.lanes)):
                number = len(self._waiting)
                kept = [{i: a.reshape(-1) for i, a in zip(fed, x, strict=True) if i in self._later[0]} for x in some]
                self._waiting += kept
                yield number, some

        def one(worker: int, item: tuple[int, list[Inputs]]) -> Result:
            return self._looked(0, self._open[worker], worker, *item, look)

        yield from spread(len(self._open), counted(), one)

    def shut(self, *, last: bool = False) -> None:
        """Let go of the memory that the first piece runs in, which the next samples make anew; last: no others come."""
        self._open = []
        self._first = None if last else self._first

    def rest(self, look: Look[Result]) -> Iterator[Result]:
        """All that wait, through the other pieces; none waits any more."""
        self.shut()
        if not self._waiting:  # as many had come as there was room for, and then no more
            return
        give_back()  # what large images leave free, nothing fits in
        for k in range(1, len(self._floats.pieces)):
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
        piece = self._floats.pieces[k]
        channels, cut = piece.channels, () if piece.channels is None else self._floats.graph.ops[piece.start].outputs

        def shown() -> Shown:
            for i, values in step.run(some):
                if channels is not None and i in cut:
                    size = self._floats.graph.tensors[i].shape
                    for row, one in zip(rows, values, strict=True):
                        row.setdefault(i, np.empty(size, values.dtype))[..., slice(*channels)] = one.reshape(
                            *size[:-1], -1
                        )
                    if channels[1] < size[-1]:
                        continue
                    values = np.stack([row[i].reshape(-1) for row in rows])
                elif i in later:
                    for row, one in zip(rows, values, strict=True):
                        row[i] = np.array(one).reshape(-1)
                if i in self._watched:
                    yield i, values

        found = look(worker, shown(), number, len(some))
        for row in rows:
            for i in [i for i in row if i not in later]:
                del row[i]
        return found

    def _piece(self, k: int) -> Stepper:
        piece = self._floats.pieces[k]
        graph = self._floats.part(piece)
        made = {i for op in graph.ops for i in op.outputs} | set(() if k else graph.inputs)
        shown = self._watched | self._later[k]
        beside = LANE_BYTES if self._threads is None else LANE_BYTES // BESIDE
        return Stepper.once(graph, made & shown if piece.channels is None or made & shown else made, beside)

    def _opened(self, step: Stepper) -> list[Stepper]:
        """Steppers with memory of their own, for as many threads as there is work and memory for."""
        pays = step.call_nanoseconds >= CALL_NS
        count = workers(step.nanoseconds * step.lanes) if pays else 1
        count = min(count, self._threads or count, max(1, ARENA_BYTES // (step.lanes * max(step.plan.arena_bytes, 1))))
        return [step.twin() for _ in range(count)]


def in_pieces(
    floats: Floats, inputs: Iterable[Inputs], look: Look[Result], watched: Sequence[int], turn: Lock | None = None
) -> Iterator[Result]:
    """look(worker, what is shown, number of the first, how many) for all samples, piece after piece: of each tensor the results
    come in the order of the samples.

    turn: where several models run at once, a thread for each: one at a time is in its first piece, whose images are the largest.
    """
    if floats.whole:
        yield from in_chunks(
            floats.graph, inputs, lambda w, step, n, some: look(w, step.run(some), n, len(some)), watched
        )
        return
    passage, coming, done = Passage(floats, watched, None if turn is None else 1), iter(inputs), 0

    def there(worker: int, shown: Shown, number: int, count: int) -> Result:
        return look(worker, shown, done + number, count)

    while True:
        with turn or nullcontext():
            yield from passage.first(islice(coming, passage.room), there)
            count = passage.waiting
            passage.shut(last=count < passage.room)
        yield from passage.rest(there)
        if count < passage.room:
            return
        done += count
