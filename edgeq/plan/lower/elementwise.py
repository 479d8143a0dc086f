"""Two arrays in, one out, with broadcasting: arithmetic, comparisons, bits; SELECT chooses between them."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from edgeq.errors import CheckError
from edgeq.graph import Array, Op, Tensor
from edgeq.kernels.words import elementwise as ew
from edgeq.kernels.words import move as mw
from edgeq.kernels.words.instruction import DOUBLE, FLOAT, POWER_OF_TWO, SINGLE
from edgeq.plan.builder import Builder, itemsize, stored
from edgeq.plan.delegation import takes
from edgeq.plan.frames import framed
from edgeq.plan.multiplier import f32, float_bounds, quantize_multiplier
from edgeq.plan.tables import multiply_double, pot_shifts, quotient
from edgeq.plan.types import KINDS, Ref, Words
from edgeq.plan.window import broadcasted, same_type
from edgeq.records import dataclass, replace

LONG = 512
"""Elements that a row has at least if it can be made so."""

VECTOR = 16
"""Elements that LiteRT's int16 ADD takes at a time; what is left over is rounded otherwise (docs/exactness.md)."""

OPERATIONS = {
    "ADD": ew.SUM,
    "SUB": ew.DIFFERENCE,
    "MUL": ew.PRODUCT,
    "DIV": ew.QUOTIENT,
    "MAXIMUM": ew.MAXIMUM,
    "MINIMUM": ew.MINIMUM,
    "FLOOR_DIV": ew.FLOOR_DIV,
    "FLOOR_MOD": ew.FLOOR_MOD,
    "POW": ew.POWER,
    "SQUARED_DIFFERENCE": ew.SQUARED_DIFFERENCE,
    "ATAN2": ew.ATAN2,
    "PRELU": ew.PRELU,
    "BITWISE_XOR": ew.XOR,
    "RIGHT_SHIFT": ew.SHIFT_RIGHT,
    "LOGICAL_AND": ew.AND,
    "LOGICAL_OR": ew.OR,
}

FLOATS = {
    "ADD", "SUB", "MUL", "DIV", "MAXIMUM", "MINIMUM", "FLOOR_DIV", "FLOOR_MOD", "POW", "SQUARED_DIFFERENCE", "ATAN2", "PRELU",
}  # fmt: skip
INTEGERS = {
    "int32": {"ADD", "SUB", "MUL", "DIV", "MAXIMUM", "MINIMUM", "FLOOR_DIV", "FLOOR_MOD", "POW", "SQUARED_DIFFERENCE",
              "BITWISE_XOR", "RIGHT_SHIFT"},
    "int64": {"ADD", "SUB", "MUL", "MAXIMUM", "MINIMUM", "FLOOR_MOD", "FLOOR_DIV"},
    "int16": {"MAXIMUM", "MINIMUM", "BITWISE_XOR", "RIGHT_SHIFT", "FLOOR_DIV", "FLOOR_MOD"},
    "int8": {"MAXIMUM", "MINIMUM", "BITWISE_XOR", "RIGHT_SHIFT", "FLOOR_DIV", "FLOOR_MOD"},
    "uint8": {"MAXIMUM", "MINIMUM", "BITWISE_XOR", "RIGHT_SHIFT"},
    "uint16": {"BITWISE_XOR", "RIGHT_SHIFT"},
    "uint32": {"BITWISE_XOR", "RIGHT_SHIFT", "MUL"},
    "bool": {"LOGICAL_AND", "LOGICAL_OR"},
}  # fmt: skip
"""Types whose numbers are taken as they are, and what is computed with them."""

COMPARISONS = {
    "EQUAL": (ew.EQUAL, False), "NOT_EQUAL": (ew.NOT_EQUAL, False), "LESS": (ew.LESS, False), "GREATER": (ew.LESS, True),
    "LESS_EQUAL": (ew.LESS_EQUAL, False), "GREATER_EQUAL": (ew.LESS_EQUAL, True),
}  # fmt: skip
"""The relation, and whether the operands change places."""

RELATIONS: dict[int, Callable[[Array, Array], Array]] = {
    ew.EQUAL: np.equal,
    ew.NOT_EQUAL: np.not_equal,
    ew.LESS: np.less,
    ew.LESS_EQUAL: np.less_equal,
}


@dataclass(frozen=True)
class Dim:
    """Output extent and the element strides of both inputs (0 where an input is repeated)."""

    size: int
    a: int
    b: int


def broadcast(b: Builder, op: Op) -> list[Dim]:
    """The output's dimensions with those merged that lie together in both inputs; checks the output's shape."""
    shapes = [b.tensor(op, 0).shape, b.tensor(op, 1).shape]
    try:
        out = np.broadcast_shapes(*shapes)
    except ValueError:
        raise CheckError(f"{b.where(op)}: shapes {list(shapes[0])} and {list(shapes[1])} do not broadcast") from None
    b.expect_shape(op, tuple(out))
    strides = []
    for shape in shapes:
        padded = (1,) * (len(out) - len(shape)) + shape
        step, row = 1, []
        for size in reversed(padded):
            row.append(0 if size == 1 else step)
            step *= size
        strides.append(row[::-1])
    dims: list[Dim] = []
    for size, sa, sb in zip(out, *strides, strict=True):
        if size == 1:
            continue
        if dims and dims[-1].a == sa * size and dims[-1].b == sb * size:
            dims[-1] = Dim(dims[-1].size * size, sa, sb)
        else:
            dims.append(Dim(size, sa, sb))
    return dims or [Dim(1, 0, 0)]


def emit(b: Builder, op: Op, kernel: str, words: Words) -> None:
    """The kernel over the whole output: flat if one run covers it, else rows, with leading dimensions unrolled."""
    dims = broadcast(b, op)
    if any(i in b.framed for i in op.inputs) or op.outputs[0] in b.frames:
        emit_rows(b, op, kernel, words)
        return
    a, c, y = b.read(op, 0), b.read(op, 1), b.write(op)
    size_a, size_y = itemsize(b.tensor(op, 0)), itemsize(b.output(op))
    short = len(dims) == 2 and dims[1].a == dims[1].b == 1 and 0 < dims[1].size < LONG
    if short and dims[0].size and 0 in (dims[0].a, dims[0].b):
        emit_long(b, op, kernel, words, dims, a, c, y)
        return
    if len(dims) == 1:
        flat: Words = {ew.FLAT: 1, ew.A_STEP: dims[0].a, ew.B_STEP: dims[0].b, ew.A: a, ew.B: c, ew.Y: y}
        b.emit(kernel, dims[0].size, {**words, **flat})
        return
    inner, outer = dims[-1], dims[-4:-1]
    outer = [Dim(1, 0, 0)] * (3 - len(outer)) + outer
    head = dims[:-4]
    units = math.prod(d.size for d in outer)
    rows: Words = {
        ew.FLAT: 0, ew.INNER: inner.size, ew.A_STEP: inner.a, ew.B_STEP: inner.b, ew.D1: outer[1].size, ew.D2: outer[2].size,
        ew.A0: outer[0].a, ew.A1: outer[1].a, ew.A2: outer[2].a, ew.B0: outer[0].b, ew.B1: outer[1].b, ew.B2: outer[2].b,
    }  # fmt: skip
    for k, index in enumerate(np.ndindex(*(d.size for d in head))):
        at_a = sum(i * d.a for i, d in zip(index, head, strict=True)) * size_a
        at_b = sum(i * d.b for i, d in zip(index, head, strict=True)) * size_a
        at_y = k * units * inner.size * size_y
        b.emit(kernel, units, {**words, **rows, ew.A: a.at(at_a), ew.B: c.at(at_b), ew.Y: y.at(at_y)})


def emit_long(b: Builder, op: Op, kernel: str, words: Words, dims: list[Dim], a: Ref, c: Ref, y: Ref) -> None:
    """A short row joined to each of many: it is written out until it is long, since rows cost some ns each."""
    rows, inner, k = dims[0].size, dims[1].size, int(dims[0].b == 0)
    short = b.known(op.inputs[k])
    size, size_y = itemsize(b.tensor(op, 0)), itemsize(b.output(op))
    times = min(-(-LONG // inner), rows)
    if short is not None:
        repeated = b.constant(np.tile(stored(short.reshape(-1)), times))
    else:
        repeated = broadcasted(b, (a, c)[k], (inner,), (times, inner), size)
    a, c = (a, repeated) if k else (repeated, c)
    whole, rest = divmod(rows, times)
    run, done = times * inner, whole * times * inner
    long: Words = {
        ew.FLAT: 0, ew.INNER: run, ew.A_STEP: 1, ew.B_STEP: 1, ew.D1: 1, ew.D2: whole, ew.A2: run * k, ew.B2: run * (1 - k),
    }  # fmt: skip
    b.emit(kernel, whole, {**words, **long, ew.A: a, ew.B: c, ew.Y: y})
    if rest:
        flat: Words = {ew.FLAT: 1, ew.A_STEP: 1, ew.B_STEP: 1}
        b.emit(kernel, rest * inner, {**words, **flat, ew.A: a.at(done * size * k), ew.B: c.at(done * size * (1 - k)),
                                      ew.Y: y.at(done * size_y)})  # fmt: skip


def emit_rows(b: Builder, op: Op, kernel: str, words: Words) -> None:
    """The kernel row by row over images of one shape, some of which lie in frames (edgeq/plan/frames.py)."""
    shape = b.output(op).shape
    if any(b.tensor(op, k).shape != shape for k in (0, 1)):  # frames were chosen where all three are alike
        raise CheckError(f"{b.where(op)} joins shapes that are not the ones that the file states, {list(shape)}")
    _, h, w, c = shape
    a, z = b.read(op, 0), b.read(op, 1)
    y = framed(b, op) if op.outputs[0] in b.frames else b.write(op)
    step_a, step_z, step_y = (
        b.framed[i].pitch if i in b.framed else w * c for i in (op.inputs[0], op.inputs[1], op.outputs[0])
    )
    rows: Words = {
        ew.FLAT: 0, ew.INNER: w * c, ew.A_STEP: 1, ew.B_STEP: 1, ew.D1: 1, ew.D2: h, ew.A2: step_a, ew.B2: step_z,
        ew.Y_ROW: step_y, ew.A: a, ew.B: z, ew.Y: y,
    }  # fmt: skip
    b.emit(kernel, h, {**words, **rows})


def operands(b: Builder, op: Op) -> tuple[Tensor, Tensor, Tensor]:
    """Both inputs and the output, which must be of one type."""
    x, z, y = b.tensor(op, 0), b.tensor(op, 1), b.output(op)
    if not (x.dtype == z.dtype == y.dtype):
        raise CheckError(f"{b.where(op)} mixes {x.dtype}, {z.dtype} and {y.dtype}; one type is expected")
    return x, z, y


def binary(b: Builder, op: Op) -> None:
    """y = x0 ∘ x1."""
    x, z, y = operands(b, op)
    activation = op.options.values.get("fused_activation_function", 0) if op.options is not None else 0
    operation = OPERATIONS[op.code]
    if y.dtype == "float32" and op.code in FLOATS:
        low, high = float_bounds(activation)
        emit(b, op, "binary_f32", {ew.OPERATION: operation, ew.LO: float(low), ew.HI: float(high)})
        return
    if op.code in INTEGERS.get(y.dtype, ()):
        if activation:
            raise b.unsupported(op, f"with a fused activation on {y.dtype}")
        if op.code in ("MAXIMUM", "MINIMUM") and y.dtype in ("int8", "uint8", "int16"):
            same_type(b, op, x, y)
        limit = 8 * itemsize(y) - 1
        emit(b, op, "binary_int", {ew.OPERATION: operation, ew.KIND: KINDS[y.dtype], ew.MA: limit})
        return
    quantized = {"ADD": add, "SUB": add, "MUL": multiply, "SQUARED_DIFFERENCE": squared_difference, "PRELU": prelu,
                 "DIV": divide}.get(op.code)  # fmt: skip
    if quantized is None or y.dtype not in ("int8", "uint8", "int16"):
        raise b.unsupported(op, f"on {y.dtype}")
    low_q, high_q = b.bounds(y, activation)
    words: Words = {
        ew.LO: low_q, ew.HI: high_q, ew.ZERO_A: b.zero_point(x), ew.ZERO_B: b.zero_point(z), ew.ZERO_Y: b.zero_point(y),
        ew.OPERATION: operation,
    }  # fmt: skip
    quantized(b, op, x, z, y, words)


# --- quantized --------------------------------------------------------------------------------------------------------------


def multiply(b: Builder, op: Op, x: Tensor, z: Tensor, y: Tensor, words: Words) -> None:
    """mul.cc takes the real multiplier in float32, unlike every other operation."""
    scale = f32(f32(b.scale(x) * b.scale(z)) / b.scale(y))
    if takes(b, op):
        emit(b, op, "mul_u8", {**words, ew.MODE: FLOAT, ew.MY: float(scale)})
        return
    q, shift = quantize_multiplier(float(scale))
    emit(b, op, "binary_s16" if y.dtype == "int16" else "mul_u8", {**words, ew.MODE: DOUBLE, ew.MY: q, ew.SY: shift})


def add(b: Builder, op: Op, x: Tensor, z: Tensor, y: Tensor, words: Words) -> None:
    """ADD and SUB in the way that the runtimes choose."""
    pot = op.options is not None and bool(op.options.values.get("pot_scale_int16", False))
    shifts = pot_shifts(float(b.scale(x)), float(b.scale(z)), float(b.scale(y))) if y.dtype == "int16" and pot else None
    if takes(b, op):
        add_once(b, op, x, z, y, words)
    elif shifts is not None:
        add_shifted(b, op, shifts, words)
    else:
        add_double(b, op, x, z, y, words)


def add_shifted(b: Builder, op: Op, shifts: tuple[int, int], words: Words) -> None:
    """reference_ops::Add on int16 whose scales are powers of two: one input is shifted right, rounding."""
    if 0 not in shifts or max(shifts) > 0:
        raise b.unsupported(op, f"on int16 with inputs of 2^{shifts[0]} and 2^{shifts[1]} times the output's scale")
    sign = -1 if op.code == "SUB" else 1
    emit(b, op, "binary_s16", {**words, ew.MODE: POWER_OF_TWO, ew.SA: -shifts[0], ew.SB: -shifts[1], ew.MB: sign})


def add_double(b: Builder, op: Op, x: Tensor, z: Tensor, y: Tensor, words: Words) -> None:
    """add.cc and sub.cc: both inputs to twice the larger scale over 2^LEFT, added, brought back."""
    left = 15 if y.dtype == "int16" else 20
    s1, s2, s_out = float(b.scale(x)), float(b.scale(z)), float(b.scale(y))
    twice = 2 * max(s1, s2)
    (ma, sa), (mb, sb) = quantize_multiplier(s1 / twice), quantize_multiplier(s2 / twice)
    my, sy = quantize_multiplier(twice / ((1 << left) * s_out))
    words |= {
        ew.MODE: DOUBLE, ew.LEFT: left, ew.MA: ma, ew.SA: sa, ew.MB: -mb if op.code == "SUB" else mb, ew.SB: sb,
        ew.MY: my, ew.SY: sy,
    }  # fmt: skip
    if y.dtype != "int16":
        emit(b, op, "add_u8", words)
        return
    broadcast(b, op)
    y = b.output(op)
    vector = y.size // VECTOR * VECTOR
    if not (b.xnnpack and op.code == "ADD" and same_shape(x, z)) or vector == 0:
        emit(b, op, "binary_s16", words)
        return
    a, c, out = b.read(op, 0), b.read(op, 1), b.write(op)
    flat: Words = {**words, ew.FLAT: 1, ew.A_STEP: 1, ew.B_STEP: 1}
    b.emit("binary_s16", vector, {**flat, ew.MODE: SINGLE, ew.A: a, ew.B: c, ew.Y: out})
    rest = {ew.A: a.at(2 * vector), ew.B: c.at(2 * vector), ew.Y: out.at(2 * vector)}
    b.emit("binary_s16", y.size - vector, {**flat, **rest})


def same_shape(x: Tensor, z: Tensor) -> bool:
    """Whether nothing is broadcast: equal shapes but for leading ones."""
    rank = max(len(x.shape), len(z.shape))
    return (1,) * (rank - len(x.shape)) + x.shape == (1,) * (rank - len(z.shape)) + z.shape


def add_once(b: Builder, op: Op, x: Tensor, z: Tensor, y: Tensor, words: Words) -> None:
    """XNNPACK xnn_init_qs8_add_minmax_params: the two ratios as multipliers of about 20 bits, one rounding, half up."""
    ratio_a, ratio_b = float(f32(b.scale(x) / b.scale(y))), float(f32(b.scale(z) / b.scale(y)))
    largest = max(ratio_a, ratio_b)
    shift = 20 - (math.frexp(largest)[1] - 1)
    ma, mb = int(np.rint(ratio_a * 2.0**shift)), int(np.rint(ratio_b * 2.0**shift))
    words |= {ew.MODE: FLOAT, ew.MA: ma, ew.MB: -mb if op.code == "SUB" else mb, ew.SY: shift}
    emit(b, op, "add_u8", words)


def emit_pairs(b: Builder, op: Op, function: Callable[[Array, Array], Array]) -> None:
    """8 bits: function maps (256, 1) and (1, 256) int64 numbers less their zero points to (256, 256) codes of the arena."""
    x, z = b.tensor(op, 0), b.tensor(op, 1)
    codes = np.arange(256, dtype=np.int64)
    table = function(codes[:, None] - b.zero_point(x), codes[None, :] - b.zero_point(z))
    emit(b, op, "pair_u8", {ew.TABLE: b.constant(table.astype(np.uint8))})


def clamped(q: Array, words: Words) -> Array:
    """Numbers less the output's zero point as codes."""
    zero, low, high = (int(words[w]) for w in (ew.ZERO_Y, ew.LO, ew.HI))  # type: ignore[arg-type]
    return np.clip(q + zero, low, high)


def squared_difference(b: Builder, op: Op, x: Tensor, z: Tensor, y: Tensor, words: Words) -> None:
    """squared_difference.cc: both inputs to twice the larger scale over 2^7, the difference squared, brought back."""
    if y.dtype != "int8":
        raise b.unsupported(op, f"on {y.dtype}")
    s1, s2, s_out = float(b.scale(x)), float(b.scale(z)), float(b.scale(y))
    twice = 2 * max(s1, s2)

    def function(p: Array, q: Array) -> Array:
        d = multiply_double(p << 7, s1 / twice) - multiply_double(q << 7, s2 / twice)
        return clamped(multiply_double(d * d, twice * twice / ((1 << 14) * s_out)), words)

    emit_pairs(b, op, function)


def prelu(b: Builder, op: Op, x: Tensor, z: Tensor, y: Tensor, words: Words) -> None:
    """prelu.cc: x where x ≥ 0, x · alpha below, each with a multiplier of its own."""
    if y.dtype == "int16":
        raise b.unsupported(op, "on int16")
    up = float(f32(b.scale(x) / b.scale(y)))
    down = float(f32(f32(b.scale(x) * b.scale(z)) / b.scale(y)))

    def function(p: Array, q: Array) -> Array:
        return clamped(np.where(p >= 0, multiply_double(p, up) + 0 * q, multiply_double(p * q, down)), words)

    emit_pairs(b, op, function)


def divide(b: Builder, op: Op, x: Tensor, z: Tensor, y: Tensor, words: Words) -> None:
    """div.cc: a reciprocal in fixed point times the dividend with as many bits as it has room for. By 0: the largest quotient."""
    if y.dtype == "int16":
        raise b.unsupported(op, "on int16")
    real = float(f32(b.scale(x) / f32(b.scale(z) * b.scale(y))))

    def function(p: Array, q: Array) -> Array:
        return clamped(quotient(p, q, real), words)

    emit_pairs(b, op, function)


# --- comparisons ------------------------------------------------------------------------------------------------------------


def comparison(b: Builder, op: Op) -> None:
    """EQUAL and its kind, to bool; int8 and uint8 with scales are compared as real numbers, roughly, as comparisons.cc does."""
    x, z = b.tensor(op, 0), b.tensor(op, 1)
    if x.dtype != z.dtype or x.dtype not in (*KINDS, "bool") or b.output(op).dtype != "bool":
        raise b.unsupported(op, f"on {x.dtype} and {z.dtype}")
    relation, turned = COMPARISONS[op.code]
    if turned:
        op = replace(op, inputs=(op.inputs[1], op.inputs[0]))
        x, z = z, x
    if x.dtype in ("int8", "uint8") and x.quantization is not None and z.quantization is not None:
        s1, s2 = float(b.scale(x)), float(b.scale(z))
        emit_pairs(b, op, lambda p, q: RELATIONS[relation](multiply_double(p << 8, s1), multiply_double(q << 8, s2)))
        return
    emit(b, op, "compare", {ew.OPERATION: relation, ew.KIND: KINDS[x.dtype]})


def select(b: Builder, op: Op) -> None:
    """SELECT, SELECT_V2: where the condition holds input 1, else input 2."""
    c, x, z = b.tensor(op, 0), b.tensor(op, 1), b.tensor(op, 2)
    shape = c.shape
    if op.code == "SELECT" and c.shape != x.shape:
        if len(c.shape) > 1 or (c.shape and c.shape[0] not in (1, x.shape[0] if x.shape else 1)):
            raise CheckError(f"{b.where(op)}: a condition of {list(c.shape)} for {list(x.shape)}")
        shape = (*c.shape, *(1,) * (len(x.shape) - len(c.shape)))  # a condition for each row
    try:
        out = np.broadcast_shapes(shape, x.shape, z.shape)
    except ValueError:
        shapes = [list(t.shape) for t in (c, x, z)]
        raise CheckError(f"{b.where(op)}: shapes {shapes} do not broadcast") from None
    y = b.expect_shape(op, tuple(out))
    if c.dtype != "bool":
        raise CheckError(f"{b.where(op)}: the condition is {c.dtype}, bool is expected")
    same_type(b, op, x, y)
    same_type(b, op, z, y)
    size = itemsize(y)
    if size not in (1, 2, 4, 8):
        raise b.unsupported(op, f"on {y.dtype}")
    words: Words = {
        mw.C: broadcasted(b, b.read(op, 0), shape, out, 1), mw.A: broadcasted(b, b.read(op, 1), x.shape, out, size),
        mw.B: broadcasted(b, b.read(op, 2), z.shape, out, size), mw.SIZE: size,
    }  # fmt: skip
    b.emit("select", y.size, {**words, mw.Y: b.write(op)})


def add_n(b: Builder, op: Op) -> None:
    """ADD_N: float32 or int32, from the first to the last."""
    y = b.expect_shape(op, b.tensor(op, 0).shape)
    if y.dtype not in ("float32", "int32"):
        raise b.unsupported(op, f"on {y.dtype}")
    for k in range(len(op.inputs)):
        x = b.tensor(op, k)
        same_type(b, op, x, y)
        if x.shape != y.shape:
            raise CheckError(f"{b.where(op)}: input {list(x.shape)}, {list(y.shape)} is expected")
    kernel, total = "binary_f32" if y.dtype == "float32" else "binary_int", b.read(op, 0)
    words: Words = {ew.FLAT: 1, ew.A_STEP: 1, ew.B_STEP: 1, ew.OPERATION: ew.SUM}
    words |= {ew.LO: -math.inf, ew.HI: math.inf} if y.dtype == "float32" else {ew.KIND: KINDS["int32"]}
    for k in range(1, len(op.inputs)):
        target = b.write(op) if k == len(op.inputs) - 1 else b.block(y.size * 4)
        b.emit(kernel, y.size, {**words, ew.A: total, ew.B: b.read(op, k), ew.Y: target})
        total = target
    if len(op.inputs) == 1:
        b.view(op, 0, total)


LOWERINGS = {
    **dict.fromkeys(OPERATIONS, binary),
    **dict.fromkeys(COMPARISONS, comparison),
    "SELECT": select,
    "SELECT_V2": select,
    "ADD_N": add_n,
}
