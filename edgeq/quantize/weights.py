"""Weights and biases of an integer layer.

A layer's accumulator counts in units of s_in · s_w[c], so its bias does too, and its result is the accumulator times
M[c] = s_in · s_w[c] / s_out. Both runtimes want M in a range: what is far below 2⁻³² they take for 0, and XNNPACK
refuses 256 and more.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.errors import QuantizeError
from edgeq.quantmod import QuantMod
from edgeq.records import dataclass

Array = npt.NDArray[Any]

INT32_MAX = 2**31 - 1
WIDE_ROOM = 2**38
"""Of an int64 bias: sums are multiplied by 16 bits of M, and the product has 63."""
LEAST_MULTIPLIER = 2.0**-24
"""Of M: finer weights would change nothing that the output's scale can show."""
MOST_MULTIPLIER = 255.0
"""Of M: XNNPACK's convolutions want less than 256."""


WIDENED = 1 + 2.0**-23
"""A scale that was too small is the least that will do, rounded up to float32."""


@dataclass(frozen=True, eq=False)
class Coded:
    """A constant in integers. data: the codes; scale: (k,) float32; axis: of the scales."""

    data: Array
    scale: Array
    axis: int = 0


def quantize_weights(
    w: Array,
    axis: int,
    bias: Array | None,
    s_in: float,
    s_out: float,
    per_channel: bool = True,
    wide: bool = False,
    known: Coded | None = None,
) -> tuple[Coded, Coded | None]:
    """Symmetric int8 weights in [−127, 127], and the int32 bias (int64 if `wide`, for int16 activations) in units of
    s_in · s_w.

    w: float32, output channels along `axis`; bias: (channels,) float32 or None. Scales come from each channel's largest
    weight; one whose bias would not fit int32 together with its sums, or whose multiplier would vanish, gets a larger
    scale (its weights are then too small to matter beside its bias or its output's steps). known: codes of these weights
    made before, which are taken where their scales are not too small.
    """
    channels = w.shape[axis]
    least = np.full(channels, LEAST_MULTIPLIER * s_out / s_in)
    if bias is not None:
        if not np.isfinite(bias).all():
            raise QuantizeError("weights and biases must be finite, found NaN or infinity")
        # What the products of a channel can add up to is kept free, as long as that leaves the bias half of int32.
        room = WIDE_ROOM if wide else max(INT32_MAX - (w.size // max(channels, 1)) * 127 * 255, 2**30)
        least = np.maximum(least, np.abs(bias.astype(np.float64)) / (s_in * room))
    if known is not None and (known.axis, len(known.scale)) == ((axis, channels) if per_channel else (0, 1)):
        bounds = np.maximum(least if per_channel else least.max(keepdims=True), 2 * LEAST_MULTIPLIER)
        small = known.scale < bounds
        if per_channel and small.any():
            known = _widened(known, np.where(small, bounds * WIDENED, known.scale).astype(np.float32), small)
        if per_channel or not small.any():
            return known, None if bias is None else quantize_bias(bias, s_in, known.scale, wide)
    top = np.maximum(largest(w, axis).astype(np.float64), least * 127.0)
    if not per_channel:
        top = np.full(channels, top.max())
    q = QuantMod.from_range(-top, top, 8, symmetric=True, narrow=True, axis=axis)
    scale = np.asarray(q.scale, np.float32)
    weights = Coded(q.quantize(w), scale if per_channel else scale[:1], axis if per_channel else 0)
    return weights, None if bias is None else quantize_bias(bias, s_in, weights.scale, wide)


def _widened(coded: Coded, scale: Array, which: Array) -> Coded:
    """The same weights at other scales (channels,) in the channels `which`; the codes of all others stay as they are."""
    shape = [1] * coded.data.ndim
    shape[coded.axis] = -1
    share = (coded.scale.astype(np.float64) / scale).reshape(shape)
    codes = np.where(which.reshape(shape), np.rint(coded.data * share), coded.data)
    return Coded(codes.astype(np.int8), scale, coded.axis)


def largest(w: Array, axis: int) -> Array:
    """The largest magnitude of each channel, (channels,)."""
    others = tuple(i for i in range(w.ndim) if i != axis % w.ndim)
    top = np.maximum(w.max(axis=others), -w.min(axis=others)) if w.size else np.zeros(w.shape[axis], np.float32)
    if not np.isfinite(top).all():
        raise QuantizeError("weights and biases must be finite, found NaN or infinity")
    return np.asarray(top)


def quantize_bias(bias: Array, s_in: float, s_w: Array, wide: bool = False) -> Coded:
    """(channels,) real biases as int32, or int64, in units of s_in · s_w, s_w (channels,) or (1,); saturating."""
    scale = (np.float32(s_in) * s_w).astype(np.float32)
    codes = np.rint(bias.astype(np.float64) / (float(np.float32(s_in)) * s_w.astype(np.float64)))
    if wide:
        return Coded(np.clip(codes, -WIDE_ROOM, WIDE_ROOM).astype(np.int64), scale)
    return Coded(np.clip(codes, -INT32_MAX, INT32_MAX).astype(np.int32), scale)
