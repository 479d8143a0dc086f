"""Samples that go through a graph all as far as each other, and the moments of what layers meet there."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from control_models import conditional
from quantize_models import MODELS, Net, classifier, inputs_of

from edgeq.engine import Tracer
from edgeq.feed import encode
from edgeq.graph import Activation, Graph, Op, Padding, Table
from edgeq.quantize import frontier, quantize
from edgeq.quantize.frontier import Frontier
from edgeq.quantize.moments import moments
from edgeq.quantize.windows import rows, windows
from edgeq.quantmod import QuantMod
from edgeq.records import replace


def integer() -> Graph:
    """An int8 model."""
    graph = classifier()
    return quantize(graph, inputs_of(graph)).graph


CASES = {**MODELS, "int8": integer, "conditional": conditional}


@pytest.mark.parametrize("room", [0, 1 << 30], ids=["nothing kept", "all kept"])
@pytest.mark.parametrize("name", CASES)
def test_every_tensor_is_come_to(name, room, monkeypatch):
    """Each computed tensor holds what a run that keeps everything gives, whether frontiers are kept or not."""
    monkeypatch.setattr(frontier, "BYTES", room)
    graph = CASES[name]()
    inputs = [tuple(encode(graph, x)) for x in inputs_of(graph, 5)]
    trace = Tracer(graph)
    wanted = [{i: np.array(v) for i, v in trace.run(x).items()} for x in inputs]
    order = [i for op in graph.ops for i in op.outputs if i in wanted[0]]
    way = Frontier(graph, inputs, [*graph.inputs, *order])
    for i in [*graph.inputs, *order]:
        stage = way.stage()
        found = np.concatenate([stage.values(0, 0, 2), stage.values(1, 2, 5)])
        np.testing.assert_array_equal(found, np.stack([w[i] for w in wanted]))


def test_what_is_ahead_may_change(monkeypatch):
    """Constants of operations that are still ahead may be others at each stage."""
    net = Net((1, 6, 6, 4))
    middle = net.conv(0, 8, act=Activation.RELU)
    graph = net.graph(net.depthwise(middle))
    inputs = inputs_of(graph, 4)
    at = graph.ops[1].inputs[1]
    other = graph.with_main(
        tensors=tuple(replace(t, data=2 * t.data) if i == at else t for i, t in enumerate(graph.tensors))
    )
    way = Frontier(graph, inputs, [middle, graph.outputs[0]])
    way.stage().values(0, 0, 4)
    found = way.stage(other).values(0, 0, 4)
    trace = Tracer(other)
    np.testing.assert_array_equal(found, np.stack([np.array(trace.run(x)[graph.outputs[0]]) for x in inputs]))


def layer(code: str, stride: int, padding: Padding) -> Op:
    options = {"stride_h": stride, "stride_w": stride, "padding": padding}
    return Op(code, (0, 1), (2,), Table("", options) if code != "FULLY_CONNECTED" else None)


LAYERS = [
    (code, stride, padding, most)
    for code, stride, padding, most in product(
        ("CONV_2D", "DEPTHWISE_CONV_2D"), (1, 2), (Padding.SAME, Padding.VALID), (7, 1000)
    )
] + [("FULLY_CONNECTED", 1, Padding.SAME, 2)]


@pytest.mark.parametrize(("code", "stride", "padding", "most"), LAYERS)
def test_moments_are_those_of_rows(code, stride, padding, most):
    """Moments of samples added up piece by piece are those of all rows, far from zero too; codes count as what they stand for."""
    rng = np.random.default_rng(stride)
    shape, weights = ((3, 7), (5, 7)) if code == "FULLY_CONNECTED" else ((1, 9, 8, 6), (1, 3, 3, 6))
    real = rng.normal(size=(10, *shape)).astype(np.float32) + 50 * rng.normal(size=shape[-1:]).astype(np.float32)
    q = QuantMod.from_range(float(real.min()), float(real.max()), 8, dtype="int8")
    codes = q.quantize(real)
    op = layer(code, stride, padding)
    cut = windows(op, shape, weights, most)
    depthwise = code == "DEPTHWISE_CONV_2D"
    parts = [moments(cut, depthwise, codes[a:b], q, real[a:b]) for a, b in ((0, 3), (3, 4), (4, 10))]
    found = parts[0].merged(parts[1]).merged(parts[2])
    x, x_hat = (
        np.concatenate([rows(op, v, weights, most) for v in side]).astype(np.float64)
        for side in (real, q.dequantize(codes))
    )
    if depthwise:
        x, x_hat = (a.transpose(2, 1, 0) for a in (x, x_hat))  # (channels, taps, n)
    else:
        x, x_hat = x.T, x_hat.T
    m, m_hat = x.mean(axis=-1), x_hat.mean(axis=-1)
    away, away_hat = x - m[..., None], x_hat - m_hat[..., None]
    assert found.counts.sum() == x.shape[-1]
    np.testing.assert_allclose(found.mean(found.exact), m, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(found.mean(found.met), m_hat, rtol=1e-5, atol=1e-5)
    wanted, beside = (a @ away_hat.swapaxes(-1, -2) / x.shape[-1] for a in (away_hat, away))
    np.testing.assert_allclose(found.about(found.met, found.h), wanted, atol=3e-6 * np.abs(wanted).max())
    np.testing.assert_allclose(found.about(found.exact, found.c), beside, atol=3e-6 * np.abs(wanted).max())
