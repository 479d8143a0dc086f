"""A float graph gone through operation by operation, all samples at once, values kept for as long as somebody reads them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from edgeq.graph import Array, Graph
from edgeq.reverse import Tape
from edgeq.reverse.tape import path

After = Callable[[int, Array], Array]
"""A tensor and its values → what others read of it."""


class Walk:
    """values: by tensor, of what was computed and is still read by somebody. piece: inferences that go through an operation
    at once; batches of every tensor lie behind one another on axis 0."""

    def __init__(
        self, graph: Graph, targets: tuple[int, ...], inputs: Mapping[int, Array], piece: int, after: After
    ) -> None:
        self._graph, self._piece, self._after = graph, piece, after
        self._left = path(graph, targets)
        self._reads = {i: [n for n in self._left if i in graph.ops[n].inputs] for i in range(len(graph.tensors))}
        self.values: dict[int, Array] = {i: after(i, a) for i, a in inputs.items()}
        first = graph.inputs[0]
        self._count = len(inputs[first]) // max(1, graph.tensors[first].shape[0])

    def until(self, n: int, constants: Mapping[int, Array]) -> None:
        """Compute all that comes before operation n."""
        while self._left and self._left[0] < n:
            self._step(self._left.pop(0), constants)

    def _step(self, n: int, constants: Mapping[int, Array]) -> None:
        op = self._graph.ops[n]
        reads = tuple(dict.fromkeys(i for i in op.inputs if i in self.values))
        tape = Tape(self._graph.with_main(ops=(op,), inputs=reads), op.outputs)
        parts: list[dict[int, Array]] = []
        for start in range(0, self._count, self._piece):
            end = min(start + self._piece, self._count)
            given = {}
            for i in reads:
                each = len(self.values[i]) // self._count
                given[i] = self.values[i][start * each : end * each]
            found: dict[int, Any] = tape.forward(given, constants)
            parts.append({i: self._after(i, found[i]) for i in op.outputs})
        for i in op.outputs:
            self.values[i] = np.concatenate([p[i] for p in parts])
        for i in reads:
            if not any(k in self._left for k in self._reads[i]):
                del self.values[i]
