"""One runtime in a process of its own: loads models and times its own calls, as inference.py asks over a pipe.

    python benchmarks/worker.py ENGINE     (edgeq, or a name that edgeq.peers knows)

Requests are JSON, one a line on stdin; each is answered by one line. It needs NumPy and its runtime, edgeq only for itself, so
it runs in an interpreter that has nothing else.

    {"do": "version"}                                                                               → {"version": v}
    {"do": "load", "model": FILE, "threads": n, "rounding": r, "onnx": FOLDER, "outputs": FILE.npz}  → {}
    {"do": "time", "model": FILE, "seconds": s}                                                     → {"ns": [...]}
    {"do": "drop"}                                                                                  → {}

`load` writes the outputs of one call to `outputs`; `drop` forgets all models. Whatever goes wrong is answered as {"error": one
line}.
"""

from __future__ import annotations

import gc
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from time import perf_counter, perf_counter_ns
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import edgeq
from edgeq import peers, timing

Call = Callable[[], Any]

WARM = 0.15
"""Share of a turn that is not timed: caches, branch predictors and the clock frequency settle."""

MAX_CALLS = 5000
MIN_CALLS = 3


def load(engine: str, request: dict[str, Any]) -> Call:
    """One inference of the model that is asked for."""
    if engine == "edgeq":
        return timing.edgeq(edgeq.load(request["model"], rounding=request["rounding"], threads=request["threads"]))
    data = Path(request["model"]).read_bytes()
    onnx = Path(request["onnx"]) if request.get("onnx") else None
    return peers.call(engine, data, request["threads"], onnx=onnx)


def outputs(call: Call) -> list[Any]:
    """The arrays of one call, in the runtime's order."""
    found = call()
    return list(found.values()) if isinstance(found, dict) else found if isinstance(found, list) else [found]


def times(call: Call, seconds: float) -> list[int]:
    """Nanoseconds of each call in a turn of about `seconds`."""
    end = perf_counter() + seconds * WARM
    while True:
        call()
        if perf_counter() >= end:
            break
    found: list[int] = []
    end = perf_counter() + seconds * (1 - WARM)
    while len(found) < MIN_CALLS or (len(found) < MAX_CALLS and perf_counter() < end):
        start = perf_counter_ns()
        call()
        found.append(perf_counter_ns() - start)
    return found


def main() -> None:
    engine = sys.argv[1]
    # Runtimes print to stdout; answers go out on a copy of it that they do not know.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    gc.disable()
    calls: dict[str, Call] = {}
    for line in sys.stdin:
        request = json.loads(line)
        try:
            if request["do"] == "version":
                answer: dict[str, Any] = {"version": edgeq.__version__ if engine == "edgeq" else peers.version(engine)}
            elif request["do"] == "load":
                calls[request["model"]] = load(engine, request)
                np.savez(request["outputs"], *outputs(calls[request["model"]]))
                answer = {}
            elif request["do"] == "time":
                answer = {"ns": times(calls[request["model"]], request["seconds"])}
            else:
                calls.clear()
                gc.collect()
                answer = {}
        except Exception as error:
            answer = {"error": (str(error) or type(error).__name__).splitlines()[0]}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
