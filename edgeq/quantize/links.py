"""Which channels may be counted in other units: tensors between linear layers, with nothing but ReLUs, pools, sums and the like.

Channel c of such a tensor may be multiplied by any s_c > 0: row c of the writers' weights and bias by s_c, column c of the
readers' by 1/s_c, and no value at the outputs changes. Where an ADD joins tensors they are scaled alike, so a residual stream is
one link, with all the layers that write into it and all that read from it.
"""

from __future__ import annotations

import numpy as np

from edgeq.graph import Activation, Graph, Op
from edgeq.quantize.groups import Groups
from edgeq.records import dataclass

LINEAR = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
_BETWEEN = ("RELU", "LEAKY_RELU", "PRELU", "MAX_POOL_2D", "AVERAGE_POOL_2D", "PAD", "MEAN", "RESHAPE", "RELU6")
_PASSING = (Activation.NONE, Activation.RELU, Activation.RELU6)


@dataclass(frozen=True)
class Link:
    """Tensors of the same channels, and the layers at both ends.

    writers, readers: operations, in order; tensors: those between, in the order of their first use; sums: the ADDs between;
    capped: whether a RELU6 is on the way.
    """

    writers: tuple[int, ...]
    readers: tuple[int, ...]
    tensors: tuple[int, ...]
    sums: tuple[int, ...]
    capped: bool


def links(graph: Graph) -> list[Link]:
    """All of them, by their first writer."""
    groups, between = Groups(), set()
    for n, op in enumerate(graph.ops):
        joined = _sum(graph, op) or ((op.inputs[0],) if op.inputs and _keeps_channels(graph, op, op.inputs[0]) else ())
        if joined:
            between.add(n)
        for i in (*joined, *op.outputs):
            groups.add(i)
        for i in joined:
            groups.join(op.outputs[0], i)
    members: dict[int, list[int]] = {}
    for op in graph.ops:
        for i in (*op.inputs, *op.outputs):
            if i >= 0 and i in groups.parent and i not in members.setdefault(groups.find(i), []):
                members[groups.find(i)].append(i)
    found = [link for some in members.values() if (link := _link(graph, some, between)) is not None]
    return sorted(found, key=lambda link: link.writers)


def _link(graph: Graph, tensors: list[int], between: set[int]) -> Link | None:
    """The link over these tensors, None where something else writes or reads one of them."""
    producers, consumers = graph.main.producers(), graph.main.consumers()
    writers, readers, inner = set(), set(), set()
    for i in tensors:
        if i in graph.outputs or i not in producers:
            return None
        if producers[i] in between:
            inner.add(producers[i])
        elif _writes(graph, graph.ops[producers[i]]):
            writers.add(producers[i])
        else:
            return None
        for k in consumers.get(i, []):
            if k in between:
                continue
            if graph.ops[k].code not in LINEAR or not _reads(graph, graph.ops[k], i):
                return None
            readers.add(k)
    if not writers or not readers:
        return None
    capped = any(graph.ops[n].code == "RELU6" or _activation(graph.ops[n]) == Activation.RELU6 for n in writers | inner)
    sums = sorted(n for n in inner if graph.ops[n].code == "ADD")
    return Link(tuple(sorted(writers)), tuple(sorted(readers)), tuple(tensors), tuple(sums), capped)


def _sum(graph: Graph, op: Op) -> tuple[int, ...]:
    """The two computed tensors of one shape that an ADD joins; () where it is another operation."""
    if op.code != "ADD" or op.options is None or _activation(op) not in _PASSING:
        return ()
    both = [graph.tensors[i] for i in op.inputs]
    alike = all(t.data is None and t.dtype == "float32" and t.shape == graph.tensors[op.outputs[0]].shape for t in both)
    return op.inputs if alike else ()


def _writes(graph: Graph, op: Op) -> bool:
    return op.code in LINEAR and op.options is not None and _activation(op) in _PASSING and _constant(graph, op)


def _activation(op: Op) -> int:
    return int(op.options.values.get("fused_activation_function", 0) or 0) if op.options is not None else 0


def _constant(graph: Graph, op: Op) -> bool:
    """Whether a layer's weights and bias are float constants, its channels the weights' own, and the weights its alone."""
    parts = [i for i in op.inputs[1:3] if i >= 0]
    if sum(op.inputs[1] in other.inputs for other in graph.ops) > 1:
        return False
    if any(graph.tensors[i].data is None or graph.tensors[i].dtype != "float32" for i in parts):
        return False
    x, w = graph.tensors[op.inputs[0]], graph.tensors[op.inputs[1]]
    if op.code == "FULLY_CONNECTED":
        return bool(x.shape) and x.shape[-1] == w.shape[1]
    return op.code == "DEPTHWISE_CONV_2D" or w.shape[3] == x.shape[3]


def _reads(graph: Graph, op: Op, i: int) -> bool:
    return op.inputs[0] == i and i not in op.inputs[1:] and _constant(graph, op)


def _keeps_channels(graph: Graph, op: Op, i: int) -> bool:
    """Whether channels of tensor i come out scaled as they go in."""
    if (
        op.code not in _BETWEEN
        or op.inputs[0] != i
        or not graph.tensors[i].shape
        or graph.tensors[op.outputs[0]].shape[-1:] != graph.tensors[i].shape[-1:]
    ):
        return False
    if op.code == "PRELU":
        return graph.tensors[op.inputs[1]].data is not None
    if op.code == "PAD":
        counts = graph.tensors[op.inputs[1]].data
        return counts is not None and not np.asarray(counts)[-1].any()
    if op.code == "MEAN":
        axes, rank = graph.tensors[op.inputs[1]].data, len(graph.tensors[i].shape)
        return axes is not None and all(a % rank != rank - 1 for a in np.asarray(axes).reshape(-1).tolist())
    return True
