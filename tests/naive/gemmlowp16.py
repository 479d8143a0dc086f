"""gemmlowp's int16 fixed point: what LiteRT's builtin LOGISTIC and TANH compute on int16 inputs of scale 2^-12 (and TANH 2^-11).

Source: gemmlowp `fixedpoint/fixedpoint.h`; Q0.15 unless said otherwise, constants rounded from their int32 forms.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from .fixedpoint import rounding_divide_by_pot

Array = npt.NDArray[Any]

ONE = 32767
EXPONENTIALS = (
    (-2, 1672461947),
    (-1, 1302514674),
    (0, 790015084),
    (1, 290630308),
    (2, 39332535),
    (3, 720401),
    (4, 242),
)
"""(k, exp(−2^k) in Q0.31)."""


def rounded(c: int) -> int:
    """An int32 constant as int16."""
    return (c + (1 << 15)) >> 16


def mul(a: Array, b: Array | int) -> Array:
    """SaturatingRoundingDoublingHighMul on int16: ties upwards."""
    return (a * b + (1 << 14)) >> 15


def saturated(x: Array) -> Array:
    """Clamped to int16."""
    return np.clip(x, -32768, 32767)


def exp_on_negative_values(a: Array, integer_bits: int) -> Array:
    """exp(a) for a ≤ 0 with that many integer bits."""
    fraction_bits = 15 - integer_bits
    quarter = 1 << (fraction_bits - 2)
    low = (a & (quarter - 1)) - quarter
    result = exp_near_minus_an_eighth(saturated(low << integer_bits))
    remainder = low - a
    for k, factor in EXPONENTIALS:
        if integer_bits > k:
            result = np.where(remainder & (1 << (fraction_bits + k)), mul(result, rounded(factor)), result)
    return np.where(a == 0, ONE, result)


def exp_near_minus_an_eighth(a: Array) -> Array:
    """exp_on_interval_between_negative_one_quarter_and_0_excl."""
    constant_term, third = rounded(1895147668), rounded(715827883)
    x = a + (1 << 12)
    x2 = mul(x, x)
    x3, x4 = mul(x2, x), mul(x2, x2)
    tail = rounding_divide_by_pot(mul(rounding_divide_by_pot(x4, 2) + x3, third) + x2, 1)
    return saturated(constant_term + mul(x + tail, constant_term))


def reciprocal_of_half(a: Array) -> Array:
    """2 / (1 + a) in Q2.13 for a in [0, 1]: three Newton-Raphson steps."""
    half = (a + ONE + 1) >> 1
    x = rounded(1515870810) + mul(half, rounded(-1010580540))
    for _ in range(3):
        x = x + saturated(mul(x, (1 << 13) - mul(half, x)) << 2)
    return x


def logistic(a: Array) -> Array:
    """1 / (1 + exp(−a)), a Q3.12."""
    positive = saturated(reciprocal_of_half(exp_on_negative_values(-np.abs(a), 3)) << 1)
    return np.where(a == 0, 1 << 14, np.where(a > 0, positive, ONE - positive))


def tanh(a: Array) -> Array:
    """tanh(a), a Q3.12."""
    return tanh_of(a, 3)


def tanh_of(a: Array, integer_bits: int) -> Array:
    """tanh(a), a with that many integer bits: (1 − exp(2a)) / (1 + exp(2a)) on negative values."""
    t = saturated((reciprocal_of_half(exp_on_negative_values(-np.abs(a), integer_bits + 1)) - (1 << 13)) << 2)
    return np.where(a == 0, 0, np.where(a < 0, -t, t))
