"""Where everything lies in a well-formed .tflite file: what tests need to break exactly one thing in it.

Walks the file with the schema's facts and no checks at all; independent of `edgeq.tflite.decode`, which it helps to test.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from edgeq.tflite.schema import UNION_MEMBERS, Field, layout


@dataclass(frozen=True)
class Site:
    """One thing in the file.

    `kind`: "offset" (u32 from its own place to its target), "vtable offset" (i32 backwards), "vtable" (u16 word: the vtable's
    length, the table's, a field's offset), "length" (u32 of a vector or string), "scalar" (a field or a vector's element),
    "code" (u8 of a union), "text" (a string's bytes), "data" (a constant's bytes). `letter` is the struct letter of a scalar.
    """

    path: str
    kind: str
    pos: int
    size: int
    letter: str = ""


def sites(data: bytes) -> list[Site]:
    """Every site of a well-formed file, each byte of a shared vtable once per table that uses it."""
    out = [Site("root", "offset", 0, 4), Site("identifier", "text", 4, 4)]
    _table(data, "Model", _u32(data, 0), "Model", out)
    return out


def site(data: bytes, path: str, kind: str = "") -> Site:
    """The one site with this path (and kind, where several share it)."""
    found = [s for s in sites(data) if s.path == path and (not kind or s.kind == kind)]
    if len(found) != 1:
        raise LookupError(f"{len(found)} sites are {path} {kind}")
    return found[0]


def patched(data: bytes, where: Site, value: int | float | bytes) -> bytes:
    """The file with one site overwritten: bytes as they are, numbers in the site's own format."""
    letters = {"offset": "I", "length": "I", "vtable offset": "i", "vtable": "H", "code": "B"}
    raw = value if isinstance(value, bytes) else struct.pack("<" + (letters.get(where.kind) or where.letter), value)
    return data[: where.pos] + raw + data[where.pos + len(raw) :]


def _u32(data: bytes, pos: int) -> int:
    return int(struct.unpack_from("<I", data, pos)[0])


def _table(data: bytes, name: str, pos: int, path: str, out: list[Site]) -> None:
    vtable = pos - struct.unpack_from("<i", data, pos)[0]
    length = struct.unpack_from("<H", data, vtable)[0]
    words = struct.unpack_from(f"<{length // 2}H", data, vtable)
    out.append(Site(path, "vtable offset", pos, 4))
    out += [Site(f"{path}.vtable[{k}]", "vtable", vtable + 2 * k, 2) for k in range(len(words))]
    offsets = words[2:]
    for f in layout(name).fields:
        if f.slot < len(offsets) and offsets[f.slot]:
            _field(data, name, f, pos, offsets, path, out)


def _field(data: bytes, table: str, f: Field, pos: int, offsets: tuple[int, ...], path: str, out: list[Site]) -> None:
    here = f"{path}.{f.name}"
    at = pos + offsets[f.slot]
    if f.kind == "scalar":
        out.append(Site(here, "scalar", at, f.size, f.letter))
        return
    out.append(Site(here, "offset", at, 4))
    target = at + _u32(data, at)
    if f.kind == "union":
        code = pos + offsets[f.slot - 1]
        out.append(Site(here, "code", code, 1))
        _table(data, UNION_MEMBERS[f.of][data[code]], target, here, out)
    elif f.kind == "table":
        _table(data, f.of, target, here, out)
    elif f.kind == "str":
        _string(data, target, here, out)
    else:
        _vector(data, table, f, target, here, out)


def _vector(data: bytes, table: str, f: Field, pos: int, path: str, out: list[Site]) -> None:
    count = _u32(data, pos)
    out.append(Site(path, "length", pos, 4))
    if f.items == "scalar" and f.letter == "B":
        out.append(Site(path, "data", pos + 4, count))
        return
    for k in range(count):
        at = pos + 4 + k * f.size
        here = f"{path}[{k}]"
        if f.items == "scalar":
            out.append(Site(here, "scalar", at, f.size, f.letter))
            continue
        out.append(Site(here, "offset", at, 4))
        target = at + _u32(data, at)
        if f.items == "str":
            _string(data, target, here, out)
        else:
            _table(data, f.of, target, here, out)


def _string(data: bytes, pos: int, path: str, out: list[Site]) -> None:
    count = _u32(data, pos)
    out.append(Site(path, "length", pos, 4))
    out.append(Site(path, "text", pos + 4, count))
