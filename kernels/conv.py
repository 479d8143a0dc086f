"""Convolution and matrix product over packed weights: CONV_2D, FULLY_CONNECTED, TRANSPOSE_CONV.

One driver for every kind. Output pixels are numbered through; a tile takes MR of them, each an address into the (already
padded) input, and walks the weights block by block. The last tile of a range steps back so that it is full: it writes the same
values twice rather than having a kernel of its own; ranges shorter than a tile go one pixel at a time.

u8: the arena holds int8 tensors with the top bit flipped, so activations are always unsigned; the zero point and the flip are
folded into the bias at plan time: Σ(x − z)·w + b = Σ x·w + (b − z·Σw).
"""

from __future__ import annotations

import numpy as np
from numba import njit

from . import tile
from .memory import f32, i32, i64
from .pieces import R4, next_tile, rows_of, tile_f32, tile_u8
from .pixels import locate
from .ranges import BY_STEPS, conv_strips, conv_tiles
from .requantize import finish_s16, finish_u8
from .simd import (
    ISA,
    L,
    add_f32,
    clamp_f32,
    load_f32,
    load_i32,
    mul_f32,
    mul_i32,
    splat_f32,
    splat_i32,
    store,
    store_f32_some,
    sub_i32,
    to_f32,
)
from .words.conv import (
    BIAS,
    BLOCK,
    BY_BLOCK,
    BY_HALF_BLOCK,
    CHUNK,
    FAMILY,
    LEFT,
    MULTIPLIER,
    N_SEGMENTS,
    NV,
    OUT_W,
    PIXELS,
    RANGE,
    SEGMENTS,
    STEPS,
    STRIP,
    SUMS,
    Y_GAP,
    Y_PITCH,
    N,
    W,
    Y,
)
from .words.instruction import FLOAT

OFFSET = np.int32(ISA.offset)
RS = tile.SHAPES_SUM[4]
ACC = 128  # scratch: row addresses first, then the tile
WIDE_ACC = 8192  # scratch: int64 sums of s16

_u8sum, _u8sum_s = tile.make("u8sum", RS, 4), tile.make("u8sum", 1, 4)
_s16_4, _s16_4s = tile.make("s16", R4, 4), tile.make("s16", 1, 4)


@njit(error_model="numpy")
def conv_hybrid(g, scratch, lo, hi):
    """Activations quantized at run time, weights s8, float32 out: (Σx·w − z·Σw)·(s·s_w) + bias.

    RANGE holds what `dynamic_u8` found: the scale and the zero point; SUMS the Σw of each channel.
    """
    rows, acc, nv = i64(scratch), scratch + ACC, g[NV]
    scale, zero = splat_f32(f32(g[RANGE])[0]), splat_i32(i32(g[RANGE])[1] - OFFSET)
    low, high = load_f32(g[LEFT]), load_f32(g[LEFT] + 4 * L)
    mr = rows_of(nv)
    m = lo
    while m < hi:
        m, count = next_tile(m, lo, hi, mr)
        locate(g, rows, m, count)
        w = g[W]
        for n0 in range(0, g[N], nv * L):
            tile_u8(g, rows, w, acc, count)
            for j in range(nv):
                n = n0 + j * L
                left = g[N] - n
                if left <= 0:
                    break
                factor = mul_f32(scale, load_f32(g[MULTIPLIER] + n * 4))
                offset = mul_i32(zero, load_i32(g[SUMS] + n * 4))
                bias = load_f32(g[BIAS] + n * 4)
                y = g[Y] + m * g[Y_PITCH] + n * 4
                for i in range(count):
                    total = sub_i32(load_i32(acc + (i * nv + j) * L * 4), offset)
                    v = clamp_f32(add_f32(mul_f32(to_f32(total), factor), bias), low, high)
                    if left >= L:
                        store(y, v)
                    else:
                        store_f32_some(y, v, left)
                    y += g[Y_PITCH]
            w += g[BLOCK]
        m += count


@njit(error_model="numpy", inline="always")
def conv_part(g, scratch, lo, hi, first, last):
    """conv_u8 of pixels lo … hi − 1 and blocks first … last − 1 of channels."""
    rows, acc, nv = i64(scratch), scratch + ACC, g[NV]
    lanes, mr = nv * L, rows_of(nv)
    if g[FAMILY] == FLOAT:
        if not BY_STEPS and g[STRIP]:  # 64-bit ARM's plans have none
            conv_strips(g, scratch, lo, hi, first, last)
        else:
            conv_tiles(g, scratch, lo, hi, first, last)
        return
    m = lo
    while m < hi:
        m, count = next_tile(m, lo, hi, mr)
        locate(g, rows, m, count)
        w = g[W] + first * g[BLOCK]
        for block in range(first, last):
            tile_u8(g, rows, w, acc, count)
            finish_u8(g, acc, count, nv, m, block * lanes, False)
            w += g[BLOCK]
        m += count


@njit(error_model="numpy")
def conv_u8(g, scratch, lo, hi):
    """Activations u8, weights s8: the workhorse."""
    lanes, mr = g[NV] * L, rows_of(g[NV])
    half = (g[PIXELS] + mr) // (2 * mr) * mr
    while lo < hi:
        begin, end, first, last = (
            lo,
            hi,
            np.int64(0),
            (g[N] + lanes - 1) // lanes,
        )  # the last may be one of TAIL vectors
        if g[BY_BLOCK]:
            begin, end, first, last = np.int64(0), g[PIXELS], lo, hi
        lo = hi
        if g[BY_BLOCK] == BY_HALF_BLOCK:
            lo, last = (first | 1) + 1, (first >> 1) + 1
            begin, end = half if first & 1 else begin, half if first + 1 == hi and not first & 1 else end
            first >>= 1
        if begin < end:
            conv_part(g, scratch, begin, end, first, last)


@njit(error_model="numpy")
def conv_u8_sum(g, scratch, lo, hi):
    """Activations u8, weights u8 with a zero point: Σx·(w − z) = Σx·(w − 128) + (128 − z)·Σx."""
    rows, acc, nv = i64(scratch), scratch + ACC, np.int64(4)
    segments = i64(g[SEGMENTS])
    m = lo
    while m < hi:
        m, count = next_tile(m, lo, hi, np.int64(RS))
        locate(g, rows, m, count)
        w = g[W]
        for n0 in range(0, g[N], nv * L):
            if count == RS:
                _u8sum(rows, segments, g[N_SEGMENTS], g[STEPS], w, acc)
            else:
                _u8sum_s(rows, segments, g[N_SEGMENTS], g[STEPS], w, acc)
            finish_u8(g, acc, count, nv, m, n0, True)
            w += g[BLOCK]
        m += count


@njit(error_model="numpy")
def conv_f32(g, scratch, lo, hi):
    """float32: bias added, clamped, stored; line by line where there are gaps between lines of output."""
    rows, nv, begin = i64(scratch), g[NV], lo
    mr = rows_of(nv)
    while begin < hi:
        end, gap, m = hi, np.int64(0), begin
        if g[Y_GAP]:
            line = begin // g[OUT_W]
            end, gap = min(hi, (line + 1) * g[OUT_W]), line * g[Y_GAP]
        while m < end:
            m, count = next_tile(m, begin, end, mr)
            locate(g, rows, m, count)
            w, y = g[W], g[Y] + m * g[Y_PITCH] + gap
            for n0 in range(0, g[N], nv * L):
                tile_f32(g, rows, w, y + n0 * 4, n0, count)
                w += g[BLOCK]
            m += count
        begin = end


@njit(error_model="numpy")
def conv_s16(g, scratch, lo, hi):
    """Activations int16, weights int8 held as int16; sums in int64: int32 holds CHUNK segments' products for sure."""
    from_rows, acc, nv = i64(scratch), scratch + ACC, np.int64(4)
    wide, narrow = i64(scratch + WIDE_ACC), i32(acc)
    lanes = nv * L
    m = lo
    while m < hi:
        m, count = next_tile(m, lo, hi, np.int64(R4))
        locate(g, from_rows, m, count)
        w = g[W]
        for n0 in range(0, g[N], lanes):
            for i in range(count * lanes):
                wide[i] = 0
            done = np.int64(0)
            while done < g[N_SEGMENTS]:
                take = min(g[CHUNK], g[N_SEGMENTS] - done)
                segments = i64(g[SEGMENTS] + done * 8)
                if count == R4:
                    _s16_4(from_rows, segments, take, g[STEPS], w, acc)
                else:
                    _s16_4s(from_rows, segments, take, g[STEPS], w, acc)
                for i in range(count * lanes):
                    wide[i] += np.int64(narrow[i])
                w += take * g[STEPS] * lanes * 4
                done += take
            channels = min(g[N] - n0, lanes)
            for i in range(count):
                finish_s16(
                    g, i64(scratch + WIDE_ACC + i * lanes * 8), g[Y] + (m + i) * g[Y_PITCH] + n0 * 2, n0, channels
                )
        m += count
