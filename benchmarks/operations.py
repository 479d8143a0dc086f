"""Which builtin operation runs on which type: `python benchmarks/operations.py` prints docs/operations.md, `--write` writes it.

Nothing is listed by hand but the notes: operations come from edgeq/tflite/ops.py (LiteRT's whole builtin list but StableHLO),
cells from the models of one operation in tests/naive, each of which is planned here and held against the runtimes in tests.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from naive.cases import Case, cases

from edgeq.errors import EdgeqError
from edgeq.machine import host
from edgeq.plan import make_plan
from edgeq.plan.build import UNSHAPED
from edgeq.plan.fold import FOLDS
from edgeq.plan.lower import LOWERINGS
from edgeq.plan.lower.known import LOWERINGS as KNOWN
from edgeq.tflite.ops import OP_FACTS

PATH = Path(__file__).resolve().parents[1] / "docs" / "operations.md"
TYPES = ("float32", "int8", "uint8", "int16", "int32", "int64", "bool")
EXACT, NATIVE, NONE = "exact", "native", "·"

HEAD = """# Operations

Written by `python benchmarks/operations.py --write`; tests/test_operations.py fails when it is out of date.

Cells say what becomes of an operation by the type of its data:

- **exact**: runs natively; integers equal the runtimes' bit for bit in the roundings that have one, floats lie within 1e-5 of
  the output's range. A model of the operation on this type is held against tflite-runtime or LiteRT in tests/test_naive_ops.py.
- **native**: runs natively; neither runtime takes it on this type, so it is held against the NumPy twin alone.
- **·**: no model of it is tested. edgeq refuses it when the model is loaded, or runs it if the type only moves; what it
  refuses falls back (`backend="auto"`) to an installed runtime that has it, and is refused otherwise.

Operations whose shapes come from values that are fed or computed (SLICE, RESHAPE, FILL, TILE, PAD, TRANSPOSE, resizes …) run in
every type of their row, planned while the model runs (docs/adr/0017): outputs are dynamic as in TFLite's interpreter.

| operation | float32 | int8 | uint8 | int16 | int32 | int64 | bool | notes |
|---|---|---|---|---|---|---|---|---|
"""

CONTROL = "tests/test_control.py, both runtimes"
DYNAMIC = "between two plans (edgeq.dynamic); tests/test_dynamic.py, both runtimes"
NOTES = {
    "ASSIGN_VARIABLE": CONTROL,
    "CALL_ONCE": f"first values that are constants; {CONTROL}",
    "IF": f"{CONTROL}",
    "READ_VARIABLE": CONTROL,
    "VAR_HANDLE": CONTROL,
    "WHILE": f"at most 2^20 turns, 2^16 where shapes change; {CONTROL}",
    "BATCH_MATMUL": "also int8 weights on float32 (hybrid)",
    "BIDIRECTIONAL_SEQUENCE_LSTM": "without an auxiliary input",
    "BIDIRECTIONAL_SEQUENCE_RNN": "float32, without an auxiliary input; no case of its own",
    "BITCAST": "between types of one size",
    "BROADCAST_ARGS": DYNAMIC,
    "DEPTHWISE_CONV_2D": "also int8 weights on float32 (hybrid)",
    "CONV_2D": "grouped, dilated; also int8 weights on float32 (hybrid)",
    "DENSIFY": "of sparse constants, which reading makes dense",
    "DEQUANTIZE": "also float16 constants",
    "FULLY_CONNECTED": "weights constant or computed, int8 on float32 (hybrid)",
    "LSTM": "the full kernel as UNIDIRECTIONAL_SEQUENCE_LSTM, the basic one on float32",
    "RANDOM_STANDARD_NORMAL": "float32; tests/test_random.py, both runtimes",
    "RANDOM_UNIFORM": "float32; tests/test_random.py, both runtimes",
    "RANGE": f"a constant, or {DYNAMIC}",
    "RANK": "a constant",
    "RELU_N1_TO_1": "as RELU; no case of its own",
    "SHAPE": "a constant",
    "STABLEHLO_COMPOSITE": "as the subgraph that spells it out; tests/test_control.py, LiteRT",
    "SVDF": "also int8 weights on float32 (hybrid)",
    "UNIDIRECTIONAL_SEQUENCE_LSTM": "int8 with an int16 cell; int8 weights on float32 (hybrid); all options",
    "UNIDIRECTIONAL_SEQUENCE_RNN": "also int8 weights on float32 (hybrid)",
    "UNIQUE": DYNAMIC,
    "WHERE": DYNAMIC,
}


def table() -> dict[str, dict[str, str]]:
    """Operation → type → cell, from the cases; one that does not plan is an error."""
    isa = host().isa
    found: dict[str, dict[str, str]] = {}
    for case in cases():
        try:
            make_plan(case.graph, isa)
        except EdgeqError as error:
            raise SystemExit(f"{case.name} does not plan: {error}") from error
        row = found.setdefault(case.op, {})
        if row.get(case.source) != EXACT:
            row[case.source] = EXACT if known(case) else NATIVE
    return found


def known(case: Case) -> bool:
    """Whether one of the runtimes runs the case."""
    return case.has_oracle("tflite") or case.has_oracle("xnnpack")


def text() -> str:
    """The whole page."""
    rows, found = [], table()
    for name in sorted(OP_FACTS):
        cells, notes = found.get(name, {}), [NOTES[name]] if name in NOTES else []
        others = [t for t in cells if t not in TYPES]
        if others:
            notes.append(f"{', '.join(f'{t} {cells[t]}' for t in sorted(others))}")
        if name not in LOWERINGS:
            notes = notes if name in (*FOLDS, *UNSHAPED, "SHAPE", "RANK") else ["falls back"]
        rows.append(f"| {name} | {' | '.join(cells.get(t, NONE) for t in TYPES)} | {'; '.join(notes)} |")
    native = sum(1 for n in OP_FACTS if n in LOWERINGS)
    count = f"\n{native} of {len(OP_FACTS)} operations have a lowering, {len(UNSHAPED)} more run between two plans. Of the\n"
    count += "StableHLO operations only STABLEHLO_COMPOSITE runs.\n"
    custom = f"\nCustom operations that edgeq knows: {', '.join(sorted(KNOWN))}. Others: docs/custom-ops.md.\n"
    return HEAD + "\n".join(rows) + "\n" + count + custom


def main() -> int:
    """Print or write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="write docs/operations.md")
    if parser.parse_args().write:
        PATH.write_text(text(), encoding="utf-8")
    else:
        print(text(), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
