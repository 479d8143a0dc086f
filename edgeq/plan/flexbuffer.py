"""The numbers of a FlexBuffers map, which custom operations keep their options in; every offset is checked.

Format: FlatBuffers' documentation of FlexBuffers. Read from the end: byte width and type of the root.
"""

from __future__ import annotations

import struct

INT, UINT, FLOAT, MAP, BOOL = 1, 2, 3, 9, 26
INDIRECT = {6: INT, 7: UINT, 8: FLOAT}
MAX_ENTRIES = 1024


def scalars(data: bytes) -> dict[str, float]:
    """The map's entries that are numbers or booleans; raises ValueError for what is no sound map."""
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
    found = {}
    for i in range(count):
        at = keys + i * key_width
        begin = at - _unsigned(data, at, key_width)
        end = data.index(b"\0", begin) if begin >= 0 else -1
        value = _value(data, start + i * own, own, _byte(data, start + count * own + i))
        if value is not None:
            found[data[begin:end].decode("utf-8", "replace")] = value
    return found


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
