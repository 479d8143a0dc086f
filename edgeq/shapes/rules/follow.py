"""Operations whose outputs have the inputs' shapes, broadcast together or not, or those that the file states."""

from __future__ import annotations

from collections.abc import Sequence

from edgeq.shapes.node import Node, Shape


def same(n: Node) -> Sequence[Shape]:
    """The first input's shape."""
    return [n.shape(0)]


def broadcast(n: Node) -> Sequence[Shape]:
    """All inputs' shapes broadcast together."""
    return [broadcast_together(n, [n.shape(k) for k in range(len(n.shapes))])]


def select(n: Node) -> Sequence[Shape]:
    """SELECT: the shape of the values; the condition has it too, or its first dimension, or none."""
    condition, x, y = n.shape(0), n.shape(1), n.shape(2)
    if x != y or condition not in (x, x[:1], ()):
        raise n.wrong(f"shapes {list(condition)}, {list(x)} and {list(y)} do not go together")
    return [x]


def stated(n: Node) -> Sequence[Shape]:
    """What the file says: shapes that do not depend on the inputs'."""
    return n.stated


def nothing(n: Node) -> Sequence[Shape]:
    """No outputs."""
    return []


def broadcast_together(n: Node, shapes: Sequence[Shape]) -> Shape:
    """The shape that several broadcast to, as NumPy's do."""
    rank = max(map(len, shapes))
    out = []
    for dims in zip(*((1,) * (rank - len(s)) + s for s in shapes), strict=True):
        sizes = set(dims) - {1}
        if len(sizes) > 1:
            raise n.wrong(f"shapes {', '.join(str(list(s)) for s in shapes)} do not broadcast")
        out.append(sizes.pop() if sizes else 1)
    return tuple(out)
