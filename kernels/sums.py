"""Sums of rows' activations, times SUM_WEIGHT: what weights with a zero point add to every channel.

Σx·(w − z) = Σx·(w − 128) + (128 − z)·Σx.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from . import steps
from .memory import i32, i64
from .pieces import R1, u8_1, u8_1s
from .simd import L
from .words.conv import COLUMN, N_SEGMENTS, ONES, SEGMENTS, STEPS, SUM_WEIGHT

SUMMED, SUM_ACC = steps.SUMMED, 4096  # scratch: sums of activations; behind them the tile that finds them


@njit(error_model="numpy")
def sum_rows(g, rows_at, count, sums):
    """SUM_WEIGHT times the sum of each of `count` rows' activations, to address `sums`."""
    segments, acc, done = i64(g[SEGMENTS]), sums + SUM_ACC, np.int64(0)
    while done < count:
        take, rows = np.int64(1), i64(rows_at + done * 8)
        if count - done >= R1:
            take = np.int64(R1)
            u8_1(rows, segments, g[N_SEGMENTS], g[STEPS], g[ONES], acc)
        else:
            u8_1s(rows, segments, g[N_SEGMENTS], g[STEPS], g[ONES], acc)
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
