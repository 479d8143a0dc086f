"""Owners, roots that they sign, and an issuer of grants: what the tests of roots share."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime
from functools import cache
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from trusted import LATER, NOW, device, new_publisher, publisher, sealed

from edgeq import bundle, grant, root
from edgeq.bundle import Bundle
from edgeq.fields import OPERATIONS
from edgeq.keys import PublisherKey, SigningKey
from edgeq.recipients import Recipient
from edgeq.root import Root
from edgeq.trust import Trust, under


def new_signer() -> SigningKey:
    """A signing key that no file holds."""
    return SigningKey(ec.generate_private_key(ec.SECP256R1()))


@cache
def owner(number: int) -> SigningKey:
    """An owner of roots."""
    return new_signer()


@cache
def issuer() -> PublisherKey:
    """An issuer of grants."""
    return new_publisher()


@cache
def status_key() -> SigningKey:
    """A key that signs statuses."""
    return new_signer()


@cache
def first(owners: int = 3, threshold: int = 2) -> Root:
    """A root with a publisher, an issuer and a status key, each until LATER."""
    named = {owner(i).public.key_id: owner(i).public.to_der() for i in range(owners)}
    made = root.first(named, threshold, now=NOW)
    made = root.with_publisher(made, publisher().public, frozenset({"acme/*"}), LATER)
    made = root.with_issuer(made, issuer().public, frozenset({"acme/*"}), frozenset({"load", "calibrate"}), LATER)
    return root.with_status_key(made, status_key().public, LATER)


def signed(made: Root, *owners: int) -> bytes:
    """The root's file, signed by these owners, whoever they are to it."""
    return countersigned(root.draft(made), (owner(i) for i in owners))


def countersigned(data: bytes, signers: Iterable[SigningKey]) -> bytes:
    """A root's file with more signatures, without a question."""
    envelope = root.parse(data).envelope
    more = {key.public.key_id: key.sign(envelope.signed_bytes) for key in signers}
    return root.strict.canonical(replace(envelope, signatures={**envelope.signatures, **more}).to_json())


def following(last: Root, **changes: Any) -> Root:
    """The next version, with changes to its fields."""
    return replace(root.next_version(last, now=NOW), **changes)


def trusting(made: Root | None = None) -> Trust:
    """Trust in a root."""
    return under(made or first())


def handed_on(
    source: Bundle | None = None,
    *,
    key: PublisherKey | None = None,
    to: Recipient | None = None,
    allow: Iterable[str] = ("load",),
    now: datetime = NOW,
    **terms: Any,
) -> bytes:
    """A grant by an issuer, who has one for everything from the publisher."""
    source, key = source or sealed(), key or issuer()
    verified = bundle.verify(source, Trust((publisher().public,)))
    own = grant.issue(verified, publisher(), key.identity.public, OPERATIONS, now=NOW)
    held = grant.verify(own, Trust((publisher().public,)))
    return grant.issue(verified, key, to or device().public, tuple(allow), now=now, held=held, **terms)
