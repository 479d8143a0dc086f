"""DSSE envelopes (github.com/secure-systems-lab/dsse, v1.0): bytes, their type, and signatures over both.

Exactly one signature: an envelope with more would leave it to the reader which of them counts. Only where several keys
must sign together (a root) does an envelope have as many as it needs, each by another key.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgeq import errors, strict
from edgeq.records import dataclass, field

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
    payload, signatures = _open(value, payload_type, what)
    if len(signatures) != 1:
        raise errors.SignatureCountError(f"{what}: expected one signature, found {len(signatures)}")
    keyid, raw = _signature(signatures[0], what)
    return Envelope(strict.from_base64(payload, f"{what}: payload"), payload_type, raw, keyid)


@dataclass(frozen=True)
class Countersigned:
    """A payload that several keys sign, none twice: the signatures by key id."""

    payload: bytes
    payload_type: str
    signatures: Mapping[str, bytes] = field(default_factory=dict)

    @property
    def signed_bytes(self) -> bytes:
        """What each signature is over."""
        return pae(self.payload_type, self.payload)

    def to_json(self) -> dict[str, Any]:
        """The envelope as a JSON value, the signatures in the order of their keys."""
        signatures = [
            {"keyid": name, "sig": strict.to_base64(self.signatures[name])} for name in sorted(self.signatures)
        ]
        return {"payload": strict.to_base64(self.payload), "payloadType": self.payload_type, "signatures": signatures}


def countersigned_from_json(value: Any, payload_type: str, most: int, what: str) -> Countersigned:
    """As `from_json`, with any number of signatures up to `most`, sorted by their key ids.

    Raises SignatureCountError for more, and if two are by one key.
    """
    payload, signatures = _open(value, payload_type, what)
    if len(signatures) > most:
        raise errors.SignatureCountError(f"{what}: {len(signatures)} signatures, the limit is {most}")
    found = [_signature(signature, what) for signature in signatures]
    names = [name for name, _ in found]
    if len(set(names)) != len(names):
        raise errors.SignatureCountError(
            f"{what}: two signatures by one key, which counts as one: expected one of each"
        )
    if names != sorted(names):
        raise errors.DocumentError(f"{what}: expected the signatures in the order of their key ids")
    return Countersigned(strict.from_base64(payload, f"{what}: payload"), payload_type, dict(found))


def _open(value: Any, payload_type: str, what: str) -> tuple[str, list[Any]]:
    """The payload, still in base64, and the signatures."""
    fields = strict.record(value, {"payload": _string, "payloadType": _string, "signatures": _list}, what)
    if fields["payloadType"] != payload_type:
        raise errors.EnvelopeError(
            f"{what}: expected payloadType {payload_type!r}, found {fields['payloadType'][:64]!a}"
        )
    return fields["payload"], fields["signatures"]


def _signature(value: Any, what: str) -> tuple[str, bytes]:
    """What a signature says of its key, and its bytes."""
    signature = strict.record({"keyid": "", **_object(value, what)}, _SIGNATURE, f"{what}: signature")
    raw = strict.from_base64(signature["sig"], f"{what}: signature")
    if not 0 < len(raw) <= _SIGNATURE_BYTES:
        raise errors.SignatureCountError(f"{what}: expected a signature, found {len(raw)} bytes")
    return signature["keyid"], raw


def _string(value: Any, what: str) -> str:
    if not isinstance(value, str):
        raise errors.DocumentError(f"{what}: expected a string")
    return value


def _list(value: Any, what: str) -> list[Any]:
    if not isinstance(value, list):
        raise errors.DocumentError(f"{what}: expected an array")
    return value


def _object(value: Any, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise errors.DocumentError(f"{what}: expected an object")
    return value


_SIGNATURE: dict[str, strict.Check] = {"keyid": _string, "sig": _string}
