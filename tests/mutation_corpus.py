"""What is mutated: models that tests build, one of every operation and type, and real ones beside the checkout.

A model is named by a path, by its name in SMALL_MODELS, or as "case NAME" by a case of the twins' (tests/naive), so that a
process of its own can make it again.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

import control_models
import dynamic_models
import mediapipe_models
import numpy as np
from naive.cases import cases
from test_detection import OPTIONS, post_process
from test_naive_hybrid import LAYERS
from test_packed import csr
from test_random import noise
from tflite_models import SMALL_MODELS, real_models

from edgeq.errors import EdgeqError
from edgeq.graph import Graph, Op, SubGraph, Tensor
from edgeq.tflite import write
from edgeq.tflite.schema import table

CASE = "case "


def _transposed() -> Graph:
    """Convolution2DTransposeBias, MediaPipe's: padding SAME, strides of 2."""
    rng = np.random.default_rng(1)
    w, b = rng.standard_normal((3, 2, 2, 4)).astype("float32"), np.ones(3, np.float32)
    tensors = (Tensor("x", (1, 3, 5, 4), "float32"), Tensor("w", w.shape, "float32", w), Tensor("b", (3,), "float32", b),
               Tensor("y", (1, 6, 10, 3), "float32"))  # fmt: skip
    op = Op(
        "CUSTOM", (0, 1, 2), (3,), custom_code="Convolution2DTransposeBias", custom_options=struct.pack("<iii", 1, 2, 2)
    )
    return Graph((SubGraph(tensors, (op,), (0,), (3,)),))


def _sparse() -> Graph:
    """DENSIFY of a sparse (2, 3) and what it is added to."""
    tensors = (Tensor("x", (2, 3), "float32"), csr(np.array([[1.5, 0, 0], [0, 0, -2]])),
               Tensor("dense", (2, 3), "float32"), Tensor("y", (2, 3), "float32"))  # fmt: skip
    ops = (Op("DENSIFY", (1,), (2,), table("DensifyOptions")), Op("ADD", (0, 2), (3,), table("AddOptions")))
    return Graph((SubGraph(tensors, ops, (0,), (3,)),))


def _one_input(code: str, source: str, target: str) -> Graph:
    tensors = (Tensor("x", (2, 3), source), Tensor("y", (2, 3), target))
    return Graph((SubGraph(tensors, (Op(code, (0,), (1,)),), (0,), (1,)),))


@lru_cache(maxsize=1)
def _cases() -> dict[str, Graph]:
    """The twins' cases, and operations that have no twin."""
    own = {
        "BITCAST": _one_input("BITCAST", "float32", "int32"),
        "RELU_N1_TO_1": _one_input("RELU_N1_TO_1", *2 * ["float32"]),
        "CUSTOM detections": post_process({**OPTIONS, "max_detections": 3}),
        "CUSTOM transposed": _transposed(),
        **{f"CUSTOM {name}": make() for name, make in mediapipe_models.MODELS.items()},
        **{code: noise(code, 3, 5) for code in ("RANDOM_UNIFORM", "RANDOM_STANDARD_NORMAL")},
        "DENSIFY": _sparse(),
        "COMPOSITE": control_models.composite(),
        "signatures": control_models.counter_of_three(),
        **{f"hybrid {name}": make() for name, make in LAYERS.items()},
        "IF": control_models.conditional(),
        "WHILE": control_models.loop(),
        "variables": control_models.counter(),
        "variables int8": control_models.counter("int8"),
        **{f"fed {name}": make() for name, (make, _) in {**dynamic_models.SINGLE, **dynamic_models.WHOLE}.items()},
    }
    return {CASE + c.name: c.graph for c in cases()} | {CASE + name: graph for name, graph in own.items()}


@lru_cache(maxsize=8)
def original(model: str) -> bytes:
    """The sound file."""
    if model in SMALL_MODELS:
        return write(SMALL_MODELS[model]())
    return write(_cases()[model]) if model.startswith(CASE) else Path(model).read_bytes()


def small_models() -> list[str]:
    """Models that the machine runs, made by the tests."""
    return [n for n in SMALL_MODELS if n != "exotic"]


def case_models() -> list[str]:
    """One model for every case of the twins, as far as a file can hold it."""
    found = []
    for name, graph in _cases().items():
        try:
            write(graph)
        except EdgeqError:
            continue
        found.append(name)
    return found


def corpus(largest: int = 2**24) -> list[str]:
    """Every model at hand of at most so many bytes."""
    return [*small_models(), *case_models(), *_paths(largest)]


def _paths(largest: int) -> Iterable[str]:
    return (str(p) for p in real_models() if p.stat().st_size <= largest)


def operations(models: Iterable[str]) -> dict[str, set[str]]:
    """Operation → the names of its options that a mutation can strike, over these models."""
    from edgeq.tflite import read

    out: dict[str, set[str]] = {}
    for model in models:
        for g in read(original(model)).subgraphs:
            for op in g.ops:
                out.setdefault(op.custom_code or op.code, set()).update(op.options.values if op.options else ())
    return out
