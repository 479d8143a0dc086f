"""What the bytes of a sealed bundle are spent on: a grade for each layer's weights, by how much its rounding shows.

A layer takes few bytes in a codebook of few levels, and fewer the wider the steps between its codes are, since a bundle
stores them entropy coded. What that costs is measured, layer by layer: the float model runs on samples that are held
back with that layer alone rounded (sensitivity as in Dong et al., "HAWQ", ICCV 2019, measured and not estimated), at a
wide step and in a codebook; at other steps the noise goes with their square. Of all grades those are taken that have the
least noise together within the bytes that there are: the least of noise + λ · bytes for each layer alone, λ by halving
(Shoham & Gersho, "Efficient Bit Allocation for an Arbitrary Set of Quantizers", 1988). Even steps under an entropy code
come within a quarter of a bit of what any code can do (Gish & Pierce 1968), and a fixed number of levels is further off,
so that most layers end with even steps; codebooks stay where they are cheaper.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq import codebooks
from edgeq.calibrate import Progress
from edgeq.coding import deflate
from edgeq.quantize.alone import alone
from edgeq.quantize.compare import Judge
from edgeq.quantize.job import Job
from edgeq.quantize.rounding import FINEST, Grade, all_rounded, rounded
from edgeq.quantize.search import Spans
from edgeq.quantize.weights import Coded
from edgeq.records import dataclass, replace
from edgeq.tflite import read, write

Array = npt.NDArray[Any]

STEPS = (1.0, 1.25, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 12.0, 16.0)
"""Of the scale that uses all of int8: up to 8 bits, down to codes of ±7."""

NARROWER = (1.25, 2.0, 4.0)
"""Steps at which one layer has fewer codes than all, tried in turn: at some it may be too large to be coded."""

TRIED = 6.0
"""The step at which noise is measured: so wide that a layer's noise stands out."""

SAMPLES = 16
"""Inputs that tell a layer's noise."""

VALUES = 4e8
"""Values (tensor elements over all runs and samples) that measuring may compute."""

FEWEST = 2
"""Inputs at least."""

HALVINGS = 60
"""Of λ, from 1 to 10⁻¹⁸ of noise for a byte."""

AROUND = 4200
"""Bytes of a bundle that are not the model's: manifest, signatures, and what the payload is aligned to."""

NEAR = 0.01
"""Of the bytes that there are may be left over."""

ROUNDS = 6
"""Times that the bytes of the whole are measured and the layers' share of them mended."""


@dataclass(frozen=True)
class Offer:
    """A grade that a layer may have. size: bytes of its weights in a bundle; noise: per signal, at the outputs."""

    grade: Grade
    size: float
    noise: float


def allocated(job: Job, at: Spans, known: Mapping[int, Array], judge: Judge, say: Progress) -> tuple[Job, str]:
    """The job with grades that keep the coded model within `recipe.bundle` of the int8 model's size, and a line on it.

    at: any ranges, for the model's size; known: Hessians; judge: of the float model.
    """
    sizes = _Sizes(job, at, known)
    few = judge.first(_samples(job, len(judge.inputs)))
    able = [n for n in job.grades if n in known]  # others are too long for a Hessian, and stay as they are
    offers = {}
    for k, n in enumerate(able):
        say(k, len(able), "measuring what layers lose")
        offers[n] = _offers(job, n, known[n], few, job.grades[n])
    loss = {n: {o.grade: o.noise for o in some} for n, some in offers.items()}

    def lost(of: Mapping[int, Grade]) -> float:
        return sum(each[of[n]] for n, each in loss.items())

    aim = job.recipe.bundle * (sizes.whole({}) + AROUND) - AROUND
    best, rest = sizes.parted(job.grades)
    chosen, room = dict(job.grades), aim - rest
    low, high = 0.0, float("inf")  # room that is known to be kept to, and not to
    for _ in range(ROUNDS):
        shared = _shared(offers, room)
        finest = bool(shared) and all(g == FINEST for g in shared.values())
        for other in _narrowed(offers, shared) if finest else (shared,):
            other = {**job.grades, **other}
            size = sizes.whole(other)
            if size <= aim:
                break
        if size <= aim:
            low = room
            # Not the largest that fits: few levels may take more bytes than even steps, and lose more.
            if best > aim or lost(other) < lost(chosen):
                chosen, best = other, size
            if size > (1 - NEAR) * aim or finest:
                break
        else:
            high = room
        # Mended by what it was off, towards a little less than there is; a file that no section pays for is not coded at all,
        # and off by far.
        room = room + (1 - NEAR / 2) * aim - size
        if not low < room < high:
            room = (low + high) / 2 if high < float("inf") else 2 * low
    if best > aim:
        return job, "bytes shared out by what layers lose: more than there are (not kept)"
    finer = sum(g.levels == 0 for g in chosen.values())
    line = f"bytes shared out by what layers lose: even steps for {finer} layers, codebooks for {len(chosen) - finer}"
    return job.graded({n: g for n, g in chosen.items() if g != Grade()}), line


def _narrowed(offers: Mapping[int, Sequence[Offer]], finest: dict[int, Grade]) -> Iterator[dict[int, Grade]]:
    """The finest grade for all layers but the one that loses least by a wider step: a model none of whose layers has fewer codes
    is not coded at all (edgeq.codebooks), even where so many weights are 0 that it would be small.
    """
    some = {n: max(o.noise for o in of if o.grade.step == TRIED) for n, of in offers.items()}
    n = min(some, key=lambda n: (some[n], n))
    yield from ({**finest, n: Grade(step=step)} for step in NARROWER)


def _samples(job: Job, most: int) -> int:
    """Inputs that the budget leaves for a run per layer and kind of grade."""
    each = sum(t.size for t in job.graph.tensors if t.data is None) * 2 * max(1, len(job.grades))
    return max(min(FEWEST, most), min(SAMPLES, most, int(VALUES / each)))


def _offers(job: Job, n: int, h: Array, judge: Judge, given: Grade) -> list[Offer]:
    """What layer n may have: steps of all widths, and the codebook that the recipe gives it."""
    kind, found = job.recipe.codebook, []
    wide = rounded(job.graph, job.layout, n, h, Grade(step=TRIED), kind)
    noise = alone(job.graph, n, wide, job.means or {}, judge)
    fine = rounded(job.graph, job.layout, n, None, Grade(), kind)
    more = _entropy(wide.data) / max(1.0, _entropy(np.rint(fine.data / TRIED)))  # than codes that were not made up for
    for step in STEPS:
        size = min(more * _entropy(np.rint(fine.data / step)), float(fine.data.size))
        found.append(Offer(Grade(step=step), size, noise * (step / TRIED) ** 2))
    book = rounded(job.graph, job.layout, n, h, given, kind)
    return [*found, Offer(given, _booked(book), alone(job.graph, n, book, job.means or {}, judge))]


def _entropy(codes: Array) -> float:
    """Bytes of int8 codes in the order that they have, deflated: near enough their entropy."""
    return len(deflate(codes.astype(np.int8).tobytes(), zlib.Z_HUFFMAN_ONLY))


def _booked(coded: Coded) -> float:
    """Bytes of weights with few levels."""
    rows = coded.data.reshape(len(coded.data), -1)
    section = codebooks.section(0, rows)
    return _entropy(rows) if section is None else len(section.indices) + len(section.levels)


def _shared(offers: Mapping[int, Sequence[Offer]], room: float) -> dict[int, Grade]:
    """A grade for each layer: the least noise in `room` bytes, as far as one λ for all comes."""

    def taken(weight: float) -> dict[int, Offer]:
        return {n: min(some, key=lambda o: (o.noise + weight * o.size, o.size)) for n, some in offers.items()}

    low, high = 1e-18, 1.0
    for _ in range(HALVINGS):
        middle = (low * high) ** 0.5
        if sum(o.size for o in taken(middle).values()) > room:
            low = middle
        else:
            high = middle
    best = taken(high)
    left = room - sum(o.size for o in best.values())
    while True:  # what is left buys what takes off most noise for its bytes
        steps = [
            ((best[n].noise - o.noise) / (o.size - best[n].size), n, o)
            for n, some in offers.items()
            for o in some
            if best[n].size < o.size <= best[n].size + left and o.noise < best[n].noise
        ]
        if not steps:
            return {n: o.grade for n, o in best.items()}
        _, n, offer = max(steps, key=lambda s: (s[0], -s[1]))
        left -= offer.size - best[n].size
        best[n] = offer


class _Sizes:
    """The bytes of a job's coded model under different grades, its weights rounded under Hessians."""

    def __init__(self, job: Job, at: Spans, known: Mapping[int, Array]) -> None:
        self._job, self._at, self._known = job, at, known

    def whole(self, grades: Mapping[int, Grade]) -> int:
        """Of all."""
        return self._of(self._rounded(grades))

    def parted(self, grades: Mapping[int, Grade]) -> tuple[int, float]:
        """Of all, and of what has no grade: the whole, less what these grades' layers take by themselves."""
        job = self._rounded(grades)
        whole = self._of(job)
        return whole, whole - sum(_booked(job.codes[n]) for n in grades)

    def _rounded(self, grades: Mapping[int, Grade]) -> Job:
        job, known = self._job, {n: h for n, h in self._known.items() if n in grades}
        return replace(job, codes=all_rounded(job.graph, job.layout, known, grades, job.recipe.codebook))

    def _of(self, job: Job) -> int:
        model = bytes(write(job.make(self._at).graph))
        coded = codebooks.coded(model, read(model))
        return len(model if coded is None else coded)
