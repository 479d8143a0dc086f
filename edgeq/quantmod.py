"""QuantMod: Q(x) = floor(C·x + d) mod p, its inverse, and what it says in TFLite's words.

One type carries every affine quantization of the kit: weights and activations (saturating), drift (the wrap count) and
masks (wrapping). docs/quantization.md derives it. Rules kept here:

- The arithmetic is float64: the product C·x, then the sum. float32 and float64 input is taken as it is, other numbers
  become float64 first.
- Q counts from 0 to p − 1. A signed dtype stores q = Q − p // 2, an unsigned one stores Q: for p = 2ⁿ that is TFLite's
  q = Q − 2ⁿ⁻¹, for p = 255 it is the narrow range [−127, 127] of TFLite's weights.
- d = Z + f: Z = floor(d) is the code of real zero (TFLite's zero_point + p // 2), f the rounding offset (½ rounds half
  up, 0 truncates, uniform in [0, 1) rounds without bias).

This module needs NumPy alone: the compiled kernel is imported when an array is large enough to repay that.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeq.errors import InputError
from edgeq.records import dataclass

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]
else:
    Array = np.ndarray

DTYPES = ("int8", "uint8", "int16", "uint16")
MAX_MODULUS = 1 << 16
_LIMIT = 2.0**53  # above this, consecutive integers are no longer consecutive float64
_FAR_D = 2.0**49  # for |d| above this the kernels' fast loops have no room

# Importing Numba costs half a second, the kernel saves 20 ns an element over NumPy (measured: 0.4 against 24). Once
# Numba is in the process, what is left to repay is the call.
_REPAYS_NUMBA = 1 << 24
_REPAYS_CALL = 1 << 13
_CHUNK = 1 << 15  # elements a NumPy pass keeps in the cache
_SHORT_ROW = 256  # elements behind an axis from which on a row has loops of its own
_PATTERN = 768  # least length of C and d repeated: longer ones crowd the input out of the first-level cache
_LONG_PATTERN = 1 << 16
_ALIGNMENT = 64


@dataclass(frozen=True, eq=False)
class QuantMod:
    """Q(x) = floor(C·x + d) mod p.

    C: > 0, a float, or (k,) float64 along `axis`; d: the same shape; p: 2 … 65536; dtype: what `quantize` returns
    ("int8", "uint8", "int16", "uint16"; by default the smallest unsigned one that holds p − 1).
    """

    C: float | Array
    d: float | Array
    p: int
    axis: int | None = None
    dtype: np.dtype[Any] = None  # type: ignore[assignment]  # None stands for the smallest unsigned dtype

    def __post_init__(self) -> None:
        p = _modulus(self.p)
        dtype = _dtype(("uint8" if p <= 256 else "uint16") if self.dtype is None else self.dtype)
        if p > 1 << 8 * dtype.itemsize:
            raise InputError(f"{dtype.name} holds {1 << 8 * dtype.itemsize} codes, modulus {p} needs more")
        c, d = np.asarray(self.C, np.float64), np.asarray(self.d, np.float64)
        if not (np.isfinite(c).all() and (c > 0).all()):
            raise InputError(f"C must be finite and > 0, got {_first(c, ~(np.isfinite(c) & (c > 0)))}")
        if not np.isfinite(d).all():
            raise InputError(f"d must be finite, got {_first(d, ~np.isfinite(d))}")
        if self.axis is None:
            if c.ndim or d.ndim:
                raise InputError(f"C and d of shapes {c.shape} and {d.shape} need an axis")
            object.__setattr__(self, "C", float(c))
            object.__setattr__(self, "d", float(d))
        else:
            if max(c.ndim, d.ndim) != 1 or (c.ndim == d.ndim and c.shape != d.shape):
                raise InputError(f"along an axis C and d must have one shape (k,), got {c.shape} and {d.shape}")
            for name, value in zip("Cd", np.broadcast_arrays(c, d), strict=True):
                own = value.copy()
                own.flags.writeable = False
                object.__setattr__(self, name, own)
        object.__setattr__(self, "p", p)
        object.__setattr__(self, "dtype", dtype)

    # --- from and to TFLite -------------------------------------------------------------------------------------------

    @classmethod
    def from_tflite(
        cls, scale: Any, zero_point: Any, dtype: Any, f: float = 0.5, axis: int | None = None, p: int | None = None
    ) -> QuantMod:
        """real = scale · (q − zero_point), as TFLite stores it, with rounding offset f in [0, 1).

        scale: > 0, rounded to float32 as in the file; a scalar, (1,) or, with `axis`, (k,). p: the number of codes, by
        default all that the dtype has; 255 with int8 is TFLite's narrow range for weights.
        """
        dtype = _dtype(dtype)
        if not 0.0 <= f < 1.0:
            raise InputError(f"the rounding offset f must be in [0, 1), got {f}")
        p = _modulus(1 << 8 * dtype.itemsize if p is None else p)
        s = np.asarray(scale, np.float32).astype(np.float64)
        z = np.asarray(zero_point, np.int64)
        if axis is None:
            if s.size != 1 or z.size != 1:
                raise InputError(f"{s.size} scales and {z.size} zero points need an axis")
            s, z = s.reshape(()), z.reshape(())
        if not (np.isfinite(s).all() and (s > 0).all()):
            raise InputError(f"scale must be finite and > 0, got {_first(s, ~(np.isfinite(s) & (s > 0)))}")
        code = z + _offset(p, dtype)
        if ((code < 0) | (code >= p)).any():
            low = -_offset(p, dtype)
            raise InputError(f"zero_point must be in [{low}, {low + p - 1}], got {_first(z, (code < 0) | (code >= p))}")
        return cls(1.0 / s, code + f, p, axis, dtype)

    def to_tflite(self) -> tuple[float | Array, int | Array]:
        """(scale, zero_point), both scalar or both (k,); what TFLite cannot say is refused (a zero that has no code).

        The rounding offset f is no part of TFLite's pair: it stays behind (docs/quantization.md: as a bias, if it
        matters).
        """
        code = np.floor(self.d)
        if np.any((code < 0) | (code >= self.p)):
            bad = _first(np.asarray(code), np.asarray((code < 0) | (code >= self.p)))
            raise InputError(f"TFLite needs a code for zero in [0, {self.p - 1}], floor(d) is {bad:g}")
        return self.scale, self.zero_point

    @classmethod
    def from_range(
        cls,
        a: Any,
        b: Any,
        bits: int = 8,
        *,
        dtype: Any = None,
        symmetric: bool = False,
        narrow: bool = False,
        f: float = 0.5,
        axis: int | None = None,
    ) -> QuantMod:
        """The transform whose codes cover [a, b], widened to hold 0, which gets a code of its own.

        a, b: scalars, or (k,) along `axis`. bits: 2 … 16, p = 2^bits, one less if `narrow` (then the codes of a signed
        dtype are as many below zero as above). symmetric: zero_point 0 in a signed dtype. dtype: int8 up to 8 bits,
        else int16. `covers(a, b)` holds for f = ½; another f moves d' to [f − ½, f + ½), and the ends may have to
        saturate.
        """
        if not 2 <= bits <= 16:
            raise InputError(f"bits must be in 2 … 16, got {bits}")
        dtype = _dtype(("int8" if bits <= 8 else "int16") if dtype is None else dtype)
        p = (1 << bits) - bool(narrow)
        lo = np.minimum(np.asarray(a, np.float64), 0.0)
        hi = np.maximum(np.asarray(b, np.float64), 0.0)
        bad = ~(np.isfinite(lo) & np.isfinite(hi)) | (np.asarray(a) > np.asarray(b))
        if bad.any():
            found = f"[{_first(np.asarray(a), bad)}, {_first(np.asarray(b), bad)}]"
            raise InputError(f"a range must be finite with a ≤ b, got {found}")
        offset = _offset(p, dtype)
        if symmetric:
            if not offset:
                raise InputError(f"a symmetric range needs a signed dtype, got {dtype.name}")
            exact = np.maximum(-lo, hi) / (p - 1 - offset)
            s = _scale32(exact)
            code = np.full(s.shape, offset, np.float64)
        else:
            s = _scale32((hi - lo) / (p - 1))
            # Half down: the normalised offset d' = (Z + C·a) + ½ then stays below 1, so that C' + d' < p.
            code = np.clip(np.ceil((1.0 / s) * -lo - 0.5), 0, p - 1)
        return cls.from_tflite(s, code.astype(np.int64) - offset, dtype, f, axis, p)

    # --- what it says -------------------------------------------------------------------------------------------------

    @property
    def scale(self) -> float | Array:
        """TFLite's scale, 1/C to the nearest float32: a float that is one, or (k,) float32."""
        s = np.float32(1.0 / self.C) if self.axis is None else (1.0 / np.asarray(self.C)).astype(np.float32)
        return float(s) if self.axis is None else s  # type: ignore[return-value]

    @property
    def zero_point(self) -> int | Array:
        """TFLite's zero point, floor(d) − offset: an int, or (k,) int64."""
        z = np.floor(self.d)
        return int(z) - self.offset if self.axis is None else np.asarray(z).astype(np.int64) - self.offset

    @property
    def offset(self) -> int:
        """What the dtype takes off Q: p // 2 if it is signed, else 0."""
        return _offset(self.p, self.dtype)

    @property
    def limits(self) -> tuple[float | Array, float | Array]:
        """The real values of the lowest and the highest code, scalars or (k,)."""
        z = np.floor(self.d)
        lo, hi = -z / self.C, (self.p - 1 - z) / self.C
        return (float(lo), float(hi)) if self.axis is None else (lo, hi)

    def covers(self, a: Any, b: Any) -> bool:
        """Whether mod p is the identity on [a, b]: 0 ≤ C·a + d and C·b + d < p (on every channel)."""
        return bool(np.all(self.C * np.asarray(a) + self.d >= 0) and np.all(self.C * np.asarray(b) + self.d < self.p))

    def normalised(self, a: Any, b: Any) -> QuantMod:
        """The same transform on u = (x − a)/(b − a), which is in [0, 1] where x is in [a, b].

        C' = C·(b − a) and d' = d + C·a; `covers(a, b)` reads 0 ≤ d' and C' + d' < p. C' = p is the trap: u = 1 wraps
        to 0.
        """
        a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
        if not np.all(a < b):
            raise InputError(f"expected a range with a < b, got [{a}, {b}]")
        return QuantMod(self.C * (b - a), self.d + self.C * a, self.p, self.axis, self.dtype)

    # --- what it does -------------------------------------------------------------------------------------------------

    def quantize(
        self, x: Any, *, wrap: bool = False, rng: np.random.Generator | None = None, out: Array | None = None
    ) -> Array:
        """Codes of x, an array of x's shape in `dtype`: a new one, or `out`.

        x: real numbers of any shape (axis as in `axis`). Values beyond the codes saturate, or with `wrap` go round mod
        p. rng: round stochastically, each element with its own f uniform in [0, 1) instead of d's. Raises InputError
        for NaN, and with `wrap` for |C·x + d| ≥ 2⁵³ (infinity too), where mod p means nothing any more.
        """
        x = self._real(x)
        if out is None:
            out = np.empty(x.shape, self.dtype)
        elif out.shape != x.shape or out.dtype != self.dtype or not out.flags.c_contiguous:
            found = f"{out.dtype}{list(out.shape)}"
            raise InputError(f"out is {found}, a contiguous {self.dtype}{list(x.shape)} is expected")
        view, into = self._view(x), self._view(out)
        if rng is not None:
            bad = _stochastic(self, view, into, wrap, rng)
        elif _repays_kernel(x.size):
            bad = _compiled(self, view, into, wrap)
        else:
            bad = _numpy(self, view, into, wrap)
        if bad:
            t = " with |C·x + d| ≥ 2^53 or NaN" if wrap else ": NaN"
            raise InputError(f"{bad} of {x.size} values have no code{t}")
        return out

    def wraps(self, x: Any) -> Array:
        """How often each element went round: floor((C·x + d)/p), int64 of x's shape. Not 0 means out of the range."""
        view = self._view(self._real(x))
        counts = np.empty(view.shape, np.int64)
        bad = _counted(self, view, counts) if _repays_kernel(view.size) else _count(self, view, counts)
        if bad:
            raise InputError(f"{bad} of {view.size} values are NaN or beyond counting")
        return counts.reshape(np.shape(x))

    def dequantize(self, q: Any) -> Array:
        """TFLite's real value of each code: float32(scale · (q − zero_point)), of q's shape."""
        n = self._view(self._codes(q)).astype(np.int64)
        _, d = self._columns()
        scale = np.asarray(self.scale, np.float32).reshape(np.shape(d))
        real: Array = scale * (n + self.offset - np.floor(d)).astype(np.float32)
        return real.astype(np.float32).reshape(np.shape(q))

    def inverse(self, q: Any) -> Array:
        """The middle of what quantizes to each code: (Q + ½ − d)/C, float32 of q's shape.

        Q(inverse(q)) = q whatever f is; for f = ½ it is `dequantize`. A value that went round comes back modulo p/C.
        """
        n = self._view(self._codes(q)).astype(np.int64)
        c, d = self._columns()
        real: Array = ((n + self.offset + 0.5 - d) / c).astype(np.float32)
        return real.reshape(np.shape(q))

    # --- inside -------------------------------------------------------------------------------------------------------

    def __eq__(self, other: object) -> bool:
        return isinstance(other, QuantMod) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def _key(self) -> tuple[Any, ...]:
        return (np.asarray(self.C).tobytes(), np.asarray(self.d).tobytes(), self.p, self.axis, self.dtype.name)

    def _real(self, x: Any) -> Array:
        x = np.asarray(x)
        if x.dtype.kind not in "fiub":
            raise InputError(f"expected real numbers, got {x.dtype}")
        if x.dtype not in (np.float32, np.float64):
            x = x.astype(np.float64)
        self._fits(x)
        return np.asarray(x, order="C")

    def _codes(self, q: Any) -> Array:
        q = np.asarray(q)
        if q.dtype.kind not in "iu":
            raise InputError(f"expected integer codes, got {q.dtype}")
        self._fits(q)
        low = -self.offset
        if q.size and not (low <= int(q.min()) and int(q.max()) < low + self.p):
            raise InputError(f"codes must be in [{low}, {low + self.p - 1}], got [{q.min()}, {q.max()}]")
        return np.asarray(q, order="C")

    def _fits(self, x: Array) -> None:
        if self.axis is None:
            return
        k = np.size(self.C)
        if not -x.ndim <= self.axis < x.ndim or x.shape[self.axis] != k:
            raise InputError(f"expected {k} channels along axis {self.axis}, got shape {x.shape}")

    def _view(self, x: Array) -> Array:
        """A C-contiguous array as (n,), or (outer, k, inner) around the axis."""
        if self.axis is None:
            return x.reshape(-1)
        axis = self.axis % x.ndim
        return x.reshape(int(np.prod(x.shape[:axis])), x.shape[axis], int(np.prod(x.shape[axis + 1 :])))

    def _columns(self) -> tuple[float | Array, float | Array]:
        """C and d, shaped to broadcast over `_view`."""
        if self.axis is None:
            return self.C, self.d
        return np.asarray(self.C)[:, None], np.asarray(self.d)[:, None]


def transform(
    x: Any,
    C: float,  # noqa: N803 - the formula's letter, as in the type
    d: float,
    p: int,
    *,
    inverse: bool = False,
    saturate: bool = False,
) -> Array:
    """The bare formula: floor(C·x + d) mod p as uint8 (p ≤ 256) or uint16; with `inverse`, such codes as float32.

    saturate: out-of-range values stop at 0 and p − 1 instead of going round. Raises InputError.
    """
    q = QuantMod(C, d, p)
    return q.inverse(x) if inverse else q.quantize(x, wrap=not saturate)


# --- the passes: each fills `out` from `x`, both shaped by _view, and returns how many elements have no code ----------


def _repays_kernel(size: int) -> bool:
    """Whether an array of this size is for the compiled kernels."""
    return size >= (_REPAYS_CALL if "numba" in sys.modules else _REPAYS_NUMBA) and _have_numba()


def _have_numba() -> bool:
    """Whether the compiled kernels can be used: a slim device install has no Numba."""
    try:
        import edgeq.kernels.quantmod  # noqa: F401
    except ImportError:
        return False
    return True


def _compiled(q: QuantMod, x: Array, out: Array, wrap: bool) -> int:
    from edgeq.kernels import quantmod as kernels

    slack = kernels.error(q.p, float(np.abs(q.d).max()), wrap)
    c, d, low, high = (np.atleast_1d(v) for v in (q.C, q.d, *_ends(q, x.dtype)))
    if np.abs(d).max() > _FAR_D or not (wrap or _saturates(q, low, high)):
        return _numpy(q, x, out, wrap)
    # float32 must hold C, and err so seldom near an integer that few blocks are done twice. Going round, element by element, two
    # columns and two checks cost more than float64 does.
    narrow = x.dtype == np.float32 and slack < 2.0**-10 and c.min() > 2.0**-100 and c.max() < 2.0**100
    inner, (c, d) = _spread(q, x.shape, (c, d))
    narrow = narrow and (inner > 0 or not wrap)
    c32, d32 = (_aligned(c.astype(np.float32)), _aligned((d - 0.5).astype(np.float32))) if narrow else (None, None)
    ends: tuple[Any, ...] = (kernels.far(c, d, x.dtype),) if wrap else (low, high) if inner else ()
    flat, into = x.reshape(-1), out.reshape(-1).view(f"i{out.itemsize}")
    if inner:
        rows = kernels.wrap_rows if wrap else kernels.saturate_rows
        return int(rows(flat, c, d, *ends, c32, d32, inner, q.p, q.offset, slack, into))
    elements = kernels.wrap_elements if wrap else kernels.saturate_elements
    return int(elements(flat, c, d, *ends, c32, d32, q.p, q.offset, slack, into))


def _counted(q: QuantMod, x: Array, out: Array) -> int:
    """How often each element of x goes round, into out; the kernels' part of `wraps`."""
    from edgeq.kernels import quantmod as kernels

    if np.max(np.abs(q.d)) > _FAR_D:
        return _count(q, x, out)
    inner, (c, d) = _spread(q, x.shape, (np.atleast_1d(q.C), np.atleast_1d(q.d)))
    far = kernels.far(c, d, x.dtype)
    if inner:
        return int(kernels.count_rows(x.reshape(-1), c, d, far, inner, q.p, out.reshape(-1)))
    return int(kernels.count_elements(x.reshape(-1), c, d, far, q.p, out.reshape(-1)))


def _ends(q: QuantMod, dtype: Any) -> tuple[Array, Array]:
    """x in the middle of the lowest and of the highest code: to saturate is to clamp to these, in x's own dtype."""
    most = np.finfo(dtype).max
    with np.errstate(over="ignore"):
        low, high = (np.clip((t - q.d) / q.C, -most, most).astype(dtype) for t in (0.5, q.p - 0.5))
    return low, high


def _saturates(q: QuantMod, low: Array, high: Array) -> bool:
    """Whether these ends have the codes that they should: far from zero, or for tiny C, the dtype may not hold such."""
    lowest, highest = (np.floor(np.multiply(x, q.C, dtype=np.float64) + q.d) for x in (low, high))
    return bool((lowest == 0).all() and (highest == q.p - 1).all())


def _spread(q: QuantMod, shape: tuple[int, ...], columns: Sequence[Array]) -> tuple[int, list[Array]]:
    """The length of a row and the columns (k,) for kernels that go by rows; or 0 and the columns for going by elements.

    Element by element, a column is repeated until a round of it is long, and starts where vectors start.
    """
    k, inner = columns[0].size, shape[-1]
    if q.axis is not None and inner < _SHORT_ROW and (period := k * inner) <= _LONG_PATTERN:
        step = int(np.lcm(period, _ALIGNMENT // 4))
        times = step * max(1, _PATTERN // step) // period
        return 0, [_aligned(np.tile(np.repeat(v, inner), times)) for v in columns]
    return inner, [np.ascontiguousarray(v) for v in columns]


def _aligned(a: Array) -> Array:
    """A copy that begins at a multiple of _ALIGNMENT."""
    raw = np.empty(a.nbytes + _ALIGNMENT, np.uint8)
    copy = raw[-raw.ctypes.data % _ALIGNMENT :][: a.nbytes].view(a.dtype)
    copy[:] = a
    return copy


def _numpy(q: QuantMod, x: Array, out: Array, wrap: bool) -> int:
    """The kernel's twin."""
    c, d = q._columns()
    if q.axis is not None:
        return _store(q, np.multiply(x, c, dtype=np.float64) + d, out, wrap)
    chunks = (slice(i, i + _CHUNK) for i in range(0, x.size, _CHUNK))
    return sum(_store(q, np.multiply(x[s], c, dtype=np.float64) + d, out[s], wrap) for s in chunks)


def _count(q: QuantMod, x: Array, out: Array) -> int:
    """The twin of `_counted`."""
    c, d = q._columns()
    t = np.multiply(x, c, dtype=np.float64) + d
    bad = int((~(np.abs(t) < _LIMIT)).sum())
    if not bad:
        out[:] = np.floor(np.floor(t) / q.p)
    return bad


def _stochastic(q: QuantMod, x: Array, out: Array, wrap: bool, rng: np.random.Generator) -> int:
    c, d = q._columns()
    return _store(q, np.multiply(x, c, dtype=np.float64) + np.floor(d) + rng.random(x.shape), out, wrap)


def _store(q: QuantMod, t: Array, out: Array, wrap: bool) -> int:
    """floor(t), saturated or mod p, less the offset, into out; t is used up."""
    lost = ~(np.abs(t) < _LIMIT) if wrap else np.isnan(t)
    bad = int(lost.sum())
    if bad:
        t[lost] = 0.0
    np.floor(t, out=t)
    if wrap:
        t -= q.p * np.floor(t / q.p)  # exact below the limit, see kernels/quantmod.py
    else:
        np.clip(t, 0.0, q.p - 1.0, out=t)
    np.subtract(t, q.offset, out=out, casting="unsafe")
    return bad


def _offset(p: int, dtype: np.dtype[Any]) -> int:
    return p // 2 if dtype.kind == "i" else 0


def _dtype(dtype: Any) -> np.dtype[Any]:
    found: np.dtype[Any] = np.dtype(dtype)
    if found.name not in DTYPES:
        raise InputError(f"dtype must be one of {', '.join(DTYPES)}, got {found.name}")
    return found


def _modulus(p: Any) -> int:
    if not isinstance(p, (int, np.integer)) or not 2 <= p <= MAX_MODULUS:
        raise InputError(f"the modulus p must be an integer in 2 … {MAX_MODULUS}, got {p}")
    return int(p)


def _scale32(exact: Array) -> Array:
    """The least float32 that is ≥ exact (a smaller one would push the end of the range past the last code); 1 for 0."""
    s = np.asarray(exact, np.float64).astype(np.float32)
    s = np.where(s < exact, np.nextafter(s, np.float32(np.inf)), s)
    # Subnormal scales lose their bits in 1/s and in every multiplier derived from them.
    return np.where(s == 0, np.float32(1), np.maximum(s, np.finfo(np.float32).tiny)).astype(np.float64)


def _first(values: Array, where: Array) -> Any:
    """The first offending value, for a message."""
    return np.broadcast_to(values, where.shape)[where].flat[0]
