"""The keys of the two parties: a publisher signs bundles and grants, a device opens what was wrapped for it.

A publisher has a P-256 signing key and an X25519 key of its own, for which each bundle's content key is wrapped, so that
grants can be issued later. A device has an X25519 key. docs/bundle-format.md has the files and the key ids. Private keys
never appear in a repr, an error or a log; the objects here hold `cryptography`'s keys, which print as addresses.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Protocol

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives import hashes, hpke, serialization
from cryptography.hazmat.primitives.asymmetric import ec, x25519
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from edgeq import limits, pem
from edgeq.errors import BadSignatureError, KeyFileError, WrappedKeyError
from edgeq.files import PRIVATE, PathLike, read_limited, write_atomic

_ECDSA = ec.ECDSA(hashes.SHA256())
_HPKE = hpke.Suite(hpke.KEM.X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.CHACHA20_POLY1305)

CONTENT_KEY_SIZE = 32
"""Bytes of the key that a bundle's payload is encrypted with."""

WRAPPED_KEY_SIZE = 80
"""Bytes of a wrapped content key: HPKE's encapsulated share (32), the key (32), the tag (16)."""

RAW_SIGNATURE_SIZE = 64
"""Bytes of a P-256 signature as r ‖ s."""

DERIVED_SIZE = 32
"""Bytes of a secret that a device derives from its key."""


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
            raise WrappedKeyError(f"expected a content key of {CONTENT_KEY_SIZE} bytes, found {len(data)}")
        super().__init__(data)

    @classmethod
    def generate(cls) -> ContentKey:
        """A fresh random key."""
        return cls(os.urandom(CONTENT_KEY_SIZE))


class Identity(Protocol):
    """What a device proves itself with; a file today, a chip tomorrow.

    The two methods are what a chip that keeps its private key to itself can do.
    """

    @property
    def public(self) -> Recipient:
        """The public half."""

    def unwrap(self, wrapped: bytes, info: bytes) -> ContentKey:
        """The content key that was wrapped for this device under `info`; raises WrappedKeyError."""

    def derive(self, label: bytes) -> Secret:
        """DERIVED_SIZE bytes that this device alone can compute: the same every time, other ones for every label."""


@dataclass(frozen=True, eq=False)
class Recipient:
    """A public key that content keys are wrapped for: a device's, or a publisher's own. `key_id` is its name."""

    key: x25519.X25519PublicKey
    key_id: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "key_id", _key_id(self.key))

    def wrap(self, key: ContentKey, info: bytes) -> bytes:
        """The content key, readable by the owner of the private half alone, and only under the same `info`."""
        return _HPKE.encrypt(key.reveal(), self.key, info=info)


@dataclass(frozen=True, eq=False)
class DeviceKey:
    """A device's private key: an `Identity` that lies in a file."""

    _key: x25519.X25519PrivateKey = field(repr=False)
    public: Recipient = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "public", Recipient(self._key.public_key()))

    def unwrap(self, wrapped: bytes, info: bytes) -> ContentKey:
        """The content key that was wrapped for this device under `info`; raises WrappedKeyError."""
        return _unwrap(self._key, wrapped, info)

    def derive(self, label: bytes) -> Secret:
        """DERIVED_SIZE bytes that this device alone can compute: the same every time, other ones for every label.

        The key material is the shared secret of the key with itself, which a chip computes without giving its key away.
        """
        salt = bytes.fromhex(self.public.key_id)
        expand = HKDF(algorithm=hashes.SHA256(), length=DERIVED_SIZE, salt=salt, info=label)
        return Secret(expand.derive(self._key.exchange(self.public.key)))


@dataclass(frozen=True, eq=False)
class PublisherPublic:
    """A publisher's public keys; `key_id`, of the signing key, is what grants and trust call it.

    `wrapping` is None for a lone signing key, which can verify but not seal. `hint` is how an OMS signature names the
    signing key.
    """

    signing: ec.EllipticCurvePublicKey
    wrapping: Recipient | None = None
    key_id: str = field(init=False)
    hint: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "key_id", _key_id(self.signing))
        object.__setattr__(self, "hint", hashlib.sha256(pem.public_bytes([self.signing])).hexdigest())

    def verify(self, message: bytes, signature: bytes) -> None:
        """Return if `signature` (DER) is this publisher's over `message`; else raise BadSignatureError."""
        try:
            self.signing.verify(signature, message, _ECDSA)
        except InvalidSignature:
            raise BadSignatureError(f"the signature does not fit what it signs under key {self.key_id[:16]}…") from None

    def to_der(self) -> bytes:
        """The signing key, as a root holds it; its hash is the key id."""
        form = serialization.PublicFormat.SubjectPublicKeyInfo
        return self.signing.public_bytes(serialization.Encoding.DER, form)

    def verify_raw(self, message: bytes, signature: bytes) -> None:
        """As `verify`, for a signature of RAW_SIGNATURE_SIZE bytes, r ‖ s."""
        half = RAW_SIGNATURE_SIZE // 2
        r, s = (int.from_bytes(part, "big") for part in (signature[:half], signature[half:]))
        self.verify(message, encode_dss_signature(r, s))


class Signer(Protocol):
    """Whoever signs documents: a publisher, or a key that does nothing else."""

    @property
    def public(self) -> PublisherPublic:
        """The public half."""

    def sign(self, message: bytes) -> bytes:
        """The signature over `message`, in DER."""


@dataclass(frozen=True, eq=False)
class SigningKey:
    """A private key that signs roots and statuses, and opens nothing."""

    _signing: ec.EllipticCurvePrivateKey = field(repr=False)
    public: PublisherPublic = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "public", PublisherPublic(self._signing.public_key()))

    def sign(self, message: bytes) -> bytes:
        """The signature over `message`, in DER."""
        return self._signing.sign(message, _ECDSA)


@dataclass(frozen=True, eq=False)
class PublisherKey:
    """A publisher's private keys, or those of an issuer of grants."""

    _signing: ec.EllipticCurvePrivateKey = field(repr=False)
    _wrapping: x25519.X25519PrivateKey = field(repr=False)
    public: PublisherPublic = field(init=False)
    wrapping: Recipient = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "wrapping", Recipient(self._wrapping.public_key()))
        object.__setattr__(self, "public", PublisherPublic(self._signing.public_key(), self.wrapping))

    def sign(self, message: bytes) -> bytes:
        """The signature over `message`, in DER."""
        return self._signing.sign(message, _ECDSA)

    @property
    def identity(self) -> DeviceKey:
        """The key that opens what was granted to an issuer, as a device's opens what was granted to it."""
        return DeviceKey(self._wrapping)

    def sign_raw(self, message: bytes) -> bytes:
        """The signature over `message` as r ‖ s, RAW_SIGNATURE_SIZE bytes."""
        half = RAW_SIGNATURE_SIZE // 2
        return b"".join(number.to_bytes(half, "big") for number in decode_dss_signature(self.sign(message)))

    def unwrap(self, wrapped: bytes, info: bytes) -> ContentKey:
        """The content key that was wrapped for this publisher under `info`; raises WrappedKeyError."""
        return _unwrap(self._wrapping, wrapped, info)


# --- files ------------------------------------------------------------------------------------------------------------


def new_publisher(name: PathLike, *, passphrase: bytes | None = None) -> PublisherKey:
    """Make a publisher's keys and write `name`.key (mode 0600, encrypted under `passphrase` if given) and `name`.pub.

    Raises OutputError, leaving neither file, if one of them exists or cannot be written.
    """
    signing, wrapping = ec.generate_private_key(ec.SECP256R1()), x25519.X25519PrivateKey.generate()
    _write_pair(name, [signing, wrapping], passphrase)
    return PublisherKey(signing, wrapping)


def new_signer(name: PathLike, *, passphrase: bytes | None = None) -> SigningKey:
    """Make a key that signs roots and statuses, and write `name`.key and `name`.pub as `new_publisher` does."""
    signing = ec.generate_private_key(ec.SECP256R1())
    _write_pair(name, [signing], passphrase)
    return SigningKey(signing)


def new_device(name: PathLike, *, passphrase: bytes | None = None) -> DeviceKey:
    """Make a device's key and write `name`.key (mode 0600, encrypted under `passphrase` if given) and `name`.pub.

    Raises OutputError, leaving neither file, if one of them exists or cannot be written.
    """
    key = x25519.X25519PrivateKey.generate()
    _write_pair(name, [key], passphrase)
    return DeviceKey(key)


def load_publisher(path: PathLike, *, passphrase: bytes | None = None) -> PublisherKey:
    """The publisher's private keys in the file at `path`."""
    return parse_publisher(read_limited(path, limits.KEY_FILE), passphrase=passphrase, what=os.fspath(path))


def load_signer(path: PathLike, *, passphrase: bytes | None = None) -> SigningKey | PublisherKey:
    """The private key that signs in the file at `path`: a lone one, or a publisher's."""
    return parse_signer(read_limited(path, limits.KEY_FILE), passphrase=passphrase, what=os.fspath(path))


def load_publisher_public(path: PathLike) -> PublisherPublic:
    """The publisher's public keys in the file at `path`."""
    return parse_publisher_public(read_limited(path, limits.KEY_FILE), what=os.fspath(path))


def load_device(path: PathLike, *, passphrase: bytes | None = None) -> DeviceKey:
    """The device's private key in the file at `path`."""
    return parse_device(read_limited(path, limits.KEY_FILE), passphrase=passphrase, what=os.fspath(path))


def load_owner(path: PathLike, *, passphrase: bytes | None = None) -> DeviceKey:
    """Whoever opens what was wrapped for the public key beside it, by the file at `path`: a device, a publisher, an issuer."""
    data, what = read_limited(path, limits.KEY_FILE), os.fspath(path)
    loaded = pem.load_private(data, passphrase, what)
    match loaded:
        case [x25519.X25519PrivateKey() as key] | [ec.EllipticCurvePrivateKey(), x25519.X25519PrivateKey() as key]:
            return DeviceKey(key)
    raise KeyFileError(f"{what}: expected a device's or publisher's private keys (X25519), found {_kinds(loaded)}")


def load_device_public(path: PathLike) -> Recipient:
    """The device's public key in the file at `path`."""
    return parse_device_public(read_limited(path, limits.KEY_FILE), what=os.fspath(path))


def load_recipient(path: PathLike) -> Recipient:
    """Whoever a grant can be for, by the file at `path`: a device's public key, or an issuer's."""
    return parse_recipient(read_limited(path, limits.KEY_FILE), what=os.fspath(path))


def parse_publisher(data: bytes, *, passphrase: bytes | None = None, what: str = "publisher key") -> PublisherKey:
    """The publisher's private keys in the bytes of a .key file.

    Raises KeyFileError, PassphraseError; `what` names the file in the message.
    """
    loaded = pem.load_private(data, passphrase, what)
    match loaded:
        case [ec.EllipticCurvePrivateKey() as signing, x25519.X25519PrivateKey() as wrapping]:
            return PublisherKey(signing, wrapping)
    raise KeyFileError(f"{what}: expected a publisher's private keys (P-256, then X25519), found {_kinds(loaded)}")


def parse_signer(data: bytes, *, passphrase: bytes | None = None, what: str = "key") -> SigningKey | PublisherKey:
    """The private key that signs in the bytes of a .key file: a lone one, or a publisher's.

    Raises KeyFileError, PassphraseError; `what` names the file in the message.
    """
    loaded = pem.load_private(data, passphrase, what)
    match loaded:
        case [ec.EllipticCurvePrivateKey() as signing]:
            return SigningKey(signing)
        case [ec.EllipticCurvePrivateKey() as signing, x25519.X25519PrivateKey() as wrapping]:
            return PublisherKey(signing, wrapping)
    raise KeyFileError(f"{what}: expected a private key that signs (P-256), found {_kinds(loaded)}")


def parse_signing_der(data: bytes, key_id: str, what: str) -> PublisherPublic:
    """The public signing key with this id in a root, DER SubjectPublicKeyInfo.

    Raises KeyFileError if it is not a P-256 key, not in its one spelling, or has another id.
    """
    try:
        key = serialization.load_der_public_key(data)
    except Exception:
        raise KeyFileError(f"{what}: expected a public key in DER, found none") from None
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise KeyFileError(f"{what}: expected a P-256 key, found another kind")
    public = PublisherPublic(key)
    if public.to_der() != data or public.key_id != key_id:
        raise KeyFileError(f"{what}: expected the key with the id {key_id[:16]}…, found {public.key_id[:16]}…")
    return public


def parse_publisher_public(data: bytes, *, what: str = "publisher key") -> PublisherPublic:
    """The publisher's public keys in the bytes of a .pub file, or a lone P-256 public key.

    Raises KeyFileError; `what` names the file in the message.
    """
    loaded = pem.load_public(data, what)
    match loaded:
        case [ec.EllipticCurvePublicKey() as signing]:
            return PublisherPublic(signing)
        case [ec.EllipticCurvePublicKey() as signing, x25519.X25519PublicKey() as wrapping]:
            return PublisherPublic(signing, _recipient(wrapping, what))
    raise KeyFileError(f"{what}: expected a publisher's public keys (P-256, then X25519), found {_kinds(loaded)}")


def parse_device(data: bytes, *, passphrase: bytes | None = None, what: str = "device key") -> DeviceKey:
    """The device's private key in the bytes of a .key file.

    Raises KeyFileError, PassphraseError; `what` names the file in the message.
    """
    loaded = pem.load_private(data, passphrase, what)
    match loaded:
        case [x25519.X25519PrivateKey() as key]:
            return DeviceKey(key)
    raise KeyFileError(f"{what}: expected a device's private key (X25519), found {_kinds(loaded)}")


def parse_device_public(data: bytes, *, what: str = "device key") -> Recipient:
    """The device's public key in the bytes of a .pub file.

    Raises KeyFileError; `what` names the file in the message.
    """
    loaded = pem.load_public(data, what)
    match loaded:
        case [x25519.X25519PublicKey() as key]:
            return _recipient(key, what)
    raise KeyFileError(f"{what}: expected a device's public key (X25519), found {_kinds(loaded)}")


def parse_recipient(data: bytes, *, what: str = "key") -> Recipient:
    """Whoever a grant can be for, by the bytes of a .pub file: a device, or an issuer.

    Raises KeyFileError; `what` names the file in the message.
    """
    loaded = pem.load_public(data, what)
    match loaded:
        case [x25519.X25519PublicKey() as key] | [ec.EllipticCurvePublicKey(), x25519.X25519PublicKey() as key]:
            return _recipient(key, what)
    raise KeyFileError(f"{what}: expected the public key of a device or issuer (X25519), found {_kinds(loaded)}")


def _write_pair(name: PathLike, private: list[pem.PrivateKey], passphrase: bytes | None) -> None:
    base = os.fspath(name)
    public = [key.public_key() for key in private]
    write_atomic(f"{base}.key", pem.private_bytes(private, passphrase), mode=PRIVATE, replace=False)
    try:
        write_atomic(f"{base}.pub", pem.public_bytes(public), replace=False)
    except BaseException:
        with suppress(OSError):
            os.unlink(f"{base}.key")
        raise


def _recipient(key: x25519.X25519PublicKey, what: str) -> Recipient:
    # RFC 7748, section 6.1: a point of low order makes every shared secret zero, so anyone could unwrap.
    try:
        x25519.X25519PrivateKey.generate().exchange(key)
    except ValueError:
        raise KeyFileError(f"{what}: the X25519 public key is a point of low order, which protects nothing") from None
    return Recipient(key)


def _unwrap(key: x25519.X25519PrivateKey, wrapped: bytes, info: bytes) -> ContentKey:
    try:
        return ContentKey(_HPKE.decrypt(wrapped, key, info=info))
    except (InvalidTag, ValueError):  # ValueError: a share of low order
        raise WrappedKeyError("the wrapped key does not open: it is for another key or another document") from None


def _key_id(key: pem.PublicKey) -> str:
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return hashlib.sha256(key.public_bytes(serialization.Encoding.DER, form)).hexdigest()


def _kinds(loaded: Sequence[pem.PrivateKey] | Sequence[pem.PublicKey]) -> str:
    curves = (ec.EllipticCurvePrivateKey, ec.EllipticCurvePublicKey)
    return ", ".join("P-256" if isinstance(key, curves) else "X25519" for key in loaded)
