"""Holds edgeq against the runtimes that it equals, bit for bit: a table of values compared and values differing.

    python benchmarks/exactness.py MODEL.tflite… [--samples 100] [--data SAMPLES.npz] [--rounding both] [--twin] [--layers]
    python benchmarks/exactness.py --ops [--samples 20] [--twin]

Integer models must equal the oracle of each rounding family in every value of every output (docs/exactness.md names the
oracles); float models are compared with TFLite's reference kernels and must stay within 1e-4 of the outputs' range. Inputs are
random over the whole type and, where known, real. `--twin` runs the naive NumPy twins of tests/naive instead of the engine,
`--ops` runs models of one operation each, random and beside rounding ties. The exit status is 1 if anything differs that
should not.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

import naive
from naive.cases import cases, draw
from naive.oracle import NAMES, Oracle, missing
from naive.ties import ties
from real_inputs import Inputs, as_input, golden, real_inputs

from edgeq.errors import EdgeqError, UnsupportedError
from edgeq.graph import Graph
from edgeq.tflite import read, write

Array = npt.NDArray[Any]
Runner = Callable[[Inputs], list[Array]]

FLOAT_LIMIT = 1e-4
"""Greatest error of a float output, relative to the output's range."""


@dataclass(frozen=True)
class Row:
    """One line of the table: what was compared, how many values differ, the greatest distance, the expected values' range."""

    model: str
    rounding: str
    oracle: str
    inputs: str
    values: int = 0
    differing: int = 0
    worst: float = 0.0
    note: str = ""
    floating: bool = False
    least: float = np.inf
    greatest: float = -np.inf

    @property
    def relative(self) -> float:
        """The worst distance relative to the range of the expected values."""
        return self.worst / (self.greatest - self.least) if self.greatest > self.least else self.worst

    @property
    def good(self) -> bool:
        """Whether everything that should be equal is."""
        return self.relative <= FLOAT_LIMIT if self.floating else self.differing == 0


# --- who computes ---------------------------------------------------------------------------------------------------------


def engine(graph: Graph, rounding: str) -> Runner:
    """The compiled engine."""
    from edgeq.dynamic import build

    model = build(graph, rounding=rounding)
    names = [p.name for p in model.inputs]

    def run(inputs: Inputs) -> list[Array]:
        y = model(inputs[0] if len(inputs) == 1 else dict(zip(names, inputs, strict=True)))
        return list(y.values()) if isinstance(y, dict) else [y]

    return run


def twin(graph: Graph, rounding: str) -> Runner:
    """The naive NumPy twins."""

    def run(inputs: Inputs) -> list[Array]:
        tensors = naive.run(graph, inputs, rounding)
        return [tensors[i] for i in graph.outputs]

    return run


# --- what is compared -----------------------------------------------------------------------------------------------------


def always(outputs: Sequence[Array]) -> Runner:
    """A runtime that knows one answer."""
    return lambda _: list(outputs)


def compare(row: Row, ours: Runner, theirs: Runner, inputs: Iterable[Inputs]) -> Row:
    """The row with what was found over all inputs and outputs."""
    for sample in inputs:
        for found, expected in zip(ours(sample), theirs(sample), strict=True):
            row = compared(row, found, expected)
    return row


def compared(row: Row, found: Array, expected: Array) -> Row:
    """The row with one array more."""
    if found.shape != expected.shape or found.dtype != expected.dtype:
        note = f"{found.dtype}{list(found.shape)} found, {expected.dtype}{list(expected.shape)} expected"
        return replace(row, differing=row.differing + 1, worst=np.inf, note=note)
    if not found.size:
        return row
    exact = np.complex128 if found.dtype.kind == "c" else np.float64
    distance = np.abs(found.astype(exact) - expected.astype(exact))
    return replace(
        row,
        values=row.values + found.size,
        differing=row.differing + int((found != expected).sum()),
        worst=max(row.worst, float(distance.max(initial=0.0))),
        least=min(row.least, float(expected.real.min())),
        greatest=max(row.greatest, float(expected.real.max())),
    )


def random_inputs(graph: Graph, count: int, rng: np.random.Generator) -> list[Inputs]:
    """Random inputs; one that states TRANSPOSE_CONV's output shape states the right one, indices lie within their tensors."""
    if any(op.code == "SLICE" and op.inputs[1] in graph.inputs for op in graph.ops):
        return [sliced(graph, rng) for _ in range(count)]
    shapes = {
        op.inputs[0]: np.array(graph.tensors[op.outputs[0]].shape, np.int32)
        for op in graph.ops
        if op.code == "TRANSPOSE_CONV"
    }
    limits = index_limits(graph)

    def fitted(i: int, x: Array) -> Array:
        return shapes[i] if i in shapes else x % limits[i] if i in limits else x

    return [tuple(map(fitted, graph.inputs, draw(graph, rng))) for _ in range(count)]


def sliced(graph: Graph, rng: np.random.Generator) -> Inputs:
    """Inputs of a model that is one SLICE, begin and size fed too: any lengths, a part of them, now and then −1 for all."""
    op = graph.ops[0]
    lengths = [int(n) for n in rng.integers(1, 9, len(graph.tensors[op.inputs[0]].shape))]
    begin = [int(rng.integers(0, n)) for n in lengths]
    size = [int(rng.integers(1, n - b + 1)) if rng.random() < 0.8 else -1 for n, b in zip(lengths, begin, strict=True)]
    kinds = [graph.tensors[i].dtype for i in op.inputs]
    made = dict(zip(op.inputs, (rng.standard_normal(lengths).astype(kinds[0]), np.array(begin, kinds[1]),
                                np.array(size, kinds[2])), strict=True))  # fmt: skip
    return tuple(made[i] for i in graph.inputs)


def index_limits(graph: Graph) -> dict[int, int]:
    """Tensor that is used as an index → what it may count up to along every dimension that it names."""
    found = {}
    for op in graph.ops:
        if op.code in ("GATHER", "GATHER_ND"):
            found[op.inputs[1]] = max(min(graph.tensors[op.inputs[0]].shape), 1)
        elif op.code == "EMBEDDING_LOOKUP":
            found[op.inputs[0]] = graph.tensors[op.inputs[1]].shape[0]
        elif op.code == "DYNAMIC_UPDATE_SLICE":
            found[op.inputs[2]] = max(graph.tensors[op.inputs[0]].shape)
    return found


def given_inputs(paths: Sequence[Path], graph: Graph, count: int) -> list[Inputs]:
    """The samples of NPZ files: `x`, or each input under its own name."""
    samples: list[Inputs] = []
    for path in paths:
        with np.load(path) as arrays:
            names = graph.input_names() if len(graph.inputs) > 1 or "x" not in arrays else ["x"]
            columns = [arrays[n] for n in names]
        tensors = [graph.tensors[i] for i in graph.inputs]
        samples += [tuple(map(as_input, row, tensors)) for row in zip(*columns, strict=True)]
    return samples[:count]


def uncertain(graph: Graph, rounding: str) -> list[str]:
    """Operations whose oracle is not exact, or not to be trusted, and why."""
    found = []
    for op in graph.ops:
        types = [graph.tensors[i].dtype for i in op.inputs if i >= 0]
        wide = any(graph.tensors[i].dtype == "int16" for i in op.outputs[:1])
        if op.code in ("CONV_2D", "TRANSPOSE_CONV") and rounding == "xnnpack" and wide and types[-1] == "int32":
            found.append(f"{op.code} int16 with int32 bias: LiteRT reads the bias as int64")
        if op.code == "FULLY_CONNECTED" and rounding == "tflite" and len(graph.tensors[op.outputs[0]].shape) > 2:
            found.append("FULLY_CONNECTED keeping dimensions: tflite-runtime 2.14 leaves part of the output unwritten")
        if op.code == "SUM" and types[:1] == ["int8"]:
            found.append("SUM int8: LiteRT's reference casts to uint8")
    return sorted(set(found))


def rows_of(path: Path, options: argparse.Namespace) -> Iterable[Row]:
    """Everything asked about one model file."""
    graph = read(path.read_bytes())
    if options.tensors:
        graph = laid_open(graph)
    content = write(graph) if options.tensors else path.read_bytes()
    name, rng = path.stem, np.random.default_rng(options.seed)
    floating = graph.tensors[graph.outputs[0]].dtype == "float32"
    samples = {"random": random_inputs(graph, options.samples, rng)}
    if given := given_inputs(options.data, graph, options.samples):
        samples["given"] = given
    elif real := real_inputs(name, graph, options.samples, rng):
        samples["real"] = real
    for rounding in ["tflite"] if floating else options.rounding:
        first = Row(name, "float" if floating else rounding, NAMES[rounding], "", floating=floating)
        try:
            ours = (twin if options.twin else engine)(graph, rounding)
        except (EdgeqError, NotImplementedError) as e:
            yield replace(first, note=f"not run: {e}", differing=1, worst=np.inf)
            continue
        if not options.tensors and (vectors := golden(name, graph)):
            yield compare(
                replace(first, oracle="golden vectors", inputs="golden"),
                ours,
                always(vectors[1]),
                [vectors[0]],
            )
        if reason := missing(rounding):
            yield replace(first, note=f"skipped: {reason}")
            continue
        oracle = Oracle(content, rounding)
        doubts = "; ".join(uncertain(graph, rounding))
        for kind, inputs in samples.items():
            row = compare(replace(first, inputs=f"{len(inputs)} {kind}", note=doubts), ours, oracle, inputs)
            yield row
            if not row.good and options.layers:
                yield first_difference(row, graph, rounding, inputs, options)


def laid_open(graph: Graph) -> Graph:
    """The graph with every computed tensor as an output, in order; without signatures, which name the outputs it had."""
    return replace(graph.with_main(outputs=tuple(i for op in graph.ops for i in op.outputs)), signatures=())


def first_difference(
    row: Row, graph: Graph, rounding: str, inputs: Sequence[Inputs], options: argparse.Namespace
) -> Row:
    """The first tensor, in the order of computation, that differs in any sample: every tensor is made an output."""
    opened = laid_open(graph)
    order = opened.outputs
    ours, oracle = (twin if options.twin else engine)(opened, rounding), Oracle(write(opened), rounding)
    for sample in inputs:
        for i, found, expected in zip(order, ours(sample), oracle(sample), strict=True):
            floating = graph.tensors[i].dtype == "float32"
            one = compared(
                replace(
                    row, values=0, differing=0, worst=0.0, least=np.inf, greatest=-np.inf, note="", floating=floating
                ),
                found,
                expected,
            )
            if not one.good:
                op = next(op for op in graph.ops if i in op.outputs)
                return replace(
                    one, inputs="1 of them", note=f"first in tensor {i} {graph.tensors[i].name[-40:]!r} of {op.code}"
                )
    return replace(
        row,
        inputs="laid open",
        values=0,
        differing=0,
        worst=0.0,
        least=np.inf,
        greatest=-np.inf,
        note="no tensor differs when all are outputs",
    )


def operation_rows(options: argparse.Namespace) -> Iterable[Row]:
    """One row per operation × dtype × family, over its single-op models."""
    rng = np.random.default_rng(options.seed)
    jobs: list[tuple[str, str, Graph, list[Inputs], tuple[str, ...]]] = []
    for c in cases():
        known = tuple(r for r in NAMES if c.has_oracle(r))
        jobs.append(
            (f"{c.op} {c.dtype}", "random", c.graph, [tuple(c.draw(rng)) for _ in range(options.samples)], known)
        )
    for t in ties():
        words = t.name.split(" by ")[0].split()
        jobs.append((" ".join(words[:4] if "→" in words else words[:2]), "ties", t.graph, [t.inputs], tuple(NAMES)))
    rows: dict[tuple[str, str, str], Row] = {}
    for name, kind, graph, inputs, known in jobs:
        floating = graph.tensors[graph.outputs[0]].dtype == "float32"
        for rounding in ["tflite"] if floating else options.rounding:
            key = (name, rounding, kind)
            row = rows.setdefault(key, Row(name, rounding, NAMES[rounding], kind, floating=floating))
            if reason := missing(rounding):
                rows[key] = replace(row, note=f"skipped: {reason}")
                continue
            if rounding not in known:
                rows[key] = replace(row, note=row.note or "some not compared: the runtime does not have them")
                continue
            try:
                ours = (twin if options.twin else engine)(graph, rounding)
            except UnsupportedError as e:
                rows[key] = replace(row, note=f"not run: {e}")
                continue
            rows[key] = compare(row, ours, Oracle(write(graph), rounding), inputs)
    return [rows[k] for k in sorted(rows)]


# --- the table ------------------------------------------------------------------------------------------------------------

COLUMNS = "{:<38} {:<8} {:<27} {:<11} {:>12} {:>10} {:>9}  {}"


def line(row: Row) -> str:
    """The row as text."""
    worst = f"{row.relative:.1e}" if row.floating else f"{row.worst:.0f}"
    return COLUMNS.format(
        row.model,
        row.rounding,
        row.oracle,
        row.inputs,
        row.values,
        "" if row.floating else row.differing,
        worst,
        row.note,
    ).rstrip()


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("models", nargs="*", type=Path, metavar="MODEL", help=".tflite files")
    parser.add_argument("--samples", type=int, default=100, help="random inputs, and at most as many real ones (100)")
    parser.add_argument("--data", type=Path, nargs="+", default=[], metavar="NPZ", help="real samples, for every model")
    parser.add_argument("--rounding", choices=["tflite", "xnnpack", "both"], default="both")
    parser.add_argument("--twin", action="store_true", help="the naive twins instead of the engine")
    parser.add_argument("--layers", action="store_true", help="show the first tensor that differs")
    parser.add_argument("--tensors", action="store_true", help="compare every tensor, not only the outputs")
    parser.add_argument("--ops", action="store_true", help="models of one operation each")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(argv)
    if not options.models and not options.ops:
        parser.error("name at least one model, or --ops")
    options.rounding = ["tflite", "xnnpack"] if options.rounding == "both" else [options.rounding]
    return options


def main(argv: Sequence[str] | None = None) -> int:
    options = arguments(argv)
    print(COLUMNS.format("model", "rounding", "oracle", "inputs", "values", "differing", "worst", "").rstrip())
    good = True
    for row in (row for path in options.models for row in rows_of(path, options)):
        print(line(row), flush=True)
        good &= row.good
    for row in operation_rows(options) if options.ops else ():
        print(line(row), flush=True)
        good &= row.good
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
