"""Samples spread wider than those that are there, for layers that a sample excites once.

A convolution meets as many parts of a sample as it has positions. A dense layer meets one row, and a hundred samples leave
units idle that others will wake: what rounding pushes into their weights costs nothing under a Hessian of what was seen. The
float model answers samples further from their mean too, and these wake such units (docs/quantization.md has what that gains,
and what it costs where nothing was idle: so it is judged by both kinds).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from edgeq.calibrate import Inputs
from edgeq.graph import Graph

FACTOR = np.float32(3.0)
"""Times the distance from the mean. Of 1.5, 2, 3 and 4 the first wakes too little, the others do alike."""


def widened(inputs: Sequence[Inputs]) -> list[Inputs]:
    """As many inputs, each FACTOR times as far from the mean of all; what is no real number stays."""
    means = [np.mean(a, axis=0, dtype=np.float64).astype(np.float32) for a in zip(*inputs, strict=True)]
    return [
        tuple(m + FACTOR * (a - m) if a.dtype == np.float32 else a for a, m in zip(x, means, strict=True))
        for x in inputs
    ]


def once(graph: Graph, layers: Iterable[int]) -> list[int]:
    """The layers that meet one row of each sample."""
    return [n for n in layers if int(np.prod(graph.tensors[graph.ops[n].outputs[0]].shape[:-1])) == 1]
