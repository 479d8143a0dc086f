"""What calling a registered operation costs, inside a plan: `python benchmarks/custom_ops.py`.

A model of 1 and one of 101 custom operations that do next to nothing take turns; the difference of their best times is 100 calls.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit

import edgeq
from edgeq import engine
from edgeq.graph import Graph, Op, SubGraph, Tensor

ROUNDS, CALLS = 30, 200


def chain(count: int) -> Graph:
    """float32 [2, 5] through `count` custom operations."""
    tensors = tuple(Tensor(f"t{i}", (2, 5), "float32") for i in range(count + 1))
    ops = tuple(Op("CUSTOM", (i,), (i + 1,), custom_code="Mine") for i in range(count))
    return Graph((SubGraph(tensors, ops, (0,), (count,)),))


def touch(x: Any, y: Any) -> None:
    y[0, 0] = x[0, 0]


def seconds(kernel: Callable[..., Any]) -> float:
    """One call of the kernel by the machine."""
    edgeq.register_op("Mine", lambda node: None, kernel, replace=True)
    models = [engine.build(chain(n)) for n in (1, 101)]
    x, best = np.zeros((2, 5), np.float32), [float("inf")] * 2
    for _ in range(ROUNDS):
        for k, model in enumerate(models):
            start = time.perf_counter()
            for _ in range(CALLS):
                model(x)
            best[k] = min(best[k], (time.perf_counter() - start) / CALLS)
    return (best[1] - best[0]) / 100


if __name__ == "__main__":
    for name, kernel in (("numba.njit", njit(touch)), ("Python", touch)):
        print(f"{name:10s} {1e9 * seconds(kernel):9.1f} ns a call")
