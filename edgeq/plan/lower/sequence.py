"""What layers that remember have in common: steps, weights, and products over all steps."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgeq.errors import CheckError
from edgeq.graph import Array, Op, Tensor
from edgeq.kernels.words import matmul as mm
from edgeq.kernels.words import unary as uw
from edgeq.kernels.words.instruction import DOUBLE
from edgeq.plan.builder import Builder, stored
from edgeq.plan.multiplier import quantize_multiplier
from edgeq.plan.types import Ref, Words
from edgeq.records import dataclass


@dataclass(frozen=True)
class Sequence:
    """Steps, batch, features; whether steps come first; elements of a step and of a batch item for `width` elements each."""

    steps: int
    batch: int
    features: int
    time_major: bool

    def pitch(self, width: int) -> tuple[int, int]:
        """Elements from one step, and from one batch item, to the next."""
        return (self.batch * width, width) if self.time_major else (width, self.steps * width)


def sequence_of(b: Builder, op: Op, x: Tensor) -> Sequence:
    """The input's dimensions: (batch, steps, features), steps first with time_major, or one step (batch, features)."""
    if len(x.shape) == 2 and op.code in ("LSTM", "RNN", "SVDF"):
        return Sequence(1, x.shape[0], x.shape[1], False)
    if len(x.shape) != 3 or min(x.shape) < 1:
        raise CheckError(f"{b.where(op)}: input has shape {list(x.shape)}, batch, steps and features are expected")
    major = op.options is not None and bool(op.options.values.get("time_major", False))
    steps, batch = (x.shape[0], x.shape[1]) if major else (x.shape[1], x.shape[0])
    return Sequence(steps, batch, x.shape[2], major)


def weights(b: Builder, op: Op, k: int, shape: tuple[int, ...], *types: str) -> Array | None:
    """Constant input k of this shape and one of these types, None where it is left out."""
    if b.optional(op, k) is None:
        return None
    values = b.constant_value(op, k)
    if values.dtype.name not in types or values.shape != shape:
        raise CheckError(
            f"{b.where(op)}: input {k} is {values.dtype}{list(values.shape)}, {' or '.join(types)}{list(shape)} is expected"
        )
    return values


def needed(b: Builder, op: Op, k: int, found: Array | None) -> Array:
    """An input that may not be left out."""
    if found is None:
        raise CheckError(f"{b.where(op)} lacks its input {k}")
    return found


def scale_of(b: Builder, op: Op, k: int) -> float:
    """The per-tensor scale of input k; 1 for floats."""
    t = b.tensor(op, k)
    return 1.0 if t.dtype == "float32" else float(b.scale(t))


def real(b: Builder, op: Op, k: int, values: Array) -> Array:
    """Values of input k as float32."""
    if values.dtype == np.float32:
        return values
    t = b.tensor(op, k)
    zero = int(t.quantization.zero_point[0]) if t.quantization is not None else 0
    return ((values.astype(np.float32) - np.float32(zero)) * b.scale(t)).astype(np.float32)


def activation_of(b: Builder, op: Op) -> int:
    """The cell's activation, which the kernels have."""
    kind = int(op.options.values.get("fused_activation_function", 0)) if op.options is not None else 0
    if not 0 <= kind <= 4:
        raise b.unsupported(op, f"with activation {kind}")
    return kind


def mode_of(op: Op) -> int:
    """How hybrid layers quantize."""
    asymmetric = op.options is not None and bool(op.options.values.get("asymmetric_quantize_inputs", False))
    return uw.ASYMMETRIC if asymmetric else uw.SYMMETRIC


def multipliers(values: list[Any]) -> tuple[Array, Array]:
    """Multipliers and shifts as lstm_s8 reads them; the products of scales are float32 in lstm.cc."""
    pairs = [quantize_multiplier(float(np.float32(v))) for v in values]
    return np.array([q for q, _ in pairs], np.int64), np.array([s for _, s in pairs], np.int64)


def scaled_product(
    b: Builder, x: Ref, w: Array, bias: Array, rows: int, y: Ref, pitch: int, multiplier: tuple[int, int], zero: int
) -> None:
    """Emit int16 y = (bias + Σ (x − zero)·w) scaled, for bytes x (rows, k) and int8 w (n, k)."""
    n, k = w.shape
    words: Words = {
        mm.X: x, mm.W: b.constant(stored(w.T)), mm.M: rows, mm.N: n, mm.K: k, mm.PITCH: pitch, mm.Y: y, mm.ZERO_X: zero,
        mm.ZERO_W: 128, mm.LO: -32768, mm.HI: 32767, mm.FAMILY: DOUBLE, mm.MULTIPLIER: multiplier[0], mm.SHIFT: multiplier[1],
        mm.WIDE: 1, mm.BIAS: b.constant(bias.astype(np.int32)),
    }  # fmt: skip
    b.emit("matmul_u8", rows, words, macs=rows * n * k)
