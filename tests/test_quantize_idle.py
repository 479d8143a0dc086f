"""Weights that meet nothing but zeros, and forms of a graph that are judged before their weights are rounded."""

from __future__ import annotations

import numpy as np
import pytest
from quantize_models import Net, answers, inputs_of, sqnr

from edgeq.graph import Activation, Graph
from edgeq.quantize import quantize, rounding
from edgeq.quantize.gptq import cost
from edgeq.quantize.idle import without_idle
from edgeq.quantize.job import Job, observed
from edgeq.quantize.layout import arrange
from edgeq.quantize.parameters import histograms
from edgeq.quantize.prepare import prepare
from edgeq.recipe import RECIPES
from edgeq.records import replace

IDLE = 2
"""The channel that no input moves."""


def idle(bias: float = -0.5, act: Activation = Activation.RELU6, weight: float = 0.0) -> Graph:
    """A convolution with a channel of such weights and bias, and a depthwise layer that has weights a hundred times as large as
    all others for it."""
    net = Net((1, 8, 8, 3))
    w = net.rng.normal(0, 0.3, (4, 3, 3, 3)).astype(np.float32)
    b = net.rng.normal(0, 0.1, 4).astype(np.float32)
    d = net.rng.normal(0, 0.3, (1, 3, 3, 4)).astype(np.float32)
    w[IDLE], b[IDLE] = weight, bias
    d[..., IDLE] *= 100
    a = net.conv(0, 4, act=act, w=net.const(w), b=net.const(b))
    y = net.depthwise(a)
    net.ops[-1] = replace(net.ops[-1], inputs=(a, net.const(d), net.ops[-1].inputs[2]))
    return net.graph(net.conv(y, 5, k=1))


@pytest.mark.parametrize(
    ("graph", "gone"),
    [
        pytest.param(idle(), True, id="never above 0"),
        pytest.param(idle(act=Activation.RELU), True, id="RELU"),
        pytest.param(idle(bias=0.5), False, id="always above 0"),
        pytest.param(idle(act=Activation.NONE), False, id="no activation"),
        pytest.param(idle(weight=0.3), False, id="moved by larger inputs"),
    ],
)
def test_weights_become_0_only_where_what_they_meet_is(graph, gone):
    """Weights for channels that no input moves from 0 become 0, which changes no value, and all others stay."""
    inputs = inputs_of(graph, 8)
    done = without_idle(graph, observed(graph, inputs))
    assert (done is not graph) == gone
    before, after = (np.asarray(g.tensors[g.ops[1].inputs[1]].data) for g in (graph, done))
    others = np.arange(4) != IDLE
    assert np.array_equal(before[..., others], after[..., others])
    assert after[..., IDLE].any() != gone
    for a, b in zip(answers(graph, inputs), answers(done, inputs), strict=True):
        assert all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


def test_one_scale_is_not_spent_on_weights_that_meet_nothing():
    """With one scale per layer, weights a hundred times as large as all others cost nothing where they meet only zeros."""
    graph = idle()
    inputs = inputs_of(graph, 24)
    done = quantize(graph, [x for (x,) in inputs], RECIPES["int8-per-tensor"])
    scale = done.graph.tensors[
        next(op for op in done.graph.ops if op.code == "DEPTHWISE_CONV_2D").inputs[1]
    ].quantization
    assert scale is not None
    assert scale.scale[0] < 2 * 0.3 * 3.5 / 127
    assert min(sqnr(answers(graph, inputs), answers(done.graph, inputs))) > 28


def test_a_large_layers_scale_is_sought_by_squares_first(monkeypatch):
    """Where errors are costly to reckon, the scale found by their squares costs within a twentieth of the one that they tell."""
    rng = np.random.default_rng(3)
    w = rng.normal(0, 0.1, (64, 48)) * np.exp(rng.normal(0, 0.7, (64, 1)))
    x = rng.normal(size=(400, 48)) @ rng.normal(size=(48, 48)) * 0.3
    h = (x.T @ x / len(x) + 0.3 * np.eye(48)).astype(np.float32)

    def total(other: np.ndarray) -> float:
        return float(cost(w, other, h).sum())

    assert rounding._roughly(w, h, None) is None
    monkeypatch.setattr(rounding, "LARGE", 1)
    found = [
        rounding._best_scale(w, 0.0, h, rounding.FINEST, "kmeans", total, rough)
        for rough in (None, rounding._roughly(w, h, None))
    ]
    exact, rough = (total(codes * float(scale[0])) for codes, scale in found)
    assert rough < 1.05 * exact


def test_finely_leaves_the_noise_of_activations():
    """A job with the nearest codes of a scale per channel has less noise than with those of one scale for a layer."""
    from edgeq.quantize.compare import judge_by
    from edgeq.quantize.refine import spans

    graph = prepare(idle(weight=0.3), RECIPES["int8-per-tensor"])
    inputs = inputs_of(graph, 16)
    layout = arrange(graph, RECIPES["int8-per-tensor"])
    job = Job(graph, layout, histograms(graph, layout, observed(graph, inputs)), RECIPES["int8-per-tensor"], inputs)
    judge = judge_by(graph, inputs)
    made = [j.make(spans(job.seen, "minmax")) for j in (job, job.finely())]
    coarse, fine = (judge.error(m.graph, m.tensors) for m in made)
    assert fine < 0.8 * coarse
