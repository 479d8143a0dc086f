"""The values of small tensors that are known before a model runs: shapes, and what models compute from them.

A converter turns `tf.shape(x)[0]` and its like into operations: SHAPE, STRIDED_SLICE, PACK, a product or two, and a
RESHAPE to the result. Given shapes, these are constants; `known` computes them with NumPy, in the tensors' own types.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import numpy as np

from edgeq.graph import NUMPY_DTYPES, Array, Tensor
from edgeq.shapes.node import Node, Shape
from edgeq.shapes.rules.constants import arange
from edgeq.shapes.rules.moves import ranges_of, split_v

MAX_ELEMENTS = 1024
"""Tensors with more elements are no shapes: they are left to the run."""

Evaluation = Callable[[Node, Sequence[Array]], Sequence[Array]]


def known(n: Node, shapes: Sequence[Shape], outputs: Sequence[Tensor]) -> Sequence[Array | None]:
    """The outputs' values, None for all if they depend on what the model is fed or are no small plain numbers.

    shapes: the outputs' shapes, as the rule gave them; outputs: their tensors, for the dtypes.
    """
    unknown = [None] * len(outputs)
    evaluate = EVALUATIONS.get(n.op.code)
    if evaluate is None or any(t.dtype not in NUMPY_DTYPES or t.quantization is not None for t in outputs):
        return unknown
    if any(int(np.prod(s, dtype=np.float64)) > MAX_ELEMENTS for s in (*shapes, *_sizes(n))):
        return unknown
    inputs = [v for v, s in zip(n.values, n.shapes, strict=True) if s is not None and v is not None]
    if n.op.code not in FROM_SHAPES and len(inputs) < sum(s is not None for s in n.shapes):
        return unknown
    try:
        with np.errstate(all="ignore"):  # integers wrap and floats overflow as they do in the runtimes
            found = [np.asarray(v) for v in evaluate(n, inputs)]
            return [v.astype(NUMPY_DTYPES[t.dtype]).reshape(s) for v, s, t in zip(found, shapes, outputs, strict=True)]
    except (
        ValueError,
        IndexError,
        TypeError,
        OverflowError,
    ) as error:  # how NumPy refuses what a hostile file may hold
        raise n.wrong(f"its values cannot be computed: {error}") from None


def _sizes(n: Node) -> list[Shape]:
    """Shapes of the inputs whose values an evaluation would read."""
    return [] if n.op.code in FROM_SHAPES else [s for s in n.shapes if s is not None]


def _strided_slice(n: Node, v: Sequence[Array]) -> Sequence[Array]:
    x = v[0]
    axis = 0
    for r in ranges_of(n):
        if r is None:
            continue
        if isinstance(r, int):
            x = np.take(x, r, axis)
        else:
            x = np.take(x, np.arange(r.start, r.stop, r.step), axis)
            axis += 1
    return [x]


def _slice(n: Node, v: Sequence[Array]) -> Sequence[Array]:
    begin, size = n.integers(1), n.integers(2)
    return [v[0][tuple(slice(b, None if s == -1 else b + s) for b, s in zip(begin, size, strict=True))]]


def _gather(n: Node, v: Sequence[Array]) -> Sequence[Array]:
    if n.option("batch_dims"):
        raise n.wrong("batch dimensions in a shape's computation")
    axis = n.axis(n.option("axis"), v[0].ndim)
    if v[1].size and not 0 <= v[1].min() <= v[1].max() < v[0].shape[axis]:
        raise n.wrong(f"indices {v[1].tolist()} of a dimension of {v[0].shape[axis]}")
    return [np.take(v[0], v[1], axis)]


def _floor_div(n: Node, v: Sequence[Array]) -> Sequence[Array]:
    return [np.floor_divide(v[0], _divisor(n, v[1]))]


def _floor_mod(n: Node, v: Sequence[Array]) -> Sequence[Array]:
    return [np.mod(v[0], _divisor(n, v[1]))]


def _div(n: Node, v: Sequence[Array]) -> Sequence[Array]:
    """Integers are divided as in C, towards zero."""
    divisor = _divisor(n, v[1])
    if v[0].dtype.kind == "f":
        return [v[0] / divisor]
    quotient = np.floor_divide(np.abs(v[0]), np.abs(divisor))
    return [np.where((v[0] < 0) != (divisor < 0), -quotient, quotient)]


def _divisor(n: Node, v: Array) -> Array:
    if not v.all():
        raise n.wrong("a division by 0 in a shape's computation")
    return v


def _axes(n: Node, v: Sequence[Array]) -> tuple[int, ...]:
    return tuple(n.axes(1, v[0].ndim))


def _unpack(n: Node, v: Sequence[Array]) -> Sequence[Array]:
    axis = n.axis(n.option("axis"), v[0].ndim)
    return [np.take(v[0], i, axis) for i in range(v[0].shape[axis])]


def _split(n: Node, v: Sequence[Array]) -> Sequence[Array]:
    return np.split(v[1], len(n.stated), n.axis(n.integer(0), v[1].ndim))


def _split_v(n: Node, v: Sequence[Array]) -> Sequence[Array]:
    axis = n.axis(n.integer(2), v[0].ndim)
    ends = np.cumsum([s[axis] for s in split_v(n)[:-1]], dtype=int)
    return np.split(v[0], ends, axis)


def _binary(function: Callable[[Array, Array], Array]) -> Evaluation:
    return lambda n, v: [function(v[0], v[1])]


def _reduction(function: Callable[..., Array]) -> Evaluation:
    return lambda n, v: [function(v[0], axis=_axes(n, v), dtype=v[0].dtype)]


FROM_SHAPES = frozenset({"SHAPE", "RANK", "ZEROS_LIKE"})
"""What needs its input's shape only."""

EVALUATIONS: Mapping[str, Evaluation] = MappingProxyType(
    {
        "SHAPE": lambda n, v: [np.array(n.shape(0), np.int64)],
        "RANK": lambda n, v: [np.array(len(n.shape(0)))],
        "ZEROS_LIKE": lambda n, v: [np.zeros(n.shape(0))],
        "CAST": lambda n, v: [v[0]],
        "RESHAPE": lambda n, v: [v[0]],
        "SQUEEZE": lambda n, v: [v[0]],
        "EXPAND_DIMS": lambda n, v: [v[0]],
        "STRIDED_SLICE": _strided_slice,
        "SLICE": _slice,
        "GATHER": _gather,
        "CONCATENATION": lambda n, v: [np.concatenate(v, n.axis(n.option("axis"), v[0].ndim))],
        "PACK": lambda n, v: [np.stack(v, n.axis(n.option("axis"), v[0].ndim + 1))],
        "UNPACK": _unpack,
        "SPLIT": _split,
        "SPLIT_V": _split_v,
        "TRANSPOSE": lambda n, v: [np.transpose(v[0], [a % v[0].ndim for a in n.integers(1)])],
        "TILE": lambda n, v: [np.tile(v[0], n.integers(1))],
        "FILL": lambda n, v: [np.broadcast_to(v[1], n.integers(0))],
        "BROADCAST_TO": lambda n, v: [np.broadcast_to(v[0], n.integers(1))],
        "BROADCAST_ARGS": lambda n, v: [np.array(np.broadcast_shapes(n.integers(0), n.integers(1)))],
        "RANGE": lambda n, v: [v[0] + v[2] * np.arange(arange(n)[0][0])],
        "ADD": _binary(np.add),
        "SUB": _binary(np.subtract),
        "MUL": _binary(np.multiply),
        "MAXIMUM": _binary(np.maximum),
        "MINIMUM": _binary(np.minimum),
        "DIV": _div,
        "FLOOR_DIV": _floor_div,
        "FLOOR_MOD": _floor_mod,
        "NEG": lambda n, v: [-v[0]],
        "ABS": lambda n, v: [np.abs(v[0])],
        "FLOOR": lambda n, v: [np.floor(v[0])],
        "CEIL": lambda n, v: [np.ceil(v[0])],
        "EQUAL": _binary(np.equal),
        "NOT_EQUAL": _binary(np.not_equal),
        "LESS": _binary(np.less),
        "LESS_EQUAL": _binary(np.less_equal),
        "GREATER": _binary(np.greater),
        "GREATER_EQUAL": _binary(np.greater_equal),
        "SELECT": lambda n, v: [np.where(v[0], v[1], v[2])],
        "SELECT_V2": lambda n, v: [np.where(v[0], v[1], v[2])],
        "REDUCE_PROD": _reduction(np.prod),
        "SUM": _reduction(np.sum),
        "REDUCE_MAX": lambda n, v: [np.max(v[0], axis=_axes(n, v))],
        "REDUCE_MIN": lambda n, v: [np.min(v[0], axis=_axes(n, v))],
    }
)
"""Operation → its NumPy twin on the values of its inputs (fused activations, which shapes have none of, are left out)."""
