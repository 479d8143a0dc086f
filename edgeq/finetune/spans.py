"""Steps of activations that were chosen badly, found anew before anything is fitted.

Ranges that a tool averaged over batches, or took from other samples, cut off what these samples have; learning moves a step by
some thousandths at a time, and layers that are fitted to clipped values cannot get back what is not there. So a step goes to
where the squared error of the float model's values is least, the zero point staying, if that is far less: what `edgeq quantize`
chose by the outputs' error stays as it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from edgeq.finetune.layers import float_biases, float_weights
from edgeq.finetune.steps import fake
from edgeq.finetune.student import Parameters, Student
from edgeq.finetune.walk import Walk
from edgeq.graph import Array, Graph

FACTORS = np.geomspace(1 / 16, 16.0, 49)
"""Of a step, what is tried."""

WORTH = 0.5
"""Of the error that the step leaves, what another may leave at most."""

LOOKED = 1 << 15
"""Values of a tensor that are looked at in a piece."""


def respanned(
    student: Student, teacher: Graph, at: Parameters, inputs: Sequence[Array], piece: int
) -> dict[str, Array]:
    """The parameters with those steps of activations moved that lose twice as much as others would, on the float model's values
    for `inputs` (n, …) in the order of the graph's."""
    errors: dict[str, Array] = {}

    def seen(i: int, v: Array) -> Array:
        found = student.step_of(i, at)
        if found is not None:
            name, step, codes = found
            flat = v.reshape(-1)
            some = flat[:: (flat.size // LOOKED) | 1].astype(np.float64)
            lost = np.array([((fake(some, step * f, codes)[0] - some) ** 2).sum() for f in (1.0, *FACTORS)])
            errors[name] = errors.get(name, 0.0) + lost
        return v

    given = dict(zip(student.start.inputs, inputs, strict=True))
    walk = Walk(student.real, tuple(student.targets), given, piece, seen)
    walk.until(len(student.real.ops), _constants(student, teacher, at))
    out = dict(at)
    for name, lost in errors.items():
        best = int(lost[1:].argmin())
        if lost[1 + best] < WORTH * lost[0]:
            out[name] = np.asarray(at[name] + np.log(FACTORS[best]))
    return out


def _constants(student: Student, teacher: Graph, at: Parameters) -> Mapping[int, Array]:
    """The float model's own weights and biases where they are known, the student's elsewhere."""
    found = student.constants(at)
    weights = float_weights(teacher, student.start, student.counterparts)
    biases = float_biases(teacher, student.counterparts)
    for y in student.layers:
        if y.op in weights:
            found[y.weights] = weights[y.op].astype(np.float32)
            if y.bias is not None:
                found[y.bias] = np.broadcast_to(biases[y.op], found[y.bias].shape).astype(np.float32)
    return found
