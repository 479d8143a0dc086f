"""Plans whose constants are filled in: the same bits as a plan made from nothing."""

from __future__ import annotations

import numpy as np
import pytest
from quantize_models import MODELS, classifier, inputs_of
from tflite_models import int8_cnn, uint8_residual

from edgeq.graph import Graph
from edgeq.machine import get
from edgeq.pieces import whole
from edgeq.plan import make_plan, repack
from edgeq.plan.repack import Repack
from edgeq.plan.types import Rounding
from edgeq.quantize import quantize
from edgeq.quantize.cells import drawn
from edgeq.quantize.reconstruct import reconstruct
from edgeq.records import replace
from edgeq.trials import Trials

GRAPHS = {
    **{name: lambda name=name: quantize(MODELS[name](), inputs_of(MODELS[name](), 8)).graph for name in MODELS},
    "int8 layers": int8_cnn,
    "uint8 residual": uint8_residual,
}


def repacked(graph: Graph) -> Repack:
    isa = get().isa
    return Repack(graph, make_plan(graph, isa), isa, Rounding.XNNPACK)


@pytest.mark.parametrize("name", GRAPHS)
def test_the_same_plan_as_one_of_its_own(name):
    """Models that are drawn one after another get the plans, byte for byte, that planning each of them gives."""
    graph = GRAPHS[name]()
    models = [model.graph for model in drawn(graph, whole(reconstruct(graph)), 4)]
    first = repacked(models[0])
    for model in models[1:]:
        found, alone = first.of(model), make_plan(model, get().isa)
        if found is not None:
            np.testing.assert_array_equal(found.constants, alone.constants)
            np.testing.assert_array_equal(found.table, alone.table)


@pytest.mark.parametrize("name", ["classifier", "int8 layers", "uint8 residual"])
def test_ordinary_models_are_filled_in(name):
    """Layers of products need planning twice, however many models are drawn."""
    graph = GRAPHS[name]()
    models = [model.graph for model in drawn(graph, whole(reconstruct(graph)), 3)]
    first = repacked(models[0])
    assert all(first.of(model) is not None for model in models)


def test_answers_of_one_model_after_another():
    """Trials of drawn models say what trials of each alone say."""
    graph = GRAPHS["classifier"]()
    inputs = [tuple(a.astype(np.float32) for a in x) for x in inputs_of(graph, 5)]
    trials = Trials(graph.outputs, inputs)
    for model in (one.graph for one in drawn(graph, whole(reconstruct(graph)), 5)):
        for a, b in zip(trials.answers(model, checked=True), Trials(graph.outputs, inputs).answers(model), strict=True):
            np.testing.assert_array_equal(a, b)


def other_structure(graph: Graph) -> Graph:
    return graph.with_main(ops=(*graph.ops[:-1], replace(graph.ops[-1])))


def other_shape(graph: Graph) -> Graph:
    i = graph.inputs[0]
    t = replace(graph.tensors[i], name="renamed")
    return graph.with_main(tensors=(*graph.tensors[:i], t, *graph.tensors[i + 1 :]))


def own_numbers(graph: Graph) -> Graph:
    """A weight that is, by chance, the number that stands for it."""
    i = next(op.inputs[1] for op in graph.ops if op.code == "CONV_2D")
    data = np.asarray(graph.tensors[i].data).copy()
    data.reshape(-1)[0] = 1.0
    return graph.with_main(tensors=(*graph.tensors[:i], replace(graph.tensors[i], data=data), *graph.tensors[i + 1 :]))


@pytest.mark.parametrize("case", [other_structure, other_shape])
def test_other_graphs_are_not_filled_in(case):
    """A graph that differs in more than the values of constants has no such plan."""
    graph = classifier()
    assert repacked(graph).of(case(graph)) is None


def test_what_cannot_be_told_apart_is_planned():
    """A value that looks like its number, and more values than MOST, are planned as any others."""
    graph = own_numbers(classifier())
    moved = own_numbers(graph.with_main(tensors=tuple(graph.tensors)))
    assert repacked(graph).of(moved) is None


def test_many_values_are_planned(monkeypatch):
    """Where there are more values than MOST, planning is cheaper than what knowing their places takes."""
    monkeypatch.setattr(repack, "MOST", 8)
    graph = quantize(classifier(), inputs_of(classifier(), 8)).graph
    one, other = (model.graph for model in drawn(graph, whole(reconstruct(graph)), 2))
    assert repacked(one).of(other) is None
