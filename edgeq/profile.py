"""Where the time of an inference goes: every instruction of a plan, timed by itself, in place.

Each instruction runs many times over the arena that a whole inference has left, so it reads real activations. What the machine
could do at best is measured first: the rate at which full tiles of the matrix kernel run over data that stays in the first-level
cache.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgeq.engine import Model, Program
from edgeq.graph import Array
from edgeq.kernels.words import frame as fw
from edgeq.kernels.words.instruction import WORDS
from edgeq.plan import Instruction


@dataclass(frozen=True)
class Row:
    """One instruction: which operation it is part of, its kernel, median microseconds and multiply-adds."""

    index: int
    op: int
    code: str
    kernel: str
    microseconds: float
    macs: int

    @property
    def gmacs(self) -> float:
        """10^9 multiply-adds a second."""
        return self.macs / self.microseconds / 1e3 if self.microseconds else 0.0


def profile(model: Model, inputs: Sequence[Array], *, rounds: int = 7, seconds: float = 0.002) -> list[Row]:
    """Median over `rounds` of each instruction's time, repeated so that a round takes about `seconds`.

    inputs: one array per model input, of the input's dtype and shape.
    """
    program = model.program
    context = program.acquire()
    results = [np.empty(p.shape, p.dtype) for p in model.outputs]
    program.run_in(context, [np.ascontiguousarray(a) for a in inputs], results, 1)
    frame = context.frame
    frame[fw.N_INPUTS] = frame[fw.N_OUTPUTS] = 0
    frame[fw.COUNT] = 1
    table = context.table.ctypes.data
    rows = []
    for i, instruction in enumerate(program.plan.instructions):
        frame[fw.INSTRUCTIONS] = table + i * WORDS * 8
        rows.append(_row(model, i, instruction, _median(program, context.address, frame, rounds, seconds)))
    return rows


def _row(model: Model, i: int, instruction: Instruction, seconds: float) -> Row:
    code = model.graph.ops[instruction.op].code
    return Row(i, instruction.op, code, instruction.kernel, seconds * 1e6, instruction.macs)


def _median(program: Program, address: int, frame: Array, rounds: int, seconds: float) -> float:
    run = program.machine.run
    frame[fw.BATCH] = 1
    start = time.perf_counter()
    run(address, 0)
    repeats = max(1, min(5000, int(seconds / max(time.perf_counter() - start, 1e-7))))
    frame[fw.BATCH] = repeats
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        run(address, 0)
        times.append((time.perf_counter() - start) / repeats)
    return float(np.median(times))
