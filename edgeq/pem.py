"""Key files as text: PEM blocks, and private keys in PKCS#8 under a passphrase.

`cryptography` encrypts PKCS#8 with 2,048 rounds of PBKDF2, which a graphics card tries by the million. It opens scrypt,
so the few lines of DER that ask for scrypt (RFC 7914, section 7) are written here; `openssl pkey` opens the result.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Sequence
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec

from edgeq import errors, limits
from edgeq.primitives import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
    mldsa,
    mlkem,
    x25519,
)
from edgeq.records import dataclass


@dataclass(frozen=True, eq=False)
class ChipPublic:
    """The public key of a chip that agrees on secrets with P-256, and signs nothing with it.

    In files it is marked as id-ecDH (RFC 5480, section 2.1.2), so that no key that signs is taken for it.
    """

    point: ec.EllipticCurvePublicKey


PrivateKey = ec.EllipticCurvePrivateKey | x25519.X25519PrivateKey | mlkem.MLKEM768PrivateKey | mldsa.MLDSA65PrivateKey
PublicKey = (
    ec.EllipticCurvePublicKey | x25519.X25519PublicKey | mlkem.MLKEM768PublicKey | mldsa.MLDSA65PublicKey | ChipPublic
)

CURVES: Final = (ec.SECP256R1, ec.SECP384R1, ec.SECP521R1)
"""Of public keys that sign. edgeq's own are on P-256; the others sign directories with other tools."""

_P256: Final = ec.SECP256R1()
_KINDS: Final[tuple[tuple[type, str], ...]] = (
    (ChipPublic, "P-256 of a chip"),
    (ec.EllipticCurvePrivateKey, "P-256"),
    (x25519.X25519PrivateKey, "X25519"),
    (x25519.X25519PublicKey, "X25519"),
    (mlkem.MLKEM768PrivateKey, "ML-KEM-768"),
    (mlkem.MLKEM768PublicKey, "ML-KEM-768"),
    (mldsa.MLDSA65PrivateKey, "ML-DSA-65"),
    (mldsa.MLDSA65PublicKey, "ML-DSA-65"),
)

# SubjectPublicKeyInfo of an uncompressed P-256 point under id-ecDH, 1.3.132.1.12, in front of the point.
_CHIP_PREFIX: Final = bytes.fromhex("3057 3011 06052b8104010c 06082a8648ce3d030107 034200")
_POINT_SIZE: Final = 65

# The same of X25519 (RFC 8410, section 4) and ML-KEM-768 (RFC 9935, section 4), and how long they are with their keys.
_WRAPPING: Final = (
    (bytes.fromhex("302a 3005 06032b656e 032100"), 44),
    (bytes.fromhex("308204b2 300b 0609608648016503040402 038204a100"), 1206),
)

# 16 MiB and about 0.2 s: what fits a small device, and what openssl opens without being told to allow more.
_SCRYPT_N: Final = 2**14
_SCRYPT_R: Final = 8
_SCRYPT_P: Final = 5

_EXPECTED: Final = "expected keys on P-256, X25519, ML-KEM-768 or ML-DSA-65"

# What a block is made of: -----BEGIN LABEL-----, a line's end, base64, -----END LABEL-----. Taken apart by hand: a process that
# starts compiles no pattern for two files.
_DASHES: Final = "-----"
_UPPER: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_BODY: Final = _UPPER + _UPPER.lower() + "0123456789+/=\r\n"
_LABEL: Final = 64  # characters


def private_bytes(keys: list[PrivateKey], passphrase: bytes | None) -> bytes:
    """The content of a private key file: one PKCS#8 block a key, each encrypted if there is a passphrase."""
    return b"".join(_private_block(key, passphrase) for key in keys)


def public_bytes(keys: list[PublicKey]) -> bytes:
    """The content of a public key file: one SubjectPublicKeyInfo block a key."""
    return b"".join(_pem("PUBLIC KEY", public_der(key)) for key in keys)


def public_der(key: PublicKey) -> bytes:
    """A public key's SubjectPublicKeyInfo in DER, which key ids are hashes of."""
    if isinstance(key, ChipPublic):
        point = key.point.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        return _CHIP_PREFIX + point
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def kinds(loaded: Sequence[PrivateKey] | Sequence[PublicKey]) -> str:
    """What keys these are, for messages."""
    return ", ".join(
        f"P-{key.curve.key_size}"
        if isinstance(key, ec.EllipticCurvePublicKey)
        else next(name for kind, name in _KINDS if isinstance(key, kind))
        for key in loaded
    )


def load_private(data: bytes, passphrase: bytes | None, what: str) -> list[PrivateKey]:
    """The private keys of a key file, in its order.

    A passphrase for a file that is not encrypted is not used.

    Raises KeyFileError for a file that is not a sequence of PKCS#8 blocks, PassphraseError for an encrypted one without
    its passphrase; `what` names the file in the message.
    """
    if passphrase is not None and not 0 < len(passphrase) <= limits.PASSPHRASE:
        raise errors.PassphraseError(
            f"{what}: a passphrase has 1 to {limits.PASSPHRASE} bytes, this one has {len(passphrase)}"
        )
    return [_load_private_block(label, block, passphrase, what) for label, block in _blocks(data, what)]


def load_public(data: bytes, what: str) -> list[PublicKey]:
    """The public keys of a key file, in its order.

    Raises KeyFileError for a file that is not a sequence of SubjectPublicKeyInfo blocks.
    """
    return [open_public(block, what) for block in public_blocks(data, what)]


def public_blocks(data: bytes, what: str) -> list[bytes]:
    """The blocks of a public key file, which `open_public` opens; raises KeyFileError if they are of another label."""
    found = _blocks(data, what)
    for label, _ in found:
        if label != "PUBLIC KEY":
            raise errors.KeyFileError(f"{what}: expected a public key (.pub), found a block {label!r}")
    return [block for _, block in found]


def open_public(block: bytes, what: str) -> PublicKey:
    """The key in a block; raises KeyFileError."""
    return _chip_key(block, what) or _load_public_block("PUBLIC KEY", block, what)


def to_wrap_for(blocks: Sequence[bytes]) -> int:
    """How many blocks at the front are keys that content keys are wrapped for, by their kind and length: 2 of a hybrid one, 1 of
    X25519 alone, 0 of none. They are not opened."""
    found = 0
    for (prefix, size), block in zip(_WRAPPING, blocks, strict=False):
        der = _der_of(block)
        if der is None or len(der) != size or not der.startswith(prefix):
            break
        found += 1
    return found


def _load_public_block(label: str, block: bytes, what: str) -> PublicKey:
    try:
        key = load_pem_public_key(block)
    except UnsupportedAlgorithm:
        raise errors.KeyFileError(f"{what}: a key of a kind that the cryptography package here does not have") from None
    except Exception:
        raise errors.KeyFileError(f"{what}: a block {label!r} does not hold a public key") from None
    if not isinstance(key, PublicKey) or not isinstance(getattr(key, "curve", _P256), CURVES):
        raise errors.KeyFileError(f"{what}: {_EXPECTED}, found another kind")
    return key


def _chip_key(block: bytes, what: str) -> ChipPublic | None:
    """The key of a chip, if the block holds one: `cryptography` reads P-256 under id-ecPublicKey only."""
    der = _der_of(block)
    if der is None or not der.startswith(_CHIP_PREFIX) or len(der) != len(_CHIP_PREFIX) + _POINT_SIZE:
        return None
    try:
        return ChipPublic(ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), der[len(_CHIP_PREFIX) :]))
    except ValueError:
        raise errors.KeyFileError(f"{what}: a chip's public key is not a point of P-256") from None


def _der_of(block: bytes) -> bytes | None:
    """What a block holds, None if that is not base64."""
    try:
        return base64.b64decode(block.split(_DASHES.encode(), 3)[2].translate(None, b"\r\n"), validate=True)
    except ValueError:
        return None


def _blocks(data: bytes, what: str) -> list[tuple[str, bytes]]:
    if len(data) > limits.KEY_FILE:
        raise errors.KeyFileError(f"{what}: {len(data)} bytes, a key file has at most {limits.KEY_FILE}")
    try:
        text = data.decode("ascii")
    except UnicodeDecodeError:
        raise errors.KeyFileError(f"{what}: expected a key file in PEM, found bytes that are not text") from None
    blocks = []
    while len(parts := text.split(_DASHES, 4)) == 5:
        before, begin, body, end, text = parts
        label = begin.removeprefix("BEGIN ")
        if before or (begin, end) != (f"BEGIN {label}", f"END {label}") or not _is_sound(label, body):
            break
        blocks.append((label, _DASHES.join(("", begin, body, end, "\n")).encode()))
        text = text.lstrip()
        if not text:
            return blocks
    raise errors.KeyFileError(f"{what}: expected a key file: PEM blocks and nothing else")


def _is_sound(label: str, body: str) -> bool:
    """Whether these may stand in a block."""
    named = 0 < len(label) <= _LABEL and not label.strip(_UPPER + " ")
    return named and body.startswith(("\n", "\r\n")) and not body.strip(_BODY)


def _load_private_block(label: str, block: bytes, passphrase: bytes | None, what: str) -> PrivateKey:
    if label not in ("PRIVATE KEY", "ENCRYPTED PRIVATE KEY"):
        raise errors.KeyFileError(f"{what}: expected a private key (.key, PKCS#8), found a block {label!r}")
    encrypted = label.startswith("ENCRYPTED")
    if encrypted and passphrase is None:
        raise errors.PassphraseError(f"{what}: the key is encrypted and needs its passphrase")
    try:
        key = load_pem_private_key(block, passphrase if encrypted else None)
    except UnsupportedAlgorithm:
        raise errors.KeyFileError(f"{what}: a key of a kind that the cryptography package here does not have") from None
    except Exception:
        if encrypted:
            raise errors.PassphraseError(f"{what}: the passphrase is wrong, or the file is damaged") from None
        raise errors.KeyFileError(f"{what}: a block {label!r} does not hold a private key") from None
    if not isinstance(key, PrivateKey) or not isinstance(getattr(key, "curve", _P256), ec.SECP256R1):
        raise errors.KeyFileError(f"{what}: {_EXPECTED}, found another kind")
    return key


def _private_block(key: PrivateKey, passphrase: bytes | None) -> bytes:
    form = PrivateFormat.PKCS8
    if passphrase is None:
        return key.private_bytes(Encoding.PEM, form, NoEncryption())
    if not 0 < len(passphrase) <= limits.PASSPHRASE:
        raise errors.PassphraseError(f"a passphrase has 1 to {limits.PASSPHRASE} bytes, this one has {len(passphrase)}")
    plain = key.private_bytes(Encoding.DER, form, NoEncryption())
    return _pem("ENCRYPTED PRIVATE KEY", _encrypt(plain, passphrase))


def _pem(label: str, der: bytes) -> bytes:
    text = base64.b64encode(der).decode("ascii")
    lines = [text[i : i + 64] for i in range(0, len(text), 64)]
    return "\n".join([f"-----BEGIN {label}-----", *lines, f"-----END {label}-----", ""]).encode()


def _encrypt(plain: bytes, passphrase: bytes) -> bytes:
    """EncryptedPrivateKeyInfo (RFC 5958, section 3) under PBES2 (RFC 8018, A.4) with scrypt and AES-256-CBC."""
    # Imported here: whoever opens a bundle encrypts no key.
    from cryptography.hazmat.primitives import padding
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
    from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

    salt, iv = os.urandom(16), os.urandom(16)
    key = Scrypt(salt=salt, length=32, n=_SCRYPT_N, r=_SCRYPT_R, p=_SCRYPT_P).derive(passphrase)
    padder = padding.PKCS7(128).padder()
    encryptor = Cipher(algorithms.AES(key), modes.CBC(iv)).encryptor()
    sealed = encryptor.update(padder.update(plain) + padder.finalize()) + encryptor.finalize()
    parameters = _sequence(_octets(salt), _integer(_SCRYPT_N), _integer(_SCRYPT_R), _integer(_SCRYPT_P))
    kdf = _sequence(_oid("2b060104 01da4704 0b"), parameters)  # 1.3.6.1.4.1.11591.4.11, id-scrypt
    cipher = _sequence(_oid("60864801 65030401 2a"), _octets(iv))  # 2.16.840.1.101.3.4.1.42, aes256-CBC-PAD
    pbes2 = _sequence(_oid("2a864886 f70d0105 0d"), _sequence(kdf, cipher))  # 1.2.840.113549.1.5.13, id-PBES2
    return _sequence(pbes2, _octets(sealed))


def _sequence(*parts: bytes) -> bytes:
    return _der(0x30, b"".join(parts))


def _octets(data: bytes) -> bytes:
    return _der(0x04, data)


def _integer(value: int) -> bytes:
    return _der(0x02, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def _oid(body: str) -> bytes:
    return _der(0x06, bytes.fromhex(body))


def _der(tag: int, body: bytes) -> bytes:
    size = len(body)
    if size < 0x80:
        return bytes((tag, size)) + body
    octets = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(octets))) + octets + body
