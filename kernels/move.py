"""Bytes that move and do not change: padding, slices, transposition, repetition, concatenation.

`copy_nd` copies runs of RUN bytes over up to five outer dimensions, each with a stride (in bytes, 0 to repeat) on either side;
units are runs. `fill_bytes` sets bytes; units are bytes. `select` chooses element by element.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from .memory import copy, fill, i16, i32, i64, u8
from .simd import ISA, L, load_16, load_quad, load_ready, splat_16, splat_quad, store
from .words.move import (
    D1,
    D2,
    D3,
    D4,
    FLIP,
    HEIGHT,
    LEFT,
    LINE,
    PADDED_HEIGHT,
    PIXELS,
    RIGHT,
    RUN,
    SIZE,
    STRIDE,
    TOP,
    VALUE,
    X0,
    X1,
    X2,
    X3,
    X4,
    X_AT,
    Y0,
    Y1,
    Y2,
    Y3,
    Y4,
    Y_AT,
    A,
    B,
    C,
    X,
    Y,
)

FLIPS = ISA.by_steps and ISA.offset != 0


@njit(error_model="numpy")
def copy_line(g, x, y, n):
    """n runs along the innermost dimension: elements as such, longer runs as blocks."""
    run, sx, sy = g[RUN], g[X4], g[Y4]
    if run == 1:
        for i in range(n):
            u8(y + i * sy)[0] = u8(x + i * sx)[0]
    elif run == 2:
        for i in range(n):
            i16(y + i * sy)[0] = i16(x + i * sx)[0]
    elif run == 4:
        for i in range(n):
            i32(y + i * sy)[0] = i32(x + i * sx)[0]
    elif run == 8:
        for i in range(n):
            i64(y + i * sy)[0] = i64(x + i * sx)[0]
    else:
        for i in range(n):
            copy(y + i * sy, x + i * sx, run)


@njit(error_model="numpy")
def copy_nd(g, scratch, lo, hi):
    """y[i0 … i4] = x[i0 … i4], a run each."""
    from_x, to_y = g[X], g[Y]
    if g[X_AT]:
        from_x += i64(g[X_AT])[0]
    if g[Y_AT]:
        to_y += i64(g[Y_AT])[0]
    i0 = i1 = i2 = i3 = i4 = np.int64(0)
    if lo:  # divisions take longer than a small copy does
        i4 = lo % g[D4]
        rest = lo // g[D4]
        i3 = rest % g[D3]
        rest = rest // g[D3]
        i2 = rest % g[D2]
        rest = rest // g[D2]
        i1 = rest % g[D1]
        i0 = rest // g[D1]
    done = lo
    while done < hi:
        n = min(g[D4] - i4, hi - done)
        x = from_x + i0 * g[X0] + i1 * g[X1] + i2 * g[X2] + i3 * g[X3] + i4 * g[X4]
        y = to_y + i0 * g[Y0] + i1 * g[Y1] + i2 * g[Y2] + i3 * g[Y3] + i4 * g[Y4]
        copy_line(g, x, y, n)
        done += n
        i4 = np.int64(0)
        i3 += 1
        if i3 == g[D3]:
            i3 = np.int64(0)
            i2 += 1
            if i2 == g[D2]:
                i2 = np.int64(0)
                i1 += 1
                if i1 == g[D1]:
                    i1 = np.int64(0)
                    i0 += 1


@njit(error_model="numpy")
def fill_bytes(g, scratch, lo, hi):
    """Every byte VALUE."""
    fill(g[Y] + lo, g[VALUE], hi - lo)


P = 4 * L


@njit(error_model="numpy", inline="always")
def fill_run(to, value, n):
    """`fill` without a call, but for few bytes: whole vectors, the last of them over the one before."""
    if n >= P:
        v = splat_quad(value)
        for b in range(0, n - P, P):
            store(to + b, v)
        store(to + n - P, v)
    elif n >= 16:
        for b in range(0, n - 16, 16):
            store(to + b, splat_16(value))
        store(to + n - 16, splat_16(value))
    elif n > 0:
        fill(to, value, n)


@njit(error_model="numpy", inline="always")
def copy_run(to, source, n):
    """`copy` likewise."""
    if n >= P:
        for b in range(0, n - P, P):
            store(to + b, load_quad(source + b))
        store(to + n - P, load_quad(source + n - P))
    else:
        copy(to, source, n)


@njit(error_model="numpy")
def fill_gaps(to, pitch, value, n, count):
    """`fill_run` for n bytes, `count` times, `pitch` bytes apart."""
    v = splat_16(value)
    if 16 <= n <= 32:
        for _ in range(count):
            store(to, v)
            store(to + n - 16, v)
            to += pitch
    elif 32 < n <= 64:
        for _ in range(count):
            store(to, v)
            store(to + 16, v)
            store(to + n - 32, v)
            store(to + n - 16, v)
            to += pitch
    else:
        for _ in range(count):
            fill_run(to, value, n)
            to += pitch


@njit(error_model="numpy")
def frame_borders(g, lo, hi):
    """The borders alone, as pad_image makes them, of rows lo … hi − 1 of one image."""
    line, value, left, right, pitch = g[LINE], g[VALUE], g[LEFT], g[RIGHT], g[LINE] + g[RIGHT] + g[LEFT]
    first, last = max(lo, g[TOP]), min(hi, g[TOP] + g[HEIGHT])
    if lo < g[TOP]:
        fill_run(g[Y] + lo * pitch, value, (min(hi, g[TOP]) - lo) * pitch)
    if first < last:
        y = g[Y] + first * pitch
        fill_run(y, value, left)
        fill_gaps(y + left + line, pitch, value, right + left, last - first - 1)
        fill_run(g[Y] + last * pitch - right, value, right)
    below = max(lo, g[TOP] + g[HEIGHT])
    if below < hi:
        fill_run(g[Y] + below * pitch, value, (hi - below) * pitch)


@njit(error_model="numpy")
def copy_flipped(to, source, n):
    """n bytes, a multiple of 16, with their top bits flipped."""
    while n >= 64:
        a, b, c, d = load_ready(source), load_ready(source + 16), load_ready(source + 32), load_ready(source + 48)
        store(to, a)
        store(to + 16, b)
        store(to + 32, c)
        store(to + 48, d)
        to, source, n = to + 64, source + 64, n - 64
    while n > 0:
        store(to, load_ready(source))
        to, source, n = to + 16, source + 16, n - 16


@njit(error_model="numpy")
def pad_image(g, scratch, lo, hi):
    """Images with borders: rows of LINE bytes, each between LEFT and RIGHT bytes of VALUE, HEIGHT of them behind TOP rows of it.

    Units are rows of the padded images, PADDED_HEIGHT to an image. A row's right border and the next one's left are filled in
    one piece: borders are short, and calls would take longer than they do. Where X is 0 the image is written by somebody else.
    """
    if g[X] == 0:
        frame_borders(g, lo, hi)
        return
    line, value, between = g[LINE], g[VALUE], g[RIGHT] + g[LEFT]
    pitch = line + between
    row = lo % g[PADDED_HEIGHT] - g[TOP]
    x, y = g[X] + (lo // g[PADDED_HEIGHT] * g[HEIGHT] + row) * line, g[Y] + lo * pitch
    fill_run(y, value, g[LEFT])
    for unit in range(lo, hi):
        gap = between if unit + 1 < hi else g[RIGHT]
        if row < 0 or row >= g[HEIGHT]:
            fill_run(y + g[LEFT], value, line + gap)
        else:
            if FLIPS and g[FLIP]:
                copy_flipped(y + g[LEFT], x, line)
            else:
                copy_run(y + g[LEFT], x, line)
            fill_run(y + g[LEFT] + line, value, gap)
        y += pitch
        x += line
        row += 1
        if row == g[PADDED_HEIGHT] - g[TOP]:
            x += (g[HEIGHT] - g[PADDED_HEIGHT]) * line
            row = -g[TOP]


@njit(error_model="numpy")
def pad_phases(g, scratch, lo, hi):
    """As pad_image, with a row's pixels of RUN bytes sorted by their place modulo STRIDE: PIXELS of phase 0, then of phase 1, …

    LEFT is in pixels here. A kernel with that stride finds what it reads for neighbouring outputs side by side.
    """
    s, run, each, left, width = g[STRIDE], g[RUN], g[PIXELS], g[LEFT], g[LINE] // g[RUN]
    for unit in range(lo, hi):
        image = unit // g[PADDED_HEIGHT]
        row = unit - image * g[PADDED_HEIGHT] - g[TOP]
        y = g[Y] + unit * s * each * run
        if row < 0 or row >= g[HEIGHT]:
            fill(y, g[VALUE], s * each * run)
            continue
        x = g[X] + (image * g[HEIGHT] + row) * g[LINE]
        for phase in range(s):
            first = max(left - phase + s - 1, np.int64(0)) // s
            last = max(min((left + width - phase + s - 1) // s, each), first)
            fill(y, g[VALUE], first * run)
            source, to = x + (first * s + phase - left) * run, y + first * run
            count = last - first
            if run == 8 or run == 16:  # one piece a pixel: few instructions are most of the work
                for k in range(count):
                    if run == 16:
                        store(to + 16 * k, load_16(source + 16 * s * k))
                    else:
                        i64(to + 8 * k)[0] = i64(source + 8 * s * k)[0]
            elif run % 16 == 0:
                for k in range(count):
                    for b in range(0, run, 16):
                        store(to + k * run + b, load_16(source + k * s * run + b))
            else:
                for k in range(count):
                    copy(to + k * run, source + k * s * run, run)
            to += count * run
            fill(to, g[VALUE], (each - last) * run)
            y += each * run


@njit(error_model="numpy")
def select(g, scratch, lo, hi):
    """Elements of SIZE bytes: A's where C is true, else B's; all three have the output's shape."""
    c, size = u8(g[C]), g[SIZE]
    for i in range(lo, hi):
        source = g[A] if c[i] else g[B]
        if size == 1:
            u8(g[Y])[i] = u8(source)[i]
        elif size == 2:
            i16(g[Y])[i] = i16(source)[i]
        elif size == 4:
            i32(g[Y])[i] = i32(source)[i]
        else:
            i64(g[Y])[i] = i64(source)[i]
