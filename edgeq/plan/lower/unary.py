"""Functions of one value: activations, curves, signs and casts. Eight bits become a table of 256, sixteen one of 65 536."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np

from edgeq.errors import CheckError
from edgeq.graph import Activation, Array, Op
from edgeq.kernels.words import unary as uw
from edgeq.kernels.words.instruction import DOUBLE
from edgeq.plan import curves
from edgeq.plan.builder import Builder
from edgeq.plan.delegation import takes
from edgeq.plan.multiplier import f32, float_bounds, half_away, quantize_multiplier
from edgeq.plan.tables import interpolated_curve, inverse_root, multiply_by, multiply_double, saturated
from edgeq.plan.types import INTEGERS as WHOLE
from edgeq.plan.types import KINDS, Words

CLAMPS = {"RELU": Activation.RELU, "RELU6": Activation.RELU6, "RELU_N1_TO_1": Activation.RELU_N1_TO_1}


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


def relu_0_to_1(b: Builder, op: Op) -> None:
    """RELU_0_TO_1, float32."""
    same_type(b, op, "float32")
    emit_float(b, op, uw.CLAMP, 0.0, 1.0)


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


FUNCTIONS = {
    "LOGISTIC": uw.LOGISTIC, "TANH": uw.TANH, "EXP": uw.EXP, "HARD_SWISH": uw.HARD_SWISH, "SQRT": uw.SQRT, "RSQRT": uw.RSQRT,
    "ABS": uw.ABS, "NEG": uw.NEG, "SQUARE": uw.SQUARE, "FLOOR": uw.FLOOR, "CEIL": uw.CEIL, "ROUND": uw.ROUND, "SIGN": uw.SIGN,
    "LOG": uw.LOG, "SIN": uw.SIN, "COS": uw.COS, "ELU": uw.ELU,
}  # fmt: skip


def function(b: Builder, op: Op) -> None:
    """Functions that take nothing but their input."""
    x = b.tensor(op, 0)
    y = b.expect_shape(op, x.shape)
    if x.dtype != y.dtype:
        raise b.unsupported(op, f"from {x.dtype} to {y.dtype}")
    if x.dtype == "float32" and op.code in FUNCTIONS:
        emit_float(b, op, FUNCTIONS[op.code])
    elif (integer := INTEGER_FUNCTIONS.get((op.code, x.dtype))) is not None:
        integer(b, op)
    else:
        raise b.unsupported(op, f"on {x.dtype}")


def rounded(b: Builder, real: Array) -> Array:
    """float32 to integers: ties away from zero; XNNPACK's tables to even."""
    return np.rint(real) if b.xnnpack else half_away(real)


def byte_curve(b: Builder, op: Op, curve: Callable[[Array], Array]) -> None:
    """LOGISTIC and TANH on 8 bits: float32 on all 256 values."""
    s_in, s_out = b.scale(b.tensor(op, 0)), b.scale(b.output(op))
    tabulate(b, op, lambda q: rounded(b, curve(q.astype(np.float32) * s_in) * f32(f32(1) / s_out)).astype(np.int64))


def logistic(b: Builder, op: Op) -> None:
    """1 / (1 + exp(−x)) on 8 bits."""
    byte_curve(b, op, lambda x: f32(1) / (f32(1) + np.exp(-x.astype(np.float64)).astype(np.float32)))


def tanh(b: Builder, op: Op) -> None:
    """tanh(x) on 8 bits."""
    byte_curve(b, op, lambda x: np.tanh(x.astype(np.float64)).astype(np.float32))


def tabulate_wide(b: Builder, op: Op, function: Callable[[Array], Array]) -> None:
    """int16: function maps (65536,) int64 numbers to outputs."""
    b.bounds(b.output(op))
    table = saturated(function(np.arange(-32768, 32768, dtype=np.int64)), 16).astype(np.int16)
    words: Words = {uw.X: b.read(op, 0), uw.Y: b.write(op), uw.TABLE: b.constant(table)}
    b.emit("table_s16", b.tensor(op, 0).size, words)


def wide_curve(curve: Callable[[Array, float, bool], Array]) -> Callable[[Builder, Op], None]:
    """LOGISTIC and TANH on int16, whose output's scale is 2^-15."""

    def lower(b: Builder, op: Op) -> None:
        if b.scale(b.output(op)) != f32(2.0**-15):
            raise CheckError(f"{b.where(op)}: the output's scale is {b.scale(b.output(op))}, 2^-15 is expected")
        tabulate_wide(b, op, lambda x: curve(x, float(b.scale(b.tensor(op, 0))), b.xnnpack))

    return lower


def hard_swish(b: Builder, op: Op) -> None:
    """x · relu6(x + 3) / 6 on 8 bits."""
    tabulate(b, op, lambda q: curves.hard_swish(q, b.scale(b.tensor(op, 0)), b.scale(b.output(op))))


def absolute(b: Builder, op: Op) -> None:
    """|x| on 8 bits (elementwise.cc, AbsEvalQuantized)."""
    s_in, s_out = b.scale(b.tensor(op, 0)), b.scale(b.output(op))
    real = float(f32(s_in / s_out))
    tabulate(b, op, lambda q: np.abs(q) if s_in == s_out else multiply_double(np.abs(q), real))


def rsqrt(b: Builder, op: Op) -> None:
    """1 / √x on 8 bits, the greatest number for 0 (RsqrtEvalQuantized); below 0 the runtimes stop, here it is as for 0."""
    s_in, s_out = b.scale(b.tensor(op, 0)), b.scale(b.output(op))
    multiplier, shift = quantize_multiplier(float(np.float64(1) / np.float64(f32(np.sqrt(s_in) * s_out))))

    def curve(q: Array) -> Array:
        found = np.full(q.shape, 1 << 9, np.int64)  # beyond the type, so that it is clamped
        for k in np.flatnonzero(q > 0):
            root, down = inverse_root(int(q[k]))
            found[k] = multiply_by(multiply_by(np.ones(1, np.int64), root, 20 - down), multiplier, shift - 20)[0]
        return found

    tabulate(b, op, curve)


Curve = Callable[[Array, Builder, Op], Array]
"""float32 → float64 or float32, for an operation's options and output."""


def populated(curve: Curve, *, cut: bool = False) -> Callable[[Builder, Op], None]:
    """A table on 8 bits, rounded half away, or `cut` (LUTPopulate); on int16 513 samples of it."""

    def lower(b: Builder, op: Op) -> None:
        x, y = b.tensor(op, 0), b.output(op)
        s_in, s_out = b.scale(x), b.scale(y)
        if x.dtype == "int16":
            zero, out = b.zero_point(x), b.zero_point(y)
            table = interpolated_curve(lambda real: curve(real, b, op), s_in, zero, s_out, out)
            tabulate_wide(b, op, lambda _: table)
            return

        def function(q: Array) -> Array:
            real = curve(q.astype(np.float32) * s_in, b, op).astype(np.float32)
            v = (real / s_out if cut else real * f32(f32(1) / s_out)).astype(np.float64)
            v = np.clip(v, -1e9, 1e9)
            return (np.trunc(v) if cut else half_away(v)).astype(np.int64)

        tabulate(b, op, function)

    return lower


def log_of(x: Array, b: Builder, op: Op) -> Array:
    """log x, the type's least number for what has none."""
    y = b.output(op)
    lowest = -32768 if y.dtype == "int16" else -b.zero_point(y)
    return np.where(x > 0, np.log(np.maximum(x, f32(1e-38)).astype(np.float64)), f32(f32(lowest) * b.scale(y)))


def rsqrt_of(x: Array, b: Builder, op: Op) -> Array:
    """1 / √x, the type's greatest number for what has none."""
    return np.where(x > 0, f32(1) / np.sqrt(np.maximum(x, f32(1e-38))), f32(f32(32767) * b.scale(b.output(op))))


def gelu_of(x: Array, b: Builder, op: Op) -> Array:
    """x · Φ(x), or its approximation by tanh."""
    wide = x.astype(np.float64)
    if op.options is not None and op.options.approximate:
        found: Array = 0.5 * wide * (1 + np.tanh(math.sqrt(2 / math.pi) * (wide + 0.044715 * wide**3)))
        return found
    return 0.5 * wide * (1 + np.array([math.erf(v) for v in (wide * math.sqrt(0.5)).reshape(-1)]).reshape(x.shape))


exp_ = populated(lambda x, b, op: np.exp(x.astype(np.float64)))
log_ = populated(log_of)


def wide_absolute(b: Builder, op: Op) -> None:
    """|x| on int16."""
    real = float(f32(b.scale(b.tensor(op, 0)) / b.scale(b.output(op))))
    emit_rescale(b, op, real, -real)


def plain(b: Builder, op: Op) -> None:
    """Integers without a scale."""
    x = b.tensor(op, 0)
    words: Words = {uw.FROM: KINDS[x.dtype], uw.FUNCTION: PLAIN[op.code], uw.X: b.read(op, 0), uw.Y: b.write(op)}
    b.emit("unary_int", x.size, words)


PLAIN = {"ABS": uw.ABS, "NEG": uw.NEG, "SQUARE": uw.SQUARE, "SIGN": uw.SIGN, "LOGICAL_NOT": uw.NOT}

INTEGER_FUNCTIONS: Mapping[tuple[str, str], Callable[[Builder, Op], None]] = {
    ("LOGISTIC", "int8"): logistic,
    ("LOGISTIC", "uint8"): logistic,
    ("LOGISTIC", "int16"): wide_curve(curves.logistic_int16),
    ("TANH", "int8"): tanh,
    ("TANH", "uint8"): tanh,
    ("TANH", "int16"): wide_curve(curves.tanh_int16),
    ("HARD_SWISH", "int8"): hard_swish,
    ("HARD_SWISH", "uint8"): hard_swish,
    ("ABS", "int8"): absolute,
    ("RSQRT", "int8"): rsqrt,
    ("ABS", "int16"): wide_absolute,
    ("RSQRT", "int16"): populated(rsqrt_of),
    ("LOG", "int8"): log_,
    ("LOG", "int16"): log_,
    ("EXP", "int8"): exp_,
    ("EXP", "int16"): exp_,
    ("ELU", "int8"): populated(lambda x, b, op: np.where(x > 0, x, np.expm1(x.astype(np.float64)))),
    ("SQRT", "int8"): populated(lambda x, b, op: np.sqrt(np.maximum(x, f32(0))), cut=True),
    ("ABS", "int32"): plain,
    ("NEG", "int32"): plain,
    ("NEG", "int64"): plain,
    ("SIGN", "int32"): plain,
    ("LOGICAL_NOT", "bool"): plain,
}


def gelu(b: Builder, op: Op) -> None:
    """x · Φ(x), or its approximation by tanh."""
    x = b.tensor(op, 0)
    y = b.expect_shape(op, x.shape)
    approximate = op.options is not None and bool(op.options.approximate)
    if x.dtype != y.dtype or x.dtype not in ("float32", "int8", "uint8", "int16"):
        raise b.unsupported(op, f"from {x.dtype} to {y.dtype}")
    if x.dtype != "float32":
        populated(gelu_of)(b, op)
        return
    emit_float(b, op, uw.GELU_TANH if approximate else uw.GELU)


def cast(b: Builder, op: Op) -> None:
    """CAST: between numbers, without scales; to bool, whether they are not 0; of complex numbers the real part."""
    x = b.tensor(op, 0)
    y = b.expect_shape(op, x.shape)
    if "complex64" in (x.dtype, y.dtype) and x.dtype != y.dtype:
        from edgeq.plan.lower.host import complex_cast  # few models need it

        complex_cast(b, op)
        return
    if x.dtype not in KINDS or y.dtype not in KINDS:
        raise b.unsupported(op, f"from {x.dtype} to {y.dtype}")
    if x.dtype == y.dtype:
        b.alias(op)
        return
    words: Words = {uw.FROM: KINDS[x.dtype], uw.TO: KINDS[y.dtype], uw.MODE: int(y.dtype == "bool")}
    if y.dtype in WHOLE:
        info = np.iinfo(y.dtype)
        words |= {uw.LO: int(info.min), uw.HI: int(info.max)}
    b.emit("cast", x.size, {**words, uw.X: b.read(op, 0), uw.Y: b.write(op)})


LOWERINGS = {
    **dict.fromkeys(CLAMPS, relu),
    "RELU_0_TO_1": relu_0_to_1,
    "LEAKY_RELU": leaky_relu,
    **dict.fromkeys(FUNCTIONS, function),
    "LOGICAL_NOT": function,
    "GELU": gelu,
    "CAST": cast,
}
