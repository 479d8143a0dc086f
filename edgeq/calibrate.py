"""Calibration: what range each activation of a float model takes on real samples.

One pass over the samples, in memory that does not grow with their number: a histogram per tensor, and a handful of
samples kept to judge by.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.errors import InputError, QuantizeError
from edgeq.feed import Source, count, feed
from edgeq.graph import Graph
from edgeq.histogram import Histogram

Array = npt.NDArray[Any]
Inputs = tuple[Array, ...]
Trace = Callable[[Sequence[Array]], Mapping[int, Array]]
"""Runs a graph on its inputs and gives every tensor's value by index; views, valid until the next call."""
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
    """`calibrate` for inputs that are already cut to size."""
    trace = tracer(graph)
    watched = [i for i, t in enumerate(graph.tensors) if t.dtype == "float32" and t.data is None]
    found: dict[int, Histogram] = {}
    done = 0
    for x in inputs:
        values = trace(x)
        for i in watched:
            if i in values:
                try:
                    found[i] = found.get(i, Histogram()).add(values[i])
                except InputError as error:
                    raise QuantizeError(f"tensor {i} ({graph.tensors[i].name}) on sample {done}: {error}") from None
        done += 1
        if progress is not None:
            progress(done, total, "calibrating")
    if not done:
        raise QuantizeError("calibration needs at least one sample, got none")
    return Ranges(MappingProxyType(found), done)


KEPT = 256
"""Inferences whose inputs are kept, to measure steps by."""

KEPT_BYTES = 64 << 20
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
