"""What a plan is said to do: its kernels, its memory, and the least that it can cost."""

from __future__ import annotations

import math

import engine_models as em
import pytest

from edgeq import explain
from edgeq.engine import build
from edgeq.graph import Graph
from edgeq.kernels import isa
from edgeq.plan import make_plan
from edgeq.plan.types import Instruction

MODELS = {
    "conv": lambda: em.conv("int8", h=9, w=8, c=16, out=40, kh=3, kw=3),
    "uint8 conv": lambda: em.conv("uint8", h=6, w=6, c=8, out=24, kh=1, kw=1),
    "conv s16": lambda: em.conv("int16", h=6, w=6, c=8, out=24, kh=3, kw=3),
    "float conv": lambda: em.conv("float32", h=6, w=6, c=8, out=24, kh=3, kw=3),
    "depthwise": lambda: em.depthwise("int8", c=32),
    "dense": lambda: em.dense("int8", m=7, k=64, out=64),
    "add": lambda: em.binary("ADD", "int8"),
    "pool": lambda: em.pool("AVERAGE_POOL_2D", "int8"),
    "softmax": lambda: em.softmax("int8"),
}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("target", isa.ALL)
def test_every_instruction_is_explained(name, target) -> None:
    """Each instruction has a step, with its own units and multiply-adds, bytes that it moves, and cycles that bound it."""
    graph = MODELS[name]()
    chosen = isa.ALL[target]
    plan = make_plan(graph, chosen)
    found = explain.steps(graph, plan, chosen)
    assert [(s.kernel, s.units, s.macs) for s in found] == [(i.kernel, i.units, i.macs) for i in plan.instructions]
    for step in found:
        assert step.moved > 0
        assert step.cycles >= step.moved // explain.BYTES_PER_CYCLE
        if step.macs:
            assert step.cycles >= math.floor(step.macs / explain.rate(step.kernel, chosen))
        if step.offset is not None:
            assert 0 <= step.offset < plan.arena_bytes
    last = found[-1]
    y = graph.tensors[graph.outputs[0]]
    assert (last.op, last.code, last.size) == (0, graph.ops[0].code, explain.nbytes(y))
    assert last.offset == plan.offset(plan.outputs[0].place)


def test_bytes_of_a_dense_layer() -> None:
    """Input, weights, biases and output count once each, and set the floor where there are few rows."""
    graph = em.dense("int8", m=1, k=64, out=48)
    chosen = isa.ALL["avx2"]
    (step,) = explain.steps(graph, make_plan(graph, chosen), chosen)
    assert step.moved == 64 + 48 * 64 + 4 * 48 + 48
    assert step.cycles == max(round(48 * 64 / 32), round(step.moved / 32))


def test_operations_that_need_nothing_are_listed() -> None:
    """A reshape is a step without a kernel."""
    from tflite_models import int8_cnn

    graph = int8_cnn()
    chosen = isa.ALL["sse42"]
    found = explain.steps(graph, make_plan(graph, chosen), chosen)
    assert {s.op for s in found} == set(range(len(graph.ops)))
    assert [s.code for s in found if not s.kernel] == [op.code for op in graph.ops if op.code == "RESHAPE"]


@pytest.mark.parametrize(
    ("kernel", "target", "cpu", "expected"),
    [
        ("conv_u8", "avx512vnni", "znver4", 64),
        ("conv_u8", "avx512vnni", "sapphirerapids", 128),
        ("conv_u8", "avx512bw", "skylake-avx512", 32),
        ("conv_u8", "avx512bw", "znver4", 32),
        ("conv_u8", "avxvnni", "alderlake", 64),
        ("conv_u8", "avx2", "haswell", 32),
        ("conv_u8", "sse42", "nehalem", 16),
        ("conv_s16", "avx512bw", "skylake-avx512", 32),
        ("conv_s16", "avx2", "haswell", 32),
        ("conv_f32", "avx512bw", "skylake-avx512", 32),
        ("conv_f32", "avx512vnni", "znver4", 16),
        ("conv_f32", "avx2", "haswell", 16),
        ("depthwise_u8", "avx2", "haswell", 16),
        ("depthwise_runs", "avx512vnni", "znver4", 48),
    ],
)
def test_rates(kernel, target, cpu, expected) -> None:
    """Multiply-adds a cycle, as docs/performance.md derives them."""
    assert explain.rate(kernel, isa.ALL[target], cpu) == expected


def test_tiles_are_those_of_the_kernels() -> None:
    """Rows × vectors as they are said are as the kernels were generated for this machine."""
    model = build(em.dense("int8"))
    here = model.program.machine.isa
    isa.select(here)
    from edgeq.kernels import tile

    for vectors, rows in tile.SHAPES.items():
        for kernel in ("conv_u8", "conv_f32", "conv_hybrid"):
            assert explain.tile(Instruction(kernel, 1, {19: vectors}, 0), here) == f"{rows}×{vectors}"
    assert explain.tile(Instruction("conv_s16", 1, {19: 4}, 0), here) == f"{tile.SHAPES[4]}×4"
    assert explain.tile(Instruction("conv_u8_sum", 1, {19: 4}, 0), here) == f"{tile.SHAPES_SUM[4]}×4"
    assert explain.tile(Instruction("softmax_u8", 1, {}, 0), here) == ""


def test_the_peak_layer_fits_the_first_cache() -> None:
    """Packed weights take what they are said to take, on every instruction set and in every type."""
    from edgeq import peak

    for chosen in isa.ALL.values():
        for dtype in ("int8", "int16", "float32"):
            graph: Graph = peak.layer(dtype, chosen.lanes)
            plan = make_plan(graph, chosen)
            assert plan.macs == graph.tensors[1].size * peak.ROWS
            assert [i.kernel.split("_")[0] for i in plan.instructions] == ["conv"]
            assert peak.WEIGHT_BYTES * 0.9 < plan.constant_bytes < peak.WEIGHT_BYTES + 4096
