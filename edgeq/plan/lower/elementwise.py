"""ADD, SUB, MUL and the float-only DIV, MAXIMUM, MINIMUM, with broadcasting."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from edgeq.errors import CheckError
from edgeq.graph import Op, Tensor
from edgeq.kernels.words import elementwise as ew
from edgeq.kernels.words.instruction import DOUBLE, FLOAT, SINGLE
from edgeq.plan.builder import Builder, itemsize
from edgeq.plan.delegation import takes
from edgeq.plan.multiplier import f32, float_bounds, quantize_multiplier
from edgeq.plan.types import Words

VECTOR = 16
"""Elements that LiteRT's int16 ADD takes at a time; what is left over is rounded otherwise (docs/exactness.md)."""

OPERATIONS = {
    "ADD": ew.SUM,
    "SUB": ew.DIFFERENCE,
    "MUL": ew.PRODUCT,
    "DIV": ew.QUOTIENT,
    "MAXIMUM": ew.MAXIMUM,
    "MINIMUM": ew.MINIMUM,
}


@dataclass(frozen=True)
class Dim:
    """Output extent and the element strides of both inputs (0 where an input is repeated)."""

    size: int
    a: int
    b: int


def broadcast(b: Builder, op: Op) -> list[Dim]:
    """The output's dimensions with those merged that lie together in both inputs; checks the output's shape."""
    shapes = [b.tensor(op, 0).shape, b.tensor(op, 1).shape]
    try:
        out = np.broadcast_shapes(*shapes)
    except ValueError:
        raise CheckError(f"{b.where(op)}: shapes {list(shapes[0])} and {list(shapes[1])} do not broadcast") from None
    b.expect_shape(op, tuple(out))
    strides = []
    for shape in shapes:
        padded = (1,) * (len(out) - len(shape)) + shape
        step, row = 1, []
        for size in reversed(padded):
            row.append(0 if size == 1 else step)
            step *= size
        strides.append(row[::-1])
    dims: list[Dim] = []
    for size, sa, sb in zip(out, *strides, strict=True):
        if size == 1:
            continue
        if dims and dims[-1].a == sa * size and dims[-1].b == sb * size:
            dims[-1] = Dim(dims[-1].size * size, sa, sb)
        else:
            dims.append(Dim(size, sa, sb))
    return dims or [Dim(1, 0, 0)]


def emit(b: Builder, op: Op, kernel: str, words: Words) -> None:
    """The kernel over the whole output: flat if one run covers it, else rows, with leading dimensions unrolled."""
    dims = broadcast(b, op)
    a, c, y = b.read(op, 0), b.read(op, 1), b.write(op)
    size_a, size_y = itemsize(b.tensor(op, 0)), itemsize(b.output(op))
    if len(dims) == 1:
        flat: Words = {ew.FLAT: 1, ew.A_STEP: dims[0].a, ew.B_STEP: dims[0].b, ew.A: a, ew.B: c, ew.Y: y}
        b.emit(kernel, dims[0].size, {**words, **flat})
        return
    inner, outer = dims[-1], dims[-4:-1]
    outer = [Dim(1, 0, 0)] * (3 - len(outer)) + outer
    head = dims[:-4]
    units = math.prod(d.size for d in outer)
    rows: Words = {
        ew.FLAT: 0, ew.INNER: inner.size, ew.A_STEP: inner.a, ew.B_STEP: inner.b, ew.D1: outer[1].size, ew.D2: outer[2].size,
        ew.A0: outer[0].a, ew.A1: outer[1].a, ew.A2: outer[2].a, ew.B0: outer[0].b, ew.B1: outer[1].b, ew.B2: outer[2].b,
    }  # fmt: skip
    for k, index in enumerate(np.ndindex(*(d.size for d in head))):
        at_a = sum(i * d.a for i, d in zip(index, head, strict=True)) * size_a
        at_b = sum(i * d.b for i, d in zip(index, head, strict=True)) * size_a
        at_y = k * units * inner.size * size_y
        b.emit(kernel, units, {**words, **rows, ew.A: a.at(at_a), ew.B: c.at(at_b), ew.Y: y.at(at_y)})


def binary(b: Builder, op: Op) -> None:
    """y = x0 ∘ x1, both of the output's type."""
    x, z, y = b.tensor(op, 0), b.tensor(op, 1), b.output(op)
    if not (x.dtype == z.dtype == y.dtype):
        raise CheckError(f"{b.where(op)} mixes {x.dtype}, {z.dtype} and {y.dtype}; one type is expected")
    activation = op.options.values.get("fused_activation_function", 0) if op.options is not None else 0
    if y.dtype == "float32":
        low, high = float_bounds(activation)
        emit(b, op, "binary_f32", {ew.OPERATION: OPERATIONS[op.code], ew.LO: float(low), ew.HI: float(high)})
        return
    if y.dtype not in ("int8", "uint8", "int16") or op.code not in ("ADD", "SUB", "MUL"):
        raise b.unsupported(op, f"on {y.dtype}")
    low_q, high_q = b.bounds(y, activation)
    words: Words = {
        ew.LO: low_q, ew.HI: high_q, ew.ZERO_A: b.zero_point(x), ew.ZERO_B: b.zero_point(z), ew.ZERO_Y: b.zero_point(y),
        ew.OPERATION: OPERATIONS[op.code],
    }  # fmt: skip
    if op.code == "MUL":
        multiply(b, op, x, z, y, words)
    elif not takes(b, op):
        add_double(b, op, x, z, y, words)
    else:
        add_once(b, op, x, z, y, words)


def multiply(b: Builder, op: Op, x: Tensor, z: Tensor, y: Tensor, words: Words) -> None:
    """mul.cc takes the real multiplier in float32, unlike every other operation."""
    scale = f32(f32(b.scale(x) * b.scale(z)) / b.scale(y))
    if takes(b, op):
        emit(b, op, "mul_u8", {**words, ew.MODE: FLOAT, ew.MY: float(scale)})
        return
    q, shift = quantize_multiplier(float(scale))
    emit(b, op, "binary_s16" if y.dtype == "int16" else "mul_u8", {**words, ew.MODE: DOUBLE, ew.MY: q, ew.SY: shift})


def add_double(b: Builder, op: Op, x: Tensor, z: Tensor, y: Tensor, words: Words) -> None:
    """add.cc and sub.cc: both inputs to twice the larger scale over 2^LEFT, added, brought back."""
    left = 15 if y.dtype == "int16" else 20
    s1, s2, s_out = float(b.scale(x)), float(b.scale(z)), float(b.scale(y))
    twice = 2 * max(s1, s2)
    (ma, sa), (mb, sb) = quantize_multiplier(s1 / twice), quantize_multiplier(s2 / twice)
    my, sy = quantize_multiplier(twice / ((1 << left) * s_out))
    words |= {
        ew.MODE: DOUBLE, ew.LEFT: left, ew.MA: ma, ew.SA: sa, ew.MB: -mb if op.code == "SUB" else mb, ew.SB: sb,
        ew.MY: my, ew.SY: sy,
    }  # fmt: skip
    if y.dtype != "int16":
        emit(b, op, "add_u8", words)
        return
    vector = y.size // VECTOR * VECTOR
    if not (b.xnnpack and op.code == "ADD" and same_shape(x, z)) or vector == 0:
        emit(b, op, "binary_s16", words)
        return
    broadcast(b, op)
    a, c, out = b.read(op, 0), b.read(op, 1), b.write(op)
    flat: Words = {**words, ew.FLAT: 1, ew.A_STEP: 1, ew.B_STEP: 1}
    b.emit("binary_s16", vector, {**flat, ew.MODE: SINGLE, ew.A: a, ew.B: c, ew.Y: out})
    rest = {ew.A: a.at(2 * vector), ew.B: c.at(2 * vector), ew.Y: out.at(2 * vector)}
    b.emit("binary_s16", y.size - vector, {**flat, **rest})


def same_shape(x: Tensor, z: Tensor) -> bool:
    """Whether nothing is broadcast: equal shapes but for leading ones."""
    rank = max(len(x.shape), len(z.shape))
    return (1,) * (rank - len(x.shape)) + x.shape == (1,) * (rank - len(z.shape)) + z.shape


def add_once(b: Builder, op: Op, x: Tensor, z: Tensor, y: Tensor, words: Words) -> None:
    """XNNPACK xnn_init_qs8_add_minmax_params: the two ratios as multipliers of about 20 bits, one rounding, half up."""
    ratio_a, ratio_b = float(f32(b.scale(x) / b.scale(y))), float(f32(b.scale(z) / b.scale(y)))
    largest = max(ratio_a, ratio_b)
    shift = 20 - (math.frexp(largest)[1] - 1)
    ma, mb = int(np.rint(ratio_a * 2.0**shift)), int(np.rint(ratio_b * 2.0**shift))
    words |= {ew.MODE: FLOAT, ew.MA: ma, ew.MB: -mb if op.code == "SUB" else mb, ew.SY: shift}
    emit(b, op, "add_u8", words)


LOWERINGS = dict.fromkeys(OPERATIONS, binary)
