"""What this processor can do at best: full register tiles over data that stays in its first-level cache.

A FULLY_CONNECTED layer is planned and run like any other, with as many rows and channels as two full tiles have, and as long a
row as weights of WEIGHT_BYTES allow. Its rate is the measured peak of the kernel, storing and requantizing a tile's results once
for hundreds of multiply-adds included.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from edgeq.engine import Program, aligned
from edgeq.graph import Graph, Op, Quantization, SubGraph, Tensor
from edgeq.kernels.words import frame as fw
from edgeq.machine import Machine
from edgeq.plan import make_plan
from edgeq.tflite.schema import table

WEIGHT_BYTES = 24 * 1024
"""Three quarters of the first-level cache of most processors; activations have the rest."""

ROWS = 12
"""Two tiles of six rows, four of three."""

SECONDS = 0.005


@dataclass(frozen=True)
class Peak:
    """10^9 multiply-adds a second of one thread: bytes by bytes, int16 by int8, float32."""

    u8: float
    s16: float
    f32: float

    def of(self, kernel: str) -> float:
        """The peak of the arithmetic that a kernel does."""
        return self.f32 if kernel.endswith("f32") else self.s16 if kernel.endswith("s16") else self.u8


def measure(machine: Machine, rounds: int = 15) -> Peak:
    """Take turns between the three kinds; the best of some rounds, since a peak is what nothing disturbed."""
    runs = [_Run(machine, kind) for kind in ("int8", "int16", "float32")]
    best = [0.0, 0.0, 0.0]
    for _ in range(rounds):
        best = [max(b, run.gmacs()) for b, run in zip(best, runs, strict=True)]
    return Peak(*best)


def layer(dtype: str, lanes: int) -> Graph:
    """(ROWS, k) by (4·lanes, k): as many channels as four vectors of 32-bit sums."""
    out = 4 * lanes
    size = {"int8": 1, "int16": 2, "float32": 4}[dtype]  # bytes of a packed weight
    k = WEIGHT_BYTES // size // out
    rng = np.random.default_rng(0)
    if dtype == "float32":
        q = qw = None
        weights = rng.standard_normal((out, k)).astype(np.float32)
        bias = np.zeros(out, np.float32)
    else:
        q = Quantization(np.array([0.05], np.float32), np.zeros(1, np.int64), 0)
        qw = Quantization(np.full(out, 0.01, np.float32), np.zeros(out, np.int64), 0)
        weights = rng.integers(-127, 128, (out, k)).astype(np.int8)
        bias = np.zeros(out, np.int32 if dtype == "int8" else np.int64)
    tensors = (
        Tensor("x", (ROWS, k), dtype, quantization=q),
        Tensor("w", (out, k), weights.dtype.name, weights, qw, buffer=1),
        Tensor("b", (out,), bias.dtype.name, bias, buffer=2),
        Tensor("y", (ROWS, out), dtype, quantization=q),
    )
    options = table("FullyConnectedOptions")
    return Graph((SubGraph(tensors, (Op("FULLY_CONNECTED", (0, 1, 2), (3,), options),), (0,), (3,), "main"),))


class _Run:
    """One layer, ready to be run over and over in its own arena."""

    def __init__(self, machine: Machine, dtype: str) -> None:
        plan = make_plan(layer(dtype, machine.isa.lanes), machine.isa)
        self.machine, self.macs = machine, plan.macs
        self.program = Program(plan, machine)
        self.context = self.program.acquire()
        x = aligned(plan.inputs[0].size)
        x[:] = np.random.default_rng(1).integers(0, 256, len(x)) if dtype == "int8" else 0
        self.program.run_in(self.context, [x], [aligned(plan.outputs[0].size)], 1)
        frame = self.context.frame
        frame[fw.N_INPUTS] = frame[fw.N_OUTPUTS] = 0
        frame[fw.THREADS], frame[fw.BATCH] = 1, 1
        start = time.perf_counter()
        machine.run(self.context.address, 0)
        frame[fw.BATCH] = max(1, int(SECONDS / max(time.perf_counter() - start, 1e-7)))

    def gmacs(self) -> float:
        """The rate of about SECONDS."""
        start = time.perf_counter()
        self.machine.run(self.context.address, 0)
        return self.macs * int(self.context.frame[fw.BATCH]) / (time.perf_counter() - start) / 1e9
