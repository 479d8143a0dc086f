"""Status: what an authority takes back from its devices, signed, with an epoch so that nothing older is put in its place.

Pure functions over bytes, values and time; edgeq.device applies a status to a device. docs/trust-formats.md has the format.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from edgeq import clock, dsse, limits, strict
from edgeq.errors import (
    ClockSetBackError,
    DocumentError,
    InputError,
    MinimumVersionError,
    RevokedDeviceError,
    RevokedGrantError,
    RevokedKeyError,
    StatusExpiredError,
    StatusRollbackError,
    UntrustedKeyError,
)
from edgeq.fields import KEY_ID, MODEL_ID, SUITE, TIME, VERSION
from edgeq.keys import Signer
from edgeq.records import dataclass, field, replace
from edgeq.state import StatusSeen
from edgeq.trust import Trust

FORMAT: Final = "edgeq-status/1"
EPOCH: Final = strict.integer(1, limits.INTEGER)
GRANT_ID: Final = strict.hexadecimal(16)

_WHAT: Final = "status"
_ENVELOPE_TYPE: Final = "application/vnd.edgeq.status.v1+json"
_FIELDS: Final[dict[str, strict.Check]] = {
    "format": strict.only(FORMAT),
    "suite": strict.only(SUITE),
    "authority": KEY_ID,
    "epoch": EPOCH,
    "issued": TIME,
    "expires": TIME,
    "minimum_versions": strict.mapping(MODEL_ID, VERSION, limits.STATUS_MODELS),
    "revoked_devices": strict.hexadecimals(32, limits.STATUS_REVOKED),
    "revoked_grants": strict.hexadecimals(16, limits.STATUS_REVOKED),
    "revoked_keys": strict.hexadecimals(32, limits.STATUS_REVOKED),
}


@dataclass(frozen=True)
class Status:
    """A status's fields, as docs/trust-formats.md describes them; times in Unix seconds."""

    authority: str
    epoch: int
    issued: int
    expires: int
    minimum_versions: Mapping[str, int] = field(default_factory=dict)
    revoked_devices: frozenset[str] = frozenset()
    revoked_grants: frozenset[str] = frozenset()
    revoked_keys: frozenset[str] = frozenset()

    def to_json(self) -> dict[str, Any]:
        """The status as a JSON value."""
        return {
            "format": FORMAT,
            "suite": SUITE,
            "authority": self.authority,
            "epoch": self.epoch,
            "issued": self.issued,
            "expires": self.expires,
            "minimum_versions": dict(self.minimum_versions),
            "revoked_devices": sorted(self.revoked_devices),
            "revoked_grants": sorted(self.revoked_grants),
            "revoked_keys": sorted(self.revoked_keys),
        }


# --- the authority's side ---------------------------------------------------------------------------------------------


def first(authority: str, *, now: datetime, expires: datetime) -> Status:
    """The first status of an authority, which takes nothing back. Raises InputError if it would have expired."""
    return _dated(Status(authority, 1, 0, 0), now, expires)


def following(last: Status, *, now: datetime, expires: datetime | None = None) -> Status:
    """The same, one epoch later, issued now; it expires when the last one did unless told otherwise.

    Raises InputError if it would have expired, or the epochs have come to their end.
    """
    until = clock.moment(last.expires) if expires is None else expires
    if last.epoch >= limits.INTEGER:
        raise InputError(f"the status has the last epoch that there is, {last.epoch}")
    return _dated(replace(last, epoch=last.epoch + 1), now, until)


def revoking(
    status: Status,
    *,
    devices: frozenset[str] = frozenset(),
    grants: frozenset[str] = frozenset(),
    keys: frozenset[str] = frozenset(),
) -> Status:
    """The status with these devices and keys (key ids) and grants (grant ids) revoked too."""
    return replace(
        status,
        revoked_devices=status.revoked_devices | devices,
        revoked_grants=status.revoked_grants | grants,
        revoked_keys=status.revoked_keys | keys,
    )


def requiring(status: Status, model_id: str, version: int) -> Status:
    """The status with this lowest version of a model. Raises InputError for one below what was required before."""
    before = status.minimum_versions.get(model_id, 0)
    if version < before:
        raise InputError(f"{model_id}: expected a minimum version of {before} or higher, found {version}")
    return replace(status, minimum_versions={**status.minimum_versions, model_id: version})


def sign(status: Status, key: Signer) -> bytes:
    """The content of status.json. Raises as `parse` does for a status that no reader would accept."""
    payload = strict.canonical(status.to_json())
    parse(payload)
    signature = key.sign(dsse.pae(_ENVELOPE_TYPE, payload))
    return strict.canonical(dsse.Envelope(payload, _ENVELOPE_TYPE, signature, key.public.key_id).to_json())


def _dated(status: Status, now: datetime, expires: datetime) -> Status:
    issued, until = clock.timestamp(now), clock.timestamp(expires)
    if until <= issued:
        raise InputError(f"the status would have expired at {clock.show(until)}, before it is issued: give an expiry")
    return replace(status, issued=issued, expires=until)


# --- the device's side ------------------------------------------------------------------------------------------------


def verify(data: bytes, trust: Trust) -> tuple[Status, str]:
    """The status in a status.json, if a key signed it that may speak for its authority, and the id of that key.

    Raises LengthError, EncodingError, DocumentError, SuiteError for what is malformed; EnvelopeError,
    SignatureCountError, UntrustedKeyError, BadSignatureError for what is not a trusted signature. Whether the key may
    still sign statuses is for trust.check_status_key to say.
    """
    envelope = _envelope(data)
    signer = trust.status_key(envelope.keyid)
    signer.verify(envelope.signed_bytes, envelope.signature)
    status = parse(envelope.payload)
    if status.authority != trust.authority(signer.key_id):
        raise UntrustedKeyError(
            f"status: signed by key {signer.key_id[:16]}…, which does not speak for {status.authority[:16]}…"
        )
    return status, signer.key_id


def unverified(data: bytes) -> Status:
    """The status that a status.json claims to be, whoever signed it: for display, never for a decision."""
    return parse(_envelope(data).payload)


def known(data: bytes) -> Status:
    """The status in a status.json that this device has verified before, which its hash says: no check is repeated.

    A long status is read at every opening, and the checks would take most of the time.
    """
    return _status(json.loads(base64.b64decode(json.loads(data)["payload"])))


def parse(payload: bytes) -> Status:
    """The status that a signed payload spells; raises LengthError, EncodingError, DocumentError, SuiteError."""
    status = _status(strict.record(strict.parse_canonical(payload, limits.STATUS, _WHAT), _FIELDS, _WHAT))
    if status.expires <= status.issued:
        raise DocumentError(f"status: expires at {clock.show(status.expires)}, before it is issued")
    return status


def seen(status: Status, data: bytes, signer: str) -> StatusSeen:
    """What a device remembers of a status with this content, signed by the key with this id."""
    return StatusSeen(status.epoch, status.issued, status.expires, hashlib.sha256(data).hexdigest(), signer)


def check_newer(status: StatusSeen, last: StatusSeen | None) -> None:
    """Return if a status may follow the last one; else raise StatusRollbackError."""
    if last is None or status.epoch > last.epoch:
        return
    if status.epoch < last.epoch:
        raise StatusRollbackError(f"the status has epoch {status.epoch}, this device has applied epoch {last.epoch}")
    if status != last:
        raise StatusRollbackError(f"another status of epoch {status.epoch} than the one that this device has applied")


def check_time(status: Status, when: datetime) -> None:
    """Return if a status holds at this time; else raise ClockSetBackError, StatusExpiredError."""
    moment = clock.timestamp(when)
    if moment < status.issued - clock.SKEW.total_seconds():
        raise ClockSetBackError(
            f"the clock shows {clock.show(moment)}, but the status was issued at {clock.show(status.issued)}: set the clock"
        )
    if moment >= status.expires:
        raise StatusExpiredError(
            f"the status of epoch {status.epoch} expired at {clock.show(status.expires)}, and it is "
            f"{clock.show(moment)}: apply a newer one (edgeq status apply)"
        )


def check(
    status: Status,
    *,
    model_id: str,
    version: int,
    keys: frozenset[str],
    grant_id: str | None,
    device: str,
    when: datetime,
) -> None:
    """Return if nothing in the status speaks against opening this version on this device with this grant at this time.

    `keys` are the ids of the keys that signed the bundle and the grant.

    Raises StatusExpiredError, RevokedKeyError, RevokedGrantError, RevokedDeviceError, MinimumVersionError.
    """
    check_time(status, when)
    check_keys(status, keys)
    if grant_id is not None and grant_id in status.revoked_grants:
        raise RevokedGrantError(f"the grant {grant_id} was revoked (status of epoch {status.epoch})")
    if device in status.revoked_devices:
        raise RevokedDeviceError(f"this device, {device[:16]}…, was revoked (status of epoch {status.epoch})")
    minimum = status.minimum_versions.get(model_id, 0)
    if version < minimum:
        raise MinimumVersionError(
            f"{model_id} version {version}: the minimum is {minimum} (status of epoch {status.epoch})"
        )


def check_keys(status: Status, keys: frozenset[str]) -> None:
    """Return if none of these keys was revoked; else raise RevokedKeyError."""
    for key in sorted(keys & status.revoked_keys):
        raise RevokedKeyError(f"the key {key[:16]}… was revoked (status of epoch {status.epoch})")


def _status(fields: Mapping[str, Any]) -> Status:
    return Status(
        authority=fields["authority"],
        epoch=fields["epoch"],
        issued=fields["issued"],
        expires=fields["expires"],
        minimum_versions=fields["minimum_versions"],
        revoked_devices=frozenset(fields["revoked_devices"]),
        revoked_grants=frozenset(fields["revoked_grants"]),
        revoked_keys=frozenset(fields["revoked_keys"]),
    )


def _envelope(data: bytes) -> dsse.Envelope:
    return dsse.from_json(strict.parse_canonical(data, limits.STATUS, _WHAT), _ENVELOPE_TYPE, _WHAT)
