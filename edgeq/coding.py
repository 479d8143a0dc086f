"""A coded payload back into the model that it stands for: codebooks and indices in place of weights, the rest deflated.

docs/bundle-format.md has the format. What is decoded was signed, which does not make it well formed: every length is held
against what is there before anything is allocated or inflated, and the result against its SHA-256. Standard library
alone, so that opening a bundle needs no numbers.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from edgeq import limits
from edgeq.digest import sha256
from edgeq.errors import CodingError
from edgeq.records import dataclass, field

MAGIC: Final = b"EQC1"
HEADER: Final = struct.Struct("<4sI32sI")
"""Magic, size of the model, its SHA-256, number of sections."""

SECTION: Final = struct.Struct("<IIIIBBHI")
"""Offset in the model, channels, weights of a channel, channels to a codebook, bits, packing, zero, bytes of indices."""

PACKED: Final = 0
"""Indices of `bits` bits side by side, those of 3 bits as all low pairs, then all high bits."""
DEFLATED: Final = 1
"""An index to a byte, deflated: its entropy code."""

MOST_INFLATED: Final = 1100
"""A byte deflated stands for at most 1032."""


@dataclass(frozen=True)
class Section:
    """Weights at `offset` of a model, channel by channel; `share` channels after one another have one codebook.

    levels: 2^bits bytes for each codebook; indices: as `packing` says.
    """

    offset: int
    channels: int
    row: int
    share: int
    bits: int
    packing: int
    levels: bytes = field(repr=False)
    indices: bytes = field(repr=False)

    @property
    def size(self) -> int:
        """Weights, which are bytes."""
        return self.channels * self.row

    @property
    def groups(self) -> int:
        """Codebooks."""
        return -(-self.channels // self.share)


def encode(model: bytes | memoryview, sections: Sequence[Section]) -> bytes:
    """The coded payload of a model, some of whose weights are given as sections, ascending and apart."""
    rest = b"".join(bytes(model[a:b]) for a, b in _between(sections, len(model)))
    records = (
        SECTION.pack(s.offset, s.channels, s.row, s.share, s.bits, s.packing, 0, len(s.indices)) for s in sections
    )
    header = HEADER.pack(MAGIC, len(model), sha256(model, len(model)).digest(), len(sections))
    return b"".join([header, *records, *(s.levels for s in sections), *(s.indices for s in sections), deflate(rest)])


def _buffer(size: int) -> memoryview:
    return memoryview(bytearray(size))


def decode(coded: memoryview, buffer: Callable[[int], memoryview] = _buffer) -> memoryview:
    """The model, in a buffer of its own, which `buffer(size)` gives. Raises CodingError for what contradicts itself."""
    if len(coded) < HEADER.size:
        raise CodingError(f"a coded payload of {len(coded)} bytes, expected at least {HEADER.size}")
    magic, size, digest, count = HEADER.unpack(coded[: HEADER.size])
    if magic != MAGIC:
        raise CodingError(f"a coded payload that begins with {bytes(magic)!r}, expected {MAGIC!r}")
    if not 1 <= size <= min(limits.PAYLOAD, MOST_INFLATED * len(coded)):
        raise CodingError(f"a model of {size} bytes in a coded payload of {len(coded)}")
    if count > limits.SECTIONS:
        raise CodingError(f"{count} sections, the limit is {limits.SECTIONS}")
    sections, start = _sections(coded, count, size)
    left = size - sum(s.size for s in sections)
    rest = memoryview(_inflate(coded[start:], left, "the rest of the model"))
    model = buffer(size)
    at = 0
    for a, b in _between(sections, size):
        model[a:b] = rest[at : at + b - a]
        at += b - a
    for s in sections:
        model[s.offset : s.offset + s.size] = _weights(s)
    if sha256(model, len(model)).digest() != digest:
        raise CodingError("the decoded model is not the one that was coded (SHA-256)")
    return model


def pack(indices: bytes, bits: int) -> bytes:
    """Indices, one to a byte, side by side."""
    if bits == 3:
        low = indices.translate(bytes(v & 3 for v in range(256)))
        return pack(low, 2) + pack(indices.translate(bytes((v >> 2) & 1 for v in range(256))), 1)
    each = 8 // bits
    padded = indices + bytes(-len(indices) % each)
    value = 0
    for k in range(each):
        value |= int.from_bytes(padded[k::each], "little") << (bits * k)
    return value.to_bytes(len(padded) // each, "little")


def packed_size(count: int, bits: int) -> int:
    """Bytes of `count` indices side by side."""
    return packed_size(count, 2) + packed_size(count, 1) if bits == 3 else -(-count * bits // 8)


def deflate(data: bytes, strategy: int = zlib.Z_DEFAULT_STRATEGY) -> bytes:
    """Raw deflate, as small as zlib makes it."""
    stream = zlib.compressobj(9, zlib.DEFLATED, -15, 9, strategy)
    return stream.compress(data) + stream.flush()


def _between(sections: Iterable[Section], size: int) -> Iterable[tuple[int, int]]:
    at = 0
    for s in sections:
        yield at, s.offset
        at = s.offset + s.size
    yield at, size


def _sections(coded: memoryview, count: int, size: int) -> tuple[list[Section], int]:
    """The sections, and where the rest begins."""
    start = HEADER.size + count * SECTION.size
    if start > len(coded):
        raise CodingError(f"{count} sections do not fit a coded payload of {len(coded)} bytes")
    bare, at = [], 0
    for k in range(count):
        place = HEADER.size + k * SECTION.size
        offset, channels, row, share, bits, packing, zero, length = SECTION.unpack(coded[place : place + SECTION.size])
        if not (1 <= bits <= 8 and packing in (PACKED, DEFLATED) and zero == 0):
            raise CodingError(f"section {k}: {bits} bits, packing {packing}, {zero}; expected 1 to 8, 0 or 1, 0")
        if packing == PACKED and bits > 4:
            raise CodingError(f"section {k}: {bits} bits side by side, expected 4 at most")
        if not (channels and row and 1 <= share <= channels):
            raise CodingError(f"section {k}: {channels} channels of {row} weights, {share} to a codebook")
        if offset < at or channels * row > size - offset:
            raise CodingError(f"section {k}: {channels * row} weights at {offset}, {at} to {size} is free")
        if packing == PACKED and length != packed_size(channels * row, bits):
            raise CodingError(f"section {k}: {length} bytes for {channels * row} indices of {bits} bits")
        if channels * row > MOST_INFLATED * max(length, 1):
            raise CodingError(f"section {k}: {channels * row} indices in {length} bytes")
        at = offset + channels * row
        bare.append((Section(offset, channels, row, share, bits, packing, b"", b""), length))
    found = []
    lengths = [s.groups << s.bits for s, _ in bare]
    second = start + sum(lengths)
    end = second + sum(length for _, length in bare)
    if end > len(coded):
        raise CodingError(f"codebooks and indices end at {end}, the coded payload at {len(coded)}")
    for (s, length), levels in zip(bare, lengths, strict=True):
        book, indices = bytes(coded[start : start + levels]), bytes(coded[second : second + length])
        found.append(Section(s.offset, s.channels, s.row, s.share, s.bits, s.packing, book, indices))
        start, second = start + levels, second + length
    return found, end


def _weights(s: Section) -> bytes:
    """The weights of a section."""
    indices = unpack(memoryview(s.indices), s.size, s.bits, s.packing, f"the weights at {s.offset}")
    run, count = s.share * s.row, 1 << s.bits
    fill = bytes(256 - count)
    return b"".join(
        indices[g * run : (g + 1) * run].translate(s.levels[g * count : (g + 1) * count] + fill)
        for g in range(s.groups)
    )


def unpack(data: memoryview, count: int, bits: int, packing: int, what: str) -> bytes:
    """`count` indices, one to a byte, of what `pack` or `deflate` made of them. Raises CodingError for anything else."""
    if packing == DEFLATED:
        indices = _inflate(data, count, f"the indices of {what}")
        if indices.translate(None, bytes(range(1 << bits))):
            raise CodingError(f"{what} have an index of {1 << bits} or more")
        return indices
    if len(data) != packed_size(count, bits):
        raise CodingError(f"{what}: {len(data)} bytes for {count} indices of {bits} bits")
    return _unpack(bytes(data), count, bits)


def _unpack(data: bytes, count: int, bits: int) -> bytes:
    if bits == 3:
        cut = packed_size(count, 2)
        low, high = _unpack(data[:cut], count, 2), _unpack(data[cut:], count, 1)
        whole = int.from_bytes(low, "little") | int.from_bytes(high, "little") << 2
        return whole.to_bytes(count, "little")
    each, mask = 8 // bits, (1 << bits) - 1
    out = bytearray(len(data) * each)
    for k in range(each):
        out[k::each] = data.translate(bytes((v >> (bits * k)) & mask for v in range(256)))
    if any(out[count:]):
        raise CodingError("the bits behind the last index are not 0")
    return bytes(out[:count])


def _inflate(data: memoryview, size: int, what: str) -> bytes:
    """Exactly `size` bytes, or CodingError."""
    stream = zlib.decompressobj(-15)
    try:
        found = stream.decompress(data, size + 1)
    except zlib.error:
        raise CodingError(f"{what}: expected deflated bytes") from None
    if len(found) != size or not stream.eof or stream.unused_data or stream.unconsumed_tail:
        raise CodingError(
            f"{what}: expected {size} bytes and the end, found {len(found)} and {'' if stream.eof else 'no '}end"
        )
    return found
