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
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from edgeq.coding import DEFLATED, PACKED, deflate, pack, unpack
from edgeq.digest import sha256
from edgeq.errors import CodingError, ModelError
from edgeq.graph import Graph, Metadata, Op
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
    found = next((m for m in graph.metadata if m.name == NAME), None)
    if found is None:
        return None
    try:
        return _told(memoryview(found.data), graph, floats)
    except CodingError as error:
        raise ModelError(f"remainders of the weights: {error}") from None


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


def _told(data: memoryview, graph: Graph, floats: Graph) -> Graph | None:
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
    records = [LAYER.unpack_from(data, HEADER.size + k * LAYER.size) for k in range(count)]
    told = [record[0] for record in records]
    if sorted(set(told)) != told or not set(told) <= set(own):
        raise CodingError(f"layers {told}, expected some of {own}, ascending")
    tensors, place = list(floats.tensors), start
    for record in records:
        place = _layer_told(data, place, record, graph, floats, tensors)
    if place != len(data):
        raise CodingError(f"{len(data) - place} bytes behind the end")
    return floats.with_main(tensors=tuple(tensors))


def _layer_told(
    data: memoryview, place: int, record: Sequence[int], graph: Graph, floats: Graph, tensors: list[Any]
) -> int:
    """Put a layer's weights and biases in their places among the tensors; where its bytes end."""
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
    indices = unpack(data[place : place + length], count, bits, packing, f"layer {n}")
    away = (np.frombuffer(indices, np.uint8).astype(np.float32) + np.float32(low)) / np.float32(parts)
    t = floats.tensors[at]
    weights = np.asarray(t.data) + away.reshape(t.shape) * width(graph.tensors[at])
    tensors[at] = replace(t, data=weights.astype(np.float32), buffer=0)
    if channels and bias is not None:
        b = floats.tensors[bias]
        values = np.frombuffer(data[place + length : end], "<f4").astype(np.float32).reshape(b.shape)
        if not np.isfinite(values).all():
            raise CodingError(f"layer {n}: a bias is not finite")
        tensors[bias] = replace(b, data=values, buffer=0)
    return end


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
