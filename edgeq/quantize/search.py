"""The search for activation ranges: candidates, each kept only if it lowers the error at the outputs.

A candidate is a span (a, b) for each group of tensors that share a scale. Judging one means building the integer graph
and running it on the samples kept for that, so a search has a budget; it is counted in values computed and not in
seconds, so that the same samples give the same model on every machine.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from edgeq.calibrate import Progress, silent
from edgeq.histogram import Histogram
from edgeq.quantize.compare import Judge, decibels
from edgeq.quantize.rewrite import Rewritten
from edgeq.quantmod import QuantMod

Spans = Mapping[int, tuple[float, float]]
"""By group, the range that its codes are to cover."""

FACTORS = ((0.9, 1.1, 0.8, 1.25, 0.7, 1.4), (0.95, 1.05), (0.97, 1.03))
"""What refinement tries on a span, round after round, from coarse to fine."""

HEADROOM = (2.0, 1.5, 1.25, 1.0)
"""What spare precision is spent on: this many times the extremes to be expected, the most first."""

ENOUGH = 1e-4
"""Noise per signal at the outputs (40 dB, 1 % of the amplitude) below which precision is to spare."""

BUDGET = 6e9
"""Values (tensor elements over all samples) that refinement may compute: from a second to a minute of one core."""


@dataclass(frozen=True)
class Found:
    """A candidate: its spans, the graph they give and the error of that; steps: what was tried, a line each."""

    name: str
    spans: Spans
    done: Rewritten
    error: float
    steps: tuple[str, ...] = ()


class Search:
    """Candidates of one model: `make` builds the graph for given spans, `judge` tells its error."""

    def __init__(self, make: Callable[[Spans], Rewritten], judge: Judge) -> None:
        self.judge = judge
        self._make = make

    def candidate(self, name: str, spans: Spans) -> Found:
        """The candidate with these spans."""
        done = self._make(spans)
        return Found(name, spans, done, self.judge.error(done.graph, done.tensors))

    def refined(self, found: Found, order: list[int], progress: Progress = silent) -> Found:
        """Spans widened or narrowed one group at a time, in `order`, as far as the budget goes."""
        cost = sum(t.size for t in found.done.graph.tensors if t.data is None) * len(self.judge.inputs)
        most = min(int(BUDGET / max(cost, 1)), len(order) * sum(map(len, FACTORS)))
        best, tries = found, 0
        for factors in FACTORS:
            start = best.spans
            for group, factor in ((g, f) for g in order for f in factors):
                if tries == most:
                    break
                progress(tries, most, "refining ranges")
                tries += 1
                a, b = start[group]
                moved = self.candidate(found.name, {**best.spans, group: (a * factor, b * factor)})
                if moved.error < best.error:
                    best = moved
        return replace(best, steps=(*found.steps, f"refined ranges, {tries} tries: {noise(best.error)}"))

    def with_headroom(self, found: Found, extremes: Spans, most: float = 1.0) -> Found:
        """Spans beyond the extremes to be expected, as far as leaves the error below ENOUGH, and below `most`.

        What calibration saw is less than what will come, and a clipped value errs by far more than a coarser step:
        where a model is more precise than it needs to be, the surplus is better spent on that.
        """
        most = min(most, ENOUGH)
        for factor in HEADROOM if found.error < most else ():
            wide = self.candidate(found.name, {g: (a * factor, b * factor) for g, (a, b) in extremes.items()})
            if wide.error < most:
                line = f"headroom, {factor:g} times the extremes to be expected: {noise(wide.error)}"
                return replace(wide, steps=(*found.steps, f"{line} ({100 * most:.2g} % is enough)"))
        return found


def chosen(candidates: list[Found], one: Found) -> Found:
    """One of the candidates, with a line on each of them."""
    lines = (f"{c.name}: {noise(c.error)}{' (chosen)' if c is one else ''}" for c in candidates)
    return replace(one, steps=tuple(lines))


def spans(seen: Mapping[int, Histogram], method: str) -> dict[int, tuple[float, float]]:
    """The span of each group by one method, "minmax" or "mse"."""
    return {g: h.least_squares() if method == "mse" else h.minmax() for g, h in seen.items()}


def noisiest(seen: Mapping[int, Histogram], found: Spans) -> list[int]:
    """The groups, those first that their own rounding and clipping hurts most."""

    def own(group: int) -> float:
        values, weights = seen[group].points()
        q = QuantMod.from_range(*found[group])
        signal = float(np.sum(weights * values**2))
        return decibels(signal, float(np.sum(weights * (q.dequantize(q.quantize(values)) - values) ** 2)))

    return sorted(found, key=lambda g: (own(g), g))


def noise(error: float) -> str:
    """An error, for people."""
    return f"noise {100 * error:.3g} % of the signal"
