"""What depends on the order of values along one axis: ARG_MAX, ARG_MIN, TOPK_V2, CUMSUM."""

from __future__ import annotations

import numpy as np
from numba import njit

from .cells import integer, put_integer
from .memory import copy, f32, i32, i64
from .runs import bytes_of, floats, greater, integers, turning
from .simd import (
    ISA,
    L,
    add_i32,
    as_f32,
    down1,
    down2,
    down4,
    down8,
    first_lanes,
    lane_0,
    lanes,
    once,
    splat_f32,
    splat_i32,
    store,
    store_f32_some,
    turned,
    where_greater,
    zero_i32,
)
from .words.kinds import F32, S8, S16, S32, U8
from .words.order import EXCLUSIVE, INDICES, INNER, KIND, LEAST, REVERSE, RUN, WIDE, K, N, X, Y

SMALL = ISA.small


@njit(error_model="numpy")
def before(g, a, b):
    """Whether element a of X is greater than element b."""
    if g[KIND] == F32:
        return f32(g[X])[a] > f32(g[X])[b]
    return integer(g[X], g[KIND], a) > integer(g[X], g[KIND], b)


def _finder(load, none):
    """What finds the best of elements that a lane holds: load(address, kind) a vector, none() what anything is better than."""

    @njit(error_model="numpy")
    def over(g, lo, hi):
        kind, inner, count, wide = g[KIND], g[INNER], g[N], g[WIDE]
        size, turn, unit = bytes_of(kind), turning(kind, g[LEAST]), lo
        while unit < hi:
            n, x, best, at = np.int64(1), g[X] + size * unit * count, none(), lanes()
            if inner == 1:
                for i in range(0, count, L):
                    once()
                    v = turned(load(x + size * i, kind), turn)
                    v = v if count - i >= L else first_lanes(v, count - i, none())
                    at = where_greater(v, best, add_i32(lanes(), splat_i32(np.int32(i))), at)
                    best = greater(v, best)
                if L > 8:
                    best, at = better(best, at, down8(best), down8(at))
                if L > 4:
                    best, at = better(best, at, down4(best), down4(at))
                best, at = better(best, at, down2(best), down2(at))
                best, at = better(best, at, down1(best), down1(at))
                if kind == F32 and f32(x)[0] != f32(x)[0]:
                    at = zero_i32()  # nothing is greater than the first
            else:
                first = unit % inner
                n = min(min(inner - first, hi - unit), np.int64(L))
                x += size * (1 - count) * first
                best, at = turned(load(x, kind), turn), zero_i32()
                for i in range(1, count):
                    once()
                    x += size * inner
                    v = turned(load(x, kind), turn)
                    at, best = where_greater(v, best, splat_i32(np.int32(i)), at), greater(v, best)
            put_places(g[Y], unit, at, n, hi - unit, wide)
            unit += n

    return over


@njit(error_model="numpy", inline="always")
def better(a, i, b, j):
    """The greater of two values in each lane, and where it stands: of equals where the first does."""
    first = where_greater(j, i, i, j)
    return greater(b, a), where_greater(b, a, j, where_greater(a, b, i, first))


@njit(error_model="numpy", inline="always")
def put_places(y, unit, at, count, room, wide):
    """`count` indices, or all lanes of them where there is room, behind `unit` others at address y."""
    if wide:
        for i in range(count):
            once()
            i64(y)[unit + i] = np.int64(lane_0(at))
            at = down1(at)
    elif room >= L:
        store(y + 4 * unit, at)
    else:
        store_f32_some(y + 4 * unit, as_f32(at), count)


@njit(error_model="numpy", inline="always")
def _least_f32():
    return splat_f32(np.float32(-np.inf))


@njit(error_model="numpy", inline="always")
def _least_i32():
    return splat_i32(np.int32(-2147483648))


_find_f32, _find_i32 = _finder(floats, _least_f32), _finder(integers, _least_i32)


@njit(error_model="numpy")
def arg_best(g, scratch, lo, hi):
    """Where along N the first greatest or least element stands; units are (outer, inner)."""
    if g[KIND] == F32 and not SMALL:
        _find_f32(g, lo, hi)
    elif g[KIND] in (U8, S8, S16, S32) and not SMALL:
        _find_i32(g, lo, hi)
    else:
        for unit in range(lo, hi):
            outer = unit // g[INNER]
            first = outer * g[N] * g[INNER] + unit - outer * g[INNER]
            best = np.int64(0)
            for i in range(1, g[N]):
                once()
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
