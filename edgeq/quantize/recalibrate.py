"""Tuning on the device: a quantized model learns the ranges that its activations take where it runs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from edgeq.calibrate import Inputs, Keeper, Progress, Ranges, observe, silent
from edgeq.errors import QuantizeError
from edgeq.feed import Source, count, feed, quantmod_of
from edgeq.graph import Graph
from edgeq.histogram import Histogram
from edgeq.quantize.compare import compare, judge_by
from edgeq.quantize.reconstruct import reconstruct
from edgeq.quantize.report import Quantized, integer_layers
from edgeq.quantize.rescale import Scales, rescale, scales
from edgeq.quantize.rewrite import Rewritten
from edgeq.quantize.search import Found, Search, Spans, chosen
from edgeq.tflite import write

HOLD_BACK = 4
"""Every so many-th sample sets no range: it judges."""

LEAST_GAIN = 0.1
"""Of the noise: for less than this it is not worth to give up ranges that were made from more samples."""


def recalibrate(graph: Graph, samples: Source, progress: Progress | None = None, *, keep_io: bool = True) -> Quantized:
    """A quantized model with new activation ranges from `samples` (edgeq.feed says what those may be).

    The measure is the float model that the codes stand for (edgeq.quantize.reconstruct). Every fourth sample is held
    back: the new ranges are kept only if they bring the integer model clearly closer to that float model on those, else
    the model comes back as it was, with `changed` False and the reason in `steps`. Ranges reach beyond the local
    extremes, as far as more such samples are expected to (edgeq.histogram). Weights stay as they are, bit for bit;
    biases are counted anew in the new units. keep_io: inputs and outputs keep their scales, so that what feeds and
    reads the model needs no change.

    Raises QuantizeError for a model without quantized activations and for fewer than four samples, InputError for
    samples that do not fit the model.
    """
    if not any(t.data is None and quantmod_of(t) is not None for t in graph.tensors):
        raise QuantizeError("expected a model with quantized activations, found none: quantize it first")
    say = progress or silent
    real = reconstruct(graph)
    free = scales(graph, keep_io)
    held = _HeldBack(feed(graph, samples))
    ranges = observe(real, held, progress, count(graph, samples) or 0)
    if not held.count:
        raise QuantizeError(f"expected at least {HOLD_BACK} samples, of which one judges, got {ranges.samples}")
    seen = _seen(free, ranges)
    place = {i: i for i, t in enumerate(graph.tensors) if t.data is None}

    def make(at: Spans) -> Rewritten:
        return Rewritten(rescale(graph, free, at), place, {})

    say(0, 1, "choosing ranges")
    search = Search(make, judge_by(real, held.keeper.kept))
    old = search.candidate("the ranges it has", {})
    candidates = [old]
    if seen:
        ranges_by = {
            "the extremes to be expected": {g: h.expected() for g, h in seen.items()},
            "minmax ranges": {g: h.minmax() for g, h in seen.items()},
            "mse ranges": {g: h.least_squares(_bits(graph, g)) for g, h in seen.items()},
        }
        candidates += [search.candidate(name, at) for name, at in ranges_by.items()]
    best = _first_near_best(candidates)
    changed = bool(best.spans)
    if changed:
        best = search.with_headroom(best, {g: h.expected() for g, h in seen.items()}, old.error)
    comparison = compare(real, best.done.graph, place, held.keeper.kept)
    say(1, 1, "calibrated")
    result = best.done.graph if changed else graph
    return Quantized(
        result,
        integer_layers(result, comparison),
        min(comparison.sqnr(i) for i in search.judge.targets),
        len(write(graph)),
        len(write(result)),
        ranges.samples + held.count,
        best.steps if changed else (*best.steps, _why(bool(seen))),
        changed,
    )


def _seen(free: Scales, ranges: Ranges) -> dict[int, Histogram]:
    """What the tensors of each group that may change were seen to hold."""
    out = {}
    for group, members in free.free().items():
        h = Histogram()
        for i in members:
            h = h.merge(ranges.histograms[i])
        out[group] = h
    return out


def _first_near_best(candidates: list[Found]) -> Found:
    """The first candidate, the ranges it has, unless others are clearly better; of those the first near the best.

    They come with the widest ranges first: where the samples held back do not tell two apart, the wider clips less of
    what they did not show.
    """
    best = min(c.error for c in candidates)
    if best > (1 - LEAST_GAIN) * candidates[0].error:
        return chosen(candidates, candidates[0])
    return chosen(candidates, next(c for c in candidates[1:] if c.error * (1 - LEAST_GAIN) <= best))


def _bits(graph: Graph, group: int) -> int:
    return 16 if graph.tensors[group].dtype == "int16" else 8


def _why(tried: bool) -> str:
    if not tried:
        return "not changed: every scale is prescribed, or belongs to an input or output"
    return f"not changed: no new ranges come {LEAST_GAIN:.0%} closer on the samples held back"


class _HeldBack:
    """Passes inputs on, except that every HOLD_BACK-th goes to `keeper`."""

    def __init__(self, inputs: Iterable[Inputs]) -> None:
        self.count = 0
        self.keeper = Keeper()
        self._inputs = inputs

    def __iter__(self) -> Iterator[Inputs]:
        for n, x in enumerate(self._inputs):
            if n % HOLD_BACK == HOLD_BACK - 1:
                self.keeper.keep(x)
                self.count += 1
            else:
                yield x
