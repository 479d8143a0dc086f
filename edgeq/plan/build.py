"""From a graph to a plan: every operation is folded away, or goes to the lowering that bears its name."""

from __future__ import annotations

from edgeq.graph import Graph, Op
from edgeq.kernels.isa import Isa
from edgeq.plan.bounded import bounded
from edgeq.plan.builder import Builder, nbytes
from edgeq.plan.fold import FOLDS, fold
from edgeq.plan.frames import frames
from edgeq.plan.lower import LOWERINGS, has_lowering
from edgeq.plan.types import Plan, Rounding


@bounded
def make_plan(
    graph: Graph, isa: Isa, rounding: str | Rounding = Rounding.XNNPACK, *, keep: bool = False, shown: bool = False,
    framed: bool = False, threads: int = 1,
) -> Plan:  # fmt: skip
    """Lower a checked graph for an instruction set; `keep` lets every tensor survive the run, for tracing; `shown` lets
    each live until its operation is done, and the plan say where, in frames where that saves a copy and `framed` allows it.
    threads: how many are to share the work; where tensors lie depends on it.

    Raises UnsupportedError for an operation, type or option that edgeq does not run, CheckError where shapes contradict.
    """
    b = Builder(graph, Rounding(rounding), isa, keep=keep, lower=lower)
    if framed or not (keep or shown):
        b.frames = frames(b)
    if not _lowered(b, shown):
        b = Builder(graph, Rounding(rounding), isa, keep=keep, lower=lower)
        _lowered(b, shown)
    return b.finish(shown, threads)


def _lowered(b: Builder, shown: bool) -> bool:
    """Lower every operation; False, at once, where frames were chosen by shapes of the file that turn out otherwise."""
    for i in b.graph.inputs:
        if i not in b.places and b.graph.tensors[i].data is None:
            b.places[i] = b.block(nbytes(b.graph.tensors[i]))
    for index, op in enumerate(b.graph.ops):
        b.at_op(index)
        lower(b, op)
        if shown:
            b.outlast(op)
        if b.frames and not b.as_stated:
            return False
    return True


def lower(b: Builder, op: Op) -> None:
    """Fold an operation, or emit its instructions."""
    if fold(b, op):
        return
    function = LOWERINGS.get(op.code)
    if function is None and op.code in UNSHAPED:
        raise b.data_dependent(op, -1, "its output has no shape before it runs")
    if function is None:
        from edgeq.plan.lower.custom import LACKING

        raise b.unsupported(op, LACKING)
    function(b, op)


UNSHAPED = frozenset({"WHERE", "RANGE", "UNIQUE", "BROADCAST_ARGS"})
"""Operations that are folded, or else computed between two plans (edgeq.dynamic.host)."""


def unsupported_ops(graph: Graph) -> list[str]:
    """Names of the operations in the graph that have no lowering, each once, in order."""
    unknown = [op for op in graph.ops if not has_lowering(op) and op.code not in (*FOLDS, *UNSHAPED, "SHAPE", "RANK")]
    return list(dict.fromkeys(op.custom_code or op.code for op in unknown))
