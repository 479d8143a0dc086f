"""QUANTIZE and DEQUANTIZE: between float32 and integers, and between integers of two scales."""

from __future__ import annotations

import numpy as np

from edgeq.errors import CheckError
from edgeq.graph import Op
from edgeq.kernels.words import unary as uw
from edgeq.kernels.words.instruction import DOUBLE, FLOAT, FLOAT64, HALF_UP
from edgeq.plan.builder import Builder
from edgeq.plan.delegation import takes
from edgeq.plan.multiplier import f32, quantize_multiplier
from edgeq.plan.tables import multiply_double
from edgeq.plan.types import Words

KIND = {"int8": 0, "uint8": 0, "int16": 1, "int32": 2}
BYTES = (1, 2, 4)
VECTOR_U8, VECTOR_S16 = 16, 8
"""Elements that LiteRT's builtins take at a time; what is left over is rounded otherwise (docs/exactness.md)."""


def quantize(b: Builder, op: Op) -> None:
    """float32 → int8, uint8, int16; or one of these to another."""
    x, y = b.tensor(op, 0), b.output(op)
    b.expect_shape(op, x.shape)
    if y.dtype not in ("int8", "uint8", "int16") or x.dtype not in (*KIND, "float32"):
        raise b.unsupported(op, f"from {x.dtype} to {y.dtype}")
    low, high = b.bounds(y)
    words: Words = {uw.TO: KIND[y.dtype], uw.ZERO_Y: b.zero_point(y), uw.LO: low, uw.HI: high}
    if x.dtype == "float32":
        scale = b.scale(y)
        source, target = b.read(op, 0), b.write(op)
        if not b.xnnpack:
            b.emit("quantize_f32", x.size, {**words, uw.X: source, uw.Y: target, uw.MODE: DOUBLE, uw.SCALE: scale})
            return
        whole = x.size // VECTOR_S16 * VECTOR_S16 if y.dtype == "int16" else x.size
        by = f32(f32(1) / scale)
        b.emit("quantize_f32", whole, {**words, uw.X: source, uw.Y: target, uw.MODE: FLOAT, uw.SCALE: by})
        rest: Words = {uw.X: source.at(4 * whole), uw.Y: target.at(2 * whole)}
        b.emit("quantize_f32", x.size - whole, {**words, **rest, uw.MODE: FLOAT64, uw.SCALE: scale})
        return
    if (
        {x.dtype, y.dtype} <= {"int8", "uint8"}
        and b.scale(x) == b.scale(y)
        and b.zero_point(x) == b.zero_point(y)
        and not b.is_constant(op, 0)
    ):
        b.alias(op)  # the arena holds both types alike
        return
    real = float(b.scale(x)) / float(b.scale(y))
    if takes(b, op) or (not b.xnnpack and x.dtype == y.dtype and x.dtype != "int16"):
        q = np.arange(256, dtype=np.int64) - b.zero_point(x)
        ratio = f32(b.scale(x) / b.scale(y))
        # XNNPACK xnn_init_qs8_cvt_params: an 8.8 multiplier, half up. Its ratio is within 2^-8 and 2^7.
        q = (q * int(np.rint(256 * ratio)) + 128) >> 8 if b.xnnpack else multiply_double(q, real)
        table = np.clip(q + b.zero_point(y), low, high).astype(np.uint8)
        b.emit("table_u8", x.size, {uw.X: b.read(op, 0), uw.Y: b.write(op), uw.TABLE: b.constant(table)})
        return
    m, s = quantize_multiplier(real)
    words |= {uw.FROM: KIND[x.dtype], uw.ZERO_X: b.zero_point(x), uw.M_UP: m, uw.M_DOWN: m, uw.S_UP: s, uw.S_DOWN: s}
    source, target = b.read(op, 0), b.write(op)
    vector = b.xnnpack and x.dtype in ("int8", "uint8") and y.dtype in ("int8", "uint8")
    whole = x.size // VECTOR_U8 * VECTOR_U8 if vector else 0
    b.emit("rescale", whole, {**words, uw.X: source, uw.Y: target, uw.MODE: HALF_UP})
    step_x, step_y = BYTES[KIND[x.dtype]], BYTES[KIND[y.dtype]]
    b.emit(
        "rescale",
        x.size - whole,
        {**words, uw.X: source.at(step_x * whole), uw.Y: target.at(step_y * whole), uw.MODE: DOUBLE},
    )


def dequantize(b: Builder, op: Op) -> None:
    """int8, uint8, int16 → float32; constants (float16 too) are converted when the plan is made."""
    x, y = b.tensor(op, 0), b.output(op)
    b.expect_shape(op, x.shape)
    if y.dtype != "float32":
        raise b.unsupported(op, f"to {y.dtype}")
    if b.is_constant(op, 0) and x.dtype in ("float16", "int8", "uint8", "int16"):
        values = b.constant_value(op, 0)
        if x.dtype != "float16":
            q = x.quantization
            if q is None:
                raise CheckError(f"{b.where(op)}: constant {x.name!r} has no quantization")
            shape = [1] * values.ndim
            if q.per_axis:
                shape[q.axis] = len(q.scale)
            scale, zero = (v.reshape(shape if q.per_axis else (1,) * values.ndim) for v in (q.scale, q.zero_point))
            values = (values.astype(np.int64) - zero).astype(np.float32) * scale.astype(np.float32)
        b.fold(op, values.astype(np.float32))
        return
    if x.dtype not in ("int8", "uint8", "int16"):
        raise b.unsupported(op, f"from {x.dtype}")
    words: Words = {uw.FROM: KIND[x.dtype], uw.ZERO_X: b.zero_point(x), uw.SCALE: b.scale(x)}
    b.emit("dequantize_f32", x.size, {**words, uw.X: b.read(op, 0), uw.Y: b.write(op)})


LOWERINGS = {"QUANTIZE": quantize, "DEQUANTIZE": dequantize}
