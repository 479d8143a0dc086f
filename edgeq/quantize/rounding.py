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

Array = npt.NDArray[Any]

SPARED = 0.03
"""Of all weights that would get a codebook: the smallest layers keep all codes as long as they are not more than this. The
first layer, the last and a bottleneck are small, and what is lost there is lost for all.
"""


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


def rounded(graph: Graph, layout: Layout, n: int, h: Array | None, count: int, kind: str) -> Coded:
    """The weights of layer n under its Hessian (see edgeq.quantize.gptq; None: unknown), or each at the nearest code.

    count: of levels in a codebook, and kind: of that; count 0: no codebook.
    """
    op = graph.ops[n]
    rule = RULES[op.code]
    assert rule.weights is not None
    w = np.asarray(graph.tensors[op.inputs[rule.weights]].data)
    near = plain(graph, layout, n)
    # (channels, weights of a channel), in units of their scales
    real = _by_channel(w, rule.axis).astype(np.float64) / near.scale.astype(np.float64)[:, None]
    codes = _by_channel(near.data, rule.axis).astype(np.float64)
    if count:
        importance = np.ones(real.shape[1]) if h is None or h.ndim != 2 else np.diag(h)
        levels = codebook.levels(real, importance, count, kind)
        codes = codebook.plain(real, levels).astype(np.float64)

        def nearest(column: Array, j: int) -> Array:
            return codebook.nearest(column, levels)
    else:

        def nearest(column: Array, j: int) -> Array:
            return np.clip(np.rint(column), -127, 127)

    if h is not None:
        if h.ndim == 3:
            h = np.repeat(h, len(real) // len(h), axis=0)
            better = gptq.rounded_depthwise(real, h, nearest)
        else:
            better = gptq.rounded(real, h, nearest)
        codes = gptq.better(real, codes, h, better)
    shape = np.moveaxis(w, rule.axis, 0).shape
    data = np.ascontiguousarray(np.moveaxis(codes.reshape(shape), 0, rule.axis)).astype(np.int8)
    return Coded(data, near.scale, near.axis)


def all_rounded(graph: Graph, layout: Layout, known: Mapping[int, Array], kind: str) -> dict[int, Coded]:
    """Every layer that `known` has a Hessian of, or that gets a codebook."""
    few = codebook_layers(graph, layout)
    return {
        n: rounded(graph, layout, n, known.get(n), layout.treatments[n].levels if n in few else 0, kind)
        for n in layers(layout)
        if n in known or n in few
    }


def _by_channel(w: Array, axis: int) -> Array:
    moved = np.moveaxis(w, axis, 0)
    return moved.reshape(len(moved), -1)
