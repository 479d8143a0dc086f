"""Matrix products, and reductions along axes."""

from __future__ import annotations

import math
from collections.abc import Sequence

from edgeq.shapes.node import Node, Shape
from edgeq.shapes.rules.follow import broadcast_together


def fully_connected(n: Node) -> Sequence[Shape]:
    """Weights (out, in): as many rows as the input's elements make."""
    x, (out, k) = n.shape(0), n.rank(1, 2)
    size = math.prod(x)
    if k < 1 or size % k:
        raise n.wrong(f"an input of shape {list(x)} does not make rows of {k}")
    if not n.option("keep_num_dims", False):
        return [(size // k, out)]
    if not x or x[-1] != k:
        raise n.wrong(f"an input of shape {list(x)}, a last dimension of {k} is expected")
    return [(*x[:-1], out)]


def batch_matmul(n: Node) -> Sequence[Shape]:
    """(…, m, k) · (…, k, n), either transposed by an option; leading dimensions broadcast."""
    x, y = n.shape(0), n.shape(1)
    if len(x) < 2 or len(y) < 2:
        raise n.wrong(f"shapes {list(x)} and {list(y)}, at least two dimensions each are expected")
    (m, k), (other, columns) = x[-2:], y[-2:]
    if n.option("adj_x", False):
        m, k = k, m
    if n.option("adj_y", False):
        other, columns = columns, other
    if k != other:
        raise n.wrong(f"rows of {k} meet columns of {other}")
    return [(*broadcast_together(n, [x[:-2], y[:-2]]), m, columns)]


def reduction(n: Node) -> Sequence[Shape]:
    """Input 1 lists the axes."""
    x = n.shape(0)
    axes, keep = n.axes(1, len(x)), bool(n.option("keep_dims", False))
    return [tuple(1 if i in axes else d for i, d in enumerate(x) if keep or i not in axes)]


def arg_extremum(n: Node) -> Sequence[Shape]:
    """Input 1 is the axis."""
    x = n.shape(0)
    axis = n.axis(n.integer(1), len(x))
    return [x[:axis] + x[axis + 1 :]]


def top_k(n: Node) -> Sequence[Shape]:
    """Input 1 is k."""
    x, k = n.shape(0), n.integer(1)
    if not x or not 0 <= k <= x[-1]:
        raise n.wrong(f"the {k} largest of shape {list(x)}")
    return [(*x[:-1], k)] * 2
