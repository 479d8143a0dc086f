"""What was done to each operation, as data."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from edgeq.feed import quantmod_of
from edgeq.graph import Graph
from edgeq.quantize.canonical import real
from edgeq.quantize.compare import Comparison, decibels
from edgeq.quantize.parameters import Rewritten
from edgeq.quantize.rules import RULES, hybrid_kernel
from edgeq.records import dataclass
from edgeq.tflite import write

if TYPE_CHECKING:
    from edgeq.quantize.layout import Layout


@dataclass(frozen=True)
class Layer:
    """One operation of the float model.

    index, code, name: of the operation, and its first output's name; shape: that output's. integer: whether it runs in
    integers. sqnr: of its first output, in dB, with all noise from upstream. weights_sqnr: of its weights alone, None
    where it has none. scale, zero_point: of its first output, None where that is float. stored: how its weights are stored
    beside float values, "dynamic" where its kernel quantizes what it reads, "convolution" where that is a 1 × 1 convolution's,
    "weights" where they are dequantized, else "".
    hybrid_sqnr: in dB at the outputs, what its hybrid form alone would leave; None where that was not asked.
    """

    index: int
    code: str
    name: str
    shape: tuple[int, ...]
    integer: bool
    sqnr: float | None
    weights_sqnr: float | None
    scale: float | None
    zero_point: int | None
    stored: str = ""
    hybrid_sqnr: float | None = None


@dataclass(frozen=True)
class Quantized:
    """An integer model and how it came about.

    layers: a row per operation. sqnr: in dB, of the worst output, or of the scores that go into its softmax.
    before: the model as it was. samples: how many inferences calibrated it. steps: what was tried
    and chosen, a line each. changed: whether `graph` is a new one.
    """

    graph: Graph
    layers: tuple[Layer, ...]
    sqnr: float
    before: Graph
    samples: int
    steps: tuple[str, ...]
    changed: bool = True

    @property
    def bytes_before(self) -> int:
        """Of the .tflite file that the model would be; written for this."""
        return len(write(self.before))

    @property
    def bytes_after(self) -> int:
        """Of the new .tflite file."""
        return len(write(self.graph))


def layers(
    graph: Graph,
    layout: Layout,
    done: Rewritten,
    comparison: Comparison,
    hybrid: Mapping[int, float] = MappingProxyType({}),
) -> tuple[Layer, ...]:
    """A row for each operation of the float graph, in execution order. hybrid: by operation, its `hybrid_sqnr`."""
    rows = []
    for n, op in enumerate(graph.ops):
        out = op.outputs[0]
        q = quantmod_of(done.graph.tensors[done.tensors[out]]) if out in done.tensors else None
        rows.append(
            Layer(
                n,
                op.code,
                graph.tensors[out].name,
                graph.tensors[out].shape,
                n in layout.rules,
                comparison.sqnr(out) if out in comparison.signal else None,
                _weights_sqnr(graph, layout, done, n),
                None if q is None else float(q.scale),
                None if q is None else int(q.zero_point),
                stored(graph, layout, n),
                hybrid.get(n),
            )
        )
    return tuple(rows)


def stored(graph: Graph, layout: Layout, n: int) -> str:
    """How the weights of operation n are stored beside float values."""
    how = layout.stored.get(n, "")
    return "weights" if how and not hybrid_kernel(graph.ops[n], graph.tensors) else how


def integer_layers(graph: Graph, comparison: Comparison) -> tuple[Layer, ...]:
    """A row for each operation of an integer graph that is compared with its own reconstruction."""
    rows = []
    for n, op in enumerate(graph.ops):
        out = op.outputs[0]
        q = quantmod_of(graph.tensors[out])
        sqnr = comparison.sqnr(out) if out in comparison.signal else None
        scale, zero = (None, None) if q is None else (float(q.scale), int(q.zero_point))
        t = graph.tensors[out]
        rows.append(Layer(n, op.code, t.name, t.shape, q is not None, sqnr, None, scale, zero))
    return tuple(rows)


def _weights_sqnr(graph: Graph, layout: Layout, done: Rewritten, n: int) -> float | None:
    if n not in layout.treatments or n not in done.ops:
        return None
    position = RULES[graph.ops[n].code].weights
    assert position is not None
    w = np.asarray(graph.tensors[graph.ops[n].inputs[position]].data)
    at = done.graph.ops[done.ops[n]].inputs[position]
    if done.graph.tensors[at].data is None:  # behind a DEQUANTIZE
        at = done.graph.ops[done.graph.main.producers()[at]].inputs[0]
    off = np.subtract(real(done.graph.tensors[at]).reshape(w.shape), w, dtype=np.float64)
    noise = float(np.vdot(off, off))
    np.copyto(off, w)  # large weights once in float64
    return decibels(float(np.vdot(off, off)), noise)
