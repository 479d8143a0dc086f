"""How long each operation of a model takes here."""

from __future__ import annotations

from edgeq import timing
from edgeq.engine import Model
from edgeq.graph import Graph
from edgeq.profile import profile


def latencies(graph: Graph) -> tuple[dict[int, float], float]:
    """Microseconds by operation, and of a whole inference, on one thread of this machine."""
    with Model(graph) as model:
        found = profile(model, list(timing.inputs(model).values()), rounds=5, seconds=0.001)
    out: dict[int, float] = {}
    for row in found.rows:
        out[row.op] = out.get(row.op, 0.0) + row.microseconds
    return out, found.whole
