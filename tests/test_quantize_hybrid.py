"""Dynamic range: which layers quantize their inputs when they meet them, and which have their weights dequantized."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from quantize_models import Net, answers, inputs_of, peer_answers, runtimes, sqnr

from edgeq.cli import main
from edgeq.graph import Graph
from edgeq.interpreter import Interpreter
from edgeq.quantize import Quantized, quantize
from edgeq.recipe import RECIPES, Recipe, Scope, parse
from edgeq.tflite import write
from edgeq.tflite.schema import table

DYNAMIC = replace(RECIPES["dynamic"], hybrid=35)
"""Layers this small make up for less: none of these would be hybrid at 40."""
LOUD = 300.0
"""Times the others' size, one channel of what the second layer reads."""


def one_loud_channel() -> Graph:
    """Three convolutions; what the second reads has a channel that stretches the step of all others, and counts for nothing."""
    net = Net((1, 8, 8, 3))
    w, b, v = net.weights(16, 3, 3, 3), net.bias(16), net.weights(24, 1, 1, 16)
    for i, channel, factor in ((w, (5,), LOUD), (b, (5,), LOUD), (v, (..., 5), 0)):
        data = np.array(net.tensors[i].data)
        data[channel] *= np.float32(factor)
        net.tensors[i] = replace(net.tensors[i], data=data)
    a = net.conv(0, 16, act=1, w=w, b=b)
    return net.graph(net.conv(net.conv(a, 24, k=1, act=1, w=v), 16, stride=2))


def kinds(done: Quantized) -> list[str]:
    return [layer.stored for layer in done.layers]


def test_a_layer_that_costs_too_much_has_its_weights_dequantized():
    """A layer whose inputs' steps cost the outputs much computes in float, and the others stay hybrid, in every runtime."""
    graph = one_loud_channel()
    inputs = inputs_of(graph, 32)
    wanted = answers(graph, inputs)
    all_hybrid = quantize(graph, inputs, replace(DYNAMIC, hybrid=0))
    assert kinds(all_hybrid) == ["dynamic"] * 3
    done = quantize(graph, inputs, DYNAMIC)
    assert kinds(done) == ["dynamic", "weights", "dynamic"]
    assert [op.code for op in done.graph.ops].count("DEQUANTIZE") == 1
    assert min(sqnr(wanted, answers(done.graph, inputs))) > min(sqnr(wanted, answers(all_hybrid.graph, inputs))) + 10
    for runtime in runtimes():
        if runtime != "tflite-runtime REF":  # which has no DEQUANTIZE of channels
            found = peer_answers(done.graph, inputs, runtime)
            assert min(sqnr(wanted, found)) > 30, runtime
            if runtime != "LiteRT":  # whose own delegate quantizes inputs in another way
                assert min(sqnr(answers(done.graph, inputs), found)) > 60, runtime


def test_what_a_layer_costs_is_told():
    """What each layer's hybrid form alone leaves is told in dB, and a step says which are hybrid and what that costs."""
    graph = one_loud_channel()
    done = quantize(graph, inputs_of(graph, 32), DYNAMIC)
    found = [layer.hybrid_sqnr for layer in done.layers]
    assert found[1] < 35 < min(found[0], found[2])
    assert any(step.startswith("2 of 3 layers quantize their inputs") and "(1 CONV_2D)" in step for step in done.steps)


def test_a_higher_bound_leaves_fewer_layers_hybrid():
    """The less noise inputs may add, the fewer layers quantize theirs, and the nearer the outputs are."""
    graph = one_loud_channel()
    made = [quantize(graph, inputs_of(graph, 32), replace(DYNAMIC, hybrid=bound)) for bound in (0, 20, 35, 50, 90)]
    counts = [kinds(done).count("dynamic") for done in made]
    assert counts == sorted(counts, reverse=True)
    assert (counts[0], counts[-1]) == (3, 0)
    assert made[-1].sqnr >= made[2].sqnr > made[0].sqnr + 10


def test_layers_that_cost_little_all_stay():
    """Where inputs' steps add less than the recipe allows, no layer is tried alone, and all are hybrid."""
    net = Net((1, 8, 8, 3))
    graph = net.graph(net.conv(net.conv(0, 16, act=1), 16))
    done = quantize(graph, inputs_of(graph, 32), replace(DYNAMIC, hybrid=20))
    assert kinds(done) == ["dynamic", "dynamic"]
    assert all(layer.hybrid_sqnr is None for layer in done.layers)


@pytest.mark.parametrize("samples", [1, 2, 5])
def test_few_samples(samples):
    """A handful of samples is enough to find the layer, and the same ones give the same bytes."""
    graph = one_loud_channel()
    one, two = (quantize(graph, inputs_of(graph, samples), DYNAMIC) for _ in range(2))
    assert kinds(one)[1] == "weights"
    assert write(one.graph) == write(two.graph)


def test_the_command_line(tmp_path, capsys):
    """`edgeq quantize` takes the bound from a recipe file, and its table says what layers run in and what that costs."""
    graph = one_loud_channel()
    (tmp_path / "m.tflite").write_bytes(write(graph))
    (tmp_path / "r.toml").write_text('base = "dynamic"\nhybrid = 45\n')
    np.save(tmp_path / "x.npy", np.concatenate([x[0] for x in inputs_of(graph, 16)]))
    model, samples, out, recipe = (str(tmp_path / n) for n in ("m.tflite", "x.npy", "q.tflite", "r.toml"))
    assert main(["quantize", model, "-d", samples, "-o", out, "--recipe", recipe]) == 0
    said = capsys.readouterr().out
    assert "hybrid alone dB" in said
    assert "floats, weights dequantized" in said
    assert parse(b'base = "dynamic"\nhybrid = 45', "r").hybrid == 45


def loud_rows(rows: int = 1, bias: bool = True, keep: bool = False) -> Graph:
    """Three dense layers whose outputs differ much in size, so that one scale for all weights of a layer serves few of them."""
    net = Net((1, rows, 24) if keep else (rows, 24))
    x = 0
    for k, out in enumerate((32, 40, 12)):
        lead = net.tensors[x].shape[:-1]
        w = net.rng.normal(0, 0.3, (out, net.tensors[x].shape[-1]))
        sizes = np.geomspace(0.01, 1, 40 if k == 2 else out)
        w = w / sizes if k == 2 else w * sizes[:, None]  # what reads them last makes up for it
        w = net.const(w.astype(np.float32))
        options = table("FullyConnectedOptions", fused_activation_function=int(k < 2), keep_num_dims=keep)
        x = net.op("FULLY_CONNECTED", (x, w, net.bias(out) if bias else -1), (*lead, out), options)
    return net.graph(x)


@pytest.mark.parametrize(
    "graph",
    [loud_rows(), loud_rows(rows=3), loud_rows(bias=False), loud_rows(rows=4, keep=True)],
    ids=["a row", "three rows", "no bias", "dimensions kept"],
)
def test_dense_layers_as_convolutions(graph):
    """Where one scale for all weights costs much, dense layers become 1 × 1 convolutions, and give the same in every runtime."""
    inputs = inputs_of(graph, 32)
    done = quantize(graph, inputs, replace(DYNAMIC, hybrid=20))
    assert kinds(done) == ["convolution"] * 3
    codes = [op.code for op in done.graph.ops]
    assert codes == ["RESHAPE", "CONV_2D", "CONV_2D", "CONV_2D", "RESHAPE"]
    assert all(layer.sqnr is not None and layer.weights_sqnr > 30 for layer in done.layers)
    wanted, ours = answers(graph, inputs), answers(done.graph, inputs)
    assert min(sqnr(wanted, ours)) > 25
    for runtime in runtimes():  # the reference resolver has all of these
        found = peer_answers(done.graph, inputs, runtime)
        assert min(sqnr(wanted, found)) > 25, runtime
        if runtime.startswith("tflite-runtime"):
            assert min(sqnr(ours, found)) > 100, runtime


def test_rows_may_become_more():
    """A model whose rows may be any number can be resized as before."""
    graph = loud_rows()
    tensors = [replace(t, shape_signature=(-1, *t.shape[1:])) if t.data is None else t for t in graph.tensors]
    graph = graph.with_main(tensors=tuple(tensors))
    done = quantize(graph, inputs_of(graph, 32), replace(DYNAMIC, hybrid=20))
    assert kinds(done) == ["convolution"] * 3
    x = np.concatenate([x[0] for x in inputs_of(graph, 5, seed=3)])
    one = Interpreter(model_content=bytes(write(done.graph)))
    one.resize_tensor_input(one.get_input_details()[0]["index"], x.shape)
    one.allocate_tensors()
    one.set_tensor(one.get_input_details()[0]["index"], x)
    one.invoke()
    each = np.concatenate([y[0] for y in answers(done.graph, [(row[None],) for row in x])])
    np.testing.assert_allclose(one.get_tensor(one.get_output_details()[0]["index"]), each, atol=1e-5)


def test_a_goal_leaves_fewer_layers_hybrid():
    """Asked for so many dB at the outputs, a dynamic-range model has as few hybrid layers as that takes."""
    graph = one_loud_channel()
    inputs = inputs_of(graph, 32)
    plain = quantize(graph, inputs, DYNAMIC)
    done = quantize(graph, inputs, replace(DYNAMIC, sqnr=plain.sqnr + 2))
    assert kinds(done).count("weights") > kinds(plain).count("weights")
    assert done.sqnr > plain.sqnr + 2


@pytest.mark.parametrize("goal", [0, 34])
def test_hybrid_layers_amid_integers(goal):
    """Dense layers that a scope makes dynamic stand as convolutions between a DEQUANTIZE and a QUANTIZE."""
    net = Net((1, 8, 8, 3))
    flat = net.reshape(net.global_pool(net.conv(0, 24, act=1)), 1, 24)
    w = net.const((net.rng.normal(0, 0.3, (40, 24)) * np.geomspace(0.01, 1, 40)[:, None]).astype(np.float32))
    v = net.const((net.rng.normal(0, 0.3, (10, 40)) / np.geomspace(0.01, 1, 40)).astype(np.float32))
    graph = net.graph(net.dense(net.dense(flat, 40, act=1, w=w), 10, w=v))
    scopes = (Scope("FULLY_CONNECTED", precision="dynamic"),)
    done = quantize(graph, inputs_of(graph, 32), Recipe("r", hybrid=20, scopes=scopes, sqnr=goal))
    assert [layer.stored for layer in done.layers if layer.code == "FULLY_CONNECTED"] == ["convolution"] * 2
    codes = [op.code for op in done.graph.ops]
    assert codes[-6:] == ["DEQUANTIZE", "RESHAPE", "CONV_2D", "CONV_2D", "RESHAPE", "QUANTIZE"]
    ours = answers(done.graph, inputs_of(graph, 32))
    for runtime in runtimes():
        assert min(sqnr(ours, peer_answers(done.graph, inputs_of(graph, 32), runtime))) > 25, runtime
