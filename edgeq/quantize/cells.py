"""The float models that a quantized one may have been made of: each weight anywhere in the cell of its code.

A code says that the weight lay within half a step of what it stands for, and no more. Without a teacher that is all that
is known of the model that was trained, so it is drawn: weights uniform in their cells, biases as they are. How the draws answer
says how far the trained model may be from what the codes stand for, and whether a change is likely to do harm.

The draws are the same every time, and one model is there at a time: they take no memory that grows with their number.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from edgeq.graph import Graph, Tensor
from edgeq.pieces import Floats, Piece, whole
from edgeq.quantize.rules import RULES
from edgeq.records import replace

Array = npt.NDArray[Any]

MODELS: Final = 32
"""Draws: they tell a spread to within an eighth."""

LEAST_MODELS: Final = 8
"""Fewer do not tell how far they lie apart."""


def drawn(
    graph: Graph, real: Floats, count: int = MODELS, left_open: Mapping[int, Array] | None = None
) -> Iterator[Floats]:
    """`count` float models. graph: the integer model; real: what its codes stand for (edgeq.quantize.reconstruct).

    left_open: where more is known, by tensor the width within which a weight lies about that of `real`
    (edgeq.quantize.remainders). `real` alone, where no weights are coded.
    """
    steps = _steps(graph, real.graph) if left_open is None else left_open
    if not steps:
        yield real
        return
    for k in range(count):
        if real.whole and real.heavy:
            yield whole(_part(real, steps, k, real.pieces[0]))
        elif real.whole:
            random = np.random.default_rng(k)
            yield whole(
                _with(real.graph, {i: _moved(real.graph.tensors[i], step, random) for i, step in steps.items()})
            )
        else:
            yield Floats(real.graph, real.pieces, partial(_part, real, steps, k))


def _part(real: Floats, steps: Mapping[int, Array], k: int, piece: Piece) -> Graph:
    """A piece of a drawn model, of which a tensor comes out the same in whichever piece it is."""
    part = real.part(piece)
    there = {i for op in part.ops for i in op.inputs}
    moved = {}
    for i in there & steps.keys():
        t, step, bits = part.tensors[i], steps[i], np.random.PCG64([k, i])
        if piece.channels is not None:
            start = piece.channels[0]
            bits.advance(start * t.size // t.shape[0] // 2)  # a number of 64 bits makes two values
            step = step[slice(*piece.channels)] if step.shape[:1] != (1,) else step
        moved[i] = _moved(t, step, np.random.Generator(bits))
    return _with(part, moved)


def _with(graph: Graph, tensors: Mapping[int, Tensor]) -> Graph:
    return graph.with_main(tensors=tuple(tensors.get(i, t) for i, t in enumerate(graph.tensors)))


def _moved(t: Tensor, step: Array, random: np.random.Generator) -> Tensor:
    noise = random.random(t.shape, np.float32)
    noise -= np.float32(0.5)
    noise *= step
    noise += np.asarray(t.data)
    return replace(t, data=noise, buffer=0)


def _steps(graph: Graph, real: Graph) -> dict[int, Array]:
    """The float graph's coded weights: the `width` of their cells."""
    out = {}
    for op in graph.ops:
        rule = RULES.get(op.code)
        if rule is None or rule.weights is None or rule.weights >= len(op.inputs):
            continue
        i = op.inputs[rule.weights]
        t, q = graph.tensors[i], graph.tensors[i].quantization
        if t.data is None or q is None or not len(q.scale) or real.tensors[i].dtype != "float32":
            continue
        out[i] = width(t)
    return out


def width(t: Tensor) -> Array:
    """The width of the cells of a tensor's codes, which has scales: to be broadcast over it, float32."""
    assert t.quantization is not None
    shape = [1] * len(t.shape)
    if len(t.quantization.scale) > 1:
        shape[t.quantization.axis] = len(t.quantization.scale)
    return np.asarray(t.quantization.scale, np.float32).reshape(shape)
