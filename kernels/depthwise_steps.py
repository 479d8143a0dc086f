"""Depthwise 3×3 convolution of bytes on 64-bit ARM: layers of kernels/depthwise_rows.py, in loops made for 32 registers.

With sdot and usdot, rows are woven as there, but activations are made signed once, before they are woven, and one row of output
is finished before the next is begun, so that nothing goes to memory and back.

With smull, nothing is woven: 16 activations of one tap are multiplied by 16 weights, two taps' products are added up in int16,
which holds them as long as no weight is −128 (Isa.least_weight), and then in int32: 38 instructions for 144 products; the nine
weights of a block stay in registers. DIRECT says that weights lie so: [block][9][4·L].
"""

from __future__ import annotations

import numpy as np
from numba import njit

from .simd import (
    dot_ready,
    load_i32,
    load_quad,
    load_ready,
    mlal_high,
    mlal_low,
    mull_high,
    mull_low,
    wide_high,
    wide_low,
)
from .weave import P, finish, woven
from .words.depthwise import BIAS, COLUMN, HI, LINE, LO, MULTIPLIER, PERIOD, ROLL, ROW, RUN, Y_PITCH, ZERO_POINT, W


@njit(error_model="numpy", inline="always")
def column(p, row):
    """Four rows, `row` bytes apart, made signed and woven."""
    return woven(load_ready(p), load_ready(p + row), load_ready(p + 2 * row), load_ready(p + 3 * row))


@njit(error_model="numpy", inline="always")
def dots(a0, a1, a2, a3, q0, q1, q2, q3, w):
    """Four vectors of sums, a quad more for each; weights from address w on."""
    a0, a1 = dot_ready(a0, q0, load_quad(w)), dot_ready(a1, q1, load_quad(w + P))
    return a0, a1, dot_ready(a2, q2, load_quad(w + 2 * P)), dot_ready(a3, q3, load_quad(w + 3 * P))


@njit(error_model="numpy", inline="always")
def window(bias, q0, q1, q2, q3, s0, s1, s2, s3, t0, t1, t2, t3, w, step):
    """The sums of a block over three columns, whose weights lie `step` bytes apart."""
    a0, a1, a2, a3 = load_i32(bias), load_i32(bias + P), load_i32(bias + 2 * P), load_i32(bias + 3 * P)
    a0, a1, a2, a3 = dots(a0, a1, a2, a3, q0, q1, q2, q3, w)
    a0, a1, a2, a3 = dots(a0, a1, a2, a3, s0, s1, s2, s3, w + step)
    return dots(a0, a1, a2, a3, t0, t1, t2, t3, w + 2 * step)


@njit(error_model="numpy")
def rolling(g, x, y):
    """depthwise_rows.rolling."""
    c, row, step, run, pitch = g[ROLL], g[ROW], g[COLUMN], g[RUN], g[Y_PITCH]
    hi, zero_point, lo = np.int32(g[HI]), np.int32(g[ZERO_POINT]), np.int32(g[LO])
    w, bias, scale = g[W], g[BIAS], g[MULTIPLIER]
    for n in range(0, c, P):
        p = x + n
        q0, q1, q2, q3 = column(p, row)
        p += step
        s0, s1, s2, s3 = column(p, row)
        for at in range(n, run, c):
            p += step
            t0, t1, t2, t3 = column(p, row)
            a0, a1, a2, a3 = window(bias, q0, q1, q2, q3, s0, s1, s2, s3, t0, t1, t2, t3, w, 8 * P)
            finish(a0, a1, a2, a3, scale, y + at, c - n, hi, zero_point, lo)
            a0, a1, a2, a3 = window(bias, q0, q1, q2, q3, s0, s1, s2, s3, t0, t1, t2, t3, w + 4 * P, 8 * P)
            finish(a0, a1, a2, a3, scale, y + pitch + at, c - n, hi, zero_point, lo)
            q0, q1, q2, q3 = s0, s1, s2, s3
            s0, s1, s2, s3 = t0, t1, t2, t3
        w += 24 * P
        bias += 4 * P
        scale += 4 * P


@njit(error_model="numpy", inline="always")
def three(p, line):
    """Three rows, `line` bytes apart, made signed and woven; the fourth has no weight."""
    r2 = load_ready(p + 2 * line)
    return woven(load_ready(p), load_ready(p + line), r2, r2)


@njit(error_model="numpy")
def strided(g, x, y):
    """A row of depthwise_rows.depthwise_strided."""
    c, line, step, run = g[ROLL], g[LINE], g[COLUMN], g[RUN]
    high, zero_point, low = np.int32(g[HI]), np.int32(g[ZERO_POINT]), np.int32(g[LO])
    w, bias, scale = g[W], g[BIAS], g[MULTIPLIER]
    for n in range(0, c, P):
        p = x + n
        q0, q1, q2, q3 = three(p, line)
        for at in range(n, run, c):
            s0, s1, s2, s3 = three(p + step, line)
            p += 2 * step
            t0, t1, t2, t3 = three(p, line)
            a0, a1, a2, a3 = window(bias, q0, q1, q2, q3, s0, s1, s2, s3, t0, t1, t2, t3, w, 4 * P)
            finish(a0, a1, a2, a3, scale, y + at, c - n, high, zero_point, low)
            q0, q1, q2, q3 = t0, t1, t2, t3
        w += 12 * P
        bias += 4 * P
        scale += 4 * P


@njit(error_model="numpy", inline="always")
def products(bias, x0, x1, x2, x3, x4, x5, x6, x7, x8, w0, w1, w2, w3, w4, w5, w6, w7, w8):
    """The sums of nine taps of 16 bytes each, and the bias."""
    a0, a1, a2, a3 = load_i32(bias), load_i32(bias + P), load_i32(bias + 2 * P), load_i32(bias + 3 * P)
    f, h = mlal_low(mull_low(x0, w0), x1, w1), mlal_high(mull_high(x0, w0), x1, w1)
    a0, a1, a2, a3 = wide_low(a0, f), wide_high(a1, f), wide_low(a2, h), wide_high(a3, h)
    f, h = mlal_low(mull_low(x2, w2), x3, w3), mlal_high(mull_high(x2, w2), x3, w3)
    a0, a1, a2, a3 = wide_low(a0, f), wide_high(a1, f), wide_low(a2, h), wide_high(a3, h)
    f, h = mlal_low(mull_low(x4, w4), x5, w5), mlal_high(mull_high(x4, w4), x5, w5)
    a0, a1, a2, a3 = wide_low(a0, f), wide_high(a1, f), wide_low(a2, h), wide_high(a3, h)
    f, h = mlal_low(mull_low(x6, w6), x7, w7), mlal_high(mull_high(x6, w6), x7, w7)
    a0, a1, a2, a3 = wide_low(a0, f), wide_high(a1, f), wide_low(a2, h), wide_high(a3, h)
    f, h = mull_low(x8, w8), mull_high(x8, w8)
    return wide_low(a0, f), wide_high(a1, f), wide_low(a2, h), wide_high(a3, h)


@njit(error_model="numpy", inline="always")
def nine(w):
    """The weights of a block."""
    w0, w1, w2 = load_quad(w), load_quad(w + P), load_quad(w + 2 * P)
    w3, w4, w5 = load_quad(w + 3 * P), load_quad(w + 4 * P), load_quad(w + 5 * P)
    return w0, w1, w2, w3, w4, w5, load_quad(w + 6 * P), load_quad(w + 7 * P), load_quad(w + 8 * P)


@njit(error_model="numpy", inline="always")
def four(p, row):
    """16 bytes of each of four rows, made signed."""
    return load_ready(p), load_ready(p + row), load_ready(p + 2 * row), load_ready(p + 3 * row)


@njit(error_model="numpy")
def direct_rolling(g, x, y):
    """`rolling` with DIRECT weights."""
    c, row, step, run, pitch = g[ROLL], g[ROW], g[COLUMN], g[RUN], g[Y_PITCH]
    hi, zero_point, lo = np.int32(g[HI]), np.int32(g[ZERO_POINT]), np.int32(g[LO])
    w, bias, scale = g[W], g[BIAS], g[MULTIPLIER]
    for n in range(0, c, P):
        w0, w1, w2, w3, w4, w5, w6, w7, w8 = nine(w)
        p = x + n
        q0, q1, q2, q3 = four(p, row)
        p += step
        s0, s1, s2, s3 = four(p, row)
        for at in range(n, run, c):
            p += step
            t0, t1, t2, t3 = four(p, row)
            a0, a1, a2, a3 = products(bias, q0, s0, t0, q1, s1, t1, q2, s2, t2, w0, w1, w2, w3, w4, w5, w6, w7, w8)
            finish(a0, a1, a2, a3, scale, y + at, c - n, hi, zero_point, lo)
            a0, a1, a2, a3 = products(bias, q1, s1, t1, q2, s2, t2, q3, s3, t3, w0, w1, w2, w3, w4, w5, w6, w7, w8)
            finish(a0, a1, a2, a3, scale, y + pitch + at, c - n, hi, zero_point, lo)
            q0, q1, q2, q3 = s0, s1, s2, s3
            s0, s1, s2, s3 = t0, t1, t2, t3
        w += 9 * P
        bias += 4 * P
        scale += 4 * P


@njit(error_model="numpy")
def direct_along(g, x, y):
    """A pair of rows, block after block of a run."""
    row, step, run, pitch = g[ROW], g[COLUMN], g[RUN], g[Y_PITCH]
    hi, zero_point, lo = np.int32(g[HI]), np.int32(g[ZERO_POINT]), np.int32(g[LO])
    period, w, p = np.int64(0), g[W], np.int64(0)
    for at in range(0, run, P):
        if period == g[PERIOD]:
            period, w, p = np.int64(0), g[W], np.int64(0)
        w0, w1, w2, w3, w4, w5, w6, w7, w8 = nine(w)
        q0, q1, q2, q3 = four(x + at, row)
        s0, s1, s2, s3 = four(x + at + step, row)
        t0, t1, t2, t3 = four(x + at + 2 * step, row)
        bias, scale = g[BIAS] + p, g[MULTIPLIER] + p
        a0, a1, a2, a3 = products(bias, q0, s0, t0, q1, s1, t1, q2, s2, t2, w0, w1, w2, w3, w4, w5, w6, w7, w8)
        finish(a0, a1, a2, a3, scale, y + at, run - at, hi, zero_point, lo)
        a0, a1, a2, a3 = products(bias, q1, s1, t1, q2, s2, t2, q3, s3, t3, w0, w1, w2, w3, w4, w5, w6, w7, w8)
        finish(a0, a1, a2, a3, scale, y + pitch + at, run - at, hi, zero_point, lo)
        w += 9 * P
        p += 4 * P
        period += 1


@njit(error_model="numpy")
def direct_strided(g, x, y):
    """`strided` with DIRECT weights."""
    c, line, step, run = g[ROLL], g[LINE], g[COLUMN], g[RUN]
    high, zero_point, low = np.int32(g[HI]), np.int32(g[ZERO_POINT]), np.int32(g[LO])
    w, bias, scale = g[W], g[BIAS], g[MULTIPLIER]
    for n in range(0, c, P):
        w0, w1, w2, w3, w4, w5, w6, w7, w8 = nine(w)
        p = x + n
        q0, q1, q2 = load_ready(p), load_ready(p + line), load_ready(p + 2 * line)
        for at in range(n, run, c):
            p += step
            s0, s1, s2 = load_ready(p), load_ready(p + line), load_ready(p + 2 * line)
            p += step
            t0, t1, t2 = load_ready(p), load_ready(p + line), load_ready(p + 2 * line)
            a0, a1, a2, a3 = products(bias, q0, s0, t0, q1, s1, t1, q2, s2, t2, w0, w1, w2, w3, w4, w5, w6, w7, w8)
            finish(a0, a1, a2, a3, scale, y + at, c - n, high, zero_point, low)
            q0, q1, q2 = t0, t1, t2
        w += 9 * P
        bias += 4 * P
        scale += 4 * P
