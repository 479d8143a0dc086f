"""Masking: arrays that nobody but their owner can read, and that can still be added up.

Q(x) = floor(C·x + d) mod 2^bits with a fresh d from ChaCha20, uniform over all residues. The key that d comes from is wrapped by
HPKE for the owner's public key. A nonce is used once under a key: a `MaskKey` gives them out in order and refuses one that is not
above all before, and a device with a state remembers that across processes. Beside that every vector depends on a fresh salt, so
that even a device whose disk was put back to an earlier day repeats none.

Who adds the masked arrays up sees nothing, and the owner of the sum sees no single one, as long as the two are not the same.
A sum has no tag: whoever adds up can add whatever they like.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import threading
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from edgeq import keys, limits, strict
from edgeq.device import Store
from edgeq.errors import InputError, MaskError
from edgeq.files import PathLike
from edgeq.masked import BITS, FLOATS, INTEGERS, SALT_SIZE, TAG_SIZE, Array, Masked, Term, parse
from edgeq.recipients import ContentKey, Identity, Recipient
from edgeq.state import following

__all__ = ["EXPONENT", "MaskKey", "Masked", "device_key", "mask", "parse", "unmask"]

EXPONENT: Final = 24
"""By default a float x becomes floor(2^24·x + 1/2): steps of 6e-8."""

_WRAP_LABEL: Final = b"edgeq-mask/1 mask key\x00"
_STREAM_LABEL: Final = b"edgeq-mask/1 stream\x00"
_DEVICE_LABEL: Final = b"edgeq-mask/1 device\x00"
_CHUNK: Final = 1 << 20  # bytes of vector at a time


class Nonces(Protocol):
    """Gives nonces out, each once."""

    def take(self, nonce: int | None) -> int:
        """The next nonce, or this one if it is above all that were given out; raises NonceReusedError."""


@dataclass
class _InMemory:
    """For a key that no other process has."""

    last: int = -1
    lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self, nonce: int | None) -> int:
        with self.lock:
            self.last = following(self.last, nonce)
            return self.last


@dataclass(frozen=True)
class _InState:
    """For a key that a device has again tomorrow: its state remembers, before anything is masked."""

    store: Store
    recipient: str

    def take(self, nonce: int | None) -> int:
        return self.store.take_nonce(self.recipient, nonce, now=datetime.now(timezone.utc))


@dataclass(frozen=True, eq=False)
class MaskKey:
    """A sender's key to mask any number of arrays for one owner, and the nonces that were used under it."""

    to: Recipient
    wrapped: bytes = field(repr=False)
    _key: ContentKey = field(repr=False)
    _nonces: Nonces = field(repr=False)

    @classmethod
    def new(cls, to: Recipient | PathLike) -> MaskKey:
        """A fresh random key for an owner, given by their public key or its file (a device's, a publisher's, an issuer's)."""
        return _wrapped(_recipient(to), ContentKey.generate(), _InMemory())

    def take(self, nonce: int | None = None) -> int:
        """The next nonce, or this one if none as high was used; raises NonceReusedError."""
        return self._nonces.take(nonce)


def device_key(to: Recipient | PathLike, identity: Identity, state: Store | PathLike) -> MaskKey:
    """The key with which a device masks for this owner, the same every time; the device's state remembers the nonces.

    Raises as the state's `take_nonce` does when the key is used.
    """
    recipient = _recipient(to)
    secret = identity.derive(_DEVICE_LABEL + bytes.fromhex(recipient.key_id))
    store = state if isinstance(state, Store) else Store(Path(state), identity)
    return _wrapped(recipient, ContentKey(secret.reveal()), _InState(store, recipient.key_id))


def mask(
    x: Any,
    to: Recipient | PathLike | MaskKey,
    *,
    bits: int | None = None,
    exponent: int | None = None,
    nonce: int | None = None,
) -> Masked:
    """`x` masked for the owner of a public key: only they can `unmask` it, or a sum that it is part of.

    x: an array of integers or floats. to: a public key, the path of its .pub file, or a MaskKey to mask several arrays with.
    bits: the modulus is 2^bits; by default the width of the integers, 64 for floats. Results are mod 2^bits, so a sum of
    integers needs as many bits as it may grow to. exponent: floats become floor(2^exponent·x + 1/2), by default 2^24, and a
    sum of n has an error of at most n/2^(exponent + 1). nonce: by default the key's next.

    Raises InputError for what cannot be masked so, NonceReusedError for a nonce that is not above all that the key has used.
    """
    array = np.asarray(x)
    values, exponent = _codes(array, bits, exponent)
    key = to if isinstance(to, MaskKey) else MaskKey.new(to)
    term = Term(key.wrapped, os.urandom(SALT_SIZE), key.take(nonce))
    plain = Masked(values, array.dtype.name, exponent, key.to.key_id, (term,))
    secret = _secret(key._key, plain, term)
    _shift(values, secret, term.nonce, np.add)
    values.flags.writeable = False
    return Masked(values, plain.dtype, exponent, plain.recipient, (term,), _tag(secret, plain))


def unmask(masked: Masked, identity: Identity | PathLike, *, passphrase: bytes | None = None) -> Array:
    """The array behind `masked`, or the sum of the arrays: integers mod 2^bits, in int8 … uint64 of that width; floats as
    float64.

    Raises WrappedKeyError if it was masked for somebody else, MaskError if a single array is not what was masked.
    """
    owner = identity if not isinstance(identity, str | os.PathLike) else _owner(identity, passphrase)
    if owner.public.key_id != masked.recipient:
        raise MaskError(f"masked for key {masked.recipient[:16]}…, this is {owner.public.key_id[:16]}…")
    known: dict[bytes, ContentKey] = {}  # several arrays of one sender share their wrapped key
    secrets = []
    for term in masked.terms:
        if term.wrapped_key not in known:
            known[term.wrapped_key] = owner.unwrap(term.wrapped_key, _info(masked.recipient))
        secrets.append(_secret(known[term.wrapped_key], masked, term))
    if len(secrets) == 1 and not hmac.compare_digest(_tag(secrets[0], masked), masked.tag):
        raise MaskError("the masked array is not what its sender masked: the tag does not fit")
    values = masked.values.copy()
    for secret, term in zip(secrets, masked.terms, strict=True):
        _shift(values, secret, term.nonce, np.subtract)
    if masked.exponent is None:
        return values if masked.dtype.startswith("u") else values.view(f"i{values.dtype.itemsize}")
    return np.ldexp(values.view(f"i{values.dtype.itemsize}").astype(np.float64), -masked.exponent)


def _codes(x: Array, bits: int | None, exponent: int | None) -> tuple[Array, int | None]:
    """floor(C·x + 1/2) mod 2^bits, in a new array, C-contiguous; and the exponent of C."""
    name = x.dtype.name
    if bits is not None and bits not in BITS:
        raise InputError(f"bits is {bits}, expected one of {', '.join(map(str, BITS))}")
    if name in INTEGERS:
        if exponent is not None:
            raise InputError("an exponent is for floats: integers are masked as they are")
        width = 8 * x.dtype.itemsize
        if (bits or width) < width:
            raise InputError(f"{name} does not fit {bits} bits")
        wide = np.dtype(f"{'u' if name[0] == 'u' else 'i'}{(bits or width) // 8}")
        return np.array(x, wide, order="C").view(f"u{wide.itemsize}"), None
    if name not in FLOATS:
        raise InputError(f"an array of {name} cannot be masked, expected integers or floats")
    exponent, width = EXPONENT if exponent is None else exponent, bits or 64
    if abs(exponent) > limits.MASK_EXPONENT:
        raise InputError(f"exponent is {exponent}, expected −{limits.MASK_EXPONENT} to {limits.MASK_EXPONENT}")
    with np.errstate(over="ignore", invalid="ignore"):
        q = np.floor(np.ldexp(x.astype(np.float64), exponent) + 0.5)
    bound = 2.0 ** (width - 1)
    if not ((q >= -bound) & (q < bound)).all():  # NaN is neither
        raise InputError(f"floor(2^{exponent}·x + 1/2) does not fit {width} bits: lower the exponent, or look for NaN")
    signed = q.astype(f"i{width // 8}", order="C")
    return np.ascontiguousarray(signed).reshape(x.shape).view(f"u{width // 8}"), exponent


def _shift(values: Array, secret: bytes, nonce: int, change: np.ufunc) -> None:
    """Add the vector that `secret` and `nonce` choose to `values`, or subtract it, in place, mod 2^bits."""
    # Of the 16 bytes the first four count blocks (RFC 8439), which is enough for 256 GiB; the last eight are the nonce.
    stream = Cipher(algorithms.ChaCha20(secret[:32], bytes(8) + nonce.to_bytes(8, "little")), mode=None).encryptor()
    flat, width = values.reshape(-1), values.dtype.itemsize
    step = _CHUNK // width
    zeros, vector = bytes(min(_CHUNK, values.nbytes)), bytearray(min(_CHUNK, values.nbytes))
    for start in range(0, flat.size, step):
        part = flat[start : start + step]
        stream.update_into(memoryview(zeros)[: part.nbytes], vector)
        change(part, np.frombuffer(vector, f"<u{width}", part.size), out=part)


def _secret(key: ContentKey, masked: Masked, term: Term) -> bytes:
    """64 bytes for one array: the cipher's key and the tag's. They depend on all that is said of the array."""
    said = strict.canonical({**masked.kind(), "nonce": term.nonce})
    info = _STREAM_LABEL + hashlib.sha256(said).digest()
    return HKDF(algorithm=hashes.SHA256(), length=64, salt=term.salt, info=info).derive(key.reveal())


def _tag(secret: bytes, masked: Masked) -> bytes:
    """HMAC-SHA-256 of the masked values; what is said of them is in the key."""
    values = masked.values.astype(masked.values.dtype.newbyteorder("<"), copy=False)
    data = np.ascontiguousarray(values).reshape(-1).view(np.uint8)
    tag = hmac.digest(secret[32:], data.data, "sha256")
    assert len(tag) == TAG_SIZE
    return tag


def _wrapped(to: Recipient, key: ContentKey, nonces: Nonces) -> MaskKey:
    return MaskKey(to, to.wrap(key, _info(to.key_id)), key, nonces)


def _info(recipient: str) -> bytes:
    return _WRAP_LABEL + bytes.fromhex(recipient)


def _recipient(to: Recipient | PathLike) -> Recipient:
    return to if isinstance(to, Recipient) else keys.load_recipient(to)


def _owner(path: PathLike, passphrase: bytes | None) -> Identity:
    return keys.load_owner(path, passphrase=passphrase)
