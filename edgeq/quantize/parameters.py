"""From spans to parameters: the QuantMod of every tensor."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from edgeq.calibrate import Ranges
from edgeq.errors import QuantizeError
from edgeq.graph import Graph, Quantization
from edgeq.histogram import Histogram
from edgeq.quantize.weights import MOST_MULTIPLIER
from edgeq.quantmod import QuantMod
from edgeq.records import dataclass

if TYPE_CHECKING:
    from edgeq.quantize.layout import Layout

Parameters = Mapping[int, QuantMod]
"""By tensor: the same QuantMod for all tensors of a group."""


@lru_cache(256)
def transform(a: float, b: float, dtype: str) -> QuantMod:
    """The transform of a span; int16 is symmetric, as TFLite's kernels want it."""
    if dtype == "int16":
        return QuantMod.from_range(a, b, 16, symmetric=True, narrow=True)
    return QuantMod.from_range(a, b, 8, dtype=dtype)


def histograms(graph: Graph, layout: Layout, ranges: Ranges) -> dict[int, Histogram]:
    """What the tensors of each group whose scale is free were seen to hold, constants too, by group."""
    merged: dict[int, Histogram] = {}
    for group, members in layout.members().items():
        if group in layout.fixed:
            continue
        h = Histogram()
        for i in members:
            if i not in ranges.histograms:
                raise QuantizeError(f"tensor {i} ({graph.tensors[i].name}) was not calibrated")
            h = h.merge(ranges.histograms[i])
        for i in layout.constants.get(group, ()):
            h = h.add(np.asarray(graph.tensors[i].data))
        merged[group] = h
    return merged


def parameters(graph: Graph, layout: Layout, spans: Mapping[int, tuple[float, float]]) -> Parameters:
    """By tensor; outputs so narrow that a layer's multiplier would be too large for the runtimes are widened."""
    dtypes = {g: layout.homes[members[0]] for g, members in layout.members().items()}
    groups = {**layout.fixed, **{g: transform(a, b, dtypes[g]) for g, (a, b) in spans.items()}}
    for n, rule in layout.rules.items():
        if rule.weights is None:
            continue
        op = graph.ops[n]
        s_in = float(form(groups[layout.groups[op.inputs[rule.data[0]]]], layout.dtype(op)).scale)
        s_w = float(np.abs(np.asarray(graph.tensors[op.inputs[rule.weights]].data)).max(initial=0.0)) / 127
        group = layout.groups[op.outputs[0]]
        least = s_in * s_w / MOST_MULTIPLIER
        if group not in layout.fixed and float(groups[group].scale) < least:
            factor = least / float(groups[group].scale)
            lo, hi = groups[group].limits
            groups[group] = transform(float(lo) * factor, float(hi) * factor, dtypes[group])
    return MappingProxyType({i: groups[g] for i, g in layout.groups.items()})


def form(q: QuantMod, dtype: str) -> QuantMod:
    """The transform under which an operation of another dtype reads what is coded by `q`: over the same range."""
    if q.dtype == dtype:
        return q
    lo, hi = q.limits
    return transform(float(lo), float(hi), dtype)


@dataclass(frozen=True)
class Rewritten:
    """An integer graph beside the float graph that it was made of: where each computed tensor and each integer operation of the
    latter stands in it."""

    graph: Graph
    tensors: Mapping[int, int]
    ops: Mapping[int, int]


def quantization(q: QuantMod) -> Quantization:
    """A per-tensor transform as the file states it."""
    return Quantization(np.array([q.scale], np.float32), np.array([q.zero_point], np.int64))
