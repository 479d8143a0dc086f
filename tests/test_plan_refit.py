"""Plans made anew for other numbers: the same bits as a plan made from nothing."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from quantize_models import MODELS, Net, inputs_of
from tflite_models import int8_cnn, uint8_residual

from edgeq import stepping
from edgeq.feed import encode
from edgeq.graph import Graph, Quantization
from edgeq.machine import get
from edgeq.plan.refit import OtherLayoutError, Refit
from edgeq.quantize import quantize
from edgeq.quantize.reconstruct import reconstruct
from edgeq.quantize.rescale import rescale, scales
from edgeq.quantize.settle import _bias, _moved, layers, outputs_means, settle
from edgeq.records import replace
from edgeq.tflite import write
from edgeq.trials import Trials

GRAPHS = {
    **{name: lambda name=name: quantize(MODELS[name](), inputs_of(MODELS[name](), 8)).graph for name in MODELS},
    "int8 layers": int8_cnn,
    "uint8 residual": uint8_residual,
}


def others(graph: Graph, count: int) -> list[Graph]:
    """The graph in other scales, some groups or all, and with other biases."""
    rng, found, free = np.random.default_rng(0), [], scales(graph, keep_io=False)
    groups = list(free.free())
    for n in range(count):
        below = 4.0 * (n % 4 != 3)  # without values below zero kernels are told that they write behind a ReLU
        spans = {g: (-float(rng.uniform(0, below)), float(rng.uniform(0.5, 4))) for g in groups[n % 3 :: 1 + n % 3]}
        other = rescale(graph, free, spans) if spans else graph
        for k, op in enumerate(other.ops):
            if op.code in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED") and n % 2 and _bias(other, k) is not None:
                size = other.tensors[_bias(other, k)].size
                other = _moved(other, k, rng.normal(0, 0.1, size))
                other = weights_rescaled(other, k, rng) if n % 4 == 1 else other
        found.append(other)
    return [*found, graph, *found]


def weights_rescaled(graph: Graph, k: int, rng: np.random.Generator) -> Graph:
    """The same codes of layer k's weights, some channels in a larger scale, its bias counted as it was."""
    tensors, at = list(graph.tensors), graph.ops[k].inputs[1]
    q = tensors[at].quantization
    wider = (q.scale * rng.choice([1.0, 1.7], len(q.scale))).astype(np.float32)
    tensors[at] = replace(tensors[at], quantization=replace(q, scale=wider))
    return graph.with_main(tensors=tuple(tensors))


@pytest.mark.parametrize("name", GRAPHS)
def test_the_same_bits_as_a_plan_of_its_own(name):
    """Whatever scales and biases become, a refitted plan computes what one made for them computes."""
    graph = GRAPHS[name]()
    inputs = [tuple(a.astype(np.float32) for a in x) for x in inputs_of(graph, 5)]
    graphs = others(graph, 6)
    trials = Trials(graph.outputs, inputs)
    for other in graphs:
        found = [a.copy() for a in trials.answers(other)]
        for a, b in zip(found, Trials(graph.outputs, inputs).answers(other), strict=True):
            np.testing.assert_array_equal(a, b)


def test_weights_behind_a_dequantize_are_not_left_as_they_were():
    """Stored weights that are made real before a run: a plan for other codes, or scales, computes with those."""
    rng, net = np.random.default_rng(0), Net((1, 7))
    codes, q = (
        rng.integers(-127, 128, (5, 7)).astype(np.int8),
        Quantization(np.full(1, 0.01, np.float32), np.zeros(1, int), 0),
    )
    w = net.const(codes)
    net.tensors[w] = replace(net.tensors[w], quantization=q)
    graph = net.graph(net.dense(0, 5, w=net.op("DEQUANTIZE", (w,), (5, 7))))
    trials, inputs = Trials(graph.outputs, inputs_of(graph, 5)), inputs_of(graph, 5)
    for changes in ({}, {"data": codes[::-1].copy()}, {"quantization": replace(q, scale=3 * q.scale)}, {}):
        tensors = tuple(replace(t, **changes) if i == w else t for i, t in enumerate(graph.tensors))
        other = graph.with_main(tensors=tensors)
        wanted = Trials(graph.outputs, inputs).answers(other)
        np.testing.assert_array_equal(trials.answers(other), wanted)


@pytest.mark.parametrize("name", ["classifier", "int8 layers", "uint8 residual"])
@pytest.mark.parametrize("shown", [False, True])
def test_ordinary_models_are_refitted(name, shown):
    """Where nothing but numbers changes there is a refitted plan, in the memory of the first."""
    graph = GRAPHS[name]()
    refit = Refit(graph, get().isa, shown=shown)
    for other in others(graph, 4):
        plan = refit.of(other)
        assert plan is not None
        assert (plan.offsets, plan.arena_bytes) == (refit.plan.offsets, refit.plan.arena_bytes)
        assert plan.constants.ctypes.data % 64 == 0


@pytest.mark.parametrize("name", ["classifier", "int8 layers", "uint8 residual"])
def test_reckoned_layers_say_what_lowered_ones_say(name, monkeypatch):
    """Where the module that reckons is left out of a wheel, layers are lowered again, to the same answers."""
    graph = GRAPHS[name]()
    inputs = [tuple(a.astype(np.float32) for a in x) for x in inputs_of(graph, 3)]
    graphs = others(graph, 5)
    trials = Trials(graph.outputs, inputs)
    found = [[a.copy() for a in trials.answers(other)] for other in graphs]
    monkeypatch.setitem(sys.modules, "edgeq.plan.renumber", None)
    trials = Trials(graph.outputs, inputs)
    for some, other in zip(found, graphs, strict=True):
        for a, b in zip(some, trials.answers(other), strict=True):
            np.testing.assert_array_equal(a, b)


def test_what_is_no_change_of_numbers():
    """Other operations, weights or shapes have no refitted plan."""
    graph = GRAPHS["classifier"]()
    refit = Refit(graph, get().isa)
    fewer = graph.with_main(ops=graph.ops[:-1], outputs=graph.ops[-2].outputs)
    at = next(op.inputs[1] for op in graph.ops if op.code == "CONV_2D")
    tensors = list(graph.tensors)
    tensors[at] = replace(tensors[at], data=np.zeros((*tensors[at].shape[:-1], 2), np.int8), shape=(1,))
    assert refit.of(fewer) is None
    assert refit.of(graph.with_main(tensors=tuple(tensors))) is None


@pytest.mark.parametrize("name", ["classifier", "int8 layers", "uint8 residual", "shared weights and bias"])
def test_biases_settle_alike_in_one_pass_and_in_many(name, monkeypatch):
    """Layer after layer in one pass is what running the model anew for each layer gives."""
    graph = GRAPHS[name]()
    real = reconstruct(graph)
    inputs = inputs_of(graph, 7) if name in MODELS else [tuple(a for a in x) for x in inputs_of(graph, 7)]
    inputs = [tuple(a.astype(np.float32) for a in x) for x in inputs]
    matched = layers(graph, real)
    met = outputs_means(real, [layer.wanted for layer in matched], inputs)
    wanted = {layer.op: met[layer.wanted] + 0.05 for layer in matched}
    once = settle(graph, matched, wanted, inputs)
    monkeypatch.setattr(stepping, "WALK_BYTES", 0)
    often = settle(graph, matched, wanted, inputs)
    assert write(once) == write(often) != write(graph)


@pytest.mark.parametrize("name", ["classifier", "int8 layers", "uint8 residual"])
def test_remembered_forms_show_what_a_plan_of_their_own_shows(name):
    """A stepper of a form whose plan is remembered plans nothing, and shows the same bits."""
    graph = GRAPHS[name]()
    forms = stepping.Forms()
    forms.of(graph)
    inputs = [encode(graph, x) for x in inputs_of(graph, 3)] if name in MODELS else inputs_of(graph, 3)
    for other in others(graph, 3)[:3]:
        forms.remember(other)
        ready, anew = stepping.Stepper(other), stepping.Stepper(replace(other))
        assert not ready.plan.instructions
        assert anew.plan.instructions
        given = inputs[: min(ready.lanes, anew.lanes)]
        for (i, found), (j, wanted) in zip(ready.run(given), anew.run(given), strict=True):
            assert i == j
            np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("name", ["classifier", "int8 layers"])
def test_biases_settle_alike_where_the_beginning_is_large(name, monkeypatch):
    """Samples that go through the beginning one by one, and side by side from where images are small, settle the same biases."""
    graph = GRAPHS[name]()
    real, inputs = reconstruct(graph), [tuple(a.astype(np.float32) for a in x) for x in inputs_of(graph, 7)]
    matched = layers(graph, real)
    met = outputs_means(real, [layer.wanted for layer in matched], inputs)
    wanted = {layer.op: met[layer.wanted] + 0.05 for layer in matched}
    once = settle(graph, matched, wanted, inputs)
    alone = set()
    for share in (0.4, 0.6, 0.8):
        forms = stepping.Forms()
        arena = forms.of(graph).plan.arena_bytes
        monkeypatch.setattr(stepping, "WALK_BYTES", int(7 * (share * arena + stepping.SCRATCH_BYTES)))
        try:
            walk = stepping.Walk(graph, forms, 7, {layer.output for layer in matched})
        except OtherLayoutError:  # it does not become small before the end
            continue
        alone.add(walk._alone)
        assert write(settle(graph, matched, wanted, inputs, forms)) == write(once)
    assert alone - {0}
