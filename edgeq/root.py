"""The root of trust: which keys may do what, signed by m of n owners, one version after the other.

Pure functions over bytes, values and time. A root is made by `first` or `next_version` and the functions that change one,
then signed by its owners with `sign`, one at a time; `verify` and `follow` are the device's side. Rotation works as in The
Update Framework (theupdateframework.io, section 5.3): no version is skipped, each is signed by the owners of the one before.
docs/trust-formats.md has the format.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from edgeq import clock, dsse, limits, strict
from edgeq.errors import (
    ClockSetBackError,
    DocumentError,
    InputError,
    RootExpiredError,
    RootMismatchError,
    RootThresholdError,
    RootVersionError,
    UntrustedKeyError,
)
from edgeq.fields import KEY_ID, OPERATIONS, SOME_OPERATIONS, SUITE, TIME
from edgeq.keys import PublisherPublic, Signer, parse_second_der, parse_signing_der
from edgeq.records import dataclass, field, replace

FORMAT: Final = "edgeq-root/1"

_WHAT: Final = "root"
_ENVELOPE_TYPE: Final = "application/vnd.edgeq.root.v1+json"
_PATTERN: Final = strict.text(
    r"\*|[A-Za-z0-9][A-Za-z0-9._/-]*(/\*)?", "a model id, a model id followed by /*, or *", limits.MODEL_ID + 2
)


@dataclass(frozen=True)
class Delegation:
    """What a key may do: for which models (ids, prefixes ending in /*, or *), until when (Unix seconds), which operations.

    `ml_dsa_65` is the key (DER) that must sign a publisher's bundles too; None where one signature is enough.
    """

    models: tuple[str, ...]
    until: int
    operations: tuple[str, ...] = OPERATIONS
    ml_dsa_65: bytes | None = None

    def covers(self, model_id: str) -> bool:
        """Whether the delegation is for this model."""
        return any(
            pattern in ("*", model_id) or (pattern.endswith("/*") and model_id.startswith(pattern[:-1]))
            for pattern in self.models
        )


@dataclass(frozen=True)
class Root:
    """A root's fields, as docs/trust-formats.md describes them; times in Unix seconds, keys in DER by their ids."""

    root_id: str
    version: int
    issued: int
    expires: int | None
    owners: frozenset[str]
    threshold: int
    keys: Mapping[str, bytes]
    publishers: Mapping[str, Delegation] = field(default_factory=dict)
    issuers: Mapping[str, Delegation] = field(default_factory=dict)
    status: Mapping[str, int] = field(default_factory=dict)

    def key(self, key_id: str) -> PublisherPublic:
        """One of the root's keys."""
        return parse_signing_der(self.keys[key_id], key_id, _WHAT)

    def publisher(self, key_id: str) -> PublisherPublic:
        """One of the root's publishers, with the second key that must sign its bundles, if there is one."""
        der = self.publishers[key_id].ml_dsa_65
        return self.key(key_id) if der is None else replace(self.key(key_id), second=parse_second_der(der, _WHAT))

    def named(self) -> frozenset[str]:
        """The ids of all keys that have something to do in this root."""
        return self.owners | self.publishers.keys() | self.issuers.keys() | self.status.keys()

    def to_json(self) -> dict[str, Any]:
        """The root as a JSON value."""
        return {
            "format": FORMAT,
            "suite": SUITE,
            "root_id": self.root_id,
            "version": self.version,
            "issued": self.issued,
            "expires": self.expires,
            "keys": {name: strict.to_base64(der) for name, der in self.keys.items()},
            "root": {"keys": sorted(self.owners), "threshold": self.threshold},
            "publishers": {
                name: {"models": list(given.models), "until": given.until, **_second(given)}
                for name, given in self.publishers.items()
            },
            "issuers": {
                name: {"models": list(given.models), "operations": list(given.operations), "until": given.until}
                for name, given in self.issuers.items()
            },
            "status": {name: {"until": until} for name, until in self.status.items()},
        }


@dataclass(frozen=True)
class Signed:
    """A root file: the root, its signed payload, and the signatures by key id, none of which has been verified yet."""

    root: Root
    envelope: dsse.Countersigned

    def signed_by(self, owners: Root) -> frozenset[str]:
        """Which of the owners of `owners`, this version or the one before, have signed; raises BadSignatureError."""
        found = owners.owners & self.envelope.signatures.keys()
        for name in sorted(found):
            owners.key(name).verify(self.envelope.signed_bytes, self.envelope.signatures[name])
        return found


# --- the owners' side -------------------------------------------------------------------------------------------------


def first(owners: Mapping[str, bytes], threshold: int, *, now: datetime, expires: datetime | None = None) -> Root:
    """The first version of a new root, which these keys (DER by key id) own and which delegates nothing yet.

    Raises InputError for a threshold that they cannot meet, or an expiry that has passed.
    """
    made = Root(os.urandom(32).hex(), 1, 0, None, frozenset(owners), threshold, dict(owners))
    return _finished(made, now, expires)


def next_version(
    last: Root,
    *,
    now: datetime,
    remove: frozenset[str] = frozenset(),
    threshold: int | None = None,
    expires: datetime | None = None,
) -> Root:
    """The version after `last`: the same, without the keys in `remove`, perhaps with another threshold or expiry.

    Raises InputError for a key that is not there, and as `first` does.
    """
    if unknown := remove - last.named():
        raise InputError(f"the root does not name the key {min(unknown)[:16]}…")
    made = replace(
        last,
        version=last.version + 1,
        owners=last.owners - remove,
        threshold=last.threshold if threshold is None else threshold,
        publishers=_without(last.publishers, remove),
        issuers=_without(last.issuers, remove),
        status=_without(last.status, remove),
    )
    until = expires if expires is not None or last.expires is None else clock.moment(last.expires)
    return _finished(made, now, until)


def with_owner(root: Root, key: PublisherPublic) -> Root:
    """The root with one more owner."""
    return _with_key(replace(root, owners=root.owners | {key.key_id}), key)


def with_publisher(root: Root, key: PublisherPublic, models: frozenset[str], until: datetime) -> Root:
    """The root with a publisher, or with another delegation to one that it had; a second key that it has must sign too."""
    given = Delegation(tuple(sorted(models)), clock.timestamp(until), ml_dsa_65=key.second_der())
    return _with_key(replace(root, publishers={**root.publishers, key.key_id: given}), key)


def with_issuer(
    root: Root, key: PublisherPublic, models: frozenset[str], operations: frozenset[str], until: datetime
) -> Root:
    """The root with an issuer of grants, or with another delegation to one that it had."""
    given = Delegation(tuple(sorted(models)), clock.timestamp(until), tuple(sorted(operations)))
    return _with_key(replace(root, issuers={**root.issuers, key.key_id: given}), key)


def with_status_key(root: Root, key: PublisherPublic, until: datetime) -> Root:
    """The root with a key that signs statuses, or with another end for one that it had."""
    return _with_key(replace(root, status={**root.status, key.key_id: clock.timestamp(until)}), key)


def draft(root: Root) -> bytes:
    """The root's file, before anybody has signed it. Raises as `parse` does for one that no reader would accept."""
    payload = strict.canonical(root.to_json())
    _root(payload)
    return strict.canonical(dsse.Countersigned(payload, _ENVELOPE_TYPE).to_json())


def sign(data: bytes, key: Signer, last: Root | None = None) -> bytes:
    """The root's file with one more signature, by an owner of this version or of the one before, `last`.

    Raises as `parse` does, UntrustedKeyError for anybody else, InputError for an owner who has signed already.
    """
    found, name = parse(data), key.public.key_id
    if name not in found.root.owners | (frozenset() if last is None else last.owners):
        raise UntrustedKeyError(f"the key {name[:16]}… owns neither this root nor the version before that was given")
    if name in found.envelope.signatures:
        raise InputError(f"the key {name[:16]}… has signed already")
    signatures = {**found.envelope.signatures, name: key.sign(found.envelope.signed_bytes)}
    return strict.canonical(replace(found.envelope, signatures=signatures).to_json())


def _finished(root: Root, now: datetime, expires: datetime | None) -> Root:
    issued, until = clock.timestamp(now), None if expires is None else clock.timestamp(expires)
    if until is not None and until <= issued:
        raise InputError(f"the root would have expired at {clock.show(until)}, before it is issued")
    if not 1 <= root.threshold <= len(root.owners):
        raise InputError(
            f"expected a threshold from 1 to the number of owners, {len(root.owners)}, found {root.threshold}"
        )
    named = {name: der for name, der in root.keys.items() if name in root.named()}
    return replace(root, issued=issued, expires=until, keys=named)


def _with_key(root: Root, key: PublisherPublic) -> Root:
    return replace(root, keys={**root.keys, key.key_id: key.to_der()})


def _second(given: Delegation) -> dict[str, str]:
    """The field of a second key, which is left out where there is none."""
    return {} if given.ml_dsa_65 is None else {"ml_dsa_65": strict.to_base64(given.ml_dsa_65)}


def _without(delegations: Mapping[str, Any], remove: frozenset[str]) -> dict[str, Any]:
    return {name: given for name, given in delegations.items() if name not in remove}


# --- the device's side ------------------------------------------------------------------------------------------------


def parse(data: bytes) -> Signed:
    """The root that a root file claims to be; whether anybody signed it is for `verify` to say.

    Raises LengthError, EncodingError, DocumentError, SuiteError, KeyFileError for what is malformed; EnvelopeError,
    SignatureCountError for signatures that cannot be right.
    """
    value = strict.parse_canonical(data, limits.ROOT, _WHAT)
    envelope = dsse.countersigned_from_json(value, _ENVELOPE_TYPE, limits.ROOT_SIGNATURES, _WHAT)
    return Signed(_root(envelope.payload), envelope)


def verify(data: bytes) -> Root:
    """The root in a file that is signed by as many of its own owners as it asks for.

    Raises as `parse` does, RootThresholdError, BadSignatureError.
    """
    found = parse(data)
    _check_threshold(found, found.root, "")
    return found.root


def follow(last: Root, last_data: bytes, data: bytes) -> Root:
    """The root in `data`, if it is `last` (the file `last_data`) itself or the version that comes next, signed by both.

    Raises as `verify` does, RootMismatchError, RootVersionError.
    """
    found = parse(data)
    root = found.root
    if root.root_id != last.root_id:
        raise RootMismatchError(f"expected a version of root {last.root_id[:16]}…, found root {root.root_id[:16]}…")
    if data == last_data:
        return last
    if root.version != last.version + 1:
        raise RootVersionError(
            f"expected version {last.version + 1}, which follows the one that this device believes, found version "
            f"{root.version}"
        )
    _check_threshold(found, last, f" of version {last.version}")
    _check_threshold(found, root, f" of version {root.version}")
    return root


def check_time(root: Root, when: datetime) -> None:
    """Return if a root holds at this time; else raise RootExpiredError, or ClockSetBackError if it cannot be this time.

    A root's date is signed: a clock behind it is wrong, and would let through what has come to its end.
    """
    moment = clock.timestamp(when)
    if moment < root.issued - clock.SKEW.total_seconds():
        raise ClockSetBackError(
            f"the clock shows {clock.show(moment)}, but the root was issued at {clock.show(root.issued)}: set the clock"
        )
    if root.expires is not None and moment >= root.expires:
        raise RootExpiredError(
            f"version {root.version} of the root expired at {clock.show(root.expires)}: a newer version is needed"
        )


def sha256(data: bytes) -> str:
    """What a device remembers a root file by."""
    return hashlib.sha256(data).hexdigest()


def _check_threshold(found: Signed, owners: Root, whose: str) -> None:
    signed = found.signed_by(owners)
    if len(signed) < owners.threshold:
        raise RootThresholdError(
            f"the root is signed by {len(signed)} of the owners{whose}, {owners.threshold} of {len(owners.owners)} must"
        )


def _root(payload: bytes) -> Root:
    fields = strict.record(strict.parse_canonical(payload, limits.ROOT, _WHAT), _FIELDS, _WHAT)
    owners = fields["root"]
    root = Root(
        root_id=fields["root_id"],
        version=fields["version"],
        issued=fields["issued"],
        expires=fields["expires"],
        owners=owners["keys"],
        threshold=owners["threshold"],
        keys=fields["keys"],
        publishers=fields["publishers"],
        issuers=fields["issuers"],
        status=fields["status"],
    )
    if root.threshold > len(root.owners):
        raise DocumentError(f"root: a threshold of {root.threshold}, which {len(root.owners)} owners cannot meet")
    if root.expires is not None and root.expires <= root.issued:
        raise DocumentError(f"root: expires at {clock.show(root.expires)}, before it is issued")
    if odd := root.named() ^ root.keys.keys():
        raise DocumentError(f"root: the key {min(odd)[:16]}… is named and not there, or there and not named")
    for name in root.keys:
        root.key(name)
    for name in root.publishers:
        root.publisher(name)
    return root


def _patterns(value: Any, what: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not 1 <= len(value) <= limits.ROOT_MODELS:
        raise DocumentError(f"{what}: expected 1 to {limits.ROOT_MODELS} model ids or prefixes")
    found = tuple(_PATTERN(pattern, what) for pattern in value)
    if list(found) != sorted(set(found)):
        raise DocumentError(f"{what}: expected sorted patterns, each once")
    return found


def _record(fields: Mapping[str, strict.Check]) -> strict.Check:
    return lambda value, what: strict.record(value, fields, what)


def _publisher(value: Any, what: str) -> Delegation:
    fields = _PUBLISHER
    if isinstance(value, dict) and "ml_dsa_65" in value:
        fields = {**fields, "ml_dsa_65": _der}
    return Delegation(**strict.record(value, fields, what))


def _der(value: Any, what: str) -> bytes:
    if not isinstance(value, str):
        raise DocumentError(f"{what}: expected base64")
    return strict.from_base64(value, what)


_VERSION: Final = strict.integer(1, limits.INTEGER)
_PUBLISHER: Final[dict[str, strict.Check]] = {"models": _patterns, "until": TIME}
_ISSUER: Final[dict[str, strict.Check]] = {**_PUBLISHER, "operations": SOME_OPERATIONS}
_FIELDS: Final[dict[str, strict.Check]] = {
    "format": strict.only(FORMAT),
    "suite": strict.only(SUITE),
    "root_id": strict.hexadecimal(32),
    "version": _VERSION,
    "issued": TIME,
    "expires": strict.optional(TIME),
    "keys": strict.mapping(KEY_ID, _der, 2 * limits.ROOT_KEYS + 2 * limits.ROOT_DELEGATIONS),
    "root": _record({"keys": strict.hexadecimals(32, limits.ROOT_KEYS), "threshold": _VERSION}),
    "publishers": strict.mapping(KEY_ID, _publisher, limits.ROOT_DELEGATIONS),
    "issuers": strict.mapping(
        KEY_ID, lambda value, what: Delegation(**strict.record(value, _ISSUER, what)), limits.ROOT_DELEGATIONS
    ),
    "status": strict.mapping(
        KEY_ID, lambda value, what: strict.record(value, {"until": TIME}, what)["until"], limits.ROOT_KEYS
    ),
}
