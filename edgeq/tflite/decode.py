"""Flatbuffer bytes → `Table` values: one generic reader, driven by the schema's facts, that trusts nothing in the file.

Every offset, vtable, vector length and string is checked against the file's bounds before it is followed. The
schema's tables do not contain themselves, so the depth is bounded by the schema and no cycle can be followed; what
aliasing could multiply is bounded by the budget in `limits`.

Tables of one kind with one vtable hold the same fields in the same places. So what is to be read of them, and how far they reach,
is found once, and each is one `unpack`. Where something is wrong, its place in the file is put together on the way out.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
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
_DTYPES = {letter: np.dtype("<" + letter) for letter in "bBhHiIqQf?"}
_NONE = {letter: np.frombuffer(b"", dtype) for letter, dtype in _DTYPES.items()}

PASSING = frozenset(
    {
        "Buffer",
        "Metadata",
        "Model",
        "Operator",
        "OperatorCode",
        "QuantizationParameters",
        "SignatureDef",
        "SubGraph",
        "Tensor",
    }
    | {"TensorMap"}
)
"""Tables that nobody keeps: of these the values alone are handed on."""

Unpack = Callable[[memoryview, int], tuple[Any, ...]]


class _MalformedError(Exception):
    """What is wrong with the file, without the place, which grows from the inside outwards."""

    def __init__(self, text: str) -> None:
        self.place, self.text = "", text


class _Form:
    """A table's layout as the decoder goes through it: values of what the file leaves out, and fields by the slot that says
    whether they are there."""

    def __init__(self, shape: Layout) -> None:
        self.defaults: dict[str, Any] = {f.name: f.default for f in shape.fields}
        self.by_slot = {f.slot - (f.kind == "union"): f for f in shape.fields}
        self.slots = shape.slots


class _Shape:
    """What all tables of one kind and vtable have in common: where which fields lie.

    cost: what each is charged. extent: bytes from a table's beginning to the end of its last field. fields: where they are.
    scalars: names of those that lie in the table, and what unpacks them: in one piece, unless a hostile file lets them overlap.
    steps: unpacks the offsets to what lies elsewhere; followed: for each such field where its offset is, what becomes of it, and
    which of the steps is its own. A union is followed, too, from where its member's code is; its number is where the offset is.
    """

    __slots__ = ("cost", "defaults", "extent", "fields", "followed", "scalars", "steps")

    def __init__(self, name: str, form: _Form, slots: tuple[int, ...], cost: int) -> None:
        self.defaults, self.cost = form.defaults, cost
        present = [(offset, f) for slot, offset in enumerate(slots) if offset and (f := form.by_slot.get(slot))]
        self.fields = [(offset, f) for offset, f in present if f.kind != "union"]
        self.extent = max((offset + _size(f) for offset, f in self.fields), default=0)
        pieces = _pieces([at for at in self.fields if at[1].kind == "scalar"])
        self.scalars = [(tuple(f.name for _, f in piece), _unpack(piece)) for piece in pieces]
        pieces = _pieces([at for at in self.fields if at[1].kind != "scalar"])
        self.steps = [_unpack(piece) for piece in pieces]
        number = {f.name: k for k, (_, f) in enumerate(at for piece in pieces for at in piece)}
        self.followed: list[tuple[int, Field, int, int]] = []
        for offset, f in present:
            if f.kind == "union":  # which is found by its code's slot
                self.followed.append((offset, f, _UNION, slots[f.slot] if f.slot < len(slots) else 0))
            elif f.kind != "scalar":
                self.followed.append((offset, f, _becomes(name, f), number[f.name]))


_UNION, _TABLE, _TABLES, _TEXT, _TEXTS, _VIEW, _ARRAY, _BYTES, _NUMBERS = range(9)
"""What becomes of a field that lies behind an offset."""


def _becomes(table: str, f: Field) -> int:
    if f.kind != "vector":
        return _TEXT if f.kind == "str" else _TABLE
    if f.items != "scalar":
        return _TEXTS if f.items == "str" else _TABLES
    if table in ARRAY_TABLES:
        return _VIEW if table in VIEW_TABLES else _ARRAY
    return _BYTES if f.letter == "B" else _NUMBERS


def _size(f: Field) -> int:
    """Bytes that a field takes in its table: those of a scalar, or of an offset."""
    return f.size if f.kind == "scalar" else 4


def _pieces(fields: list[tuple[int, Field]]) -> list[list[tuple[int, Field]]]:
    """Fields in the order in which they lie, in pieces in which none overlap."""
    rest, pieces = sorted(fields, key=lambda at: at[0]), []
    while rest:
        piece: list[tuple[int, Field]] = []
        left, end = [], 0
        for at in rest:
            if at[0] >= end:
                piece.append(at)
                end = at[0] + _size(at[1])
            else:
                left.append(at)
        pieces.append(piece)
        rest = left
    return pieces


def _unpack(piece: Sequence[tuple[int, Field]]) -> Unpack:
    """Reads these fields of the table that begins at a place."""
    text, end = "<", 0
    for offset, f in piece:
        text += f"{offset - end}x{f.letter if f.kind == 'scalar' else 'I'}"
        end = offset + _size(f)
    return struct.Struct(text).unpack_from


class Decoder:
    """Reads tables from one file's bytes, and counts what that costs.

    `unknown` collects the fields and union members that are newer than our schema: they are skipped, and a writer
    must know.
    """

    def __init__(self, data: memoryview) -> None:
        self.data = data  # read-only: views into it are
        self.size = len(data)
        self.unknown: set[str] = set()
        self._budget = limits.ALIASING_FACTOR * self.size + limits.ALIASING_SLACK
        self._tables = 0
        self._forms: dict[str, _Form] = {}
        self._shapes: dict[tuple[str, int], _Shape] = {}  # by the vtable's place; and below by what it says, where
        self._same: dict[tuple[str, tuple[int, ...]], _Shape] = {}  # a writer has not kept one for all

    def root(self, table: str) -> dict[str, Any]:
        """The file's root table, which is one of type `table`.

        Raises:
            FormatError: the file is too short, has no "TFL3" identifier, or something in it is out of bounds.
        """
        if self.size < 8:
            raise FormatError(f"file of {self.size} bytes: expected a .tflite flatbuffer, which has at least 8")
        identifier = bytes(self.data[4:8])
        if identifier != FILE_IDENTIFIER:
            raise FormatError(f"file identifier is {identifier!r}, expected {FILE_IDENTIFIER!r}")
        try:
            values: dict[str, Any] = self._table(table, _U32.unpack_from(self.data, 0)[0])
            return values
        except _MalformedError as wrong:
            raise FormatError(f"{table}{wrong.place}{wrong.text}") from None

    def charge(self, cost: int, where: str) -> None:
        """Count `cost` bytes as decoded.

        Raises:
            FormatError: more was decoded than the file could hold without pointing at the same bytes again and again.
        """
        try:
            self._charge(cost)
        except _MalformedError as wrong:
            raise FormatError(f"{where}{wrong.text}") from None

    def _charge(self, cost: int) -> None:
        self._budget -= cost
        if self._budget < 0:
            raise _MalformedError(f": the file's {self.size} bytes are referred to more often than a real model would")

    def _table(self, name: str, pos: int) -> Any:
        """The table at `pos`: a Table, or for the reader, which makes something else of it, its values alone (PASSING)."""
        self._tables += 1
        if self._tables > limits.MAX_TABLES:
            raise _MalformedError(f": more than {limits.MAX_TABLES} tables")
        data = self.data
        if pos > self.size - 4:
            self._need(pos, 4)
        vtable = pos - _I32.unpack_from(data, pos)[0]
        shape = self._shapes.get((name, vtable)) or self._shape(name, vtable)
        self._charge(shape.cost)
        if pos + shape.extent > self.size:
            for offset, f in shape.fields:
                self._need(pos + offset, _size(f), f".{f.name}")
        values = shape.defaults.copy()
        for names, unpack in shape.scalars:
            values.update(zip(names, unpack(data, pos)))  # noqa: B905 — as many as there are names
        if not shape.followed:
            return self._made(name, values)
        steps = [step for unpack in shape.steps for step in unpack(data, pos)]
        try:
            for offset, f, becomes, k in shape.followed:
                if becomes >= _VIEW:
                    values[f.name] = self._scalars(f, becomes, pos + offset + steps[k])
                elif becomes == _TEXT:
                    values[f.name] = self._string(pos + offset + steps[k])
                elif becomes == _TABLE:
                    values[f.name] = self._table(f.of, pos + offset + steps[k])
                elif becomes == _UNION:
                    values[f.name] = self._union(f, pos, offset, k)
                else:
                    values[f.name] = self._vector(f, becomes, pos + offset + steps[k])
        except _MalformedError as wrong:
            wrong.place = f".{f.name}{wrong.place}"
            raise
        return self._made(name, values)

    @staticmethod
    def _made(name: str, values: dict[str, Any]) -> Any:
        if name in PASSING:
            return values
        # What Table.__init__ would do, without another copy of `values`, which nobody else has.
        table = Table.__new__(Table)
        table.__dict__.update(values)
        table.__dict__.update(type=name, values=MappingProxyType(values))
        return table

    def _shape(self, name: str, vtable: int) -> _Shape:
        """What the vtable at this place says of a table.

        It also says how long the table is. That is not looked at: many writers misstate it (flatbuffers for Python did
        until 25.12), no runtime checks it, and each field is checked against the file itself.
        """
        self._need(vtable, 4, "'s vtable")
        length = _U16.unpack_from(self.data, vtable)[0]
        if length < 4 or length % 2 or length > 4 + 2 * limits.MAX_SLOTS:
            raise _MalformedError(f": a vtable of {length} bytes, expected an even 4 to {4 + 2 * limits.MAX_SLOTS}")
        self._need(vtable, length, "'s vtable")
        slots = struct.unpack_from(f"<{length // 2 - 2}H", self.data, vtable + 4)
        shape = self._same.get((name, slots))
        if shape is not None:
            self._shapes[name, vtable] = shape
            return shape
        if len(self._same) == limits.MAX_SHAPES:
            raise _MalformedError(f": more than {limits.MAX_SHAPES} different vtables")
        form = self._forms.get(name)
        if form is None:
            form = self._forms[name] = _Form(layout(name))
        for slot, offset in enumerate(slots):
            f = form.by_slot.get(slot)
            if offset and f is None and slot >= form.slots:
                self.unknown.add(f"{name} slot {slot}")
            if f is not None and 0 < offset < 4:
                raise _MalformedError(f".{f.name}: at byte {offset} of its table, expected 4 or more")
        # An honest table takes 8 bytes at least, for the offsets to it and to its vtable, and one for each field.
        cost = limits.ALIASING_FACTOR * 8 + len(slots) - slots.count(0)
        shape = self._shapes[name, vtable] = self._same[name, slots] = _Shape(name, form, slots, cost)
        return shape

    def _union(self, f: Field, pos: int, code_offset: int, offset: int) -> Table | None:
        """The member of a union, None for none; a member that our schema does not know comes without values."""
        self._need(pos + code_offset, 1)
        code = self.data[pos + code_offset]
        if code == 0:
            return None
        if offset == 0:
            raise _MalformedError(f": member {code} without a table")
        if offset < 4:
            raise _MalformedError(f": at byte {offset} of its table, expected 4 or more")
        target = pos + offset
        self._need(target, 4)
        members = UNION_MEMBERS[f.of]
        if code >= len(members):
            self.unknown.add(f"{f.of} member {code}")
            return Table(f"{f.of}_{code}")
        found: Table = self._table(members[code], target + _U32.unpack_from(self.data, target)[0])
        return found

    def _vector(self, f: Field, becomes: int, pos: int) -> tuple[Any, ...]:
        left = self.size - pos - 4
        if left < 0:
            self._need(pos, 4)
        count, start = _U32.unpack_from(self.data, pos)[0], pos + 4
        if 4 * count > left:
            raise _MalformedError(f": {count} elements of 4 bytes, but {left} bytes are left in the file")
        self._charge(4)  # the elements charge for themselves, and for the offsets to them
        out: list[Any] = []
        try:
            for (step,) in _U32.iter_unpack(self.data[start : start + 4 * count]):
                at = start + 4 * len(out) + step
                out.append(self._string(at) if becomes == _TEXTS else self._table(f.of, at))
        except _MalformedError as wrong:
            wrong.place = f"[{len(out)}]{wrong.place}"
            raise
        return tuple(out)

    def _scalars(self, f: Field, becomes: int, pos: int) -> Array | bytes | tuple[Any, ...]:
        left = self.size - pos - 4
        if left < 0:
            self._need(pos, 4)
        count, start = _U32.unpack_from(self.data, pos)[0], pos + 4
        nbytes = count * f.size
        if nbytes > left:
            raise _MalformedError(f": {count} elements of {f.size} bytes, but {left} bytes are left in the file")
        if becomes == _VIEW:
            return view(self.data, start, nbytes)
        self._charge(nbytes + 4)
        if becomes == _NUMBERS:
            return struct.unpack_from(f"<{count}{f.letter}", self.data, start)
        raw = bytes(self.data[start : start + nbytes])
        if becomes == _BYTES:
            return raw
        # Of bytes of its own, which nobody can write, and which lie as the elements need it.
        return np.frombuffer(raw, _DTYPES[f.letter]) if count else _NONE[f.letter]

    def _string(self, pos: int) -> str:
        if pos > self.size - 4:
            self._need(pos, 4)
        count = _U32.unpack_from(self.data, pos)[0]
        start = pos + 4
        if count >= self.size - start:
            raise _MalformedError(
                f": a string of {count} bytes and its zero, but {self.size - start} bytes are left in the file"
            )
        if self.data[start + count] != 0:
            raise _MalformedError(f": a string of {count} bytes without the zero behind it")
        self._charge(count + 5)
        try:
            return str(self.data[start : start + count], "utf-8")
        except UnicodeDecodeError as e:
            raise _MalformedError(f": a string that is not UTF-8 at its byte {e.start}") from None

    def _need(self, pos: int, count: int, of: str = "") -> None:
        if pos < 0 or pos > self.size - count:
            raise _MalformedError(f"{of}: {count} bytes at {pos}, outside the file's {self.size}")


def view(data: memoryview, start: int, nbytes: int) -> Array:
    """`nbytes` bytes of the read-only `data` from `start`, as a uint8 array on its memory; the caller knows the bounds."""
    return np.frombuffer(data, np.uint8, nbytes, start) if nbytes else _NONE["B"]
