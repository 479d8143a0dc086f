"""Pools over whole pictures that get a scale of their own."""

from __future__ import annotations

import numpy as np
import pytest
from quantize_models import Net, answers, inputs_of, peer_answers, runtimes, sqnr

from edgeq.graph import Graph
from edgeq.quantize import quantize
from edgeq.recipe import RECIPES
from edgeq.records import replace
from edgeq.tflite.schema import table


def pooled(offset: float = 0.0, act: int = 0, window: int = 8) -> Graph:
    """[1, 8, 8, 4] → conv of ReLUs, means of windows, dense; the larger the offset, the less values differ from their mean."""
    net = Net((1, 8, 8, 4))
    x = net.conv(0, 16, act=1, b=net.const(np.full(16, offset, np.float32)))
    size = 8 // window
    options = table(
        "Pool2DOptions", padding=1, stride_h=window, stride_w=window, filter_height=window, filter_width=window,
        fused_activation_function=act,
    )  # fmt: skip
    p = net.op("AVERAGE_POOL_2D", (x,), (1, size, size, 16), options)
    return net.graph(net.dense(net.reshape(p, 1, size * size * 16), 6))


def codes(graph: Graph) -> list[str]:
    return [op.code for op in graph.ops]


def test_a_mean_has_a_scale_of_its_own():
    """A mean over a picture that reaches half as far as what it reads is coded in steps of its own."""
    graph = pooled()
    inputs = inputs_of(graph, 32)
    done = quantize(graph, inputs).graph
    (op,) = [op for op in done.ops if op.code == "MEAN"]
    before, after = (done.tensors[i].quantization.scale[0] for i in (op.inputs[0], op.outputs[0]))
    assert after < before / 2
    others = inputs_of(graph, 32, seed=2)
    assert min(sqnr(answers(graph, others), answers(done, others))) > 35


@pytest.mark.parametrize("runtime", [r for r in runtimes() if r != "tflite-runtime"])
def test_every_runtime_takes_the_mean(runtime):
    """The codes of the means are the same in edgeq as in the runtimes whose rounding it has."""
    graph = pooled()
    inputs = inputs_of(graph, 16)
    done = quantize(graph, inputs).graph
    (mean,) = [op for op in done.ops if op.code == "MEAN"]
    done = replace(done.with_main(outputs=mean.outputs), signatures=())
    family = "xnnpack" if runtime == "LiteRT" else "tflite"
    for a, b in zip(answers(done, inputs, family), peer_answers(done, inputs, runtime), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("why", "graph", "recipe"),
    [
        ("what comes out reaches as far", pooled(offset=20.0), "int8"),
        ("a part of the picture", pooled(window=4), "int8"),
        ("a fused activation", pooled(act=1), "int8"),
        ("int16 has steps to spare", pooled(), "int16x8"),
        ("floats have no steps", pooled(), "weights"),
    ],
)
def test_where_a_pool_stays(why, graph, recipe):
    """AVERAGE_POOL_2D stays where it is no mean of a picture, or nothing is gained."""
    found = codes(quantize(graph, inputs_of(graph, 16), RECIPES[recipe]).graph)
    assert "AVERAGE_POOL_2D" in found
    assert "MEAN" not in found
