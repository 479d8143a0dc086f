"""AVERAGE_POOL_2D and MAX_POOL_2D over the elements that exist; padding is never counted.

Channels last; units are output pixels, whose windows are walked from one to the next. Vectors of channels are loaded and stored
whole: what a store writes behind a pixel is written again by the next, and the last ones of a part store no more than is theirs.
int8 lies in the arena with its top bit flipped, which adds CENTRE (128) to each: averages are rounded away from that.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from .memory import copy, float_of_bits
from .simd import (
    L,
    add_f32,
    add_i32,
    cap,
    clamp_f32,
    clamp_i32,
    div_f32,
    load_f32,
    load_i16_as_i32,
    load_quad,
    max_f32,
    max_quad,
    min_f32,
    mul_f32,
    mul_i32,
    pack_u8,
    shift_right_i32,
    splat_f32,
    splat_i32,
    splat_quad,
    store,
    store_f32_some,
    store_i16,
    store_i16_some,
    store_quad_some,
    sub_i32,
    to_f32,
    truncated,
    zero_f32,
    zero_i32,
)
from .totals import add_quads
from .words.pool import CENTRE, HI, IN_H, IN_W, KH, KW, LEFT, LO, OUT_H, OUT_W, SH, SW, TOP, C, X, Y


@njit(error_model="numpy", inline="always")
def begin(g, pixel, size):
    """Row and column where an output pixel's window begins, and the address of its image of elements of `size` bytes."""
    line = pixel // g[OUT_W]
    image = line // g[OUT_H]
    top, left = (line - image * g[OUT_H]) * g[SH] - g[TOP], (pixel - line * g[OUT_W]) * g[SW] - g[LEFT]
    return top, left, g[X] + image * (g[IN_H] * g[IN_W] * g[C] * size)


@njit(error_model="numpy", inline="always")
def ahead(g, top, left, image, size):
    """The same of the next pixel."""
    left += g[SW]
    if left == g[OUT_W] * g[SW] - g[LEFT]:
        left, top = -g[LEFT], top + g[SH]
        if top == g[OUT_H] * g[SH] - g[TOP]:
            top, image = -g[TOP], image + g[IN_H] * g[IN_W] * g[C] * size
    return top, left, image


@njit(error_model="numpy", inline="always")
def window(g, top, left, image, size):
    """Address of a window's first element that exists; how many rows and columns do."""
    y0, x0 = max(top, np.int64(0)), max(left, np.int64(0))
    rows, columns = min(top + g[KH], g[IN_H]) - y0, min(left + g[KW], g[IN_W]) - x0
    return image + (y0 * g[IN_W] + x0) * (g[C] * size), rows, columns


@njit(error_model="numpy", inline="always")
def quotient(total, half, limit, down, count, inverse):
    """total / count per lane, ties away from 0, or from where sums with an offset have it: see `rounding`.

    floor((total + half) / count), for an even count one less in the numerator where total < limit, which is not above that
    place: an odd one has no ties. The float32 quotient is off by one at most.
    """
    n = add_i32(add_i32(total, half), clamp_i32(sub_i32(total, limit), down, zero_i32()))
    q = truncated(mul_f32(to_f32(n), inverse))
    r = sub_i32(n, mul_i32(q, count))
    q = add_i32(q, shift_right_i32(r, np.int32(31)))
    return sub_i32(q, shift_right_i32(sub_i32(sub_i32(count, splat_i32(np.int32(1))), r), np.int32(31)))


@njit(error_model="numpy", inline="always")
def rounding(count, centre):
    """What `quotient` takes behind the sum, for `count` elements to each of which `centre` is added."""
    limit, down = splat_i32(np.int32(count * centre + 1)), splat_i32(np.int32((count & 1) - 1))
    return (
        splat_i32(np.int32(count // 2)),
        limit,
        down,
        splat_i32(np.int32(count)),
        splat_f32(np.float32(1.0 / np.float64(count))),
    )


@njit(error_model="numpy", inline="always")
def aside(y, end, kept, scratch, pitch, whole):
    """Where to write the next pixel, up to where, and where what lies in scratch is to go in the end.

    Whole vectors of few channels would reach over the end for many pixels, which so are put together first.
    """
    if kept == 0 and pitch < whole and end - y < whole:
        return scratch, scratch + 2 * whole, y
    return y, end, kept


@njit(error_model="numpy")
def average_u8(g, scratch, lo, hi):
    """8-bit average, 4·L channels at a time."""
    low, high, pitch, line = splat_quad(g[LO]), np.int32(g[HI]), g[C], g[IN_W] * g[C]
    y, end, kept, before = g[Y] + lo * pitch, g[Y] + hi * pitch, np.int64(0), np.int64(0)
    half, limit, down, many, inverse = rounding(np.int64(1), g[CENTRE])
    top, left, image = begin(g, lo, np.int64(1))
    for _ in range(lo, hi):
        y, end, kept = aside(y, end, kept, scratch, pitch, np.int64(4 * L))
        x, rows, columns = window(g, top, left, image, np.int64(1))
        if rows * columns != before:
            before = rows * columns
            half, limit, down, many, inverse = rounding(before, g[CENTRE])
        for c in range(0, pitch, 4 * L):
            a, b, d, e = add_quads(x + c, pitch, columns, line, rows)
            a, b = quotient(a, half, limit, down, many, inverse), quotient(b, half, limit, down, many, inverse)
            d, e = quotient(d, half, limit, down, many, inverse), quotient(e, half, limit, down, many, inverse)
            q = cap(max_quad(pack_u8(a, b, d, e), low), high)
            if end - y - c >= 4 * L:
                store(y + c, q)
            else:
                store_quad_some(y + c, q, end - y - c)
        y += pitch
        top, left, image = ahead(g, top, left, image, np.int64(1))
    if kept:
        copy(kept, scratch, y - scratch)


@njit(error_model="numpy")
def maximum_u8(g, scratch, lo, hi):
    """8-bit maximum, 4·L channels at a time."""
    low, high, pitch, line = splat_quad(g[LO]), np.int32(g[HI]), g[C], g[IN_W] * g[C]
    y, end, kept = g[Y] + lo * pitch, g[Y] + hi * pitch, np.int64(0)
    top, left, image = begin(g, lo, np.int64(1))
    for _ in range(lo, hi):
        y, end, kept = aside(y, end, kept, scratch, pitch, np.int64(4 * L))
        first, rows, columns = window(g, top, left, image, np.int64(1))
        for c in range(0, pitch, 4 * L):
            most, row = low, first + c
            for _ in range(rows):
                x = row
                for _ in range(columns):
                    most = max_quad(most, load_quad(x))
                    x += pitch
                row += line
            most = cap(most, high)
            if end - y - c >= 4 * L:
                store(y + c, most)
            else:
                store_quad_some(y + c, most, end - y - c)
        y += pitch
        top, left, image = ahead(g, top, left, image, np.int64(1))
    if kept:
        copy(kept, scratch, y - scratch)


@njit(error_model="numpy", inline="always")
def _pool_s16(g, scratch, lo, hi, average):
    low, high, pitch, line = splat_i32(np.int32(g[LO])), splat_i32(np.int32(g[HI])), 2 * g[C], 2 * g[IN_W] * g[C]
    y, end, kept = g[Y] + lo * pitch, g[Y] + hi * pitch, np.int64(0)
    top, left, image = begin(g, lo, np.int64(2))
    for _ in range(lo, hi):
        y, end, kept = aside(y, end, kept, scratch, pitch, np.int64(2 * L))
        first, rows, columns = window(g, top, left, image, np.int64(2))
        half, limit, down, many, inverse = rounding(rows * columns, np.int64(0))
        for c in range(0, pitch, 2 * L):
            v, row = zero_i32() if average else low, first + c
            for _ in range(rows):
                x = row
                for _ in range(columns):
                    one = load_i16_as_i32(x)
                    v = add_i32(v, one) if average else clamp_i32(one, v, high)
                    x += pitch
                row += line
            if average:
                v = clamp_i32(quotient(v, half, limit, down, many, inverse), low, high)
            if end - y - c >= 2 * L:
                store_i16(y + c, v)
            else:
                store_i16_some(y + c, v, (end - y - c) // 2)
        y += pitch
        top, left, image = ahead(g, top, left, image, np.int64(2))
    if kept:
        copy(kept, scratch, y - scratch)


@njit(error_model="numpy")
def average_s16(g, scratch, lo, hi):
    """16-bit average; sums are int32, as TFLite's."""
    _pool_s16(g, scratch, lo, hi, True)


@njit(error_model="numpy")
def maximum_s16(g, scratch, lo, hi):
    """16-bit maximum."""
    _pool_s16(g, scratch, lo, hi, False)


@njit(error_model="numpy", inline="always")
def _pool_f32(g, scratch, lo, hi, average):
    low, high = splat_f32(float_of_bits(g[LO])), splat_f32(float_of_bits(g[HI]))
    pitch, line = 4 * g[C], 4 * g[IN_W] * g[C]
    y, end, kept = g[Y] + lo * pitch, g[Y] + hi * pitch, np.int64(0)
    top, left, image = begin(g, lo, np.int64(4))
    for _ in range(lo, hi):
        y, end, kept = aside(y, end, kept, scratch, pitch, np.int64(4 * L))
        first, rows, columns = window(g, top, left, image, np.int64(4))
        count = splat_f32(np.float32(rows * columns))
        for c in range(0, pitch, 4 * L):
            row = first + c
            v = zero_f32() if average else load_f32(row)
            for _ in range(rows):
                x = row
                for _ in range(columns):
                    v = add_f32(v, load_f32(x)) if average else max_f32(v, load_f32(x))
                    x += pitch
                row += line
            if average:
                v = min_f32(max_f32(div_f32(v, count), low), high)
            else:
                v = clamp_f32(v, low, high)
            if end - y - c >= 4 * L:
                store(y + c, v)
            else:
                store_f32_some(y + c, v, (end - y - c) // 4)
        y += pitch
        top, left, image = ahead(g, top, left, image, np.int64(4))
    if kept:
        copy(kept, scratch, y - scratch)


@njit(error_model="numpy")
def average_f32(g, scratch, lo, hi):
    """float32 average."""
    _pool_f32(g, scratch, lo, hi, True)


@njit(error_model="numpy")
def maximum_f32(g, scratch, lo, hi):
    """float32 maximum."""
    _pool_f32(g, scratch, lo, hi, False)
