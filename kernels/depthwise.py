"""Depthwise convolution: one filter a channel, vectors of channels, the input already padded.

The weights lie [tap][channel], channels padded to whole vectors; the plan repeats input channels where the multiplier is above
one, so that output channel c always reads input channel c.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from .memory import i32, i64
from .requantize import finish_s16
from .simd import (
    ISA,
    L,
    add_f32,
    add_i32,
    clamp_f32,
    clamp_i32,
    dot_u8s8,
    load_f32,
    load_i16_as_i32,
    load_i32,
    load_quad,
    load_u8_as_i32,
    mul_f32,
    mul_i32,
    multiply_double_rounded,
    once,
    pack_codes,
    pack_u8,
    scale_to_i32,
    scaled_codes,
    splat_f32,
    splat_i32,
    store,
    store_f32_some,
    store_quad_some,
    store_u8,
    store_u8_some,
    unpack8_high,
    unpack8_low,
    unpack16_high,
    unpack16_low,
    zero_f32,
)
from .words.depthwise import (
    BIAS,
    COLUMN,
    FAMILY,
    HI,
    IMAGE,
    LEFT,
    LINE,
    LO,
    MULTIPLIER,
    N_TAPS,
    OUT_HW,
    OUT_W,
    PADDED_N,
    PERIOD,
    RIGHT,
    ROLL,
    ROW,
    RUN,
    TAPS,
    Y_PITCH,
    ZERO_POINT,
    N,
    W,
    X,
    Y,
)
from .words.instruction import FLOAT

WIDE = ISA.registers >= 32
"""Whether there are registers for eight sums."""


@njit(error_model="numpy", inline="always")
def address(g, pixel):
    """Where the window of an output pixel begins."""
    image = np.int32(pixel) // np.int32(g[OUT_HW])
    rest = np.int32(pixel) - image * np.int32(g[OUT_HW])
    line = rest // np.int32(g[OUT_W])
    return g[X] + image * g[IMAGE] + line * g[ROW] + (rest - line * np.int32(g[OUT_W])) * g[COLUMN]


@njit(error_model="numpy")
def depthwise_u8(g, scratch, lo, hi):
    """Activations u8, weights int32 (already less their zero point)."""
    taps, n_taps, pitch = i64(g[TAPS]), g[N_TAPS], g[PADDED_N] * 4
    zero_point = splat_i32(np.int32(g[ZERO_POINT]))
    lo_f, hi_f = splat_f32(np.float32(g[LO] - g[ZERO_POINT])), splat_f32(np.float32(g[HI] - g[ZERO_POINT]))
    lo_i, hi_i = splat_i32(np.int32(g[LO])), splat_i32(np.int32(g[HI]))
    as_float = g[FAMILY] == FLOAT
    for pixel in range(lo, hi):
        x = address(g, pixel)
        y = g[Y] + pixel * g[Y_PITCH]
        for n in range(0, g[N], L):
            acc = load_i32(g[BIAS] + n * 4)
            w = g[W] + n * 4
            for t in range(n_taps):
                acc = add_i32(acc, mul_i32(load_u8_as_i32(x + taps[t] + n), load_i32(w)))
                w += pitch
            if as_float:
                q = add_i32(scale_to_i32(acc, load_f32(g[MULTIPLIER] + n * 4), lo_f, hi_f), zero_point)
            else:
                q = multiply_double_rounded(
                    acc, load_i32(g[MULTIPLIER] + n * 4), load_i32(g[LEFT] + n * 4), load_i32(g[RIGHT] + n * 4)
                )
                q = clamp_i32(add_i32(q, zero_point), lo_i, hi_i)
            left = g[N] - n
            if left >= L:
                store_u8(y + n, q)
            else:
                store_u8_some(y + n, q, left)


@njit(error_model="numpy", inline="always")
def _finished(a, bias, low, high, y, left):
    """A vector of sums with its bias, clamped, to y: as many lanes as are left."""
    a = clamp_f32(add_f32(a, bias), low, high)
    if left >= L:
        store(y, a)
    else:
        store_f32_some(y, a, left)


@njit(error_model="numpy")
def nine_taps_f32(g, v, w, bias, lo, hi):
    """Lanes v … v + L − 1 of every place for 3×3: the nine weights stay in registers. Loads are the limit, one a product."""
    t, run, step, places, roll = i64(g[TAPS]), g[RUN], g[LINE], g[ROLL], g[ROLL] * 4
    low, high, pitch = load_f32(g[MULTIPLIER]), load_f32(g[MULTIPLIER] + 4 * L), np.int64(4 * L)
    w0, w1, w2 = load_f32(w), load_f32(w + pitch), load_f32(w + 2 * pitch)
    w3, w4, w5 = load_f32(w + 3 * pitch), load_f32(w + 4 * pitch), load_f32(w + 5 * pitch)
    w6, w7, w8 = load_f32(w + 6 * pitch), load_f32(w + 7 * pitch), load_f32(w + 8 * pitch)
    offset, right, below, beneath = load_f32(bias), t[1], t[3], t[6]
    for unit in range(lo, hi):
        x, y, left = address(g, unit) + 4 * v, g[Y] + unit * g[Y_PITCH] + 4 * v, run - v
        while left > 0:
            p = x + below
            q = x + beneath
            a = add_f32(mul_f32(load_f32(x), w0), mul_f32(load_f32(x + right), w1))
            a = add_f32(add_f32(a, mul_f32(load_f32(x + 2 * right), w2)), mul_f32(load_f32(p), w3))
            a = add_f32(add_f32(a, mul_f32(load_f32(p + right), w4)), mul_f32(load_f32(p + 2 * right), w5))
            a = add_f32(add_f32(a, mul_f32(load_f32(q), w6)), mul_f32(load_f32(q + right), w7))
            a = add_f32(a, mul_f32(load_f32(q + 2 * right), w8))
            _finished(a, offset, low, high, y, left)
            x, y, left = x + step, y + roll, left - places


@njit(error_model="numpy")
def many_taps_f32(g, v, w, bias, lo, hi):
    """As nine_taps_f32 for any window: a weight serves eight places, or four, as long as there are so many."""
    taps, n_taps, step, roll, pitch = i64(g[TAPS]), g[N_TAPS], g[LINE], g[ROLL] * 4, np.int64(4 * L)
    low, high, offset = load_f32(g[MULTIPLIER]), load_f32(g[MULTIPLIER] + pitch), load_f32(bias)
    for unit in range(lo, hi):
        x, y, left = address(g, unit) + 4 * v, g[Y] + unit * g[Y_PITCH] + 4 * v, g[RUN] - v
        while left > 0:
            if WIDE and left >= 7 * g[ROLL] + L:
                a0, a1, a2, a3 = zero_f32(), zero_f32(), zero_f32(), zero_f32()
                a4, a5, a6, a7 = zero_f32(), zero_f32(), zero_f32(), zero_f32()
                at = w
                for k in range(n_taps):
                    p, m = x + taps[k], load_f32(at)
                    q = p + 4 * step
                    a0 = add_f32(a0, mul_f32(load_f32(p), m))
                    a1 = add_f32(a1, mul_f32(load_f32(p + step), m))
                    a2 = add_f32(a2, mul_f32(load_f32(p + 2 * step), m))
                    a3 = add_f32(a3, mul_f32(load_f32(p + 3 * step), m))
                    a4 = add_f32(a4, mul_f32(load_f32(q), m))
                    a5 = add_f32(a5, mul_f32(load_f32(q + step), m))
                    a6 = add_f32(a6, mul_f32(load_f32(q + 2 * step), m))
                    a7 = add_f32(a7, mul_f32(load_f32(q + 3 * step), m))
                    at += pitch
                store(y, clamp_f32(add_f32(a0, offset), low, high))
                store(y + roll, clamp_f32(add_f32(a1, offset), low, high))
                store(y + 2 * roll, clamp_f32(add_f32(a2, offset), low, high))
                store(y + 3 * roll, clamp_f32(add_f32(a3, offset), low, high))
                z = y + 4 * roll
                store(z, clamp_f32(add_f32(a4, offset), low, high))
                store(z + roll, clamp_f32(add_f32(a5, offset), low, high))
                store(z + 2 * roll, clamp_f32(add_f32(a6, offset), low, high))
                store(z + 3 * roll, clamp_f32(add_f32(a7, offset), low, high))
                x, y, left = x + 8 * step, y + 8 * roll, left - 8 * g[ROLL]
            elif left >= 3 * g[ROLL] + L:
                a0, a1, a2, a3 = zero_f32(), zero_f32(), zero_f32(), zero_f32()
                at = w
                for k in range(n_taps):
                    once()
                    p, m = x + taps[k], load_f32(at)
                    a0 = add_f32(a0, mul_f32(load_f32(p), m))
                    a1 = add_f32(a1, mul_f32(load_f32(p + step), m))
                    a2 = add_f32(a2, mul_f32(load_f32(p + 2 * step), m))
                    a3 = add_f32(a3, mul_f32(load_f32(p + 3 * step), m))
                    at += pitch
                store(y, clamp_f32(add_f32(a0, offset), low, high))
                store(y + roll, clamp_f32(add_f32(a1, offset), low, high))
                store(y + 2 * roll, clamp_f32(add_f32(a2, offset), low, high))
                store(y + 3 * roll, clamp_f32(add_f32(a3, offset), low, high))
                x, y, left = x + 4 * step, y + 4 * roll, left - 4 * g[ROLL]
            else:
                a0, at = zero_f32(), w
                for k in range(n_taps):
                    once()
                    a0 = add_f32(a0, mul_f32(load_f32(x + taps[k]), load_f32(at)))
                    at += pitch
                _finished(a0, offset, low, high, y, left)
                x, y, left = x + step, y + roll, left - g[ROLL]


@njit(error_model="numpy")
def depthwise_f32(g, scratch, lo, hi):
    """float32, units are rows of output. A row is places of ROLL elements each, LINE bytes apart in the input: pixels, or at
    stride 1 so many of them that vectors are full. Weights and biases are [vector of a place][tap][L]; the last vector may reach
    into the one before.

    A vector goes through all rows before the next one does, so that its lines stay in the cache from row to row.
    In the order of TFLite's reference and not fused: before a hybrid convolution an ulp can cross a rounding tie.
    """
    last, w, bias, v = max(g[ROLL] - L, np.int64(0)), g[W], g[BIAS], np.int64(0)
    while v < g[ROLL]:
        if g[N_TAPS] == 9 and g[FAMILY]:  # 3×3
            nine_taps_f32(g, min(v, last), w, bias, lo, hi)
        else:
            many_taps_f32(g, min(v, last), w, bias, lo, hi)
        v, w, bias = v + L, w + 4 * L * g[N_TAPS], bias + 4 * L


@njit(error_model="numpy")
def depthwise_s16(g, scratch, lo, hi):
    """Activations int16, weights int8 held as int32; the plan allows at most 511 taps, whose products fit int32."""
    taps, n_taps, pitch = i64(g[TAPS]), g[N_TAPS], g[PADDED_N] * 4
    lanes, sums = i32(scratch), i64(scratch + 1024)
    for pixel in range(lo, hi):
        x = address(g, pixel)
        y = g[Y] + pixel * g[Y_PITCH]
        for n in range(0, g[N], L):
            acc = splat_i32(np.int32(0))
            w = g[W] + n * 4
            for t in range(n_taps):
                acc = add_i32(acc, mul_i32(load_i16_as_i32(x + taps[t] + n * 2), load_i32(w)))
                w += pitch
            store(scratch, acc)
            count = min(g[N] - n, np.int64(L))
            for j in range(count):
                sums[j] = np.int64(lanes[j])
            finish_s16(g, sums, y + n * 2, n, count)


@njit(error_model="numpy")
def depthwise_runs(g, scratch, lo, hi):
    """8-bit over runs of bytes that lie together in input and output: whole rows at stride 1, pixels otherwise.

    A block is 4·L bytes. Four taps at a time are loaded as bytes and interleaved: each 32-bit lane holds one output's four
    products for one byte dot; packing the sums undoes the order. Weights, biases and multipliers come in blocks of that order and
    repeat after PERIOD blocks (several pixels' channels make a block where there are few channels).
    """
    taps, n_quads, pitch = i64(g[TAPS]), g[N_TAPS], np.int64(4 * L)
    zero_point = splat_i32(np.int32(g[ZERO_POINT]))
    hi_f = splat_f32(np.float32(g[HI] - g[ZERO_POINT]))
    lo_i, hi_i = splat_i32(np.int32(g[LO])), splat_i32(np.int32(g[HI]))
    as_float, run = g[FAMILY] == FLOAT, g[RUN]
    for unit in range(lo, hi):
        x, y = address(g, unit), g[Y] + unit * g[Y_PITCH]
        period, w, p = np.int64(0), g[W], np.int64(0)
        for at in range(0, run, 4 * L):
            if period == g[PERIOD]:
                period, w, p = np.int64(0), g[W], np.int64(0)
            a0, a1 = load_i32(g[BIAS] + p), load_i32(g[BIAS] + p + pitch)
            a2, a3 = load_i32(g[BIAS] + p + 2 * pitch), load_i32(g[BIAS] + p + 3 * pitch)
            for t in range(0, 4 * n_quads, 4):
                r0, r1 = load_quad(x + taps[t] + at), load_quad(x + taps[t + 1] + at)
                r2, r3 = load_quad(x + taps[t + 2] + at), load_quad(x + taps[t + 3] + at)
                low01, low23 = unpack8_low(r0, r1), unpack8_low(r2, r3)
                high01, high23 = unpack8_high(r0, r1), unpack8_high(r2, r3)
                a0 = dot_u8s8(a0, unpack16_low(low01, low23), load_quad(w))
                a1 = dot_u8s8(a1, unpack16_high(low01, low23), load_quad(w + pitch))
                a2 = dot_u8s8(a2, unpack16_low(high01, high23), load_quad(w + 2 * pitch))
                a3 = dot_u8s8(a3, unpack16_high(high01, high23), load_quad(w + 3 * pitch))
                w += 4 * pitch
            m = g[MULTIPLIER] + p
            if as_float:
                a0 = scaled_codes(a0, load_f32(m), hi_f)
                a1 = scaled_codes(a1, load_f32(m + pitch), hi_f)
                a2 = scaled_codes(a2, load_f32(m + 2 * pitch), hi_f)
                a3 = scaled_codes(a3, load_f32(m + 3 * pitch), hi_f)
                q = pack_codes(a0, a1, a2, a3, np.int32(g[ZERO_POINT]), np.int32(g[LO]))
            else:
                a0, a1 = doubled(g, a0, p), doubled(g, a1, p + pitch)
                a2, a3 = doubled(g, a2, p + 2 * pitch), doubled(g, a3, p + 3 * pitch)
                a0, a1 = clamp_i32(add_i32(a0, zero_point), lo_i, hi_i), clamp_i32(add_i32(a1, zero_point), lo_i, hi_i)
                a2, a3 = clamp_i32(add_i32(a2, zero_point), lo_i, hi_i), clamp_i32(add_i32(a3, zero_point), lo_i, hi_i)
                q = pack_u8(a0, a1, a2, a3)
            if run - at >= 4 * L:
                store(y + at, q)
            else:
                store_quad_some(y + at, q, run - at)
            p += 4 * pitch
            period += 1


@njit(error_model="numpy")
def doubled(g, acc, at):
    """The double-rounded product of a vector of sums, its multipliers at byte `at`."""
    return multiply_double_rounded(acc, load_i32(g[MULTIPLIER] + at), load_i32(g[LEFT] + at), load_i32(g[RIGHT] + at))
