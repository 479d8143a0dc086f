"""The tamper matrix, rows 6, 22 to 24 and 29: grants, and the keys inside them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import x25519
from refusals import refused
from trusted import (
    LATER,
    NOW,
    content_key,
    device,
    edit_json,
    good_case,
    granted,
    new_device,
    publisher,
    regranted,
    sealed,
    signed_again,
    trust,
)

from edgeq import bundle, grant, keys, manifest, strict
from edgeq.errors import (
    BadSignatureError,
    DocumentError,
    GrantConditionError,
    GrantDeviceError,
    GrantExpiredError,
    GrantModelError,
    GrantNotYetValidError,
    GrantOperationError,
    GrantPayloadError,
    GrantVersionError,
    InputError,
    KeyCommitmentError,
    KeyFileError,
    LengthError,
    NoGrantError,
    SuiteError,
    TrustError,
    WrappedKeyError,
)
from edgeq.grant import Grant
from edgeq.recipients import ContentKey, DeviceKey

# --- row 6: wrong keys ------------------------------------------------------------------------------------------------


def rewrapped(held: Grant, key: ContentKey, to: keys.Recipient) -> Grant:
    """The grant with another wrapped key, bound to it as it should be."""
    return replace(held, wrapped_key=to.wrap(key, held.wrap_info()))


def test_row_06_wrapped_for_another_device(tmp_path: Path) -> None:
    """A key that was wrapped for another device does not open, even if the grant names this one."""
    forged = regranted(granted(sealed()), lambda held: rewrapped(held, content_key(sealed()), new_device().public))
    with refused(WrappedKeyError):
        good_case().but(grant=forged).load(tmp_path)


def test_row_06_key_of_another_bundle(tmp_path: Path) -> None:
    """A content key that unwraps, but belongs to another bundle, is refused by the key commitment."""
    other = content_key(sealed(version=4))
    forged = regranted(granted(sealed()), lambda held: rewrapped(held, other, device().public))
    with refused(KeyCommitmentError):
        good_case().but(grant=forged).load(tmp_path)


def test_row_06_commitment_of_another_key(tmp_path: Path) -> None:
    """A manifest that commits to another key than the payload's is refused before the payload is touched."""
    edited = edit_json(sealed().manifest, lambda value: value["encryption"].update(commitment="00" * 32))
    again = signed_again(replace(sealed(), manifest=edited))
    with refused(KeyCommitmentError):
        good_case().but(data=again.to_bytes()).load(tmp_path)


def test_row_06_publishers_own_copy_is_bound() -> None:
    """The publisher's own wrapped key opens under its own manifest only."""
    other = manifest.parse(sealed(version=4).manifest).encryption
    assert other is not None
    verified = bundle.verify(sealed(), trust())
    assert verified.manifest is not None
    assert verified.manifest.encryption is not None
    moved = replace(verified.manifest.encryption, wrapped_key=other.wrapped_key)
    mixed = replace(verified, manifest=replace(verified.manifest, encryption=moved))
    with refused(WrappedKeyError):
        grant.issue(mixed, publisher(), device().public, ["load"], now=NOW)


# --- row 22: a grant for something else -------------------------------------------------------------------------------


def test_row_22_other_device(tmp_path: Path) -> None:
    """A grant for one device does not open the bundle on another."""
    with refused(GrantDeviceError):
        good_case().but(identity=new_device()).load(tmp_path)


def test_row_22_other_model(tmp_path: Path) -> None:
    """A grant for one model does not open another."""
    with refused(GrantModelError):
        good_case().but(grant=granted(sealed(model_id="acme/other"))).load(tmp_path)


def test_row_22_other_version(tmp_path: Path) -> None:
    """A grant for one version does not open another."""
    with refused(GrantVersionError):
        good_case().but(grant=granted(sealed(version=4))).load(tmp_path)


@pytest.mark.parametrize("versions", [(1, 2), (4, 9)])
def test_row_22_version_range(tmp_path: Path, versions: tuple[int, int]) -> None:
    """Both ends of a grant's range of versions count."""
    with refused(GrantVersionError):
        good_case().but(grant=granted(sealed(), versions=versions)).load(tmp_path)


def test_row_22_other_bundle_of_the_same_version(tmp_path: Path) -> None:
    """A grant for one bundle does not open another bundle of the same model and version."""
    twin = sealed.__wrapped__()
    with refused(GrantPayloadError):
        good_case().but(grant=granted(twin)).load(tmp_path)


@pytest.mark.parametrize("operation", grant.OPERATIONS)
def test_row_22_operation(tmp_path: Path, operation: str) -> None:
    """Each operation needs to be granted itself; none implies another."""
    others = tuple(name for name in grant.OPERATIONS if name != operation)
    with refused(GrantOperationError):
        good_case().but(grant=granted(sealed(), allow=others), operation=operation).load(tmp_path)
    allowed = good_case().but(grant=granted(sealed(), allow=(operation,)), operation=operation)
    assert allowed.load(tmp_path)


def test_row_22_unknown_operation(tmp_path: Path) -> None:
    """An operation that no grant can allow is allowed by none."""
    everything = granted(sealed(), allow=grant.OPERATIONS)
    with refused(GrantOperationError):
        good_case().but(grant=everything, operation="train").load(tmp_path)


@pytest.mark.parametrize("missing", ["grant", "identity"])
def test_row_22_nothing_given(tmp_path: Path, missing: str) -> None:
    """An encrypted bundle without a grant or without an identity does not open."""
    with refused(NoGrantError):
        good_case().but(**{missing: None}).load(tmp_path)


@pytest.mark.parametrize("condition", ["max_loads", "max_offline_days", "min_status_epoch"])
def test_condition_that_cannot_be_held(tmp_path: Path, condition: str) -> None:
    """A condition that needs a device state is refused where there is none, not skipped."""
    with pytest.raises(GrantConditionError, match=condition):
        good_case().but(grant=granted(sealed(), **{condition: 1})).load(tmp_path)


EDITED = [
    ("device", "00" * 32),
    ("model_id", "acme/spotted"),
    ("expires", None),
    ("operations", ["calibrate", "debug", "export", "load"]),
    ("max_version", 9),
    ("max_loads", None),
]


@pytest.mark.parametrize(("field", "value"), EDITED, ids=[field for field, _ in EDITED])
def test_row_22_edited_grant(tmp_path: Path, field: str, value: Any) -> None:
    """No field of a grant can be edited: the signature does not fit, and were it made to fit, the key does not open."""
    held = grant.unverified(granted(sealed(), expires=LATER, max_loads=5))
    edited = replace(held, **{field: tuple(value) if isinstance(value, list) else value})
    original, envelope = granted(sealed()), grant.sign(edited, publisher())

    def keep_signature(parsed: Any) -> None:
        parsed["signatures"] = json.loads(original)["signatures"]

    with refused(BadSignatureError):
        good_case().but(grant=edit_json(envelope, keep_signature)).load(tmp_path)
    with refused(WrappedKeyError):
        device().unwrap(edited.wrapped_key, edited.wrap_info())


# --- row 23: a transplanted key ---------------------------------------------------------------------------------------


def test_row_23_transplanted_key(tmp_path: Path) -> None:
    """A wrapped key moved from a device's one grant to its other, for the same bundle, does not open."""
    narrow, wide = granted(sealed(), allow=("load",)), granted(sealed(), allow=("export", "load"))
    taken = grant.unverified(narrow).wrapped_key
    forged = regranted(wide, lambda held: replace(held, wrapped_key=taken))
    with refused(WrappedKeyError):
        good_case().but(grant=forged, operation="export").load(tmp_path)


def test_row_23_publishers_key_in_a_grant(tmp_path: Path) -> None:
    """The key that the bundle keeps for its publisher does not open from inside a grant."""
    encryption = manifest.parse(sealed().manifest).encryption
    assert encryption is not None
    forged = regranted(granted(sealed()), lambda held: replace(held, wrapped_key=encryption.wrapped_key))
    with refused(WrappedKeyError):
        good_case().but(grant=forged).load(tmp_path)


# --- row 24: time -----------------------------------------------------------------------------------------------------


def test_row_24_expired(tmp_path: Path) -> None:
    """A grant opens until the second before it expires, and not from that second on."""
    case = good_case().but(grant=granted(sealed(), expires=LATER))
    assert case.but(now=LATER - timedelta(seconds=1)).load(tmp_path)
    for late in (timedelta(0), timedelta(days=3650)):
        with refused(GrantExpiredError):
            case.but(now=LATER + late).load(tmp_path)


def test_row_24_not_yet_valid(tmp_path: Path) -> None:
    """A grant opens from its start on, and not a second before."""
    case = good_case().but(grant=granted(sealed(), not_before=LATER))
    assert case.but(now=LATER).load(tmp_path)
    with refused(GrantNotYetValidError):
        case.but(now=LATER - timedelta(seconds=1)).load(tmp_path)


@pytest.mark.parametrize("year", [1, 1969, 1970, 2029])
def test_row_24_clock_before_the_grant(tmp_path: Path, year: int) -> None:
    """A clock that was never set, or was set back before the grant was issued, opens nothing."""
    with refused(GrantNotYetValidError, match="is the clock set"):
        good_case().but(now=datetime(year, 1, 1, tzinfo=timezone.utc)).load(tmp_path)


def test_row_24_time_without_a_zone(tmp_path: Path) -> None:
    """A time whose zone is not known is refused."""
    with refused(InputError, match="zone"):
        good_case().but(now=datetime(2030, 6, 1, 12)).load(tmp_path)


# --- row 29: shares that give nothing ---------------------------------------------------------------------------------

LOW_ORDER = {
    "zero": bytes(32),
    "one": b"\x01" + bytes(31),
    "order 8": bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
    "p": bytes.fromhex("edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
}
"""X25519 points under which every shared secret is zero (RFC 7748, section 6.1)."""


@pytest.mark.parametrize("share", LOW_ORDER.values(), ids=LOW_ORDER)
def test_row_29_share_of_low_order(tmp_path: Path, share: bytes) -> None:
    """A wrapped key whose share makes the secret zero for everybody is refused."""
    classical = DeviceKey.generate(hybrid=False)
    for to, start in ((classical, 0), (device(), len(granted_key(device())) - 32 - 48)):

        def forge(held: Grant, start: int = start) -> Grant:
            key = held.wrapped_key
            return replace(held, wrapped_key=key[:start] + share + key[start + 32 :])

        forged = regranted(granted(sealed(), to=to), forge)
        with refused(WrappedKeyError):
            good_case().but(grant=forged, identity=to).load(tmp_path)


def granted_key(to: DeviceKey) -> bytes:
    """The wrapped key in a grant for this device."""
    return grant.unverified(granted(sealed(), to=to)).wrapped_key


@pytest.mark.parametrize("share", LOW_ORDER.values(), ids=LOW_ORDER)
def test_row_29_public_key_of_low_order(share: bytes) -> None:
    """A device key for which every wrap would be open to all is refused when it is read."""
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    data = x25519.X25519PublicKey.from_public_bytes(share).public_bytes(serialization.Encoding.PEM, form)
    with refused(KeyFileError, match="low order"):
        keys.parse_device_public(data)


@pytest.mark.parametrize("size", [0, 32, 79, 81, 112, 1167, 1169])
def test_row_29_wrapped_key_of_another_length(tmp_path: Path, size: int) -> None:
    """A wrapped key of another length, the hybrid ML-KEM one's too, is refused before any of it is used."""
    value = grant.unverified(granted(sealed())).to_json()
    value["wrapped_key"] = strict.to_base64(bytes(size))
    with refused(LengthError):
        grant.parse(strict.canonical(value))


# --- a grant's own fields ---------------------------------------------------------------------------------------------

FIELDS: list[tuple[str, Callable[[dict[str, Any]], object], type[TrustError]]] = [
    ("other format", lambda value: value.update(format="edgeq-grant/2"), SuiteError),
    ("other suite", lambda value: value.update(suite="edgeq-2"), SuiteError),
    ("missing field", lambda value: value.pop("expires"), DocumentError),
    ("unknown field", lambda value: value.update(admin=True), DocumentError),
    ("no operation", lambda value: value.update(operations=[]), DocumentError),
    ("unknown operation", lambda value: value.update(operations=["load", "train"]), DocumentError),
    ("unsorted operations", lambda value: value.update(operations=["load", "debug"]), DocumentError),
    ("doubled operation", lambda value: value.update(operations=["load", "load"]), DocumentError),
    ("operations as text", lambda value: value.update(operations="load"), DocumentError),
    ("nested operations", lambda value: value.update(operations=[["load"]]), DocumentError),
    ("versions backwards", lambda value: value.update(min_version=4), DocumentError),
    ("no loads", lambda value: value.update(max_loads=0), DocumentError),
    ("negative time", lambda value: value.update(not_before=-1), DocumentError),
    ("time as text", lambda value: value.update(expires="2030-01-01"), DocumentError),
    ("short device", lambda value: value.update(device="00"), DocumentError),
]


@pytest.mark.parametrize(("change", "error"), [pytest.param(c, e, id=name) for name, c, e in FIELDS])
def test_grant_fields(change: Callable[[Any], object], error: type[TrustError]) -> None:
    """A grant with a field that is missing, unknown or out of bounds is refused."""
    with pytest.raises(error):
        grant.parse(edit_json(strict.canonical(grant.unverified(granted(sealed())).to_json()), change))
