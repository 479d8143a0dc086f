"""Fine-tuning: the student answers as its integer graph does, learns without labels, and keeps only what is better."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from quantize_models import MODELS, Net, answers, classifier, inputs_of, sqnr

from edgeq.calibrate import Keeper
from edgeq.cli import main
from edgeq.errors import InputError, QuantizeError
from edgeq.feed import quantmod_of
from edgeq.finetune import Options, finetune
from edgeq.finetune.asked import Asked
from edgeq.finetune.codebook import codebook_of, levels_of
from edgeq.finetune.course import FITTINGS, HOLD_OUT, JUDGES, Course
from edgeq.finetune.goal import Target, answering, distance, loss
from edgeq.finetune.goal import answers as answered
from edgeq.finetune.imagined import Imagined
from edgeq.finetune.rows import Rows
from edgeq.finetune.sought import LEVEL, Sought
from edgeq.finetune.steps import Codes, fake
from edgeq.finetune.student import Student
from edgeq.finetune.varied import Spread, varied
from edgeq.graph import Graph
from edgeq.quantize import blas, quantize
from edgeq.recipe import RECIPES, Recipe
from edgeq.tflite import read, write

Array = Any
FITTED = 3 * FITTINGS
"""Layers that `deep` has, each fitted so many times before the first epoch."""

PLAIN = Recipe("plain", ranges="minmax", equalize=False, rounding="nearest", bias_correction=False)


def deep() -> Graph:
    """[1, 8, 8, 3] → two convolutions of 72 and more weights a channel, a pool, a dense layer → softmax [1, 4]."""
    net = Net((1, 8, 8, 3), seed=5)
    a = net.conv(net.conv(0, 16, act=1), 16, act=1)
    return net.graph(net.softmax(net.dense(net.reshape(net.global_pool(a), 1, 16), 4)))


def pictures(n: int, seed: int = 1) -> Array:
    return np.random.default_rng(seed).normal(0, 1, (n, 8, 8, 3)).astype(np.float32)


def layers(graph: Graph) -> list[int]:
    """The tensors of int8 weights."""
    return [op.inputs[1] for op in graph.ops if op.code in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")]


def coarse(graph: Graph, count: int) -> Graph:
    """The integer graph with `count` levels to a channel, evenly spread: what a codebook leaves, and worse."""
    tensors = list(graph.tensors)
    for i in layers(graph):
        w = np.asarray(tensors[i].data).astype(float)
        rows = w.reshape(len(w), -1)
        low, high = rows.min(axis=1, keepdims=True), rows.max(axis=1, keepdims=True)
        step = np.maximum(high - low, 1) / (count - 1)
        data = np.rint(np.rint((rows - low) / step) * step + low).astype(np.int8)
        tensors[i] = replace(tensors[i], data=data.reshape(w.shape), buffer=0)
    return graph.with_main(tensors=tuple(tensors))


def test_fake_quantization_has_the_gradient_of_its_paper() -> None:
    """Values pass their gradient on where they are not clipped; a step has s·(code − v/s), a clipped value's s·limit."""
    x, codes = np.array([-9.0, -0.26, 0.1, 0.74, 9.0]), Codes(-2, 3)
    y, back = fake(x, 0.5, codes)
    assert y.tolist() == [-1.0, -0.5, 0.0, 0.5, 1.5]
    gx, gs = back(np.ones(5))
    assert gx.tolist() == [0, 1, 1, 1, 0]
    assert gs == pytest.approx(0.5 * np.array([-2, -1 + 0.52, 0 - 0.2, 1 - 1.48, 3]))


@pytest.mark.parametrize(
    "target", [Target(0, 0.0), Target(0, 1.0), Target(0, 0.5)], ids=["values", "softmax", "beta ½"]
)
@pytest.mark.parametrize("labelled", [False, True])
def test_the_loss_has_its_gradient(target: Target, labelled: bool) -> None:
    """The loss's gradient is its finite difference, with and without labels."""
    rng = np.random.default_rng(0)
    found, wanted = rng.normal(size=(2, 3, 4))
    labels = None
    if labelled:
        labels = np.array([1, 0, 3]) if target.beta else rng.normal(size=(3, 4))
    _, gradient = loss(target, found, wanted, 2.0, labels)
    for k in range(found.size):
        up, down = (
            loss(target, found + s * 1e-6 * np.eye(1, 12, k).reshape(3, 4), wanted, 2.0, labels)[0] for s in (1, -1)
        )
        assert gradient.reshape(-1)[k] == pytest.approx((up - down) / 2e-6, rel=1e-3, abs=1e-7)
    assert distance(target, wanted, wanted) == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("recipe", [PLAIN, replace(PLAIN, per_channel=False)], ids=["per channel", "per tensor"])
@pytest.mark.parametrize("make", [classifier, deep], ids=["classifier", "deep"])
def test_the_student_starts_as_the_integer_graph(recipe: Recipe, make: Any) -> None:
    """Before it learns, the student's codes are the graph's, its graph is the graph, and its answers are the engine's."""
    graph = make()
    x = pictures(16)
    start = quantize(graph, x, recipe).graph
    student = Student(start, graph)
    again = student.graph_of(student.initial)
    for a, b in zip(start.tensors, again.tensors, strict=True):
        if a.data is not None and a.quantization is not None:
            assert np.abs(np.asarray(a.data).astype(np.int64) - np.asarray(b.data)).max() <= (a.dtype == "int32")
        if a.quantization is not None:
            np.testing.assert_array_equal(a.quantization.scale, b.quantization.scale)
    found = student.forward(student.initial, {start.inputs[0]: x[:4]})
    (target,) = student.targets
    q = quantmod_of(start.tensors[target])
    assert q is not None
    from edgeq.engine import Tracer

    run = Tracer(start).run
    for k in range(4):
        wanted = q.dequantize(
            np.array(run([quantmod_of(start.tensors[start.inputs[0]]).quantize(x[k : k + 1])])[target])
        )
        assert np.abs(found[target][k : k + 1] - wanted).max() <= 3.01 * float(q.scale)


def test_gradients_of_steps_and_biases_are_finite_differences() -> None:
    """Where no code changes, the loss's slope by a bias is the gradient that learning sees."""
    graph = deep()
    start = quantize(graph, pictures(16), PLAIN).graph
    student = Student(start, graph)
    at = {k: v.astype(np.float64) for k, v in student.initial.items()}
    given = {start.inputs[0]: pictures(2, 3)}
    (target,) = student.targets
    found = student.forward(at, given)
    gradients = student.backward({target: np.ones_like(found[target])})
    assert set(gradients) == set(at)
    last = student.layers[-1]
    name = f"b{last.bias}"
    # The last layer's bias moves its output directly: by as many steps as it is moved, summed over two inferences.
    assert gradients[name] == pytest.approx(np.full(4, 2.0) * student._units[name], rel=1e-6)


def test_learning_recovers_what_coarse_weights_lost() -> None:
    """A model of four levels to a channel comes back by more than half of what it lost on samples never seen, and keeps
    its levels."""
    graph = deep()
    x = pictures(96)
    start = coarse(quantize(graph, x, PLAIN).graph, 4)
    done = finetune(graph, x, start, options=Options(epochs=25, batch=8))
    assert done.changed
    assert done.codebooks == 3
    assert done.history[done.best].distance < 0.3 * done.history[0].distance
    unseen = [(row[None],) for row in pictures(64, 9)]
    wanted, before, after = (answers(g, unseen) for g in (graph, start, done.graph))

    def lost(found: Any) -> float:
        p, q = (np.concatenate([np.ravel(v[0]) for v in s]).reshape(64, 4) for s in (wanted, found))
        return float(np.abs(p - q).mean())

    assert lost(after) < 0.5 * lost(before)
    for i, j in zip(layers(start), layers(done.graph), strict=True):
        rows = np.asarray(done.graph.tensors[j].data).reshape(len(start.tensors[i].data), -1)
        assert max(len(np.unique(r)) for r in rows) <= 4
    assert [t.name for t in done.graph.tensors] == [t.name for t in start.tensors]
    assert read(write(done.graph)).ops[0].code == "CONV_2D"


@pytest.mark.parametrize("recipe", ["int8", "codebook2"])
def test_a_layer_of_one_level_is_no_obstacle(recipe: str) -> None:
    """A model learns beside a layer all of whose weights are one code, as where none of its outputs is ever used."""
    graph = MODELS["unused channels"]()
    samples = inputs_of(graph, 20)
    start = quantize(graph, samples, RECIPES[recipe]).graph
    done = finetune(graph, samples, start, options=Options(epochs=2))
    assert [len(np.unique(t.data)) for t in start.tensors if t.data is not None and t.shape == (2, 8)] == [1]
    assert all(np.isfinite(figure.distance) for figure in done.history)
    assert done.history[done.best].distance <= done.history[0].distance


def test_per_tensor_weights_learn() -> None:
    """A per-tensor model whose channels differ in size comes nearer to its float model."""
    net = Net((1, 8, 8, 3), seed=2)
    w = net.rng.normal(0, 0.3, (16, 3, 3, 3)) * np.geomspace(0.02, 2, 16).reshape(-1, 1, 1, 1)
    a = net.conv(0, 16, act=1, w=net.const(w.astype(np.float32)))
    mix = net.rng.normal(0, 0.3, (4, 1, 1, 16)) / np.geomspace(0.02, 2, 16)
    graph = net.graph(net.conv(a, 4, k=1, w=net.const(mix.astype(np.float32))))
    x = pictures(64)
    start = quantize(graph, x, replace(PLAIN, per_channel=False)).graph
    done = finetune(graph, x, start, options=Options(epochs=60, batch=8))
    unseen = [(row[None],) for row in pictures(16, 9)]
    wanted = answers(graph, unseen)
    (before,), (after,) = (list(sqnr(wanted, answers(g, unseen))) for g in (start, done.graph))
    assert after > before + 1.0


def test_labels_are_learned_from() -> None:
    """With labels that the float model gets wrong, the tuned model gets more of them right than the start."""
    graph = deep()
    x = pictures(80)
    chosen = np.concatenate([np.ravel(a[0]).argmax(keepdims=True) for a in answers(graph, [(r[None],) for r in x])])
    labels = np.where(chosen == chosen[0], (chosen + 1) % 4, chosen)  # one class is called by another's name
    start = quantize(graph, x, PLAIN).graph
    done = finetune(graph, x, start, labels=labels, options=Options(epochs=40, batch=8, rate=10.0))
    assert done.history[done.best].wrong < done.history[0].wrong


def test_the_same_seed_gives_the_same_bytes() -> None:
    """Two runs agree bit for bit; another seed does not."""
    graph, x = deep(), pictures(24)
    start = coarse(quantize(graph, x, PLAIN).graph, 4)
    a, b, c = (
        write(finetune(graph, x, start, options=Options(epochs=4, batch=4, rate=3.0, seed=s)).graph) for s in (1, 1, 2)
    )
    assert a == b
    assert a != c


def test_a_run_goes_on_where_it_stopped(tmp_path: Path) -> None:
    """Interrupted after any epoch and taken up from its checkpoint, a run ends with the same bytes."""
    graph, x = deep(), pictures(24)
    start = coarse(quantize(graph, x, PLAIN).graph, 4)
    options = Options(epochs=4, batch=4, rate=3.0)
    whole = finetune(graph, x, start, options=options)
    saved = tmp_path / "run"

    def stop(done: int, total: int, what: str) -> None:
        if done == FITTED + 2 * (total - FITTED) // 4 + 1:
            raise KeyboardInterrupt

    half = finetune(graph, x, start, options=options, saved=saved, progress=stop)
    assert half.interrupted
    assert len(half.history) == FITTINGS + 3
    rest = finetune(graph, x, start, options=options, saved=saved)
    assert rest.finished
    assert write(rest.graph) == write(whole.graph)
    assert rest.history == whole.history
    with pytest.raises(InputError, match="another run's"):
        finetune(graph, x, start, options=Options(epochs=4, batch=5), saved=saved)
    saved.write_bytes(b"nothing")
    with pytest.raises(InputError, match="expected an NPZ file"):
        finetune(graph, x, start, options=options, saved=saved)


@pytest.mark.parametrize("stopped", [3, 11, 15], ids=["while rates are tried", "after the trials", "well after them"])
def test_trials_of_the_rate_are_part_of_the_run(stopped: int, tmp_path: Path) -> None:
    """A run goes on from its best trial, and one that was stopped, in a trial or later, ends with the same bytes."""
    graph, x = deep(), pictures(16)
    start = coarse(quantize(graph, x, PLAIN).graph, 4)
    options = Options(epochs=20, batch=16, rate=3.0)
    told: list[tuple[int, int]] = []
    whole = finetune(graph, x, start, options=options, progress=lambda done, total, what: told.append((done, total)))
    assert len(whole.history) == FITTINGS + 21
    assert [done for done, _ in told] == list(
        range(1, FITTED + 29)
    )  # five trials of two epochs, the best of which counts
    assert {total for _, total in told} == {FITTED + 28}

    def stop(done: int, total: int, what: str) -> None:
        if done == FITTED + stopped:
            raise KeyboardInterrupt

    saved = tmp_path / "run"
    assert finetune(graph, x, start, options=options, saved=saved, progress=stop).interrupted
    assert saved.exists() == (stopped > 10)
    rest = finetune(graph, x, start, options=options, saved=saved)
    assert rest.history == whole.history
    assert write(rest.graph) == write(whole.graph)


@pytest.mark.parametrize("count", [8, 24, 256, 300, 1100])
def test_what_judges_was_not_fitted_to(count: int) -> None:
    """The samples that fine-tuning holds out are none of those that `quantize` derives weights from."""
    keeper = Keeper()
    for k in range(count):
        keeper.keep((np.array([k]),))
    derived = {int(x[0][0]) for k, x in enumerate(keeper.kept) if k % 4 != 1}
    held = [k for k in range(count) if k % HOLD_OUT == JUDGES]
    assert len(held) == (count + 2) // 4
    assert not derived.intersection(held)


def test_variations_are_like_samples() -> None:
    """Mixtures have the mean and the spread of what they were made of and stay within its extremes; pictures differ."""
    draw = np.random.default_rng(0)
    x = (5 + 3 * draw.normal(size=(4000, 2)) @ [[1, 0.9], [0, 0.4]]).astype(np.float32)
    (made,) = varied([x], [draw.permutation(x)], len(x), [Spread.of(x)], draw)
    assert made.mean(axis=0) == pytest.approx(x.mean(axis=0), abs=0.2)
    assert made.std(axis=0) == pytest.approx(x.std(axis=0), rel=0.05)
    assert np.corrcoef(made.T)[0, 1] == pytest.approx(0.94 * np.corrcoef(x.T)[0, 1], abs=0.04)
    assert made.min() >= x.min()
    assert made.max() <= x.max()
    shown = pictures(2)
    (moved,) = varied([shown], [shown], 2, [Spread.of(shown)], draw)
    assert moved.shape == shown.shape
    assert moved.min() >= shown.min()
    assert moved.max() <= shown.max()
    codes = np.arange(4)
    assert varied([codes], [codes], 4, [], draw)[0] is codes


def test_learning_runs_on_one_thread() -> None:
    """NumPy's products are summed by one thread while a model learns, in the same order wherever it is done."""
    found = blas._threads()
    if found is None:
        pytest.skip("NumPy's library is not OpenBLAS")
    graph, x = deep(), pictures(8)
    start, before = quantize(graph, x, PLAIN).graph, found[1]()
    counts: list[int] = []
    found[0](2)
    try:
        finetune(
            graph, x, start, options=Options(epochs=1), progress=lambda done, total, what: counts.append(found[1]())
        )
        assert set(counts) == {1}
        assert found[1]() == 2
    finally:
        found[0](before)


def test_time_ends_a_run() -> None:
    """When time is up after an epoch, the run ends with the best so far and says that it was cut short."""
    graph, x = deep(), pictures(24)
    start = coarse(quantize(graph, x, PLAIN).graph, 4)
    done = finetune(graph, x, start, options=Options(epochs=50, batch=4, minutes=1e-4))
    assert not done.finished
    assert not done.interrupted
    assert len(done.history) == 2  # once fitted


def test_what_does_not_help_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """At a rate that destroys the model, no epoch's comes back; where fitting did not help either, it is the start as it was."""
    graph, x = deep(), pictures(24)
    start = quantize(graph, x).graph
    options = Options(epochs=2, batch=8, rate=1000.0)
    assert finetune(graph, x, start, options=options).best <= FITTINGS
    monkeypatch.setattr(Course, "fittings", 1)
    done = finetune(graph, x, start, options=options)
    assert not done.changed
    assert done.graph is start


def test_a_codebook_that_no_rate_helps_is_left_where_fitting_had_come(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once all rates were tried in vain the run is over, and what comes back is the best of the fittings."""
    graph, x = deep(), pictures(16)
    start = coarse(quantize(graph, x, PLAIN).graph, 4)
    monkeypatch.setattr(Course, "worth", lambda *_: False)
    done = finetune(graph, x, start, options=Options(epochs=40, batch=16))
    assert done.finished
    assert done.epochs <= 2
    assert done.changed


def test_what_is_near_already_is_not_trained() -> None:
    """A start within 38 dB of its float model comes back at once, whatever epochs were asked for; labels are learned from."""
    graph, x = classifier(), pictures(24)
    start = quantize(graph, x, Recipe("int16x8", precision="int16x8")).graph
    done = finetune(graph, x, start, options=Options(epochs=30))
    assert done.history[0].distance < 1.5e-4
    assert done.finished
    assert not done.changed
    assert len(done.history) == 1
    labels = np.zeros(24, np.int64)
    assert len(finetune(graph, x, start, labels=labels, options=Options(epochs=2)).history) == FITTINGS + 3


def test_codebooks_are_found_and_shared() -> None:
    """Few levels in long rows are a codebook, shared by as many neighbours as agree; nine different weights are none."""
    rng = np.random.default_rng(0)
    long, short = rng.choice([-90, -10, 20, 100], (6, 80)), np.repeat(rng.choice([-5, 0, 9, 11], (2, 9)), 3, axis=0)
    assert levels_of(long) == 4
    assert levels_of(rng.choice(np.arange(0, 90, 6), (6, 80))) == 16
    assert levels_of(rng.integers(-127, 128, (6, 80))) is None
    assert levels_of(short) is None
    book = codebook_of(long, 4)
    assert book is not None
    assert book.levels.shape == (1, 4)
    codes, above = book.read(long + 0.3)
    assert (codes == long).all()
    gathered = book.gathered(above, np.ones(long.shape))
    assert gathered.tolist() == [[(long == level).sum() for level in (-90, -10, 20, 100)]]
    assert codebook_of(rng.integers(-127, 128, (3, 9)), 4) is None


def idle() -> Graph:
    """[1, 24] → 16 units, of which six answer to the last eight values alone → [1, 24]."""
    net = Net((1, 24), seed=3)
    graph = net.graph(net.dense(net.dense(0, 16, act=1), 24))
    first = graph.ops[0].inputs[1]
    w = np.array(graph.tensors[first].data)
    w[:6, :16], w[6:, 16:] = 0, 0
    tensors = list(graph.tensors)
    tensors[first] = replace(tensors[first], data=w, buffer=0)
    bias = graph.ops[0].inputs[2]
    b = np.array(graph.tensors[bias].data)
    b[:6] = -0.5
    tensors[bias] = replace(tensors[bias], data=b, buffer=0)
    return graph.with_main(tensors=tuple(tensors))


def quiet(n: int, seed: int) -> Array:
    """Samples of `idle` whose last eight values are small: six units hardly ever answer."""
    x = np.random.default_rng(seed).normal(0, 1, (n, 24)).astype(np.float32)
    x[:, 16:] *= 0.05
    x[0, 16:] = 1.5  # what inputs may be at all
    return x


def test_idle_units_are_woken() -> None:
    """Samples are moved until a unit that slept is as awake as others, no further than its layer goes and inputs reach."""
    graph, x = idle(), quiet(64, 2)
    seen = [Spread.of(x)]
    sought = Sought(graph, graph.outputs, [x], seen)
    assert len(sought.layers) == 1
    first = graph.ops[0]
    w, b = (np.array(graph.tensors[i].data) for i in first.inputs[1:])
    values = np.abs(x @ w.T + b)
    assert sought.layers[0].level == pytest.approx(float(np.quantile(values, LEVEL)), rel=1e-5)
    draw = np.random.default_rng(0)
    (moved,) = (np.concatenate(parts) for parts in zip(*(sought.moved([x], draw) for _ in range(20)), strict=True))
    assert moved.min() >= x.min()
    assert moved.max() <= x.max()
    before, after = ((np.maximum(a @ w.T + b, 0) > 0)[:, :6].mean() for a in (x, moved))
    assert after > 5 * before


def autoencoder() -> tuple[Graph, Array]:
    """[1, 24] → the shares of four orthonormal patterns → [1, 24]; the patterns (4, 24)."""
    net = Net((1, 24), seed=3)
    graph = net.graph(net.dense(net.dense(0, 4), 24))
    patterns = np.linalg.qr(np.random.default_rng(7).normal(size=(24, 4)))[0].T.astype(np.float32)
    tensors = list(graph.tensors)
    for op, w in zip(graph.ops, (patterns, patterns.T), strict=True):
        for i, data in zip(op.inputs[1:], (w, np.zeros(len(w), np.float32)), strict=True):
            tensors[i] = replace(tensors[i], data=data, buffer=0)
    return graph.with_main(tensors=tuple(tensors)), patterns


def test_an_autoencoder_makes_samples_of_what_it_knows() -> None:
    """Made samples show patterns that the given ones lack, and what is no pattern as the given ones have it; what is no
    autoencoder makes none."""
    graph, patterns = autoencoder()
    rng = np.random.default_rng(1)
    shares = rng.normal(0, 2, (64, 4)) * [1, 1, 0.05, 0.05]  # two patterns hardly show
    x = (shares @ patterns + rng.normal(0, 0.3, (64, 24))).astype(np.float32)
    tensors = list(graph.outputs)
    with answering(graph, tensors) as model:
        made = Asked(graph, tensors, lambda a: answered(model, a), Rows(graph, x), np.arange(64), 64)
        (y,) = made.varied(np.arange(64), np.random.default_rng(2))
        (z,) = made.elsewhere([x[:16]], np.random.default_rng(2)) or ()
    for found, given in ((y, x), (z, x[:16])):
        assert (found @ patterns.T).std(axis=0)[2:].min() > 3 * (given @ patterns.T).std(axis=0)[2:].max()
        apart = [a - a @ patterns.T @ patterns for a in (found, given)]
        assert apart[0].std() == pytest.approx(apart[1].std(), rel=0.1)
    assert not Imagined.possible(lambda a: a[:, :8], x)
    assert not Imagined.possible(lambda a: 0 * a, x)


def test_samples_begin_elsewhere_on_even_axes() -> None:
    """Waves are alike along their length, and are moved on it; what differs from place to place stays in its place."""
    rng = np.random.default_rng(4)
    t = np.arange(40)[None, :, None] / 6
    waves = np.sin(t + rng.uniform(0, 6, (64, 1, 5))) + 0.1 * rng.normal(size=(64, 40, 5))
    uneven = waves * np.linspace(0.2, 3, 40)[None, :, None]
    assert Spread.of(waves.astype(np.float32)).even == (1,)
    assert Spread.of(uneven.astype(np.float32)).even == ()
    assert Spread.of(rng.normal(size=(64, 40, 5)).astype(np.float32)).even == ()


def test_a_layer_left_whole_does_not_hide_the_codebooks_of_others() -> None:
    """A codebook model keeps its levels where one of its layers has none."""
    graph, x = deep(), pictures(48)
    start = quantize(graph, x, PLAIN).graph
    mixed, first = coarse(start, 4), layers(start)[0]
    tensors = list(mixed.tensors)
    tensors[first] = start.tensors[first]
    mixed = mixed.with_main(tensors=tuple(tensors))
    done = finetune(graph, x, mixed, options=Options(epochs=3, batch=16, rate=3.0))
    assert done.codebooks == 2
    for i in layers(done.graph)[1:]:
        rows = np.asarray(done.graph.tensors[i].data)
        assert max(len(np.unique(row)) for row in rows.reshape(len(rows), -1)) <= 4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"start": classifier()}, "expected a quantized form of the float model"),
        ({"samples": pictures(5)}, "expected at least 8 samples"),
        ({"validation": (pictures(24)[:0], None)}, "expected at least 1 sample to judge by, got none"),
        ({"labels": np.zeros(23, np.int64)}, "one label per sample"),
        ({"labels": np.full(24, 4)}, r"labels must be in \[0, 3\]"),
        ({"labels": np.zeros((24, 7), np.float32)}, "labels y that fit"),
    ],
)
def test_what_does_not_fit_is_refused(change: dict[str, Any], message: str) -> None:
    """Another model, too few samples and labels that are none of the model's are refused in a line."""
    graph, x = deep(), pictures(24)
    given = {"samples": x, "start": quantize(graph, x, PLAIN).graph, "labels": None, **change}
    with pytest.raises((QuantizeError, InputError), match=message):
        finetune(graph, given.pop("samples"), given.pop("start"), **given, options=Options(epochs=1))


@pytest.mark.parametrize("bad", [{"epochs": 0}, {"batch": 0}, {"rate": 0.0}, {"minutes": -1.0}, {"mix": 2.0}])
def test_options_are_checked(bad: dict[str, Any]) -> None:
    """A number that makes no sense is refused by its name."""
    with pytest.raises(InputError, match=next(iter(bad))):
        Options(**bad)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`edgeq finetune` writes a model that is nearer, says so, and leaves no checkpoint."""
    graph, x = deep(), pictures(48)
    (tmp_path / "float.tflite").write_bytes(write(graph))
    (tmp_path / "damaged.tflite").write_bytes(write(coarse(quantize(graph, x, PLAIN).graph, 4)))
    np.savez(tmp_path / "x.npz", x=x, y=np.zeros(48, np.int64))
    out = tmp_path / "out.tflite"
    command = ["finetune", str(tmp_path / "float.tflite"), "-d", str(tmp_path / "x.npz"), "-o", str(out)]
    assert main([*command, "--from", str(tmp_path / "damaged.tflite"), "--epochs", "4", "--batch", "8"]) == 0
    said = capsys.readouterr().out
    assert "36 learned from, 12 held out" in said
    assert "codebooks" in said
    assert len(read(out.read_bytes()).ops) == len(graph.ops)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["damaged.tflite", "float.tflite", "out.tflite", "x.npz"]
    assert main([*command, "--from", "nothing", "--epochs", "1"]) == 1
    assert "recipe must be one of" in capsys.readouterr().err
    assert main([*command, "--from", "nothing.tflite", "--epochs", "1"]) == 1
    assert "nothing.tflite: there is no such file" in capsys.readouterr().err


def test_several_inputs() -> None:
    """Inputs of several tensors are learned from by name, too."""
    net = Net((1, 24), (1, 8))
    graph = net.graph(net.dense(net.concat(net.dense(0, 16, act=1), 1), 3))
    given = inputs_of(graph, 24)
    samples = {n: np.concatenate([x[k] for x in given]) for k, n in enumerate(graph.input_names())}
    start = coarse(quantize(graph, samples, PLAIN).graph, 4)
    done = finetune(graph, samples, start, options=Options(epochs=40, batch=4))
    assert done.codebooks == 2
    assert done.changed
