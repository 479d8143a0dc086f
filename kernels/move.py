"""Bytes that move and do not change: padding, slices, transposition, repetition, concatenation.

`copy_nd` copies runs of RUN bytes over up to five outer dimensions, each with a stride (in bytes, 0 to repeat) on either side;
units are runs. `fill_bytes` sets bytes; units are bytes.
"""

from __future__ import annotations

from numba import njit

from .memory import copy, fill
from .words.move import (
    D1,
    D2,
    D3,
    D4,
    HEIGHT,
    LEFT,
    LINE,
    PADDED_HEIGHT,
    RIGHT,
    RUN,
    TOP,
    VALUE,
    X0,
    X1,
    X2,
    X3,
    X4,
    Y0,
    Y1,
    Y2,
    Y3,
    Y4,
    X,
    Y,
)


@njit(error_model="numpy")
def copy_nd(g, scratch, lo, hi):
    """y[i0 … i4] = x[i0 … i4], a run each."""
    i4 = lo % g[D4]
    rest = lo // g[D4]
    i3 = rest % g[D3]
    rest = rest // g[D3]
    i2 = rest % g[D2]
    rest = rest // g[D2]
    i1 = rest % g[D1]
    i0 = rest // g[D1]
    for _ in range(lo, hi):
        x = g[X] + i0 * g[X0] + i1 * g[X1] + i2 * g[X2] + i3 * g[X3] + i4 * g[X4]
        y = g[Y] + i0 * g[Y0] + i1 * g[Y1] + i2 * g[Y2] + i3 * g[Y3] + i4 * g[Y4]
        copy(y, x, g[RUN])
        i4 += 1
        if i4 == g[D4]:
            i4 = 0
            i3 += 1
            if i3 == g[D3]:
                i3 = 0
                i2 += 1
                if i2 == g[D2]:
                    i2 = 0
                    i1 += 1
                    if i1 == g[D1]:
                        i1 = 0
                        i0 += 1


@njit(error_model="numpy")
def fill_bytes(g, scratch, lo, hi):
    """Every byte VALUE."""
    fill(g[Y] + lo, g[VALUE], hi - lo)


@njit(error_model="numpy")
def pad_image(g, scratch, lo, hi):
    """Images with borders: rows of LINE bytes, each between LEFT and RIGHT bytes of VALUE, HEIGHT of them behind TOP rows of it.

    Units are rows of the padded images, PADDED_HEIGHT to an image. Every byte is written once.
    """
    pitch = g[LEFT] + g[LINE] + g[RIGHT]
    for unit in range(lo, hi):
        image = unit // g[PADDED_HEIGHT]
        row = unit - image * g[PADDED_HEIGHT] - g[TOP]
        y = g[Y] + unit * pitch
        if row < 0 or row >= g[HEIGHT]:
            fill(y, g[VALUE], pitch)
        else:
            fill(y, g[VALUE], g[LEFT])
            copy(y + g[LEFT], g[X] + (image * g[HEIGHT] + row) * g[LINE], g[LINE])
            fill(y + g[LEFT] + g[LINE], g[VALUE], g[RIGHT])
