"""Fake quantization: a value as its codes will have it, with a gradient for the value and for the step.

The value's gradient is passed straight through where it was not clipped (Bengio, Léonard and Courville, "Estimating or
Propagating Gradients Through Stochastic Neurons", 2013); the step's is that of s·(rint(v/s) − v/s) with rint's slope
taken for 1 (Esser et al., "Learned Step Size Quantization", ICLR 2020, equation 3). Steps are learned as log s, so that a
rate means the same for all of them: ∂/∂log s = s·∂/∂s.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from edgeq.graph import Array
from edgeq.records import dataclass

_LIMITS = {"int8": (-128, 127), "uint8": (0, 255), "int16": (-32768, 32767)}


@dataclass(frozen=True)
class Codes:
    """The codes of a tensor counted from its zero point: from `low` to `high`."""

    low: int
    high: int

    @staticmethod
    def of(dtype: str, zero_point: int, narrow: bool = False) -> Codes:
        """Those of a dtype; narrow leaves out the lowest of a signed one, as weights do."""
        low, high = _LIMITS[dtype]
        return Codes(low + (1 if narrow and low < 0 else 0) - zero_point, high - zero_point)


def fake(x: Array, step: Any, codes: Codes) -> tuple[Array, Callable[[Array], tuple[Array, Array]]]:
    """x as its codes have it, and: gradient → (x's gradient, ∂/∂log step before it is summed to the step's shape)."""
    v = x / step
    q = np.rint(v)
    c = np.clip(q, codes.low, codes.high)

    def back(g: Array) -> tuple[Array, Array]:
        inside = q == c
        gx = g * inside
        return gx, (g * c - gx * v) * step

    return c * step, back
