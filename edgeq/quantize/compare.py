"""How far an integer graph is from the float graph that it stands for, on given inputs.

The measure is noise per signal, Σ(x̂ − x)² / Σx², x the float graph's value and x̂ what the integer graph's code stands
for; in decibels it is the signal-to-quantization-noise ratio, SQNR = 10·log₁₀(signal / noise), of which 6 dB are one
bit. Each tensor's noise holds all that came from upstream.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.calibrate import Inputs, Trace, in_parallel, sparse, tracer
from edgeq.errors import QuantizeError
from edgeq.feed import encode, quantmod_of
from edgeq.graph import Graph
from edgeq.quantmod import QuantMod

Array = npt.NDArray[Any]

CEILING = 200.0
"""dB given to a tensor without any noise."""

SEEN = 8192
"""Elements of a tensor that a comparison of all tensors looks at, evenly spread."""

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
    run_real, run_coded = tracer(real), tracer(coded)
    pairs = [(i, j, quantmod_of(coded.tensors[j])) for i, j in place.items() if _comparable(real, i, coded, j)]
    whole = frozenset(judged(real))
    signal = {i: 0.0 for i, _, _ in pairs}
    noise = dict(signal)
    for x in inputs:
        wanted, found = run_real(x), run_coded(encode(coded, x))
        for i, j, q in pairs:
            if i in wanted and j in found:
                most = real.tensors[i].size if i in whole else SEEN
                s, n = _sums(sparse(wanted[i], most), _decoded(sparse(found[j], most), q))
                signal[i] += s
                noise[i] += n
    return Comparison(MappingProxyType(signal), MappingProxyType(noise))


@dataclass(frozen=True, eq=False)
class Judge:
    """A float graph's answers on some inputs, to hold integer graphs against.

    targets: the tensors looked at; answers: their values, for each input.
    """

    targets: tuple[int, ...]
    inputs: Sequence[Inputs]
    answers: tuple[tuple[Array, ...], ...]

    def error(self, coded: Graph, place: Mapping[int, int]) -> float:
        """Noise per signal of an integer graph, the mean over the targets."""
        transforms = [quantmod_of(coded.tensors[place[i]]) for i in self.targets]

        def one(worker: int, run: Trace, at: int) -> Array:
            found = run(encode(coded, self.inputs[at]))
            return np.array(
                [
                    _sums(self.answers[at][k], _decoded(found[place[i]], q))
                    for k, (i, q) in enumerate(zip(self.targets, transforms, strict=True))
                ]
            )

        sums: Array = np.sum(
            list(in_parallel(coded, range(len(self.inputs)), one)), axis=0
        )  # in order, whoever ran them
        return float(np.mean([n / s if s else float(n > 0) for s, n in sums]))

    def first(self, count: int) -> Judge:
        """One that looks at `count` of the inputs, evenly spread."""
        step = max(1, len(self.inputs) // max(count, 1))
        return Judge(self.targets, self.inputs[::step], self.answers[::step])


def judge_by(real: Graph, inputs: Sequence[Inputs]) -> Judge:
    """A judge that knows what the float graph says to these inputs. Raises QuantizeError for one that computes no floats."""
    targets = tuple(judged(real))
    if not targets:
        raise QuantizeError("expected a model whose outputs come from floats, found none to compare by")

    def one(worker: int, run: Trace, at: int) -> tuple[Array, ...]:
        values = run(inputs[at])
        return tuple(np.array(values[i]) for i in targets)

    return Judge(targets, inputs, tuple(in_parallel(real, range(len(inputs)), one)))


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


def _sums(wanted: Array, found: Array) -> tuple[float, float]:
    """Σx² and Σ(x̂ − x)²."""
    a = wanted.astype(np.float64).reshape(-1)
    difference = found.reshape(-1) - a
    return float(a @ a), float(difference @ difference)
