"""MEAN and other reductions over one run of neighbouring axes. Units are results.

The plan brings the input to (outer, reduced, inner); results are (outer, inner). Where there is an inner dimension neighbouring
results are lanes; else a result is folded from lanes. Vectors are stored whole as long as what they write behind a result
belongs to the same part, where it is written again.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from .cells import integer, put_integer
from .fixedpoint import clamp, multiply_double
from .memory import f32, float_of_bits, i16, i32
from .runs import bytes_of, floats, folded, greater, integers, put, turning
from .simd import (
    ISA,
    L,
    add_f32,
    add_i32,
    as_i32,
    clamp_f32,
    clamp_i32,
    div_f32,
    dot_u8s8,
    first_lanes,
    in_rows,
    lane_0,
    load_f32,
    load_i16_as_i32,
    load_i32,
    load_quad,
    mul_f32,
    mul_i32,
    multiply_double_rounded,
    once,
    ones_quad,
    pack_u8,
    splat_f32,
    splat_i32,
    splat_quad,
    store,
    store_f32_some,
    store_quad_some,
    sub_i32,
    to_f32,
    turned,
    zero_f32,
    zero_i32,
)
from .totals import add_quads
from .words.instruction import FLOAT
from .words.kinds import F32, S64
from .words.reduce import (
    ADD,
    BIAS,
    CENTRE,
    DIVISOR,
    HI,
    INNER,
    KIND,
    LEAST,
    LO,
    MODE,
    MULTIPLIER,
    MULTIPLY,
    OPERATION,
    REDUCED,
    SHIFT,
    ZERO_X,
    ZERO_Y,
    X,
    Y,
)

MAGIC = 12582912.0
"""1.5 · 2^23: added to a float32 within ±2^22, it rounds to even, and the low bits are the integer."""

BLOCK = 256
"""Floats that are added up before their sum is added to others: the error of long sums stays small."""

SHORT_SUM = 65536
"""16-bit numbers whose sum surely fits int32."""

OFFSET, SMALL = ISA.offset, ISA.small
"""What dot_u8s8 takes off each byte."""


@njit(error_model="numpy", inline="always")
def _requantize(total, g):
    if g[MODE] == FLOAT:  # over raw numbers, CENTRE being what the arena adds to them; both zero points are in BIAS
        raw = np.float32(total - g[CENTRE] * g[REDUCED])
        scaled = np.float32(raw * float_of_bits(g[MULTIPLIER]))
        return clamp(np.int64(np.rint(np.float32(scaled + float_of_bits(g[BIAS])))) + g[CENTRE], g[LO], g[HI])
    q = multiply_double(total - g[ZERO_X] * g[REDUCED], g[MULTIPLIER], g[SHIFT])
    return clamp(q + g[ZERO_Y], g[LO], g[HI])


@njit(error_model="numpy")
def _requantized(total, g):
    """The same of int32 lanes, to bytes in lanes."""
    if g[MODE] == FLOAT:
        raw = to_f32(sub_i32(total, splat_i32(np.int32(g[CENTRE] * g[REDUCED]))))
        scaled = mul_f32(raw, splat_f32(float_of_bits(g[MULTIPLIER])))
        low, high = splat_f32(np.float32(g[LO] - g[CENTRE])), splat_f32(np.float32(g[HI] - g[CENTRE]))
        v = clamp_f32(add_f32(scaled, splat_f32(float_of_bits(g[BIAS]))), low, high)
        return add_i32(as_i32(add_f32(v, splat_f32(np.float32(MAGIC)))), splat_i32(np.int32(g[CENTRE] - 0x4B400000)))
    raw = sub_i32(total, splat_i32(np.int32(g[ZERO_X] * g[REDUCED])))
    left, right = splat_i32(np.int32(max(g[SHIFT], np.int64(0)))), splat_i32(np.int32(max(-g[SHIFT], np.int64(0))))
    q = multiply_double_rounded(raw, splat_i32(np.int32(g[MULTIPLIER])), left, right)
    low, high = splat_i32(np.int32(g[LO] - g[ZERO_Y])), splat_i32(np.int32(g[HI] - g[ZERO_Y]))
    return add_i32(clamp_i32(q, low, high), splat_i32(np.int32(g[ZERO_Y])))


@njit(error_model="numpy")
def _codes(a, b, c, d, g):
    """Four vectors of sums as the bytes of their results, in the order of pack_u8."""
    return pack_u8(_requantized(a, g), _requantized(b, g), _requantized(c, g), _requantized(d, g))


@njit(error_model="numpy", inline="always")
def _joined_f32(operation, v, w):
    return add_f32(v, w) if operation == ADD else mul_f32(v, w) if operation == MULTIPLY else greater(w, v)


@njit(error_model="numpy", inline="always")
def _joined_i32(operation, v, w):
    return add_i32(v, w) if operation == ADD else mul_i32(v, w) if operation == MULTIPLY else greater(w, v)


@njit(error_model="numpy")
def _total_u8(x, count):
    """The sum of `count` bytes at address x."""
    t, whole, n = zero_i32(), ones_quad(), np.int64(0)
    while count - n > 4 * L:
        t = dot_u8s8(t, load_quad(x + n), whole)
        n += 4 * L
    t = dot_u8s8(t, load_quad(x + n), first_lanes(whole, count - n, splat_quad(np.int64(0))))
    return lane_0(folded(t, _joined_i32, np.int64(ADD))) + np.int32(OFFSET * count)


@njit(error_model="numpy")
def mean_u8(g, scratch, lo, hi):
    """8-bit mean, up to 4·L neighbouring results at a time."""
    sums, inner, reduced, unit = i32(scratch), g[INNER], g[REDUCED], lo
    while unit < hi:
        n, x = min(hi - unit, np.int64(4 * L)), g[X] + unit * reduced
        if inner == 1:
            for i in range(n):
                once()
                sums[i] = _total_u8(x + i * reduced, reduced)
            a, b = load_i32(scratch), load_i32(scratch + 4 * L)
            q = in_rows(_codes(a, b, load_i32(scratch + 8 * L), load_i32(scratch + 12 * L), g))
        else:
            outer = unit // inner
            first = unit - outer * inner
            n = min(inner - first, n)
            a, b, c, d = add_quads(x + (1 - reduced) * first, inner, reduced, np.int64(0), np.int64(1))
            q = _codes(a, b, c, d, g)
        if hi - unit >= 4 * L:
            store(g[Y] + unit, q)
        else:
            store_quad_some(g[Y] + unit, q, n)
        unit += n


@njit(error_model="numpy", inline="always")
def _added_s16(x, pitch, count):
    v = zero_i32()
    for _ in range(count):
        once()
        v = add_i32(v, load_i16_as_i32(x))
        x += pitch
    return v


@njit(error_model="numpy")
def mean_s16(g, scratch, lo, hi):
    """16-bit mean."""
    sums, inner, reduced, unit, y = i32(scratch), g[INNER], g[REDUCED], lo, i16(g[Y])
    while unit < hi and reduced <= SHORT_SUM and not SMALL:
        n, x = np.int64(1), g[X] + 2 * unit * reduced
        if inner == 1:
            rest = reduced % L
            v = first_lanes(load_i16_as_i32(x + 2 * (reduced - rest)), rest, zero_i32())
            v = folded(add_i32(v, _added_s16(x, np.int64(2 * L), reduced // L)), _joined_i32, np.int64(ADD))
        else:
            first = unit % inner
            n = min(min(inner - first, hi - unit), np.int64(L))
            v = _added_s16(x + 2 * (1 - reduced) * first, 2 * inner, reduced)
        store(scratch, v)
        for i in range(n):
            once()
            y[unit + i] = np.int16(_requantize(np.int64(sums[i]), g))
        unit += n
    while unit < hi:
        outer = unit // inner
        at = i16(g[X] + 2 * (outer * reduced * inner + unit - outer * inner))
        total = np.int64(0)
        for r in range(reduced):
            once()
            total += np.int64(at[r * inner])
        y[unit] = np.int16(_requantize(total, g))
        unit += 1


@njit(error_model="numpy")
def _added_f32(x, pitch, count):
    """L float32 at address x and those `pitch` bytes on, …, `count` in all, added up in lanes."""
    total = zero_f32()
    while count > 0:
        n = min(count, np.int64(BLOCK))
        a, b, c, d = zero_f32(), zero_f32(), zero_f32(), zero_f32()
        for _ in range(n // 4):
            once()
            a, b = add_f32(a, load_f32(x)), add_f32(b, load_f32(x + pitch))
            c, d = add_f32(c, load_f32(x + 2 * pitch)), add_f32(d, load_f32(x + 3 * pitch))
            x += 4 * pitch
        for _ in range(n % 4):
            once()
            a = add_f32(a, load_f32(x))
            x += pitch
        total = add_f32(total, add_f32(add_f32(a, b), add_f32(c, d)))
        count -= n
    return total


@njit(error_model="numpy", inline="always")
def joined(operation, v, w):
    """One more element."""
    if operation == ADD:
        return v + w
    if operation == MULTIPLY:
        return v * w
    return max(v, w) if operation != LEAST else min(v, w)


@njit(error_model="numpy")
def mean_f32(g, scratch, lo, hi):
    """float32 sums over DIVISOR."""
    inner, reduced, by, unit = g[INNER], g[REDUCED], splat_f32(np.float32(g[DIVISOR])), lo
    while unit < hi:
        n, x, y = np.int64(1), g[X] + 4 * unit * reduced, g[Y] + 4 * unit
        if inner == 1:
            v, rest = zero_f32(), reduced
            if rest >= BLOCK:
                v = _added_f32(x, np.int64(4 * L), reduced // L)
                x, rest = x + reduced // L * (4 * L), reduced % L
            while rest >= L:
                once()
                v = add_f32(v, load_f32(x))
                x, rest = x + 4 * L, rest - L
            if rest:
                v = add_f32(v, first_lanes(load_f32(x), rest, zero_f32()))
            v = folded(v, _joined_f32, np.int64(ADD))
        else:
            first = unit % inner
            n = min(min(inner - first, hi - unit), np.int64(L))
            v = _added_f32(x + 4 * (1 - reduced) * first, 4 * inner, reduced)
        v = div_f32(v, by)
        if hi - unit >= L:
            store(y, v)
        else:
            store_f32_some(y, v, n)
        unit += n


def _reducer(load, join, start):
    """What reduces elements that a lane holds: load(address, kind) a vector, join(operation, v, w), start(operation)."""

    @njit(error_model="numpy")
    def over(g, lo, hi):
        kind, operation, inner, reduced, unit = g[KIND], g[OPERATION], g[INNER], g[REDUCED], lo
        size, turn, none = bytes_of(kind), turning(kind, operation == LEAST), start(operation)
        while unit < hi:
            n, x, y, v = np.int64(1), g[X] + size * unit * reduced, g[Y] + size * unit, none
            if inner == 1:
                rest = reduced
                while rest >= L:
                    once()
                    v = join(operation, v, turned(load(x, kind), turn))
                    x, rest = x + size * L, rest - L
                if rest:
                    v = join(operation, v, first_lanes(turned(load(x, kind), turn), rest, none))
                v = folded(v, join, operation)
            else:
                first = unit % inner
                n = min(min(inner - first, hi - unit), np.int64(L))
                x += size * (1 - reduced) * first
                for _ in range(reduced):
                    once()
                    v = join(operation, v, turned(load(x, kind), turn))
                    x += size * inner
            put(y, turned(v, turn), kind, n, hi - unit)
            unit += n

    return over


@njit(error_model="numpy", inline="always")
def _start_f32(operation):
    one = np.float32(0) if operation == ADD else np.float32(1) if operation == MULTIPLY else np.float32(-np.inf)
    return splat_f32(one)


@njit(error_model="numpy", inline="always")
def _start_i32(operation):
    one = np.int32(0) if operation == ADD else np.int32(1) if operation == MULTIPLY else np.int32(-2147483648)
    return splat_i32(one)


_over_f32, _over_i32 = _reducer(floats, _joined_f32, _start_f32), _reducer(integers, _joined_i32, _start_i32)


@njit(error_model="numpy")
def reduce_any(g, scratch, lo, hi):
    """Sums, products and extremes of float32 or of integers, which wrap; ANY is the greatest bool."""
    if g[KIND] == F32 and not SMALL:
        _over_f32(g, lo, hi)
    elif g[KIND] != S64 and not SMALL:
        _over_i32(g, lo, hi)
    else:
        operation = g[OPERATION]
        for unit in range(lo, hi):
            outer = unit // g[INNER]
            first = outer * g[REDUCED] * g[INNER] + unit - outer * g[INNER]
            if SMALL and g[KIND] == F32:
                x = f32(g[X])
                total = x[first]
                for r in range(1, g[REDUCED]):
                    once()
                    total = np.float32(joined(operation, total, x[first + r * g[INNER]]))
                f32(g[Y])[unit] = total
                continue
            whole = integer(g[X], g[KIND], first)
            for r in range(1, g[REDUCED]):
                once()
                whole = joined(operation, whole, integer(g[X], g[KIND], first + r * g[INNER]))
            put_integer(g[Y], g[KIND], unit, whole)
