"""AVERAGE_POOL_2D and MAX_POOL_2D over the elements that exist; padding is never counted.

Channels last; units are output pixels. Those of a line whose windows are whole are one run. Vectors of channels are loaded and
stored whole: what a store writes behind a pixel is written again by the next, and the last ones of a part store no more than is
theirs; where channels are few, they are put together in scratch first.
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
    once,
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
def _averages_u8(x, pitch, columns, line, rows, known):
    a, b, c, d = add_quads(x, pitch, columns, line, rows)
    half, limit, down, many, inverse, low, high = known
    a, b = quotient(a, half, limit, down, many, inverse), quotient(b, half, limit, down, many, inverse)
    c, d = quotient(c, half, limit, down, many, inverse), quotient(d, half, limit, down, many, inverse)
    return cap(max_quad(pack_u8(a, b, c, d), low), high)


@njit(error_model="numpy", inline="always")
def _maxima_u8(x, pitch, columns, line, rows, known):
    most = known[0]
    for _ in range(rows):
        p = x
        for _ in range(columns):
            once()
            most = max_quad(most, load_quad(p))
            p += pitch
        x += line
    return cap(most, known[1])


@njit(error_model="numpy", inline="always")
def _averages_s16(x, pitch, columns, line, rows, known):
    half, limit, down, many, inverse, low, high = known
    v = zero_i32()
    for _ in range(rows):
        p = x
        for _ in range(columns):
            once()
            v = add_i32(v, load_i16_as_i32(p))
            p += pitch
        x += line
    return clamp_i32(quotient(v, half, limit, down, many, inverse), low, high)


@njit(error_model="numpy", inline="always")
def _maxima_s16(x, pitch, columns, line, rows, known):
    most = known[0]
    for _ in range(rows):
        p = x
        for _ in range(columns):
            once()
            most = clamp_i32(load_i16_as_i32(p), most, known[1])
            p += pitch
        x += line
    return most


@njit(error_model="numpy", inline="always")
def _averages_f32(x, pitch, columns, line, rows, known):
    v = zero_f32()
    for _ in range(rows):
        p, n = x, columns
        if n >= 3:  # a loop of three would take longer than what it does
            v = add_f32(add_f32(add_f32(v, load_f32(p)), load_f32(p + pitch)), load_f32(p + 2 * pitch))
            p, n = p + 3 * pitch, n - 3
        for _ in range(n):
            once()
            v = add_f32(v, load_f32(p))
            p += pitch
        x += line
    return min_f32(max_f32(div_f32(v, known[2]), known[0]), known[1])


@njit(error_model="numpy", inline="always")
def _maxima_f32(x, pitch, columns, line, rows, known):
    most = load_f32(x)
    for _ in range(rows):
        p = x
        for _ in range(columns):
            once()
            most = max_f32(most, load_f32(p))
            p += pitch
        x += line
    return clamp_f32(most, known[0], known[1])


@njit(error_model="numpy", inline="always")
def _known_average_u8(g, count):
    return (*rounding(count, g[CENTRE]), splat_quad(g[LO]), np.int32(g[HI]))


@njit(error_model="numpy", inline="always")
def _known_average_s16(g, count):
    return (*rounding(count, np.int64(0)), splat_i32(np.int32(g[LO])), splat_i32(np.int32(g[HI])))


@njit(error_model="numpy", inline="always")
def _known_u8(g, count):
    return splat_quad(g[LO]), np.int32(g[HI])


@njit(error_model="numpy", inline="always")
def _known_s16(g, count):
    return splat_i32(np.int32(g[LO])), splat_i32(np.int32(g[HI]))


@njit(error_model="numpy", inline="always")
def _known_f32(g, count):
    return splat_f32(float_of_bits(g[LO])), splat_f32(float_of_bits(g[HI])), splat_f32(np.float32(count))


def _pooling(size, width, known, block, put, put_some):
    """A kernel for elements of `size` bytes, in vectors of `width` bytes.

    known(g, count): what `block`, which makes a vector of results of a window, wants to know besides of so many elements.
    """

    @njit(error_model="numpy")
    def pooling(g, scratch, lo, hi):
        pitch, line, step = size * g[C], size * g[C] * g[IN_W], size * g[C] * g[SW]
        y, end, kept, pixel = g[Y] + lo * pitch, g[Y] + hi * pitch, np.int64(0), lo
        while pixel < hi:
            row = pixel // g[OUT_W]
            image, column = row // g[OUT_H], pixel - row * g[OUT_W]
            top, left, n = (row - image * g[OUT_H]) * g[SH] - g[TOP], column * g[SW] - g[LEFT], np.int64(1)
            y0, x0 = max(top, np.int64(0)), max(left, np.int64(0))
            rows, columns = min(top + g[KH], g[IN_H]) - y0, min(left + g[KW], g[IN_W]) - x0
            x, found = g[X] + (image * g[IN_H] + y0) * line + x0 * pitch, known(g, rows * columns)
            if columns == g[KW]:
                n = min(min(g[OUT_W] - column, hi - pixel), (g[IN_W] - g[KW] - left) // g[SW] + 1)
            for _ in range(n):
                if end - y < width and pitch < width and kept == 0:
                    kept, y, end = y, scratch, scratch + 2 * width
                for c in range(0, pitch, width):
                    v = block(x + c, pitch, columns, line, rows, found)
                    if end - y - c >= width:
                        put(y + c, v)
                    else:
                        put_some(y + c, v, (end - y - c) // size)
                x, y = x + step, y + pitch
            pixel += n
        if kept:
            copy(kept, scratch, y - scratch)

    return pooling


average_u8 = _pooling(1, 4 * L, _known_average_u8, _averages_u8, store, store_quad_some)
maximum_u8 = _pooling(1, 4 * L, _known_u8, _maxima_u8, store, store_quad_some)
average_s16 = _pooling(2, 2 * L, _known_average_s16, _averages_s16, store_i16, store_i16_some)
maximum_s16 = _pooling(2, 2 * L, _known_s16, _maxima_s16, store_i16, store_i16_some)
average_f32 = _pooling(4, 4 * L, _known_f32, _averages_f32, store, store_f32_some)
maximum_f32 = _pooling(4, 4 * L, _known_f32, _maxima_f32, store, store_f32_some)
