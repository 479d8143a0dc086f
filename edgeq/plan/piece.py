"""Plans of a part of a graph: as many operations as can be planned with the values that are there."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from edgeq.errors import DataDependentError
from edgeq.graph import Array, Graph, Tensor
from edgeq.kernels.isa import Isa
from edgeq.plan.bounded import bounded
from edgeq.plan.build import lower
from edgeq.plan.builder import Builder, nbytes
from edgeq.plan.types import Plan, Rounding
from edgeq.records import dataclass, replace

PRELUDE = ("VAR_HANDLE", "CALL_ONCE")
"""Operations without instructions that later ones refer to: every piece has those that stand before it."""


@dataclass(frozen=True, eq=False)
class Piece:
    """Operations from where it was asked for up to `stop`, planned.

    inputs, outputs: tensors in the order of the plan's; pinned: tensors whose values the plan was made for.
    """

    stop: int
    plan: Plan
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    pinned: frozenset[int]


@bounded
def make_piece(
    graph: Graph,
    start: int,
    values: Mapping[int, Array],
    pinned: frozenset[int],
    wanted: Callable[[int], frozenset[int]],
    isa: Isa,
    rounding: Rounding,
) -> Piece:
    """Plan operations of a checked graph from `start` on, as far as they go.

    values: what earlier operations and the caller have left, by tensor; the plan holds for all values of their shapes, but
    for those in `pinned` and others that turn out to give shapes. wanted: of what a piece computes that ends before an
    operation, the tensors that must come out.

    Raises DataDependentError where not even the first operation can be planned, CheckError where shapes contradict.
    """
    while True:
        stop, error = _reach(graph, start, len(graph.ops), values, pinned, isa, rounding)
        if error is not None and error.tensor in values and error.tensor not in pinned:
            pinned |= {error.tensor}
        elif error is not None and stop == start:
            raise error
        else:
            break
    used = {i for op in graph.ops[start:stop] for i in op.inputs}
    inputs = tuple(i for i in values if i in used and i not in pinned)
    made = {i for op in graph.ops[start:stop] for i in op.outputs}
    outputs = tuple(sorted(made & wanted(stop)))
    b = _builder(graph, values, pinned, inputs, outputs, isa, rounding)
    _lower(b, graph, start, stop)
    return Piece(stop, b.finish(), inputs, outputs, pinned & used)


def _reach(
    graph: Graph,
    start: int,
    end: int,
    values: Mapping[int, Array],
    pinned: frozenset[int],
    isa: Isa,
    rounding: Rounding,
) -> tuple[int, DataDependentError | None]:
    """The first operation that cannot be planned, and why; `end` and None where all can."""
    b = _builder(graph, values, pinned, tuple(i for i in values if i not in pinned), (), isa, rounding)
    try:
        _lower(b, graph, start, end)
    except DataDependentError as error:
        return b.at, error
    return end, None


def _builder(
    graph: Graph,
    values: Mapping[int, Array],
    pinned: frozenset[int],
    inputs: tuple[int, ...],
    outputs: tuple[int, ...],
    isa: Isa,
    rounding: Rounding,
) -> Builder:
    tensors = [_with_value(t, values.get(i), i in pinned) for i, t in enumerate(graph.tensors)]
    main = graph.with_main(tensors=tuple(tensors), inputs=inputs, outputs=outputs)
    b = Builder(main, rounding, isa, keep=False, reshaped=True, lower=lower)
    for i in inputs:
        b.places[i] = b.block(nbytes(tensors[i]))
    return b


def _lower(b: Builder, graph: Graph, start: int, stop: int) -> None:
    for index, op in enumerate(graph.ops[:stop]):
        if index >= start or op.code in PRELUDE:
            b.at_op(index)
            lower(b, op)


def _with_value(t: Tensor, value: Array | None, pinned: bool) -> Tensor:
    if value is None:
        return t
    return replace(t, shape=value.shape, shape_signature=None, data=np.asarray(value, order="C") if pinned else None)
