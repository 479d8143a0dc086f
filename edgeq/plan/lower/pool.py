"""AVERAGE_POOL_2D, MAX_POOL_2D and L2_POOL_2D."""

from __future__ import annotations

from edgeq.errors import CheckError
from edgeq.graph import Activation, Op
from edgeq.kernels.words import pool as pw
from edgeq.plan.builder import Builder
from edgeq.plan.multiplier import float_bounds
from edgeq.plan.types import Words
from edgeq.plan.window import axis, image

SUFFIX = {"float32": "f32", "int8": "u8", "uint8": "u8", "int16": "s16"}


def pool_2d(b: Builder, op: Op) -> None:
    """Input (n, h, w, c); windows over the elements that exist; input and output share scale and zero point."""
    x, y = b.tensor(op, 0), b.output(op)
    n, h, width, c = image(b, op, x)
    o = op.options
    assert o is not None
    rows = axis(b, op, h, o.filter_height, o.stride_h, 1, o.padding)
    columns = axis(b, op, width, o.filter_width, o.stride_w, 1, o.padding)
    b.expect_shape(op, (n, rows.out, columns.out, c))
    if x.dtype != y.dtype or x.dtype not in SUFFIX:
        raise b.unsupported(op, f"from {x.dtype} to {y.dtype}")
    low: float
    high: float
    if x.dtype == "float32":
        low, high = (float(v) for v in float_bounds(o.fused_activation_function))
    else:
        if b.scale(x) != b.scale(y) or b.zero_point(x) != b.zero_point(y):
            raise CheckError(f"{b.where(op)}: input and output differ in scale or zero point; pools need them equal")
        low, high = b.bounds(y, o.fused_activation_function)
    kernel = ("average" if op.code == "AVERAGE_POOL_2D" else "maximum") + "_" + SUFFIX[x.dtype]
    words: Words = {
        pw.IN_H: h, pw.IN_W: width, pw.C: c, pw.OUT_H: rows.out, pw.OUT_W: columns.out, pw.KH: rows.window, pw.KW: columns.window,
        pw.SH: rows.stride, pw.SW: columns.stride, pw.TOP: rows.before, pw.LEFT: columns.before,
        pw.CENTRE: 128 if x.dtype == "int8" else 0, pw.LO: low, pw.HI: high,
    }  # fmt: skip
    b.emit(kernel, n * rows.out * columns.out, {**words, pw.X: b.read(op, 0), pw.Y: b.write(op)})


def l2_pool_2d(b: Builder, op: Op) -> None:
    """L2_POOL_2D, float32: the root of the mean of squares."""
    from edgeq.plan.lower import compose  # few models need it

    x, o = b.tensor(op, 0), op.options
    assert o is not None
    if x.dtype != "float32" or b.output(op).dtype != "float32":
        raise b.unsupported(op, f"from {x.dtype} to {b.output(op).dtype}")
    n, h, width, c = image(b, op, x)
    rows = axis(b, op, h, o.filter_height, o.stride_h, 1, o.padding)
    columns = axis(b, op, width, o.filter_width, o.stride_w, 1, o.padding)
    y = b.expect_shape(op, (n, rows.out, columns.out, c))
    squares = compose.step(b, "SQUARE", op.inputs[:1], x.shape)
    means = compose.step(b, "AVERAGE_POOL_2D", (squares,), y.shape, options="Pool2DOptions",
                         **{**o.values, "fused_activation_function": Activation.NONE})  # fmt: skip
    clamp = {Activation.RELU6: "RELU6", Activation.RELU_N1_TO_1: "RELU_N1_TO_1"}.get(o.fused_activation_function)
    if clamp is None:
        compose.last(b, "SQRT", (means,), op.outputs[0])
    else:
        compose.last(b, clamp, (compose.step(b, "SQRT", (means,), y.shape),), op.outputs[0])


LOWERINGS = {"L2_POOL_2D": l2_pool_2d, "AVERAGE_POOL_2D": pool_2d, "MAX_POOL_2D": pool_2d}
