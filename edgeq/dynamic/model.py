"""A model whose shapes depend on values, called like any other."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any

from edgeq import engine
from edgeq.check import sound
from edgeq.dynamic.evaluate import Evaluator
from edgeq.engine import Model, Port, converted, delivered, in_order, port
from edgeq.errors import CheckError, DataDependentError, InputError
from edgeq.graph import Array, Graph
from edgeq.locked import LockedMemory
from edgeq.machine import Progress, get
from edgeq.plan.survey import survey
from edgeq.plan.types import Rounding
from edgeq.records import replace


class DynamicModel:
    """A model that is planned while it runs; called like edgeq.engine.Model, but with one sample.

    Inputs may have any length where their shape signature says −1; outputs come in the shapes that they turn out to have.
    Calls from several threads go one after another.
    """

    def __init__(
        self,
        graph: Graph,
        *,
        rounding: str = "xnnpack",
        threads: int = 1,
        progress: Progress | None = None,
        memory: LockedMemory | None = None,
        shapes: Mapping[int, Sequence[int]] | None = None,
        checked: bool = False,
        most_ns: float = float("inf"),
    ) -> None:
        """As edgeq.engine.build; `most_ns` bounds a run, see Evaluator."""
        if not checked:
            graph = sound(graph)
        self.graph = graph
        tensors = [replace(t, shape=tuple((shapes or {}).get(i, t.shape))) for i, t in enumerate(graph.tensors)]
        self.inputs = tuple(port(n, tensors[i]) for n, i in zip(graph.input_names(), graph.inputs, strict=True))
        self.outputs = tuple(port(n, tensors[i]) for n, i in zip(graph.output_names(), graph.outputs, strict=True))
        self._open = [graph.tensors[i].shape_signature or () for i in graph.inputs]
        self._memory, self._turn = memory, threading.Lock()
        self._evaluator: Evaluator | None = Evaluator(
            graph, get(progress), Rounding(rounding), threads, secret=memory is not None, most_ns=most_ns
        )

    def __call__(self, x: Array | Mapping[str, Array], *, dequantize: bool = False) -> Any:
        """As edgeq.engine.Model's, of one sample."""
        given = in_order(x, self.inputs)
        arrays = [self._fitted(a, p, s) for a, p, s in zip(given, self.inputs, self._open, strict=True)]
        with self._turn:
            if self._evaluator is None:
                raise InputError("the model is closed")
            found = self._evaluator.run(arrays)
        return delivered(found, self.outputs, dequantize)

    def _fitted(self, a: Array, p: Port, signature: Sequence[int]) -> Array:
        """The array in the port's dtype, if its shape is one that the input can take."""
        marks = signature if len(signature) == len(p.shape) else p.shape
        if a.ndim != len(p.shape) or any(m != -1 and d != n for m, d, n in zip(marks, a.shape, p.shape, strict=True)):
            expected = ["any" if m == -1 else d for m, d in zip(marks, p.shape, strict=True)]
            raise InputError(
                f"input {p.name!r} has shape {list(a.shape)}, ({', '.join(map(str, expected))}) is expected"
            )
        a = converted(a, p)
        return a if a.dtype == p.dtype or p.quantmod is None else p.quantmod.quantize(a)

    def reset(self) -> None:
        """Forget what earlier calls have left in the model's variables."""
        with self._turn:
            if self._evaluator is not None:
                self._evaluator.reset()

    def close(self) -> None:
        """Release memory; the model cannot be called afterwards."""
        with self._turn:
            if self._evaluator is not None:
                self._evaluator.close()
                self._evaluator = None
                if self._memory is not None:
                    self._memory.wipe()

    def __enter__(self) -> DynamicModel:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def build(graph: Graph, **options: Any) -> Model | DynamicModel:
    """As edgeq.engine.build, with a DynamicModel for a graph that cannot be planned beforehand.

    Raises UnsupportedError where edgeq lacks more than values that a run will know.
    """
    try:
        return engine.build(graph, **options)
    except DataDependentError:
        if not is_dynamic(graph, options.get("rounding", "xnnpack")):
            raise
    return DynamicModel(graph, **options)


def is_dynamic(graph: Graph, rounding: str | Rounding) -> bool:
    """Whether all that a plan of a checked graph lacks are values that a run will know."""
    try:
        return not survey(graph, get().isa, rounding)
    except CheckError:
        return False
