"""Q(x) = floor(C·x + d) mod p over whole arrays, equal bit for bit to arithmetic in float64, at the speed of memory.

x: float32 or float64, flat and C-contiguous; out: int8 or int16 of the same length (unsigned codes have the same bytes); Q −
offset is stored. Each kernel returns how many elements had no answer (NaN always; when wrapping also |C·x + d| ≥ 2⁵³, where
float64 no longer knows the integers apart): those elements of `out` are meaningless and the caller refuses. `edgeq.quantmod`
holds the NumPy twins. No fast math, so neither side fuses the multiplication with the addition.

C and d come as float64 arrays. `…_rows`: element e takes C[e // inner mod k], so a whole tensor is one row; `…_elements`:
element e takes C[e mod k], for an axis with few elements behind it. Arrays are walked in blocks of BLOCK elements:

- wide: float64, which is the definition. The integer is read off the low bits of floor(t) + 1.5·2⁵², one addition where a
  conversion and a modulo would cost several instructions; above 2⁵⁰ a plain loop takes over. What saturates is clamped before
  the arithmetic, as x.
- narrow (float32 input, few codes): float32, at twice the elements a vector and without conversions. It is used only where it is
  proved equal: if C·x + d, as float32 has it, comes nearer to an integer than float32 can have erred, or lies out of reach, the
  block is done again as wide. An input whose blocks keep being done again (numbers on a grid) goes on as wide.

What is called for every block is inlined: an array that is passed to a function is eight numbers on the stack.

How far float32's t = C·x + (d − ½) can be off, with u = 2⁻²⁴: the roundings of C and of the product err by 2u·|C·x|, that of
d − ½ by u·|d − ½|, that of the sum by u·|t|. As |C·x| ≤ |t| + |d − ½|, all are below u·(3·|t| + 3·|d − ½|), of which `error`
takes 1.1 times, for the greatest |t| in reach. If t is farther than that from any k + ½, the integer nearest to it is
floor(C·x + d).
"""

from __future__ import annotations

from typing import Any

import numba as nb
import numpy as np
from numba.extending import overload

LIMIT = 2.0**53  # above this, consecutive integers are no longer consecutive float64
NEAR = 2.0**50  # below this, what the wide loops do is exact
MAGIC = 1.5 * 2.0**52
MAGIC32 = np.float32(1.5 * 2.0**23)
BLOCK = np.uint64(256)
REACH = 2
"""Narrow wrapping covers |t| ≤ REACH·p."""


def error(p: int, d: float, wrap: bool) -> float:
    """The greatest error of the narrow loops' t, for the greatest |d|; they are worth trying below 2⁻¹⁰ (see above)."""
    reach = p * REACH if wrap else p
    return 1.1 * 2.0**-24 * 3 * (reach + d + 0.5)


def far(c: Any, d: Any, dtype: Any) -> Any:
    """The greatest |x| with |C·x + d| ≤ NEAR in every channel, rounded down, in x's dtype. |d| is at most NEAR/2."""
    with np.errstate(over="ignore"):
        most = (NEAR - np.abs(d).max()) / c.max()
    return dtype.type(min(most, np.finfo(dtype).max) * (1 - 2.0**-20))


def take(c, i):
    """C of a row, or C of element i: one text for both kinds of loops."""
    return c[i] if isinstance(c, np.ndarray) else c


@overload(take, inline="always")
def _take(c, i):
    if isinstance(c, nb.types.Array):
        return lambda c, i: c[i]
    return lambda c, i: c


@nb.njit(inline="always")
def _bits(v):
    return np.float64(v).view(np.int64)


@nb.njit(inline="always")
def _bits32(v):
    return np.float32(v).view(np.int32)


def _magnitude(x):
    return _bits(abs(x)) if x.dtype == np.float64 else _bits32(abs(x))


@overload(_magnitude, inline="always")
def _magnitude_of(x):
    """|x| as an integer of x's width: in the same order, with NaN above everything."""
    if x == nb.types.float64:
        return lambda x: _bits(abs(x))
    return lambda x: _bits32(abs(x))


@nb.njit(nogil=True, error_model="numpy")
def saturate_wide(x, base, c, d, low, high, lo, hi, p, offset, out):
    """Elements base + lo … base + hi − 1; how many are NaN.

    low, high: x whose codes are 0 and p − 1, of x's dtype: clamping x is half the work of clamping t. None where C and d come
    element by element: two more columns would crowd the first-level cache.
    """
    top, magic = np.float64(p - 1), MAGIC - np.float64(offset)
    worst = np.uint64(0)
    for i in range(lo, hi):
        v = x[base + i]
        # Comparisons are written so that NaN stays, and that each is one instruction.
        if low is None:
            t = np.float64(v) * take(c, i) + take(d, i)
            t = 0.0 if t < 0.0 else t
            t = top if top < t else t
        else:
            v = low if low > v else v
            v = high if high < v else v
            t = np.float64(v) * take(c, i) + take(d, i)
        code = np.float64(np.floor(t) + magic).view(np.uint64)
        worst = max(worst, code)  # NaN of either sign is above every code
        out[base + i] = code
    bad = np.int64(0)
    if worst > np.uint64(_bits(np.inf)):
        for i in range(lo, hi):
            bad += np.isnan(x[base + i])
    return bad


@nb.njit(nogil=True, error_model="numpy")
def wrap_wide(x, base, c, d, far, lo, hi, p, offset, out):
    """Elements base + lo … base + hi − 1; how many are NaN or beyond LIMIT. far: the greatest |x| for which |t| ≤ NEAR.

    n mod p = n − p·floor((n + ½)/p): (n + ½)/p is at least ½/p from any integer, and for |n| ≤ 2⁵⁰ its error is below that.
    """
    m, inverse, magic = np.float64(p), 1.0 / np.float64(p), MAGIC - np.float64(offset)
    worst = _magnitude(far) * 0
    if p == 1 << 8 * out.itemsize:  # storing the low bits is the modulo
        for i in range(lo, hi):
            worst = max(worst, _magnitude(x[base + i]))
            t = np.float64(x[base + i]) * take(c, i) + take(d, i)
            out[base + i] = _bits(np.floor(t) + magic)
    else:
        for i in range(lo, hi):
            worst = max(worst, _magnitude(x[base + i]))
            n = np.floor(np.float64(x[base + i]) * take(c, i) + take(d, i))
            out[base + i] = _bits(n - m * np.floor((n + 0.5) * inverse) + magic)
    bad = np.int64(0)
    if worst > _magnitude(far):
        for i in range(lo, hi):
            t = np.float64(x[base + i]) * take(c, i) + take(d, i)
            if abs(t) < LIMIT:
                n = np.floor(t)
                # Exact: the rounded quotient could reach the next integer only from n > LIMIT.
                out[base + i] = np.int64(n - m * np.floor(n / m)) - offset
            else:
                bad += 1
    return bad


@nb.njit(nogil=True, error_model="numpy")
def count_wide(x, base, c, d, far, lo, hi, p, out):
    """floor((C·x + d)/p) into int64; how many are NaN or beyond LIMIT. far as in wrap_wide."""
    m, inverse = np.float64(p), 1.0 / np.float64(p)
    worst = _magnitude(far) * 0
    for i in range(lo, hi):
        worst = max(worst, _magnitude(x[base + i]))
        n = np.floor(np.float64(x[base + i]) * take(c, i) + take(d, i))
        out[base + i] = _bits(np.floor((n + 0.5) * inverse) + MAGIC) - _bits(MAGIC)
    bad = np.int64(0)
    if worst > _magnitude(far):
        for i in range(lo, hi):
            t = np.float64(x[base + i]) * take(c, i) + take(d, i)
            if abs(t) < LIMIT:
                out[base + i] = np.int64(np.floor(np.floor(t) / m))
            else:
                bad += 1
    return bad


@nb.njit(nogil=True, error_model="numpy", forceinline=True)
def saturate_narrow(x, base, c, d, lo, hi, p, offset, out):
    """Elements base + lo … base + hi − 1 in float32; the greatest distance of a t from its integer, as its bits."""
    zero, top, magic = np.float32(0), np.float32(p - 1), np.float32(MAGIC32 - np.float32(offset))
    worst = np.int32(0)
    for i in range(lo, hi):
        t = x[base + i] * take(c, i) + take(d, i)
        t = zero if zero > t else t
        t = top if top < t else t
        n = np.float32(t + magic)
        worst = max(worst, _bits32(abs(t - np.float32(n - magic))))
        out[base + i] = _bits32(n)
    return worst


@nb.njit(nogil=True, error_model="numpy", forceinline=True)
def wrap_narrow(x, base, c, d, lo, hi, p, offset, out):
    """As saturate_narrow; infinity's bits if anything is out of reach. n mod p as in wrap_wide, the ½ folded into `shift`."""
    m, inverse, shift = np.float32(p), np.float32(1 / p), np.float32(0.5 / p - 0.5)
    magic = np.float32(MAGIC32 - np.float32(offset))
    worst, far = np.int32(0), np.int32(0)
    if p == 1 << 8 * out.itemsize:
        for i in range(lo, hi):
            t = x[base + i] * take(c, i) + take(d, i)
            n = np.float32(t + magic)
            worst = max(worst, _bits32(abs(t - np.float32(n - magic))))
            far = max(far, _bits32(abs(t)))
            out[base + i] = _bits32(n)
    else:
        for i in range(lo, hi):
            t = x[base + i] * take(c, i) + take(d, i)
            n = np.float32(np.float32(t + MAGIC32) - MAGIC32)
            worst = max(worst, _bits32(abs(t - n)))
            far = max(far, _bits32(abs(t)))
            k = np.float32(np.float32(n * inverse + shift + MAGIC32) - MAGIC32)
            out[base + i] = _bits32(n - m * k + magic)
    return _bits32(np.inf) if far > _bits32(np.float32(REACH * p)) else worst


@nb.njit(nogil=True, error_model="numpy", forceinline=True)
def saturate_stretch(x, base, c, d, low, high, c32, d32, count, p, offset, slack, out):
    """`count` elements from `base`, block by block. c32: C as float32, None for wide loops only; d32: d − ½; slack: what `error`
    allows a t to be off.
    """
    bad, tried, again, lo = np.int64(0), 0, 0, np.uint64(0)
    bound = _bits32(np.float32(0.5 - slack))
    while lo < count:
        hi = min(count, lo + BLOCK)
        done = False
        if c32 is not None and again * 4 <= tried + 64:
            done = saturate_narrow(x, base, c32, d32, lo, hi, p, offset, out) <= bound
            tried += 1
            again += not done
        if not done:
            bad += saturate_wide(x, base, c, d, low, high, lo, hi, p, offset, out)
        lo = hi
    return bad


@nb.njit(nogil=True, error_model="numpy", forceinline=True)
def wrap_stretch(x, base, c, d, far, c32, d32, count, p, offset, slack, out):
    """As saturate_stretch, going round."""
    bad, tried, again, lo = np.int64(0), 0, 0, np.uint64(0)
    bound = _bits32(np.float32(0.5 - slack))
    while lo < count:
        hi = min(count, lo + BLOCK)
        done = False
        if c32 is not None and again * 4 <= tried + 64:
            done = wrap_narrow(x, base, c32, d32, lo, hi, p, offset, out) <= bound
            tried += 1
            again += not done
        if not done:
            bad += wrap_wide(x, base, c, d, far, lo, hi, p, offset, out)
        lo = hi
    return bad


@nb.njit(cache=True, nogil=True, error_model="numpy")
def saturate_rows(x, c, d, low, high, c32, d32, inner, p, offset, slack, out):
    """x, out (n,); row r, of `inner` elements, takes C[r mod k]."""
    bad, size = np.int64(0), np.uint64(inner)
    for r in range(x.size // inner):
        j, base = r % c.size, np.uint64(r) * size
        if c32 is None:
            bad += saturate_stretch(x, base, c[j], d[j], low[j], high[j], None, None, size, p, offset, slack, out)
        else:
            bad += saturate_stretch(x, base, c[j], d[j], low[j], high[j], c32[j], d32[j], size, p, offset, slack, out)
    return bad


@nb.njit(cache=True, nogil=True, error_model="numpy")
def saturate_elements(x, c, d, c32, d32, p, offset, slack, out):
    """x, out (n,); element e takes C[e mod k]."""
    bad, base, n, k = np.int64(0), np.uint64(0), np.uint64(x.size), np.uint64(c.size)
    while base < n:
        bad += saturate_stretch(x, base, c, d, None, None, c32, d32, min(k, n - base), p, offset, slack, out)
        base += k
    return bad


@nb.njit(cache=True, nogil=True, error_model="numpy")
def wrap_rows(x, c, d, far, c32, d32, inner, p, offset, slack, out):
    """x, out (n,); row r, of `inner` elements, takes C[r mod k]."""
    bad, size = np.int64(0), np.uint64(inner)
    for r in range(x.size // inner):
        j, base = r % c.size, np.uint64(r) * size
        if c32 is None:
            bad += wrap_stretch(x, base, c[j], d[j], far, None, None, size, p, offset, slack, out)
        else:
            bad += wrap_stretch(x, base, c[j], d[j], far, c32[j], d32[j], size, p, offset, slack, out)
    return bad


@nb.njit(cache=True, nogil=True, error_model="numpy")
def wrap_elements(x, c, d, far, c32, d32, p, offset, slack, out):
    """x, out (n,); element e takes C[e mod k]."""
    bad, base, n, k = np.int64(0), np.uint64(0), np.uint64(x.size), np.uint64(c.size)
    while base < n:
        bad += wrap_stretch(x, base, c, d, far, c32, d32, min(k, n - base), p, offset, slack, out)
        base += k
    return bad


@nb.njit(cache=True, nogil=True, error_model="numpy")
def count_rows(x, c, d, far, inner, p, out):
    """x (n,), out (n,) int64: how often each element goes round; row r, of `inner` elements, takes C[r mod k]."""
    bad, size, zero = np.int64(0), np.uint64(inner), np.uint64(0)
    for r in range(x.size // inner):
        bad += count_wide(x, np.uint64(r) * size, c[r % c.size], d[r % c.size], far, zero, size, p, out)
    return bad


@nb.njit(cache=True, nogil=True, error_model="numpy")
def count_elements(x, c, d, far, p, out):
    """x (n,), out (n,) int64: how often each element goes round; element e takes C[e mod k]."""
    bad, base, n, k, zero = np.int64(0), np.uint64(0), np.uint64(x.size), np.uint64(c.size), np.uint64(0)
    while base < n:
        bad += count_wide(x, base, c, d, far, zero, min(k, n - base), p, out)
        base += k
    return bad
