"""Pixels of a byte convolution requantized in float32: in strips where they lie one step apart, else by tiles of any pixels."""

from __future__ import annotations

import numpy as np
from numba import njit

from . import staggered, steps, strip, tile
from .memory import i64
from .pieces import RP, fused_u8, next_tile, pairs, rows_of
from .pixels import locate
from .simd import ISA, L
from .sums import SUMMED, sum_lines, sum_rows
from .words.conv import (
    BIAS,
    BLOCK,
    COLUMN,
    HI,
    IMAGE,
    LINEAR,
    LO,
    MAX_SUMMED,
    MULTIPLIER,
    N_SEGMENTS,
    NV,
    ONES,
    OUT_HW,
    OUT_W,
    PAIRS,
    PLAIN,
    ROW,
    SEGMENTS,
    SHARED,
    SHARED_PAIRS,
    SHARED_PAIRS_ROWS,
    STEPS,
    STRIP,
    TAIL,
    Y_GAP,
    Y_PITCH,
    ZERO_POINT,
    N,
    W,
    X,
    Y,
)
from .words.instruction import UNITS

BY_STEPS, STAGGERS = ISA.by_steps, ISA.staggers
WIDE, SHARES = tile.WIDE, strip.SHARES
TWO_SHARE = WIDE and L == 16  # plans of other instruction sets have none of these: their objects need no code for them
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
def conv_pairs(g, rows_at, lo, hi, gap):
    """Layers of L/2 channels, two pixels to a vector; outputs without gaps."""
    segments, n_segments, steps, rows = i64(g[SEGMENTS]), g[N_SEGMENTS], g[STEPS], i64(rows_at)
    low, high, zero = np.float32(g[LO] - g[ZERO_POINT]), np.float32(g[HI] - g[ZERO_POINT]), np.int32(g[ZERO_POINT])
    m, sums = lo, rows_at + SUMMED
    while m < hi:
        m, count = next_tile(m, lo, hi, np.int64(RP))
        locate(g, rows, m, count)
        y = g[Y] + m * g[Y_PITCH] + gap
        if count == RP and not g[ONES]:
            pairs(rows, segments, n_segments, steps, g[W], g[BIAS], g[MULTIPLIER], y, low, high, zero)
        else:
            if g[ONES]:
                sum_rows(g, rows_at, count, sums)
            for i in range(count):
                some = sums + i * 4 if g[ONES] else np.int64(0)
                fused_u8(g, i64(rows_at + i * 8), g[W], y + i * g[Y_PITCH], np.int64(0), np.int64(1), some, np.int64(1))
        m += count


@njit(error_model="numpy")
def conv_tiles(g, rows_at, lo, hi, first, last):
    """Tiles of any pixels, requantized in float32; of one row's where there are gaps between rows of output."""
    rows, gap = i64(rows_at), lo // g[OUT_W] * g[Y_GAP]
    if g[PAIRS]:
        conv_pairs(g, rows_at, lo, hi, gap)
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
            if WIDE and g[TAIL] and block == last - 1:  # here row by row: tiles have other heights
                for i in range(count):
                    to, some = y + i * g[Y_PITCH] + block * nv * L, sums + i * 4 if sums else sums
                    fused_u8(g, i64(rows_at + i * 8), w, to, block * nv * L, np.int64(1), some, g[TAIL])
            else:
                fused_u8(g, rows, w, y + block * nv * L, block * nv * L, count, sums, nv)
            w += g[BLOCK]
        m += count


S4, S2, S1 = strip.ROWS[4], strip.ROWS[2], strip.ROWS[1]
_strip_4, _strip_2, _strip_1 = strip.strip_4, staggered.two, staggered.one
_plain_2 = staggered.plain_two
_strip_pairs, _strip_shared = strip.pairs, strip.shared
_strip_shared_pairs_1, _strip_shared_pairs_2 = strip.shared_pairs[1], strip.shared_pairs[2]
P1, P2 = SHARED_PAIRS_ROWS[1], SHARED_PAIRS_ROWS[2]


@njit(error_model="numpy", inline="always")
def strip_u8(g, x, y, count, lines, y_line, sums, first, last):
    """`lines` of `count` pixels from address x on, blocks first … last − 1 of channels; y: where the first channel goes."""
    runs, n_runs, steps, nv, step, line = i64(g[SEGMENTS]), g[N_SEGMENTS], g[STEPS], g[NV], g[COLUMN], g[ROW]
    n = first * nv * L
    w, b, f, pitch, left = g[W] + first * g[BLOCK], g[BIAS] + n * 4, g[MULTIPLIER] + n * 4, g[Y_PITCH], g[N] - n
    y += n
    lo, hi, zero = np.float32(g[LO] - g[ZERO_POINT]), np.float32(g[HI] - g[ZERO_POINT]), np.int32(g[ZERO_POINT])
    if TWO_SHARE and g[PAIRS] == SHARED_PAIRS and nv == 3:
        _strip_shared_pairs_2(
            x, step, count, lines, line, y_line, runs, n_runs, steps, w, b, f, y, pitch, left, lo, hi, zero, sums
        )
        return
    if TWO_SHARE and g[PAIRS] == SHARED_PAIRS:
        _strip_shared_pairs_1(
            x, step, count, lines, line, y_line, runs, n_runs, steps, w, b, f, y, pitch, left, lo, hi, zero, sums
        )
        return
    if g[PAIRS]:
        _strip_pairs(
            x, step, count, lines, line, y_line, runs, n_runs, steps, w, b, f, y, pitch, left, lo, hi, zero, sums
        )
        return
    for block in range(first, last):
        if WIDE and g[TAIL] and block == last - 1:
            nv = g[TAIL]
        if nv == 4:
            _strip_4(
                x, step, count, lines, line, y_line, runs, n_runs, steps, w, b, f, y, pitch, left, lo, hi, zero, sums
            )
        elif STAGGERS and nv == 2 and g[PLAIN]:
            _plain_2(
                x, step, count, lines, line, y_line, runs, n_runs, steps, w, b, f, y, pitch, left, lo, hi, zero, sums
            )
        elif nv == 2:
            _strip_2(
                x, step, count, lines, line, y_line, runs, n_runs, steps, w, b, f, y, pitch, left, lo, hi, zero, sums
            )
        elif SHARES and g[SHARED]:
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
    if TWO_SHARE and g[PAIRS] == SHARED_PAIRS:
        least = np.int64(P2) if g[NV] == 3 else np.int64(P1)
    elif WIDE and g[TAIL]:
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
            if column == 0:
                most = min(g[STRIP], MAX_SUMMED) if g[ONES] else g[STRIP]
                lines = max(min(min(most, hi - m), g[OUT_HW] - rest) // g[OUT_W], lines)
        done = m
        if count < least:
            lines = np.int64(1)
        m += lines * count
        if count < least and not (TWO_SHARE and g[PAIRS] == SHARED_PAIRS):
            conv_tiles(g, rows_at, done, m, first, last)
            continue
        if TWO_SHARE and count < least:  # there is no tile: a thread's few pixels with some of another's, once more
            back = done + least - g[UNITS] if g[LINEAR] else done - done // g[OUT_W] * g[OUT_W] + least - g[OUT_W]
            back = max(back, np.int64(0))
            x, done, count = x - back * g[COLUMN], done - back, least
        sums, y_line = sum_lines(g, rows_at, x, count, lines), g[OUT_W] * g[Y_PITCH] + g[Y_GAP]
        strip_u8(g, x, g[Y] + done * g[Y_PITCH] + gap, count, lines, y_line, sums, first, last)
