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

Array = npt.NDArray[Any]

BY: Final = 1.3
"""Times as far from the mean."""


def stretched(inputs: Sequence[Inputs], like: Sequence[Inputs], by: float = BY) -> list[Inputs]:
    """Each of the inputs (as edgeq.feed gives them) drawn away from the mean of `like`, which also says how far inputs go.

    Inputs of integers stay as they are.
    """
    if not like:
        return list(inputs)
    middles, bounds = [], []
    for k, first in enumerate(like[0]):
        real = first.dtype.kind == "f"
        middles.append(sum(x[k].astype(np.float64) for x in like) / len(like) if real else None)
        h = Histogram()
        for x in like if real else ():
            h = h.add(x[k])
        bounds.append(h.expected())
    return [
        tuple(
            a if m is None else np.clip(m + by * (a - m), *ends).astype(a.dtype)
            for a, m, ends in zip(x, middles, bounds, strict=True)
        )
        for x in inputs
    ]
