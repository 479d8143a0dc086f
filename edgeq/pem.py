"""Key files as text: PEM blocks, and private keys in PKCS#8 under a passphrase.

`cryptography` encrypts PKCS#8 with 2,048 rounds of PBKDF2, which a graphics card tries by the million. It opens scrypt,
so the few lines of DER that ask for scrypt (RFC 7914, section 7) are written here; `openssl pkey` opens the result.
"""

from __future__ import annotations

import base64
import os
import re
from typing import Final

from cryptography.hazmat.primitives import padding, serialization
from cryptography.hazmat.primitives.asymmetric import ec, x25519
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from edgeq import limits
from edgeq.errors import KeyFileError, PassphraseError

PrivateKey = ec.EllipticCurvePrivateKey | x25519.X25519PrivateKey
PublicKey = ec.EllipticCurvePublicKey | x25519.X25519PublicKey

# 16 MiB and about 0.2 s: what fits a small device, and what openssl opens without being told to allow more.
_SCRYPT_N: Final = 2**14
_SCRYPT_R: Final = 8
_SCRYPT_P: Final = 5

_BLOCK = re.compile(r"-----BEGIN ([A-Z ]{1,64})-----\r?\n[A-Za-z0-9+/=\r\n]*-----END \1-----\s*")


def private_bytes(keys: list[PrivateKey], passphrase: bytes | None) -> bytes:
    """The content of a private key file: one PKCS#8 block a key, each encrypted if there is a passphrase."""
    return b"".join(_private_block(key, passphrase) for key in keys)


def public_bytes(keys: list[PublicKey]) -> bytes:
    """The content of a public key file: one SubjectPublicKeyInfo block a key."""
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return b"".join(key.public_bytes(serialization.Encoding.PEM, form) for key in keys)


def load_private(data: bytes, passphrase: bytes | None, what: str) -> list[PrivateKey]:
    """The private keys of a key file, in its order.

    A passphrase for a file that is not encrypted is not used.

    Raises KeyFileError for a file that is not a sequence of PKCS#8 blocks, PassphraseError for an encrypted one without
    its passphrase; `what` names the file in the message.
    """
    if passphrase is not None and not 0 < len(passphrase) <= limits.PASSPHRASE:
        raise PassphraseError(
            f"{what}: a passphrase has 1 to {limits.PASSPHRASE} bytes, this one has {len(passphrase)}"
        )
    return [_load_private_block(label, block, passphrase, what) for label, block in _blocks(data, what)]


def load_public(data: bytes, what: str) -> list[PublicKey]:
    """The public keys of a key file, in its order.

    Raises KeyFileError for a file that is not a sequence of SubjectPublicKeyInfo blocks.
    """
    keys: list[PublicKey] = []
    for label, block in _blocks(data, what):
        if label != "PUBLIC KEY":
            raise KeyFileError(f"{what}: expected a public key (.pub), found a block {label!r}")
        try:
            key = serialization.load_pem_public_key(block)
        except Exception:
            raise KeyFileError(f"{what}: a block {label!r} does not hold a public key") from None
        if not isinstance(key, PublicKey) or not _is_known_curve(key):
            raise KeyFileError(f"{what}: expected keys on P-256 or X25519, found another kind")
        keys.append(key)
    return keys


def _blocks(data: bytes, what: str) -> list[tuple[str, bytes]]:
    if len(data) > limits.KEY_FILE:
        raise KeyFileError(f"{what}: {len(data)} bytes, a key file has at most {limits.KEY_FILE}")
    try:
        text = data.decode("ascii")
    except UnicodeDecodeError:
        raise KeyFileError(f"{what}: expected a key file in PEM, found bytes that are not text") from None
    blocks = [(match[1], match[0].encode()) for match in _BLOCK.finditer(text)]
    if not blocks or _BLOCK.sub("", text):
        raise KeyFileError(f"{what}: expected a key file: PEM blocks and nothing else")
    return blocks


def _load_private_block(label: str, block: bytes, passphrase: bytes | None, what: str) -> PrivateKey:
    if label not in ("PRIVATE KEY", "ENCRYPTED PRIVATE KEY"):
        raise KeyFileError(f"{what}: expected a private key (.key, PKCS#8), found a block {label!r}")
    encrypted = label.startswith("ENCRYPTED")
    if encrypted and passphrase is None:
        raise PassphraseError(f"{what}: the key is encrypted and needs its passphrase")
    try:
        key = serialization.load_pem_private_key(block, passphrase if encrypted else None)
    except Exception:
        if encrypted:
            raise PassphraseError(f"{what}: the passphrase is wrong, or the file is damaged") from None
        raise KeyFileError(f"{what}: a block {label!r} does not hold a private key") from None
    if not isinstance(key, PrivateKey) or not _is_known_curve(key):
        raise KeyFileError(f"{what}: expected keys on P-256 or X25519, found another kind")
    return key


def _is_known_curve(key: PrivateKey | PublicKey) -> bool:
    curve = getattr(key, "curve", None)
    return curve is None or isinstance(curve, ec.SECP256R1)


def _private_block(key: PrivateKey, passphrase: bytes | None) -> bytes:
    form = serialization.PrivateFormat.PKCS8
    if passphrase is None:
        return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
    if not 0 < len(passphrase) <= limits.PASSPHRASE:
        raise PassphraseError(f"a passphrase has 1 to {limits.PASSPHRASE} bytes, this one has {len(passphrase)}")
    plain = key.private_bytes(serialization.Encoding.DER, form, serialization.NoEncryption())
    text = base64.encodebytes(_encrypt(plain, passphrase)).replace(b"\n", b"").decode("ascii")
    lines = [text[i : i + 64] for i in range(0, len(text), 64)]
    return "\n".join(
        ["-----BEGIN ENCRYPTED PRIVATE KEY-----", *lines, "-----END ENCRYPTED PRIVATE KEY-----", ""]
    ).encode()


def _encrypt(plain: bytes, passphrase: bytes) -> bytes:
    """EncryptedPrivateKeyInfo (RFC 5958, section 3) under PBES2 (RFC 8018, A.4) with scrypt and AES-256-CBC."""
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
