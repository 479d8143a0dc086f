"""What looks are like when all is well, and how unusual another one is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from edgeq.errors import OverlayDamagedError
from edgeq.records import dataclass

Array = npt.NDArray[Any]

FLOORS: Final = np.array([0.002, 0.005, 0.02])
"""Least spread of each feature: what lies below is noise of a few elements."""

MOST_UNUSUAL: Final = 50.0
"""A single feature counts no more than that many spreads."""


@dataclass(frozen=True, eq=False)
class Baseline:
    """center, spread: (tensors, features) of looks when all was well; scores: (n,) of such looks, each judged by the others."""

    center: Array
    spread: Array
    scores: Array

    def score(self, look: Array) -> float:
        """How unusual a look is: the mean distance of its features from the center, in spreads."""
        return float(np.minimum(np.abs(look - self.center) / self.spread, MOST_UNUSUAL).mean())

    def unusual(self, look: Array) -> Array:
        """(tensors,): how unusual each tensor is, as `score` measures it."""
        out: Array = np.minimum(np.abs(look - self.center) / self.spread, MOST_UNUSUAL).mean(axis=1)
        return out


def learn(looks: Sequence[Array]) -> Baseline:
    """The baseline of at least two looks. Each look's own score is by the center and spread of all the others.

    So a score of a look that is to come stands among these as one of them, but for one look more or less in its center.
    """
    stack = np.stack(looks).astype(np.float64)
    n = len(stack)
    total, squares = stack.sum(axis=0), (stack**2).sum(axis=0)
    scores = np.empty(n)
    for k, one in enumerate(stack):
        scores[k] = _made(total - one, squares - one**2, n - 1).score(one)
    whole = _made(total, squares, n)
    return Baseline(whole.center, whole.spread, scores)


def _made(total: Array, squares: Array, n: int) -> Baseline:
    center = total / n
    spread = np.sqrt(np.maximum(squares / n - center**2, 0.0))
    return Baseline(center, np.maximum(spread, FLOORS), np.zeros(0))


def to_arrays(baseline: Baseline) -> dict[str, Array]:
    """The baseline as arrays by name, for an overlay."""
    return {"center": baseline.center, "spread": baseline.spread, "scores": baseline.scores}


def from_arrays(arrays: Mapping[str, Array], tensors: int) -> Baseline | None:
    """The baseline that `to_arrays` gave, None of no arrays. Raises OverlayDamagedError for one of another model."""
    if not arrays:
        return None
    shape = (tensors, len(FLOORS))
    found = {name: tuple(a.shape) for name, a in arrays.items()}
    if found.keys() != {"center", "spread", "scores"} or not (
        found["center"] == found["spread"] == shape
        and len(found["scores"]) == 1
        and all(a.dtype == np.float64 and np.isfinite(a).all() for a in arrays.values())
        and (arrays["spread"] > 0).all()
    ):
        raise OverlayDamagedError(f"expected a baseline of {tensors} tensors, found {found}")
    return Baseline(arrays["center"], arrays["spread"], arrays["scores"])
