"""floor(C·x + d) in float32, sixteen at a time, where that is proved equal to float64's; what is not is left to others.

Each way gives m = BASE + floor(C·x + d) − offset as a float32, and an integer without sign which is above the way's bound where
the floor is in doubt. At BASE = 1.5·2²³ neighbouring float32 are 1 apart, so the sum of BASE and t is t rounded to an integer,
and m's low bits are the code's. m as an integer is counted from `low`: more than `span` above it, m lies out of reach (and so do
infinity and NaN, whose bits are far from BASE's).

With u = 2⁻²⁴:

Near (few codes). t = C·x + (d − ½) in float32. The roundings of C and of the product err by 2u·|C·x|, that of d − ½ by u·|d − ½|,
that of the sum by u·|t|. As |C·x| ≤ |t| + |d − ½|, all are below u·(3·|t| + 3·|d − ½|), of which `slack` takes 1.1 times, for the
greatest |t| in reach. If t is farther than that from any k + ½, the integer nearest to it is floor(C·x + d).

Split (up to 65536 codes), for |C·x|, |d| and |floor(C·x + d)| up to 2²⁰: C = high + low, two float32; floor(d) goes with BASE,
and n = high·x rounded to an integer falls out of m. What is left, high·x − n, is within ½, and one fma gives it to 2⁻²⁶: no
product has been rounded before. To it come low·x and the fraction of d, with 12 more: such sums are from 8 to 16, where float32
has twenty bits behind the point, and each of three roundings errs by 2⁻²¹ at most. So f errs by less than 2·2⁻²⁰, including what
C − high − low (2⁻⁴⁸·|C·x|) and float64 (2⁻³¹) do. It is made DOUBT less than it is: only where its fraction is in the last
2·DOUBT may the floor of f differ from that of the true sum.

Numba keeps what it compiled by the date of quantmod.py alone, which this is compiled into: who changes this file or sixteen.py
touches that one, too.
"""

from __future__ import annotations

import platform
from typing import Any, NamedTuple

import llvmlite.binding as llvm
import numba as nb
import numpy as np
from numba.extending import overload

from .sixteen import LANES, about, all_of, any_above, bits, fma, least, load, magnitude, most, of_bits, put

BASE = np.float32(1.5 * 2.0**23)
BASE_BITS = 0x4B400000
REACH = 2
"""Near wraps where |t| ≤ REACH·p."""
SPAN = 1 << 20
"""Split reaches this far on either side of zero, and so does Near where it saturates."""
DOUBT = 2.0**-19
_TWELVE_BITS = 0x414  # of 8 … 16, above twenty bits of fraction, for 12
_ROOM = 2.0**100  # beyond it, or below its inverse, float32 cannot hold C or what is left of it

FUSED = llvm.get_host_cpu_features().get("fma", platform.machine().lower() not in ("x86_64", "amd64"))
"""Whether fma is an instruction here; else Split would be slower than float64."""


class Way(NamedTuple):
    """How to decide, for the compiled loops.

    columns: arrays of float32, by rows or by elements as C and d are: Near's C and d − ½, or Split's C in two parts, BASE and
    floor(d), 12 and the fraction of d. ending: what becomes of codes that are out of range: None, they go round by losing bits;
    two uint32, they stop at these; four float32, they go round by these. base: Near's BASE − offset. bound, low, span: see above.
    """

    columns: Any
    ending: Any
    base: np.float32
    bound: np.uint32
    low: np.uint32
    span: np.uint32


def slack(p: int, d: float, wrap: bool) -> float:
    """The greatest error of Near's t, for the greatest |d| (see above)."""
    return 1.1 * 2.0**-24 * 3 * ((p * REACH if wrap else p) + d + 0.5)


def way(c: Any, d: Any, p: int, offset: int, wrap: bool, size: int, aligned: Any) -> Way | None:
    """How to decide codes of `size` bytes for these C and d, float64 columns; None where float32 cannot, or not soon enough.

    aligned: makes a column's copy that begins where vectors should.
    """
    most_d = float(np.abs(d).max())
    if not (c.min() > 1 / _ROOM and c.max() < _ROOM and most_d < SPAN):
        return None
    if not wrap:
        ending: Any = np.uint32(BASE_BITS - offset), np.uint32(BASE_BITS + p - 1 - offset)
    elif p == 1 << 8 * size:
        ending = None
    else:  # n mod p = n − p·floor((n + ½)/p), which is n − p·(n/p + ½/p − ½ to the nearest integer)
        ending = tuple(np.float32(v) for v in (BASE - offset, 1 / p, 0.5 / p - 0.5, -p))
    err = slack(p, most_d, wrap)
    if err < 2.0**-10:  # else too many blocks would be done twice
        span, bound = p * REACH if wrap else SPAN, np.float32(0.5 - err).view(np.uint32)
        columns: Any = c, d - 0.5
    elif FUSED:
        span, bound = SPAN, np.uint32((1 << 32) - int(2 * DOUBT * 2**32))
        high = c.astype(np.float32)
        columns = high, c - high, BASE - offset - _TWELVE_BITS + np.floor(d), 12 - DOUBT + (d - np.floor(d))
    else:
        return None
    return Way(
        tuple(aligned(v.astype(np.float32)) for v in columns),
        ending,
        np.float32(BASE - offset),
        bound,
        np.uint32(BASE_BITS - offset - span),
        np.uint32(2 * span),
    )


def sixteen_of(column, place, period):
    """A column from `place` on; or where there is no period, sixteen times what is there."""


@overload(sixteen_of, inline="always")
def _sixteen_of(column, place, period):
    if isinstance(period, nb.types.NoneType):
        return lambda column, place, period: all_of(column[place])
    return lambda column, place, period: load(column, place)


def taken(columns, place, period):
    """Sixteen of each column."""


@overload(taken, inline="always")
def _taken(columns, place, period):
    if len(columns) == 2:
        return lambda columns, place, period: (
            sixteen_of(columns[0], place, period),
            sixteen_of(columns[1], place, period),
        )
    return lambda columns, place, period: (
        sixteen_of(columns[0], place, period),
        sixteen_of(columns[1], place, period),
        sixteen_of(columns[2], place, period),
        sixteen_of(columns[3], place, period),
    )


def floored(x, c, base):
    """m, and what says whether it is in doubt, of sixteen x and their columns."""


@overload(floored, inline="always")
def _floored(x, c, base):
    def near(x, c, base):
        t = about(c[0], x, c[1])
        m = t + base
        return m, bits(magnitude(t - (m - base)))

    def split(x, c, base):
        m = fma(c[0], x, c[2])
        f = fma(c[0], x, c[2] - m) + fma(c[1], x, c[3])
        return of_bits(bits(m) + (bits(f) >> all_of(np.uint32(20)))), bits(f) << all_of(np.uint32(12))

    return near if len(c) == 2 else split


def finished(m, ending):
    """The code in the low bits."""


@overload(finished, inline="always")
def _finished(m, ending):
    def saturated(m, ending):
        return least(most(bits(m), all_of(ending[0])), all_of(ending[1]))

    def wrapped(m, ending):
        n = m - all_of(ending[0])
        k = (about(n, all_of(ending[1]), all_of(ending[2])) + all_of(BASE)) - all_of(BASE)
        return bits(about(k, all_of(ending[3]), m))

    if isinstance(ending, nb.types.NoneType):
        return lambda m, ending: bits(m)
    return saturated if len(ending) == 2 else wrapped


@nb.njit(nogil=True, error_model="numpy", _nrt=False, forceinline=True)
def decide_some(way, x, e, c, base, low, doubt, reach, out, at):
    """Codes of the sixteen elements from e on, of columns c; how much there is in doubt and out of reach with them."""
    m, unsure = floored(load(x, e), c, base)
    put(out, e + at, finished(m, way.ending))
    return most(doubt, unsure), most(reach, bits(m) - low)


@nb.njit(nogil=True, error_model="numpy", _nrt=False, forceinline=True)
def decide(way, x, place, period, lo, hi, out, at):
    """Codes of elements lo … hi − 1 of x to out[element + at]; False if any is in doubt.

    Without a period all have the columns of `place`, and are at least sixteen; with it they are a multiple of sixteen, whose
    columns begin at `place`.
    """
    base, low = all_of(way.base), all_of(way.low)
    doubt, reach = all_of(np.uint32(0)), all_of(np.uint32(0))
    if period is None:
        c = taken(way.columns, place, period)
        for i in range(lo, hi, LANES):
            e = min(i, hi - LANES)  # again from earlier on, where fewer than sixteen are left
            doubt, reach = decide_some(way, x, e, c, base, low, doubt, reach, out, at)
    else:
        for i in range(lo, hi, LANES):
            c = taken(way.columns, place + i - lo, period)
            doubt, reach = decide_some(way, x, i, c, base, low, doubt, reach, out, at)
    return not (any_above(doubt, all_of(way.bound)) or any_above(reach, all_of(way.span)))
