"""LSTMs, in float32 and in integers. What the inputs contribute is one product over all steps."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from edgeq.errors import CheckError
from edgeq.graph import Array, Op, Tensor
from edgeq.kernels.words import recurrent as rc
from edgeq.plan import gemmlowp16
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
from edgeq.records import dataclass

GATES = 4  # input, forget, cell, output


@dataclass(frozen=True)
class Part:
    """One direction of an LSTM: where its 17 inputs behind the data, its states and its normalization begin."""

    first: int  # input-to-gate weights, recurrent ones, peepholes, biases, projection and its bias
    states: tuple[int, int]
    norms: int
    backward: bool = False


def lstm(b: Builder, op: Op) -> None:
    """UNIDIRECTIONAL_SEQUENCE_LSTM, and LSTM with its full kernel."""
    if op.code == "LSTM" and op.options is not None and int(op.options.values.get("kernel_type", 0)) != 0:
        from edgeq.plan.lower import host  # few models need it

        host.basic_lstm(b, op)
        return
    if len(op.inputs) < 20:
        raise CheckError(f"{b.where(op)}: {len(op.inputs)} inputs, at least 20 are expected")
    x, part = b.tensor(op, 0), Part(1, (18, 19), 20)
    s = sequence_of(b, op, x)
    out = b.tensor(op, 18).shape[-1] if b.tensor(op, 18).shape else 0
    y = b.expect_shape(op, (*x.shape[:-1], out))
    if x.dtype == "float32" == y.dtype:
        float_lstm(b, op, part, s, b.read(op, 0), b.write(op), out, out)
    elif x.dtype == "int8" == y.dtype:
        integer_lstm(b, op, part, s)
    else:
        raise b.unsupported(op, f"from {x.dtype} to {y.dtype}")


def bidirectional_lstm(b: Builder, op: Op) -> None:
    """BIDIRECTIONAL_SEQUENCE_LSTM: one forward, one backward, side by side or apart."""
    x, o = b.tensor(op, 0), op.options
    assert o is not None
    if len(op.inputs) < 48 or any(b.optional(op, k) is not None for k in range(39, 48)):
        raise b.unsupported(op, "with an auxiliary input")
    s = sequence_of(b, op, x)
    forward, backward = Part(1, (35, 36), 0), Part(18, (37, 38), 0, True)
    sizes = [(b.tensor(op, p.states[0]).shape or (0,))[-1] for p in (forward, backward)]
    merge = bool(o.merge_outputs)
    if x.dtype != "float32" or b.output(op).dtype != "float32" or len(op.outputs) != 2 - merge:
        raise b.unsupported(op, f"from {x.dtype} to {b.output(op).dtype} and {len(op.outputs)} outputs")
    source, lead = b.read(op, 0), x.shape[:-1]
    if merge:
        b.expect_shape(op, (*lead, sum(sizes)))
        target = b.write(op)
        float_lstm(b, op, forward, s, source, target, sizes[0], sum(sizes))
        float_lstm(b, op, backward, s, source, target.at(4 * sizes[0]), sizes[1], sum(sizes))
        return
    for k, (part, size) in enumerate(zip((forward, backward), sizes, strict=True)):
        b.expect_shape(op, (*lead, size), k)
        float_lstm(b, op, part, s, source, b.write(op, k), size, size)


def float_lstm(b: Builder, op: Op, part: Part, s: Sequence, x: Ref, y: Ref, out: int, pitch: int) -> None:
    """One direction in float32, its weights float32 or int8 (hybrid); rows of y lie `pitch` elements apart."""
    at, o = part.first, op.options
    assert o is not None
    cells = b.tensor(op, at + 1).shape[0] if b.tensor(op, at + 1).shape else 0
    if min(cells, out) < 1:
        raise CheckError(f"{b.where(op)}: {cells} cells, {out} outputs")
    kinds = ("float32", "int8")
    inward = [weights(b, op, at + k, (cells, s.features), *kinds) for k in range(4)]
    back = [weights(b, op, at + 4 + k, (cells, out), *kinds) for k in range(4)]
    coupled = inward[0] is None
    for k in range(1, 4):
        needed(b, op, at + k, inward[k])
        needed(b, op, at + 4 + k, back[k])
    if coupled != (back[0] is None):
        raise CheckError(f"{b.where(op)}: an input gate needs both its weights")
    bias = [weights(b, op, at + 11 + k, (cells,), "float32") for k in range(4)]
    norms = [weights(b, op, part.norms + k, (cells,), "float32") if part.norms else None for k in range(4)]
    has_norm = norms[1] is not None
    peep = [weights(b, op, at + 8 + k, (cells,), *kinds) for k in range(3)]
    project = weights(b, op, at + 15, (out, cells), *kinds)
    if project is None and out != cells:
        raise CheckError(f"{b.where(op)}: {cells} cells and {out} outputs without a projection")
    present = [a for a in (*inward, *back, *([project] if project is not None else [])) if a is not None]
    hybrid = present[0].dtype == np.int8
    if any((a.dtype == np.int8) != hybrid for a in present):
        raise b.unsupported(op, "with weights of two types")
    items = s.steps * s.batch
    sums, n4 = b.block(4 * items * GATES * cells), GATES * cells
    gates = [k for k in range(4) if not (coupled and k == 0)]
    full = np.zeros((n4, s.features), present[0].dtype)
    turned = np.zeros((n4, out), present[0].dtype)
    scales, r_scales = np.zeros(n4, np.float32), np.zeros(n4, np.float32)
    biases, normal = np.zeros(n4, np.float32), np.zeros(n4, np.float32)
    for k in gates:
        span = slice(k * cells, (k + 1) * cells)
        full[span], turned[span] = inward[k], back[k]
        scales[span], r_scales[span] = scale_of(b, op, at + k), scale_of(b, op, at + 4 + k)
        biases[span] = needed(b, op, at + 11 + k, bias[k])
        if has_norm:
            normal[span] = needed(b, op, part.norms + k, norms[k])
    early = None if has_norm else biases
    if hybrid:
        hybrid_rows(b, x, full, scales, items, sums, n4, mode_of(op), early)
    else:
        plain_product(b, x, full, items, sums, n4, early)
    _, h = state(b, op, part.states[0], "float32", (s.batch, out))
    _, c = state(b, op, part.states[1], "float32", (s.batch, cells))
    (x_t, x_b), (y_t, y_b) = s.pitch(n4), s.pitch(pitch)
    room = 4 * 5 * cells + (cells + out + 3) // 4 * 4
    words: Words = {
        rc.X: sums, rc.Y: y, rc.T: s.steps, rc.N: cells, rc.OUT: out, rc.X_T: x_t, rc.X_B: x_b, rc.Y_T: y_t, rc.Y_B: y_b,
        rc.STATE: h, rc.CELL: c, rc.TEMPORARY: b.block(room * s.batch), rc.BACKWARD: int(part.backward),
        rc.ACTIVATION: activation_of(b, op), rc.COUPLED: int(coupled), rc.R: b.constant(turned.T),
        rc.CLIP: float(max(o.cell_clip, 0.0)), rc.CLIP_PROJECTION: float(max(o.proj_clip, 0.0)), rc.MODE: mode_of(op),
    }  # fmt: skip
    if hybrid:
        words |= {rc.R_SCALES: b.constant(r_scales), rc.R_SUMS: b.constant(turned.sum(axis=1, dtype=np.int32))}
    if any(p is not None for p in peep):
        rows = [np.zeros(cells, np.float32) if p is None else real(b, op, at + 8 + k, p) for k, p in enumerate(peep)]
        words[rc.PEEPHOLE] = b.constant(np.stack(rows))
    if has_norm:
        words |= {rc.NORM: b.constant(normal), rc.BIAS: b.constant(biases)}
    if project is not None:
        words[rc.PROJECTION] = b.constant(project.T)
        if hybrid:
            words[rc.P_SCALES] = b.constant(np.full(out, scale_of(b, op, at + 15), np.float32))
            words[rc.P_SUMS] = b.constant(project.sum(axis=1, dtype=np.int32))
        projected = weights(b, op, at + 16, (out,), "float32")
        if projected is not None:
            words[rc.PROJECTION_BIAS] = b.constant(projected)
    b.emit("lstm_f32", s.batch, words, macs=items * out * n4)


# --- integers ---------------------------------------------------------------------------------------------------------------


def power_of_two(b: Builder, op: Op, t: Tensor, least: int, most: int) -> int:
    """log2 of a scale that must be a power of two within these bounds."""
    fraction, exponent = math.frexp(float(b.scale(t)))
    if fraction != 0.5 or not least <= exponent - 1 <= most:
        raise b.unsupported(op, f"{t.name!r} has scale {float(b.scale(t)):g}, 2^{least} to 2^{most} is expected")
    return exponent - 1


def intermediate(b: Builder, op: Op, k: int) -> tuple[float, int]:
    """Scale and zero point of one of the operation's own intermediate results."""
    i = op.intermediates[k] if k < len(op.intermediates) else -1
    q = b.tensors[i].quantization if i >= 0 else None
    if q is None or len(q.scale) != 1:
        raise CheckError(f"{b.where(op)}: its intermediate {k} has no scale")
    return float(q.scale[0]), int(q.zero_point[0])


def integer_lstm(b: Builder, op: Op, part: Part, s: Sequence) -> None:
    """int8 with an int16 cell: lstm_eval.cc EvalInteger8x8_16, its effective biases and scales as lstm.cc prepares them."""
    at, o, x, y = part.first, op.options, b.tensor(op, 0), b.output(op)
    assert o is not None
    h_t, c_t = b.tensor(op, part.states[0]), b.tensor(op, part.states[1])
    cells, out = (t.shape[0] if t.shape else 0 for t in (b.tensor(op, at + 1), b.tensor(op, at + 5)))
    out = h_t.shape[-1]
    if min(cells, out) < 1:
        raise CheckError(f"{b.where(op)}: {cells} cells, {out} outputs")
    inward = [weights(b, op, at + k, (cells, s.features), "int8") for k in range(4)]
    back = [weights(b, op, at + 4 + k, (cells, out), "int8") for k in range(4)]
    peep = [weights(b, op, at + 8 + k, (cells,), "int16") for k in range(3)]
    bias = [weights(b, op, at + 11 + k, (cells,), "int32") for k in range(4)]
    norms = [weights(b, op, part.norms + k, (cells,), "int16") for k in range(4)]
    project = weights(b, op, at + 15, (out, cells), "int8")
    coupled, has_norm = inward[0] is None, norms[1] is not None
    if project is None and out != cells:
        raise CheckError(f"{b.where(op)}: {cells} cells and {out} outputs without a projection")
    down = power_of_two(b, op, c_t, -15, -9)
    s_x, s_h, z_h = float(b.scale(x)), float(b.scale(h_t)), b.zero_point(h_t)
    if b.scale(y) != b.scale(h_t) or b.zero_point(y) != z_h:
        raise CheckError(f"{b.where(op)}: output and output state differ in scale or zero point")
    gates = [k for k in range(4) if not (coupled and k == 0)]
    scales = [intermediate(b, op, k)[0] if has_norm and k in gates else 2.0**-12 for k in range(4)]
    s_hidden, z_hidden = intermediate(b, op, 4)
    n4, items = GATES * cells, s.steps * s.batch
    sums, source = b.block(2 * items * n4), b.read(op, 0)
    back_full, r_bias = np.zeros((n4, out), np.int8), np.zeros(n4, np.int32)
    r_scales: list[Any] = [0.0] * 4
    norm_full, norm_bias = np.zeros(n4, np.int16), np.zeros(n4, np.int32)
    for k in gates:
        w, r, own = (needed(b, op, at + i + k, a) for i, a in ((0, inward[k]), (4, back[k]), (11, bias[k])))
        span = slice(k * cells, (k + 1) * cells)
        first = np.zeros(cells, np.int32) if has_norm else own
        (m,), (shift,) = multipliers([np.float32(np.float32(scale_of(b, op, at + k) * s_x) / np.float32(scales[k]))])
        scaled_product(b, source, w, first, items, sums.at(2 * k * cells), n4, (int(m), int(shift)), b.zero_point(x))
        back_full[span] = r
        r_bias[span] = -z_h * r.sum(axis=1, dtype=np.int32)
        r_scales[k] = np.float32(np.float32(scale_of(b, op, at + 4 + k) * s_h) / np.float32(scales[k]))
        if has_norm:
            norm_full[span], norm_bias[span] = needed(b, op, part.norms + k, norms[k]), own
    entries: dict[int, int | Array] = {}
    codes = np.arange(-32768, 32768, dtype=np.int64)
    curves = {
        rc.SIGMOID: gemmlowp16.logistic(codes), rc.TANH: gemmlowp16.tanh_of(codes, 3),
        rc.CELL_TANH: gemmlowp16.tanh_of(codes, 15 + down),
    }  # fmt: skip
    r_m, r_s = multipliers(r_scales)
    entries |= {rc.R_BIAS: r_bias, rc.R_MULTIPLIER: r_m, rc.R_SHIFT: r_s}
    if any(p is not None for p in peep):
        rows = [np.zeros(cells, np.int16) if p is None else p for p in peep]
        reals = [
            0.0 if p is None else 2.0**down * scale_of(b, op, at + 8 + k) / scales[(0, 1, 3)[k]]
            for k, p in enumerate(peep)
        ]
        p_m, p_s = multipliers(reals)
        entries |= {rc.PEEP: np.stack(rows), rc.P_MULTIPLIER: p_m, rc.P_SHIFT: p_s}
    if has_norm:
        own_scales = [scale_of(b, op, part.norms + k) if k in gates else 0.0 for k in range(4)]
        n_m, n_s = multipliers(own_scales)
        guard = np.array(
            [max(1, int(min(float(np.float32(10000) * np.float32(v)), 2.0**31 - 1))) for v in own_scales], np.int64
        )
        entries |= {
            rc.NORMS: norm_full, rc.NORM_BIAS: norm_bias, rc.NORM_MULTIPLIER: n_m,
            rc.NORM_SHIFT: n_s, rc.GUARD: guard,
        }  # fmt: skip
    (m,), (shift,) = multipliers([2.0**-15 / s_hidden * 2.0**-15])
    entries |= {
        rc.CELL_SHIFT: 30 + down, rc.CELL_CLIP: clip_code(o.cell_clip, float(b.scale(c_t)), 32767), rc.H_MULTIPLIER: int(m),
        rc.H_SHIFT: int(shift), rc.H_ZERO: 128 + (z_hidden if project is None else -z_hidden),
    }  # fmt: skip
    if project is not None:
        added = weights(b, op, at + 16, (out,), "int32")
        total = (z_hidden - 128) * project.sum(axis=1, dtype=np.int32) + (0 if added is None else added)
        (m,), (shift,) = multipliers([np.float32(np.float32(scale_of(b, op, at + 15) * s_hidden) / np.float32(s_h))])
        entries |= {
            rc.J_MULTIPLIER: int(m), rc.J_SHIFT: int(shift), rc.J_CLIP: clip_code(o.proj_clip, s_h, 127),
            rc.J_BIAS: total.astype(np.int32),
        }  # fmt: skip
    _, h = state(b, op, part.states[0], "int8", (s.batch, out))
    _, c = state(b, op, part.states[1], "int16", (s.batch, cells))
    (x_t, x_b), (y_t, y_b) = s.pitch(n4), s.pitch(out)
    words: Words = {
        rc.X: sums, rc.Y: b.write(op), rc.T: s.steps, rc.N: cells, rc.OUT: out, rc.X_T: x_t, rc.X_B: x_b, rc.Y_T: y_t,
        rc.Y_B: y_b, rc.STATE: h, rc.CELL: c, rc.TEMPORARY: b.block((8 * cells + (cells + 7) // 8 * 8) * s.batch),
        rc.BACKWARD: int(part.backward), rc.COUPLED: int(coupled), rc.R: b.constant(back_full.T), rc.ZERO_H: z_h,
    }  # fmt: skip
    if project is not None:
        words[rc.PROJECTION] = b.constant(project.T)
    words[rc.TABLES] = b.constant(blob(entries))
    words |= {w: b.constant(values.astype(np.int16)) for w, values in curves.items()}
    b.emit("lstm_s8", s.batch, words, macs=items * out * n4)


def blob(entries: dict[int, int | Array]) -> Array:
    """Numbers and arrays behind one address: a head of int64, numbers as such, arrays by where they begin."""
    head, parts, at = np.zeros(rc.HEAD, np.int64), [], 8 * rc.HEAD
    for k, v in entries.items():
        if isinstance(v, int):
            head[k] = v
        else:
            raw = np.frombuffer(np.ascontiguousarray(v).tobytes(), np.uint8)
            padded = np.zeros(-(-raw.size // 8) * 8, np.uint8)
            padded[: raw.size] = raw
            head[k] = at
            parts.append(padded)
            at += padded.size
    return np.concatenate([head.view(np.uint8), *parts])


def clip_code(limit: float, scale: float, most: int) -> int:
    """A clip in steps of `scale`, 0 for none."""
    return int(min(np.float32(limit) / np.float32(scale), np.float32(most))) if limit > 0 else 0


LOWERINGS = {
    "UNIDIRECTIONAL_SEQUENCE_LSTM": lstm,
    "LSTM": lstm,
    "BIDIRECTIONAL_SEQUENCE_LSTM": bidirectional_lstm,
}
