"""Calibration: what range each activation of a float model takes on real samples.

One pass over the samples, in memory that does not grow with their number: a histogram per tensor, and a handful of
samples kept to judge by.
"""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import reduce
from queue import Empty, SimpleQueue
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt

from edgeq.errors import QuantizeError
from edgeq.feed import Source, count, feed, let_go
from edgeq.graph import Graph
from edgeq.histogram import Histogram
from edgeq.records import dataclass, replace

if TYPE_CHECKING:
    from edgeq.stepping import Stepper

Array = npt.NDArray[Any]
Inputs = tuple[Array, ...]
Trace = Callable[[Sequence[Array]], Mapping[int, Array]]
"""Runs a graph on its inputs and gives every tensor's value by index; views, valid until the next call."""
Item = TypeVar("Item")
Row = TypeVar("Row", list[int], Sequence[Inputs], Array)
Result = TypeVar("Result")
Progress = Callable[[int, int, str], None]
"""Called with (done, total, what); total is 0 where it is not known."""


@dataclass(frozen=True)
class Ranges:
    """What calibration found. histograms: by tensor index, of every float32 tensor that is computed or fed.

    samples: how many inferences that was.
    """

    histograms: Mapping[int, Histogram]
    samples: int

    def minmax(self, tensor: int) -> tuple[float, float]:
        """The extremes that the tensor took, widened to hold 0."""
        return self.histograms[tensor].minmax()

    def least_squares(self, tensor: int, bits: int = 8) -> tuple[float, float]:
        """The range whose codes have the least mean squared error on the tensor's values."""
        return self.histograms[tensor].least_squares(bits)


def tracer(graph: Graph) -> Trace:
    """A function that runs `graph` on edgeq's own engine and keeps every tensor."""
    from edgeq.engine import Tracer

    run: Trace = Tracer(graph, rounding="xnnpack").run
    return run


def calibrate(graph: Graph, samples: Source, progress: Progress | None = None) -> Ranges:
    """The ranges of a float model's tensors over `samples` (edgeq.feed says what those may be).

    Raises InputError for samples that do not fit, QuantizeError when there are none or a tensor becomes NaN or
    infinite.
    """
    return observe(graph, feed(graph, samples), progress, count(graph, samples) or 0)


def observe(graph: Graph, inputs: Iterable[Inputs], progress: Progress | None = None, total: int = 0) -> Ranges:
    """`calibrate` for inputs that are already cut to size.

    Of a tensor's values on a sample, VALUES are counted, others on other samples; its extremes are those of all.
    """
    watched = [i for i, t in enumerate(graph.tensors) if t.dtype == "float32" and t.data is None]
    place = {i: k for k, i in enumerate(watched)}
    parts: dict[int, _Part] = {}

    def look(worker: int, step: Stepper, number: int, chunk: Sequence[Inputs]) -> Array:
        """The extremes of each watched tensor on each sample, (samples, watched, 2)."""
        part = parts.setdefault(worker, _Part(len(watched)))
        ends, found = np.zeros((2, len(watched), len(chunk)), np.float32), []
        for i, values in step.run(chunk):
            n = values.shape[1]
            if n:
                k, every = place[i], -(-n // VALUES)
                np.minimum.reduce(values, axis=1, out=ends[0, k])
                np.maximum.reduce(values, axis=1, out=ends[1, k])
                # Of each sample others.
                rows = [values] if every == 1 else [row[(number + r) % every :: every] for r, row in enumerate(values)]
                found.append((k, every, [row.copy() for row in rows]))
        if np.isfinite(ends).all():
            part.take(found, ends, len(chunk))
        return ends.transpose(2, 1, 0)

    sums = np.zeros((len(watched), 2))
    done = 0
    for found in in_chunks(graph, inputs, look, watched):  # in order, so that sums do not depend on who came first
        for ends in found:
            bad = np.flatnonzero(~np.isfinite(ends).all(axis=1))
            if len(bad):
                i, (lo, hi) = watched[bad[0]], ends[bad[0]]
                raise QuantizeError(
                    f"tensor {i} ({graph.tensors[i].name}) on sample {done}: values must be finite, found [{lo}, {hi}]"
                )
            sums += ends
            done += 1
            if progress is not None:
                progress(done, total, "calibrating")
    if not done:
        raise QuantizeError("calibration needs at least one sample, got none")
    histograms = {}
    for part in parts.values():
        part.flush()
    for k, i in enumerate(watched):
        seen = [part.histograms[k] for part in parts.values() if k in part.histograms]
        if seen:
            whole = reduce(Histogram.merge, seen)
            histograms[i] = replace(whole, average=(float(sums[k, 0]) / done, float(sums[k, 1]) / done))
    return Ranges(MappingProxyType(histograms), done)


VALUES = 2048
"""Of one tensor on one sample that are counted."""

HELD = 8
"""Samples of one tensor whose values wait to be counted together."""


def sparse(values: Array, most: int = VALUES, turn: int = 0) -> Array:
    """At most `most` of the values, evenly spread, (n,); with each turn others."""
    flat = values.reshape(-1)
    step = -(-flat.size // most) if most else 1
    return flat if step <= 1 else flat[turn % step :: step]


def thinned(values: Array, step: int, first: int = 0) -> Array:
    """Every so many-th element of each sample, (samples, n), of what a stepper shows (edgeq.stepping): (samples, elements), or
    (samples, rows, elements of a row) where rows do not follow one another."""
    if values.ndim == 2:
        return values[:, first::step]
    row, column = np.divmod(np.arange(first, values.shape[1] * values.shape[2], step), values.shape[2])
    return np.asarray(values[:, row, column])


def stride(shape: Sequence[int], most: int) -> int:
    """A step that leaves at most so many elements of a shape (0: all), and meets every channel."""
    step = -(-math.prod(shape) // most) if most else 1
    while step > 1 and math.prod(shape) > shape[-1] and math.gcd(step, shape[-1]) != 1:
        step += 1
    return max(step, 1)


class _Part:
    """What one thread has seen: histograms by place among the watched tensors, and values that wait for theirs."""

    def __init__(self, count: int) -> None:
        self.histograms: dict[int, Histogram] = {}
        self._held: dict[int, tuple[int, list[Array]]] = {}
        self._waiting = 0
        self._low, self._high = np.full(count, np.inf), np.full(count, -np.inf)

    def take(self, found: Sequence[tuple[int, int, Sequence[Array]]], ends: Array, samples: int) -> None:
        """Take in some samples: of each tensor its place, how many values each one kept stands for, and those; the extremes of
        all, (2, tensors, samples), which are finite.
        """
        for k, every, rows in found:
            self._held.setdefault(k, (every, []))[1].extend(rows)
        self._low, self._high = np.minimum(self._low, ends[0].min(axis=1)), np.maximum(self._high, ends[1].max(axis=1))
        self._waiting += samples
        if self._waiting >= HELD:
            self.flush()

    def flush(self) -> None:
        """Count what waits."""
        for k, (every, rows) in self._held.items():
            values = np.concatenate(rows, axis=None)
            h = self.histograms.get(k) or Histogram()
            self.histograms[k] = h.add(values, every, (float(self._low[k]), float(self._high[k])))
        self._held.clear()
        self._waiting = 0


def in_chunks(
    graph: Graph,
    inputs: Iterable[Inputs],
    function: Callable[[int, Stepper, int, Sequence[Inputs]], Result],
    watched: Sequence[int] | None = None,
) -> Iterator[Result]:
    """function(worker, stepper, number of the first, samples) for the samples in their order, some at a time, from as many
    threads as there are processors for it. How they are cut does not depend on the threads.
    """
    from edgeq.stepping import Stepper

    first = Stepper(graph, watched)
    steppers = [first]
    pays = first.call_nanoseconds >= CALL_NS and not first.plan.initial
    count = workers(first.nanoseconds * first.lanes) if pays else 1
    steppers += [first.twin() for _ in range(count - 1)]

    def one(worker: int, item: tuple[int, list[Inputs]]) -> Result:
        return function(worker, steppers[worker], *item)

    yield from spread(count, cut(inputs, first.lanes), one)


def cut(inputs: Iterable[Inputs], most: int) -> Iterator[tuple[int, list[Inputs]]]:
    """Samples, so many at a time, with the number of the first; copies, since a source may reuse its arrays."""
    number: int = 0
    waiting: list[Inputs] = []
    for x in inputs:
        waiting.append(copied(x))
        if len(waiting) == most:
            yield number, waiting
            number, waiting = number + most, []
    if waiting:
        yield number, waiting


def copied(x: Inputs) -> Inputs:
    """A sample's inputs in memory of their own."""
    own = tuple(np.array(a) for a in x)
    let_go(x)
    return own


def workers(nanoseconds: float) -> int:
    """How many threads are worth having for pieces that are estimated to take so long each."""
    return processors() if nanoseconds >= LEAST_NS else 1


def processors() -> int:
    """How many threads are worth having."""
    return min(WORKERS, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)


def spread(count: int, items: Iterable[Item], function: Callable[[int, Item], Result]) -> Iterator[Result]:
    """function(worker, item) for each item, in their order, from `count` threads; each is one worker at a time."""
    if count == 1:
        yield from (function(0, item) for item in items)
        return
    todo: SimpleQueue[tuple[int, Item] | None] = SimpleQueue()
    ready: SimpleQueue[tuple[int, list[Result], BaseException | None]] = SimpleQueue()

    def work(worker: int) -> None:
        while (given := todo.get()) is not None:
            try:
                ready.put((given[0], [function(worker, given[1])], None))
            except BaseException as error:
                ready.put((given[0], [], error))

    source, sent, taken = enumerate(items), 0, 0
    early: dict[int, tuple[list[Result], BaseException | None]] = {}
    threads: list[threading.Thread] = []
    try:
        while True:
            while sent <= taken + count and (item := next(source, None)) is not None:
                todo.put(item)
                sent += 1
                if len(threads) < count:
                    threads.append(threading.Thread(target=work, args=(len(threads),), name="edgeq", daemon=True))
                    threads[-1].start()
            if taken == sent:
                return
            while taken not in early:
                n, values, error = ready.get()
                early[n] = values, error
            found, failed = early.pop(taken)
            taken += 1
            if failed is not None:
                raise failed
            yield found[0]
    finally:
        with suppress(Empty):
            while True:
                todo.get_nowait()
        for _ in threads:
            todo.put(None)
        for t in threads:
            t.join()


LEAST_NS = 500_000
"""Of an inference, estimated: handing less over to another thread takes as long."""

CALL_NS = 30_000
"""Of one entry into the machine, estimated. Between two the interpreter's lock is held, and threads that take turns at it wait
for each other: of eight models, two with 44 and 65 µs gained a fifth to a quarter, six with up to 15 lost as much or more."""

WORKERS = 4
"""Threads at most: what they have between them is memory bandwidth."""


KEPT = 256
"""Inferences whose inputs are kept, to measure steps by."""

KEPT_BYTES = 48 << 20
"""Of those inputs. Layers are fitted to them: on 15 pictures a large model loses 0.4 dB against 60."""


def evenly(items: Row, most: int) -> Row:
    """At most so many of them, evenly spread."""
    return items[:: max(1, -(-len(items) // most))]


class Keeper:
    """Keeps some of the inputs that it is shown, evenly spread over however many: up to KEPT, and
    KEPT_BYTES of them, by default."""

    def __init__(self, most: int = KEPT, nbytes: int = KEPT_BYTES, *, own: bool = True) -> None:
        """most, nbytes: of the inputs that are kept; own: copies of them, since the source may reuse its arrays."""
        self.kept: list[Inputs] = []
        self._own = own
        self._most, self._bytes = most, nbytes
        self._shown = 0
        self._step = 1

    def keep(self, x: Inputs) -> None:
        """Show it the next inputs."""
        if self._shown % self._step == 0:
            if len(self.kept) >= min(self._most, max(2, self._bytes // max(1, sum(a.nbytes for a in x)))):
                del self.kept[1::2]
                self._step *= 2
            if self._shown % self._step == 0:
                self.kept.append(copied(x) if self._own else x)
        self._shown += 1

    def watch(self, inputs: Iterable[Inputs]) -> Iterator[Inputs]:
        """Pass inputs on and keep some."""
        for x in inputs:
            self.keep(x)
            yield x


def silent(done: int, total: int, what: str) -> None:
    """Progress that nobody looks at."""
