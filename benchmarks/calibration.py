"""What calibration on a device recovers of what a shift of its inputs costs, what it takes, and how well drift is found.

    python benchmarks/calibration.py [recovery] [resources] [drift] [watching] [power] [--known WHAT] [--samples 64] [--draws 1]
        [--tasks NAME…] [--chosen-on] [--json]

recovery: real samples under a shift; noise per signal against the float model under the same shift (its ceiling), before the
shift, after it, and after `recalibrate` with unlabelled samples that the test does not hold; and what share of the cost came
back. The weights' part is the noise of the float model that the codes stand for, which no ranges and roundings take off. What
the codes leave open is the least that anybody who knows the codes alone errs by in the mean. The bound is what the same search
gets with the teacher and the very samples that judge: about what ranges and biases can do at all.
--draws: so many choices of the samples that are calibrated on. --known: what the device has of the float model. "remainders", as
`edgeq quantize` and `edgeq seal --teacher` put them into models; "teacher", the float model itself; "nothing", the integer model
alone. --chosen-on: the models and data that settings were chosen on, instead of those that judge them.
resources: peak memory and time of `edgeq calibrate` with few and many samples, beside those of `edgeq run`.
drift: over 200 runs without a change how many alarms there were, against the stated rate; with each shift, looks until it.
watching: what calls of a watched model take beside those of the same model unwatched.
power: `edgeq calibrate` killed at 50 random moments; is the overlay whole after each, and does the next run finish?

The models and data are those beside the checkout (../shared) and the demo's own; tasks whose files are missing are left out.
The exit status is 1 if in the median draw less than half of a cost came back where the bound is half or more (and, without a
teacher, the codes leave less open than half), more draws made a model noisier than the guard's rate allows, calibration took more
than 32 MiB, or of 64,000 samples twice as long as `edgeq run`, an alarm rate is above the stated one, watching cost more than is
stated, or an overlay was not whole.
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
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from calibration_recovery import KNOWN, recovery, show_recovery
from calibration_tasks import ALL, DEMO, MODELS, chosen_on, digits, judged, otherwise

from edgeq.drift.baseline import to_arrays
from edgeq.drift.detector import RECALIBRATE, THRESHOLD, Detector
from edgeq.drift.model import COST, WatchedModel, baseline_of
from edgeq.engine import Model
from edgeq.feed import encode, feed
from edgeq.graph import Graph
from edgeq.quantize import quantize
from edgeq.tflite import read

Array = npt.NDArray[Any]


# --- resources --------------------------------------------------------------------------------------------------------


FEW = 5
"""Runs of few samples, of which the median counts: one takes a fraction of a second."""


MEASURED = (
    *(
        MODELS / f"{n}.tflite"
        for n in ("kws_dscnn_int8", "ad_toycar_int8", "ic_resnet8_int8", "vww_mobilenetv1_025_96_int8")
    ),
    *(ALL / "imagenet" / f"{n}.tflite" for n in ("mobilenet_v1_0.25_128_quant", "tf2_mobilenet_v2_1.0_224_ptq")),
)

MOST_BYTES = 1 << 31
"""Of a sample file: of large pictures there are as many as that holds."""


def command(*arguments: str) -> tuple[float, float]:
    """Seconds and peak MiB of an edgeq command in a process of its own, the start of Python and all imports included.

    Modules are compiled once, as pip does when it installs, and not at each start.
    """
    code = (
        "import sys; from edgeq.cli import main; status = main(sys.argv[2:]);"  # what was resident before exec is not its own
        "open(sys.argv[1], 'w').write(next(x for x in open('/proc/self/status') if x.startswith('VmHWM')).split()[1]);"
        "sys.exit(status)"
    )
    with tempfile.NamedTemporaryFile() as peak:
        start = time.perf_counter()
        kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        line = [sys.executable, "-c", code, peak.name, *arguments]
        done = subprocess.run(line, capture_output=True, check=False, env=kept)
        seconds = time.perf_counter() - start
        if done.returncode:
            raise SystemExit(f"edgeq {' '.join(arguments)}: failed")
        return seconds, int(Path(peak.name).read_text()) / 1024


def repeated(times: int, written: Path, *arguments: str) -> tuple[float, float]:
    """The median of the seconds, and the highest peak, of runs that find nothing of what those before have written."""
    made = []
    for _ in range(times):
        written.unlink(missing_ok=True)
        made.append(command(*arguments))
    return sorted(seconds for seconds, _ in made)[times // 2], max(peak for _, peak in made)


def noise(path: Path, shape: tuple[int, ...]) -> None:
    """Write so many samples of noise, block by block."""
    out, random = np.lib.format.open_memmap(path, "w+", np.float32, shape), np.random.default_rng(0)
    for start in range(0, shape[0], 256):
        out[start : start + 256] = random.standard_normal(out[start : start + 256].shape, np.float32)


def resources() -> list[dict[str, Any]]:
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        at = Path(folder)
        command("keys", "new", "device", str(at / "d"))
        found = [("digits", None)] + [(path.stem, path) for path in MEASURED]
        for name, path in found:
            if path is None:
                path = at / "digits.tflite"
                command("quantize", str(DEMO / "digits.tflite"), "-d", str(DEMO / "calibration.npz"), "-o", str(path))
            if not path.exists():
                continue
            graph = read(path.read_bytes())
            shape = graph.tensors[graph.inputs[0]].shape[1:]
            each = 4 * int(np.prod(shape))
            for n in (64, min(64_000, MOST_BYTES // each)):
                noise(at / "x.npy", (n, *shape))
                times = FEW if n == 64 else 1
                ran, base = repeated(
                    times, at / "y.npz", "run", str(path), "-i", str(at / "x.npy"), "-o", str(at / "y.npz")
                )
                took, peak = repeated(
                    times, at / "o.eqo", "calibrate", str(path), "-d", str(at / "x.npy"), "-o", str(at / "o.eqo"),
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
    small = all(r["calibrate_mib"] - r["idle_mib"] <= 32 for r in rows)
    return small and all(r["calibrate_seconds"] <= 2 * r["run_seconds"] for r in rows if r["samples"] > 64)


# --- drift ------------------------------------------------------------------------------------------------------------


def drift(runs: int = 200, looks: int = 500) -> list[dict[str, Any]]:
    rows = []
    for task in [digits(), *judged()]:
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
        out: list[float] = []

        def see(score: float) -> str:
            out.append(score)
            return ""

        model._detector.see = see  # type: ignore[method-assign]
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


# --- watching ---------------------------------------------------------------------------------------------------------


def watching(pairs: int = 8, rounds: int = 4) -> list[dict[str, Any]]:
    """What calls of a watched model take beside those of the same model unwatched, all that watching brings with it included.

    In the thread's own time, which other processes on the machine do not add to. Where a model's memory happens to lie makes a
    per cent or two, so there are several of each.
    """
    rows = []
    for task in [digits(), *judged()]:
        coded = task.published or quantize(task.real, task.local[:100]).graph
        (x,) = encode(coded, next(iter(feed(coded, task.test[:1]))))
        ratios, seconds, every = [], [], []
        for _ in range(pairs):
            with Model(coded) as plain, WatchedModel(coded) as watched:
                calls = max(50, int(0.08e9 / (plain.plan.nanoseconds + 1000)))
                for n in range(rounds + 1):
                    took = {}
                    for model in (plain, watched) if n % 2 else (watched, plain):
                        start = time.thread_time()
                        for _ in range(calls):
                            model(x)
                        took[model] = (time.thread_time() - start) / calls
                    if n:  # the first round sets how often to look
                        ratios.append(took[watched] / took[plain])
                        seconds.append(took[plain])
                every.append(watched.drift().every)
        ratios.sort()
        rows.append(
            {
                "task": task.name,
                "microseconds": 1e6 * min(seconds),
                "every": sorted(every)[pairs // 2],
                "ratio": ratios[len(ratios) // 2],
                "spread": (ratios[len(ratios) // 4], ratios[-len(ratios) // 4]),
            }
        )
    return rows


def show_watching(rows: list[dict[str, Any]]) -> bool:
    print("\n| task | a call | a look every | watched, all in all | middle half of the rounds |")
    print("|---|---|---|---|---|")
    for r in rows:
        low, high = (100 * (v - 1) for v in r["spread"])
        print(
            f"| {r['task']} | {r['microseconds']:.1f} µs | {r['every']} calls | {100 * (r['ratio'] - 1):+.1f} % | "
            f"{low:+.1f} … {high:+.1f} % |"
        )
    return all(r["ratio"] <= 1 + COST for r in rows)


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
    parser.add_argument("parts", nargs="*", choices=["recovery", "resources", "drift", "watching", "power", []])
    parser.add_argument("--known", choices=KNOWN, default=KNOWN[0])
    parser.add_argument("--samples", type=int, default=64)
    parser.add_argument("--draws", type=int, default=1)
    parser.add_argument("--tasks", nargs="*", default=[])
    parser.add_argument("--chosen-on", action="store_true")
    parser.add_argument("--other-shifts", action="store_true", help="shifts of other kinds of the judged tasks")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found = chosen_on() if options.chosen_on else [digits(), *judged()]
    if options.other_shifts:
        found = [otherwise(t) for t in [digits(), *judged()]]
    found = [t for t in found if not options.tasks or t.name in options.tasks]
    parts = options.parts or ["recovery", "resources", "drift", "watching", "power"]
    made: dict[str, tuple[Callable[[], list[dict[str, Any]]], Callable[[list[dict[str, Any]]], bool]]] = {
        "recovery": (lambda: recovery(found, options.samples, options.known, options.draws), show_recovery),
        "resources": (resources, show_resources),
        "drift": (drift, show_drift),
        "watching": (watching, show_watching),
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
