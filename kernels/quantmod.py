"""Q(x) = floor(C·x + d) mod p over whole arrays, the arithmetic in float64.

x: float32 or float64, C-contiguous; out: the integer array to fill; Q − offset is stored. Each kernel returns how many
elements had no answer (NaN always; when wrapping also |C·x + d| ≥ 2⁵³, where float64 no longer knows the integers
apart): those elements of `out` are meaningless and the caller refuses. `edgeq.quantmod` holds the NumPy twins, equal
bit for bit: no fast math, so neither side fuses the multiplication with the addition.
"""

from __future__ import annotations

import numba as nb
import numpy as np

LIMIT = 2.0**53  # above this, consecutive integers are no longer consecutive float64


@nb.njit(inline="always")
def _saturated(t, top):
    """floor(t) clamped to [0, top]; NaN gives 0."""
    return np.int32(min(max(np.floor(t), 0.0), top)) if t == t else np.int32(0)


@nb.njit(inline="always")
def _wrapped(t, p):
    """floor(t) mod p, in [0, p); 0 where t is out of the limit.

    n − p·floor(n / p) is exact below the limit: the rounded quotient could reach the next integer only from n > 2⁵³.
    It runs as vectors; float64's % is a library call (measured: 6.1 ns an element against 0.5).
    """
    n = np.floor(t)
    return np.int32(n - p * np.floor(n / p)) if abs(t) < LIMIT else np.int32(0)


@nb.njit(cache=True, nogil=True)
def saturate(x, c, d, p, offset, out):
    """Per tensor: x (n,), out (n,); c, d float64; p, offset int."""
    top = np.float64(p - 1)
    bad = 0
    for i in range(x.size):
        t = np.float64(x[i]) * c + d
        out[i] = _saturated(t, top) - offset
        bad += t != t
    return bad


@nb.njit(cache=True, nogil=True)
def wrap(x, c, d, p, offset, out):
    """Per tensor: x (n,), out (n,); c, d float64; p, offset int."""
    m = np.float64(p)
    bad = 0
    for i in range(x.size):
        t = np.float64(x[i]) * c + d
        out[i] = _wrapped(t, m) - offset
        bad += not (abs(t) < LIMIT)
    return bad


@nb.njit(cache=True, nogil=True)
def saturate_axis(x, c, d, p, offset, out):
    """Per axis: x, out (outer, k, inner); c, d (k,) float64."""
    top = np.float64(p - 1)
    outer, k, inner = x.shape
    bad = 0
    if inner == 1:  # the axis is the last one: keep the innermost loop long, over it
        for o in range(outer):
            for j in range(k):
                t = np.float64(x[o, j, 0]) * c[j] + d[j]
                out[o, j, 0] = _saturated(t, top) - offset
                bad += t != t
        return bad
    for o in range(outer):
        for j in range(k):
            for i in range(inner):
                t = np.float64(x[o, j, i]) * c[j] + d[j]
                out[o, j, i] = _saturated(t, top) - offset
                bad += t != t
    return bad


@nb.njit(cache=True, nogil=True)
def wrap_axis(x, c, d, p, offset, out):
    """Per axis: x, out (outer, k, inner); c, d (k,) float64."""
    m = np.float64(p)
    outer, k, inner = x.shape
    bad = 0
    for o in range(outer):
        for j in range(k):
            for i in range(inner):
                t = np.float64(x[o, j, i]) * c[j] + d[j]
                out[o, j, i] = _wrapped(t, m) - offset
                bad += not (abs(t) < LIMIT)
    return bad
