"""Where the loss itself would have a layer's weights go, beside what the layer lacks by itself.

A layer that is fitted learns to write what the float model's layer writes. That errors of several layers meet in the answers,
and may cancel there, only the loss tells: by its gradient at the layer's weights. With H the second moments of what the layer
reads, G those of the loss's gradient at what it writes and D the mean product of the two, a step of natural gradient is

    δ = −G⁻¹·D·H⁻¹

(Martens and Grosse, "K-FAC", ICML 2015). Few samples tell D badly, so a share of the way is gone, with a gradient that is
averaged over fittings, each on other variations; the rest of what a layer is to write stays the float model's. Weights of four
levels have to jump: gradients followed weight by weight (Adam, straight-through) move all of them, those that nothing depends on
as fast as others, and ended farther from the float model than fitting alone had come (docs/finetuning.md).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from edgeq.finetune.curvature import Curved
from edgeq.finetune.goal import Target, loss, summed
from edgeq.finetune.layers import Layer
from edgeq.finetune.student import Parameters, Student
from edgeq.graph import Array
from edgeq.records import dataclass

SHARE = 0.07
"""Of the step, what is gone."""

MOMENTUM = 0.9
"""What gradients of earlier fittings count for."""

FARTHEST = 1.0
"""Of a layer's distance from its target, root mean square, what a step is at most."""


@dataclass(frozen=True, eq=False)
class Slope:
    """The gradient of the loss's mean at a layer, by row of what it reads. weights: (channels, k); bias: (channels,)."""

    weights: Array
    bias: Array


def slopes(
    student: Student,
    at: Parameters,
    layers: Sequence[Layer],
    goals: Sequence[Target],
    signals: Sequence[float],
    pieces: Sequence[tuple[list[Array], list[Array]]],
) -> dict[int, Slope]:
    """By the layers' operations. signals: mean squares of the float model's values; pieces: inputs and its answers to them."""
    sums: dict[str, Array] = {}
    first, graph = student.start.inputs[0], student.start
    count = 0
    for inputs, wanted in pieces:
        found = student.forward(at, dict(zip(graph.inputs, inputs, strict=True)))
        each = zip(goals, student.targets, wanted, signals, strict=True)
        gradients = summed(
            (i, loss(goal, found[i], want, signal)[1] * np.float32(len(inputs[0]))) for goal, i, want, signal in each
        )
        for name, g in student.backward(gradients).items():
            sums[name] = sums[name] + g if name in sums else g
        count += len(inputs[0]) // max((1, *graph.tensors[first].shape[:1]))
    out = {}
    for y in layers:
        written = student.real.tensors[student.real.ops[y.op].outputs[0]]
        rows = count * written.size // written.shape[-1]
        weights, bias = student.slope(y, sums)
        out[y.op] = Slope(weights / rows, bias / rows)
    return out


def averaged(before: Mapping[int, Slope], now: Mapping[int, Slope]) -> dict[int, Slope]:
    """Gradients of this fitting and of those before it, none being zero."""
    out = {}
    for n, s in now.items():
        old = before[n] if n in before else Slope(0 * s.weights, 0 * s.bias)
        mixed = [MOMENTUM * a + (1 - MOMENTUM) * b for a, b in ((old.weights, s.weights), (old.bias, s.bias))]
        out[n] = Slope(*mixed)
    return out


def pulled(target: Array, weights: Array, h: Array, read: Array, slope: Slope, curved: Curved) -> Array:
    """The real weights (channels, k) that a layer with these `weights` is to come near to, instead of `target`. h: (k, k),
    depthwise (channels, k, k); read: the mean of what is read, (k,) or (channels, k)."""
    d: Array = slope.weights - slope.bias[:, None] * read
    g = curved.shape * curved.size
    if h.ndim == 3:
        step = -np.linalg.solve(h, (d / np.diag(g)[:, None])[..., None])[..., 0]
    else:
        step = -np.linalg.solve(h, np.linalg.solve(g, d).T).T
    far = float(np.sqrt((step**2).mean() / max(float(((weights - target) ** 2).mean()), 1e-30)))
    there = weights + step * min(1.0, FARTHEST / max(far, 1e-30))
    return np.asarray((1 - SHARE) * target + SHARE * there)
