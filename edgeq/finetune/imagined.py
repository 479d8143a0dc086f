"""Samples that an autoencoder makes up.

What such a model answers is what it takes its input for: its answers lie where the samples lay that it was trained on, those
that calibration lacks included. So samples are moved until other units wake (sought.py), the float model is asked what it takes
them for, and that, mixed two at a time, with what it left unexplained of real samples, is a further sample: of a sound
like those it knows, in the noise of this place. A student that saw the given samples alone errs several times as much on
others of their kind (docs/finetuning.md).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from edgeq.finetune.varied import NOISE, Spread
from edgeq.graph import Array

Answer = Callable[[Array], Array]
"""The float model: samples (n, …) → what it takes them for, of the same shape."""

EXPLAINED = 0.1
"""Of the samples' variance, what answers have to explain at least: less is no autoencoder's."""

TIMES = 2
"""That the float model is asked what it takes a sample for, and what it takes that for."""


class Imagined:
    """Samples around `drafts` (m, …), what a float model took others for; given: real samples (n, …), seen: their spread."""

    def __init__(self, answer: Answer, given: Array, drafts: Array, seen: Spread) -> None:
        self._answer, self._seen = answer, seen
        self._left = given - answer(given)
        self._own = self._left.std(axis=0, keepdims=True)
        for _ in range(TIMES):
            drafts = answer(drafts)
        self._drafts = drafts

    @staticmethod
    def possible(answer: Answer, given: Array) -> bool:
        """Whether the model is an autoencoder of these samples: answers have their shape, and are like them."""
        answers = answer(given)
        if given.dtype != np.float32 or answers.shape != given.shape:
            return False
        left = float(((given - answers).astype(np.float64) ** 2).mean())
        return left < (1 - EXPLAINED) * float(given.var(axis=0, dtype=np.float64).mean())

    def made(self, count: int, draw: np.random.Generator, given: Array | None = None) -> Array:
        """`count` samples (count, …). given: those whose noise they have, by default that of the ones told at first."""
        mean = self._seen.mean
        taken = mean + _two(self._drafts - mean, count, draw)
        taken = self._answer(self._clipped(taken))
        if given is not None:
            return self._clipped(taken + given - self._answer(given))
        noise = self._own * draw.standard_normal(taken.shape, np.float32)
        left = np.float32(np.sqrt(1 - NOISE)) * _two(self._left, count, draw) + np.float32(np.sqrt(NOISE)) * noise
        return self._clipped(taken + left)

    def _clipped(self, a: Array) -> Array:
        # Beyond what inputs reach, the student clips and the float model does not: nothing to be learned from that.
        clipped: Array = np.clip(a, self._seen.low, self._seen.high)
        return clipped


def _two(a: Array, count: int, draw: np.random.Generator) -> Array:
    """Mixtures of two that have the spread of `a` (n, …), which has none of its mean: (count, …)."""
    first, second = draw.integers(0, len(a), (2, count))
    angle = draw.uniform(0, np.pi / 2, count).astype(np.float32).reshape(-1, *[1] * (a.ndim - 1))
    mixed: Array = np.cos(angle) * a[first] + np.sin(angle) * a[second]
    return mixed
