"""`edgeq lint --target`: what other runtimes refuse, run slowly or round, held against the runtimes where they are installed."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from quantize_models import Net, classifier, dynamic_range, inputs_of

from edgeq.cli import main
from edgeq.errors import InputError
from edgeq.graph import Graph, Op, Tensor
from edgeq.lint import TARGETS, lint
from edgeq.lint.facts import LITERT_2_3, TFLITE_2_14, TFLM, XNNPACK_BYTES, XNNPACK_FLOAT
from edgeq.quantize import quantize
from edgeq.recipe import RECIPES, Recipe
from edgeq.tflite import write
from edgeq.tflite.ops import OP_FACTS

PLAIN = Recipe("plain", ranges="minmax", equalize=False, rounding="nearest", bias_correction=False)


def quantized(recipe: Recipe = PLAIN) -> Graph:
    graph = classifier()
    return quantize(graph, np.concatenate([x[0] for x in inputs_of(graph)]), recipe).graph


def versioned() -> Graph:
    """A fully connected layer of a version that only newer runtimes know."""
    net = Net((1, 4))
    graph = net.graph(net.dense(0, 3))
    return graph.with_main(ops=(replace(graph.ops[0], version=13),))


def custom() -> Graph:
    net = Net((1, 4))
    net.tensors.append(Tensor("y", (1, 4), "float32"))
    net.ops.append(Op("CUSTOM", (0,), (1,), None, custom_code="MyOp"))
    return net.graph(1)


def half() -> Graph:
    net = Net((1, 7))
    w = net.const(net.rng.normal(0, 0.3, (5, 7)).astype(np.float16))
    return net.graph(net.dense(0, 5, w=net.op("DEQUANTIZE", (w,), (5, 7))))


@pytest.mark.parametrize(
    ("make", "target", "expected"),
    [
        (quantized, "tflite-runtime-2.14", {(-1, "inexact")}),
        (quantized, "npu-per-tensor", {(0, "refused"), (1, "refused"), (2, "refused"), (6, "refused")}),
        (lambda: quantized(replace(PLAIN, per_channel=False)), "npu-per-tensor", set()),
        (quantized, "tflm", {(6, "inexact")}),
        (lambda: quantized(replace(PLAIN, per_channel=False)), "tflm", set()),
        (quantized, "xnnpack", {(-1, "inexact"), (7, "slow")}),  # the pool has become a MEAN, the softmax is slow
        (classifier, "xnnpack", set()),
        (classifier, "npu-per-tensor", {(k, "refused") for k in range(8)}),
        (dynamic_range, "tflm", {(0, "refused")}),
        (versioned, "tflite-runtime-2.14", {(0, "refused")}),
        (versioned, "litert", set()),
        (custom, "litert", {(0, "refused")}),
        (custom, "tflm", {(0, "refused")}),
        (half, "tflm", {(0, "refused"), (1, "slow")}),
    ],
    ids=lambda v: (getattr(v, "__name__", None) or str(sorted(v) if isinstance(v, set) else v))[:30],
)  # fmt: skip
def test_remarks(make, target: str, expected: set[tuple[int, str]]) -> None:
    """Each model has the remarks, by operation and kind, that it must have, and no others."""
    found = lint(make(), target)
    assert {(r.index, r.kind) for r in found} == expected
    assert all(r.reason and r.remedy for r in found)


def test_int16_is_slow_in_the_tflite_runtimes() -> None:
    """Layers with int16 activations are slow there, and refused by an NPU."""
    graph = quantized(replace(PLAIN, precision="int16x8"))
    for target in ("tflite-runtime-2.14", "litert"):
        assert {r.kind for r in lint(graph, target)} == {"slow"}
    assert {r.kind for r in lint(graph, "npu-per-tensor")} == {"refused"}


@pytest.mark.parametrize(("module", "highest"), [("tflite_runtime", TFLITE_2_14), ("ai_edge_litert", LITERT_2_3)])
def test_versions_are_the_runtimes(module: str, highest: dict[str, int]) -> None:
    """The runtime knows each operation up to the version of the table, and not the next."""
    interpreter = pytest.importorskip(f"{module}.interpreter").Interpreter

    def known(code: str, version: int) -> bool:
        tensors = (Tensor("x", (1,), "float32"), Tensor("y", (1,), "float32"))
        graph = classifier().with_main(
            tensors=tensors, ops=(Op(code, (0,), (1,), None, version),), inputs=(0,), outputs=(1,)
        )
        try:
            interpreter(model_content=bytes(write(graph)))
        except ValueError as error:
            return "Didn't find op" not in str(error)
        return True

    for code in ("FULLY_CONNECTED", "CONV_2D", "TRANSPOSE", "QUANTIZE", "CAST", "MUL", "BATCH_MATMUL", "SOFTMAX"):
        assert known(code, highest[code])
        assert not known(code, highest[code] + 1)


def test_facts_name_operations() -> None:
    """Every operation in the tables is one of TFLite's."""
    for names in (TFLITE_2_14, LITERT_2_3, TFLM, XNNPACK_FLOAT, XNNPACK_BYTES):
        assert set(names) <= set(OP_FACTS)


def test_what_edgeq_writes_loads_in_tflite_2_14() -> None:
    """No recipe's model is refused by tflite-runtime 2.14 or LiteRT: each asks for no more than they know."""
    for name in ("int8", "int16x8", "int8-per-tensor", "codebook4"):
        recipe = RECIPES[name]
        graph = quantized(
            replace(recipe, ranges="minmax", rounding="nearest", equalize=False, bias_correction=False, sqnr=0.0)
        )
        for target in ("tflite-runtime-2.14", "litert"):
            assert not [r for r in lint(graph, target) if r.kind == "refused"], (recipe.name, target)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The exit status tells whether anything is refused; --json has the same remarks; an unknown target is a usage error."""
    path = tmp_path / "m.tflite"
    path.write_bytes(write(quantized()))
    assert main(["lint", str(path), "--target", "litert"]) == 0
    assert "inexact" in capsys.readouterr().out
    assert main(["lint", str(path), "--target", "npu-per-tensor", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["target"] == "npu-per-tensor"
    assert {f["kind"] for f in found["findings"]} == {"refused"}
    assert "int8-per-tensor" in found["findings"][0]["remedy"]
    path.write_bytes(write(classifier()))
    assert main(["lint", str(path), "--target", "xnnpack"]) == 0
    assert "nothing to say against xnnpack" in capsys.readouterr().out
    assert main(["lint", str(path), "--target", "abacus"]) == 2
    with pytest.raises(InputError, match=f"one of {', '.join(TARGETS)}"):
        lint(classifier(), "abacus")
