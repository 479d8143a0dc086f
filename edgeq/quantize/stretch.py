"""Samples that reach further than those that were seen, made of those.

What comes in a week reaches further than a minute of it, and it is the few samples at the edge that new ranges would clip. How
a model fares on them cannot be measured on samples that are none of them. So each sample x is also taken as
m + BY·(x − m), m the mean of all: whatever the samples are like, these lie as much further apart. Inputs that never leave a
bound, as pixels do not, stay within it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from edgeq.calibrate import Inputs
from edgeq.histogram import Histogram
from edgeq.records import dataclass

Array = npt.NDArray[Any]

BY: Final = 1.3
"""Times as far from the mean."""

TOGETHER: Final = 1 << 14
"""Values that are reckoned at once, in float64: a picture's would not stay in the cache, and take twice the picture's memory."""


@dataclass(frozen=True, eq=False)
class Stretch:
    """By the mean of some inputs and how far inputs go: middles of each of a model's inputs, None for integers, which stay."""

    middles: tuple[Array | None, ...]
    bounds: tuple[tuple[float, float], ...]
    by: float

    def of(self, x: Inputs) -> Inputs:
        """An input drawn away from the mean."""
        if not self.middles:
            return x
        return tuple(
            a if m is None else self._drawn(a, m, ends) for a, m, ends in zip(x, self.middles, self.bounds, strict=True)
        )

    def _drawn(self, a: Array, middle: Array, ends: tuple[float, float]) -> Array:
        """middle + by·(a − middle), within the bounds."""
        out = np.empty(a.shape, a.dtype)
        flat, means, to = a.reshape(-1), middle.reshape(-1), out.reshape(-1)
        for start in range(0, flat.size, TOGETHER):
            some = slice(start, start + TOGETHER)
            away = flat[some] - means[some]
            away *= self.by
            away += means[some]
            to[some] = np.clip(away, *ends, out=away)
        return out


class Further(Sequence[Inputs]):
    """Inputs (as edgeq.feed gives them), and behind them the same stretched, which are made whenever they are asked for: of
    pictures all of them would take as much memory as the samples."""

    def __init__(self, inputs: Sequence[Inputs], stretch: Stretch) -> None:
        self._inputs, self._stretch = inputs, stretch

    def __len__(self) -> int:
        return 2 * len(self._inputs)

    def __getitem__(self, k: Any) -> Any:
        if isinstance(k, slice):
            return [self[i] for i in range(*k.indices(len(self)))]
        n = len(self._inputs)
        return self._inputs[k] if k < n else self._stretch.of(self._inputs[k - n])


def stretch_by(like: Sequence[Inputs], by: float = BY) -> Stretch:
    """How inputs like these are stretched; of none nothing is known, and they stay."""
    middles: list[Array | None] = []
    bounds = []
    for k, first in enumerate(like[0] if like else ()):
        real = first.dtype.kind == "f"
        total: Array = sum((x[k].astype(np.float64) for x in like if real), np.zeros(()))
        middles.append(total / len(like) if real else None)
        h = Histogram()
        for x in like if real else ():
            h = h.add(x[k])
        bounds.append(h.expected())
    return Stretch(tuple(middles), tuple(bounds), by)
