"""Tuning a quantized model on local samples: what changes, what stays, and when nothing does."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import engine_models
import numpy as np
import pytest
from control_models import counter
from quantize_models import MODELS, answers, classifier, inputs_of, peer_answers, runtimes, sqnr
from tflite_models import int8_cnn, uint8_residual

from edgeq.check import check
from edgeq.errors import QuantizeError
from edgeq.feed import encode, feed, quantmod_of
from edgeq.graph import Graph, Quantization, Tensor
from edgeq.quantize import quantize, recalibrate
from edgeq.quantize.canonical import real
from edgeq.quantize.reconstruct import reconstruct
from edgeq.quantize.rescale import rescale, scales
from edgeq.recipe import Recipe
from edgeq.tflite import write


def loosely_quantized(graph: Graph, n: int = 24, factor: float = 20.0) -> Graph:
    """A model quantized on samples much larger than those it will see."""
    inputs = [tuple(factor * a for a in x) for x in inputs_of(graph, n)]
    return quantize(graph, inputs, Recipe("int8", ranges="minmax", bias_correction=False)).graph


def weights_of(graph: Graph) -> list[bytes]:
    at = {"CONV_2D": 1, "DEPTHWISE_CONV_2D": 1, "FULLY_CONNECTED": 1}
    tensors = [graph.tensors[op.inputs[at[op.code]]] for op in graph.ops if op.code in at]
    return [t.data.tobytes() + t.quantization.scale.tobytes() + t.quantization.zero_point.tobytes() for t in tensors]


TUNED = [n for n in MODELS if n not in ("moves between floats", "unused channels")]


@pytest.mark.parametrize("name", TUNED)
def test_local_samples_bring_it_closer(name):
    """On samples of another size than calibrated it, a model comes closer to what it stands for, in every runtime."""
    graph = MODELS[name]()
    before = loosely_quantized(graph)
    local = inputs_of(graph, 200, seed=2)
    done = recalibrate(before, local)
    check(done.graph)
    real = reconstruct(before)
    unseen = inputs_of(graph, 24, seed=3)
    wanted = answers(real, unseen)
    if done.changed:
        assert np.mean(list(sqnr(wanted, answers(done.graph, unseen)))) > np.mean(
            list(sqnr(wanted, answers(before, unseen)))
        )
        for runtime in runtimes():
            near = sqnr(answers(done.graph, unseen), peer_answers(done.graph, unseen, runtime))
            assert min(near) > 25.0, runtime
    else:
        assert done.graph is before


@pytest.mark.parametrize("name", ["classifier", "batch of two", "RELU apart", "an operation without an integer form"])
def test_models_that_can_gain_do(name):
    """Models with scales of their own to change (others have little but inputs and outputs) are changed."""
    before = loosely_quantized(MODELS[name]())
    done = recalibrate(before, inputs_of(MODELS[name](), 200, seed=2))
    assert done.changed


def test_what_stays():
    """Weights, inputs, outputs, prescribed scales, names, operations and options stay as they are."""
    before = loosely_quantized(classifier())
    done = recalibrate(before, inputs_of(classifier(), 40))
    assert done.changed
    assert weights_of(done.graph) == weights_of(before)
    for i in (*before.inputs, *before.outputs):
        assert quantmod_of(done.graph.tensors[i]) == quantmod_of(before.tensors[i])
    assert [t.name for t in done.graph.tensors] == [t.name for t in before.tensors]
    assert [(op.code, op.inputs, op.outputs, op.options) for op in done.graph.ops] == [
        (op.code, op.inputs, op.outputs, op.options) for op in before.ops
    ]
    changed = [
        t.name
        for t, u in zip(before.tensors, done.graph.tensors, strict=True)
        if quantmod_of(t) is not None and quantmod_of(t) != quantmod_of(u)
    ]
    assert changed


def test_inputs_and_outputs_when_asked():
    """With keep_io off, the input's scale follows the samples too."""
    before = loosely_quantized(classifier())
    done = recalibrate(before, inputs_of(classifier(), 40), keep_io=False)
    old, new = (quantmod_of(g.tensors[g.inputs[0]]).scale for g in (before, done.graph))
    assert new < 0.5 * old


@pytest.mark.parametrize("name", ["classifier", "shared weights and bias", "RELU apart"])
def test_biases_are_counted_anew_exactly(name):
    """Each bias is the nearest whole number to old · s_in / s_in', reckoned with the float32 scales as fractions."""
    before = loosely_quantized(MODELS[name]())
    after = recalibrate(before, inputs_of(MODELS[name](), 40), keep_io=False, settle_biases=False).graph
    layers = 0
    for old, new in zip(before.ops, after.ops, strict=True):
        if old.code not in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"):
            continue
        ratio = Fraction(float(before.tensors[old.inputs[0]].quantization.scale[0])) / Fraction(
            float(after.tensors[new.inputs[0]].quantization.scale[0])
        )
        b, c = before.tensors[old.inputs[2]], after.tensors[new.inputs[2]]
        assert [abs(int(v) * ratio - int(u)) <= Fraction(1, 2) for v, u in zip(b.data, c.data, strict=True)]
        assert c.data.tolist() == [round(int(v) * ratio) for v in b.data]
        w, x = after.tensors[new.inputs[1]], after.tensors[new.inputs[0]]
        np.testing.assert_allclose(c.quantization.scale, w.quantization.scale * x.quantization.scale, rtol=1e-6)
        layers += 1
    assert layers


def test_a_bias_that_layers_share_is_parted():
    """Layers that share a bias have one each once their inputs' scales part."""
    before = loosely_quantized(MODELS["shared weights and bias"]())
    one, two = before.ops
    joined = before.with_main(ops=(one, replace(two, inputs=(*two.inputs[:2], one.inputs[2]))))
    free = scales(joined, keep_io=False)
    spans = {g: (-1.0 - k, 1.0 + k) for k, g in enumerate(free.free())}
    after = rescale(joined, free, spans)
    assert after.ops[0].inputs[2] != after.ops[1].inputs[2]


def test_never_worse():
    """A model that fits its samples already comes back as it was, and says why."""
    graph = classifier()
    inputs = inputs_of(graph, 40)
    before = quantize(graph, inputs).graph
    done = recalibrate(before, inputs)
    if done.changed:  # then by less noise on what was held back
        done = recalibrate(done.graph, inputs)
    assert not done.changed
    assert done.steps[-1].startswith("not changed: ")
    assert "the ranges it has" in done.steps[0]


def test_nothing_to_tune():
    """A model of one layer has no scale of its own to change."""
    before = engine_models.dense("int8")
    done = recalibrate(before, np.zeros((8, 37), np.int8) + np.arange(8, dtype=np.int8)[:, None])
    assert done.graph is before
    assert "not changed: every scale is prescribed, or belongs to an input or output" in done.steps


def test_held_back_samples_set_no_range():
    """Every fourth sample judges only: whatever it holds reaches no range, and no range means no change."""
    before = loosely_quantized(classifier())
    local = inputs_of(classifier(), 40)
    quiet = [x if n % 4 == 3 else tuple(np.zeros_like(a) for a in x) for n, x in enumerate(local)]
    done = recalibrate(before, quiet)  # ranges of zeros serve no sample that is held back
    assert not done.changed
    assert done.samples == 40


@pytest.mark.parametrize(
    ("name", "graph"),
    [
        ("uint8, asymmetric weights", uint8_residual),
        ("int8 network of another converter", int8_cnn),
        ("int16 activations", lambda: engine_models.binary("ADD", "int16")),
    ],
)
def test_other_kinds_of_quantized_models(name, graph):
    """uint8, int8 and int16 models of other makers are tuned, or left alone, and run everywhere as edgeq runs them."""
    before = graph()
    rng = np.random.default_rng(0)
    local = [tuple(engine_models.samples(before.tensors[i], rng) for i in before.inputs) for _ in range(16)]
    done = recalibrate(before, local)
    assert weights_of(done.graph) == weights_of(before)
    inputs = list(feed(before, local))
    wanted = answers(reconstruct(before), inputs)
    assert np.mean(list(sqnr(wanted, answers(done.graph, inputs)))) >= np.mean(
        list(sqnr(wanted, answers(before, inputs)))
    )
    for runtime in runtimes():
        assert min(sqnr(answers(done.graph, inputs), peer_answers(done.graph, inputs, runtime))) > 20.0


@pytest.mark.parametrize(
    "name", ["conv 3x3, odd channels", "depthwise 3x3", "dense", "transposed conv", "ADD", "MUL", "relu"]
)
@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16"])
def test_reconstruction_is_what_the_codes_stand_for(name, dtype):
    """The float model answers as the integer one does, up to the rounding of its output (and int16's multipliers)."""
    graph = engine_models.cases()[f"{name} {dtype}"]()
    real = reconstruct(graph)
    assert {real.tensors[i].dtype for op in real.ops for i in (*op.inputs, *op.outputs) if i >= 0} <= {
        "float32",
        "int32",
    }
    rng = np.random.default_rng(1)
    inputs = list(feed(graph, [tuple(engine_models.samples(graph.tensors[i], rng) for i in graph.inputs)]))
    q = quantmod_of(graph.tensors[graph.outputs[0]])
    (wanted,), (found,) = answers(real, inputs)[0], answers(graph, inputs, "tflite")[0]
    inside = (wanted > q.limits[0]) & (wanted < q.limits[1])
    assert inside.mean() > 0.2
    assert np.abs(wanted - found)[inside].max() <= (2 if dtype == "int16" else 1.01) * q.scale


def test_reconstruction_of_changes_of_scale():
    """QUANTIZE and DEQUANTIZE become what they are among reals: nothing."""
    island = MODELS["an operation without an integer form"]()
    graph = quantize(island, inputs_of(island, 8)).graph
    real = reconstruct(graph)
    assert [op.code for op in real.ops if "QUANT" in op.code] == []
    assert len(real.ops) == len(graph.ops)


def test_a_relu_that_the_codes_imply():
    """Where the lowest code stands for 0 and no activation is stated, the reals are clamped at 0 as the codes are."""
    graph = engine_models.conv("int8")
    y = graph.tensors[-1]
    lowest = replace(y, quantization=Quantization(np.float32([0.07]), np.array([-128])))
    graph = graph.with_main(tensors=(*graph.tensors[:-1], lowest))
    rng = np.random.default_rng(1)
    inputs = list(feed(graph, [tuple(engine_models.samples(graph.tensors[i], rng) for i in graph.inputs)]))
    wanted = answers(reconstruct(graph), inputs)[0][0]
    assert wanted.min() == 0.0
    assert (encode(graph, inputs[0])[0] == 0).mean() < 0.1


@pytest.mark.parametrize(
    ("graph", "n", "message"),
    [
        (classifier(), 8, "expected a model with quantized activations, found none: quantize it first"),
        (int8_cnn(), 3, "expected at least 4 samples, of which one judges, got 3"),
        (int8_cnn(), 0, "at least one sample"),
        (counter("int8"), 8, "operation 1 (VAR_HANDLE) keeps something from one sample to the next"),
    ],
)
def test_refusals(graph, n, message):
    """What cannot be tuned is refused in one line that says what was found."""
    rng = np.random.default_rng(0)
    local = [tuple(engine_models.samples(graph.tensors[i], rng) for i in graph.inputs) for _ in range(n)]
    with pytest.raises(QuantizeError) as caught:
        recalibrate(graph, local)
    assert message in str(caught.value)


def test_same_samples_same_bytes():
    """Tuning twice gives the same file."""
    before = loosely_quantized(classifier())
    one, two = (write(recalibrate(before, inputs_of(classifier(), 16)).graph) for _ in range(2))
    assert one == two


def test_the_same_sample_again_and_again_decides_nothing():
    """A covered lens gives one picture many times; ranges that fit it alone are not taken for better."""
    graph = classifier()
    before = loosely_quantized(graph)
    dark = tuple(np.zeros_like(a) for a in inputs_of(graph, 1)[0])
    for local in ([dark] * 200, [dark, *inputs_of(graph, 3, seed=2)] * 50):
        done = recalibrate(before, local)
        assert not done.changed
        assert "samples held back do not decide" in done.steps[-1] or "comes" in done.steps[-1]


def test_a_constant_without_dimensions_becomes_real():
    """A scalar constant of an integer model has a real value like any other."""
    q = Quantization(np.array([0.5], np.float32), np.array([2], np.int64))
    assert real(Tensor("c", (), "int8", np.array(7, np.int8), q)).tolist() == 2.5
