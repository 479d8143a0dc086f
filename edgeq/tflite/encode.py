"""`Table` values → flatbuffer bytes: one generic writer over `flatbuffers.Builder`, driven by the schema's facts.

The same values give the same bytes. Fields that hold their default are left out, as every flatbuffer writer does.
"""

from __future__ import annotations

import sys
from typing import Any

import flatbuffers
import numpy as np
from flatbuffers import number_types as flags

from edgeq.errors import CheckError
from edgeq.graph import Array, Table
from edgeq.tflite import limits
from edgeq.tflite.buffers import too_large
from edgeq.tflite.limits import shown
from edgeq.tflite.schema import FILE_IDENTIFIER, UNION_MEMBERS, Field, layout

ALIGNMENT = {"Buffer": 16}
"""Tables whose byte vectors the schema aligns further than their elements ask: kernels read constants in place."""

_FLAGS = {
    "b": flags.Int8Flags,
    "B": flags.Uint8Flags,
    "h": flags.Int16Flags,
    "H": flags.Uint16Flags,
    "i": flags.Int32Flags,
    "I": flags.Uint32Flags,
    "q": flags.Int64Flags,
    "Q": flags.Uint64Flags,
    "f": flags.Float32Flags,
    "?": flags.BoolFlags,
}


def encode(root: Table, size_hint: int = 1024) -> bytes:
    """The file whose root table is `root`; `size_hint`, in bytes, saves the builder from growing.

    Raises:
        CheckError: a value does not fit its field, or a table has a field that the schema lacks.
        UnsupportedError: the file would be larger than flatbuffer offsets reach.
    """
    builder = flatbuffers.Builder(min(size_hint, limits.MAX_FILE_BYTES))
    try:
        builder.Finish(_table(builder, root, {}), file_identifier=FILE_IDENTIFIER)
    except flatbuffers.builder.BuilderSizeError:
        raise too_large(limits.MAX_FILE_BYTES + 1) from None
    size = len(builder.Bytes) - builder.Head()
    if size > limits.MAX_FILE_BYTES:
        raise too_large(size)
    return bytes(memoryview(builder.Bytes)[builder.Head() :])


def _table(builder: Any, table: Table, vtables: dict[str, dict[Any, int]]) -> int:
    """Write what the table points at, then the table; its offset."""
    shape = layout(table.type)
    values = dict(table.values)
    slots: list[tuple[int, Field, Any]] = []
    for f in shape.fields:
        value = values.pop(f.name, None)
        if value is None:
            continue
        if f.kind == "union":
            slots.append((f.slot - 1, _CODE, _member(f, value, table.type)))
        slots.append((f.slot, f, value if f.kind == "scalar" else _reference(builder, table.type, f, value, vtables)))
    if values:
        raise CheckError(f"{table.type} has no field {next(iter(values))!r}")
    slots.sort(key=lambda s: -_width(s[1]))  # wide fields first: no padding between them
    # Tables of one type share vtables, others must not: until 25.12 flatbuffers took tables of different lengths for the same.
    # Starting each at its own alignment makes equal fields equal tables, so that its versions write the same bytes.
    builder.vtables = vtables.setdefault(table.type, {})
    builder.Prep(max([4, *(_width(f) for _, f, _ in slots)]), 0)
    builder.StartObject(shape.slots)
    for slot, f, value in slots:
        if f.kind == "scalar":
            _scalar(builder, slot, f, value, table.type)
        else:
            builder.PrependUOffsetTRelativeSlot(slot, value, 0)
    offset: int = builder.EndObject()
    return offset


def _width(f: Field) -> int:
    """Bytes that a field takes in its table."""
    return f.size if f.kind == "scalar" else 4


_CODE = Field("type", 0, "scalar", "u8", "", "B", 1, 0)  # which member of a union follows


def _member(f: Field, value: Table, where: str) -> int:
    members = UNION_MEMBERS[f.of]
    if value.type not in members:
        raise CheckError(f"{where}.{f.name}: {value.type} is not a member of {f.of}")
    return members.index(value.type)


def _scalar(builder: Any, slot: int, f: Field, value: Any, where: str) -> None:
    try:
        builder.PrependSlot(_FLAGS[f.letter], slot, value, f.default)
    except (TypeError, ValueError, OverflowError) as e:
        raise CheckError(f"{where}.{f.name}: {value!r} is not a {f.of}: {e}") from None


def _reference(builder: Any, table: str, f: Field, value: Any, vtables: dict[str, dict[Any, int]]) -> int:
    """Write a string, table or vector; its offset."""
    where = f"{table}.{f.name}"
    if f.kind == "str":
        return _string(builder, value, where)
    if f.kind in ("table", "union"):
        return _table(builder, value, vtables)
    if f.items == "scalar":
        return _bytes(builder, _packed(f, value, where), f.size, ALIGNMENT.get(table, f.size))
    offsets = [_string(builder, v, where) if f.items == "str" else _table(builder, v, vtables) for v in value]
    builder.StartVector(4, len(offsets), 4)
    for o in reversed(offsets):
        builder.PrependUOffsetTRelative(o)
    offset: int = builder.EndVector()
    return offset


def _string(builder: Any, value: str, where: str) -> int:
    try:
        raw = value.encode()
    except UnicodeEncodeError as e:
        raise CheckError(f"{where}: {shown(value)} is not text that UTF-8 can hold: {e.reason}") from None
    offset: int = builder.CreateString(raw)
    return offset


def _packed(f: Field, value: Any, where: str) -> Array:
    """A vector's elements as little-endian bytes."""
    dtype = np.dtype("<" + f.letter)
    if isinstance(value, bytes | bytearray | memoryview):
        value = np.frombuffer(value, np.uint8) if len(value) else np.empty(0, np.uint8)
    try:
        elements = np.asarray(value) if len(value) else np.empty(0, dtype)
        out = elements.astype(dtype, casting="same_kind" if f.letter == "f" else "unsafe", order="C", copy=False)
        exact = f.letter == "f" or elements.dtype == dtype or bool(np.all(out == elements))
    except (TypeError, ValueError, OverflowError) as e:
        raise CheckError(f"{where}: expected a vector of {f.of}: {e}") from None
    if out.ndim != 1 or not exact:
        raise CheckError(f"{where}: expected a flat vector of {f.of}, got {elements.dtype} of shape {elements.shape}")
    return out.view(np.uint8)


def _bytes(builder: Any, raw: Array, size: int, alignment: int) -> int:
    """Write a vector of len(raw) / size elements: one copy, whatever its length."""
    count = len(raw) // size
    builder.StartVector(size, count, alignment)
    builder.head = builder.Head() - len(raw)
    builder.Bytes[builder.head : builder.head + len(raw)] = raw.data
    builder.vectorNumElems = count
    offset: int = builder.EndVector()
    return offset


if sys.byteorder != "little":  # pragma: no cover
    raise ImportError("edgeq reads and writes flatbuffers on little-endian machines only")
