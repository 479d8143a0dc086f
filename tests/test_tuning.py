"""Tuning by a metric: what helps beyond chance is kept, what does not is not, and a search goes on where it stopped."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from quantize_models import Net, classifier, inputs_of

from edgeq.cli import main
from edgeq.errors import InputError
from edgeq.graph import Graph
from edgeq.quantize import quantize
from edgeq.recipe import Recipe
from edgeq.tflite import read, write
from edgeq.tuning import metric, tune
from edgeq.tuning.metric import Bootstrap
from edgeq.tuning.setting import Setting, applied, biased, groups

Array = Any
# Ranges from samples that are far too small: what clips can be won back by stretching.
PLAIN = Recipe("plain", ranges="minmax", equalize=False, rounding="nearest", bias_correction=False)


def dense() -> Graph:
    """[1, 16] → dense, RELU → dense [1, 6]."""
    net = Net((1, 16), seed=4)
    return net.graph(net.dense(net.dense(0, 24, act=1), 6))


def rows(n: int, seed: int, scale: float = 1.0) -> Array:
    return (scale * np.random.default_rng(seed).normal(0, 1, (n, 16))).astype(np.float32)


def chosen(graph: Graph, x: Array) -> Array:
    from edgeq.engine import Model

    with Model(graph) as model:
        return model(x).argmax(axis=1)


def test_clipped_ranges_are_stretched() -> None:
    """Calibrated on samples a third as large as those that decide, a model gains by wider ranges, on unseen samples too."""
    graph = dense()
    held, apart = rows(300, 1), rows(300, 2)
    done = tune(graph, rows(32, 3, 0.3), {"x": held}, "mse", test={"x": apart}, recipe=PLAIN)
    assert done.changed
    assert done.finished
    assert done.validation.interval[0] > 0
    assert done.test is not None
    assert done.test.after > done.test.before
    assert any("times 1." in step for step in done.steps)
    assert done.validation.after <= done.validation.float_


def test_chance_is_not_kept() -> None:
    """Labels that have nothing to do with the samples teach nothing: what is kept on one half does not fall on the other."""
    graph = dense()
    labels = np.random.default_rng(0).integers(0, 6, 120)
    done = tune(graph, rows(64, 3), {"x": rows(120, 1), "y": labels}, "accuracy", recipe=PLAIN)
    assert done.tries > 15
    assert len(done.steps) <= 0.1 * done.tries


def test_bootstrap_tells_gain_from_chance() -> None:
    """A gain on most samples counts, one on a few of a hundred does not; the interval holds the true difference."""
    aim = np.zeros((100, 1), np.float32)
    m = metric("mse", {"y": aim}, None, [aim], ["y"])
    rng = np.random.default_rng(0)
    old = [rng.normal(0, 1, (100, 1)).astype(np.float32)]
    boot = Bootstrap(100)
    assert boot.better(m, old, [0.8 * old[0]])
    assert not boot.better(m, old, old)
    shuffled = [rng.permutation(old[0]) * np.float32(0.999)]
    assert not boot.better(m, old, shuffled)
    low, high = boot.interval(m, old, [0.8 * old[0]])
    assert low < 0.36 * float((old[0] ** 2).mean()) < high


def test_an_offset_is_the_bias_of_its_formula() -> None:
    """A rounding offset f moves a layer's codes as floor(y + f) does, within M/2 of a code."""
    graph = dense()
    x = rows(64, 3)
    start = quantize(graph, x, PLAIN).graph
    n = biased(start)[-1]
    moved = applied(start, Setting(PLAIN, {}, {n: 0.9}))
    from edgeq.engine import Model

    with Model(start, rounding="tflite") as a, Model(moved, rounding="tflite") as b:
        before, after = (m(x).astype(int) for m in (a, b))
    assert set(np.unique(after - before)) == {0, 1}
    assert 0.3 < (after - before).mean() < 0.5


def test_stretching_moves_one_scale() -> None:
    """A factor on a group's range is a factor on its scale, and nobody else's."""
    start = quantize(dense(), rows(64, 3), PLAIN).graph
    (group, *_) = groups(start)
    wide = applied(start, Setting(PLAIN, {group: 1.25}))
    for i, (a, b) in enumerate(zip(start.tensors, wide.tensors, strict=True)):
        if a.quantization is not None and a.data is None:
            expected = 1.25 if i == group else 1.0
            assert float(b.quantization.scale[0] / a.quantization.scale[0]) == pytest.approx(expected, rel=1e-5)


def test_a_search_goes_on_from_its_journal(tmp_path: Path) -> None:
    """Stopped anywhere, a search that is taken up again ends with the same bytes and the same tries."""
    graph, x, held = dense(), rows(32, 3, 0.3), {"x": rows(100, 1)}
    whole = tune(graph, x, held, "mse", recipe=PLAIN)
    saved = tmp_path / "journal"
    seen = 0

    def stop(done: int, total: int, what: str) -> None:
        nonlocal seen
        seen += 1
        if seen == 9:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tune(graph, x, held, "mse", recipe=PLAIN, saved=saved, progress=stop)
    again: list[str] = []
    rest = tune(graph, x, held, "mse", recipe=PLAIN, saved=saved, progress=lambda a, b, what: again.append(what))
    assert write(rest.graph) == write(whole.graph)
    assert rest.steps == whole.steps
    assert len(again) == whole.tries - 8
    with pytest.raises(InputError, match="another's"):
        tune(graph, x, {"x": rows(99, 1)}, "mse", recipe=PLAIN, saved=saved)
    saved.write_text("{}")
    with pytest.raises(InputError, match="expected a journal"):
        tune(graph, x, held, "mse", recipe=PLAIN, saved=saved)


def test_time_ends_a_search() -> None:
    """With next to no time the recipe's own model comes back, and the search says that it was cut short."""
    graph, x = dense(), rows(32, 3)
    done = tune(graph, x, {"x": rows(40, 1)}, "mse", recipe=PLAIN, minutes=1e-9)
    assert not done.finished
    assert not done.changed
    assert write(done.graph) == write(quantize(graph, x, PLAIN).graph)


@pytest.mark.parametrize(
    ("name", "samples", "message"),
    [
        ("f1", {}, "metric must be accuracy, auc, mse or TASK.py:function"),
        ("accuracy", {}, "needs labels in 'y'"),
        ("accuracy", {"y": np.zeros(3, np.int64)}, r"whole labels y \(8,\)"),
        ("accuracy", {"y": np.full(8, 6)}, "labels below 6"),
        ("auc", {"y": np.zeros(8, np.int64)}, "both of them"),
        ("nowhere.py:f", {}, "there is no such Python file"),
    ],
)
def test_metrics_say_what_they_need(name: str, samples: dict[str, Array], message: str) -> None:
    """A metric without its labels, or of no known name, is refused in a line."""
    with pytest.raises(InputError, match=message):
        metric(name, samples, None, [np.zeros((8, 6), np.float32)], ["y"])


def test_the_command_and_a_metric_of_ones_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`edgeq tune --by TASK.py:function` asks the user's function, reports both splits and leaves no journal."""
    graph = classifier()
    given = np.concatenate([x[0] for x in inputs_of(graph, 48)])
    (tmp_path / "float.tflite").write_bytes(write(graph))
    labels = chosen(graph, given)
    np.savez(tmp_path / "x.npz", x=given)
    np.savez(tmp_path / "v.npz", x=given, y=labels)
    (tmp_path / "task.py").write_text(
        "def right(scores, samples):\n    return (scores.argmax(1) == samples['y']).mean()\n"
    )
    command = ["tune", str(tmp_path / "float.tflite"), "-d", str(tmp_path / "x.npz"), "-v", str(tmp_path / "v.npz")]
    command += ["-t", str(tmp_path / "v.npz"), "-o", str(tmp_path / "out.tflite"), "--minutes", "0.02"]
    assert main([*command, "--by", f"{tmp_path / 'task.py'}:right"]) == 0
    out = capsys.readouterr().out
    assert "validation" in out
    assert "test" in out
    assert len(read((tmp_path / "out.tflite").read_bytes()).ops) >= len(graph.ops)
    quantizing = ["quantize", *command[1:], "--tune", "accuracy"]
    (tmp_path / "out.tflite.journal").unlink(missing_ok=True)
    assert main(quantizing) == 0
    assert "gained, 95 % between" in capsys.readouterr().out
    assert main([a for a in quantizing if a not in ("-v", str(tmp_path / "v.npz"), "-t")]) == 2
    assert "-v VALIDATION.npz" in capsys.readouterr().err
    (tmp_path / "task.py").write_text("def right(scores, samples):\n    return samples['z']\n")
    (tmp_path / "out.tflite.journal").unlink(missing_ok=True)
    assert main([*command, "--by", f"{tmp_path / 'task.py'}:right"]) == 1
    assert "task.py:right: KeyError" in capsys.readouterr().err
    (tmp_path / "task.py").write_text("def right(scores, samples):\n    return float('nan')\n")
    assert main([*command, "--by", f"{tmp_path / 'task.py'}:right"]) == 1
    assert "task.py:right: expected a finite number, the higher the better, got nan" in capsys.readouterr().err


def test_a_sensitive_layer_is_tried_in_int16() -> None:
    """Where one layer's output needs more than a byte, the search finds that out."""
    net = Net((1, 16), seed=4)
    a = net.dense(0, 24, act=1)
    big = net.op("MUL", (a, net.const(np.float32([[1000.0] + [1.0] * 23]))), (1, 24), net_options())
    w = net.rng.normal(0, 0.3, (6, 24)).astype(np.float32)
    w[:, 0] /= 1000
    graph = net.graph(net.dense(big, 6, w=net.const(w)))
    done = tune(graph, rows(64, 3), {"x": rows(200, 1)}, "mse", recipe=replace(PLAIN, name="p"))
    assert any("int16" in step for step in done.steps)
    assert done.validation.after > 0.5 * done.validation.before


def net_options() -> Any:
    from edgeq.tflite.schema import table

    return table("MulOptions")
