"""What the quantizer's steps are made of: folding, equalising, rows, rounding, codebooks, ranges."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from quantize_models import Net, answers, inputs_of

from edgeq.calibrate import sparse, tracer
from edgeq.graph import Padding
from edgeq.histogram import Histogram
from edgeq.quantize import codebook, equalize, gptq
from edgeq.quantize.folding import fold_batch_norm, fold_pads
from edgeq.quantize.links import links
from edgeq.quantize.windows import rows
from edgeq.tflite.schema import table


def near(a, b, tolerance: float = 1e-4) -> None:
    for x, y in zip(a, b, strict=True):
        for u, v in zip(x, y, strict=True):
            np.testing.assert_allclose(u, v, atol=tolerance * max(1.0, float(np.abs(v).max())))


def normed(kind: str):
    """A layer, then MUL, ADD and SUB per channel, the last with a RELU."""
    net = Net((1, 6, 6, 3) if kind != "dense" else (1, 9))
    x = {"conv": lambda: net.conv(0, 4), "depthwise": lambda: net.depthwise(0), "dense": lambda: net.dense(0, 5)}[
        kind
    ]()
    shape = net.tensors[x].shape
    for code, option, act in (("MUL", "MulOptions", 0), ("ADD", "AddOptions", 0), ("SUB", "SubOptions", 1)):
        c = net.const(net.rng.normal(1, 0.5, shape[-1]).astype(np.float32))
        x = net.op(code, (x, c), shape, table(option, fused_activation_function=act))
    return net.graph(x)


@pytest.mark.parametrize("kind", ["conv", "depthwise", "dense"])
def test_a_batch_norm_becomes_the_layer(kind):
    """Products, sums and differences per channel go into the layer before, with their activation; values stay."""
    graph = normed(kind)
    folded = fold_batch_norm(graph)
    assert [op.code for op in folded.ops] == [graph.ops[0].code]
    inputs = inputs_of(graph, 4)
    near(answers(folded, inputs), answers(graph, inputs))


def test_what_is_no_batch_norm():
    """A tensor that others read too, and a constant that is not per channel, are left alone."""
    net = Net((1, 6, 6, 3))
    a = net.conv(0, 4)
    whole = net.const(np.ones((1, 6, 6, 4), np.float32))
    b = net.op("MUL", (a, whole), (1, 6, 6, 4), table("MulOptions"))
    graph = net.graph(net.add(a, b))
    assert [op.code for op in fold_batch_norm(graph).ops] == ["CONV_2D", "MUL", "ADD"]


@pytest.mark.parametrize(("before", "after", "folds"), [(1, 1, True), (2, 0, False), (1, 2, False)])
def test_a_pad_that_is_same(before, after, folds):
    """A PAD is folded just where the convolution's own padding is the same, bit for bit."""
    net = Net((1, 6, 6, 2))
    size = 6 + before + after
    counts = net.const(np.array([[0, 0], [before, after], [before, after], [0, 0]], np.int32))
    x = net.op("PAD", (0, counts), (1, size, size, 2))
    options = table("Conv2DOptions", stride_h=1, stride_w=1, padding=int(Padding.VALID))
    y = net.op("CONV_2D", (x, net.weights(3, 3, 3, 2), net.bias(3)), (1, size - 2, size - 2, 3), options)
    graph = net.graph(y)
    folded = fold_pads(graph)
    assert len(folded.ops) == (1 if folds else 2)
    inputs = inputs_of(graph, 3)
    near(answers(folded, inputs), answers(graph, inputs), 1e-6)


def chain(act: int = 1):
    """Convolution, depthwise, pool, convolution, dense: four links, whose channels differ by up to e⁴."""
    net = Net((1, 8, 8, 3))
    a = net.conv(0, 8, act=act)
    b = net.depthwise(a, act=act)
    c = net.conv(b, 8, k=1, act=act)
    d = net.dense(net.reshape(net.global_pool(c), 1, 8), 6, act=act)
    graph = net.graph(net.dense(d, 3))
    tensors = list(graph.tensors)
    for op in graph.ops:
        if op.code == "CONV_2D":
            for i in op.inputs[1:]:
                w = np.asarray(tensors[i].data)
                factors = np.exp(np.linspace(-4, 0, 8)).astype(np.float32).reshape(-1, *[1] * (w.ndim - 1))
                tensors[i] = replace(tensors[i], data=w * factors)
    return graph.with_main(tensors=tuple(tensors))


@pytest.mark.parametrize("how", ["by_weights", "by_activations", "absorbed"])
@pytest.mark.parametrize("act", [1, 3])
def test_equalising_changes_no_value(how, act):
    """Scale moved between channels, and floors moved into biases, leave the outputs as they are, RELU6 or not."""
    graph = chain(act)
    inputs = inputs_of(graph, 16)
    found = links(graph)
    assert len(found) == 4
    assert all(link.capped == (act == 3) for link in found)
    other = getattr(equalize, how)(graph, found, equalize.ends(graph, found, inputs))
    near(answers(other, inputs), answers(graph, inputs), 1e-3)


def residual(act: int = 1):
    """Convolution, a branch, their sum, a convolution and a shortcut, their sum, dense: channels differ by up to e⁴."""
    net = Net((1, 8, 8, 3))
    a = net.conv(0, 8, act=act)
    b = net.add(a, net.conv(net.conv(a, 6, act=act), 8), act=act)
    c = net.add(net.conv(b, 5, stride=2), net.conv(b, 5, k=1, stride=2), act=act)
    graph = net.graph(net.dense(net.reshape(net.global_pool(c), 1, 5), 3))
    tensors = list(graph.tensors)
    for n in (0, 2):
        for i in graph.ops[n].inputs[1:]:
            w = np.asarray(tensors[i].data)
            factors = np.exp(np.linspace(-4, 0, 8)).astype(np.float32).reshape(-1, *[1] * (w.ndim - 1))
            tensors[i] = replace(tensors[i], data=w * factors)
    return graph.with_main(tensors=tuple(tensors))


@pytest.mark.parametrize("how", ["by_weights", "by_activations"])
@pytest.mark.parametrize("act", [0, 1, 3])
def test_a_residual_stream_is_scaled_as_a_whole(how, act):
    """All that a sum joins is one link, and scaling it leaves the outputs as they are."""
    graph = residual(act)
    inputs = inputs_of(graph, 16)
    found = links(graph)
    assert [(link.writers, link.readers, link.sums) for link in found] == [
        ((0, 2), (1, 4, 5), (3,)),
        ((1,), (2,), ()),
        ((4, 5), (9,), (6,)),
    ]
    other = getattr(equalize, how)(graph, found, equalize.ends(graph, found, inputs))
    assert len(other.tensors) > len(graph.tensors)
    near(answers(other, inputs), answers(graph, inputs), 1e-3)


@pytest.mark.parametrize("joined", ["an input", "a product", "an output"])
def test_a_stream_that_others_touch_is_no_link(joined):
    """Channels stay as they are where something writes or reads them that cannot be scaled."""
    net = Net((1, 8, 8, 3), (1, 8, 8, 4))
    a = net.conv(0, 4, act=1)
    other = 1 if joined == "an input" else net.conv(0, 4)
    if joined == "a product":
        other = net.op("MUL", (other, 1), (1, 8, 8, 4), table("MulOptions"))
    b = net.add(a, other)
    y = net.conv(b, 4)
    assert links(net.graph(y, b) if joined == "an output" else net.graph(y)) == []


def test_equalising_by_weights_evens_ranges():
    """Afterwards the largest weights of the channels are nearer to one another."""
    graph = chain()
    found = links(graph)
    other = equalize.by_weights(graph, found, equalize.ends(graph, found, inputs_of(graph, 8)))

    def spread(g, n: int) -> float:
        top = np.abs(np.asarray(g.tensors[g.ops[n].inputs[1]].data)).reshape(8, -1).max(axis=1)
        return float(top.max() / top.min())

    assert spread(other, 0) < 0.5 * spread(graph, 0)


def test_lifted_channels_keep_half_the_room():
    """A channel is lifted to half the tensor's largest value at most."""
    graph = chain()
    inputs = inputs_of(graph, 8)
    found = links(graph)
    before = equalize.ends(graph, found, inputs)
    after = equalize.ends(graph, found, inputs_of(graph, 8))
    other = equalize.by_activations(graph, found, before)
    after = equalize.ends(other, found, inputs)
    first = found[0].tensors[0]
    top, was = after[first][1], before[first][1]
    assert (top[was < was.max() / 2] <= 0.5 * was.max() * 1.001).all()
    assert top.min() > 1.5 * was.min()


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("padding", [Padding.SAME, Padding.VALID])
def test_rows_times_weights_are_the_convolution(stride, padding):
    """What a convolution's weights meet, row by row, multiplied by them is its output."""
    net = Net((1, 7, 6, 3))
    options = table("Conv2DOptions", stride_h=stride, stride_w=stride, padding=int(padding))
    size = [-(-s // stride) if padding == Padding.SAME else (s - 3) // stride + 1 for s in (7, 6)]
    w, b = net.weights(4, 3, 3, 3), net.const(np.zeros(4, np.float32))
    graph = net.graph(net.op("CONV_2D", (0, w, b), (1, *size, 4), options))
    (x,) = inputs_of(graph, 1)[0]
    y = np.array(tracer(graph)([x])[graph.outputs[0]])
    found = rows(graph.ops[0], x, (4, 3, 3, 3), 1000)
    np.testing.assert_allclose(found @ np.asarray(graph.tensors[w].data).reshape(4, -1).T, y.reshape(-1, 4), atol=1e-4)
    assert len(rows(graph.ops[0], x, (4, 3, 3, 3), 5)) <= 5


def test_rounding_under_a_hessian():
    """Errors made up for cost less at the layer's output than every weight at its nearest code."""
    rng = np.random.default_rng(0)
    mix = rng.normal(size=(24, 24)) * np.exp(np.linspace(0, -3, 24))
    x = rng.normal(size=(2000, 24)) @ mix
    h = gptq.damped(x.T @ x / len(x), len(x))
    w = rng.normal(0, 5, (16, 24))
    codes = gptq.rounded(w, h, lambda column, j: np.clip(np.rint(column), -127, 127))
    assert gptq.cost(w, codes, h).sum() < 0.85 * gptq.cost(w, np.rint(w), h).sum()
    best = gptq.better(w, np.rint(w), h, codes)
    assert (gptq.cost(w, best, h) <= gptq.cost(w, np.rint(w), h)).all()


def test_up_or_down_at_least_cost():
    """Of all ways to round a channel's taps up or down, the one that costs least is found."""
    rng = np.random.default_rng(2)
    x = rng.normal(size=(4, 300, 6)).cumsum(axis=2)
    h = gptq.damped(np.matmul(x.swapaxes(1, 2), x) / 300, 300)
    w = np.concatenate([rng.normal(0, 5, (3, 6)), [[-130.0, 130.0, 126.6, 0.5, -0.5, 2.0]]])
    found = gptq.exact_depthwise(w, h)
    for row, each, codes in zip(w, h, found, strict=True):
        ways = [np.clip(np.floor(row), -127, 126) + np.array(b) for b in np.ndindex(*(2,) * 6)]
        least = min(gptq.cost(row[None], way[None], each)[0] for way in ways)
        assert gptq.cost(row[None], codes[None], each)[0] == pytest.approx(least)
    assert np.abs(found).max() <= 127


def test_rounding_depthwise_is_rounding_each_channel():
    """A depthwise layer's channels are rounded as if each were alone, in the order of their taps."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=(3, 400, 9)).cumsum(axis=2)
    h = gptq.damped(np.matmul(x.swapaxes(1, 2), x) / 400, 400)
    w = rng.normal(0, 5, (3, 9))
    codes = gptq.rounded_depthwise(w, h, lambda column, j: np.rint(column))
    assert gptq.cost(w, codes, h).sum() < gptq.cost(w, np.rint(w), h).sum()


@pytest.mark.parametrize("count", [4, 8, 16])
def test_codebook_levels(count):
    """Levels are ascending codes of int8, and cost less than as many at even distances."""
    rng = np.random.default_rng(2)
    w = rng.normal(0, 30, (6, 900)).clip(-127, 127)
    found = codebook.levels(w, np.ones(900), count, "kmeans")
    assert found.shape == (6, count)
    assert (np.diff(found, axis=1) >= 0).all()
    assert np.abs(found).max() <= 127
    even = np.broadcast_to(np.rint(np.linspace(-127, 127, count)).astype(np.int64), (6, count))
    assert ((codebook.plain(w, found) - w) ** 2).sum() < 0.7 * ((codebook.plain(w, even) - w) ** 2).sum()
    column = w[:, 3]
    naive = [row[np.argmin(np.abs(row - v))] for row, v in zip(found, column, strict=True)]
    np.testing.assert_allclose(np.abs(codebook.nearest(column, found) - column), np.abs(np.array(naive) - column))


def test_short_rows_share_a_codebook():
    """Channels of few weights share levels, so that these take no more than a twelfth of the indices."""
    w = np.random.default_rng(3).normal(0, 30, (40, 32)).clip(-127, 127)
    found = codebook.levels(w, np.ones(32), 16, "kmeans")
    share = codebook.sharing(32, 16)
    assert share > 1
    assert len(np.unique(found, axis=0)) == -(-40 // share)


def test_ranges_of_a_histogram():
    """A percentile leaves out what is rare, an average lies inside the extremes, entropy clips little of a normal stream."""
    rng = np.random.default_rng(4)
    h = Histogram()
    for _ in range(20):
        h = h.add(np.maximum(rng.normal(0, 1, 20_000), 0).astype(np.float32))
    h = replace(h.add(np.float32([40.0])), average=(0.0, 4.2))
    assert h.percentile()[1] < 6
    assert h.averaged() == (0.0, 4.2)
    bare = Histogram().add(np.maximum(rng.normal(0, 1, 300_000), 0).astype(np.float32))
    assert 3 < bare.entropy()[1] <= bare.maximum
    assert bare.averaged() == bare.minmax()


def test_sparse_sees_everything_in_turn():
    """At most so many values at once, and all of them in the course of turns."""
    x = np.arange(1000)
    assert sparse(x, 2000) is not None
    assert len(sparse(x, 64)) <= 64
    assert set(np.concatenate([sparse(x, 64, k) for k in range(16)])) == set(range(1000))
