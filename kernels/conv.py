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

from . import staggered, steps, strip, tile
from .fixedpoint import clamp, multiply_double, multiply_half_up, round_half_away
from .memory import f32, f64, i32, i64
from .memory import i16 as _i16
from .pixels import locate
from .simd import (
    ISA,
    L,
    add_f32,
    add_i32,
    clamp_f32,
    clamp_i32,
    load_f32,
    load_i32,
    mul_f32,
    mul_i32,
    multiply_double_rounded,
    scale_to_i32,
    splat_f32,
    splat_i32,
    store,
    store_f32_some,
    store_u8,
    store_u8_some,
    sub_i32,
    to_f32,
)
from .words.conv import (
    BIAS,
    BLOCK,
    BY_BLOCK,
    BY_HALF_BLOCK,
    CHUNK,
    COLUMN,
    FAMILY,
    HI,
    IMAGE,
    LEFT,
    LINEAR,
    LO,
    MULTIPLIER,
    N_SEGMENTS,
    NV,
    ONES,
    OUT_HW,
    OUT_W,
    PAIRS,
    PIXELS,
    RANGE,
    RIGHT,
    ROW,
    SEGMENTS,
    SHARED,
    SHARED_PAIRS,
    SHARED_PAIRS_ROWS,
    STEPS,
    STRIP,
    SUM_WEIGHT,
    SUMS,
    TAIL,
    Y_GAP,
    Y_PITCH,
    ZERO_POINT,
    N,
    W,
    X,
    Y,
)
from .words.instruction import FLOAT, FLOAT64, HALF_UP, REDUCED, UNITS

OFFSET = np.int32(ISA.offset)
R4, R2, R1, RS = tile.SHAPES[4], tile.SHAPES[2], tile.SHAPES[1], tile.SHAPES_SUM[4]
ACC = 128  # scratch: row addresses first, then the tile
WIDE_ACC = 8192  # scratch: int64 sums of s16
SUMMED, SUM_ACC = steps.SUMMED, 4096  # scratch: sums of activations; behind them the tile that finds them

_u8_4, _u8_2, _u8_1 = tile.make("u8", R4, 4), tile.make("u8", R2, 2), tile.make("u8", R1, 1)
_u8_4s, _u8_2s, _u8_1s = tile.make("u8", 1, 4), tile.make("u8", 1, 2), tile.make("u8", 1, 1)
_fused_4, _fused_2, _fused_1 = tile.make("u8fused", R4, 4), tile.make("u8fused", R2, 2), tile.make("u8fused", R1, 1)
_fused_4s, _fused_2s, _fused_1s = tile.make("u8fused", 1, 4), tile.make("u8fused", 1, 2), tile.make("u8fused", 1, 1)
RP = 12 if tile.WIDE else 6  # more rows would keep their addresses in memory
_pairs = tile.make("pairs", RP, 1)
_u8sum, _u8sum_s = tile.make("u8sum", RS, 4), tile.make("u8sum", 1, 4)
_s16_4, _s16_4s = tile.make("s16", R4, 4), tile.make("s16", 1, 4)
_f32_4, _f32_2, _f32_1 = tile.make("f32", R4, 4), tile.make("f32", R2, 2), tile.make("f32", R1, 1)
_f32_4s, _f32_2s, _f32_1s = tile.make("f32", 1, 4), tile.make("f32", 1, 2), tile.make("f32", 1, 1)


@njit(error_model="numpy", inline="always")
def next_tile(m, lo, hi, mr):
    """Where the tile at m starts and how many rows it takes: a full one, stepped back at the end, or a single row."""
    if hi - m >= mr:
        return m, mr
    if hi - lo >= mr:
        return hi - mr, mr
    return m, np.int64(1)


@njit(error_model="numpy")
def finish_u8(g, acc, count, nv, first, n0, sums):
    """Bias, requantize and store `count` rows of a tile, output channels n0 … n0 + nv·L − 1 as far as there are any."""
    zero_point = splat_i32(np.int32(g[ZERO_POINT]))
    for j in range(nv):
        n = n0 + j * L
        left = g[N] - n
        if left <= 0:
            break
        bias = load_i32(g[BIAS] + n * 4)
        y = g[Y] + first * g[Y_PITCH] + n
        if g[FAMILY] == FLOAT:
            scale = load_f32(g[MULTIPLIER] + n * 4)
            lo = splat_f32(np.float32(g[LO] - g[ZERO_POINT]))
            hi = splat_f32(np.float32(g[HI] - g[ZERO_POINT]))
            for i in range(count):
                v = add_i32(load_i32(acc + (i * nv + j) * L * 4), bias)
                if sums:
                    s = load_i32(acc + (count * nv + i) * L * 4)
                    v = add_i32(v, mul_i32(s, splat_i32(np.int32(g[SUM_WEIGHT]))))
                q = add_i32(scale_to_i32(v, scale, lo, hi), zero_point)
                if left >= L:
                    store_u8(y, q)
                else:
                    store_u8_some(y, q, left)
                y += g[Y_PITCH]
        else:
            multiplier = load_i32(g[MULTIPLIER] + n * 4)
            shl = load_i32(g[LEFT] + n * 4)
            shr = load_i32(g[RIGHT] + n * 4)
            lo_i = splat_i32(np.int32(g[LO]))
            hi_i = splat_i32(np.int32(g[HI]))
            for i in range(count):
                v = add_i32(load_i32(acc + (i * nv + j) * L * 4), bias)
                if sums:
                    s = load_i32(acc + (count * nv + i) * L * 4)
                    v = add_i32(v, mul_i32(s, splat_i32(np.int32(g[SUM_WEIGHT]))))
                q = clamp_i32(add_i32(multiply_double_rounded(v, multiplier, shl, shr), zero_point), lo_i, hi_i)
                if left >= L:
                    store_u8(y, q)
                else:
                    store_u8_some(y, q, left)
                y += g[Y_PITCH]


@njit(error_model="numpy")
def tile_u8(g, rows, w, acc, count):
    """The tile of NV vectors for a full or a single row."""
    segments, nv = i64(g[SEGMENTS]), g[NV]
    if nv == 4:
        if count == R4:
            _u8_4(rows, segments, g[N_SEGMENTS], g[STEPS], w, acc)
        else:
            _u8_4s(rows, segments, g[N_SEGMENTS], g[STEPS], w, acc)
    elif nv == 2:
        if count == R2:
            _u8_2(rows, segments, g[N_SEGMENTS], g[STEPS], w, acc)
        else:
            _u8_2s(rows, segments, g[N_SEGMENTS], g[STEPS], w, acc)
    elif count == R1:
        _u8_1(rows, segments, g[N_SEGMENTS], g[STEPS], w, acc)
    else:
        _u8_1s(rows, segments, g[N_SEGMENTS], g[STEPS], w, acc)


@njit(error_model="numpy", inline="always")
def rows_of(nv):
    """Rows of a full tile of nv vectors."""
    return np.int64(R4) if nv == 4 else np.int64(R2) if nv == 2 else np.int64(R1)


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


@njit(error_model="numpy")
def fused_u8(g, rows, w, y, n0, count, sums, nv):
    """The tile of NV vectors for a full or a single row, requantized in float32 and stored."""
    segments, n_segments, steps = i64(g[SEGMENTS]), g[N_SEGMENTS], g[STEPS]
    bias, scale, pitch, left = g[BIAS] + n0 * 4, g[MULTIPLIER] + n0 * 4, g[Y_PITCH], g[N] - n0
    lo, hi, zero = np.float32(g[LO] - g[ZERO_POINT]), np.float32(g[HI] - g[ZERO_POINT]), np.int32(g[ZERO_POINT])
    if nv == 4:
        if count == R4:
            _fused_4(rows, segments, n_segments, steps, w, bias, scale, y, pitch, left, lo, hi, zero, sums)
        else:
            _fused_4s(rows, segments, n_segments, steps, w, bias, scale, y, pitch, left, lo, hi, zero, sums)
    elif nv == 2:
        if count == R2:
            _fused_2(rows, segments, n_segments, steps, w, bias, scale, y, pitch, left, lo, hi, zero, sums)
        else:
            _fused_2s(rows, segments, n_segments, steps, w, bias, scale, y, pitch, left, lo, hi, zero, sums)
    elif count == R1:
        _fused_1(rows, segments, n_segments, steps, w, bias, scale, y, pitch, left, lo, hi, zero, sums)
    else:
        _fused_1s(rows, segments, n_segments, steps, w, bias, scale, y, pitch, left, lo, hi, zero, sums)


@njit(error_model="numpy")
def conv_pairs(g, rows, lo, hi, gap):
    """Layers of L/2 channels, two pixels to a vector; float32 requantization, outputs without gaps."""
    segments, n_segments, steps = i64(g[SEGMENTS]), g[N_SEGMENTS], g[STEPS]
    low, high, zero = np.float32(g[LO] - g[ZERO_POINT]), np.float32(g[HI] - g[ZERO_POINT]), np.int32(g[ZERO_POINT])
    m = lo
    while m < hi:
        m, count = next_tile(m, lo, hi, np.int64(RP))
        locate(g, rows, m, count)
        y = g[Y] + m * g[Y_PITCH] + gap
        if count == RP:
            _pairs(rows, segments, n_segments, steps, g[W], g[BIAS], g[MULTIPLIER], y, low, high, zero)
        else:
            _fused_1s(
                rows,
                segments,
                n_segments,
                steps,
                g[W],
                g[BIAS],
                g[MULTIPLIER],
                y,
                g[Y_PITCH],
                g[N],
                low,
                high,
                zero,
                np.int64(0),
            )
        m += count


S4, S2, S1 = strip.ROWS[4], strip.ROWS[2], strip.ROWS[1]
_strip_4, _strip_2, _strip_1 = strip.strip_4, staggered.two, staggered.one
_strip_pairs, _strip_shared, _strip_shared_pairs = strip.pairs, strip.shared, strip.shared_pairs


@njit(error_model="numpy")
def sum_rows(g, rows_at, count, sums):
    """SUM_WEIGHT times the sum of each of `count` rows' activations, to address `sums`."""
    segments, acc, done = i64(g[SEGMENTS]), sums + SUM_ACC, np.int64(0)
    while done < count:
        take, rows = np.int64(1), i64(rows_at + done * 8)
        if count - done >= R1:
            take = np.int64(R1)
            _u8_1(rows, segments, g[N_SEGMENTS], g[STEPS], g[ONES], acc)
        else:
            _u8_1s(rows, segments, g[N_SEGMENTS], g[STEPS], g[ONES], acc)
        for i in range(take):
            i32(sums)[done + i] = i32(acc)[i * L] * np.int32(g[SUM_WEIGHT])
        done += take


@njit(error_model="numpy")
def sum_strip(g, rows_at, x, count, sums):
    """As sum_rows, for pixels that lie one step apart."""
    done, rows = np.int64(0), i64(rows_at)
    while done < count:
        take = min(np.int64(R1), count - done)
        if take < R1 and count >= R1:
            done, take = count - R1, np.int64(R1)
        for i in range(take):
            rows[i] = x + (done + i) * g[COLUMN]
        sum_rows(g, rows_at, take, sums + done * 4)
        done += take


@njit(error_model="numpy")
def strip_u8(g, x, y, count, lines, y_line, sums, first, last):
    """`lines` of `count` pixels from address x on, blocks first … last − 1 of channels; y: where the first channel goes."""
    runs, n_runs, steps, nv, step, line = i64(g[SEGMENTS]), g[N_SEGMENTS], g[STEPS], g[NV], g[COLUMN], g[ROW]
    n = first * nv * L
    w, b, f, pitch, left = g[W] + first * g[BLOCK], g[BIAS] + n * 4, g[MULTIPLIER] + n * 4, g[Y_PITCH], g[N] - n
    y += n
    lo, hi, zero = np.float32(g[LO] - g[ZERO_POINT]), np.float32(g[HI] - g[ZERO_POINT]), np.int32(g[ZERO_POINT])
    if g[PAIRS] == SHARED_PAIRS:
        _strip_shared_pairs(
            x, step, count, lines, line, y_line, runs, n_runs, steps, w, b, f, y, pitch, left, lo, hi, zero, sums
        )
        return
    if g[PAIRS]:
        _strip_pairs(
            x, step, count, lines, line, y_line, runs, n_runs, steps, w, b, f, y, pitch, left, lo, hi, zero, sums
        )
        return
    for block in range(first, last):
        if g[TAIL] and block == last - 1:
            nv = g[TAIL]
        if nv == 4:
            _strip_4(
                x, step, count, lines, line, y_line, runs, n_runs, steps, w, b, f, y, pitch, left, lo, hi, zero, sums
            )
        elif nv == 2:
            _strip_2(
                x, step, count, lines, line, y_line, runs, n_runs, steps, w, b, f, y, pitch, left, lo, hi, zero, sums
            )
        elif g[SHARED]:
            _strip_shared(
                x, step, count, lines, line, y_line, runs, n_runs, steps, w, b, f, y, pitch, left, lo, hi, zero, sums
            )
        else:
            _strip_1(
                x, step, count, lines, line, y_line, runs, n_runs, steps, w, b, f, y, pitch, left, lo, hi, zero, sums
            )
        w += g[BLOCK]
        b += nv * L * 4
        f += nv * L * 4
        y += nv * L
        left -= nv * L


@njit(error_model="numpy")
def conv_strips(g, rows_at, lo, hi, first, last):
    """Output rows, STRIP pixels of them at a time; or of a layer whose pixels all lie one step apart, STRIP of those.

    What is too short goes by tiles.
    """
    least = np.int64(S4) if g[NV] == 4 else np.int64(S2) if g[NV] == 2 else np.int64(S1)
    if g[PAIRS] == SHARED_PAIRS:
        least = np.int64(SHARED_PAIRS_ROWS)
    elif g[TAIL]:
        least = max(least, np.int64(S2) if g[TAIL] == 2 else np.int64(S1))
    m, gap, lines = lo, np.int64(0), np.int64(1)
    while m < hi:
        if g[LINEAR]:
            count = g[STRIP] if hi - m >= g[STRIP] + least else hi - m
            x = g[X] + m * g[COLUMN]
        else:
            image = m // g[OUT_HW]
            rest = m - image * g[OUT_HW]
            row = rest // g[OUT_W]
            column = rest - row * g[OUT_W]
            count = min(g[OUT_W] - column, hi - m)
            x = g[X] + image * g[IMAGE] + row * g[ROW] + column * g[COLUMN]
            gap = m // g[OUT_W] * g[Y_GAP]
            lines = np.int64(1)
            if column == 0 and not g[ONES]:
                lines = max(min(min(g[STRIP], hi - m), g[OUT_HW] - rest) // g[OUT_W], lines)
        if count >= least:
            sums = np.int64(0)
            if g[ONES]:
                sums = rows_at + SUMMED
                sum_strip(g, rows_at, x, count, sums)
            y_line = g[OUT_W] * g[Y_PITCH] + g[Y_GAP]
            strip_u8(g, x, g[Y] + m * g[Y_PITCH] + gap, count, lines, y_line, sums, first, last)
        else:
            lines = np.int64(1)
            if (
                g[PAIRS] == SHARED_PAIRS
            ):  # there is no tile for these: a thread's few pixels with some of another's, once more
                back = m + least - g[UNITS] if g[LINEAR] else m - m // g[OUT_W] * g[OUT_W] + least - g[OUT_W]
                back = max(back, np.int64(0))
                y = g[Y] + (m - back) * g[Y_PITCH] + gap
                strip_u8(g, x - back * g[COLUMN], y, least, lines, np.int64(0), np.int64(0), first, last)
            else:
                conv_tiles(g, rows_at, m, m + count, first, last)
        m += lines * count


BY_STEPS = ISA.by_steps
M4, M2, M1 = steps.ROWS[4], steps.ROWS[2], steps.ROWS[1]
_march_4, _march_2, _march_1 = (steps.march(nv, sum_rows) for nv in (4, 2, 1))
_alone_4, _alone_2, _alone_1 = (steps.alone(nv, sum_rows) for nv in (4, 2, 1))
_across = steps.across(_alone_4)


@njit(error_model="numpy")
def conv_steps(g, rows_at, lo, hi, first, last):
    """Any pixels where an instruction multiplies by a lane (kernels/steps.py)."""
    nv, count = g[NV], hi - lo
    if g[SHARED]:
        _across(g, rows_at, lo, hi, first, last)
    elif nv == 4 and count >= M4:
        _march_4(g, rows_at, lo, hi, first, last)
    elif nv == 2 and count >= M2:
        _march_2(g, rows_at, lo, hi, first, last)
    elif nv == 1 and count >= M1:
        _march_1(g, rows_at, lo, hi, first, last)
    else:
        for m in range(lo, hi):
            if nv == 4:
                _alone_4(g, rows_at, m, first, last)
            elif nv == 2:
                _alone_2(g, rows_at, m, first, last)
            else:
                _alone_1(g, rows_at, m, first, last)


@njit(error_model="numpy")
def conv_tiles(g, rows_at, lo, hi, first, last):
    """Tiles of any pixels, requantized in float32; of one row's where there are gaps between rows of output."""
    rows, gap = i64(rows_at), lo // g[OUT_W] * g[Y_GAP]
    if g[PAIRS]:
        conv_pairs(g, rows, lo, hi, gap)
        return
    if BY_STEPS:
        conv_steps(g, rows_at, lo, hi, first, last)
        return
    nv = g[NV]
    mr = rows_of(nv)
    m = lo
    while m < hi:
        m, count = next_tile(m, lo, hi, mr)
        locate(g, rows, m, count)
        w, y, sums = g[W] + first * g[BLOCK], g[Y] + m * g[Y_PITCH] + gap, np.int64(0)
        if g[ONES]:
            sums = rows_at + SUMMED
            sum_rows(g, rows_at, count, sums)
        for block in range(first, last):
            if g[TAIL] and block == last - 1:  # here row by row: tiles have other heights
                for i in range(count):
                    to, some = y + i * g[Y_PITCH] + block * nv * L, sums + i * 4 if sums else sums
                    fused_u8(g, i64(rows_at + i * 8), w, to, block * nv * L, np.int64(1), some, g[TAIL])
            else:
                fused_u8(g, rows, w, y + block * nv * L, block * nv * L, count, sums, nv)
            w += g[BLOCK]
        m += count


@njit(error_model="numpy")
def conv_u8(g, scratch, lo, hi):
    """Activations u8, weights s8: the workhorse."""
    lanes, mr = g[NV] * L, rows_of(g[NV])
    first, last = np.int64(0), (g[N] + lanes - 1) // lanes  # the last block may be one of TAIL vectors
    if g[BY_BLOCK] == BY_HALF_BLOCK:
        half = (g[PIXELS] + mr) // (2 * mr) * mr
        while lo < hi:
            block, begin, end = lo >> 1, half if lo & 1 else np.int64(0), half if lo + 1 == hi else g[PIXELS]
            if lo & 1:
                end = g[PIXELS]
            if begin < end:
                conv_part(g, scratch, begin, end, block, block + 1)
            lo = (lo | 1) + 1
    elif g[BY_BLOCK]:
        conv_part(g, scratch, np.int64(0), g[PIXELS], lo, hi)
    else:
        conv_part(g, scratch, lo, hi, first, last)


@njit(error_model="numpy")
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
def tile_f32(g, rows, w, y, n0, count):
    """The float tile of NV vectors for a full or a single row."""
    segments, n_segments, steps, nv = i64(g[SEGMENTS]), g[N_SEGMENTS], g[STEPS], g[NV]
    bias, pitch, left = g[BIAS] + n0 * 4, g[Y_PITCH], g[N] - n0
    lo, hi = f32(g[MULTIPLIER])[0], f32(g[MULTIPLIER])[L]
    if nv == 4:
        if count == R4:
            _f32_4(rows, segments, n_segments, steps, w, bias, y, pitch, left, lo, hi)
        else:
            _f32_4s(rows, segments, n_segments, steps, w, bias, y, pitch, left, lo, hi)
    elif nv == 2:
        if count == R2:
            _f32_2(rows, segments, n_segments, steps, w, bias, y, pitch, left, lo, hi)
        else:
            _f32_2s(rows, segments, n_segments, steps, w, bias, y, pitch, left, lo, hi)
    elif count == R1:
        _f32_1(rows, segments, n_segments, steps, w, bias, y, pitch, left, lo, hi)
    else:
        _f32_1s(rows, segments, n_segments, steps, w, bias, y, pitch, left, lo, hi)


@njit(error_model="numpy")
def conv_f32(g, scratch, lo, hi):
    """float32: bias added, clamped, stored."""
    rows, nv = i64(scratch), g[NV]
    mr = rows_of(nv)
    m = lo
    while m < hi:
        m, count = next_tile(m, lo, hi, mr)
        locate(g, rows, m, count)
        w, y = g[W], g[Y] + m * g[Y_PITCH]
        for n0 in range(0, g[N], nv * L):
            tile_f32(g, rows, w, y + n0 * 4, n0, count)
            w += g[BLOCK]
        m += count


@njit(error_model="numpy", inline="always")
def requantize_s16(g, total, n):
    """A sum of channel n to int16, in the family that FAMILY names; RIGHT holds 15 − s for REDUCED, else the shift s."""
    if g[FAMILY] == FLOAT64:
        q = round_half_away(np.float64(total) * f64(g[MULTIPLIER])[n])
    else:
        multiplier, shift = np.int64(i32(g[MULTIPLIER])[n]), np.int64(i32(g[RIGHT])[n])
        if g[FAMILY] == REDUCED:
            q = (total * multiplier + (np.int64(1) << (shift - 1))) >> shift
        elif g[FAMILY] == HALF_UP:
            q = multiply_half_up(total, multiplier, shift)
        else:
            q = multiply_double(total, multiplier, shift)
    return clamp(q, g[LO], g[HI])


@njit(error_model="numpy")
def finish_s16(g, sums, target, first, count):
    """Bias, requantize and store `count` int64 sums, those of channels first … first + count − 1, to address `target`."""
    y, bias = _i16(target), i64(g[BIAS] + first * 8)
    if g[FAMILY] != REDUCED:
        for n in range(count):
            y[n] = np.int16(requantize_s16(g, sums[n] + bias[n], first + n))
        return
    multiplier, shift = i32(g[MULTIPLIER] + first * 4), i32(g[RIGHT] + first * 4)
    lo, hi = g[LO], g[HI]
    for n in range(count):
        by = np.int64(shift[n])
        q = ((sums[n] + bias[n]) * np.int64(multiplier[n]) + (np.int64(1) << (by - 1))) >> by
        y[n] = np.int16(clamp(q, lo, hi))


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
