"""A masked array: its values plus a secret vector mod 2^bits, and what its owner needs to take the vector off again.

The formula is the kit's own, Q(x) = floor(C·x + d) mod p, with p = 2^bits and d the sum of a rounding offset and a vector
that is uniform over Z_p and used once: a one-time pad over Z_p. Sums of masked arrays are masked sums. This module is the
value and its bytes; edgeq.masking makes and removes masks. docs/trust-formats.md has the format and the formulas.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from edgeq import limits, strict
from edgeq.errors import ContainerError, DocumentError, LengthError, MaskError, NonceReusedError, TruncatedError
from edgeq.fields import KEY_ID, SUITE

Array = npt.NDArray[Any]

FORMAT: Final = "edgeq-mask/1"
MAGIC: Final = b"EDGEQMSK"
SALT_SIZE: Final = 16
TAG_SIZE: Final = 32
BITS: Final = (8, 16, 32, 64)
INTEGERS: Final = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
FLOATS: Final = ("float16", "float32", "float64")

_WHAT: Final = "masked array"
_HEADER: Final = struct.Struct("<8sI")
_DIMENSIONS: Final = 32


@dataclass(frozen=True)
class Term:
    """One masked array in a sum: the mask key wrapped for the owner, and the nonce and salt that chose the vector."""

    wrapped_key: bytes = field(repr=False)
    salt: bytes
    nonce: int

    def to_json(self) -> dict[str, Any]:
        """The term as a JSON value."""
        return {
            "nonce": self.nonce,
            "salt": self.salt.hex(),
            "wrapped_key": strict.to_base64(self.wrapped_key),
        }


@dataclass(frozen=True, eq=False)
class Masked:
    """A masked array, or a sum of some.

    values: the array's shape, uint8 … uint64, read-only: floor(C·x + d) mod 2^bits. dtype: what was masked. exponent:
    C = 2^exponent for floats, None for integers, whose C is 1. recipient: the key id of whoever can unmask it. tag:
    authenticates a single array to its owner; a sum, which anybody can make, has none (b"").
    """

    values: Array = field(repr=False)
    dtype: str
    exponent: int | None
    recipient: str
    terms: tuple[Term, ...]
    tag: bytes = field(default=b"", repr=False)

    @property
    def bits(self) -> int:
        """The modulus is 2^bits."""
        return 8 * self.values.dtype.itemsize

    def __add__(self, other: Masked) -> Masked:
        """The masked sum mod 2^bits; raises MaskError, NonceReusedError for one array twice."""
        if not isinstance(other, Masked):
            return NotImplemented
        if (kind := self.kind()) != other.kind():
            raise MaskError(f"masked arrays of different kinds have no sum: {kind} and {other.kind()}")
        if twice := set(self.terms) & set(other.terms):
            raise NonceReusedError(f"the same masked array twice in one sum (nonce {min(t.nonce for t in twice)})")
        if len(self.terms) + len(other.terms) > limits.MASK_TERMS:
            raise LengthError(f"{_WHAT}: more than {limits.MASK_TERMS} in one sum")
        return replace(self, values=_frozen(self.values + other.values), terms=self.terms + other.terms, tag=b"")

    def __radd__(self, other: object) -> Masked:
        """So that `sum` works, which begins with 0."""
        return self if isinstance(other, int) and other == 0 else NotImplemented

    def kind(self) -> dict[str, Any]:
        """What masked arrays must share to have a sum."""
        return {
            "bits": self.bits,
            "dtype": self.dtype,
            "exponent": self.exponent,
            "recipient": self.recipient,
            "shape": list(self.values.shape),
        }

    def to_bytes(self) -> bytes:
        """The content of an .eqm file."""
        header = strict.canonical(
            {
                "format": FORMAT,
                "suite": SUITE,
                **self.kind(),
                "tag": self.tag.hex(),
                "terms": [term.to_json() for term in self.terms],
            }
        )
        return b"".join((_HEADER.pack(MAGIC, len(header)), header, _little(self.values).tobytes()))


def parse(data: bytes | memoryview) -> Masked:
    """The masked array in an .eqm file; nothing of it is known to be true before it is unmasked.

    Raises ContainerError, TruncatedError, LengthError, EncodingError, DocumentError, SuiteError.
    """
    view = memoryview(data)
    if len(view) < _HEADER.size:
        raise TruncatedError(f"{_WHAT}: {len(view)} bytes, its header alone has {_HEADER.size}")
    magic, size = _HEADER.unpack_from(view)
    if magic != MAGIC:
        raise ContainerError(f"{_WHAT}: expected {MAGIC!r} at its beginning, found {magic!r}")
    if size > limits.MASK_HEADER:
        raise LengthError(f"{_WHAT}: a header of {size} bytes, the limit is {limits.MASK_HEADER}")
    if len(view) < _HEADER.size + size:
        raise TruncatedError(f"{_WHAT}: ends inside its header")
    header = strict.parse_canonical(bytes(view[_HEADER.size : _HEADER.size + size]), limits.MASK_HEADER, _WHAT)
    fields = strict.record(header, _FIELDS, _WHAT)
    if (fields["dtype"] in FLOATS) != (fields["exponent"] is not None):
        raise DocumentError(f"{_WHAT}: expected an exponent for floats and none for integers")
    if fields["dtype"] in INTEGERS and fields["bits"] < 8 * np.dtype(fields["dtype"]).itemsize:
        raise DocumentError(f"{_WHAT}: {fields['dtype']} does not fit {fields['bits']} bits")
    if bool(fields["tag"]) and len(fields["terms"]) > 1:
        raise DocumentError(f"{_WHAT}: a sum has no tag")
    body, itemsize, shape = view[_HEADER.size + size :], fields["bits"] // 8, fields["shape"]
    expected = math.prod(shape) * itemsize
    if len(body) != expected:
        kind = TruncatedError if len(body) < expected else LengthError
        raise kind(f"{_WHAT}: {len(body)} bytes of values, its shape needs {expected}")
    values = np.frombuffer(body, f"<u{itemsize}").astype(f"u{itemsize}").reshape(shape)
    return Masked(
        _frozen(values),
        fields["dtype"],
        fields["exponent"],
        fields["recipient"],
        tuple(fields["terms"]),
        bytes.fromhex(fields["tag"]),
    )


def _frozen(values: Array) -> Array:
    """The array, read-only from now on."""
    values.flags.writeable = False
    return values


def _little(values: Array) -> Array:
    return values.astype(values.dtype.newbyteorder("<"), copy=False)


def _shape(value: Any, what: str) -> tuple[int, ...]:
    length = strict.integer(0, limits.PAYLOAD)
    if not isinstance(value, list) or len(value) > _DIMENSIONS:
        raise DocumentError(f"{what}: expected at most {_DIMENSIONS} dimensions")
    return tuple(length(n, what) for n in value)


def _terms(value: Any, what: str) -> list[Term]:
    if not isinstance(value, list) or not 1 <= len(value) <= limits.MASK_TERMS:
        raise DocumentError(f"{what}: expected 1 to {limits.MASK_TERMS} terms")
    found = [Term(**strict.record(item, _TERM, what)) for item in value]
    if len(set(found)) != len(found):
        raise NonceReusedError(f"{what}: the same masked array twice in one sum")
    return found


def _wrapped(value: Any, what: str) -> bytes:
    data = strict.from_base64(value, what) if isinstance(value, str) else b""
    if not 0 < len(data) <= limits.WRAPPED_KEY:
        raise LengthError(f"{what}: expected a wrapped key of 1 to {limits.WRAPPED_KEY} bytes, found {len(data)}")
    return data


def _one_of(choices: tuple[Any, ...]) -> strict.Check:
    def check(value: Any, what: str) -> Any:
        if isinstance(value, bool) or not isinstance(value, str | int) or value not in choices:
            raise DocumentError(f"{what}: expected one of {', '.join(map(str, choices))}")
        return value

    return check


_HEX_SALT: Final = strict.hexadecimal(SALT_SIZE)
_TERM: Final[dict[str, strict.Check]] = {
    "nonce": strict.integer(0, limits.INTEGER),
    "salt": lambda value, what: bytes.fromhex(_HEX_SALT(value, what)),
    "wrapped_key": _wrapped,
}
_FIELDS: Final[dict[str, strict.Check]] = {
    "format": strict.only(FORMAT),
    "suite": strict.only(SUITE),
    "bits": _one_of(BITS),
    "dtype": _one_of((*INTEGERS, *FLOATS)),
    "exponent": strict.optional(strict.integer(-limits.MASK_EXPONENT, limits.MASK_EXPONENT)),
    "recipient": KEY_ID,
    "shape": _shape,
    "tag": strict.text(f"([0-9a-f]{{{2 * TAG_SIZE}}})?", f"{2 * TAG_SIZE} hexadecimal digits or none", 2 * TAG_SIZE),
    "terms": _terms,
}
