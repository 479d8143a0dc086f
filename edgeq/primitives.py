"""What opening a bundle needs of `cryptography`, without the modules that publish it.

`serialization` brings SSH's keys and all that these need, `ciphers` every cipher, and whoever makes a key through its class
starts the whole backend: 10 ms of the 20 that a device has for its first answer. What is behind them lies in one extension module
and is taken from there; where a version of `cryptography` has moved them, the public names are used: the same objects.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

__all__ = [
    "HKDF",
    "ChaCha20Poly1305",
    "Encoding",
    "HKDFExpand",
    "NoEncryption",
    "PrivateFormat",
    "PublicFormat",
    "ecdsa",
    "hpke",
    "load_der_private_key",
    "load_der_public_key",
    "load_pem_private_key",
    "load_pem_public_key",
    "mldsa",
    "mlkem",
    "x25519",
]

_moved = False
if not TYPE_CHECKING:
    try:
        from cryptography.hazmat.bindings._rust import openssl as _openssl
        from cryptography.hazmat.primitives._serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

        hpke = _openssl.hpke
        ChaCha20Poly1305 = _openssl.aead.ChaCha20Poly1305
        HKDF, HKDFExpand = _openssl.kdf.HKDF, _openssl.kdf.HKDFExpand
        load_der_private_key = _openssl.keys.load_der_private_key
        load_der_public_key = _openssl.keys.load_der_public_key
        load_pem_private_key = _openssl.keys.load_pem_private_key
        load_pem_public_key = _openssl.keys.load_pem_public_key
        # The kinds of keys that are loaded; who makes new ones asks the public modules, which know whether the backend can.
        mldsa, mlkem, x25519 = _openssl.mldsa, _openssl.mlkem, _openssl.x25519
        _ = mldsa.MLDSA65PublicKey, mlkem.MLKEM768PrivateKey, x25519.X25519PublicKey
    except (ImportError, AttributeError):
        _moved = True
if TYPE_CHECKING or _moved:
    from cryptography.hazmat.primitives import hpke
    from cryptography.hazmat.primitives.asymmetric import mldsa, mlkem, x25519
    from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        NoEncryption,
        PrivateFormat,
        PublicFormat,
        load_der_private_key,
        load_der_public_key,
        load_pem_private_key,
        load_pem_public_key,
    )


class _Ecdsa(ec.ECDSA):
    """ECDSA with random nonces, which needs to ask the backend nothing."""

    def __init__(self, algorithm: hashes.HashAlgorithm) -> None:
        self._hash = algorithm

    @property
    def algorithm(self) -> hashes.HashAlgorithm:
        """The hash of what is signed."""
        return self._hash

    @property
    def deterministic_signing(self) -> bool:
        """Never: `cryptography`'s own default."""
        return False


def ecdsa(algorithm: hashes.HashAlgorithm) -> ec.ECDSA:
    """ECDSA over this hash."""
    return _Ecdsa(algorithm)
