"""Operations whose inputs are all known before anything runs: what they compute becomes a constant of the plan.

Shapes are what is computed so: SHAPE of a tensor, and arithmetic on it until a RESHAPE takes it. Only small tensors
of integers and booleans are folded, and floats where they merely move; anything else runs like the rest.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np

from edgeq.graph import NUMPY_DTYPES, Array, Op
from edgeq.plan.builder import Builder
from edgeq.plan.slicing import plain, strided
from edgeq.tflite.limits import MAX_RANK

MAX_ELEMENTS = 1 << 16
"""Of an input or output that is folded."""

Fold = Callable[[Op, list[Array]], list[Array]]


def fold(b: Builder, op: Op) -> bool:
    """Make the outputs of an operation constants if that is possible; whether it was."""
    if op.code in ("SHAPE", "RANK"):
        shape = b.tensor(op, 0).shape
        values = [np.array(shape if op.code == "SHAPE" else len(shape))]
    else:
        function = FOLDS.get(op.code)
        known = [b.known(i) if i >= 0 else None for i in op.inputs]
        arrays = [a for a in known if a is not None]
        if function is None or len(arrays) != len(op.inputs) or not foldable(b, op, arrays):
            return False
        try:
            values = function(op, arrays)
        except (ValueError, IndexError, OverflowError, ZeroDivisionError, TypeError, AttributeError):
            return False  # the lowering says what is wrong
    if len(values) != len(op.outputs) or any(v.size > MAX_ELEMENTS for v in values):
        return False
    for k, v in enumerate(values):
        t = b.output(op, k)
        if t.dtype not in NUMPY_DTYPES:
            return False
        b.expect_shape(op, v.shape, k)
        b.fold(op, np.asarray(v, NUMPY_DTYPES[t.dtype], order="C"), k)
    return True


def foldable(b: Builder, op: Op, arrays: list[Array]) -> bool:
    """Small arrays whose type and, with floats, operation lose nothing here."""
    if any(a.size > MAX_ELEMENTS for a in arrays):
        return False
    plain_types = all(b.tensors[i].dtype in ("int32", "int64", "bool") for i in op.inputs)
    return plain_types or (
        op.code in MOVES and all(b.tensors[i].dtype in ("int32", "int64", "bool", "float32") for i in op.inputs)
    )


def small(shape: tuple[int, ...]) -> tuple[int, ...]:
    """A shape that may be made; ValueError for another."""
    if len(shape) > MAX_RANK or any(d < 0 for d in shape) or math.prod(shape) > MAX_ELEMENTS:
        raise ValueError("too large to fold")
    return shape


def option(op: Op, name: str) -> int:
    """An integer option, 0 where there are none."""
    return int(op.options.values.get(name, 0)) if op.options is not None else 0


def reshape(op: Op, a: list[Array]) -> list[Array]:
    """RESHAPE with a shape to go by."""
    if len(a) != 2:
        raise ValueError("no shape")
    return [a[0].reshape(tuple(a[1].reshape(-1)))]


def squeeze(op: Op, a: list[Array]) -> list[Array]:
    """SQUEEZE."""
    named = op.options.values.get("squeeze_dims") if op.options is not None else None
    return [np.squeeze(a[0], tuple(named) if named else None)]


def strided_slice(op: Op, a: list[Array]) -> list[Array]:
    """STRIDED_SLICE, as the lowering understands it."""
    begin, end, stride = (v.reshape(-1).tolist() for v in a[1:4])
    part = strided(a[0].shape, begin, end, stride, op.options)
    spans = [s + np.arange(c) * t for s, c, t in zip(part.starts, part.counts, part.strides, strict=True)]
    return [(a[0][np.ix_(*spans)] if spans else a[0]).reshape(part.shape)]


def slice_(op: Op, a: list[Array]) -> list[Array]:
    """SLICE."""
    part = plain(a[0].shape, a[1].reshape(-1).tolist(), a[2].reshape(-1).tolist())
    return [a[0][tuple(slice(s, s + c) for s, c in zip(part.starts, part.counts, strict=True))]]


def gather(op: Op, a: list[Array]) -> list[Array]:
    """GATHER without shared dimensions."""
    if option(op, "batch_dims") or (a[1] < 0).any():
        raise ValueError("not folded")
    return [np.take(a[0], a[1], axis=option(op, "axis"))]


def span(op: Op, a: list[Array]) -> list[Array]:
    """RANGE: start, limit, delta."""
    start, limit, delta = (v.reshape(-1)[0].item() for v in a)
    count = max(math.ceil((limit - start) / delta), 0)
    if count > MAX_ELEMENTS:
        raise ValueError("too large to fold")
    return [start + np.arange(count) * delta]


def split(op: Op, a: list[Array]) -> list[Array]:
    """SPLIT: axis, input."""
    return list(np.split(a[1], len(op.outputs), axis=int(a[0].reshape(-1)[0])))


def split_v(op: Op, a: list[Array]) -> list[Array]:
    """SPLIT_V: input, lengths, axis."""
    lengths, axis = a[1].reshape(-1).tolist(), int(a[2].reshape(-1)[0])
    if lengths.count(-1) == 1:
        lengths[lengths.index(-1)] = a[0].shape[axis] - sum(lengths) - 1
    if min(lengths) < 0 or sum(lengths) != a[0].shape[axis]:
        raise ValueError("no way to split")
    return np.split(a[0], np.cumsum(lengths[:-1]), axis)


def truncated(x: Array, y: Array) -> Array:
    """DIV of integers."""
    if (y == 0).any():
        raise ZeroDivisionError
    return np.where((x < 0) != (y < 0), -(np.abs(x) // np.abs(y)), np.abs(x) // np.abs(y))


def whole(function: Callable[[Array, Array], Array]) -> Fold:
    """A division; by 0 it is left to the machine, which says so."""

    def run(op: Op, a: list[Array]) -> list[Array]:
        if (a[1] == 0).any():
            raise ZeroDivisionError
        return pair(function)(op, a)

    return run


def pair(function: Callable[[Array, Array], Array]) -> Fold:
    """Two arrays that broadcast, wrapping."""

    def run(op: Op, a: list[Array]) -> list[Array]:
        if option(op, "fused_activation_function"):
            raise ValueError("not folded")
        small(np.broadcast_shapes(a[0].shape, a[1].shape))
        with np.errstate(all="ignore"):
            return [np.asarray(function(a[0], a[1]))]

    return run


def reduction(function: np.ufunc) -> Fold:
    """Along the axes of input 1."""

    def run(op: Op, a: list[Array]) -> list[Array]:
        axes = tuple({int(v) % a[0].ndim for v in a[1].reshape(-1)}) if a[0].ndim else ()
        return [np.asarray(function.reduce(a[0], axis=axes, dtype=a[0].dtype, keepdims=bool(option(op, "keep_dims"))))]

    return run


MOVES: Mapping[str, Fold] = {
    "RESHAPE": reshape,
    "SQUEEZE": squeeze,
    "EXPAND_DIMS": lambda op, a: [np.expand_dims(a[0], int(a[1].reshape(-1)[0]))],
    "PACK": lambda op, a: [np.stack(a, axis=option(op, "axis"))],
    "UNPACK": lambda op, a: [np.take(a[0], k, axis=option(op, "axis")) for k in range(len(op.outputs))],
    "CONCATENATION": lambda op, a: [np.concatenate(a, axis=option(op, "axis"))],
    "TRANSPOSE": lambda op, a: [np.transpose(a[0], a[1].tolist())],
    "STRIDED_SLICE": strided_slice,
    "SLICE": slice_,
    "SPLIT": split,
    "SPLIT_V": split_v,
    "GATHER": gather,
    "FILL": lambda op, a: [np.full(small(tuple(a[0].tolist())), a[1].reshape(-1)[0])],
    "BROADCAST_TO": lambda op, a: [np.broadcast_to(a[0], small(tuple(a[1].tolist())))],
    "TILE": lambda op, a: [np.tile(a[0], a[1].tolist())] if small((a[0].size, *a[1].tolist())) else [],
    "ZEROS_LIKE": lambda op, a: [np.zeros_like(a[0])],
}

FOLDS: Mapping[str, Fold] = {
    **MOVES,
    "RANGE": span,
    "BROADCAST_ARGS": lambda op, a: [np.array(np.broadcast_shapes(tuple(a[0].tolist()), tuple(a[1].tolist())))],
    "CAST": lambda op, a: [a[0]],
    "ADD": pair(np.add),
    "SUB": pair(np.subtract),
    "MUL": pair(np.multiply),
    "DIV": whole(truncated),
    "FLOOR_DIV": whole(np.floor_divide),
    "FLOOR_MOD": whole(np.mod),
    "MAXIMUM": pair(np.maximum),
    "MINIMUM": pair(np.minimum),
    "EQUAL": pair(np.equal),
    "NOT_EQUAL": pair(np.not_equal),
    "LESS": pair(np.less),
    "LESS_EQUAL": pair(np.less_equal),
    "GREATER": pair(np.greater),
    "GREATER_EQUAL": pair(np.greater_equal),
    "LOGICAL_AND": pair(np.logical_and),
    "LOGICAL_OR": pair(np.logical_or),
    "LOGICAL_NOT": lambda op, a: [np.logical_not(a[0])],
    "NEG": lambda op, a: [-a[0]],
    "SELECT_V2": lambda op, a: [np.where(a[0], a[1], a[2])],
    "REDUCE_PROD": reduction(np.multiply),
    "SUM": reduction(np.add),
    "REDUCE_MAX": reduction(np.maximum),
    "REDUCE_MIN": reduction(np.minimum),
    "REDUCE_ALL": reduction(np.logical_and),
    "REDUCE_ANY": reduction(np.logical_or),
    "WHERE": lambda op, a: [np.argwhere(a[0])],
}
"""What each operation computes of known arrays. CAST's conversion is the output's own."""
