"""How far an integer graph is from the float graph that it stands for, on given inputs.

The measure is noise per signal, Σ(x̂ − x)² / Σx², x the float graph's value and x̂ what the integer graph's code stands
for; in decibels it is the signal-to-quantization-noise ratio, SQNR = 10·log₁₀(signal / noise), of which 6 dB are one
bit. Each tensor's noise holds all that came from upstream.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.calibrate import Inputs, processors, sparse, spread
from edgeq.errors import QuantizeError
from edgeq.feed import encode, quantmod_of
from edgeq.graph import Graph
from edgeq.quantmod import QuantMod
from edgeq.records import dataclass, replace

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
    from edgeq.stepping import Stepper

    pairs = [(i, j, quantmod_of(coded.tensors[j])) for i, j in place.items() if _comparable(real, i, coded, j)]
    whole = frozenset(judged(real))
    most = {i: real.tensors[i].size if i in whole else SEEN for i, _, _ in pairs}
    signal = {i: 0.0 for i, _, _ in pairs}
    noise = dict(signal)
    exact, rounded = Stepper(real, [i for i, _, _ in pairs]), Stepper(coded, [j for _, j, _ in pairs])
    readers: dict[int, list[tuple[int, QuantMod | None]]] = {}
    for i, j, q in pairs:
        readers.setdefault(j, []).append((i, q))
    for x in inputs:
        wanted = {i: np.array(sparse(v, most[i])) for i, v in exact.run([x])}
        for j, v in rounded.run([encode(coded, x)]):
            for i, q in readers[j]:
                if i in wanted:
                    s, n = _sums(wanted[i], _decoded(sparse(v, most[i]), q))
                    signal[i] += s
                    noise[i] += n
    return Comparison(MappingProxyType(signal), MappingProxyType(noise))


@dataclass(frozen=True, eq=False)
class Judge:
    """A float graph's answers on some inputs, to hold integer graphs against.

    targets: the tensors looked at; answers: their values on all inputs, (inputs, elements) each; most: of a tensor's elements,
    0: all.
    """

    targets: tuple[int, ...]
    inputs: Sequence[Inputs]
    answers: tuple[Array, ...]
    most: int = 0

    def error(self, coded: Graph, place: Mapping[int, int]) -> float:
        """Noise per signal of an integer graph, the mean over the targets."""
        return float(self.errors(coded, place).sum())

    def errors(self, coded: Graph, place: Mapping[int, int]) -> Array:
        """What each input adds to `error`: (inputs,) float64."""
        there = [place[i] for i in self.targets]
        shares = np.zeros(len(self.inputs))
        for j, wanted, codes in zip(there, self.answers, answers(coded, there, self.inputs, self.most), strict=True):
            q = quantmod_of(coded.tensors[j])
            sums = np.array([_sums(a, _decoded(b, q)) for a, b in zip(wanted, codes, strict=True)]).reshape(-1, 2)
            signal, noise = sums[:, 0].sum(), sums[:, 1]
            shares += noise / signal if signal else (noise > 0) / len(noise)
        return shares / len(self.targets)

    def first(self, count: int) -> Judge:
        """One that looks at `count` of the inputs, evenly spread."""
        step = max(1, len(self.inputs) // max(count, 1))
        return Judge(self.targets, self.inputs[::step], tuple(a[::step] for a in self.answers), self.most)


def judge_by(real: Graph, inputs: Sequence[Inputs]) -> Judge:
    """A judge that knows what the float graph says to these inputs. Raises QuantizeError for one that computes no floats."""
    targets = tuple(judged(real))
    if not targets:
        raise QuantizeError("expected a model whose outputs come from floats, found none to compare by")
    return Judge(targets, inputs, answers(real, targets, inputs))


TOGETHER = 1 << 20
"""Bytes of inputs that the machine is given at once."""

THREADS_NS = 20_000_000
"""Of all inputs' inferences, estimated: for less, starting threads takes longer than they save."""


def answers(graph: Graph, tensors: Sequence[int], inputs: Sequence[Inputs], most: int = 0) -> tuple[Array, ...]:
    """The values of some tensors on all inputs (as edgeq.feed gives them), (inputs, elements) each, in the memory of a plain
    inference; codes where the tensors hold codes. most: of a tensor's elements, evenly spread, so many at most; 0: all.
    """
    from edgeq.engine import Model

    whole = replace(graph.with_main(outputs=tuple(tensors)), signatures=())
    model = Model(whole, rounding="xnnpack")
    steps = [_step(p.shape, most) for p in model.outputs]
    out = [
        np.empty((len(inputs), -(-math.prod(p.shape) // k)), p.dtype) for p, k in zip(model.outputs, steps, strict=True)
    ]
    thinned = sum(math.prod(p.shape) * p.dtype.itemsize for p, k in zip(model.outputs, steps, strict=True) if k > 1)
    size = max(1, thinned, sum(a.nbytes for a in inputs[0])) if inputs else 1
    at_once = max(1, TOGETHER // size)
    count = processors() if model.plan.nanoseconds * len(inputs) >= THREADS_NS else 1
    at_once = max(1, min(at_once, -(-len(inputs) // count)))

    def one(worker: int, start: int) -> None:
        some = inputs[start : start + at_once]
        fed = [np.stack([x[k] for x in some]) for k in range(len(whole.inputs))]
        fed = [a if p.quantmod is None or a.dtype in (p.dtype, np.float32) else p.quantmod.quantize(a)
               for a, p in zip(fed, model.inputs, strict=True)]  # fmt: skip
        there = [a[start : start + at_once] for a in out]
        whole_ones = [np.empty((len(some), math.prod(p.shape)), p.dtype) if k > 1 else a
                      for a, p, k in zip(there, model.outputs, steps, strict=True)]  # fmt: skip
        model.program.run(fed, whole_ones, len(some))
        for a, values, k in zip(there, whole_ones, steps, strict=True):
            if k > 1:
                a[:] = values[:, ::k]

    for _ in spread(1 if model.plan.initial else count, range(0, len(inputs), at_once), one):
        pass
    return tuple(out)


def _step(shape: Sequence[int], most: int) -> int:
    """A step that leaves at most so many elements, and meets every channel."""
    step = -(-math.prod(shape) // most) if most else 1
    while step > 1 and math.prod(shape) > shape[-1] and math.gcd(step, shape[-1]) != 1:
        step += 1
    return max(step, 1)


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
