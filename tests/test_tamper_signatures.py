"""The tamper matrix, rows 8 to 11, 13, 15 and 16: signatures, the JSON around them, and the files they are over."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from refusals import refused
from trusted import (
    NOW,
    edit_json,
    good_case,
    granted,
    model,
    plain,
    publisher,
    sealed,
    signed_again,
    stranger,
    trust,
)

from edgeq import dsse, grant, limits, loader, oms, pack, seal, strict
from edgeq.errors import (
    BadSignatureError,
    DigestError,
    DocumentError,
    EncodingError,
    EnvelopeError,
    FileSetError,
    GrantIssuerError,
    LengthError,
    SignatureCountError,
    SuiteError,
    TrustError,
    UntrustedKeyError,
)
from edgeq.trust import Trust

Change = Callable[[Any], object]


# --- row 8: a valid signature by somebody else ------------------------------------------------------------------------


def test_row_08_untrusted_bundle(tmp_path: Path) -> None:
    """A bundle that is validly signed by a key that is not trusted is refused."""
    stolen = signed_again(sealed(), stranger())
    with refused(UntrustedKeyError):
        good_case().but(data=stolen.to_bytes()).load(tmp_path)


def test_row_08_untrusted_grant(tmp_path: Path) -> None:
    """A grant that is validly signed by a key that is not trusted is refused."""
    forged = grant.sign(replace(grant.unverified(granted(sealed())), issuer=stranger().public.key_id), stranger())
    with refused(UntrustedKeyError):
        good_case().but(grant=forged).load(tmp_path)


def test_row_08_signed_by_one_named_for_another(tmp_path: Path) -> None:
    """A stranger's signature that names the trusted key does not fit it."""
    stolen = signed_again(sealed(), stranger())
    renamed = edit_json(
        stolen.signature,
        lambda value: value["verificationMaterial"]["publicKey"].update(hint=publisher().public.hint),
    )
    with refused(BadSignatureError):
        good_case().but(data=replace(stolen, signature=renamed).to_bytes()).load(tmp_path)


def test_row_08_grant_by_another_trusted_publisher(tmp_path: Path) -> None:
    """A publisher who is trusted for its own bundles cannot grant another's."""
    forged = grant.sign(replace(grant.unverified(granted(sealed())), issuer=stranger().public.key_id), stranger())
    both = Trust((publisher().public, stranger().public))
    with refused(GrantIssuerError):
        good_case().but(grant=forged, trust=both).load(tmp_path)


def test_row_08_grant_that_names_another_issuer(tmp_path: Path) -> None:
    """A grant is refused if the issuer in it is not the key that signed it."""
    forged = grant.sign(grant.unverified(granted(sealed())), stranger())
    both = Trust((publisher().public, stranger().public))
    with refused(UntrustedKeyError):
        good_case().but(grant=forged, trust=both).load(tmp_path)


def test_row_08_no_trust_at_all(tmp_path: Path) -> None:
    """A bundle without any trust is refused: nobody's signature counts."""
    with refused(UntrustedKeyError):
        good_case().but(trust=None).load(tmp_path)


# --- rows 9 and 10: envelopes -----------------------------------------------------------------------------------------


def envelope_of(value: Any) -> Any:
    return value.get("dsseEnvelope", value)


def no_signatures(value: Any) -> None:
    envelope_of(value)["signatures"] = []


def empty_signature(value: Any) -> None:
    envelope_of(value)["signatures"][0]["sig"] = ""


def duplicate_signature(value: Any) -> None:
    envelope_of(value)["signatures"] *= 2


def extra_signature(value: Any) -> None:
    other = base64.b64encode(stranger().sign(b"something")).decode()
    envelope_of(value)["signatures"].append({"keyid": "", "sig": other})


def extra_signature_first(value: Any) -> None:
    extra_signature(value)
    envelope_of(value)["signatures"].reverse()


def signatures_not_a_list(value: Any) -> None:
    envelope_of(value)["signatures"] = {"0": envelope_of(value)["signatures"][0]}


def other_payload_type(value: Any) -> None:
    envelope_of(value)["payloadType"] = "application/vnd.in-toto+xml"


def padded_signature(value: Any) -> None:
    raw = base64.b64decode(envelope_of(value)["signatures"][0]["sig"])
    envelope_of(value)["signatures"][0]["sig"] = base64.b64encode(raw + b"\0").decode()


def unknown_field(value: Any) -> None:
    envelope_of(value)["more"] = 1


ENVELOPE_ATTACKS: list[tuple[Change, type[TrustError]]] = [
    (no_signatures, SignatureCountError),
    (empty_signature, SignatureCountError),
    (duplicate_signature, SignatureCountError),
    (extra_signature, SignatureCountError),
    (extra_signature_first, SignatureCountError),
    (signatures_not_a_list, DocumentError),
    (padded_signature, BadSignatureError),
    (other_payload_type, EnvelopeError),
    (unknown_field, DocumentError),
]


@pytest.mark.parametrize(("change", "error"), ENVELOPE_ATTACKS, ids=[c.__name__ for c, _ in ENVELOPE_ATTACKS])
def test_rows_09_and_10_bundle_envelope(tmp_path: Path, change: Change, error: type[TrustError]) -> None:
    """A bundle has exactly one signature, whole, of the one type."""
    damaged = replace(sealed(), signature=edit_json(sealed().signature, change))
    with refused(error, row=10 if change is other_payload_type else 9):
        good_case().but(data=damaged.to_bytes()).load(tmp_path)


@pytest.mark.parametrize(("change", "error"), ENVELOPE_ATTACKS, ids=[c.__name__ for c, _ in ENVELOPE_ATTACKS])
def test_rows_09_and_10_grant_envelope(tmp_path: Path, change: Change, error: type[TrustError]) -> None:
    """A grant has exactly one signature, whole, of the one type."""
    with refused(error, row=10 if change is other_payload_type else 9):
        good_case().but(grant=edit_json(granted(sealed()), change)).load(tmp_path)


def other_media_type(value: Any) -> None:
    value["mediaType"] = "application/vnd.dev.sigstore.bundle.v0.2+json"


def no_hint(value: Any) -> None:
    value["verificationMaterial"]["publicKey"] = {}


def certificate(value: Any) -> None:
    value["verificationMaterial"] = {"certificate": {"rawBytes": "MA=="}, "tlogEntries": []}


def certificate_beside_the_key(value: Any) -> None:
    value["verificationMaterial"]["certificate"] = {"rawBytes": "MA=="}


def log_entry(value: Any) -> None:
    value["verificationMaterial"]["tlogEntries"] = [{"logIndex": "1"}]


def message_signature(value: Any) -> None:
    value["messageSignature"] = value.pop("dsseEnvelope")


def not_an_object(value: Any) -> None:
    value["verificationMaterial"] = [value["verificationMaterial"]]


BUNDLE_ATTACKS: list[tuple[Change, type[TrustError]]] = [
    (other_media_type, EnvelopeError),
    (no_hint, EnvelopeError),
    (certificate, EnvelopeError),
    (certificate_beside_the_key, EnvelopeError),
    (log_entry, EnvelopeError),
    (message_signature, DocumentError),
    (not_an_object, EnvelopeError),
]


@pytest.mark.parametrize(("change", "error"), BUNDLE_ATTACKS, ids=[c.__name__ for c, _ in BUNDLE_ATTACKS])
def test_row_10_sigstore_bundle(tmp_path: Path, change: Change, error: type[TrustError]) -> None:
    """Only a bare key in a bundle of the one media type is accepted as what a signature is verified with."""
    damaged = replace(sealed(), signature=edit_json(sealed().signature, change))
    with refused(error):
        good_case().but(data=damaged.to_bytes()).load(tmp_path)


def statement_signature(change: Change) -> bytes:
    """The bundle's model.sig, its statement changed and validly signed again."""
    value = json.loads(sealed().signature)
    statement = edit_json(base64.b64decode(value["dsseEnvelope"]["payload"]), change)
    kind = value["dsseEnvelope"]["payloadType"]
    envelope = dsse.Envelope(statement, kind, publisher().sign(dsse.pae(kind, statement)))
    return strict.canonical({**value, "dsseEnvelope": envelope.to_json()})


def other_statement_type(value: Any) -> None:
    value["_type"] = "https://in-toto.io/Statement/v0.1"


def other_predicate_type(value: Any) -> None:
    value["predicateType"] = "https://model_signing/Digests/v0.1"


def no_predicate(value: Any) -> None:
    del value["predicate"]


def sharded(value: Any) -> None:
    value["predicate"]["serialization"] = {"method": "shards", "hash_type": "sha256", "shard_size": 1000}


def blake3(value: Any) -> None:
    value["predicate"]["serialization"]["hash_type"] = "blake3"


def blake3_resource(value: Any) -> None:
    value["predicate"]["resources"][0]["algorithm"] = "blake3"


def two_subjects(value: Any) -> None:
    value["subject"] *= 2


def other_root_digest(value: Any) -> None:
    value["subject"][0]["digest"]["sha256"] = "00" * 32


def resource_twice(value: Any) -> None:
    value["predicate"]["resources"].append(value["predicate"]["resources"][0])


def resource_digest_upper_case(value: Any) -> None:
    resource = value["predicate"]["resources"][0]
    resource["digest"] = resource["digest"].upper()


def third_resource(value: Any) -> None:
    resources = value["predicate"]["resources"]
    resources.append({"algorithm": "sha256", "digest": "00" * 32, "name": "z"})
    digests = b"".join(bytes.fromhex(resource["digest"]) for resource in resources)
    value["subject"][0]["digest"]["sha256"] = hashlib.sha256(digests).hexdigest()


def named(name: str) -> Change:
    def change(value: Any) -> None:
        value["predicate"]["resources"][0]["name"] = name

    change.__name__ = f"named {name}"
    return change


STATEMENT_ATTACKS: list[tuple[Change, type[TrustError]]] = [
    (other_statement_type, EnvelopeError),
    (other_predicate_type, EnvelopeError),
    (no_predicate, DocumentError),
    (sharded, SuiteError),
    (blake3, SuiteError),
    (blake3_resource, SuiteError),
    (two_subjects, DocumentError),
    (other_root_digest, DocumentError),
    (resource_twice, DocumentError),
    (resource_digest_upper_case, DocumentError),
    (third_resource, FileSetError),
    (named("../manifest.json"), DocumentError),
    (named("/manifest.json"), DocumentError),
    (named("./manifest.json"), DocumentError),
    (named("a//manifest.json"), DocumentError),
    (named("..\\manifest.json"), DocumentError),
    (named("Manifest.json"), FileSetError),
]


@pytest.mark.parametrize(("change", "error"), STATEMENT_ATTACKS, ids=[c.__name__ for c, _ in STATEMENT_ATTACKS])
def test_row_10_statement(tmp_path: Path, change: Change, error: type[TrustError]) -> None:
    """A statement of another kind, or over other than the two files, is refused even if validly signed."""
    damaged = replace(sealed(), signature=statement_signature(change))
    with refused(error):
        good_case().but(data=damaged.to_bytes()).load(tmp_path)


# --- row 11: certificates ---------------------------------------------------------------------------------------------


def self_signed(start: datetime, end: datetime) -> str:
    """A certificate for the publisher's own signing key, valid between these times, in base64."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "acme")])
    builder = x509.CertificateBuilder(name, name, publisher().public.signing, 1, start, end)
    return strict.to_base64(builder.sign(publisher()._signing, hashes.SHA256()).public_bytes(Encoding.DER))


VALIDITY = {
    "expired": (NOW - timedelta(days=9), NOW - timedelta(days=1)),
    "not yet valid": (NOW + timedelta(days=1), NOW + timedelta(days=9)),
    "valid": (NOW - timedelta(days=9), NOW + timedelta(days=9)),
}


@pytest.mark.parametrize("times", VALIDITY.values(), ids=VALIDITY)
@pytest.mark.parametrize("chain", [True, False], ids=["chain", "leaf"])
@pytest.mark.parametrize("beside", [True, False], ids=["beside the key", "alone"])
def test_row_11_certificate(tmp_path: Path, times: tuple[datetime, datetime], chain: bool, beside: bool) -> None:
    """No certificate counts, whatever its dates say, even for a trusted key: a key's end is for a root to say."""
    leaf = {"rawBytes": self_signed(*times)}
    material = {"x509CertificateChain": {"certificates": [leaf]}} if chain else {"certificate": leaf}

    def certify(value: Any) -> None:
        hint = value["verificationMaterial"]["publicKey"]
        value["verificationMaterial"] = {**material, "tlogEntries": [], **({"publicKey": hint} if beside else {})}

    damaged = replace(sealed(), signature=edit_json(sealed().signature, certify))
    with refused(EnvelopeError):
        good_case().but(data=damaged.to_bytes()).load(tmp_path)


# --- row 13: JSON and base64 ------------------------------------------------------------------------------------------


def swap(old: bytes, new: bytes) -> Callable[[bytes], bytes]:
    def change(data: bytes) -> bytes:
        assert data.count(old) == 1
        return data.replace(old, new)

    return change


MANIFEST_ATTACKS: list[tuple[str, Callable[[bytes], bytes], type[TrustError]]] = [
    ("duplicate key", swap(b'"version":3', b'"version":2,"version":3'), EncodingError),
    ("duplicate key, same value", swap(b'"version":3', b'"version":3,"version":3'), EncodingError),
    ("duplicate key, inside", swap(b'"suite":"edgeq-1"', b'"suite":"x","suite":"edgeq-1"'), EncodingError),
    ("duplicate key, escaped", swap(b'"version":3', b'"\\u0076ersion":2,"version":3'), EncodingError),
    ("NaN", swap(b'"version":3', b'"version":NaN'), EncodingError),
    ("Infinity", swap(b'"version":3', b'"version":-Infinity'), EncodingError),
    ("float", swap(b'"version":3', b'"version":3.0'), EncodingError),
    ("exponent", swap(b'"version":3', b'"version":3e0'), EncodingError),
    ("huge integer", swap(b'"version":3', b'"version":' + b"9" * 5000), EncodingError),
    ("integer above 2^53", swap(b'"version":3', b'"version":9007199254740992'), EncodingError),
    ("minus zero", swap(b'"version":3', b'"version":-0'), EncodingError),
    ("leading zero", swap(b'"version":3', b'"version":03'), EncodingError),
    ("deep nesting", swap(b'"version":3', b'"version":' + b"[" * 5000 + b"]" * 5000), EncodingError),
    ("deep nesting, unclosed", lambda data: b"[" * 16000, EncodingError),
    ("white space", swap(b'"version":3', b'"version": 3'), EncodingError),
    ("newline at the end", lambda data: data + b"\n", EncodingError),
    ("byte order mark", lambda data: b"\xef\xbb\xbf" + data, EncodingError),
    ("second value", lambda data: data + b"{}", EncodingError),
    ("not UTF-8", swap(b"acme/spotter", b"acme/\xffpotter"), EncodingError),
    ("UTF-16", lambda data: data.decode().encode("utf-16"), EncodingError),
    ("escaped letter", swap(b"acme/spotter", b"acme/\\u0073potter"), EncodingError),
    ("half a surrogate", swap(b"acme/spotter", b"acme/\\ud800"), EncodingError),
    ("control character", swap(b"acme/spotter", b"acme/\x01"), EncodingError),
    ("unsorted keys", lambda data: b'{"version":3,' + data[1:].replace(b',"version":3', b""), EncodingError),
    ("base64 without padding", swap(b'"wrapped_key":"', b'"wrapped_key":"AA'), EncodingError),
    ("trailing comma", swap(b'"version":3}', b'"version":3,}'), EncodingError),
    ("comment", swap(b'"version":3', b'"version":/*2*/3'), EncodingError),
    ("empty", lambda data: b" ", EncodingError),
    ("too long", lambda data: data + b" " * limits.MANIFEST, LengthError),
    ("not an object", lambda data: b"[" + data + b"]", DocumentError),
    ("missing field", swap(b',"version":3', b""), DocumentError),
    ("unknown field", swap(b'"version":3', b'"version":3,"weights":1'), DocumentError),
    ("text for a number", swap(b'"version":3', b'"version":"3"'), DocumentError),
    ("truth for a number", swap(b'"version":3', b'"version":true'), DocumentError),
    ("version 0", swap(b'"version":3', b'"version":0'), DocumentError),
    ("upper-case hexadecimal", lambda data: edit_json(data, upper_case_id), DocumentError),
    ("path for a model id", swap(b"acme/spotter", b"../acme"), DocumentError),
    ("other format", swap(b"edgeq-bundle/1", b"edgeq-bundle/2"), SuiteError),
    ("other suite", swap(b'"suite":"edgeq-1"', b'"suite":"none"'), SuiteError),
    ("suite is null", swap(b'"suite":"edgeq-1"', b'"suite":null'), SuiteError),
]


def upper_case_id(value: Any) -> None:
    value["encryption"]["publisher"] = value["encryption"]["publisher"].upper().replace("0", "A")


@pytest.mark.parametrize(
    ("change", "error"), [pytest.param(change, error, id=name) for name, change, error in MANIFEST_ATTACKS]
)
def test_row_13_manifest(tmp_path: Path, change: Callable[[bytes], bytes], error: type[TrustError]) -> None:
    """A manifest that is not the one spelling of a known manifest is refused even if validly signed."""
    pack.unpack(written(tmp_path, sealed().to_bytes()), tmp_path / "bundle")
    manifest = change(sealed().manifest)
    (tmp_path / "bundle" / "manifest.json").write_bytes(manifest)
    (tmp_path / "bundle" / "model.sig").write_bytes(signed_again(replace(sealed(), manifest=manifest)).signature)
    with refused(error):
        loader.verify(tmp_path / "bundle", trust=trust())


SPELLINGS: list[tuple[str, Callable[[str], str]]] = [
    ("no padding", lambda text: text.rstrip("=") if text.endswith("=") else text + "="),
    ("white space", lambda text: text[:8] + "\n" + text[8:]),
    ("URL alphabet", lambda text: text[:-4] + "_-_-"),
    ("unused bits", lambda text: text[:-4] + "AAF=" if text.endswith("=") else text[:-4] + "AF=="),
    ("not ASCII", lambda text: "é" + text[1:]),
]


@pytest.mark.parametrize("spell", [pytest.param(spell, id=name) for name, spell in SPELLINGS])
@pytest.mark.parametrize("place", ["payload", "sig"])
def test_row_13_base64(tmp_path: Path, place: str, spell: Callable[[str], str]) -> None:
    """Base64 in a grant or a bundle's signature has one spelling."""

    def change(value: Any) -> None:
        part = envelope_of(value) if place == "payload" else envelope_of(value)["signatures"][0]
        part[place] = spell(part[place])

    with refused(EncodingError):
        good_case().but(grant=edit_json(granted(sealed()), change)).load(tmp_path)
    damaged = replace(sealed(), signature=edit_json(sealed().signature, change))
    with refused(EncodingError):
        good_case().but(data=damaged.to_bytes()).load(tmp_path)


SIGNATURE_JSON = [
    ("duplicate envelope", lambda data: b'{"dsseEnvelope":{},' + data[1:]),
    ("duplicate payload", lambda data: data.replace(b'"payload":', b'"payload":"","payload":', 1)),
    ("deep nesting", lambda data: data.replace(b"[]", b"[" * 100_000 + b"]" * 100_000, 1)),
    ("deep nesting in a key", lambda data: b'{"a":' * 20_000),
    ("quotes without end", lambda data: b'"\\' * 100_000),
    ("huge integer", lambda data: data.replace(b"[]", b"9" * 200_000, 1)),
    ("NaN", lambda data: data.replace(b"[]", b"NaN", 1)),
]


@pytest.mark.parametrize("change", [pytest.param(change, id=name) for name, change in SIGNATURE_JSON])
def test_row_13_signature_file(tmp_path: Path, change: Callable[[bytes], bytes]) -> None:
    """model.sig may have white space, but no other liberty; and refusing it takes no time to speak of."""
    with refused(EncodingError):
        oms.verify(change(sealed().signature), trust())


def test_row_13_grant_spelling(tmp_path: Path) -> None:
    """A grant that is spelled with white space is refused: edgeq writes none."""
    loose = json.dumps(json.loads(granted(sealed())), indent=1).encode()
    with refused(EncodingError):
        good_case().but(grant=loose).load(tmp_path)


# --- rows 15 and 16: the files of a directory -------------------------------------------------------------------------


def written(folder: Path, data: bytes) -> Path:
    (folder / "bundle.eqb").write_bytes(data)
    return folder / "bundle.eqb"


def add_file(folder: Path) -> None:
    (folder / "extra.bin").write_bytes(b"x")


def add_hidden_file(folder: Path) -> None:
    (folder / ".gitattributes").write_bytes(b"x")


def add_folder(folder: Path) -> None:
    (folder / "more").mkdir()


def add_other_case(folder: Path) -> None:
    (folder / "Payload.bin").write_bytes(b"x")


def add_bytes_name(folder: Path) -> None:
    (Path(os.fsdecode(os.fsencode(folder) + b"/\xff\xfe"))).write_bytes(b"x")


def remove_payload(folder: Path) -> None:
    (folder / "payload.bin").unlink()


def link_payload(folder: Path) -> None:
    (folder / "payload.bin").rename(folder.parent / "elsewhere")
    (folder / "payload.bin").symlink_to(folder.parent / "elsewhere")


def link_loop(folder: Path) -> None:
    (folder / "payload.bin").unlink()
    (folder / "payload.bin").symlink_to("payload.bin")


def pipe_payload(folder: Path) -> None:
    (folder / "payload.bin").unlink()
    os.mkfifo(folder / "payload.bin")


def reserved_signature(folder: Path) -> None:
    (folder / "model.pq.sig").write_bytes(b"{}")


DIRECTORY_ATTACKS = [
    add_file,
    add_hidden_file,
    add_folder,
    add_other_case,
    add_bytes_name,
    remove_payload,
    link_payload,
    link_loop,
    pipe_payload,
    reserved_signature,
]


@pytest.mark.parametrize("change", DIRECTORY_ATTACKS, ids=[c.__name__ for c in DIRECTORY_ATTACKS])
def test_row_15_bundle_directory(tmp_path: Path, change: Callable[[Path], None]) -> None:
    """A bundle's directory holds its three files, perhaps a second signature, and nothing else, and no links."""
    pack.unpack(written(tmp_path, plain().to_bytes()), tmp_path / "bundle")
    assert loader.read_model(tmp_path / "bundle", trust=trust()) == model()
    change(tmp_path / "bundle")
    with refused(FileSetError, DocumentError):
        loader.read_model(tmp_path / "bundle", trust=trust())


def test_row_16_ignore_list(tmp_path: Path) -> None:
    """A list of paths to ignore, even signed, lets no file through that is not signed itself."""

    def widen(value: Any) -> None:
        value["predicate"]["serialization"]["ignore_paths"] = ["model.sig", "extra.bin", "."]

    pack.unpack(written(tmp_path, sealed().to_bytes()), tmp_path / "bundle")
    (tmp_path / "bundle" / "model.sig").write_bytes(statement_signature(widen))
    assert loader.verify(tmp_path / "bundle", trust=trust()).manifest is not None
    add_file(tmp_path / "bundle")
    with refused(FileSetError):
        loader.verify(tmp_path / "bundle", trust=trust())


def signed_directory(folder: Path, files: dict[str, bytes]) -> Path:
    """A directory with these files, signed, that is not a bundle."""
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    (folder / "model.sig").write_bytes(oms.sign(publisher(), digests, "any"))
    return folder


def change_file(folder: Path) -> None:
    (folder / "a" / "weights").write_bytes(b"other")


def remove_file(folder: Path) -> None:
    (folder / "a" / "weights").unlink()


def add_file_below(folder: Path) -> None:
    (folder / "a" / "more").write_bytes(b"x")


def link_folder(folder: Path) -> None:
    (folder / "b").symlink_to("a")


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (change_file, DigestError),
        (remove_file, FileSetError),
        (add_file_below, FileSetError),
        (add_file, FileSetError),
        (link_folder, FileSetError),
    ],
)
def test_row_15_signed_directory(tmp_path: Path, change: Callable[[Path], None], error: type[TrustError]) -> None:
    """In any signed directory, every file below it is as it was signed, and there is no other."""
    folder = signed_directory(tmp_path / "model", {"config": b"1", "a/weights": b"2"})
    assert set(loader.verify(folder, trust=trust()).digests) == {"config", "a/weights"}
    change(folder)
    with refused(error):
        loader.verify(folder, trust=trust())


def test_signed_directory_is_no_model(tmp_path: Path) -> None:
    """A signed directory that is not a bundle verifies, but does not load."""
    folder = signed_directory(tmp_path / "model", {"weights": b"1"})
    with pytest.raises(FileSetError):
        loader.read_model(folder, trust=trust())


def test_seal_refuses_what_readers_would(tmp_path: Path) -> None:
    """A model id or version that a reader would refuse is refused when sealing."""
    for model_id, version in (("", 1), ("../x", 1), ("x" * 129, 1), ("x", 0), ("x", 2**53)):
        with pytest.raises(DocumentError):
            seal.seal(model(), publisher(), model_id=model_id, version=version)


def deep(folder: Path) -> None:
    path = folder
    for _ in range(40):
        path = path / "d"
    path.mkdir(parents=True)


def no_signature_bytes(folder: Path) -> None:
    (folder / "model.sig").write_bytes(b"")


def long_signature(folder: Path) -> None:
    (folder / "model.sig").write_bytes(b" " * (limits.SIGNATURE + 1))


def many_files(folder: Path) -> None:
    for number in range(limits.DIRECTORY_FILES + 1):
        (folder / f"{number}").touch()


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (deep, FileSetError),
        (no_signature_bytes, LengthError),
        (long_signature, LengthError),
        (many_files, FileSetError),
    ],
)
def test_row_14_directories_have_limits(
    tmp_path: Path, change: Callable[[Path], None], error: type[TrustError]
) -> None:
    """A directory that is too deep or too full, or whose signature is empty or too long, is refused."""
    folder = signed_directory(tmp_path / "model", {"config": b"1"})
    change(folder)
    with refused(error):
        loader.verify(folder, trust=trust())


@pytest.mark.parametrize("name", ["manifest.json", "payload.bin", "model.sig"])
def test_row_14_empty_part(tmp_path: Path, name: str) -> None:
    """A bundle's directory with an empty file is refused by its length."""
    pack.unpack(written(tmp_path, plain().to_bytes()), tmp_path / "bundle")
    (tmp_path / "bundle" / name).write_bytes(b"")
    with refused(LengthError):
        loader.verify(tmp_path / "bundle", trust=trust())
