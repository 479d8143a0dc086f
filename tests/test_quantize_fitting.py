"""Layers fitted one after another to what they meet."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from quantize_models import Net, answers, inputs_of, sqnr

from edgeq.graph import Activation, Graph
from edgeq.quantize import blas, quantize
from edgeq.quantize.fitting import fitted
from edgeq.quantize.job import observed
from edgeq.quantize.layout import arrange
from edgeq.quantize.parameters import histograms, parameters
from edgeq.quantize.probe import runs
from edgeq.quantize.refine import spans
from edgeq.quantize.rewrite import rewrite
from edgeq.quantize.rounding import all_rounded, codebook_layers, grades, layers, plain
from edgeq.recipe import RECIPES


def uneven(channels: int = 12) -> Graph:
    """[1, 6, 6, 4] → convolutions, a depthwise one and a dense layer; channels' weights differ a hundredfold."""
    net = Net((1, 6, 6, 4))
    spread = np.geomspace(0.03, 1.0, channels).astype(np.float32)
    w = net.rng.normal(0, 0.5, (channels, 3, 3, 4)).astype(np.float32) * spread[:, None, None, None]
    a = net.conv(0, channels, act=Activation.RELU6, w=net.const(w))
    c = net.conv(net.depthwise(a, act=Activation.RELU6), channels, k=1, act=Activation.RELU)
    last = net.rng.normal(0, 0.5, (5, channels)).astype(np.float32) / spread
    flat = net.reshape(net.global_pool(net.depthwise(c)), 1, channels)
    return net.graph(net.dense(flat, 5, w=net.const(last)))


def alike(count: int, seed: int) -> list[tuple[np.ndarray, ...]]:
    """Samples that depend on few numbers, as real ones do."""
    rng = np.random.default_rng(seed)
    basis = np.random.default_rng(0).normal(size=(5, 6 * 6 * 4))
    x = rng.normal(size=(count, 5)) @ basis + 0.05 * rng.normal(size=(count, 144))
    return [(row.reshape(1, 6, 6, 4),) for row in x.astype(np.float32)]


@pytest.mark.parametrize(("name", "least"), [("int8-per-tensor", 2.0), ("codebook4", 2.0)])
def test_fitting_comes_nearer(name, least):
    """The integer model with fitted layers is nearer to the float one by some decibels, on samples that nobody had seen."""
    graph, recipe = uneven(), RECIPES[name]
    learned, others = alike(60, 1), alike(40, 2)
    layout = arrange(graph, recipe, runs)
    at = parameters(graph, layout, spans(histograms(graph, layout, observed(graph, learned)), "minmax"))
    few = grades(graph, layout)
    codes = {n: plain(graph, layout, n) for n in layers(layout)} | all_rounded(graph, layout, {}, few, "kmeans")
    before = rewrite(graph, layout, at, codes=codes).graph
    found, biases = fitted(graph, layout, at, codes, learned, few, "kmeans")
    after = rewrite(graph, layout, at, codes=found, biases=biases).graph
    wanted = answers(graph, others)
    gain = min(sqnr(wanted, answers(after, others))) - min(sqnr(wanted, answers(before, others)))
    assert gain > least
    assert set(biases) == set(codes)
    if name == "codebook4":
        for n in codebook_layers(graph, layout):
            levels = [np.unique(row) for row in np.asarray(found[n].data).reshape(len(found[n].data), -1)]
            assert max(map(len, levels)) <= 16


def test_threads_change_nothing(monkeypatch):
    """Fitted weights and biases are the same whatever the number of threads."""
    graph = uneven()
    inputs = inputs_of(graph, 40)
    layout = arrange(graph, RECIPES["int8"], runs)
    at = parameters(graph, layout, spans(histograms(graph, layout, observed(graph, inputs)), "mse"))
    codes = {n: plain(graph, layout, n) for n in layers(layout)}
    monkeypatch.setattr("edgeq.calibrate.LEAST_NS", 0)
    monkeypatch.setattr("edgeq.calibrate.CALL_NS", 0)
    results = []
    for count in (1, 3):
        monkeypatch.setattr("edgeq.calibrate.processors", lambda count=count: count)
        results.append(fitted(graph, layout, at, codes, inputs, {}, "kmeans"))
    for n, coded in results[0][0].items():
        np.testing.assert_array_equal(coded.data, results[1][0][n].data)
        np.testing.assert_array_equal(results[0][1][n], results[1][1][n])


def test_a_dead_input_is_harmless():
    """A layer that never meets anything but one value keeps finite weights and gets the right mean."""
    net = Net((1, 4))
    net_graph = net.graph(net.dense(net.dense(0, 6, act=Activation.RELU, w=net.const(np.zeros((6, 4), np.float32))), 3))
    inputs = inputs_of(net_graph, 10)
    layout = arrange(net_graph, RECIPES["int8"], runs)
    at = parameters(net_graph, layout, spans(histograms(net_graph, layout, observed(net_graph, inputs)), "minmax"))
    codes = {n: plain(net_graph, layout, n) for n in layers(layout)}
    found, biases = fitted(net_graph, layout, at, codes, inputs, {}, "kmeans")
    done = rewrite(net_graph, layout, at, codes=found, biases=biases).graph
    assert all(np.isfinite(b).all() for b in biases.values())
    assert min(sqnr(answers(net_graph, inputs), answers(done, inputs))) > 30


def test_linear_algebra_runs_on_one_thread():
    """Within one_thread OpenBLAS has one thread, and afterwards as many as before."""
    home = Path(np.__file__).parent
    if not any(home.parent.glob("numpy.libs/*openblas*")) and not any(home.glob(".dylibs/*openblas*")):
        pytest.skip("NumPy has another library than OpenBLAS")
    found = blas._threads()
    assert found is not None
    before = found[1]()
    with blas.one_thread():
        assert found[1]() == 1
    assert found[1]() == before


def test_one_scale_is_judged_behind_the_activation():
    """Large weights of a channel that a RELU6 holds at 6 are clipped, where a RELU's keep the scale that they need."""
    for act, least, most in ((Activation.RELU6, 0.0, 0.7), (Activation.RELU, 0.9, 1.1)):
        net = Net((1, 6, 6, 4))
        w = net.rng.normal(0, 0.3, (8, 1, 1, 4)).astype(np.float32)
        w[0] *= 10
        b = np.float32([200] + [0] * 7)
        graph = net.graph(net.conv(0, 8, k=1, act=act, w=net.const(w), b=net.const(b)))
        layout = arrange(graph, RECIPES["int8-per-tensor"], runs)
        learned = alike(40, 1)
        at = parameters(graph, layout, spans(histograms(graph, layout, observed(graph, learned)), "minmax"))
        codes = {n: plain(graph, layout, n) for n in layers(layout)}
        found, _ = fitted(graph, layout, at, codes, learned, {}, "kmeans")
        assert least < found[0].scale[0] / codes[0].scale[0] < most


def test_channels_that_are_never_used_set_no_scale():
    """Weights thirty times as large, of a channel whose input is always 0, do not coarsen the one scale of a depthwise layer."""
    net = Net((1, 6, 6, 4))
    b = net.const(np.float32([-100] + [0] * 7))
    x = net.conv(0, 8, k=1, act=Activation.RELU, b=b)
    w = net.rng.normal(0, 0.3, (1, 3, 3, 8)).astype(np.float32)
    usual = float(np.abs(w).max())
    w[..., 0] *= 30
    y = net.depthwise(x)
    tensors = [*net.tensors]
    at = net.ops[-1].inputs[1]
    tensors[at] = replace(tensors[at], data=w)
    graph = net.graph(y).with_main(tensors=tuple(tensors))
    learned, others = alike(40, 1), alike(40, 2)
    done = quantize(graph, learned, RECIPES["int8-per-tensor"]).graph
    (op,) = [op for op in done.ops if op.code == "DEPTHWISE_CONV_2D"]
    assert done.tensors[op.inputs[1]].quantization.scale[0] < 1.5 * usual / 127
    assert min(sqnr(answers(graph, others), answers(done, others))) > 24
