"""manifest.json: what a bundle says of itself. Canonical, so that its hash has one meaning."""

from __future__ import annotations

import hashlib
from typing import Any, Final

from edgeq import errors, limits, strict
from edgeq.fields import KEY_ID, MODEL_ID, SUITE, VERSION
from edgeq.keys import RAW_SIGNATURE_SIZE
from edgeq.recipients import WRAPPED_KEY_SIZES
from edgeq.records import dataclass, field
from edgeq.stream import sealed_size

MANIFEST_FILE: Final = "manifest.json"
FORMAT: Final = "edgeq-bundle/1"
PLAIN: Final = "tflite"
CODED: Final = "tflite-coded"
"""Payload types: the .tflite file itself, or what edgeq.coding makes it from."""

PAYLOAD_SIZE: Final = strict.integer(1, limits.PAYLOAD)

_WRAP_LABEL: Final = b"edgeq-bundle/1 publisher key\x00"
_FIELDS: Final[dict[str, strict.Check]] = {
    "format": strict.only(FORMAT),
    "bundle_id": strict.hexadecimal(16),
    "model_id": MODEL_ID,
    "version": VERSION,
    "payload_type": strict.one_of(PLAIN, CODED),
    "payload_size": PAYLOAD_SIZE,
    "encryption": lambda value, what: None if value is None else strict.record(value, _ENCRYPTION_FIELDS, what),
}
_ENCRYPTION_FIELDS: Final[dict[str, strict.Check]] = {
    "suite": strict.only(SUITE),
    "commitment": strict.hexadecimal(32),
    "publisher": KEY_ID,
    "wrapped_key": strict.encoded(*WRAPPED_KEY_SIZES),
}


@dataclass(frozen=True)
class Encryption:
    """How the payload is encrypted: the key commitment (hex), and the content key wrapped for the publisher's own key."""

    commitment: str
    publisher: str
    wrapped_key: bytes = field(repr=False)


@dataclass(frozen=True)
class Manifest:
    """A bundle's manifest; the fields are those of docs/bundle-format.md. `encryption` is None for a signed-only bundle."""

    bundle_id: str
    model_id: str
    version: int
    payload_size: int
    encryption: Encryption | None = None
    payload_type: str = PLAIN

    @property
    def plaintext_size(self) -> int:
        """Bytes of an encrypted payload's plaintext: the model, then the inner signature."""
        return self.payload_size + RAW_SIGNATURE_SIZE

    @property
    def stored_size(self) -> int:
        """Bytes of payload.bin."""
        return self.payload_size if self.encryption is None else sealed_size(self.plaintext_size)

    def to_json(self) -> dict[str, Any]:
        """The manifest as a JSON value."""
        encryption = self.encryption and {
            "suite": SUITE,
            "commitment": self.encryption.commitment,
            "publisher": self.encryption.publisher,
            "wrapped_key": strict.to_base64(self.encryption.wrapped_key),
        }
        return {
            "format": FORMAT,
            "bundle_id": self.bundle_id,
            "model_id": self.model_id,
            "version": self.version,
            "payload_type": self.payload_type,
            "payload_size": self.payload_size,
            "encryption": encryption,
        }

    def to_bytes(self) -> bytes:
        """The content of manifest.json."""
        return strict.canonical(self.to_json())

    def wrap_info(self) -> bytes:
        """What binds the publisher's wrapped key to the rest of this manifest (HPKE's info)."""
        fields = self.to_json()
        if fields["encryption"] is not None:
            del fields["encryption"]["wrapped_key"]
        return _WRAP_LABEL + hashlib.sha256(strict.canonical(fields)).digest()

    def plaintext_statement(self, plaintext_hash: bytes) -> bytes:
        """What the inner signature is over, for a model with this SHA-256."""
        return strict.canonical(
            {
                "bundle_id": self.bundle_id,
                "model_id": self.model_id,
                "sha256": plaintext_hash.hex(),
                "size": self.payload_size,
                "version": self.version,
            }
        )


def parse(data: bytes) -> Manifest:
    """The manifest that these bytes spell.

    Raises LengthError, EncodingError, DocumentError, SuiteError.
    """
    fields = strict.record(strict.parse_canonical(data, limits.MANIFEST, MANIFEST_FILE), _FIELDS, MANIFEST_FILE)
    encryption = fields["encryption"]
    if encryption is not None:
        encryption = Encryption(encryption["commitment"], encryption["publisher"], encryption["wrapped_key"])
    manifest = Manifest(
        fields["bundle_id"],
        fields["model_id"],
        fields["version"],
        fields["payload_size"],
        encryption,
        fields["payload_type"],
    )
    if manifest.stored_size > limits.PAYLOAD:
        raise errors.LengthError(
            f"{MANIFEST_FILE}: the payload would have {manifest.stored_size} bytes, above {limits.PAYLOAD}"
        )
    return manifest
