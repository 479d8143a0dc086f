"""Models of one operation each against LiteRT: `python benchmarks/single.py [FILTER]` prints µs of both and their ratio.

One thread each. A round is so many calls of edgeq, then as many of LiteRT (set_tensor, invoke, get_tensor); the best of ROUNDS
counts. Pictures are 56 × 56 × 24 where nothing else is said. A mark stands where edgeq is the slower one.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

from edgeq.engine import build
from edgeq.errors import EdgeqError
from edgeq.graph import Graph
from edgeq.tflite import write
from edgeq.tflite.schema import table
from tests import engine_models as em

ROUNDS, SECONDS = 9, 0.01
PICTURE = (1, 56, 56, 24)
BYTES, TYPES = ("int8", "uint8"), ("int8", "uint8", "int16", "float32")
WINDOWS = ((112, 24, 2, 2), (112, 64, 3, 2), (28, 192, 3, 1), (14, 512, 2, 2), (32, 16, 2, 2), (7, 320, 7, 7))
AXES = {"over the picture": (1, 2), "over channels": (3,)}
CURVES = ("RELU", "RELU6", "LOGISTIC", "TANH", "HARD_SWISH", "ABS", "EXP", "ELU", "GELU")
ALPHA = {"LEAKY_RELU": table("LeakyReluOptions", alpha=0.1)}


def pools() -> Iterator[tuple[str, Graph]]:
    """height, channels, window, stride"""
    for op in ("MAX_POOL_2D", "AVERAGE_POOL_2D"):
        for t in TYPES:
            for h, c, k, s in WINDOWS:
                yield f"{op} {t} {h}x{h}x{c} {k}x{k} / {s}", em.pool(op, t, h=h, w=h, c=c, k=k, s=s, same=k != h)


def reductions() -> Iterator[tuple[str, Graph]]:
    """Over the picture and over channels."""
    for t in TYPES:
        for name, axes in AXES.items():
            yield f"MEAN {t} {name}", em.mean(t, shape=PICTURE, axes=axes)
            for op in ("SUM", "REDUCE_MAX"):
                yield f"{op} {t} {name}", em.reduction(op, t, shape=PICTURE, axes=axes)
        yield f"ARG_MAX {t} over channels", em.best("ARG_MAX", t, shape=PICTURE, axis=3)


def elements() -> Iterator[tuple[str, Graph]]:
    """One value in, one out."""
    for t in TYPES:
        for op in (*CURVES, *ALPHA):
            yield f"{op} {t}", em.unary(op, t, shape=PICTURE, options=ALPHA.get(op))
        if t != "float32":
            yield f"QUANTIZE float32 to {t}", em.unary("QUANTIZE", "float32", to=t, shape=PICTURE)
            yield f"QUANTIZE {t} to {t}", em.unary("QUANTIZE", t, to=t, shape=PICTURE)
            yield f"DEQUANTIZE {t}", em.unary("DEQUANTIZE", t, to="float32", shape=PICTURE)


def pairs() -> Iterator[tuple[str, Graph]]:
    """Two values in, one out; the second a picture, a vector of channels or a number."""
    for t in TYPES:
        for op in ("ADD", "SUB", "MUL", "MAXIMUM"):
            for name, b in (("two pictures", PICTURE), ("channels", (1, 1, 1, 24)), ("a number", (1,))):
                yield f"{op} {t} {name}", em.binary(op, t, a=PICTURE, b=b, constant=b != PICTURE)


def timed(run: Callable[[], object], count: int) -> float:
    """Seconds of a call, the mean of `count`."""
    start = time.perf_counter()
    for _ in range(count):
        run()
    return (time.perf_counter() - start) / count


def compare(name: str, graph: Graph, rng: np.random.Generator) -> None:
    """Print a line, or nothing where one of the two does not take the model."""
    from ai_edge_litert.interpreter import Interpreter

    try:
        model = build(graph)
        other = Interpreter(model_content=write(graph), num_threads=1)
        other.allocate_tensors()
    except (EdgeqError, RuntimeError, ValueError):
        return
    inputs = [em.samples(graph.tensors[i], rng) for i in graph.inputs]
    given = inputs[0] if len(inputs) == 1 else dict(zip(graph.input_names(), inputs, strict=True))
    places, out = [d["index"] for d in other.get_input_details()], other.get_output_details()[0]["index"]

    def theirs() -> object:
        for place, x in zip(places, inputs, strict=True):
            other.set_tensor(place, x)
        other.invoke()
        return other.get_tensor(out)

    def mine() -> object:
        return model(given)

    try:
        counts = [max(int(SECONDS / timed(f, 3)), 1) for f in (mine, theirs)]
    except RuntimeError:  # LiteRT refuses some inputs
        return
    rounds = [[timed(f, n) for f, n in zip((mine, theirs), counts, strict=True)] for _ in range(ROUNDS)]
    a, b = (1e6 * min(r[k] for r in rounds) for k in (0, 1))
    print(f"{name:48s} {a:9.1f} {b:9.1f} {b / a:7.2f}{' <' if b < a else ''}", flush=True)


if __name__ == "__main__":
    wanted = sys.argv[1] if len(sys.argv) > 1 else ""
    print(f"{'µs, and how many times as fast edgeq is':48s} {'edgeq':>9s} {'LiteRT':>9s}")
    for group in (pools, reductions, elements, pairs):
        for name, graph in group():
            if wanted in name:
                compare(name, graph, np.random.default_rng(0))
