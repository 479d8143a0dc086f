"""What quantizing costs: float models against what recipes make of them, and others' int8 forms, on real data, in every runtime.

    python benchmarks/accuracy.py [TASK…] [--recipes NAME,…|all] [--json] [--quick] [--varied] [--peer PYTHON]

For tasks with labels the table gives the metric, for the others how often the int8 model's first choice is the float
model's. Float runs on TFLite's reference kernels. `--peer` names the Python of an environment with ai-edge-quantizer, whose
static int8 forms of the same model on the same samples are then measured too: one for each of its algorithms, the best of which
counts. `--recipes` names ours, int8 alone by default. SQNR is that of the outputs on the test data, in edgeq's engine; bundle is
the size of the sealed bundle. `--quick` takes a part of the test data. `--varied` takes each sample of ResNet8 and keywords
several times, moved and mirrored, in the runtimes' default kernels and edgeq: there is less chance in that than in 500.

The models and data are those that lie beside the checkout (../shared); a task whose files are missing is left out. The exit
status is 1 if one of our int8 models does not load and run in a runtime, or its labelled metric is over 0.3 points below float.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import varied
from real_inputs import DATA

from edgeq import codebooks
from edgeq.engine import Model
from edgeq.graph import Graph, Signature
from edgeq.keys import PublisherKey
from edgeq.metrics import auc, errors, top_k
from edgeq.quantize import quantize
from edgeq.quantmod import QuantMod
from edgeq.recipe import RECIPES
from edgeq.recipe import recipe as recipe_named
from edgeq.seal import seal
from edgeq.tflite import read, write

Array = npt.NDArray[Any]
MODELS = DATA.parent / "models"
PRIVATE = DATA / "restricted_internal"
ALLOWED = 0.003
"""How far below float a labelled metric may be."""


@dataclass(frozen=True)
class Task:
    """A float model with what measures it.

    calibration: () → (N, …) float32; test: (share) → (N, …) float32 and what the metric wants beside them; metric:
    (outputs (N, …), float outputs, inputs, truth) → a share in [0, 1]; published: the int8 form that its makers give.
    """

    model: str
    metric_name: str
    calibration: Callable[[], Array]
    test: Callable[[float], tuple[Array, Any]]
    metric: Callable[[Array, Array, Array, Any], float]
    published: str | None = None
    labelled: bool = True
    varied: Callable[[Array], Iterator[Array]] | None = None


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


# --- data and metrics -------------------------------------------------------------------------------------------------------


def stored(path: Path, prepare: Callable[[Array], Array] = lambda x: x, key: str = "x") -> Array:
    """An array of a sample file."""
    with np.load(path) as arrays:
        return prepare(arrays[key].astype(np.float32))


def labelled(path: Path, prepare: Callable[[Array], Array] = lambda x: x) -> Callable[[float], tuple[Array, Any]]:
    """The first `share` of a sample file, with its labels."""

    def load(share: float) -> tuple[Array, Any]:
        with np.load(path) as arrays:
            n = int(len(arrays["x"]) * share)
            return prepare(arrays["x"][:n].astype(np.float32)), arrays["y"][:n].astype(np.int64)

    return load


def keywords(x: Array) -> Array:
    """The features as the float model takes them: the file holds codes of scale 0.5847029, zero point 83."""
    return (x - 83) * np.float32(0.5847029)


def windows(share: float) -> tuple[Array, Any]:
    """ToyCar clips as windows of five frames of 128 bands; a part takes every so many-th window of each clip."""
    with np.load(PRIVATE / "ad_toycar_50clips.npz") as arrays:
        clips, anomalous = arrays["x"], arrays["y"]
    frames = np.lib.stride_tricks.sliding_window_view(clips, 5, axis=1).transpose(0, 1, 3, 2)
    frames = frames[:, :: max(1, round(1 / share))]
    return frames.reshape(-1, 640).astype(np.float32), anomalous == 1


def anomaly_auc(found: Array, wanted: Array, x: Array, anomalous: Any) -> float:
    """AUC of the clips' mean squared reconstruction error."""
    error = ((found - x) ** 2).mean(axis=1).reshape(len(anomalous), -1).mean(axis=1)
    return auc(error, anomalous)


def relative_error(found: Array, wanted: Array, x: Array, anomalous: Any) -> float:
    """Mean squared reconstruction error of the normal clips, the float model's being 1: less is better."""
    normal = np.repeat(~anomalous, len(x) // len(anomalous))
    return float(errors(found[normal], x[normal]).mean() / errors(wanted[normal], x[normal]).mean())


def accuracy(found: Array, wanted: Array, x: Array, labels: Any) -> float:
    """Share of samples whose first choice is the label."""
    return top_k(found, labels)


def agreement(found: Array, wanted: Array, x: Array, nothing: Any) -> float:
    """Share of samples whose first choice is the float model's."""
    return top_k(found, wanted.argmax(axis=1))


def pictures(size: int, prepare: Callable[[Array], Array], calibrate: bool) -> Array:
    """Small pictures enlarged and crops of photographs, size × size; calibration and test share none of either."""
    name, rng = ("cifar10_train_calib_256.npz", 0) if calibrate else ("cifar10_test_500.npz", 1)
    draw = np.random.default_rng(rng)
    with np.load(PRIVATE / name) as small, np.load(DATA / "photos_224.npz") as large:
        found = [resized(p, size) for p in small["x"][:100]]
        photos = large["x"][:6] if calibrate else large["x"][6:]
        for k in range(60):
            side = int(draw.integers(96, 225))
            top, left = draw.integers(0, 225 - side, 2)
            found.append(resized(photos[k % len(photos)][top : top + side, left : left + side], size))
    return prepare(np.stack(found))


def resized(picture: Array, size: int) -> Array:
    """(h, w, 3) to (size, size, 3) float32, linear between the nearest pixels' middles."""
    out = picture.astype(np.float32)
    for axis in (0, 1):
        n = out.shape[axis]
        at = np.clip((np.arange(size) + 0.5) * n / size - 0.5, 0, n - 1)
        low = np.floor(at).astype(int)
        part = (at - low).astype(np.float32).reshape([-1 if a == axis else 1 for a in range(3)])
        out = out.take(low, axis) * (1 - part) + out.take(np.minimum(low + 1, n - 1), axis) * part
    return out


def seen(size: int, prepare: Callable[[Array], Array]) -> dict[str, Any]:
    """Calibration and test of a vision model without labelled data."""

    def test(share: float) -> tuple[Array, Any]:
        x = pictures(size, prepare, False)
        return x[:: max(1, round(1 / share))], None

    return {"calibration": lambda: pictures(size, prepare, True), "test": test}


def around_zero(x: Array) -> Array:
    """Bytes to [−1, 1]."""
    return x / np.float32(127.5) - 1


TASKS = {
    "resnet8": Task(
        "mlperf_tiny/ic_resnet8_float.tflite", "top-1",
        lambda: stored(PRIVATE / "cifar10_train_calib_256.npz"),
        labelled(PRIVATE / "cifar10_test_500.npz"), accuracy, "mlperf_tiny/ic_resnet8_int8.tflite", varied=varied.pictures,
    ),
    "keywords": Task(
        "mlperf_tiny/kws_dscnn_float.tflite", "top-1",
        lambda: stored(DATA / "kws_mfcc_calib_100.npz", keywords),
        labelled(DATA / "kws_mfcc_500.npz", keywords), accuracy, "mlperf_tiny/kws_dscnn_int8.tflite", varied=varied.recordings,
    ),
    "toycar": Task(
        "mlperf_tiny/ad_toycar_float.tflite", "AUC",
        lambda: stored(PRIVATE / "ad_calib_200windows.npz"),
        windows, anomaly_auc, "mlperf_tiny/ad_toycar_int8.tflite",
    ),
    "toycar-error": Task(
        "mlperf_tiny/ad_toycar_float.tflite", "reconstruction error over float's",
        lambda: stored(PRIVATE / "ad_calib_200windows.npz"),
        windows, relative_error, "mlperf_tiny/ad_toycar_int8.tflite", labelled=False,
    ),
    "visual-wake-words": Task(
        "mlperf_tiny/vww_mobilenetv1_025_96_float.tflite", "agreement", metric=agreement, labelled=False,
        published="mlperf_tiny/vww_mobilenetv1_025_96_int8.tflite", **seen(96, lambda x: x / np.float32(255)),
    ),
    "mobilenet-v1": Task(
        "imagenet/mobilenet_v1_0.25_128_dequant_float.tflite", "agreement", metric=agreement, labelled=False,
        published="imagenet/mobilenet_v1_0.25_128_quant.tflite", **seen(128, around_zero),
    ),
    "mobilenet-v2": Task(
        "imagenet/tf2_mobilenet_v2_1.0_224_dequant_float.tflite", "agreement", metric=agreement, labelled=False,
        published="imagenet/tf2_mobilenet_v2_1.0_224_ptq.tflite", **seen(224, around_zero),
    ),
}  # fmt: skip


# --- measuring --------------------------------------------------------------------------------------------------------------


def measure(
    name: str, task: Task, share: float, peer: str | None, recipes: Sequence[str], vary: bool = False
) -> Iterator[Result]:
    """A row for each recipe; the published form and the peer's stand in the first."""
    model = (MODELS / task.model).read_bytes()
    calibration, (x, truth) = task.calibration(), task.test(share)
    ways = runtimes()
    if vary and task.varied is not None:
        some = list(task.varied(x.reshape(-1, *read(model).tensors[read(model).inputs[0]].shape[1:])))
        x, truth = np.concatenate(some), np.tile(truth, len(some))
        ways = {k: run for k, run in ways.items() if not k.endswith("REF")}
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


def mean(found: dict[str, Any]) -> float:
    """Over the runtimes that gave a number; −1 where none did."""
    numbers = [v for v in found.values() if not isinstance(v, str)]
    return sum(numbers) / len(numbers) if numbers else -1.0


ALGORITHMS = ("MIN_MAX_UNIFORM_QUANT", "MSE", "OCTAV", "GPTQ", "OSCAR")
"""ai-edge-quantizer's, for weights; activations it takes from the extremes."""

PEER = """
import sys
import numpy as np
from ai_edge_quantizer import algorithm_manager, quantizer, recipe
model, samples, out, algorithm = sys.argv[1:]
q = quantizer.Quantizer(float_model=model)
q.load_quantization_recipe(recipe=recipe.static_wi8_ai8(algorithm_manager.AlgorithmName[algorithm]))
x = np.load(samples)
result = q.calibrate({"serving_default": [{"x": row[None]} for row in x]})
q.quantize(result).export_model(out)
"""


def peer_model(python: str, graph: Graph, calibration: Array, algorithm: str) -> bytes | str:
    """ai-edge-quantizer's static int8 form, or its last word. It wants a signature, so the model gets one."""
    names = Signature("serving_default", 0, (("x", graph.inputs[0]),), (("y", graph.outputs[0]),))
    with tempfile.TemporaryDirectory() as folder:
        at = Path(folder)
        (at / "model.tflite").write_bytes(write(replace(graph, signatures=(names,))))
        np.save(at / "x.npy", calibration.reshape(-1, *graph.tensors[graph.inputs[0]].shape[1:]))
        command = [python, "-c", PEER, str(at / "model.tflite"), str(at / "x.npy"), str(at / "out.tflite"), algorithm]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            return (done.stderr.strip().splitlines() or ["no word"])[-1]
        return (at / "out.tflite").read_bytes()


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


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tasks", nargs="*", metavar="TASK", help=f"{', '.join(TASKS)}; all by default")
    parser.add_argument("--recipes", default="int8", help=f"of {', '.join(RECIPES)}, with commas between; or all")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--quick", action="store_true", help="take a quarter of the test data")
    parser.add_argument("--varied", action="store_true", help="vary labelled test samples: several times as many")
    parser.add_argument("--peer", metavar="PYTHON", help="the Python of an environment with ai-edge-quantizer")
    options = parser.parse_args(arguments)
    unknown = set(options.tasks) - set(TASKS)
    if unknown:
        parser.error(f"tasks are {', '.join(TASKS)}; got {', '.join(sorted(unknown))}")
    results = []
    recipes = list(RECIPES) if options.recipes == "all" else options.recipes.split(",")
    for name in options.tasks or TASKS:
        try:
            share = 0.25 if options.quick else 1.0
            for row in measure(name, TASKS[name], share, options.peer, recipes, options.varied):
                results.append(row)
                if not options.json:
                    print(table([row]), flush=True)
        except FileNotFoundError as error:
            print(f"{name}: left out, {error.filename} is not there", file=sys.stderr)
    if options.json:
        print(json.dumps([{**asdict(r), "good": r.good} for r in results], indent=2))
    return 0 if all(r.good for r in results) else 1


if __name__ == "__main__":
    sys.exit(main())
