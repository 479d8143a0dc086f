"""Weights that lie on a grid already: found, and left there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from quantize_models import Net, answers, inputs_of, sqnr

from edgeq.graph import Graph
from edgeq.quantize import grid, quantize
from edgeq.quantize.alone import alone
from edgeq.quantize.compare import judge_by
from edgeq.quantize.gptq import hessians
from edgeq.quantize.layout import arrange
from edgeq.quantize.probe import runs
from edgeq.quantize.rounding import FINEST, clipped, layers, plain, rounded
from edgeq.recipe import RECIPES, Recipe

RNG = np.random.default_rng(5)
UINT8 = RNG.integers(0, 256, (16, 40)) - 128.0
FACTORS = RNG.uniform(0.2, 3, 16).astype(np.float32)


def float32(step: float, codes: np.ndarray) -> np.ndarray:
    return np.float32(step) * codes.astype(np.float32)


CASES: dict[str, tuple[np.ndarray, bool, float | np.ndarray]] = {
    "one step for all": (float32(0.0123, UINT8), False, 0.0123),
    "one step for all, a channel each": (float32(0.0123, UINT8), True, 0.0123),
    "beyond 127": (float32(0.0123, UINT8 + 60), False, 0.0123),
    "after a batch norm": (float32(0.0123, UINT8) * FACTORS[:, None], True, 0.0123 * FACTORS),
    "few steps are divided": (float32(0.5, np.sign(UINT8)), False, 0.5 / 127),
    "a batch norm leaves no step for all": (float32(0.0123, UINT8) * FACTORS[:, None], False, 0.0),
    "none": (RNG.normal(size=(16, 40)).astype(np.float32), True, 0.0),
    "none for all": (RNG.normal(size=(16, 40)).astype(np.float32), False, 0.0),
    "too fine a grid": (float32(0.001, RNG.integers(-5000, 5000, (16, 40))), True, 0.0),
    "zeros": (np.zeros((16, 40), np.float32), True, 0.0),
}


@pytest.mark.parametrize("name", CASES)
def test_the_step_of_a_grid(name):
    """The step of what lies on a grid is found to float32's precision, and nothing else is taken for a grid."""
    w, per_channel, wanted = CASES[name]
    found = grid.steps(w, per_channel)
    assert found.shape == (16 if per_channel else 1,)
    multiples = np.rint(
        np.divide(wanted, found, out=np.ones(found.shape), where=found > 0)
    )  # a channel's may be a multiple
    np.testing.assert_allclose(found * multiples, wanted, rtol=1e-6)


def on_grid(net: Net, *shape: int, far: int = 0) -> int:
    """Weights on a uint8 grid, `far` of them beyond what int8 holds."""
    codes = net.rng.integers(-127, 128, shape).astype(np.float32)
    codes.reshape(-1)[:far] = 140
    return net.const(np.float32(0.004) * codes, "w")


def dequantized(far: int = 0) -> Graph:
    """[1, 6, 6, 3] → two convolutions and a dense layer, whose weights were int8, or uint8, once."""
    net = Net((1, 6, 6, 3))
    a = net.conv(0, 40, act=1, w=on_grid(net, 40, 3, 3, 3, far=far))
    b = net.conv(a, 32, k=1, act=1, w=on_grid(net, 32, 1, 1, 40))
    return net.graph(net.dense(net.reshape(net.global_pool(b), 1, 32), 40, w=on_grid(net, 40, 32)))


PRECISE: dict[str, Callable[[], Recipe]] = {
    "weights": lambda: RECIPES["weights"],
    "int16x8": lambda: RECIPES["int16x8"],
    "int16x8, one scale per layer": lambda: replace(RECIPES["int16x8"], per_channel=False),
}


@pytest.mark.parametrize("name", PRECISE)
def test_a_dequantized_model_loses_nothing(name):
    """Where weights come from a grid, quantizing them again gives the very same ones."""
    graph = dequantized()
    done = quantize(graph, [x for (x,) in inputs_of(graph, 24)], PRECISE[name]())
    others = inputs_of(graph, 8, seed=9)
    assert min(sqnr(answers(graph, others), answers(done.graph, others))) > (120 if name == "weights" else 70)


def test_what_lies_beyond_is_clipped_where_that_does_less():
    """Two weights beyond 127 do not move all others off their grid: those keep their codes, and the outputs less noise."""
    graph = dequantized(far=2)
    layout = arrange(graph, RECIPES["int8-per-tensor"], runs)
    inputs = inputs_of(graph, 24)
    n = layers(layout)[0]
    h = dict(hessians(graph, [n], inputs, centred=True))[n]
    found = clipped(graph, layout, n, h, "kmeans")
    assert found is not None
    assert found.scale[0] == pytest.approx(0.004, rel=1e-5)
    assert clipped(graph, layout, layers(layout)[1], h, "kmeans") is None
    judge = judge_by(graph, inputs)
    off = replace(
        found, data=np.rint(found.data * (127 / 140)).astype(np.int8), scale=found.scale * np.float32(140 / 127)
    )
    assert alone(graph, n, found, {}, judge) < alone(graph, n, off, {}, judge)
    near = plain(graph, layout, layers(layout)[1])
    assert np.array_equal(near.data, rounded(graph, layout, layers(layout)[1], None, FINEST, "kmeans").data)


@pytest.mark.parametrize("k", [1, 2, 9, 30, 700])
@pytest.mark.parametrize("most", [1, 20, 127, 255, 600])
def test_channels_are_found_together_as_they_are_alone(k: int, most: int) -> None:
    """What is found of a channel does not depend on those beside it: rows on grids, off them and of nothing but zeros."""
    rng = np.random.default_rng(k * most)
    w = (rng.integers(-most, most + 1, (70, k)) * rng.uniform(0.001, 3, (70, 1))).astype(np.float32)
    w[rng.random(70) < 0.1] = rng.normal(size=k)
    w[rng.random(70) < 0.1] = 0
    found = grid.steps(w, True)
    alone = [grid._step(row.astype(np.float64)) for row in w]
    assert found.tolist() in (
        alone,
        [0.0] * len(w),
    )  # nothing is looked for where the first few say that there is nothing
    assert most > 255 or k == 1 or any(found)
