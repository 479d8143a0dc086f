"""A graph run forwards and backwards over several inferences at once.

Inferences lie behind one another on axis 0 of every tensor, in order. Most operations treat that axis as the batch that it
is, or do not look at it; a graph with one that mixes it (`batchable`) is run one inference at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from edgeq.errors import UnsupportedError
from edgeq.graph import Array, Graph, Op
from edgeq.reverse.node import Back, Node
from edgeq.reverse.pointwise import fused
from edgeq.reverse.rules import RULES

After = Callable[[int, Array], tuple[Array, Callable[[Array], Array]] | None]
"""What happens to a computed tensor (index, value) before others read it: its new value and gradient, None for nothing."""

_BROADCASTING = ("ADD", "SUB", "MUL", "DIV", "SQUARED_DIFFERENCE", "MAXIMUM", "MINIMUM", "CONCATENATION", "PACK")
_OVER_AXES = ("MEAN", "SUM", "REDUCE_MAX", "REDUCE_MIN")


def path(graph: Graph, targets: Iterable[int]) -> list[int]:
    """The operations that the targets depend on, in order."""
    wanted, found = set(targets), []
    for n in reversed(range(len(graph.ops))):
        op = graph.ops[n]
        if wanted.intersection(op.outputs):
            found.append(n)
            wanted.update(i for i in op.inputs if i >= 0)
    return found[::-1]


def lacking(graph: Graph, targets: Iterable[int]) -> list[str]:
    """Operations on the way to the targets that have no gradient here, by name."""
    return sorted({graph.ops[n].code for n in path(graph, targets)} - set(RULES))


def batchable(graph: Graph, targets: Iterable[int]) -> bool:
    """Whether every operation on the way leaves inferences apart that lie behind one another on axis 0."""
    return all(_keeps_apart(graph, graph.ops[n]) for n in path(graph, targets))


class Tape:
    """Forward and backward passes to `targets`, tensors of a float graph. Raises UnsupportedError for what has no rule."""

    def __init__(self, graph: Graph, targets: Sequence[int]) -> None:
        missing = lacking(graph, targets)
        if missing:
            raise UnsupportedError(
                f"expected operations that have a gradient, found {', '.join(missing)} on the way to the outputs"
            )
        self.graph = graph
        self.targets = tuple(targets)
        self.path = path(graph, targets)
        self.batchable = batchable(graph, targets)
        self._done: list[tuple[Op, tuple[int, ...], Back]] = []
        self._after: dict[int, Callable[[Array], Array]] = {}
        self._wanted: frozenset[int] = frozenset()

    def forward(
        self,
        inputs: Mapping[int, Array],
        constants: Mapping[int, Array],
        learned: Iterable[int] = (),
        after: After | None = None,
        stepped: bool = False,
    ) -> dict[int, Array]:
        """Values by tensor of everything on the path.

        inputs: (N·shape[0], …) by tensor; constants: what stands for a constant tensor, the graph's own data where there
        is none; learned: the constants whose gradient `backward` is to give. stepped: `after` learns too, so gradients
        must reach every tensor that it changes.
        """
        values: dict[int, Array] = dict(inputs)
        n = self._inferences(inputs)
        moving = set(learned)
        self._done, self._after = [], {}
        for i in self.graph.inputs:
            self._then(i, values, after, moving, stepped)
        for k in self.path:
            op = self.graph.ops[k]
            arrays = tuple(self._value(op, i, values, constants, n) for i in op.inputs)
            needed = tuple(i in moving for i in op.inputs)
            shapes = tuple((n * s[0], *s[1:]) if (s := self.graph.tensors[i].shape) else () for i in op.outputs)
            results, back = RULES[op.code](Node(op, arrays, needed, shapes))
            results, back = _activated(op, results, back)
            moves = any(needed)
            if moves:
                self._done.append((op, tuple(r.ndim for r in results), back))
                moving.update(op.outputs)
            for i, y in zip(op.outputs, results, strict=True):
                values[i] = y
                self._then(i, values, after, moving, stepped)
        self._wanted = frozenset(moving)
        self._values = values
        return values

    def backward(self, gradients: Mapping[int, Array]) -> dict[int, Array]:
        """Gradients of the targets → those of the learned constants. Values of the last `forward` are used up."""
        found: dict[int, Array] = dict(gradients)
        while self._done:
            op, _, back = self._done.pop()
            if not found.keys() & set(op.outputs):
                continue
            given = []
            for i in op.outputs:
                g = found.pop(i, None)
                g = np.zeros_like(self._values[i]) if g is None else g
                given.append(self._after[i](g) if i in self._after else g)
            for i, gx in zip(op.inputs, back(given), strict=False):
                if gx is not None and i in self._wanted:
                    found[i] = found[i] + gx if i in found else gx
        for i in self.graph.inputs:
            if i in found and i in self._after:
                self._after[i](found[i])
        return {i: g for i, g in found.items() if self.graph.tensors[i].data is not None}

    def _inferences(self, inputs: Mapping[int, Array]) -> int:
        for i in self.graph.inputs:
            shape = self.graph.tensors[i].shape
            if shape and shape[0]:
                return len(inputs[i]) // shape[0]
        return 1

    def _then(self, i: int, values: dict[int, Array], after: After | None, moving: set[int], stepped: bool) -> None:
        if after is None or i not in values:
            return
        changed = after(i, values[i])
        if changed is not None:
            values[i], self._after[i] = changed
            if stepped:
                moving.add(i)

    def _value(
        self, op: Op, i: int, values: Mapping[int, Array], constants: Mapping[int, Array], n: int
    ) -> Array | None:
        if i < 0:
            return None
        if i in values:
            return values[i]
        t = self.graph.tensors[i]
        a = constants[i] if i in constants else np.asarray(t.data)
        rank = len(self.graph.tensors[op.outputs[0]].shape)
        spread = op.code in _BROADCASTING and a.ndim == rank and a.ndim > 0
        joined = op.code in ("CONCATENATION", "PACK")
        if n > 1 and spread and (joined or a.shape[0] > 1):
            return np.tile(a, (n, *[1] * (a.ndim - 1)))  # a constant for each of the inferences
        return a


def _activated(op: Op, results: tuple[Array, ...], back: Back) -> tuple[tuple[Array, ...], Back]:
    """The operation with its fused activation."""
    values: Mapping[str, Any] = op.options.values if op.options is not None else {}
    found = fused(int(values.get("fused_activation_function") or 0), results[0])
    if found is None:
        return results, back
    y, gradient = found
    return (y, *results[1:]), lambda given: back([gradient(given[0]), *given[1:]])


def _keeps_apart(graph: Graph, op: Op) -> bool:
    """Whether an operation leaves axis 0 alone, as far as its constants say."""
    tensors = [graph.tensors[i] for i in (*op.inputs, *op.outputs) if i >= 0]
    computed = [t for t in tensors if t.data is None]
    if any(not t.shape for t in computed):
        return False
    rank = len(computed[0].shape)
    values: Mapping[str, Any] = op.options.values if op.options is not None else {}

    def constant(k: int) -> list[int] | None:
        if k >= len(op.inputs):
            return None
        data = graph.tensors[op.inputs[k]].data
        return None if data is None else np.asarray(data).reshape(-1).tolist()

    if op.code in ("CONCATENATION", "PACK", "UNPACK", "GATHER"):
        top = rank + 1 if op.code == "PACK" else rank
        return int(values.get("axis") or 0) % top != 0
    if op.code in _OVER_AXES:
        axes = constant(1)
        return axes is not None and all(a % rank for a in axes)
    if op.code in ("SOFTMAX", "LOG_SOFTMAX", "L2_NORMALIZATION"):
        return rank > 1
    if op.code == "TRANSPOSE":
        order = constant(1)
        return order is not None and bool(order) and order[0] == 0
    if op.code in ("PAD", "PADV2", "MIRROR_PAD"):
        widths = constant(1)
        return widths is not None and widths[:2] == [0, 0]
    if op.code in ("SPLIT", "SPLIT_V"):
        axis = constant(0 if op.code == "SPLIT" else 2)
        return axis is not None and axis[0] % len(graph.tensors[op.outputs[0]].shape) != 0
    if op.code in ("SLICE", "STRIDED_SLICE", "TILE", "BROADCAST_TO"):
        return False
    if op.code in _BROADCASTING or op.code == "PRELU":
        # Two computed tensors whose leading dimensions broadcast would meet as other inferences.
        lead = {t.shape[0] for t in computed}
        full = {len(t.shape) for t in computed}
        return (
            len(lead) == 1
            and len(full) == 1
            and all(len(t.shape) < rank or op.code != "PRELU" or t.shape[0] == 1 for t in tensors)
        )
    if op.code == "BATCH_MATMUL":
        return len(computed) == 3 and rank > 2 and len({t.shape[0] for t in computed}) == 1
    return True
