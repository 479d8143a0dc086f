"""A bundle as byte strings, and the rules that make one trusted: signature, digests, manifest, plaintext.

Pure functions over bytes; edgeq.source reads them from a file or a directory, edgeq.loader calls them in order.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Final

from edgeq import container, dsse, errors, manifest, oms, second
from edgeq.errors import BadSignatureError
from edgeq.keys import PublisherKey, PublisherPublic
from edgeq.manifest import MANIFEST_FILE, Manifest
from edgeq.records import dataclass
from edgeq.trust import Trust

PAYLOAD_FILE: Final = "payload.bin"
FILES: Final = frozenset({MANIFEST_FILE, PAYLOAD_FILE, oms.SIGNATURE_FILE})
"""The files of a bundle's directory form; a second signature may lie beside them, in second.SIGNATURE_FILE."""

_PLAINTEXT_TYPE: Final = "application/vnd.edgeq.plaintext.v1+json"


@dataclass(frozen=True, eq=False)
class Bundle:
    """The parts of a bundle, as bytes that nobody has checked yet; `second` is b"" where there is no second signature."""

    manifest: bytes
    signature: bytes
    payload: bytes | bytearray | memoryview
    second: bytes = b""

    def pieces(self) -> Iterator[bytes | memoryview]:
        """The .eqb file, in pieces: what edgeq.files.write_atomic takes, without a second copy of the payload."""
        yield container.front(self.manifest, self.signature, len(self.payload), self.second)
        yield memoryview(self.payload)

    def to_bytes(self) -> bytes:
        """The .eqb file."""
        return b"".join(self.pieces())


@dataclass(frozen=True, eq=False)
class Signed:
    """What a trusted signature says of a bundle; its payload has not been looked at yet."""

    manifest: Manifest
    manifest_hash: bytes
    payload_sha256: str
    signer: PublisherPublic


@dataclass(frozen=True, eq=False)
class Verified:
    """A signed directory or bundle, every file of which is the one that was signed.

    `digests` is SHA-256 in hex by file name. `manifest` is None for a directory that is not a bundle.
    """

    signer: PublisherPublic
    digests: Mapping[str, str]
    manifest: Manifest | None = None

    @property
    def key_id(self) -> str:
        """The id of the key that signed."""
        return self.signer.key_id

    @property
    def signed(self) -> Signed:
        """What the signature says of a bundle; raises FileSetError for a directory that is none."""
        if self.manifest is None:
            raise errors.FileSetError("expected a bundle, found another signed directory")
        manifest_hash = bytes.fromhex(self.digests[MANIFEST_FILE])
        return Signed(self.manifest, manifest_hash, self.digests[PAYLOAD_FILE], self.signer)


def parse(data: bytes) -> Bundle:
    """The parts of an .eqb file in memory; the payload is a view into `data`.

    Raises ContainerError, LengthError, TruncatedError, SuiteError.
    """
    layout = container.parse_header(data[: container.HEADER_SIZE], len(data))
    said, signature, signed_again = container.split_front(layout, data[: layout.payload_offset])
    return Bundle(said, signature, memoryview(data)[layout.payload_offset :], signed_again)


def open_signed(manifest_bytes: bytes, signature: bytes, trust: Trust, signed_again: bytes = b"") -> Signed:
    """What a trusted publisher signed: first the signatures, then the manifest's digest, then the manifest itself.

    Of a publisher with a second key the second signature, `signed_again`, must be there; of others it
    need only be well formed.

    Raises what edgeq.oms.verify, edgeq.second.check and edgeq.manifest.parse raise, FileSetError if the signature is over
    other files, and DigestError if the manifest is not the signed one.
    """
    statement = oms.verify(signature, trust)
    second.check(signed_again, statement.signer.second, statement.signed_bytes)
    if statement.digests.keys() != {MANIFEST_FILE, PAYLOAD_FILE}:
        names = ", ".join(sorted(statement.digests)[:4])
        raise errors.FileSetError(f"the signature is over {names[:128]!a}, expected {MANIFEST_FILE} and {PAYLOAD_FILE}")
    manifest_hash = hashlib.sha256(manifest_bytes).digest()
    check_digest(MANIFEST_FILE, manifest_hash.hex(), statement.digests)
    parsed = manifest.parse(manifest_bytes)
    return Signed(parsed, manifest_hash, statement.digests[PAYLOAD_FILE], statement.signer)


def check_payload_size(signed: Signed, size: int) -> None:
    """Return if payload.bin has the length that the manifest implies; else raise LengthError."""
    expected = signed.manifest.stored_size
    if size != expected:
        raise errors.LengthError(f"{PAYLOAD_FILE}: {size} bytes, the manifest implies {expected}")


def check_digest(name: str, found: str, signed: Mapping[str, str]) -> None:
    """Return if a file's SHA-256 (hex) is the signed one; else raise DigestError."""
    if found != signed[name]:
        raise errors.DigestError(f"{name}: the bytes are not those that were signed (SHA-256 {found[:16]}…)")


def verify(bundle: Bundle, trust: Trust) -> Verified:
    """The bundle, whole: signed by a trusted publisher, every part as it was signed. Nothing is decrypted.

    Raises the TrustErrors of `open_signed`, LengthError and DigestError for the payload.
    """
    signed = open_signed(bundle.manifest, bundle.signature, trust, bundle.second)
    check_payload_size(signed, len(bundle.payload))
    return complete(signed, hashlib.sha256(bundle.payload).hexdigest())


def complete(signed: Signed, payload_sha256: str) -> Verified:
    """`signed` with its payload checked, given the SHA-256 of what payload.bin holds; raises DigestError."""
    digests = {MANIFEST_FILE: signed.manifest_hash.hex(), PAYLOAD_FILE: signed.payload_sha256}
    check_digest(PAYLOAD_FILE, payload_sha256, digests)
    return Verified(signed.signer, digests, signed.manifest)


def sign_plaintext(key: PublisherKey, said: Manifest, plaintext_hash: bytes) -> bytes:
    """The inner signature, over a model with this SHA-256."""
    return key.sign_raw(dsse.pae(_PLAINTEXT_TYPE, said.plaintext_statement(plaintext_hash)))


def check_plaintext(signed: Signed, plaintext_hash: bytes, signature: bytes) -> None:
    """Return if the publisher who signed the bundle signed a model with this SHA-256; else raise InnerSignatureError."""
    message = dsse.pae(_PLAINTEXT_TYPE, signed.manifest.plaintext_statement(plaintext_hash))
    try:
        signed.signer.verify_raw(message, signature)
    except BadSignatureError:
        raise errors.InnerSignatureError("the decrypted model is not the one that the publisher signed") from None
