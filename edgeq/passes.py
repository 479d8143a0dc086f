"""What a transform does to whole arrays: by compiled kernels, or by NumPy, equal bit for bit.

`Passes` are for one transform and one kind of array: what they need is worked out once, since for a small array that would cost
more than the arithmetic. x is float32 or float64 and out of x's shape, both C-contiguous. They return how many elements have no
code.

This module needs NumPy alone: the kernels are imported when an array is large enough to repay that.
"""

from __future__ import annotations

import sys
from math import lcm, prod
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]
else:
    Array = np.ndarray

LIMIT = 2.0**53  # above this, consecutive integers are no longer consecutive float64
_FAR_D = 2.0**49  # for |d| above this the kernels' fast loops have no room

# Importing Numba costs half a second, the kernel saves some ns an element over NumPy. Once Numba is in the process, what is left
# to repay is a call.
_REPAYS_NUMBA = 1 << 24
_REPAYS_CALL = 1 << 12
_FEW = 4096
_ZERO = np.array(0.0)
_CHUNK = 1 << 15  # elements a NumPy pass keeps in the cache
_SHORT_ROW = 48  # elements behind an axis from which on a row has loops of its own
_ONE_ROW = 1 << 62
_ALIGNED_PATTERN = (
    1024  # C and d repeated start where vectors do, up to this length: longer ones crowd the first-level cache
)
_LONG_PATTERN = 1 << 16
_ALIGNMENT = 64
_STREAMS = 1 << 25  # bytes of input and output from which on no cache holds them


class Passes:
    """The transform floor(C·x + d) mod p on arrays of one dtype and one shape behind the axis."""

    __slots__ = ("_ahead", "_c", "_d", "_less", "_modulus", "_offset", "_p", "_top", "_wrap", "after", "c", "d")

    def __init__(
        self, c: Any, d: Any, p: int, offset: int, wrap: bool, dtype: np.dtype[Any], after: tuple[int, ...]
    ) -> None:
        """c, d: scalars, or (k,) along an axis; offset: what codes are stored less; after: the shape behind the axis."""
        self._c, self._d, self._p, self._offset, self._wrap, self.after = c, d, p, offset, wrap, after
        self.c, self.d = _columns(c, after), _columns(d, after)
        # As arrays: NumPy takes longer to make sense of a Python number than to work through a small array.
        self._modulus, self._top, self._less = (np.array(v, np.float64) for v in (p, p - 1, offset))
        self._ahead: dict[str, Any] = {}

    def codes(self, x: Array, out: Array) -> int:
        """Codes of x: saturating, or going round."""
        if repays_kernel(x, out):
            return self._compiled(x, out)
        return self.plain(x, out)

    def counts(self, x: Array, out: Array) -> int:
        """How often each element of x goes round, into out, int64."""
        if repays_kernel(x, out) and np.max(np.abs(self._d)) <= _FAR_D:
            return self._counted(x, out)
        return self.plain_counts(x, out)

    def stochastic(self, x: Array, out: Array, rng: np.random.Generator) -> int:
        """Codes of x, each element with a rounding offset of its own."""
        t = np.multiply(x, self.c, dtype=np.float64) + np.floor(self.d) + rng.random(x.shape)
        return self._store(np.atleast_1d(t), np.atleast_1d(out))

    # --- NumPy, which is also what the kernels are compared with ------------------------------------------------------

    def plain(self, x: Array, out: Array) -> int:
        """`codes` by NumPy."""
        return self._chunks(x, out, self._store)

    def plain_counts(self, x: Array, out: Array) -> int:
        """`counts` by NumPy."""
        return self._chunks(x, out, self._count)

    def _chunks(self, x: Array, out: Array, last: Any) -> int:
        """float64 values t of x, as many at a time as a cache holds, to `last`."""
        if x.ndim == 0:
            x, out = x.reshape(1), out.reshape(1)
        if x.size <= _CHUNK or np.ndim(self._c):
            t = x.astype(np.float64)
            t *= self.c
            t += self.d
            return last(t, out)  # type: ignore[no-any-return]
        x, out = x.reshape(-1), out.reshape(-1)
        chunks = (slice(i, i + _CHUNK) for i in range(0, x.size, _CHUNK))
        return sum(last(np.multiply(x[s], self.c, dtype=np.float64) + self.d, out[s]) for s in chunks)

    def _store(self, t: Array, out: Array) -> int:
        """floor(t), saturated or mod p, less the offset, into out; t is used up."""
        bad = 0
        if self._wrap:
            if t.size and not np.maximum.reduce(np.abs(t), axis=None) < LIMIT:
                lost = ~(np.abs(t) < LIMIT)
                bad, t[lost] = int(lost.sum()), 0.0
            np.floor(t, out=t)
            k = t / self._modulus
            np.floor(k, out=k)
            k *= self._modulus
            t -= k  # exact below the limit, see kernels/quantmod.py
        else:
            np.floor(t, out=t)
            np.maximum(t, _ZERO, out=t)
            np.minimum(t, self._top, out=t)
            if _any_nan(t):
                lost = np.isnan(t)
                bad, t[lost] = int(lost.sum()), 0.0
        if self._offset:
            t -= self._less
        out[...] = t
        return bad

    def _count(self, t: Array, out: Array) -> int:
        """floor(t) / p, rounded down, into out."""
        if t.size and not np.maximum.reduce(np.abs(t), axis=None) < LIMIT:
            return int((~(np.abs(t) < LIMIT)).sum())
        np.floor(t, out=t)
        t /= self._modulus
        out[...] = np.floor(t, out=t)
        return 0

    # --- compiled -----------------------------------------------------------------------------------------------------

    def _compiled(self, x: Array, out: Array) -> int:
        """`codes` by the kernel."""
        from edgeq.kernels import quantmod as kernels

        given = self._ahead.get("codes") or self._ahead.setdefault("codes", self._for_codes(x, out.itemsize))
        if given == "plain":
            return self.plain(x, out)
        if out.dtype.kind == "u":
            out = out.view(f"i{out.itemsize}")
        flat, into = x.reshape(-1), out.reshape(-1)
        return int(kernels.walk(flat, *given, into, *_stage(flat, into)))

    def _counted(self, x: Array, out: Array) -> int:
        """`counts` by the kernel."""
        from edgeq.kernels import quantmod as kernels

        given = self._ahead.get("counts") or self._ahead.setdefault("counts", self._for_counts(x))
        flat, into = x.reshape(-1), out.reshape(-1)
        return int(kernels.walk(flat, *given, into, *_stage(flat, into)))

    def _for_codes(self, x: Array, size: int) -> Any:
        """The kernel's arguments between x and out, for codes of `size` bytes; "plain" where NumPy must."""
        from edgeq.kernels import decide
        from edgeq.kernels import quantmod as kernels

        c, d, low, high = (np.atleast_1d(v) for v in (self._c, self._d, *self._ends(x.dtype)))
        if np.abs(d).max() > _FAR_D or not (self._wrap or self._saturates(low, high)):
            return "plain"
        walk, (c, d) = self._spread(c, d)
        way = None
        if x.dtype == np.float32:
            way = decide.way(c, d, self._p, self._offset, self._wrap, size, _aligned)
        if self._wrap:
            inverse = None if self._p == 1 << 8 * size else 1 / self._p
            kind: Any = kernels.Wrapping(c, d, kernels.far(c, d, x.dtype), inverse, self._p, self._offset)
        else:
            low, high = (low, high) if walk.period is None else (None, None)
            kind = kernels.Saturating(c, d, low, high, self._p, self._offset)
        return kind, way, *walk

    def _for_counts(self, x: Array) -> Any:
        from edgeq.kernels import quantmod as kernels

        walk, (c, d) = self._spread(np.atleast_1d(self._c), np.atleast_1d(self._d))
        return kernels.Counting(c, d, kernels.far(c, d, x.dtype), self._p), None, *walk

    def _ends(self, dtype: Any) -> tuple[Array, Array]:
        """x in the middle of the lowest and of the highest code: to saturate is to clamp to these, in x's own dtype."""
        most = np.finfo(dtype).max
        with np.errstate(over="ignore"):
            low, high = (np.clip((t - self._d) / self._c, -most, most).astype(dtype) for t in (0.5, self._p - 0.5))
        return low, high

    def _saturates(self, low: Array, high: Array) -> bool:
        """Whether these ends have the codes that they should: far from zero, or for tiny C, the dtype may not hold such."""
        lowest, highest = (np.floor(np.multiply(x, self._c, dtype=np.float64) + self._d) for x in (low, high))
        return bool((lowest == 0).all() and (highest == self._p - 1).all())

    def _spread(self, *columns: Array) -> tuple[Walk, list[Array]]:
        """How to go over an array, and columns (k,) for that: as they are by rows; or by elements, repeated until they hold a
        block from wherever in the period it begins.
        """
        from edgeq.kernels.quantmod import BLOCK

        k, inner = columns[0].size, prod(self.after)
        if not np.ndim(self._c) or inner >= _SHORT_ROW or (period := k * inner) > _LONG_PATTERN:
            return Walk(inner if np.ndim(self._c) else _ONE_ROW, None), [np.ascontiguousarray(v) for v in columns]
        whole = lcm(period, _ALIGNMENT // 4)
        period = whole if whole <= _ALIGNED_PATTERN else period
        return Walk(_ONE_ROW, period), [_aligned(np.resize(np.repeat(v, inner), period + int(BLOCK))) for v in columns]


class Walk(NamedTuple):
    """How the kernel goes over an array: rows of so many elements, or the period of C and d by elements."""

    inner: int
    period: int | None


class Backwards:
    """From codes to real numbers, for one shape behind the axis."""

    __slots__ = ("_c", "_d", "_exact", "_offset", "_scale", "_zero")

    def __init__(self, c: Any, d: Any, offset: int, scale: Any, after: tuple[int, ...]) -> None:
        """c, d, scale: scalars, or (k,) along an axis; offset: what codes are stored less; after: the shape behind the axis."""
        self._c, self._d, self._offset = _columns(c, after), _columns(d, after), offset
        self._zero, self._scale = np.floor(self._d), _columns(np.asarray(scale, np.float32), after)
        # Codes less such a zero point are whole numbers that float32 holds, and so is every step on the way.
        self._exact: Any = None
        if np.all(np.abs(self._zero) < 1 << 22):
            self._exact = np.asarray(self._zero - offset, np.float32)

    def dequantize(self, q: Array) -> Array:
        """float32(scale · (q − zero_point)) of q's shape."""
        if self._exact is None:
            n = (q.astype(np.int64) + self._offset - self._zero).astype(np.float32)
            return np.asarray(self._scale * n)
        real = np.subtract(q, self._exact, dtype=np.float32)
        return np.asarray(np.multiply(real, self._scale, dtype=np.float32))

    def inverse(self, q: Array) -> Array:
        """(Q + ½ − d)/C, float32 of q's shape."""
        t = np.add(q, self._offset + 0.5, dtype=np.float64)
        t = t - self._d
        return np.asarray(np.divide(t, self._c).astype(np.float32))


def repays_kernel(x: Array, out: Array) -> bool:
    """Whether these arrays are for the compiled kernels."""
    least = _REPAYS_CALL if "numba" in sys.modules else _REPAYS_NUMBA
    return x.size >= least and x.flags.aligned and out.flags.aligned and _have_numba()


def _have_numba() -> bool:
    """Whether the compiled kernels can be used: a slim device install has no Numba."""
    try:
        import edgeq.kernels.quantmod  # noqa: F401
    except ImportError:
        return False
    return True


def _any_nan(t: Array) -> bool:
    """Whether there is NaN among numbers of moderate size, as the codes are; a product of all tells, soonest for few."""
    total = np.vdot(t, t) if t.size < _FEW else np.add.reduce(t, axis=None)
    return bool(total != total)


def _columns(values: Any, after: tuple[int, ...]) -> Any:
    """Values along an axis, shaped to broadcast over an array with this shape behind it; a scalar as it is."""
    return np.reshape(values, (-1, *(1 for _ in after))) if np.ndim(values) else np.asarray(values)


def _stage(x: Array, out: Array) -> tuple[Array, int]:
    """Where blocks are done that pass the caches, and how far `out` begins behind a line; empty for what a cache holds."""
    if x.nbytes + out.nbytes < _STREAMS:
        return np.empty(0, out.dtype), 0
    from edgeq.kernels.quantmod import BLOCK

    return _aligned(np.empty(int(BLOCK), out.dtype)), out.ctypes.data % _ALIGNMENT // out.itemsize


def _aligned(a: Array) -> Array:
    """A copy that begins at a multiple of _ALIGNMENT."""
    raw = np.empty(a.nbytes + _ALIGNMENT, np.uint8)
    copy = raw[-raw.ctypes.data % _ALIGNMENT :][: a.nbytes].view(a.dtype)
    copy[:] = a
    return copy
