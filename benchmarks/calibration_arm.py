"""Calibration on an emulated Cortex-A72 beside this machine: the same samples, do they give the same overlay?

    edgeq targets build rpi4 && edgeq targets wheel rpi4 -o wheels
    python benchmarks/calibration_arm.py wheels/*rpi4*.whl [recovery] [resources] [power] [--tasks NAME…]

The guest (tests/arm/emulate.py) has what a Raspberry Pi has, and the slim wheel. Minutes, most of them the emulation of the
float model. The exit status is 1 if a scale or a bias differs, calibration takes more than 32 MiB, or an overlay was not whole.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from calibration_recovery import scores
from calibration_tasks import DEMO, Task, images, keywords, people, toycar

from edgeq import changes, keys, overlay
from edgeq.cli import main as edgeq
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

    base, key = Base(hashlib.sha256(data).hexdigest()), keys.load_device("d.key")
    here, far = (overlay.open_for(Path(f).read_bytes(), key, base).content for f in ("here.eqo", "there.eqo"))
    one, two = changes.from_bytes(here), changes.from_bytes(far)
    same = one.tensors == two.tensors and all(
        np.array_equal(c.codes, two.constants[k].codes) for k, c in one.constants.items()
    )
    before, shifted = noise(graph, task.test), noise(graph, test)
    on_x86, on_arm = (noise(changes.apply(graph, c), test) for c in (one, two))
    print(
        f"| {task.name} | {form} | {name} | {before:.3f} % | {shifted:.3f} % | {on_x86:.3f} % | {on_arm:.3f} % | "
        f"{100 * (shifted - on_arm) / (shifted - before):.0f} % | {'the same' if same else 'another'} | {seconds:.0f} s |",
        flush=True,
    )
    return same


def recovery(there: Guest, names: list[str]) -> bool:
    print(
        "| task | model | shift | noise before | shifted | calibrated on x86 | on the A72 | recovered | overlay | under qemu |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    good = True
    for make, shifts in ROWS.items():
        if names and make.__name__ not in names:
            continue
        task = make()
        assert task.published is not None
        for name in shifts:
            good &= row(there, task, "published int8", task.published, name)
    return good


ROWS = {
    toycar: ["20 dB down"],
    keywords: ["gain ×0.3", "gain ×3"],
    images: ["darkened ×0.3", "colour cast"],
    people: ["darkened ×0.3"],
}


QUICK = "from edgeq import checkpoint; checkpoint.EVERY = 0.02;"
PEAK = "print(next(x for x in open('/proc/self/status') if x.startswith('VmHWM')).split()[1], file=sys.stderr)"


def digits_here() -> list[str]:
    """Lay out the demo's model and samples of two sizes; the line that calibrates with 64."""
    shutil.copy(DEMO / "digits.tflite", "f.tflite")
    assert edgeq(["quantize", "f.tflite", "-d", str(DEMO / "calibration.npz"), "-o", "q.tflite"]) == 0
    with np.load(DEMO / "calibration.npz") as arrays:
        x = 3 * arrays["x"]
    for n in (64, 64_000):
        np.savez(f"{n}.npz", x=np.concatenate([x] * -(-n // len(x)))[:n])
    return ["calibrate", "q.tflite", "-d", "64.npz", "--identity", "d.key", "-o", "o.eqo"]


def resources(there: Guest) -> bool:
    """Time and memory of whole processes under the emulator, whose own memory for translated code is in them."""
    line = digits_here()

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
    for n in (64, 64_000):
        ran, base = command("run", "q.tflite", "-i", f"{n}.npz", "-o", "y.npz")
        took, peak = command(*[f"{n}.npz" if a == "64.npz" else a for a in line])
        Path("o.eqo").unlink()
        print(
            f"| {n} | {ran:.1f} s | {took:.1f} s | {ran / took:.2f} | {base:.0f} MiB | {peak:.0f} MiB | {peak - idle:+.0f} MiB |",
            flush=True,
        )
        good &= peak - idle <= 32
    return good


def power(there: Guest, times: int = 50) -> bool:
    """Calibrations killed at random moments; after each, is the overlay that is there whole?"""
    line = digits_here()
    base, key = Base(hashlib.sha256(Path("q.tflite").read_bytes()).hexdigest()), keys.load_device("d.key")
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
        if Path("o.eqo").exists():
            changes.from_bytes(overlay.open_for(Path("o.eqo").read_bytes(), key, base).content)
            whole += 1
        else:
            whole += not had
    assert there.run("-c", code, *line).returncode == 0
    left = Path("o.eqo.part").exists()
    print(f"\npower: {whole} of {times} times whole or not there yet, {met} times beside a checkpoint", end="; ")
    print(f"after a run to the end {'one' if left else 'none'} was left")
    return whole == times and not left


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("wheel")
    parser.add_argument("parts", nargs="*", choices=["recovery", "resources", "power", []])
    parser.add_argument("--tasks", nargs="*", default=[])
    options = parser.parse_args()
    wheel = Path(options.wheel).resolve()
    made: dict[str, Callable[[Guest], bool]] = {
        "recovery": lambda there: recovery(there, options.tasks),
        "resources": resources,
        "power": power,
    }
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        there = installed(guest("aarch64", "cortex-a72"), wheel, Path(folder))
        edgeq(["keys", "new", "device", "d"])
        good = True
        for part in options.parts or made:
            good &= made[part](there)
        os.chdir("/")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
