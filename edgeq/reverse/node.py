"""One operation on its way through the tape: what it reads, and what is asked of its gradient."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from edgeq.graph import Array, Op

Back = Callable[[Sequence[Array]], Sequence[Array | None]]
"""Gradients of the outputs → those of the inputs, None where there is none or none is needed."""

Outcome = tuple[tuple[Array, ...], Back]


@dataclass(frozen=True, eq=False)
class Node:
    """An operation and the values that it reads.

    inputs: by position, None for what is left out; needed: whether an input's gradient is wanted; shapes: of the
    outputs, `batch` inferences lying behind one another on axis 0.
    """

    op: Op
    inputs: tuple[Array | None, ...]
    needed: tuple[bool, ...]
    shapes: tuple[tuple[int, ...], ...]

    def array(self, k: int) -> Array:
        """Input k, which is there."""
        a = self.inputs[k]
        assert a is not None
        return a

    def has(self, k: int) -> bool:
        """Whether there is an input k."""
        return k < len(self.inputs) and self.inputs[k] is not None

    def wants(self, k: int) -> bool:
        """Whether the gradient of input k is needed."""
        return k < len(self.needed) and self.needed[k]

    def option(self, name: str, default: Any = None) -> Any:
        """A field of the operation's options; `default` where it or the table is absent."""
        values = self.op.options.values if self.op.options is not None else {}
        found = values.get(name)
        return default if found is None else found


def single(y: Array, *gradients: Callable[[Array], Array | None] | None) -> Outcome:
    """An operation with one output: a function from its gradient for each input, None for inputs without one."""

    def back(given: Sequence[Array]) -> Sequence[Array | None]:
        return [None if f is None else f(given[0]) for f in gradients]

    return (y,), back


def summed(g: Array, shape: tuple[int, ...]) -> Array:
    """A gradient of a broadcast result, added up to the shape that was broadcast."""
    if g.shape == shape:
        return g
    lead = g.ndim - len(shape)
    g = g.sum(axis=tuple(range(lead))) if lead else g
    axes = tuple(k for k, n in enumerate(shape) if n == 1 and g.shape[k] != 1)
    return (g.sum(axis=axes, keepdims=True) if axes else g).reshape(shape)
