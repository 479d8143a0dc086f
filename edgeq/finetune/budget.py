"""What learning costs: how many epochs, and how many samples at once, a model is given."""

from __future__ import annotations

from edgeq.finetune.student import Student

BUDGET = 1.2e12
"""Multiplications that learning may take where no number of epochs is given: counted, and not timed, so that the same
samples give the same model on every machine. A minute or two of a core."""

VALUE, WEIGHT = 130, 260
"""Multiplications that a computed value and, in each step, a weight cost beside those of the layers: as measured."""

MOST_EPOCHS = 2000

MEMORY = 192 << 20
"""Bytes that the values of one pass may take, about; batches that need more go through in pieces."""


def epochs(student: Student, samples: int, batch: int) -> int:
    """Passes that BUDGET allows: forwards, and twice as much back."""
    values = sum(student.real.tensors[i].size for n in student.tape.path for i in student.real.ops[n].outputs)
    weights = sum(student.real.tensors[y.weights].size for y in student.layers)
    one = 3 * macs(student) + VALUE * values + WEIGHT * weights / batch
    return int(min(MOST_EPOCHS, max(8, BUDGET / (one * samples))))


def macs(student: Student) -> int:
    """Multiplications of an inference."""
    found = 0
    for y in student.layers:
        out, w = (student.real.tensors[i] for i in (student.real.ops[y.op].outputs[0], y.weights))
        found += out.size * w.size // w.shape[y.axis]
    return found


def piece(student: Student, batch: int) -> int:
    """How many inferences go through at once."""
    if not student.tape.batchable:
        return 1
    graph = student.real
    size = 0
    for n in student.tape.path:
        op = graph.ops[n]
        size += 4 * 4 * sum(graph.tensors[i].size for i in op.outputs)
        if op.code in ("CONV_2D", "TRANSPOSE_CONV"):
            w, at = (
                graph.tensors[op.inputs[1]].shape,
                graph.tensors[op.outputs[0] if op.code == "CONV_2D" else op.inputs[2]],
            )
            if w[1] * w[2] > 1:
                size += 4 * (at.size // max(at.shape[-1], 1)) * w[1] * w[2] * w[3]
    return max(1, min(batch, MEMORY // max(size, 1)))
