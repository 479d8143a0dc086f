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
    LO,
    MULTIPLIER,
    N_TAPS,
    OUT_HW,
    OUT_W,
    PADDED_N,
    PERIOD,
    RIGHT,
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


LONG = 6


@njit(error_model="numpy")
def nine_taps_f32(g, lo, hi):
    """depthwise_f32 for 3×3: the nine weights of a vector of channels stay in registers while it goes along a run.

    A load less per product than one block after the other: 19 → 31 GMAC/s measured at 48×48×8, where loads are the limit. Rows
    of fewer than LONG repeats lose more by loading weights again (3×3×256: 1.0 → 1.8 µs).
    """
    step = g[PERIOD] * 4 * L
    for unit in range(lo, hi):
        for v in range(0, step, L):
            nine_taps_vector(g, v, step, unit)


@njit(error_model="numpy")
def nine_taps_vector(g, v, step, unit):
    """Vector v of the weights, at v, v + step, … of a run."""
    t, run, pitch = i64(g[TAPS]), g[RUN], np.int64(4 * L)
    low, high = load_f32(g[MULTIPLIER]), load_f32(g[MULTIPLIER] + pitch)
    block = v // (4 * L)
    w = g[W] + block * 36 * pitch + (v - block * 4 * L) * 4
    w0, w1, w2 = load_f32(w), load_f32(w + 4 * pitch), load_f32(w + 8 * pitch)
    w3, w4, w5 = load_f32(w + 12 * pitch), load_f32(w + 16 * pitch), load_f32(w + 20 * pitch)
    w6, w7, w8 = load_f32(w + 24 * pitch), load_f32(w + 28 * pitch), load_f32(w + 32 * pitch)
    bias = load_f32(g[BIAS] + v * 4)
    x, y = address(g, unit), g[Y] + unit * g[Y_PITCH]
    for at in range(v, run, step):
        p = x + at * 4
        a = add_f32(mul_f32(load_f32(p + t[0]), w0), mul_f32(load_f32(p + t[1]), w1))
        a = add_f32(add_f32(a, mul_f32(load_f32(p + t[2]), w2)), mul_f32(load_f32(p + t[3]), w3))
        a = add_f32(add_f32(a, mul_f32(load_f32(p + t[4]), w4)), mul_f32(load_f32(p + t[5]), w5))
        a = add_f32(add_f32(a, mul_f32(load_f32(p + t[6]), w6)), mul_f32(load_f32(p + t[7]), w7))
        a = add_f32(a, mul_f32(load_f32(p + t[8]), w8))
        a = clamp_f32(add_f32(a, bias), low, high)
        if run - at >= L:
            store(y + at * 4, a)
        else:
            store_f32_some(y + at * 4, a, run - at)


@njit(error_model="numpy")
def depthwise_f32(g, scratch, lo, hi):
    """float32 over runs (see depthwise_runs), four vectors at a time; weights [block][tap][4·L] repeat after PERIOD blocks.

    In the order of TFLite's reference and not fused: before a hybrid convolution an ulp can cross a rounding tie.
    """
    if g[N_TAPS] == 9 and g[RUN] >= LONG * g[PERIOD] * 4 * L:
        nine_taps_f32(g, lo, hi)
        return
    taps, n_taps, run, pitch = i64(g[TAPS]), g[N_TAPS], g[RUN], np.int64(4 * L)
    low, high = load_f32(g[MULTIPLIER]), load_f32(g[MULTIPLIER] + pitch)
    image, column = lo // g[OUT_HW], lo % g[OUT_W]
    line = lo % g[OUT_HW] // g[OUT_W]
    row = g[X] + image * g[IMAGE] + line * g[ROW]
    for unit in range(lo, hi):
        x, y = row + column * g[COLUMN], g[Y] + unit * g[Y_PITCH]
        column += 1
        if column == g[OUT_W]:  # divisions for every pixel would take as long as few channels do
            column, line, row = np.int64(0), line + 1, row + g[ROW]
            if line * g[OUT_W] == g[OUT_HW]:
                line, image = np.int64(0), image + 1
                row = g[X] + image * g[IMAGE]
        period, w, p = np.int64(0), g[W], g[BIAS]
        for at in range(0, run, 4 * L):
            if period == g[PERIOD]:
                period, w, p = np.int64(0), g[W], g[BIAS]
            to, left = y + at * 4, run - at
            if left >= 4 * L:
                a0, a1, a2, a3 = zero_f32(), zero_f32(), zero_f32(), zero_f32()
                for t in range(n_taps):
                    from_x, v = x + taps[t] + at * 4, w + 4 * t * pitch
                    a0 = add_f32(a0, mul_f32(load_f32(from_x), load_f32(v)))
                    a1 = add_f32(a1, mul_f32(load_f32(from_x + pitch), load_f32(v + pitch)))
                    a2 = add_f32(a2, mul_f32(load_f32(from_x + 2 * pitch), load_f32(v + 2 * pitch)))
                    a3 = add_f32(a3, mul_f32(load_f32(from_x + 3 * pitch), load_f32(v + 3 * pitch)))
                store(to, clamp_f32(add_f32(a0, load_f32(p)), low, high))
                store(to + pitch, clamp_f32(add_f32(a1, load_f32(p + pitch)), low, high))
                store(to + 2 * pitch, clamp_f32(add_f32(a2, load_f32(p + 2 * pitch)), low, high))
                store(to + 3 * pitch, clamp_f32(add_f32(a3, load_f32(p + 3 * pitch)), low, high))
            else:
                for j in range(0, left, L):
                    acc = zero_f32()
                    for t in range(n_taps):
                        from_x = x + taps[t] + (at + j) * 4
                        acc = add_f32(acc, mul_f32(load_f32(from_x), load_f32(w + 4 * t * pitch + j * 4)))
                    acc = clamp_f32(add_f32(acc, load_f32(p + j * 4)), low, high)
                    if left - j >= L:
                        store(to + j * 4, acc)
                    else:
                        store_f32_some(to + j * 4, acc, left - j)
            w += 4 * n_taps * pitch
            p += 4 * pitch
            period += 1


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
