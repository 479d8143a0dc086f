"""An object that a processor cannot run is never chosen, and who asks for it by name is told why, in words."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from edgeq.machine import cache_folder
from tests.arm.emulate import ROOT, guest

CHOICE = "import json; from edgeq import machine; c, r = machine.choose(); print(json.dumps([c and c.name, dict(r)]))"

BELIEVE = """
from edgeq import machine
cpu = machine.detect()
object.__setattr__(cpu, "features", cpu.features | set({needs!r}))
machine.detect = lambda: cpu
import edgeq, numpy as np
print(machine.get().target, flush=True)
with edgeq.load({model!r}) as model:
    model(np.zeros(model.inputs[0].shape, model.inputs[0].dtype))
"""
"""Runs a model on the object that is asked for, whatever the processor says."""

CASES = [
    pytest.param("aarch64", "cortex-a72", "rpi4", "rpi5", "dotprod", id="rpi5 on a Cortex-A72"),
    pytest.param("aarch64", "cortex-a76", "rpi5", "aarch64-i8mm", "i8mm", id="i8mm on a Cortex-A76"),
    pytest.param("x86_64", "Nehalem", "x86-64-v2", "x86-64-v3", "avx2", id="v3 on a Nehalem"),
    pytest.param("x86_64", "Haswell", "x86-64-v3", "x86-64-v4-vnni", "avx512f", id="v4 on a Haswell"),
]


@pytest.mark.parametrize(("architecture", "cpu", "best", "wrong", "feature"), CASES)
def test_what_a_processor_lacks_is_not_chosen(
    architecture: str, cpu: str, best: str, wrong: str, feature: str, objects: Path, demo_folder: Path
) -> None:
    """The best of what runs is chosen; asking for more is refused with the missing feature's name; trying it would be fatal."""
    there = guest(architecture, cpu)
    where = {"PYTHONPATH": str(ROOT), "EDGEQ_CACHE": str(cache_folder())}
    model = str(demo_folder / "digits_int8.tflite")
    done = there.run("-c", CHOICE, **where)
    assert done.returncode == 0, done.stderr
    chosen, refused = json.loads(done.stdout)
    assert chosen == best
    assert feature in refused[wrong]
    asked = there.run(
        "-m", "edgeq", "eval", model, "-d", str(demo_folder / "held_out.npz"), EDGEQ_MACHINE=wrong, **where
    )
    assert asked.returncode == 1, asked.stderr
    assert f"EDGEQ_MACHINE is '{wrong}'" in asked.stderr
    assert feature in asked.stderr
    needs = ("dotprod", "i8mm", "avx2", "fma", "avx", "bmi", "bmi2", "f16c", "lzcnt", "movbe", "atomics", "rcpc", "fp16", "rdm",
             "avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512cd", "avx512vnni")  # fmt: skip
    tried = there.run("-c", BELIEVE.format(needs=needs, model=model), EDGEQ_MACHINE=wrong, **where)
    assert tried.stdout.strip() == wrong, tried.stderr
    assert tried.returncode in (-signal.SIGILL, 128 + signal.SIGILL), tried.stderr
