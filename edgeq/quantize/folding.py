"""Operations that a layer can take in: what scales and shifts its channels, what pads its input.

A batch norm is y = γ·(x − μ)/σ + β with constants at inference, a product and a sum per channel; behind a linear layer
they are its own weights and biases (Jacob et al., "Quantization and Training of Neural Networks for Efficient
Integer-Arithmetic-Only Inference", CVPR 2018, section 3.2).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.graph import Activation, Graph, Op, Padding, Tensor
from edgeq.records import replace

Array = npt.NDArray[Any]

_AXES = {"CONV_2D": 0, "DEPTHWISE_CONV_2D": 3, "FULLY_CONNECTED": 0}


def fold_batch_norm(graph: Graph) -> Graph:
    """MUL, ADD and SUB by constants per channel become part of the layer that alone feeds them."""
    while (done := _fold_one(graph)) is not None:
        graph = done
    return graph


def _fold_one(graph: Graph) -> Graph | None:
    producers, consumers = graph.main.producers(), graph.main.consumers()
    for n, op in enumerate(graph.ops):
        if op.code not in ("MUL", "ADD", "SUB") or len(op.inputs) != 2:
            continue
        for x, c in (op.inputs, op.inputs[::-1]):
            host = producers.get(x)
            if (
                host is None
                or x in graph.outputs
                or consumers.get(x) != [n]
                or (op.code == "SUB" and x != op.inputs[0])
            ):
                continue
            done = _folded(graph, host, n, graph.tensors[c])
            if done is not None:
                return done
    return None


def _folded(graph: Graph, host: int, n: int, constant: Tensor) -> Graph | None:
    """The graph with operation n, by a constant, inside its host; None where it does not fit."""
    layer, op = graph.ops[host], graph.ops[n]
    if layer.code not in _AXES or constant.data is None or constant.dtype != "float32" or len(layer.inputs) < 2:
        return None
    w = graph.tensors[layer.inputs[1]]
    if w.data is None or w.dtype != "float32" or layer.options is None or op.options is None:
        return None
    if layer.options.values.get("fused_activation_function", 0) != Activation.NONE:
        return None
    axis = _AXES[layer.code]
    channels = w.shape[axis]
    values = np.asarray(constant.data)
    shape = graph.tensors[op.outputs[0]].shape
    if values.size not in (1, channels) or (values.size > 1 and values.shape[-1] != channels):
        return None
    if not shape or shape[-1] != channels or shape != graph.tensors[layer.outputs[0]].shape:
        return None
    b = graph.tensors[layer.inputs[2]] if len(layer.inputs) > 2 and layer.inputs[2] >= 0 else None
    if b is not None and (b.data is None or b.dtype != "float32"):
        return None
    vector = np.broadcast_to(values.reshape(-1), (channels,)).astype(np.float64)
    bias = np.zeros(channels) if b is None else np.asarray(b.data, np.float64).reshape(-1)
    weights = np.asarray(w.data, np.float64)
    if op.code == "MUL":
        around = [1] * weights.ndim
        around[axis] = -1
        weights, bias = weights * vector.reshape(around), bias * vector
    else:
        bias = bias + (vector if op.code == "ADD" else -vector)
    tensors = [
        *graph.tensors,
        replace(w, data=weights.astype(np.float32), buffer=0),
        Tensor(f"{w.name}/bias", (channels,), "float32", bias.astype(np.float32)),
    ]
    fused = {**layer.options.values, "fused_activation_function": op.options.values.get("fused_activation_function", 0)}
    inputs = (layer.inputs[0], len(tensors) - 2, len(tensors) - 1)
    ops = list(graph.ops)
    ops[host] = replace(layer, inputs=inputs, outputs=op.outputs, options=replace(layer.options, values=fused))
    del ops[n]
    return graph.with_main(tensors=tuple(tensors), ops=tuple(ops))


def fold_pads(graph: Graph) -> Graph:
    """A PAD that gives a VALID convolution what SAME would becomes that."""
    producers, consumers = graph.main.producers(), graph.main.consumers()
    ops: list[Op | None] = list(graph.ops)
    for n, op in enumerate(graph.ops):
        host = producers.get(op.inputs[0]) if op.inputs else None
        if op.code not in ("CONV_2D", "DEPTHWISE_CONV_2D") or host is None or op.options is None:
            continue
        pad = graph.ops[host]
        if pad.code != "PAD" or consumers[op.inputs[0]] != [n] or op.inputs[0] in graph.outputs:
            continue
        counts = graph.tensors[pad.inputs[1]].data
        if counts is None or op.options.values.get("padding") != Padding.VALID:
            continue
        if not _is_same(op, graph.tensors[pad.inputs[0]].shape, graph.tensors[op.inputs[1]].shape, np.asarray(counts)):
            continue
        values = {**op.options.values, "padding": int(Padding.SAME)}
        ops[n] = replace(op, inputs=(pad.inputs[0], *op.inputs[1:]), options=replace(op.options, values=values))
        ops[host] = None
    return graph.with_main(ops=tuple(op for op in ops if op is not None))


def _is_same(op: Op, x: tuple[int, ...], w: tuple[int, ...], counts: Array) -> bool:
    if counts.shape != (4, 2) or counts[0].any() or counts[3].any() or op.options is None:
        return False
    v = op.options.values
    sides = zip(x[1:3], w[1:3], ("h", "w"), counts[1:3].tolist(), strict=True)
    for size, k, side, (before, after) in sides:
        stride = v[f"stride_{side}"]
        extent = (k - 1) * (v.get(f"dilation_{side}_factor") or 1) + 1
        total = max((-(-size // stride) - 1) * stride + extent - size, 0)
        if (before, after) != (total // 2, total - total // 2):
            return False
    return True
