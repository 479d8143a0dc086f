"""Tensors written with borders around them: the same numbers as where each layer makes its borders itself, and no copies."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from naive.oracle import Oracle, missing

from edgeq import program
from edgeq.engine import build
from edgeq.graph import Graph, Op, SubGraph, Tensor
from edgeq.kernels.isa import ALL, PORTABLE
from edgeq.kernels.words import move as mw
from edgeq.kernels.words.instruction import MEET, SHARE
from edgeq.plan import build as planning
from edgeq.plan import cost, make_plan
from edgeq.tflite import write
from edgeq.tflite.schema import table
from tests.engine_models import activation, bias, out_size, q, weights

ROUNDINGS = ("xnnpack", "tflite")

Step = tuple[str, tuple[int, ...], int, int, int]
"""conv, depthwise or add; which earlier tensors it reads (0: the input); channels; window; stride."""

NETWORKS: dict[str, tuple[tuple[int, int, int], tuple[Step, ...]]] = {
    "rows that tiles fit nearly": ((9, 47, 8), (
        ("conv", (0,), 24, 3, 1), ("conv", (1,), 64, 3, 1), ("depthwise", (2,), 64, 3, 2))),
    "two convolutions": ((12, 16, 3), (("conv", (0,), 16, 3, 1), ("conv", (1,), 16, 3, 1))),
    "residual block and a strided one": ((16, 16, 3), (
        ("conv", (0,), 16, 3, 1), ("conv", (1,), 16, 3, 1), ("conv", (2,), 16, 3, 1), ("add", (1, 3), 16, 0, 0),
        ("conv", (4,), 32, 3, 2), ("conv", (5,), 32, 3, 1), ("conv", (4,), 32, 1, 2), ("add", (7, 6), 32, 0, 0))),
    "inverted residual": ((16, 16, 24), (
        ("conv", (0,), 24, 1, 1), ("conv", (1,), 96, 1, 1), ("depthwise", (2,), 96, 3, 1), ("conv", (3,), 24, 1, 1),
        ("add", (1, 4), 24, 0, 0), ("conv", (5,), 144, 1, 1), ("depthwise", (6,), 144, 3, 2))),
    "windows of 3 and 5 on one tensor": ((9, 16, 3), (
        ("conv", (0,), 64, 3, 1), ("depthwise", (1,), 64, 5, 1), ("depthwise", (1,), 64, 3, 2), ("conv", (1,), 8, 3, 1))),
    "eight channels": ((11, 16, 3), (("conv", (0,), 8, 3, 1), ("depthwise", (1,), 8, 3, 1), ("conv", (1,), 8, 3, 2))),
    "rows that tiles do not fit": ((14, 14, 16), (("conv", (0,), 64, 1, 1), ("depthwise", (1,), 64, 3, 1))),
    "a sum of a tensor with itself": ((8, 8, 3), (
        ("conv", (0,), 16, 3, 1), ("add", (1, 1), 16, 0, 0), ("conv", (2,), 16, 5, 1))),
    "seven pixels": ((7, 7, 40), (("conv", (0,), 200, 1, 1), ("depthwise", (1,), 200, 3, 1), ("conv", (2,), 40, 1, 1))),
}  # fmt: skip


def network(name: str, dtype: str = "int8") -> Graph:
    """A graph of these steps; outputs are what nothing reads."""
    (h, w, c), steps = NETWORKS[name]
    rng = np.random.default_rng(len(name))
    tensors: list[Tensor] = [activation("t0", (1, h, w, c), dtype, 0.03, -7)]
    at, ops, read = [0], [], set()
    for kind, sources, channels, k, s in steps:
        x = tensors[at[sources[0]]].shape
        read |= set(sources)
        inputs = [at[i] for i in sources]
        if kind == "add":
            shape, options = x, table("AddOptions", fused_activation_function=1)
        else:
            shape = (1, out_size(x[1], k, s, 1, True), out_size(x[2], k, s, 1, True), channels)
            wanted = (1, k, k, channels) if kind == "depthwise" else (channels, k, k, x[3])
            extra = {"depth_multiplier": 1} if kind == "depthwise" else {}
            options = table(
                "DepthwiseConv2DOptions" if kind == "depthwise" else "Conv2DOptions", padding=0, stride_h=s, stride_w=s,
                dilation_h_factor=1, dilation_w_factor=1, fused_activation_function=len(tensors) % 2, **extra,
            )  # fmt: skip
            filters = weights(rng, wanted, dtype, channels, 3 if kind == "depthwise" else 0)
            added = bias(rng, channels, dtype)
            if dtype != "float32":
                added = replace(
                    added, quantization=q(tensors[inputs[0]].quantization.scale * filters.quantization.scale)
                )
            for t in (filters, added):
                inputs.append(len(tensors))
                tensors.append(replace(t, name=f"p{len(tensors)}", buffer=len(tensors)))
        ops.append(Op({"conv": "CONV_2D", "depthwise": "DEPTHWISE_CONV_2D", "add": "ADD"}[kind], tuple(inputs),
                      (len(tensors),), options))  # fmt: skip
        at.append(len(tensors))
        tensors.append(activation(f"t{len(at)}", shape, dtype, 0.05 + 0.4 * (kind != "add"), 3 + len(at)))
    outputs = tuple(at[i] for i in range(1, len(at)) if i not in read)
    return Graph((SubGraph(tuple(tensors), tuple(ops), (0,), outputs, "main"),))


def values(graph: Graph) -> np.ndarray:
    """Any input."""
    t = graph.tensors[0]
    if t.dtype == "float32":
        return np.random.default_rng(1).standard_normal(t.shape).astype(np.float32)
    low = 0 if t.dtype == "uint8" else -128
    return np.random.default_rng(1).integers(low, low + 256, t.shape).astype(t.dtype)


def arrays(result: object) -> list[np.ndarray]:
    """What a model has answered, in a list."""
    return list(result.values()) if isinstance(result, dict) else [result]  # type: ignore[list-item]


@pytest.mark.parametrize("rounding", ROUNDINGS)
@pytest.mark.parametrize("dtype", ["int8", "uint8", "float32"])
@pytest.mark.parametrize("name", NETWORKS)
def test_borders_change_no_number(name: str, dtype: str, rounding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One thread and two compute with frames what they compute without, and what the runtime does."""
    graph = network(name, dtype)
    x = values(graph)
    with build(graph, rounding=rounding) as model:
        found = arrays(model(x))
    monkeypatch.setattr(program, "PARALLEL_NS", 0.0)
    monkeypatch.setattr(program, "WORTH", 1e9)
    monkeypatch.setattr(cost, "MEETING_NS", 0.0)
    with build(graph, rounding=rounding, threads=2) as model:
        shared = arrays(model(x))
    monkeypatch.setattr(planning, "frames", lambda b: {})
    with build(graph, rounding=rounding) as model:
        expected = arrays(model(x))
    for a, b, c in zip(found, shared, expected, strict=True):
        np.testing.assert_array_equal(a, c)
        np.testing.assert_array_equal(b, c)
    if dtype != "float32" and not missing(rounding):
        for a, c in zip(found, Oracle(write(graph), rounding)([x]), strict=True):
            np.testing.assert_array_equal(a, c)


@pytest.mark.parametrize("name", NETWORKS)
def test_shapes_that_the_file_leaves_open(name: str) -> None:
    """An input of three samples before tensors stated for one, with open lengths: no frame is taken for what it cannot hold."""
    graph = network(name)
    x = np.concatenate([values(graph)] * 3)
    x[1:] = -1 - x[1:]
    first, *others = graph.tensors
    opened = tuple(t if t.data is not None else replace(t, shape_signature=(-1, *t.shape[1:])) for t in others)
    stated = replace(first, shape=x.shape, shape_signature=(-1, *first.shape[1:]))
    batch = Graph((replace(graph.subgraphs[0], tensors=(stated, *opened)),))
    with build(graph) as one, build(batch) as three:
        expected = [arrays(one(x[k : k + 1])) for k in range(3)]
        for at, found in enumerate(arrays(three(x))):
            np.testing.assert_array_equal(found, np.concatenate([a[at] for a in expected]))


@pytest.mark.parametrize("name", NETWORKS)
def test_threads_wait_for_all_but_borders(name: str) -> None:
    """Between an instruction that is one thread's alone, borders apart, and a later one that is shared lies a meeting."""
    plan = make_plan(network(name), ALL["avx512vnni"])
    alone = False
    for instruction, row in zip(plan.instructions, plan.table, strict=True):
        border = instruction.kernel == "pad_image" and mw.X not in instruction.words
        assert not (alone and row[SHARE] and not border)
        assert not row[SHARE] or row[MEET]
        alone = not row[MEET] and (alone or not border)


def test_threads_agree_again_and_again() -> None:
    """Two threads that share what the plan says find the same numbers every time."""
    graph = network("residual block and a strided one")
    x = values(graph)
    with build(graph) as one, build(graph, threads=2) as two:
        expected = arrays(one(x))
        for _ in range(500):
            for a, b in zip(arrays(two(x)), expected, strict=True):
                np.testing.assert_array_equal(a, b)


COPIES = {
    "rows that tiles fit nearly": 1,
    "two convolutions": 1, "residual block and a strided one": 1, "inverted residual": 0, "windows of 3 and 5 on one tensor": 1,
    "eight channels": 1, "rows that tiles do not fit": 1, "a sum of a tensor with itself": 1, "seven pixels": 1,
}  # fmt: skip


@pytest.mark.parametrize("name", NETWORKS)
def test_images_are_not_copied_for_their_borders(name: str) -> None:
    """Only the model's input is, and what a kernel cannot write row by row."""
    plan = make_plan(network(name), ALL["avx512vnni"])
    pads = [i for i in plan.instructions if i.kernel in ("pad_columns", "pad_image", "pad_phases") and mw.X in i.words]
    assert len(pads) == COPIES[name]


def test_floats_are_not_copied_either() -> None:
    """Where tiles fit lines, convolutions write floats with room for borders."""
    plan = make_plan(network("rows that tiles fit nearly", "float32"), ALL["avx512vnni"])
    assert [mw.X in i.words for i in plan.instructions if i.kernel == "pad_image"] == [True, False, False]


@pytest.mark.parametrize("isa", [*ALL.values(), PORTABLE], ids=lambda isa: isa.name)
def test_frames_cost_no_memory(isa, monkeypatch: pytest.MonkeyPatch) -> None:
    """An arena with frames is no larger than one with copies."""
    framed = [make_plan(network(name), isa).arena_bytes for name in NETWORKS]
    monkeypatch.setattr(planning, "frames", lambda b: {})
    copied = [make_plan(network(name), isa).arena_bytes for name in NETWORKS]
    assert sum(framed) <= sum(copied)
