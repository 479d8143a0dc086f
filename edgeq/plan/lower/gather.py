"""Values picked or placed by indices, which may be computed: the kernels compare each with its limit."""

from __future__ import annotations

import math

import numpy as np

from edgeq.errors import CheckError
from edgeq.graph import Op, Tensor
from edgeq.kernels.words import gather as gw
from edgeq.kernels.words import move as mw
from edgeq.plan.builder import Builder, itemsize, nbytes
from edgeq.plan.lower.slices import axis_of, numbers
from edgeq.plan.types import KINDS, Words
from edgeq.plan.window import copy, same_type, strides_of


def index_words(b: Builder, op: Op, k: int, limits: tuple[int, ...], strides: tuple[int, ...]) -> Words:
    """Where the tuples of input k lie, and what they may be; constant ones are checked now."""
    t = b.tensor(op, k)
    if t.dtype not in ("int32", "int64"):
        raise b.unsupported(op, f"with indices of {t.dtype}")
    if b.is_constant(op, k):
        values = b.constant_value(op, k).reshape(-1, len(limits))
        if values.size and ((values < 0) | (values >= np.array(limits))).any():
            raise CheckError(f"{b.where(op)}: an index lies outside {list(limits)}")
    return {
        gw.INDICES: b.read(op, k), gw.WIDE: int(t.dtype == "int64"), gw.DEPTH: len(limits),
        gw.LIMITS: b.constant(np.array(limits, np.int64)), gw.STRIDES: b.constant(np.array(strides, np.int64)),
    }  # fmt: skip


def gather(b: Builder, op: Op) -> None:
    """GATHER along an axis, with leading dimensions that data and indices share."""
    x, indices, o = b.tensor(op, 0), b.tensor(op, 1), op.options
    batch_dims = o.batch_dims if o is not None else 0
    axis = axis_of(b, op, o.axis if o is not None else 0, len(x.shape))
    if batch_dims < 0:
        batch_dims += len(indices.shape)
    wrong = not 0 <= batch_dims <= min(axis, len(indices.shape))
    if wrong or x.shape[:batch_dims] != indices.shape[:batch_dims]:
        raise CheckError(
            f"{b.where(op)}: {list(indices.shape)} indices into {list(x.shape)} with {batch_dims} shared dimensions"
        )
    y = b.expect_shape(op, (*x.shape[:axis], *indices.shape[batch_dims:], *x.shape[axis + 1 :]))
    same_type(b, op, x, y)
    picked(b, op, x, y, axis, batch_dims, math.prod(indices.shape[batch_dims:]), 0, 1)


def picked(b: Builder, op: Op, x: Tensor, y: Tensor, axis: int, batch_dims: int, count: int, data: int, k: int) -> None:
    """Emit the gather of `count` indices per batch from input `data` along an axis."""
    run = math.prod(x.shape[axis + 1 :]) * itemsize(x)
    outer, batch = math.prod(x.shape[batch_dims:axis]), math.prod(x.shape[:batch_dims])
    words = index_words(b, op, k, (x.shape[axis],), (run,))
    words |= {gw.COUNT: count, gw.OUTER: outer, gw.STRIDE: x.shape[axis] * run, gw.RUN: run}
    target = b.write(op)
    if run:
        b.emit("gather", batch * outer * count, {**words, gw.X: b.read(op, data), gw.Y: target})


def embedding_lookup(b: Builder, op: Op) -> None:
    """EMBEDDING_LOOKUP: rows of input 1 by the indices of input 0; float32 or bytes, or int8 rows to float32."""
    indices, x = b.tensor(op, 0), b.tensor(op, 1)
    if len(indices.shape) != 1 or len(x.shape) < 2:
        raise CheckError(
            f"{b.where(op)}: {list(indices.shape)} indices into {list(x.shape)}; a vector and a matrix are expected"
        )
    y = b.expect_shape(op, (*indices.shape, *x.shape[1:]))
    if x.dtype != y.dtype:
        raise b.unsupported(op, f"from {x.dtype} to {y.dtype}")
    picked(b, op, x, y, 0, 0, indices.size, 1, 0)


def gather_nd(b: Builder, op: Op) -> None:
    """GATHER_ND: the last dimension of the indices names a place in as many leading dimensions of the data."""
    x, indices = b.tensor(op, 0), b.tensor(op, 1)
    depth = indices.shape[-1] if indices.shape else 0
    if not 1 <= depth <= len(x.shape):
        raise CheckError(f"{b.where(op)}: tuples of {depth} for {len(x.shape)} dimensions")
    y = b.expect_shape(op, (*indices.shape[:-1], *x.shape[depth:]))
    same_type(b, op, x, y)
    count, run = math.prod(indices.shape[:-1]), math.prod(x.shape[depth:]) * itemsize(x)
    words = index_words(b, op, 1, x.shape[:depth], strides_of(x.shape, itemsize(x))[:depth])
    words |= {gw.COUNT: count, gw.OUTER: 1, gw.STRIDE: 0, gw.RUN: run}
    target = b.write(op)
    if run:
        b.emit("gather", count, {**words, gw.X: b.read(op, 0), gw.Y: target})


def scatter_nd(b: Builder, op: Op) -> None:
    """SCATTER_ND: updates added into zeros of the shape of input 2."""
    indices, updates, shape = b.tensor(op, 0), b.tensor(op, 1), tuple(numbers(b, op, 2))
    depth = indices.shape[-1] if indices.shape else 0
    if not 1 <= depth <= len(shape) or updates.shape != (*indices.shape[:-1], *shape[depth:]):
        raise CheckError(
            f"{b.where(op)}: {list(indices.shape)} indices, {list(updates.shape)} updates into {list(shape)}"
        )
    y = b.expect_shape(op, shape)
    same_type(b, op, updates, y)
    if y.dtype not in KINDS or y.dtype == "float64":
        raise b.unsupported(op, f"on {y.dtype}")
    target = b.write(op)
    b.emit("fill_bytes", nbytes(y), {mw.Y: target, mw.VALUE: 128 if y.dtype == "int8" else 0})
    run = math.prod(shape[depth:]) * itemsize(y)
    words = index_words(b, op, 0, shape[:depth], strides_of(shape, itemsize(y))[:depth])
    words |= {gw.COUNT: math.prod(indices.shape[:-1]), gw.ADD: KINDS[y.dtype], gw.RUN: run}
    if updates.size:
        b.emit("scatter", 1, {**words, gw.X: b.read(op, 1), gw.Y: target})


def dynamic_update_slice(b: Builder, op: Op) -> None:
    """DYNAMIC_UPDATE_SLICE: the operand with the update written at the start that input 2 names, moved until it fits."""
    x, update, starts = b.tensor(op, 0), b.tensor(op, 1), b.tensor(op, 2)
    rank = len(x.shape)
    fits = len(update.shape) == rank and all(u <= d for u, d in zip(update.shape, x.shape, strict=True))
    if not fits or starts.shape != (rank,) or starts.dtype not in ("int32", "int64"):
        raise CheckError(
            f"{b.where(op)}: an update of {list(update.shape)} at {starts.dtype}{list(starts.shape)} of {list(x.shape)}"
        )
    y = b.expect_shape(op, x.shape)
    same_type(b, op, x, y)
    same_type(b, op, update, y)
    size, target = itemsize(x), b.write(op)
    if x.size:
        copy(b, b.read(op, 0), target, (x.size,), (size,), (size,), size)
    if not update.size or not rank:
        return
    place = b.block(8)
    room = tuple(d - u + 1 for d, u in zip(x.shape, update.shape, strict=True))
    words: Words = {
        gw.INDICES: b.read(op, 2), gw.WIDE: int(starts.dtype == "int64"), gw.DEPTH: rank, gw.Y: place,
        gw.LIMITS: b.constant(np.array(room, np.int64)), gw.STRIDES: b.constant(np.array(strides_of(x.shape, size), np.int64)),
    }  # fmt: skip
    b.emit("place_at", 1, words)
    copy(
        b,
        b.read(op, 1),
        target,
        update.shape,
        strides_of(update.shape, size),
        strides_of(x.shape, size),
        size,
        y_at=place,
    )


LOWERINGS = {
    "GATHER": gather,
    "GATHER_ND": gather_nd,
    "EMBEDDING_LOOKUP": embedding_lookup,
    "SCATTER_ND": scatter_nd,
    "DYNAMIC_UPDATE_SLICE": dynamic_update_slice,
}
