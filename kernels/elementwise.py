"""Two arrays in, one out: arithmetic and comparisons with broadcasting, in each rounding.

Work is either flat (both inputs have the output's shape, or one is a single element: units are elements) or rows: up to three
outer dimensions with a stride for each input, and an inner run in which an input moves by one element or stays. The output is
always contiguous.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from .fixedpoint import clamp, multiply_double
from .memory import f32, float_of_bits, u8
from .simd import (
    ISA,
    L,
    add_f32,
    add_i32,
    as_pairs,
    cap,
    clamp_f32,
    clamp_i32,
    div_f32,
    dot_s16,
    in_rows,
    load_f32,
    load_quad,
    load_u8_as_i32,
    max_f32,
    max_quad,
    min_f32,
    mul_f32,
    mul_i32,
    once,
    pack_codes,
    pack_high,
    prelu_f32,
    shift_each_i32,
    shift_left_pairs,
    shift_right_i32,
    splat_f32,
    splat_i32,
    splat_quad,
    store,
    store_f32_some,
    store_u8,
    store_u8_some,
    sub_f32,
    unpack8_high,
    unpack8_low,
    widened0,
    widened1,
    widened2,
    widened3,
)
from .transcendental import atan2_f64, power_f64, remainder_f64
from .words.elementwise import (
    A0,
    A1,
    A2,
    A_STEP,
    B0,
    B1,
    B2,
    B_STEP,
    D1,
    D2,
    FLAT,
    FLOOR_DIV,
    FLOOR_MOD,
    HI,
    INNER,
    LEFT,
    LO,
    MA,
    MAXIMUM,
    MB,
    MINIMUM,
    MODE,
    MY,
    OPERATION,
    POWER,
    PRELU,
    PRODUCT,
    QUOTIENT,
    SA,
    SB,
    SQUARED_DIFFERENCE,
    SUM,
    SY,
    TABLE,
    Y_ROW,
    ZERO_A,
    ZERO_B,
    ZERO_Y,
    A,
    B,
    Y,
)
from .words.instruction import DOUBLE

SPLIT, LOW_BITS = 7, 127
SMALL, WIDENS = ISA.small, ISA.by_steps
"""Whether 16 bytes loaded at once are widened by one instruction for four of them: tbl."""


@njit(error_model="numpy", inline="always")
def offsets(g, unit):
    """Element offsets of a, b and y where row `unit` begins."""
    i2 = unit % g[D2]
    rest = unit // g[D2]
    i1 = rest % g[D1]
    i0 = rest // g[D1]
    return i0 * g[A0] + i1 * g[A1] + i2 * g[A2], i0 * g[B0] + i1 * g[B1] + i2 * g[B2], unit * g[INNER]


@njit(error_model="numpy", inline="always")
def sum_double(a, b, g):
    """Both inputs to twice the larger scale over 2^LEFT, double rounding each way (add.cc, sub.cc); MB's sign is SUB's."""
    total = multiply_double((a - g[ZERO_A]) << g[LEFT], g[MA], g[SA])
    y = multiply_double((b - g[ZERO_B]) << g[LEFT], abs(g[MB]), g[SB])
    total = total + y if g[MB] >= 0 else total - y
    return clamp(multiply_double(total, g[MY], g[SY]) + g[ZERO_Y], g[LO], g[HI])


@njit(error_model="numpy", inline="always")
def summed_words(a, b, ma, mb, bias, by):
    """(a·ma + b·mb + bias) >> by."""
    return shift_each_i32(add_i32(add_i32(bias, mul_i32(a, ma)), mul_i32(b, mb)), by)


@njit(error_model="numpy")
def _summed_short(a, b, y, n, g):
    """As much of _add_u8_row as upper halves of sums are enough for, 16 elements at a time: which hold sum and zero point."""
    centre = (np.int64(1) << (g[SY] - 1)) - g[ZERO_A] * g[MA] - g[ZERO_B] * g[MB] + (g[ZERO_Y] << g[SY])
    if g[SY] < 16 or 255 * (abs(g[MA]) + abs(g[MB])) + abs(centre) >= np.int64(1) << 31:
        return np.int64(0)
    ma, mb, bias = splat_i32(np.int32(g[MA])), splat_i32(np.int32(g[MB])), splat_i32(np.int32(centre))
    by, lo, hi, done = np.int32(g[SY]), splat_quad(g[LO]), np.int32(g[HI]), np.int64(0)
    while n - done >= 4 * L:
        v, u = load_quad(a + done), load_quad(b + done)
        t0 = add_i32(add_i32(bias, mul_i32(widened0(v), ma)), mul_i32(widened0(u), mb))
        t1 = add_i32(add_i32(bias, mul_i32(widened1(v), ma)), mul_i32(widened1(u), mb))
        t2 = add_i32(add_i32(bias, mul_i32(widened2(v), ma)), mul_i32(widened2(u), mb))
        t3 = add_i32(add_i32(bias, mul_i32(widened3(v), ma)), mul_i32(widened3(u), mb))
        store(y + done, cap(max_quad(pack_high(t0, t1, t2, t3, by), lo), hi))
        done += 4 * L
    return done


@njit(error_model="numpy", inline="always")
def summed_pairs(quad, low, high, bias, by):
    """As summed_words, of bytes a and b in the int16 halves of each lane; low, high: the multipliers' parts likewise."""
    both = as_pairs(quad)
    return shift_each_i32(dot_s16(dot_s16(bias, both, low), shift_left_pairs(both, SPLIT), high), by)


@njit(error_model="numpy", inline="always")
def pairs_of(m):
    """Two int16 in every lane of a pair vector: the low half of int32 m[0], and the low half of m[1]."""
    return as_pairs(splat_i32(np.int32((m[0] & 0xFFFF) | (m[1] << 16))))


@njit(error_model="numpy")
def _add_u8_lines(a, a_line, b, b_line, y, y_line, n, lines, g):
    """Addresses a, b, y; `lines` of n elements of each, so many bytes from one to the next.

    a·ma + b·mb is two products of pairs of int16: of the multipliers' low SPLIT bits, and of their high bits with a and b times
    2^SPLIT. Multipliers are at most 2^21, so both parts fit.
    """
    ma, mb, shift = splat_i32(np.int32(g[MA])), splat_i32(np.int32(g[MB])), np.int32(g[SY])
    bias = splat_i32(np.int32((np.int64(1) << (g[SY] - 1)) - g[ZERO_A] * g[MA] - g[ZERO_B] * g[MB]))
    zero, lo, hi = splat_i32(np.int32(g[ZERO_Y])), splat_i32(np.int32(g[LO])), splat_i32(np.int32(g[HI]))
    low = pairs_of((g[MA] & LOW_BITS, g[MB] & LOW_BITS))
    high = pairs_of((g[MA] >> SPLIT, g[MB] >> SPLIT))
    by, none = splat_i32(shift), splat_quad(np.int64(0))
    z_y, z_lo, z_hi = np.int32(g[ZERO_Y]), np.int32(g[LO]), np.int32(g[HI])
    for _ in range(lines):
        done = _summed_short(a, b, y, n, g) if WIDENS else np.int64(0)
        while n - done >= 4 * L:
            v, u = load_quad(a + done), load_quad(b + done)
            if WIDENS:
                t0 = summed_words(widened0(v), widened0(u), ma, mb, bias, by)
                t1 = summed_words(widened1(v), widened1(u), ma, mb, bias, by)
                t2 = summed_words(widened2(v), widened2(u), ma, mb, bias, by)
                t3 = summed_words(widened3(v), widened3(u), ma, mb, bias, by)
                store(y + done, in_rows(cap(pack_codes(t0, t1, t2, t3, z_y, z_lo), z_hi)))
            else:
                first, second = unpack8_low(v, u), unpack8_high(v, u)
                t0 = summed_pairs(unpack8_low(first, none), low, high, bias, by)
                t1 = summed_pairs(unpack8_high(first, none), low, high, bias, by)
                t2 = summed_pairs(unpack8_low(second, none), low, high, bias, by)
                t3 = summed_pairs(unpack8_high(second, none), low, high, bias, by)
                store(y + done, cap(pack_codes(t0, t1, t2, t3, z_y, z_lo), z_hi))
            done += 4 * L
        for i in range(done, n, L):
            t = add_i32(bias, mul_i32(load_u8_as_i32(a + i), ma))
            t = add_i32(t, mul_i32(load_u8_as_i32(b + i), mb))
            q = clamp_i32(add_i32(shift_right_i32(t, shift), zero), lo, hi)
            if n - i >= L:
                store_u8(y + i, q)
            else:
                store_u8_some(y + i, q, n - i)
        a, b, y = a + a_line, b + b_line, y + y_line


@njit(error_model="numpy")
def _add_u8_row(a, sa, b, sb, y, n, g):
    """Addresses a, b, y; n elements; sa, sb 1 or 0."""
    if g[MODE] == DOUBLE:
        for i in range(n):
            u8(y)[i] = np.uint8(sum_double(np.int64(u8(a)[i * sa]), np.int64(u8(b)[i * sb]), g))
        return
    if sa and sb:
        _add_u8_lines(a, np.int64(0), b, np.int64(0), y, np.int64(0), n, np.int64(1), g)
        return
    ma, mb, shift = splat_i32(np.int32(g[MA])), splat_i32(np.int32(g[MB])), np.int32(g[SY])
    bias = splat_i32(np.int32((np.int64(1) << (g[SY] - 1)) - g[ZERO_A] * g[MA] - g[ZERO_B] * g[MB]))
    zero, lo, hi = splat_i32(np.int32(g[ZERO_Y])), splat_i32(np.int32(g[LO])), splat_i32(np.int32(g[HI]))
    fixed_a = mul_i32(splat_i32(np.int32(u8(a)[0])), ma)
    fixed_b = mul_i32(splat_i32(np.int32(u8(b)[0])), mb)
    for i in range(0, n, L):
        t = add_i32(bias, mul_i32(load_u8_as_i32(a + i), ma) if sa else fixed_a)
        t = add_i32(t, mul_i32(load_u8_as_i32(b + i), mb) if sb else fixed_b)
        q = clamp_i32(add_i32(shift_right_i32(t, shift), zero), lo, hi)
        if n - i >= L:
            store_u8(y + i, q)
        else:
            store_u8_some(y + i, q, n - i)


@njit(error_model="numpy")
def add_u8(g, scratch, lo, hi):
    """8-bit sum or difference."""
    if g[FLAT]:
        a, b = g[A] + lo * g[A_STEP], g[B] + lo * g[B_STEP]
        _add_u8_row(a, g[A_STEP], b, g[B_STEP], g[Y] + lo, hi - lo, g)
        return
    if g[Y_ROW]:
        a, b, y = g[A] + lo * g[A2], g[B] + lo * g[B2], g[Y] + lo * g[Y_ROW]
        if g[MODE] != DOUBLE:
            _add_u8_lines(a, g[A2], b, g[B2], y, g[Y_ROW], g[INNER], hi - lo, g)
            return
        for _ in range(lo, hi):
            _add_u8_row(a, 1, b, 1, y, g[INNER], g)
            a, b, y = a + g[A2], b + g[B2], y + g[Y_ROW]
        return
    for unit in range(lo, hi):
        oa, ob, oy = offsets(g, unit)
        _add_u8_row(g[A] + oa, g[A_STEP], g[B] + ob, g[B_STEP], g[Y] + oy, g[INNER], g)


@njit(error_model="numpy")
def _curve(mode, p, q):
    """The rarer functions of two float32 values, in float64."""
    if mode == FLOOR_DIV:
        return np.floor(np.float64(np.float32(p / q)))
    if mode == FLOOR_MOD:
        r = remainder_f64(p, q)
        return r + q if r != 0.0 and (q < 0.0) != (r < 0.0) else r
    if mode == POWER:
        return power_f64(p, q)
    return atan2_f64(p, q)


@njit(error_model="numpy", inline="always")
def _combined(mode, p, q):
    """p ∘ q, a vector each, for what whole networks are full of."""
    if mode == SUM:
        v = add_f32(p, q)
    elif mode == PRODUCT:
        v = mul_f32(p, q)
    elif mode == PRELU:
        v = prelu_f32(p, q)
    elif mode == MAXIMUM:
        v = max_f32(q, p)
    elif mode == MINIMUM:
        v = min_f32(q, p)
    elif mode == QUOTIENT:
        v = div_f32(p, q)
    else:
        v = sub_f32(p, q)
        if mode == SQUARED_DIFFERENCE:
            v = mul_f32(v, v)
    return v


@njit(error_model="numpy")
def _f32_vectors(a, da, b, db, y, n, lo, hi, mode):
    """A row at addresses a, b, y; da, db: bytes from one vector to the next, 0 where it is the same again."""
    low, high, clamped, pitch = splat_f32(lo), splat_f32(hi), lo > -np.inf or hi < np.inf, np.int64(4 * L)
    while not SMALL and n >= 4 * L:
        v0 = _combined(mode, load_f32(a), load_f32(b))
        v1 = _combined(mode, load_f32(a + da), load_f32(b + db))
        v2 = _combined(mode, load_f32(a + 2 * da), load_f32(b + 2 * db))
        v3 = _combined(mode, load_f32(a + 3 * da), load_f32(b + 3 * db))
        if clamped:
            v0, v1 = clamp_f32(v0, low, high), clamp_f32(v1, low, high)
            v2, v3 = clamp_f32(v2, low, high), clamp_f32(v3, low, high)
        store(y, v0)
        store(y + pitch, v1)
        store(y + 2 * pitch, v2)
        store(y + 3 * pitch, v3)
        a, b, y, n = a + 4 * da, b + 4 * db, y + 4 * pitch, n - 4 * L
    while n >= L:
        once()
        v = _combined(mode, load_f32(a), load_f32(b))
        store(y, clamp_f32(v, low, high) if clamped else v)
        a, b, y, n = a + da, b + db, y + pitch, n - L
    if n > 0:
        v = _combined(mode, load_f32(a), load_f32(b))
        store_f32_some(y, clamp_f32(v, low, high) if clamped else v, n)


@njit(error_model="numpy")
def _f32_run(a, sa, b, sb, y, n, g, scratch):
    """A row at addresses a, b, y; sa, sb 1 or 0. What stays the same lies in scratch as a vector."""
    mode = g[OPERATION]
    if mode <= QUOTIENT or mode in (PRELU, SQUARED_DIFFERENCE):
        if not sa:
            store(scratch, splat_f32(f32(a)[0]))
            a = scratch
        if not sb:
            store(scratch + 4 * L, splat_f32(f32(b)[0]))
            b = scratch + 4 * L
        _f32_vectors(a, sa * 4 * L, b, sb * 4 * L, y, n, float_of_bits(g[LO]), float_of_bits(g[HI]), mode)
        return
    for i in range(n):
        f32(y)[i] = np.float32(_curve(mode, np.float64(f32(a)[i * sa]), np.float64(f32(b)[i * sb])))


@njit(error_model="numpy")
def binary_f32(g, scratch, lo, hi):
    """float32 arithmetic, clamped to the fused activation."""
    if g[FLAT]:
        a, b = g[A] + 4 * lo * g[A_STEP], g[B] + 4 * lo * g[B_STEP]
        _f32_run(a, g[A_STEP], b, g[B_STEP], g[Y] + 4 * lo, hi - lo, g, scratch)
        return
    oa, ob, oy = offsets(g, lo)
    i2, i1 = lo % g[D2], lo // g[D2] % g[D1]
    for _ in range(lo, hi):
        _f32_run(g[A] + 4 * oa, g[A_STEP], g[B] + 4 * ob, g[B_STEP], g[Y] + 4 * oy, g[INNER], g, scratch)
        oa, ob, oy, i2 = oa + g[A2], ob + g[B2], oy + g[INNER], i2 + 1
        if i2 == g[D2]:  # divisions for every row would take longer than short rows do
            oa, ob, i2, i1 = oa + g[A1] - g[D2] * g[A2], ob + g[B1] - g[D2] * g[B2], np.int64(0), i1 + 1
            if i1 == g[D1]:
                oa, ob, i1 = oa + g[A0] - g[D1] * g[A1], ob + g[B0] - g[D1] * g[B1], np.int64(0)


@njit(error_model="numpy")
def pair_u8(g, scratch, lo, hi):
    """y = TABLE[a · 256 + b], 65 536 entries: every 8-bit function of two 8-bit values that has no kernel of its own."""
    table = u8(g[TABLE])
    if g[FLAT]:
        a, b, y = u8(g[A]), u8(g[B]), u8(g[Y])
        for i in range(lo, hi):
            y[i] = table[np.int64(a[i * g[A_STEP]]) * 256 + np.int64(b[i * g[B_STEP]])]
        return
    for unit in range(lo, hi):
        oa, ob, oy = offsets(g, unit)
        a, b, y = u8(g[A] + oa), u8(g[B] + ob), u8(g[Y] + oy)
        for i in range(g[INNER]):
            y[i] = table[np.int64(a[i * g[A_STEP]]) * 256 + np.int64(b[i * g[B_STEP]])]
