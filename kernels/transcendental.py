"""exp, logistic, tanh and other curves without a maths library: the machine must link against nothing.

exp: x = n·ln2 + r with |r| ≤ ln2/2, a degree-6 polynomial for e^r (Cephes expf's coefficients, error below 2 ulp), 2^n by
building the exponent. tests hold it against NumPy.
"""

from __future__ import annotations

from math import factorial

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from .memory import bits_of_f64, f64_of_bits, float_of_bits

# Taylor's coefficients, highest first; those of atan(√t)/√t over t = (u + 1)/2 interpolate at Chebyshev's points.
_EXP = tuple(1.0 / factorial(n) for n in range(13, -1, -1))
_LOG = tuple(1.0 / (2 * n + 1) for n in range(11, -1, -1))
_SIN = tuple((-1.0) ** n / factorial(2 * n + 1) for n in range(7, -1, -1))
_COS = tuple((-1.0) ** n / factorial(2 * n) for n in range(8, -1, -1))
_ATAN = (
    1.0328195065250674e-06, -3.4035786649672612e-06, 8.488347966497468e-06, -2.8816726062979636e-05,
    0.00010239166913547396, -0.00036135581510973486, 0.0013155651370015552, -0.005030796095558333,
    0.020851852252772626, -0.10187654574465363, 0.8704197513671037,
)  # fmt: skip


@intrinsic
def root(typingctx, x):
    """The square root of a float32, as the processor's instruction computes it; NaN below 0."""

    def codegen(context, builder, signature, args):
        f = builder.module.declare_intrinsic("llvm.sqrt", [ir.FloatType()])
        return builder.call(f, args)

    return types.float32(types.float32), codegen


@njit(error_model="numpy", inline="always")
def exp_f32(x):
    """e^x; 0 below −87.3, saturating at e^88."""
    x = min(max(x, np.float32(-87.33)), np.float32(88.0))
    n = np.rint(np.float32(x * np.float32(1.44269504088896341)))
    r = np.float32(np.float32(x - n * np.float32(0.693359375)) - n * np.float32(-2.12194440e-4))
    p = np.float32(1.9875691500e-4)
    p = np.float32(p * r + np.float32(1.3981999507e-3))
    p = np.float32(p * r + np.float32(8.3334519073e-3))
    p = np.float32(p * r + np.float32(4.1665795894e-2))
    p = np.float32(p * r + np.float32(1.6666665459e-1))
    p = np.float32(p * r + np.float32(5.0000001201e-1))
    y = np.float32(np.float32(p * np.float32(r * r)) + np.float32(r + np.float32(1)))
    return np.float32(y * float_of_bits((np.int64(n) + 127) << 23))


@njit(error_model="numpy", inline="always")
def logistic_f32(x):
    """1 / (1 + e^−x), computed on the side where nothing cancels."""
    e = exp_f32(-abs(x))
    q = np.float32(np.float32(1) / np.float32(np.float32(1) + e))
    return q if x >= 0 else np.float32(e * q)


@njit(error_model="numpy", inline="always")
def tanh_f32(x):
    """(1 − e^−2|x|) / (1 + e^−2|x|) with x's sign; a short series near 0, where the difference cancels."""
    a = abs(x)
    if a < np.float32(0.1):
        s = np.float32(x * x)
        return np.float32(x * (np.float32(1) + s * (np.float32(-0.333333333) + s * np.float32(0.133333333))))
    e = exp_f32(np.float32(np.float32(-2) * a))
    t = np.float32(np.float32(np.float32(1) - e) / np.float32(np.float32(1) + e))
    return t if x >= 0 else -t


# --- in float64, for what is rounded to float32 once -------------------------------------------------------------------------
#
# Errors are below 1e-10 of the value (atan, sin, cos: absolute), so that a float32 result is within an ulp of the true one.


@njit(error_model="numpy")
def _horner(u, coefficients):
    """The polynomial with these coefficients, highest first."""
    total = np.float64(0)
    for c in coefficients:
        total = total * u + c
    return total


@njit(error_model="numpy")
def _power_of_two(n):
    """2^n for |n| < 1023."""
    return f64_of_bits((np.int64(n) + 1023) << 52)


@njit(error_model="numpy")
def exp_f64(x):
    """e^x; 0 below −700, infinite from 700 on, which float32 cannot tell from the truth."""
    if not (abs(x) < 700.0):
        return x if x != x else np.inf if x > 0 else 0.0
    n = np.rint(x * 1.4426950408889634)
    r = (x - n * 6.93147180369123816490e-01) - n * 1.90821492927058770002e-10
    return _horner(r, _EXP) * _power_of_two(n)


@njit(error_model="numpy")
def log_f64(x):
    """The natural logarithm of what float32 can hold; −∞ at 0, NaN below."""
    if not (x > 0.0):
        return -np.inf if x == 0.0 else np.nan
    if x == np.inf:
        return x
    bits = bits_of_f64(x)
    e = (bits >> 52) - 1023
    m = f64_of_bits((bits & 0xFFFFFFFFFFFFF) | (np.int64(1023) << 52))
    if m > 1.4142135623730951:
        m, e = m * 0.5, e + 1
    s = (m - 1.0) / (m + 1.0)
    return np.float64(e) * 0.6931471805599453 + 2.0 * s * _horner(s * s, _LOG)


@njit(error_model="numpy")
def sin_f64(x, turn):
    """sin(x + turn·π/2) for |x| < 1e6; beyond, the argument's reduction loses precision. turn 1 is cos."""
    if not (abs(x) < np.inf):
        return np.nan
    k = np.rint(x * 0.6366197723675814)
    r = ((x - k * 1.57079632673412561417e00) - k * 6.07710050630396597660e-11) - k * 2.02226624871116645580e-21
    s = r * r
    quadrant = (np.int64(k - np.floor(k * 0.25) * 4.0) + turn) & 3
    v = _horner(s, _COS) if quadrant & 1 else r * _horner(s, _SIN)
    return -v if quadrant & 2 else v


@njit(error_model="numpy")
def atan2_f64(y, x):
    """The angle of (x, y), in (−π, π]; signed zeros as in C."""
    if x != x or y != y:
        return np.nan
    a, b = abs(x), abs(y)
    if a == np.inf and b == np.inf:
        angle = 0.7853981633974483
    else:
        z = 0.0 if b == 0.0 else b / a if b <= a else a / b
        angle = z * _horner(2.0 * z * z - 1.0, _ATAN)
        angle = angle if b <= a else 1.5707963267948966 - angle
    angle = 3.141592653589793 - angle if np.copysign(1.0, x) < 0 else angle
    return np.copysign(angle, y)


@njit(error_model="numpy")
def power_f64(x, y):
    """x^y with C's special cases."""
    if y == 0.0 or x == 1.0:
        return 1.0
    if x != x or y != y:
        return np.nan
    whole = y == np.floor(y)
    odd = whole and np.floor(y * 0.5) * 2.0 != y
    if abs(y) == np.inf:
        return 1.0 if abs(x) == 1.0 else np.inf if (abs(x) > 1.0) == (y > 0.0) else 0.0
    if x == 0.0 or abs(x) == np.inf:
        v = np.inf if (x == 0.0) == (y < 0.0) else 0.0
    elif x < 0.0 and not whole:
        return np.nan
    else:
        v = exp_f64(y * log_f64(abs(x)))
    return -v if odd and np.copysign(1.0, x) < 0 else v


@njit(error_model="numpy")
def remainder_f64(x, y):
    """C's fmod of two float32 values: exact, with x's sign."""
    r, d = abs(x), abs(y)
    if not (r < np.inf) or not (d > 0.0):
        return np.nan
    while r >= d:
        t = d
        while t * 268435456.0 <= r:
            t *= 268435456.0
        r -= t * np.floor(r / t)
        r = r + t if r < 0.0 else r
    return np.copysign(r, x)
