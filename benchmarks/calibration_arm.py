"""Calibration on an emulated Cortex-A72 beside this machine: the same samples, do they give the same overlay?

    edgeq targets build rpi4 && edgeq targets wheel rpi4 -o wheels
    python benchmarks/calibration_arm.py wheels/*rpi4*.whl

The guest (tests/arm/emulate.py) has what a Raspberry Pi has, and the slim wheel. Minutes, most of them the emulation of the
float model. The exit status is 1 if a scale or a bias differs.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from calibration_recovery import scores
from calibration_tasks import Task, images, keywords, toycar

from edgeq import changes, keys, overlay
from edgeq.cli import main as edgeq
from edgeq.graph import Graph
from edgeq.overlay import Base
from edgeq.quantize import quantize
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
    done = there.run("-m", "edgeq", *line, "-o", "there.eqo")
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


def main(wheel: str) -> int:
    path = Path(wheel).resolve()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        there = installed(guest("aarch64", "cortex-a72"), path, Path(folder))
        edgeq(["keys", "new", "device", "d"])
        sound, machine, pictures = keywords(), toycar(), images()
        own = quantize(machine.real, machine.local[:100]).graph
        published = "published int8"
        assert sound.published is not None
        assert machine.published is not None
        assert pictures.published is not None
        good = [
            row(there, machine, published, machine.published, "20 dB down"),
            row(there, machine, "edgeq's int8", own, "noise floor 0 dB"),
            row(there, sound, published, sound.published, "gain ×0.3"),
            row(there, sound, published, sound.published, "gain ×3"),
            row(there, pictures, published, pictures.published, "darkened ×0.3"),
        ]
        os.chdir("/")
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
