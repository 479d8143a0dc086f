"""What depends on the order of values along an axis: ARG_MAX, ARG_MIN, TOPK_V2, CUMSUM."""

from __future__ import annotations

import math

from edgeq.errors import CheckError
from edgeq.graph import Op
from edgeq.kernels.words import order as ow
from edgeq.plan.builder import Builder, itemsize
from edgeq.plan.lower.slices import axis_of, numbers
from edgeq.plan.types import KINDS, Words
from edgeq.plan.window import same_type

MAX_AXIS = (1 << 31) - 1


def one_axis(b: Builder, op: Op, k: int, rank: int) -> int:
    """The axis that input k names."""
    given = numbers(b, op, k)
    if len(given) != 1:
        raise CheckError(f"{b.where(op)}: {len(given)} axes, 1 is expected")
    return axis_of(b, op, given[0], rank)


def arg_best(b: Builder, op: Op) -> None:
    """ARG_MAX, ARG_MIN: the first of equals; int32 or int64 out."""
    x = b.tensor(op, 0)
    axis = one_axis(b, op, 1, len(x.shape))
    y = b.expect_shape(op, x.shape[:axis] + x.shape[axis + 1 :])
    if x.dtype not in KINDS or x.dtype in ("float64",) or y.dtype not in ("int32", "int64"):
        raise b.unsupported(op, f"from {x.dtype} to {y.dtype}")
    if x.shape[axis] == 0:
        raise CheckError(f"{b.where(op)}: nothing along axis {axis} of {list(x.shape)}")
    words: Words = {
        ow.N: x.shape[axis], ow.INNER: math.prod(x.shape[axis + 1 :]), ow.KIND: KINDS[x.dtype],
        ow.LEAST: int(op.code == "ARG_MIN"), ow.WIDE: int(y.dtype == "int64"),
    }  # fmt: skip
    b.emit("arg_best", y.size, {**words, ow.X: b.read(op, 0), ow.Y: b.write(op)})


def top_k(b: Builder, op: Op) -> None:
    """TOPK_V2 along the last axis: values, and int32 indices."""
    x = b.tensor(op, 0)
    given = numbers(b, op, 1)
    if len(given) != 1 or not x.shape or not 0 <= given[0] <= x.shape[-1]:
        raise CheckError(f"{b.where(op)}: the greatest {given} of {list(x.shape)}")
    k = given[0]
    shape = (*x.shape[:-1], k)
    same_type(b, op, x, b.expect_shape(op, shape, 0))
    indices = b.expect_shape(op, shape, 1)
    if x.dtype not in KINDS or x.dtype == "float64" or indices.dtype != "int32":
        raise b.unsupported(op, f"from {x.dtype} to {indices.dtype} indices")
    words: Words = {ow.N: x.shape[-1], ow.KIND: KINDS[x.dtype], ow.K: k, ow.RUN: itemsize(x)}
    values, places = b.write(op, 0), b.write(op, 1)
    if k:
        b.emit("top_k", math.prod(x.shape[:-1]), {**words, ow.X: b.read(op, 0), ow.Y: values, ow.INDICES: places})


def cumsum(b: Builder, op: Op) -> None:
    """CUMSUM along the axis of input 1: float32, int32, int64."""
    x, o = b.tensor(op, 0), op.options
    axis = one_axis(b, op, 1, len(x.shape))
    y = b.expect_shape(op, x.shape)
    same_type(b, op, x, y)
    if x.dtype not in ("float32", "int32", "int64"):
        raise b.unsupported(op, f"on {x.dtype}")
    words: Words = {
        ow.N: x.shape[axis], ow.INNER: math.prod(x.shape[axis + 1 :]), ow.KIND: KINDS[x.dtype],
        ow.EXCLUSIVE: int(o is not None and bool(o.exclusive)), ow.REVERSE: int(o is not None and bool(o.reverse)),
    }  # fmt: skip
    target = b.write(op)
    if x.size:
        b.emit("running_sum", x.size // x.shape[axis], {**words, ow.X: b.read(op, 0), ow.Y: target})


LOWERINGS = {"ARG_MAX": arg_best, "ARG_MIN": arg_best, "TOPK_V2": top_k, "CUMSUM": cumsum}
