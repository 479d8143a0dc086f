"""Recipes: as values, as TOML files, and what each makes of a model in every runtime."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from quantize_models import MODELS, Net, answers, classifier, inputs_of, peer_answers, runtimes, sqnr

from edgeq.check import check
from edgeq.cli import main
from edgeq.errors import InputError, QuantizeError
from edgeq.graph import Graph
from edgeq.quantize import quantize
from edgeq.quantize.prepare import foreseen
from edgeq.recipe import RECIPES, Recipe, Scope, parse, recipe
from edgeq.tflite import read, write

LEAST = {"codebook4": 14.0, "codebook3": 8.0, "codebook2": 2.0}
"""dB at the outputs; 25 where nothing else is said."""


def larger() -> Graph:
    """[1, 8, 8, 3] → convolutions and dense layers large enough for stored weights and codebooks → softmax."""
    net = Net((1, 8, 8, 3))
    a = net.conv(0, 24, act=1)
    b = net.conv(net.depthwise(a, act=1), 24, k=1, act=1)
    c = net.conv(net.add(a, b), 32, stride=2, act=1)
    flat = net.reshape(net.global_pool(c), 1, 32)
    return net.graph(net.softmax(net.dense(net.dense(flat, 48, act=1), 10)))


def refused_by_reference(name: str, runtime: str) -> bool:
    """tflite-runtime 2.14's reference kernels are not registered for a DEQUANTIZE of channels."""
    return runtime == "tflite-runtime REF" and name in ("weights", "dynamic")


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_runs_everywhere(name):
    """What each recipe gives passes the check, survives writing, and is near the float model in every runtime."""
    graph = larger()
    inputs = inputs_of(graph, 32)
    done = quantize(graph, inputs, RECIPES[name])
    check(done.graph)
    again = read(write(done.graph))
    wanted = answers(graph, inputs)
    found = {"edgeq": answers(again, inputs)}
    found |= {r: peer_answers(again, inputs, r) for r in runtimes() if not refused_by_reference(name, r)}
    for where, outputs in found.items():
        assert min(sqnr(wanted, outputs)) > LEAST.get(name, 25.0), where


@pytest.mark.parametrize("name", [n for n in MODELS if n not in ("softmax joined with others", "unused channels")])
def test_int16(name):
    """Small models of every kind run with int16 activations, in every runtime."""
    graph = MODELS[name]()
    inputs = inputs_of(graph, 8)
    done = quantize(graph, inputs, Recipe("r", precision="int16x8", bias_correction=False))
    assert {done.graph.tensors[i].dtype for i in (*done.graph.inputs, *done.graph.outputs)} == {"int16"}
    wanted = answers(graph, inputs)
    found = {"edgeq": answers(done.graph, inputs)} | {r: peer_answers(done.graph, inputs, r) for r in runtimes()}
    for where, outputs in found.items():
        assert min(sqnr(wanted, outputs)) > 30.0, where


@pytest.mark.parametrize("precision", ["dynamic", "weights"])
def test_nothing_to_store(precision):
    """A model whose layers are too small for stored weights to pay is refused."""
    with pytest.raises(QuantizeError, match="expected float operations that have weights to store"):
        quantize(classifier(), inputs_of(classifier()), Recipe(precision, precision=precision))


def test_codebooks_are_few_levels_of_int8():
    """A codebook recipe leaves so many different codes to a channel, in ordinary int8 tensors, and all to small layers."""
    graph = larger()
    done = quantize(graph, inputs_of(graph, 32), RECIPES["codebook3"]).graph
    counts = {}
    for op in done.ops:
        if op.code in ("CONV_2D", "FULLY_CONNECTED", "DEPTHWISE_CONV_2D"):
            w = done.tensors[op.inputs[1]]
            assert w.dtype == "int8"
            rows = np.moveaxis(w.data, w.quantization.axis, 0).reshape(len(w.quantization.scale), -1)
            counts[w.shape] = max(len(np.unique(row)) for row in rows)
    assert counts[(32, 3, 3, 24)] <= 8
    assert counts[(48, 32)] <= 8
    assert counts[(1, 3, 3, 24)] > 8


@pytest.mark.parametrize("kind", ["kmeans", "pow2"])
def test_kinds_of_codebook(kind):
    """Both kinds of codebook keep to their number of levels; powers of two are just that."""
    graph = larger()
    done = quantize(graph, inputs_of(graph, 16), Recipe("mine", levels=8, codebook=kind)).graph
    w = next(t for t in done.tensors if t.shape == (32, 3, 3, 24)).data
    assert all(len(np.unique(row)) <= 8 for row in w.reshape(32, -1))
    if kind == "pow2":
        assert set(np.unique(np.abs(w))) <= {0, 127, 64, 32, 16}


def test_a_file(tmp_path):
    """A TOML file names a base and what is other, for all operations and for some."""
    path = tmp_path / "mine.toml"
    path.write_text(
        'name = "mine"\nbase = "int8-per-tensor"\nranges = "mse"\n'
        '[[scope]]\nop = "FULLY_CONNECTED"\nprecision = "float"\n'
        '[[scope]]\ntensor = "^conv_2d"\nper_channel = true\n'
    )
    made = recipe(str(path))
    assert made == Recipe(
        "mine",
        per_channel=False,
        ranges="mse",
        scopes=(Scope("FULLY_CONNECTED", precision="float"), Scope(tensor="^conv_2d", per_channel=True)),
    )
    graph = classifier()
    done = quantize(graph, inputs_of(graph), made)
    assert {row.code for row in done.layers if not row.integer} == {"FULLY_CONNECTED"}
    scales = {
        op.code: len(done.graph.tensors[op.inputs[1]].quantization.scale) for op in done.graph.ops if "CONV" in op.code
    }
    assert scales == {"CONV_2D": 8, "DEPTHWISE_CONV_2D": 1}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("base = [", "expected a TOML file"),
        ("\xff\xfe", "TOML file"),
        ('base = "int3"', "base must be one of int8, .* got 'int3'"),
        ('rangs = "mse"', "expected some of name, precision, .* found rangs"),
        ('ranges = "max"', "ranges must be one of .* got 'max'"),
        ("levels = 5", "levels must be one of 0, 4, 8, 16, got 5"),
        ("per_channel = 1", "per_channel must be true or false, got 1"),
        ("levels = 4.0", "levels must be one of 0, 4, 8, 16, got 4.0"),
        ("seed = 1.5", "seed must be a whole number, got 1.5"),
        ("remainders = 4.0", "remainders must be a whole number from 0 to 64, got 4.0"),
        ("[[scope]]\nlevels = 4.0", "levels must be one of .* got 4.0"),
        ("size = -1", "size must be a number ≥ 0, got -1"),
        ("name = 3", "name must be a string, got 3"),
        ("scope = 3", r"expected \[\[scope\]\] tables, got 3"),
        ('[[scope]]\nop = "("', r"op must be a regular expression, got '\('"),
        ('[[scope]]\nwhat = "x"', "scope: expected some of op, .* found what"),
        ('[[scope]]\nprecision = "int4"', "precision must be one of .* got 'int4'"),
    ],
)
def test_refused_files(text, message):
    """What a file says wrongly is refused in one line with what was found and what is expected."""
    with pytest.raises(InputError, match=message):
        parse(text.encode("latin1"), "mine.toml")


def test_the_last_scope_counts():
    """Of scopes that fit an operation the last one decides; one that leaves a field out leaves it as it was."""
    made = Recipe("r", scopes=(Scope("CONV_2D", precision="float"), Scope(tensor="^a", levels=16)))
    assert made.treatment("CONV_2D", "abc").precision == "float"
    assert made.treatment("CONV_2D", "abc").levels == 16
    assert made.treatment("DEPTHWISE_CONV_2D", "b").precision == "int8"


def test_floats_amid_integers():
    """An operation that a scope leaves float stands between a DEQUANTIZE and a QUANTIZE."""
    graph = classifier()
    made = Recipe("r", ranges="minmax", scopes=(Scope("DEPTHWISE_CONV_2D", precision="float"),))
    done = quantize(graph, inputs_of(graph), made).graph
    codes = [op.code for op in done.ops]
    at = codes.index("DEPTHWISE_CONV_2D")
    assert codes[at - 1 : at + 2] == ["DEQUANTIZE", "DEPTHWISE_CONV_2D", "QUANTIZE"]


def test_int16_amid_int8():
    """A layer in int16 is reached through floats, the way that every runtime has, and left by a QUANTIZE."""
    graph = classifier()
    inputs = inputs_of(graph)
    made = Recipe("r", ranges="minmax", scopes=(Scope("DEPTHWISE_CONV_2D", precision="int16x8"),))
    done = quantize(graph, inputs, made).graph
    assert {t.dtype for t in done.tensors if t.data is None} == {"int8", "int16", "float32"}
    wanted = answers(graph, inputs)
    for runtime in runtimes():
        assert min(sqnr(wanted, peer_answers(done, inputs, runtime))) > 25.0, runtime


@pytest.mark.parametrize("raise_to", ["int16x8", "float"])
def test_mixed_precision_reaches_its_goal(raise_to):
    """Layers become finer until the noise at the outputs is as low as asked, and no more of them than that takes."""
    graph = larger()
    inputs = inputs_of(graph, 32)
    plainly = Recipe("r", ranges="minmax", equalize=False)
    plain = quantize(graph, inputs, plainly)
    done = quantize(graph, inputs, replace(plainly, sqnr=plain.sqnr + 0.5, raise_to=raise_to))
    assert done.sqnr > plain.sqnr
    assert f"mixed precision, {raise_to} for " in done.steps[-1]
    assert "int8" in {t.dtype for t in done.graph.tensors if t.data is None}
    again = quantize(graph, inputs, replace(plainly, sqnr=plain.sqnr - 5))
    assert "without it" in again.steps[-1]


def test_an_infinite_constant_stays_float():
    """The least of x and infinity has no codes: it stays float, and the rest of the model is quantized."""
    net = Net((1, 8, 8, 3))
    pooled = net.global_pool(net.conv(0, 8, act=1))
    wide = net.const(np.full((1, 1, 1, 8), np.inf, np.float32))
    capped = net.op("MINIMUM", (pooled, wide), (1, 1, 1, 8))
    graph = net.graph(net.dense(net.reshape(capped, 1, 8), 4))
    done = quantize(graph, inputs_of(graph, 12), recipe("int8"))
    check(done.graph)
    (least,) = (op for op in done.graph.ops if op.code == "MINIMUM")
    assert done.graph.tensors[least.outputs[0]].dtype == "float32"
    assert done.sqnr > 25


def test_a_shape_left_open_is_said():
    """A model is quantized in the shape that its file states; where that is but a placeholder the user is told of convert."""
    graph = classifier()
    i = graph.inputs[0]
    tensors = [replace(t, shape_signature=(-1, -1, *t.shape[2:])) if k == i else t for k, t in enumerate(graph.tensors)]
    (line,) = foreseen(graph.with_main(tensors=tuple(tensors)), recipe("int8"))
    assert "leaves its shape open and is taken as [" in line
    assert "edgeq convert --shape" in line


def test_mixed_precision_out_of_reach():
    """Too high a goal makes all layers finer that can be; where no byte is left the search ends with none, and says so."""
    graph = classifier()
    samples = inputs_of(graph, 24)
    far = replace(recipe("mixed"), sqnr=200.0, effort="fast")
    found = re.search(
        r"int16x8 for ([0-9]+) of ([0-9]+) layers .*, 200 dB not reached", quantize(graph, samples, far).steps[-1]
    )
    assert found
    assert found[1] == found[2]
    none = quantize(graph, samples, replace(far, size=1000))
    assert none.steps[-1].startswith("mixed precision: no layer finer, 1000 bytes are the limit and there are ")
    assert len(write(none.graph)) > 1000


@pytest.mark.parametrize("name", ["int8", "codebook4", "mixed"])
def test_same_inputs_same_bytes(name):
    """The same model, samples and recipe give the same file, byte for byte."""
    graph = larger()
    one, two = (write(quantize(graph, inputs_of(graph, 24), RECIPES[name]).graph) for _ in range(2))
    assert one == two


@pytest.mark.parametrize(
    ("code", "name", "expected"),
    [
        ("HARD_SWISH", "int8", ()),
        ("HARD_SWISH", "int16x8", ("1 × HARD_SWISH stays float: it has no int16x8 form here",)),
        ("SIN", "int8", ("1 × SIN stays float: it has no int8 form here",)),
        ("SIN", "weights", ()),
    ],
)
def test_what_is_foreseen(code, name, expected):
    """What a recipe cannot do to a model is said before it is done."""
    net = Net((1, 10))
    a = net.dense(0, 12)
    graph = net.graph(net.dense(net.op(code, (a,), (1, 12)), 4))
    assert foreseen(graph, RECIPES[name]) == expected


def test_a_dequantize_of_channels_is_foreseen():
    """Weights that one runtime's reference resolver cannot load are spoken of before."""
    assert any("reference resolver" in line for line in foreseen(larger(), RECIPES["weights"]))


def test_the_command_line(tmp_path, capsys):
    """`edgeq quantize` takes samples from a .npy file, a recipe by name and a goal, and says what stays float."""
    net = Net((1, 10))
    graph = net.graph(net.dense(net.op("SIN", (net.dense(0, 12),), (1, 12)), 4))
    model, samples, out = (str(tmp_path / n) for n in ("m.tflite", "x.npy", "q.tflite"))
    (tmp_path / "m.tflite").write_bytes(write(graph))
    np.save(samples, np.concatenate([x[0] for x in inputs_of(graph)]))
    assert main(["quantize", model, "-d", samples, "-o", out, "--recipe", "int16x8", "--sqnr", "20"]) == 0
    assert "1 × SIN stays float" in capsys.readouterr().err
    done = read((tmp_path / "q.tflite").read_bytes())
    assert done.tensors[done.inputs[0]].dtype == "int16"


@pytest.mark.parametrize("name", ["int8", "int8-per-tensor", "codebook4", "dynamic"])
def test_little_effort(name):
    """Made fast, a model is near the float one, too; the same samples give the same bytes."""
    graph = larger()
    inputs = inputs_of(graph, 40)
    fast = replace(RECIPES[name], effort="fast")
    done = quantize(graph, inputs, fast)
    assert min(sqnr(answers(graph, inputs), answers(done.graph, inputs))) > LEAST.get(name, 25.0)
    assert write(quantize(graph, inputs, fast).graph) == write(done.graph)
    assert len(done.steps) <= len(quantize(graph, inputs, RECIPES[name]).steps)


def test_effort_is_known():
    """An effort that there is not is refused by name."""
    with pytest.raises(InputError, match="effort must be one of fast, full"):
        Recipe("r", effort="most")
