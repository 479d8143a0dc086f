"""The table of the schema's facts, held against two generated copies of the schema that other people publish."""

from __future__ import annotations

import importlib.util
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from edgeq.tflite.schema import (
    ENUM_MEMBERS,
    ENUM_TYPES,
    SCALARS,
    TABLE_NAMES,
    UNION_MEMBERS,
    Field,
    layout,
    table,
)

KINDS = {
    "i8": "Int8", "u8": "Uint8", "i16": "Int16", "u16": "Uint16", "i32": "Int32", "u32": "Uint32", "i64": "Int64",
    "u64": "Uint64", "f32": "Float32", "bool": "Bool",
}  # fmt: skip


@dataclass(frozen=True)
class Slot:
    """One slot of a generated builder: the field's name without case or underscores, what it writes, its default.

    `target` is what an offset leads to: "string", "Table", "[Int32]", "[string]", "[Table]", "union".
    """

    name: str
    kind: str
    default: float
    target: str = ""


@dataclass(frozen=True)
class Generated:
    """What one generated copy of the schema says."""

    tables: dict[str, tuple[int, dict[int, Slot]]]
    enums: dict[str, dict[str, int]]


@cache
def generated(package: str) -> Generated:
    """Read the generated Python of `package`, as text: nothing of it is imported."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        pytest.skip(f"{package} is not installed")
    folder = Path(spec.origin).parent
    files = sorted(folder.glob("*.py")) if package == "tflite" else [folder / "schema_py_generated.py"]
    tables, enums = {}, {}
    for text in re.split(r"^class ", "\n".join(f.read_text() for f in files), flags=re.M)[1:]:
        name = re.match(r"\w+", text).group()
        if "def GetRootAs" in text:
            tables[name] = _slots(name, text)
        elif members := re.findall(r"^    (\w+) = (-?\d+)$", text, flags=re.M):
            enums[name] = {m: int(v) for m, v in members}
    return Generated(tables, enums)


def _slots(name: str, text: str) -> tuple[int, dict[int, Slot]]:
    count = int(re.search(r"StartObject\((\d+)\)", text).group(1))
    adds = re.findall(rf"def {name}Add(\w+)\(builder, \w+\):\n\s+builder\.Prepend(\w+)Slot\((\d+), .*, (\S+)\)\n", text)
    out = {}
    for field, kind, slot, default in adds:
        accessor = re.search(rf"    def {field}\(self.*?(?=\n    # |\ndef |\Z)", text, re.S).group()
        vector = f"    def {field}Length(" in text
        out[int(slot)] = Slot(
            _plain(field),
            kind,
            float({"True": 1, "False": 0}.get(default, default)),
            _target(accessor, vector) if kind.startswith("UOffset") else "",
        )
    return count, out


def _target(accessor: str, vector: bool) -> str:
    if "Union(" in accessor:
        return "union"
    if "_tab.String(" in accessor:
        of = "string"
    elif found := re.search(r"obj = (\w+)\(\)", accessor):
        of = found.group(1)
    else:
        of = re.search(r"number_types\.(\w+)Flags, a", accessor).group(1)
    return f"[{of}]" if vector else of


def _plain(name: str) -> str:
    return name.replace("_", "").lower()


def ours(name: str) -> dict[int, Slot]:
    """Our facts about one table in the same form."""
    out = {}
    for f in layout(name).fields:
        if f.kind == "scalar":
            out[f.slot] = Slot(_plain(f.name), KINDS[ENUM_TYPES.get(f.of, f.of)], float(f.default))
            continue
        if f.kind == "union":
            out[f.slot - 1] = Slot(_plain(f.name) + "type", "Uint8", 0.0)
        out[f.slot] = Slot(_plain(f.name), "UOffsetTRelative", 0.0, _our_target(f))
    return out


def _our_target(f: Field) -> str:
    if f.kind == "union":
        return "union"
    of = {"str": "string"}.get(f.of, KINDS.get(ENUM_TYPES.get(f.of, f.of), f.of))
    return f"[{of}]" if f.kind == "vector" else of


@pytest.mark.parametrize("package", ["tflite", "ai_edge_litert"])
def test_every_slot_type_and_default_agrees(package):
    """Every field of every table of the generated schema is in ours, in its slot, with its type and default."""
    theirs = generated(package).tables
    assert len(theirs) > 100
    assert theirs.keys() <= TABLE_NAMES
    for name, (_, slots) in theirs.items():
        mine = ours(name)
        assert {k: mine.get(k) for k in slots} == slots, name


@pytest.mark.parametrize("package", ["tflite", "ai_edge_litert"])
def test_every_enum_and_union_agrees(package):
    """Every member of every enum and union of the generated schema has its value in ours."""
    theirs = generated(package).enums
    mine = {n: {m: v for v, m in enumerate(members)} for n, members in {**ENUM_MEMBERS, **UNION_MEMBERS}.items()}
    assert theirs.keys() <= mine.keys()
    for name, members in theirs.items():
        assert members.items() <= mine[name].items(), name


def test_nothing_of_ours_is_invented():
    """The newest generated schema has every table, slot, enum and member that ours has."""
    newest = generated("ai_edge_litert")
    assert set(newest.tables) == TABLE_NAMES
    for name, (count, slots) in newest.tables.items():
        assert layout(name).slots == count, name
        assert ours(name).keys() == slots.keys(), name
    for name, members in {**ENUM_MEMBERS, **UNION_MEMBERS}.items():
        assert len(newest.enums[name]) == len(members), name


def test_tables_do_not_contain_themselves():
    """Following the schema down always ends: reading needs no depth limit."""

    def depth(name: str, above: tuple[str, ...]) -> int:
        assert name not in above
        inside = [0]
        for f in layout(name).fields:
            for child in UNION_MEMBERS.get(f.of, ("NONE", f.of))[1:]:
                if child in TABLE_NAMES:
                    inside.append(depth(child, (*above, name)))
        return 1 + max(inside)

    assert depth("Model", ()) == 6  # Model, SubGraph, Tensor, SparsityParameters, DimensionMetadata, Uint8Vector


def test_vtable_limit_is_above_every_table():
    """No table of the schema has more slots than a file may claim, and every scalar has a size."""
    from edgeq.tflite.limits import MAX_SLOTS

    assert max(layout(name).slots for name in TABLE_NAMES) < MAX_SLOTS // 4
    assert {ENUM_TYPES[n] for n in ENUM_MEMBERS} <= SCALARS.keys()


def test_table_fills_in_defaults():
    """`table` gives every field, and refuses names that the schema does not have."""
    conv = table("Conv2DOptions", stride_w=2)
    assert (conv.stride_w, conv.stride_h, conv.dilation_w_factor, conv.padding) == (2, 0, 1, 0)
    assert table("UniqueOptions").idx_out_type == ENUM_MEMBERS["TensorType"].index("INT32")
    assert table("BidirectionalSequenceLSTMOptions").time_major is True
    with pytest.raises(KeyError, match="no field strides"):
        table("Conv2DOptions", strides=2)
    with pytest.raises(KeyError, match="no table Conv4DOptions"):
        table("Conv4DOptions")
