"""Where the time of an inference goes: every instruction of a plan, timed by itself, in place, on one thread.

Each instruction runs many times over the arena that a whole inference has left, so it reads real activations. They and its
weights are then nearer in the caches than in a whole inference, whose own time is measured beside the sum. What the processor
could do at best is measured first (edgeq/peak.py).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgeq import explain
from edgeq.engine import Model, Program
from edgeq.graph import Array
from edgeq.kernels.words import frame as fw
from edgeq.kernels.words.instruction import WORDS
from edgeq.peak import Peak, measure


@dataclass(frozen=True)
class Row:
    """One instruction: operation, kernel, tile, median microseconds, multiply-adds, and their share of the peak (0 … 1)."""

    index: int
    op: int
    code: str
    kernel: str
    tile: str
    microseconds: float
    macs: int
    share: float

    @property
    def gmacs(self) -> float:
        """10^9 multiply-adds a second."""
        return self.macs / self.microseconds / 1e3 if self.microseconds else 0.0


@dataclass(frozen=True)
class Profile:
    """Rows in the order of execution, the peaks that their shares refer to, and microseconds of a whole inference in one go."""

    rows: tuple[Row, ...]
    peak: Peak
    whole: float

    @property
    def sum(self) -> float:
        """Microseconds of all instructions."""
        return sum(row.microseconds for row in self.rows)


def profile(
    model: Model,
    inputs: Sequence[Array],
    *,
    rounds: int = 7,
    seconds: float = 0.002,
    advance: Callable[[int], object] = lambda done: None,
    peak: Peak | None = None,
) -> Profile:
    """Median over `rounds` of each instruction's time, repeated so that a round takes about `seconds`.

    inputs: one array per model input, of the input's dtype and shape. `advance` hears how many instructions are done. peak: what
    was measured before.
    """
    program = model.program
    peak = peak or measure(program.machine)
    context = program.acquire()
    results = [np.empty(p.shape, p.dtype) for p in model.outputs]
    program.run_in(context, [np.ascontiguousarray(a) for a in inputs], results, 1)
    frame = context.frame
    frame[fw.THREADS] = 1
    frame[fw.N_INPUTS] = frame[fw.N_OUTPUTS] = 0
    frame[fw.INSTRUCTIONS], frame[fw.COUNT] = context.table.ctypes.data, len(context.table)
    whole = _median(program, context.address, frame, rounds, seconds * 5)
    plan, table = model.plan, context.table.ctypes.data
    frame[fw.COUNT] = 1
    rows = []
    for i, instruction in enumerate(plan.instructions):
        frame[fw.INSTRUCTIONS] = table + i * WORDS * 8
        alone = instruction.kernel != "branch"  # which leads to where there is nothing when it is run alone
        taken = _median(program, context.address, frame, rounds, seconds) if alone else 0.0
        op = model.graph.ops[instruction.op]
        rate = instruction.macs / taken / 1e9 if taken else 0.0
        rows.append(
            Row(
                i,
                instruction.op,
                op.custom_code or op.code,
                instruction.kernel,
                explain.tile(instruction, program.machine.isa),
                taken * 1e6,
                instruction.macs,
                rate / peak.of(instruction.kernel),
            )
        )
        advance(i + 1)
    return Profile(tuple(rows), peak, whole * 1e6)


def trace(found: Profile, name: str) -> dict[str, Any]:
    """The profile for chrome://tracing or Perfetto: an event for each instruction, as long as its median, end to end."""
    events: list[Mapping[str, Any]] = [{"ph": "M", "name": "process_name", "pid": 1, "args": {"name": f"edgeq {name}"}}]
    start = 0.0
    for row in found.rows:
        args = {"operation": row.op, "instruction": row.index, "kernel": row.kernel, "tile": row.tile, "macs": row.macs}
        if row.macs:
            args |= {"gmacs_per_second": round(row.gmacs, 3), "share_of_peak": round(row.share, 4)}
        events.append(
            {
                "ph": "X",
                "name": f"{row.op} {row.code}",
                "cat": row.kernel,
                "pid": 1,
                "tid": 1,
                "ts": round(start, 3),
                "dur": round(row.microseconds, 3),
                "args": args,
            }
        )
        start += row.microseconds
    return {"traceEvents": events, "displayTimeUnit": "ns"}


def _median(program: Program, address: int, frame: Array, rounds: int, seconds: float) -> float:
    run = program.machine.run
    frame[fw.BATCH] = 1
    run(address, 0)
    start = time.perf_counter()
    run(address, 0)
    repeats = max(1, min(20_000, int(seconds / max(time.perf_counter() - start, 1e-7))))
    frame[fw.BATCH] = repeats
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        run(address, 0)
        times.append((time.perf_counter() - start) / repeats)
    return float(np.median(times))
