"""What calibration on a device recovers of what a shift of its inputs costs, what it takes, and how well drift is found.

    python benchmarks/calibration.py [recovery] [resources] [drift] [power] [--teacher] [--samples 64] [--draws 1] [--json]

recovery: real samples under a shift; noise per signal against the float model under the same shift (its ceiling), before the
shift, after it, and after `recalibrate` with unlabelled samples that the test does not hold; and what share of the cost came
back. The weights' part is the noise of the float model that the codes stand for, which no ranges and roundings take off.
--draws: so many choices of the samples that are calibrated on. Without --teacher the device has the integer model alone, with
it the float model too.
resources: peak memory and time of `edgeq calibrate` with few and many samples, beside those of `edgeq run`.
drift: over 200 runs without a change how many alarms there were, against the stated rate; with each shift, looks until it.
power: `edgeq calibrate` killed at 50 random moments; is the overlay whole after each, and does the next run finish?

The models and data are those beside the checkout (../shared) and the demo's own; tasks whose files are missing are left out.
The exit status is 1 if less than half of a cost came back where there was one (and, without a teacher, the weights' part left
as much to come back), a calibrated model is noisier than it was, an alarm rate is above the stated one, or an
overlay was not whole.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from real_inputs import DATA

from edgeq.drift.baseline import to_arrays
from edgeq.drift.detector import RECALIBRATE, THRESHOLD, Detector
from edgeq.drift.model import WatchedModel, baseline_of
from edgeq.engine import Tracer
from edgeq.feed import encode, feed, quantmod_of
from edgeq.graph import Graph
from edgeq.quantize import quantize, recalibrate
from edgeq.quantize.compare import judged
from edgeq.quantize.reconstruct import reconstruct
from edgeq.tflite import read

Array = npt.NDArray[Any]
Shift = Callable[[Array], Array]
MODELS = DATA.parent / "models" / "mlperf_tiny"
DEMO = Path(__file__).resolve().parents[1] / "edgeq" / "demo"


@dataclass(frozen=True)
class Task:
    """A float model, its published int8 form if there is one, samples to calibrate with and to test on, and shifts."""

    name: str
    real: Graph
    published: Graph | None
    local: Array
    test: Array
    shifts: Mapping[str, Shift]


def load(path: Path) -> Graph:
    return read(path.read_bytes())


def tasks() -> list[Task]:
    found = [digits()]
    for make in (keywords, images, toycar):
        try:
            found.append(make())
        except FileNotFoundError:
            print(f"{make.__name__}: no data beside the checkout, left out", file=sys.stderr)
    return found


def digits() -> Task:
    with np.load(DEMO / "calibration.npz") as c, np.load(DEMO / "held_out.npz") as h:
        return Task(
            "digits",
            load(DEMO / "digits.tflite"),
            None,
            c["x"],
            h["x"][:300],
            {"darkened ×0.3": lambda x: 0.3 * x, "brightened ×3": lambda x: 3 * x},
        )


def keywords() -> Task:
    def real(name: str) -> Array:
        with np.load(DATA / name) as arrays:
            return (arrays["x"].astype(np.float32) - 83) * np.float32(0.5847029)

    published = load(MODELS / "kws_dscnn_int8.tflite")
    # The published float file is a dynamic-range model: what the int8 codes stand for is the float model here.
    return Task(
        "keywords",
        reconstruct(published),
        published,
        real("kws_mfcc_calib_100.npz"),
        real("kws_mfcc_500.npz")[:200],
        {"gain ×0.3": lambda x: 0.3 * x, "gain ×3": lambda x: 3 * x},
    )


def images() -> Task:
    def pictures(name: str) -> Array:
        with np.load(DATA / "restricted_internal" / name) as arrays:
            return arrays["x"].astype(np.float32)

    cast = np.array([1.3, 0.8, 0.5], np.float32)
    return Task(
        "images",
        load(MODELS / "ic_resnet8_float.tflite"),
        load(MODELS / "ic_resnet8_int8.tflite"),
        pictures("cifar10_train_calib_256.npz"),
        pictures("cifar10_test_500.npz")[:200],
        {"darkened ×0.3": lambda x: 0.3 * x, "colour cast": lambda x: np.clip(x * cast, 0, 255)},
    )


def toycar() -> Task:
    folder = DATA / "restricted_internal"
    with np.load(folder / "ad_toycar_50clips.npz") as clips, np.load(folder / "ad_calib_200windows.npz") as windows:
        test = np.concatenate([clips["x"][:, i : i + 5].reshape(len(clips["x"]), -1) for i in range(0, 190, 37)])
        local = windows["x"]

    def floor(level: float) -> Shift:
        return lambda x: (10 * np.log10(10 ** (x.astype(np.float64) / 10) + 10 ** (level / 10))).astype(np.float32)

    return Task(
        "toycar",
        load(MODELS / "ad_toycar_float.tflite"),
        load(MODELS / "ad_toycar_int8.tflite"),
        local,
        test[:200],
        {"noise floor 0 dB": floor(0.0), "20 dB down": lambda x: x - 20, "20 dB up": lambda x: x + 20},
    )


# --- recovery ---------------------------------------------------------------------------------------------------------


def scores(graph: Graph, x: Array, coded: bool) -> Array:
    """What the softmax or the like of a float or an integer graph gets, as real numbers: (samples, values) float64."""
    run, targets = Tracer(graph), judged(reconstruct(graph) if coded else graph)
    transforms = [quantmod_of(graph.tensors[i]) if coded else None for i in targets]
    rows = []
    for sample in feed(graph, x):
        found = run.run(encode(graph, sample) if coded else list(sample))
        parts = [found[i] if q is None else q.dequantize(found[i]) for i, q in zip(targets, transforms, strict=True)]
        rows.append(np.concatenate([p.reshape(-1) for p in parts]).astype(np.float64))
    return np.array(rows)


def recovery(samples: int, with_teacher: bool, draws: int) -> list[dict[str, Any]]:
    rows = []
    for task in tasks():
        rng = np.random.default_rng(0)
        picks = [np.arange(samples), *(rng.permutation(len(task.local))[:samples] for _ in range(draws - 1))]
        forms = {"edgeq's int8": quantize(task.real, task.local[:100]).graph}
        if task.published is not None:
            forms["published int8"] = task.published
        for form, coded in forms.items():
            meant, wanted = scores(reconstruct(coded), task.test, False), scores(task.real, task.test, False)
            found = scores(coded, task.test, True)
            before, own_before = _noise(found, wanted, wanted), _noise(found, meant, wanted)
            for name, shift in task.shifts.items():
                test = shift(task.test).astype(np.float32)
                meant, wanted = scores(reconstruct(coded), test, False), scores(task.real, test, False)
                found = scores(coded, test, True)
                shifted, own = _noise(found, wanted, wanted), _noise(found, meant, wanted)
                start = time.perf_counter()
                made = [
                    recalibrate(
                        coded,
                        shift(task.local[pick]).astype(np.float32),
                        keep_io=False,
                        teacher=task.real if with_teacher else None,
                    )
                    for pick in picks
                ]
                seconds = (time.perf_counter() - start) / draws
                after = [scores(done.graph, test, True) for done in made]
                left = [_noise(a, wanted, wanted) for a in after]
                cost = shifted - before if shifted - before > 0.1 * before else None
                rows.append(
                    {
                        "task": task.name,
                        "model": form,
                        "shift": name,
                        "before": before,
                        "shifted": shifted,
                        "weights": _noise(meant, wanted, wanted),
                        "rounding_before": own_before,
                        "calibrated": left[0],
                        "recovered": [(shifted - n) / cost for n in left] if cost else None,
                        "rounding": (own - _noise(after[0], meant, wanted)) / (own - own_before) if cost else None,
                        "worse": max(left) / shifted,
                        "agree": _agreement(found, wanted),
                        "agree_after": _agreement(after[0], wanted),
                        "changed": [done.changed for done in made],
                        "why": made[0].steps[-1],
                        "seconds": seconds,
                    }
                )
    return rows


def _noise(found: Array, wanted: Array, signal: Array) -> float:
    return float(((found - wanted) ** 2).sum() / (signal**2).sum())


def _agreement(found: Array, wanted: Array) -> float:
    return float((found.argmax(1) == wanted.argmax(1)).mean())


def show_recovery(rows: list[dict[str, Any]]) -> bool:
    print(
        "\n| task | model | shift | noise before | shifted | of it the weights' | calibrated | recovered | least of "
        f"{len(rows[0]['changed'])} | of the activations' part | agreement | seconds |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|---|---|")

    def share(value: float) -> str:
        return f"{100 * min(value, 9.99):.0f} %"

    for r in rows:
        if r["recovered"] is None:
            kept = "no cost", "no cost", ""
        else:
            kept = share(r["recovered"][0]), share(min(r["recovered"])), share(r["rounding"])
        print(
            f"| {r['task']} | {r['model']} | {r['shift']} | {100 * r['before']:.3f} % | {100 * r['shifted']:.3f} % | "
            f"{100 * r['weights']:.3f} % | {100 * r['calibrated']:.3f} %{'' if r['changed'][0] else ' (as it was)'} | "
            f"{' | '.join(kept)} | {r['agree']:.3f} → {r['agree_after']:.3f} | {r['seconds']:.1f} |"
        )
    for r in rows:
        if not r["changed"][0]:
            print(f"{r['task']}, {r['model']}, {r['shift']}: {r['why']}")
    print(f"worst of all draws: {100 * (max(r['worse'] for r in rows) - 1):+.0f} % of the shifted noise")
    return all(map(_half, rows))


def _half(row: dict[str, Any]) -> bool:
    out_of_reach = row["weights"] + row["rounding_before"] > 0.5 * (row["before"] + row["shifted"])
    return row["calibrated"] <= row["shifted"] and (
        row["recovered"] is None or row["recovered"][0] >= 0.5 or out_of_reach
    )


# --- resources --------------------------------------------------------------------------------------------------------


def command(*arguments: str) -> tuple[float, float]:
    """Seconds and peak MiB of an edgeq command in a process of its own."""
    code = "import sys; from edgeq.cli import main; sys.exit(main(sys.argv[1:]))"
    start = time.perf_counter()
    child = os.fork()
    if not child:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        os.execv(sys.executable, [sys.executable, "-c", code, *arguments])
    _, status, used = os.wait4(child, 0)
    if status:
        raise SystemExit(f"edgeq {' '.join(arguments)}: failed")
    return time.perf_counter() - start, used.ru_maxrss / 1024


def resources() -> list[dict[str, Any]]:
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        at = Path(folder)
        command("keys", "new", "device", str(at / "d"))
        found = [("digits", None)] + [(n, MODELS / f"{n}.tflite") for n in ("kws_dscnn_int8", "ic_resnet8_int8")]
        for name, path in found:
            if path is None:
                path = at / "digits.tflite"
                command("quantize", str(DEMO / "digits.tflite"), "-d", str(DEMO / "calibration.npz"), "-o", str(path))
            if not path.exists():
                continue
            shape = read(path.read_bytes()).tensors[0].shape
            graph = read(path.read_bytes())
            shape = graph.tensors[graph.inputs[0]].shape[1:]
            rng = np.random.default_rng(0)
            for n in (64, 64_000):
                np.savez(at / "x.npz", x=rng.normal(size=(n, *shape)).astype(np.float32))
                ran, base = command("run", str(path), "-i", str(at / "x.npz"), "-o", str(at / "y.npz"))
                took, peak = command(
                    "calibrate", str(path), "-d", str(at / "x.npz"), "-o", str(at / "o.eqo"),
                    "--identity", str(at / "d.key"),
                )  # fmt: skip
                (at / "o.eqo").unlink(missing_ok=True)
                _, idle = command("inspect", str(path))
                rows.append(
                    {
                        "model": name,
                        "samples": n,
                        "run_seconds": ran,
                        "calibrate_seconds": took,
                        "run_mib": base,
                        "calibrate_mib": peak,
                        "idle_mib": idle,
                    }
                )
    return rows


def show_resources(rows: list[dict[str, Any]]) -> bool:
    print("\n| model | samples | edgeq run | edgeq calibrate | speed | peak run | peak calibrate | over inspect |")
    print("|---|---|---|---|---|---|---|---|")
    for r in rows:
        print(
            f"| {r['model']} | {r['samples']} | {r['run_seconds']:.2f} s | {r['calibrate_seconds']:.2f} s | "
            f"{r['run_seconds'] / r['calibrate_seconds']:.2f} | {r['run_mib']:.0f} MiB | {r['calibrate_mib']:.0f} MiB | "
            f"{r['calibrate_mib'] - r['idle_mib']:+.0f} MiB |"
        )
    return True


# --- drift ------------------------------------------------------------------------------------------------------------


def drift(runs: int = 200, looks: int = 500) -> list[dict[str, Any]]:
    rows = []
    for task in tasks():
        coded = task.published or quantize(task.real, task.local[:100]).graph
        known = baseline_of(coded, list(feed(task.real, task.test[::2])))
        fresh = task.test[1::2]
        assert known is not None
        scores = {
            name: _scores(coded, known, s(fresh).astype(np.float32))
            for name, s in {"none": _same, **task.shifts}.items()
        }
        usual = [known.scores, scores["none"]]
        rng = np.random.default_rng(0)
        # Each sample is one look of a run: drawn again and again, from one pool that is parted anew for each run.
        pool = np.concatenate(usual)
        alarms = 0
        for run in range(runs):
            mixed = rng.permutation(pool)
            detector = Detector(mixed[: len(pool) // 2].tolist(), seed=run)
            alarms += any(detector.see(float(rng.choice(mixed))) == RECALIBRATE for _ in range(looks))
        row = {
            "task": task.name,
            "false_alarms": alarms,
            "runs": runs,
            "looks": looks,
            "bound": runs * looks / THRESHOLD,
        }
        delays = {}
        for name in task.shifts:
            until = []
            for run in range(runs):
                detector = Detector(known.scores.tolist(), seed=run)
                for _ in range(50):
                    detector.see(float(rng.choice(scores["none"])))
                at = next(
                    (n for n in range(1, 1001) if detector.see(float(rng.choice(scores[name]))) == RECALIBRATE), None
                )
                until.append(at)
            hits = sorted(u for u in until if u is not None)
            delays[name] = (len(hits), hits[len(hits) // 2] if hits else None, hits[-1] if hits else None)
        rows.append({**row, "delays": delays})
    return rows


def _same(x: Array) -> Array:
    return x


def _scores(coded: Graph, known: Any, x: Array) -> Array:
    """The score of each sample."""
    with WatchedModel(coded, to_arrays(known), every=1) as model:
        out = []
        model._detector.see = lambda s: (out.append(s), "")[1]  # type: ignore[method-assign]
        for sample in feed(coded, x):
            model(sample[0])
    return np.array(out)


def show_drift(rows: list[dict[str, Any]]) -> bool:
    print(
        "\n| task | runs without a change | false alarms | at most, in the mean | shift: found, median and longest delay |"
    )
    print("|---|---|---|---|---|")
    for r in rows:
        found = "; ".join(f"{n}: {h} of {r['runs']}, {m}, {w}" for n, (h, m, w) in r["delays"].items())
        print(f"| {r['task']} | {r['runs']} of {r['looks']} looks | {r['false_alarms']} | {r['bound']:.2f} | {found} |")
    return all(r["false_alarms"] <= r["bound"] + 3 * max(1.0, r["bound"]) ** 0.5 for r in rows)


# --- power ------------------------------------------------------------------------------------------------------------


def power(times: int = 50) -> list[dict[str, Any]]:
    """Kill calibrations at random moments; after each, is the overlay that is there whole, and one of those made?"""
    from edgeq import keys, overlay
    from edgeq.overlay import Base

    rng = random.Random(1)
    with tempfile.TemporaryDirectory() as folder:
        at = Path(folder)
        command("keys", "new", "device", str(at / "d"))
        model = at / "m.tflite"
        command("quantize", str(DEMO / "digits.tflite"), "-d", str(DEMO / "calibration.npz"), "-o", str(model))
        import hashlib

        base = Base(hashlib.sha256(model.read_bytes()).hexdigest())
        device = keys.load_device(at / "d.key")
        with np.load(DEMO / "calibration.npz") as arrays:
            for k in range(2):
                np.savez(at / f"x{k}.npz", x=(0.2 + 3 * k) * arrays["x"])

        def line(k: int) -> list[str]:
            return [
                "calibrate",
                str(model),
                "-d",
                str(at / f"x{k}.npz"),
                "-o",
                str(at / "o.eqo"),
                "--identity",
                str(at / "d.key"),
            ]

        longest, _ = command(*line(0))
        whole = resumed = 0
        for n in range(times):
            child = subprocess.Popen(
                [sys.executable, "-c", "import sys; from edgeq import checkpoint; checkpoint.EVERY = 0.02;"
                 "from edgeq.cli import main; sys.exit(main(sys.argv[1:]))", *line(n % 2)],
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )  # fmt: skip
            time.sleep(rng.uniform(0, 1.2 * longest))
            child.kill()
            child.wait()
            try:
                overlay.open_for((at / "o.eqo").read_bytes(), device, base)
                whole += 1
            except Exception as error:
                print(f"kill {n}: {type(error).__name__}: {error}", file=sys.stderr)
            resumed += (at / "o.eqo.part").exists()
        command(*line(1))
        left = sorted(p.name for p in at.iterdir() if p.suffix == ".part")
        return [{"kills": times, "whole": whole, "checkpoints_met": resumed, "left_over": left}]


def show_power(rows: list[dict[str, Any]]) -> bool:
    (r,) = rows
    print(
        f"\npower: {r['whole']} of {r['kills']} times the overlay was whole; {r['checkpoints_met']} times a checkpoint"
    )
    print(f"lay beside it; after a run to the end {', '.join(r['left_over']) or 'nothing'} was left")
    return r["whole"] == r["kills"] and not r["left_over"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("parts", nargs="*", choices=["recovery", "resources", "drift", "power", []])
    parser.add_argument("--teacher", action="store_true")
    parser.add_argument("--samples", type=int, default=64)
    parser.add_argument("--draws", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    parts = options.parts or ["recovery", "resources", "drift", "power"]
    made: dict[str, tuple[Callable[[], list[dict[str, Any]]], Callable[[list[dict[str, Any]]], bool]]] = {
        "recovery": (lambda: recovery(options.samples, options.teacher, options.draws), show_recovery),
        "resources": (resources, show_resources),
        "drift": (drift, show_drift),
        "power": (power, show_power),
    }
    results, good = {}, True
    for part in parts:
        measure, show = made[part]
        results[part] = measure()
        if not options.json:
            good &= show(results[part])
    if options.json:
        print(json.dumps(results, indent=2))
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
