"""Which layers of a dynamic-range model quantize their inputs when they meet them.

TFLite's hybrid kernels take the codes of an image, or of a row, from its own extremes: nothing is clipped, and nothing makes up
for the rounding. Where one outlier stretches the step of many small values, that costs more than all weights' rounding. So each
layer is tried alone in its hybrid form, all others with their weights dequantized (sensitivity as in Dong et al., "HAWQ", ICCV
2019, measured), and hybrid are those that add the least noise to the outputs for the products that they take over, as many as the
recipe's bound allows. The others have their weights dequantized when the model is loaded, a scale per channel: exact, as large
in the file, and as slow as float.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from edgeq.calibrate import Progress
from edgeq.graph import Op, Tensor
from edgeq.quantize.compare import Judge
from edgeq.quantize.gptq import FINE
from edgeq.quantize.job import Job
from edgeq.quantize.rules import hybrid_kernel
from edgeq.quantize.search import Found, Search, noise
from edgeq.records import replace

TRIED = 8
"""Inputs that tell what a layer's hybrid form does to the outputs."""

NAMED = 12
"""Layers that a line names."""


def hybrids(job: Job) -> list[int]:
    """The layers that quantize their inputs at run time, as the layout has it."""
    graph, stored = job.graph, job.layout.stored
    return [n for n, how in stored.items() if how != "weights" and hybrid_kernel(graph.ops[n], graph.tensors)]


def without(job: Job) -> tuple[Job, list[int]]:
    """The job with the weights of hybrid convolutions dequantized, and which those are: what is done to weights is judged better
    without the noise of inputs' steps. FULLY_CONNECTED stays as it is: its one scale for all weights wants the most care.
    """
    found = [n for n in hybrids(job) if job.graph.ops[n].code != "FULLY_CONNECTED"] if job.recipe.hybrid else []
    return (dequantized(job, found) if found else job), found


def dequantized(job: Job, some: Iterable[int]) -> Job:
    """The job with the weights of these layers dequantized. FULLY_CONNECTED gets a scale per channel then, and codes that were
    rounded for it as those for one scale were.
    """
    return _stored(job, some, "weights")


def as_convolutions(job: Job, some: Iterable[int]) -> Job:
    """The job with these FULLY_CONNECTED as 1 × 1 convolutions, whose hybrid kernel has a scale per channel in every runtime."""
    return _stored(job, some, "convolution")


def _stored(job: Job, some: Iterable[int], how: str) -> Job:
    """The job with the weights of these layers stored so, a scale per channel each."""
    taken = set(some)
    stored = {**job.layout.stored, **dict.fromkeys(taken, how)}
    coarse = {n for n in taken if job.graph.ops[n].code == "FULLY_CONNECTED" and job.layout.stored[n] == "dynamic"}
    codes = {n: c for n, c in job.codes.items() if n not in coarse}
    other = replace(job, layout=replace(job.layout, stored=stored), codes=codes)
    if not job.known or len(codes) == len(job.codes):
        return other
    again = other.rounding(FINE)
    return replace(again, codes={**again.codes, **codes})


def settled(job: Job, found: Found, later: Iterable[int], judge: Judge, say: Progress) -> tuple[Job, Found]:
    """The job with as many of its layers hybrid as add no more noise than `recipe.hybrid` allows to that of weights alone, and
    leave the outputs `recipe.sqnr` if that can be had. later: layers that are not hybrid yet, and may be.

    What each adds by itself is told in the job's `alone`, where not all of them may be.
    """
    kinds = {**{n: job.layout.stored[n] for n in hybrids(job)}, **dict.fromkeys(later, "dynamic")}
    some, bound = sorted(kinds), job.recipe.hybrid
    if not some or not bound:
        return job, found
    plainly = dequantized(job, some)

    def made(kept: Iterable[int], by: Judge) -> tuple[Job, Found]:
        stay = set(kept)
        codes = {**plainly.codes, **{n: c for n, c in job.codes.items() if n in stay}}
        stored = {**plainly.layout.stored, **{n: kinds[n] for n in stay}}
        other = replace(job, layout=replace(job.layout, stored=stored), codes=codes)
        return other, Search(other.make, by).candidate(found.name, found.spans)

    none, (whole, full) = made((), judge), made(some, judge)
    most = none[1].error + 10 ** (-bound / 10)
    if job.recipe.sqnr:
        most = min(most, max(none[1].error, 10 ** (-job.recipe.sqnr / 10)))
    if full.error <= most:
        line = (
            f"all {len(some)} layers that may quantize their inputs do: {noise(full.error)}, "
            f"{100 * none[1].error:.3g} % by weights alone"
        )
        return whole, replace(full, steps=(*found.steps, line))
    few = judge.first(TRIED)
    base = made((), few)[1].error
    alone: dict[int, float] = {}
    for k, n in enumerate(some):
        say(k, len(some), "trying layers hybrid")
        alone[n] = max(made((n,), few)[1].error - base, 0.0)
    order = sorted(some, key=lambda n: (alone[n] / products(job.graph.ops[n], job.graph.tensors), n))
    best, low, high = none, 0, len(order)  # of the order's first ones: `low` are few enough, `high` too many
    while high - low > 1:
        middle = (low + high) // 2
        tried = made(order[:middle], judge)
        if tried[1].error <= most:
            best, low = tried, middle
        else:
            high = middle
    other, one = best
    off = sorted(order[low:])
    names = ", ".join(f"{n} {job.graph.ops[n].code}" for n in off[:NAMED])
    more = "" if len(off) <= NAMED else f" and {len(off) - NAMED} more"
    share = _share(job, order[:low], some)
    line = (
        f"{low} of {len(some)} layers quantize their inputs ({share:.0%} of their products), weights of the others dequantized "
        f"({names}{more}): {noise(one.error)}, {100 * none[1].error:.3g} % by weights alone; inputs may add "
        f"{100 * (most - none[1].error):.2g} % ({bound:g} dB)"
    )
    return replace(other, alone=alone), replace(one, steps=(*found.steps, line))


def products(op: Op, tensors: tuple[Tensor, ...]) -> int:
    """Products of weights and values that a layer adds up."""
    w, y = tensors[op.inputs[1]], tensors[op.outputs[0]]
    return max(1, math.prod(y.shape[:-1]) * w.size)


def _share(job: Job, some: Iterable[int], of: Iterable[int]) -> float:
    """Of the products of layers `of`, those of `some`."""
    ops, tensors = job.graph.ops, job.graph.tensors
    return sum(products(ops[n], tensors) for n in some) / sum(products(ops[n], tensors) for n in of)
