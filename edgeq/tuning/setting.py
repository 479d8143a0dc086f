"""A point of the search: how to quantize, by how much each range is stretched, and each layer's rounding offset.

C and d of an activation move with its range: stretching [a, b] by k divides C by k. A layer's rounding offset f is a bias,
round((f − ½)/M) in units of its accumulator (docs/quantization.md).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from edgeq.feed import quantmod_of
from edgeq.graph import Graph
from edgeq.quantize.rescale import rescale, scales
from edgeq.quantize.rules import RULES
from edgeq.recipe import Recipe
from edgeq.records import dataclass, field, replace


@dataclass(frozen=True)
class Setting:
    """recipe: how to quantize; stretched: group → factor of its range; offsets: operation → f."""

    recipe: Recipe
    stretched: Mapping[int, float] = field(default_factory=dict)
    offsets: Mapping[int, float] = field(default_factory=dict)

    def moved(self, kind: str, at: int, value: float) -> Setting:
        """With one number changed."""
        changed = {**(self.stretched if kind == "range" else self.offsets), at: value}
        return replace(self, stretched=changed) if kind == "range" else replace(self, offsets=changed)


def applied(graph: Graph, at: Setting) -> Graph:
    """The quantized graph with stretched ranges and rounding offsets."""
    if at.stretched:
        found = scales(graph)
        spans = {}
        for group, k in at.stretched.items():
            q = quantmod_of(graph.tensors[group])
            assert q is not None
            low, high = (float(v) for v in q.limits)
            spans[group] = (low * k, high * k)
        graph = rescale(graph, found, spans)
    if not at.offsets:
        return graph
    tensors = list(graph.tensors)
    for n, f in at.offsets.items():
        op = graph.ops[n]
        rule = RULES[op.code]
        assert rule.bias is not None
        assert rule.weights is not None
        x, y = (quantmod_of(tensors[i]) for i in (op.inputs[rule.data[0]], op.outputs[0]))
        weights = tensors[op.inputs[rule.weights]].quantization
        assert x is not None
        assert y is not None
        assert weights is not None
        multiplier = float(x.scale) * weights.scale.astype(np.float64) / float(y.scale)
        bias = tensors[op.inputs[rule.bias]]
        data = np.asarray(bias.data).astype(np.int64) + np.rint((f - 0.5) / multiplier).astype(np.int64)
        info = np.iinfo(np.asarray(bias.data).dtype)
        tensors[op.inputs[rule.bias]] = replace(
            bias, data=np.clip(data, info.min + 1, info.max).astype(info.dtype), buffer=0
        )
    return graph.with_main(tensors=tuple(tensors))


def groups(graph: Graph) -> list[int]:
    """The groups of tensors whose range may be stretched, in the order of execution."""
    found = scales(graph).free()
    order = [i for op in graph.ops for i in op.outputs]
    return sorted(
        (g for g in found if quantmod_of(graph.tensors[g]) is not None),
        key=lambda g: order.index(g) if g in order else -1,
    )


def biased(graph: Graph) -> list[int]:
    """The operations with an integer bias of their own, whose rounding offset may move."""
    readers = graph.main.consumers()
    out = []
    for n, op in enumerate(graph.ops):
        rule = RULES.get(op.code)
        if (
            rule is None
            or rule.bias is None
            or rule.weights is None
            or rule.bias >= len(op.inputs)
            or op.inputs[rule.bias] < 0
        ):
            continue
        bias, y = graph.tensors[op.inputs[rule.bias]], quantmod_of(graph.tensors[op.outputs[0]])
        coded = quantmod_of(graph.tensors[op.inputs[rule.data[0]]]) is not None and y is not None
        if (
            coded
            and bias.data is not None
            and bias.dtype in ("int32", "int64")
            and len(readers[op.inputs[rule.bias]]) == 1
        ):
            out.append(n)
    return out
