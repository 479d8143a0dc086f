"""exp, log, tanh and other curves of float32 vectors, and functions of an instruction or two, element by element.

exp: x = n·ln2 + r with |r| ≤ ln2/2, Cephes expf's polynomial for e^r, 2^n by building the exponent; log, sin: Cephes' logf and
sinf. Nothing is fused, so that every processor gives the same floats. Infinities, zeros and what is not a number come out as
from C's functions. tests/test_curves.py holds all of them against float64 over all exponents, and says by how much they are off.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from .memory import f32
from .simd import (
    L,
    add_f32,
    as_i32,
    div_f32,
    first_lanes,
    load_f32,
    max_f32,
    min_f32,
    mul_f32,
    prelu_f32,
    shift_right_i32,
    splat_f32,
    splat_i32,
    store,
    sub_f32,
    sub_i32,
    to_f32,
    where_equal,
    where_less,
)
from .transcendental import sin_f64
from .vec import I32, VF32, call, const, llvm

# erf(√t)/√t over t = 8(u + 1), |u| ≤ 1, highest power first: interpolated at Chebyshev's points.
_ERF = (
    -0.00137281511, 0.0030023111, -0.00107694208, 0.00170060073, -0.0100859068, 0.0171884838, -0.0216625314,
    0.0316793434, -0.0460143201, 0.0602473989, -0.0746875331, 0.0901631191, -0.107713364, 0.13167733, -0.176576167,
    0.353530973,
)  # fmt: skip
_EXP = (1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1)
_LOG = (
    7.0376836292e-2, -1.1514610310e-1, 1.1676998740e-1, -1.2420140846e-1, 1.4249322787e-1, -1.6668057665e-1,
    2.0000714765e-1, -2.4999993993e-1, 3.3333331174e-1,
)  # fmt: skip
_SIN = (-1.9515295891e-4, 8.3321608736e-3, -1.6666654611e-1)
_COS = (2.443315711809948e-5, -1.388731625493765e-3, 4.166664568298827e-2)
SHIFTER = 12582912.0
"""1.5 · 2^23: added to a small number, its bits are those of a whole number behind 0x4B400000."""


@intrinsic
def exponent(typingctx, n):
    """2^n as float32 of whole numbers −127 < n < 128."""

    def codegen(context, builder, signature, args):
        return builder.bitcast(
            builder.shl(builder.add(args[0], const("i32", L, 127)), const("i32", L, 23)), llvm("f32", L)
        )

    return VF32(n), codegen


@intrinsic
def root_f32(typingctx, v):
    """Lane-wise square root; not a number below 0."""
    return VF32(v), lambda context, builder, signature, args: call(builder, f"llvm.sqrt.v{L}f32", args[0].type, args[0])


def _masked(keep: int, signs: int) -> Any:
    @intrinsic
    def masked(typingctx, v, other):
        """The bits `keep` of v, and the bits `signs` of the other."""

        def codegen(context, builder, signature, args):
            a, b = (builder.bitcast(v, llvm("i32", L)) for v in args)
            kept = builder.and_(a, const("i32", L, keep))
            return builder.bitcast(builder.or_(kept, builder.and_(b, const("i32", L, signs))), llvm("f32", L))

        return VF32(v, other), codegen

    return masked


signed = _masked(0x7FFFFFFF, 0x80000000)
"""|v| with the other's sign."""
fraction = _masked(0x7FFFFF, 0x7F800000)
"""v's bits behind the exponent, with the other's exponent."""


def _across(join: Callable[[Any, Any, Any], Any]) -> Any:
    @intrinsic
    def across(typingctx, v):
        """All lanes joined to one number, halves first."""

        def codegen(context, builder, signature, args):
            v, n = args[0], L
            while n > 1:
                n //= 2
                halves = (ir.Constant(ir.VectorType(I32, n), list(range(k, k + n))) for k in (0, n))
                v = join(builder, *(builder.shuffle_vector(v, v, half) for half in halves))
            return builder.extract_element(v, ir.Constant(I32, 0))

        return types.float32(v), codegen

    return across


sum_lanes = _across(lambda builder, a, b: builder.fadd(a, b))
most_lanes = _across(lambda builder, a, b: builder.select(builder.fcmp_ordered(">", b, a), b, a))


@njit(error_model="numpy", inline="always")
def constant(x):
    """A number in every lane."""
    return splat_f32(np.float32(x))


@njit(error_model="numpy", inline="always")
def negated(v):
    """−v."""
    return sub_f32(constant(-0.0), v)


@njit(error_model="numpy", inline="always")
def magnitude(v):
    """|v|."""
    return signed(v, constant(0.0))


def _polynomial(coefficients: Sequence[float]) -> Any:
    @intrinsic
    def polynomial(typingctx, v):
        """With these coefficients, highest power first."""

        def codegen(context, builder, signature, args):
            total = const("f32", L, coefficients[0])
            for c in coefficients[1:]:
                total = builder.fadd(builder.fmul(total, args[0]), const("f32", L, c))
            return total

        return VF32(v), codegen

    return polynomial


exp_rest, log_rest, erf_rest = _polynomial(_EXP), _polynomial(_LOG), _polynomial(_ERF)
sin_rest, cos_rest = _polynomial(_SIN), _polynomial(_COS)


@njit(error_model="numpy", inline="always")
def halved(x):
    """n and r of x = n·ln2 + r, n whole, for |x| below 2^20: n as int32, e^r − 1 in place of r."""
    t = add_f32(mul_f32(x, constant(1.44269504088896341)), constant(SHIFTER))
    n = sub_f32(t, constant(SHIFTER))
    r = sub_f32(sub_f32(x, mul_f32(n, constant(0.693359375))), mul_f32(n, constant(-2.12194440e-4)))
    rest = add_f32(mul_f32(exp_rest(r), mul_f32(r, r)), r)
    return sub_i32(as_i32(t), splat_i32(np.int32(0x4B400000))), rest


@njit(error_model="numpy", inline="always")
def exp_below(x):
    """e^x for x ≤ 88; what is below −87.3 counts as that."""
    n, rest = halved(max_f32(x, constant(-87.33)))
    return mul_f32(add_f32(rest, constant(1)), exponent(n))


@njit(error_model="numpy", inline="always")
def exp(x):
    """e^x, over and under the range of float32 too."""
    n, rest = halved(min_f32(max_f32(x, constant(-104)), constant(89)))
    half = shift_right_i32(n, np.int32(1))
    return mul_f32(mul_f32(add_f32(rest, constant(1)), exponent(half)), exponent(sub_i32(n, half)))


@njit(error_model="numpy", inline="always")
def exp_less_one(x):
    """e^x − 1 for x ≤ 0, near 0 as well."""
    n, rest = halved(max_f32(x, constant(-20)))
    power = exponent(n)
    return add_f32(mul_f32(rest, power), sub_f32(power, constant(1)))


@njit(error_model="numpy", inline="always")
def log(x):
    """The natural logarithm: −∞ at 0, not a number below."""
    small = constant(1.17549435e-38)
    v = where_less(x, small, mul_f32(x, constant(8388608.0)), x)
    k = sub_f32(to_f32(shift_right_i32(as_i32(v), np.int32(23))), where_less(x, small, constant(150), constant(127)))
    m = fraction(v, constant(1))
    upper = constant(1.41421356)
    k = where_less(upper, m, add_f32(k, constant(1)), k)
    f = sub_f32(where_less(upper, m, mul_f32(m, constant(0.5)), m), constant(1))
    z = mul_f32(f, f)
    y = add_f32(mul_f32(mul_f32(log_rest(f), f), z), mul_f32(k, constant(-2.12194440e-4)))
    y = add_f32(add_f32(f, sub_f32(y, mul_f32(z, constant(0.5)))), mul_f32(k, constant(0.693359375)))
    y = where_less(x, constant(np.inf), y, x)
    return where_less(constant(0), x, y, where_equal(x, constant(0), constant(-np.inf), constant(np.nan)))


@njit(error_model="numpy", inline="always")
def logistic(x):
    """1 / (1 + e^−x), computed on the side where nothing cancels."""
    e = exp_below(negated(magnitude(x)))
    q = div_f32(constant(1), add_f32(constant(1), e))
    return where_less(x, constant(0), mul_f32(e, q), q)


@njit(error_model="numpy", inline="always")
def tanh(x):
    """(1 − e^−2|x|) / (1 + e^−2|x|) with x's sign."""
    e = exp_less_one(mul_f32(magnitude(x), constant(-2)))
    return signed(div_f32(e, add_f32(e, constant(2))), x)


@njit(error_model="numpy", inline="always")
def elu(x):
    """x, below 0 e^x − 1."""
    return where_less(x, constant(0), exp_less_one(x), x)


@njit(error_model="numpy", inline="always")
def half_of(x, share):
    """x/2 · (1 + share)."""
    return mul_f32(mul_f32(x, constant(0.5)), add_f32(constant(1), share))


@njit(error_model="numpy", inline="always")
def gelu(x):
    """x · Φ(x)."""
    z = mul_f32(x, constant(0.7071067811865476))
    u = sub_f32(mul_f32(mul_f32(z, z), constant(0.125)), constant(1))
    inside = where_less(magnitude(z), constant(4), mul_f32(z, erf_rest(u)), signed(constant(1), z))
    return half_of(x, where_equal(x, x, inside, x))


@njit(error_model="numpy", inline="always")
def gelu_tanh(x):
    """GELU's approximation by a tanh."""
    cubed = mul_f32(mul_f32(mul_f32(x, x), x), constant(0.044715))
    return half_of(x, tanh(mul_f32(add_f32(x, cubed), constant(0.7978845608028654))))


@njit(error_model="numpy", inline="always")
def hard_swish(x):
    """x · min(max(x + 3, 0), 6) / 6."""
    v = min_f32(max_f32(add_f32(x, constant(3)), constant(0)), constant(6))
    return mul_f32(mul_f32(x, v), constant(0.16666667))


@njit(error_model="numpy", inline="always")
def nearest(x):
    """The nearest whole number, ties to even."""
    big = constant(8388608.0)
    whole = signed(sub_f32(add_f32(magnitude(x), big), big), x)
    return where_less(magnitude(x), big, whole, x)


@njit(error_model="numpy", inline="always")
def floor(x):
    """The greatest whole number that is not above x."""
    whole = nearest(x)
    return signed(sub_f32(whole, where_less(x, whole, constant(1), constant(0))), x)


@njit(error_model="numpy", inline="always")
def ceil(x):
    """The least whole number that is not below x."""
    return negated(floor(negated(x)))


@njit(error_model="numpy", inline="always")
def sign(x):
    """−1, 0 or 1."""
    one = where_less(constant(0), x, constant(1), x)
    return where_less(x, constant(0), constant(-1), one)


@njit(error_model="numpy", inline="always")
def sine(x, turn):
    """sin(x + turn·π/2) for |x| < 8192; turn 1 is the cosine."""
    n = sub_f32(add_f32(mul_f32(x, constant(0.6366197723675814)), constant(SHIFTER)), constant(SHIFTER))
    r = sub_f32(sub_f32(x, mul_f32(n, constant(1.5703125))), mul_f32(n, constant(4.837512969970703125e-4)))
    r = sub_f32(r, mul_f32(n, constant(7.5497899548918821e-8)))
    z = mul_f32(r, r)
    across = add_f32(mul_f32(mul_f32(sin_rest(z), z), r), r)
    along = add_f32(sub_f32(mul_f32(mul_f32(cos_rest(z), z), z), mul_f32(z, constant(0.5))), constant(1))
    q = add_f32(n, splat_f32(turn))
    q = sub_f32(q, mul_f32(floor(mul_f32(q, constant(0.25))), constant(4)))
    v = where_equal(magnitude(sub_f32(q, constant(2))), constant(1), along, across)
    return where_less(q, constant(2), v, negated(v))


@njit(error_model="numpy", inline="always")
def square(x):
    """x²."""
    return mul_f32(x, x)


@njit(error_model="numpy", inline="always")
def inverse_root(x):
    """1 / √x."""
    return div_f32(constant(1), root_f32(x))


def over(curve: Any) -> Any:
    """What applies a curve to n floats at address x, and writes them to address y, another; the last vector may overlap the one
    before it, and where there are fewer than L floats L are written."""

    @njit(error_model="numpy")
    def run(x, y, n):
        last = max(n - L, np.int64(0))
        for i in range(0, n, L):
            at = 4 * min(i, last)
            store(y + at, curve(load_f32(x + at)))

    return run


@njit(error_model="numpy")
def sines(x, y, n, turn):
    """sin (turn 0) and cos (1), as `over` does it; arguments too large for float32 one by one in float64."""
    last = max(n - L, np.int64(0))
    for i in range(0, n, L):
        at = min(i, last)
        v = load_f32(x + 4 * at)
        if most_lanes(magnitude(first_lanes(v, n - at, constant(0)))) < np.float32(8192):
            store(y + 4 * at, sine(v, np.float32(turn)))
        else:
            for k in range(at, min(at + L, n)):
                f32(y)[k] = np.float32(sin_f64(np.float64(f32(x)[k]), turn))


@njit(error_model="numpy")
def clamped(x, y, n, low, high):
    """RELU and its kind, as `over` does it."""
    least, most, last = splat_f32(low), splat_f32(high), max(n - L, np.int64(0))
    for i in range(0, n, L):
        at = 4 * min(i, last)
        store(y + at, min_f32(max_f32(load_f32(x + at), least), most))


@njit(error_model="numpy")
def leaky(x, y, n, alpha):
    """LEAKY_RELU, as `over` does it."""
    slope, last = splat_f32(alpha), max(n - L, np.int64(0))
    for i in range(0, n, L):
        at = 4 * min(i, last)
        store(y + at, prelu_f32(load_f32(x + at), slope))
