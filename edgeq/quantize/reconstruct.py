"""The float model that an integer model stands for: its codes dequantized, its operations among reals.

It is what a quantized model means, free of the rounding and clipping of its activations (not of its weights, which have
no others). Tensors and operations keep their indices, so that the two can be compared tensor by tensor; appended
constants follow.
"""

from __future__ import annotations

import numpy as np

from edgeq.check import sound
from edgeq.feed import quantmod_of
from edgeq.graph import Activation, Graph, Op, Table, Tensor
from edgeq.pieces import Floats, divided, part_of, whole
from edgeq.quantize.canonical import real
from edgeq.quantize.rules import RULES, Rule
from edgeq.records import replace

_CLAMPING = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "ADD", "SUB", "MUL")


def floats_of(graph: Graph) -> Floats:
    """The float model of a quantized one, in pieces if it is large: then no more weights are reals at a time than a piece has."""
    pieces = divided(graph)
    if len(pieces) == 1:
        return whole(reconstruct(graph))
    hollow = sound(reconstruct(graph, hollow=True))
    return Floats(hollow, pieces, lambda piece: reconstruct(part_of(graph, piece)))


def reconstruct(graph: Graph, *, hollow: bool = False) -> Graph:
    """The float graph of a quantized one; what is float already stays as it is. hollow: weights are zeros that take no memory."""
    tensors = list(graph.tensors)
    ops = []
    for op in graph.ops:
        rule = RULES.get(op.code)
        if op.code in ("QUANTIZE", "DEQUANTIZE") and graph.tensors[op.inputs[0]].data is None:
            ops.append(_identity(op, tensors))
            continue
        if rule is not None:
            for i in _real_constants(op, rule):
                t = graph.tensors[i]
                if t.data is not None and t.quantization is not None and len(t.quantization.scale):
                    data = np.broadcast_to(np.zeros((), np.float32), t.shape) if hollow else real(t)
                    tensors[i] = replace(t, dtype="float32", data=data, quantization=None, buffer=0)
            op = _with_real_bias(op, rule, graph, tensors)
            op = _clamped(op, graph)
        # Versions grow with integer types; the float form needs none of that.
        ops.append(replace(op, version=1))
    for i, t in enumerate(graph.tensors):
        if t.data is None and quantmod_of(t) is not None:
            tensors[i] = replace(t, dtype="float32", quantization=None)
    return graph.with_main(tensors=tuple(tensors), ops=tuple(ops))


def _real_constants(op: Op, rule: Rule) -> list[int]:
    positions = rule.inputs(op) if rule.weights is None else (*rule.inputs(op), rule.weights)
    return [op.inputs[k] for k in positions if k < len(op.inputs) and op.inputs[k] >= 0]


def _with_real_bias(op: Op, rule: Rule, graph: Graph, tensors: list[Tensor]) -> Op:
    """The operation with a bias of reals, its own: what it counts in is s_in · s_w, whatever the file says of it."""
    if rule.weights is None or rule.bias is None or rule.bias >= len(op.inputs) or op.inputs[rule.bias] < 0:
        return op
    x, w, b = (graph.tensors[op.inputs[k]] for k in (rule.data[0], rule.weights, rule.bias))
    if b.data is None or b.dtype == "float32" or x.quantization is None or w.quantization is None:
        return op
    unit = float(x.quantization.scale[0]) * w.quantization.scale.astype(np.float64)
    data = (np.asarray(b.data).astype(np.float64) * unit).astype(np.float32)
    tensors.append(replace(b, dtype="float32", data=data, quantization=None, buffer=0))
    return replace(op, inputs=tuple(len(tensors) - 1 if k == rule.bias else i for k, i in enumerate(op.inputs)))


def _identity(op: Op, tensors: list[Tensor]) -> Op:
    """What a change of scale is among reals."""
    shape = np.array(tensors[op.outputs[0]].shape, np.int32)
    tensors.append(Tensor(f"{tensors[op.outputs[0]].name}/shape", shape.shape, "int32", shape))
    options = Table("ReshapeOptions", {"new_shape": shape})
    return Op("RESHAPE", (op.inputs[0], len(tensors) - 1), op.outputs, options)


def _clamped(op: Op, graph: Graph) -> Op:
    """A ReLU where the codes imply one: TFLite's converter leaves it out where the lowest code stands for 0."""
    if op.code not in _CLAMPING or op.options is None:
        return op
    q = quantmod_of(graph.tensors[op.outputs[0]])
    fused = op.options.values.get("fused_activation_function", Activation.NONE)
    if q is None or fused != Activation.NONE or q.limits[0] != 0.0:
        return op
    values = {**op.options.values, "fused_activation_function": int(Activation.RELU)}
    return replace(op, options=replace(op.options, values=values))
