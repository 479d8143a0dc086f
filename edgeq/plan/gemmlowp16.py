"""gemmlowp's logistic and tanh on int16: what LiteRT's builtin computes where the input's scale is 2^-12 (TANH: and 2^-11).

Q0.15 unless said otherwise; constants are gemmlowp's int32 ones, rounded. Written out in docs/exactness.md.
"""

from __future__ import annotations

import numpy as np

from edgeq.graph import Array
from edgeq.plan.tables import rounding_shift_right, saturated

ONE = 32767
FACTORS = ((-2, 1672461947), (-1, 1302514674), (0, 790015084), (1, 290630308), (2, 39332535), (3, 720401), (4, 242))
"""(k, exp(−2^k) in Q0.31)."""


def short(c: int) -> int:
    """An int32 constant as int16."""
    return (c + (1 << 15)) >> 16


def multiply(a: Array, b: Array | int) -> Array:
    """SaturatingRoundingDoublingHighMul on int16."""
    return (a * b + (1 << 14)) >> 15


def exp_of_negative(a: Array, integer_bits: int) -> Array:
    """exp(a) for a ≤ 0 with that many integer bits."""
    fraction_bits = 15 - integer_bits
    quarter = 1 << (fraction_bits - 2)
    low = (a & (quarter - 1)) - quarter
    x = saturated(low << integer_bits, 16) + (1 << 12)
    x2 = multiply(x, x)
    x3, x4 = multiply(x2, x), multiply(x2, x2)
    tail = rounding_shift_right(multiply(rounding_shift_right(x4, 2) + x3, short(715827883)) + x2, 1)
    result = saturated(short(1895147668) + multiply(x + tail, short(1895147668)), 16)
    for k, factor in FACTORS:
        if integer_bits > k:
            result = np.where((low - a) & (1 << (fraction_bits + k)), multiply(result, short(factor)), result)
    return np.where(a == 0, ONE, result)


def reciprocal_of_half(a: Array) -> Array:
    """2 / (1 + a), Q2.13."""
    half = (a + ONE + 1) >> 1
    x = short(1515870810) + multiply(half, short(-1010580540))
    for _ in range(3):
        x = x + saturated(multiply(x, (1 << 13) - multiply(half, x)) << 2, 16)
    return x


def logistic(a: Array) -> Array:
    """1 / (1 + exp(−a)), a Q3.12."""
    positive = saturated(reciprocal_of_half(exp_of_negative(-np.abs(a), 3)) << 1, 16)
    return np.where(a == 0, 1 << 14, np.where(a > 0, positive, ONE - positive))


def tanh(a: Array) -> Array:
    """tanh(a), a Q3.12."""
    return tanh_of(a, 3)


def tanh_of(a: Array, integer_bits: int) -> Array:
    """tanh(a), a with that many integer bits."""
    t = saturated((reciprocal_of_half(exp_of_negative(-np.abs(a), integer_bits + 1)) - (1 << 13)) << 2, 16)
    return np.where(a == 0, 0, np.where(a < 0, -t, t))
