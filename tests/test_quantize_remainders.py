"""What rounding took off the weights, carried in a model's metadata: what comes of it, what it takes, and hostile forms of it."""

from __future__ import annotations

import shutil
import struct
from dataclasses import replace

import numpy as np
import pytest
from quantize_models import MODELS, classifier, inputs_of

from edgeq import bundle
from edgeq.check import sound
from edgeq.cli import main
from edgeq.coding import packed_size
from edgeq.errors import InputError, ModelError
from edgeq.graph import Graph, Metadata, Op, Table
from edgeq.pieces import whole
from edgeq.quantize import quantize, recalibrate
from edgeq.quantize.cells import drawn, width
from edgeq.quantize.compare import judge_by, judged
from edgeq.quantize.reconstruct import reconstruct
from edgeq.quantize.remainders import (
    HEADER,
    LAYER,
    NAME,
    Real,
    left_open,
    remembered,
    size,
    weighted,
    with_remainders,
    without,
)
from edgeq.quantize.settle import layers
from edgeq.quantize.taught import taught
from edgeq.recipe import RECIPES, Recipe
from edgeq.tflite import read, write

PLAIN = Recipe("int8", rounding="nearest", equalize=False)


def told(graph: Graph) -> bytes | None:
    return next((m.data for m in graph.metadata if m.name == NAME), None)


def with_data(graph: Graph, data: bytes) -> Graph:
    return replace(without(graph), metadata=(*without(graph).metadata, Metadata(NAME, data)))


def weights(graph: Graph, n: int) -> np.ndarray:
    return np.asarray(graph.tensors[graph.ops[n].inputs[1]].data, np.float64)


@pytest.mark.parametrize("name", ["classifier", "shared weights and bias", "RELU apart", "batch of two"])
@pytest.mark.parametrize("parts", [2, 3, 4, 16])
def test_weights_come_back(name, parts):
    """Rounded weights come back to half a part of their cells, biases as they were, through the file too."""
    graph = MODELS[name]()
    done = quantize(graph, inputs_of(graph, 24), replace(PLAIN, remainders=parts)).graph
    coded = read(write(done))
    floats = reconstruct(coded)
    near = remembered(coded, floats)
    assert near is not None
    matched = layers(coded, graph)
    assert matched
    for layer in matched:
        op = graph.ops[next(n for n, o in enumerate(graph.ops) if layer.wanted in o.outputs)]
        q = coded.tensors[coded.ops[layer.op].inputs[1]].quantization
        real = np.asarray(graph.tensors[op.inputs[1]].data, np.float64)
        cell = q.scale.reshape([-1 if k == q.axis and len(q.scale) > 1 else 1 for k in range(real.ndim)])
        assert np.abs((weights(near, layer.op) - real) / cell).max() <= 0.5 / parts + 0.01
        bias = near.ops[layer.op].inputs[2]
        np.testing.assert_array_equal(near.tensors[bias].data, graph.tensors[op.inputs[2]].data)


def test_rounded_together_they_come_back_too():
    """Weights that were rounded so as to make up for each other, by more than half a step some of them, come back as well."""
    graph = classifier()
    done = quantize(graph, inputs_of(graph, 60), Recipe("int8", rounding="gptq", equalize=False)).graph
    floats = reconstruct(done)
    near = remembered(done, floats)
    for layer in layers(done, graph):
        real = weights(graph, next(n for n, op in enumerate(graph.ops) if layer.wanted in op.outputs))
        far, left = (float(((weights(g, layer.op) - real) ** 2).mean()) for g in (floats, near))
        assert left < 0.15 * far


@pytest.mark.parametrize(
    ("recipe", "carried"),
    [
        (RECIPES["int8"], True),
        (RECIPES["int16x8"], True),
        (RECIPES["int8-per-tensor"], True),
        (replace(RECIPES["int8"], remainders=0), False),
        (replace(RECIPES["int8"], size=1), False),
        (RECIPES["codebook4"], False),
    ],
    ids=lambda v: v.name if isinstance(v, Recipe) else "",
)
def test_which_models_carry_them(recipe, carried):
    """Integer models do, unless their recipe says no, the file is to be small, or levels are few."""
    assert (told(quantize(classifier(), inputs_of(classifier(), 24), recipe).graph) is not None) == carried


def test_what_they_take():
    """Four parts of a rounded weight are three bits at most, besides its layer's biases, and the codes stay what they were."""
    graph = classifier()
    some = [quantize(graph, inputs_of(graph, 24), replace(PLAIN, remainders=n)).graph for n in (4, 0)]
    assert write(without(some[0])) == write(some[1])
    own = weighted(some[0])
    most = HEADER.size + sum(LAYER.size + packed_size(weights(some[0], n).size, 3) for n in own)
    most += sum(4 * some[0].tensors[some[0].ops[n].inputs[2]].size for n in own)
    assert len(told(some[0])) <= most


def test_weights_on_codes_stay_there():
    """A weight that is what its code stands for is told as that, whatever the others of its layer are: errors do not add up."""
    graph = without(quantize(classifier(), inputs_of(classifier(), 24), PLAIN).graph)
    floats, n = reconstruct(graph), weighted(graph)[0]
    at = graph.ops[n].inputs[1]
    real = np.array(floats.tensors[at].data)
    real.reshape(-1)[0] += 0.4 * float(graph.tensors[at].quantization.scale[0])
    near = remembered(with_remainders(graph, {n: Real(real, None)}, 4), floats)
    assert np.count_nonzero(weights(near, n) - weights(floats, n)) == 1


def test_of_other_weights_they_say_nothing():
    """Remainders of a model whose weights were changed since are passed over."""
    graph = quantize(classifier(), inputs_of(classifier(), 24), PLAIN).graph
    i = graph.ops[weighted(graph)[0]].inputs[1]
    tensors = list(graph.tensors)
    tensors[i] = replace(tensors[i], data=-np.asarray(tensors[i].data), buffer=0)
    changed = graph.with_main(tensors=tuple(tensors))
    tensors[i] = replace(tensors[i], data=None)
    fewer = graph.with_main(tensors=tuple(tensors))
    found = [remembered(g, reconstruct(g)) is not None for g in (graph, changed, fewer, without(graph))]
    assert found == [True, False, False, False]


def test_weights_that_are_their_codes():
    """A layer whose weights lie on its codes is not told, and is exactly what the codes stand for."""
    graph = without(quantize(classifier(), inputs_of(classifier(), 24), PLAIN).graph)
    floats = reconstruct(graph)
    known = {n: Real(np.asarray(floats.tensors[floats.ops[n].inputs[1]].data), None) for n in weighted(graph)}
    made = with_remainders(graph, known, 4)
    assert len(told(made)) == HEADER.size
    assert all(a is b for a, b in zip(remembered(made, floats).tensors, floats.tensors, strict=True))


def field(data: bytes, which: int, value: int, packing: int | None = None) -> bytes:
    """The remainders with a field of the first layer's record set, and how it is packed, if that is given."""
    values = list(LAYER.unpack_from(data, HEADER.size))
    values[which] = value
    values[6] = values[6] if packing is None else packing
    return data[: HEADER.size] + LAYER.pack(*values) + data[HEADER.size + LAYER.size :]


HOSTILE = {
    "empty": lambda d: b"",
    "short header": lambda d: d[: HEADER.size - 1],
    "another magic": lambda d: b"EQR2" + d[4:],
    "layers that are not there": lambda d: d[:36] + struct.pack("<I", 2**32 - 1) + d[40:],
    "more layers than the model has": lambda d: d[:36] + struct.pack("<I", 99) + d[40:] + bytes(99 * LAYER.size),
    "no layer of the model": lambda d: field(d, 0, 2**32 - 1),
    "an operation without weights": lambda d: field(d, 0, 1_000),
    "other weights": lambda d: field(d, 1, 1),
    "2^32 weights": lambda d: field(d, 1, 2**32 - 1),
    "other biases": lambda d: field(d, 2, 1),
    "2^32 biases": lambda d: field(d, 2, 2**32 - 1),
    "no parts": lambda d: field(d, 3, 0),
    "least beyond the codes": lambda d: field(d, 4, -129),
    "least above 0": lambda d: field(d, 4, 1),
    "no bits": lambda d: field(d, 5, 0),
    "nine bits": lambda d: field(d, 5, 9),
    "eight bits side by side": lambda d: field(d, 5, 8, packing=0),
    "another packing": lambda d: field(d, 6, 2),
    "deflated that is not": lambda d: field(d, 5, 8, packing=1)[: HEADER.size + LAYER.size] + bytes(len(d)),
    "not zero": lambda d: field(d, 7, 1),
    "no bytes": lambda d: field(d, 8, 0),
    "2^32 bytes": lambda d: field(d, 8, 2**32 - 1),
    "cut": lambda d: d[:-1],
    "a byte behind": lambda d: d + b"\0",
    "a bias that is no number": lambda d: d[:-4] + struct.pack("<f", float("nan")),
    "an infinite bias": lambda d: d[:-4] + struct.pack("<f", float("inf")),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_remainders(name):
    """Remainders that contradict themselves or the model are refused, whoever signed them."""
    graph = quantize(classifier(), inputs_of(classifier(), 24), PLAIN).graph
    hostile = with_data(graph, HOSTILE[name](told(graph)))
    with pytest.raises(ModelError, match="remainders"):
        remembered(hostile, reconstruct(hostile))
    with pytest.raises(ModelError, match="remainders"):
        recalibrate(hostile, inputs_of(classifier(), 24))


def test_a_float_model_becomes_remainders():
    """Of a model that somebody else rounded, and its float model, remainders are made; another network's are none."""
    graph = without(quantize(classifier(), inputs_of(classifier(), 24), PLAIN).graph)
    made = taught(graph, classifier())
    assert made is not None
    near, floats = remembered(made, reconstruct(graph)), reconstruct(graph)
    n = weighted(graph)[0]
    real = next(classifier().tensors[op.inputs[1]] for op in classifier().ops if op.code == graph.ops[n].code)
    assert np.abs(weights(near, n) - real.data).max() < 0.3 * np.abs(weights(floats, n) - real.data).max()
    with pytest.raises(InputError):
        taught(graph, MODELS["RELU apart"]())


def test_a_model_that_takes_reals_becomes_remainders():
    """A model whose inputs are reals, which a QUANTIZE takes first, as most converters leave them, is taught as any other."""
    graph = without(quantize(classifier(), inputs_of(classifier(), 24), PLAIN).graph)
    taken = replace(graph.tensors[graph.inputs[0]], name="real", dtype="float32", quantization=None)
    first = Op("QUANTIZE", (len(graph.tensors),), graph.inputs, Table("QuantizeOptions", {}))
    real = graph.with_main(tensors=(*graph.tensors, taken), ops=(first, *graph.ops), inputs=first.inputs)
    made = taught(sound(replace(real, signatures=())), classifier())
    assert made is not None
    assert size(made) > 0


def test_a_float_model_of_other_weights_does_not():
    """Where remainders cannot say what the float model is, there are none: its weights are too far from the codes."""
    graph = without(quantize(classifier(), inputs_of(classifier(), 24), PLAIN).graph)
    other = classifier()
    tensors = [replace(t, data=4 * t.data) if t.data is not None and t.data.ndim > 1 else t for t in other.tensors]
    made = taught(graph, other.with_main(tensors=tuple(tensors)))
    assert (made is None) is True


def test_what_is_still_open():
    """Models drawn of what remainders leave open lie within a part of a cell of them, and are not all the same."""
    graph = quantize(classifier(), inputs_of(classifier(), 24), PLAIN).graph
    near = remembered(graph, reconstruct(graph))
    steps = left_open(graph)
    models = [model.graph for model in drawn(graph, whole(near), 3, steps)]
    assert len(steps) == len(weighted(graph))
    for at, step in steps.items():
        moved = [(np.asarray(m.tensors[at].data) - near.tensors[at].data) / step for m in models]
        assert 0.3 < np.abs(moved).max() <= 0.5 + 1e-3
        assert np.abs(moved[0] - moved[1]).max() > 0.1
        np.testing.assert_allclose(step, width(graph.tensors[at]) / 4)


def test_calibration_leans_on_them():
    """A model with remainders comes nearer to its float model than the same one without, and never by leave of what is open."""
    graph = classifier()
    before = quantize(
        graph, [tuple(20 * a for a in x) for x in inputs_of(graph, 24)], replace(PLAIN, per_channel=False)
    )
    local = inputs_of(graph, 200, seed=2)
    judge = judge_by(graph, inputs_of(graph, 40, seed=3))
    found = []
    for coded in (before.graph, without(before.graph)):
        done = recalibrate(coded, local)
        found.append(judge.error(done.graph, dict(zip(judge.targets, judged(reconstruct(coded)), strict=True))))
        assert done.changed
    assert found[0] < found[1]
    assert told(recalibrate(before.graph, local).graph) == told(before.graph)


def test_seal_makes_remainders_of_a_teacher(demo_folder, tmp_path, monkeypatch):
    """`edgeq seal --teacher` puts remainders in, which `--no-remainders` leaves out; sealed without either, nothing changes."""
    shutil.copytree(demo_folder, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    model = ["digits_int8.tflite"]
    assert main(["quantize", "digits.tflite", "-d", "calibration.npz", "-o", "plain.tflite", "--no-remainders"]) == 0
    seal = ["--key", "publisher.key", "--model-id", "a/b", "--version", "1", "--no-encrypt"]
    sizes = {}
    for name, arguments in {
        "as it is": [*model],
        "left out": [*model, "--no-remainders"],
        "plain": ["plain.tflite"],
        "taught": ["plain.tflite", "--teacher", "digits.tflite"],
        "whole": ["plain.tflite", "--teacher", "digits.tflite", "--no-remainders"],
    }.items():
        assert main(["seal", *arguments, *seal, "-o", "o.eqb"]) == 0
        graph = read(bytes(bundle.parse((tmp_path / "o.eqb").read_bytes()).payload))
        sizes[name] = len(told(graph) or b""), len(write(graph))
    assert sizes["as it is"][0] > 0
    assert sizes["left out"] == sizes["plain"] == (0, (tmp_path / "plain.tflite").stat().st_size)
    assert 0 < sizes["taught"][0] < 0.5 * sizes["plain"][1]
    assert sizes["whole"][0] == 0
    assert sizes["whole"][1] > 3 * sizes["plain"][1]
