"""A histogram of a stream, in constant memory, and the range that quantizes it with the least squared error.

Bins are as wide as a power of two and aligned to zero: bin i counts the values in [i·width, (i + 1)·width). When a
value falls outside, the width doubles and pairs of bins merge, so that the counts are those of a single pass over
everything at the last width, whatever the order of the stream.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.errors import InputError
from edgeq.quantmod import QuantMod
from edgeq.records import dataclass, field, replace

Array = npt.NDArray[Any]

BINS = 2048
"""Bins to each side of zero: at least 4 to a step of 8 bits, even when a doubling has just left half of them empty."""

_CHUNK = 1 << 14  # values binned at once: the temporaries stay in the cache, and in memory that is there already


@dataclass(frozen=True, eq=False)
class Histogram:
    """What a stream of numbers looked like: exact bounds, and counts (2 · BINS,) int64, negative bins first.

    width: of a bin, a power of two, 0 while nothing but zeros came; bin i stands at counts[i + BINS]. average: the means
    of the smallest and of the largest value of each sample, where samples were told apart.
    """

    minimum: float = float("inf")
    maximum: float = float("-inf")
    width: float = 0.0
    counts: Array = field(default_factory=lambda: np.zeros(2 * BINS, np.int64))
    average: tuple[float, float] | None = None

    @property
    def size(self) -> int:
        """How many values came."""
        return int(self.counts.sum())

    def add(self, values: Array, weight: int = 1, bounds: tuple[float, float] | None = None) -> Histogram:
        """The histogram with these values too (any shape, float32 or float64). Raises InputError for NaN or infinity.

        weight: how many values each stands for; bounds: of all that they stand for.
        """
        flat = values.reshape(-1)
        if not flat.size:
            return self
        lo, hi = (float(flat.min()), float(flat.max())) if bounds is None else bounds
        if not (np.isfinite(lo) and np.isfinite(hi)):
            raise InputError(f"values must be finite, found [{lo}, {hi}]")
        width = max(self.width, _width(max(-lo, hi)))
        counts = _merged(self.counts, self.width, width)
        if width == 0.0:
            counts[BINS] += weight * flat.size
        # A product by a power of two is exact, so each value lands in its own bin; in float32 too where nothing becomes smaller.
        kind = np.float32 if flat.dtype == np.float32 and 2.0**-100 <= width <= 1.0 else np.float64
        for start in range(0, flat.size if width else 0, _CHUNK):
            scaled = np.multiply(flat[start : start + _CHUNK], kind(1.0 / width), dtype=kind)
            if lo < 0.0:
                np.floor(scaled, out=scaled)
                scaled += kind(BINS)  # whole numbers up to 2·BINS
            found = np.bincount(scaled.astype(np.intp))  # which cuts off what lies behind the point
            there = counts[0 if lo < 0.0 else BINS :][: len(found)]
            there += found if weight == 1 else weight * found
        return Histogram(min(self.minimum, lo), max(self.maximum, hi), width, counts, self.average)

    def merge(self, other: Histogram) -> Histogram:
        """The histogram of both streams."""
        width = max(self.width, other.width)
        counts = _merged(self.counts, self.width, width) + _merged(other.counts, other.width, width)
        return replace(
            self,
            minimum=min(self.minimum, other.minimum),
            maximum=max(self.maximum, other.maximum),
            width=width,
            counts=counts,
            average=_either(self.average, other.average),
        )

    def minmax(self) -> tuple[float, float]:
        """The bounds, widened to hold 0; (0, 0) while nothing came."""
        return min(self.minimum, 0.0), max(self.maximum, 0.0)

    def averaged(self) -> tuple[float, float]:
        """The mean of each sample's bounds (a moving average with the weights of a plain mean), widened to hold 0."""
        lo, hi = self.minmax() if self.average is None else self.average
        return min(lo, 0.0), max(hi, 0.0)

    def percentile(self, outside: float = 1e-5) -> tuple[float, float]:
        """The bounds that leave a share of `outside` beyond each end, widened to hold 0."""
        lo, hi = self.minmax()
        if not self.width:
            return lo, hi
        seen = np.cumsum(self.counts)
        low = (int(np.searchsorted(seen, outside * seen[-1], side="right")) - BINS) * self.width
        high = (int(np.searchsorted(seen, (1 - outside) * seen[-1])) + 1 - BINS) * self.width
        return min(max(low, lo), 0.0), max(min(high, hi), 0.0)

    def entropy(self, bits: int = 8) -> tuple[float, float]:
        """The range whose codes' distribution differs least from this stream's, in relative entropy.

        What is clipped counts at the ends (Migacz, "8-bit inference with TensorRT", GTC 2017). Each end shrinks by the
        same fraction.
        """
        lo, hi = self.minmax()
        if self.width == 0.0 or bits > 8:
            return lo, hi
        values, weights = self.points()
        zero = int(np.searchsorted(values, 0.0))  # exact in any range, so a spike of zeros (a ReLU's) says nothing
        around = weights[max(zero - 1, 0) : zero + 2]
        if zero < len(weights) and len(around) > 1:
            weights[zero] = min(weights[zero], np.sort(around)[-2])
        p = weights / weights.sum()

        def divergence(f: float) -> float:
            q = QuantMod.from_range(f * lo, f * hi, bits)
            codes = q.quantize(values).astype(np.int64) + 128
            inside = (values >= f * lo) & (values <= f * hi)
            if not inside.any():
                return math.inf
            mass = np.bincount(codes, np.where(inside, p, 0.0), 256)  # of what the codes can tell apart
            bins = np.bincount(codes, inside, 256)
            spread = np.where(inside, (mass / np.maximum(bins, 1))[codes], 0.0)
            reference = np.where(inside, p, 0.0)
            ends = np.flatnonzero(inside)
            reference[ends[0]] += p[: ends[0]].sum()
            reference[ends[-1]] += p[ends[-1] + 1 :].sum()
            spread = spread / spread.sum()
            some = reference > 0
            return float(np.sum(reference[some] * np.log(reference[some] / np.maximum(spread[some], 1e-12))))

        best = min(_COARSE, key=divergence)
        return best * lo, best * hi

    def expected(self, rank: int = 8) -> tuple[float, float]:
        """The bounds that much more of the same stream is expected to keep to; (0, 0) while nothing came.

        Each end moves on by as far as the `rank` outermost values lie apart. A tail that falls off exponentially by a
        factor e per σ has its extreme grow by σ·ln k over k times the values, and its 8 outermost values lie
        σ·(1 + 1/2 + … + 1/7) = 2.6·σ apart in the mean, so that is about 13 times the values; for a stream with a hard
        bound it is nothing.
        """
        lo, hi = self.minmax()
        if not self.width:
            return lo, hi
        seen = np.cumsum(self.counts)
        rank = min(rank, int(seen[-1]))
        low = (int(np.searchsorted(seen, rank)) - BINS) * self.width  # of the bin with the rank-th value from below
        high = (int(np.searchsorted(seen, seen[-1] - rank, side="right")) + 1 - BINS) * self.width
        below, above = max(low - self.minimum, 0.0), max(self.maximum - high, 0.0)
        return lo - below if lo < 0 else lo, hi + above if hi > 0 else hi

    def points(self) -> tuple[Array, Array]:
        """A value for each bin that is not empty, and how often it came: both (n,) float64.

        The middle of a bin stands for its values, except that the ends are known better than that.
        """
        used = np.flatnonzero(self.counts)
        values = (used - BINS + 0.5) * self.width if self.width else np.zeros(len(used))
        return np.clip(values, self.minimum, self.maximum), self.counts[used].astype(np.float64)

    def least_squares(self, bits: int = 8, symmetric: bool = False) -> tuple[float, float]:
        """The range within the bounds whose `bits`-wide codes have the least mean squared error on this stream.

        What is clipped errs by its distance, what is not by its rounding: narrowing a range trades the second for the
        first (Sung, Shin and Hwang, "Resiliency of deep neural networks under quantization", 2015). The two ends are
        searched in turn, each over shrinking fractions of what it is.
        """
        lo, hi = self.minmax()
        if self.width == 0.0 or bits > 8:  # 16 bits resolve finer than the bins: there is nothing to see, nor to gain
            return lo, hi
        values, weights = self.points()
        model = _Model(values, weights, (1 << bits) - 1)

        def errors(a: Array, b: Array) -> Array:
            """Of ranges [a, b], (n,) each."""
            q = QuantMod.from_range(a, b, bits, symmetric=symmetric, axis=0)
            each = np.broadcast_to(values, (len(a), len(values)))
            difference: Array = q.dequantize(q.quantize(each)) - values
            return (difference * difference) @ weights

        if symmetric:
            top = max(-lo, hi)
            near = _around(int(np.argmin(model.error(-_FRACTIONS * top, _FRACTIONS * top))))
            best = float(near[np.argmin(errors(-near * top, near * top))])
            return -best * top, best * top
        a, b = lo, hi
        for _ in range(2):
            before = a, b
            if hi > 0:
                near = _around(int(np.argmin(model.error(np.full_like(_FRACTIONS, a), _FRACTIONS * hi)))) * hi
                b = float(near[np.argmin(errors(np.full_like(near, a), near))])
            if lo < 0:
                near = _around(int(np.argmin(model.error(_FRACTIONS * lo, np.full_like(_FRACTIONS, b))))) * lo
                a = float(near[np.argmin(errors(near, np.full_like(near, b)))])
            if (a, b) == before or lo == 0 or hi == 0:
                break  # another round would find the same
        return a, b


def balanced(streams: Sequence[Histogram], reach: float) -> tuple[float, float]:
    """The range of 8 bits for streams that share it, with the least noise per signal of each, summed over the streams.

    A pooled image is a small part of what shares its scale with it, and its rounding errors average out in nothing behind: its
    noise counts by its own signal. Each value comes a second time, `reach` times as far, as more of the streams would.
    """
    values, weights, lo, hi = [], [], 0.0, 0.0
    for h in streams:
        if h.width == 0.0:
            continue
        ends = h.expected()
        found, counts = h.points()
        share = counts / float(np.sum(counts * found**2))
        for k in (1.0, reach):
            values.append(np.clip(k * found, *ends))
            weights.append(share)
        lo, hi = min(lo, ends[0]), max(hi, ends[1])
    if not values:
        return 0.0, 0.0
    every, share = np.concatenate(values), np.concatenate(weights)
    order = np.argsort(every)
    model = _Model(every[order], share[order], 255)
    a, b = lo, hi
    for _ in range(2):
        if hi > 0:
            b = float(hi * _FRACTIONS[np.argmin(model.error(np.full_like(_FRACTIONS, a), _FRACTIONS * hi))])
        if lo < 0:
            a = float(lo * _FRACTIONS[np.argmin(model.error(_FRACTIONS * lo, np.full_like(_FRACTIONS, b)))])
    return a, b


_FRACTIONS = np.concatenate([np.linspace(1.0, 0.5, 51), np.geomspace(0.48, 0.05, 20)])
_COARSE = tuple(float(f) for f in np.geomspace(1.0, 0.3, 14))


def _around(guess: int, reach: int = 2) -> Array:
    """The fractions near the one that the model thinks best, and all of the range, which may be a grid's own."""
    near = {0, *range(max(guess - reach, 0), min(guess + reach + 1, len(_FRACTIONS)))}
    return np.asarray(_FRACTIONS[sorted(near)])


class _Model:
    """What the squared error of a range is about: steps²/12 for each value inside but zeros, distance² for each outside."""

    def __init__(self, values: Array, weights: Array, steps: int) -> None:
        self._values = values
        self._steps = steps
        inner = np.where(values == 0, 0.0, weights)
        self._sums = [
            np.concatenate([[0.0], np.cumsum(s)]) for s in (inner, weights, weights * values, weights * values**2)
        ]

    def error(self, a: Array, b: Array) -> Array:
        """For ranges [a, b], (n,) each."""
        low, high = np.searchsorted(self._values, a), np.searchsorted(self._values, b, side="right")
        inner, count, first, second = self._sums
        rounding = (inner[high] - inner[low]) * ((b - a) / self._steps) ** 2 / 12
        below = second[low] - 2 * a * first[low] + a * a * count[low]
        n, s1, s2 = (s[-1] - s[high] for s in (count, first, second))
        total: Array = rounding + below + s2 - 2 * b * s1 + b * b * n
        return total


def _either(a: tuple[float, float] | None, b: tuple[float, float] | None) -> tuple[float, float] | None:
    """The wider of two pairs of bounds at each end."""
    if a is None or b is None:
        return a or b
    return min(a[0], b[0]), max(a[1], b[1])


def _width(top: float) -> float:
    """The least power of two of which BINS cover [−top, top] (top itself must be inside, hence the strict bound)."""
    if top == 0.0:
        return 0.0
    width = math.ldexp(1.0, max(math.ceil(math.log2(top / BINS)), -200))  # finer than any float32 needs
    while width * BINS <= top:
        width *= 2.0
    return width


def _merged(counts: Array, old: float, new: float) -> Array:
    """A copy of the counts at a width that is a power of two wider."""
    if old in (0.0, new):
        return counts.copy()
    factor = new / old
    # floor(i / factor): bins stay aligned to zero, negative ones fold towards it from below.
    place = np.floor(np.arange(-BINS, BINS) / factor).astype(np.intp) + BINS
    return np.bincount(place, counts, 2 * BINS).astype(np.int64)
