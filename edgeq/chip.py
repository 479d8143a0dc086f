"""Devices whose private key stays in a chip: all that is asked of it is to agree on a secret, ECDH on P-256.

Given that, what a device does is done here: opening a wrap (HPKE, RFC 9180, DHKEM(P-256, HKDF-SHA256); `cryptography` has it
for keys in memory alone) and deriving the device's own secrets. edgeq.pkcs11 and edgeq.tpm reach the chips.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from edgeq import pem
from edgeq.errors import WrappedKeyError
from edgeq.recipients import ContentKey, Recipient, Secret, derived

POINT_SIZE: Final = 65
SECRET_SIZE: Final = 32

_KEM: Final = b"KEM\x00\x10"  # DHKEM(P-256, HKDF-SHA256), RFC 9180, section 7.1
_HPKE: Final = b"HPKE\x00\x10\x00\x01\x00\x03"  # with HKDF-SHA256 and ChaCha20-Poly1305


@dataclass(frozen=True, eq=False)
class ChipKey:
    """A device's key in a chip: an `Identity`.

    `_exchange` takes a point (65 bytes, uncompressed, on the curve) and gives the x coordinate (32 bytes) of the private key
    times that point; it raises an EdgeqError if the chip does not.
    """

    public: Recipient
    _exchange: Callable[[bytes], bytes] = field(repr=False)

    def unwrap(self, wrapped: bytes, info: bytes) -> ContentKey:
        """The content key that was wrapped for this chip under `info`; raises WrappedKeyError."""
        share = wrapped[:POINT_SIZE]
        try:
            # A point off the curve would make the chip tell its key, piece by piece.
            ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), share)
            if share[:1] != b"\x04":
                raise ValueError("a compressed point")
            key, nonce = _schedule(self._exchange(share), share, self._point(), info)
            return ContentKey(ChaCha20Poly1305(key).decrypt(nonce, wrapped[POINT_SIZE:], b""))
        except (InvalidTag, ValueError):
            raise WrappedKeyError("the wrapped key does not open: it is for another key or another document") from None

    def derive(self, label: bytes) -> Secret:
        """As DeviceKey.derive: from the secret that the key shares with itself."""
        return derived(self._exchange(self._point()), self.public.key_id, label)

    def _point(self) -> bytes:
        assert isinstance(self.public.key, pem.ChipPublic)
        form = serialization.PublicFormat.UncompressedPoint
        return self.public.key.point.public_bytes(serialization.Encoding.X962, form)


def recipient(point: bytes) -> Recipient:
    """The public key of a chip, from its point (65 bytes); raises ValueError for a point that is not on P-256."""
    return Recipient(pem.ChipPublic(ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)))


def _schedule(shared: bytes, share: bytes, own: bytes, info: bytes) -> tuple[bytes, bytes]:
    """Key and nonce of the one message: Decap (section 4.1), then KeySchedule in base mode (section 5.1)."""
    secret = _expand(_KEM, _extract(_KEM, b"", b"eae_prk", shared), b"shared_secret", share + own, 32)
    context = b"\x00" + _extract(_HPKE, b"", b"psk_id_hash", b"") + _extract(_HPKE, b"", b"info_hash", info)
    prk = _extract(_HPKE, secret, b"secret", b"")
    return _expand(_HPKE, prk, b"key", context, 32), _expand(_HPKE, prk, b"base_nonce", context, 12)


def _extract(suite: bytes, salt: bytes, label: bytes, material: bytes) -> bytes:
    return hmac.digest(salt or bytes(32), b"HPKE-v1" + suite + label + material, hashlib.sha256)


def _expand(suite: bytes, prk: bytes, label: bytes, info: bytes, size: int) -> bytes:
    labelled = size.to_bytes(2, "big") + b"HPKE-v1" + suite + label + info
    return HKDFExpand(algorithm=hashes.SHA256(), length=size, info=labelled).derive(prk)
