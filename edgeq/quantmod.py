"""QuantMod: Q(x) = floor(C·x + d) mod p, its inverse, and what it says in TFLite's words.

One type carries every affine quantization of the kit: weights and activations (saturating), drift (the wrap count) and
masks (wrapping). docs/quantization.md derives it. Rules kept here:

- The arithmetic is float64: the product C·x, then the sum. float32 and float64 input is taken as it is, other numbers
  become float64 first.
- Q counts from 0 to p − 1. A signed dtype stores q = Q − p // 2, an unsigned one stores Q: for p = 2ⁿ that is TFLite's
  q = Q − 2ⁿ⁻¹, for p = 255 it is the narrow range [−127, 127] of TFLite's weights.
- d = Z + f: Z = floor(d) is the code of real zero (TFLite's zero_point + p // 2), f the rounding offset (½ rounds half
  up, 0 truncates, uniform in [0, 1) rounds without bias).

This module needs NumPy alone; edgeq/passes.py, imported with the first array, goes over arrays.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from edgeq.errors import InputError
from edgeq.records import dataclass

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgeq.passes import Backwards, Passes

    Array = NDArray[Any]
else:
    Array = np.ndarray

DTYPES = ("int8", "uint8", "int16", "uint16")
_NAMES = {np.dtype(name): name for name in DTYPES}
MAX_MODULUS = 1 << 16
_MOST_KNOWN = 16
"""Kinds of arrays whose constants one transform keeps."""


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
        else:
            _require(out, x.shape, self.dtype)
        passes = self._passes(x, wrap)
        bad = passes.codes(x, out) if rng is None else passes.stochastic(x, out, rng)
        if bad:
            t = " with |C·x + d| ≥ 2^53 or NaN" if wrap else ": NaN"
            raise InputError(f"{bad} of {x.size} values have no code{t}")
        return out

    def wraps(self, x: Any, *, out: Array | None = None) -> Array:
        """How often each element went round: floor((C·x + d)/p), int64 of x's shape, a new array or `out`.

        Not 0 means out of the range. Raises InputError for NaN and |C·x + d| ≥ 2⁵³.
        """
        x = self._real(x)
        if out is None:
            out = np.empty(x.shape, np.int64)
        else:
            _require(out, x.shape, np.dtype(np.int64))
        if bad := self._passes(x, True).counts(x, out):
            raise InputError(f"{bad} of {x.size} values are NaN or beyond counting")
        return out

    def dequantize(self, q: Any) -> Array:
        """TFLite's real value of each code: float32(scale · (q − zero_point)), of q's shape."""
        q = self._codes(q)
        return self._backwards(q).dequantize(q)

    def inverse(self, q: Any) -> Array:
        """The middle of what quantizes to each code: (Q + ½ − d)/C, float32 of q's shape.

        Q(inverse(q)) = q whatever f is; for f = ½ it is `dequantize`. A value that went round comes back modulo p/C.
        """
        q = self._codes(q)
        return self._backwards(q).inverse(q)

    # --- inside -------------------------------------------------------------------------------------------------------

    def __eq__(self, other: object) -> bool:
        return isinstance(other, QuantMod) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def _key(self) -> tuple[Any, ...]:
        return (np.asarray(self.C).tobytes(), np.asarray(self.d).tobytes(), self.p, self.axis, named(self.dtype))

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
        all_are = self.p == 1 << 8 * q.itemsize and (low == 0) == (q.dtype.kind == "u")
        if not all_are and q.size and not (low <= int(q.min()) and int(q.max()) < low + self.p):
            raise InputError(f"codes must be in [{low}, {low + self.p - 1}], got [{q.min()}, {q.max()}]")
        return np.asarray(q, order="C")

    def _fits(self, x: Array) -> None:
        if self.axis is None:
            return
        k = np.size(self.C)
        if not -x.ndim <= self.axis < x.ndim or x.shape[self.axis] != k:
            raise InputError(f"expected {k} channels along axis {self.axis}, got shape {x.shape}")

    def _after(self, x: Array) -> tuple[int, ...]:
        """The shape behind the axis: what C and d do not vary along; () where there is no axis."""
        return () if self.axis is None else x.shape[self.axis % x.ndim + 1 :]

    def _passes(self, x: Array, wrap: bool) -> Passes:
        """What goes over an array like x, with its constants; made once."""
        key = (x.dtype.char, wrap, self._after(x))
        found = self._known.get(key)
        if found is None:
            from edgeq.passes import Passes

            found = self._keep(key, Passes(self.C, self.d, self.p, self.offset, wrap, x.dtype, key[2]))
        return found  # type: ignore[no-any-return]

    def _backwards(self, q: Array) -> Backwards:
        key = self._after(q)
        found = self._known.get(key)
        if found is None:
            from edgeq.passes import Backwards

            found = self._keep(key, Backwards(self.C, self.d, self.offset, self.scale, key))
        return found  # type: ignore[no-any-return]

    @property
    def _known(self) -> dict[Any, Any]:
        made: dict[Any, Any] = self.__dict__.setdefault("_made", {})
        return made

    def _keep(self, key: Any, made: Any) -> Any:
        if len(self._known) >= _MOST_KNOWN:
            self._known.clear()
        return self._known.setdefault(key, made)

    def __reduce__(self) -> tuple[Any, ...]:
        return QuantMod, (self.C, self.d, self.p, self.axis, self.dtype)


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


def _require(out: Array, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    if out.shape != shape or out.dtype != dtype or not out.flags.c_contiguous:
        raise InputError(f"out is {out.dtype}{list(out.shape)}, a contiguous {dtype}{list(shape)} is expected")


def _offset(p: int, dtype: np.dtype[Any]) -> int:
    return p // 2 if dtype.kind == "i" else 0


def named(dtype: np.dtype[Any]) -> str:
    """A dtype's name: NumPy takes two microseconds to say one."""
    return _NAMES.get(dtype) or dtype.name


def _dtype(dtype: Any) -> np.dtype[Any]:
    found: np.dtype[Any] = np.dtype(dtype)
    if found not in _NAMES and found.name not in DTYPES:
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
