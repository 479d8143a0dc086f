"""The second signature of a bundle: ML-DSA-65 (FIPS 204) over the same bytes as model.sig, for when P-256 has fallen.

Whether it is needed says whoever is trusted: a root, or a publisher's .pub with a second key in it. Then it must be there.
"""

from __future__ import annotations

import hashlib
from typing import Final

from cryptography.exceptions import InvalidSignature

from edgeq import errors, limits, pem, strict
from edgeq.errors import BadSignatureError
from edgeq.fields import KEY_ID, SUITE
from edgeq.keys import PublisherKey
from edgeq.primitives import mldsa

SIGNATURE_FILE: Final = "model.pq.sig"
FORMAT: Final = "edgeq-second/1"

_SIGNATURE_SIZE: Final = 3309
_CONTEXT: Final = b"edgeq-bundle/1"
_FIELDS: Final[dict[str, strict.Check]] = {
    "format": strict.only(FORMAT),
    "suite": strict.only(SUITE),
    "key": KEY_ID,
    "signature": strict.encoded(_SIGNATURE_SIZE),
}


def sign(key: PublisherKey, signed_bytes: bytes) -> bytes:
    """The content of model.pq.sig, given what model.sig is over; b"" if the publisher has no second key."""
    signature = key.sign_second(_message(signed_bytes))
    if signature is None or key.public.second is None:
        return b""
    return strict.canonical(
        {
            "format": FORMAT,
            "suite": SUITE,
            "key": _key_id(key.public.second),
            "signature": strict.to_base64(signature),
        }
    )


def check(data: bytes, key: mldsa.MLDSA65PublicKey | None, signed_bytes: bytes) -> None:
    """Return if model.pq.sig holds this key's signature over what model.sig is over.

    Without a key nobody asks for one: then it is b"" or merely well formed.

    Raises MissingSignatureError for b"", LengthError, EncodingError, DocumentError, SuiteError for what is malformed,
    UntrustedKeyError for another key's, BadSignatureError.
    """
    if not data and key is None:
        return
    if not data:
        raise errors.MissingSignatureError(
            f"the second signature ({SIGNATURE_FILE}, ML-DSA-65) is missing, which what this publisher signs must have"
        )
    fields = strict.record(strict.parse_canonical(data, limits.SIGNATURE, SIGNATURE_FILE), _FIELDS, SIGNATURE_FILE)
    if key is None:
        return
    if fields["key"] != _key_id(key):
        raise errors.UntrustedKeyError(
            f"{SIGNATURE_FILE}: expected key {_key_id(key)[:16]}…, found {fields['key'][:16]}…"
        )
    try:
        key.verify(fields["signature"], _message(signed_bytes))
    except InvalidSignature:
        raise BadSignatureError(
            f"{SIGNATURE_FILE}: the signature does not fit what {_key_id(key)[:16]}… signs"
        ) from None


def _message(signed_bytes: bytes) -> bytes:
    return _CONTEXT + b"\x00" + signed_bytes


def _key_id(key: mldsa.MLDSA65PublicKey) -> str:
    return hashlib.sha256(pem.public_der(key)).hexdigest()
