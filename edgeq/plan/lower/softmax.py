"""SOFTMAX along the last axis."""

from __future__ import annotations

import numpy as np

from edgeq.errors import CheckError
from edgeq.graph import Op
from edgeq.kernels.words import softmax as sw
from edgeq.plan.builder import Builder
from edgeq.plan.multiplier import quantize_multiplier
from edgeq.plan.tables import interpolation_table, softmax_exponentials, softmax_float_exponentials
from edgeq.plan.types import Words


def softmax(b: Builder, op: Op) -> None:
    """Input of any rank ≥ 1; 8-bit outputs have scale 1/256, int16 ones 2^-15."""
    x, y = b.tensor(op, 0), b.output(op)
    if not x.shape or x.size == 0:
        raise CheckError(
            f"{b.where(op)}: input has shape {list(x.shape)}, at least one dimension and element is expected"
        )
    b.expect_shape(op, x.shape)
    if x.dtype != y.dtype:
        raise b.unsupported(op, f"from {x.dtype} to {y.dtype}")
    beta = float(op.options.beta) if op.options is not None else 1.0
    n = x.shape[-1]
    rows = x.size // n
    if x.dtype == "float32":
        b.emit("softmax_f32", rows, {sw.N: n, sw.BETA: beta, sw.X: b.read(op, 0), sw.Y: b.write(op)})
        return
    expected = {"int8": (1 / 256, 0), "uint8": (1 / 256, 0), "int16": (1 / 32768, 0)}.get(x.dtype)
    if expected is None:
        raise b.unsupported(op, f"on {x.dtype}")
    if not np.isclose(float(b.scale(y)), expected[0], rtol=1e-3) or b.zero_point(y) != expected[1]:
        raise CheckError(
            f"{b.where(op)}: output has scale {float(b.scale(y)):g}; {expected[0]:g} and the lowest zero point are expected"
        )
    scale = float(b.scale(x))
    if x.dtype == "int16":
        q, shift = quantize_multiplier(scale * beta / (10.0 / 65535.0))
        tables: Words = {
            sw.TABLE: b.constant(interpolation_table(np.exp, -10.0, 0.0)),
            sw.TABLE2: b.constant(interpolation_table(lambda v: 1.0 / (1.0 + v), 0.0, 1.0)),
        }
        b.emit(
            "softmax_s16",
            rows,
            {**tables, sw.N: n, sw.MULTIPLIER: q, sw.SHIFT: shift, sw.X: b.read(op, 0), sw.Y: b.write(op)},
        )
    elif b.xnnpack:
        table = b.constant(softmax_float_exponentials(scale, beta))
        words: Words = {sw.N: n, sw.TABLE: table, sw.MODE: sw.FLOAT_TABLE, sw.BETA: float(b.scale(y))}
        b.emit("softmax_u8", rows, {**words, sw.X: b.read(op, 0), sw.Y: b.write(op)})
    else:
        table = b.constant(softmax_exponentials(scale, beta))
        b.emit(
            "softmax_u8", rows, {sw.N: n, sw.TABLE: table, sw.MODE: sw.FIXED, sw.X: b.read(op, 0), sw.Y: b.write(op)}
        )


LOWERINGS = {"SOFTMAX": softmax}
