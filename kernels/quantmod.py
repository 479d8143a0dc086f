"""Q(x) = floor(C·x + d) mod p over whole arrays, equal bit for bit to arithmetic in float64, at the speed of memory.

x: float32 or float64, flat and C-contiguous; out: int8 or int16 of the same length (unsigned codes have the same bytes); Q −
offset is stored. Each kernel returns how many elements had no answer (NaN always; when wrapping also |C·x + d| ≥ 2⁵³, where
float64 no longer knows the integers apart): those elements of `out` are meaningless and the caller refuses. `edgeq.quantmod`
holds the NumPy twins. No fast math, so neither side fuses the multiplication with the addition.

C and d come as float64 arrays. By rows, element e takes C[e // inner mod k], so that a whole tensor is one row; by elements it
takes C[e mod period], for an axis with few elements behind it: C and d then hold BLOCK values more than a period, so that a block
may begin anywhere in it. Arrays are walked in blocks of BLOCK elements:

- wide: float64, which is the definition. The integer is read off the low bits of floor(t) + 1.5·2⁵², one addition where a
  conversion and a modulo would cost several instructions; above 2⁵⁰ a plain loop takes over. What saturates is clamped before
  the arithmetic, as x.
- narrow (float32 input, few codes): float32, at twice the elements a vector and without conversions. It is used only where it is
  proved equal: if C·x + d, as float32 has it, comes nearer to an integer than float32 can have erred, or lies out of reach, the
  block is done again as wide. An input whose blocks keep being done again (numbers on a grid) goes on as wide.

What is called for every block is inlined: an array that is passed to a function is eight numbers on the stack.

`stage`: empty, or BLOCK codes that begin at a line (stream.py) for arrays that no cache holds. Then blocks end where `out` has
lines, `phase` being the elements that it begins behind one; a block is done in `stage`, from where its lines pass the caches, and
the input AHEAD bytes further on is asked for.

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

from .stream import LINE, pass_line, prefetch, settle

LIMIT = 2.0**53  # above this, consecutive integers are no longer consecutive float64
NEAR = 2.0**50  # below this, what the wide loops do is exact
MAGIC = 1.5 * 2.0**52
MAGIC32 = np.float32(1.5 * 2.0**23)
BLOCK = np.uint64(256)
AHEAD = np.uint64(8192)
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


def some(c, row, period):
    """C of a row, or all of them where they go by elements; None stays."""
    return c[row] if c is not None and period is None else c


@overload(some, inline="always")
def _some(c, row, period):
    if isinstance(c, nb.types.Array) and isinstance(period, nb.types.NoneType):
        return lambda c, row, period: c[row]
    return lambda c, row, period: c


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


@nb.njit(nogil=True, error_model="numpy", _nrt=False)
def saturate_wide(x, c, d, shift, low, high, lo, hi, p, offset, out, at):
    """Elements lo … hi − 1 of x, which take C[i + shift], to out[i + at]; how many are NaN.

    low, high: x whose codes are 0 and p − 1, of x's dtype: clamping x is half the work of clamping t. None where C and d come
    element by element: two more columns would crowd the first-level cache.
    """
    top, magic = np.float64(p - 1), MAGIC - np.float64(offset)
    worst = np.uint64(0)
    for i in range(lo, hi):
        v = x[i]
        # Comparisons are written so that NaN stays, and that each is one instruction.
        if low is None:
            t = np.float64(v) * take(c, i + shift) + take(d, i + shift)
            t = 0.0 if t < 0.0 else t
            t = top if top < t else t
        else:
            v = low if low > v else v
            v = high if high < v else v
            t = np.float64(v) * take(c, i + shift) + take(d, i + shift)
        code = np.float64(np.floor(t) + magic).view(np.uint64)
        worst = max(worst, code)  # NaN of either sign is above every code
        out[i + at] = code
    bad = np.int64(0)
    if worst > np.uint64(_bits(np.inf)):
        for i in range(lo, hi):
            bad += np.isnan(x[i])
    return bad


@nb.njit(nogil=True, error_model="numpy", _nrt=False)
def wrap_wide(x, c, d, shift, far, lo, hi, p, offset, out, at):
    """As saturate_wide, going round; how many are NaN or beyond LIMIT. far: the greatest |x| for which |t| ≤ NEAR.

    n mod p = n − p·floor((n + ½)/p): (n + ½)/p is at least ½/p from any integer, and for |n| ≤ 2⁵⁰ its error is below that.
    """
    m, inverse, magic = np.float64(p), 1.0 / np.float64(p), MAGIC - np.float64(offset)
    worst = _magnitude(far) * 0
    if p == 1 << 8 * out.itemsize:  # storing the low bits is the modulo
        for i in range(lo, hi):
            worst = max(worst, _magnitude(x[i]))
            t = np.float64(x[i]) * take(c, i + shift) + take(d, i + shift)
            out[i + at] = _bits(np.floor(t) + magic)
    else:
        for i in range(lo, hi):
            worst = max(worst, _magnitude(x[i]))
            n = np.floor(np.float64(x[i]) * take(c, i + shift) + take(d, i + shift))
            out[i + at] = _bits(n - m * np.floor((n + 0.5) * inverse) + magic)
    bad = np.int64(0)
    if worst > _magnitude(far):
        for i in range(lo, hi):
            t = np.float64(x[i]) * take(c, i + shift) + take(d, i + shift)
            if abs(t) < LIMIT:
                n = np.floor(t)
                # Exact: the rounded quotient could reach the next integer only from n > LIMIT.
                out[i + at] = np.int64(n - m * np.floor(n / m)) - offset
            else:
                bad += 1
    return bad


@nb.njit(nogil=True, error_model="numpy", _nrt=False, forceinline=True)
def count_wide(x, c, d, shift, far, lo, hi, p, out, at):
    """floor((C·x + d)/p) into int64; how many are NaN or beyond LIMIT. Arguments as in wrap_wide."""
    m, inverse = np.float64(p), 1.0 / np.float64(p)
    worst = _magnitude(far) * 0
    for i in range(lo, hi):
        worst = max(worst, _magnitude(x[i]))
        n = np.floor(np.float64(x[i]) * take(c, i + shift) + take(d, i + shift))
        out[i + at] = _bits(np.floor((n + 0.5) * inverse) + MAGIC) - _bits(MAGIC)
    bad = np.int64(0)
    if worst > _magnitude(far):
        for i in range(lo, hi):
            t = np.float64(x[i]) * take(c, i + shift) + take(d, i + shift)
            if abs(t) < LIMIT:
                out[i + at] = np.int64(np.floor(np.floor(t) / m))
            else:
                bad += 1
    return bad


@nb.njit(nogil=True, error_model="numpy", _nrt=False, forceinline=True)
def saturate_narrow(x, c, d, shift, lo, hi, p, offset, out, at):
    """As saturate_wide in float32, d less a half; the greatest distance of a t from its integer, as its bits."""
    zero, top, magic = np.float32(0), np.float32(p - 1), np.float32(MAGIC32 - np.float32(offset))
    worst = np.int32(0)
    for i in range(lo, hi):
        t = x[i] * take(c, i + shift) + take(d, i + shift)
        t = zero if zero > t else t
        t = top if top < t else t
        n = np.float32(t + magic)
        worst = max(worst, _bits32(abs(t - np.float32(n - magic))))
        out[i + at] = _bits32(n)
    return worst


@nb.njit(nogil=True, error_model="numpy", _nrt=False, forceinline=True)
def wrap_narrow(x, c, d, shift, lo, hi, p, offset, out, at):
    """As saturate_narrow; infinity's bits if anything is out of reach. n mod p as in wrap_wide, the ½ folded into `half`."""
    m, inverse, half = np.float32(p), np.float32(1 / p), np.float32(0.5 / p - 0.5)
    magic = np.float32(MAGIC32 - np.float32(offset))
    worst, far = np.int32(0), np.int32(0)
    if p == 1 << 8 * out.itemsize:
        for i in range(lo, hi):
            t = x[i] * take(c, i + shift) + take(d, i + shift)
            n = np.float32(t + magic)
            worst = max(worst, _bits32(abs(t - np.float32(n - magic))))
            far = max(far, _bits32(abs(t)))
            out[i + at] = _bits32(n)
    else:
        for i in range(lo, hi):
            t = x[i] * take(c, i + shift) + take(d, i + shift)
            n = np.float32(np.float32(t + MAGIC32) - MAGIC32)
            worst = max(worst, _bits32(abs(t - n)))
            far = max(far, _bits32(abs(t)))
            k = np.float32(np.float32(n * inverse + half + MAGIC32) - MAGIC32)
            out[i + at] = _bits32(n - m * k + magic)
    return _bits32(np.inf) if far > _bits32(np.float32(REACH * p)) else worst


@nb.njit(nogil=True, error_model="numpy", _nrt=False, forceinline=True)
def end_of_block(e, phase):
    """Where the block of element e ends: every BLOCK elements, from a line of the output on."""
    return e + BLOCK - ((e + phase) & (BLOCK - np.uint64(1)))


@nb.njit(nogil=True, error_model="numpy", _nrt=False, forceinline=True)
def ask_ahead(lo, hi):
    """Prefetch what lies AHEAD bytes behind addresses lo … hi − 1."""
    for a in range(lo + AHEAD, hi + AHEAD, np.uint64(LINE)):
        prefetch(a)


@nb.njit(nogil=True, error_model="numpy", _nrt=False, forceinline=True)
def pass_block(target, source, size):
    """A block of codes of `size` bytes between two addresses, past the caches."""
    for a in range(np.uint64(0), BLOCK * size, np.uint64(LINE)):
        pass_line(target + a, source + a)


@nb.njit(cache=True, nogil=True, error_model="numpy", _nrt=False)
def codes(x, c, d, far, low, high, c32, d32, inner, period, p, offset, slack, out, stage, phase):
    """Codes of x (n,) into out (n,), saturating, or with `far` going round; how many elements have none.

    Row r, of `inner` elements, takes C[r mod k]; or with `period`, element e takes C[e mod period]. c32: C as float32, None for
    wide loops only; d32: d − ½; slack: what `error` allows a t to be off. stage, phase: see above.
    """
    zero, one, n, start, size = np.uint64(0), np.uint64(1), np.uint64(x.size), np.uint64(phase), np.uint64(inner)
    lo, first, behind, row, shift = zero, zero, size, np.uint64(0), zero
    bad, tried, again, bound = np.int64(0), 0, 0, _bits32(np.float32(0.5 - slack))
    streams, in_size, out_size = stage.size > 0, np.uint64(x.itemsize), np.uint64(out.itemsize)
    # Once: to count references is a locked instruction, which waits for all lines on their way past the caches.
    source, staged, into = np.uint64(x.ctypes.data), np.uint64(stage.ctypes.data), np.uint64(out.ctypes.data)
    target, at = stage if streams else out, zero
    while lo < n:
        block = min(n, end_of_block(lo, start))
        hi = min(block, behind)
        if streams:
            at = ((lo + start) & (BLOCK - np.uint64(1))) - lo
            ask_ahead(source + lo * in_size, source + hi * in_size)
        if period is not None:
            shift = lo % np.uint64(period) - lo
        done = False
        if c32 is not None and again * 4 <= tried + 64:
            c_, d_ = some(c32, row, period), some(d32, row, period)
            if far is None:
                done = saturate_narrow(x, c_, d_, shift, lo, hi, p, offset, target, at) <= bound
            else:
                done = wrap_narrow(x, c_, d_, shift, lo, hi, p, offset, target, at) <= bound
            tried += 1
            again += not done
        if not done:
            cw, dw = some(c, row, period), some(d, row, period)
            if far is None:
                ends = some(low, row, period), some(high, row, period)
                bad += saturate_wide(x, cw, dw, shift, ends[0], ends[1], lo, hi, p, offset, target, at)
            else:
                bad += wrap_wide(x, cw, dw, shift, far, lo, hi, p, offset, target, at)
        if hi == behind:
            row, behind = (row + one) % np.uint64(c.size), behind + size
        if hi == block:
            if streams and block - first == BLOCK:
                pass_block(into + first * out_size, staged, out_size)
            elif streams:
                for i in range(first, block):
                    out[i] = stage[i + at]
            first = block
        lo = hi
    if streams:
        settle()
    return bad


@nb.njit(cache=True, nogil=True, error_model="numpy", _nrt=False)
def counts(x, c, d, far, inner, period, p, out, stage, phase):
    """How often each element of x (n,) goes round, into out (n,) int64; otherwise as `codes`."""
    zero, one, n, start, size = np.uint64(0), np.uint64(1), np.uint64(x.size), np.uint64(phase), np.uint64(inner)
    lo, first, behind, row, shift = zero, zero, size, np.uint64(0), zero
    bad = np.int64(0)
    streams, in_size, out_size = stage.size > 0, np.uint64(x.itemsize), np.uint64(out.itemsize)
    # Once: to count references is a locked instruction, which waits for all lines on their way past the caches.
    source, staged, into = np.uint64(x.ctypes.data), np.uint64(stage.ctypes.data), np.uint64(out.ctypes.data)
    target, at = stage if streams else out, zero
    while lo < n:
        block = min(n, end_of_block(lo, start))
        hi = min(block, behind)
        if streams:
            at = ((lo + start) & (BLOCK - np.uint64(1))) - lo
            ask_ahead(source + lo * in_size, source + hi * in_size)
        if period is not None:
            shift = lo % np.uint64(period) - lo
        bad += count_wide(x, some(c, row, period), some(d, row, period), shift, far, lo, hi, p, target, at)
        if hi == behind:
            row, behind = (row + one) % np.uint64(c.size), behind + size
        if hi == block:
            if streams and block - first == BLOCK:
                pass_block(into + first * out_size, staged, out_size)
            elif streams:
                for i in range(first, block):
                    out[i] = stage[i + at]
            first = block
        lo = hi
    if streams:
        settle()
    return bad
