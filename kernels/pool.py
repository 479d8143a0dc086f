"""AVERAGE_POOL_2D and MAX_POOL_2D over the elements that exist; padding is never counted.

Channels last; units are output pixels. int8 lies in the arena with its top bit flipped: CENTRE (128) is taken off before an
average is rounded, since rounding goes away from zero, and put back behind.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from .memory import f32, float_of_bits, i16, i32, u8
from .simd import (
    L,
    add_i32,
    cap,
    clamp_f32,
    load_f32,
    load_quad,
    load_u8_as_i32,
    max_f32,
    max_quad,
    splat_f32,
    splat_quad,
    store,
    store_quad_some,
    zero_i32,
)
from .words.pool import CENTRE, HI, IN_H, IN_W, KH, KW, LEFT, LO, OUT_H, OUT_W, SH, SW, TOP, C, X, Y


@njit(error_model="numpy", inline="always")
def window(g, pixel):
    """First row and column, and how many of each exist, of an output pixel's window; then the input image's first pixel."""
    per_image = g[OUT_H] * g[OUT_W]
    image = pixel // per_image
    rest = pixel - image * per_image
    line = rest // g[OUT_W]
    y0 = line * g[SH] - g[TOP]
    x0 = (rest - line * g[OUT_W]) * g[SW] - g[LEFT]
    y1, x1 = min(y0 + g[KH], g[IN_H]), min(x0 + g[KW], g[IN_W])
    y0, x0 = max(y0, np.int64(0)), max(x0, np.int64(0))
    return y0, y1, x0, x1, image * g[IN_H] * g[IN_W]


@njit(error_model="numpy", inline="always")
def mean_half_away(total, count):
    """total / count, ties away from zero."""
    if total > 0:
        return (total + count // 2) // count
    return -((-total + count // 2) // count)


@njit(error_model="numpy", inline="always")
def add_window(x, pitch, line, rows, columns, to):
    """Sums of 4·L channels from address x over a window, to address `to`."""
    a0, a1, a2, a3 = zero_i32(), zero_i32(), zero_i32(), zero_i32()
    for _ in range(rows):
        p = x
        for _ in range(columns):
            a0, a1 = add_i32(a0, load_u8_as_i32(p)), add_i32(a1, load_u8_as_i32(p + L))
            a2, a3 = add_i32(a2, load_u8_as_i32(p + 2 * L)), add_i32(a3, load_u8_as_i32(p + 3 * L))
            p += pitch
        x += line
    store(to, a0)
    store(to + 4 * L, a1)
    store(to + 8 * L, a2)
    store(to + 12 * L, a3)


@njit(error_model="numpy")
def average_u8(g, scratch, lo, hi):
    """8-bit average in blocks of channels whose sums lie in scratch; loads may reach a block past the channels.

    Quotients are taken in float64, which floors them exactly: both numbers fit 31 bits.
    """
    sums = i32(scratch)
    for pixel in range(lo, hi):
        y0, y1, x0, x1, base = window(g, pixel)
        count = (y1 - y0) * (x1 - x0)
        centre, half, by = np.int32(count * g[CENTRE]), np.int32(count // 2), np.float64(count)
        y_lo, y_hi, middle = np.int32(g[LO]), np.int32(g[HI]), np.int32(g[CENTRE])
        for c0 in range(0, g[C], 4 * L):
            x = g[X] + (base + y0 * g[IN_W] + x0) * g[C] + c0
            add_window(x, g[C], g[IN_W] * g[C], y1 - y0, x1 - x0, scratch)
            y = u8(g[Y] + pixel * g[C] + c0)
            for c in range(min(g[C] - c0, np.int64(4 * L))):
                t = sums[c] - centre
                q = np.int32(np.float64(abs(t) + half) / by)
                q = (q if t > 0 else -q) + middle
                y[c] = np.uint8(min(max(q, y_lo), y_hi))


@njit(error_model="numpy")
def average_s16(g, scratch, lo, hi):
    """16-bit average."""
    for pixel in range(lo, hi):
        y0, y1, x0, x1, base = window(g, pixel)
        count = (y1 - y0) * (x1 - x0)
        y = i16(g[Y] + 2 * pixel * g[C])
        for c in range(g[C]):
            total = np.int64(0)
            for yy in range(y0, y1):
                for xx in range(x0, x1):
                    total += np.int64(i16(g[X] + 2 * ((base + yy * g[IN_W] + xx) * g[C] + c))[0])
            y[c] = np.int16(min(max(mean_half_away(total, count), g[LO]), g[HI]))


@njit(error_model="numpy")
def average_f32(g, scratch, lo, hi):
    """float32 average."""
    low, high = float_of_bits(g[LO]), float_of_bits(g[HI])
    for pixel in range(lo, hi):
        y0, y1, x0, x1, base = window(g, pixel)
        count = np.float32((y1 - y0) * (x1 - x0))
        y = f32(g[Y] + 4 * pixel * g[C])
        for c in range(g[C]):
            y[c] = np.float32(0)
        for yy in range(y0, y1):
            for xx in range(x0, x1):
                x = f32(g[X] + 4 * (base + yy * g[IN_W] + xx) * g[C])
                for c in range(g[C]):
                    y[c] += x[c]
        for c in range(g[C]):
            y[c] = min(max(np.float32(y[c] / count), low), high)


@njit(error_model="numpy", inline="always")
def _maximum(x, y, g, y0, y1, x0, x1):
    first = (y0 * g[IN_W] + x0) * g[C]
    for c in range(g[C]):
        y[c] = x[first + c]
    for yy in range(y0, y1):
        for xx in range(x0, x1):
            at = (yy * g[IN_W] + xx) * g[C]
            for c in range(g[C]):
                y[c] = max(y[c], x[at + c])


@njit(error_model="numpy")
def maximum_u8(g, scratch, lo, hi):
    """8-bit maximum, 4·L channels at a time; loads may reach past the channels."""
    low, high, pitch, line = splat_quad(g[LO]), np.int32(g[HI]), g[C], g[IN_W] * g[C]
    for pixel in range(lo, hi):
        y0, y1, x0, x1, base = window(g, pixel)
        first, y = g[X] + (base + y0 * g[IN_W] + x0) * pitch, g[Y] + pixel * pitch
        for c in range(0, g[C], 4 * L):
            most, row = low, first + c
            for _ in range(y0, y1):
                x = row
                for _ in range(x0, x1):
                    most = max_quad(most, load_quad(x))
                    x += pitch
                row += line
            most = cap(most, high)
            if g[C] - c >= 4 * L:
                store(y + c, most)
            else:
                store_quad_some(y + c, most, g[C] - c)


@njit(error_model="numpy")
def maximum_s16(g, scratch, lo, hi):
    """16-bit maximum."""
    low, high = np.int16(g[LO]), np.int16(g[HI])
    for pixel in range(lo, hi):
        y0, y1, x0, x1, base = window(g, pixel)
        y = i16(g[Y] + 2 * pixel * g[C])
        _maximum(i16(g[X] + 2 * base * g[C]), y, g, y0, y1, x0, x1)
        for c in range(g[C]):
            y[c] = min(max(y[c], low), high)


@njit(error_model="numpy")
def maximum_f32(g, scratch, lo, hi):
    """float32 maximum, vectors of channels first."""
    low, high = float_of_bits(g[LO]), float_of_bits(g[HI])
    whole, pitch, line = g[C] // L * L, 4 * g[C], 4 * g[IN_W] * g[C]
    for pixel in range(lo, hi):
        y0, y1, x0, x1, base = window(g, pixel)
        first = g[X] + 4 * (base + y0 * g[IN_W] + x0) * g[C]
        y = f32(g[Y] + 4 * pixel * g[C])
        for c in range(0, whole, L):
            row = first + 4 * c
            most = load_f32(row)
            for _ in range(y0, y1):
                x = row
                for _ in range(x0, x1):
                    most = max_f32(most, load_f32(x))
                    x += pitch
                row += line
            store(g[Y] + pixel * pitch + 4 * c, clamp_f32(most, splat_f32(low), splat_f32(high)))
        for c in range(whole, g[C]):
            most_one, row = f32(first + 4 * c)[0], first + 4 * c
            for _ in range(y0, y1):
                x = row
                for _ in range(x0, x1):
                    most_one = max(most_one, f32(x)[0])
                    x += pitch
                row += line
            y[c] = min(max(most_one, low), high)
