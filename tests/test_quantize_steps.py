"""The quantizer's steps, one by one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from engine_models import conv, dense, depthwise
from hypothesis import given
from hypothesis import strategies as st
from quantize_models import MODELS, Net, answers, classifier, inputs_of, sqnr

from edgeq.calibrate import calibrate, observe, sparse, tracer
from edgeq.graph import Graph, Quantization
from edgeq.quantize import quantize, refine, run, search
from edgeq.quantize.bias import correct, mean_inputs
from edgeq.quantize.canonical import fold_dequantize, fold_weights, fuse_activations, prune, real
from edgeq.quantize.compare import CEILING, compare, compare_with, decibels, elements, judge_by, judged
from edgeq.quantize.job import Job
from edgeq.quantize.layout import arrange
from edgeq.quantize.parameters import Rewritten, histograms, parameters
from edgeq.quantize.probe import runs
from edgeq.quantize.reconstruct import reconstruct
from edgeq.quantize.refine import refined, spans
from edgeq.quantize.rewrite import rewrite
from edgeq.quantize.search import Search
from edgeq.quantize.steps import _answers
from edgeq.quantize.weights import INT32_MAX, MOST_MULTIPLIER, Coded, quantize_bias, quantize_weights
from edgeq.recipe import RECIPES
from edgeq.stepping import Stepper

# --- weights and biases -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("shape", "axis"), [((5, 7), 0), ((4, 3, 3, 2), 0), ((1, 3, 3, 6), 3)])
@pytest.mark.parametrize("per_channel", [True, False])
def test_weights_round_to_the_nearest_code(shape, axis, per_channel):
    """Codes times scale is within half a step of every weight, and the largest weight is 127 steps."""
    w = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    coded, bias = quantize_weights(w, axis, None, 0.02, 0.05, per_channel)
    assert bias is None
    assert coded.data.dtype == np.int8
    assert coded.scale.shape == ((shape[axis],) if per_channel else (1,))
    around = [1] * w.ndim
    around[axis] = -1
    step = coded.scale.reshape(around) if per_channel else coded.scale
    assert (np.abs(coded.data * step - w) <= step / 2 * (1 + 1e-5)).all()
    assert np.abs(coded.data).max() == 127


def test_bias_counts_in_the_accumulators_unit():
    """A bias is the nearest whole number of s_in · s_w."""
    s_w = np.float32([0.5, 0.001])
    coded = quantize_bias(np.float32([1.0, -0.3]), 0.01, s_w)
    assert coded.data.tolist() == [200, -30000]
    np.testing.assert_array_equal(coded.scale, np.float32(0.01) * s_w)


def test_a_bias_too_large_for_int32_widens_its_channel():
    """Tiny weights beside a large bias get a larger scale, so that the bias fits; other channels keep theirs."""
    w = np.float32([[1e-9, 2e-9], [0.5, -0.25]])
    coded, bias = quantize_weights(w, 0, np.float32([1000.0, 0.1]), 0.01, 0.1)
    assert np.abs(bias.data.astype(np.int64)).max() + 2 * 127 * 255 <= INT32_MAX
    np.testing.assert_allclose(bias.data * bias.scale, [1000.0, 0.1], rtol=1e-4)
    assert coded.scale[1] == pytest.approx(0.5 / 127)


def test_codes_made_before_stay_beside_a_channel_that_needs_another_scale():
    """Of codes made before, those of a channel whose scale is too small are told in a larger one, all others stay."""
    w = np.float32([[0.5, -1.0], [0.0, 0.0], [3e-9, 1e-9]])
    known = Coded(np.int8([[60, -127], [0, 0], [127, 42]]), np.float32([1 / 127, 1e-30, 3e-9 / 127]), 0)
    bias = np.float32([0.1, 5.0, 5.0])
    coded, counted = quantize_weights(w, 0, bias, 0.1, 0.1, known=known)
    assert coded.data.tolist() == [[60, -127], [0, 0], [0, 0]]
    assert coded.scale[0] == known.scale[0]
    assert counted is not None
    np.testing.assert_allclose(counted.data * counted.scale.astype(float), bias, rtol=1e-3)


def test_a_channel_without_weights():
    """A channel of zeros has codes of zero and a bias as fine as the output can show."""
    coded, bias = quantize_weights(np.zeros((2, 3), np.float32), 0, np.float32([0.7, 0.0]), 0.02, 0.05)
    assert not coded.data.any()
    assert abs(bias.data[0] * bias.scale[0] - 0.7) < 0.05 / 1000
    assert (coded.scale > 0).all()


def test_a_narrow_output_is_widened_for_its_multiplier():
    """Where weights are large beside the output, the output's scale keeps s_in · s_w / s_out in XNNPACK's reach."""
    net = Net((1, 4))
    w = np.float32([[1e4, -1e4, 0, 0], [0, 0, 1e4, -1e4]])
    graph = net.graph(net.dense(0, 2, w=net.const(w), b=net.const(np.zeros(2, np.float32))))
    same = np.ones((8, 4), np.float32)  # every output is 0 on these
    same[::2] += np.float32([1e-5, 0, 1e-5, 0])
    layout = arrange(graph)
    seen = histograms(graph, layout, calibrate(graph, same))
    found = parameters(graph, layout, spans(seen, "minmax"))
    s_in, s_out = (found[i].scale for i in (graph.inputs[0], graph.outputs[0]))
    assert s_in * 1e4 / 127 / s_out <= MOST_MULTIPLIER * (1 + 1e-6)


# --- canonical forms ----------------------------------------------------------------------------------------------------


def values_of(graph: Graph, x) -> list:
    run = tracer(graph)
    values = run(x)
    return [np.array(values[i]) for i in graph.outputs]


@pytest.mark.parametrize("name", ["float16 weights", "RELU apart"])
def test_canonical_steps_change_no_value(name):
    """Folding and fusing keep every output, bit for bit."""
    graph = MODELS[name]()
    plain = prune(fuse_activations(fold_dequantize(graph)))[0]
    assert len(plain.ops) < len(graph.ops)
    for x in inputs_of(graph, 4):
        for a, b in zip(values_of(graph, x), values_of(plain, x), strict=True):
            np.testing.assert_array_equal(a, b)


def test_dynamic_range_weights_become_their_real_values():
    """int8 weights of a float layer become scale · code, in float32."""
    graph = MODELS["dynamic range"]()
    w = graph.tensors[1]
    folded = fold_weights(graph).tensors[1]
    assert folded.dtype == "float32"
    np.testing.assert_array_equal(folded.data, w.data * w.quantization.scale[:, None])


def test_real_values_of_a_wide_bias():
    """An int32 code beyond float32's 24 bits is multiplied before it is rounded."""
    graph = dense("int8")
    bias = replace(graph.tensors[2], data=np.full(21, 2**31 - 1, np.int32), quantization=graph.tensors[0].quantization)
    s = float(bias.quantization.scale[0])
    assert real(replace(bias, quantization=replace(bias.quantization, zero_point=np.zeros(1, np.int64))))[
        0
    ] == np.float32(s * (2**31 - 1))


def test_prune_renumbers():
    """Unused tensors go; what stays keeps its order, its name, and its place in signatures."""
    graph = MODELS["two inputs, two outputs, a signature"]()
    extra = (replace(graph.tensors[3], name="unused"), *graph.tensors)
    moved = Graph(
        (
            replace(
                graph.main,
                tensors=extra,
                ops=tuple(
                    replace(op, inputs=tuple(i + 1 for i in op.inputs), outputs=tuple(i + 1 for i in op.outputs))
                    for op in graph.ops
                ),
                inputs=tuple(i + 1 for i in graph.inputs),
                outputs=tuple(i + 1 for i in graph.outputs),
            ),
        ),
        signatures=tuple(
            replace(s, inputs=tuple((n, i + 1) for n, i in s.inputs), outputs=tuple((n, i + 1) for n, i in s.outputs))
            for s in graph.signatures
        ),
    )
    pruned, place = prune(moved)
    assert [t.name for t in pruned.tensors] == [t.name for t in graph.tensors]
    assert place[1] == 0
    assert pruned.signatures == graph.signatures


# --- comparing ----------------------------------------------------------------------------------------------------------


@given(st.floats(1e-10, 1e10), st.floats(1e-10, 1e10))
def test_decibels(signal, noise):
    """10·log₁₀ of the ratio, with a ceiling for no noise."""
    assert decibels(signal, noise) == pytest.approx(np.clip(10 * np.log10(signal / noise), -CEILING, CEILING))
    assert decibels(signal, 0.0) == CEILING
    assert decibels(0.0, noise) == -CEILING


def test_a_graph_compared_with_itself():
    """There is no noise, and the judge finds no error."""
    graph = classifier()
    inputs = inputs_of(graph, 3)
    place = {i: i for i, t in enumerate(graph.tensors) if t.data is None}
    found = compare(graph, graph, place, inputs)
    assert {found.sqnr(i) for i in place} == {CEILING}
    assert judge_by(graph, inputs).error(graph, place) == 0.0


@pytest.mark.parametrize("seen", [7, 8192])
def test_a_comparison_with_what_is_known(seen, monkeypatch):
    """Where it is known what the float graph says, the integer graph alone runs, and the sums are the same."""
    monkeypatch.setattr("edgeq.quantize.compare.SEEN", seen)
    coded = quantize(classifier(), inputs_of(classifier())).graph
    graph, inputs = reconstruct(coded), inputs_of(classifier(), 3)
    place = {i: i for i, t in enumerate(graph.tensors) if t.data is None}
    most = elements(graph, place, seen)
    said = {i: np.stack([sparse(row, most[i]) for row in v]) for i, v in Stepper(graph, list(place)).run(inputs)}
    wanted, found = compare(graph, coded, place, inputs), compare_with(graph, coded, place, inputs, said)
    assert found.signal == wanted.signal
    assert found.noise == wanted.noise


def test_the_judge_measures_noise_per_signal():
    """The error is Σ(x̂ − x)² / Σx² of the outputs over all inputs."""
    graph = dense("float32", out=3)
    inputs = inputs_of(graph, 4)
    w = graph.tensors[1]
    other = graph.with_main(
        tensors=tuple(replace(t, data=t.data * np.float32(1.01)) if t is w else t for t in graph.tensors)
    )
    wanted, found = (np.concatenate([y[0].ravel() for y in answers(g, inputs)]) for g in (graph, other))
    expected = ((found - wanted) ** 2).sum() / (wanted**2).sum()
    place = {i: i for i, t in enumerate(graph.tensors) if t.data is None}
    assert judge_by(graph, inputs).error(other, place) == pytest.approx(expected, rel=1e-5)


def test_what_is_judged():
    """Scores that go into a softmax are judged in its place, and what goes into a LOGISTIC; other outputs as they are."""
    graph = classifier()
    assert [graph.tensors[i].name[:5] for i in judged(graph)] == ["fully"]
    two = MODELS["two inputs, two outputs, a signature"]()
    assert judged(two) == list(two.outputs)


# --- bias correction ----------------------------------------------------------------------------------------------------


LAYERS = {
    "conv, same, stride 2": lambda: conv("float32", sh=2, sw=2),
    "conv, valid, dilated": lambda: conv("float32", h=11, w=10, same=False, dh=2, dw=3),
    "conv in groups": lambda: conv("float32", c=6, out=12, groups=3),
    "conv, two images": lambda: conv("float32", n=2),
    "conv whose window exceeds the image": lambda: conv("float32", h=2, w=3, kh=5, kw=5),
    "depthwise": lambda: depthwise("float32", act=0),
    "depthwise, multiplier 3": lambda: depthwise("float32", c=5, mult=3, act=0),
    "dense": lambda: dense("float32", m=3),
}


def coarse(graph: Graph) -> Graph:
    """A layer with weights on a coarse grid and its bias on a fine one, between float activations."""
    w, b = graph.tensors[1], graph.tensors[2]
    axis = 3 if graph.ops[0].code == "DEPTHWISE_CONV_2D" else 0
    step = np.full(w.shape[axis], 0.25, np.float32)
    fine = np.full(b.shape, 1e-6, np.float32)
    zero = np.zeros(len(step), np.int64)
    codes = np.rint(w.data / step[0]).astype(np.int8)
    tensors = list(graph.tensors)
    tensors[1] = replace(w, dtype="int8", data=codes, quantization=Quantization(step, zero, axis))
    tensors[2] = replace(
        b, dtype="int32", data=np.rint(b.data / 1e-6).astype(np.int32), quantization=Quantization(fine, zero)
    )
    return graph.with_main(tensors=tuple(tensors))


def as_floats(graph: Graph) -> Graph:
    """The same graph with its constants as the reals that they stand for."""
    tensors = (
        t if t.data is None else replace(t, dtype="float32", data=real(t), quantization=None) for t in graph.tensors
    )
    return graph.with_main(tensors=tuple(tensors))


@pytest.mark.parametrize("name", LAYERS)
def test_bias_correction_removes_each_channels_mean_error(name):
    """With coarse weights alone, the mean error of each output channel goes to zero."""
    graph = LAYERS[name]()
    inputs = inputs_of(graph, 6, seed=3)
    inputs = [(np.abs(x),) for (x,) in inputs]  # not centred: there is a mean to move
    coded = coarse(graph)
    corrected = correct(graph, coded, {0: 0}, mean_inputs(graph, inputs))

    def mean_error(g: Graph) -> float:
        wanted, found = (np.stack([y[0] for y in answers(h, inputs)]) for h in (graph, as_floats(g)))
        return float(np.abs((found - wanted).mean(axis=tuple(range(wanted.ndim - 1)))).max())

    assert mean_error(coded) > 0.02
    assert mean_error(corrected) < 1e-4


# --- the search ---------------------------------------------------------------------------------------------------------


def searching(graph: Graph, inputs) -> tuple[Search, dict, dict]:
    layout = arrange(graph)
    seen = histograms(graph, layout, calibrate(graph, inputs))

    def make(chosen) -> Rewritten:
        return rewrite(graph, layout, parameters(graph, layout, chosen))

    return Search(make, judge_by(graph, inputs)), seen, spans(seen, "minmax")


def test_refinement_lowers_the_error(monkeypatch):
    """From spans that are far too wide, refinement comes closer, and says what it did."""
    search_, seen, start = searching(classifier(), inputs_of(classifier()))
    monkeypatch.setattr(refine, "BUDGET", 1e9)
    bad = search_.candidate("wide", {g: (3 * a, 3 * b) for g, (a, b) in start.items()})
    better = refined(search_, bad, search.noisiest(seen, bad.spans))
    assert better.error < 0.7 * bad.error
    assert f"refined ranges, {len(start) * sum(map(len, refine.FACTORS))} tries" in better.steps[-1]


def test_refinement_has_a_budget(monkeypatch):
    """Without budget nothing is tried and nothing changes."""
    monkeypatch.setattr(refine, "BUDGET", 1)
    search_, _, start = searching(classifier(), inputs_of(classifier(), 4))
    found = search_.candidate("as it is", start)
    assert refined(search_, found, list(start)).spans == found.spans


def with_large_ones(graph: Graph) -> list[tuple[np.ndarray, ...]]:
    """48 inputs, of which every eighth, never one that is held back, reaches eight times as far."""
    return [tuple((8 if k % 8 == 0 else 1) * a for a in x) for k, x in enumerate(inputs_of(graph, 48))]


def test_ranges_are_judged_by_all_samples(monkeypatch):
    """Large samples of which none is held back are not clipped for the sake of those that are."""
    graph = dense("float32", k=12)
    inputs = with_large_ones(graph)
    wanted, found = answers(graph, inputs[::8]), []
    for values in (0, run.JUDGED):
        monkeypatch.setattr(run, "JUDGED", values)
        found.append(min(sqnr(wanted, answers(quantize(graph, inputs).graph, inputs[::8]))))
    assert found[1] > found[0] + 3, found


@pytest.mark.parametrize(("values", "seen"), [(1e9, 24), (16_000, 12), (11_000, 6), (0, 6)])
def test_a_judge_of_ranges_has_a_budget(values, seen, monkeypatch):
    """Ranges are judged by all inputs, by as many as the budget leaves, or by those held back where that is hardly more."""
    graph = classifier()
    inputs = inputs_of(graph, 24)
    each = sum(t.size for t in graph.tensors if t.data is None)
    monkeypatch.setattr(run, "JUDGED", values * each / 1000)
    assert len(run._whole(graph, inputs, judge_by(graph, inputs[1::4])).inputs) == seen


def test_headroom_is_bought_with_spare_precision_only(monkeypatch):
    """A model more precise than is enough gets the widest ranges that leave it so; one that is not keeps its own."""
    search_, _, start = searching(dense("float32", k=3), inputs_of(dense("float32", k=3), 60))
    tight = search_.candidate("tight", start)
    errors = {
        f: search_.candidate("wide", {g: (f * a, f * b) for g, (a, b) in start.items()}).error for f in (1.25, 1.5, 2)
    }
    assert tight.error < errors[1.25] < errors[1.5] < errors[2]
    monkeypatch.setattr(search, "ENOUGH", (errors[1.5] + errors[2]) / 2)
    wide = search_.with_headroom(tight, start)
    assert wide.error == errors[1.5]
    assert all(wide.spans[g] == (1.5 * a, 1.5 * b) for g, (a, b) in start.items())
    assert search_.with_headroom(tight, start, most=(errors[1.25] + errors[1.5]) / 2).error == errors[1.25]
    monkeypatch.setattr(search, "ENOUGH", tight.error)
    assert search_.with_headroom(tight, start).error <= (1 + search.SPENT) * tight.error
    monkeypatch.setattr(search, "SPENT", 0.0)
    assert search_.with_headroom(tight, start) is tight


def test_outputs_have_room_of_their_own(monkeypatch):
    """Where nothing is to spare for all tensors, outputs alone are widened as far as a tenth of the noise goes."""
    graph = dense("float32", k=3)
    search_, _, start = searching(graph, inputs_of(graph, 60))
    tight = search_.candidate("tight", start)
    group = max(start)
    errors = {
        f: search_.candidate("wide", {**start, group: tuple(f * v for v in start[group])}).error for f in (1.25, 1.5)
    }
    monkeypatch.setattr(search, "SPENT", (errors[1.25] + errors[1.5]) / 2 / tight.error - 1)
    wide = search_.with_room(tight, {group: start[group]})
    assert wide.spans == {**start, group: tuple(1.25 * v for v in start[group])}
    monkeypatch.setattr(search, "SPENT", -0.5)
    assert search_.with_room(tight, {group: start[group]}) is tight
    assert search_.with_room(tight, {}) is tight


@pytest.mark.parametrize("squashed", [False, True])
def test_scores_behind_a_softmax_need_no_room(squashed):
    """The outputs that are told as they are have room of their own; what a softmax is made of has none."""
    net = Net((1, 16))
    last = net.dense(0, 8)
    graph = net.graph(net.softmax(last) if squashed else last)
    inputs = inputs_of(graph, 16)
    layout = arrange(graph, RECIPES["int8"], runs)
    seen = histograms(graph, layout, observe(graph, inputs))
    job = Job(graph, layout, seen, RECIPES["int8"], inputs)
    assert _answers(job) == ([] if squashed else [layout.groups[last]])


def test_headroom_answers_values_beyond_calibration():
    """With headroom, inputs a half larger than any seen are answered better than without."""
    rng = np.random.default_rng(0)
    net = Net((1, 16))
    graph = net.graph(net.dense(0, 8))
    search_, _, start = searching(graph, [(rng.uniform(-1, 1, (1, 16)).astype(np.float32),) for _ in range(64)])
    tight = search_.candidate("tight", start)
    wide = search_.candidate("wide", {g: (1.5 * a, 1.5 * b) for g, (a, b) in start.items()})
    beyond = [(rng.uniform(-1.5, 1.5, (1, 16)).astype(np.float32),) for _ in range(64)]
    wanted = answers(graph, beyond)
    a, b = (next(sqnr(wanted, answers(c.done.graph, beyond))) for c in (tight, wide))
    assert b > a + 6
