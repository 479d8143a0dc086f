"""Whether edgeq's engine, which calibrates and judges, runs the integer form of an operation."""

from __future__ import annotations

from types import MappingProxyType

from edgeq.check import check
from edgeq.engine import Tracer
from edgeq.errors import ModelError
from edgeq.graph import Graph, Op
from edgeq.quantize.layout import Layout
from edgeq.quantize.parameters import transform
from edgeq.quantize.rewrite import rewrite
from edgeq.quantize.rules import Rule
from edgeq.records import replace


def runs(graph: Graph, op: Op, rule: Rule, dtype: str) -> bool:
    """Plan the operation alone, in its integer form at scales of no importance."""
    reads = [op.inputs[k] for k in rule.inputs(op) if k < len(op.inputs)]
    floats = [i for i in (*reads, *op.outputs) if graph.tensors[i].data is None]
    held = tuple(i for i in reads if graph.tensors[i].data is not None) if rule.same_scale else ()
    q = rule.prescribed(dtype) or transform(-1.0, 1.0, dtype)
    inputs = tuple(dict.fromkeys(i for i in op.inputs if i >= 0 and graph.tensors[i].data is None))
    alone = graph.with_main(ops=(op,), inputs=inputs, outputs=op.outputs)
    alone = replace(alone, subgraphs=alone.subgraphs[:1], signatures=(), metadata=())
    first = op.outputs[0]
    layout = Layout(
        MappingProxyType({0: rule}),
        MappingProxyType(dict.fromkeys(floats, dtype)),
        MappingProxyType(dict.fromkeys(floats, dtype)),
        MappingProxyType({}),
        MappingProxyType({}),
        MappingProxyType({i: first if rule.same_scale else i for i in floats}),
        MappingProxyType({}),
        MappingProxyType({first: held} if held else {}),
    )
    scales = {i: transform(-1.0, 1.0, dtype) for i in floats} | dict.fromkeys(op.outputs, q)
    if rule.same_scale:
        scales = dict.fromkeys(floats, q)
    done = rewrite(alone, layout, scales).graph
    try:
        check(done)
        Tracer(done)
    except ModelError:
        return False
    return True
