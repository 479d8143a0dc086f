"""Whom a content key is wrapped for, and who opens it: public keys of devices and publishers, and their private halves.

HPKE (RFC 9180) in base mode, HKDF-SHA256, ChaCha20-Poly1305. Which KEM it is follows from the owner's key and is written in no
document, so nobody on the way can choose a weaker one: X25519 with ML-KEM-768 (X-Wing, draft-connolly-cfrg-xwing-kem) where
`cryptography` has it, which somebody who records bundles today and has a quantum computer later does not open; X25519 alone; or
P-256, for chips that know nothing else (edgeq.chip).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from functools import cache
from typing import TYPE_CHECKING, Final

from cryptography.exceptions import InvalidTag, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes

from edgeq import errors, pem
from edgeq.primitives import HKDF, hpke, load_der_private_key, mlkem, x25519
from edgeq.records import dataclass, field

if TYPE_CHECKING:
    from typing import Protocol
else:
    Protocol = object  # a class of that kind takes as long to make as five others, and nobody asks at run time

_KDF, _AEAD = hpke.KDF.HKDF_SHA256, hpke.AEAD.CHACHA20_POLY1305
_CLASSICAL = hpke.Suite(hpke.KEM.X25519, _KDF, _AEAD)
_HYBRID = hpke.Suite(hpke.KEM.MLKEM768_X25519, _KDF, _AEAD)
_CHIP = hpke.Suite(hpke.KEM.P256, _KDF, _AEAD)

# PKCS#8 of an X25519 key (RFC 8410, section 7), in front of its 32 bytes.
_X25519_PREFIX: Final = bytes.fromhex("302e020100300506032b656e04220420")

CONTENT_KEY_SIZE: Final = 32
"""Bytes of the key that a bundle's payload is encrypted with."""

DERIVED_SIZE: Final = 32
"""Bytes of a secret that a device derives from its key."""

WRAPPED_KEY_SIZES: Final = (80, 113, 1168)
"""Bytes of a wrapped content key: HPKE's encapsulated share (X25519: 32, P-256: 65, hybrid: 1120), the key (32), the tag (16)."""


class Secret:
    """Secret bytes, in a box that does not print."""

    __slots__ = ("reveal",)

    def __init__(self, data: bytes) -> None:
        # A closure, so that no repr, vars() or traceback with local variables shows the bytes.
        self.reveal: Callable[[], bytes] = lambda: data


class ContentKey(Secret):
    """A bundle's content key."""

    __slots__ = ()

    def __init__(self, data: bytes) -> None:
        if len(data) != CONTENT_KEY_SIZE:
            raise errors.WrappedKeyError(f"expected a content key of {CONTENT_KEY_SIZE} bytes, found {len(data)}")
        super().__init__(data)

    @classmethod
    def generate(cls) -> ContentKey:
        """A fresh random key."""
        return cls(os.urandom(CONTENT_KEY_SIZE))


class Identity(Protocol):
    """What a device proves itself with: a file, or a chip that keeps its private key to itself."""

    @property
    def public(self) -> Recipient:
        """The public half."""

    def unwrap(self, wrapped: bytes, info: bytes) -> ContentKey:
        """The content key that was wrapped for this device under `info`; raises WrappedKeyError."""

    def derive(self, label: bytes) -> Secret:
        """DERIVED_SIZE bytes that this device alone can compute: the same every time, other ones for every label."""


@dataclass(frozen=True, eq=False)
class Recipient:
    """A public key that content keys are wrapped for: a device's, or a publisher's own. `key_id` is its name.

    `kem` is the second half of a hybrid key.
    """

    key: x25519.X25519PublicKey | pem.ChipPublic
    kem: mlkem.MLKEM768PublicKey | None = None
    key_id: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "key_id", hashlib.sha256(b"".join(map(pem.public_der, self.blocks))).hexdigest())

    @property
    def blocks(self) -> list[pem.PublicKey]:
        """The keys in the order of a key file."""
        return [self.key] if self.kem is None else [self.key, self.kem]

    def wrap(self, key: ContentKey, info: bytes) -> bytes:
        """The content key, readable by the owner of the private half alone, and only under the same `info`."""
        if isinstance(self.key, pem.ChipPublic):
            return _CHIP.encrypt(key.reveal(), self.key.point, info=info)
        if self.kem is None:
            return _CLASSICAL.encrypt(key.reveal(), self.key, info=info)
        return _HYBRID.encrypt(key.reveal(), hpke.MLKEM768X25519PublicKey(self.kem, self.key), info=info)


@dataclass(frozen=True, eq=False)
class DeviceKey:
    """A private key that lies in a file: an `Identity`, or the half of a publisher's keys that opens. `_kem` makes it hybrid."""

    _key: x25519.X25519PrivateKey = field(repr=False)
    _kem: mlkem.MLKEM768PrivateKey | None = field(default=None, repr=False)
    public: Recipient = field(init=False)

    def __post_init__(self) -> None:
        kem = None if self._kem is None else self._kem.public_key()
        object.__setattr__(self, "public", Recipient(self._key.public_key(), kem))

    @classmethod
    def generate(cls, *, hybrid: bool | None = None) -> DeviceKey:
        """A fresh key: hybrid, X25519 alone, or, for None, hybrid where this machine can.

        Raises KeyFileError where a hybrid one is asked for and this machine cannot.
        """
        hybrid = has_hybrid() if hybrid is None else hybrid
        if hybrid and not has_hybrid():
            raise errors.KeyFileError("the cryptography package on this machine has no ML-KEM-768")
        from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

        return cls(X25519PrivateKey.generate(), _generate_kem() if hybrid else None)

    @property
    def blocks(self) -> list[pem.PrivateKey]:
        """The keys in the order of a key file."""
        return [self._key] if self._kem is None else [self._key, self._kem]

    def unwrap(self, wrapped: bytes, info: bytes) -> ContentKey:
        """The content key that was wrapped for this key under `info`; raises WrappedKeyError."""
        try:
            if self._kem is None:
                return ContentKey(_CLASSICAL.decrypt(wrapped, self._key, info=info))
            both = hpke.MLKEM768X25519PrivateKey(self._kem, self._key)
            return ContentKey(_HYBRID.decrypt(wrapped, both, info=info))
        except (InvalidTag, ValueError):  # ValueError: a share of low order
            raise errors.WrappedKeyError(
                "the wrapped key does not open: it is for another key or another document"
            ) from None

    def derive(self, label: bytes) -> Secret:
        """DERIVED_SIZE bytes that this device alone can compute: the same every time, other ones for every label.

        The key material is the shared secret of the key with itself, and the seed of the second key of a hybrid one.
        """
        shared = self._key.exchange(self._key.public_key())
        seed = b"" if self._kem is None else self._kem.private_bytes_raw()
        return derived(shared + seed, self.public.key_id, label)


def derived(material: bytes, key_id: str, label: bytes) -> Secret:
    """What a device derives for a label, given its secret material and its key id."""
    expand = HKDF(algorithm=hashes.SHA256(), length=DERIVED_SIZE, salt=bytes.fromhex(key_id), info=label)
    return Secret(expand.derive(material))


@cache
def has_hybrid() -> bool:
    """Whether this machine's `cryptography` has the hybrid KEM."""
    try:
        _generate_kem()
    except UnsupportedAlgorithm:
        return False
    return True


def _generate_kem() -> mlkem.MLKEM768PrivateKey:
    from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey

    return MLKEM768PrivateKey.generate()


def private_half(loaded: Sequence[pem.PrivateKey]) -> DeviceKey | None:
    """The key that opens in these blocks of a key file; None if they are not just that."""
    match loaded:
        case [x25519.X25519PrivateKey() as key]:
            return DeviceKey(key)
        case [x25519.X25519PrivateKey() as key, mlkem.MLKEM768PrivateKey() as kem]:
            return DeviceKey(key, kem)
    return None


def public_half(loaded: Sequence[pem.PublicKey], what: str) -> Recipient | None:
    """The key to wrap for in these blocks of a key file; None if they are not just that. Raises KeyFileError for a weak one."""
    match loaded:
        case [pem.ChipPublic() as chip]:
            return Recipient(chip)
        case [x25519.X25519PublicKey() as key]:
            return Recipient(_sound(key, what))
        case [x25519.X25519PublicKey() as key, mlkem.MLKEM768PublicKey() as kem]:
            return Recipient(_sound(key, what), kem)
    return None


def _sound(key: x25519.X25519PublicKey, what: str) -> x25519.X25519PublicKey:
    # RFC 7748, section 6.1: a point of low order makes every shared secret zero, so anyone could unwrap.
    try:
        _probe().exchange(key)
    except ValueError:
        raise errors.KeyFileError(
            f"{what}: the X25519 public key is a point of low order, which protects nothing"
        ) from None
    return key


@cache
def _probe() -> x25519.X25519PrivateKey:
    """A private key that everybody knows. Private keys are multiples of 8 (RFC 7748, section 5), so with a point of low order any
    of them gives zero, this one too; and no multiple of the large orders, so with another point none does."""
    key = load_der_private_key(_X25519_PREFIX + bytes(range(1, 33)), None)
    assert isinstance(key, x25519.X25519PrivateKey)
    return key
