"""Layers fitted in closed form before a model learns: codes that no single change betters, under the loss's curvature."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from quantize_models import Net, classifier
from test_finetune import PLAIN, coarse, deep, layers, pictures

from edgeq.finetune import Options, finetune
from edgeq.finetune.course import Course
from edgeq.finetune.curvature import DAMPING, curvature
from edgeq.finetune.descent import descended, levelled
from edgeq.finetune.goal import Target
from edgeq.finetune.refit import ROWS, every, fittable, refitted
from edgeq.finetune.slopes import SHARE, pulled, slopes
from edgeq.finetune.spans import respanned
from edgeq.finetune.student import Student
from edgeq.finetune.walk import Walk
from edgeq.graph import Graph
from edgeq.quantize import quantize
from edgeq.quantize.compare import judged
from edgeq.reverse import Tape
from edgeq.tflite.schema import table

Array = Any


def moments(k: int, seed: int) -> Array:
    """Those of correlated values, (k, k)."""
    x = np.random.default_rng(seed).normal(size=(4 * k, k)) @ np.random.default_rng(seed + 1).normal(size=(k, k))
    return x.T @ x / len(x)


def cost(codes: Array, target: Array, h: Array, g: Array) -> float:
    e = codes - target
    return float(np.trace(g @ e @ h @ e.T))


@pytest.mark.parametrize("coupled", [False, True], ids=["channels apart", "channels coupled"])
@pytest.mark.parametrize("few", [False, True], ids=["all codes", "four levels"])
def test_no_single_code_is_better_in_another_place(coupled: bool, few: bool) -> None:
    """Descent ends where no weight can move to another level and cost less, far below the nearest levels' cost."""
    rng = np.random.default_rng(3)
    target, h, g = rng.normal(0, 20, (5, 12)), moments(12, 5), moments(5, 7) if coupled else np.eye(5)
    levels = np.sort(np.rint(rng.normal(0, 20, (5, 4))), axis=1) if few else None
    near = np.rint(target)
    if levels is not None:
        near = np.take_along_axis(levels, np.abs(levels[:, None, :] - target[:, :, None]).argmin(axis=2), 1)
    found = descended(near, target, h, levels, g if coupled else None)
    least = cost(found, target, h, g)
    assert least < 0.8 * cost(near, target, h, g)
    for i in range(5):
        for j in range(12):
            for value in levels[i] if levels is not None else (found[i, j] - 1, found[i, j] + 1):
                other = found.copy()
                other[i, j] = value
                assert cost(other, target, h, g) >= least - 1e-9 * least


def test_depthwise_channels_have_moments_of_their_own() -> None:
    """No code of a depthwise layer is better in another place under its own channel's moments."""
    rng = np.random.default_rng(0)
    target, h = rng.normal(0, 5, (3, 9)), np.stack([moments(9, s) for s in (1, 2, 3)])
    found = descended(np.rint(target), target, h, None)

    def far(codes: Array, c: int) -> float:
        return cost(codes[c : c + 1], target[c : c + 1], h[c], np.eye(1))

    for c in range(3):
        assert far(found, c) <= far(np.rint(target), c)
        for j in range(9):
            for by in (-1, 1):
                other = found.copy()
                other[c, j] += by
                assert far(other, c) >= far(found, c)


def test_levels_move_with_their_weights() -> None:
    """Levels and codes in turns find a channel that has four levels exactly, channels of one book together."""
    rng = np.random.default_rng(1)
    true = np.array([[-90.0, -10, 20, 100]])
    target = true[0][rng.integers(0, 4, (4, 30))]
    start = np.array([[-60.0, -20, 40, 80]])
    near = np.take_along_axis(np.repeat(start, 4, axis=0), np.abs(start[0] - target[:, :, None]).argmin(axis=2), axis=1)
    codes, levels = levelled(near, target, np.eye(30) + 0.01 * moments(30, 2), start, np.zeros(4, np.int64))
    assert levels.tolist() == true.tolist()
    assert (codes == target).all()


def test_a_walk_meets_what_a_pass_meets() -> None:
    """Operation by operation and in pieces, values are those of one pass, and are dropped when nobody reads them."""
    graph, x = deep(), pictures(7)
    (target,) = graph.outputs
    wanted = Tape(graph, (target,)).forward({graph.inputs[0]: x}, {})
    walk = Walk(graph, (target,), {graph.inputs[0]: x}, 3, lambda i, v: v)
    last = len(graph.ops) - 1
    walk.until(last, {})
    assert set(walk.values) == {graph.ops[last].inputs[0]}
    for i, v in walk.values.items():
        np.testing.assert_allclose(v, wanted[i], rtol=1e-5, atol=1e-6)


def linear() -> Graph:
    """[1, 3] → four values, by one layer."""
    net = Net((1, 3), seed=1)
    return net.graph(net.dense(0, 4))


def test_curvature_is_the_loss_s_second_derivative() -> None:
    """At a softmax's scores it is that of the divergence, diag(p) − p·pᵀ, and of noise per signal, the identity."""
    graph = linear()
    x = np.random.default_rng(0).normal(size=(400, 3)).astype(np.float32)
    student = Student(quantize(graph, x, PLAIN).graph, graph)
    (out,) = graph.outputs
    wanted = Tape(graph, (out,)).forward({graph.inputs[0]: x}, {})[out]
    (n,) = (y.op for y in student.layers)
    for goal, signal in ((Target(out, 1.0), 1e9), (Target(out, 0.0), 2.0)):
        found = curvature(student, student.initial, [goal], [signal], [([x], [wanted])], np.random.default_rng(1))[n]
        p = np.exp(wanted) / np.exp(wanted).sum(axis=1, keepdims=True)
        true = np.diag(p.mean(axis=0)) - p.T @ p / len(p) if goal.beta else np.eye(4)
        np.testing.assert_allclose(found.shape, true / np.diag(true).mean() + DAMPING * np.eye(4), atol=0.12)


def test_fitting_alone_recovers_coarse_weights() -> None:
    """A model of four levels to a channel comes ten times as near to its float model on samples never seen, and keeps its
    levels, before the first epoch."""
    graph, x = deep(), pictures(96)
    start = coarse(quantize(graph, x, PLAIN).graph, 4)
    student = Student(start, graph)
    assert len(fittable(student)) == 3
    point = refitted(student, graph, student.initial, [x[::2]], 16, {}, {})
    unseen = pictures(64, 9)
    (target,) = student.targets
    (goal,) = judged(graph)
    wanted = Tape(graph, (goal,)).forward({graph.inputs[0]: unseen}, {})[goal]

    def error(at: Any) -> float:
        return float(((student.forward(at, {start.inputs[0]: unseen}, False)[target] - wanted) ** 2).mean())

    assert error(point) < 0.1 * error(student.initial)
    done = student.graph_of(point)
    for i in layers(start):
        rows = np.asarray(done.tensors[i].data).reshape(len(start.tensors[i].data), -1)
        assert max(len(np.unique(r)) for r in rows) <= 4


def residual() -> Graph:
    """[1, 8, 8, 3] → a convolution, and two side by side whose sum is pooled → softmax [1, 4]."""
    net = Net((1, 8, 8, 3), seed=8)
    a = net.conv(0, 16, act=1)
    b = net.conv(a, 16)
    c = net.op("ADD", (b, net.conv(a, 16, k=1)), (1, 8, 8, 16), table("AddOptions"))
    return net.graph(net.softmax(net.dense(net.reshape(net.global_pool(c), 1, 16), 4)))


def test_a_sum_s_last_summand_makes_up_for_the_others() -> None:
    """What one branch of a sum writes wrong, the branch that is fitted behind it takes off."""
    graph, x = residual(), pictures(64)
    start = coarse(quantize(graph, x, PLAIN).graph, 4)
    run = Course(graph, start, x, None, None, Options(epochs=2))
    at = run.fitted(run.standing, 0, lambda: None)
    assert at.best == 1
    assert at.history[1].distance < 0.3 * at.history[0].distance


def test_time_that_is_up_ends_fitting() -> None:
    """However short the time, layers are fitted once, and what that gave is kept."""
    graph, x = deep(), pictures(32)
    start = coarse(quantize(graph, x, PLAIN).graph, 4)
    done = finetune(graph, x, start, options=Options(epochs=9, minutes=1e-4))
    assert done.best == 1
    assert not done.finished


def test_learning_goes_on_from_what_was_fitted() -> None:
    """Layers that keep all codes are not drawn back to where they were before they were fitted."""
    graph, x = deep(), pictures(64)
    start = quantize(graph, x, PLAIN).graph
    tensors = list(start.tensors)
    for i in layers(start):  # steps eight times as wide: weights are fitted many codes away from these
        w, q = np.asarray(tensors[i].data), tensors[i].quantization
        assert q is not None
        wide = np.rint(w / 8.0 + np.random.default_rng(i).uniform(-2, 2, w.shape))
        data = np.clip(wide, -127, 127).astype(np.int8)
        tensors[i] = replace(tensors[i], data=data, quantization=replace(q, scale=8 * q.scale), buffer=0)
    damaged = start.with_main(tensors=tuple(tensors))
    done = finetune(graph, x, damaged, options=Options(epochs=2, rate=1e-9))
    fitted, learned = done.history[1:-2], done.history[-2:]
    assert min(fitted).distance < 0.2 * done.history[0].distance
    assert max(learned).distance < 1.1 * min(fitted).distance


def test_steps_that_cut_values_off_are_found_anew() -> None:
    """Activations' steps a quarter or eight times as wide as they were come back; those that `quantize` chose stay."""
    graph, x = residual(), pictures(64)
    student = Student(quantize(graph, x, PLAIN).graph, graph)
    assert respanned(student, graph, student.initial, [x], 16) == student.initial
    names = [k for k in student.initial if k.startswith("a")]
    assert len(names) >= 4
    away = {k: v + np.log((0.25, 8.0)[names.index(k) % 2]) for k, v in student.initial.items() if k in names}
    damaged = Student(student.graph_of({**student.initial, **away}), graph)
    found = respanned(damaged, graph, damaged.initial, [x], 16)
    for name in names:
        assert abs(found[name] - student.initial[name]) < np.log(1.5), name
    run = Course(graph, damaged.start, x, None, None, Options(epochs=2))
    at = run.fitted(run.standing, 0, lambda: None)
    assert at.history[1].distance < 0.05 * at.history[0].distance


@pytest.mark.parametrize(("height", "width"), [(64, 64), (48, 48), (25, 5)], ids=["powers of two", "threes", "fives"])
@pytest.mark.parametrize("samples", [128, 384, 450, 512, 600])
def test_rows_come_from_everywhere_in_a_picture(samples: int, height: int, width: int) -> None:
    """Whatever the number of pictures and their sides, rows that stand for all are of each column, and no more than ROWS."""
    count = samples * height * width
    at = np.arange(0, count, every(count, height * width))
    assert min(count, ROWS) / 2.5 < len(at) <= ROWS
    assert np.bincount(at % width, minlength=width).min() > len(at) / width / 3


@pytest.mark.parametrize("batch", [2, 3])
def test_layers_of_models_with_a_batch_are_fitted(batch: int) -> None:
    """Samples are gone through in whole inferences, however many samples one takes."""
    graph = classifier(batch)
    samples = np.random.default_rng(0).normal(size=(20 * batch, 8, 8, 3)).astype(np.float32)
    start = coarse(quantize(graph, samples, PLAIN).graph, 4)
    done = finetune(graph, samples, start, options=Options(epochs=1))
    assert done.history[done.best].distance < 0.7 * done.history[0].distance


def test_a_step_of_natural_gradient_leads_to_where_the_loss_is_least() -> None:
    """For a layer by itself, that is the float model's weights, whatever weights it has and whatever else it is to write."""
    graph = linear()
    x = np.random.default_rng(0).normal(1, 1, size=(4000, 3)).astype(np.float32)
    student = Student(quantize(graph, x[:100], PLAIN).graph, graph)
    (out,) = graph.outputs
    wanted = Tape(graph, (out,)).forward({graph.inputs[0]: x}, {})[out]
    signal = float((wanted**2).mean())
    (y,) = student.layers
    codes = np.rint(student.layer(y, student.initial)[1] * np.random.default_rng(1).uniform(0.5, 1, (4, 3)))
    at = student.placed(y, student.initial, codes, None, np.zeros(4))
    goals, taught = [Target(out, 0.0)], [([x], [wanted])]
    curved = curvature(student, at, goals, [signal], taught, np.random.default_rng(2))[y.op]
    slope = slopes(student, at, [y], goals, [signal], taught)[y.op]
    true = np.asarray(graph.tensors[graph.ops[0].inputs[1]].data)
    step, codes, _ = student.layer(y, at)
    has = codes * step[:, None]
    h = np.cov(x.T)
    there = pulled(np.zeros_like(has), has, h, x.mean(axis=0), slope, curved) / SHARE
    np.testing.assert_allclose(there, has + (true - has) / (1 + DAMPING), atol=0.1 * np.abs(has - true).max())
