"""Operations that make shapes, and that take their output's shape as a value."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from edgeq.shapes.node import Node, Shape


def shape_of(n: Node) -> Sequence[Shape]:
    """One entry per dimension."""
    return [(len(n.shape(0)),)]


def scalar(n: Node) -> Sequence[Shape]:
    """A single value."""
    return [()]


def arange(n: Node) -> Sequence[Shape]:
    """Inputs: start, limit, delta (range.cc)."""
    start, limit, delta = (n.number(k) for k in range(3))
    if not delta or (limit - start) / delta < 0:
        raise n.wrong(f"from {start} to {limit} by {delta}")
    return [(math.ceil((limit - start) / delta),)]


def shaped_by(k: int) -> Callable[[Node], Sequence[Shape]]:
    """Input k is the shape."""

    def rule(n: Node) -> Sequence[Shape]:
        out = tuple(n.integers(k))
        if min(out, default=0) < 0:
            raise n.wrong(f"shape {list(out)}, no negative dimension is expected")
        return [out]

    return rule


def one_hot(n: Node) -> Sequence[Shape]:
    """Input 1 is the depth, a new axis."""
    x, depth = n.shape(0), n.integer(1)
    axis = n.axis(n.option("axis", -1), len(x) + 1)
    return [(*x[:axis], max(depth, 0), *x[axis:])]


def segment_sum(n: Node) -> Sequence[Shape]:
    """Input 1 holds the ids, which rise: the last one says how many segments there are."""
    ids = n.integers(1)
    rows = ids[-1] + 1 if ids else 0
    if rows < 0:
        raise n.wrong(f"ids {ids}")
    return [(rows, *n.shape(0)[1:])]


def segments(n: Node) -> Sequence[Shape]:
    """Input 2 is the number of segments; the ids of input 1 stand for leading dimensions."""
    x, ids, rows = n.shape(0), n.shape(1), n.integer(2)
    if x[: len(ids)] != ids or rows < 0:
        raise n.wrong(f"ids of shape {list(ids)} for shape {list(x)}, {rows} segments")
    return [(rows, *x[len(ids) :])]


def suppression(n: Node) -> Sequence[Shape]:
    """Input 2 is the greatest number of boxes: indices, in V5 scores, and how many there are."""
    most = n.integer(2)
    if most < 0:
        raise n.wrong(f"{most} boxes")
    return [*[(most,)] * (len(n.stated) - 1), ()]
