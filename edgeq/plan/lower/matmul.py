"""BATCH_MATMUL, and products whose weights are computed: both matrices are laid row by row, and multiplied as they come."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from edgeq.errors import CheckError
from edgeq.graph import Array, Op, Tensor
from edgeq.kernels.words import matmul as mm
from edgeq.kernels.words import unary as uw
from edgeq.kernels.words.instruction import DOUBLE, HALF_UP, REDUCED
from edgeq.plan.builder import Builder, itemsize, stored
from edgeq.plan.multiplier import f32, float_bounds, quantize_multiplier
from edgeq.plan.types import Ref, Words
from edgeq.plan.window import broadcasted, permuted

KERNELS = {"float32": "matmul_f32", "int8": "matmul_u8", "uint8": "matmul_u8", "int16": "matmul_s16"}


def batch_matmul(b: Builder, op: Op) -> None:
    """x (…, m, k) · w (…, k, n), either transposed by an option; leading dimensions broadcast."""
    x, w, y, o = b.tensor(op, 0), b.tensor(op, 1), b.output(op), op.options
    assert o is not None
    if len(x.shape) < 2 or len(w.shape) < 2:
        raise CheckError(f"{b.where(op)}: {list(x.shape)} times {list(w.shape)}; at least 2 dimensions are expected")
    (m, k), (other, n) = turned(x.shape, o.adj_x)[-2:], turned(w.shape, o.adj_y)[-2:]
    if k != other:
        raise CheckError(f"{b.where(op)}: rows of {k} meet columns of {other}")
    try:
        lead = np.broadcast_shapes(x.shape[:-2], w.shape[:-2])
    except ValueError:
        raise CheckError(f"{b.where(op)}: {list(x.shape)} and {list(w.shape)} do not broadcast") from None
    y = b.expect_shape(op, (*lead, m, n))
    hybrid = (x.dtype, w.dtype, y.dtype) == ("float32", "int8", "float32")
    if not hybrid and not (x.dtype == w.dtype == y.dtype and x.dtype in KERNELS):
        raise b.unsupported(op, f"{x.dtype} times {w.dtype} to {y.dtype}")
    if min(m, k, n, *lead) < 1:
        raise b.unsupported(op, "on an empty matrix")
    left, x_step = matrices(b, op, 0, x, o.adj_x, lead)
    right, w_step = matrices(b, op, 1, w, o.adj_y, lead)
    words: Words = {
        mm.X: left, mm.W: right, mm.M: m, mm.N: n, mm.K: k, mm.X_STEP: x_step, mm.W_STEP: w_step, mm.PITCH: n,
    }  # fmt: skip
    rows = math.prod(lead) * m
    if hybrid:
        asymmetric = bool(o.asymmetric_quantize_inputs)
        hybrid_words(b, op, words, rows if x_step else m, k, asymmetric)
    elif x.dtype == "float32":
        words |= {mm.LO: -math.inf, mm.HI: math.inf}
    else:
        words |= integer_words(b, op, x, w, y)
    kernel = "matmul_u8" if hybrid else KERNELS[x.dtype]
    b.emit(kernel, rows, {**words, mm.Y: b.write(op)}, macs=rows * n * k)


def turned(shape: tuple[int, ...], turn: bool) -> tuple[int, ...]:
    """The shape with its last two dimensions exchanged, if asked."""
    return (*shape[:-2], shape[-1], shape[-2]) if turn else shape


def matrices(b: Builder, op: Op, k: int, t: Tensor, turn: bool, lead: Sequence[int]) -> tuple[Ref, int]:
    """Input k as matrices in rows, and the elements from one batch's to the next: 0 where all batches share one."""
    place, size = b.read(op, k), itemsize(t)
    if turn:
        if b.is_constant(op, k):
            place = b.constant(stored(np.swapaxes(b.constant_value(op, k), -1, -2)))
        else:
            source, place, rank = place, b.block(t.size * size), len(t.shape)
            permuted(b, source, place, t.shape, [*range(rank - 2), rank - 1, rank - 2], size)
    shape, matrix = turned(t.shape, turn), t.shape[-1] * t.shape[-2]
    if math.prod(shape[:-2]) == 1:
        return place, 0
    if math.prod(shape[:-2]) != math.prod(lead):
        place = broadcasted(b, place, shape, (*lead, *shape[-2:]), size)
    return place, matrix


def integer_words(b: Builder, op: Op, x: Tensor, w: Tensor, y: Tensor, activation: int = 0) -> Words:
    """Zero points, multiplier and clamps of an integer product."""
    low, high = b.bounds(y, activation)
    words: Words = {
        mm.ZERO_X: b.zero_point(x), mm.ZERO_W: b.zero_point(w), mm.ZERO_Y: b.zero_point(y), mm.LO: low, mm.HI: high,
    }  # fmt: skip
    q, shift = quantize_multiplier(float(f32(b.scale(x) * b.scale(w))) / float(b.scale(y)))
    if y.dtype == "int16":
        reduced = (q + (1 << 15)) >> 16 if q < 0x7FFF0000 else 0x7FFF
        if shift > 14:
            raise b.unsupported(op, f"with scales whose ratio is 2^{shift}")
        return words | {mm.FAMILY: REDUCED, mm.MULTIPLIER: reduced, mm.SHIFT: 15 - shift}
    family = HALF_UP if b.xnnpack and op.code == "FULLY_CONNECTED" else DOUBLE
    return words | {mm.FAMILY: family, mm.MULTIPLIER: q, mm.SHIFT: shift}


def hybrid_words(b: Builder, op: Op, words: Words, rows: int, k: int, asymmetric: bool) -> None:
    """Quantize the rows of x when the model runs, and describe what int8 weights then make of them; changes `words`."""
    w, x = b.tensor(op, 1), words[mm.X]
    if not b.is_constant(op, 1):
        raise b.unsupported(op, "with computed int8 weights on float32 input")
    quantized, found = b.block(rows * k), b.block(8 * rows)
    mode = uw.ASYMMETRIC if asymmetric else uw.SYMMETRIC
    b.emit("dynamic_u8", rows, {uw.X: x, uw.Y: quantized, uw.N: k, uw.RANGE: found, uw.MODE: mode})
    if w.quantization is None or np.any(w.quantization.zero_point != 0):
        raise b.unsupported(op, "with int8 weights whose zero point is not 0")
    n, o = words[mm.N], op.options
    turn = o is not None and bool(o.values.get("adj_y", op.code == "FULLY_CONNECTED"))
    values = b.constant_value(op, 1)
    values = np.swapaxes(values, -1, -2) if turn else values
    scale = w.quantization.scale.astype(np.float32)
    assert isinstance(n, int)
    if len(scale) not in (1, n):
        raise b.unsupported(op, f"with {len(scale)} scales")
    # Bytes q + 128 times x, whose own zero point is known only when the model runs: Σ(x − z)·q = Σ x·q − z·Σ q.
    words |= {
        mm.X: quantized, mm.RANGE: found, mm.FAMILY: mm.HYBRID, mm.ZERO_X: 0, mm.ZERO_W: 128, mm.LO: -math.inf, mm.HI: math.inf,
        mm.SCALES: b.constant(np.broadcast_to(scale, (n,))), mm.SUMS: b.constant(values.sum(axis=-2, dtype=np.int32)),
    }  # fmt: skip


def computed_weights(b: Builder, op: Op) -> None:
    """FULLY_CONNECTED whose weights (out, in) are computed: x (…, k) · wᵀ + bias."""
    x, w, y, o = b.tensor(op, 0), b.tensor(op, 1), b.output(op), op.options
    assert o is not None
    if len(w.shape) != 2 or min(w.shape) < 1 or x.size == 0 or x.size % w.shape[1]:
        raise CheckError(f"{b.where(op)}: weights {list(w.shape)} for an input of {list(x.shape)}")
    n, k = w.shape
    m = x.size // k
    keep = bool(o.values.get("keep_num_dims", False))
    if keep and (not x.shape or x.shape[-1] != k):
        raise CheckError(f"{b.where(op)}: input {list(x.shape)} keeps its dimensions, a last one of {k} is expected")
    y = b.expect_shape(op, (*x.shape[:-1], n) if keep else (m, n))
    if not (x.dtype == w.dtype == y.dtype and x.dtype in ("float32", "int8", "uint8")):
        raise b.unsupported(op, f"{x.dtype} times computed {w.dtype} to {y.dtype}")
    right, _ = matrices(b, op, 1, w, True, ())
    words: Words = {mm.X: b.read(op, 0), mm.W: right, mm.M: m, mm.N: n, mm.K: k, mm.PITCH: n}
    bias = b.optional(op, 2)
    if bias is not None:
        expected = "float32" if x.dtype == "float32" else "int32"
        if bias.dtype != expected or bias.size != n:
            raise CheckError(f"{b.where(op)}: bias is {bias.dtype}{list(bias.shape)}, {expected}[{n}] is expected")
        words[mm.BIAS] = b.read(op, 2)
    if x.dtype == "float32":
        low, high = float_bounds(o.fused_activation_function)
        words |= {mm.LO: float(low), mm.HI: float(high)}
    else:
        words |= integer_words(b, op, x, w, y, o.fused_activation_function)
    b.emit(KERNELS[x.dtype], m, {**words, mm.Y: b.write(op)}, macs=m * n * k)


def plain_product(b: Builder, x: Ref, weights: Array, rows: int, y: Ref, pitch: int, bias: Array | None = None) -> None:
    """Emit x (rows, k) · weights (n, k)ᵀ + bias in float32, rows of y `pitch` elements apart."""
    n, k = weights.shape
    words: Words = {
        mm.X: x, mm.W: b.constant(weights.T), mm.M: rows, mm.N: n, mm.K: k, mm.PITCH: pitch, mm.Y: y,
        mm.LO: -math.inf, mm.HI: math.inf,
    }  # fmt: skip
    if bias is not None:
        words[mm.BIAS] = b.constant(bias.astype(np.float32))
    b.emit("matmul_f32", rows, words, macs=rows * n * k)


def hybrid_rows(
    b: Builder,
    x: Ref,
    weights: Array,
    scales: Array,
    rows: int,
    y: Ref,
    pitch: int,
    mode: int,
    bias: Array | None = None,
) -> None:
    """Emit the same with int8 weights of (n,) scales, each row of x quantized when the model runs."""
    n, k = weights.shape
    quantized, found = b.block(rows * k), b.block(8 * rows)
    b.emit("dynamic_u8", rows, {uw.X: x, uw.Y: quantized, uw.N: k, uw.RANGE: found, uw.MODE: mode})
    words: Words = {
        mm.X: quantized, mm.W: b.constant(stored(weights.T)), mm.M: rows, mm.N: n, mm.K: k, mm.PITCH: pitch, mm.Y: y,
        mm.LO: -math.inf, mm.HI: math.inf, mm.RANGE: found, mm.FAMILY: mm.HYBRID, mm.ZERO_W: 128,
        mm.SCALES: b.constant(scales.astype(np.float32)), mm.SUMS: b.constant(weights.sum(axis=1, dtype=np.int32)),
    }  # fmt: skip
    if bias is not None:
        words[mm.BIAS] = b.constant(bias.astype(np.float32))
    b.emit("matmul_u8", rows, words, macs=rows * n * k)


LOWERINGS = {"BATCH_MATMUL": batch_matmul}
