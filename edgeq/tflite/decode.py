"""Flatbuffer bytes → `Table` values: one generic reader, driven by the schema's facts, that trusts nothing in the file.

Every offset, vtable, vector length and string is checked against the file's bounds before it is followed. The
schema's tables do not contain themselves, so the depth is bounded by the schema and no cycle can be followed; what
aliasing could multiply is bounded by the budget in `limits`.
"""

from __future__ import annotations

import struct
from types import MappingProxyType
from typing import Any

import numpy as np

from edgeq.errors import FormatError
from edgeq.graph import Array, Table
from edgeq.tflite import limits
from edgeq.tflite.schema import FILE_IDENTIFIER, UNION_MEMBERS, Field, Layout, layout

ARRAY_TABLES = frozenset({"QuantizationParameters", "Buffer"})
"""Tables whose scalar vectors come as read-only arrays; elsewhere a vector is a tuple, a vector of bytes is `bytes`."""

VIEW_TABLES = frozenset({"Buffer"})
"""Of those, tables whose arrays are views into the file: constants are not copied."""

_U16 = struct.Struct("<H")
_I32 = struct.Struct("<i")
_U32 = struct.Struct("<I")
_SCALARS = {letter: struct.Struct("<" + letter) for letter in "bBhHiIqQf?"}
_DTYPES = {letter: np.dtype("<" + letter) for letter in "bBhHiIqQf?"}


class _Form:
    """A table's layout as the decoder goes through it: values of what the file leaves out, and fields by the slot that says
    whether they are there."""

    def __init__(self, shape: Layout) -> None:
        self.defaults: dict[str, Any] = {f.name: f.default for f in shape.fields}
        self.by_slot = {f.slot - (f.kind == "union"): f for f in shape.fields}
        self.slots = shape.slots


class Decoder:
    """Reads tables from one file's bytes, and counts what that costs.

    `unknown` collects the fields and union members that are newer than our schema: they are skipped, and a writer
    must know.
    """

    def __init__(self, data: memoryview) -> None:
        self.data = data
        self.size = len(data)
        self.unknown: set[str] = set()
        self._budget = limits.ALIASING_FACTOR * self.size + limits.ALIASING_SLACK
        self._tables = 0
        self._forms: dict[str, _Form] = {}
        self._vtables: dict[int, tuple[tuple[int, ...], int]] = {}

    def root(self, table: str) -> Table:
        """The file's root table, which is one of type `table`.

        Raises:
            FormatError: the file is too short, has no "TFL3" identifier, or something in it is out of bounds.
        """
        if self.size < 8:
            raise FormatError(f"file of {self.size} bytes: expected a .tflite flatbuffer, which has at least 8")
        identifier = bytes(self.data[4:8])
        if identifier != FILE_IDENTIFIER:
            raise FormatError(f"file identifier is {identifier!r}, expected {FILE_IDENTIFIER!r}")
        return self._table(table, self._u32(0, table), table)

    def charge(self, cost: int, where: str) -> None:
        """Count `cost` bytes as decoded.

        Raises:
            FormatError: more was decoded than the file could hold without pointing at the same bytes again and again.
        """
        self._budget -= cost
        if self._budget < 0:
            raise FormatError(
                f"{where}: the file's {self.size} bytes are referred to more often than a real model would"
            )

    def _table(self, name: str, pos: int, where: str) -> Table:
        self._tables += 1
        if self._tables > limits.MAX_TABLES:
            raise FormatError(f"{where}: more than {limits.MAX_TABLES} tables")
        slots = self._vtable(pos, where)
        form = self._forms.get(name)
        if form is None:
            form = self._forms[name] = _Form(layout(name))
        values = form.defaults.copy()
        for slot, offset in enumerate(slots):
            if offset == 0:
                continue
            f = form.by_slot.get(slot)
            if f is None:
                if slot >= form.slots:
                    self.unknown.add(f"{name} slot {slot}")
                continue
            kind = f.kind
            if kind == "union":  # which is found by its code's slot
                at = slots[f.slot] if f.slot < len(slots) else 0
                values[f.name] = self._union(f, pos, offset, at, where)
            elif kind == "scalar":
                if offset < 4 or pos + offset > self.size - f.size:
                    self._inside(pos, offset, f.size, f"{where}.{f.name}")
                values[f.name] = _SCALARS[f.letter].unpack_from(self.data, pos + offset)[0]
            else:
                if offset < 4 or pos + offset > self.size - 4:
                    self._inside(pos, offset, 4, f"{where}.{f.name}")
                values[f.name] = self._field(name, f, pos + offset, where)
        # What Table.__init__ would do, without another copy of `values`, which nobody else has: there are hundreds.
        table = Table.__new__(Table)
        table.__dict__.update(type=name, values=MappingProxyType(values))
        return table

    def _vtable(self, pos: int, where: str) -> tuple[int, ...]:
        """The offsets in the vtable of the table at `pos`.

        The vtable also says how long the table is. That is not looked at: many writers misstate it (flatbuffers for Python did
        until 25.12), no runtime checks it, and each field is checked against the file itself.
        """
        self._need(pos, 4, where)
        vtable = pos - _I32.unpack_from(self.data, pos)[0]
        known = self._vtables.get(vtable)  # tables of one form share it
        if known is not None:
            self.charge(known[1], where)
            return known[0]
        self._need(vtable, 4, f"{where}'s vtable")
        length = _U16.unpack_from(self.data, vtable)[0]
        if length < 4 or length % 2 or length > 4 + 2 * limits.MAX_SLOTS:
            raise FormatError(f"{where}: a vtable of {length} bytes, expected an even 4 to {4 + 2 * limits.MAX_SLOTS}")
        self._need(vtable, length, f"{where}'s vtable")
        slots = struct.unpack_from(f"<{length // 2 - 2}H", self.data, vtable + 4)
        # An honest table takes 8 bytes at least, for the offsets to it and to its vtable, and one for each field.
        cost = limits.ALIASING_FACTOR * 8 + len(slots) - slots.count(0)
        self.charge(cost, where)
        self._vtables[vtable] = slots, cost
        return slots

    def _inside(self, table: int, offset: int, count: int, where: str) -> None:
        """A field of `count` bytes lies behind the table's own head and before the file's end."""
        if offset < 4:
            raise FormatError(f"{where}: at byte {offset} of its table, expected 4 or more")
        self._need(table + offset, count, where)

    def _field(self, table: str, f: Field, pos: int, where: str) -> Any:
        target = pos + self._u32(pos, where)
        name = f"{where}.{f.name}"
        if f.kind == "str":
            return self._string(target, name)
        if f.kind == "table":
            return self._table(f.of, target, name)
        return self._vector(table, f, target, name)

    def _union(self, f: Field, pos: int, code_offset: int, offset: int, where: str) -> Table | None:
        """The member of a union, None for none; a member that our schema does not know comes without values."""
        if code_offset == 0:
            return None
        name = f"{where}.{f.name}"
        self._inside(pos, code_offset, 1, name)
        code = self.data[pos + code_offset]
        if code == 0:
            return None
        if offset == 0:
            raise FormatError(f"{name}: member {code} without a table")
        self._inside(pos, offset, 4, name)
        members = UNION_MEMBERS[f.of]
        if code >= len(members):
            self.unknown.add(f"{f.of} member {code}")
            return Table(f"{f.of}_{code}")
        target = pos + offset
        return self._table(members[code], target + self._u32(target, where), name)

    def _vector(self, table: str, f: Field, pos: int, where: str) -> Any:
        count = self._u32(pos, where)
        start = pos + 4
        nbytes = count * f.size
        if nbytes > self.size - start:
            raise FormatError(
                f"{where}: {count} elements of {f.size} bytes, but {self.size - start} bytes are left in the file"
            )
        if f.items == "scalar":
            return self._scalars(table, f, start, count, where)
        self.charge(4, where)  # the elements charge for themselves, and for the offsets to them
        out = []
        for i in range(count):
            at = start + 4 * i
            target = at + self._u32(at, where)
            name = f"{where}[{i}]"
            out.append(self._string(target, name) if f.items == "str" else self._table(f.of, target, name))
        return tuple(out)

    def _scalars(self, table: str, f: Field, start: int, count: int, where: str) -> Array | bytes | tuple[Any, ...]:
        nbytes = count * f.size
        if table in VIEW_TABLES:
            return view(self.data, start, nbytes)
        self.charge(nbytes + 4, where)
        if table in ARRAY_TABLES:
            # Of bytes of its own, which nobody can write, and which lie as the elements need it.
            if count:
                return np.frombuffer(bytes(self.data[start : start + nbytes]), _DTYPES[f.letter])
            out = np.empty(0, f.letter)
            out.setflags(write=False)
            return out
        if f.letter == "B":
            return bytes(self.data[start : start + nbytes])
        return struct.unpack_from(f"<{count}{f.letter}", self.data, start)

    def _string(self, pos: int, where: str) -> str:
        count = self._u32(pos, where)
        start = pos + 4
        if count >= self.size - start:
            raise FormatError(
                f"{where}: a string of {count} bytes and its zero, but {self.size - start} bytes are left in the file"
            )
        if self.data[start + count] != 0:
            raise FormatError(f"{where}: a string of {count} bytes without the zero behind it")
        self.charge(count + 5, where)
        try:
            return str(self.data[start : start + count], "utf-8")
        except UnicodeDecodeError as e:
            raise FormatError(f"{where}: a string that is not UTF-8 at its byte {e.start}") from None

    def _u32(self, pos: int, where: str) -> int:
        if pos < 0 or pos > self.size - 4:
            self._need(pos, 4, where)
        value: int = _U32.unpack_from(self.data, pos)[0]
        return value

    def _need(self, pos: int, count: int, where: str) -> None:
        if pos < 0 or pos > self.size - count:
            raise FormatError(f"{where}: {count} bytes at {pos}, outside the file's {self.size}")


def view(data: memoryview, start: int, nbytes: int) -> Array:
    """`nbytes` bytes of the file from `start` as a read-only uint8 array that shares its memory; the caller knows the
    bounds.
    """
    out = np.frombuffer(data, np.uint8, nbytes, start) if nbytes else np.empty(0, np.uint8)
    out.setflags(write=False)
    return out
