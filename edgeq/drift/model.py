"""A model that looks at some of its own inferences, seldom enough to cost next to nothing."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from edgeq.drift.baseline import Baseline, from_arrays, learn
from edgeq.drift.detector import LEARNING, THRESHOLD, Detector
from edgeq.drift.looks import Watched, look, watched
from edgeq.engine import Model, Tracer, converted, gathered
from edgeq.errors import InputError
from edgeq.feed import quantmod_of
from edgeq.graph import Graph
from edgeq.locked import LockedMemory
from edgeq.records import dataclass

Array = npt.NDArray[Any]

COST: Final = 0.02
"""Of the time that inferences take, what looks may add."""

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
        self._fixed, self._every, self._left = every, every or 1, 1
        self._inferences = 0
        self._sums = np.zeros(len(self._watched))
        self._lately = np.ones(len(self._watched))
        self._looks = 0
        self._look_seconds = self._run_seconds = math.inf
        self._one = threading.Lock()

    def __call__(self, x: Array | Mapping[str, Array], *, dequantize: bool = False) -> Any:
        """Run on x, as Model does; now and then have a look."""
        self._left -= 1
        if self._left > 0:
            self._inferences += 1
            return super().__call__(x, dequantize=dequantize)
        start = time.perf_counter()
        result = super().__call__(x, dequantize=dequantize)
        ran = time.perf_counter() - start
        self._inferences += 1
        if self._one.acquire(blocking=False):  # another thread's look is as good as this one's
            try:
                samples = self._look(x)
                self._run_seconds = min(self._run_seconds, ran / samples)
                self._look_seconds = min(self._look_seconds, time.perf_counter() - start - ran)
                if self._fixed is None:
                    self._every = max(1, math.ceil(self._look_seconds / (COST * self._run_seconds * samples)))
            finally:
                self._left = self._every
                self._one.release()
        return result

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
        known = math.isfinite(self._look_seconds)
        cost = self._look_seconds / (self._every * self._run_seconds) if known else None
        status = LEARNING if self._known is None else self._detector.status
        return DriftReport(
            status,
            self._inferences,
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
    tracer = Tracer(graph)
    looks = []
    for x in inputs:
        given, codes = _encoded(graph, x)
        looks.append(look(tensors, tracer.run(codes), given))
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
