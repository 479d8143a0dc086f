"""The multipliers and clamps of a layer of products, as instruction words: shared by everything that ends in requantization."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from edgeq.errors import CheckError
from edgeq.graph import Array, Op, Tensor
from edgeq.kernels.words import conv as cw
from edgeq.kernels.words.instruction import DOUBLE, FLOAT, FLOAT64, HALF_UP, REDUCED
from edgeq.plan.builder import Builder
from edgeq.plan.delegation import takes
from edgeq.plan.multiplier import float_bounds, quantize_multipliers
from edgeq.plan.types import Ref, Words


def pad_to(values: Array, n: int) -> Array:
    """A vector with zeros behind."""
    out = np.zeros(n, values.dtype)
    out[: len(values)] = values
    return out


@lru_cache(64)
def packing_order(lanes: int, blocks: int, vectors: int = 4) -> Array:
    """(blocks·vectors·lanes,), read-only: which channel lies in each lane of the vectors that `simd.pack_codes` turns into bytes.

    Lane 4p + e of vector j of four becomes byte 16p + 4j + e of its block; of two (with two of the next row) 8p + 4j + e.
    """
    p, j, e = np.arange(lanes // 4)[:, None], np.arange(vectors)[:, None, None], np.arange(4)
    block = (4 * vectors * p + 4 * j + e).reshape(-1)
    order: Array = (np.arange(blocks)[:, None] * vectors * lanes + block).reshape(-1)
    order.setflags(write=False)
    return order


def ordered(values: Array, n: int, order: Array | None) -> Array:
    """A vector padded to n and brought into packing order, if there is one."""
    padded = pad_to(values, n)
    reordered: Array = padded if order is None else padded[order]
    return reordered


def fused(op: Op) -> int:
    """The activation behind a layer's sums."""
    return op.options.values.get("fused_activation_function", 0) if op.options is not None else 0


def weight_scales(b: Builder, op: Op, w: Tensor, channels: int) -> Array:
    """(channels,) float32 scales of the weights, spread out where there is one for all."""
    if w.quantization is None or len(w.quantization.scale) not in (1, channels):
        found = 0 if w.quantization is None else len(w.quantization.scale)
        raise CheckError(f"{b.where(op)}: weights {w.name!r} have {found} scales, 1 or {channels} are expected")
    scale = w.quantization.scale.astype(np.float32)
    return scale if len(scale) == channels else np.full(channels, scale[0])


def requantize_words(
    b: Builder,
    op: Op,
    x: Tensor,
    w: Tensor,
    y: Tensor,
    channels: int,
    padded: int,
    wide: bool = False,
    order: Array | None = None,
) -> Words:
    """Words FAMILY, MULTIPLIER, LEFT, RIGHT, ZERO_POINT, LO, HI (which conv and depthwise share) for 8- and 16-bit outputs.

    `wide`: the runtimes sum in int64, as they do where an int16 layer has an int64 bias. `order`: see packing_order.
    """
    low, high = b.bounds(y, fused(op))
    words: Words = {cw.LO: low, cw.HI: high, cw.ZERO_POINT: b.zero_point(y)}
    s_in, s_out = b.scale(x), b.scale(y)
    s_w = weight_scales(b, op, w, channels)
    per_tensor = w.quantization is not None and len(w.quantization.scale) == 1
    dense = op.code == "FULLY_CONNECTED"
    exact = np.float64(s_in) * s_w.astype(np.float64) / np.float64(s_out)
    if takes(b, op):
        words[cw.FAMILY] = FLOAT
        words[cw.MULTIPLIER] = b.constant(ordered((s_in * s_w).astype(np.float32) / s_out, padded, order))
        return words
    if b.xnnpack and dense and wide:
        words[cw.FAMILY] = FLOAT64
        words[cw.MULTIPLIER] = b.constant(ordered(exact, padded, order))
        return words
    if per_tensor and (y.dtype == "uint8" or dense):
        # GetQuantizedConvolutionMultipler: the product of the two scales in float32, the quotient in float64.
        exact = (s_in * s_w).astype(np.float64) / np.float64(s_out)
    q, shift = quantize_multipliers(exact)
    if wide:
        reduced = np.where(q < 0x7FFF0000, (q.astype(np.int64) + (1 << 15)) >> 16, 0x7FFF).astype(np.int32)
        words[cw.FAMILY] = REDUCED
        words[cw.MULTIPLIER] = b.constant(ordered(reduced, padded, order))
        words[cw.RIGHT] = b.constant(ordered((15 - shift).astype(np.int32), padded, order))
        return words
    words[cw.MULTIPLIER] = b.constant(ordered(q, padded, order))
    if y.dtype == "int16":
        words[cw.FAMILY] = HALF_UP if b.xnnpack and op.code != "DEPTHWISE_CONV_2D" else DOUBLE
        words[cw.RIGHT] = b.constant(ordered(shift, padded, order))
        return words
    words[cw.FAMILY] = DOUBLE
    words[cw.LEFT] = b.constant(ordered(np.maximum(shift, 0).astype(np.int32), padded, order))
    words[cw.RIGHT] = b.constant(ordered(np.maximum(-shift, 0).astype(np.int32), padded, order))
    return words


def stays_small(b: Builder, op: Op, x: Tensor, w: Tensor, y: Tensor, products: int, bias: Array) -> bool:
    """Whether sums are requantized in float32 and none of them, scaled, can leave an int32 (as hardly any ever does).

    products: 8-bit products that make a sum; bias: what it starts from.
    """
    if not takes(b, op) or w.quantization is None:
        return False
    factors = np.float64(b.scale(x)) * w.quantization.scale.astype(np.float64) / np.float64(b.scale(y))
    most = products * 255.0 * 255.0 + np.abs(bias.astype(np.float64)).max(initial=0)
    return bool(factors.max() * min(most, 2.0**31) < 2.0**31)


def float_limits(b: Builder, op: Op) -> Ref:
    """Two vectors, the lower and the upper clamp of float32 outputs."""
    low, high = float_bounds(fused(op))
    return b.constant(np.repeat(np.array([low, high], np.float32), b.lanes))


_BIASES = {
    "float32": (np.dtype("float32"),),
    "int32": (np.dtype("int32"),),
    "int64": (np.dtype("int64"), np.dtype("int32")),
}
"""What a bias may be that is added in these."""


def bias_values(b: Builder, op: Op, k: int, channels: int, dtype: str) -> Array:
    """(channels,) bias in the dtype that the layer adds it in; zeros where it is left out."""
    if b.optional(op, k) is None:
        return np.zeros(channels, dtype)
    values = b.constant_value(op, k)
    if values.dtype not in _BIASES[dtype] or values.size != channels:
        raise CheckError(f"{b.where(op)}: bias is {values.dtype}{list(values.shape)}, {dtype}[{channels}] is expected")
    return values.reshape(-1).astype(dtype)
