"""More samples than there are: what the float model can be asked besides those that were given.

Pictures are moved by up to a sixteenth, enlarged by up to a third, mirrored and lit otherwise. All else is moved by up to an
eighth along the axes on which it is the same everywhere, as sounds are in time, and half of it mixed, two samples at a time, so
that the spread of values stays what it is: mean + cos φ·(a − mean) + sin φ·(b − mean), and a little of it is noise of each
value's own size. If samples were Gaussian, these would be further ones, from their covariance drawn towards its diagonal
(Ledoit and Wolf 2004). Plain mixtures a·x + (1 − a)·x' ("mixup") have less spread than samples do, and taught less
(docs/finetuning.md).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgeq.graph import Array
from edgeq.records import dataclass

NOISE, LEAST_NOISE = 0.1, 0.02
"""Of the variance of a mixture, and of a sample that is not mixed: what is each value's own."""

PURE = 0.5
"""The share of samples that are not mixed."""

LARGER = 0.25
"""Of a picture's sides, what may be left out."""

BRIGHTER, TINT, CONTRAST = 0.25, 0.1, 0.25
"""How pictures are lit: of the deviation of their values, all of them and each channel's; of their distance to the mean."""

LEAST_LENGTH, ALIKE, UNEVEN = 8, 0.8, 0.2
"""Of an axis along which samples may be moved: places, the correlation of neighbours, and how far mean and deviation go apart.
Frames of speech have 0.94, 0.14 and 0.11, their coefficients 0.1, 0.4 and 1.6, the bands of a machine's sound 0.64, 0.9, 0.2."""


@dataclass(frozen=True, eq=False)
class Spread:
    """Of an input's values over samples. mean, deviation: (1, …) each value's; low, high: the extremes of all; even: the axes
    along which values are alike."""

    mean: Array
    deviation: Array
    low: float
    high: float
    even: tuple[int, ...] = ()

    @staticmethod
    def of(a: Array) -> Spread:
        """That of some samples (n, …)."""
        mean, deviation = a.mean(axis=0, keepdims=True), a.std(axis=0, keepdims=True)
        even = tuple(k for k in range(1, a.ndim - 1) if a.dtype == np.float32 and _even(a, k))
        return Spread(mean, deviation, float(a.min()), float(a.max()), even)


def varied(
    inputs: Sequence[Array], others: Sequence[Array], count: int, seen: Sequence[Spread], draw: np.random.Generator
) -> list[Array]:
    """`count` samples (count · rows, …), input by input, made others by chance; what is no real number stays, and all with
    it."""
    if any(a.dtype != np.float32 for a in inputs):
        return list(inputs)
    angles = np.where(draw.random(count) < PURE, 0, draw.uniform(0, np.pi / 2, count))
    return [
        _pictured(a, s, draw) if is_picture(a) else _mixed(a, b, np.repeat(angles, len(a) // count), s, draw)
        for a, b, s in zip(inputs, others, seen, strict=True)
    ]


def _mixed(a: Array, b: Array, angles: Array, seen: Spread, draw: np.random.Generator) -> Array:
    a, b = _shifted(a, seen.even, draw), _shifted(b, seen.even, draw)
    angle = angles.astype(np.float32).reshape(-1, *[1] * (a.ndim - 1))
    noise = np.where(angle > 0, np.float32(NOISE), np.float32(LEAST_NOISE))
    both = np.cos(angle) * (a - seen.mean) + np.sin(angle) * (b - seen.mean)
    own = seen.deviation * draw.standard_normal(a.shape, np.float32)
    found = seen.mean + np.sqrt(1 - noise) * both + np.sqrt(noise) * own
    # Beyond what inputs reach, the student clips and the float model does not: nothing to be learned from that.
    clipped: Array = np.clip(found, seen.low, seen.high)
    return clipped


def _even(a: Array, axis: int) -> bool:
    """Whether samples may begin elsewhere on an axis: neighbours are alike there, and mean and deviation the same along it."""
    if a.shape[axis] < LEAST_LENGTH:
        return False
    along = np.moveaxis(a, axis, 1).reshape(len(a), a.shape[axis], -1).astype(np.float64)
    means, deviations = along.mean(axis=0), along.std(axis=0)
    along = along - means
    here, there = along[:, :-1], along[:, 1:]
    alike = float((here * there).sum()) / max(float(np.sqrt((here**2).sum() * (there**2).sum())), 1e-30)
    total = float(means.var(axis=0).sum() + (deviations**2).mean(axis=0).sum())
    uneven = float((deviations.std(axis=0) / np.maximum(deviations.mean(axis=0), 1e-30)).mean())
    return alike > ALIKE and float(means.var(axis=0).sum()) < UNEVEN * total and uneven < UNEVEN


def _shifted(a: Array, axes: Sequence[int], draw: np.random.Generator) -> Array:
    """Samples that begin up to an eighth earlier or later on these axes; what is missing repeats the edge."""
    for axis in axes:
        n = a.shape[axis]
        by = draw.integers(-(n // 8), n // 8 + 1, len(a))
        at = np.clip(np.arange(n) + by[:, None], 0, n - 1)
        a = np.take_along_axis(a, at.reshape(len(a), *[n if k == axis else 1 for k in range(1, a.ndim)]), axis)
    return a


def is_picture(a: Array) -> bool:
    """Whether an input looks like pictures: of three channels, or square ones of one."""
    return (
        a.ndim == 4 and min(a.shape[1:3]) >= 8 and (a.shape[3] == 3 or (a.shape[3] == 1 and a.shape[1] == a.shape[2]))
    )


def _pictured(a: Array, seen: Spread, draw: np.random.Generator) -> Array:
    """Pictures (n, h, w, c) that show a part of each, moved, enlarged, every second one mirrored, and lit otherwise."""
    n, size = len(a), draw.uniform(1 - LARGER, 1, len(a))
    found = []
    for picture, part, mirrored in zip(a, size, draw.random(n) < 0.5, strict=True):
        for axis, length in enumerate(picture.shape[:2]):
            first = draw.uniform(-length / 16, length * (1 - part) + length / 16)
            at = first + (np.arange(length) + 0.5) * part - 0.5
            picture = _between(picture, at[::-1] if axis and mirrored else at, axis)
        found.append(picture)
    pictures = np.stack(found)
    deviation = np.float32(np.sqrt((seen.deviation.astype(np.float64) ** 2).mean()))
    middle = pictures.mean(axis=(1, 2, 3), keepdims=True)
    light = BRIGHTER * draw.standard_normal((n, 1, 1, 1), np.float32)
    tint = TINT * draw.standard_normal((n, 1, 1, a.shape[3]), np.float32)
    contrast = draw.uniform(1 - CONTRAST, 1 + CONTRAST, (n, 1, 1, 1)).astype(np.float32)
    lit: Array = middle + contrast * (pictures - middle) + deviation * (light + tint)
    return np.clip(lit, seen.low, seen.high, out=lit)


def _between(a: Array, at: Array, axis: int) -> Array:
    """Values at places `at` of an axis, linear between neighbours, the edge's beyond it."""
    n = a.shape[axis]
    at = np.clip(at, 0, n - 1)
    low = at.astype(np.int64)
    part = (at - low).astype(np.float32).reshape([-1 if k == axis else 1 for k in range(a.ndim)])
    here, there = a.take(low, axis), a.take(np.minimum(low + 1, n - 1), axis)
    there -= here
    there *= part
    there += here
    return there
