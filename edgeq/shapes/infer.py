"""Walking a graph: every operation's rule in order, subgraphs where they are called."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from edgeq.customs import prepared, registered
from edgeq.errors import CheckError, DataDependentError, InputError, UnsupportedError
from edgeq.graph import Array, Graph, Op, SubGraph, Tensor
from edgeq.records import replace
from edgeq.shapes.node import Node, Shape
from edgeq.shapes.rules import CUSTOM_RULES, RULES
from edgeq.shapes.values import MAX_ELEMENTS, known
from edgeq.tflite.limits import MAX_RANK, MAX_TENSOR_BYTES

CALLS = ("IF", "WHILE")


def resize(graph: Graph, shapes: Mapping[int, Sequence[int]], subgraph: int = 0) -> Graph:
    """The graph with these inputs of a subgraph in other shapes, and every tensor that follows from them.

    graph: checked (edgeq.check). shapes: index of an input tensor → its new shape; inputs that are not named keep theirs.
    All else stays: operations, constants, quantization, names; a shape signature keeps its −1 and follows the shape
    elsewhere. The walk starts anew from the inputs, so a file whose intermediate shapes are placeholders gets true ones.

    Raises:
        InputError: `shapes` names a tensor that is no input, or a shape has a negative or huge dimension.
        CheckError: the shapes contradict an operation, as a RESHAPE to a fixed size does.
        UnsupportedError: an operation has no shape rule, or its output's shape depends on what the model is fed.
    """
    main = graph.subgraphs[subgraph]
    for i, shape in shapes.items():
        if i not in main.inputs:
            raise InputError(f"tensor {i} is given a shape, one of the inputs {list(main.inputs)} is expected")
        if len(shape) > MAX_RANK or min(shape, default=0) < 0 or math.prod(shape) > MAX_TENSOR_BYTES:
            raise InputError(
                f"input {main.tensors[i].name!r} is given shape {list(shape)}, no negative or huge dimension"
            )
    walk = _Walk(graph)
    given = [tuple(int(d) for d in shapes.get(i, main.tensors[i].shape)) for i in main.inputs]
    walk.subgraph(subgraph, given, [None] * len(given))
    return replace(graph, subgraphs=tuple(walk.resized(s) for s in range(len(graph.subgraphs))))


def by_index(graph: Graph, shapes: Mapping[str, Sequence[int]]) -> dict[int, Sequence[int]]:
    """Shapes by the inputs' tensors, from shapes by the inputs' names. Raises InputError for a name that no input has."""
    inputs = dict(zip(graph.input_names(), graph.inputs, strict=True))
    if unknown := [name for name in shapes if name not in inputs]:
        raise InputError(f"expected shapes for {', '.join(map(repr, inputs))}, found {', '.join(map(repr, unknown))}")
    return {inputs[name]: shape for name, shape in shapes.items()}


class _Walk:
    """Shapes found so far, by subgraph."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._shapes: dict[int, dict[int, Shape]] = {}

    def subgraph(
        self, index: int, inputs: Sequence[Shape], given: Sequence[Array | None]
    ) -> tuple[list[Shape], list[Array | None]]:
        """Shapes and known values of a subgraph's outputs, for those of its inputs."""
        g = self._graph.subgraphs[index]
        if len(inputs) != len(g.inputs):
            raise CheckError(f"subgraph {index} is called with {len(inputs)} inputs, it has {len(g.inputs)}")
        shapes = {i: t.shape for i, t in enumerate(g.tensors)}
        shapes.update(zip(g.inputs, inputs, strict=True))
        touched = {i for i in g.inputs if shapes[i] != g.tensors[i].shape}
        values = {i: t.data for i, t in enumerate(g.tensors) if t.data is not None and t.size <= MAX_ELEMENTS}
        values.update((i, v) for i, v in zip(g.inputs, given, strict=True) if v is not None)
        for k, op in enumerate(g.ops):
            where = f"operation {k} ({op.custom_code or op.code})"
            try:
                found, computed = self._op(g, op, where, shapes, values)
            except UnsupportedError:
                if not touched.isdisjoint(op.inputs):
                    raise
                continue  # nothing that it depends on has changed, so what the file states holds
            if not touched.isdisjoint(op.inputs):
                touched.update(op.outputs)
            if len(found) != len(op.outputs):
                raise CheckError(f"operation {k} ({op.code}) has {len(op.outputs)} outputs, {len(found)} are expected")
            shapes.update(zip(op.outputs, found, strict=True))
            values.update((i, v) for i, v in zip(op.outputs, computed, strict=True) if v is not None)
        if self._shapes.setdefault(index, shapes) != shapes:
            raise UnsupportedError(f"subgraph {index} is called with different shapes in different places")
        return [shapes[i] for i in g.outputs], [values.get(i) for i in g.outputs]

    def resized(self, index: int) -> SubGraph:
        """The subgraph with the shapes that were found; one that nothing reached stays as it is."""
        g = self._graph.subgraphs[index]
        shapes = self._shapes.get(index)
        if shapes is None:
            return g
        return replace(g, tensors=tuple(_reshaped(t, shapes[i]) for i, t in enumerate(g.tensors)))

    def _op(
        self, g: SubGraph, op: Op, where: str, shapes: Mapping[int, Shape], values: Mapping[int, Array]
    ) -> tuple[Sequence[Shape], Sequence[Array | None]]:
        node = Node(
            op,
            where,
            [shapes[i] if i >= 0 else None for i in op.inputs],
            [values.get(i) if i >= 0 else None for i in op.inputs],
            [g.tensors[i].shape for i in op.outputs],
        )
        if op.code in CALLS:
            found = self._if(node) if op.code == "IF" else self._while(node)
            return found, [None] * len(found)
        if op.code == "STABLEHLO_COMPOSITE":
            inputs_of = [node.shape(k) for k in range(len(node.shapes))]
            return self.subgraph(node.option("decomposition_subgraph_index"), inputs_of, node.values)
        if op.code == "CALL_ONCE":
            self.subgraph(node.option("init_subgraph_index"), [], [])
        if (custom := registered(op)) is not None:
            inputs = [(replace(g.tensors[i], shape=shapes[i]), values.get(i)) if i >= 0 else None for i in op.inputs]
            found, _ = prepared(custom, op, inputs, [g.tensors[i] for i in op.outputs], where)
            return found, [None] * len(found)
        rule = CUSTOM_RULES.get(op.custom_code or "") if op.code == "CUSTOM" else RULES.get(op.code)
        if rule is None:
            raise UnsupportedError(f"{where}: edgeq does not know this operation's shapes, so the model keeps its own")
        found = rule(node)
        if any(len(s) > MAX_RANK or math.prod(s) > MAX_TENSOR_BYTES for s in found):
            raise CheckError(f"{where} yields shape {[list(s) for s in found]}, which is too large")
        return found, known(node, found, [g.tensors[i] for i in op.outputs])

    def _if(self, n: Node) -> Sequence[Shape]:
        """Both branches get the inputs behind the condition, and must agree on their outputs."""
        inputs = [n.shape(k) for k in range(1, len(n.shapes))]
        branches = [
            self.subgraph(n.option(f"{side}_subgraph_index"), inputs, [None] * len(inputs))[0]
            for side in ("then", "else")
        ]
        if branches[0] != branches[1]:
            raise DataDependentError(f"{n.where}: its branches yield shapes {branches[0]} and {branches[1]}")
        return branches[0]

    def _while(self, n: Node) -> Sequence[Shape]:
        """What goes round the loop keeps its shape."""
        inputs = [n.shape(k) for k in range(len(n.shapes))]
        self.subgraph(n.option("cond_subgraph_index"), inputs, [None] * len(inputs))
        found, _ = self.subgraph(n.option("body_subgraph_index"), inputs, [None] * len(inputs))
        if found != inputs:
            raise DataDependentError(f"{n.where}: its body turns shapes {inputs} into {found}")
        return found


def _reshaped(t: Tensor, shape: Shape) -> Tensor:
    """The tensor in another shape; its signature keeps its −1."""
    if t.shape == shape:
        return t
    signature = t.shape_signature
    if signature:
        same_rank = len(signature) == len(shape)
        signature = tuple(-1 if s == -1 else d for s, d in zip(signature, shape, strict=True)) if same_rank else None
    return replace(t, shape=shape, shape_signature=signature)
