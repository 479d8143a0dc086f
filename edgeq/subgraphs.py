"""Which subgraphs a model's operations call, and another subgraph made the main one."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

from edgeq.graph import Graph, Op, SubGraph, Table
from edgeq.records import replace

FIELD_ENDINGS = ("subgraph", "subgraph_index", "branch_subgraph_indices", "called_computations")
"""How the names of options end that are the index of a subgraph, or several."""


def callees(options: Table) -> list[int]:
    """The subgraphs that these options name."""
    out: list[int] = []
    for name in _calling(tuple(options.values)):
        value = options.values[name]
        if value is not None:
            out += value if isinstance(value, tuple) else [value]
    return out


@lru_cache(128)
def _calling(names: tuple[str, ...]) -> tuple[str, ...]:
    """Those of options' names that are of subgraphs."""
    return tuple(name for name in names if name.endswith(FIELD_ENDINGS))


def promoted(graph: Graph, index: int) -> Graph:
    """The same model with subgraph `index` as its main one: the two change places, and whoever names them follows.

    The plan and the model run the main subgraph; a signature of another one is run on what this returns.
    """
    if index == 0:
        return graph

    def moved(s: int) -> int:
        return {0: index, index: 0}.get(s, s)

    subgraphs = [_renamed(graph.subgraphs[moved(s)], moved) for s in range(len(graph.subgraphs))]
    signatures = tuple(replace(s, subgraph=moved(s.subgraph)) for s in graph.signatures)
    return replace(graph, subgraphs=tuple(subgraphs), signatures=signatures)


def _renamed(g: SubGraph, moved: Callable[[int], int]) -> SubGraph:
    return replace(g, ops=tuple(_op(op, moved) for op in g.ops))


def _op(op: Op, moved: Callable[[int], int]) -> Op:
    if op.options is None or not callees(op.options):
        return op
    values: dict[str, Any] = dict(op.options.values)
    for name, value in values.items():
        if name.endswith(FIELD_ENDINGS) and value is not None:
            values[name] = tuple(map(moved, value)) if isinstance(value, tuple) else moved(value)
    return replace(op, options=Table(op.options.type, values))
