"""RESIZE_BILINEAR: four neighbours, weighted. The plan says for each output row and column which they are and how near.

Units are output rows. 8 bits: XNNPACK's 11-bit weights, the reference's 10-bit ones, or float32; 16 bits the 10-bit ones. int8
lies in the arena with its top bit flipped: CENTRE (128) is taken off where rounding depends on the sign.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from .memory import f32, float_of_bits, i16, i32, u8
from .words.resize import CENTRE, COLUMNS, IN_H, IN_W, MODE, OUT_H, OUT_W, Q10, Q11, ROWS, C, X, Y


@njit(error_model="numpy")
def half_away(total):
    """total / 2^20, ties away from zero."""
    magnitude = (abs(total) + (np.int64(1) << 19)) >> 20
    return magnitude if total > 0 else -magnitude


@njit(error_model="numpy", inline="always")
def weighted(a, b, c, d, fx, fy):
    """Upper left, lower left, upper right, lower right in float32, added in the reference's order."""
    one = np.float32(1)
    total = np.float32(np.float32(a * np.float32(one - fy)) * np.float32(one - fx))
    total = np.float32(total + np.float32(np.float32(b * fy) * np.float32(one - fx)))
    total = np.float32(total + np.float32(np.float32(c * np.float32(one - fy)) * fx))
    return np.float32(total + np.float32(np.float32(d * fy) * fx))


@njit(error_model="numpy")
def places(g, unit):
    """The unit's row entry, then the byte-free element offsets of its upper and lower input row."""
    row = unit % g[OUT_H]
    entry = g[ROWS] + row * 12
    image = unit // g[OUT_H] * g[IN_H]
    upper = (image + np.int64(i32(entry)[0])) * g[IN_W] * g[C]
    return entry, upper, (image + np.int64(i32(entry)[1])) * g[IN_W] * g[C]


@njit(error_model="numpy")
def resize_u8(g, scratch, lo, hi):
    """8 bits, in the way that MODE says."""
    n = g[C]
    for unit in range(lo, hi):
        row, upper, lower = places(g, unit)
        qy = i32(row)[2]
        for column in range(g[OUT_W]):
            entry = i32(g[COLUMNS] + column * 12)
            left, right, qx = np.int64(entry[0]) * n, np.int64(entry[1]) * n, entry[2]
            a, b = u8(g[X] + upper + left), u8(g[X] + lower + left)
            c, d = u8(g[X] + upper + right), u8(g[X] + lower + right)
            y = u8(g[Y] + (unit * g[OUT_W] + column) * n)
            if g[MODE] == Q11:
                for k in range(n):
                    top = (np.int32(a[k]) << 11) + np.int32(np.int32(c[k]) - np.int32(a[k])) * qx
                    bottom = (np.int32(b[k]) << 11) + np.int32(np.int32(d[k]) - np.int32(b[k])) * qx
                    total = (np.int64(top) << 11) + np.int64(bottom - top) * qy
                    y[k] = np.uint8((total + (np.int64(1) << 21)) >> 22)
            elif g[MODE] == Q10:
                rx, ry = np.int64(1024) - qx, np.int64(1024) - qy
                for k in range(n):
                    total = np.int64(a[k]) * ry * rx + np.int64(b[k]) * qy * rx
                    total += np.int64(c[k]) * ry * qx + np.int64(d[k]) * qy * qx
                    y[k] = np.uint8(half_away(total - (g[CENTRE] << 20)) + g[CENTRE])
            else:
                fx, fy = float_of_bits(np.int64(qx)), float_of_bits(np.int64(qy))
                for k in range(n):
                    v = weighted(np.float32(a[k]), np.float32(b[k]), np.float32(c[k]), np.float32(d[k]), fx, fy)
                    y[k] = np.uint8(np.int32(v + np.float32(0.5)))


@njit(error_model="numpy")
def resize_s16(g, scratch, lo, hi):
    """16 bits."""
    n = g[C]
    for unit in range(lo, hi):
        row, upper, lower = places(g, unit)
        qy = np.int64(i32(row)[2])
        for column in range(g[OUT_W]):
            entry = i32(g[COLUMNS] + column * 12)
            left, right, qx = np.int64(entry[0]) * n, np.int64(entry[1]) * n, np.int64(entry[2])
            a, b = i16(g[X] + 2 * (upper + left)), i16(g[X] + 2 * (lower + left))
            c, d = i16(g[X] + 2 * (upper + right)), i16(g[X] + 2 * (lower + right))
            y = i16(g[Y] + 2 * (unit * g[OUT_W] + column) * n)
            for k in range(n):
                total = (np.int64(a[k]) * (1024 - qy) + np.int64(b[k]) * qy) * (1024 - qx)
                total += (np.int64(c[k]) * (1024 - qy) + np.int64(d[k]) * qy) * qx
                y[k] = np.int16(half_away(total))


@njit(error_model="numpy")
def resize_f32(g, scratch, lo, hi):
    """float32."""
    n = g[C]
    for unit in range(lo, hi):
        row, upper, lower = places(g, unit)
        fy = float_of_bits(np.int64(i32(row)[2]))
        for column in range(g[OUT_W]):
            entry = i32(g[COLUMNS] + column * 12)
            left, right, fx = np.int64(entry[0]) * n, np.int64(entry[1]) * n, float_of_bits(np.int64(entry[2]))
            a, b = f32(g[X] + 4 * (upper + left)), f32(g[X] + 4 * (lower + left))
            c, d = f32(g[X] + 4 * (upper + right)), f32(g[X] + 4 * (lower + right))
            y = f32(g[Y] + 4 * (unit * g[OUT_W] + column) * n)
            for k in range(n):
                y[k] = weighted(a[k], b[k], c[k], d[k], fx, fy)
