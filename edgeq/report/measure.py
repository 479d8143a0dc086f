"""The figures of a report: both models run on the same samples, every tensor looked at, one pass, constant memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgeq import metrics
from edgeq.calibrate import Inputs, Progress, silent, tracer
from edgeq.errors import InputError
from edgeq.feed import Source, count, encode, feed, quantmod_of
from edgeq.graph import Array, Graph
from edgeq.histogram import Histogram
from edgeq.quantize.canonical import fold_weights, real
from edgeq.quantize.compare import decibels, judged
from edgeq.quantize.prepare import prepare
from edgeq.quantize.rules import RULES
from edgeq.recipe import RECIPES
from edgeq.report.latency import latencies
from edgeq.report.match import layers, match
from edgeq.report.sensitivity import sensitivity
from edgeq.tflite import write

WORST = 12
"""Samples shown on which the two models are furthest apart."""


@dataclass(frozen=True, eq=False)
class Row:
    """One operation of the integer model.

    sqnr: in dB of its output, all noise from upstream included, None where no float tensor stands beside it; scaled: whether
    its channels count in other units than the float model's (an equalised layer), and are compared after that is taken
    out; own: in dB, the noise that its code alone adds to its values; clipped: share of the float model's values beyond
    its codes; weights_sqnr: in dB; sensitivity: noise per signal at the outputs if this layer alone is in integers;
    microseconds: of the integer and the float model's operation.
    """

    index: int
    code: str
    name: str
    shape: tuple[int, ...]
    dtype: str
    scale: float | None
    zero_point: int | None
    channels: int
    sqnr: float | None
    scaled: bool
    own: float | None
    clipped: float | None
    limits: tuple[float, float] | None
    weights_sqnr: float | None
    levels: int | None
    sensitivity: float | None
    microseconds: float | None
    float_microseconds: float | None
    histogram: Histogram | None


@dataclass(frozen=True, eq=False)
class Sample:
    """A sample on which the models are far apart. distance: noise per signal at the outputs; label: None where unknown;
    float_, int_: the first choices and their scores, or None for models that choose nothing; inputs: as they were fed."""

    number: int
    distance: float
    label: int | None
    float_: tuple[int, float] | None
    int_: tuple[int, float] | None
    inputs: Inputs


@dataclass(frozen=True, eq=False)
class Measured:
    """Everything that a page shows. figures: name → (float, integer), both None where only one makes sense."""

    float_name: str
    int_name: str
    samples: int
    figures: Mapping[str, tuple[float | None, float | None]]
    output_sqnr: float
    bytes_float: int
    bytes_int: int
    weight_bytes: tuple[int, int]
    microseconds: tuple[float, float]
    rows: tuple[Row, ...]
    worst: tuple[Sample, ...]
    distances: Array


def measure(
    real_graph: Graph,
    coded: Graph,
    samples: Source,
    labels: Array | None = None,
    names: tuple[str, str] = ("float", "int"),
    progress: Progress | None = None,
) -> Measured:
    """Run both models on `samples` (as edgeq.feed takes them) and compare them. Raises InputError where they do not fit."""
    say = progress or silent
    plain = fold_weights(prepare(real_graph, RECIPES["int8"]))
    place = match(plain, coded)
    total = count(plain, samples) or 0
    if labels is not None and total and len(labels) != total:
        raise InputError(f"expected one label per sample, found {len(labels)} labels and {total} samples")
    sums = _Sums(plain, coded, place, judged(plain))
    for n, x in enumerate(feed(plain, samples)):
        sums.add(n, x, None if labels is None else labels[n])
        say(n + 1, total, "comparing")
    if not sums.count:
        raise InputError("expected at least one sample, found none")
    say(0, 0, "measuring sensitivity")
    scaled = {i for i in sums.histograms if sums.noise(i)[2]}
    felt = sensitivity(plain, coded, place, sums.kept, scaled)
    say(0, 0, "timing")
    fast, whole_int = latencies(coded)
    slow, whole_float = latencies(plain)
    of = layers(plain, coded, place)
    rows = tuple(
        _row(coded, plain, n, of.get(n), sums, felt, fast, slow) for n in range(len(coded.ops))
    )  # fmt: skip
    return Measured(
        *names, sums.count, sums.figures(), sums.output_sqnr(), len(write(real_graph)), len(write(coded)),
        (_weight_bytes(real_graph), _weight_bytes(coded)), (whole_float, whole_int), rows, sums.worst(), np.array(sums.far),
    )  # fmt: skip


def _weight_bytes(graph: Graph) -> int:
    return sum(np.asarray(t.data).nbytes for t in graph.tensors if t.data is not None)


class _Sums:
    """What a pass over the samples leaves."""

    def __init__(self, plain: Graph, coded: Graph, place: Mapping[int, int], targets: Sequence[int]) -> None:
        self.coded, self.plain, self.place = coded, plain, place
        self.targets = [i for i in targets if i in place]
        self.count = 0
        self.kept: list[Inputs] = []
        self.far: list[float] = []
        self.histograms: dict[int, Histogram] = {}
        self._run = tracer(plain), tracer(coded)
        self._products: dict[int, Array] = {}  # (3, channels): Σf², Σi², Σf·i of each matched tensor
        self._outputs: list[tuple[Array, Array]] = []
        self._wanted: list[Array | None] = []
        self._labels: list[Any] = []
        self._inputs: dict[int, Inputs] = {}
        self._output = plain.outputs[0]

    def add(self, n: int, x: Inputs, label: Any) -> None:
        """The next sample."""
        floats = self._run[0](x)
        codes = self._run[1](encode(self.coded, x))
        for i, j in self.place.items():
            if i not in floats or j not in codes:
                continue
            f, k = floats[i].astype(np.float64), _real(self.coded, j, codes[j]).astype(np.float64)
            channels = f.shape[-1] if f.ndim > 1 else 1
            f, k = f.reshape(-1, channels), k.reshape(-1, channels)
            now = np.stack([(f * f).sum(0), (k * k).sum(0), (f * k).sum(0)])
            self._products[i] = self._products[i] + now if i in self._products else now
            self.histograms[i] = self.histograms.get(i, Histogram()).add(floats[i])
        noise = [_noise(floats[i], _real(self.coded, self.place[i], codes[self.place[i]])) for i in self.targets]
        self.far.append(float(np.mean(noise)) if noise else 0.0)
        a = np.array(floats[self._output], np.float32)
        b = _real(self.coded, self.coded.outputs[0], np.array(codes[self.coded.outputs[0]]))
        self._outputs.append((a, np.array(b, np.float32)))
        same = len(x) == 1 and x[0].shape == a.shape and x[0].dtype == np.float32
        self._wanted.append(np.array(x[0]) if same else None)
        self._labels.append(label)
        if len(self.kept) < 16:
            self.kept.append(tuple(np.array(v) for v in x))
        self._remember(n, x)
        self.count += 1

    def _remember(self, n: int, x: Inputs) -> None:
        """Keep the inputs of the samples that are furthest apart so far."""
        self._inputs[n] = tuple(np.array(v) for v in x)
        if len(self._inputs) > 2 * WORST:
            order = sorted(self._inputs, key=lambda k: -self.far[k])
            self._inputs = {k: self._inputs[k] for k in order[:WORST]}

    def noise(self, i: int) -> tuple[float, float, bool]:
        """Σf², Σ(i − f)² of a tensor, and whether other units of its channels were taken out first."""
        ff, ii, fi = self._products[i]
        plain = float(np.maximum(ii - 2 * fi + ff, 0).sum())
        signal = float(ff.sum())
        with np.errstate(divide="ignore", invalid="ignore"):
            fitted = np.where(fi > 0, ii * ff * ff / (fi * fi) - ff, ff)
        apart = float(np.maximum(fitted, 0).sum())
        # Ten times less noise for other units alone: the layer was scaled, not damaged.
        return (
            (signal, apart, True) if apart * 10 < plain and apart < 0.5 * signal < 5 * plain else (signal, plain, False)
        )

    def output_sqnr(self) -> float:
        """In dB, of the worst output or the scores that go into its softmax."""
        return min((decibels(*self.noise(i)[:2]) for i in self.targets), default=0.0)

    def figures(self) -> dict[str, tuple[float | None, float | None]]:
        """What can be said with these labels and outputs."""
        floats, ints = (np.concatenate([np.atleast_2d(o[k]) for o in self._outputs]) for k in (0, 1))
        found: dict[str, tuple[float | None, float | None]] = {}
        scores = [v.reshape(len(v), -1) for v in (floats, ints)]
        known = [y for y in self._labels if y is not None]
        whole = len(known) == len(floats) and np.asarray(known).dtype.kind in "iub" and np.ndim(known[0]) == 0
        wanted = (
            np.concatenate([w for w in self._wanted if w is not None])
            if all(w is not None for w in self._wanted)
            else None
        )
        if wanted is not None:
            errors = [metrics.errors(v, wanted) for v in (floats, ints)]
            found["reconstruction error (MSE)"] = (float(errors[0].mean()), float(errors[1].mean()))
            if whole and set(np.unique(known)) == {0, 1}:
                labels = np.asarray(known) != 0
                found["AUC of the reconstruction error"] = (
                    metrics.auc(errors[0], labels),
                    metrics.auc(errors[1], labels),
                )
            return found
        if scores[0].shape[1] > 1:
            if whole and int(np.max(known)) < scores[0].shape[1]:
                labels = np.asarray(known, np.int64)
                found["top-1 accuracy"] = (metrics.top_k(scores[0], labels), metrics.top_k(scores[1], labels))
            if floats.ndim == 2:
                same = float((scores[0].argmax(1) == scores[1].argmax(1)).mean())
                found["agreement of first choices"] = (None, same)
        elif whole and set(np.unique(known)) == {0, 1}:
            labels = np.asarray(known) != 0
            found["AUC"] = (metrics.auc(scores[0][:, 0], labels), metrics.auc(scores[1][:, 0], labels))
        return found

    def worst(self) -> tuple[Sample, ...]:
        """The samples furthest apart, those with other first choices before the rest."""
        found = []
        for n, inputs in self._inputs.items():
            a, b = self._outputs[n]
            choices = [(int(v.argmax()), float(v.max())) if a.ndim <= 2 and a.size > 1 else None for v in (a, b)]
            label = self._labels[n]
            whole = label is not None and np.ndim(label) == 0 and np.asarray(label).dtype.kind in "iub"
            found.append(Sample(n, self.far[n], int(label) if whole else None, choices[0], choices[1], inputs))
        return tuple(sorted(found, key=lambda s: -s.distance)[:WORST])


def _row(
    coded: Graph, plain: Graph, n: int, m: int | None, sums: _Sums, felt: Mapping[int, float],
    fast: Mapping[int, float], slow: Mapping[int, float],
) -> Row:  # fmt: skip
    op = coded.ops[n]
    t = coded.tensors[op.outputs[0]]
    q = quantmod_of(t)
    i = plain.ops[m].outputs[0] if m is not None else None
    h = sums.histograms.get(i) if i is not None else None
    sqnr, scaled, own, clipped, limits = None, False, None, None, None
    if i is not None and h is not None:
        signal, noise, scaled = sums.noise(i)
        sqnr = decibels(signal, noise)
        if q is not None and not scaled:
            values, weights = h.points()
            limits = (float(q.limits[0]), float(q.limits[1]))
            half = 0.5 * float(q.scale)
            outside = (values < limits[0] - half) | (values > limits[1] + half)
            clipped = float(weights[outside].sum() / max(weights.sum(), 1.0))
            error = q.dequantize(q.quantize(values)) - values
            own = decibels(float((weights * values**2).sum()), float((weights * error**2).sum()))
    w_sqnr, levels, channels = _weights(coded, plain, n, m)
    return Row(
        n, op.custom_code or op.code, t.name, t.shape, t.dtype, None if q is None else float(q.scale),
        None if q is None else int(q.zero_point), channels, sqnr, scaled, own, clipped, limits, w_sqnr, levels, felt.get(n),
        fast.get(n), slow.get(m) if m is not None else None, h,
    )  # fmt: skip


def _weights(coded: Graph, plain: Graph, n: int, m: int | None) -> tuple[float | None, int | None, int]:
    """SQNR of an operation's weights beside the float model's, the most codes of a channel, and how many scales."""
    op = coded.ops[n]
    rule = RULES.get(op.code)
    if rule is None or rule.weights is None:
        return None, None, 0
    t = coded.tensors[op.inputs[rule.weights]]
    if t.data is None or t.quantization is None or not len(t.quantization.scale):
        return None, None, 0
    codes = np.moveaxis(np.asarray(t.data), rule.axis, 0).reshape(t.shape[rule.axis], -1)
    levels = max(len(np.unique(row)) for row in codes)
    sqnr = None
    if m is not None and plain.ops[m].code == op.code:
        w = plain.tensors[plain.ops[m].inputs[rule.weights]]
        if w.data is not None and w.shape == t.shape:
            a, b = np.asarray(w.data, np.float64), real(t).astype(np.float64)
            sqnr = decibels(float((a * a).sum()), float(((a - b) ** 2).sum()))
    return sqnr, levels, len(t.quantization.scale)


def _real(graph: Graph, j: int, values: Array) -> Array:
    q = quantmod_of(graph.tensors[j])
    return values if q is None else q.dequantize(values)


def _noise(wanted: Array, found: Array) -> float:
    a = wanted.astype(np.float64).reshape(-1)
    d = found.reshape(-1) - a
    return float(d @ d) / max(float(a @ a), 1e-30)
