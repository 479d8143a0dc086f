"""What an integer model is held against while it is tuned: a teacher, or the float models that its codes may have come from.

Of several models the mean is what to come close to: it has the least expected distance from any one of them. Each by
itself says whether a change brings the integer model closer to it, and so how likely a change does harm.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from edgeq.calibrate import Inputs
from edgeq.errors import QuantizeError
from edgeq.feed import quantmod_of
from edgeq.graph import Graph
from edgeq.quantize.compare import Judge, answers, judged
from edgeq.quantize.settle import Layer, outputs_means
from edgeq.records import dataclass

Array = npt.NDArray[Any]

WITNESSES: Final = 64
"""Inputs by which each model says whether a change is for the better."""

SEEN: Final = 512
"""Values of an output that it does so by."""


@dataclass(frozen=True, eq=False)
class Guide:
    """judge: by the models' mean answers on inputs that are held back. trainer: the same on those and on `others`, of which
    `means` are: by operation of the integer graph, (len(others), channels) of its output. witnesses: some of all inputs; said: by
    model, by target what the model says of those, (witnesses, n) float32."""

    judge: Judge
    trainer: Judge
    others: Sequence[Inputs]
    means: Mapping[int, Array]
    witnesses: Sequence[Inputs]
    said: tuple[tuple[Array, ...], ...]

    def risk(self, old: Graph, new: Graph) -> float:
        """How likely `new` is further from the trained model than `old`; both have the judge's tensors in their places.

        Σ(x̂' − x)² − Σ(x̂ − x)² is linear in what a model says, a sum over many weights that are drawn independently:
        its mean and spread over the models give the chance by the normal distribution. Of one model that is 0 or 1.
        """
        was, now = (self._answers(g) for g in (old, new))
        gains = np.array([_distance(was, said) - _distance(now, said) for said in self.said])
        mean, spread = float(gains.mean()), float(gains.std(ddof=1)) if len(gains) > 1 else 0.0
        if spread == 0.0:
            return 0.0 if mean >= 0.0 else 1.0
        return 0.5 * math.erfc(mean / spread / math.sqrt(2.0))

    def _answers(self, coded: Graph) -> tuple[Array, ...]:
        found = answers(coded, self.judge.targets, self.witnesses)
        transforms = [quantmod_of(coded.tensors[i]) for i in self.judge.targets]
        thin = [_thinned(a) for a in found]
        return tuple(a if q is None else q.dequantize(a) for a, q in zip(thin, transforms, strict=True))


def guide_by(
    graph: Graph,
    own: Sequence[int],
    models: Iterable[Graph],
    matched: Sequence[Layer],
    judges: Sequence[Inputs],
    others: Sequence[Inputs],
) -> Guide:
    """What the float models say. graph: the integer model, own: the tensors by which it is judged; judges, others: inputs
    for the judge, and those that are not held back.

    Raises QuantizeError for models whose scores are not as many, or not of the sizes, that the integer model has.
    """
    inputs = [*judges, *others]
    step = -(-len(inputs) // WITNESSES)
    sums: list[Array] = []
    layers: dict[int, Array] = {}
    said = []
    for model in models:
        found = answers(model, _targets(graph, own, model), inputs)
        said.append(tuple(_thinned(a[::step]) for a in found))
        sums = [s + a for s, a in zip(sums, found, strict=True)] if sums else list(found)

        if others:
            met = outputs_means(model, [layer.wanted for layer in matched], others)
            for layer in matched:
                layers[layer.op] = layers.get(layer.op, 0.0) + met[layer.wanted]
    count = len(said)
    mean = [s / count for s in sums]
    judge = Judge(tuple(own), judges, tuple(a[: len(judges)] for a in mean))
    trainer = Judge(tuple(own), inputs, tuple(mean))
    return Guide(judge, trainer, others, {n: s / count for n, s in layers.items()}, inputs[::step], tuple(said))


def _thinned(values: Array) -> Array:
    """At most SEEN values of each input, evenly spread: (inputs, SEEN or fewer), a copy."""
    return np.array(values[:, :: -(-values.shape[1] // SEEN) or 1])


def _targets(graph: Graph, own: Sequence[int], model: Graph) -> list[int]:
    """The tensors by which the float model is judged, which stand for the integer model's `own`."""
    found = judged(model)
    if not found:
        raise QuantizeError("expected a model whose outputs come from floats, found none to compare by")
    if len(own) != len(found):
        raise QuantizeError(f"the teacher computes {len(found)} outputs from floats, the model {len(own)}")
    sizes = [tuple(graph.tensors[i].size for i in own), tuple(model.tensors[i].size for i in found)]
    if sizes[0] != sizes[1]:
        raise QuantizeError(f"the teacher's scores have sizes {sizes[1]}, the model's {sizes[0]}")
    return found


def _distance(found: Sequence[Array], wanted: Sequence[Array]) -> float:
    """Σ(x̂ − x)²."""
    total = 0.0
    for a, b in zip(found, wanted, strict=True):
        difference = (a.astype(np.float64) - b).reshape(-1)
        total += float(difference @ difference)
    return total
