"""Times edgeq beside every other runtime that is installed, on the models named: medians, spreads, ratios, geometric means.

    python benchmarks/inference.py MODEL.tflite… [--float FLOAT.tflite…] [--threads 1] [--rounds 15] [--json]
        [--engines litert,tflite,openvino,onnxruntime] [--python ENGINE=PATH] [--onnx FOLDER]

Each runtime lives in a process of its own, kept for all models, and runs alone: the runtimes take turns, and in its turn each
times its own calls, of which all count the same: set input, invoke, read output, through Python. A round is one turn of each,
forwards and backwards by turns. A turn's time is the median of its calls, a runtime's time the median over rounds; its spread
is half the distance between the quartiles over rounds, relative to the median. A ratio is the median over rounds of (the other
runtime's time / edgeq's time) in one round: above 1, edgeq is faster. "best" is the runtime with the least ratio.

--float names the same models in float32, in the same order ("-" where there is none): a second row then holds their times over
edgeq's time of the quantized model. --python runs a runtime in another interpreter, for runtimes that want different NumPys;
that interpreter needs NumPy and the runtime. onnxruntime runs what tf2onnx converts, and keeps it in the folder named by --onnx.
The exit status is 1 if edgeq could not run a model.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from edgeq import peers
from edgeq.cli import figures

Array = npt.NDArray[Any]

WIDE = 0.1
"""A spread from which on a median is not to be trusted much."""

BASE = "edgeq"


class Engine(Protocol):
    """A runtime that can be given models and timed."""

    def load(self, model: Path, outputs: Path) -> str:
        """Make the model ready and write its outputs; an error's text, or "" if all is well."""

    def times(self, model: Path, seconds: float) -> Sequence[int]:
        """Nanoseconds of each call in a turn of about `seconds`."""

    def drop(self) -> None:
        """Forget all models."""


@dataclass(frozen=True)
class Result:
    """What was found for one model: times over rounds, errors, and the greatest distance from edgeq's outputs."""

    model: str
    times: Mapping[str, Array]  # engine → (rounds,) seconds a call
    errors: Mapping[str, str] = field(default_factory=dict)
    distances: Mapping[str, float] = field(default_factory=dict)


# --- arithmetic -----------------------------------------------------------------------------------------------------------


def ratios(times: Mapping[str, Array], base: Array) -> dict[str, float]:
    """Each runtime's time over edgeq's: the median over rounds of the ratio within a round."""
    return {name: float(np.median(values / base)) for name, values in times.items() if name != BASE}


def spread(values: Array) -> float:
    """Half the distance between the quartiles, relative to the median."""
    low, middle, high = np.quantile(values, (0.25, 0.5, 0.75))
    return float((high - low) / 2 / middle)


def best(found: Mapping[str, float]) -> tuple[str, float] | None:
    """The runtime with the least ratio."""
    return min(found.items(), key=lambda item: item[1]) if found else None


def geometric_mean(values: Sequence[float]) -> float:
    """exp(mean(log(values))); NaN of none."""
    return float(np.exp(np.mean(np.log(values)))) if values else float("nan")


def means(rows: Sequence[Mapping[str, float]], engines: Sequence[str]) -> dict[str, tuple[float, int]]:
    """For each runtime, and for the best of each row: geometric mean of the ratios, and of how many models."""
    columns = {name: [row[name] for row in rows if name in row] for name in engines}
    columns["best"] = [found[1] for row in rows if (found := best(row))]
    return {name: (geometric_mean(values), len(values)) for name, values in columns.items()}


def distance(a: Sequence[Array], b: Sequence[Array]) -> float:
    """The greatest difference of any two values, NaN if the arrays do not correspond."""
    if [x.size for x in a] != [x.size for x in b]:
        return float("nan")
    gaps = [
        np.abs(x.astype(np.float64).ravel() - y.astype(np.float64).ravel()).max(initial=0)
        for x, y in zip(a, b, strict=True)
    ]
    return float(max(gaps, default=0.0))


# --- measuring ------------------------------------------------------------------------------------------------------------


class Worker:
    """A runtime in a process of its own: see worker.py."""

    def __init__(self, engine: str, python: str, options: argparse.Namespace) -> None:
        self.engine, self.options = engine, options
        self.process = subprocess.Popen(
            [python, str(Path(__file__).with_name("worker.py")), engine],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=None if engine == BASE else subprocess.DEVNULL,  # edgeq says there that it compiles
            text=True,
        )
        self.version = str(self.ask(do="version").get("version", ""))

    def ask(self, **request: Any) -> dict[str, Any]:
        """The answer to a request; a process that died answers with an error."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except OSError:
            line = ""
        answer: dict[str, Any] = json.loads(line) if line else {"error": f"{self.engine}'s process ended"}
        return answer

    def load(self, model: Path, outputs: Path) -> str:
        """See Engine."""
        o = self.options
        answer = self.ask(
            do="load",
            model=str(model.resolve()),
            threads=o.threads,
            rounding=o.rounding,
            onnx=str(o.onnx.resolve()) if o.onnx else None,
            outputs=str(outputs),
        )
        return str(answer.get("error", ""))

    def times(self, model: Path, seconds: float) -> Sequence[int]:
        """See Engine; a runtime that fails now ends the benchmark."""
        answer = self.ask(do="time", model=str(model.resolve()), seconds=seconds)
        if "error" in answer:
            raise SystemExit(f"{self.engine}: {answer['error']}")
        found: list[int] = answer["ns"]
        return found

    def drop(self) -> None:
        """See Engine."""
        self.ask(do="drop")

    def close(self) -> None:
        """Let the process end."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(timeout=30)


def measure(engines: Mapping[str, Engine], models: Sequence[Path], rounds: int, seconds: float) -> list[Result]:
    """Load the models everywhere, then take turns, all runtimes with all models in every round."""
    loaded = [load(engines, model) for model in models]
    turns = [(i, name) for i, (errors, _) in enumerate(loaded) for name in engines if name not in errors]
    times: dict[tuple[int, str], list[float]] = {turn: [] for turn in turns}
    for done in range(rounds):
        for i, name in turns[:: 1 if done % 2 else -1]:
            times[i, name].append(float(np.median(engines[name].times(models[i], seconds))) * 1e-9)
    for engine in engines.values():
        engine.drop()
    return [
        Result(model.stem, {n: np.array(times[i, n]) for n in engines if (i, n) in times}, *loaded[i])
        for i, model in enumerate(models)
    ]


def load(engines: Mapping[str, Engine], model: Path) -> tuple[dict[str, str], dict[str, float]]:
    """Load one model everywhere: errors, and the distances of the others' outputs from edgeq's."""
    errors: dict[str, str] = {}
    found: dict[str, list[Array]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, engine in engines.items():
            path = Path(folder) / f"{name}.npz"
            if error := engine.load(model, path):
                errors[name] = error
            elif path.exists():
                with np.load(path) as arrays:
                    found[name] = [arrays[k] for k in arrays.files]
    return errors, {n: distance(found[n], found[BASE]) for n in found if n != BASE and BASE in found}


# --- the table ------------------------------------------------------------------------------------------------------------


def cell(result: Result, name: str, ratio: float | None) -> str:
    """Time, spread and ratio of one runtime on one model."""
    if name not in result.times:
        return "–"
    values = result.times[name]
    text = f"{figures.duration(float(np.median(values)))} ± {spread(values):.0%}"
    return text if ratio is None else f"{text}, **{ratio:.2f}**"


def row(label: str, result: Result, base: Array, names: Sequence[str]) -> tuple[str, dict[str, float]]:
    """A line of the table, and its ratios."""
    found = ratios(result.times, base)
    cells = [cell(result, BASE, None)] + [cell(result, n, found.get(n)) for n in names]
    first = best(found)
    cells.append("–" if first is None else f"{first[1]:.2f} ({first[0]})")
    return "| " + " | ".join([label, *cells]) + " |", found


def remarks(results: Sequence[Result]) -> list[str]:
    """What a reader of the table must know: runtimes that failed or differ, and spreads that are wide."""
    lines = [f"{r.model}: {name} could not run it: {why}" for r in results for name, why in r.errors.items()]
    lines += [
        f"{r.model}: outputs differ from edgeq's by at most "
        + ", ".join(f"{d:.3g} ({n})" for n, d in r.distances.items())
        for r in results
        if any(r.distances.values())
    ]
    wide = [
        f"{r.model} {name} ± {spread(values):.0%}"
        for r in results
        for name, values in r.times.items()
        if spread(values) >= WIDE
    ]
    if wide:
        lines.append("wide spread, measure again at a quieter time: " + ", ".join(wide))
    return lines


def mean_cells(found: Mapping[str, tuple[float, int]], names: Sequence[str]) -> str:
    """The last line of the table."""
    cells = [f"**{found[n][0]:.2f}** of {found[n][1]}" if found[n][1] else "–" for n in (*names, "best")]
    return "| " + " | ".join(["geometric mean", "", *cells]) + " |"


def as_dict(result: Result, base: Array) -> dict[str, Any]:
    """One model's figures for --json."""
    found = ratios(result.times, base)
    engines = {
        name: {
            "median_s": float(np.median(values)),
            "rounds_s": values.tolist(),
            "spread": spread(values),
            "ratio": found.get(name, float(np.median(values / base))),
            "distance": result.distances.get(name),
        }
        for name, values in result.times.items()
    }
    first = best(found)
    return {
        "model": result.model,
        "engines": engines,
        "errors": dict(result.errors),
        "best": None if first is None else {"name": first[0], "ratio": first[1]},
    }


def processor() -> str:
    """The processor's kind, as the code generator calls it, and its cores."""
    from llvmlite import binding

    return f"{platform.machine()} {binding.get_host_cpu_name()}, {os.cpu_count()} cores"


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", type=Path, metavar="MODEL.tflite")
    parser.add_argument("--float", nargs="+", type=Path, default=[], metavar="FLOAT.tflite", dest="floats")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--turn", type=float, default=0.05, metavar="SECONDS", help="length of a turn (0.05)")
    parser.add_argument("--rounding", choices=["xnnpack", "tflite"], default="xnnpack", help="edgeq's")
    parser.add_argument("--engines", default=",".join(peers.DISTRIBUTIONS), metavar="A,B", help="the other runtimes")
    parser.add_argument("--python", action="append", default=[], metavar="ENGINE=PATH", help="its interpreter")
    parser.add_argument("--onnx", type=Path, metavar="FOLDER", help="keeps the models converted for onnxruntime")
    parser.add_argument("--json", action="store_true", help="one JSON document instead of a table")
    options = parser.parse_args(argv)
    options.engines = [name for name in options.engines.split(",") if name]
    options.python = dict(pair.split("=", 1) for pair in options.python if "=" in pair)
    if unknown := (set(options.engines) | set(options.python)) - set(peers.DISTRIBUTIONS) - {BASE}:
        parser.error(f"unknown runtime {', '.join(sorted(unknown))}; known are {', '.join(peers.DISTRIBUTIONS)}")
    if options.floats and len(options.floats) != len(options.models):
        parser.error(f"--float names {len(options.floats)} models, {len(options.models)} are expected")
    return options


def main(argv: Sequence[str] | None = None) -> int:
    options = arguments(argv)
    workers = {n: Worker(n, options.python.get(n, sys.executable), options) for n in (BASE, *options.engines)}
    try:
        versions = {n: w.version for n, w in workers.items() if w.version}
        return report(options, {n: workers[n] for n in versions}, versions)
    finally:
        for worker in workers.values():
            worker.close()


def report(options: argparse.Namespace, engines: Mapping[str, Engine], versions: Mapping[str, str]) -> int:
    """Measure and print; the exit status."""
    names = [n for n in engines if n != BASE]
    results: list[Result] = []
    documents: list[dict[str, Any]] = []
    rows: list[dict[str, float]] = []
    if not options.json:
        threads = f"{options.threads} thread{'s' * (options.threads > 1)}"
        print(f"{processor()}; {threads}, {options.rounds} rounds of {options.turn * 1e3:g} ms\n")
        heads = [f"{n} {versions[n]}" for n in (BASE, *names)]
        print("| " + " | ".join(["model", *heads, "best"]) + " |\n" + "|---" * (len(heads) + 2) + "|", flush=True)
    floats = options.floats or [Path("-")] * len(options.models)
    for path, float_path in zip(options.models, floats, strict=True):
        both = [path] if str(float_path) == "-" else [path, float_path]
        one, *others = found = measure(engines, both, options.rounds, options.turn)
        results += found
        if BASE not in one.times:
            documents.append({"model": one.model, "errors": dict(one.errors)})
            continue
        base = one.times[BASE]
        lines = [row(one.model, one, base, names)]
        lines += [row(f"{r.model} over edgeq's {one.model}", r, base, names) for r in others]
        rows.append(lines[0][1])
        documents.append({**as_dict(one, base), "float": [as_dict(r, base) for r in others]})
        if not options.json:
            print("\n".join(line for line, _ in lines), flush=True)
    found_means = means(rows, names)
    if options.json:
        print(
            json.dumps(
                {
                    "processor": processor(),
                    "python": platform.python_version(),
                    "versions": dict(versions),
                    "threads": options.threads,
                    "rounds": options.rounds,
                    "models": documents,
                    "geometric_mean": {n: m if count else None for n, (m, count) in found_means.items()},
                    "remarks": remarks(results),
                },
                indent=2,
            )
        )
    else:
        print(mean_cells(found_means, names))
        print("".join(f"\n{line}" for line in remarks(results)))
    return 1 if any(BASE in r.errors for r in results) else 0


if __name__ == "__main__":
    sys.exit(main())
