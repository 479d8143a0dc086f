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
from edgeq.feed import Source, count, feed
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
        part = parts.setdefault(worker, _Part())
        ends = np.zeros((len(chunk), len(watched), 2))
        for i, values in step.run(chunk):
            if values.shape[1]:
                ends[:, place[i], 0], ends[:, place[i], 1] = values.min(axis=1), values.max(axis=1)
                part.add(i, number, values, ends[:, place[i]])
        return ends

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
    for k, i in enumerate(watched):
        seen = [part.histograms[i] for part in parts.values() if part.flushed(i)]
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


def stride(shape: Sequence[int], most: int) -> int:
    """A step that leaves at most so many elements of a shape (0: all), and meets every channel."""
    step = -(-math.prod(shape) // most) if most else 1
    while step > 1 and math.prod(shape) > shape[-1] and math.gcd(step, shape[-1]) != 1:
        step += 1
    return max(step, 1)


class _Part:
    """What one thread has seen: histograms, and values that wait for theirs."""

    def __init__(self) -> None:
        self.histograms: dict[int, Histogram] = {}
        self._held: dict[int, list[Array]] = {}
        self._ends: dict[int, tuple[float, float]] = {}
        self._step: dict[int, int] = {}
        self._waiting: dict[int, int] = {}

    def add(self, i: int, number: int, values: Array, ends: Array) -> None:
        """Take in tensor i of some samples (samples, n), the first of which is `number`, with their extremes (samples, 2);
        nothing where these are not finite.
        """
        lo, hi = float(ends[:, 0].min()), float(ends[:, 1].max())
        if not (np.isfinite(lo) and np.isfinite(hi)):
            return
        n = values.shape[1]
        step = -(-n // VALUES)
        if step <= 1:
            kept = [np.array(values).reshape(-1)]
        else:  # each sample at another place
            kept = [np.array(sparse(row, turn=number + k)) for k, row in enumerate(values)]
        self._held.setdefault(i, []).extend(kept)
        self._step[i] = step
        old = self._ends.get(i, (lo, hi))
        self._ends[i] = min(lo, old[0]), max(hi, old[1])
        self._waiting[i] = self._waiting.get(i, 0) + len(values)
        if self._waiting[i] >= HELD:
            self.flushed(i)

    def flushed(self, i: int) -> bool:
        """Count what waits; whether there was anything ever."""
        if self._held.get(i):
            values = np.concatenate(self._held.pop(i))
            self._waiting[i] = 0
            h = self.histograms.get(i, Histogram())
            self.histograms[i] = h.add(values, self._step[i], self._ends[i])
        return i in self.histograms


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
    long = first.nanoseconds >= LEAST_EACH and not first.plan.initial
    count = workers(first.nanoseconds * first.lanes) if long else 1
    steppers += [first.twin() for _ in range(count - 1)]

    def one(worker: int, item: tuple[int, list[Inputs]]) -> Result:
        return function(worker, steppers[worker], *item)

    yield from spread(count, cut(inputs, first.lanes), one)


def cut(inputs: Iterable[Inputs], most: int) -> Iterator[tuple[int, list[Inputs]]]:
    """Samples, so many at a time, with the number of the first; copies, since a source may reuse its arrays."""
    number: int = 0
    waiting: list[Inputs] = []
    for x in inputs:
        waiting.append(tuple(np.array(a) for a in x))
        if len(waiting) == most:
            yield number, waiting
            number, waiting = number + most, []
    if waiting:
        yield number, waiting


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

LEAST_EACH = 50_000
"""Of one inference, operation by operation: what is done beside shorter ones takes longer, and one thread at a time does it."""

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

    def __init__(self, most: int = KEPT, nbytes: int = KEPT_BYTES) -> None:
        """most, nbytes: of the inputs that are kept."""
        self.kept: list[Inputs] = []
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
                self.kept.append(tuple(np.array(a) for a in x))  # own: the source may reuse its arrays
        self._shown += 1

    def watch(self, inputs: Iterable[Inputs]) -> Iterator[Inputs]:
        """Pass inputs on and keep some."""
        for x in inputs:
            self.keep(x)
            yield x


def silent(done: int, total: int, what: str) -> None:
    """Progress that nobody looks at."""
