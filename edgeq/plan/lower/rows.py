"""Rows normalized: L2_NORMALIZATION, LOG_SOFTMAX, LOCAL_RESPONSE_NORMALIZATION."""

from __future__ import annotations

import math

import numpy as np

from edgeq.errors import CheckError
from edgeq.graph import Op
from edgeq.kernels.words import rows as rw
from edgeq.plan.builder import Builder
from edgeq.plan.types import Words


def prepared(b: Builder, op: Op) -> tuple[str, int, int]:
    """The type of input and output, the rows and their length."""
    x, y = b.tensor(op, 0), b.output(op)
    if not x.shape or x.size == 0:
        raise CheckError(f"{b.where(op)}: input has shape {list(x.shape)}, a dimension and an element are expected")
    b.expect_shape(op, x.shape)
    if x.dtype != y.dtype:
        raise b.unsupported(op, f"from {x.dtype} to {y.dtype}")
    return x.dtype, math.prod(x.shape[:-1]), x.shape[-1]


def exact_scale(b: Builder, op: Op, scale: float, zero_point: int) -> None:
    """Refuse an output whose quantization the runtimes do not have."""
    y = b.output(op)
    if float(b.scale(y)) != scale or b.zero_point(y) != zero_point:
        raise CheckError(f"{b.where(op)}: the output has scale {float(b.scale(y)):g}, {scale:g} is expected")


def l2_normalization(b: Builder, op: Op) -> None:
    """x / √Σx² along the last axis; 8-bit outputs have scale 1/128 and the middle for zero point."""
    dtype, rows, n = prepared(b, op)
    if op.options is not None and op.options.values.get("fused_activation_function", 0):
        raise b.unsupported(op, "with a fused activation")
    words: Words = {rw.N: n, rw.OPERATION: rw.L2_NORMALIZE}
    if dtype == "float32":
        b.emit("row_f32", rows, {**words, rw.X: b.read(op, 0), rw.Y: b.write(op)})
    elif dtype in ("int8", "uint8"):
        exact_scale(b, op, 1 / 128, 128)
        words |= {rw.ZERO_X: b.zero_point(b.tensor(op, 0)), rw.FOLDED: 7 if dtype == "int8" else 0}
        b.emit("row_u8", rows, {**words, rw.X: b.read(op, 0), rw.Y: b.write(op)})
    else:
        raise b.unsupported(op, f"on {dtype}")


def log_softmax(b: Builder, op: Op) -> None:
    """x − max − log Σ exp(x − max) along the last axis; 8-bit outputs have scale 16/256 and the greatest zero point."""
    dtype, rows, n = prepared(b, op)
    words: Words = {rw.N: n, rw.OPERATION: rw.LOG_SOFTMAX}
    if dtype == "float32":
        b.emit("row_f32", rows, {**words, rw.X: b.read(op, 0), rw.Y: b.write(op)})
        return
    if dtype not in ("int8", "uint8"):
        raise b.unsupported(op, f"on {dtype}")
    exact_scale(b, op, 16 / 256, 255)
    scale = b.scale(b.tensor(op, 0))
    steps = -np.arange(255, -1, -1, dtype=np.float32) * scale
    words |= {
        rw.TABLE: b.constant(np.exp(steps.astype(np.float64)).astype(np.float32)), rw.SCALE: float(scale), rw.ZERO_Y: 255,
    }  # fmt: skip
    b.emit("row_u8", rows, {**words, rw.X: b.read(op, 0), rw.Y: b.write(op)})


def local_response_normalization(b: Builder, op: Op) -> None:
    """x / (bias + alpha · Σ x² of neighbouring channels)^beta, float32."""
    dtype, rows, n = prepared(b, op)
    o = op.options
    assert o is not None
    if dtype != "float32":
        raise b.unsupported(op, f"on {dtype}")
    radius = max(min(int(o.radius), n), 0)
    words: Words = {  # the reference kernel leaves the last neighbour out
        rw.N: n, rw.OPERATION: rw.LOCAL_RESPONSE, rw.RADIUS: radius, rw.BEHIND: radius - 1 + b.xnnpack, rw.ALPHA: float(o.alpha),
        rw.BETA: float(o.beta), rw.BIAS: float(o.bias),
    }  # fmt: skip
    b.emit("row_f32", rows, {**words, rw.X: b.read(op, 0), rw.Y: b.write(op)})


LOWERINGS = {
    "L2_NORMALIZATION": l2_normalization,
    "LOG_SOFTMAX": log_softmax,
    "LOCAL_RESPONSE_NORMALIZATION": local_response_normalization,
}
