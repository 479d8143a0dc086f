"""Calibration: what range each activation of a float model takes on real samples.

One pass over the samples, in memory that does not grow with their number: a histogram per tensor, and a handful of
samples kept to judge by.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import reduce
from queue import SimpleQueue
from types import MappingProxyType
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from edgeq.errors import QuantizeError
from edgeq.feed import Source, count, feed
from edgeq.graph import Graph
from edgeq.histogram import Histogram

Array = npt.NDArray[Any]
Inputs = tuple[Array, ...]
Trace = Callable[[Sequence[Array]], Mapping[int, Array]]
"""Runs a graph on its inputs and gives every tensor's value by index; views, valid until the next call."""
Item = TypeVar("Item")
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
    parts: dict[int, _Part] = {}

    def look(worker: int, run: Trace, item: tuple[int, Inputs]) -> Array:
        number, x = item
        values, part = run(x), parts.setdefault(worker, _Part())
        return np.array([part.add(i, number, values[i]) if i in values else (0.0, 0.0) for i in watched])

    ends = np.zeros((len(watched), 2))
    done = 0
    for found in in_parallel(graph, enumerate(inputs), look):  # in order, so that sums do not depend on who came first
        bad = np.flatnonzero(~np.isfinite(found).all(axis=1))
        if len(bad):
            i, (lo, hi) = watched[bad[0]], found[bad[0]]
            raise QuantizeError(
                f"tensor {i} ({graph.tensors[i].name}) on sample {done}: values must be finite, found [{lo}, {hi}]"
            )
        ends += found
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
            histograms[i] = replace(whole, average=(float(ends[k, 0]) / done, float(ends[k, 1]) / done))
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


class _Part:
    """What one thread has seen: histograms, and values that wait for theirs."""

    def __init__(self) -> None:
        self.histograms: dict[int, Histogram] = {}
        self._held: dict[int, list[Array]] = {}
        self._ends: dict[int, tuple[float, float]] = {}
        self._step: dict[int, int] = {}

    def add(self, i: int, number: int, values: Array) -> tuple[float, float]:
        """Take in tensor i of a sample; its extremes (0, 0 for no values), and nothing more if these are not finite."""
        if not values.size:
            return 0.0, 0.0
        lo, hi = float(values.min()), float(values.max())
        if not (np.isfinite(lo) and np.isfinite(hi)):
            return lo, hi
        kept = sparse(values, VALUES, number)
        self._held.setdefault(i, []).append(np.array(kept))
        self._step[i] = max(1, round(values.size / kept.size))
        old = self._ends.get(i, (lo, hi))
        self._ends[i] = min(lo, old[0]), max(hi, old[1])
        if len(self._held[i]) >= HELD:
            self.flushed(i)
        return lo, hi

    def flushed(self, i: int) -> bool:
        """Count what waits; whether there was anything ever."""
        if self._held.get(i):
            values = np.concatenate(self._held.pop(i))
            h = self.histograms.get(i, Histogram())
            self.histograms[i] = h.add(values, self._step[i], self._ends[i])
        return i in self.histograms


LEAST_NS = 500_000
"""Of an inference, estimated: handing less over to another thread takes as long."""

WORKERS = 4
"""Threads at most: what they have between them is memory bandwidth."""


def in_parallel(
    graph: Graph, items: Iterable[Item], function: Callable[[int, Trace, Item], Result]
) -> Iterator[Result]:
    """function(worker, trace, item) for each item, in their order, from as many threads as there are processors for it."""
    from edgeq.engine import Tracer

    first = Tracer(graph, rounding="xnnpack")
    count = min(WORKERS, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    if count == 1 or first.nanoseconds < LEAST_NS:
        yield from (function(0, first.run, item) for item in items)
        return
    free: SimpleQueue[tuple[int, Trace]] = SimpleQueue()
    for worker in range(count):
        free.put((worker, first.run if worker == 0 else first.twin().run))

    def one(item: Item) -> Result:
        worker, run = free.get()
        try:
            return function(worker, run, item)
        finally:
            free.put((worker, run))

    with ThreadPoolExecutor(count, thread_name_prefix="edgeq") as pool:
        pending: deque[Future[Result]] = deque()
        try:
            for item in items:
                pending.append(pool.submit(one, item))
                if len(pending) > 2 * count:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for waiting in pending:
                waiting.cancel()


KEPT = 256
"""Inferences whose inputs are kept, to measure steps by."""

KEPT_BYTES = 16 << 20
"""Of those inputs."""


class Keeper:
    """Keeps some of the inputs that it is shown, evenly spread over however many: up to KEPT, and KEPT_BYTES of
    them."""

    def __init__(self) -> None:
        self.kept: list[Inputs] = []
        self._shown = 0
        self._step = 1

    def keep(self, x: Inputs) -> None:
        """Show it the next inputs."""
        if self._shown % self._step == 0:
            if len(self.kept) >= min(KEPT, max(2, KEPT_BYTES // max(1, sum(a.nbytes for a in x)))):
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
