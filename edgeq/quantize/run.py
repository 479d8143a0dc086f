"""Float graph → integer graph, the whole way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext

import numpy as np

from edgeq.bytecode import until_done
from edgeq.calibrate import Inputs, Keeper, Progress, Ranges, copied, evenly, observe, silent
from edgeq.errors import QuantizeError
from edgeq.feed import Source, count, feed, quantmod_of
from edgeq.graph import Activation, Graph
from edgeq.lasting import Lasting
from edgeq.quantize.blas import one_thread
from edgeq.quantize.canonical import fold_weights
from edgeq.quantize.compare import Judge, compare, decibels, judge_by, judged
from edgeq.quantize.job import Job
from edgeq.quantize.layout import LEAST_STORED, Layout, arrange
from edgeq.quantize.observation import Budget, looked_at
from edgeq.quantize.parameters import histograms
from edgeq.quantize.pooling import means
from edgeq.quantize.prepare import prepare, stored_already
from edgeq.quantize.probe import runs
from edgeq.quantize.reconstruct import reconstruct
from edgeq.quantize.remainders import reals, remembered, with_remainders
from edgeq.quantize.report import Quantized, layers
from edgeq.quantize.search import ENOUGH, Found
from edgeq.quantize.steps import COMPARED, FEW, STEPS, improved
from edgeq.recipe import RECIPES, Recipe
from edgeq.records import replace
from edgeq.tflite import write

LOOKED = 64
"""Inferences that ranges come from where it has to be fast, evenly spread over the samples."""

FAST = 128, 8 << 20
"""Inputs that are kept where it has to be fast, and their bytes."""

FEWEST = 2
"""Inputs on which all tensors are then compared."""

JUDGED = 2e8
"""Values (tensor elements over all inputs) that one candidate for ranges may compute."""


@until_done
@one_thread()
def quantize(
    graph: Graph, samples: Source, recipe: Recipe = RECIPES["int8"], progress: Progress | None = None
) -> Quantized:
    """A float model in the form that a recipe describes, calibrated on `samples` (edgeq.feed says what those may be; gone
    through once).

    Operations without an integer form stay float between QUANTIZE and DEQUANTIZE. Only the main subgraph is quantized.
    Raises QuantizeError for a model without float operations to quantize and for samples that give no finite ranges,
    InputError for samples that do not fit the model, UnsupportedError for operations that the engine, which calibrates,
    does not run.
    """
    with Lasting() if recipe.effort == "fast" else nullcontext():  # it is over before there is much to collect
        return _quantized(graph, samples, recipe, progress or silent, progress)


def _quantized(graph: Graph, samples: Source, recipe: Recipe, say: Progress, progress: Progress | None) -> Quantized:
    before, given = graph, prepare(graph, recipe)
    # The same tensors and operations: `given` is what the result is held against.
    graph = fold_weights(given, stored_already(given, recipe))
    layout = arrange(graph, recipe, runs)
    if not layout.rules and not layout.stored:  # there is nothing else in it
        graph = fold_weights(given)
        layout = arrange(graph, recipe, runs)
    if not layout.rules and not layout.stored:
        if any(t.data is None and quantmod_of(t) is not None for t in graph.tensors):
            raise QuantizeError("expected a float model, found one that is quantized already: calibrate tunes it")
        codes = ", ".join(sorted({op.code for op in graph.ops})) or "none"
        raise QuantizeError(f"expected float operations that have {_wanted(recipe)}, found {codes}")
    fast = recipe.effort == "fast"
    # Samples that come one by one are copied; of arrays these are parts, as often as not of a file that is mapped.
    passing = not isinstance(samples, (np.ndarray, Mapping))
    keeper = Keeper(*FAST, own=passing) if fast else Keeper(own=passing)
    total = count(graph, samples) or 0
    inputs = feed(graph, samples)
    if fast and total > LOOKED:
        total, some = looked_at(graph, samples, None, Budget(LOOKED))
        inputs = (x for x, _ in some)
    ranges = observe(graph, keeper.watch(inputs), progress, total)
    # Each part is spread over all the samples; a single one has to do for both.
    judge: Sequence[Inputs] = keeper.kept[1::4] or keeper.kept
    if fast:
        judge = evenly(judge, FEW)
    if not passing:  # these are read again and again
        judge = [copied(x) for x in judge]
    derive = [x for k, x in enumerate(keeper.kept) if k % 4 != 1] or keeper.kept
    if fast and _means_alone(recipe, layout):
        derive = [*evenly(derive, FEW)]
    kept = judge if fast else keeper.kept
    del keeper, inputs  # what none of them has need not be there
    if any(not t.per_channel for t in layout.treatments.values()):
        from edgeq.quantize.idle import without_idle

        graph = without_idle(graph, ranges)
    own, line = means(graph, layout, ranges)
    if line:
        graph, layout = own, arrange(own, recipe, runs)
    seen = histograms(graph, layout, ranges)

    say(0, STEPS, "choosing ranges")
    judging = judge_by(given, judge)
    whole = judging if fast else _whole(given, kept, judging)
    job, found = improved(Job(graph, layout, seen, recipe, derive), given, judging, whole, say)
    if recipe.sqnr or recipe.size:
        from edgeq.quantize import mixed

        job, found = mixed.raised(job, found, judging, say, lambda j: _rearranged(j, ranges))
    comparison = compare(given, found.done.graph, found.done.tensors, judge[: FEWEST if fast else COMPARED])
    say(STEPS, STEPS, "quantized")
    return Quantized(
        _remembering(job, given, found, judging),
        layers(
            job.graph, job.layout, found.done, comparison, {n: decibels(1.0, cost) for n, cost in job.alone.items()}
        ),
        min(comparison.sqnr(i) for i in judged(given)),
        before,
        ranges.samples,
        (*line, *found.steps),
    )


def _means_alone(recipe: Recipe, layout: Layout) -> bool:
    """Whether samples that parameters come from tell means and nothing else, where it has to be fast: weights are fine."""
    fine = all(t.per_channel and not t.levels for t in layout.treatments.values())
    return fine and recipe.rounding != "gptq" and not (layout.stored or recipe.sqnr or recipe.size)


def _remembering(job: Job, given: Graph, found: Found, judging: Judge) -> Graph:
    """The integer graph with the remainders of its weights, where its recipe asks for them and its size leaves room.

    Few levels are few so as to be small. Where a RELU6 became a RELU, the weights are those of another function. Else they are
    those given by construction; where there is time, what they say is compared with that.
    """
    done, recipe = found.done, job.recipe
    if not recipe.remainders or job.grades or not job.layout.rules or _caps(job.graph) < _caps(given):
        return done.graph
    graph = with_remainders(done.graph, reals(job.graph, done), recipe.remainders)
    if recipe.effort != "fast":
        near = remembered(graph, reconstruct(graph))
        if near is None or judging.error(near, done.tensors) > max(found.error, ENOUGH):
            return done.graph
    return done.graph if recipe.size and len(write(graph)) > recipe.size else graph


def _whole(given: Graph, kept: Sequence[Inputs], judging: Judge) -> Judge:
    """A judge by all inputs that are kept, or as many as the budget leaves; where that is no more than a few, by those held back.

    Ranges are few numbers, and lean on samples little; what a few large samples lose by clipping is seldom among those held back.
    """
    each = sum(t.size for t in given.tensors if t.data is None)
    some = evenly(kept, max(1, int(JUDGED / max(each, 1))))
    return judge_by(given, some) if len(some) >= 2 * len(judging.inputs) else judging


def _caps(graph: Graph) -> int:
    """Operations that end at 6."""
    fused = [op.options.values.get("fused_activation_function") for op in graph.ops if op.options is not None]
    return sum(op.code == "RELU6" for op in graph.ops) + fused.count(Activation.RELU6)


def _wanted(recipe: Recipe) -> str:
    stored = recipe.precision in ("dynamic", "weights")
    return f"weights to store, {LEAST_STORED} of them or more," if stored else "an integer form"


def _rearranged(job: Job, ranges: Ranges) -> Job:
    """The job under another recipe than it was laid out for; what is stored still stays as it was chosen to be."""
    layout = arrange(job.graph, job.recipe, runs)
    chosen = {n: job.layout.stored.get(n, how) for n, how in layout.stored.items()}
    layout = replace(layout, stored=chosen)
    return replace(job, layout=layout, seen=histograms(job.graph, layout, ranges))


__all__ = ["quantize"]
