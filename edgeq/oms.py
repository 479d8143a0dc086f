"""OpenSSF Model Signing v1.0: one signature over the digests of a directory's files, as `model_signing` makes and checks.

A Sigstore bundle holds a DSSE envelope, the envelope an in-toto statement, the statement one digest a file. Only what
edgeq's suite needs is accepted: a bare P-256 key, SHA-256, whole files. Stricter than the reference: the key must be
named and trusted, there is exactly one signature, and a list of paths to ignore widens nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from edgeq import dsse, errors, limits, strict
from edgeq.keys import PublisherKey, PublisherPublic
from edgeq.records import dataclass
from edgeq.trust import Trust

SIGNATURE_FILE: Final = "model.sig"

_MEDIA_TYPE: Final = "application/vnd.dev.sigstore.bundle.v0.3+json"
_PAYLOAD_TYPE: Final = "application/vnd.in-toto+json"
_STATEMENT_TYPE: Final = "https://in-toto.io/Statement/v1"
_PREDICATE_TYPE: Final = "https://model_signing/signature/v1.0"


@dataclass(frozen=True, eq=False)
class Statement:
    """What a valid signature says: these files (relative POSIX path → SHA-256 in hex), in the words of this signer.

    `signed_bytes` is what the signature is over.
    """

    signer: PublisherPublic
    digests: Mapping[str, str]
    signed_bytes: bytes


def sign(key: PublisherKey, digests: Mapping[str, str], subject: str) -> bytes:
    """The content of model.sig for files with these SHA-256 digests (hex); `subject` is an informative name."""
    resources = [{"algorithm": "sha256", "digest": digests[name], "name": name} for name in sorted(digests)]
    serialization = {
        "method": "files",
        "hash_type": "sha256",
        "allow_symlinks": False,
        "ignore_paths": [SIGNATURE_FILE],
    }
    statement = strict.canonical(
        {
            "_type": _STATEMENT_TYPE,
            "subject": [{"name": subject, "digest": {"sha256": _root(resources)}}],
            "predicateType": _PREDICATE_TYPE,
            "predicate": {"serialization": serialization, "resources": resources},
        }
    )
    envelope = dsse.Envelope(statement, _PAYLOAD_TYPE, key.sign(dsse.pae(_PAYLOAD_TYPE, statement)))
    bundle = {
        "mediaType": _MEDIA_TYPE,
        "verificationMaterial": {"publicKey": {"hint": key.public.hint}, "tlogEntries": []},
        "dsseEnvelope": envelope.to_json(),
    }
    return strict.canonical(bundle)


def verify(signature: bytes, trust: Trust) -> Statement:
    """What the signature in model.sig says, if a trusted publisher made it.

    Raises LengthError, EncodingError, DocumentError, SuiteError for what is malformed; EnvelopeError,
    SignatureCountError, UntrustedKeyError, BadSignatureError for what is not a trusted signature. The files themselves
    are the caller's to hash and compare.
    """
    envelope, hint = _open(signature)
    signer = trust.by_hint(hint)
    signer.verify(envelope.signed_bytes, envelope.signature)
    return Statement(signer, _digests(envelope.payload), envelope.signed_bytes)


def signed_bytes(signature: bytes) -> bytes:
    """What the signature in model.sig is over, unverified: for whoever signs it a second time. Raises as `verify` does."""
    return _open(signature)[0].signed_bytes


def unverified_digests(signature: bytes) -> Mapping[str, str]:
    """The digests that model.sig claims, without any check of who says so: for display, never for a decision."""
    return _digests(_open(signature)[0].payload)


def _open(signature: bytes) -> tuple[dsse.Envelope, str]:
    """The envelope, and how the bundle names its key."""
    what = SIGNATURE_FILE
    bundle = strict.parse(signature, limits.SIGNATURE, what)
    if not isinstance(bundle, dict) or bundle.get("mediaType") != _MEDIA_TYPE:
        raise errors.EnvelopeError(f"{what}: expected a Sigstore bundle with mediaType {_MEDIA_TYPE!r}")
    fields = {"mediaType": _any, "verificationMaterial": _any, "dsseEnvelope": _any}
    bundle = strict.record(bundle, fields, what)
    match bundle["verificationMaterial"]:
        case {"publicKey": {"hint": str(hint), **more}, **rest} if not more and rest in ({}, {"tlogEntries": []}):
            return dsse.from_json(bundle["dsseEnvelope"], _PAYLOAD_TYPE, what), hint
    raise errors.EnvelopeError(f"{what}: expected verification material with a public key's hint and nothing else")


def _digests(payload: bytes) -> Mapping[str, str]:
    """The files of the statement. in-toto lets a reader pass over fields that it does not know: they are signed."""
    what = f"{SIGNATURE_FILE}: statement"
    statement = strict.parse(payload, limits.SIGNATURE, what)
    match statement:
        case {"_type": str(kind), "predicateType": str(predicate_type), "subject": [*subjects], "predicate": predicate}:
            if kind != _STATEMENT_TYPE:
                raise errors.EnvelopeError(f"{what}: expected _type {_STATEMENT_TYPE!r}, found {kind[:64]!a}")
            if predicate_type != _PREDICATE_TYPE:
                raise errors.EnvelopeError(
                    f"{what}: expected predicateType {_PREDICATE_TYPE!r}, found {predicate_type[:64]!a}"
                )
        case _:
            raise errors.DocumentError(f"{what}: expected an in-toto statement")
    match predicate:
        case {"serialization": {"method": "files", "hash_type": "sha256"}, "resources": [*resources]}:
            pass
        case {"serialization": {}, "resources": [*_]}:
            raise errors.SuiteError(f"{what}: expected whole files hashed with sha256, found another serialization")
        case _:
            raise errors.DocumentError(f"{what}: expected a serialization and resources")
    digests: dict[str, str] = {}
    for resource in resources:
        name, digest = _resource(resource, what)
        if name in digests:
            raise errors.DocumentError(f"{what}: {name[:64]!a} is listed twice")
        digests[name] = digest
    if len(subjects) != 1:
        raise errors.DocumentError(f"{what}: expected one subject, found {len(subjects)}")
    match subjects[0]:
        case {"name": str(), "digest": {"sha256": str(root)}} if root == _root(resources):
            return MappingProxyType(digests)
    raise errors.DocumentError(f"{what}: the subject's digest is not the hash of the listed digests")


def _resource(resource: Any, what: str) -> tuple[str, str]:
    match resource:
        case {"algorithm": "sha256", "digest": str(digest), "name": str(name)} if strict.is_hexadecimal(digest, 32):
            if _is_plain(name):
                return name, digest
            raise errors.DocumentError(f"{what}: expected a relative path without '..', found {name[:64]!a}")
        case {"algorithm": str(algorithm)} if algorithm != "sha256":
            raise errors.SuiteError(f"{what}: expected sha256, found {algorithm[:64]!a}")
    raise errors.DocumentError(f"{what}: expected a resource with algorithm, digest and name")


def _is_plain(name: str) -> bool:
    """Whether a name is a relative path that stays where it is, spelled in one way."""
    return all(part not in ("", ".", "..") for part in name.split("/")) and "\\" not in name and name.isprintable()


def _root(resources: list[Any]) -> str:
    return hashlib.sha256(b"".join(bytes.fromhex(resource["digest"]) for resource in resources)).hexdigest()


def _any(value: Any, what: str) -> Any:
    return value
