"""Float graph → integer graph, the whole way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from edgeq.calibrate import Inputs, Keeper, Progress, observe, silent
from edgeq.errors import QuantizeError
from edgeq.feed import Source, count, feed
from edgeq.graph import Array, Graph
from edgeq.quantize.bias import correct, mean_inputs
from edgeq.quantize.canonical import fold_dequantize, fold_weights, fuse_activations, prune
from edgeq.quantize.compare import Comparison, compare, judge_by
from edgeq.quantize.layout import Layout, arrange
from edgeq.quantize.parameters import histograms, parameters
from edgeq.quantize.report import Quantized, layers
from edgeq.quantize.rewrite import Rewritten, rewrite
from edgeq.quantize.search import ENOUGH, Found, Search, Spans, chosen, noise, noisiest, spans
from edgeq.recipe import RECIPES, Recipe
from edgeq.tflite import write


def quantize(
    graph: Graph, samples: Source, recipe: Recipe = RECIPES["int8"], progress: Progress | None = None
) -> Quantized:
    """A float model's int8 form, calibrated on `samples` (edgeq.feed says what those may be; gone through once).

    Inputs and outputs become int8, weights int8 (symmetric), biases int32; operations without an integer form stay
    float between QUANTIZE and DEQUANTIZE. Only the main subgraph is quantized. Raises QuantizeError for a model
    without float operations to quantize and for samples that give no finite ranges, InputError for samples that do not
    fit the model, UnsupportedError for operations that the engine, which calibrates, does not run.
    """
    say = progress or silent
    before, given = graph, prepare(graph, recipe)
    graph = fold_weights(given)  # the same tensors and operations: `given` is what the result is held against
    layout = arrange(graph)
    if not layout.rules:
        codes = ", ".join(sorted({op.code for op in graph.ops})) or "none"
        raise QuantizeError(f"expected float operations that have an integer form, found {codes}")
    keeper = Keeper()
    ranges = observe(graph, keeper.watch(feed(graph, samples)), progress, count(graph, samples) or 0)
    # Each half is spread over all the samples; a single one has to do for both.
    derive, judge = keeper.kept[::2], keeper.kept[1::2] or keeper.kept
    seen = histograms(graph, layout, ranges)

    def make(at: Spans) -> Rewritten:
        return rewrite(graph, layout, parameters(graph, layout, at), recipe.per_channel)

    say(0, 4, "choosing ranges")
    search = Search(make, judge_by(given, judge))
    methods = ("minmax", "mse") if recipe.ranges == "best" else (recipe.ranges,)
    candidates = [search.candidate(f"{m} ranges", spans(seen, m)) for m in methods]
    if len(candidates) == 2:
        a, b = candidates
        picked = _winners(given, layout, a, b, judge)
        candidates.append(search.candidate("the better of both for each tensor", picked))
    best = chosen(candidates, min(candidates, key=lambda c: c.error))  # of equals the first
    if recipe.bias_correction:
        say(1, 4, "correcting biases")
        means = mean_inputs(graph, derive)
        other = Search(lambda at: _corrected(graph, make(at), means), search.judge)
        corrected = other.candidate(best.name, best.spans)
        kept = corrected.error < best.error
        steps = (*best.steps, f"bias correction: {noise(corrected.error)}{' (kept)' if kept else ' (not kept)'}")
        search, best = (other, replace(corrected, steps=steps)) if kept else (search, replace(best, steps=steps))
    if recipe.ranges == "best" and best.error >= ENOUGH:
        best = search.refined(best, noisiest(seen, best.spans), say)
    if recipe.ranges == "best":
        say(3, 4, "looking for headroom")
        best = search.with_headroom(best, {g: h.expected() for g, h in seen.items()})
    comparison = compare(given, best.done.graph, best.done.tensors, judge)
    say(4, 4, "quantized")
    return Quantized(
        best.done.graph,
        layers(graph, layout, best.done, comparison),
        min(comparison.sqnr(i) for i in search.judge.targets),
        len(write(before)),
        len(write(best.done.graph)),
        ranges.samples,
        best.steps,
    )


def prepare(graph: Graph, recipe: Recipe) -> Graph:
    """The float graph that is quantized: the same values, said in the plainest way."""
    graph = fold_dequantize(graph)
    if recipe.fuse:
        graph = fuse_activations(graph)
    return prune(graph)[0]


def _corrected(graph: Graph, done: Rewritten, means: Mapping[int, Array]) -> Rewritten:
    return replace(done, graph=correct(graph, done.graph, done.ops, means))


def _winners(graph: Graph, layout: Layout, a: Found, b: Found, inputs: list[Inputs]) -> dict[int, tuple[float, float]]:
    """For each group the span under which its tensors came out with less noise."""
    at: list[Comparison] = [compare(graph, c.done.graph, c.done.tensors, inputs) for c in (a, b)]
    members = layout.members()
    out = {}
    for group in a.spans:
        one, other = (sum(c.noise.get(i, 0.0) for i in members[group]) for c in at)
        out[group] = (a if one <= other else b).spans[group]
    return out
