"""The compiled engine against the naive twins: every operation and type, both rounding families, nothing but equality."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeq.engine import Tracer, build
from edgeq.kernels import isa
from edgeq.machine import host
from tests import naive
from tests.engine_models import cases, samples
from tests.naive.cases import cases as twin_cases

CASES = cases()
TWIN_CASES = {c.name: c for c in twin_cases()}
ROUNDINGS = ("tflite", "xnnpack")


def differing(name: str, rounding: str, seed: int = 0) -> int:
    """How many output values of a case differ from the twin's (floats: by more than 1e-5 of the range)."""
    rng = np.random.default_rng(seed)
    if name in CASES:
        graph = CASES[name]()
        inputs = [samples(graph.tensors[i], rng) for i in graph.inputs]
    else:
        graph, inputs = TWIN_CASES[name].graph, TWIN_CASES[name].draw(rng)
    found, expected = Tracer(graph, rounding).run(inputs), naive.run(graph, inputs, rounding)
    return sum(differences(found[i], np.asarray(expected[i])) for i in graph.outputs)


def differences(got: Any, want: Any) -> int:
    """How many values differ, floats by more than 1e-5 of the range."""
    assert got.shape == want.shape
    assert got.dtype == want.dtype
    if got.dtype.kind in "fc" and want.size:
        return int((np.abs(got - want) > 1e-5 * (np.ptp(np.abs(want)) + np.abs(want).max())).sum())
    return int((got != want).sum())


@pytest.mark.parametrize("rounding", ROUNDINGS)
@pytest.mark.parametrize("name", [*CASES, *TWIN_CASES])
def test_equals_the_twin(name: str, rounding: str) -> None:
    """An operation gives the twin's integers, all of them."""
    assert differing(name, rounding) == 0


def fitting() -> list[str]:
    """Instruction sets that this processor has, but for the one that the other tests run on."""
    import llvmlite.binding as llvm

    features = dict(llvm.get_host_cpu_features())
    names = [i.name for i in isa.ALL.values() if all(features.get(n, False) for n in i.needs)]
    return [n for n in names if n != host().isa.name]


@pytest.mark.parametrize("name", fitting())
def test_every_instruction_set(name: str) -> None:
    """The same kernels compiled for a plainer processor give the same integers."""
    root = Path(__file__).resolve().parents[1]
    result = subprocess.run(
        [sys.executable, "-m", "tests.test_engine_exact"],
        cwd=root, env={**os.environ, "EDGEQ_ISA": name}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.startswith(name)


def test_threads_and_batches_change_nothing() -> None:
    """Two threads and a batch of 70 give what one thread gives sample by sample."""
    for name in ("conv 3x3, odd channels int8", "depthwise 3x3 int16", "dense float32", "ADD int8"):
        graph = CASES[name]()
        rng = np.random.default_rng(1)
        x = {
            graph.input_names()[k]: np.concatenate([samples(graph.tensors[i], rng) for _ in range(70)])
            for k, i in enumerate(graph.inputs)
        }
        with build(graph, threads=2) as two, build(graph) as model:
            batch = two(x)
            each = [model({n: a[i : i + 1] for n, a in x.items()}) for i in range(70)]
        assert np.array_equal(batch, np.concatenate(each)), name


if __name__ == "__main__":
    wrong = [(n, r) for n in (*CASES, *TWIN_CASES) for r in ROUNDINGS if differing(n, r)]
    print(host().isa.name, (len(CASES) + len(TWIN_CASES)) * len(ROUNDINGS), "cases,", len(wrong), "differ:", wrong)
    sys.exit(bool(wrong))
