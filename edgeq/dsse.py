"""DSSE envelopes (github.com/secure-systems-lab/dsse, v1.0): bytes, their type, and one signature over both.

Exactly one signature: an envelope with more would leave it to the reader which of them counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from edgeq import strict
from edgeq.errors import DocumentError, EnvelopeError, SignatureCountError

_SIGNATURE_BYTES = 256  # a P-256 signature in DER has at most 72


@dataclass(frozen=True)
class Envelope:
    """A signed payload. `keyid` is what the envelope says of the key, which the signature does not cover."""

    payload: bytes
    payload_type: str
    signature: bytes
    keyid: str = ""

    @property
    def signed_bytes(self) -> bytes:
        """What the signature is over."""
        return pae(self.payload_type, self.payload)

    def to_json(self) -> dict[str, Any]:
        """The envelope as a JSON value."""
        signature = {"keyid": self.keyid, "sig": strict.to_base64(self.signature)}
        payload = strict.to_base64(self.payload)
        return {"payload": payload, "payloadType": self.payload_type, "signatures": [signature]}


def pae(payload_type: str, payload: bytes) -> bytes:
    """DSSE's pre-authentication encoding: no two (type, payload) pairs give the same bytes."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def from_json(value: Any, payload_type: str, what: str) -> Envelope:
    """The envelope that a parsed JSON value holds; its signature is not verified here.

    Raises EnvelopeError unless its type is `payload_type`, SignatureCountError unless it has one signature,
    DocumentError or EncodingError for anything else; `what` names the document in the message.
    """
    fields = strict.record(value, {"payload": _string, "payloadType": _string, "signatures": _list}, what)
    if fields["payloadType"] != payload_type:
        raise EnvelopeError(f"{what}: expected payloadType {payload_type!r}, found {fields['payloadType'][:64]!a}")
    if len(fields["signatures"]) != 1:
        raise SignatureCountError(f"{what}: expected one signature, found {len(fields['signatures'])}")
    signature = strict.record({"keyid": "", **_object(fields["signatures"][0], what)}, _SIGNATURE, f"{what}: signature")
    raw = strict.from_base64(signature["sig"], f"{what}: signature")
    if not 0 < len(raw) <= _SIGNATURE_BYTES:
        raise SignatureCountError(f"{what}: expected a signature, found {len(raw)} bytes")
    return Envelope(strict.from_base64(fields["payload"], f"{what}: payload"), payload_type, raw, signature["keyid"])


def _string(value: Any, what: str) -> str:
    if not isinstance(value, str):
        raise DocumentError(f"{what}: expected a string")
    return value


def _list(value: Any, what: str) -> list[Any]:
    if not isinstance(value, list):
        raise DocumentError(f"{what}: expected an array")
    return value


def _object(value: Any, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise DocumentError(f"{what}: expected an object")
    return value


_SIGNATURE: dict[str, strict.Check] = {"keyid": _string, "sig": _string}
