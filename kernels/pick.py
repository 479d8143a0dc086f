"""Values placed by what other values say: ONE_HOT, segment sums, REVERSE_SEQUENCE, BUCKETIZE."""

from __future__ import annotations

import numpy as np
from numba import njit

from .cells import integer, put_integer, real
from .fault import fault
from .memory import copy, f32, i32
from .reduce import joined
from .words.frame import INDEX
from .words.kinds import F32, S32, S64
from .words.pick import (
    BOUNDS,
    DEPTH,
    INDICES,
    INNER,
    KIND,
    LENGTHS,
    OFF,
    ON,
    OPERATION,
    OUTER,
    ROWS,
    SIZE,
    STEP,
    WIDE,
    N,
    X,
    Y,
)


@njit(error_model="numpy")
def index_kind(g):
    """The kind of INDICES."""
    return np.int64(S64) if g[WIDE] else np.int64(S32)


@njit(error_model="numpy")
def place_ones(g, scratch, lo, hi):
    """ONE_HOT: element (outer, depth, inner) is ON where the index (outer, inner) is depth, else OFF; units are elements."""
    kind = index_kind(g)
    for unit in range(lo, hi):
        inner = unit % g[INNER]
        rest = unit // g[INNER]
        depth = rest % g[DEPTH]
        index = integer(g[INDICES], kind, rest // g[DEPTH] * g[INNER] + inner)
        copy(g[Y] + unit * g[SIZE], g[ON] if index == depth else g[OFF], g[SIZE])


@njit(error_model="numpy")
def segment(g, scratch, lo, hi):
    """Row i of X (N of INNER elements) joins row INDICES[i] of Y, which has ROWS; what is below 0 is left out. One unit."""
    kind = index_kind(g)
    for row in range(g[N]):
        target = integer(g[INDICES], kind, np.int64(row))
        if target >= g[ROWS]:
            fault(g, scratch, INDEX)
        elif target >= 0:
            for i in range(g[INNER]):
                a, b = target * g[INNER] + i, row * g[INNER] + i
                if g[KIND] == F32:
                    f32(g[Y])[a] = np.float32(joined(g[OPERATION], f32(g[Y])[a], f32(g[X])[b]))
                else:
                    v = joined(g[OPERATION], integer(g[Y], g[KIND], a), integer(g[X], g[KIND], b))
                    put_integer(g[Y], g[KIND], a, v)


@njit(error_model="numpy")
def reverse_rows(g, scratch, lo, hi):
    """REVERSE_SEQUENCE: the first LENGTHS[batch] of N steps backwards. Units are runs of SIZE bytes of the output.

    A unit is (a, p, b, q, c) in that order of OUTER: p the first of batch and step, STEP 1 where the batch comes first.
    """
    middle, first = g[INNER], g[ROWS]  # runs between the two dimensions; extent of the second one
    kind = index_kind(g)
    for unit in range(lo, hi):
        second = unit % first
        rest = unit // first
        between = rest % middle
        rest = rest // middle
        one = rest % g[OUTER]
        head = rest // g[OUTER]
        batch, step = (one, second) if g[STEP] else (second, one)
        length = integer(g[LENGTHS], kind, batch)
        if length < 0 or length > g[N]:
            fault(g, scratch, INDEX)
            length = np.int64(0)
        source = length - 1 - step if step < length else step
        one, second = (batch, source) if g[STEP] else (source, batch)
        at = ((head * g[OUTER] + one) * middle + between) * first + second
        copy(g[Y] + unit * g[SIZE], g[X] + at * g[SIZE], g[SIZE])


@njit(error_model="numpy")
def bucket(g, scratch, lo, hi):
    """BUCKETIZE: how many of N boundaries an element is not below; units are elements."""
    bounds = f32(g[BOUNDS])
    for i in range(lo, hi):
        v, low, high = real(g[X], g[KIND], i), np.int64(0), g[N]
        while low < high:
            middle = (low + high) // 2
            if np.float64(bounds[middle]) <= v:
                low = middle + 1
            else:
                high = middle
        i32(g[Y])[i] = np.int32(low)
