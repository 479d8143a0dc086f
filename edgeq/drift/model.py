"""A model that looks at some of its own inferences, seldom enough to cost next to nothing."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Mapping, Sequence
from itertools import repeat
from operator import length_hint
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from edgeq.drift.baseline import Baseline, from_arrays, learn
from edgeq.drift.detector import LEARNING, THRESHOLD, Detector
from edgeq.drift.looks import Watched, look, look_at, watched
from edgeq.engine import Model, Tracer, converted, gathered
from edgeq.errors import InputError
from edgeq.feed import quantmod_of
from edgeq.graph import Graph
from edgeq.locked import LockedMemory
from edgeq.records import dataclass

Array = npt.NDArray[Any]

COST: Final = 0.02
"""Of the time that inferences take, what looks may add."""

AIM: Final = 0.25 * COST
"""Of that time, what looks are spread by: the rest is for what they do not see, counting calls and caches that they empty."""

LEARNED: Final = 128
"""Looks that make a baseline where none was given."""


@dataclass(frozen=True)
class TensorDrift:
    """One tensor: the share of its values that went beyond its codes, in the mean over looks, now and when all was well,
    and how unusual it has been lately (about 1 when all is well)."""

    name: str
    beyond: float
    beyond_before: float | None
    unusual: float


@dataclass(frozen=True)
class DriftReport:
    """What a watched model has seen. status: "learning", "steady" or "recalibrate". evidence: an alarm comes at `threshold`,
    by chance within n looks with a probability of at most n / threshold. every: inferences to a look; cost: of a look,
    spread over them, relative to the inferences; None before the first look."""

    status: str
    inferences: int
    looks: int
    alarms: int
    evidence: float
    threshold: float
    every: int
    cost: float | None
    tensors: tuple[TensorDrift, ...]


class WatchedModel(Model):
    """A Model that also says whether its inputs still look like those that it was calibrated on: `drift()`.

    every: inferences to a look, by default as many as keep the cost at COST. Of a batch one sample is looked at.
    """

    def __init__(
        self,
        graph: Graph,
        baseline: Mapping[str, Array] | None = None,
        *,
        rounding: str = "xnnpack",
        threads: int = 1,
        every: int | None = None,
        threshold: float = THRESHOLD,
        memory: LockedMemory | None = None,
    ) -> None:
        super().__init__(graph, rounding=rounding, threads=threads, memory=memory)
        if every is not None and every < 1:
            raise InputError(f"every is {every}, at least 1 is expected")
        self._watched: tuple[Watched, ...] = watched(graph)
        if not self._watched:
            raise InputError("expected a model with quantized tensors to watch, found none")
        self._known: Baseline | None = from_arrays(baseline or {}, len(self._watched))
        self._detector = Detector(() if self._known is None else self._known.scores.tolist(), threshold=threshold)
        self._tracer = Tracer(graph, rounding=rounding, memory=memory)
        self._learned: list[Array] = []
        self._fixed, self._every = every, every or 1
        self._inferences = 0
        self._sums = np.zeros(len(self._watched))
        self._lately = np.ones(len(self._watched))
        self._looks = 0
        self._look_seconds, self._run_seconds = 0.0, math.inf
        self._one = threading.Lock()
        self._slow = 0
        self._begin(1)

    def _call(self, x: Array | Mapping[str, Array], dequantize: bool) -> Any:
        """Run on x what the builtin does not take, and when it is time have a look."""
        self._slow += self._direct is None or dequantize
        if self._slow + self._fast() < self._due:
            return super()._call(x, dequantize)
        result = super()._call(x, dequantize)
        if self._one.acquire(blocking=False):  # another thread's look is as good as this one's
            try:
                start = time.perf_counter()
                samples = self._look(x)
                took = time.perf_counter() - start
                # A look may meet an interruption: half of what it takes longer than usual counts.
                self._look_seconds += 0.5 * (took - self._look_seconds) if self._looks > 1 else took
                self._run_seconds = min(self._run_seconds, self._timed(x, dequantize) / samples)
                if self._fixed is None:
                    self._every = max(1, math.ceil(self._look_seconds / (AIM * self._run_seconds * samples)))
            finally:
                self._inferences += self._slow + self._fast()
                self._slow = 0
                self._begin(self._every)
                self._one.release()
        return result

    def _begin(self, due: int) -> None:
        """Have a look after so many calls, this one among them.

        The builtin's calls cannot be counted in Python without costing more than the looks, so it is given an iterator of
        results to fill that ends before the look; how many are left says how many calls there were.
        """
        self._due = due
        y = self.outputs[0]
        self._tries = repeat(y.shape, due)  # one more than there are results: it counts the call that finds none, too
        if self._direct is not None:
            self._direct.blank = map(np.empty, self._tries, repeat(y.dtype, due - 1)).__next__

    def _fast(self) -> int:
        """How many calls have come to the builtin since the last look."""
        return self._due - length_hint(self._tries)

    def _timed(self, x: Array | Mapping[str, Array], dequantize: bool) -> float:
        """The seconds that a call on x takes, as it is when nothing is looked at; what the model remembers stays as it is."""
        only = self.program.only
        if only is None:
            return self._seconds(x, dequantize)
        before = only.arena.copy()
        try:
            return self._seconds(x, dequantize)
        finally:
            only.arena[:] = before

    def _seconds(self, x: Array | Mapping[str, Array], dequantize: bool) -> float:
        direct, blank = self._direct, np.empty(self.outputs[0].shape, self.outputs[0].dtype)
        start = time.perf_counter()
        if direct is None or dequantize or direct.call(x, blank) is None:
            start = time.perf_counter()
            super()._call(x, dequantize)
        return time.perf_counter() - start

    def __enter__(self) -> WatchedModel:
        return self

    def drift(self) -> DriftReport:
        """What was seen so far."""
        looks = max(self._looks, 1)
        before = None if self._known is None else self._known.center[:, 0]
        rows = tuple(
            TensorDrift(
                t.name,
                float(self._sums[k] / looks),
                None if before is None else float(before[k]),
                float(self._lately[k]),
            )
            for k, t in enumerate(self._watched)
        )
        known = math.isfinite(self._run_seconds)
        cost = self._look_seconds / (self._every * self._run_seconds) if known else None
        status = LEARNING if self._known is None else self._detector.status
        return DriftReport(
            status,
            self._inferences + self._slow + self._fast(),
            self._looks,
            self._detector.alarms,
            self._detector.evidence,
            self._detector.threshold,
            self._every,
            cost,
            rows,
        )

    def _look(self, x: Array | Mapping[str, Array]) -> int:
        """Look at the first sample; how many there are."""
        arrays, samples, _ = gathered(x, self.inputs)
        first = [a.reshape(-1)[: math.prod(p.shape)].reshape(p.shape) for a, p in zip(arrays, self.inputs, strict=True)]
        given, codes = _encoded(self.graph, first)
        found = look(
            self._watched, self._tracer.run([converted(a, p) for a, p in zip(codes, self.inputs, strict=True)]), given
        )
        self._looks += 1
        self._sums += found[:, 0]
        if self._known is None:
            self._learned.append(found)
            if len(self._learned) >= LEARNED:
                self._known = learn(self._learned)
                self._detector = Detector(self._known.scores.tolist(), threshold=self._detector.threshold)
                self._learned = []
        else:
            self._lately += 0.1 * (self._known.unusual(found) - self._lately)
            self._detector.see(self._known.score(found))
        return samples


def watch(
    graph: Graph,
    baseline: Mapping[str, Array] | None = None,
    *,
    rounding: str = "xnnpack",
    threads: int = 1,
    every: int | None = None,
) -> WatchedModel:
    """The model, watched. baseline: as an overlay holds it; without one the first looks are taken for the normal state."""
    return WatchedModel(graph, baseline, rounding=rounding, threads=threads, every=every)


def baseline_of(graph: Graph, inputs: list[tuple[Array, ...]]) -> Baseline | None:
    """What looks at these inputs (real numbers, as edgeq.feed gives them, or codes) are like; None of fewer than 8 of them."""
    tensors = watched(graph)
    if len(inputs) < 8 or not tensors:
        return None
    from edgeq.stepping import Stepper

    step = Stepper(graph, [t.index for t in tensors])
    looks: list[Array] = []
    for start in range(0, len(inputs), step.lanes):
        some = [_encoded(graph, x) for x in inputs[start : start + step.lanes]]
        given = {i: np.stack([real[i].reshape(-1) for real, _ in some]) for i in some[0][0]}
        looks.extend(look_at(tensors, step.run([codes for _, codes in some]), given, len(some)))
    return learn(looks)


def _encoded(graph: Graph, x: Sequence[Array]) -> tuple[dict[int, Array], list[Array]]:
    """Inputs as the model takes them, and those real numbers, by tensor, that codes were made of."""
    given, codes = {}, []
    for a, i in zip(x, graph.inputs, strict=True):
        q = quantmod_of(graph.tensors[i])
        if q is not None and a.dtype.kind == "f":
            given[i] = a
            codes.append(q.quantize(np.ascontiguousarray(a)))
        else:
            codes.append(a)
    return given, codes
