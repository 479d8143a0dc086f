"""What an integer model is held against while it is tuned: float models that its codes leave open, and what they tell."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from quantize_models import MODELS, classifier, inputs_of
from test_quantize_recalibrate import loosely_quantized

from edgeq.graph import Graph
from edgeq.histogram import Histogram
from edgeq.pieces import whole
from edgeq.quantize import guide as guide_module
from edgeq.quantize import recalibrate, search
from edgeq.quantize.cells import drawn
from edgeq.quantize.compare import judge_by, judged
from edgeq.quantize.guide import Guide, guide_by
from edgeq.quantize.parameters import Rewritten
from edgeq.quantize.reconstruct import reconstruct
from edgeq.quantize.remainders import without
from edgeq.quantize.rescale import rescale, scales
from edgeq.quantize.search import Search
from edgeq.quantize.settle import layers, steady


def guide_of(graph: Graph, models: list[Graph] | None = None, count: int = 24) -> Guide:
    real = reconstruct(graph)
    inputs = inputs_of(classifier(), count, seed=5)
    matched = layers(graph, real)
    told = drawn(graph, whole(real)) if models is None else map(whole, models)
    return guide_by(graph, judged(real), whole(real), told, matched, inputs[::4], inputs[1::4])


@pytest.mark.parametrize("name", ["classifier", "shared weights and bias"])
def test_drawn_models_round_to_the_same_codes(name):
    """Each drawn weight lies in the cell of its code, no two models are the same, and all else is as the codes say."""
    graph = loosely_quantized(MODELS[name]())
    real = reconstruct(graph)
    models = [model.graph for model in drawn(graph, whole(real), 3)]
    moved = [i for i, (a, b) in enumerate(zip(real.tensors, models[0].tensors, strict=True)) if a is not b]
    assert moved
    for i in moved:
        q, codes = graph.tensors[i].quantization, graph.tensors[i].data
        shape = [1] * codes.ndim
        shape[q.axis] = len(q.scale)
        for model in models:
            found = model.tensors[i].data / q.scale.reshape(shape) + q.zero_point.reshape(shape)
            assert np.abs(found - codes).max() <= 0.5 + 1e-4
        assert not np.array_equal(models[0].tensors[i].data, models[1].tensors[i].data)
    again = next(drawn(graph, whole(real))).graph
    assert all(np.array_equal(again.tensors[i].data, models[0].tensors[i].data) for i in moved)


def test_weights_that_are_not_coded_are_known():
    """Of a model with float weights there is one."""
    graph = classifier()
    real = whole(graph)
    assert list(drawn(graph, real)) == [real]


def test_the_risk_of_a_change():
    """What clearly helps is without risk, the way back is certain harm, and no change is neither."""
    before = loosely_quantized(classifier())
    done = recalibrate(before, inputs_of(classifier(), 80, seed=2), settle_biases=False)
    guide = guide_of(before)
    assert done.changed
    assert guide.risk(before, done.graph) < 0.02
    assert guide.risk(done.graph, before) > 0.98
    assert guide.risk(before, before) == 0.0


def test_weights_that_were_trained_as_codes_are_known(monkeypatch):
    """Where rounding would have cost the weights more than anybody ships, what the codes stand for decides alone."""
    before = loosely_quantized(classifier())
    done = recalibrate(before, inputs_of(classifier(), 80, seed=2), settle_biases=False)
    guide = guide_of(before)
    assert 0.0 < guide.left_open < guide_module.TRAINED
    astray = replace(guide, said=[tuple(-a for a in said) for said in guide.told(32)])
    assert astray.left_open > 1.0
    assert (astray.risk(before, done.graph), astray.risk(done.graph, before)) == (0.0, 1.0)


def test_of_one_teacher_the_risk_is_known():
    """A single model leaves nothing open: a change is for the better or not."""
    before = loosely_quantized(classifier())
    done = recalibrate(before, inputs_of(classifier(), 80, seed=2), settle_biases=False)
    guide = guide_of(before, [reconstruct(before)])
    assert (guide.risk(before, done.graph), guide.risk(done.graph, before)) == (0.0, 1.0)


def test_what_may_do_harm_is_not_kept(monkeypatch):
    """A change whose risk is above the limit is refused, with the figures; the model comes back as it was."""
    monkeypatch.setattr(Guide, "risk", lambda *_: 0.26)
    before = loosely_quantized(classifier())
    done = recalibrate(before, inputs_of(classifier(), 80, seed=2))
    assert not done.changed
    assert done.graph is before
    assert "worse with a chance of 26%, and 10% is the most" in done.steps[-1]
    assert done.error_after == done.error_before


@pytest.mark.parametrize(
    ("name", "errors", "low", "high"),
    [
        ("the same on every sample", [[0.5], [0.5], [0.5]], 0.5, 0.5),
        ("none", [[0.0], [0.0]], 0.0, 0.0),
        ("as often up as down", [[1.0], [-1.0], [1.0], [-1.0]], 0.0, 0.0),
        ("of one sample in many", [[1.0]] + 15 * [[0.0]], 0.0, 0.01),
    ],
)
def test_biases_take_off_what_is_steady(name, errors, low, high):
    """An error that is always there is taken off whole, one that comes and goes hardly."""
    (moved,) = steady(np.array(errors))
    assert low <= moved <= high, name


def test_slack_is_limited():
    """Ranges are widened towards what is to be expected as far as a share of the gain pays for, and no further."""
    graph = loosely_quantized(classifier())
    free = scales(graph)
    inputs = inputs_of(classifier(), 40)
    real = reconstruct(graph)
    place = {i: i for i, t in enumerate(graph.tensors) if t.data is None}
    judge = replace(judge_by(real, inputs), targets=tuple(judged(real)))
    looking = Search(lambda at: Rewritten(rescale(graph, free, at), dict(place), {}), judge)
    seen = recalibrate(without(graph), inputs).observed.histograms
    tight = {}
    for group, members in free.free().items():
        h = Histogram()
        for i in members:
            h = h.merge(seen[i])
        tight[group] = h.minmax()
    found = looking.candidate("tight", tight)
    far = {g: (1.5 * a, 1.5 * b) for g, (a, b) in tight.items()}
    none = looking.with_slack(found, far, found.error)
    assert none.error <= found.error  # nothing was gained: nothing is to spend
    some = looking.with_slack(found, far, 10 * found.error)
    assert found.error < some.error <= search.MOST_SLACK * found.error
    assert all(some.spans[g][1] >= tight[g][1] and some.spans[g][0] <= tight[g][0] for g in tight)
    assert some.spans != tight
    lab = {g: (1.05 * a, 1.05 * b) for g, (a, b) in tight.items()}
    kept = looking.with_slack(found, tight, 10 * found.error, lab)
    assert all(kept.spans[g][1] >= lab[g][1] and kept.spans[g][0] <= lab[g][0] for g in tight)
    far_lab = {g: (100.0 * a, 100.0 * b) for g, (a, b) in tight.items()}
    one = frozenset(list(tight)[-1:])
    assert (
        looking.with_slack(found, tight, found.error, far_lab, one).spans == tight
    )  # it would cost, and nothing was gained
