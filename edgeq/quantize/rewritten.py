"""An integer graph beside the float graph that it was made of: what a search has in its hands, and a device needs."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from edgeq.graph import Graph, Quantization
from edgeq.quantmod import QuantMod
from edgeq.records import dataclass


@dataclass(frozen=True)
class Rewritten:
    """The integer graph, and where each computed tensor and each integer operation of the float graph stands in it."""

    graph: Graph
    tensors: Mapping[int, int]
    ops: Mapping[int, int]


def quantization(q: QuantMod) -> Quantization:
    """A per-tensor transform as the file states it."""
    return Quantization(np.array([q.scale], np.float32), np.array([q.zero_point], np.int64))
