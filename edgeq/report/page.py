"""The page and its JSON: everything in one file, nothing from elsewhere, names from model files taken for text."""

from __future__ import annotations

import math
from html import escape
from typing import Any

from edgeq.report import svg
from edgeq.report.measure import Measured, Row, Sample
from edgeq.report.png import heat, picture
from edgeq.report.style import SHEET

SENSITIVE = 16
"""Layers in the chart of sensitivity, and in that of latency."""

HISTOGRAMS = 60
"""Tensors whose histograms are drawn, the noisiest first."""


def page(m: Measured, version: str = "") -> str:
    """The report as one HTML document; version: of edgeq, for its foot."""
    title = f"{m.int_name} beside {m.float_name}"
    body = [
        f"<h1>{escape(m.int_name)}</h1>",
        f"<p>The integer model beside <code>{escape(m.float_name)}</code>, on {m.samples} samples.</p>",
        _cards(m),
        _noise(m),
        _sensitivity(m),
        _latency(m),
        _table(m),
        _histograms(m),
        _worst(m),
        f"<footer>edgeq {escape(version)}. SQNR is signal to quantization noise, 10·log₁₀(Σx² / Σ(x̂ − x)²) dB; 6 dB are one "
        "bit.</footer>",
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<link rel="icon" href="data:,">'
        f"<title>{escape(title)}</title><style>{SHEET}</style></head>\n<body><main>\n"
        + "\n".join(part for part in body if part)
        + "\n</main></body></html>\n"
    )


def document(m: Measured) -> dict[str, Any]:
    """The same figures as plain values, for --json."""
    return {
        "float": m.float_name,
        "int": m.int_name,
        "samples": m.samples,
        "figures": {name: {"float": a, "int": b} for name, (a, b) in m.figures.items()},
        "output_sqnr_db": m.output_sqnr,
        "bytes": {"float": m.bytes_float, "int": m.bytes_int},
        "constant_bytes": {"float": m.weight_bytes[0], "int": m.weight_bytes[1]},
        "microseconds": {"float": m.microseconds[0], "int": m.microseconds[1]},
        "layers": [_row_document(r) for r in m.rows],
        "worst": [
            {
                "sample": s.number,
                "distance": s.distance,
                "label": s.label,
                "float": None if s.float_ is None else {"choice": s.float_[0], "score": s.float_[1]},
                "int": None if s.int_ is None else {"choice": s.int_[0], "score": s.int_[1]},
            }
            for s in m.worst
        ],
        "distances": [float(d) for d in m.distances],
    }


def _row_document(r: Row) -> dict[str, Any]:
    found: dict[str, Any] = {
        name: getattr(r, name)
        for name in (
            "index", "code", "name", "dtype", "scale", "zero_point", "sqnr", "scaled", "own", "clipped", "weights_sqnr",
            "levels", "sensitivity", "microseconds", "float_microseconds",
        )
    }  # fmt: skip
    found["shape"] = list(r.shape)
    found["range"] = None if r.limits is None else list(r.limits)
    found["seen"] = None if r.histogram is None else list(r.histogram.minmax())
    return found


def _cards(m: Measured) -> str:
    cards = []
    for name, (a, b) in m.figures.items():
        share = "accuracy" in name or "agreement" in name
        shown = f"{100 * b:.2f} %" if share and b is not None else "–" if b is None else f"{b:.4g}"
        below = ""
        if a is not None and b is not None:
            better = (b - a) * (-1 if "error (MSE)" in name else 1)
            kind = "better" if better > 0 else "worse" if better < 0 else ""
            moved = f"{100 * (b - a):+.2f} points" if share else f"{b - a:+.4g}"
            was = f"{100 * a:.2f} %" if share else f"{a:.4g}"
            below = f'<i>float {was}, <span class="{kind}">{moved}</span></i>'
        cards.append((shown, name, below))
    cards.append((f"{m.output_sqnr:.1f} dB", "SQNR of the outputs", ""))
    cards.append(
        (
            _size(m.bytes_int),
            "size of the file",
            f"<i>float {_size(m.bytes_float)}, {m.bytes_int / m.bytes_float:.2f}×</i>",
        )
    )
    a, b = m.microseconds
    cards.append((_time(b), "an inference, one thread", f"<i>float {_time(a)}, {a / b:.2f}× as fast</i>" if b else ""))
    cells = (f'<div class="card"><span>{escape(n)}</span><b>{v}</b>{below}</div>' for v, n, below in cards)
    return f'<div class="cards">{"".join(cells)}</div>'


def _noise(m: Measured) -> str:
    names = [_named(r) for r in m.rows]
    chart = svg.lines(
        names,
        [
            ("a", "SQNR", [_shown(r.sqnr) for r in m.rows]),
            ("b", "own", [_shown(r.own) for r in m.rows]),
            ("c", "weights", [_shown(r.weights_sqnr) for r in m.rows]),
        ],
        "dB",
    )
    if not chart:
        return ""
    keys = (
        '<div class="keys"><span class="a">output, all noise from upstream included</span><span class="b">what the output’s '
        'own codes lose</span><span class="c">weights</span></div>'
    )
    return (
        "<h2>How the error grows</h2><p>Signal to quantization noise of every layer in order, in dB: where the first line falls, "
        f'something upstream costs precision.</p><div class="panel">{keys}{chart}</div>'
    )


def _sensitivity(m: Measured) -> str:
    rows = sorted((r for r in m.rows if r.sensitivity), key=lambda r: -(r.sensitivity or 0.0))[:SENSITIVE]
    if not rows:
        return ""
    chart = svg.bars([(_named(r), 100 * (r.sensitivity or 0.0)) for r in rows], "%")
    return (
        "<h2>Which layers matter</h2><p>Noise at the outputs, in percent of the signal, when this layer alone is in integers "
        f'and all others are float. Precision is best spent on the longest.</p><div class="panel">{chart}</div>'
    )


def _latency(m: Measured) -> str:
    rows = sorted((r for r in m.rows if r.microseconds), key=lambda r: -(r.microseconds or 0.0))[:SENSITIVE]
    if not rows:
        return ""
    chart = svg.bars([(_named(r), r.microseconds or 0.0) for r in rows], "µs")
    return (
        "<h2>Where the time goes</h2><p>The slowest operations of the integer model, each timed by itself on one thread of the "
        f'machine that wrote this page.</p><div class="panel">{chart}</div>'
    )


def _table(m: Measured) -> str:
    heads = [
        ("#", True), ("operation", False), ("output", False), ("type", False), ("scale", True), ("zero", True),
        ("SQNR dB", True), ("own dB", True), ("clipped", True), ("weights dB", True), ("codes", True), ("alone %", True),
        ("µs", True), ("float µs", True),
    ]  # fmt: skip
    lines = []
    for r in m.rows:
        cells = [
            (r.index, "n"), (r.code, ""), (f"{_short(r.name)} {'×'.join(map(str, r.shape))}", "text"), (r.dtype, ""),
            (_figure(r.scale), "n"), ("" if r.zero_point is None else r.zero_point, "n"),
            (_decibels(r.sqnr) + (" *" if r.scaled else ""), "n"), (_decibels(r.own), "n"),
            ("" if r.clipped is None else f"{100 * r.clipped:.3g} %", "n"), (_decibels(r.weights_sqnr), "n"),
            ("" if r.levels is None else r.levels, "n"), ("" if r.sensitivity is None else f"{100 * r.sensitivity:.3g}", "n"),
            (_microseconds(r.microseconds), "n"), (_microseconds(r.float_microseconds), "n"),
        ]  # fmt: skip
        lines.append("<tr>" + "".join(f'<td class="{kind}">{escape(str(v))}</td>' for v, kind in cells) + "</tr>")
    head = "".join(f'<th class="n">{escape(h)}</th>' if right else f"<th>{escape(h)}</th>" for h, right in heads)
    note = (
        " An asterisk marks layers whose channels count in other units than the float model’s."
        if any(r.scaled for r in m.rows)
        else ""
    )
    return (
        "<h2>Every operation</h2><p>Own: noise of the output’s codes alone. Clipped: values of the float model beyond the codes. "
        "Codes: the most different weights of a channel. Alone: noise at the outputs with only this layer in "
        f'integers.{note}</p><div class="panel"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )


def _histograms(m: Measured) -> str:
    shown = [r for r in m.rows if r.histogram is not None and r.limits is not None]
    shown = sorted(
        sorted(shown, key=lambda r: r.own if r.own is not None else math.inf)[:HISTOGRAMS], key=lambda r: r.index
    )
    if not shown:
        return ""
    figures = []
    for r in shown:
        assert r.histogram is not None
        clipped = f", {100 * r.clipped:.2g} % clipped" if r.clipped else ""
        figures.append(
            f'<figure><figcaption title="{escape(r.name)}"><b>{r.index} {escape(r.code)}</b> {escape(_short(r.name))}<br>'
            f"own {_decibels(r.own)} dB{clipped}</figcaption>"
            f"{svg.histogram(r.histogram, r.limits)}</figure>"
        )
    return (
        "<h2>Values and ranges</h2><p>What the float model’s tensors held on these samples, counts on a logarithmic scale, "
        f'and the range that the codes cover (shaded).</p><div class="many">{"".join(figures)}</div>'
    )


def _worst(m: Measured) -> str:
    if not m.worst:
        return ""
    return (
        "<h2>Where the two disagree most</h2><p>The samples whose outputs are furthest apart, by noise per signal.</p>"
        f'<div class="many">{"".join(map(_sample, m.worst))}</div>'
    )


def _sample(s: Sample) -> str:
    image = next((uri for x in s.inputs if (uri := picture(x) or heat(x)) is not None), None)
    drawn = f'<img src="{image}" alt="sample {s.number}">' if image else ""
    says = ""
    if s.float_ is not None and s.int_ is not None:
        kind = ' class="worse"' if s.float_[0] != s.int_[0] else ""
        says = f"<br>float {s.float_[0]} ({s.float_[1]:.3g}), <span{kind}>integer {s.int_[0]} ({s.int_[1]:.3g})</span>"
    label = "" if s.label is None else f", label {s.label}"
    return (
        f"<figure>{drawn}<figcaption><b>sample {s.number}</b>{label}<br>noise {100 * s.distance:.3g} % of the signal{says}"
        "</figcaption></figure>"
    )


def _named(r: Row) -> str:
    return f"{r.index} {r.code} {_short(r.name)}"


def _short(name: str) -> str:
    """What tells a tensor from others: the last of the names that a converter joined, without its outer scopes."""
    last = name.split(";")[-1]
    return last if len(last) <= 32 else "…" + last[-31:]


def _shown(value: float | None) -> float | None:
    """A figure for the chart: without the ceiling that stands for no noise at all."""
    return None if value is None or abs(value) >= 200 else value


def _decibels(value: float | None) -> str:
    return "" if value is None else "exact" if value >= 200 else f"{value:.1f}"


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _microseconds(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _size(n: int) -> str:
    return f"{n / 1e6:.2f} MB" if n >= 1e6 else f"{n / 1e3:.1f} KB"


def _time(us: float) -> str:
    return f"{us / 1e3:.2f} ms" if us >= 1e3 else f"{us:.1f} µs"
