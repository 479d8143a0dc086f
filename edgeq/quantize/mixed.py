"""Mixed precision: the layers that gain most from it become finer, until the outputs are near enough.

Each operation is tried alone in the finer form, which tells what it takes off the noise at the outputs (sensitivity as in
Dong et al., "HAWQ", ICCV 2019, measured instead of estimated); what only moves values follows. The operations then change
in the order of that, and as many of them as are needed: how many is found by halving, since noise falls as they become
more.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from edgeq.calibrate import Progress
from edgeq.quantize.compare import Judge, decibels
from edgeq.quantize.job import Job
from edgeq.quantize.refine import spans
from edgeq.quantize.rules import Rule
from edgeq.quantize.search import Found, Search, noise
from edgeq.recipe import Scope
from edgeq.records import replace
from edgeq.tflite import write

TRIED = 8
"""Inputs that tell a layer's sensitivity."""


def raised(job: Job, found: Found, judge: Judge, say: Progress, arranged: Callable[[Job], Job]) -> tuple[Job, Found]:
    """The job with layers in `recipe.raise_to`, as few as reach `recipe.sqnr` within `recipe.size`.

    arranged: lays a job out by its recipe.
    """
    recipe = job.recipe
    if recipe.sqnr and decibels(1.0, found.error) >= recipe.sqnr:
        return job, replace(found, steps=(*found.steps, f"mixed precision: {recipe.sqnr:g} dB without it"))
    layers = [n for n, rule in job.layout.rules.items() if not rule.same_scale and _finer(rule, recipe.raise_to)]
    few = judge.first(TRIED)
    base = Search(job.make, few).candidate("all", found.spans).error

    def with_raised(some: Sequence[int]) -> Job:
        scopes = tuple(_scope(job, n) for n in some)
        other = arranged(replace(job, recipe=replace(recipe, scopes=(*recipe.scopes, *scopes))))
        return replace(other, recipe=recipe)

    def made(some: Sequence[int], by: Judge) -> tuple[Job, Found]:
        other = with_raised(some)
        at = {**spans(other.seen, "minmax"), **{g: s for g, s in found.spans.items() if g in other.seen}}
        # What is int16 has precision to spare: its range is what may come.
        wide = {g: h.expected() for g, h in other.seen.items() if other.layout.homes[g] == "int16"}
        return other, Search(other.make, by).candidate(found.name, {**at, **wide})

    gains = {}
    for k, n in enumerate(layers):
        say(k, len(layers), "trying layers finer")
        gains[n] = base - made([n], few)[1].error
    order = sorted(layers, key=lambda n: (-gains[n], n))

    def fits(one: Found) -> bool:
        return not recipe.size or len(write(one.done.graph)) <= recipe.size

    # Of the order's first ones: `low` are too few, `high` are enough, too large, or more than all.
    low, high = 0, len(order) + 1
    best: tuple[int, Job, Found] | None = None
    while high - low > 1:
        middle = (low + high) // 2
        other, one = made(order[:middle], judge)
        reached = not fits(one) or (bool(recipe.sqnr) and decibels(1.0, one.error) >= recipe.sqnr)
        if fits(one) and (best is None or one.error < best[2].error or reached):
            best = middle, other, one
        if reached:
            high = middle
        else:
            low = middle
    if best is None and recipe.size:
        least = len(write(found.done.graph))
        line = f"mixed precision: no layer finer, {recipe.size} bytes are the limit and there are {least} without any"
        return job, replace(found, steps=(*found.steps, line))
    if best is None or best[2].error >= found.error:
        return job, replace(found, steps=(*found.steps, "mixed precision: no layer gains from it (not kept)"))
    count, other, one = best
    names = ", ".join(f"{n} {job.graph.ops[n].code}" for n in sorted(order[:count])[:12])
    more = "" if count <= 12 else f" and {count - 12} more"
    short = f", {recipe.sqnr:g} dB not reached" if recipe.sqnr and decibels(1.0, one.error) < recipe.sqnr else ""
    which = f"{recipe.raise_to} for {count} of {len(order)} layers ({names}{more})"
    line = f"mixed precision, {which}: {noise(one.error)}{short}"
    return other, replace(one, steps=(*found.steps, line))


def _finer(rule: Rule, precision: str) -> bool:
    """Whether an operation has the finer form."""
    return precision == "float" or rule.wide


def _scope(job: Job, n: int) -> Scope:
    """A scope that fits one operation."""
    op = job.graph.ops[n]
    name = job.graph.tensors[op.outputs[0]].name
    return Scope(op=re.escape(op.code), tensor=f"^{re.escape(name)}$", precision=job.recipe.raise_to)
