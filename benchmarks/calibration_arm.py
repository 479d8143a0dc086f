"""Calibration on an emulated Cortex-A72 beside this machine: the same samples, do they give the same overlay?

    edgeq targets build rpi4 && edgeq targets wheel rpi4 -o wheels
    python benchmarks/calibration_arm.py wheels/*rpi4*.whl [recovery] [resources] [power] [drift] [--tasks NAME…]

recovery: `edgeq calibrate` with 64 unlabelled samples under a shift, there and here: noise before and after, and whether both
  made the same overlay, of models that carry remainders (--known nothing: that do not). Up to two minutes a row, most of
  them the emulation of the float model: --tasks, --forms and --shifts name a few.
resources: time and memory of `edgeq calibrate` with few and many samples (--samples).
power: `edgeq calibrate` killed there at random moments (--times); is the overlay whole after each, does the next run finish?
drift: a watched model, shown the same samples there and here, some as they were and then some under a shift (--runs): is what a
  look sees the same, bit for bit, and the evidence for a change with it? How often there are false alarms is then the same, too.

The guest (tests/arm/emulate.py) has what a Raspberry Pi has, and the slim wheel. The exit status is 1 if an overlay, a look or
the evidence differs, less than half of what a shift cost came back, calibration takes more than 32 MiB, or an overlay was not
whole.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from calibration_recovery import KNOWN, forms, scores
from calibration_tasks import DEMO, Task, digits, images, keywords, people, toycar

from edgeq import changes, keys, overlay
from edgeq.changes import Changes
from edgeq.cli import main as edgeq
from edgeq.drift.baseline import to_arrays
from edgeq.drift.model import baseline_of
from edgeq.feed import feed
from edgeq.graph import Graph
from edgeq.overlay import Base
from edgeq.tflite import read, write
from tests.arm.emulate import Guest, guest, installed


def row(there: Guest, task: Task, form: str, coded: Graph, name: str) -> bool:
    shift, data = task.shifts[name], write(coded)
    Path("m.tflite").write_bytes(data)
    np.savez("l.npz", x=shift(task.local[:64]).astype(np.float32))
    line = ["calibrate", "m.tflite", "-d", "l.npz", "--identity", "d.key"]
    for made in ("here.eqo", "there.eqo"):
        Path(made).unlink(missing_ok=True)
    with contextlib.redirect_stdout(io.StringIO()):
        assert edgeq([*line, "-o", "here.eqo"]) == 0
    start = time.perf_counter()
    done = there.run("-m", "edgeq", *line, "-o", "there.eqo", timeout=3000)
    assert done.returncode == 0, done.stderr
    seconds = time.perf_counter() - start
    graph, test = read(data), shift(task.test).astype(np.float32)

    def noise(g: Graph, x: Any) -> float:
        wanted = scores(task.real, x, False)
        return 100 * float(((scores(g, x, True) - wanted) ** 2).sum() / (wanted**2).sum())

    one, two = (opened(Path(f), data) for f in ("here.eqo", "there.eqo"))
    before, shifted = noise(graph, task.test), noise(graph, test)
    on_x86, on_arm = (noise(graph if c is None else changes.apply(graph, c), test) for c in (one, two))
    costs = shifted > 1.1 * before
    back = (shifted - on_arm) / (shifted - before) if costs else 0.0
    print(
        f"| {task.name} | {form} | {name} | {before:.3f} % | {shifted:.3f} % | {on_x86:.3f} % | {on_arm:.3f} % | "
        f"{f'{100 * back:.0f} %' if costs else 'no cost'} | {alike(one, two)} | {seconds:.0f} s |",
        flush=True,
    )
    return alike(one, two) == SAME and on_arm <= 1.001 * shifted and (not costs or back >= 0.5)


SAME = "the same"


def opened(path: Path, model: bytes) -> Changes | None:
    """What an overlay of the device d changes of a model; None where there is none, since nothing was better."""
    if not path.exists():
        return None
    base = Base(hashlib.sha256(model).hexdigest())
    return changes.from_bytes(overlay.open_for(path.read_bytes(), keys.load_device("d.key"), base).content)


def alike(one: Changes | None, two: Changes | None) -> str:
    """In what two overlays differ."""
    if one is None or two is None:
        return SAME if one is two else "made by one of them alone"
    differ = [
        what
        for what, same in (
            ("scales", one.tensors == two.tensors),
            ("biases", one.constants.keys() == two.constants.keys()
             and all(np.array_equal(c.codes, two.constants[k].codes) for k, c in one.constants.items())),
            ("drift baseline", one.baseline.keys() == two.baseline.keys()
             and all(np.array_equal(a, two.baseline[k]) for k, a in one.baseline.items())),
        )
        if not same
    ]  # fmt: skip
    return f"other {', '.join(differ)}" if differ else SAME


def recovery(there: Guest, options: argparse.Namespace) -> bool:
    print(
        "| task | model | shift | noise before | shifted | calibrated on x86 | on the A72 | recovered | overlay | under qemu |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    good = True
    for task, shifts in chosen(options):
        for form, coded in forms(task, options.known).items():
            for name in shifts if form.split()[0] in options.forms else ():
                good &= row(there, task, form, coded, name)
    return good


def chosen(options: argparse.Namespace) -> Iterator[tuple[Task, list[str]]]:
    """The tasks and shifts that are asked for."""
    for make, shifts in ROWS.items():
        named = [s for s in shifts if not options.shifts or s in options.shifts]
        if named and (not options.tasks or make.__name__ in options.tasks):
            yield make(), named


ROWS = {
    digits: ["darkened ×0.3", "brightened ×3"],
    toycar: ["20 dB down"],
    keywords: ["gain ×0.3", "gain ×3"],
    images: ["darkened ×0.3", "colour cast"],
    people: ["darkened ×0.3"],
}


QUICK = "from edgeq import checkpoint; checkpoint.EVERY = 0.02;"
PEAK = "print(next(x for x in open('/proc/self/status') if x.startswith('VmHWM')).split()[1], file=sys.stderr)"


def digits_here(sizes: Sequence[int] = (64,)) -> list[str]:
    """Lay out the demo's model and so many samples; the line that calibrates with 64."""
    shutil.copy(DEMO / "digits.tflite", "f.tflite")
    with contextlib.redirect_stdout(io.StringIO()):
        assert edgeq(["quantize", "f.tflite", "-d", str(DEMO / "calibration.npz"), "-o", "q.tflite"]) == 0
    with np.load(DEMO / "calibration.npz") as arrays:
        x = 3 * arrays["x"]
    for n in sizes:
        np.savez(f"{n}.npz", x=np.concatenate([x] * -(-n // len(x)))[:n])
    return ["calibrate", "q.tflite", "-d", "64.npz", "--identity", "d.key", "-o", "o.eqo"]


def resources(there: Guest, options: argparse.Namespace) -> bool:
    """Time and memory of whole processes under the emulator, whose own memory for translated code is in them."""
    sizes = (64, options.samples)
    line = digits_here(sizes)

    def command(*arguments: str) -> tuple[float, float]:
        code = f"import sys; from edgeq.cli import main; status = main(sys.argv[1:]); {PEAK}; sys.exit(status)"
        start = time.perf_counter()
        done = there.run("-c", code, *arguments, timeout=3000)
        assert done.returncode == 0, done.stderr
        return time.perf_counter() - start, int(done.stderr.split()[-1]) / 1024

    print("\n| samples | edgeq run | edgeq calibrate | speed | peak run | peak calibrate | over `edgeq inspect` |")
    print("|---|---|---|---|---|---|---|")
    _, idle = command("inspect", "q.tflite")
    good = True
    for n in sizes:
        ran, base = command("run", "q.tflite", "-i", f"{n}.npz", "-o", "y.npz")
        took, peak = command(*[f"{n}.npz" if a == "64.npz" else a for a in line])
        Path("o.eqo").unlink()
        print(
            f"| {n} | {ran:.1f} s | {took:.1f} s | {ran / took:.2f} | {base:.0f} MiB | {peak:.0f} MiB | {peak - idle:+.0f} MiB |",
            flush=True,
        )
        good &= peak - idle <= 32
    return good


def power(there: Guest, options: argparse.Namespace) -> bool:
    """Calibrations killed at random moments; after each, is the overlay that is there whole?"""
    times, line = options.times, digits_here()
    model = Path("q.tflite").read_bytes()
    code = f"import sys; {QUICK} from edgeq.cli import main; sys.exit(main(sys.argv[1:]))"
    start = time.perf_counter()
    assert there.run("-c", code, *line).returncode == 0
    longest, rng = time.perf_counter() - start, random.Random(1)
    whole = met = 0
    for n in range(times):
        if n % 2:  # half of them with nothing there yet
            Path("o.eqo").unlink(missing_ok=True)
        had = Path("o.eqo").exists()
        child = there.start("-c", code, *line)
        time.sleep(rng.uniform(0, 1.1 * longest))
        child.kill()
        child.wait()
        met += Path("o.eqo.part").exists()
        whole += opened(Path("o.eqo"), model) is not None or not had  # what is not whole does not open
    assert there.run("-c", code, *line).returncode == 0
    left = Path("o.eqo.part").exists()
    print(f"\npower: {whole} of {times} times whole or not there yet, {met} times beside a checkpoint", end="; ")
    print(f"after a run to the end {'one' if left else 'none'} was left")
    return whole == times and not left


LOOKS = """
import sys
import numpy as np
import edgeq
model, overlay, key, samples, out = sys.argv[1:]
rows = []
for run in np.load(samples)["x"]:
    with edgeq.load(model, overlay=overlay, identity=key, drift=True, drift_every=1) as watched:
        for x in run:
            watched(x[None])
            d = watched.drift()
            rows.append([d.evidence, d.alarms, *(v for t in d.tensors for v in (t.beyond, t.unusual))])
np.save(out, np.array(rows))
"""
"""Shows a watched model each run's samples, and writes what it says after each."""

USUAL, UNUSUAL = 100, 30
"""Samples of a run, before the shift and after."""


def drift(there: Guest, options: argparse.Namespace) -> bool:
    print(
        "\n| task | shift | runs | looks | alarms before the shift | found after | what looks saw | evidence | under qemu |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    good, rng = True, np.random.default_rng(0)
    for task, shifts in chosen(options):
        coded = forms(task, "nothing").popitem()[1]  # the published one, if there is one
        data, fresh = write(coded), task.test[1::2]
        Path("m.tflite").write_bytes(data)
        known = baseline_of(coded, list(feed(coded, task.test[::2])))
        assert known is not None
        content = changes.to_bytes(Changes({}, {}, len(task.test[::2]), to_arrays(known)))
        base, now = Base(hashlib.sha256(data).hexdigest()), datetime.now(timezone.utc)
        Path("o.eqo").write_bytes(overlay.make(content, keys.load_device("d.key"), base, now=now))
        for name in shifts:
            picks = rng.integers(len(fresh), size=(options.runs, USUAL + UNUSUAL))
            runs = fresh[picks].astype(np.float32)
            runs[:, USUAL:] = task.shifts[name](runs[:, USUAL:])
            np.savez("runs.npz", x=runs)
            line = ["-c", LOOKS, "m.tflite", "o.eqo", "d.key", "runs.npz"]
            subprocess.run(
                [sys.executable, *line, "here.npy"], env=os.environ | {"PYTHONPATH": sys.path[0]}, check=True
            )
            start = time.perf_counter()
            done = there.run(*line, "there.npy", timeout=3000)
            assert done.returncode == 0, done.stderr
            seconds = time.perf_counter() - start
            here, far = np.load("here.npy"), np.load("there.npy")
            saw, judged = np.array_equal(here[:, 2:], far[:, 2:]), np.array_equal(here[:, :2], far[:, :2])
            alarms = far[:, 1].reshape(options.runs, -1)
            false, found = alarms[:, USUAL - 1] > 0, alarms.argmax(axis=1) + 1 - USUAL
            delays = [int(n) for n, too_early in zip(found, false, strict=True) if n > 0 and not too_early]
            print(
                f"| {task.name} | {name} | {options.runs} | {len(far)} | {int(false.sum())} | "
                f"{len(delays)} of {options.runs}, after {', '.join(map(str, delays))} | {differing(here[:, 2:], far[:, 2:])} | "
                f"{differing(here[:, :1], far[:, :1])} | {seconds:.0f} s |",
                flush=True,
            )
            good &= saw and judged
    return good


def differing(here: Any, there: Any) -> str:
    """How two arrays differ, in words."""
    if np.array_equal(here, there):
        return "equal bit for bit"
    off = np.abs(here - there) / np.maximum(np.abs(here), 1e-300)
    return f"{(here != there).mean():.2%} differ, by {off.max():.1e} at most"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    made: dict[str, Callable[[Guest, argparse.Namespace], bool]] = {
        "recovery": recovery, "resources": resources, "power": power, "drift": drift,
    }  # fmt: skip
    parser.add_argument("wheel")
    parser.add_argument("parts", nargs="*", choices=[*made, []])
    parser.add_argument("--tasks", nargs="*", default=[], choices=[make.__name__ for make in ROWS])
    parser.add_argument("--shifts", nargs="*", default=[], help="of those tasks")
    parser.add_argument(
        "--forms", nargs="*", default=["edgeq's", "published"], help="edgeq's, published: of `recovery`"
    )
    parser.add_argument(
        "--known", choices=KNOWN[::2], default=KNOWN[0], help="what `recovery` knows of the float model"
    )
    parser.add_argument("--samples", type=int, default=64_000, help="the many of `resources`")
    parser.add_argument("--times", type=int, default=10, help="kills of `power`")
    parser.add_argument("--runs", type=int, default=3, help="runs of `drift`")
    options = parser.parse_args()
    wheel = Path(options.wheel).resolve()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        there = installed(guest("aarch64", "cortex-a72"), wheel, Path(folder))
        edgeq(["keys", "new", "device", "d"])
        good = True
        for part in options.parts or made:
            good &= made[part](there, options)
        os.chdir("/")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
