"""Tuning on the device: a quantized model learns the ranges that its activations take where it runs."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from edgeq.calibrate import Inputs, Progress, silent, tracer
from edgeq.errors import QuantizeError
from edgeq.feed import Source, encode, quantmod_of
from edgeq.graph import Array, Graph
from edgeq.histogram import Histogram
from edgeq.quantize.canonical import fold_dequantize, fold_weights, fuse_activations, prune
from edgeq.quantize.compare import Judge, compare, judge_by, judged
from edgeq.quantize.observation import HOLD_BACK, Budget, Observation, Saved, looked_at, observe_within
from edgeq.quantize.reconstruct import reconstruct
from edgeq.quantize.report import Quantized, integer_layers
from edgeq.quantize.rescale import Scales, rescale, scales
from edgeq.quantize.rewrite import Rewritten
from edgeq.quantize.search import ENOUGH, Found, Search, Spans, chosen, noise, noisiest
from edgeq.quantize.settle import SAMPLES, Layer, layers, settle, wanted_means
from edgeq.teacher import check_interface
from edgeq.tflite import write

LEAST_GAIN = 0.1
"""Of the noise: for less than this it is not worth to give up ranges that were made from more samples."""

REFINING = 2e9
"""Values that refining ranges may compute: seconds of one core, and the model is better for it at every inference."""

BUDGET = Budget()


@dataclass(frozen=True, eq=False)
class Recalibrated(Quantized):
    """As Quantized; error_before, error_after: noise per signal on the samples held back; observed: what was seen."""

    error_before: float = 0.0
    error_after: float = 0.0
    observed: Observation = field(default_factory=Observation)


def recalibrate(
    graph: Graph,
    samples: Source,
    progress: Progress | None = None,
    *,
    keep_io: bool = True,
    teacher: Graph | None = None,
    labels: Array | None = None,
    budget: Budget = BUDGET,
    settle_biases: bool = True,
    deployed: Graph | None = None,
    begun: Observation | None = None,
    saved: Saved | None = None,
) -> Recalibrated:
    """A quantized model with new activation ranges and biases from `samples` (edgeq.feed says what those may be).

    The measure is `teacher`, the float model that this one was made of, or without one the float model that the codes
    stand for (edgeq.quantize.reconstruct). Every fourth sample is held back: what is new is kept only if it brings the
    integer model clearly closer to the float model on those, and, with `labels` (one per sample, for a classifier), if it
    gets no fewer of them right; else the model comes back as it was, with `changed` False and the reason in `steps`.
    Ranges reach beyond the local extremes, as far as more such samples are expected to (edgeq.histogram). Weights stay as
    they are, bit for bit. keep_io: inputs and outputs keep their scales, so that what feeds and reads the model in
    integers needs no change; without it the inputs may get others, which who feeds real numbers does not notice.

    budget: how many samples are looked at, and for how long. settle_biases: whether biases may change by more than what
    the new ranges ask for. deployed: the model as it runs now, if that is not `graph`: it is what the result has to be better
    than. begun: where an interrupted run stopped, over the same
    samples; saved: is shown that state after each sample.

    Raises QuantizeError for a model without quantized activations and for fewer than four samples, InputError for
    samples, labels or a teacher that do not fit the model.
    """
    if not any(t.data is None and quantmod_of(t) is not None for t in graph.tensors):
        raise QuantizeError("expected a model with quantized activations, found none: quantize it first")
    say, start = progress or silent, time.monotonic()
    real = reconstruct(graph)
    guide = real if teacher is None else _prepared(graph, teacher)
    matched = layers(graph, guide)
    free = _inputs_free(graph, scales(graph, keep_io=False)) if not keep_io else scales(graph)
    total, stream = looked_at(graph, samples, labels, budget)
    watched = [i for i, t in enumerate(real.tensors) if t.dtype == "float32" and t.data is None]
    seen = observe_within(tracer(real), watched, stream, total, budget, say, begun, saved)
    if not seen.consumed:
        raise QuantizeError("calibration needs at least one sample, got none")
    if not seen.judge.inputs:
        raise QuantizeError(f"expected at least {HOLD_BACK} samples, of which one judges, got {seen.consumed}")
    groups = _seen(free, seen.histograms)
    place = {i: i for i, t in enumerate(graph.tensors) if t.data is None}
    search = Search(_maker(graph, free, place), _judge(graph, guide, real, seen.judge.inputs))

    say(0, 2, "choosing ranges")
    old = search.candidate("the ranges it has", {})
    if deployed is not None:
        error = search.judge.error(deployed, place)
        old = Found("the ranges it has", {}, Rewritten(deployed, dict(place), {}), error)
    late = _late(budget, start)
    found = _ranged(search, old, groups, graph)
    if found.spans and found.error >= ENOUGH and not late():
        found = search.refined(found, noisiest(groups, found.spans), say, budget=REFINING, late=late)
    if settle_biases and not late():
        say(1, 2, "settling biases")
        found = _settled(found, search, matched, guide, seen.derive.inputs[:SAMPLES])
    found = _guarded(found, old, seen)
    changed = found.done is not old.done
    result = found.done.graph if changed else (deployed or graph)
    comparison = compare(real, result, place, seen.judge.inputs)
    say(2, 2, "calibrated")
    return Recalibrated(
        result,
        integer_layers(result, comparison),
        min(comparison.sqnr(i) for i in judged(real)),
        len(write(graph)),
        len(write(result)),
        seen.consumed,
        found.steps if changed else (*found.steps, _why(bool(groups))),
        changed,
        old.error,
        found.error if changed else old.error,
        seen,
    )


def _late(budget: Budget, start: float) -> Callable[[], bool]:
    """Whether the budget's time is used up: a quarter as long as looking took is given to choosing."""
    limit = None if budget.seconds is None else 1.25 * budget.seconds
    return lambda: limit is not None and time.monotonic() - start > limit


def _prepared(graph: Graph, teacher: Graph) -> Graph:
    """The teacher, said as the quantizer says what it quantizes, so that its layers end where the integer ones do."""
    check_interface(graph, teacher)
    return prune(fuse_activations(fold_weights(fold_dequantize(teacher))))[0]


def _inputs_free(graph: Graph, found: Scales) -> Scales:
    """Scales of which those of the outputs keep theirs: what reads them may know them by heart."""
    pinned = {found.groups[i] for i in graph.outputs if i in found.groups}
    return replace(found, pinned=found.pinned | pinned)


def _maker(graph: Graph, free: Scales, place: Mapping[int, int]) -> Callable[[Spans], Rewritten]:
    def make(at: Spans) -> Rewritten:
        return Rewritten(rescale(graph, free, at) if at else graph, dict(place), {})

    return make


def _judge(graph: Graph, guide: Graph, real: Graph, inputs: Sequence[Inputs]) -> Judge:
    """A judge by the guide, whose targets are numbered as in the integer graph."""
    by = judge_by(guide, inputs)
    own = judged(real)
    if len(own) != len(by.targets):
        raise QuantizeError(f"the teacher computes {len(by.targets)} outputs from floats, the model {len(own)}")
    sizes = [tuple(graph.tensors[i].size for i in own), tuple(guide.tensors[i].size for i in by.targets)]
    if sizes[0] != sizes[1]:
        raise QuantizeError(f"the teacher's scores have sizes {sizes[1]}, the model's {sizes[0]}")
    return Judge(tuple(own), inputs, by.answers)


def _ranged(search: Search, old: Found, seen: Mapping[int, Histogram], graph: Graph) -> Found:
    """The best ranges, the ones that it has unless others are clearly better."""
    candidates = [old]
    if seen:
        ranges_by = {
            "the extremes to be expected": {g: h.expected() for g, h in seen.items()},
            "minmax ranges": {g: h.minmax() for g, h in seen.items()},
            "mse ranges": {g: h.least_squares(_bits(graph, g)) for g, h in seen.items()},
        }
        candidates += [search.candidate(name, at) for name, at in ranges_by.items()]
    best = _first_near_best(candidates)
    if best.spans:
        return search.with_headroom(best, {g: h.expected() for g, h in seen.items()}, old.error)
    return best


def _settled(found: Found, search: Search, matched: Sequence[Layer], guide: Graph, inputs: Sequence[Inputs]) -> Found:
    """With biases settled on samples that do not judge, if that lowers the error clearly."""
    if not inputs or not matched:
        return found
    graph = settle(found.done.graph, matched, wanted_means(guide, matched, inputs), inputs)
    done = replace(found.done, graph=graph)
    error = search.judge.error(graph, done.tensors)
    kept = error < (1 - LEAST_GAIN) * found.error
    steps = (*found.steps, f"biases settled: {noise(error)}{' (kept)' if kept else ' (not kept)'}")
    return replace(found, done=done, error=error, steps=steps) if kept else replace(found, steps=steps)


def _guarded(found: Found, old: Found, seen: Observation) -> Found:
    """What was found, or the old model where labels speak against the new one."""
    labelled = [(x, y) for x, y in zip(seen.judge.inputs, seen.judge.labels, strict=True) if y >= 0]
    if not labelled or found.done is old.done:
        return found
    before, after = (_right(g, labelled) for g in (old.done.graph, found.done.graph))
    line = f"labels held back: {before} of {len(labelled)} right before, {after} after"
    if after < before:
        return replace(old, steps=(*found.steps, f"{line} (not kept)"))
    return replace(found, steps=(*found.steps, line))


def _right(graph: Graph, labelled: Sequence[tuple[Inputs, int]]) -> int:
    run = tracer(graph)
    out = graph.outputs[0]
    return sum(int(np.argmax(run(encode(graph, x))[out]) == y) for x, y in labelled)


def _seen(free: Scales, histograms: Mapping[int, Histogram]) -> dict[int, Histogram]:
    """What the tensors of each group that may change were seen to hold."""
    out = {}
    for group, members in free.free().items():
        h = Histogram()
        for i in members:
            h = h.merge(histograms[i])
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
    return f"not changed: nothing new comes {LEAST_GAIN:.0%} closer on the samples held back"
