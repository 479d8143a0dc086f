"""Weights that meet nothing but zeros.

Training leaves channels that no input moves: their weights have decayed to nothing, their bias is below zero, and a RELU writes 0
for them whatever comes. What reads them may have kept weights of any size (in MobileNetV2's first depthwise layer they are
twenty times all others), which change no output and, as codes, cost all others their scale. Such weights become 0.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from edgeq.calibrate import Ranges
from edgeq.graph import Activation, Graph, Op
from edgeq.quantize.links import LINEAR
from edgeq.quantize.rules import RULES
from edgeq.records import replace

Array = npt.NDArray[Any]

BEYOND: Final = 8.0
"""Times what a layer's input was seen to reach, that it may reach before a channel counts as one that some input moves."""

_RECTIFIED = (Activation.RELU, Activation.RELU6)


def without_idle(graph: Graph, ranges: Ranges) -> Graph:
    """The float graph with weights of 0 where they read channels that are always 0; the same one if there are none.

    Constants are added behind all tensors, operations stay in their places.
    """
    tensors, ops = list(graph.tensors), list(graph.ops)
    consumers = graph.main.consumers()
    for op in graph.ops:
        if op.code not in LINEAR or op.inputs[0] not in ranges.histograms:
            continue
        zero = _always_zero(graph, op, ranges.histograms[op.inputs[0]].minmax())
        if zero is None or not zero.any():
            continue
        for k in consumers.get(op.outputs[0], []):
            reader = ops[k]
            if reader.code not in LINEAR or reader.inputs[0] != op.outputs[0] or not _constant(graph, reader, 1):
                continue
            w = np.asarray(tensors[reader.inputs[1]].data)
            if w.shape[-1] % len(zero) or (reader.code != "DEPTHWISE_CONV_2D" and w.shape[-1] != len(zero)):
                continue
            columns = np.repeat(zero, w.shape[-1] // len(zero))
            if not w[..., columns].any():
                continue
            tensors.append(replace(tensors[reader.inputs[1]], data=np.where(columns, np.float32(0), w), buffer=0))
            ops[k] = replace(reader, inputs=(reader.inputs[0], len(tensors) - 1, *reader.inputs[2:]))
    return graph if len(tensors) == len(graph.tensors) else graph.with_main(tensors=tuple(tensors), ops=tuple(ops))


def _always_zero(graph: Graph, op: Op, seen: tuple[float, float]) -> Array | None:
    """The channels of a layer's output that are 0 for all inputs within BEYOND times those seen, (channels,) bool."""
    values = op.options.values if op.options is not None else {}
    if values.get("fused_activation_function", Activation.NONE) not in _RECTIFIED or len(op.inputs) < 3:
        return None
    if not (_constant(graph, op, 1) and _constant(graph, op, 2)):
        return None
    w, b = (np.asarray(graph.tensors[i].data, np.float64) for i in op.inputs[1:3])
    rows = np.moveaxis(w, RULES[op.code].axis, 0)
    most = BEYOND * max(abs(seen[0]), abs(seen[1])) * np.abs(rows).reshape(len(rows), -1).sum(axis=1)
    return np.asarray(most + b.reshape(-1) <= 0)


def _constant(graph: Graph, op: Op, position: int) -> bool:
    i = op.inputs[position] if position < len(op.inputs) else -1
    return i >= 0 and graph.tensors[i].data is not None and graph.tensors[i].dtype == "float32"
