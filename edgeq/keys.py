"""The keys of the two parties: a publisher signs bundles and grants, a device opens what was wrapped for it.

A publisher has a P-256 signing key and a key of its own to open with (edgeq.recipients), for which each bundle's content key is
wrapped, so that grants can be issued later; on request also an ML-DSA-65 key, which signs bundles a second time. A device has a
key to open with. docs/bundle-format.md has the files and the key ids. Private keys never appear in a repr, an error or a log;
the objects here hold `cryptography`'s keys, which print as addresses.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

from edgeq import errors, limits, pem
from edgeq.errors import BadSignatureError
from edgeq.files import PRIVATE, PathLike, read_limited, write_atomic
from edgeq.primitives import ecdsa, load_der_public_key, mldsa
from edgeq.recipients import ContentKey, DeviceKey, Recipient, private_half, public_half
from edgeq.records import dataclass, field

if TYPE_CHECKING:
    from typing import Protocol
else:
    Protocol = object  # a class of that kind takes as long to make as five others, and nobody asks at run time

# As model_signing pairs them: the hash is as long as the curve asks for.
_ECDSA = {
    "secp256r1": ecdsa(hashes.SHA256()),
    "secp384r1": ecdsa(hashes.SHA384()),
    "secp521r1": ecdsa(hashes.SHA512()),
}
_OURS = _ECDSA["secp256r1"]

RAW_SIGNATURE_SIZE = 64
"""Bytes of a P-256 signature as r ‖ s."""


@dataclass(frozen=True, eq=False)
class PublisherPublic:
    """A publisher's public keys; `key_id`, of the signing key, is what grants and trust call it.

    `wrapping` is None for a lone signing key, which can verify but not seal. Where `second` is there, its bundles must be
    signed by that key too. `hint` is how an OMS signature names the signing key.
    """

    signing: ec.EllipticCurvePublicKey
    wrapping: Recipient | None = None
    second: mldsa.MLDSA65PublicKey | None = None
    key_id: str = field(init=False)
    hint: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "key_id", hashlib.sha256(self.to_der()).hexdigest())
        object.__setattr__(self, "hint", hashlib.sha256(pem.public_bytes([self.signing])).hexdigest())

    def verify(self, message: bytes, signature: bytes) -> None:
        """Return if `signature` (DER) is this publisher's over `message`; else raise BadSignatureError."""
        try:
            self.signing.verify(signature, message, _ECDSA[self.signing.curve.name])
        except InvalidSignature:
            raise BadSignatureError(f"the signature does not fit what it signs under key {self.key_id[:16]}…") from None

    def to_der(self) -> bytes:
        """The signing key, as a root holds it; its hash is the key id."""
        return pem.public_der(self.signing)

    @property
    def blocks(self) -> list[pem.PublicKey]:
        """The keys in the order of a key file."""
        opening = [] if self.wrapping is None else self.wrapping.blocks
        return [self.signing, *opening, *([] if self.second is None else [self.second])]

    def second_der(self) -> bytes | None:
        """The second signing key, as a root holds it; None if there is none."""
        return None if self.second is None else pem.public_der(self.second)

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
        return self._signing.sign(message, _OURS)


@dataclass(frozen=True, eq=False)
class PublisherKey:
    """A publisher's private keys, or those of an issuer of grants.

    `identity` opens what was wrapped for the publisher: its own bundles' keys, and what was granted to an issuer.
    """

    _signing: ec.EllipticCurvePrivateKey = field(repr=False)
    identity: DeviceKey = field(repr=False)
    _second: mldsa.MLDSA65PrivateKey | None = field(default=None, repr=False)
    public: PublisherPublic = field(init=False)

    def __post_init__(self) -> None:
        second = None if self._second is None else self._second.public_key()
        object.__setattr__(self, "public", PublisherPublic(self._signing.public_key(), self.wrapping, second))

    @classmethod
    def generate(cls, *, hybrid: bool | None = None, second: bool = False) -> PublisherKey:
        """Fresh keys; `hybrid` as for DeviceKey.generate, `second` for a second signing key, ML-DSA-65.

        Raises KeyFileError where this machine cannot make one that is asked for.
        """
        return cls(
            ec.generate_private_key(ec.SECP256R1()),
            DeviceKey.generate(hybrid=hybrid),
            _generate_second() if second else None,
        )

    @property
    def wrapping(self) -> Recipient:
        """The publisher's own public key to wrap for."""
        return self.identity.public

    @property
    def blocks(self) -> list[pem.PrivateKey]:
        """The keys in the order of a key file."""
        return [self._signing, *self.identity.blocks, *([] if self._second is None else [self._second])]

    def sign(self, message: bytes) -> bytes:
        """The signature over `message`, in DER."""
        return self._signing.sign(message, _OURS)

    def sign_second(self, message: bytes) -> bytes | None:
        """The second key's signature over `message`; None if there is no second key."""
        return None if self._second is None else self._second.sign(message)

    def sign_raw(self, message: bytes) -> bytes:
        """The signature over `message` as r ‖ s, RAW_SIGNATURE_SIZE bytes."""
        half = RAW_SIGNATURE_SIZE // 2
        return b"".join(number.to_bytes(half, "big") for number in decode_dss_signature(self.sign(message)))

    def unwrap(self, wrapped: bytes, info: bytes) -> ContentKey:
        """The content key that was wrapped for this publisher under `info`; raises WrappedKeyError."""
        return self.identity.unwrap(wrapped, info)


def _generate_second() -> mldsa.MLDSA65PrivateKey:
    from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PrivateKey

    try:
        return MLDSA65PrivateKey.generate()
    except UnsupportedAlgorithm:
        raise errors.KeyFileError("the cryptography package on this machine has no ML-DSA-65") from None


# --- files ------------------------------------------------------------------------------------------------------------


def new_publisher(
    name: PathLike, *, passphrase: bytes | None = None, hybrid: bool | None = None, second: bool = False
) -> PublisherKey:
    """Make a publisher's keys and write `name`.key (mode 0600, encrypted under `passphrase` if given) and `name`.pub.

    `hybrid` and `second` are those of PublisherKey.generate.

    Raises OutputError, leaving neither file, if one of them exists or cannot be written, KeyFileError as `generate` does.
    """
    made = PublisherKey.generate(hybrid=hybrid, second=second)
    _write_pair(name, made.blocks, passphrase)
    return made


def new_signer(name: PathLike, *, passphrase: bytes | None = None) -> SigningKey:
    """Make a key that signs roots and statuses, and write `name`.key and `name`.pub as `new_publisher` does."""
    signing = ec.generate_private_key(ec.SECP256R1())
    _write_pair(name, [signing], passphrase)
    return SigningKey(signing)


def new_device(name: PathLike, *, passphrase: bytes | None = None, hybrid: bool | None = None) -> DeviceKey:
    """Make a device's key and write `name`.key (mode 0600, encrypted under `passphrase` if given) and `name`.pub.

    `hybrid` is that of DeviceKey.generate.

    Raises OutputError, leaving neither file, if one of them exists or cannot be written, KeyFileError as `generate` does.
    """
    made = DeviceKey.generate(hybrid=hybrid)
    _write_pair(name, made.blocks, passphrase)
    return made


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
    """The private key that opens in the file at `path`: a device's, a publisher's, an issuer's."""
    return parse_owner(read_limited(path, limits.KEY_FILE), passphrase=passphrase, what=os.fspath(path))


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
    if (found := _publisher(loaded)) is not None:
        return found
    raise errors.KeyFileError(
        f"{what}: expected a publisher's private keys (P-256, then X25519 or hybrid), found {pem.kinds(loaded)}"
    )


def parse_signer(data: bytes, *, passphrase: bytes | None = None, what: str = "key") -> SigningKey | PublisherKey:
    """The private key that signs in the bytes of a .key file: a lone one, or a publisher's.

    Raises KeyFileError, PassphraseError; `what` names the file in the message.
    """
    loaded = pem.load_private(data, passphrase, what)
    match loaded:
        case [ec.EllipticCurvePrivateKey() as signing]:
            return SigningKey(signing)
    if (found := _publisher(loaded)) is not None:
        return found
    raise errors.KeyFileError(f"{what}: expected a private key that signs (P-256), found {pem.kinds(loaded)}")


def _publisher(loaded: Sequence[pem.PrivateKey]) -> PublisherKey | None:
    match loaded:
        case [ec.EllipticCurvePrivateKey() as signing, *opening, mldsa.MLDSA65PrivateKey() as second]:
            identity = private_half(opening)
            return None if identity is None else PublisherKey(signing, identity, second)
        case [ec.EllipticCurvePrivateKey() as signing, *opening]:
            identity = private_half(opening)
            return None if identity is None else PublisherKey(signing, identity)
    return None


def parse_signing_der(data: bytes, key_id: str, what: str) -> PublisherPublic:
    """The public signing key with this id in a root, DER SubjectPublicKeyInfo.

    Raises KeyFileError if it is not a P-256 key, not in its one spelling, or has another id.
    """
    try:
        key = load_der_public_key(data)
    except Exception:
        raise errors.KeyFileError(f"{what}: expected a public key in DER, found none") from None
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise errors.KeyFileError(f"{what}: expected a P-256 key, found another kind")
    public = PublisherPublic(key)
    if public.to_der() != data or public.key_id != key_id:
        raise errors.KeyFileError(f"{what}: expected the key with the id {key_id[:16]}…, found {public.key_id[:16]}…")
    return public


def parse_second_der(data: bytes, what: str) -> mldsa.MLDSA65PublicKey:
    """The second signing key of a publisher in a root, DER SubjectPublicKeyInfo.

    Raises KeyFileError if it is not an ML-DSA-65 key, not in its one spelling, or this machine has no ML-DSA.
    """
    try:
        key = load_der_public_key(data)
    except UnsupportedAlgorithm:
        raise errors.KeyFileError(f"{what}: the cryptography package on this machine has no ML-DSA-65") from None
    except Exception:
        raise errors.KeyFileError(f"{what}: expected a public key in DER, found none") from None
    if not isinstance(key, mldsa.MLDSA65PublicKey) or pem.public_der(key) != data:
        raise errors.KeyFileError(f"{what}: expected an ML-DSA-65 key, found another kind")
    return key


def parse_publisher_public(data: bytes, *, what: str = "publisher key") -> PublisherPublic:
    """The publisher's public keys in the bytes of a .pub file, or a lone public key of another tool: P-256, P-384, P-521.

    Raises KeyFileError; `what` names the file in the message.
    """
    loaded = pem.load_public(data, what)
    match loaded:
        case [ec.EllipticCurvePublicKey() as signing]:
            return PublisherPublic(signing)
        case [ec.EllipticCurvePublicKey(curve=ec.SECP256R1()) as signing, *opening, mldsa.MLDSA65PublicKey() as second]:
            if (wrapping := _file_half(opening, what)) is not None:
                return PublisherPublic(signing, wrapping, second)
        case [ec.EllipticCurvePublicKey(curve=ec.SECP256R1()) as signing, *opening]:
            if (wrapping := _file_half(opening, what)) is not None:
                return PublisherPublic(signing, wrapping)
    raise errors.KeyFileError(
        f"{what}: expected a publisher's public keys (P-256, then X25519 or hybrid), found {pem.kinds(loaded)}"
    )


def parse_verifier(data: bytes, *, what: str = "publisher key") -> PublisherPublic:
    """As `parse_publisher_public` for one who verifies, and wraps nothing: `wrapping` is None, the key in the file is held to its
    kind and length, but not opened."""
    first, *others = pem.public_blocks(data, what)
    if wrapping := pem.to_wrap_for(others):
        match [pem.open_public(block, what) for block in (first, *others[wrapping:])]:
            case [ec.EllipticCurvePublicKey(curve=ec.SECP256R1()) as signing]:
                return PublisherPublic(signing)
            case [ec.EllipticCurvePublicKey(curve=ec.SECP256R1()) as signing, mldsa.MLDSA65PublicKey() as second]:
                return PublisherPublic(signing, None, second)
    return parse_publisher_public(data, what=what)


def parse_device(data: bytes, *, passphrase: bytes | None = None, what: str = "device key") -> DeviceKey:
    """The device's private key in the bytes of a .key file.

    Raises KeyFileError, PassphraseError; `what` names the file in the message.
    """
    loaded = pem.load_private(data, passphrase, what)
    if (found := private_half(loaded)) is not None:
        return found
    raise errors.KeyFileError(f"{what}: expected a device's private key (X25519 or hybrid), found {pem.kinds(loaded)}")


def parse_owner(data: bytes, *, passphrase: bytes | None = None, what: str = "key") -> DeviceKey:
    """The key that opens in the bytes of a .key file: a device's, a publisher's, an issuer's.

    Raises KeyFileError, PassphraseError; `what` names the file in the message.
    """
    loaded = pem.load_private(data, passphrase, what)
    if (alone := private_half(loaded)) is not None:
        return alone
    if (publisher := _publisher(loaded)) is not None:
        return publisher.identity
    raise errors.KeyFileError(
        f"{what}: expected a private key that opens (X25519 or hybrid), found {pem.kinds(loaded)}"
    )


def parse_device_public(data: bytes, *, what: str = "device key") -> Recipient:
    """The device's public key in the bytes of a .pub file.

    Raises KeyFileError; `what` names the file in the message.
    """
    loaded = pem.load_public(data, what)
    if (found := public_half(loaded, what)) is not None:
        return found
    raise errors.KeyFileError(f"{what}: expected a device's public key (X25519 or hybrid), found {pem.kinds(loaded)}")


def parse_recipient(data: bytes, *, what: str = "key") -> Recipient:
    """Whoever a grant can be for, by the bytes of a .pub file: a device, or an issuer.

    Raises KeyFileError; `what` names the file in the message.
    """
    loaded = pem.load_public(data, what)
    if (device := public_half(loaded, what)) is not None:
        return device
    with suppress(errors.KeyFileError):
        if (wrapping := parse_publisher_public(data, what=what).wrapping) is not None:
            return wrapping
    raise errors.KeyFileError(
        f"{what}: expected the public key of a device or issuer (X25519 or hybrid), found {pem.kinds(loaded)}"
    )


def _file_half(opening: Sequence[pem.PublicKey], what: str) -> Recipient | None:
    """The key to wrap for of a publisher, which lies in a file."""
    found = public_half(opening, what)
    return None if found is None or isinstance(found.key, pem.ChipPublic) else found


def _write_pair(name: PathLike, private: list[pem.PrivateKey], passphrase: bytes | None) -> None:
    base = os.fspath(name)
    public: list[pem.PublicKey] = [key.public_key() for key in private]
    write_atomic(f"{base}.key", pem.private_bytes(private, passphrase), mode=PRIVATE, replace=False)
    try:
        write_atomic(f"{base}.pub", pem.public_bytes(public), replace=False)
    except BaseException:
        with suppress(OSError):
            os.unlink(f"{base}.key")
        raise
