"""Operations that move values, pad them, or join them; and resizes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from edgeq.errors import UnsupportedError
from edgeq.graph import Array
from edgeq.reverse.node import Node, Outcome, single

Rule = Callable[[Node], Outcome]


def _moved(node: Node, move: Callable[[Array], Array], k: int = 0) -> Outcome:
    """Input k rearranged; values that `move` repeats have their gradients added up."""
    x = node.array(k)

    def gradient(g: Array) -> Array:
        source = move(np.arange(x.size).reshape(x.shape)).reshape(-1)
        return np.bincount(source, g.reshape(-1), x.size).astype(g.dtype).reshape(x.shape)

    return single(move(x), *[gradient if i == k else None for i in range(len(node.inputs))])


def reshape(node: Node) -> Outcome:
    """RESHAPE, SQUEEZE, EXPAND_DIMS: the same values in the output's shape."""
    x = node.array(0)
    return single(x.reshape(node.shapes[0]), lambda g: g.reshape(x.shape), *[None] * (len(node.inputs) - 1))


def identity(node: Node) -> Outcome:
    """QUANTIZE, DEQUANTIZE: among reals nothing happens."""
    return single(node.array(0), lambda g: g)


def transpose(node: Node) -> Outcome:
    """Axes in another order."""
    order = [int(a) for a in np.asarray(node.array(1)).reshape(-1)]
    return single(node.array(0).transpose(order), lambda g: g.transpose(np.argsort(order)), None)


def pad(node: Node) -> Outcome:
    """PAD and PADV2: a border of zeros or of a constant."""
    x = node.array(0)
    widths = [(int(a), int(b)) for a, b in np.asarray(node.array(1)).reshape(-1, 2)]
    value = float(np.asarray(node.array(2)).reshape(-1)[0]) if node.has(2) else 0.0
    inner = tuple(slice(a, a + n) for (a, _), n in zip(widths, x.shape, strict=True))
    y = np.pad(x, widths, constant_values=value)
    return single(y, lambda g: g[inner], *[None] * (len(node.inputs) - 1))


def mirror_pad(node: Node) -> Outcome:
    """A border of what lies next to it; mode 0 leaves the edge out, mode 1 repeats it."""
    widths = [(int(a), int(b)) for a, b in np.asarray(node.array(1)).reshape(-1, 2)]
    mode: Any = "symmetric" if int(node.option("mode", 0)) else "reflect"
    return _moved(node, lambda x: np.pad(x, widths, mode=mode))


def concatenation(node: Node) -> Outcome:
    """Inputs behind one another on an axis."""
    parts = [node.array(k) for k in range(len(node.inputs))]
    axis = int(node.option("axis", 0)) % parts[0].ndim
    ends = np.cumsum([p.shape[axis] for p in parts])[:-1]

    def back(given: Sequence[Array]) -> Sequence[Array | None]:
        return list(np.split(given[0], ends, axis=axis))

    return (np.concatenate(parts, axis=axis),), back


def pack(node: Node) -> Outcome:
    """Inputs stacked on a new axis."""
    axis = int(node.option("axis", 0))
    y = np.stack([node.array(k) for k in range(len(node.inputs))], axis=axis)

    def back(given: Sequence[Array]) -> Sequence[Array | None]:
        return [given[0].take(k, axis=axis) for k in range(len(node.inputs))]

    return (y,), back


def _several(node: Node, pieces: Sequence[Callable[[Array], Array]], k: int) -> Outcome:
    """Several outputs, each a view of input k."""
    x = node.array(k)

    def back(given: Sequence[Array]) -> Sequence[Array | None]:
        whole = np.zeros_like(x)
        for piece, g in zip(pieces, given, strict=True):
            piece(whole)[...] += g
        return [whole if i == k else None for i in range(len(node.inputs))]

    return tuple(piece(x) for piece in pieces), back


def _between(axis: int, start: int, stop: int) -> Callable[[Array], Array]:
    return lambda x: x[(slice(None),) * axis + (slice(start, stop),)]


def _at(axis: int, place: int) -> Callable[[Array], Array]:
    return lambda x: np.moveaxis(x, axis, 0)[place]


def unpack(node: Node) -> Outcome:
    """Slices along an axis, which goes."""
    axis = int(node.option("axis", 0)) % node.array(0).ndim
    return _several(node, [_at(axis, i) for i in range(node.array(0).shape[axis])], 0)


def split(node: Node) -> Outcome:
    """Equal pieces along an axis; the axis is the first input."""
    x = node.array(1)
    axis = int(np.asarray(node.array(0)).reshape(-1)[0]) % x.ndim
    step = x.shape[axis] // len(node.shapes)
    return _several(node, [_between(axis, i * step, (i + 1) * step) for i in range(len(node.shapes))], 1)


def split_v(node: Node) -> Outcome:
    """Pieces of given sizes along an axis."""
    axis = int(np.asarray(node.array(2)).reshape(-1)[0]) % node.array(0).ndim
    ends = np.cumsum([s[axis] for s in node.shapes])
    return _several(node, [_between(axis, e - s[axis], e) for e, s in zip(ends, node.shapes, strict=True)], 0)


def slice_(node: Node) -> Outcome:
    """SLICE: from begin, so many; −1 for all that follow."""
    begin, size = (np.asarray(node.array(k)).reshape(-1).tolist() for k in (1, 2))
    at = tuple(slice(b, None if n < 0 else b + n) for b, n in zip(begin, size, strict=True))
    return _moved(node, lambda x: x[at])


def strided_slice(node: Node) -> Outcome:
    """STRIDED_SLICE, NumPy's basic indexing with masks for what is left out."""
    begin, end, step = (np.asarray(node.array(k)).reshape(-1).tolist() for k in (1, 2, 3))
    masks = {
        name: int(node.option(f"{name}_mask", 0)) for name in ("begin", "end", "ellipsis", "new_axis", "shrink_axis")
    }
    at: list[Any] = []
    for k, (b, e, s) in enumerate(zip(begin, end, step, strict=True)):
        bit = 1 << k
        if masks["ellipsis"] & bit:
            at.append(Ellipsis)
        elif masks["new_axis"] & bit:
            at.append(None)
        elif masks["shrink_axis"] & bit:
            at.append(b)
        else:
            at.append(slice(None if masks["begin"] & bit else b, None if masks["end"] & bit else e, s))
    return _moved(node, lambda x: x[tuple(at)])


def gather(node: Node) -> Outcome:
    """GATHER along an axis, without batch dimensions."""
    axis = int(node.option("axis", 0))
    if node.option("batch_dims", 0):
        raise UnsupportedError("GATHER with batch dimensions has no gradient here")
    where = np.asarray(node.array(1))
    return _moved(node, lambda x: np.take(x, where, axis=axis))


def space_to_depth(node: Node) -> Outcome:
    """Blocks of positions become channels."""
    b = int(node.option("block_size"))

    def move(x: Array) -> Array:
        n, h, w, c = x.shape
        return x.reshape(n, h // b, b, w // b, b, c).transpose(0, 1, 3, 2, 4, 5).reshape(n, h // b, w // b, b * b * c)

    return _moved(node, move)


def depth_to_space(node: Node) -> Outcome:
    """Channels become blocks of positions."""
    b = int(node.option("block_size"))

    def move(x: Array) -> Array:
        n, h, w, c = x.shape
        return x.reshape(n, h, w, b, b, c // b**2).transpose(0, 1, 3, 2, 4, 5).reshape(n, h * b, w * b, c // b**2)

    return _moved(node, move)


def tile(node: Node) -> Outcome:
    """Repeats along every axis."""
    times = [int(n) for n in np.asarray(node.array(1)).reshape(-1)]
    return _moved(node, lambda x: np.tile(x, times))


def broadcast_to(node: Node) -> Outcome:
    """Repeats along axes of length 1."""
    return _moved(node, lambda x: np.broadcast_to(x, node.shapes[0]))


def resize(bilinear: bool) -> Rule:
    """RESIZE_BILINEAR and RESIZE_NEAREST_NEIGHBOR: a matrix along each side."""

    def rule(node: Node) -> Outcome:
        x = node.array(0)
        corners, half = (bool(node.option(name, False)) for name in ("align_corners", "half_pixel_centers"))
        of = _linear if bilinear else _nearest
        rows, columns = (
            of(x.shape[a], node.shapes[0][a], corners, half).astype(x.dtype) for a in (1, 2)
        )  # fmt: skip
        y = np.einsum("ah,nhwc->nawc", rows, x, optimize=True)
        y = np.einsum("bw,nawc->nabc", columns, y, optimize=True)

        def gradient(g: Array) -> Array:
            back = np.einsum("bw,nabc->nawc", columns, g, optimize=True)
            whole: Array = np.einsum("ah,nawc->nhwc", rows, back, optimize=True)
            return whole

        return single(y, gradient, None)

    return rule


def _places(n: int, out: int, corners: bool, half: bool) -> tuple[Array, float]:
    scale = (n - 1) / (out - 1) if corners and out > 1 else n / out
    at = np.arange(out, dtype=np.float64)
    return ((at + 0.5) * scale - 0.5 if half else at * scale), scale


def _linear(n: int, out: int, corners: bool, half: bool) -> Array:
    """(out, n): the shares of two neighbours."""
    at, _ = _places(n, out, corners, half)
    low = np.maximum(np.floor(at), 0).astype(int).clip(0, n - 1)
    high = np.minimum(np.ceil(at).astype(int), n - 1).clip(0, n - 1)
    share = (at - low) * (high > low)
    matrix = np.zeros((out, n))
    np.add.at(matrix, (np.arange(out), low), 1 - share)
    np.add.at(matrix, (np.arange(out), high), share)
    return matrix


def _nearest(n: int, out: int, corners: bool, half: bool) -> Array:
    """(out, n): one 1 a row."""
    scale = (n - 1) / (out - 1) if corners and out > 1 else n / out
    at = (np.arange(out) + (0.5 if half else 0.0)) * scale
    index = (np.floor(at + 0.5) if corners else np.floor(at)).astype(int).clip(0, n - 1)
    matrix: Array = np.eye(n)[index]
    return matrix


MOVES: Mapping[str, Rule] = MappingProxyType(
    {
        "RESHAPE": reshape,
        "SQUEEZE": reshape,
        "EXPAND_DIMS": reshape,
        "QUANTIZE": identity,
        "DEQUANTIZE": identity,
        "TRANSPOSE": transpose,
        "PAD": pad,
        "PADV2": pad,
        "MIRROR_PAD": mirror_pad,
        "CONCATENATION": concatenation,
        "PACK": pack,
        "UNPACK": unpack,
        "SPLIT": split,
        "SPLIT_V": split_v,
        "SLICE": slice_,
        "STRIDED_SLICE": strided_slice,
        "GATHER": gather,
        "SPACE_TO_DEPTH": space_to_depth,
        "DEPTH_TO_SPACE": depth_to_space,
        "TILE": tile,
        "BROADCAST_TO": broadcast_to,
        "RESIZE_BILINEAR": resize(True),
        "RESIZE_NEAREST_NEIGHBOR": resize(False),
    }
)
"""Operations by name."""
