"""What `quantize` makes of float models: valid, near, and the same everywhere."""

from __future__ import annotations

import engine_models
import numpy as np
import pytest
from quantize_models import MODELS, Net, answers, classifier, inputs_of, peer_answers, runtimes, sqnr, two_inputs

from edgeq.check import check
from edgeq.errors import InputError, QuantizeError, UnsupportedError
from edgeq.graph import Graph
from edgeq.quantize import Layer, Quantized, quantize
from edgeq.recipe import RECIPES, Recipe, recipe
from edgeq.records import replace
from edgeq.tflite import read, write

SINGLE = {
    name: make
    for name, make in engine_models.cases().items()
    # MUL of five dimensions has no integer form, nor has where the greatest is; see test_what_has_no_integer_form.
    if name.endswith("float32") and not name.startswith(("quantize", "MUL broadcast", "ARG_"))
}
NOWHERE = (
    "softmax of 300, beta 2 float32",  # most scores are below the 1/256 that a code can say
    "AVERAGE_POOL_2D of 17 by 17 float32",  # means lie in a few codes of what they are means of, whose scale they keep
)


def codes(graph: Graph) -> list[str]:
    return [op.code for op in graph.ops]


@pytest.mark.parametrize("name", [n for n in SINGLE if n not in NOWHERE])
def test_single_operations(name):
    """Each operation in its integer form is near the float one, in every runtime and in both rounding families."""
    graph = SINGLE[name]()
    inputs = inputs_of(graph, 16)
    done = quantize(graph, inputs, Recipe("int8", ranges="mse", bias_correction=False))
    assert [row.integer for row in done.layers] == [True]
    assert done.graph.tensors[done.graph.inputs[0]].dtype == done.graph.tensors[done.graph.outputs[0]].dtype == "int8"
    wanted = answers(graph, inputs)
    found = {family: answers(done.graph, inputs, family) for family in ("xnnpack", "tflite")}
    # The runtimes' reference SUM reads int8 as uint8 (docs/exactness.md).
    reading = [r for r in runtimes() if not (name.startswith("SUM") and r.endswith("REF"))]
    found |= {r: peer_answers(done.graph, inputs, r) for r in reading}
    for where, outputs in found.items():
        assert min(sqnr(wanted, outputs)) > 30.0, where


@pytest.mark.parametrize("name", MODELS)
def test_models(name):
    """Each model stays near its float form in every runtime, passes the check, and survives writing and reading."""
    graph = MODELS[name]()
    inputs = inputs_of(graph)
    done = quantize(graph, inputs)
    check(done.graph)
    again = read(write(done.graph))
    assert write(again) == write(done.graph)
    wanted = answers(graph, inputs)
    found = {"edgeq": answers(again, inputs)} | {r: peer_answers(again, inputs, r) for r in runtimes()}
    for where, outputs in found.items():
        assert min(sqnr(wanted, outputs)) > 25.0, where


@pytest.mark.parametrize("name", MODELS)
def test_inputs_and_outputs_are_int8(name):
    """Every float input and output becomes int8, in its place, with its name and its signature's."""
    graph = MODELS[name]()
    done = quantize(graph, inputs_of(graph, 4), Recipe("int8", ranges="minmax")).graph
    for before, after in ((graph.inputs, done.inputs), (graph.outputs, done.outputs)):
        assert [graph.tensors[i].name for i in before] == [done.tensors[i].name for i in after]
        assert {done.tensors[i].dtype for i in after} == {"int8"}
    assert done.input_names() == graph.input_names()
    assert done.output_names() == graph.output_names()


def test_same_samples_same_bytes():
    """Quantizing twice gives the same file."""
    graph = classifier()
    one, two = (write(quantize(graph, inputs_of(graph)).graph) for _ in range(2))
    assert one == two


@pytest.mark.parametrize("effort", ["fast", "full"])
def test_samples_in_any_order_of_memory(effort):
    """Samples that lie across memory, as channels-first pictures turned round do, give the same bytes as those that do not."""
    graph = classifier()
    x = np.concatenate([a for (a,) in inputs_of(graph, 24)])
    across = np.ascontiguousarray(np.moveaxis(x, -1, 1))
    turned = np.moveaxis(across, 1, -1)
    assert not turned.flags.c_contiguous
    wanted = write(quantize(graph, x, replace(RECIPES["int8"], effort=effort)).graph)
    assert write(quantize(graph, turned, replace(RECIPES["int8"], effort=effort)).graph) == wanted


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "an operation without an integer form",
            "FULLY_CONNECTED DEQUANTIZE SIN QUANTIZE FULLY_CONNECTED DEQUANTIZE SIN QUANTIZE ADD FULLY_CONNECTED",
        ),
        # The reshape of floats stays among floats; one QUANTIZE serves the layer and the output.
        ("moves between floats", "DEQUANTIZE SIN RESHAPE QUANTIZE FULLY_CONNECTED"),
        ("float16 weights", "FULLY_CONNECTED"),
        ("dynamic range", "FULLY_CONNECTED"),
        ("RELU apart", "CONV_2D CONV_2D RELU ADD"),
        ("softmax joined with others", "FULLY_CONNECTED SOFTMAX FULLY_CONNECTED QUANTIZE CONCATENATION"),
    ],
)
def test_where_values_are_converted(name, expected):
    """QUANTIZE and DEQUANTIZE stand only where integers meet floats or another scale."""
    graph = MODELS[name]()
    assert codes(quantize(graph, inputs_of(graph, 4), Recipe("int8", ranges="minmax")).graph) == expected.split()


def test_prescribed_output_scale():
    """Softmax gives its output at 1/256 and −128, as its kernels want."""
    done = quantize(classifier(), inputs_of(classifier(), 4)).graph
    q = done.tensors[done.outputs[0]].quantization
    assert (q.scale.tolist(), q.zero_point.tolist()) == ([1 / 256], [-128])


def test_same_scale_groups():
    """What only moves values has one scale before and after."""
    done = quantize(classifier(), inputs_of(classifier(), 8)).graph
    for op in done.ops:
        if op.code in ("AVERAGE_POOL_2D", "RESHAPE"):
            a, b = (done.tensors[i].quantization for i in (op.inputs[0], op.outputs[0]))
            assert (a.scale, a.zero_point) == (b.scale, b.zero_point)


def test_weights_are_symmetric_and_per_channel():
    """Weights lie in [−127, 127] with a zero point of 0 and a scale per output channel; biases count in s_in · s_w."""
    done = quantize(classifier(), inputs_of(classifier(), 4)).graph
    axes = {"CONV_2D": 0, "DEPTHWISE_CONV_2D": 3, "FULLY_CONNECTED": 0}
    layers = [op for op in done.ops if op.code in axes]
    assert len(layers) == 4
    for op in layers:
        x, w, b = (done.tensors[i] for i in op.inputs)
        axis = axes[op.code]
        assert w.quantization.axis == axis
        assert len(w.quantization.scale) == w.shape[axis] == len(b.data)
        assert not w.quantization.zero_point.any()
        others = tuple(i for i in range(w.data.ndim) if i != axis)
        assert (np.abs(w.data).max(others) == 127).all()
        assert b.dtype == "int32"
        np.testing.assert_allclose(b.quantization.scale, x.quantization.scale * w.quantization.scale, rtol=1e-6)


def test_per_tensor_weights():
    """With per_channel off, weights have one scale."""
    graph = classifier()
    done = quantize(graph, inputs_of(graph, 4), Recipe("int8", per_channel=False)).graph
    scales = [len(done.tensors[op.inputs[1]].quantization.scale) for op in done.ops if "CO" in op.code]
    assert scales == [1] * len(scales)
    assert min(sqnr(answers(graph, inputs_of(graph)), answers(done, inputs_of(graph)))) > 20


def test_shared_weights_stay_shared():
    """Two layers that share their weights still do; each has its own bias, in its own unit."""
    graph = MODELS["shared weights and bias"]()
    done = quantize(graph, inputs_of(graph)).graph
    one, two = done.ops
    assert one.inputs[1] == two.inputs[1]
    assert one.inputs[2] != two.inputs[2]


def test_activations_are_fused():
    """A RELU that alone reads a layer becomes the layer's; one beside other readers stays."""
    graph = MODELS["RELU apart"]()
    done = quantize(graph, inputs_of(graph)).graph
    assert [op.options.values["fused_activation_function"] for op in done.ops if op.code == "CONV_2D"] == [1, 0]


def test_one_pass_over_a_generator():
    """Samples are gone through once: a generator gives what a list gives."""
    graph = two_inputs()
    inputs = inputs_of(graph)
    assert write(quantize(graph, (x for x in inputs)).graph) == write(quantize(graph, inputs).graph)


def test_samples_by_name():
    """Arrays by input name, by the signature's names, give what tuples in order give."""
    graph = two_inputs()
    inputs = inputs_of(graph)
    named = {n: np.concatenate([x[k] for x in inputs]) for k, n in enumerate(("vector", "image"))}
    assert write(quantize(graph, named).graph) == write(quantize(graph, inputs).graph)


def test_report():
    """There is a row for each operation of the float model, with its SQNR, and the sizes are the files'."""
    graph = classifier()
    done = quantize(graph, inputs_of(graph))
    assert isinstance(done, Quantized)
    assert [row.code for row in done.layers] == [c.replace("AVERAGE_POOL_2D", "MEAN") for c in codes(graph)]
    assert all(isinstance(row, Layer) and row.integer for row in done.layers)
    assert all(row.sqnr > 20 for row in done.layers)
    assert {row.code for row in done.layers if row.weights_sqnr is not None} == {
        "CONV_2D",
        "DEPTHWISE_CONV_2D",
        "FULLY_CONNECTED",
    }
    assert all(row.weights_sqnr > 30 for row in done.layers if row.weights_sqnr is not None)
    assert done.bytes_before == len(write(graph))
    assert done.bytes_after == len(write(done.graph))
    assert done.samples == 24
    assert done.changed
    assert done.steps


def test_progress():
    """Progress counts the samples, then the steps, and ends at its total."""
    graph = classifier()
    seen = []
    quantize(graph, np.concatenate([x[0] for x in inputs_of(graph)]), progress=lambda *a: seen.append(a))
    assert (1, 24, "calibrating") in seen
    assert (24, 24, "calibrating") in seen
    assert seen[-1][0] == seen[-1][1]


@pytest.mark.parametrize(
    ("graph", "samples", "error", "message"),
    [
        (engine_models.conv("int8"), np.zeros((4, 7, 6, 5), np.int8), QuantizeError, "quantized already: calibrate"),
        (engine_models.unary("COS", "float32"), np.zeros((4, 37)), QuantizeError, "an integer form, found COS"),
        (SINGLE["ADD float32"](), [], QuantizeError, "at least one sample"),
        (classifier(), np.zeros((0, 8, 8, 3)), InputError, "at least 1 samples"),
        (classifier(), np.zeros((4, 8, 8, 2)), InputError, "expected samples (N, 8, 8, 3), got shape (4, 8, 8, 2)"),
        (classifier(), np.full((4, 8, 8, 3), np.nan), InputError, "must be finite"),
        (two_inputs(), np.zeros((4, 6)), InputError, "give samples by name"),
        (two_inputs(), {"vector": np.zeros((4, 6))}, InputError, "expected samples for 'image'"),
        (two_inputs(), [(np.zeros((1, 6)),)], InputError, "a sample must hold 2 arrays"),
    ],
)
def test_refusals(graph, samples, error, message):
    """What cannot be quantized is refused in one line that says what was found."""
    with pytest.raises(error) as caught:
        quantize(graph, samples)
    assert message in str(caught.value)


def test_a_tensor_that_overflows():
    """A model whose activations become infinite on a sample is refused with the tensor's name."""
    net = Net((1, 4))
    graph = net.graph(net.dense(0, 4, w=net.const(np.full((4, 4), 1e38, np.float32))))
    with pytest.raises(QuantizeError, match=r"tensor 3 \(fully_connected3\) on sample 1: values must be finite"):
        quantize(graph, [(np.zeros((1, 4)),), (np.full((1, 4), 1e3),)])


def test_weights_that_are_not_finite():
    """Weights with NaN are refused."""
    net = Net((1, 4))
    w = np.ones((4, 4), np.float32)
    w[1, 1] = np.inf
    with pytest.raises(QuantizeError, match="finite"):
        quantize(net.graph(net.dense(0, 4, w=net.const(w))), [(np.zeros((1, 4)),)])


@pytest.mark.usefixtures("without_matrix_diag")
def test_what_the_engine_does_not_run():
    """An operation that edgeq cannot calibrate is named."""
    net = Net((1, 4))
    graph = net.graph(net.add(net.op("MATRIX_DIAG", (0,), (1, 4, 4)), net.op("MATRIX_DIAG", (0,), (1, 4, 4))))
    with pytest.raises(UnsupportedError, match="MATRIX_DIAG"):
        quantize(graph, [(np.zeros((1, 4)),)])


def test_what_has_no_integer_form():
    """MUL of five dimensions stays float: tflite-runtime 2.14 would abort on the integer one."""
    net = Net((1, 2, 1, 2, 2))
    product = net.op("MUL", (0, 0), (1, 2, 1, 2, 2), engine_models.table("MulOptions"))
    graph = net.graph(net.add(product, product))
    done = quantize(graph, inputs_of(graph, 4)).graph
    assert codes(done) == ["DEQUANTIZE", "MUL", "QUANTIZE", "ADD"]


def test_recipes():
    """Recipes are found by name, and what does not exist is refused with a list of what does."""
    assert recipe("int8") is RECIPES["int8"]
    with pytest.raises(InputError, match=r"recipe must be one of int8, int16x8, .* or a \.toml file, got 'int2'"):
        recipe("int2")
    with pytest.raises(
        InputError, match="ranges must be one of minmax, average, percentile, entropy, mse, best, got 'max'"
    ):
        Recipe("int8", ranges="max")
