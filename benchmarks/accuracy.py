"""What quantizing costs: float models against what recipes make of them, and others' int8 forms, on real data, in every runtime.

    python benchmarks/accuracy.py [TASK…] [--recipes NAME,…|all] [--json] [--quick] [--varied] [--peer PYTHON]

For tasks with labels the table gives the metric, for the others how often the int8 model's first choice is the float
model's. Float runs on TFLite's reference kernels. `--peer` names the Python of an environment with ai-edge-quantizer, whose
static int8 forms of the same model on the same samples are then measured too: one for each of its algorithms, the best of which
counts, if it leaves no layer in float. `--recipes` names ours, int8 alone by default. SQNR is that of the outputs on the test
data, in edgeq's engine; bundle is the size of the sealed bundle. `--quick` takes a part of the test data.

`--varied` takes thousands of samples instead: test samples moved and mirrored, other crops of the test pictures and photographs,
parts of the clips at other levels. It tells how far each recipe is from float, and int8 from the published form and the best of
the peer's, with intervals of 95 % of the paired differences (benchmarks/differences.py). Where there are no labels, what counts
is the probability that the float model gives the first choice.

The models and data are those that lie beside the checkout (../shared); a task whose files are missing is left out. The exit
status is 1 if one of our int8 models does not load and run in a runtime, or its labelled metric is over 0.3 points below float.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import Any

import differences
import numpy as np
import numpy.typing as npt
import varied
from accuracy_tasks import MODELS, TASKS, Task
from peers import ALGORITHMS, left_in_float, peer_model

from edgeq import codebooks
from edgeq.check import sound
from edgeq.engine import Model
from edgeq.errors import CheckError
from edgeq.keys import PublisherKey
from edgeq.quantize import quantize
from edgeq.quantmod import QuantMod
from edgeq.recipe import RECIPES
from edgeq.recipe import recipe as recipe_named
from edgeq.seal import seal
from edgeq.tflite import read, write

Array = npt.NDArray[Any]
ALLOWED = 0.003
"""How far below float a labelled metric may be."""


@dataclass(frozen=True)
class Result:
    """A row of the table. ours, published, peer: runtime → metric (or what went wrong); the others: of the model by `recipe`."""

    task: str
    recipe: str
    metric: str
    labelled: bool
    samples: int
    float_: float
    ours: dict[str, Any]
    published: dict[str, Any] = field(default_factory=dict)
    peer: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    sqnr: float = 0.0
    bytes_before: int = 0
    bytes_after: int = 0
    bundle: int = 0
    peers: dict[str, float] = field(default_factory=dict)
    peers_sqnr: dict[str, float] = field(default_factory=dict)

    @property
    def good(self) -> bool:
        """Whether our model runs everywhere and is near enough to float where there are labels."""
        values = list(self.ours.values())
        if self.recipe != "int8":
            return True
        if any(isinstance(v, str) for v in values):
            return False
        return not self.labelled or min(values) >= self.float_ - ALLOWED


# --- runtimes: (model bytes, inputs (N, …) float32) → outputs (N, …), real numbers ------------------------------------------


def interpreter(package: str, reference: bool) -> Callable[[bytes, Array], Array]:
    """One of the two peers' interpreters, one thread."""
    module = __import__(f"{package}.interpreter", fromlist=["Interpreter"])
    kind = module.OpResolverType.BUILTIN_REF if reference else module.OpResolverType.AUTO

    def run(model: bytes, x: Array) -> Array:
        it = module.Interpreter(model_content=model, experimental_op_resolver_type=kind, num_threads=1)
        it.allocate_tensors()
        (source,), (target,) = it.get_input_details(), it.get_output_details()
        q_in, q_out = (transform(d["dtype"], d["quantization"]) for d in (source, target))
        out = []
        for row in x:
            row = row.reshape(source["shape"])
            it.set_tensor(source["index"], row if q_in is None else q_in.quantize(row))
            it.invoke()
            y = it.get_tensor(target["index"])
            out.append((y if q_out is None else q_out.dequantize(y))[0])
        return np.array(out)

    return run


def transform(dtype: Any, quantization: tuple[float, int]) -> QuantMod | None:
    """The transform of an input or output, None for floats."""
    return None if np.dtype(dtype).kind == "f" else QuantMod.from_tflite(*quantization, dtype)


def edgeq(rounding: str) -> Callable[[bytes, Array], Array]:
    """Our engine."""

    def run(model: bytes, x: Array) -> Array:
        ready = Model(read(model), rounding=rounding)
        y = ready(x.reshape(-1, *ready.inputs[0].shape[1:]), dequantize=True)
        assert isinstance(y, np.ndarray)
        return y

    return run


def runtimes() -> dict[str, Callable[[bytes, Array], Array]]:
    """Those that are installed, the reference first."""
    found = {}
    for name, package in (("tflite-runtime", "tflite_runtime"), ("LiteRT", "ai_edge_litert")):
        try:
            found[f"{name} REF"] = interpreter(package, True)
            found[name] = interpreter(package, False)
        except ImportError:
            continue
    return {**found, "edgeq xnnpack": edgeq("xnnpack"), "edgeq tflite": edgeq("tflite")}


# --- measuring --------------------------------------------------------------------------------------------------------------


def measure(name: str, task: Task, share: float, peer: str | None, recipes: Sequence[str]) -> Iterator[Result]:
    """A row for each recipe; the published form and the peer's stand in the first."""
    model = (MODELS / task.model).read_bytes()
    calibration, (x, truth) = task.calibration(), task.test(share)
    ways = runtimes()
    wanted = next(iter(ways.values()))(model, x)

    def scores(model: bytes) -> tuple[dict[str, Any], float]:
        found: dict[str, Any] = {}
        sqnr = float("nan")
        for runtime, run in ways.items():
            try:
                y = run(model, x)
                found[runtime] = task.metric(y, wanted, x, truth)
                sqnr = 10 * math.log10(
                    float((wanted.astype(np.float64) ** 2).sum()) / max(float(((y - wanted) ** 2).sum()), 1e-30)
                )
            except Exception as error:  # whatever a runtime raises is this cell's result
                found[runtime] = f"{type(error).__name__}: {error}"[:80]
        return found, sqnr

    published = scores((MODELS / task.published).read_bytes())[0] if task.published else {}
    others: dict[str, tuple[dict[str, Any], float]] = {}
    for algorithm in ALGORITHMS if peer else ():
        other = peer_model(peer or "", read(model), calibration, algorithm)
        if not isinstance(other, str) and (left := left_in_float(read(other))):
            other = f"{left} layers left in float"
        others[algorithm] = ({"error": other}, float("nan")) if isinstance(other, str) else scores(other)
    key = PublisherKey.generate()
    for recipe in recipes:
        start = time.perf_counter()
        done = quantize(read(model), calibration, recipe_named(recipe))
        seconds = time.perf_counter() - start
        ours = bytes(write(done.graph))
        coded = codebooks.coded(ours, read(ours))
        sealed = seal(ours if coded is None else coded, key, model_id="m", version=1, coded=coded is not None)
        found, sqnr = scores(ours)
        first = recipe == recipes[0]
        yield Result(
            name, recipe, task.metric_name, task.labelled, len(truth) if truth is not None else len(x),
            task.metric(wanted, wanted, x, truth), found, published if first else {},
            max((f for f, _ in others.values()), key=mean, default={}) if first else {},
            seconds, sqnr, done.bytes_before, done.bytes_after, sum(map(len, sealed.pieces())),
            {a: mean(f) for a, (f, _) in others.items()} if first else {},
            {a: s for a, (_, s) in others.items()} if first else {},
        )  # fmt: skip


def vary(name: str, task: Task, peer: str | None, recipes: Sequence[str]) -> dict[str, Any]:
    """Our forms, the published one and the peer's on many samples: what they score, and how far they are apart."""
    real, calibration = read((MODELS / task.model).read_bytes()), task.calibration()
    models = {r: quantize(real, calibration, recipe_named(r)).graph for r in recipes}
    if task.published:
        models["published"] = read((MODELS / task.published).read_bytes())
    for algorithm in ALGORITHMS if peer else ():
        other = peer_model(peer or "", real, calibration, algorithm)
        with suppress(CheckError):  # such as a scale of 0
            if not isinstance(other, str):
                models[algorithm] = sound(read(other))
    partly = {a: left for a in ALGORITHMS if a in models and (left := left_in_float(models[a]))}
    found = differences.scored(task, real, models)
    wholly = [a for a in ALGORITHMS if a in models and a not in partly]
    apart = differences.told(found, recipes, "published" if task.published else None, wholly)
    means = {n: {s: one.mean(s) for s in task.scores} for n, one in found.items()}
    every = found["float"].source
    sources = len(np.unique(every)) if not task.pairs else len(every)
    samples = len(every) * (len(varied.LEVELS) * varied.PIECES if task.pairs else 1)
    return {
        "task": name, "samples": samples, "sources": sources, "scores": means, "layers left in float": partly,
        "differences": [{**asdict(d), "verdict": d.verdict} for d in apart], "lines": [str(d) for d in apart],
    }  # fmt: skip


def mean(found: dict[str, Any]) -> float:
    """Over the runtimes that gave a number; −1 where none did."""
    numbers = [v for v in found.values() if not isinstance(v, str)]
    return sum(numbers) / len(numbers) if numbers else -1.0


def table(results: Sequence[Result]) -> str:
    """For people: a block per task, a line per model, a column per runtime."""
    lines = []
    for r in results:
        of = f"{r.metric} of {r.samples}"
        lines.append(
            f"{r.task}: float {r.float_:.4f} ({of}); {r.recipe} SQNR {r.sqnr:.1f} dB, {r.bytes_before / 1e3:.0f} kB to "
            f"{r.bytes_after / 1e3:.0f} kB, bundle {r.bundle / 1e3:.1f} kB, in {r.seconds:.1f} s{'' if r.good else '  ← TOO FAR'}"
        )
        if r.peers:
            told = (f"{a} {v:.4f} ({r.peers_sqnr[a]:.1f} dB)" for a, v in r.peers.items())
            lines.append("  peers     " + "  ".join(told))
        for who, found in (("published", r.published), ("peer", r.peer), ("ours", r.ours)):
            if found:
                cells = (f"{k} {v if isinstance(v, str) else f'{v:.4f}'}" for k, v in found.items())
                lines.append(f"  {who:<10}" + "  ".join(cells))
    return "\n".join(lines)


def varied_table(row: dict[str, Any]) -> str:
    """For people: what each model scores, and the differences."""
    lines = [f"{row['task']}: {row['samples']} samples of {row['sources']} sources"]
    for n, of in row["scores"].items():
        left = row["layers left in float"].get(n)
        note = f"  ({left} layers left in float)" if left else ""
        lines.append(f"  {n:<22}" + "  ".join(f"{s} {v:.4f}" for s, v in of.items()) + note)
    return "\n".join([*lines, *(f"  {line}" for line in row["lines"])])


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tasks", nargs="*", metavar="TASK", help=f"{', '.join(TASKS)}; all by default")
    parser.add_argument("--recipes", default="int8", help=f"of {', '.join(RECIPES)}, with commas between; or all")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--quick", action="store_true", help="take a quarter of the test data")
    parser.add_argument("--varied", action="store_true", help="thousands of samples, paired differences")
    parser.add_argument("--peer", metavar="PYTHON", help="the Python of an environment with ai-edge-quantizer")
    options = parser.parse_args(arguments)
    unknown = set(options.tasks) - set(TASKS)
    if unknown:
        parser.error(f"tasks are {', '.join(TASKS)}; got {', '.join(sorted(unknown))}")
    results: list[Result] = []
    many: list[dict[str, Any]] = []
    recipes = list(RECIPES) if options.recipes == "all" else options.recipes.split(",")
    for name in options.tasks or TASKS:
        try:
            if options.varied:
                many.append(vary(name, TASKS[name], options.peer, recipes))
                if not options.json:
                    print(varied_table(many[-1]), flush=True)
                continue
            share = 0.25 if options.quick else 1.0
            for row in measure(name, TASKS[name], share, options.peer, recipes):
                results.append(row)
                if not options.json:
                    print(table([row]), flush=True)
        except FileNotFoundError as error:
            print(f"{name}: left out, {error.filename} is not there", file=sys.stderr)
    if options.json:
        print(json.dumps(many or [{**asdict(r), "good": r.good} for r in results], indent=2))
    return 0 if all(r.good for r in results) else 1


if __name__ == "__main__":
    sys.exit(main())
