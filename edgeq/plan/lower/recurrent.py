"""Plain recurrent cells and SVDF. What the inputs contribute is one product over all steps."""

from __future__ import annotations

import numpy as np

from edgeq.errors import CheckError
from edgeq.graph import Op
from edgeq.kernels.words import kinds
from edgeq.kernels.words import recurrent as rc
from edgeq.plan.builder import Builder
from edgeq.plan.lower.matmul import hybrid_rows, plain_product
from edgeq.plan.lower.sequence import (
    Sequence,
    activation_of,
    mode_of,
    multipliers,
    needed,
    real,
    scale_of,
    scaled_product,
    sequence_of,
    weights,
)
from edgeq.plan.lower.variables import state
from edgeq.plan.types import Ref, Words


def sequence_rnn(b: Builder, op: Op) -> None:
    """UNIDIRECTIONAL_SEQUENCE_RNN and RNN: h = f(W·x + R·h + b)."""
    x = b.tensor(op, 0)
    s = sequence_of(b, op, x)
    units = b.tensor(op, 1).shape[0] if b.tensor(op, 1).shape else 0
    y = b.expect_shape(op, (*x.shape[:-1], units))
    rnn(b, op, s, 1, 4, b.write(op) if x.dtype == "float32" == y.dtype else None, units, False)


def bidirectional_rnn(b: Builder, op: Op) -> None:
    """BIDIRECTIONAL_SEQUENCE_RNN without an auxiliary input."""
    x, o = b.tensor(op, 0), op.options
    assert o is not None
    if any(b.optional(op, k) is not None for k in (9, 10, 11)):
        raise b.unsupported(op, "with an auxiliary input")
    s = sequence_of(b, op, x)
    sizes = [b.tensor(op, k).shape[0] if b.tensor(op, k).shape else 0 for k in (1, 5)]
    merge = bool(o.merge_outputs)
    if len(op.outputs) != 2 - merge or b.output(op).dtype != "float32" or x.dtype != "float32":
        raise b.unsupported(op, f"from {x.dtype} to {b.output(op).dtype} and {len(op.outputs)} outputs")
    if merge:
        b.expect_shape(op, (*x.shape[:-1], sum(sizes)))
        target = b.write(op)
        rnn(b, op, s, 1, 4, target, sum(sizes), False)
        rnn(b, op, s, 5, 8, target.at(4 * sizes[0]), sum(sizes), True)
        return
    for k, (at, size) in enumerate(zip((1, 5), sizes, strict=True)):
        b.expect_shape(op, (*x.shape[:-1], size), k)
        rnn(b, op, s, at, at + 3, b.write(op, k), size, bool(k))


def rnn(b: Builder, op: Op, s: Sequence, at: int, state_at: int, y: Ref | None, pitch: int, backward: bool) -> None:
    """One direction: weights, recurrent weights and bias from input `at` on."""
    if y is None:
        raise b.unsupported(op, f"from {b.tensor(op, 0).dtype} to {b.output(op).dtype}")
    units = b.tensor(op, at).shape[0] if b.tensor(op, at).shape else 0
    kinds = ("float32", "int8")
    w = needed(b, op, at, weights(b, op, at, (units, s.features), *kinds))
    r = needed(b, op, at + 1, weights(b, op, at + 1, (units, units), *kinds))
    bias = needed(b, op, at + 2, weights(b, op, at + 2, (units,), "float32"))
    if w.dtype != r.dtype or units < 1:
        raise b.unsupported(op, "with weights of two types")
    items = s.steps * s.batch
    sums = b.block(4 * items * units)
    if w.dtype == np.int8:
        hybrid_rows(b, b.read(op, 0), w, np.full(units, scale_of(b, op, at)), items, sums, units, mode_of(op), bias)
    else:
        plain_product(b, b.read(op, 0), w, items, sums, units, bias)
    _, h = state(b, op, state_at, "float32", (s.batch, units))
    (x_t, x_b), (y_t, y_b) = s.pitch(units), s.pitch(pitch)
    words: Words = {
        rc.X: sums, rc.Y: y, rc.T: s.steps, rc.N: units, rc.X_T: x_t, rc.X_B: x_b, rc.Y_T: y_t, rc.Y_B: y_b, rc.STATE: h,
        rc.TEMPORARY: b.block((4 * units + (units + 3) // 4 * 4) * s.batch), rc.BACKWARD: int(backward),
        rc.ACTIVATION: activation_of(b, op), rc.R: b.constant(r.T), rc.MODE: mode_of(op),
    }  # fmt: skip
    if r.dtype == np.int8:
        words[rc.R_SCALES] = b.constant(np.full(units, scale_of(b, op, at + 1), np.float32))
        words[rc.R_SUMS] = b.constant(r.sum(axis=1, dtype=np.int32))
    b.emit("rnn_f32", s.batch, words, macs=items * units * units)


def svdf(b: Builder, op: Op) -> None:
    """SVDF: x (batch, features), feature weights (filters, features), time weights (filters, memory), bias, state."""
    x, y, o = b.tensor(op, 0), b.output(op), op.options
    assert o is not None
    s = sequence_of(b, op, x)
    feature, time = b.tensor(op, 1), b.tensor(op, 2)
    if len(feature.shape) != 2 or len(time.shape) != 2 or o.rank < 1 or feature.shape[0] % o.rank:
        raise CheckError(f"{b.where(op)}: weights {list(feature.shape)} and {list(time.shape)} of rank {o.rank}")
    filters, memory, units = feature.shape[0], time.shape[1], feature.shape[0] // o.rank
    if min(filters, memory, s.batch, s.features) < 1 or len(x.shape) != 2:
        raise CheckError(f"{b.where(op)}: {list(x.shape)} with weights {list(feature.shape)} and {list(time.shape)}")
    b.expect_shape(op, (s.batch, units))
    w = needed(b, op, 1, weights(b, op, 1, (filters, s.features), "float32", "int8"))
    t = needed(b, op, 2, weights(b, op, 2, (filters, memory), "float32", "int8", "int16"))
    words: Words = {rc.N: units, rc.RANK: o.rank, rc.MEMORY: memory}
    shape = (s.batch, filters * memory)
    if x.dtype == "float32" == y.dtype:
        newest = b.block(4 * s.batch * filters)
        if w.dtype == np.int8:
            scale = np.full(filters, scale_of(b, op, 1))
            hybrid_rows(b, b.read(op, 0), w, scale, s.batch, newest, filters, mode_of(op))
        else:
            plain_product(b, b.read(op, 0), w, s.batch, newest, filters)
        bias = weights(b, op, 3, (units,), "float32")
        words |= {rc.KIND: kinds.F32, rc.ACTIVATION: activation_of(b, op), rc.WEIGHTS: b.constant(real(b, op, 2, t))}
        if bias is not None:
            words[rc.BIAS] = b.constant(bias)
    elif x.dtype == "int8" == y.dtype and w.dtype == np.int8 and t.dtype == np.int16:
        newest = b.block(2 * s.batch * filters)
        held = b.tensor(op, 4)
        (m1, m2), (s1, s2) = multipliers(
            [
                np.float32(np.float32(scale_of(b, op, 0) * scale_of(b, op, 1)) / np.float32(scale_of(b, op, 4))),
                np.float32(np.float32(float(b.scale(held)) * scale_of(b, op, 2)) / b.scale(y)),
            ]
        )
        none = np.zeros(filters, np.int32)
        scaled_product(b, b.read(op, 0), w, none, s.batch, newest, filters, (int(m1), int(s1)), b.zero_point(x))
        bias = weights(b, op, 3, (units,), "int32")
        low, high = b.bounds(y)  # svdf.h does not look at the activation
        words |= {
            rc.KIND: kinds.S16, rc.WEIGHTS: b.constant(t), rc.M1: int(m2), rc.S1: int(s2), rc.LO: low, rc.HI: high,
            rc.ZERO_Y: b.zero_point(y), rc.PEEPHOLE: b.constant(np.zeros(units, np.int32) if bias is None else bias),
        }  # fmt: skip
    else:
        raise b.unsupported(op, f"from {x.dtype} with {w.dtype} and {t.dtype} weights to {y.dtype}")
    _, place = state(b, op, 4, "float32" if x.dtype == "float32" else "int16", shape)
    b.emit(
        "svdf", s.batch, {**words, rc.X: newest, rc.STATE: place, rc.Y: b.write(op)}, macs=s.batch * filters * memory
    )


LOWERINGS = {
    "UNIDIRECTIONAL_SEQUENCE_RNN": sequence_rnn,
    "RNN": sequence_rnn,
    "BIDIRECTIONAL_SEQUENCE_RNN": bidirectional_rnn,
    "SVDF": svdf,
}
