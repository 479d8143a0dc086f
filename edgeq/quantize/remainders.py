"""What rounding took off the weights, in a few bits of each: a float model that travels inside its integer form for little.

A code says that a weight lay within half a step of what it stands for. What calibration needs beyond that is where in its
cell, and to a quarter or an eighth of the cell is enough: that takes 12 or 18 dB off the error that the codes leave open. With
the biases as reals this is the float model again, all but a little, at 2 or 3 bits of each weight where the model itself would
take 32. What is still open is known, and asked before anything is changed (edgeq.quantize.cells).

The parts' middles hold 0: weights that are what their codes stand for stay that, for on a grid all would err to one side.

It lies in the model's metadata, which runtimes do not look at (docs/bundle-format.md, "Remainders"), and names by a digest
the weights that it belongs to: where these have been changed since, it stands for nothing, and is passed over. A model file is
untrusted input: every length is held against what is there before anything is unpacked.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache, partial
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from edgeq.coding import DEFLATED, PACKED, deflate, pack, unpack
from edgeq.digest import sha256
from edgeq.errors import CodingError, ModelError
from edgeq.graph import Graph, Metadata, Op, Tensor
from edgeq.pieces import Floats, Piece, of_channels, whole
from edgeq.quantize.canonical import real
from edgeq.quantize.cells import width
from edgeq.quantize.parameters import Rewritten
from edgeq.quantize.rules import RULES
from edgeq.records import dataclass, replace

Array = npt.NDArray[Any]

NAME: Final = "edgeq_remainders"
"""Of the metadata entry."""

MAGIC: Final = b"EQR1"
HEADER: Final = struct.Struct("<4s32sI")
"""Magic, the digest of the weights, number of layers."""

LAYER: Final = struct.Struct("<IIIHhBBHI")
"""Operation, weights, biases, parts of a cell, the least remainder in such parts, bits, packing, zero, bytes of remainders."""

NOTHING: Final = 0.01
"""Of a cell: weights that are nowhere further from their codes were no others."""

FURTHEST: Final = 127
"""Parts, that a remainder may be from its code: a weight further off is told as that far."""


@dataclass(frozen=True, eq=False)
class Real:
    """A layer's weights as they were, in the order of the integer ones, and its biases, (channels,) or none."""

    weights: Array
    biases: Array | None


def reals(graph: Graph, done: Rewritten) -> dict[int, Real]:
    """What the layers of an integer graph were in the float graph that it was rewritten from."""
    found = {}
    for n, there in done.ops.items():
        op, rule = graph.ops[n], RULES.get(graph.ops[n].code)
        if rule is None or rule.weights is None or not _coded(done.graph, done.graph.ops[there]):
            continue
        w, bias = graph.tensors[op.inputs[rule.weights]], _bias(graph, n)
        if w.dtype == "float32" and w.data is not None and w.shape == done.graph.tensors[_at(done.graph, there)].shape:
            found[there] = Real(np.asarray(w.data), None if bias is None else np.asarray(graph.tensors[bias].data))
    return found


def with_remainders(graph: Graph, layers: Mapping[int, Real], parts: int) -> Graph:
    """The integer graph with what its layers were, by operation, in its metadata, in place of any that it had.

    parts: of a cell, that are told apart.
    """
    found = {n: _layer(graph, n, layers[n], parts) for n in weighted(graph) if n in layers}
    made = [one for one in found.values() if one is not None]
    head = HEADER.pack(MAGIC, _digest(graph), len(made))
    data = b"".join([head, *(record for record, _ in made), *(body for _, body in made)])
    return replace(graph, metadata=(*without(graph).metadata, Metadata(NAME, data)))


def without(graph: Graph) -> Graph:
    """The graph without remainders."""
    return replace(graph, metadata=tuple(m for m in graph.metadata if m.name != NAME))


def size(graph: Graph) -> int:
    """Bytes of the remainders in a graph."""
    return sum(len(m.data) for m in graph.metadata if m.name == NAME)


def remembered(graph: Graph, floats: Graph) -> Graph | None:
    """The float model that the remainders in a graph make of it; floats: what its codes stand for (edgeq.quantize.reconstruct).

    None where there are none, or these weights are not those that they belong to. Raises ModelError for remainders that
    contradict themselves or the model.
    """
    data = _found(graph)
    if data is None:
        return None
    try:
        return _told(data, graph, floats)
    except CodingError as error:
        raise ModelError(f"remainders of the weights: {error}") from None


def remembered_in(graph: Graph, floats: Floats) -> Floats | None:
    """As `remembered`, of a model in pieces: what a piece's layers were is told when its turn comes."""
    if floats.whole:
        near = remembered(graph, floats.graph)
        return None if near is None else whole(near)
    data = _found(graph)
    try:
        records = None if data is None else _records(data, graph)
        if data is None or records is None:
            return None
        told = {record[0]: (record, place) for record, place in _placed(data, records, graph, floats.graph)}
    except CodingError as error:
        raise ModelError(f"remainders of the weights: {error}") from None
    return Floats(floats.graph, floats.pieces, partial(_part, _Told(data, told, graph), floats))


def weighted(graph: Graph) -> list[int]:
    """The layers whose weights are constants of 8 bits with scales."""
    return [n for n, op in enumerate(graph.ops) if _coded(graph, op)]


def _coded(graph: Graph, op: Op) -> bool:
    rule = RULES.get(op.code)
    if rule is None or rule.weights is None or rule.weights >= len(op.inputs) or op.inputs[rule.weights] < 0:
        return False
    w = graph.tensors[op.inputs[rule.weights]]
    scaled = w.quantization is not None and len(w.quantization.scale) > 0
    return w.data is not None and w.dtype in ("int8", "uint8") and scaled


def _layer(graph: Graph, n: int, was: Real, parts: int) -> tuple[bytes, bytes] | None:
    """A record, and what stands behind all records; None where the weights are what their codes stand for."""
    at = _at(graph, n)
    away = (was.weights - real(graph.tensors[at])) * (np.float32(parts) / width(graph.tensors[at]))
    if np.abs(away).max(initial=0) < NOTHING * parts:
        return None
    codes = np.clip(np.rint(away), -FURTHEST - 1, FURTHEST).astype(np.int16).reshape(-1)
    low, high = int(codes.min(initial=0)), int(codes.max(initial=0))
    indices = (codes - low).astype(np.uint8).tobytes()
    bits = max(1, (high - low).bit_length())
    ways = [(PACKED, pack(indices, bits))] if bits <= 4 else []
    ways.append((DEFLATED, deflate(indices, zlib.Z_HUFFMAN_ONLY)))
    packing, body = min(ways, key=lambda way: len(way[1]))
    there = _bias(graph, n)
    biases = np.zeros(0 if there is None else graph.tensors[there].size, "<f4")
    if there is not None and was.biases is not None:
        biases[:] = was.biases.reshape(-1)
    record = LAYER.pack(n, codes.size, len(biases), parts, low, bits, packing, 0, len(body))
    return record, body + biases.tobytes()


def left_open(graph: Graph) -> dict[int, Array]:
    """By tensor of weights how wide the part of a cell is in which each of them lay, to be broadcast; of a graph of which
    something is `remembered`. What is not told is known."""
    data = next(m.data for m in graph.metadata if m.name == NAME)
    count = HEADER.unpack_from(data)[2]
    records = (LAYER.unpack_from(data, HEADER.size + k * LAYER.size) for k in range(count))
    return {_at(graph, n): width(graph.tensors[_at(graph, n)]) / np.float32(parts) for n, _, _, parts, *_ in records}


def _found(graph: Graph) -> memoryview | None:
    found = next((m for m in graph.metadata if m.name == NAME), None)
    return None if found is None else memoryview(found.data)


Record = tuple[int, ...]
"""A layer's, as LAYER has it."""


def _records(data: memoryview, graph: Graph) -> list[Record] | None:
    """The layers' records, None of other weights."""
    if len(data) < HEADER.size:
        raise CodingError(f"{len(data)} bytes, expected at least {HEADER.size}")
    magic, digest, count = HEADER.unpack(data[: HEADER.size])
    if magic != MAGIC:
        raise CodingError(f"they begin with {bytes(magic)!r}, expected {MAGIC!r}")
    if digest != _digest(graph):  # before layers are counted: there may be fewer than there were
        return None
    own, start = weighted(graph), HEADER.size + count * LAYER.size
    if count > len(own) or start > len(data):
        raise CodingError(f"{count} layers in {len(data)} bytes, of a model that has {len(own)}")
    records: list[Record] = [LAYER.unpack_from(data, HEADER.size + k * LAYER.size) for k in range(count)]
    told = [record[0] for record in records]
    if sorted(set(told)) != told or not set(told) <= set(own):
        raise CodingError(f"layers {told}, expected some of {own}, ascending")
    return records


def _placed(data: memoryview, records: Sequence[Record], graph: Graph, floats: Graph) -> Iterator[tuple[Record, int]]:
    """Each record, held against what is there, and where its layer's bytes begin."""
    place = HEADER.size + len(records) * LAYER.size
    for record in records:
        end = _end(data, place, record, graph, floats)
        yield record, place
        place = end
    if place != len(data):
        raise CodingError(f"{len(data) - place} bytes behind the end")


def _end(data: memoryview, place: int, record: Record, graph: Graph, floats: Graph) -> int:
    """Where a layer's bytes end."""
    n, count, channels, parts, low, bits, packing, zero, length = record
    at, bias = _at(graph, n), _bias(floats, n)
    if count != graph.tensors[at].size or zero or not parts or not -FURTHEST - 1 <= low <= 0:
        raise CodingError(
            f"layer {n}: {count} weights in parts of 1/{parts} from {low}, expected {graph.tensors[at].size}"
        )
    if not 1 <= bits <= 8 or packing not in (PACKED, DEFLATED) or (packing == PACKED and bits > 4):
        raise CodingError(f"layer {n}: {bits} bits, packing {packing}; expected 1 to 8, 0 or 1")
    wanted = 0 if bias is None else floats.tensors[bias].size
    if channels not in (0, wanted):
        raise CodingError(f"layer {n}: {channels} biases, expected {wanted}")
    end = place + length + 4 * channels
    if end > len(data):
        raise CodingError(f"layer {n} ends at {end}, the remainders at {len(data)}")
    return end


class _Told:
    """What is told of layers: by operation its record, and where its bytes begin."""

    def __init__(self, data: memoryview, layers: Mapping[int, tuple[Record, int]], graph: Graph) -> None:
        self.layers = layers
        self._data, self._graph = data, graph
        self._again = lru_cache(2)(self._indices)

    def _indices(self, n: int) -> Array:
        (_, count, _, _, _, bits, packing, _, length), place = self.layers[n]
        found = unpack(self._data[place : place + length], count, bits, packing, f"layer {n}")
        return np.frombuffer(found, np.uint8).reshape(self._graph.tensors[_at(self._graph, n)].shape)

    def put(self, n: int, floats: Graph, there: int, tensors: list[Tensor], channels: tuple[int, int] | None) -> None:
        """Put a layer's weights and biases in their places among the tensors of `floats`, where it is operation `there`;
        channels: those alone."""
        (_, _, count, parts, low, _, _, _, length), place = self.layers[n]
        at, bias = _at(self._graph, n), _bias(floats, there)
        coded, t = self._graph.tensors[at], floats.tensors[at]
        indices = self._indices(n) if channels is None else self._again(n)[slice(*channels)]
        away = (indices.astype(np.float32) + np.float32(low)) / np.float32(parts)
        cell = width(coded if channels is None else of_channels(coded, channels))
        weights = np.asarray(t.data) + away * cell
        tensors[at] = replace(t, data=weights.astype(np.float32, copy=False), buffer=0)
        if count and bias is not None:
            b, start = floats.tensors[bias], place + length
            values = np.frombuffer(self._data[start : start + 4 * count], "<f4").astype(np.float32)
            values = values if channels is None else values[slice(*channels)]
            if not np.isfinite(values).all():
                raise CodingError(f"layer {n}: a bias is not finite")
            tensors[bias] = replace(b, data=values.reshape(b.shape), buffer=0)


def _told(data: memoryview, graph: Graph, floats: Graph) -> Graph | None:
    records = _records(data, graph)
    if records is None:
        return None
    told = _Told(data, {record[0]: (record, place) for record, place in _placed(data, records, graph, floats)}, graph)
    tensors = list(floats.tensors)
    for n in told.layers:
        told.put(n, floats, n, tensors, None)
    return floats.with_main(tensors=tuple(tensors))


def _part(told: _Told, floats: Floats, piece: Piece) -> Graph:
    """A piece, with what its layers were."""
    part = floats.part(piece)
    tensors = list(part.tensors)
    try:
        for n in range(piece.start, piece.stop):
            if n in told.layers:
                told.put(n, part, n - piece.start, tensors, piece.channels)
    except CodingError as error:
        raise ModelError(f"remainders of the weights: {error}") from None
    return part.with_main(tensors=tuple(tensors))


def _at(graph: Graph, n: int) -> int:
    """The tensor of a layer's weights."""
    position = RULES[graph.ops[n].code].weights
    assert position is not None
    return graph.ops[n].inputs[position]


def _bias(floats: Graph, n: int) -> int | None:
    """The tensor of a layer's biases in the float graph, where they are its own and constant."""
    op, rule = floats.ops[n], RULES[floats.ops[n].code]
    if rule.bias is None or rule.bias >= len(op.inputs) or op.inputs[rule.bias] < 0:
        return None
    return op.inputs[rule.bias] if floats.tensors[op.inputs[rule.bias]].data is not None else None


def _digest(graph: Graph) -> bytes:
    """Of all layers' weights: their codes, scales and zero points."""
    layers = weighted(graph)
    found = sha256(size=sum(graph.tensors[_at(graph, n)].size for n in layers))
    for n in layers:
        t = graph.tensors[_at(graph, n)]
        assert t.quantization is not None
        for part in (t.data, t.quantization.scale, t.quantization.zero_point):
            found.update(np.ascontiguousarray(part).data)
    return found.digest()
