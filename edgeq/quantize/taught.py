"""A float model made small enough to travel: of an integer model's own layers only what rounding took off the weights is kept."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from edgeq.calibrate import Inputs
from edgeq.feed import quantmod_of
from edgeq.graph import Graph
from edgeq.quantize.canonical import real
from edgeq.quantize.cells import width
from edgeq.quantize.compare import answers, judged
from edgeq.quantize.reconstruct import reconstruct
from edgeq.quantize.remainders import Real, remembered, weighted, with_remainders
from edgeq.quantize.rules import RULES
from edgeq.quantize.settle import layers, prepared

Array = npt.NDArray[Any]

PARTS: Final = 8
"""Of a cell: no samples tell how much it matters, and 3 bits of a weight are a tenth of the float model."""

ASKED: Final = 8
"""Inputs on which both models are compared."""

CLOSE: Final = 0.75
"""Of a cell, that a layer's weights may lie from their codes in the root mean square. Rounding one by one leaves 0.29, rounding
so that some make up for others up to 0.35; other scales between channels leave many."""

NO_FURTHER: Final = 2.0
"""Times the noise that the codes make on inputs drawn evenly, which rounding does not care for: an operation that the other
model has not makes hundreds."""

SAME: Final = 1e-5
"""Noise per signal, below which models are the same."""


def taught(graph: Graph, teacher: Graph, parts: int = PARTS) -> Graph | None:
    """The integer graph with remainders that make its codes `teacher`, the float model that it was made of; None where they do
    not: where it was made of the teacher in another form (channels scaled, operations left out or put in).

    Raises InputError for a teacher of another network.
    """
    wanted = prepared(graph, teacher)
    producers, coded, known = wanted.main.producers(), set(weighted(graph)), {}
    for layer in layers(graph, wanted):
        op = wanted.ops[producers[layer.wanted]]
        w, b = (_data(wanted, op.inputs, at) for at in (RULES[op.code].weights, RULES[op.code].bias))
        if layer.op in coded and w is not None:
            if _distance(graph, layer.op, w) > CLOSE:
                return None
            known[layer.op] = Real(w, b)
    inputs = _inputs(graph)
    if not known or inputs is None:
        return None
    made, codes = with_remainders(graph, known, parts), reconstruct(graph)
    near = remembered(made, codes)
    assert near is not None
    said, far, close = (_answers(g, inputs) for g in (wanted, codes, near))
    if said.shape != close.shape:
        return None
    left, open_ = (float(((a - said) ** 2).sum()) for a in (close, far))
    return made if left <= max(NO_FURTHER * open_, SAME * float((said**2).sum())) else None


def _data(graph: Graph, inputs: tuple[int, ...], at: int | None) -> Array | None:
    """The constant float32 input at a position, None where there is none."""
    if at is None or at >= len(inputs) or inputs[at] < 0:
        return None
    t = graph.tensors[inputs[at]]
    return None if t.data is None or t.dtype != "float32" else np.asarray(t.data)


def _distance(graph: Graph, n: int, weights: Array) -> float:
    """Of a layer's weights from what their codes stand for, in cells, root mean square."""
    at = graph.ops[n].inputs[RULES[graph.ops[n].code].weights or 0]
    away = (weights - real(graph.tensors[at])) / width(graph.tensors[at])
    return float(np.sqrt((away.astype(np.float64) ** 2).mean()))


def _inputs(graph: Graph) -> list[Inputs] | None:
    """Inputs drawn evenly from what the model's own can hold, None where they are no reals."""
    rng, drawn, consumers = np.random.default_rng(0), [], graph.main.consumers()
    for i in graph.inputs:
        readers = [graph.ops[n] for n in consumers.get(i, [])]
        through = graph.tensors[i].dtype == "float32" and bool(readers) and all(op.code == "QUANTIZE" for op in readers)
        q = quantmod_of(graph.tensors[readers[0].outputs[0] if through else i])  # most converters leave inputs real
        if q is None:
            return None
        low, high = map(float, q.limits)
        drawn.append(rng.uniform(low, high, (ASKED, *graph.tensors[i].shape)).astype(np.float32))
    return list(zip(*drawn, strict=True))


def _answers(graph: Graph, inputs: list[Inputs]) -> Array:
    """(inputs, values) float64, of all tensors that it is judged by."""
    return np.concatenate([a.astype(np.float64) for a in answers(graph, judged(graph), inputs)], axis=1)
