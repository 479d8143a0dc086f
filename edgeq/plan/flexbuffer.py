"""Numbers and lists of integers in a FlexBuffers map, which custom operations keep their options in; every offset is checked.

Format: FlatBuffers' documentation of FlexBuffers. Read from the end: byte width and type of the root.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

INT, UINT, FLOAT, MAP, BOOL = 1, 2, 3, 9, 26
INDIRECT = {6: INT, 7: UINT, 8: FLOAT}
VECTOR, VECTORS = 10, {11: INT, 12: UINT}
MAX_ENTRIES = 1024


def scalars(data: bytes) -> dict[str, float]:
    """The map's entries that are numbers or booleans; raises ValueError for what is no sound map."""
    found = {}
    for name, at, width, packed in _entries(data):
        value = _value(data, at, width, packed)
        if value is not None:
            found[name] = value
    return found


def integers(data: bytes, wanted: str) -> list[int]:
    """The entry of that name, a vector of integers; raises ValueError for what is none, and for what is no sound map."""
    for name, at, width, packed in _entries(data):
        kind = packed >> 2
        if name == wanted and kind in (VECTOR, *VECTORS):
            start, own = at - _unsigned(data, at, width), 1 << (packed & 3)
            count = _unsigned(data, start - own, own)
            if count > MAX_ENTRIES:
                raise ValueError("too many entries")
            same = VECTORS.get(kind, 0) << 2 | packed & 3
            types = [same if kind != VECTOR else _byte(data, start + count * own + k) for k in range(count)]
            found = [_value(data, start + k * own, own, types[k]) for k in range(count)]
            if all(type(v) is int for v in found):
                return [int(v) for v in found if v is not None]
    raise ValueError(f"no integers named {wanted}")


def _entries(data: bytes) -> Iterator[tuple[str, int, int, int]]:
    """Name, place, width and packed type of every entry."""
    if len(data) < 3:
        raise ValueError("too short")
    width, kind = data[-1], data[-2]
    root = len(data) - 2 - width
    if kind >> 2 != MAP:
        raise ValueError("no map")
    own = 1 << (kind & 3)
    start = root - _unsigned(data, root, width)
    count = _unsigned(data, start - own, own)
    keys = start - 3 * own - _unsigned(data, start - 3 * own, own)
    key_width = _unsigned(data, start - 2 * own, own)
    if count > MAX_ENTRIES or key_width not in (1, 2, 4, 8):
        raise ValueError("too many entries")
    for i in range(count):
        at = keys + i * key_width
        begin = at - _unsigned(data, at, key_width)
        end = data.index(b"\0", begin) if begin >= 0 else -1
        yield data[begin:end].decode("utf-8", "replace"), start + i * own, own, _byte(data, start + count * own + i)


def _value(data: bytes, at: int, width: int, packed: int) -> float | None:
    kind = packed >> 2
    if kind in INDIRECT:
        at -= _unsigned(data, at, width)
        kind, width = INDIRECT[kind], 1 << (packed & 3)
    if kind == FLOAT:
        if width not in (4, 8):
            raise ValueError("a float of an unknown width")
        value: float = struct.unpack("<f" if width == 4 else "<d", _bytes(data, at, width))[0]
        return value
    if kind == INT:
        return int.from_bytes(_bytes(data, at, width), "little", signed=True)
    return _unsigned(data, at, width) if kind in (UINT, BOOL) else None


def _bytes(data: bytes, at: int, width: int) -> bytes:
    if at < 0 or width not in (1, 2, 4, 8) or at + width > len(data):
        raise ValueError("an offset lies outside")
    return data[at : at + width]


def _byte(data: bytes, at: int) -> int:
    return _bytes(data, at, 1)[0]


def _unsigned(data: bytes, at: int, width: int) -> int:
    return int.from_bytes(_bytes(data, at, width), "little")
