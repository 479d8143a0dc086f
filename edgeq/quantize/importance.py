"""What an error in a layer's weights does to the outputs: its metric.

A layer's own error, under the moments of its inputs, says how far its sums are off. What becomes of that is another matter: one
channel is read strongly and the next hardly, what lies beyond a RELU6 is hidden, and errors of one sign add up over a picture. To
first order an error e of a row of weights moves the outputs by J·e, so that it costs E[‖J·e‖²] = eᵀ·F·e, F = E[Jᵀ·J]: the
Gauss-Newton matrix, which for squared errors at the outputs is Fisher's (as in WoodFisher, Singh & Alistarh, NeurIPS 2020, and
BRECQ, Li et al., ICLR 2021). With r drawn from N(0, I) the gradient g of r·outputs in the row's weights has E[g·gᵀ] = F
(Hutchinson 1990), so that one way back through the float model for each sample tells F of all rows of all layers. The bias takes
off what an error does to the mean, hence g is that of weights against inputs about their mean: g − m·∂/∂b.

Few samples leave most directions of F at zero, so the moments H of the layer's inputs are added, in units of F.

Where channels are scaled (edgeq.quantize.balance) F and what else is told scale with them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.calibrate import Inputs, evenly
from edgeq.feed import let_go
from edgeq.graph import Graph
from edgeq.quantize.rules import RULES
from edgeq.records import dataclass
from edgeq.reverse import Tape, lacking

Array = npt.NDArray[Any]

LOOKED = 64
"""Inputs that tell what errors do, at most."""

WORK = 4.5e8
"""Values that are computed for that, on all inputs together."""

MIXED = 0.3
"""Of the moments of a layer's inputs, in units of F, added to F."""

LEAST = 1e-6
"""Of the mean, for rows that samples say nothing of."""

LARGEST = 1 << 20
"""Elements of the matrices of a layer's rows together, beyond which only F's trace is kept."""


@dataclass(frozen=True, eq=False)
class Importance:
    """Of a layer's rows. own: F (channels, k, k) float32, None where that would be too large; each: (channels, k) float32, its
    diagonal; heard: (channels,) E[Σ g²], g the gradient in each value that the layer writes of a channel."""

    own: Array | None
    each: Array
    heard: Array

    @property
    def trace(self) -> Array:
        """(channels,) of F."""
        return np.asarray(self.each.sum(axis=1, dtype=np.float64))

    def scaled(self, by: Array, heard: Array) -> Importance:
        """Of the same layer with weights (channels, k) divided by `by` and values multiplied by `heard` (channels,)."""
        own = None if self.own is None else self.own * (by[:, :, None] * by[:, None, :]).astype(np.float32)
        return Importance(own, (self.each * by * by).astype(np.float32), self.heard / (heard * heard))

    def metric(self, h: Array) -> tuple[Array, Array | None]:
        """What errors of rows cost, given the moments h, (k, k) or (channels, k, k): matrices (channels, k, k) and None, or h
        and how much each row's cost under it counts (channels,).
        """
        own = np.einsum("...ii->...", h) * np.ones(len(self.trace))
        each = self.trace / np.maximum(own, max(LEAST * float(own.mean()), 1e-30))
        each = np.maximum(each, LEAST * float(self.trace.sum()) / max(float(own.sum()), 1e-30))
        if self.own is None:
            return h, each
        m = self.own + MIXED * each[:, None, None] * h
        np.einsum("...ii->...i", m)[...] += np.maximum(LEAST * np.einsum("cii->", m) / (m.shape[0] * m.shape[1]), 1e-30)
        return m, None


def importances(
    graph: Graph,
    targets: Sequence[int],
    layers: Iterable[int],
    inputs: Sequence[Inputs],
    means: Mapping[int, Array],
    seed: int = 0,
    share: float = 1.0,
) -> dict[int, Importance]:
    """Of those of the named layers of a float graph whose weights nothing else reads; none where an operation has no gradient.

    targets: the tensors that count as outputs; means: of the layers' inputs, as edgeq.quantize.bias.mean_inputs gives them;
    share: of WORK that may be done.
    """
    wanted = [n for n in layers if n in means and _alone(graph, n)]
    if not wanted or not targets or lacking(graph, targets):
        return {}
    tape, draw = Tape(graph, targets), np.random.default_rng(seed)
    wanted = [n for n in wanted if n in tape.path]
    learned = {i for n in wanted for i in graph.ops[n].inputs[1:3] if i >= 0}
    work = sum(t.size for t in graph.tensors if t.data is None)
    samples = evenly(inputs, max(2, min(LOOKED, int(share * WORK / max(work, 1)))))
    own: dict[int, Array | None] = {}
    each: dict[int, Array] = {}
    heard: dict[int, Array] = {}
    writers = {graph.ops[n].outputs[0]: n for n in wanted}

    def after(i: int, values: Array) -> tuple[Array, Callable[[Array], Array]] | None:
        def listening(g: Array) -> Array:
            n, rows = writers[i], g.reshape(-1, g.shape[-1])
            heard[n] = heard.get(n, 0) + np.einsum("ij,ij->j", rows, rows).astype(np.float64)
            return g

        return (values, listening) if i in writers else None

    for x in samples:
        values = tape.forward(dict(zip(graph.inputs, x, strict=True)), {}, learned, after)
        back = {i: draw.standard_normal(values[i].shape).astype(np.float32) for i in targets}
        if len(back) > 1:  # each counts relative to its own signal
            back = {i: r / max(float(np.linalg.norm(values[i])), 1e-30) for i, r in back.items()}
        del values
        found = tape.backward(back)
        let_go(x)
        for n in wanted:
            g = _rows(graph, n, found, means[n])  # (channels, k)
            each[n] = each.get(n, 0) + g * g
            if g.size * g.shape[1] > LARGEST:
                own[n] = None
            else:
                own.setdefault(n, np.zeros((*g.shape, g.shape[1]), np.float32))
                own[n] += g[:, :, None] * g[:, None, :]
    count = len(samples)
    return {
        n: Importance(
            None if (f := own[n]) is None else f / count, each[n] / count, heard.get(n, np.zeros(len(each[n]))) / count
        )
        for n in wanted
    }


def _alone(graph: Graph, n: int) -> bool:
    """Whether layer n is one whose weights and bias are constants that no other operation reads."""
    op = graph.ops[n]
    if op.code not in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"):
        return False
    if op.code == "CONV_2D" and graph.tensors[op.inputs[1]].shape[3] != graph.tensors[op.inputs[0]].shape[3]:
        return False
    parts = [i for i in op.inputs[1:3] if i >= 0]
    return all(graph.tensors[i].data is not None and sum(i in o.inputs for o in graph.ops) == 1 for i in parts)


def _rows(graph: Graph, n: int, found: Mapping[int, Array], mean: Array) -> Array:
    """The gradient of each row of layer n, about the mean of its inputs where it has a bias: (channels, k) float32."""
    op = graph.ops[n]
    axis = RULES[op.code].axis
    w = graph.tensors[op.inputs[1]]
    g = np.moveaxis(found.get(op.inputs[1], np.zeros(w.shape, np.float32)), axis, 0)
    g = g.reshape(len(g), -1)
    if len(op.inputs) < 3 or op.inputs[2] < 0:
        return g
    m = mean
    if op.code == "DEPTHWISE_CONV_2D":
        m = np.repeat(mean, len(g) // mean.shape[-1], axis=-1).reshape(-1, len(g)).T
    b = found.get(op.inputs[2], np.zeros(len(g), np.float32)).reshape(-1, 1)
    return np.asarray(g - b * m.reshape(-1, g.shape[1]), np.float32)
