"""Grants: what one device may do with one bundle, signed by the bundle's publisher, with the content key wrapped inside.

`issue` is the publisher's side; `verify`, then `check`, then `open_key` the device's, in this order. Time is an argument.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from edgeq import dsse, errors, limits, strict
from edgeq.bundle import PAYLOAD_FILE, Signed, Verified
from edgeq.clock import DAY, SKEW, show, timestamp
from edgeq.errors import InputError
from edgeq.fields import KEY_ID, MODEL_ID, OPERATIONS, SOME_OPERATIONS, SUITE, TIME, VERSION
from edgeq.keys import PublisherKey
from edgeq.manifest import Manifest
from edgeq.recipients import WRAPPED_KEY_SIZES, ContentKey, Identity, Recipient
from edgeq.records import dataclass, field, replace
from edgeq.stream import check_commitment
from edgeq.trust import Trust

if TYPE_CHECKING:
    from edgeq.state import State

FORMAT: Final = "edgeq-grant/1"

CLOCK_SKEW: Final = SKEW
"""How far before its issue a grant starts by default, for a device whose clock is a little slow."""

_WHAT: Final = "grant"
_ENVELOPE_TYPE: Final = "application/vnd.edgeq.grant.v1+json"
_WRAP_LABEL: Final = b"edgeq-grant/1 device key\x00"


_FIELDS: Final[dict[str, strict.Check]] = {
    "format": strict.only(FORMAT),
    "suite": strict.only(SUITE),
    "grant_id": strict.hexadecimal(16),
    "issuer": KEY_ID,
    "model_id": MODEL_ID,
    "min_version": VERSION,
    "max_version": VERSION,
    "payload_sha256": strict.hexadecimal(32),
    "device": KEY_ID,
    "operations": SOME_OPERATIONS,
    "not_before": TIME,
    "expires": strict.optional(TIME),
    "max_loads": strict.optional(strict.integer(1, limits.INTEGER)),
    "max_offline_days": strict.optional(strict.integer(1, 36_500)),
    "min_status_epoch": strict.optional(strict.integer(0, limits.INTEGER)),
    "wrapped_key": strict.encoded(*WRAPPED_KEY_SIZES),
}


@dataclass(frozen=True)
class Grant:
    """A grant's fields, as docs/bundle-format.md describes them; times in Unix seconds, None where there is no bound."""

    grant_id: str
    issuer: str
    model_id: str
    min_version: int
    max_version: int
    payload_sha256: str
    device: str
    operations: tuple[str, ...]
    not_before: int
    expires: int | None = None
    max_loads: int | None = None
    max_offline_days: int | None = None
    min_status_epoch: int | None = None
    wrapped_key: bytes = field(default=b"", repr=False)

    def to_json(self) -> dict[str, Any]:
        """The grant as a JSON value."""
        fields = {name: getattr(self, name) for name in _FIELDS if name not in ("format", "suite")}
        fields["operations"] = list(self.operations)
        fields["wrapped_key"] = strict.to_base64(self.wrapped_key)
        return {"format": FORMAT, "suite": SUITE, **fields}

    def wrap_info(self) -> bytes:
        """What binds the wrapped key to the rest of this grant (HPKE's info)."""
        fields = self.to_json()
        del fields["wrapped_key"]
        return _WRAP_LABEL + hashlib.sha256(strict.canonical(fields)).digest()


# --- the publisher's side ---------------------------------------------------------------------------------------------


def issue(
    bundle: Verified,
    key: PublisherKey,
    device: Recipient,
    allow: Collection[str],
    *,
    now: datetime,
    expires: datetime | None = None,
    not_before: datetime | None = None,
    versions: tuple[int, int] | None = None,
    max_loads: int | None = None,
    max_offline_days: int | None = None,
    min_status_epoch: int | None = None,
    held: Grant | None = None,
) -> bytes:
    """The .eqg file that lets `device` do what `allow` lists (of OPERATIONS) with `bundle`, signed by `key`.

    `bundle` comes from edgeq.loader.verify or edgeq.bundle.verify, so it is whole. By default the grant starts CLOCK_SKEW
    before `now`, never expires, and covers the bundle's own version only. If `key` is not the bundle's publisher but an
    issuer, `held` is the publisher's grant to it, verified: what it does not have, it cannot give.

    Raises InputError for an empty or unknown operation, for times that leave no moment, and for a bundle that is not
    encrypted, which needs no grant; GrantIssuerError if another key signed the bundle and there is no `held`, and what
    `check` raises for one that does not allow this.
    """
    manifest = bundle.manifest
    if manifest is None or manifest.encryption is None:
        raise InputError("the model is not encrypted: whoever trusts its signer may use it, and no grant is needed")
    if bundle.key_id != key.public.key_id and held is None:
        raise errors.GrantIssuerError(
            f"the bundle was signed by key {bundle.key_id[:16]}…, a grant for it cannot be issued by "
            f"{key.public.key_id[:16]}… without one to hand on"
        )
    if not allow or not set(allow) <= set(OPERATIONS):
        raise InputError(f"expected operations of {', '.join(OPERATIONS)}, found {', '.join(sorted(allow))[:64]!a}")
    lowest, highest = versions or (manifest.version, manifest.version)
    start = timestamp(now - CLOCK_SKEW if not_before is None else not_before)
    end = None if expires is None else timestamp(expires)
    if end is not None and end <= max(start, timestamp(now)):
        raise InputError("the grant would expire before it starts")
    grant = Grant(
        grant_id=os.urandom(16).hex(),
        issuer=key.public.key_id,
        model_id=manifest.model_id,
        min_version=lowest,
        max_version=highest,
        payload_sha256=bundle.digests[PAYLOAD_FILE],
        device=device.key_id,
        operations=tuple(sorted(set(allow))),
        not_before=start,
        expires=end,
        max_loads=max_loads,
        max_offline_days=max_offline_days,
        min_status_epoch=min_status_epoch,
    )
    if held is None:
        content_key = _publisher_key(manifest, key)
    else:
        _check_handed_on(held, bundle, key, grant, now)
        content_key = open_key(held, key.identity, manifest)
    return sign(replace(grant, wrapped_key=device.wrap(content_key, grant.wrap_info())), key)


def sign(grant: Grant, key: PublisherKey) -> bytes:
    """The .eqg file of a finished grant. Raises as `parse` does for one that no reader would accept."""
    payload = strict.canonical(grant.to_json())
    parse(payload)
    signature = key.sign(dsse.pae(_ENVELOPE_TYPE, payload))
    return strict.canonical(dsse.Envelope(payload, _ENVELOPE_TYPE, signature, key.public.key_id).to_json())


def _check_handed_on(held: Grant, bundle: Verified, key: PublisherKey, grant: Grant, now: datetime) -> None:
    """Return if the publisher's grant to this issuer allows all that the issuer's grant would, and as long."""
    publisher, issuer = Trust((bundle.signer,)), key.identity.public.key_id
    check(held, bundle.signed, publisher, device=issuer, operations=grant.operations, now=now)
    if held.expires is not None and (grant.expires is None or grant.expires > held.expires):
        raise InputError(f"the grant to hand on expires at {show(held.expires)}: expected an expiry that is no later")


def _publisher_key(manifest: Manifest, key: PublisherKey) -> ContentKey:
    """The content key that the bundle keeps for its publisher."""
    encryption = manifest.encryption
    if encryption is None or encryption.publisher != key.wrapping.key_id:
        raise errors.WrappedKeyError("the bundle's content key was wrapped for another publisher's key")
    content_key = key.unwrap(encryption.wrapped_key, manifest.wrap_info())
    check_commitment(content_key, bytes.fromhex(manifest.bundle_id), bytes.fromhex(encryption.commitment))
    return content_key


# --- the device's side ------------------------------------------------------------------------------------------------


def verify(data: bytes, trust: Trust) -> Grant:
    """The grant in an .eqg file, if a trusted publisher or issuer signed it. What it allows is for `check` to say.

    Raises LengthError, EncodingError, DocumentError, SuiteError for what is malformed; EnvelopeError,
    SignatureCountError, UntrustedKeyError, BadSignatureError for what is not a trusted signature.
    """
    envelope = _envelope(data)
    issuer = trust.issuer(envelope.keyid)
    issuer.verify(envelope.signed_bytes, envelope.signature)
    grant = parse(envelope.payload)
    if grant.issuer != issuer.key_id:
        raise errors.UntrustedKeyError(f"grant: signed by key {issuer.key_id[:16]}…, but it names {grant.issuer[:16]}…")
    return grant


def unverified(data: bytes) -> Grant:
    """The grant that an .eqg file claims to be, whoever signed it: for display, never for a decision."""
    return parse(_envelope(data).payload)


def parse(payload: bytes) -> Grant:
    """The grant that a signed payload spells; raises LengthError, EncodingError, DocumentError, SuiteError."""
    fields = strict.record(strict.parse_canonical(payload, limits.GRANT, _WHAT), _FIELDS, _WHAT)
    del fields["format"], fields["suite"]
    grant = Grant(**fields)
    if grant.min_version > grant.max_version:
        raise errors.DocumentError(f"grant: versions from {grant.min_version} to {grant.max_version} are none")
    return grant


def check(
    grant: Grant,
    signed: Signed,
    trust: Trust,
    *,
    device: str,
    operations: Collection[str],
    now: datetime,
    state: State | None = None,
) -> None:
    """Return if the grant lets the device with this key id do all of `operations` with this bundle at this time.

    Else raise the GrantError that says which field stands against it, or the DelegationError that says why its issuer may
    not grant that. `state` is what the device remembers; without it a condition that needs it is against it too, since
    nobody could tell whether it holds.
    """
    manifest = signed.manifest
    moment = timestamp(now)
    trust.check_issuer(grant.issuer, signed.signer.key_id, manifest.model_id, grant.operations, now)
    if grant.model_id != manifest.model_id:
        raise errors.GrantModelError(
            f"the grant is for model {grant.model_id!a}, the bundle holds {manifest.model_id!a}"
        )
    if not grant.min_version <= manifest.version <= grant.max_version:
        raise errors.GrantVersionError(
            f"the grant covers versions {grant.min_version} to {grant.max_version}, the bundle is {manifest.version}"
        )
    if grant.payload_sha256 != signed.payload_sha256:
        raise errors.GrantPayloadError("the grant is for another bundle: the digests of the payload differ")
    if grant.device != device:
        raise errors.GrantDeviceError(f"the grant is for device {grant.device[:16]}…, this is {device[:16]}…")
    for operation in operations:
        if operation not in grant.operations:
            raise errors.GrantOperationError(f"the grant allows {', '.join(grant.operations)}, not {operation}")
    if moment < grant.not_before:
        raise errors.GrantNotYetValidError(
            f"the grant starts at {show(grant.not_before)}, the clock says {show(moment)}; is the clock set?"
        )
    if grant.expires is not None and moment >= grant.expires:
        raise errors.GrantExpiredError(f"the grant expired at {show(grant.expires)}, the clock says {show(moment)}")
    _check_conditions(grant, trust.authority(signed.signer.key_id), moment, state)


def _check_conditions(grant: Grant, authority: str, moment: int, state: State | None) -> None:
    """The fields that only a device with a memory can hold."""
    if state is None:
        for name in ("max_loads", "max_offline_days", "min_status_epoch"):
            if getattr(grant, name) is not None:
                raise errors.GrantConditionError(
                    f"the grant sets {name}, which needs a device state (--state), and none was given"
                )
        return
    if grant.max_loads is not None and state.count(grant.grant_id) >= grant.max_loads:
        raise errors.GrantLoadsError(f"the loads that the grant allows ({grant.max_loads}) are used up")
    status = state.statuses.get(authority)
    if grant.min_status_epoch is not None and (status is None or status.epoch < grant.min_status_epoch):
        found = "none" if status is None else f"epoch {status.epoch}"
        raise errors.GrantStatusError(
            f"the grant asks for a status of epoch {grant.min_status_epoch} or newer, this device has applied {found}"
        )
    if grant.max_offline_days is not None:
        if status is None:
            raise errors.GrantOfflineError(
                f"the grant asks for a status of the last {grant.max_offline_days} days, this device has applied none"
            )
        if moment - status.issued > grant.max_offline_days * DAY:
            raise errors.GrantOfflineError(
                f"the grant asks for a status of the last {grant.max_offline_days} days, the newest that this device has "
                f"applied is of {show(status.issued)}"
            )


def open_key(grant: Grant, identity: Identity, manifest: Manifest) -> ContentKey:
    """The content key in a grant that was checked; raises WrappedKeyError, KeyCommitmentError."""
    key = identity.unwrap(grant.wrapped_key, grant.wrap_info())
    if manifest.encryption is None:
        raise errors.WrappedKeyError("the bundle is not encrypted, so the grant's key opens nothing in it")
    check_commitment(key, bytes.fromhex(manifest.bundle_id), bytes.fromhex(manifest.encryption.commitment))
    return key


def _envelope(data: bytes) -> dsse.Envelope:
    return dsse.from_json(strict.parse_canonical(data, limits.GRANT, _WHAT), _ENVELOPE_TYPE, _WHAT)
