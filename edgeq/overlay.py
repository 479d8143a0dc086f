"""Overlays: what a device changed of a model by calibrating it, encrypted for that device and signed by it (.eqo).

The sealed model stays as it was; an overlay is bound to it by digest, and fits no other. What is in it, edgeq.changes
knows; here it is bytes. docs/trust-formats.md has the format.
"""

from __future__ import annotations

import os
from datetime import datetime
from typing import Any, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from edgeq import audit, clock, dsse, limits, strict
from edgeq.errors import (
    BadSignatureError,
    LengthError,
    OverlayDamagedError,
    OverlayDeviceError,
    OverlayModelError,
)
from edgeq.fields import KEY_ID, MODEL_ID, SUITE, TIME, VERSION
from edgeq.keys import PublisherPublic
from edgeq.recipients import Identity
from edgeq.records import dataclass, field

FORMAT: Final = "edgeq-overlay/1"

_WHAT: Final = "overlay"
_ENVELOPE_TYPE: Final = "application/vnd.edgeq.overlay.v1+json"
_SEAL_LABEL: Final = b"edgeq-overlay/1 seal"
_NONCE_SIZE: Final = 12


@dataclass(frozen=True)
class Base:
    """The model that an overlay is for. payload_sha256: of the stored payload of a bundle, or of a plain .tflite file,
    which has no id and no version."""

    payload_sha256: str
    model_id: str | None = None
    version: int | None = None


@dataclass(frozen=True)
class Overlay:
    """An overlay that was verified and opened. created: Unix seconds by the device's clock."""

    device: str
    base: Base
    created: int
    content: bytes = field(repr=False)


def _base64(value: Any, what: str) -> bytes:
    return strict.from_base64(value, what) if isinstance(value, str) else strict.encoded(0)(value, what)


_FIELDS: Final[dict[str, strict.Check]] = {
    "format": strict.only(FORMAT),
    "suite": strict.only(SUITE),
    "device": KEY_ID,
    "payload_sha256": strict.hexadecimal(32),
    "model_id": strict.optional(MODEL_ID),
    "version": strict.optional(VERSION),
    "created": TIME,
    "nonce": strict.encoded(_NONCE_SIZE),
    "content": _base64,
}


def make(content: bytes, identity: Identity, base: Base, *, now: datetime) -> bytes:
    """The .eqo file that keeps `content` for this device and this model. Raises LengthError for more than it may hold."""
    if len(content) > limits.OVERLAY_CONTENT:
        raise LengthError(f"{_WHAT}: {len(content)} bytes of changes, the limit is {limits.OVERLAY_CONTENT}")
    nonce = os.urandom(_NONCE_SIZE)  # random: a device makes far fewer than the 2³² overlays that would be too many
    fields: dict[str, Any] = {
        "format": FORMAT,
        "suite": SUITE,
        "device": identity.public.key_id,
        "payload_sha256": base.payload_sha256,
        "model_id": base.model_id,
        "version": base.version,
        "created": clock.timestamp(now),
        "nonce": strict.to_base64(nonce),
    }
    sealed = _cipher(identity).encrypt(nonce, content, strict.canonical(fields))
    payload = strict.canonical({**fields, "content": strict.to_base64(sealed)})
    key = audit.signing_key(identity)
    signature = key.sign(dsse.pae(_ENVELOPE_TYPE, payload))
    return strict.canonical(dsse.Envelope(payload, _ENVELOPE_TYPE, signature, key.public.key_id).to_json())


def open_for(data: bytes, identity: Identity, base: Base) -> Overlay:
    """The overlay in an .eqo file, if this device made it for this model.

    Raises OverlayDeviceError, OverlayModelError, OverlayDamagedError, BadSignatureError, and as edgeq.strict does for a
    file that is no overlay.
    """
    fields, sealed = _verified(data, audit.signing_key(identity).public)
    device = identity.public.key_id
    if fields["device"] != device:
        raise OverlayDeviceError(f"the overlay is of device {fields['device'][:16]}…, this is {device[:16]}…")
    found = Base(fields["payload_sha256"], fields["model_id"], fields["version"])
    if found.payload_sha256 != base.payload_sha256:
        raise OverlayModelError(
            f"the overlay was made for {_named(found)}, this is {_named(base)}: calibrate this one instead"
        )
    bound = {**fields, "nonce": strict.to_base64(fields["nonce"])}
    try:
        content = _cipher(identity).decrypt(fields["nonce"], sealed, strict.canonical(bound))
    except InvalidTag:
        raise OverlayDamagedError("the overlay's content is not what this device sealed") from None
    return Overlay(device, found, fields["created"], content)


def verify(data: bytes, key: PublisherPublic) -> Base:
    """Which model an .eqo file is for, if the device with this audit key (audit.pub of its state) signed it.

    For whoever looks after devices: nothing is decrypted. Raises as `open_for` does.
    """
    fields, _ = _verified(data, key)
    return Base(fields["payload_sha256"], fields["model_id"], fields["version"])


def _verified(data: bytes, key: PublisherPublic) -> tuple[dict[str, Any], bytes]:
    envelope = dsse.from_json(strict.parse_canonical(data, limits.OVERLAY, _WHAT), _ENVELOPE_TYPE, _WHAT)
    if envelope.keyid != key.key_id:
        raise OverlayDeviceError(
            f"the overlay was signed by key {envelope.keyid[:16]!a}…, this device signs with {key.key_id[:16]}…"
        )
    try:
        key.verify(envelope.signed_bytes, envelope.signature)
    except BadSignatureError:
        raise BadSignatureError("the overlay is not as this device signed it") from None
    fields = strict.record(strict.parse_canonical(envelope.payload, limits.OVERLAY, _WHAT), _FIELDS, _WHAT)
    return fields, fields.pop("content")


def _cipher(identity: Identity) -> ChaCha20Poly1305:
    return ChaCha20Poly1305(identity.derive(_SEAL_LABEL).reveal())


def _named(base: Base) -> str:
    digest = f"payload {base.payload_sha256[:16]}…"
    return digest if base.model_id is None else f"{base.model_id} version {base.version} ({digest})"
