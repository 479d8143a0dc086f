"""The integer graph: codes for reals, and a QUANTIZE or DEQUANTIZE wherever an operation has no integer form."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.graph import Graph, Op, Quantization, Tensor
from edgeq.quantize.canonical import prune
from edgeq.quantize.layout import Layout
from edgeq.quantize.parameters import Parameters
from edgeq.quantize.rules import Rule
from edgeq.quantize.weights import Coded, quantize_weights
from edgeq.quantmod import QuantMod

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Rewritten:
    """The integer graph, and where each computed tensor and each integer operation of the float graph stands in it."""

    graph: Graph
    tensors: Mapping[int, int]
    ops: Mapping[int, int]


def rewrite(graph: Graph, layout: Layout, parameters: Parameters, per_channel: bool = True) -> Rewritten:
    """`graph` with the operations of `layout` in their integer form; inputs and outputs become codes."""
    build = _Build(graph, layout, parameters, per_channel)
    ops = {}
    for n, op in enumerate(graph.ops):
        if n in layout.rules:
            build.integer(op, layout.rules[n])
            ops[n] = len(build.ops) - 1
        else:
            build.real(op)
    done, place = prune(graph.with_main(tensors=tuple(build.tensors), ops=tuple(build.ops)))
    computed = {i: place[i] for i, t in enumerate(graph.tensors) if t.data is None and i in place}
    return Rewritten(done, MappingProxyType(computed), MappingProxyType(ops))


def quantization(q: QuantMod) -> Quantization:
    """A per-tensor transform as the file states it."""
    return Quantization(np.array([q.scale], np.float32), np.array([q.zero_point], np.int64))


class _Build:
    """The graph as it grows. Tensors keep their index; what is new is appended."""

    def __init__(self, graph: Graph, layout: Layout, parameters: Parameters, per_channel: bool) -> None:
        self.tensors = list(graph.tensors)
        self.ops: list[Op] = []
        self._floats = graph.tensors
        self._coded = layout.coded
        self._parameters = parameters
        self._per_channel = per_channel
        self._made: dict[tuple[Any, ...], int] = {}  # what stands for a tensor in another form, made once
        for i in layout.coded:
            self.tensors[i] = self._code(graph.tensors[i], parameters[i])

    def integer(self, op: Op, rule: Rule) -> None:
        """An operation in its integer form."""
        inputs = list(op.inputs)
        out = self._parameters[op.outputs[0]]
        for k in rule.inputs(op):
            if k < len(inputs):
                inputs[k] = self._codes(inputs[k], out if rule.same_scale else None)
        if rule.weights is not None:
            source = self._parameters[op.inputs[rule.data[0]]]
            self._weights(op, rule, inputs, float(source.scale), float(out.scale))
        self.ops.append(replace(op, inputs=tuple(inputs), version=1))

    def real(self, op: Op) -> None:
        """An operation that stays as it is, among reals."""
        inputs = tuple(self._reals(i) for i in op.inputs)
        outputs = list(op.outputs)
        after = []
        for k, i in enumerate(op.outputs):
            if i in self._coded:
                outputs[k] = self._made[i, "real"] = self._new(_called(self._floats[i], "real"))
                after.append(Op("QUANTIZE", (outputs[k],), (i,)))
        self.ops += [replace(op, inputs=inputs, outputs=tuple(outputs)), *after]

    def _codes(self, i: int, wanted: QuantMod | None) -> int:
        """Tensor i as codes, in the scale wanted or in its own."""
        t = self._floats[i]
        if t.data is not None:
            data = np.asarray(t.data)
            q = wanted or QuantMod.from_range(data.min(initial=0.0), data.max(initial=0.0))
            return self._once((i, q), lambda: replace(self._code(t, q), data=q.quantize(data), buffer=0))
        q = wanted or self._parameters[i]
        if i in self._coded and self._parameters[i] == q:
            return i
        key = (i, q)
        if key not in self._made:
            self._made[key] = self._new(_called(self._code(t, q), "requantized"))
            self.ops.append(Op("QUANTIZE", (i,), (self._made[key],)))
        return self._made[key]

    def _reals(self, i: int) -> int:
        """Tensor i as real numbers."""
        if i not in self._coded:
            return i
        key = (i, "real")
        if key not in self._made:
            self._made[key] = self._new(_called(self._floats[i], "real"))
            self.ops.append(Op("DEQUANTIZE", (i,), (self._made[key],)))
        return self._made[key]

    def _weights(self, op: Op, rule: Rule, inputs: list[int], s_in: float, s_out: float) -> None:
        """Put integer weights and bias into `inputs`."""
        assert rule.weights is not None
        w = self._floats[inputs[rule.weights]]
        has_bias = rule.bias is not None and rule.bias < len(inputs) and inputs[rule.bias] >= 0
        b = self._floats[inputs[rule.bias]] if has_bias and rule.bias is not None else None
        weights, bias = quantize_weights(
            np.asarray(w.data), rule.axis, None if b is None else np.asarray(b.data), s_in, s_out, self._per_channel
        )
        # Layers that share weights go on sharing them where their codes are the same; a bias is each layer's own.
        key = (inputs[rule.weights], weights.scale.tobytes(), weights.axis)
        inputs[rule.weights] = self._once(key, lambda: _constant(w, weights))
        if b is not None and bias is not None and rule.bias is not None:
            inputs[rule.bias] = self._new(_constant(b, bias))

    def _once(self, key: tuple[Any, ...], make: Any) -> int:
        if key not in self._made:
            self._made[key] = self._new(make())
        return self._made[key]

    def _code(self, t: Tensor, q: QuantMod) -> Tensor:
        return replace(t, dtype=q.dtype.name, quantization=quantization(q))

    def _new(self, t: Tensor) -> int:
        self.tensors.append(t)
        return len(self.tensors) - 1


def _called(t: Tensor, what: str) -> Tensor:
    return replace(t, name=f"{t.name}/{what}")


def _constant(t: Tensor, coded: Coded) -> Tensor:
    q = Quantization(coded.scale, np.zeros(len(coded.scale), np.int64), coded.axis)
    return replace(t, dtype=coded.data.dtype.name, data=coded.data, quantization=q, buffer=0)
