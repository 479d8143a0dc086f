"""Where the windows of output pixels begin in the input."""

from __future__ import annotations

import numpy as np
from numba import njit

from .words.conv import COLUMN, IMAGE, LINEAR, OUT_HW, OUT_W, ROW, X


@njit(error_model="numpy")
def locate(g, rows, first, count):
    """Write the input addresses of output pixels first … first + count − 1 to `rows`."""
    if g[LINEAR]:
        for i in range(count):
            rows[i] = g[X] + (first + i) * g[COLUMN]
        return
    image = np.int32(first) // np.int32(g[OUT_HW])
    rest = np.int32(first) - image * np.int32(g[OUT_HW])
    line = rest // np.int32(g[OUT_W])
    column, lines = rest - line * np.int32(g[OUT_W]), g[OUT_HW] // g[OUT_W]
    start = g[X] + image * g[IMAGE] + line * g[ROW]
    at, width, step = start + column * g[COLUMN], g[OUT_W], g[COLUMN]
    for i in range(count):
        rows[i] = at
        at += step
        column += 1
        if column == width:
            column = np.int64(0)
            line += 1
            start += g[ROW]
            if line == lines:
                line = np.int64(0)
                image += 1
                start = g[X] + image * g[IMAGE]
            at = start


@njit(error_model="numpy")
def situate(g, m):
    """Where output pixel m begins; how many lie a step apart from there on; where its line begins; lines of its image left."""
    if g[LINEAR]:
        return g[X] + m * g[COLUMN], np.int64(1) << 40, np.int64(0), np.int64(0)
    image = np.int32(m) // np.int32(g[OUT_HW])
    rest = np.int32(m) - image * np.int32(g[OUT_HW])
    line = rest // np.int32(g[OUT_W])
    column = rest - line * np.int32(g[OUT_W])
    start = g[X] + image * g[IMAGE] + line * g[ROW]
    return start + column * g[COLUMN], g[OUT_W] - column, start, g[OUT_HW] // g[OUT_W] - line


@njit(error_model="numpy")
def next_line(g, start, lines):
    """The same for the first pixel of the line behind the one that begins at `start`."""
    if lines > 1:
        return start + g[ROW], g[OUT_W], start + g[ROW], lines - 1
    lines = g[OUT_HW] // g[OUT_W]
    start += g[IMAGE] - (lines - 1) * g[ROW]
    return start, g[OUT_W], start, lines
