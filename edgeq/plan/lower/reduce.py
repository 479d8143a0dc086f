"""MEAN over any axes: the reduced ones are brought together first where they do not lie so."""

from __future__ import annotations

import math

from edgeq.errors import CheckError
from edgeq.graph import Op
from edgeq.kernels.words import reduce as rw
from edgeq.kernels.words.instruction import DOUBLE, FLOAT
from edgeq.plan.builder import Builder, itemsize
from edgeq.plan.delegation import takes
from edgeq.plan.multiplier import f32, quantize_multiplier
from edgeq.plan.types import Ref, Words
from edgeq.plan.window import copy

MAX_REDUCED = 1 << 23
"""8-bit values whose sum surely fits int32."""

SUFFIX = {"float32": "f32", "int8": "u8", "uint8": "u8", "int16": "s16"}


def mean(b: Builder, op: Op) -> None:
    """Input of any rank, axes (k,) int32, keep_dims."""
    x, y = b.tensor(op, 0), b.output(op)
    given = b.constant_value(op, 1, "int32").reshape(-1).tolist()
    rank = len(x.shape)
    if any(not -rank <= a < rank for a in given):
        raise CheckError(f"{b.where(op)}: axes {given} of a tensor with {rank} dimensions")
    axes = sorted({a % rank for a in given})
    keep = op.options is not None and bool(op.options.values.get("keep_dims", False))
    b.expect_shape(op, tuple(1 if i in axes else d for i, d in enumerate(x.shape) if keep or i not in axes))
    if x.dtype != y.dtype or x.dtype not in SUFFIX or x.size == 0:
        raise b.unsupported(op, f"from {x.dtype}{list(x.shape)} to {y.dtype}")
    source = b.read(op, 0)
    first = axes[0] if axes else rank
    if axes and axes != list(range(first, first + len(axes))):
        order = [i for i in range(rank) if i not in axes] + axes
        source, first = transposed(b, source, x.shape, order, itemsize(x)), rank - len(axes)
        shape: tuple[int, ...] = tuple(x.shape[i] for i in order)
    else:
        shape = x.shape
    reduced = math.prod(x.shape[a] for a in axes)
    if reduced > MAX_REDUCED:
        raise b.unsupported(op, f"over {reduced} values, at most {MAX_REDUCED} are expected")
    inner = math.prod(shape[first + len(axes) :])
    words: Words = {rw.REDUCED: reduced, rw.INNER: inner}
    if x.dtype != "float32":
        low, high = b.bounds(y)
        words |= {rw.ZERO_X: b.zero_point(x), rw.ZERO_Y: b.zero_point(y), rw.LO: low, rw.HI: high}
        s_in, s_out = b.scale(x), b.scale(y)
        if takes(b, op):
            centre = 128 if x.dtype == "int8" else 0
            m = f32(f32(s_in / s_out) * f32(f32(1) / f32(reduced)))
            bias = f32(f32(b.zero_point(y) - centre) - f32(f32(reduced * (b.zero_point(x) - centre)) * m))
            words |= {rw.MODE: FLOAT, rw.MULTIPLIER: m, rw.BIAS: bias, rw.CENTRE: centre}
        else:
            q, shift = quantize_multiplier(float(s_in) / float(s_out))
            bits = min(reduced.bit_length() - 1, 32, 31 + shift)  # reference_ops::QuantizedMeanOrSum
            words |= {rw.MODE: DOUBLE, rw.MULTIPLIER: (q << bits) // reduced, rw.SHIFT: shift - bits}
    b.emit(f"mean_{SUFFIX[x.dtype]}", y.size, {**words, rw.X: source, rw.Y: b.write(op)})


def transposed(b: Builder, x: Ref, shape: tuple[int, ...], order: list[int], size: int) -> Ref:
    """A copy with its dimensions in another order."""
    strides = [math.prod(shape[i + 1 :]) * size for i in range(len(shape))]
    out = b.block(math.prod(shape) * size)
    dims = tuple(shape[i] for i in order)
    steps = tuple(math.prod(dims[i + 1 :]) * size for i in range(len(dims)))
    copy(b, x, out, dims, tuple(strides[i] for i in order), steps, size)
    return out


LOWERINGS = {"MEAN": mean}
