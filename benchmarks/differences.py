"""Whether one model is as good as another, told on the same samples: paired differences, each with its interval of 95 %.

A metric of 500 samples flips by three for nothing, but most of what makes it flip is the same for two forms of one model. So
each sample is scored under both, and the differences are what is averaged. Samples of one source (a picture moved, crops of one
photograph, parts of one clip) are alike: intervals count sources, not samples (Liang & Zeger 1986; of an AUC by drawing sources
again, Efron 1979). Every model runs in edgeq's engine under both of its roundings, which are those of TFLite's reference
kernels and of XNNPACK bit for bit; a sample's score is the mean of the two.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from accuracy_tasks import Task

from edgeq.engine import Model
from edgeq.graph import Graph

Array = npt.NDArray[Any]

ROUNDINGS = ("tflite", "xnnpack")

LIMITS = {"int8": 0.003, "int8-per-tensor": 0.01, "dynamic": 0.002, "weights": 0.002, "codebook4": 0.01}
"""How far below float a recipe may be; int8-per-tensor below int8."""

DRAWS = 4000
"""Of sources, for an AUC."""

SURE = 1.96
"""Standard errors to each side that hold 95 %."""


@dataclass(frozen=True, eq=False)
class Scored:
    """What a model's samples scored. values: by score's name, (samples,), or with pairs (positive, negative) sources; source:
    of each sample, (samples,); of pairs whether sources are positive, (sources,) bool.
    """

    values: Mapping[str, Array]
    source: Array
    pairs: bool = False

    def mean(self, name: str) -> float:
        """Of one score."""
        return float(self.values[name].mean())


@dataclass(frozen=True)
class Difference:
    """One model less another in one score, and the interval that holds it with 95 %; limit: how far below it may be."""

    ours: str
    other: str
    score: str
    value: float
    low: float
    high: float
    limit: float

    @property
    def verdict(self) -> str:
        """Whether the interval lies within the limit, beyond it, or around it."""
        return "within" if self.low >= -self.limit else "beyond" if self.high < -self.limit else "undecided"

    def __str__(self) -> str:
        points = f"{100 * self.value:+.2f} ({100 * self.low:+.2f} … {100 * self.high:+.2f}) points"
        return f"{self.ours} − {self.other}: {points}, limit {-100 * self.limit:g}: {self.verdict}"


def scored(task: Task, real: Graph, models: Mapping[str, Graph]) -> dict[str, Scored]:
    """Every model, and the float one as "float", on the task's varied samples."""
    ready = {name: [Model(g, rounding=r) for r in ROUNDINGS] for name, g in {"float": real, **models}.items()}
    found: dict[str, dict[str, list[Array]]] = {name: {s: [] for s in task.scores} for name in ready}
    sources, positive = [], np.zeros(0, bool)
    for block in task.varied():
        x = block.x.reshape(-1, *ready["float"][0].inputs[0].shape[1:])
        wanted = _outputs(ready["float"][0], x)
        for name, forms in ready.items():
            outputs = (
                [wanted, *(_outputs(m, x) for m in forms[1:])] if name == "float" else [_outputs(m, x) for m in forms]
            )
            for s, score in task.scores.items():
                some = [score(y, wanted, block.x, block.truth) for y in outputs]
                if task.pairs:
                    positive = np.asarray(block.truth, bool)
                    some = [_wins(v[positive], v[~positive]) for v in some]
                found[name][s].append(np.mean(some, axis=0))
        sources.append(block.source)
    if task.pairs:
        return {n: Scored({s: np.mean(v, axis=0) for s, v in by.items()}, positive, True) for n, by in found.items()}
    every = np.concatenate(sources)
    return {n: Scored({s: np.concatenate(v) for s, v in by.items()}, every) for n, by in found.items()}


def between(ours: str, other: str, found: Mapping[str, Scored], score: str, limit: float) -> Difference:
    """How much better the first of two scored models is."""
    a, b = found[ours], found[other]
    d = a.values[score] - b.values[score]
    half = _of_pairs(d) if a.pairs else _of_sources(d, a.source)
    return Difference(ours, other, score, float(d.mean()), float(d.mean()) - half, float(d.mean()) + half, limit)


def _of_sources(d: Array, source: Array) -> float:
    """Half of the interval of a mean of (n,) values, those of one source going together."""
    _, place = np.unique(source, return_inverse=True)
    sums = np.bincount(place, d - d.mean())
    c = len(sums)
    return float(SURE * np.sqrt((sums**2).sum() * c / max(c - 1, 1)) / len(d))


def _of_pairs(d: Array) -> float:
    """Half of the interval of a mean over pairs (positive, negative), sources of both kinds drawn again."""
    draw = np.random.default_rng(0)
    p, n = d.shape
    rows = draw.multinomial(p, np.full(p, 1 / p), DRAWS) / p
    columns = draw.multinomial(n, np.full(n, 1 / n), DRAWS) / n
    return float(SURE * np.einsum("ij,jk,ik->i", rows, d, columns).std())


def _wins(positive: Array, negative: Array) -> Array:
    """(positive, negative): 1 where the positive's value is the larger, a half where they are equal."""
    return np.asarray((np.sign(positive[:, None] - negative[None, :]) + 1) / 2)


def _outputs(model: Model, x: Array) -> Array:
    y = model(x, dequantize=True)
    assert isinstance(y, np.ndarray)
    return y


def told(
    found: Mapping[str, Scored], recipes: Sequence[str], published: str | None, peers: Sequence[str]
) -> list[Difference]:
    """The differences that limits are for, in the first score: of each recipe from float, of int8's from what others make."""
    one = next(iter(found["float"].values))
    out = []
    for recipe in recipes:
        if recipe == "int8-per-tensor" and "int8" in recipes:
            out.append(between(recipe, "int8", found, one, LIMITS[recipe]))
        else:
            out.append(between(recipe, "float", found, one, LIMITS.get(recipe, 0.0)))
        if recipe == "int8":
            best = max(peers, key=lambda p: found[p].mean(one), default=None)
            out += [between(recipe, other, found, one, 0.0) for other in (published, best) if other is not None]
    return out
