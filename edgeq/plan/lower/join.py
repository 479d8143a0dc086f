"""Several tensors into one: CONCATENATION and PACK."""

from __future__ import annotations

import math

import numpy as np

from edgeq.errors import CheckError
from edgeq.graph import Op, Tensor
from edgeq.kernels.words import unary as uw
from edgeq.plan.builder import Builder, itemsize
from edgeq.plan.lower.slices import axis_of
from edgeq.plan.multiplier import f32, half_away
from edgeq.plan.types import Ref
from edgeq.plan.window import copy, same_scale, same_type


def rescaled(b: Builder, op: Op, k: int, y: Tensor) -> Ref:
    """Input k in the output's scale: uint8 may differ (reference_ops::ConcatenationWithScaling), other types may not.

    int16 may, too, but its numbers move as they are: so do both runtimes.
    """
    x = b.tensor(op, k)
    same_type(b, op, x, y)
    if x.dtype == "int16":
        return b.read(op, k)
    if x.dtype != "uint8" or (b.scale(x) == b.scale(y) and b.zero_point(x) == b.zero_point(y)):
        same_scale(b, op, x, y)
        return b.read(op, k)
    scale = f32(b.scale(x) * f32(f32(1) / b.scale(y)))
    v = np.arange(256, dtype=np.float32) * scale + f32(-f32(b.zero_point(x)) * scale)
    q = half_away(v).astype(np.int64) + b.zero_point(y)
    target = b.block(x.size)
    table = b.constant(np.clip(q, 0, 255).astype(np.uint8))
    b.emit("table_u8", x.size, {uw.X: b.read(op, k), uw.Y: target, uw.TABLE: table})
    return target


def joined(b: Builder, op: Op, shapes: list[tuple[int, ...]], axis: int) -> None:
    """The inputs, seen under these shapes, behind one another along an axis of the output."""
    y = b.output(op)
    size, target, at = itemsize(y), b.write(op), 0
    outer, tail = math.prod(shapes[0][:axis]), math.prod(shapes[0][axis + 1 :]) * size
    pitch = sum(s[axis] for s in shapes) * tail
    for k, shape in enumerate(shapes):
        run = shape[axis] * tail
        if run and outer:
            copy(b, rescaled(b, op, k, y), target.at(at), (outer,), (run,), (pitch,), run)
        at += run


def concatenation(b: Builder, op: Op) -> None:
    """CONCATENATION along one axis."""
    shapes = [b.tensor(op, k).shape for k in range(len(op.inputs))]
    o = op.options
    if o is not None and o.fused_activation_function:
        raise b.unsupported(op, "with a fused activation")
    axis = axis_of(b, op, o.axis if o is not None else 0, len(shapes[0]))
    for s in shapes[1:]:
        if len(s) != len(shapes[0]) or s[:axis] + s[axis + 1 :] != shapes[0][:axis] + shapes[0][axis + 1 :]:
            raise CheckError(f"{b.where(op)}: {list(s)} does not go behind {list(shapes[0])} along axis {axis}")
    b.expect_shape(op, (*shapes[0][:axis], sum(s[axis] for s in shapes), *shapes[0][axis + 1 :]))
    joined(b, op, shapes, axis)


def pack(b: Builder, op: Op) -> None:
    """PACK: equal shapes along a new axis."""
    shapes = [b.tensor(op, k).shape for k in range(len(op.inputs))]
    axis = axis_of(b, op, op.options.axis if op.options is not None else 0, len(shapes[0]) + 1)
    if len(set(shapes)) > 1:
        raise CheckError(f"{b.where(op)}: inputs of shapes {sorted(map(list, set(shapes)))}, equal ones are expected")
    b.expect_shape(op, (*shapes[0][:axis], len(shapes), *shapes[0][axis:]))
    for k in range(len(op.inputs)):
        same_scale(b, op, b.tensor(op, k), b.output(op))
    joined(b, op, [(*s[:axis], 1, *s[axis:]) for s in shapes], axis)


LOWERINGS = {"CONCATENATION": concatenation, "PACK": pack}
