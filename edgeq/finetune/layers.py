"""The layers of an integer model that learn, and those of the float model that they stand for."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from edgeq.graph import Array, Graph
from edgeq.quantize.canonical import real
from edgeq.quantize.rules import RULES
from edgeq.records import dataclass

SAME = 0.5
"""Of the float weights' square sum: coded ones that differ by more were scaled on the way (equalised layers), and are others."""


@dataclass(frozen=True, eq=False)
class Layer:
    """A layer's constants. op: its index; weights, bias: tensors of the real graph (bias None if it has none); source:
    the tensor that it reads; axis: of the output channels; coded: whether its weights are codes."""

    op: int
    weights: int
    bias: int | None
    source: int
    axis: int
    coded: bool


def layers_of(start: Graph, graph: Graph, on_path: set[int]) -> tuple[Layer, ...]:
    """The layers whose weights are constants, on the way to the targets. graph: what the codes of `start` stand for."""
    found = []
    for n, op in enumerate(graph.ops):
        rule = RULES.get(op.code)
        if rule is None or rule.weights is None or n not in on_path:
            continue
        w = op.inputs[rule.weights]
        t = start.tensors[w]
        if t.data is None or t.dtype not in ("int8", "uint8", "float32"):
            continue
        bias = op.inputs[rule.bias] if rule.bias is not None and rule.bias < len(op.inputs) else -1
        known = bias >= 0 and graph.tensors[bias].data is not None and graph.tensors[bias].dtype == "float32"
        coded = t.quantization is not None and len(t.quantization.scale) > 0 and t.dtype != "float32"
        if t.dtype != "float32" and not coded:
            continue
        found.append(Layer(n, w, bias if known else None, op.inputs[rule.data[0]], rule.axis, coded))
    return tuple(found)


def counterparts(teacher: Graph, start: Graph, layers: tuple[Layer, ...]) -> dict[int, int]:
    """The float model's operation for each of the layers', where the two models' layers are the same ones in the same order and
    of nearly the same weights."""
    there = []
    for n, op in enumerate(teacher.ops):
        rule = RULES.get(op.code)
        if rule is not None and rule.weights is not None and teacher.tensors[op.inputs[rule.weights]].data is not None:
            there.append((n, op.code, teacher.tensors[op.inputs[rule.weights]].shape))
    if [(c, s) for _, c, s in there] != [(start.ops[y.op].code, start.tensors[y.weights].shape) for y in layers]:
        return {}
    found = {}
    for y, (n, _, _) in zip(layers, there, strict=True):
        w = _weights(teacher, n)
        if float(((real(start.tensors[y.weights]) - w) ** 2).sum()) < SAME * float((w**2).sum()):
            found[y.op] = n
    return found


def float_weights(teacher: Graph, start: Graph, same: Mapping[int, int]) -> dict[int, Array]:
    """Float weights by the student's operation. same: `counterparts`."""
    return {op: _weights(teacher, n) for op, n in same.items()}


def float_biases(teacher: Graph, same: Mapping[int, int]) -> dict[int, Array]:
    """Float biases by the student's operation, 0 for a layer without. same: `counterparts`."""
    found = {}
    for n, there in same.items():
        op = teacher.ops[there]
        k = RULES[op.code].bias
        there_is = k is not None and k < len(op.inputs) and op.inputs[k] >= 0
        data = teacher.tensors[op.inputs[k]].data if k is not None and there_is else None
        found[n] = np.zeros(1) if data is None else np.asarray(data, np.float64).reshape(-1)
    return found


def _weights(graph: Graph, n: int) -> Array:
    rule = RULES[graph.ops[n].code]
    assert rule.weights is not None
    return np.asarray(graph.tensors[graph.ops[n].inputs[rule.weights]].data).astype(np.float64)
