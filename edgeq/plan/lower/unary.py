"""Functions of one value: RELU and its kind, LEAKY_RELU, LOGISTIC, TANH, HARD_SWISH. Eight bits become a table."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from edgeq.graph import Activation, Array, Op
from edgeq.kernels.words import unary as uw
from edgeq.kernels.words.instruction import DOUBLE
from edgeq.plan.builder import Builder
from edgeq.plan.delegation import takes
from edgeq.plan.multiplier import f32, float_bounds, quantize_multiplier
from edgeq.plan.tables import multiply_double
from edgeq.plan.types import Words

CLAMPS = {"RELU": Activation.RELU, "RELU6": Activation.RELU6, "RELU_N1_TO_1": Activation.RELU_N1_TO_1}
FUNCTIONS = {"LOGISTIC": uw.LOGISTIC, "TANH": uw.TANH, "EXP": uw.EXP, "HARD_SWISH": uw.HARD_SWISH}


def same_type(b: Builder, op: Op, *types: str) -> str:
    """The type of input and output, which must be equal and one of `types`; checks the shape too."""
    x, y = b.tensor(op, 0), b.output(op)
    b.expect_shape(op, x.shape)
    if x.dtype != y.dtype or x.dtype not in types:
        raise b.unsupported(op, f"from {x.dtype} to {y.dtype}")
    return x.dtype


def tabulate(b: Builder, op: Op, function: Callable[[Array], Array]) -> None:
    """Emit a table: function maps (256,) int64 numbers less the input's zero point to outputs less the output's."""
    x, y = b.tensor(op, 0), b.output(op)
    activation = CLAMPS.get(op.code, Activation.NONE)
    low, high = b.bounds(y, activation)
    q = function(np.arange(256, dtype=np.int64) - b.zero_point(x)) + b.zero_point(y)
    table = np.clip(q, low, high).astype(np.uint8)
    b.emit("table_u8", x.size, {uw.X: b.read(op, 0), uw.Y: b.write(op), uw.TABLE: b.constant(table)})


def emit_rescale(b: Builder, op: Op, up: float, down: float) -> None:
    """int16: one factor above zero, another below."""
    x, y = b.tensor(op, 0), b.output(op)
    (m_up, s_up), (m_down, s_down) = quantize_multiplier(up), quantize_multiplier(down)
    low, high = b.bounds(y, CLAMPS.get(op.code, Activation.NONE))
    words: Words = {
        uw.FROM: 1, uw.TO: 1, uw.MODE: DOUBLE, uw.ZERO_X: b.zero_point(x), uw.ZERO_Y: b.zero_point(y), uw.LO: low, uw.HI: high,
        uw.M_UP: m_up, uw.S_UP: s_up, uw.M_DOWN: m_down, uw.S_DOWN: s_down,
    }  # fmt: skip
    b.emit("rescale", x.size, {**words, uw.X: b.read(op, 0), uw.Y: b.write(op)})


def emit_float(
    b: Builder, op: Op, function: int, low: float = -math.inf, high: float = math.inf, alpha: float = 0.0
) -> None:
    """float32: the function's number and its parameters."""
    words: Words = {uw.FUNCTION: function, uw.LO: float(low), uw.HI: float(high), uw.ALPHA: float(alpha)}
    b.emit("unary_f32", b.tensor(op, 0).size, {**words, uw.X: b.read(op, 0), uw.Y: b.write(op)})


def relu(b: Builder, op: Op) -> None:
    """RELU, RELU6, RELU_N1_TO_1 as operations of their own."""
    dtype = same_type(b, op, "float32", "int8", "uint8", "int16")
    if dtype == "float32":
        emit_float(b, op, uw.CLAMP, *float_bounds(CLAMPS[op.code]))
        return
    real = float(f32(b.scale(b.tensor(op, 0)) / b.scale(b.output(op))))
    if dtype == "int16":
        emit_rescale(b, op, real, real)
    else:
        tabulate(b, op, lambda q: multiply_double(q, real))


def leaky_relu(b: Builder, op: Op) -> None:
    """x where x ≥ 0, alpha · x below."""
    dtype = same_type(b, op, "float32", "int8", "uint8", "int16")
    alpha = f32(op.options.alpha) if op.options is not None else f32(0)
    if dtype == "float32":
        emit_float(b, op, uw.LEAKY, alpha=float(alpha))
        return
    s_in, s_out = b.scale(b.tensor(op, 0)), b.scale(b.output(op))
    # activations.cc, LeakyReluPrepare: both quotients in float32.
    up, down = f32(s_in / s_out), f32(f32(s_in * alpha) / s_out)
    if dtype == "int16":
        emit_rescale(b, op, float(up), float(down))
    elif takes(b, op):  # XNNPACK xnn_init_qs8_lrelu_params: 8.8 multipliers, half up
        m_up, m_down = int(np.rint(256 * up)), int(np.rint(256 * f32(up * alpha)))
        tabulate(b, op, lambda q: (q * np.where(q >= 0, m_up, m_down) + 128) >> 8)
    else:
        tabulate(b, op, lambda q: np.where(q >= 0, multiply_double(q, float(up)), multiply_double(q, float(down))))


def float_function(b: Builder, op: Op) -> None:
    """LOGISTIC, TANH, EXP, HARD_SWISH on float32."""
    same_type(b, op, "float32")
    emit_float(b, op, FUNCTIONS[op.code])


LOWERINGS = {**dict.fromkeys(CLAMPS, relu), "LEAKY_RELU": leaky_relu, **dict.fromkeys(FUNCTIONS, float_function)}
