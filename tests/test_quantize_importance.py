"""What errors of a layer's weights do to the outputs, and rounding by that."""

from __future__ import annotations

import numpy as np
import pytest
from quantize_models import Net, answers, sqnr
from test_quantize_fitting import alike, uneven

from edgeq.graph import Activation, Graph
from edgeq.quantize import fitting
from edgeq.quantize.alone import alone
from edgeq.quantize.bias import mean_inputs
from edgeq.quantize.compare import judge_by, judged
from edgeq.quantize.fitting import fitted
from edgeq.quantize.gptq import hessians
from edgeq.quantize.importance import importances
from edgeq.quantize.job import observed
from edgeq.quantize.layout import arrange
from edgeq.quantize.parameters import histograms, parameters
from edgeq.quantize.probe import runs
from edgeq.quantize.refine import spans
from edgeq.quantize.rewrite import rewrite
from edgeq.quantize.rounding import FINEST, layers, plain, rounded
from edgeq.quantize.weights import Coded
from edgeq.recipe import RECIPES


@pytest.mark.parametrize("n", range(4))
def test_errors_cost_what_they_do(n, monkeypatch):
    """Small errors of weights make, by the metric, about the noise at the outputs that is measured with corrected biases."""
    monkeypatch.setattr("edgeq.quantize.importance.LOOKED", 400)
    graph, inputs = uneven(), alike(400, 1)
    means, judge = mean_inputs(graph, inputs), judge_by(graph, inputs)
    every = [k for k, op in enumerate(graph.ops) if op.code in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")]
    n = every[n]
    (found,) = importances(graph, judged(graph), [n], inputs, means).values()
    w = np.asarray(graph.tensors[graph.ops[n].inputs[1]].data, np.float64)
    axis = 3 if graph.ops[n].code == "DEPTHWISE_CONV_2D" else 0
    told, measured = 0.0, 0.0
    for seed in range(8):
        e = 0.01 * np.random.default_rng(seed).normal(size=w.shape)
        rows = np.moveaxis(e, axis, 0).reshape(w.shape[axis], -1)
        assert found.own is not None
        told += float(np.einsum("ci,cij,cj->", rows, found.own, rows)) / (judge.signals[0] / len(inputs))
        measured += alone(graph, n, Coded(w + e, np.ones(1, np.float32)), means, judge)
    assert 0.6 < told / measured < 1.6


def unheard() -> Graph:
    """A channel with weights twenty times as large as the others', of which the next layer takes a thousandth."""
    net = Net((1, 6, 6, 4))
    w = net.rng.normal(0, 0.3, (8, 3, 3, 4)).astype(np.float32)
    v = net.rng.normal(0, 0.3, (6, 1, 1, 8)).astype(np.float32)
    w[0] *= 20
    v[..., 0] *= 1e-3
    a = net.conv(0, 8, act=Activation.RELU6, w=net.const(w))
    return net.graph(net.conv(a, 6, k=1, w=net.const(v)))


def test_one_scale_is_for_channels_that_are_heard():
    """Large weights whose channel hardly reaches the outputs are clipped, so that the others have finer steps."""
    graph, learned, others = unheard(), alike(60, 1), alike(40, 2)
    layout = arrange(graph, RECIPES["int8-per-tensor"], runs)
    means = mean_inputs(graph, learned)
    h = dict(hessians(graph, [0], learned, centred=True))[0]
    of = importances(graph, judged(graph), [0], learned, means)[0]
    before, after = (rounded(graph, layout, 0, h, FINEST, "kmeans", x) for x in (None, of))
    assert after.scale[0] < 0.5 * before.scale[0]
    judge = judge_by(graph, others)
    assert alone(graph, 0, after, means, judge) < 0.2 * alone(graph, 0, before, means, judge)


def test_no_gradient_no_importance():
    """An operation without a gradient leaves all layers without a metric of their own."""
    net = Net((1, 6, 6, 4))
    graph = net.graph(net.op("SIN", (net.conv(0, 4),), (1, 6, 6, 4)), net.op("CEIL", (0,), (1, 6, 6, 4)))
    assert importances(graph, graph.outputs, [0], alike(4, 1), mean_inputs(graph, alike(4, 1))) == {}


def test_a_layer_makes_up_for_what_an_add_joins_with_it(monkeypatch):
    """What rounding spoilt on one way to an ADD, the layer that ends the other way takes off as far as it can tell."""
    net = Net((1, 6, 6, 4))
    w = net.rng.normal(0, 0.3, (8, 3, 3, 4)).astype(np.float32) * np.geomspace(0.02, 1, 8)[:, None, None, None]
    a = net.conv(0, 8, w=net.const(w.astype(np.float32)))
    b = net.conv(0, 8)
    graph = net.graph(net.add(a, b))
    layout, learned, others = arrange(graph, RECIPES["int8-per-tensor"], runs), alike(60, 1), alike(40, 2)
    at = parameters(graph, layout, spans(histograms(graph, layout, observed(graph, learned)), "minmax"))
    coarse = {n: plain(graph, layout, n) for n in layers(layout)}
    coarse[0] = Coded(np.rint(coarse[0].data / 32.0).astype(np.int8), coarse[0].scale * 32)
    monkeypatch.setattr(fitting, "_fits", lambda graph, n, longest: n == 1)

    def gained() -> float:
        codes, biases = fitted(graph, layout, at, coarse, learned, {}, "kmeans")
        done = rewrite(graph, layout, at, codes=codes, biases=biases).graph
        return min(sqnr(answers(graph, others), answers(done, others)))

    with_it = gained()
    monkeypatch.setattr(fitting, "_beside", lambda graph, layout, n: None)
    assert with_it > gained() + 6
