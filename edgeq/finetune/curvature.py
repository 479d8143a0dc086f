"""What the loss makes of errors in a layer's outputs: second moments of its gradient there.

The gradients are those of answers drawn from the float model's own distribution (Fisher's information; Martens and Grosse, ICML
2015, section 2.2), so that a model which is right already has them, too; where there is no softmax, of errors of either sign.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from edgeq.finetune.goal import Target, distribution, summed
from edgeq.finetune.student import Parameters, Student
from edgeq.graph import Array, Op
from edgeq.plan.multiplier import float_bounds
from edgeq.records import dataclass

DRAWS = 2
"""Answers that are drawn for each sample."""

DAMPING = 0.1
"""In means of the diagonal: what few samples' gradients hardly tell."""


@dataclass(frozen=True, eq=False)
class Curved:
    """Second moments (channels, channels), their diagonal's mean being 1 before they were damped, and what it was in a row."""

    shape: Array
    size: float


def curvature(
    student: Student,
    at: Parameters,
    goals: Sequence[Target],
    signals: Sequence[float],
    pieces: Sequence[tuple[list[Array], list[Array]]],
    draw: np.random.Generator,
) -> dict[int, Curved]:
    """By the layers' operations, of what they write before their activation. signals: mean squares of the
    float model's values; pieces: inputs and the float model's answers to them."""
    sums: dict[int, Array] = {}
    rows: dict[int, int] = {}

    def watching(n: int, op: Op) -> Callable[[Array, Array], None]:
        values = op.options.values if op.options is not None else {}
        least, most = float_bounds(int(values.get("fused_activation_function") or 0))

        def seen(v: Array, g: Array) -> None:
            g = g * ((v > least) & (v < most))
            g = g.reshape(-1, g.shape[-1])
            sums[n] = sums.get(n, 0) + (g.T @ g).astype(np.float64)
            rows[n] = rows.get(n, 0) + len(g)

        return seen

    watched = {student.real.ops[y.op].outputs[0]: watching(y.op, student.real.ops[y.op]) for y in student.layers}
    for inputs, wanted in pieces:
        given = dict(zip(student.start.inputs, inputs, strict=True))
        for _ in range(DRAWS):
            student.forward(at, given, watched=watched)
            each = zip(goals, student.targets, wanted, signals, strict=True)
            student.backward(summed((i, _drawn(goal, want, signal, draw)) for goal, i, want, signal in each))
    out = {}
    for n, total in sums.items():
        size = float(np.diag(total).mean())
        if size > 0:
            out[n] = Curved(total / size + DAMPING * np.eye(len(total)), size / rows[n])
    return out


def _drawn(goal: Target, wanted: Array, signal: float, draw: np.random.Generator) -> Array:
    """A gradient at the answers whose second moments are the loss's curvature there."""
    either = np.where(draw.random(wanted.shape) < 0.5, np.float32(-1), np.float32(1))
    g = either * np.float32(np.sqrt(2 / signal / wanted.shape[-1]))
    if goal.beta:
        p = distribution(wanted, goal.beta)[0].reshape(-1, wanted.shape[-1])
        answer = (p.cumsum(axis=1) < draw.random((len(p), 1))).sum(axis=1).clip(0, p.shape[1] - 1)
        p[np.arange(len(p)), answer] -= 1
        g = g + np.float32(goal.beta) * p.reshape(wanted.shape)
    return g.astype(np.float32)
