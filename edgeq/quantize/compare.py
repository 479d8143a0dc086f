"""How far an integer graph is from the float graph that it stands for, on given inputs.

The measure is noise per signal, Σ(x̂ − x)² / Σx², x the float graph's value and x̂ what the integer graph's code stands
for; in decibels it is the signal-to-quantization-noise ratio, SQNR = 10·log₁₀(signal / noise), of which 6 dB are one
bit. Each tensor's noise holds all that came from upstream.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from edgeq.calibrate import Inputs, in_chunks, sparse
from edgeq.errors import QuantizeError
from edgeq.feed import encode, let_go, quantmod_of
from edgeq.graph import Graph
from edgeq.quantmod import QuantMod
from edgeq.records import dataclass, field

if TYPE_CHECKING:
    from edgeq.trials import Plans, Trials

Array = npt.NDArray[Any]

CEILING = 200.0
"""dB given to a tensor without any noise."""

SEEN = 8192
"""Elements of a tensor that a comparison of all tensors looks at, evenly spread."""

ABREAST = 4
"""Inputs that a comparison of all tensors looks at side by side."""

_SQUASHING = ("SOFTMAX", "LOG_SOFTMAX", "LOGISTIC", "TANH", "RESHAPE", "DEQUANTIZE", "QUANTIZE")


@dataclass(frozen=True)
class Comparison:
    """Sums over all inputs, by tensor of the float graph."""

    signal: Mapping[int, float]
    noise: Mapping[int, float]

    def sqnr(self, tensor: int) -> float:
        """In dB; CEILING where the two are the same."""
        return decibels(self.signal[tensor], self.noise[tensor])


def decibels(signal: float, noise: float) -> float:
    """10·log₁₀(signal / noise), within ±CEILING."""
    if noise == 0.0:
        return CEILING
    return -CEILING if signal == 0.0 else max(-CEILING, min(CEILING, 10 * math.log10(signal / noise)))


def compare(real: Graph, coded: Graph, place: Mapping[int, int], inputs: Iterable[Inputs]) -> Comparison:
    """Run both graphs on the same inputs (real numbers, as edgeq.feed gives them) and compare every tensor.

    place: tensor of `real` → its counterpart in `coded`, which is quantized per tensor or float32. Of a tensor with
    more elements than SEEN so many are looked at; of the tensors that a graph is judged by, all.
    """
    from edgeq.stepping import Stepper

    pairs = _pairs(real, coded, place)
    most = elements(real, (i for i, _, _ in pairs), SEEN)
    sums = _Sums(pairs)
    exact, rounded = Stepper(real, [i for i, _, _ in pairs]), Stepper(coded, [j for _, j, _ in pairs])
    at_once = min(exact.lanes, rounded.lanes, ABREAST)
    waiting = iter(inputs)
    while some := list(islice(waiting, at_once)):
        wanted = {i: np.stack([sparse(row, most[i]) for row in v]) for i, v in exact.run(some)}
        sums.take(wanted, most, rounded.run([encode(coded, x) for x in some]))
        let_go(a for x in some for a in x)
    return sums.comparison


def compare_with(
    real: Graph, coded: Graph, place: Mapping[int, int], inputs: Sequence[Inputs], said: Mapping[int, Array]
) -> Comparison:
    """As `compare`, where it is known what `real` says to these inputs: by tensor (inputs, n) of its elements, as many as
    `elements` allows, as `sparse` picks them.
    """
    from edgeq.stepping import Stepper

    pairs = [(i, j, q) for i, j, q in _pairs(real, coded, place) if i in said]
    most = {i: said[i].shape[1] for i, _, _ in pairs}
    sums = _Sums(pairs)
    step = Stepper(coded, [j for _, j, _ in pairs])
    for start in range(0, len(inputs), step.lanes):
        part = slice(start, start + step.lanes)
        sums.take({i: said[i][part] for i in most}, most, step.run([encode(coded, x) for x in inputs[part]]))
    return sums.comparison


def elements(real: Graph, tensors: Iterable[int], seen: int) -> dict[int, int]:
    """How many elements of each tensor are compared: `seen` at most, of those that the graph is judged by all."""
    whole = frozenset(judged(real))
    return {i: real.tensors[i].size if i in whole else seen for i in tensors}


def _pairs(real: Graph, coded: Graph, place: Mapping[int, int]) -> list[tuple[int, int, QuantMod | None]]:
    return [(i, j, quantmod_of(coded.tensors[j])) for i, j in place.items() if _comparable(real, i, coded, j)]


class _Sums:
    """A comparison that grows."""

    def __init__(self, pairs: Sequence[tuple[int, int, QuantMod | None]]) -> None:
        self._signal = {i: 0.0 for i, _, _ in pairs}
        self._noise = dict(self._signal)
        self._readers: dict[int, list[tuple[int, QuantMod | None]]] = {}
        for i, j, q in pairs:
            self._readers.setdefault(j, []).append((i, q))

    def take(self, wanted: Mapping[int, Array], most: Mapping[int, int], rounded: Iterable[tuple[int, Array]]) -> None:
        """What the float graph says to some inputs, and what the integer graph does, tensor after tensor."""
        for j, values in rounded:
            for i, q in self._readers[j]:
                if i in wanted:
                    found = np.stack([sparse(row, most[i]) for row in values])
                    self._signal[i] += _signal(wanted[i])
                    self._noise[i] += float(_noise(wanted[i], _decoded(found, q)).sum())

    @property
    def comparison(self) -> Comparison:
        """What was taken in."""
        return Comparison(MappingProxyType(self._signal), MappingProxyType(self._noise))


@dataclass(frozen=True, eq=False)
class Judge:
    """A float graph's answers on some inputs, to hold integer graphs against.

    targets: the tensors looked at; answers: their values on all inputs, (inputs, elements) each; most: of a tensor's elements,
    0: all. trials: by the tensors that stand for the targets, where integer graphs run; plans: of those, which judges may share;
    known: the signals, once they are reckoned.
    """

    targets: tuple[int, ...]
    inputs: Sequence[Inputs]
    answers: tuple[Array, ...]
    most: int = 0
    trials: dict[tuple[int, ...], Trials] = field(default_factory=dict)
    plans: dict[tuple[int, ...], Plans] = field(default_factory=dict)
    known: list[float] = field(default_factory=list)

    def error(self, coded: Graph, place: Mapping[int, int]) -> float:
        """Noise per signal of an integer graph, the mean over the targets."""
        return float(self.errors(coded, place).sum())

    def errors(self, coded: Graph, place: Mapping[int, int], part: slice = slice(None)) -> Array:
        """What each input, or each of a part of them, adds to `error`: (inputs,) float64."""
        there = tuple(place[i] for i in self.targets)
        if there not in self.trials:
            self.trials[there] = self.others(there, self.inputs, self.most)
        found = self.trials[there].answers(coded, part=part)
        shares = np.zeros(len(range(*part.indices(len(self.inputs)))))
        for j, answer, signal, codes in zip(there, self.answers, self.signals, found, strict=True):
            q, wanted = quantmod_of(coded.tensors[j]), answer[part]
            noise = np.empty(len(wanted))
            for rows in _rows(wanted):
                noise[rows] = _noise(wanted[rows], _decoded(codes[rows], q))
            shares += noise / signal if signal else (noise > 0) / len(answer)
        return shares / len(self.targets)

    def others(self, there: tuple[int, ...], inputs: Sequence[Inputs], most: int) -> Trials:
        """Trials of the same graphs on other inputs."""
        from edgeq.trials import Plans, Trials

        return Trials(self.plans.setdefault(there, Plans(there)), inputs, most)

    @property
    def signals(self) -> list[float]:
        """Σx² of each target."""
        if not self.known:
            self.known.extend(sum(_signal(a[rows]) for rows in _rows(a)) for a in self.answers)
        return self.known

    def rest(self) -> None:
        """Let go of the memory that graphs ran in; what comes next makes it anew."""
        for trials in self.trials.values():
            trials.rest()

    def forget(self) -> None:
        """As `rest`, and of plans, too, which others may share."""
        self.rest()
        self.trials.clear()
        self.plans.clear()

    def first(self, count: int) -> Judge:
        """One that looks at `count` of the inputs, evenly spread."""
        step = max(1, len(self.inputs) // max(count, 1))
        return Judge(self.targets, self.inputs[::step], tuple(a[::step] for a in self.answers), self.most)


def judge_by(real: Graph, inputs: Sequence[Inputs]) -> Judge:
    """A judge that knows what the float graph says to these inputs. Raises QuantizeError for one that computes no floats."""
    targets = tuple(judged(real))
    if not targets:
        raise QuantizeError("expected a model whose outputs come from floats, found none to compare by")
    found: list[list[Array]] = [[] for _ in targets]
    for values in in_chunks(
        real, inputs, lambda worker, step, number, some: [(i, v.copy()) for i, v in step.run(some)], targets
    ):
        for i, v in values:
            found[targets.index(i)].append(v)
    if not inputs:
        return Judge(targets, inputs, tuple(np.empty((0, real.tensors[i].size), np.float32) for i in targets))
    return Judge(targets, inputs, tuple(np.concatenate(v) for v in found))


def answers(
    graph: Graph, tensors: Sequence[int], inputs: Sequence[Inputs], most: int = 0, *, checked: bool = False
) -> tuple[Array, ...]:
    """The values of some tensors on all inputs (as edgeq.feed gives them), (inputs, elements) each, in the memory of a plain
    inference; codes where the tensors hold codes. most: of a tensor's elements, evenly spread, so many at most; 0: all.
    checked: the graph differs from one that was checked in the values of constants alone.
    """
    from edgeq.trials import Trials

    return Trials(tensors, inputs, most).answers(graph, checked=checked)


def judged(graph: Graph) -> list[int]:
    """The float tensors by which a graph is judged: its outputs, or what goes into the softmax or the like before them.

    A softmax hides what happens upstream where it saturates and magnifies it where it does not; the scores that go in
    are an even measure. Behind an output of integers (an arg max) stand the floats that it comes from.
    """
    producers = graph.main.producers()
    found: list[int] = []
    for i in graph.outputs:
        while i in producers:
            op = graph.ops[producers[i]]
            sources = [k for k in op.inputs if k >= 0 and graph.tensors[k].data is None]
            if not sources or not (op.code in _SQUASHING or graph.tensors[i].dtype != "float32"):
                break
            i = sources[0]
        if graph.tensors[i].dtype == "float32" and graph.tensors[i].data is None and i not in found:
            found.append(i)
    return found


def _comparable(real: Graph, i: int, coded: Graph, j: int) -> bool:
    there = coded.tensors[j]
    return real.tensors[i].dtype == "float32" and (there.dtype == "float32" or quantmod_of(there) is not None)


def _decoded(values: Array, q: QuantMod | None) -> Array:
    return values if q is None else q.dequantize(values)


def _rows(values: Array) -> Iterator[slice]:
    """Some rows at a time, of few megabytes as float64."""
    step = max(1, (1 << 17) // max(1, values.shape[1]))
    return (slice(start, start + step) for start in range(0, len(values), step))


def _signal(wanted: Array) -> float:
    """Σx²."""
    a = wanted.astype(np.float64)
    return float(np.einsum("ij,ij->", a, a))


def _noise(wanted: Array, found: Array) -> Array:
    """Σ(x̂ − x)² of each row: (rows,)."""
    difference: Array = found - wanted.astype(np.float64)
    out: Array = np.einsum("ij,ij->i", difference, difference)
    return out
