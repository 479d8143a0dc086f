"""Values that move: slices, joins, orders, borders, repetitions, blocks. NumPy says it all."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from .node import Node, zero_point_of

Array = npt.NDArray[Any]


def zero_of(node: Node) -> int:
    """Real zero in the output's numbers."""
    return 0 if node.output.quantization is None or node.output.dtype == "float32" else zero_point_of(node.output)


def slice_(node: Node) -> Array:
    """begin, size (rank,); −1 is the rest."""
    x = node.array(0)
    spans = zip(node.array(1).tolist(), node.array(2).tolist(), x.shape, strict=True)
    return x[tuple(slice(b, d if s == -1 else b + s) for b, s, d in spans)]


def split(node: Node) -> tuple[Array, ...]:
    """axis, input; equal pieces."""
    return tuple(np.split(node.array(1), node.option("num_splits"), axis=int(node.array(0).reshape(-1)[0])))


def split_v(node: Node) -> tuple[Array, ...]:
    """input, lengths, axis."""
    x, axis = node.array(0), int(node.array(2).reshape(-1)[0])
    lengths = node.array(1).tolist()
    if -1 in lengths:
        lengths[lengths.index(-1)] = x.shape[axis] - sum(lengths) - 1
    return tuple(np.split(x, np.cumsum(lengths)[:-1], axis=axis))


def pack(node: Node) -> Array:
    """A new axis."""
    return np.stack([a for a in node.arrays if a is not None], axis=node.option("axis"))


def unpack(node: Node) -> tuple[Array, ...]:
    """One output for each index along an axis."""
    x, axis = node.array(0), node.option("axis")
    return tuple(np.take(x, k, axis=axis) for k in range(x.shape[axis]))


def transpose(node: Node) -> Array:
    """input, order."""
    return np.transpose(node.array(0), node.array(1).tolist())


def pad_v2(node: Node) -> Array:
    """input, (rank, 2) counts, value."""
    return np.pad(node.array(0), node.array(1).tolist(), constant_values=node.array(2).reshape(-1)[0])


def mirror_pad(node: Node) -> Array:
    """REFLECT 0, SYMMETRIC 1."""
    return np.pad(node.array(0), node.array(1).tolist(), mode="symmetric" if node.option("mode") else "reflect")


def tile(node: Node) -> Array:
    """input, multiples."""
    return np.tile(node.array(0), node.array(1).tolist())


def broadcast_to(node: Node) -> Array:
    """input, shape."""
    return np.broadcast_to(node.array(0), node.array(1).tolist())


def fill(node: Node) -> Array:
    """shape, value."""
    return np.full(node.array(0).tolist(), node.array(1).reshape(-1)[0])


def space_to_depth(node: Node) -> Array:
    """Blocks become channels."""
    x, k = node.array(0), node.option("block_size")
    n, h, w, c = x.shape
    return x.reshape(n, h // k, k, w // k, k, c).transpose(0, 1, 3, 2, 4, 5).reshape(n, h // k, w // k, k * k * c)


def depth_to_space(node: Node) -> Array:
    """Channels become blocks."""
    x, k = node.array(0), node.option("block_size")
    n, h, w, c = x.shape
    return x.reshape(n, h, w, k, k, c // k // k).transpose(0, 1, 3, 2, 4, 5).reshape(n, h * k, w * k, c // k // k)


def space_to_batch_nd(node: Node) -> Array:
    """input, blocks (m,), (m, 2) paddings."""
    x, blocks = node.array(0), node.array(1).tolist()
    m = len(blocks)
    rest = [(0, 0)] * (x.ndim - m - 1)
    x = np.pad(x, [(0, 0), *node.array(2).tolist(), *rest], constant_values=zero_of(node))
    cells = [d // k for d, k in zip(x.shape[1:], blocks, strict=False)]
    split = x.reshape(x.shape[0], *(d for p in zip(cells, blocks, strict=True) for d in p), *x.shape[m + 1 :])
    order = [*range(2, 2 * m + 1, 2), 0, *range(1, 2 * m, 2), *range(2 * m + 1, split.ndim)]
    return split.transpose(order).reshape(-1, *cells, *x.shape[m + 1 :])


def batch_to_space_nd(node: Node) -> Array:
    """input, blocks (m,), (m, 2) crops."""
    x, blocks = node.array(0), node.array(1).tolist()
    m = len(blocks)
    n, cells, tail = x.shape[0] // math.prod(blocks), x.shape[1 : m + 1], x.shape[m + 1 :]
    split = x.reshape(*blocks, n, *cells, *tail)
    order = [m, *(i for k in range(m) for i in (m + 1 + k, k)), *range(2 * m + 1, split.ndim)]
    whole = split.transpose(order).reshape(n, *(c * k for c, k in zip(cells, blocks, strict=True)), *tail)
    crops = [slice(a, d - b) for (a, b), d in zip(node.array(2).tolist(), whole.shape[1:], strict=False)]
    return whole[(slice(None), *crops)]


def reverse_v2(node: Node) -> Array:
    """input, axes."""
    return np.flip(node.array(0), tuple(node.array(1).tolist()))


# --- by indices -----------------------------------------------------------------------------------------------------------


def gather(node: Node) -> Array:
    """input, indices; shared leading dimensions."""
    x, indices = node.array(0), node.array(1)
    axis, shared = node.option("axis"), node.option("batch_dims")
    if not shared:
        return np.take(x, indices, axis=axis)
    flat = zip(x.reshape(-1, *x.shape[shared:]), indices.reshape(-1, *indices.shape[shared:]), strict=True)
    parts = [np.take(a, i, axis=axis - shared) for a, i in flat]
    return np.stack(parts).reshape(*x.shape[:shared], *parts[0].shape)


def gather_nd(node: Node) -> Array:
    """input, tuples."""
    return node.array(0)[tuple(np.moveaxis(node.array(1), -1, 0))]


def embedding_lookup(node: Node) -> Array:
    """indices, rows; int8 rows to float32 where the output is."""
    rows = node.array(1)[node.array(0)]
    return rows


def scatter_nd(node: Node) -> Array:
    """tuples, updates, shape; what meets is added."""
    y = np.zeros(node.array(2).tolist(), node.array(1).dtype)
    np.add.at(y, tuple(np.moveaxis(node.array(0), -1, 0)), node.array(1))
    return y


def dynamic_update_slice(node: Node) -> Array:
    """operand, update, start, which is moved until the update fits."""
    x, update = node.array(0).copy(), node.array(1)
    room = np.array(x.shape) - np.array(update.shape)
    start = np.clip(node.array(2), 0, room)
    x[tuple(slice(s, s + d) for s, d in zip(start, update.shape, strict=True))] = update
    return x


# --- by order -------------------------------------------------------------------------------------------------------------


def arg_max(node: Node) -> Array:
    """The first greatest."""
    return np.argmax(node.array(0), axis=int(node.array(1).reshape(-1)[0])).astype(node.output.dtype)


def arg_min(node: Node) -> Array:
    """The first least."""
    return np.argmin(node.array(0), axis=int(node.array(1).reshape(-1)[0])).astype(node.output.dtype)


def top_k(node: Node) -> tuple[Array, ...]:
    """Values in falling order and where they stood, the first of equals first."""
    x, k = node.array(0), int(node.array(1).reshape(-1)[0])
    wide = x.astype(np.float64 if x.dtype.kind == "f" else np.int64)
    order = np.argsort(-wide, axis=-1, kind="stable")[..., :k]
    return np.take_along_axis(x, order, axis=-1), order.astype(np.int32)


def cumsum(node: Node) -> Array:
    """Sums along an axis, from the end or without the element itself."""
    x, axis = node.array(0), int(node.array(1).reshape(-1)[0])
    x = np.flip(x, axis) if node.option("reverse", False) else x
    y = np.cumsum(x, axis=axis, dtype=x.dtype)
    if node.option("exclusive", False):
        y = np.concatenate([np.zeros_like(np.take(y, [0], axis)), np.take(y, range(y.shape[axis] - 1), axis)], axis)
    return np.flip(y, axis) if node.option("reverse", False) else y
