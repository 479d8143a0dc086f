"""Weights with few different values, found in a .tflite file: what a sealed bundle stores as codebooks and indices."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq import limits
from edgeq.coding import DEFLATED, PACKED, Section, deflate, encode, pack
from edgeq.graph import Graph, Tensor, constants

Array = npt.NDArray[Any]

LEAST = 256
"""Weights below which a section would not pay."""

WORTH = 0.9
"""Of the model's size: a coded payload that is no smaller is not worth decoding."""

MOST = 0.85
"""Of a tensor's size, likewise."""

WIDE = 0.8
"""The same of a tensor with more than 16 codes to a channel."""

NARROWED = 102
"""The largest code of such a tensor: a model whose weights use all of int8 stays as it is, and opens without being decoded."""


def coded(model: bytes, graph: Graph) -> bytes | None:
    """The coded payload of a model file and its graph, None where it would not be clearly smaller, or nothing in it has few
    codes.

    The graph must have been read from these bytes. Decoding gives them back, byte for byte.
    """
    found: list[Section] = []
    end = 0
    for offset, t in sorted(_weights(model, graph), key=lambda pair: pair[0]):
        one = section(offset, np.asarray(t.data)) if offset >= end and len(found) < limits.SECTIONS else None
        if one is not None:
            found.append(one)
            end = offset + one.size
    if not found:
        return None
    payload = encode(model, found)
    return payload if len(payload) <= WORTH * len(model) else None


def _weights(model: bytes, graph: Graph) -> list[tuple[int, Tensor]]:
    """The int8 constants that lie in the file as they are, with their offsets."""
    base = np.frombuffer(model, np.uint8)
    first = base.__array_interface__["data"][0]
    found = {}
    for subgraph in graph.subgraphs:
        for _, t in constants(subgraph):
            data = t.data
            if t.dtype != "int8" or data is None or data.ndim < 2 or data.size < LEAST or not data.flags.c_contiguous:
                continue
            offset = data.__array_interface__["data"][0] - first
            if 0 <= offset <= len(model) - data.size and base[offset : offset + data.size].tobytes() == data.tobytes():
                found[offset] = t
    return list(found.items())


def section(offset: int, weights: Array) -> Section | None:
    """Weights (channels, …) as a section, with the sharing that makes it smallest; None where it does not pay."""
    rows = weights.reshape(len(weights), -1).view(np.uint8)
    channels, row = rows.shape
    order = (weights.reshape(channels, -1).astype(np.int16) + 128).astype(np.uint8)  # ascending like the codes
    present = np.zeros((channels, 256), bool)
    present[np.repeat(np.arange(channels), row), order.reshape(-1)] = True
    best: tuple[int, int, int] | None = None  # bytes, share, bits
    for share in range(1, channels + 1) if channels <= 64 else sorted({*range(1, 65), 128, 256, channels}):
        if share > channels:
            break
        counts = np.array([present[g : g + share].any(axis=0).sum() for g in range(0, channels, share)])
        if counts.max() > 16:
            continue
        bits = max(1, int(counts.max() - 1).bit_length())
        size = (len(counts) << bits) + channels * row * bits // 8
        if best is None or size < best[0]:
            best = size, share, bits
    if best is None:
        return _wide(offset, order, present.any(axis=0))
    if best[0] > MOST * weights.size:
        return None
    _, share, bits = best
    levels, indices = [], []
    for g in range(0, channels, share):
        values = np.flatnonzero(present[g : g + share].any(axis=0))
        book = np.zeros(1 << bits, np.uint8)
        book[: len(values)] = (values.astype(np.int16) - 128).astype(np.int8).view(np.uint8)
        levels.append(book.tobytes())
        indices.append(np.searchsorted(values, order[g : g + share]).astype(np.uint8).tobytes())
    flat = b"".join(indices)
    ways = [(PACKED, pack(flat, bits)), (DEFLATED, deflate(flat, zlib.Z_HUFFMAN_ONLY)), (DEFLATED, deflate(flat))]
    packing, data = min(ways, key=lambda way: len(way[1]))
    return Section(offset, channels, row, share, bits, packing, b"".join(levels), data)


def _wide(offset: int, order: Array, present: Array) -> Section | None:
    """Weights (channels, row), as codes + 128, with one codebook for all of them: what an entropy code makes of them."""
    values = np.flatnonzero(present)
    if max(values[-1] - 128, 128 - values[0]) > NARROWED:
        return None
    bits = max(1, int(len(values) - 1).bit_length())
    book = np.zeros(1 << bits, np.uint8)
    book[: len(values)] = (values.astype(np.int16) - 128).astype(np.int8).view(np.uint8)
    indices = np.searchsorted(values, order).astype(np.uint8).tobytes()
    data = min(deflate(indices, zlib.Z_HUFFMAN_ONLY), deflate(indices), key=len)
    if len(data) + len(book) > WIDE * order.size:
        return None
    channels, row = order.shape
    return Section(offset, channels, row, channels, bits, DEFLATED, book.tobytes(), data)
