"""Depthwise convolution of bytes, two rows of output at a time: vertical stride and dilation 1.

Four rows of input, woven together byte by byte, hold three taps of one row of output and three of the next: each weaving serves
two byte dots with weights of their own. A quad is four rows of one kernel column (more quads where the kernel is higher).
Otherwise as depthwise_runs (kernels/depthwise.py): blocks of 4·L bytes, weights that repeat after PERIOD blocks.

Requantization is XNNPACK's, in float32, of sums that fit an int32 when scaled; everything else takes depthwise_runs.

A unit is an output row. A row that is left over, of an image's or of a thread's, is computed with the one before it once more;
threads that do so write the same bytes.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from . import depthwise_steps as steps
from .memory import i64
from .simd import ISA, dot_u8s8, load_i32, load_quad
from .weave import P, finish, woven
from .words.depthwise import (
    BIAS,
    COLUMN,
    DIRECT,
    HI,
    IMAGE,
    LINE,
    LINES,
    LO,
    MULTIPLIER,
    N_TAPS,
    PERIOD,
    ROLL,
    ROW,
    RUN,
    TAPS,
    Y_PITCH,
    ZERO_POINT,
    W,
    X,
    Y,
)

BY_STEPS = ISA.by_steps


@njit(error_model="numpy")
def along(g, x, y):
    """A pair of rows, block after block; x: the first row's window, y: the first row of output."""
    taps, n_quads, run, pitch = i64(g[TAPS]), g[N_TAPS], g[RUN], g[Y_PITCH]
    hi, zero_point, lo = np.int32(g[HI]), np.int32(g[ZERO_POINT]), np.int32(g[LO])
    period, w, p = np.int64(0), g[W], np.int64(0)
    for at in range(0, run, P):
        if period == g[PERIOD]:
            period, w, p = np.int64(0), g[W], np.int64(0)
        bias = g[BIAS] + p
        a0, a1, a2, a3 = load_i32(bias), load_i32(bias + P), load_i32(bias + 2 * P), load_i32(bias + 3 * P)
        b0, b1, b2, b3 = a0, a1, a2, a3
        for t in range(0, 4 * n_quads, 4):
            r0, r1 = load_quad(x + taps[t] + at), load_quad(x + taps[t + 1] + at)
            r2, r3 = load_quad(x + taps[t + 2] + at), load_quad(x + taps[t + 3] + at)
            q0, q1, q2, q3 = woven(r0, r1, r2, r3)
            a0, a1 = dot_u8s8(a0, q0, load_quad(w)), dot_u8s8(a1, q1, load_quad(w + P))
            a2, a3 = dot_u8s8(a2, q2, load_quad(w + 2 * P)), dot_u8s8(a3, q3, load_quad(w + 3 * P))
            b0, b1 = dot_u8s8(b0, q0, load_quad(w + 4 * P)), dot_u8s8(b1, q1, load_quad(w + 5 * P))
            b2, b3 = dot_u8s8(b2, q2, load_quad(w + 6 * P)), dot_u8s8(b3, q3, load_quad(w + 7 * P))
            w += 8 * P
        finish(a0, a1, a2, a3, g[MULTIPLIER] + p, y + at, run - at, hi, zero_point, lo)
        finish(b0, b1, b2, b3, g[MULTIPLIER] + p, y + pitch + at, run - at, hi, zero_point, lo)
        p += 4 * P
        period += 1


@njit(error_model="numpy", inline="always")
def column(p, row):
    """Four rows, `row` bytes apart, woven."""
    return woven(load_quad(p), load_quad(p + row), load_quad(p + 2 * row), load_quad(p + 3 * row))


@njit(error_model="numpy")
def rolling(g, x, y):
    """A pair of rows of a 3×3 layer, one block of channels at a time: a pixel's weaving is kept for its neighbours' windows."""
    c, row, step, run, pitch = g[ROLL], g[ROW], g[COLUMN], g[RUN], g[Y_PITCH]
    hi, zero_point, lo = np.int32(g[HI]), np.int32(g[ZERO_POINT]), np.int32(g[LO])
    w, bias, scale = g[W], g[BIAS], g[MULTIPLIER]
    for n in range(0, c, P):
        q0, q1, q2, q3 = column(x + n, row)
        s0, s1, s2, s3 = column(x + n + step, row)
        for at in range(n, run, c):
            t0, t1, t2, t3 = column(x + at + 2 * step, row)
            a0, a1, a2, a3 = load_i32(bias), load_i32(bias + P), load_i32(bias + 2 * P), load_i32(bias + 3 * P)
            b0, b1, b2, b3 = a0, a1, a2, a3
            a0, a1 = dot_u8s8(a0, q0, load_quad(w)), dot_u8s8(a1, q1, load_quad(w + P))
            a2, a3 = dot_u8s8(a2, q2, load_quad(w + 2 * P)), dot_u8s8(a3, q3, load_quad(w + 3 * P))
            b0, b1 = dot_u8s8(b0, q0, load_quad(w + 4 * P)), dot_u8s8(b1, q1, load_quad(w + 5 * P))
            b2, b3 = dot_u8s8(b2, q2, load_quad(w + 6 * P)), dot_u8s8(b3, q3, load_quad(w + 7 * P))
            a0, a1 = dot_u8s8(a0, s0, load_quad(w + 8 * P)), dot_u8s8(a1, s1, load_quad(w + 9 * P))
            a2, a3 = dot_u8s8(a2, s2, load_quad(w + 10 * P)), dot_u8s8(a3, s3, load_quad(w + 11 * P))
            b0, b1 = dot_u8s8(b0, s0, load_quad(w + 12 * P)), dot_u8s8(b1, s1, load_quad(w + 13 * P))
            b2, b3 = dot_u8s8(b2, s2, load_quad(w + 14 * P)), dot_u8s8(b3, s3, load_quad(w + 15 * P))
            a0, a1 = dot_u8s8(a0, t0, load_quad(w + 16 * P)), dot_u8s8(a1, t1, load_quad(w + 17 * P))
            a2, a3 = dot_u8s8(a2, t2, load_quad(w + 18 * P)), dot_u8s8(a3, t3, load_quad(w + 19 * P))
            b0, b1 = dot_u8s8(b0, t0, load_quad(w + 20 * P)), dot_u8s8(b1, t1, load_quad(w + 21 * P))
            b2, b3 = dot_u8s8(b2, t2, load_quad(w + 22 * P)), dot_u8s8(b3, t3, load_quad(w + 23 * P))
            finish(a0, a1, a2, a3, scale, y + at, c - n, hi, zero_point, lo)
            finish(b0, b1, b2, b3, scale, y + pitch + at, c - n, hi, zero_point, lo)
            q0, q1, q2, q3 = s0, s1, s2, s3
            s0, s1, s2, s3 = t0, t1, t2, t3
        w += 24 * P
        bias += 4 * P
        scale += 4 * P


@njit(error_model="numpy")
def depthwise_rows(g, scratch, lo, hi):
    """8-bit, two rows at a time; see above."""
    unit = lo
    while unit < hi:
        image = unit // g[LINES]
        line, end = unit - image * g[LINES], min(hi - image * g[LINES], g[LINES])
        unit += min(end - line, np.int64(2))
        line = line if line + 1 < end else max(line - 1, np.int64(0))
        x = g[X] + image * g[IMAGE] + line * g[ROW]
        y = g[Y] + (image * g[LINES] + line) * g[Y_PITCH]
        if BY_STEPS and g[DIRECT]:
            if g[ROLL]:
                steps.direct_rolling(g, x, y)
            else:
                steps.direct_along(g, x, y)
        elif BY_STEPS and g[ROLL]:
            steps.rolling(g, x, y)
        elif g[ROLL]:
            rolling(g, x, y)
        else:
            along(g, x, y)


@njit(error_model="numpy", inline="always")
def three(p, line):
    """Three rows, `line` bytes apart, woven; the fourth has no weight."""
    r2 = load_quad(p + 2 * line)
    return woven(load_quad(p), load_quad(p + line), r2, r2)


@njit(error_model="numpy")
def depthwise_strided(g, scratch, lo, hi):
    """8-bit 3×3 at horizontal stride 2, a row at a time: neighbouring windows share a column, which is woven once.

    Units are output rows. Quads [block][column][4], otherwise as depthwise_rows.
    """
    c, line, step, run = g[ROLL], g[LINE], g[COLUMN], g[RUN]
    high, zero_point, low = np.int32(g[HI]), np.int32(g[ZERO_POINT]), np.int32(g[LO])
    for unit in range(lo, hi):
        image = unit // g[LINES]
        x = g[X] + image * g[IMAGE] + (unit - image * g[LINES]) * g[ROW]
        y = g[Y] + unit * g[Y_PITCH]
        if BY_STEPS:
            if g[DIRECT]:
                steps.direct_strided(g, x, y)
            else:
                steps.strided(g, x, y)
            continue
        w, bias, scale = g[W], g[BIAS], g[MULTIPLIER]
        for n in range(0, c, P):
            p = x + n
            q0, q1, q2, q3 = three(p, line)
            for at in range(n, run, c):
                s0, s1, s2, s3 = three(p + step, line)
                p += 2 * step
                t0, t1, t2, t3 = three(p, line)
                a0, a1, a2, a3 = load_i32(bias), load_i32(bias + P), load_i32(bias + 2 * P), load_i32(bias + 3 * P)
                a0, a1 = dot_u8s8(a0, q0, load_quad(w)), dot_u8s8(a1, q1, load_quad(w + P))
                a2, a3 = dot_u8s8(a2, q2, load_quad(w + 2 * P)), dot_u8s8(a3, q3, load_quad(w + 3 * P))
                a0, a1 = dot_u8s8(a0, s0, load_quad(w + 4 * P)), dot_u8s8(a1, s1, load_quad(w + 5 * P))
                a2, a3 = dot_u8s8(a2, s2, load_quad(w + 6 * P)), dot_u8s8(a3, s3, load_quad(w + 7 * P))
                a0, a1 = dot_u8s8(a0, t0, load_quad(w + 8 * P)), dot_u8s8(a1, t1, load_quad(w + 9 * P))
                a2, a3 = dot_u8s8(a2, t2, load_quad(w + 10 * P)), dot_u8s8(a3, t3, load_quad(w + 11 * P))
                finish(a0, a1, a2, a3, scale, y + at, c - n, high, zero_point, low)
                q0, q1, q2, q3 = t0, t1, t2, t3
            w += 12 * P
            bias += 4 * P
            scale += 4 * P
