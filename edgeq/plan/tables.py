"""Functions of few values, tabulated when a plan is made, exactly as the runtimes compute them. Formulas: docs/exactness.md."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from edgeq.graph import Array
from edgeq.plan.multiplier import f32, half_away, quantize_multiplier

INT32_MAX = (1 << 31) - 1


def doubling_high_multiply(a: Array, b: int | Array) -> Array:
    """(2·a·b + 2^31) >> 32."""
    return (a.astype(np.int64) * b + (1 << 30)) >> 31


def rounding_shift_right(x: Array, n: int | Array) -> Array:
    """x / 2^n, ties away from zero."""
    mask = (np.int64(1) << n) - 1
    return (x >> n) + ((x & mask) > ((mask >> 1) + (x < 0)))


def multiply_double(x: Array, real: float) -> Array:
    """MultiplyByQuantizedMultiplier, double rounding."""
    return multiply_by(x, *quantize_multiplier(real))


def multiply_by(x: Array, q: int, shift: int) -> Array:
    """As multiply_double, by a multiplier and its shift."""
    return rounding_shift_right(doubling_high_multiply(x.astype(np.int64) << max(shift, 0), q), max(-shift, 0))


def pot_shifts(s1: float, s2: float, s_out: float) -> tuple[int, int] | None:
    """log2 of both inputs' scales over the output's, None unless all three are powers of two."""
    parts = [math.frexp(s) for s in (s1, s2, s_out)]
    if any(fraction != 0.5 for fraction, _ in parts):
        return None
    return parts[0][1] - parts[2][1], parts[1][1] - parts[2][1]


def saturated(x: Array, bits: int = 32) -> Array:
    """Clamped to a signed type of so many bits."""
    return np.clip(x, -(1 << (bits - 1)), (1 << (bits - 1)) - 1)


def bit_length(x: Array) -> Array:
    """Bits that x ≥ 0 needs."""
    return np.frexp(x.astype(np.float64))[1].astype(np.int64)


def half_reciprocal(fraction: Array) -> Array:
    """gemmlowp one_over_one_plus_x_for_x_in_0_1: 1 / (1 + x), Q0.31."""
    half = (fraction + (1 << 31)) >> 1
    x = 1515870810 + doubling_high_multiply(half, -1010580540)
    for _ in range(3):
        x = x + saturated(doubling_high_multiply(x, (1 << 29) - doubling_high_multiply(half, x)) << 2)
    return saturated(x << 1)


def quotient(p: Array, q: Array, real: float) -> Array:
    """p / q · real as div.cc computes it on 8 bits; where q is 0, which it leaves undefined, an int32's end."""
    multiplier, shift = quantize_multiplier(real)
    sign, size = np.where(q < 0, -1, 1), np.maximum(np.abs(q), 1)
    over = bit_length(size) - 1
    inverse = sign * half_reciprocal((size << (31 - over)) - (1 << 31))
    headroom = np.where(p >= 0, 31 - bit_length(np.maximum(p, 0)), 32 - bit_length(np.maximum(-2 * p - 1, 0)))
    high = saturated(doubling_high_multiply(p << headroom, inverse))
    down = -(shift - over - headroom)
    value = rounding_shift_right(doubling_high_multiply(high, multiplier), np.maximum(down, 0))
    return np.where(q == 0, np.sign(p) * INT32_MAX, value)


def softmax_exponentials(scale: float, beta: float) -> Array:
    """(256,) int32: exp of a difference d in [−255, 0] at index 255 + d, Q0.31, 0 beyond the input radius (gemmlowp)."""
    real = beta * scale * (1 << 26)
    if real >= 1 << 30:  # beyond: a step is further than exp reaches, and only the greatest elements count
        return np.where(np.arange(256) == 255, INT32_MAX, 0).astype(np.int32)
    q, left = quantize_multiplier(real)
    radius = -math.floor(31 * (1 << 26) / 2.0**left)
    d = np.arange(-255, 1, dtype=np.int64)
    counted = d >= radius
    a = doubling_high_multiply(np.where(counted, d, 0) * 2 ** max(left, 0) // 2 ** max(-left, 0), q)
    low = (a & ((1 << 24) - 1)) - (1 << 24)
    v = (low << 5) + (1 << 28)
    v2 = doubling_high_multiply(v, v)
    v3, v4 = doubling_high_multiply(v2, v), doubling_high_multiply(v2, v2)
    tail = rounding_shift_right(doubling_high_multiply(rounding_shift_right(v4, 2) + v3, 715827883) + v2, 1)
    e = 1895147668 + doubling_high_multiply(v + tail, 1895147668)
    rest = low - a
    for bit, factor in enumerate((1672461947, 1302514674, 790015084, 290630308, 39332535, 720401, 242)):
        e = np.where(rest & (1 << (24 + bit)), doubling_high_multiply(e, factor), e)
    e = np.where(a == 0, INT32_MAX, e)
    return np.where(counted, e, 0).astype(np.int32)


def softmax_float_exponentials(scale: float, beta: float) -> Array:
    """(256,) float32: exp of a difference d at index 255 + d, as LiteRT's builtin tabulates it."""
    step = -np.float32(np.float32(scale) * np.float32(beta))
    k = np.arange(255, -1, -1, dtype=np.float32)
    return np.exp((step * k).astype(np.float64)).astype(np.float32)


def interpolation_table(function: Callable[[Array], Array], low: float, high: float) -> Array:
    """(513,) int16 in Q0.15 over [low, high]: entries moved by half the error in the interval's middle (gen_lut)."""
    x = np.linspace(low, high, 513)
    value, middle = function(x) * 32768.0, function(x[:-1] + (x[1] - x[0]) / 2) * 32768.0
    sample = half_away(value)
    error = half_away((value[1:] + sample[:-1]) / 2) - half_away(middle)
    entries = np.append(sample[:-1] - half_away(error / 2), sample[-1])
    return np.clip(entries, -32768, 32767).astype(np.int16)


def interpolated_curve(
    curve: Callable[[Array], Array], scale: np.float32, zero_point: int, out_scale: np.float32, out_zero: int
) -> Array:
    """(65536,) int64: a curve of floats on int16, of 513 samples with straight lines between (LUTPopulateInt16, LUTLookup).

    curve: of float32 arrays. All in float32, as there.
    """

    def rounded(v: Array) -> Array:
        return half_away(v).astype(f32)

    low, high = scale * f32(-32768 - zero_point), scale * f32(32767 - zero_point)
    step = f32((high - low) / f32(512))
    inverse = f32(f32(65536) / (out_scale * f32(32767 - out_zero) - out_scale * f32(-32768 - out_zero)))
    k = np.arange(512, dtype=f32)
    value, middle, following = (
        curve(x).astype(f32) * inverse
        for x in (low + k * step, low + k * step + f32(step / f32(2)), low + (k + f32(1)) * step)
    )
    between = rounded((following + rounded(value)) / f32(2))
    entries = rounded(value) - rounded((between - rounded(middle)) / f32(2))
    last = rounded(curve(np.array([high], f32)).astype(f32) * inverse)
    table = saturated(np.append(entries, last), 16).astype(np.int64)
    x = np.arange(-32768, 32768, dtype=np.int64)
    at = 256 + (x >> 7)
    return saturated(table[at] + (((table[at + 1] - table[at]) * (x & 127) + 64) >> 7), 16)


def inverse_root(x: int) -> tuple[int, int]:
    """1 / √x as multiplier and right shift, 1 ≤ x < 2^29 (quantization_util.cc, GetInvSqrtQuantizedMultiplierExp)."""
    if x <= 1:
        return (1 << 31) - 1, 0
    pairs = (31 - x.bit_length()) // 2 - 1
    shift, x = 11 - pairs, x << 2 * pairs
    half, y = (x + 2) >> 2, 1 << 28  # x ≥ 0: half of x >> 1, rounded
    for _ in range(5):
        cube = min(_high(_high(y, y), y) << 6, (1 << 31) - 1)
        y = min((_high((1 << 28) + (1 << 27), y) - _high(half, cube)) << 3, (1 << 31) - 1)
    y = _high(y, 1518500250)
    return (y << -shift, 0) if shift < 0 else (y, shift)


def _high(a: int, b: int) -> int:
    """SaturatingRoundingDoublingHighMul of numbers that are not negative."""
    return (a * b + (1 << 30)) >> 31
