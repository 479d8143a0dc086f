"""MEAN, SUM and other reductions over any axes: the reduced ones are brought together first where they do not lie so."""

from __future__ import annotations

import math

import numpy as np

from edgeq.graph import Op, Tensor
from edgeq.kernels.words import reduce as rw
from edgeq.kernels.words.instruction import DOUBLE, FLOAT
from edgeq.plan.builder import Builder, itemsize
from edgeq.plan.delegation import takes
from edgeq.plan.lower.slices import axis_of, numbers
from edgeq.plan.multiplier import f32, quantize_multiplier
from edgeq.plan.types import KINDS, Ref, Words
from edgeq.plan.window import permuted, same_type
from edgeq.records import dataclass

MAX_REDUCED = 1 << 23
"""8-bit values whose sum surely fits int32."""

SUFFIX = {"float32": "f32", "int8": "u8", "uint8": "u8", "int16": "s16"}
OPERATIONS = {
    "SUM": rw.ADD,
    "REDUCE_PROD": rw.MULTIPLY,
    "REDUCE_MAX": rw.GREATEST,
    "REDUCE_MIN": rw.LEAST,
    "REDUCE_ANY": rw.GREATEST,
    "REDUCE_ALL": rw.LEAST,
}


@dataclass(frozen=True)
class Reduction:
    """The input seen as (outer, reduced, inner)."""

    source: Ref
    reduced: int
    inner: int

    @property
    def words(self) -> Words:
        """What every kernel needs."""
        return {rw.REDUCED: self.reduced, rw.INNER: self.inner, rw.X: self.source}


def prepared(b: Builder, op: Op) -> Reduction:
    """The input with the axes of input 1 together; derives the output's shape."""
    x, rank = b.tensor(op, 0), len(b.tensor(op, 0).shape)
    axes = sorted({axis_of(b, op, a, rank) for a in numbers(b, op, 1)})
    keep = op.options is not None and bool(op.options.values.get("keep_dims", False))
    b.expect_shape(op, tuple(1 if i in axes else d for i, d in enumerate(x.shape) if keep or i not in axes))
    if x.size == 0:
        raise b.unsupported(op, f"on an empty {x.dtype}{list(x.shape)}")
    wide = [i for i in range(rank) if x.shape[i] != 1]
    places = [k for k, i in enumerate(wide) if i in axes]
    reduced, source = math.prod(x.shape[a] for a in axes), b.read(op, 0)
    if places == list(range(places[0], places[0] + len(places)) if places else []):
        behind = wide[places[-1] + 1 :] if places else []
        return Reduction(source, reduced, math.prod(x.shape[i] for i in behind))
    moved = b.block(x.size * itemsize(x))
    permuted(b, source, moved, x.shape, [i for i in range(rank) if i not in axes] + axes, itemsize(x))
    return Reduction(moved, reduced, 1)


def ends(b: Builder, x: Tensor, y: Tensor) -> Words:
    """Zero points, and what the results are clamped to."""
    low, high = b.bounds(y)
    return {rw.ZERO_X: b.zero_point(x), rw.ZERO_Y: b.zero_point(y), rw.LO: low, rw.HI: high}


def by_float(b: Builder, x: Tensor, y: Tensor, count: int, m: np.float32) -> Words:
    """The sum of `count` values by m, in float32 about the middle of the bytes."""
    centre = 128 if x.dtype == "int8" else 0
    bias = f32(f32(b.zero_point(y) - centre) - f32(f32(count * (b.zero_point(x) - centre)) * m))
    return {rw.MODE: FLOAT, rw.MULTIPLIER: m, rw.BIAS: bias, rw.CENTRE: centre}


def mean(b: Builder, op: Op) -> None:
    """MEAN over the axes of input 1 (k,), with keep_dims."""
    x, r = b.tensor(op, 0), prepared(b, op)
    y = b.output(op)
    if x.dtype != y.dtype or x.dtype not in SUFFIX:
        raise b.unsupported(op, f"from {x.dtype} to {y.dtype}")
    if r.reduced > MAX_REDUCED:
        raise b.unsupported(op, f"over {r.reduced} values, at most {MAX_REDUCED} are expected")
    words = r.words
    if x.dtype == "float32":
        words |= {rw.DIVISOR: r.reduced}
    else:
        words |= ends(b, x, y)
        s_in, s_out = b.scale(x), b.scale(y)
        if takes(b, op):
            words |= by_float(b, x, y, r.reduced, f32(f32(s_in / s_out) * f32(f32(1) / f32(r.reduced))))
        else:
            q, shift = quantize_multiplier(float(s_in) / float(s_out))
            bits = min(r.reduced.bit_length() - 1, 32, 31 + shift)  # reference_ops::QuantizedMeanOrSum
            words |= {rw.MODE: DOUBLE, rw.MULTIPLIER: (q << bits) // r.reduced, rw.SHIFT: shift - bits}
    b.emit(f"mean_{SUFFIX[x.dtype]}", y.size, {**words, rw.Y: b.write(op)})


def quantized_sum(b: Builder, op: Op) -> None:
    """SUM of 8 and 16 bits: in LiteRT by a float32 factor, in the reference by a fixed-point one; the mean's kernels."""
    x, r, y = b.tensor(op, 0), prepared(b, op), b.output(op)
    if r.reduced > MAX_REDUCED:
        raise b.unsupported(op, f"over {r.reduced} values, at most {MAX_REDUCED} are expected")
    words = r.words | ends(b, x, y)
    m = f32(b.scale(x) / b.scale(y))
    if b.xnnpack:
        words |= by_float(b, x, y, r.reduced, m)
    else:
        q, shift = quantize_multiplier(float(m))
        words |= {rw.MODE: DOUBLE, rw.MULTIPLIER: q, rw.SHIFT: shift}
    b.emit(f"mean_{SUFFIX[x.dtype]}", y.size, {**words, rw.Y: b.write(op)})


def reduce_any(b: Builder, op: Op) -> None:
    """SUM, REDUCE_PROD, REDUCE_MAX, REDUCE_MIN, REDUCE_ANY, REDUCE_ALL."""
    x = b.tensor(op, 0)
    if op.code == "SUM" and x.dtype == b.output(op).dtype and x.dtype in ("int8", "uint8", "int16"):
        quantized_sum(b, op)
        return
    r = prepared(b, op)
    y = b.output(op)
    same_type(b, op, x, y)
    boolean = op.code in ("REDUCE_ANY", "REDUCE_ALL")
    extreme = op.code in ("REDUCE_MAX", "REDUCE_MIN")
    types = {"bool"} if boolean else {"float32", "int32", "int64"} | ({"int8", "uint8", "int16"} if extreme else set())
    if x.dtype not in types:
        raise b.unsupported(op, f"on {x.dtype}")
    if op.code == "SUM" and x.dtype == "float32":
        b.emit("mean_f32", y.size, {**r.words, rw.DIVISOR: 1, rw.Y: b.write(op)})
        return
    words: Words = {rw.OPERATION: OPERATIONS[op.code], rw.KIND: KINDS[x.dtype]}
    b.emit("reduce_any", y.size, {**r.words, **words, rw.Y: b.write(op)})


LOWERINGS = {"MEAN": mean, **dict.fromkeys(OPERATIONS, reduce_any)}
