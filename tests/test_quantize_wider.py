"""Samples spread wider than those that are there."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from quantize_models import Net, inputs_of

from edgeq.graph import Graph
from edgeq.quantize import quantize
from edgeq.quantize.compare import judge_by
from edgeq.quantize.job import Job, observed
from edgeq.quantize.layout import arrange
from edgeq.quantize.parameters import histograms
from edgeq.quantize.probe import runs
from edgeq.quantize.wider import FACTOR, once, widened
from edgeq.recipe import RECIPES
from edgeq.tflite import write


def idle() -> Graph:
    """[1, 24] → dense layers whose second half of hidden units only answers to large inputs."""
    net = Net((1, 24))
    first = net.dense(0, 64, act=1, b=net.const(np.float32([0.2] * 32 + [-3.0] * 32)))
    return net.graph(net.dense(net.dense(first, 48, act=1), 24))


def pictures() -> Graph:
    net = Net((1, 8, 8, 3))
    return net.graph(net.conv(net.conv(0, 12, act=1), 6))


def test_wider_samples_keep_their_mean():
    """Each value is FACTOR times as far from the mean of all samples; what is no real number stays."""
    inputs = [(np.float32([[k, 2.0 * k]]), np.int32([k])) for k in range(5)]
    wide = widened(inputs)
    np.testing.assert_allclose(np.mean([x for x, _ in wide], axis=0), [[2.0, 4.0]])
    for (x, i), (y, j) in zip(inputs, wide, strict=True):
        np.testing.assert_allclose(y - [[2.0, 4.0]], FACTOR * (x - [[2.0, 4.0]]))
        assert i is j


def test_layers_that_meet_a_sample_once():
    """Dense layers meet one row of a sample, convolutions as many as there are positions."""
    assert once(idle(), [0, 1, 2]) == [0, 1, 2]
    assert once(pictures(), [0, 1]) == []


def test_rounding_for_wider_samples_is_nearer_on_them():
    """Weights that were rounded for wider samples, too, do less to the outputs on others of that kind."""
    graph, recipe = idle(), RECIPES["int8-per-tensor"]
    inputs, others = inputs_of(graph, 40), widened(inputs_of(graph, 40, seed=2))
    layout = arrange(graph, recipe, runs)
    job = Job(graph, layout, histograms(graph, layout, observed(graph, inputs)), recipe, inputs)
    judge = judge_by(graph, others)
    near, wide = (replace(job, wider=w).rounding().weights_alone(judge) for w in (False, True))
    assert wide < near


@pytest.mark.parametrize(("graph", "told"), [(idle(), True), (pictures(), False)], ids=["dense", "pictures"])
def test_only_layers_met_once_are_tried(graph, told):
    """The steps tell of wider samples where a layer meets one row of each, and the same samples give the same bytes."""
    done = [quantize(graph, inputs_of(graph, 40), RECIPES["codebook4"]) for _ in range(2)]
    assert any("spread wider" in step for step in done[0].steps) == told
    assert write(done[0].graph) == write(done[1].graph)
