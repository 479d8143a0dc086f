"""Which tile takes which rows of a product: a full one of NV vectors, stepped back at a range's end, or rows one by one."""

from __future__ import annotations

import numpy as np
from numba import njit

from . import tile
from .memory import f32, i64
from .simd import L
from .words.conv import BIAS, HI, LO, MULTIPLIER, N_SEGMENTS, NV, SEGMENTS, STEPS, Y_PITCH, ZERO_POINT, N

R4, R2, R1 = tile.SHAPES[4], tile.SHAPES[2], tile.SHAPES[1]

_u8_4, _u8_2, u8_1 = tile.make("u8", R4, 4), tile.make("u8", R2, 2), tile.make("u8", R1, 1)
_u8_4s, _u8_2s, u8_1s = tile.make("u8", 1, 4), tile.make("u8", 1, 2), tile.make("u8", 1, 1)
_fused_4, _fused_2, _fused_1 = tile.make("u8fused", R4, 4), tile.make("u8fused", R2, 2), tile.make("u8fused", R1, 1)
_fused_4s, _fused_2s, _fused_1s = tile.make("u8fused", 1, 4), tile.make("u8fused", 1, 2), tile.make("u8fused", 1, 1)
RP = 12 if tile.WIDE else 6  # more rows would keep their addresses in memory
pairs = tile.make("pairs", RP, 1)
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


@njit(error_model="numpy", inline="always")
def rows_of(nv):
    """Rows of a full tile of nv vectors."""
    return np.int64(R4) if nv == 4 else np.int64(R2) if nv == 2 else np.int64(R1)


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
        u8_1(rows, segments, g[N_SEGMENTS], g[STEPS], w, acc)
    else:
        u8_1s(rows, segments, g[N_SEGMENTS], g[STEPS], w, acc)


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
