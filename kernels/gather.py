"""Values picked or placed by indices: GATHER, GATHER_ND, EMBEDDING_LOOKUP, resizing to the nearest pixel, SCATTER_ND.

A tuple of DEPTH indices names a run of RUN bytes. Indices may be computed, so each is compared with its limit here: one that is
outside moves nothing and is told by `fault`.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from .cells import add, integer
from .fault import fault
from .memory import copy, fill, i32, i64
from .words.frame import INDEX
from .words.gather import ADD, COUNT, DEPTH, INDICES, LIMITS, OUTER, RUN, STRIDE, STRIDES, WIDE, X, Y
from .words.kinds import S32, S64


@njit(error_model="numpy")
def offset(g, place):
    """Bytes that tuple number `place` steps over, or −1 if an index lies outside."""
    limits, strides = i64(g[LIMITS]), i64(g[STRIDES])
    kind = np.int64(S64) if g[WIDE] else np.int64(S32)
    total = np.int64(0)
    for d in range(g[DEPTH]):
        index = integer(g[INDICES], kind, place * g[DEPTH] + d)
        if index < 0 or index >= limits[d]:
            return np.int64(-1)
        total += index * strides[d]
    return total


@njit(error_model="numpy")
def gather(g, scratch, lo, hi):
    """Units are runs of the output: (batch, outer, tuple)."""
    for unit in range(lo, hi):
        outer = unit // g[COUNT]
        at = offset(g, outer // g[OUTER] * g[COUNT] + unit - outer * g[COUNT])
        y = g[Y] + unit * g[RUN]
        if at < 0:
            fault(g, scratch, INDEX)
            fill(y, 0, g[RUN])
        elif g[RUN] == 4:
            i32(y)[0] = i32(g[X] + outer * g[STRIDE] + at)[0]
        elif g[RUN] == 8:
            i64(y)[0] = i64(g[X] + outer * g[STRIDE] + at)[0]
        else:
            copy(y, g[X] + outer * g[STRIDE] + at, g[RUN])


@njit(error_model="numpy")
def scatter(g, scratch, lo, hi):
    """X's run number `place` to where tuple `place` says in Y, replacing or adding; one unit, in order."""
    for place in range(g[COUNT]):
        at = offset(g, place)
        if at < 0:
            fault(g, scratch, INDEX)
        elif g[ADD] < 0:
            copy(g[Y] + at, g[X] + place * g[RUN], g[RUN])
        else:
            add(g[Y] + at, g[X] + place * g[RUN], g[ADD], g[RUN])


@njit(error_model="numpy")
def place_at(g, scratch, lo, hi):
    """Bytes that the one tuple steps over, each index moved into [0, limit), to Y; one unit."""
    limits, strides = i64(g[LIMITS]), i64(g[STRIDES])
    kind = np.int64(S64) if g[WIDE] else np.int64(S32)
    total = np.int64(0)
    for d in range(g[DEPTH]):
        total += min(max(integer(g[INDICES], kind, d), np.int64(0)), limits[d] - 1) * strides[d]
    i64(g[Y])[0] = total
