"""The search for activation ranges: candidates, each kept only if it lowers the error at the outputs.

A candidate is a span (a, b) for each group of tensors that share a scale. Judging one means building the integer graph
and running it on the samples kept for that, so a search has a budget; it is counted in values computed and not in
seconds, so that the same samples give the same model on every machine.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from edgeq.calibrate import Progress, silent
from edgeq.histogram import Histogram
from edgeq.quantize.compare import Judge, decibels
from edgeq.quantize.parameters import Rewritten
from edgeq.quantmod import QuantMod
from edgeq.records import dataclass, replace

if TYPE_CHECKING:
    from edgeq.quantize.layout import Layout

Spans = Mapping[int, tuple[float, float]]
"""By group, the range that its codes are to cover."""

STRIDE = 0.85
"""What refining narrows a span by."""

HALVES = (slice(0, None, 2), slice(1, None, 2))
"""Of the inputs: what is clearly worse on the first is not looked at on the second."""

CLEAR = 0.03
"""Of the error on a half."""

CLIPS = 0.2
"""Of the error, that a narrower span adds: only then is a wider one tried, which mends nothing but clipping."""

PATIENCE = 3
"""Groups in a row whose spans stay, behind which none is looked at: those before them had more noise of their own."""

LEAST_STEP = 0.005
"""Of the error: for less a span stays."""

HEADROOM = (2.0, 1.5, 1.25, 1.0)
"""What spare precision is spent on: this many times the extremes to be expected, the most first."""

REACHES = ((1.5, 1.0), (1.25, 1.0), (1.0, 1.0), (1.0, 0.75), (1.0, 0.5), (1.0, 0.25))
"""How far slack may go, the furthest first: times the extremes to be expected, and the share of the way there."""

SLACK = 0.15
"""Of what new ranges gain, spent on wider ones."""

MOST_SLACK = 1.5
"""Times the noise of the best ranges."""

ENOUGH = 1.5e-4
"""Noise per signal at the outputs (38 dB, 1.2 % of the amplitude) below which precision is to spare."""

SPENT = 0.1
"""Of a larger error that may be added for headroom."""

FIXED = 2e6
"""What building an integer graph costs beside, in such values."""


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
        self.make = make

    def candidate(self, name: str, spans: Spans) -> Found:
        """The candidate with these spans."""
        done = self.make(spans)
        return Found(name, spans, done, self.judge.error(done.graph, done.tensors))

    def climbed(
        self,
        found: Found,
        order: list[int],
        progress: Progress = silent,
        *,
        budget: float,
        late: Callable[[], bool] = lambda: False,
    ) -> Found:
        """Each group's span, in `order`, narrowed by STRIDE for as long as that helps, or widened where it clips, until
        PATIENCE of them have stayed as they were.

        budget: values that may be computed; late: whether to stop.
        """
        cost = sum(t.size for t in found.done.graph.tensors if t.data is None) * len(self.judge.inputs) + FIXED
        tries, most = 0, int(budget / cost)
        best, halves = found, [float(self.judge.errors(found.done.graph, found.done.tensors, h).sum()) for h in HALVES]
        stayed = 0
        for group in order:
            before = best
            for factor in (STRIDE, 1 / STRIDE):
                start, clips = best, False
                while tries < most and not late():
                    progress(tries, 2 * len(order), "refining ranges")
                    tries += 1
                    a, b = best.spans[group]
                    spans = {**best.spans, group: (a * factor, b * factor)}
                    done, parts = self.make(spans), []
                    for half, least in zip(HALVES, halves, strict=True):
                        parts.append(float(self.judge.errors(done.graph, done.tensors, half).sum()))
                        if parts[-1] > (1 + CLEAR) * least:
                            break
                    error, was = sum(parts), sum(halves[: len(parts)])
                    if len(parts) < len(halves) or error > (1 - LEAST_STEP) * was:
                        clips = error > (1 + CLIPS) * was
                        break
                    best, halves = Found(found.name, spans, done, error), parts
                if best is not start or not clips:
                    break
            stayed = stayed + 1 if best is before else 0
            if stayed == PATIENCE:
                break
        return replace(best, steps=(*found.steps, f"refined ranges, {tries} tries: {noise(best.error)}"))

    def with_headroom(self, found: Found, extremes: Spans, most: float = 1.0) -> Found:
        """Spans beyond the extremes to be expected, as far as leaves the error below ENOUGH, or within SPENT of what it was,
        and below `most`.

        What calibration saw is less than what will come, and a clipped value errs by far more than a coarser step:
        where a model is more precise than it needs to be, or other noise drowns that of the steps, the surplus is better
        spent on that.
        """
        enough = max(ENOUGH, (1 + SPENT) * found.error)
        most = min(most, enough)
        best, low, high = found, 0, len(HEADROOM) if found.error < most else 0
        while low < high:  # the widest that is precise enough: the narrower, the less noise
            k = (low + high) // 2
            spans = {g: (a * HEADROOM[k], b * HEADROOM[k]) for g, (a, b) in extremes.items()}
            wide = found if spans == found.spans else self.candidate(found.name, spans)  # it has this much already
            if wide.error < most:
                line = f"headroom, {HEADROOM[k]:g} times the extremes to be expected: {noise(wide.error)}"
                best = replace(wide, steps=(*found.steps, f"{line} ({100 * enough:.2g} % is enough)"))
                high = k
            else:
                low = k + 1
        return found if best.spans == found.spans else best

    def with_room(self, found: Found, extremes: Spans) -> Found:
        """Spans of outputs' groups beyond the extremes to be expected there, as far as leaves the error within SPENT of what it
        was.

        Widened alone they cost little, and what they clip is an answer: no later layer makes up for it.
        """
        for factor in HEADROOM if extremes else ():
            wide = {g: _both(found.spans[g], (a * factor, b * factor)) for g, (a, b) in extremes.items()}
            tried = self.candidate(found.name, {**found.spans, **wide})
            if tried.error <= (1 + SPENT) * found.error:
                line = f"outputs alone, {factor:g} times the extremes to be expected: {noise(tried.error)}"
                return replace(tried, steps=(*found.steps, line))
        return found

    def with_slack(
        self, found: Found, extremes: Spans, old: float, lab: Spans | None = None, scores: frozenset[int] = frozenset()
    ) -> Found:
        """Spans that reach towards the extremes to be expected, or beyond, for SLACK of what was gained on `old`.

        What was seen is a small part of what will come, and ranges that fit it best fit the rest worse: a clipped value
        errs by far more than a coarser step. For the same reason ranges hold what those of the `lab` held, all of them or those
        of the groups of `scores`, where that costs no more: of some classes no sample may have come yet.
        """
        most = min(found.error + SLACK * max(old - found.error, 0.0), MOST_SLACK * found.error)
        best = found
        for kept in (frozenset(lab or ()), scores & frozenset(lab or ())):
            spans = {**found.spans, **{g: _both(found.spans[g], lab[g]) for g in kept if lab and g in found.spans}}
            if spans == found.spans:
                continue
            wide = self.candidate(found.name, spans)
            if wide.error <= most:
                which = "" if len(kept) > len(scores) else " of the scores"
                line = f"with what the ranges{which} held that it has: {noise(wide.error)}"
                best = replace(wide, steps=(*found.steps, line))
                break
        near, low, high = best, 0, len(REACHES)
        while low < high:  # the furthest that is near enough: the nearer, the less noise
            k = (low + high) // 2
            factor, share = REACHES[k]
            spans = {g: _towards(near.spans[g], extremes[g], factor, share) for g in near.spans}
            wide = near if spans == near.spans else self.candidate(near.name, spans)
            if wide.error <= most:
                line = f"{share:.0%} of the way to {factor:g} times the extremes to be expected: {noise(wide.error)}"
                best = near if wide is near else replace(wide, steps=(*near.steps, line))
                high = k
            else:
                low = k + 1
        return best


def _both(a: tuple[float, float], b: tuple[float, float]) -> tuple[float, float]:
    """The span that holds both."""
    return min(a[0], b[0]), max(a[1], b[1])


def _towards(
    span: tuple[float, float], extremes: tuple[float, float], factor: float, share: float
) -> tuple[float, float]:
    """The span, moved by a share of the way to where it holds `factor` times the extremes too."""
    a, b = min(span[0], factor * extremes[0]), max(span[1], factor * extremes[1])
    return span[0] + share * (a - span[0]), span[1] + share * (b - span[1])


def chosen(candidates: list[Found], one: Found) -> Found:
    """One of the candidates, with a line on each of them."""
    lines = (f"{c.name}: {noise(c.error)}{' (chosen)' if c is one else ''}" for c in candidates)
    return replace(one, steps=tuple(lines))


def noisiest(seen: Mapping[int, Histogram], found: Spans, layout: Layout | None = None) -> list[int]:
    """The groups of 8 bits, those first that their own rounding and clipping hurts most."""

    def own(group: int) -> float:
        values, weights = seen[group].points()
        q = QuantMod.from_range(*found[group])
        signal = float(np.sum(weights * values**2))
        return decibels(signal, float(np.sum(weights * (q.dequantize(q.quantize(values)) - values) ** 2)))

    narrow = [g for g in found if layout is None or layout.homes[g] == "int8"]
    return sorted(narrow, key=lambda g: (own(g), g))


def noise(error: float) -> str:
    """An error, for people."""
    return f"noise {100 * error:.3g} % of the signal"
