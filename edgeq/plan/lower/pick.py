"""Values placed by what others say: ONE_HOT, segment sums, REVERSE_SEQUENCE, BUCKETIZE, SPARSE_TO_DENSE, diagonals."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np

from edgeq.errors import CheckError
from edgeq.graph import NUMPY_DTYPES, Op
from edgeq.kernels.words import gather as gw
from edgeq.kernels.words import pick as pw
from edgeq.kernels.words import reduce as rw
from edgeq.plan.builder import Builder, itemsize
from edgeq.plan.lower.gather import index_words
from edgeq.plan.lower.slices import axis_of, numbers
from edgeq.plan.types import KINDS, Words
from edgeq.plan.window import copy, same_type, strides_of


def indices(b: Builder, op: Op, k: int) -> Words:
    """Where input k lies, int32 or int64."""
    t = b.tensor(op, k)
    if t.dtype not in ("int32", "int64"):
        raise b.unsupported(op, f"with indices of {t.dtype}")
    return {pw.INDICES: b.read(op, k), pw.WIDE: int(t.dtype == "int64")}


def one_hot(b: Builder, op: Op) -> None:
    """ONE_HOT: indices, depth (), on value (), off value (), along a new axis."""
    x, on, off, o = b.tensor(op, 0), b.tensor(op, 2), b.tensor(op, 3), op.options
    given = numbers(b, op, 1)
    if len(given) != 1 or given[0] < 0 or on.size != 1 or off.size != 1:
        raise CheckError(
            f"{b.where(op)}: depth {given}, values {list(on.shape)} and {list(off.shape)}; one each is expected"
        )
    axis = axis_of(b, op, int(o.axis) if o is not None else -1, len(x.shape) + 1)
    y = b.expect_shape(op, (*x.shape[:axis], given[0], *x.shape[axis:]))
    same_type(b, op, on, y)
    same_type(b, op, off, y)
    words: Words = {
        **indices(b, op, 0), pw.DEPTH: given[0], pw.INNER: math.prod(x.shape[axis:]), pw.SIZE: itemsize(y),
        pw.ON: b.read(op, 2), pw.OFF: b.read(op, 3),
    }  # fmt: skip
    b.emit("place_ones", y.size, {**words, pw.Y: b.write(op)})


JOINS = {
    "SEGMENT_SUM": rw.ADD, "UNSORTED_SEGMENT_SUM": rw.ADD, "UNSORTED_SEGMENT_PROD": rw.MULTIPLY,
    "UNSORTED_SEGMENT_MAX": rw.GREATEST, "UNSORTED_SEGMENT_MIN": rw.LEAST,
}  # fmt: skip


def segment(b: Builder, op: Op) -> None:
    """SEGMENT_SUM (sorted constant ids) and UNSORTED_SEGMENT_SUM, _PROD, _MAX, _MIN (number of segments in input 2)."""
    x, ids = b.tensor(op, 0), b.tensor(op, 1)
    if not ids.shape or x.shape[: len(ids.shape)] != ids.shape or x.dtype not in ("float32", "int32"):
        raise b.unsupported(op, f"on {x.dtype}{list(x.shape)} with ids {list(ids.shape)}")
    if op.code == "SEGMENT_SUM":
        found = numbers(b, op, 1)
        if len(ids.shape) != 1 or found[:1] not in ([], [0]) or any(q - p not in (0, 1) for p, q in pairwise(found)):
            raise CheckError(f"{b.where(op)}: ids that do not count from 0 on, each once or more")
        rows = found[-1] + 1 if found else 0
    else:
        given = numbers(b, op, 2)
        if len(given) != 1 or given[0] < 0:
            raise CheckError(f"{b.where(op)}: {given} segments, one number is expected")
        rows = given[0]
    tail = x.shape[len(ids.shape) :]
    y = b.expect_shape(op, (rows, *tail))
    same_type(b, op, x, y)
    join = JOINS[op.code]
    info = np.finfo(np.float32) if y.dtype == "float32" else np.iinfo(np.int32)
    first = {rw.ADD: 0, rw.MULTIPLY: 1, rw.GREATEST: info.min, rw.LEAST: info.max}[join]
    target, size = b.write(op), itemsize(y)
    if not y.size:
        return
    start = b.constant(np.array([first], NUMPY_DTYPES[y.dtype]))
    copy(b, start, target, (y.size,), (0,), (size,), size)
    words: Words = {
        **indices(b, op, 1), pw.N: ids.size, pw.INNER: math.prod(tail), pw.ROWS: rows, pw.KIND: KINDS[y.dtype],
        pw.OPERATION: join, pw.X: b.read(op, 0), pw.Y: target,
    }  # fmt: skip
    b.emit("segment", 1, words)


def reverse_sequence(b: Builder, op: Op) -> None:
    """REVERSE_SEQUENCE: along seq_dim, as many steps as input 1 says for each index of batch_dim."""
    x, lengths, o = b.tensor(op, 0), b.tensor(op, 1), op.options
    assert o is not None
    rank = len(x.shape)
    step, batch = axis_of(b, op, o.seq_dim, rank), axis_of(b, op, o.batch_dim, rank)
    if step == batch or lengths.shape != (x.shape[batch],) or lengths.dtype not in ("int32", "int64"):
        raise CheckError(
            f"{b.where(op)}: {lengths.dtype}{list(lengths.shape)} for dimensions {step} and {batch} of {list(x.shape)}"
        )
    y = b.expect_shape(op, x.shape)
    same_type(b, op, x, y)
    p, q = min(step, batch), max(step, batch)
    run = math.prod(x.shape[q + 1 :]) * itemsize(x)
    words: Words = {
        pw.LENGTHS: b.read(op, 1), pw.WIDE: int(lengths.dtype == "int64"), pw.N: x.shape[step], pw.OUTER: x.shape[p],
        pw.INNER: math.prod(x.shape[p + 1 : q]), pw.ROWS: x.shape[q], pw.SIZE: run, pw.STEP: int(batch == p),
    }  # fmt: skip
    target = b.write(op)
    if x.size:
        b.emit("reverse_rows", math.prod(x.shape[: q + 1]), {**words, pw.X: b.read(op, 0), pw.Y: target})


def bucketize(b: Builder, op: Op) -> None:
    """BUCKETIZE: the number of boundaries that an element is not below, int32."""
    x, o = b.tensor(op, 0), op.options
    bounds = [float(v) for v in (o.boundaries if o is not None and o.boundaries is not None else ())]
    if bounds != sorted(bounds) or not all(math.isfinite(v) for v in bounds):
        raise CheckError(f"{b.where(op)}: boundaries that do not rise")
    y = b.expect_shape(op, x.shape)
    if y.dtype != "int32" or x.dtype not in ("float32", "float64", "int32", "int64"):
        raise b.unsupported(op, f"from {x.dtype} to {y.dtype}")
    words: Words = {
        pw.KIND: KINDS[x.dtype], pw.N: len(bounds), pw.BOUNDS: b.constant(np.array([*bounds, 0.0], np.float32)),
    }  # fmt: skip
    b.emit("bucket", x.size, {**words, pw.X: b.read(op, 0), pw.Y: b.write(op)})


def sparse_to_dense(b: Builder, op: Op) -> None:
    """SPARSE_TO_DENSE: indices, output shape, values, the value elsewhere."""
    places, values, other = b.tensor(op, 0), b.tensor(op, 2), b.tensor(op, 3)
    shape = tuple(numbers(b, op, 1))
    if any(d < 0 for d in shape) or other.size != 1 or len(places.shape) > 2:
        raise CheckError(f"{b.where(op)}: shape {list(shape)}, indices {list(places.shape)}")
    depth = places.shape[1] if len(places.shape) == 2 else 1
    count = places.shape[0] if places.shape else 1
    if depth != len(shape) or values.size not in (1, count):
        raise CheckError(f"{b.where(op)}: {list(places.shape)} indices and {values.size} values into {list(shape)}")
    y = b.expect_shape(op, shape)
    same_type(b, op, values, y)
    same_type(b, op, other, y)
    size, target = itemsize(y), b.write(op)
    if y.size:
        copy(b, b.read(op, 3), target, (y.size,), (0,), (size,), size)
    source = b.read(op, 2)
    if values.size != count and count:
        wide = b.block(count * size)
        copy(b, source, wide, (count,), (0,), (size,), size)
        source = wide
    words = index_words(b, op, 0, shape, strides_of(shape, size))
    words |= {gw.COUNT: count, gw.ADD: -1, gw.RUN: size}
    if count and y.size:
        b.emit("scatter", 1, {**words, gw.X: source, gw.Y: target})


def matrix_set_diag(b: Builder, op: Op) -> None:
    """MATRIX_SET_DIAG: matrices with vectors on their diagonals."""
    x, d = b.tensor(op, 0), b.tensor(op, 1)
    if len(x.shape) < 2 or d.shape != (*x.shape[:-2], min(x.shape[-2:])):
        raise CheckError(f"{b.where(op)}: a diagonal {list(d.shape)} of {list(x.shape)}")
    y = b.expect_shape(op, x.shape)
    same_type(b, op, x, y)
    same_type(b, op, d, y)
    size, target, (rows, columns) = itemsize(y), b.write(op), x.shape[-2:]
    if not y.size:
        return
    copy(b, b.read(op, 0), target, (y.size,), (size,), (size,), size)
    n, outer = min(rows, columns), math.prod(x.shape[:-2])
    steps, places = (n * size, size), (rows * columns * size, (columns + 1) * size)
    copy(b, b.read(op, 1), target, (outer, n), steps, places, size)


def densify(b: Builder, op: Op) -> None:
    """DENSIFY: sparse constants are dense since planning began."""
    x = b.tensor(op, 0)
    y = b.expect_shape(op, x.shape)
    same_type(b, op, x, y)
    b.fold(op, b.constant_value(op, 0))


LOWERINGS = {
    "ONE_HOT": one_hot,
    **dict.fromkeys(JOINS, segment),
    "REVERSE_SEQUENCE": reverse_sequence,
    "BUCKETIZE": bucketize,
    "SPARSE_TO_DENSE": sparse_to_dense,
    "MATRIX_SET_DIAG": matrix_set_diag,
    "DENSIFY": densify,
}
