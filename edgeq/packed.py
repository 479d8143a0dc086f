"""Constants that a file keeps in fewer bytes than they have elements: int4 in halves of bytes, sparse tensors by their format.

Sources: TFLite kernels/internal/portable_tensor_utils.cc (UnpackDenseInt4IntoInt8), and the schema's SparsityParameters
with lite/kernels/internal/utils/sparsity_format_converter.cc. Everything comes from a file, so everything is checked.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from edgeq.errors import CheckError
from edgeq.graph import NUMPY_DTYPES, Array, Graph, Table, Tensor
from edgeq.records import replace
from edgeq.tflite.limits import MAX_RANK, MAX_TENSOR_BYTES

DENSE, SPARSE_CSR = 0, 1


def unpacked(t: Tensor) -> Tensor:
    """The tensor as operations read it: int4 as int8. Others as they are."""
    if t.dtype == "int4" and t.data is not None:
        return replace(t, dtype="int8", data=nibbles(t.data, t.size).reshape(t.shape))
    return t


def densified(graph: Graph) -> Graph:
    """The graph with its sparse constants dense; raises CheckError for one that contradicts itself."""
    if all(t.sparsity is None for g in graph.subgraphs for t in g.tensors):
        return graph
    subgraphs = tuple(replace(g, tensors=tuple(map(_densified, g.tensors))) for g in graph.subgraphs)
    return replace(graph, subgraphs=subgraphs)


def _densified(t: Tensor) -> Tensor:
    return replace(t, data=dense(t), sparsity=None) if t.sparsity is not None and t.data is not None else t


def nibbles(raw: Array, count: int) -> Array:
    """(count,) int8 out of bytes, the low half first."""
    signed = raw.view(np.int8)
    both = np.stack([signed << 4 >> 4, signed >> 4], axis=-1).reshape(-1)
    return np.ascontiguousarray(both[:count])


def dense(t: Tensor) -> Array:
    """A sparse constant's elements in its shape.

    Raises CheckError where the sparsity contradicts itself, the shape or the values.
    """
    where = f"sparse tensor {t.name!r}"
    s, rank, raw = t.sparsity, len(t.shape), t.data
    if s is None or raw is None or t.dtype not in NUMPY_DTYPES:
        raise CheckError(f"{where} is of type {t.dtype}, and holds no values that can be read")
    if rank > MAX_RANK or min(t.shape, default=0) < 0 or math.prod(t.shape) * 8 > MAX_TENSOR_BYTES:
        raise CheckError(f"{where}: shape {list(t.shape)} of {t.dtype} is too large")
    order, blocks = [int(v) for v in s.traversal_order or ()], [int(v) for v in s.block_map or ()]
    levels = tuple(s.dim_metadata or ())
    sound = sorted(order) == list(range(rank + len(blocks))) and len(levels) == len(order)
    if not sound or len(set(blocks)) != len(blocks) or any(not 0 <= d < rank for d in blocks):
        raise CheckError(f"{where}: order {order} of {rank} dimensions with blocks {blocks} and {len(levels)} levels")
    values = (
        np.frombuffer(raw.tobytes(), NUMPY_DTYPES[t.dtype])
        if raw.nbytes % NUMPY_DTYPES[t.dtype].itemsize == 0
        else None
    )
    if values is None:
        raise CheckError(f"{where}: {raw.nbytes} bytes of {t.dtype}")
    inner = [int(levels[order.index(rank + k)].dense_size) for k in range(len(blocks))]
    if any(n < 1 or t.shape[d] % n for n, d in zip(inner, blocks, strict=True)):
        raise CheckError(f"{where}: blocks of {inner} along {blocks} of shape {list(t.shape)}")
    block_of = dict(zip(blocks, inner, strict=True))
    extents = [t.shape[d] // block_of.get(d, 1) for d in range(rank)] + inner
    position = np.zeros(1, np.int64)
    coordinates: list[Array] = []
    for level, d in zip(levels, order, strict=True):
        parent, index, position = _descend(level, position, extents[d], len(values), where)
        coordinates = [c[parent] for c in coordinates] + [index]
    if len(position) and (position.max() >= len(values) or len(np.unique(position)) != len(position)):
        raise CheckError(f"{where}: {len(values)} values for {len(position)} places")
    at = [np.zeros(len(position), np.int64) for _ in range(rank)]
    for d, c in zip(order, coordinates, strict=True):
        if d < rank:
            at[d] += c * block_of.get(d, 1)
        else:
            at[blocks[d - rank]] += c
    out = np.zeros(t.shape, NUMPY_DTYPES[t.dtype])
    out[tuple(at)] = values[position]
    return out


def _descend(level: Table, position: Array, extent: int, most: int, where: str) -> tuple[Array, Array, Array]:
    """One level further: each new entry's parent, its index along the level's dimension, its position."""
    if level.format == DENSE:
        if int(level.dense_size) != extent:
            raise CheckError(f"{where}: a level of {level.dense_size}, {extent} is expected")
        index = np.tile(np.arange(extent, dtype=np.int64), len(position))
        parent = np.repeat(np.arange(len(position)), extent)
        return parent, index, position[parent] * extent + index
    segments, indices = _numbers(level.array_segments), _numbers(level.array_indices)
    if len(position) and position.max() + 1 >= len(segments):
        raise CheckError(f"{where}: {len(segments)} segments, more than {int(position.max()) + 1} are expected")
    first, last = segments[position], segments[position + 1]
    if (
        np.any(first > last)
        or np.any(first < 0)
        or (len(last) and last.max() > len(indices))
        or np.sum(last - first) > most
    ):
        raise CheckError(f"{where}: segments that do not rise within {len(indices)} indices")
    counts = last - first
    parent = np.repeat(np.arange(len(position)), counts)
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]]) if len(counts) else counts
    found = first[parent] + np.arange(len(parent)) - starts[parent]
    index = indices[found]
    if np.any((index < 0) | (index >= extent)):
        raise CheckError(f"{where}: an index outside a dimension of {extent}")
    return parent, index, found


def _numbers(vector: Any) -> Array:
    """The values of a SparseIndexVector of any width."""
    values = vector.values.get("values") if isinstance(vector, Table) else None
    if isinstance(values, bytes):
        return np.frombuffer(values, np.uint8).astype(np.int64)
    return np.asarray(() if values is None else values, np.int64)
