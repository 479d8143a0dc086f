"""Float graph → integer graph, the whole way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from edgeq.calibrate import Inputs, Keeper, Progress, observe, silent
from edgeq.errors import QuantizeError
from edgeq.feed import Source, count, feed, quantmod_of
from edgeq.graph import Array, Graph
from edgeq.histogram import Histogram
from edgeq.quantize.bias import correct, mean_inputs
from edgeq.quantize.canonical import fold_dequantize, fold_weights, fuse_activations, prune
from edgeq.quantize.compare import compare, judge_by, judged
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
        if any(t.data is None and quantmod_of(t) is not None for t in graph.tensors):
            raise QuantizeError("expected a float model, found one that is quantized already: calibrate tunes it")
        codes = ", ".join(sorted({op.code for op in graph.ops})) or "none"
        raise QuantizeError(f"expected float operations that have an integer form, found {codes}")
    keeper = Keeper()
    ranges = observe(graph, keeper.watch(feed(graph, samples)), progress, count(graph, samples) or 0)
    # Each half is spread over all the samples; a single one has to do for both.
    derive, judge = keeper.kept[::2], keeper.kept[1::2] or keeper.kept
    seen = histograms(graph, layout, ranges)

    say(0, 3, "choosing ranges")
    found = _search(_Job(given, graph, layout, seen, recipe, derive, judge), say)
    comparison = compare(given, found.done.graph, found.done.tensors, judge)
    say(3, 3, "quantized")
    return Quantized(
        found.done.graph,
        layers(graph, layout, found.done, comparison),
        min(comparison.sqnr(i) for i in judged(given)),
        len(write(before)),
        len(write(found.done.graph)),
        ranges.samples,
        found.steps,
    )


@dataclass(frozen=True, eq=False)
class _Job:
    """What there is to search with. given: what the result is held against; graph: what is quantized."""

    given: Graph
    graph: Graph
    layout: Layout
    seen: Mapping[int, Histogram]
    recipe: Recipe
    derive: list[Inputs]
    judge: list[Inputs]

    def make(self, at: Spans) -> Rewritten:
        """The integer graph for these spans."""
        return rewrite(self.graph, self.layout, parameters(self.graph, self.layout, at), self.recipe.per_channel)


def _search(job: _Job, say: Progress) -> Found:
    """The best ranges and biases, as far as the recipe says to look for them."""
    search = Search(job.make, judge_by(job.given, job.judge))
    look = job.recipe.ranges == "best"
    methods = ("minmax", "mse") if look else (job.recipe.ranges,)
    candidates = [search.candidate(f"{m} ranges", spans(job.seen, m)) for m in methods]
    if look:
        picked = _winners(job, *candidates)
        candidates.append(search.candidate("the better of both for each tensor", picked))
    best = chosen(candidates, min(candidates, key=lambda c: c.error))  # of equals the first
    if job.recipe.bias_correction:
        say(1, 3, "correcting biases")
        means = mean_inputs(job.graph, job.derive)
        other = Search(lambda at: _corrected(job.graph, job.make(at), means), search.judge)
        corrected = other.candidate(best.name, best.spans)
        kept = corrected.error < best.error
        steps = (*best.steps, f"bias correction: {noise(corrected.error)}{' (kept)' if kept else ' (not kept)'}")
        search, best = (other, replace(corrected, steps=steps)) if kept else (search, replace(best, steps=steps))
    if look and best.error >= ENOUGH:
        best = search.refined(best, noisiest(job.seen, best.spans), say)
    if look:
        say(2, 3, "looking for headroom")
        best = search.with_headroom(best, {g: h.expected() for g, h in job.seen.items()})
    return best


def prepare(graph: Graph, recipe: Recipe) -> Graph:
    """The float graph that is quantized: the same values, said in the plainest way."""
    graph = fold_dequantize(graph)
    if recipe.fuse:
        graph = fuse_activations(graph)
    return prune(graph)[0]


def _corrected(graph: Graph, done: Rewritten, means: Mapping[int, Array]) -> Rewritten:
    return replace(done, graph=correct(graph, done.graph, done.ops, means))


def _winners(job: _Job, a: Found, b: Found) -> dict[int, tuple[float, float]]:
    """For each group the span under which its tensors came out with less noise."""
    at = [compare(job.given, c.done.graph, c.done.tensors, job.judge) for c in (a, b)]
    out = {}
    for group, members in job.layout.members().items():
        if group in a.spans:
            one, other = (sum(c.noise.get(i, 0.0) for i in members) for c in at)
            out[group] = (a if one <= other else b).spans[group]
    return out
