"""Roots: what they say, how one version follows another, and what is refused when they are made or read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, x25519
from rooted import first, following, issuer, new_signer, owner, signed, status_key
from trusted import LATER, NOW, edit_json, publisher

from edgeq import keys, limits, opening, root, strict
from edgeq.errors import (
    DocumentError,
    InputError,
    KeyFileError,
    LengthError,
    RootThresholdError,
    SignatureCountError,
    SuiteError,
    TrustError,
    UntrustedKeyError,
)
from edgeq.root import Delegation

SECOND = timedelta(seconds=1)


def test_what_a_root_says() -> None:
    """A signed root reads back equal, and its payload writes to the same bytes."""
    data = signed(first(), 0, 1)
    assert root.verify(data) == first()
    assert root.parse(data).envelope.payload == strict.canonical(first().to_json())
    assert first().named() == {k.public.key_id for k in (*map(owner, range(3)), publisher(), issuer(), status_key())}


COVERED = [
    ("acme/spotter", "acme/spotter", True),
    ("acme/spotter", "acme/spotter2", False),
    ("acme/spotter", "acme", False),
    ("acme/*", "acme/spotter", True),
    ("acme/*", "acme/vision/spotter", True),
    ("acme/*", "acme", False),
    ("acme/*", "acmes/spotter", False),
    ("acme/v/*", "acme/x", False),
    ("*", "anything/at.all", True),
    ("a.me/x", "acme/x", False),
]


@pytest.mark.parametrize(("pattern", "model_id", "expected"), COVERED)
def test_patterns(pattern: str, model_id: str, expected: bool) -> None:
    """A pattern is a model id, everything below one, or everything; a dot is a dot."""
    assert Delegation((pattern,), 0).covers(model_id) is expected
    assert Delegation(("b/other", pattern), 0).covers(model_id) is expected


def test_the_next_version() -> None:
    """The next version says the same, one later, without the keys that were removed, and with no key that does nothing."""
    after = root.next_version(first(), now=LATER, remove=frozenset({owner(2).public.key_id, publisher().public.key_id}))
    assert (after.version, after.root_id, after.issued) == (2, first().root_id, int(LATER.timestamp()))
    assert after.owners == {owner(0).public.key_id, owner(1).public.key_id}
    assert (after.publishers, after.issuers, after.status) == ({}, first().issuers, first().status)
    assert after.keys.keys() == after.named()
    assert root.verify(signed(after, 0, 1)) == after


def test_a_key_with_two_roles_stays_for_the_other() -> None:
    """A key that loses one role, as a status key that is also an owner, is in the root as long as it has another."""
    both = root.with_owner(first(), status_key().public)
    assert status_key().public.key_id in both.owners
    assert root.parse(root.draft(both)).root == both


def test_expiry_is_kept() -> None:
    """The next version expires when the last one did unless told otherwise, and not before it is issued."""
    named = {owner(0).public.key_id: owner(0).public.to_der()}
    ending = root.first(named, 1, now=NOW, expires=LATER)
    assert root.next_version(ending, now=NOW).expires == int(LATER.timestamp())
    assert root.next_version(ending, now=NOW, expires=LATER + SECOND).expires == int(LATER.timestamp()) + 1
    for now in (LATER, LATER + SECOND):
        with pytest.raises(InputError, match="would have expired"):
            root.next_version(ending, now=now)


@pytest.mark.parametrize("threshold", [0, -1, 4])
def test_thresholds_that_cannot_be_met(threshold: int) -> None:
    """A root asks for at least one signature, and for no more than it has owners."""
    named = {owner(i).public.key_id: owner(i).public.to_der() for i in range(3)}
    with pytest.raises(InputError, match="threshold from 1"):
        root.first(named, threshold, now=NOW)
    with pytest.raises(InputError, match="threshold from 1"):
        root.next_version(first(), now=NOW, threshold=threshold)


def test_removing_too_many() -> None:
    """Owners cannot be removed below the threshold, nor keys that are not there."""
    gone = frozenset(owner(i).public.key_id for i in (1, 2))
    with pytest.raises(InputError, match="threshold from 1"):
        root.next_version(first(), now=NOW, remove=gone)
    assert root.next_version(first(), now=NOW, remove=gone, threshold=1).threshold == 1
    with pytest.raises(InputError, match="does not name"):
        root.next_version(first(), now=NOW, remove=frozenset({"ab" * 32}))


def test_signing_together() -> None:
    """Each owner signs once, in any order; nobody else does; the root counts when enough have."""
    data = root.draft(first())
    with pytest.raises(RootThresholdError, match="0 of the owners, 2 of 3"):
        root.verify(data)
    data = root.sign(data, owner(2))
    with pytest.raises(InputError, match="signed already"):
        root.sign(data, owner(2))
    for stranger in (new_signer(), publisher(), status_key()):
        with pytest.raises(UntrustedKeyError, match="owns neither"):
            root.sign(data, stranger)
    with pytest.raises(RootThresholdError, match="1 of the owners"):
        root.verify(data)
    assert root.verify(root.sign(data, owner(0))) == first()


def test_the_version_before_signs_too() -> None:
    """An owner who leaves with a version signs it as an owner of the version before."""
    after = root.next_version(first(), now=NOW, remove=frozenset({owner(2).public.key_id}))
    data = root.sign(root.draft(after), owner(1))
    with pytest.raises(UntrustedKeyError):
        root.sign(data, owner(2))
    data = root.sign(data, owner(2), first())
    assert root.parse(data).signed_by(first()) == {owner(1).public.key_id, owner(2).public.key_id}
    assert root.parse(data).signed_by(after) == {owner(1).public.key_id}


def test_the_largest_root_fits() -> None:
    """A root with every key that it may have, each for one long model id, is below the limit of its file."""
    made = first()
    der = owner(0).public.to_der()
    named = {f"{i:064x}": der for i in range(limits.ROOT_KEYS)}
    given = Delegation(("m" * limits.MODEL_ID,), 253_402_300_799)
    many = {f"{i:064x}": given for i in range(1000, 1000 + limits.ROOT_DELEGATIONS)}
    more = {f"{i:064x}": given for i in range(2000, 2000 + limits.ROOT_DELEGATIONS)}
    statuses = {f"{i:064x}": 253_402_300_799 for i in range(3000, 3000 + limits.ROOT_KEYS)}
    every = dict.fromkeys((*named, *many, *more, *statuses), der)
    largest = replace(made, keys=every, owners=frozenset(named), publishers=many, issuers=more, status=statuses)
    envelope = replace(
        root.parse(root.draft(made)).envelope,
        payload=strict.canonical(largest.to_json()),
        signatures={f"{i:064x}": bytes(72) for i in range(limits.ROOT_SIGNATURES)},
    )
    assert len(strict.canonical(envelope.to_json())) <= limits.ROOT


def point(compressed: bool) -> tuple[str, bytes]:
    """A P-256 key in DER, and its id as the hash of these bytes."""
    key = ec.generate_private_key(ec.SECP256R1()).public_key()
    if not compressed:
        der = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    else:  # RFC 5480 with the point in 33 bytes: the same key by another name
        short = key.public_bytes(serialization.Encoding.X962, serialization.PublicFormat.CompressedPoint)
        der = bytes.fromhex("3039301306072a8648ce3d020106082a8648ce3d030107032200") + short
    return keys.hashlib.sha256(der).hexdigest(), der


OTHER_KEYS = {
    "compressed point": point(compressed=True)[1],
    "X25519": x25519.X25519PrivateKey.generate().public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo),
    "P-384": ec.generate_private_key(ec.SECP384R1()).public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo),
    "more behind it": owner(0).public.to_der() + b"\x00",
    "nothing": b"",
    "no key": b"\x30\x00",
}  # fmt: skip


@pytest.mark.parametrize("der", OTHER_KEYS.values(), ids=OTHER_KEYS)
def test_keys_have_one_spelling(der: bytes) -> None:
    """A key of another kind, or the same key spelled otherwise, is refused under whatever id."""
    for name in (keys.hashlib.sha256(der).hexdigest(), owner(0).public.key_id):
        with pytest.raises(KeyFileError):
            keys.parse_signing_der(der, name, "root")


def put(path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    """A change: set the field at this path, * meaning the first name in an object."""

    def change(found: dict[str, Any]) -> None:
        *parents, last = path.split(".")
        for name in parents:
            found = found[next(iter(found)) if name == "*" else name]
        found[next(iter(found)) if last == "*" else last] = value

    return change


FIELDS: list[tuple[str, Callable[[dict[str, Any]], object], type[TrustError]]] = [
    ("other format", put("format", "edgeq-root/2"), SuiteError),
    ("other suite", put("suite", "edgeq-2"), SuiteError),
    ("missing field", lambda value: value.pop("issuers"), DocumentError),
    ("unknown field", put("admin", True), DocumentError),
    ("version zero", put("version", 0), DocumentError),
    ("version as text", put("version", "1"), DocumentError),
    ("short root id", put("root_id", "00"), DocumentError),
    ("expires before it is issued", put("expires", 5), DocumentError),
    ("threshold zero", put("root.threshold", 0), DocumentError),
    ("threshold above the owners", put("root.threshold", 4), DocumentError),
    ("threshold as truth", put("root.threshold", True), DocumentError),
    ("no owners", put("root.keys", []), DocumentError),
    ("owners twice", lambda value: value["root"]["keys"].insert(0, value["root"]["keys"][0]), DocumentError),
    ("owner without a key", lambda value: value["root"]["keys"].append("ff" * 32), DocumentError),
    ("key without a role", lambda value: value["keys"].update([(k, root.strict.to_base64(d)) for k, d in [point(False)]]),
     DocumentError),
    ("key under another id", lambda value: value["keys"].update({owner(0).public.key_id: value["keys"][
        owner(1).public.key_id]}), KeyFileError),
    ("key that is none", put("keys.*", "AAAA"), KeyFileError),
    ("key as a number", put("keys.*", 1), DocumentError),
    ("publisher without models", put("publishers.*.models", []), DocumentError),
    ("publisher without an end", put("publishers.*.until", None), DocumentError),
    ("publisher with operations", put("publishers.*.operations", ["load"]), DocumentError),
    ("models unsorted", put("publishers.*.models", ["b", "a"]), DocumentError),
    ("models twice", put("publishers.*.models", ["a", "a"]), DocumentError),
    ("models as text", put("publishers.*.models", "a"), DocumentError),
    ("star in the middle", put("publishers.*.models", ["a/*/b"]), DocumentError),
    ("star without a slash", put("publishers.*.models", ["a*"]), DocumentError),
    ("slash first", put("publishers.*.models", ["/*"]), DocumentError),
    ("model id too long", put("publishers.*.models", ["m" * 131]), DocumentError),
    ("too many models", put("publishers.*.models", [f"m{i:03}" for i in range(65)]), DocumentError),
    ("issuer without operations", put("issuers.*.operations", []), DocumentError),
    ("issuer with unknown operations", put("issuers.*.operations", ["train"]), DocumentError),
    ("status key without an end", put("status.*", {}), DocumentError),
    ("too many owners", put("root.keys", [f"{i:064x}" for i in range(65)]), LengthError),
]  # fmt: skip


@pytest.mark.parametrize(("change", "error"), [pytest.param(c, e, id=name) for name, c, e in FIELDS])
def test_root_fields(change: Callable[[Any], object], error: type[TrustError]) -> None:
    """A root with a field that is missing, unknown or out of bounds is refused when it is read, whoever signed it."""
    with pytest.raises(error):
        root._root(edit_json(strict.canonical(first().to_json()), change))


def test_signatures_have_a_limit() -> None:
    """A root with more signatures than it could need is refused before any is verified."""
    envelope = root.parse(root.draft(first())).envelope
    crowded = replace(envelope, signatures={f"{i:064x}": b"x" for i in range(limits.ROOT_SIGNATURES + 1)})
    with pytest.raises(SignatureCountError, match="limit"):
        root.parse(strict.canonical(crowded.to_json()))


def test_what_trust_may_be(tmp_path: Path) -> None:
    """Trust is one root, or publishers; not both, not two roots, and no root that is not signed."""
    paths = [tmp_path / "root.json", tmp_path / "next.json", tmp_path / "draft.json"]
    for path, data in zip(
        paths, (signed(first(), 0, 1), signed(following(first()), 0, 1), root.draft(first())), strict=True
    ):
        path.write_bytes(data)
    assert opening.believe(paths[0]).root == first()
    assert opening.believe([paths[0]]).root == first()
    assert opening.believe([publisher().public, issuer().public]).root is None
    for wrong in ([paths[0], publisher().public], paths[:2], []):
        with pytest.raises(InputError, match="expected one root, or publishers"):
            opening.believe(wrong)
    with pytest.raises(RootThresholdError):
        opening.believe(paths[2])
