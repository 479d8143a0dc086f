"""Operations whose outputs have no shape before they run, computed with NumPy between two pieces.

Sources: tensorflow/lite/kernels where.cc, range.cc, unique.cc, broadcast_args.cc.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from edgeq.errors import InputError
from edgeq.graph import Array, Tensor
from edgeq.shapes.node import Node
from edgeq.tflite.limits import MAX_TENSOR_BYTES

Host = Callable[[Node, Sequence[Tensor]], Sequence[Array]]


def where(n: Node, outputs: Sequence[Tensor]) -> Sequence[Array]:
    """Coordinates (k, rank) of what is not 0, in order."""
    if outputs[0].dtype != "int64":
        raise n.wrong(f"yields {outputs[0].dtype}, int64 is expected")
    found = np.argwhere(n.value(0))
    return [found.reshape(len(found), len(n.shape(0)))]


def arange(n: Node, outputs: Sequence[Tensor]) -> Sequence[Array]:
    """From start up to limit by delta; floats are added up one after another."""
    values = [n.value(k).reshape(-1) for k in range(3)]
    kind = outputs[0].dtype
    if any(v.size != 1 or v.dtype != kind for v in values) or kind not in ("int32", "int64", "float32"):
        raise n.wrong(f"from {values[0].dtype} to {kind}, single numbers of one type are expected")
    start, limit, delta = (v[0] for v in values)
    if not all(math.isfinite(v) for v in (start, limit, delta)):
        raise InputError(f"{n.where}: from {start} to {limit} by {delta}, finite numbers are expected")
    if not delta or (limit < start and delta > 0) or (limit > start and delta < 0):
        raise InputError(f"{n.where}: from {start} to {limit} by {delta} leads nowhere")
    if isinstance(start, np.integer):
        count = -(-abs(int(limit) - int(start)) // abs(int(delta)))
    else:
        count = math.ceil(abs((float(limit) - float(start)) / float(delta)))
    if count * start.itemsize > MAX_TENSOR_BYTES:
        raise InputError(f"{n.where}: from {start} to {limit} by {delta} are {count} numbers, too many")
    if isinstance(start, np.integer):
        return [start + np.arange(count, dtype=start.dtype) * delta]
    steps = np.full(count, delta, start.dtype)
    steps[:1] = start
    return [np.add.accumulate(steps, dtype=start.dtype)]


def unique(n: Node, outputs: Sequence[Tensor]) -> Sequence[Array]:
    """Values in the order of their first appearance, and for every element which it is."""
    x = n.value(0).reshape(-1)
    if x.dtype != outputs[0].dtype or outputs[1].dtype not in ("int32", "int64"):
        raise n.wrong(f"from {x.dtype} to {outputs[0].dtype} and {outputs[1].dtype}")
    _, first, inverse = np.unique(x, return_index=True, return_inverse=True)
    order = np.argsort(first)
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return [x[np.sort(first)], rank[inverse.reshape(-1)]]


def broadcast_args(n: Node, outputs: Sequence[Tensor]) -> Sequence[Array]:
    """The shape that two broadcast to."""
    return [np.array(np.broadcast_shapes(tuple(n.integers(0)), tuple(n.integers(1))))]


HOSTS: Mapping[str, Host] = {"WHERE": where, "RANGE": arange, "UNIQUE": unique, "BROADCAST_ARGS": broadcast_args}
