"""How ranges are refined where models are made: spans widened and narrowed one by one, and the better of two candidates."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from weakref import WeakKeyDictionary

from edgeq.calibrate import Inputs, Progress, silent
from edgeq.graph import Graph
from edgeq.histogram import Histogram
from edgeq.quantize.compare import compare
from edgeq.quantize.layout import Layout
from edgeq.quantize.search import FIXED, Found, Search, noise
from edgeq.records import replace

FACTORS = ((0.9, 1.1, 0.8, 1.25, 0.7, 1.4), (0.95, 1.05), (0.97, 1.03))
"""What refinement tries on a span, round after round, from coarse to fine."""

BUDGET = 1.5e8
"""Values (tensor elements over all samples) that refinement may compute: a fraction of a second of one core."""

LEAST_TRIES = 8
"""Fewer are not worth beginning."""

REFINED = 16
"""Inputs that refinement looks at."""


def refined(
    search: Search,
    found: Found,
    order: list[int],
    progress: Progress = silent,
) -> Found:
    """Spans widened or narrowed one group at a time, in `order`, as far as BUDGET goes.

    The tries look at REFINED of the inputs; all of them decide whether the outcome is kept.
    """
    judge = search.judge.first(REFINED)
    few = Search(search.make, judge)
    cost = sum(t.size for t in found.done.graph.tensors if t.data is None) * len(judge.inputs) + FIXED
    most = min(int(BUDGET / cost), len(order) * sum(map(len, FACTORS)))
    if most < LEAST_TRIES:
        return found
    best, tries = few.candidate(found.name, found.spans), 0
    for factors in FACTORS:
        start = best.spans
        for group, factor in ((g, f) for g in order for f in factors):
            if tries == most:
                break
            progress(tries, most, "refining ranges")
            tries += 1
            a, b = start[group]
            moved = few.candidate(found.name, {**best.spans, group: (a * factor, b * factor)})
            if moved.error < best.error:
                best = moved
    after = search.candidate(found.name, best.spans)
    kept = after.error < found.error
    line = f"refined ranges, {tries} tries: {noise(after.error)}{'' if kept else ' (not kept)'}"
    return replace(after if kept else found, steps=(*found.steps, line))


def spans(seen: Mapping[int, Histogram], method: str) -> dict[int, tuple[float, float]]:
    """The span of each group by one method of edgeq.recipe.RANGE_METHODS; "best" alone stands for "mse"."""
    ways = {
        "minmax": Histogram.minmax,
        "average": Histogram.averaged,
        "percentile": Histogram.percentile,
        "entropy": Histogram.entropy,
    }
    way = ways.get(method, Histogram.least_squares)
    out = {}
    for g, h in seen.items():
        known = _SPANS.setdefault(h, {})
        if way not in known:
            known[way] = way(h)
        out[g] = known[way]
    return out


_SPANS: WeakKeyDictionary[Histogram, dict[Callable[[Histogram], tuple[float, float]], tuple[float, float]]] = (
    WeakKeyDictionary()
)
"""Of histograms, by method, for as long as they are there: other forms of a graph have most of them in common."""


def winners(
    real: Graph, layout: Layout, candidates: Sequence[Found], inputs: Sequence[Inputs]
) -> dict[int, tuple[float, float]]:
    """For each group the span, of those that the candidates have, under which its tensors came out with the least noise."""
    at = [compare(real, c.done.graph, c.done.tensors, inputs) for c in candidates]
    out = {}
    for group, members in layout.members().items():
        if group in candidates[0].spans:
            noises = [sum(c.noise.get(i, 0.0) for i in members) for c in at]
            out[group] = candidates[noises.index(min(noises))].spans[group]
    return out
