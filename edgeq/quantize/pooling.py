"""The mean of a whole picture as what it is: AVERAGE_POOL_2D keeps the scale of what it reads, MEAN has one of its own.

Values averaged over a picture reach much less far than the values themselves; in the step of those, what a classifier is
told is rounded to a few codes. The integer MEAN sums all codes and rounds once, to a scale that fits what comes out (TFLite's
8-bit quantization specification asks the pool for equal scales, and MEAN for nothing).
"""

from __future__ import annotations

import numpy as np

from edgeq.calibrate import Ranges
from edgeq.graph import Activation, Graph, Op, Table, Tensor
from edgeq.quantize.layout import Layout
from edgeq.records import replace

NARROW = 0.5
"""Of the range of what goes in, that may come out at most: for less than a bit the operation stays."""

NARROWEST = 1 / 64
"""What is narrower still stays too: LiteRT's kernel wants scales within a factor of 128."""


def means(graph: Graph, layout: Layout, ranges: Ranges) -> tuple[Graph, tuple[str, ...]]:
    """The graph with int8 pools over whole pictures as MEAN, where that is worth a bit, and a line on it.

    Constants are added behind all tensors, operations stay in their places.
    """
    ops, tensors = list(graph.ops), list(graph.tensors)
    for n in layout.rules:
        op = graph.ops[n]
        if layout.dtypes[op.outputs[0]] != "int8" or not _whole(graph, op):
            continue
        group = layout.groups[op.outputs[0]]
        before = [ranges.histograms[i].minmax() for i in layout.members()[group] if i in ranges.histograms]
        reach = max(b for _, b in before) - min(a for a, _ in before)
        low, high = ranges.histograms[op.outputs[0]].minmax()
        if group in layout.fixed or not NARROWEST * reach < high - low < NARROW * reach:
            continue
        tensors.append(Tensor(f"{graph.tensors[op.outputs[0]].name}/axes", (2,), "int32", np.array([1, 2], np.int32)))
        ops[n] = replace(
            op,
            code="MEAN",
            inputs=(op.inputs[0], len(tensors) - 1),
            options=Table("ReducerOptions", {"keep_dims": True}),
            version=2,
        )
    count = len(tensors) - len(graph.tensors)
    if not count:
        return graph, ()
    lines = (f"{count} × AVERAGE_POOL_2D over whole pictures as MEAN, with a scale of its own",)
    return graph.with_main(tensors=tuple(tensors), ops=tuple(ops)), lines


def _whole(graph: Graph, op: Op) -> bool:
    """Whether an operation is the mean of all places of a picture."""
    if op.code != "AVERAGE_POOL_2D" or op.options is None:
        return False
    values, x, y = op.options.values, graph.tensors[op.inputs[0]].shape, graph.tensors[op.outputs[0]].shape
    window = (values.get("filter_height"), values.get("filter_width"))
    plain = values.get("fused_activation_function", Activation.NONE) == Activation.NONE
    return bool(plain and len(x) == len(y) == 4 and window == x[1:3] != (1, 1) and y[1:3] == (1, 1))
