"""Looking at local samples within a budget: histograms of what sets ranges, and the samples that are kept to judge by.

An Observation is a value between two samples: it can be written down, and gone on with after a power cut. Where it is
known how many samples there are, those looked at are spread evenly over all of them; of a stream they are the first.
"""

from __future__ import annotations

import io
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from edgeq.calibrate import VALUES, Inputs, Progress, stride, thinned
from edgeq.errors import InputError, QuantizeError
from edgeq.feed import Source, count, feed, let_go
from edgeq.graph import Graph
from edgeq.histogram import Histogram
from edgeq.pieces import Floats, Passage, Shown
from edgeq.records import dataclass, field, replace

Array = npt.NDArray[Any]

HOLD_BACK: Final = 4
"""Every so many-th sample sets no range: it judges."""


LEAST: Final = 24
"""Samples, however large the model."""


@dataclass(frozen=True)
class Budget:
    """samples: at most so many are looked at, 0: all; seconds: none is begun later, None: no limit; kept_bytes: of inputs
    kept in memory, to judge by and to derive from, together; values: that the model may compute while samples are looked at,
    though never fewer than LEAST samples are."""

    samples: int = 512
    seconds: float | None = None
    kept_bytes: int = 8 << 20
    values: float = 1.75e8

    def __post_init__(self) -> None:
        if self.samples < 0 or (self.samples and self.samples < HOLD_BACK):
            raise InputError(f"samples must be at least {HOLD_BACK}, of which one judges (0: all), got {self.samples}")
        if self.seconds is not None and not self.seconds > 0:
            raise InputError(f"expected more than 0 seconds, got {self.seconds}")

    def most(self, graph: Graph) -> int:
        """How many samples of this model are looked at at most, 0: all."""
        each = sum(t.size for t in graph.tensors if t.data is None)
        if not self.samples or self.values == math.inf:
            return self.samples
        return min(self.samples, max(LEAST, int(self.values / max(each, 1))))


@dataclass(frozen=True, eq=False)
class Kept:
    """Some of the inputs that came, evenly spread over however many, with a label each (−1: none).

    step: every so many-th that comes is kept; it doubles, and every other one goes, when there are more than fit.
    """

    inputs: tuple[Inputs, ...] = ()
    labels: tuple[int, ...] = ()
    shown: int = 0
    step: int = 1

    def shown_one(self, x: Inputs, label: int, most_bytes: int) -> Kept:
        """What is kept after one more."""
        kept = self
        if self.shown % self.step == 0:
            room = min(256, max(2, most_bytes // max(1, sum(a.nbytes for a in x))))
            if len(self.inputs) >= room:
                kept = replace(self, inputs=self.inputs[::2], labels=self.labels[::2], step=2 * self.step)
            if self.shown % kept.step == 0:
                kept = replace(kept, inputs=(*kept.inputs, x), labels=(*kept.labels, label))
        return replace(kept, shown=self.shown + 1)


@dataclass(frozen=True, eq=False)
class Observation:
    """consumed: samples looked at; histograms: by tensor of the float graph, of the samples that set ranges; judge: of
    those held back; derive: of the others."""

    consumed: int = 0
    histograms: Mapping[int, Histogram] = field(default_factory=dict)
    judge: Kept = field(default_factory=Kept)
    derive: Kept = field(default_factory=Kept)


Saved = Callable[[Observation], None]
"""Called after each few samples; writes it down if it is time to."""


def looked_at(
    graph: Graph, samples: Source, labels: Array | None, budget: Budget
) -> tuple[int, Iterator[tuple[Inputs, int]]]:
    """How many samples will be looked at (0: nobody knows), and those samples, each with its label or −1.

    Raises InputError for labels that are not one for each sample, or of no class of the first output's.
    """
    total, most = count(graph, samples) or 0, budget.most(graph)
    if labels is not None and total and len(labels) != total:
        raise InputError(f"expected a label for each of {total} samples, got {len(labels)}")
    classes = math.prod(graph.tensors[graph.outputs[0]].shape)
    if labels is not None and len(labels) and classes > 1 and not -1 <= labels.min() <= labels.max() < classes:
        raise InputError(
            f"labels must be in [0, {classes - 1}], or −1 for none, found [{labels.min()}, {labels.max()}]"
        )
    if not total or not isinstance(samples, (np.ndarray, Mapping, Sequence)):
        return most, _first(graph, samples, most)
    wanted = range(total)
    if most and most < total:
        wanted = np.linspace(0, total - 1, most).round().astype(int).tolist()
    return len(wanted), _picked(graph, samples, wanted, labels)


def _first(graph: Graph, samples: Source, most: int) -> Iterator[tuple[Inputs, int]]:
    for n, x in enumerate(feed(graph, samples)):
        if most and n >= most:
            return
        yield x, -1


def _picked(graph: Graph, samples: Any, wanted: Sequence[int], labels: Array | None) -> Iterator[tuple[Inputs, int]]:
    if isinstance(samples, Sequence):

        def cut(n: int) -> Any:
            return [samples[n]]
    else:
        arrays = samples if isinstance(samples, Mapping) else {"": samples}
        total = count(graph, samples) or 1
        named = {name: a for name, a in arrays.items() if np.ndim(a) and len(a) >= total and name != "y"}
        rows = {name: len(a) // total for name, a in named.items()}

        def cut(n: int) -> Any:
            piece = {name: a[n * rows[name] : (n + 1) * rows[name]] for name, a in named.items()}
            return piece if isinstance(samples, Mapping) else piece[""]

    read = [] if isinstance(samples, Sequence) else [*named.values()]
    call = getattr(samples, "named", "sample {}".format)
    for n in wanted:
        for x in feed(graph, cut(n), lambda _, n=n: call(n)):  # type: ignore[misc]
            yield x, -1 if labels is None else int(labels[n])
        let_go(read)  # the system maps more than was looked at, up to megabytes around each sample


def observe_within(
    floats: Floats,
    watched: Sequence[int],
    samples: Iterator[tuple[Inputs, int]],
    total: int,
    budget: Budget,
    progress: Progress,
    begun: Observation | None = None,
    saved: Saved | None = None,
) -> Observation:
    """Go through the samples from where `begun` stopped; at each say `progress`, and show the state to `saved` now and then.

    Some samples are looked at together (edgeq.stepping), as many as TOGETHER bytes hold; how they are cut changes nothing.
    """
    look = _Whole(floats.graph, watched) if floats.whole else _Parts(floats, watched)
    seen = begun or Observation()
    start = time.monotonic()
    waiting: list[tuple[Inputs, int]] = []
    for n, (x, label) in enumerate(samples):
        if n < seen.consumed:
            continue
        if budget.seconds is not None and n >= HOLD_BACK and time.monotonic() - start > budget.seconds:
            break
        own = tuple(np.array(a) for a in x)  # the source may reuse its arrays
        waiting.append((own, label))
        most = max(1, min(look.lanes, TOGETHER // max(1, sum(a.nbytes for a in own))))
        progress(n + 1, total, "calibrating")
        if len(waiting) >= most:
            seen, waiting = _looked(seen, look, waiting, budget), []
            if saved is not None and look.complete:
                saved(seen)
    rest = bool(waiting) or not look.complete
    if waiting:
        seen = _looked(seen, look, waiting, budget)
    if not look.complete:
        found = dict(seen.histograms)
        look.end(found)
        seen = replace(seen, histograms=found)
    if rest and saved is not None:
        saved(seen)
    return seen


TOGETHER: Final = 1 << 20
"""Bytes of inputs that wait to be looked at together."""

HELD: Final = 12
"""Samples, at least, whose values are counted together: to count few takes almost as long."""


class _Look:
    """What float tensors hold on samples that come some at a time."""

    lanes: int

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self._every: dict[int, int] = {}

    def _step_of(self, i: int) -> int:
        """Every so many-th value of a tensor is counted."""
        if i not in self._every:
            self._every[i] = stride(self.graph.tensors[i].shape, VALUES)
        return self._every[i]

    @property
    def complete(self) -> bool:
        """Whether all that came has been counted."""
        return True

    def take(self, histograms: dict[int, Histogram], some: Sequence[tuple[int, Inputs]]) -> None:
        """Count samples, (number, inputs) each."""
        raise NotImplementedError

    def end(self, histograms: dict[int, Histogram]) -> None:
        """Count what still waits."""

    def part(self, i: int, values: Array, numbers: Sequence[int]) -> tuple[Array, float, float]:
        """Some values of a tensor on some samples, (samples, elements), of each sample others; and the extremes of all."""
        every = self._step_of(i)
        if values.ndim == 2:
            some = np.concatenate([row[n % every :: every] for n, row in zip(numbers, values, strict=True)])
        else:
            some = np.concatenate([thinned(values[k : k + 1], every, n % every)[0] for k, n in enumerate(numbers)])
        low, high = float(np.minimum.reduce(values, axis=None)), float(np.maximum.reduce(values, axis=None))
        if not (math.isfinite(low) and math.isfinite(high)):
            bad = next(n for n, row in zip(numbers, values, strict=True) if not np.isfinite(row).all())
            raise QuantizeError(f"tensor {i} on sample {bad}: values must be finite, found [{low}, {high}]")
        return some, low, high

    def count(self, histograms: dict[int, Histogram], i: int, some: Array, low: float, high: float) -> None:
        """Count what `part` gave of a tensor."""
        histograms[i] = (histograms.get(i) or Histogram()).add(some, self._step_of(i), (low, high))


class _Whole(_Look):
    """Of a graph that is run whole."""

    def __init__(self, graph: Graph, watched: Sequence[int]) -> None:
        from edgeq.stepping import Stepper

        super().__init__(graph)
        self._step = Stepper(graph, watched)
        self.lanes = self._step.lanes * -(-HELD // self._step.lanes)

    def take(self, histograms: dict[int, Histogram], some: Sequence[tuple[int, Inputs]]) -> None:
        """Count samples, (number, inputs) each."""
        found: dict[int, list[tuple[Array, float, float]]] = {}
        for start in range(0, len(some), self._step.lanes):
            numbers, inputs = zip(*some[start : start + self._step.lanes], strict=True)
            for i, values in self._step.run(inputs):
                if values.size:
                    found.setdefault(i, []).append(self.part(i, values, numbers))
        for i, parts in found.items():
            counted, lows, highs = zip(*parts, strict=True)
            self.count(histograms, i, np.concatenate(counted), min(lows), max(highs))


class _Parts(_Look):
    """Of one that is run in pieces: samples wait between two."""

    def __init__(self, floats: Floats, watched: Sequence[int]) -> None:
        super().__init__(floats.graph)
        self._passage = Passage(floats, watched)
        self._numbers: list[int] = []
        self.lanes = self._passage.lanes * 2

    @property
    def complete(self) -> bool:
        """Whether all that came has been counted."""
        return not self._numbers

    def take(self, histograms: dict[int, Histogram], some: Sequence[tuple[int, Inputs]]) -> None:
        """Take samples, (number, inputs) each, through the first piece, and through the others if many wait."""
        self._numbers += [n for n, _ in some]
        self._count(histograms, self._passage.first((x for _, x in some), self._look))
        if self._passage.waiting >= self._passage.room:
            self.end(histograms)

    def end(self, histograms: dict[int, Histogram]) -> None:
        """Take what waits through the other pieces."""
        self._count(histograms, self._passage.rest(self._look))
        self._numbers.clear()

    def _look(self, worker: int, shown: Shown, number: int, count: int) -> list[tuple[int, Array, float, float]]:
        numbers = self._numbers[number : number + count]
        return [(i, *self.part(i, values, numbers)) for i, values in shown if values.size]

    def _count(self, histograms: dict[int, Histogram], looks: Iterator[list[tuple[int, Array, float, float]]]) -> None:
        for found in looks:
            for part in found:
                self.count(histograms, *part)


def _looked(seen: Observation, look: _Look, waiting: Sequence[tuple[Inputs, int]], budget: Budget) -> Observation:
    """The observation with some more samples, which are counted now or when the look ends."""
    judge, derive, ranging = seen.judge, seen.derive, []
    for n, (x, label) in enumerate(waiting, seen.consumed):
        if n % HOLD_BACK == HOLD_BACK - 1:
            judge = judge.shown_one(x, label, budget.kept_bytes // 2)
        else:
            derive = derive.shown_one(x, label, budget.kept_bytes // 2)
            ranging.append((n, x))
    found = dict(seen.histograms)
    look.take(found, ranging)
    return Observation(seen.consumed + len(waiting), found, judge, derive)


# --- bytes ------------------------------------------------------------------------------------------------------------


def to_bytes(seen: Observation) -> bytes:
    """An observation as an NPZ file in memory."""
    arrays: dict[str, Array] = {"consumed": np.array(seen.consumed)}
    for i, h in seen.histograms.items():
        used = np.flatnonzero(h.counts)
        arrays[f"bounds/{i}"] = np.array([h.minimum, h.maximum, h.width])
        arrays[f"bins/{i}"] = np.stack([used, h.counts[used]])
    for side in ("judge", "derive"):
        kept: Kept = getattr(seen, side)
        arrays[f"{side}/place"] = np.array([kept.shown, kept.step])
        arrays[f"{side}/labels"] = np.array(kept.labels, np.int64)
        for k in range(len(kept.inputs[0]) if kept.inputs else 0):
            arrays[f"{side}/{k}"] = np.stack([x[k] for x in kept.inputs])
    out = io.BytesIO()
    np.savez(out, **arrays)
    return out.getvalue()


def from_bytes(data: bytes) -> Observation:
    """The observation that `to_bytes` wrote: for bytes that were authenticated, not for anybody's."""
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        histograms = {}
        for name in arrays.files:
            kind, _, i = name.partition("/")
            if kind == "bounds":
                low, high, width = (float(v) for v in arrays[name])
                used, counts = arrays[f"bins/{i}"]
                histograms[int(i)] = Histogram(low, high, width, _dense(used, counts))
        sides = {side: _kept(arrays, side) for side in ("judge", "derive")}
        return Observation(int(arrays["consumed"]), histograms, sides["judge"], sides["derive"])


def _dense(used: Array, counts: Array) -> Array:
    out = Histogram().counts
    out[used] = counts
    return out


def _kept(arrays: Any, side: str) -> Kept:
    shown, step = (int(v) for v in arrays[f"{side}/place"])
    labels = tuple(int(v) for v in arrays[f"{side}/labels"])
    columns: list[Array] = []
    while f"{side}/{len(columns)}" in arrays.files:
        columns.append(arrays[f"{side}/{len(columns)}"])
    inputs = tuple(tuple(np.array(c[n]) for c in columns) for n in range(len(labels)))
    return Kept(inputs, labels, shown, step)


def clipped(graph: Graph, histograms: Mapping[int, Histogram]) -> dict[int, float]:
    """For each quantized tensor the share of the values seen that its codes cannot reach, by more than half a step."""
    from edgeq.feed import quantmod_of

    out = {}
    for i, h in histograms.items():
        q = quantmod_of(graph.tensors[i])
        if q is None or not h.size:
            continue
        low, high = (float(v) for v in q.limits)
        half = 0.5 * float(q.scale)
        values, weights = h.points()
        beyond = (values > high + half) | ((values < low - half) & (not math.isclose(low, 0.0, abs_tol=1e-12)))
        out[i] = float(weights[beyond].sum() / weights.sum())
    return out
