"""Running operation by operation, samples side by side, in planned memory."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest
from control_models import conditional
from quantize_models import MODELS, Net, classifier, inputs_of
from test_frames import NETWORKS, network

from edgeq.calibrate import observe, thinned
from edgeq.engine import Tracer
from edgeq.feed import encode
from edgeq.graph import Graph
from edgeq.quantize import quantize
from edgeq.quantize.settle import channel_means
from edgeq.records import replace
from edgeq.stepping import Stepper


def integer() -> Graph:
    """An int8 model."""
    graph = classifier()
    return quantize(graph, inputs_of(graph)).graph


def reshaped() -> Graph:
    """A model whose first tensor is its input under another shape: nothing is computed for it."""
    net = Net((1, 64))
    return net.graph(net.conv(net.reshape(0, 1, 4, 4, 4), 8))


CASES = {**MODELS, "int8": integer, "conditional": conditional, "reshaped": reshaped}


@pytest.mark.parametrize("lanes", [3, 5])
@pytest.mark.parametrize("name", CASES)
def test_every_tensor_is_shown(name, lanes, monkeypatch):
    """Each tensor is shown once, with the values that a run which keeps everything gives on every sample, however many go side by
    side: in all lanes, in some of them or alone."""
    monkeypatch.setattr("edgeq.stepping.LANES", lanes)
    graph = CASES[name]()
    stepper, trace = Stepper(graph), Tracer(graph)
    inputs = [encode(graph, x) for x in inputs_of(graph, 7)]
    for start in range(0, len(inputs), stepper.lanes):
        some = inputs[start : start + stepper.lanes]
        shown = [(i, np.array(v)) for i, v in stepper.run(some)]
        found = dict(shown)
        assert len(found) == len(shown)
        for k, x in enumerate(some):
            wanted = trace.run(x)
            assert set(found) == set(wanted)
            for i, v in wanted.items():
                np.testing.assert_array_equal(found[i][k], v.reshape(-1))


@pytest.mark.parametrize("name", NETWORKS)
def test_tensors_in_frames_are_shown(name):
    """What lies in a frame is shown row by row, with the values that it has where it lies in one piece."""
    graph = network(name, "float32")
    rng, shape = np.random.default_rng(1), graph.tensors[graph.inputs[0]].shape
    some = [(rng.normal(size=shape).astype(np.float32),) for _ in range(2)]
    watched = {i for i, t in enumerate(graph.tensors) if t.data is None}
    once = Stepper.once(graph, watched)
    step, whole = once.twin(), Stepper(graph)
    assert set(step.plan.framed) == {i for i in watched if i not in step.plan.places} - set(graph.inputs)
    for x in some:
        found = {i: np.array(v) for i, v in step.run([x])}
        wanted = {i: np.array(v) for i, v in whole.run([x])}
        assert set(found) == set(wanted) == watched
        for i, values in wanted.items():
            assert (found[i].ndim == 3) == (i in step.plan.framed)
            np.testing.assert_array_equal(found[i].reshape(1, -1), values)
            np.testing.assert_array_equal(thinned(found[i], 7, 3), values[:, 3::7])
            channels = graph.tensors[i].shape[-1]
            split = found[i].reshape(*found[i].shape[:-1], -1, channels)
            np.testing.assert_array_equal(channel_means(split), channel_means(values.reshape(1, -1, channels)))


def test_frames_are_shown_at_all():
    """The test before does meet tensors in frames."""
    graph = network("rows that tiles fit nearly", "float32")
    assert Stepper.once(graph, {i for i, t in enumerate(graph.tensors) if t.data is None}).plan.framed


def test_a_graph_is_planned_once():
    """Steppers of one graph share its plan, whatever they show, and the plan goes with the graph."""
    graph = classifier()
    plan = Stepper(graph).plan
    assert Stepper(graph, []).plan is plan
    assert Stepper(graph, rounding="tflite").plan is not plan
    assert Stepper(replace(graph)).plan is not plan
    kept = weakref.ref(plan)
    del graph, plan
    gc.collect()
    assert kept() is None


def test_memory_is_planned():
    """Tensors share an arena that is smaller than all of them."""
    graph = classifier()
    stepper = Stepper(graph)
    assert stepper.plan.arena_bytes < 4 * sum(t.size for t in graph.tensors if t.data is None)


def test_threads_change_nothing(monkeypatch):
    """Ranges are the same, averages too, whatever the number of threads."""
    graph = classifier()
    inputs = inputs_of(graph, 70)
    monkeypatch.setattr("edgeq.calibrate.LEAST_NS", 0)
    monkeypatch.setattr("edgeq.calibrate.CALL_NS", 0)
    monkeypatch.setattr("edgeq.calibrate.processors", lambda: 3)
    several = observe(graph, inputs)
    monkeypatch.setattr("edgeq.calibrate.processors", lambda: 1)
    one = observe(graph, inputs)
    assert several.samples == one.samples == 70
    for i, h in one.histograms.items():
        other = several.histograms[i]
        assert (h.minimum, h.maximum, h.width, h.average) == (other.minimum, other.maximum, other.width, other.average)
        np.testing.assert_array_equal(h.counts, other.counts)
