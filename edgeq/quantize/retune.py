"""Tuning on the device: a quantized model learns the ranges that its activations take where it runs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from edgeq.calibrate import Inputs, Progress, evenly, silent, tracer
from edgeq.errors import QuantizeError
from edgeq.feed import Source, encode, quantmod_of
from edgeq.graph import Array, Graph
from edgeq.histogram import Histogram, balanced
from edgeq.lasting import Lasting
from edgeq.pieces import Floats, in_parts
from edgeq.plan.repack import too_large
from edgeq.quantize import guard
from edgeq.quantize.blas import one_thread
from edgeq.quantize.cells import LEAST_MODELS, MODELS, drawn
from edgeq.quantize.compare import compare_with, judged
from edgeq.quantize.guard import Verdict, judge
from edgeq.quantize.guide import SCORED, WITNESSES, Guide, every_tensor, guide_by
from edgeq.quantize.observation import HOLD_BACK, Budget, Observation, Saved, looked_at, observe_within
from edgeq.quantize.parameters import Rewritten
from edgeq.quantize.reconstruct import floats_of
from edgeq.quantize.remainders import left_open, remembered_in
from edgeq.quantize.report import Quantized, integer_layers
from edgeq.quantize.rescale import Counted, Scales, rescale, scales
from edgeq.quantize.search import ENOUGH, FIXED, MOST_SLACK, Found, Search, Spans, chosen, noise, noisiest
from edgeq.quantize.settle import Layer, layers, prepared, settle
from edgeq.quantize.stretch import BY
from edgeq.records import dataclass, field, replace
from edgeq.stepping import Forms, forget
from edgeq.trim import give_back

LEAST_GAIN = 0.1
"""Of the noise: for less than this it is not worth to give up ranges that were made from more samples."""

REFINING = 2e9
"""Values that refining ranges may compute: seconds of one core, and the model is better for it at every inference."""

MOST_RISK = 0.1
"""That a change takes the model further from the one that was trained, by what its codes leave open."""

JUDGES, OTHERS = 64, 24
"""Samples held back, and others, that choosing looks at, evenly spread over however many there are."""

ANSWERS = 2 << 20
"""Bytes of answers to those samples that are kept: where outputs are large, fewer samples are looked at."""

LEAST_JUDGES = 8

COMPARED = 4
"""Of the samples held back, that tell how close each layer is."""

DRAWING = 2e9
"""Values that drawn models may compute, as REFINING counts."""

KEEPING = ("VAR_HANDLE", "READ_VARIABLE", "ASSIGN_VARIABLE")
"""Operations of a state."""

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

    The measure is `teacher`, the float model that this one was made of; without one what the remainders of its weights say of
    that (edgeq.quantize.remainders), where it carries those, or else the float model that the codes stand for
    (edgeq.quantize.reconstruct). Every fourth sample is held back: what is new is kept only if it brings the
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
    for n, op in enumerate(graph.ops):
        if op.code in KEEPING or any(i >= 0 and graph.tensors[i].is_variable for i in op.inputs):
            raise QuantizeError(
                f"operation {n} ({op.code}) keeps something from one sample to the next, and calibration looks at samples one "
                "by one: a model without a state is expected"
            )
    say, start = progress or silent, time.monotonic()
    codes = floats_of(graph)
    nearer = remembered_in(graph, codes)
    real = codes if nearer is None else nearer
    known = in_parts(prepared(graph, teacher)) if teacher is not None else nearer
    matched = layers(graph, (known or real).graph)
    free = _inputs_free(graph, scales(graph, keep_io=False)) if not keep_io else scales(graph)
    total, stream = looked_at(graph, samples, labels, budget)
    watched = [i for i, t in enumerate(real.graph.tensors) if t.dtype == "float32" and t.data is None]
    seen = observe_within(real, watched, stream, total, budget, say, begun, saved)
    if not seen.consumed:
        raise QuantizeError("calibration needs at least one sample, got none")
    if not seen.judge.inputs:
        raise QuantizeError(f"expected at least {HOLD_BACK} samples, of which one judges, got {seen.consumed}")
    # What choosing makes lasts or goes by itself: a collection, one in fifty milliseconds, finds nothing. OpenBLAS's other
    # threads spin for as long as choosing takes, once they were called for a product, and add up in another order.
    with Lasting(), one_thread():
        return _chosen(graph, real, known, matched, free, seen, deployed, settle_biases, say, _late(budget, start))


def _chosen(
    graph: Graph,
    real: Floats,
    known: Floats | None,
    matched: Sequence[Layer],
    free: Scales,
    seen: Observation,
    deployed: Graph | None,
    settle_biases: bool,
    say: Progress,
    late: Callable[[], bool],
) -> Recalibrated:
    """Ranges and biases by what was seen; the arguments are `recalibrate`'s, and what it made of them."""
    groups = _seen(free, seen.histograms)
    place = {i: i for i, t in enumerate(graph.tensors) if t.data is None}
    guide = _guide(graph, real, known, matched, seen, say)
    for large in (g.graph for g in (real, known) if g is not None and too_large(g.graph)):
        forget(large)  # what it says is known; its plan is as large as the float model
    give_back()
    say(0, 2, "choosing ranges")
    search = Search(_maker(graph, free, place), guide.trainer)
    old = search.candidate("the ranges it has", {})
    if deployed is not None:
        error = search.judge.error(deployed, place)
        old = Found("the ranges it has", {}, Rewritten(deployed, dict(place), {}), error)
    found = _ranged(search, old, groups, _balanced(graph, free, seen.histograms))
    if found.spans and found.error >= ENOUGH and not late():
        found = search.climbed(found, noisiest(groups, found.spans), say, budget=REFINING, late=late)
    wider, forms = search, Forms()
    if settle_biases and not late():
        say(1, 2, "settling biases")
        if not real.whole:
            guide.trainer.rest()
            give_back()
        settled = _settled(found, search, matched, guide, forms)
        if settled.done is not found.done:  # wider ranges are to have these biases too
            wider = Search(_maker(settled.done.graph, free, place), guide.trainer)
        found = settled
    if deployed is not None and not found.error * MOST_SLACK < (1 - guard.LEAST_GAIN) * old.error:
        found = replace(found, done=old.done, spans={})  # it may be as good but for the slack that it was given
    if found.spans and not late():
        extremes = {g: h.expected() for g, h in groups.items()}
        scores = frozenset(free.groups[i] for i in guide.judge.targets if i in free.groups)
        found = wider.with_slack(found, extremes, old.error, _lab(graph, groups), scores)
    if not real.whole:
        guide.trainer.rest()
        give_back()
    before, after = (guide.judge.errors(f.done.graph, place) for f in (old, found))
    verdict = judge(before, after)
    if not real.whole:
        guide.judge.rest()
        guide.means.clear()
        forms = Forms()  # planning the outcome anew takes little; while drawn models are asked, its memory counts
    give_back()
    found = _guarded(found, old, seen, guide, verdict, bool(groups))
    changed = found.done is not old.done
    result = found.done.graph if changed else (deployed or graph)
    give_back()
    forms.remember(result)  # whoever looks at the outcome goes operation by operation, too
    some, every = guide.compared, guide.all
    del guide, search, wider, forms  # their plans and samples stretched are as large as what is compared now
    if not every:  # what was heard is a teacher's
        some = evenly(seen.judge.inputs, COMPARED)
        every = every_tensor(real, some)
    comparison = compare_with(real.graph, result, place, some, every)
    say(2, 2, "calibrated")
    return Recalibrated(
        result,
        integer_layers(result, comparison),
        min(comparison.sqnr(i) for i in judged(real.graph)),
        graph,
        seen.consumed,
        found.steps,
        changed,
        verdict.before,
        verdict.after if changed else verdict.before,
        seen,
    )


def _late(budget: Budget, start: float) -> Callable[[], bool]:
    """Whether the budget's time is used up: a quarter as long as looking took is given to choosing."""
    limit = None if budget.seconds is None else 1.25 * budget.seconds
    return lambda: limit is not None and time.monotonic() - start > limit


def _inputs_free(graph: Graph, found: Scales) -> Scales:
    """Scales of which those of the outputs keep theirs: what reads them may know them by heart."""
    pinned = {found.groups[i] for i in graph.outputs if i in found.groups}
    return replace(found, pinned=found.pinned | pinned)


def _maker(graph: Graph, free: Scales, place: Mapping[int, int]) -> Callable[[Spans], Rewritten]:
    counted = Counted()

    def make(at: Spans) -> Rewritten:
        return Rewritten(rescale(graph, free, at, counted) if at else graph, dict(place), {})

    return make


def _guide(
    graph: Graph, real: Floats, teacher: Floats | None, matched: Sequence[Layer], seen: Observation, say: Progress
) -> Guide:
    """What to hold the model against: the teacher; or what the codes stand for, with their remainders if there are any.

    Then there are draws of what these leave open, too, as many as DRAWING allows.
    """
    own, tensors = judged(real.graph), real.graph.tensors
    answer = 4 * sum(min(SCORED, tensors[i].size) for i in own)
    most = min(JUDGES, max(LEAST_JUDGES, ANSWERS // max(answer, 1)))
    judges, others = evenly(_different(seen.judge.inputs), most), evenly(seen.derive.inputs, min(most, OTHERS))
    if teacher is not None and teacher is not real:
        return guide_by(graph, own, teacher, [], matched, judges, others)
    steps = None if teacher is None else left_open(graph)
    cost = sum(t.size for t in tensors if t.data is None) * min(WITNESSES, len(judges) + len(others)) + FIXED
    count = min(MODELS, max(LEAST_MODELS, int(DRAWING / cost)))

    def told() -> Iterator[Floats]:
        for k, model in enumerate(drawn(graph, real, count, steps)):
            say(k, count, "asking what the codes leave open")
            yield model

    return guide_by(graph, own, real, told(), matched, judges, others, COMPARED)


def _different(inputs: Sequence[Inputs]) -> Sequence[Inputs]:
    """Each once, however often it came: what a covered lens or a silent microphone gives again and again is one sample,
    and tells no more than one."""
    found = {tuple(hash(a.tobytes()) for a in x): x for x in reversed(inputs)}
    return tuple(reversed(found.values()))


def _ranged(search: Search, old: Found, seen: Mapping[int, Histogram], even: Spans) -> Found:
    """The best ranges, the ones that it has unless others are clearly better."""
    candidates = [old]
    if seen:
        extremes = {g: h.expected() for g, h in seen.items()}
        ranges_by = {
            "the extremes to be expected": extremes,
            "minmax ranges": {g: h.minmax() for g, h in seen.items()},
            "noise shared evenly": even,
        }
        candidates += [search.candidate(name, at) for name, at in ranges_by.items()]
    best = _first_near_best(candidates)
    if best.spans and best.error < ENOUGH:
        return search.with_headroom(best, extremes, old.error)
    return best


def _settled(found: Found, search: Search, matched: Sequence[Layer], guide: Guide, forms: Forms) -> Found:
    """With biases settled on samples that do not judge, if that lowers the error clearly."""
    if not guide.others or not matched:
        return found
    graph = settle(found.done.graph, matched, guide.means, guide.others, forms)
    done = replace(found.done, graph=graph)
    error = search.judge.error(graph, done.tensors)
    kept = error < (1 - LEAST_GAIN) * found.error
    steps = (*found.steps, f"biases settled: {noise(error)}{' (kept)' if kept else ' (not kept)'}")
    return replace(found, done=done, error=error, steps=steps) if kept else replace(found, steps=steps)


def _guarded(found: Found, old: Found, seen: Observation, guide: Guide, verdict: Verdict, free: bool) -> Found:
    """What was found, or the old model where it is not clearly closer, may be worse, or gets fewer labels right.

    free: whether any range could be chosen.
    """
    if found.done is old.done:
        closer = f"nothing new comes {LEAST_GAIN:.0%} closer on the samples held back"
        return _refused(found, old, closer if free else "every scale is prescribed, or belongs to an input or output")
    if (why := verdict.refusal) is not None:
        return _refused(found, old, why)
    risk = guide.risk(old.done.graph, found.done.graph, MOST_RISK)
    if risk > MOST_RISK:
        why = "by what the codes leave open of the weights, the outcome is worse with a chance of"
        return _refused(found, old, f"{why} {risk:.0%}, and {MOST_RISK:.0%} is the most")
    labelled = [(x, y) for x, y in zip(seen.judge.inputs, seen.judge.labels, strict=True) if y >= 0]
    if not labelled:
        return found
    before, after = (_right(g, labelled) for g in (old.done.graph, found.done.graph))
    line = f"labels held back: {before} of {len(labelled)} right before, {after} after"
    return _refused(found, old, line) if after < before else replace(found, steps=(*found.steps, line))


def _refused(found: Found, old: Found, why: str) -> Found:
    """The old model, and what was tried and why it was not enough."""
    return replace(old, steps=(*found.steps, f"not changed: {why}"))


def _right(graph: Graph, labelled: Sequence[tuple[Inputs, int]]) -> int:
    run = tracer(graph)
    out = graph.outputs[0]
    return sum(int(np.argmax(run(encode(graph, x))[out]) == y) for x, y in labelled)


def _balanced(graph: Graph, free: Scales, histograms: Mapping[int, Histogram]) -> dict[int, tuple[float, float]]:
    """Ranges whose noise each member of a group minds alike; of 16 bits those that reach everything to be expected."""
    found = {}
    for group, members in free.free().items():
        narrow = graph.tensors[group].dtype != "int16"
        found[group] = (
            balanced([histograms[i] for i in members], BY) if narrow else _merged(histograms, members).expected()
        )
    return found


def _lab(graph: Graph, groups: Mapping[int, Histogram]) -> dict[int, tuple[float, float]]:
    """What the ranges hold that groups have in the model as it was made."""
    found = {}
    for g in groups:
        q = quantmod_of(graph.tensors[g])
        assert q is not None
        low, high = q.limits
        found[g] = min(float(low), 0.0), max(float(high), 0.0)
    return found


def _seen(free: Scales, histograms: Mapping[int, Histogram]) -> dict[int, Histogram]:
    """What the tensors of each group that may change were seen to hold."""
    return {group: _merged(histograms, members) for group, members in free.free().items()}


def _merged(histograms: Mapping[int, Histogram], members: Sequence[int]) -> Histogram:
    h = histograms[members[0]]
    for i in members[1:]:
        h = h.merge(histograms[i])
    return h


def _first_near_best(candidates: list[Found]) -> Found:
    """The first candidate, the ranges it has, unless others are clearly better; of those the first near the best.

    They come with the widest ranges first: where the samples do not tell two apart, the wider clips less of what
    they did not show.
    """
    best = min(c.error for c in candidates)
    if best > (1 - LEAST_GAIN) * candidates[0].error:
        return chosen(candidates, candidates[0])
    return chosen(candidates, next(c for c in candidates[1:] if c.error * (1 - LEAST_GAIN) <= best))
