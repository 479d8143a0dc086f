"""Q(x) = floor(C·x + d) mod p over whole arrays, equal bit for bit to arithmetic in float64, at the speed of memory.

x: float32 or float64, flat and C-contiguous; out: int8 or int16 of the same length (unsigned codes have the same bytes), where
Q − offset is stored, or int64 for wrap counts. `walk` returns how many elements had no answer (NaN always; when wrapping also
|C·x + d| ≥ 2⁵³, where float64 no longer knows the integers apart): those elements of `out` are meaningless and the caller
refuses. `edgeq.passes` holds the NumPy twins. No fast math, so neither side fuses the multiplication with the addition.

C and d come as float64 arrays. By rows, element e takes C[e // inner mod k], so that a whole tensor is one row; by elements it
takes C[e mod period], for an axis with few elements behind it: C and d then hold a block more than a period, so that a block may
begin anywhere in it. A block, BLOCK elements, is done

- in float32, where a `Way` is given and its loops leave none in doubt (decide.py). An input whose blocks keep being in doubt
  (numbers on a grid) goes on without;
- else in float64, which is the definition. The integer is read off the low bits of floor(t) + 1.5·2⁵², one addition where a
  conversion and a modulo would cost several instructions; above 2⁵⁰ a plain loop takes over. What saturates is clamped before
  the arithmetic, as x.

`stage`: empty, or a block of codes that begins at a line (stream.py) for arrays that no cache holds. Then blocks end where `out`
has lines, `phase` being the elements that it begins behind one; a block is done in `stage`, from where its lines pass the caches,
and the input AHEAD bytes further on is asked for.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numba as nb
import numpy as np
from numba.extending import overload

from .decide import decide
from .sixteen import LANES
from .stream import LINE, pass_line, prefetch, settle

LIMIT = 2.0**53  # above this, consecutive integers are no longer consecutive float64
NEAR = 2.0**50  # below this, what the wide loops do is exact
MAGIC = 1.5 * 2.0**52
BLOCK = np.uint64(256)
AHEAD = np.uint64(8192)


class Saturating(NamedTuple):
    """Codes that stop at 0 and p − 1. low, high: x in their middles, of x's dtype, or None (saturate_wide)."""

    c: Any
    d: Any
    low: Any
    high: Any
    p: int
    offset: int


class Wrapping(NamedTuple):
    """Codes that go round mod p. far: as `far` gives it. inverse: 1/p, or None where to store the low bits is the modulo."""

    c: Any
    d: Any
    far: Any
    inverse: float | None
    p: int
    offset: int


class Counting(NamedTuple):
    """How often an element goes round: floor((C·x + d)/p)."""

    c: Any
    d: Any
    far: Any
    p: int


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
def wrap_wide(x, c, d, shift, far, inverse, lo, hi, p, offset, out, at):
    """As saturate_wide, going round; how many are NaN or beyond LIMIT. far: the greatest |x| for which |t| ≤ NEAR.

    n mod p = n − p·floor((n + ½)/p): (n + ½)/p is at least ½/p from any integer, and for |n| ≤ 2⁵⁰ its error is below that.
    """
    m, magic = np.float64(p), MAGIC - np.float64(offset)
    worst = _magnitude(far) * 0
    if inverse is None:
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


def in_float64(kind, x, row, period, shift, lo, hi, out, at):
    """Elements lo … hi − 1 by the loops above; how many have no answer."""


@overload(in_float64, inline="always")
def _in_float64(kind, x, row, period, shift, lo, hi, out, at):
    def saturate(kind, x, row, period, shift, lo, hi, out, at):
        c, d = some(kind.c, row, period), some(kind.d, row, period)
        low, high = some(kind.low, row, period), some(kind.high, row, period)
        return saturate_wide(x, c, d, shift, low, high, lo, hi, kind.p, kind.offset, out, at)

    def wrap(kind, x, row, period, shift, lo, hi, out, at):
        c, d = some(kind.c, row, period), some(kind.d, row, period)
        return wrap_wide(x, c, d, shift, kind.far, kind.inverse, lo, hi, kind.p, kind.offset, out, at)

    def count(kind, x, row, period, shift, lo, hi, out, at):
        c, d = some(kind.c, row, period), some(kind.d, row, period)
        return count_wide(x, c, d, shift, kind.far, lo, hi, kind.p, out, at)

    return {Saturating: saturate, Wrapping: wrap, Counting: count}[kind.instance_class]


@nb.njit(nogil=True, error_model="numpy", _nrt=False, forceinline=True)
def ask_ahead(lo, hi):
    """Prefetch what lies AHEAD bytes behind addresses lo … hi − 1."""
    for a in range(lo + AHEAD, hi + AHEAD, np.uint64(LINE)):
        prefetch(a)


@nb.njit(nogil=True, error_model="numpy", _nrt=False, forceinline=True)
def pass_block(target, source, size):
    """A block of `size` bytes between two addresses, past the caches."""
    for a in range(np.uint64(0), size, np.uint64(LINE)):
        pass_line(target + a, source + a)


@nb.njit(cache=True, nogil=True, error_model="numpy", _nrt=False)
def walk(x, kind, way, inner, period, out, stage, phase):
    """What `kind` says of x (n,) into out (n,); how many elements have no answer.

    Row r, of `inner` elements, takes C[r mod k]; or with `period`, element e takes C[e mod period]. way: None for float64 alone.
    stage, phase: see above.
    """
    zero, one, n, size = np.uint64(0), np.uint64(1), np.uint64(x.size), np.uint64(inner)
    lo, end, behind, row, shift = zero, BLOCK - np.uint64(phase), size, zero, zero
    bad, tried, again = np.int64(0), 0, 0
    streams, in_size, out_size = stage.size > 0, np.uint64(x.itemsize), np.uint64(out.itemsize)
    # Once: to count references is a locked instruction, which waits for all lines on their way past the caches.
    source, staged, into = np.uint64(x.ctypes.data), np.uint64(stage.ctypes.data), np.uint64(out.ctypes.data)
    target, at = stage if streams else out, zero
    while lo < n:
        first, last = lo, min(n, end)
        if streams:
            at = BLOCK - end
            ask_ahead(source + lo * in_size, source + last * in_size)
        while lo < last:
            hi, place = min(last, behind), row
            if period is not None:
                place = lo % np.uint64(period)
                shift = place - lo
            done = False
            if way is not None:  # on its own: a way that is None has no type to decide by
                enough = LANES if period is None else BLOCK
                if hi - lo >= enough and again * 4 <= tried + 64:
                    done = decide(way, x, place, period, lo, hi, target, at)
                    tried += 1
                    again += not done
            if not done:
                bad += in_float64(kind, x, row, period, shift, lo, hi, target, at)
            if hi == behind:
                row, behind = (row + one) % np.uint64(kind.c.size), behind + size
            lo = hi
        if streams:
            if last - first == BLOCK:
                pass_block(into + first * out_size, staged, BLOCK * out_size)
            else:
                for i in range(first, last):
                    out[i] = stage[i + at]
        end += BLOCK
    if streams:
        settle()
    return bad
