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
