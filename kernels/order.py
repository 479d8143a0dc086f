"""What depends on the order of values along one axis: ARG_MAX, ARG_MIN, TOPK_V2, CUMSUM."""

from __future__ import annotations

import numpy as np
from numba import njit

from .cells import integer, put_integer
from .memory import copy, f32, i32, i64
from .words.kinds import F32
from .words.order import EXCLUSIVE, INDICES, INNER, KIND, LEAST, REVERSE, RUN, WIDE, K, N, X, Y


@njit(error_model="numpy")
def before(g, a, b):
    """Whether element a of X is greater than element b."""
    if g[KIND] == F32:
        return f32(g[X])[a] > f32(g[X])[b]
    return integer(g[X], g[KIND], a) > integer(g[X], g[KIND], b)


@njit(error_model="numpy")
def arg_best(g, scratch, lo, hi):
    """Where along N the first greatest or least element stands; units are (outer, inner)."""
    for unit in range(lo, hi):
        outer = unit // g[INNER]
        first = outer * g[N] * g[INNER] + unit - outer * g[INNER]
        best = np.int64(0)
        for i in range(1, g[N]):
            a, b = first + i * g[INNER], first + best * g[INNER]
            if before(g, b, a) if g[LEAST] else before(g, a, b):
                best = np.int64(i)
        if g[WIDE]:
            i64(g[Y])[unit] = best
        else:
            i32(g[Y])[unit] = np.int32(best)


@njit(error_model="numpy")
def worse(g, start, a, b):
    """Whether element a of a row comes behind element b: smaller, or equal and later."""
    return before(g, start + b, start + a) or (not before(g, start + a, start + b) and a > b)


@njit(error_model="numpy")
def sink(g, start, heap, at, size):
    """Bring entry `at` of the heap, whose root is the worst, to where it belongs."""
    while True:
        child = 2 * at + 1
        if child >= size:
            return
        if child + 1 < size and worse(g, start, np.int64(heap[child + 1]), np.int64(heap[child])):
            child += 1
        if not worse(g, start, np.int64(heap[child]), np.int64(heap[at])):
            return
        heap[at], heap[child] = heap[child], heap[at]
        at = child


@njit(error_model="numpy")
def top_k(g, scratch, lo, hi):
    """The K greatest of each row of N, in falling order, the first of equals first; units are rows."""
    k = g[K]
    for row in range(lo, hi):
        start, heap = row * g[N], i32(g[INDICES] + row * k * 4)
        for i in range(k):
            heap[i] = np.int32(i)
        for i in range(k // 2 - 1, -1, -1):
            sink(g, start, heap, np.int64(i), k)
        for i in range(k, g[N]):
            if k and worse(g, start, np.int64(heap[0]), np.int64(i)):
                heap[0] = np.int32(i)
                sink(g, start, heap, np.int64(0), k)
        for size in range(k - 1, 0, -1):
            heap[0], heap[size] = heap[size], heap[0]
            sink(g, start, heap, np.int64(0), np.int64(size))
        for i in range(k):
            copy(g[Y] + (row * k + i) * g[RUN], g[X] + (start + np.int64(heap[i])) * g[RUN], g[RUN])


@njit(error_model="numpy")
def running_sum(g, scratch, lo, hi):
    """Sums of all elements up to each along N; units are (outer, inner)."""
    for unit in range(lo, hi):
        outer = unit // g[INNER]
        first = outer * g[N] * g[INNER] + unit - outer * g[INNER]
        total, whole = np.float32(0), np.int64(0)
        for i in range(g[N]):
            at = first + (g[N] - 1 - i if g[REVERSE] else i) * g[INNER]
            if g[KIND] == F32:
                x = f32(g[X])[at]
                f32(g[Y])[at] = total if g[EXCLUSIVE] else np.float32(total + x)
                total = np.float32(total + x)
            else:
                v = integer(g[X], g[KIND], at)
                put_integer(g[Y], g[KIND], at, whole if g[EXCLUSIVE] else whole + v)
                whole += v
