"""Scale moved between channels by what that does to the outputs."""

from __future__ import annotations

import numpy as np
import pytest
from test_quantize_fitting import alike, uneven

from edgeq.graph import Graph
from edgeq.quantize.balance import balanced, carried
from edgeq.quantize.bias import mean_inputs
from edgeq.quantize.compare import judge_by, judged
from edgeq.quantize.equalize import CAP, ends, scaled
from edgeq.quantize.gptq import MOST
from edgeq.quantize.importance import Importance, importances
from edgeq.quantize.job import Job, observed
from edgeq.quantize.layout import arrange
from edgeq.quantize.links import Link, links
from edgeq.quantize.parameters import histograms
from edgeq.quantize.probe import runs
from edgeq.recipe import RECIPES
from edgeq.records import replace

LINEAR = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")


def told(graph: Graph) -> dict[int, Importance]:
    """What errors of all layers do, by the same samples and directions each time."""
    learned = alike(60, 1)
    every = [n for n, op in enumerate(graph.ops) if op.code in LINEAR]
    return importances(graph, judged(graph), every, learned, mean_inputs(graph, learned))


def chosen(graph: Graph) -> list[tuple[Link, np.ndarray]]:
    return balanced(graph, told(graph), ends(graph, links(graph), alike(60, 1)))


def test_importance_scales_with_the_channels():
    """What errors do in a scaled graph is told from the graph as it was, and is what the scaled graph itself says."""
    graph = uneven()
    draw = np.random.default_rng(0)
    some = [
        (link, np.exp2(draw.integers(-1, 2, graph.tensors[link.tensors[0]].shape[-1])))
        for link in links(graph)
        if not link.capped
    ]
    assert some
    anew = told(scaled(graph, some))
    for n, of in carried(graph, told(graph), some).items():
        np.testing.assert_allclose(of.each, anew[n].each, rtol=1e-3, atol=1e-4 * anew[n].each.max())
        np.testing.assert_allclose(of.heard, anew[n].heard, rtol=1e-3)
        np.testing.assert_allclose(of.trace, anew[n].trace, rtol=1e-3)
        assert of.own is not None
        np.testing.assert_allclose(of.own, anew[n].own, rtol=1e-2, atol=1e-4 * anew[n].own.max())


def test_weights_lose_less():
    """In one scale per layer the scaled graph's weights make half of the noise, on samples that nobody had seen, and its real
    values are those that they were."""
    graph, learned, others = uneven(), alike(60, 1), alike(40, 2)
    recipe = RECIPES["int8-per-tensor"]
    layout = arrange(graph, recipe, runs)
    job = Job(graph, layout, histograms(graph, layout, observed(graph, learned)), recipe, learned)
    plain = replace(job.correcting(), outward=True, important={}).rounding(MOST)
    even = plain.balanced()
    assert even.graph is not graph
    judge = judge_by(graph, others)
    assert even.weights_alone(judge) < 0.5 * plain.weights_alone(judge)
    assert judge.error(even.graph, {i: i for i in judge.targets}) < 1e-3


def test_caps_are_kept_clear_of():
    """Channels that come near to RELU6's cap stay as they are; no other comes there by its factor."""
    graph = uneven()
    found = {link: s for link, s in chosen(graph) if link.capped}
    assert found
    seen = ends(graph, list(found), alike(60, 1))
    for link, s in found.items():
        top = np.max([seen[i][1] for i in link.tensors], axis=0)
        assert (s[top > 0.9 * CAP] == 1).all()
        assert (s * top < 0.9 * CAP)[s != 1].all()


def test_what_no_sample_moves_is_not_clipped_further():
    """A channel that is silent on all samples keeps its factor, and its weights their place below the layer's largest code."""
    graph = uneven()
    important = told(graph)
    link = next(link for link in links(graph) if link.capped)
    silent = np.zeros(len(important[link.writers[0]].each), bool)
    silent[-1] = True
    seen = dict(ends(graph, links(graph), alike(60, 1)))
    for i in link.tensors:
        low, high = seen[i]
        seen[i] = np.where(silent, 0, low), np.where(silent, 0, high)
    factors = dict(balanced(graph, important, seen)).get(link, np.ones(len(silent)))
    assert factors[-1] == 1
    assert (factors[:-1] != 1).any()


@pytest.mark.parametrize("name", ["no importance", "no links"])
def test_nothing_to_do(name):
    """Without importances, or without neighbours, nothing is scaled."""
    graph = uneven()
    important = {} if name == "no importance" else {0: told(graph)[0]}
    assert balanced(graph, important, ends(graph, links(graph), alike(4, 1))) == []
