"""The weights of a layer as codes, rounded with regard to the layer's inputs, or to a codebook."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.graph import Graph
from edgeq.quantize import codebook, gptq
from edgeq.quantize.layout import Layout
from edgeq.quantize.rules import RULES
from edgeq.quantize.weights import Coded, quantize_weights
from edgeq.records import dataclass

Array = npt.NDArray[Any]

SPARED = 0.03
"""Of all weights that would get a codebook: the smallest layers keep all codes as long as they are not more than this. The
first layer, the last and a bottleneck are small, and what is lost there is lost for all.
"""


@dataclass(frozen=True)
class Grade:
    """How finely the weights of a layer are coded.

    levels: of a codebook, 0 for none; step: of the scale, in steps that use all of int8. A step of 4 leaves codes of ±31,
    which an entropy code stores in fewer bits.
    """

    levels: int = 0
    step: float = 1.0


FINEST = Grade()


def grades(graph: Graph, layout: Layout) -> dict[int, Grade]:
    """What the layout says of those layers that are not of the finest grade."""
    return {n: Grade(layout.treatments[n].levels) for n in codebook_layers(graph, layout)}


def layers(layout: Layout) -> list[int]:
    """The operations whose weights are going to be codes."""
    return [n for n in layout.treatments if n in layout.stored or n in layout.rules]


def codebook_layers(graph: Graph, layout: Layout) -> frozenset[int]:
    """The layers whose weights get few levels: not depthwise ones, whose rows are too short for that, nor the smallest."""
    sizes = {
        n: graph.tensors[graph.ops[n].inputs[RULES[graph.ops[n].code].weights or 0]].size
        for n in layers(layout)
        if layout.treatments[n].levels and graph.ops[n].code != "DEPTHWISE_CONV_2D"
    }
    left = SPARED * sum(sizes.values())
    taken = set(sizes)
    for n in sorted(sizes, key=lambda n: (sizes[n], n)):
        left -= sizes[n]
        if left < 0:
            break
        taken.discard(n)
    return frozenset(taken)


def plain(graph: Graph, layout: Layout, n: int) -> Coded:
    """The weights of layer n, each at the nearest code."""
    op = graph.ops[n]
    rule = RULES[op.code]
    assert rule.weights is not None
    per_channel = one_each(layout, n, op.code)
    return quantize_weights(
        np.asarray(graph.tensors[op.inputs[rule.weights]].data), rule.axis, None, 1.0, 1.0, per_channel
    )[0]


def one_each(layout: Layout, n: int, code: str) -> bool:
    """Whether the weights of layer n have a scale per channel."""
    if layout.stored.get(n) == "dynamic" and code == "FULLY_CONNECTED":
        return False
    return layout.treatments[n].per_channel


def rounded(graph: Graph, layout: Layout, n: int, h: Array | None, grade: Grade, kind: str) -> Coded:
    """The weights of layer n under its Hessian (see edgeq.quantize.gptq; None: unknown), or each at the nearest code.

    kind: of codebook.
    """
    op = graph.ops[n]
    rule = RULES[op.code]
    assert rule.weights is not None
    w = _by_channel(np.asarray(graph.tensors[op.inputs[rule.weights]].data), rule.axis).astype(np.float64)
    if h is not None and h.ndim == 3:
        h = np.repeat(h, len(w) // len(h), axis=0)
    near = plain(graph, layout, n)
    return _coded(graph, n, w, near.scale, near.axis, h, grade, kind)


def levelled(graph: Graph, layout: Layout, n: int, w: Array, h: Array, grade: Grade, kind: str) -> Coded:
    """Other real weights (channels, k) of layer n, rounded under a Hessian (k, k) or (channels, k, k).

    One scale for all is not that of the largest weight, but the one of several that costs least: what is clipped errs
    more, all else less (Nagel et al., "A White Paper on Neural Network Quantization", 2021, section 3.1).
    """
    top = np.abs(w).max(axis=1)
    if one_each(layout, n, graph.ops[n].code):
        scale = np.maximum(top, 1e-30) / 127
    else:
        best = min(
            (float(gptq.cost(w / s, np.clip(np.rint(w / s), -127, 127), h).sum()) * s * s, -s) for s in _steps(top)
        )
        scale = np.array([-best[1]])
    near = plain(graph, layout, n)
    scale = np.maximum(scale, near.scale.min() / 1024).astype(np.float32)
    return _coded(graph, n, w, scale, near.axis, h, grade, kind, exact=True)


def _steps(top: Array) -> Array:
    """Scales to try for all channels together."""
    return np.asarray(
        max(float(top.max(initial=0.0)), 1e-30) / 127 * np.array([1.0, 0.92, 0.84, 0.76, 0.68, 0.6, 0.5, 0.4])
    )


def _coded(
    graph: Graph,
    n: int,
    w: Array,
    scale: Array,
    axis: int,
    h: Array | None,
    grade: Grade,
    kind: str,
    exact: bool = False,
) -> Coded:
    """Real weights (channels, k) at these scales, (channels,) or (1,), times the grade's step.

    exact: short depthwise windows at the very least cost. That pays under moments about the mean alone: what is gained by
    sparing the mean, bias correction would have had for nothing (5 dB were lost where it was tried under E[x·xᵀ]).
    """
    op = graph.ops[n]
    rule = RULES[op.code]
    assert rule.weights is not None
    if grade.step != 1.0:
        scale = (scale * np.float32(grade.step)).astype(np.float32)
    real = w / scale.astype(np.float64)[:, None]  # in units of their scales
    count = grade.levels
    if count:
        importance = np.ones(real.shape[1]) if h is None or h.ndim != 2 else np.diag(h)
        levels = codebook.levels(np.clip(real, -127, 127), importance, count, kind)
        codes = codebook.plain(real, levels).astype(np.float64)

        def nearest(column: Array, j: int) -> Array:
            return codebook.nearest(column, levels)
    else:
        codes = np.clip(np.rint(real), -127, 127)

        def nearest(column: Array, j: int) -> Array:
            return np.clip(np.rint(column), -127, 127)

    if h is not None:
        better = gptq.rounded_depthwise(real, h, nearest) if h.ndim == 3 else gptq.rounded(real, h, nearest)
        codes = gptq.better(real, codes, h, better)
        if exact and h.ndim == 3 and not count and real.shape[1] <= gptq.TAPS:
            codes = gptq.better(real, codes, h, gptq.exact_depthwise(real, h))
    shape = np.moveaxis(np.empty(graph.tensors[op.inputs[rule.weights]].shape, np.int8), rule.axis, 0).shape
    data = np.ascontiguousarray(np.moveaxis(codes.reshape(shape), 0, rule.axis)).astype(np.int8)
    return Coded(data, scale, axis)


def all_rounded(
    graph: Graph, layout: Layout, known: Mapping[int, Array], given: Mapping[int, Grade], kind: str
) -> dict[int, Coded]:
    """Every layer that `known` has a Hessian of, or that is not of the finest grade by `given`."""
    return {
        n: rounded(graph, layout, n, known.get(n), given.get(n, FINEST), kind)
        for n in layers(layout)
        if n in known or n in given
    }


def _by_channel(w: Array, axis: int) -> Array:
    moved = np.moveaxis(w, axis, 0)
    return moved.reshape(len(moved), -1)
