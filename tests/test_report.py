"""The report: its figures are what the models compute, and its page is one file that needs nothing else."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from quantize_models import Net, answers, classifier, float_island, inputs_of, sqnr, two_inputs

from edgeq.cli import main
from edgeq.errors import InputError
from edgeq.graph import Graph
from edgeq.quantize import quantize
from edgeq.recipe import Recipe
from edgeq.report import document, measure, page
from edgeq.report.match import match
from edgeq.tflite import write

PLAIN = Recipe("plain", ranges="minmax", equalize=False, rounding="nearest", bias_correction=False)


def samples(graph: Graph, n: int = 24) -> dict[str, np.ndarray]:
    given = inputs_of(graph, n)
    return {name: np.concatenate([x[k] for x in given]) for k, name in enumerate(graph.input_names())}


def renamed(graph: Graph) -> Graph:
    """The graph as a converter that keeps no names would leave it."""
    return graph.with_main(tensors=tuple(replace(t, name=f"t{i}") for i, t in enumerate(graph.tensors)))


class Page(HTMLParser):
    """What a page holds: its tags, and every address in it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [v or "" for k, v in attrs if k in ("src", "href", "xlink:href")]
        if tag not in ("meta", "link", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in ("line", "rect", "circle", "polyline"):
            while self.open.pop() != tag:
                assert self.tags, tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)


@pytest.mark.parametrize("make", [classifier, two_inputs, float_island], ids=lambda m: m.__name__)
@pytest.mark.parametrize("change", [lambda g: g, renamed], ids=["names kept", "names lost"])
def test_tensors_find_each_other(make, change) -> None:
    """Every tensor that both models compute is matched with its own counterpart, by name or by order."""
    graph = make()
    done = quantize(graph, samples(graph), PLAIN).graph
    found = match(graph, change(done))
    for op in graph.ops:
        i = op.outputs[0]
        assert done.tensors[found[i]].shape == graph.tensors[i].shape
        if done.tensors[found[i]].name in {t.name for t in graph.tensors}:
            assert done.tensors[found[i]].name == graph.tensors[i].name


def test_figures_are_what_the_models_compute() -> None:
    """Output SQNR, accuracy and agreement equal those of the models' own answers; the worst sample is the worst."""
    graph = classifier()
    x = samples(graph, 40)
    done = quantize(graph, x, PLAIN).graph
    given = [(row[None],) for row in next(iter(x.values()))]
    floats, ints = answers(graph, given), answers(done, given)
    first = [np.array([a[0].argmax() for a in found]) for found in (floats, ints)]
    labels = np.where(np.arange(40) % 3 == 0, first[0], (first[0] + 1) % 5)
    m = measure(graph, done, x, labels)
    assert m.samples == 40
    assert m.figures["top-1 accuracy"] == (
        pytest.approx((first[0] == labels).mean()),
        pytest.approx((first[1] == labels).mean()),
    )
    assert m.figures["agreement of first choices"] == (None, pytest.approx((first[0] == first[1]).mean()))
    scores = replace(graph, subgraphs=(replace(graph.main, outputs=(graph.ops[-1].inputs[0],)),))
    coded = replace(done, subgraphs=(replace(done.main, outputs=(done.ops[-1].inputs[0],)),))
    (wanted,) = sqnr(answers(scores, given), answers(coded, given))
    assert m.output_sqnr == pytest.approx(wanted, abs=1e-3)
    assert m.worst[0].distance == max(m.distances)
    assert m.worst[0].number == int(np.argmax(m.distances))
    assert [r.code for r in m.rows] == [op.code for op in done.ops]
    assert all(r.microseconds is None or r.microseconds > 0 for r in m.rows)
    layer = m.rows[0]
    assert layer.limits is not None
    assert layer.sqnr is not None
    assert 20 < layer.sqnr < 60
    assert layer.sensitivity is not None
    assert 0 < layer.sensitivity < 0.01


def test_a_damaged_layer_is_the_sensitive_one() -> None:
    """A layer whose weights were made coarse has the largest noise of its own at the outputs."""
    graph = classifier()
    x = samples(graph)
    done = quantize(graph, x, PLAIN).graph
    tensors = list(done.tensors)
    w = done.ops[1].inputs[1]
    tensors[w] = replace(tensors[w], data=(np.asarray(tensors[w].data) // 40 * 40).astype(np.int8), buffer=0)
    m = measure(graph, done.with_main(tensors=tuple(tensors)), x)
    felt = {r.index: r.sensitivity or 0.0 for r in m.rows}
    assert max(felt, key=lambda n: felt[n]) == 1, felt
    assert m.rows[1].weights_sqnr is not None
    assert m.rows[1].weights_sqnr < 15


def test_scaled_layers_are_compared_in_their_own_units() -> None:
    """Channels that equalisation scaled do not look damaged."""
    net = Net((1, 8, 8, 3), seed=2)
    w = net.rng.normal(0, 0.3, (8, 3, 3, 3)) * np.geomspace(0.05, 2, 8).reshape(-1, 1, 1, 1)
    a = net.conv(0, 8, act=1, w=net.const(w.astype(np.float32)))
    mix = net.rng.normal(0, 0.3, (4, 1, 1, 8)) / np.geomspace(0.05, 2, 8)
    graph = net.graph(net.conv(a, 4, k=1, w=net.const(mix.astype(np.float32))))
    x = samples(graph)
    done = quantize(graph, x, replace(PLAIN, per_channel=False, equalize=True))
    assert any("equal" in step for step in done.steps)
    m = measure(graph, done.graph, x)
    assert m.rows[0].sqnr is not None
    assert m.rows[0].sqnr > 25


def test_the_page_needs_nothing_else(tmp_path: Path) -> None:
    """One file: every address in it is a data URI, no script, all elements closed, names taken for text."""
    graph = classifier()
    x = samples(graph)
    done = quantize(graph, x, PLAIN).graph
    done = done.with_main(tensors=tuple(replace(t, name=f"<b onload=x>{t.name}&") for t in done.tensors))
    m = measure(graph, done, x, np.zeros(24, np.int64), ("float <i>", "int"))
    text = page(m)
    seen = Page(text)
    assert not seen.open
    assert set(seen.tags) <= {
        "html", "head", "meta", "link", "title", "style", "body", "main", "h1", "h2", "p", "code", "div", "span", "b", "i", "br",
        "svg", "line", "text", "polyline", "circle", "rect", "table", "thead", "tbody", "tr", "th", "td", "figure", "figcaption",
        "img", "footer",
    }  # fmt: skip
    assert all(a.startswith("data:") for a in seen.addresses)
    assert not re.search(r"https?:|url\(|@import|<script", text)
    assert "prefers-color-scheme: dark" in text
    assert text == page(m)
    assert json.loads(json.dumps(document(m), allow_nan=False))["layers"][0]["code"] == "CONV_2D"


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`edgeq report` writes the page and, with --json, its figures beside it."""
    graph = two_inputs()
    x = samples(graph)
    (tmp_path / "f.tflite").write_bytes(write(graph))
    (tmp_path / "i.tflite").write_bytes(write(quantize(graph, x, PLAIN).graph))
    np.savez(tmp_path / "x.npz", **x)
    out = tmp_path / "page.html"
    command = [
        "report",
        str(tmp_path / "f.tflite"),
        str(tmp_path / "i.tflite"),
        "-d",
        str(tmp_path / "x.npz"),
        "-o",
        str(out),
    ]
    assert main([*command, "--json"]) == 0
    assert "output SQNR" in capsys.readouterr().out
    assert out.read_text().startswith("<!doctype html>")
    figures = json.loads((tmp_path / "page.json").read_text())
    assert figures["samples"] == 24
    assert len(figures["distances"]) == 24


def test_models_that_do_not_belong_together_are_refused() -> None:
    """Another model's shapes, and labels that are not as many as samples, are said in a line."""
    graph, other = classifier(), two_inputs()
    with pytest.raises(InputError, match="expected two forms of one model"):
        measure(graph, other, samples(graph))
    with pytest.raises(InputError, match="one label per sample"):
        measure(graph, quantize(graph, samples(graph), PLAIN).graph, samples(graph), np.zeros(3, np.int64))
