"""From scales to the integers that kernels multiply with. docs/exactness.md says which operation takes which.

Sources: TFLite kernels/internal/quantization_util.cc (QuantizeMultiplier), kernels/kernel_util.cc (activation ranges).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from edgeq.errors import CheckError
from edgeq.graph import Activation, Array

f32 = np.float32


def quantize_multiplier(real: float) -> tuple[int, int]:
    """real ≈ q · 2^(shift − 31), q in [2^30, 2^31) or 0; refuses what no shift can express."""
    if real == 0.0:
        return 0, 0
    if not math.isfinite(real):
        raise CheckError(f"the ratio of scales is {real:g}, a finite number is expected")
    fraction, shift = math.frexp(real)
    q = math.floor(fraction * (1 << 31) + 0.5)
    if q == 1 << 31:
        q //= 2
        shift += 1
    if shift < -31:
        return 0, 0
    if shift > 30:
        raise CheckError(f"the ratio of scales is {real:g}, at most 2^30 is expected")
    return q, shift


def quantize_multipliers(real: Array) -> tuple[Array, Array]:
    """(k,) float64 → (k,) int32 mantissas, (k,) int32 shifts."""
    pairs = [quantize_multiplier(float(r)) for r in real]
    return np.array([p[0] for p in pairs], np.int32), np.array([p[1] for p in pairs], np.int32)


def round_half_away(x: float) -> int:
    """C's std::round on a float value."""
    return int(math.copysign(math.floor(abs(x) + 0.5), x))


def half_away(v: Array) -> Array:
    """round_half_away of an array, as float64."""
    wide = v.astype(np.float64)
    found: Array = np.copysign(np.floor(np.abs(wide) + 0.5), wide)
    return found


def activation_bounds(activation: int, scale: float, zero_point: int, low: int, high: int) -> tuple[int, int]:
    """The clamp of a fused activation, in the quantized numbers whose type spans [low, high]."""

    def quantize(value: float) -> int:
        return zero_point + round_half_away(float(f32(value) / f32(scale)))

    if activation == Activation.RELU:
        low = max(low, quantize(0.0))
    elif activation == Activation.RELU6:
        low, high = max(low, quantize(0.0)), min(high, quantize(6.0))
    elif activation == Activation.RELU_N1_TO_1:
        low, high = max(low, quantize(-1.0)), min(high, quantize(1.0))
    return low, max(low, high)


def float_bounds(activation: int) -> tuple[float, float]:
    """The clamp of a fused activation on float32."""
    if activation == Activation.RELU:
        return 0.0, math.inf
    if activation == Activation.RELU6:
        return 0.0, 6.0
    if activation == Activation.RELU_N1_TO_1:
        return -1.0, 1.0
    return -math.inf, math.inf


def float_bits(value: float | np.floating[Any]) -> int:
    """A float32's bit pattern, as an instruction word carries it."""
    return int(np.float32(value).view(np.uint32))
