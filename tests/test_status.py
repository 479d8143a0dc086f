"""Statuses: what they say, how one follows another, and what is refused when they are made or read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from trusted import LATER, NOW, edit_json, publisher, stranger, trust

from edgeq import limits, status, strict
from edgeq.errors import DocumentError, InputError, LengthError, SuiteError, TrustError, UntrustedKeyError
from edgeq.status import Status

SECOND = timedelta(seconds=1)
AUTHORITY = publisher().public.key_id
KEY, GRANT = "ab" * 32, "cd" * 16


def full() -> Status:
    """A status with something in every field."""
    first = status.first(AUTHORITY, now=NOW, expires=LATER)
    some = status.revoking(first, devices=frozenset({KEY, "01" * 32}), grants=frozenset({GRANT}), keys=frozenset({KEY}))
    return status.requiring(some, "acme/spotter", 3)


def test_the_first_one() -> None:
    """A first status has epoch 1 and takes nothing back."""
    first = status.first(AUTHORITY, now=NOW, expires=LATER)
    assert first == Status(AUTHORITY, 1, int(NOW.timestamp()), int(LATER.timestamp()))


def test_one_follows_another() -> None:
    """The next status has the next epoch, says the same, is issued now, and keeps the expiry unless told otherwise."""
    after = status.following(full(), now=NOW + SECOND)
    assert after == replace(full(), epoch=2, issued=int(NOW.timestamp()) + 1)
    assert status.following(full(), now=NOW, expires=LATER + SECOND).expires == int(LATER.timestamp()) + 1


def test_revocations_add_up() -> None:
    """What was revoked stays revoked, and what is revoked twice is listed once."""
    more = status.revoking(full(), grants=frozenset({GRANT, "ef" * 16}), devices=frozenset({"02" * 32}))
    assert more.revoked_grants == {GRANT, "ef" * 16}
    assert more.revoked_devices == {KEY, "01" * 32, "02" * 32}
    assert more.revoked_keys == {KEY}


def test_minimum_versions_only_rise() -> None:
    """A minimum version can be raised and repeated, and not lowered."""
    assert status.requiring(full(), "acme/spotter", 3) == full()
    assert status.requiring(full(), "acme/spotter", 4).minimum_versions == {"acme/spotter": 4}
    with pytest.raises(InputError, match="3 or higher"):
        status.requiring(full(), "acme/spotter", 2)


def test_a_status_must_have_time_to_hold() -> None:
    """A status that would expire before or when it is issued is not made."""
    for expires in (NOW, NOW - SECOND):
        with pytest.raises(InputError, match="give an expiry"):
            status.first(AUTHORITY, now=NOW, expires=expires)
    with pytest.raises(InputError, match="give an expiry"):
        status.following(full(), now=LATER)


def test_epochs_end() -> None:
    """There is a last epoch, and none after it."""
    with pytest.raises(InputError, match="last epoch"):
        status.following(replace(full(), epoch=limits.INTEGER), now=NOW)


def test_what_is_signed_verifies() -> None:
    """A status reads back equal under trust in its authority, in both ways, and writes to the same payload."""
    data = status.sign(full(), publisher())
    assert status.verify(data, trust()) == (full(), AUTHORITY)
    assert status.known(data) == status.unverified(data) == full()
    assert status.parse(strict.canonical(full().to_json())) == full()


def test_it_speaks_for_its_signer_only() -> None:
    """A status that names another authority than the key that signed it is refused."""
    with pytest.raises(UntrustedKeyError, match="does not speak for"):
        status.verify(status.sign(replace(full(), authority=KEY), publisher()), trust())


def test_the_largest_status_fits() -> None:
    """A status with every entry that it may have stays below the limit of its file."""

    def many(size: int) -> frozenset[str]:
        return frozenset(f"{i:0{2 * size}x}" for i in range(limits.STATUS_REVOKED))

    versions = {f"{i:x}".rjust(limits.MODEL_ID, "m"): limits.INTEGER for i in range(limits.STATUS_MODELS)}
    last = limits.INTEGER
    largest = Status(AUTHORITY, last, last // 2**20, 253_402_300_799, versions, many(32), many(16), many(32))
    data = status.sign(largest, publisher())
    assert len(data) <= limits.STATUS
    assert status.verify(data, trust())[0] == largest


FIELDS: list[tuple[str, Callable[[dict[str, Any]], object], type[TrustError]]] = [
    ("other format", lambda value: value.update(format="edgeq-status/2"), SuiteError),
    ("other suite", lambda value: value.update(suite="edgeq-2"), SuiteError),
    ("missing field", lambda value: value.pop("expires"), DocumentError),
    ("unknown field", lambda value: value.update(admin=True), DocumentError),
    ("epoch zero", lambda value: value.update(epoch=0), DocumentError),
    ("epoch as text", lambda value: value.update(epoch="1"), DocumentError),
    ("epoch as truth", lambda value: value.update(epoch=True), DocumentError),
    ("never expires", lambda value: value.update(expires=None), DocumentError),
    ("expires before it is issued", lambda value: value.update(expires=value["issued"]), DocumentError),
    ("short authority", lambda value: value.update(authority="00"), DocumentError),
    ("unsorted", lambda value: value["revoked_devices"].reverse(), DocumentError),
    ("listed twice", lambda value: value["revoked_grants"].append(GRANT), DocumentError),
    ("upper case", lambda value: value.update(revoked_keys=["AB" * 32]), DocumentError),
    ("a grant's id too long", lambda value: value.update(revoked_grants=[KEY]), DocumentError),
    ("two ids in a row", lambda value: value.update(revoked_grants=["00" * 8, "00" * 24]), DocumentError),
    ("a number in a list", lambda value: value.update(revoked_keys=[1]), DocumentError),
    ("nested list", lambda value: value.update(revoked_keys=[[KEY]]), DocumentError),
    ("no list", lambda value: value.update(revoked_keys=KEY), DocumentError),
    ("too many", lambda value: value.update(
        revoked_grants=[f"{i:032x}" for i in range(limits.STATUS_REVOKED + 1)]), LengthError),
    ("minimum version zero", lambda value: value["minimum_versions"].update(m=0), DocumentError),
    ("model by another name", lambda value: value["minimum_versions"].update({"": 1}), DocumentError),
    ("too many minimum versions", lambda value: value.update(
        minimum_versions={f"m{i}": 1 for i in range(limits.STATUS_MODELS + 1)}), LengthError),
]  # fmt: skip


@pytest.mark.parametrize(("change", "error"), [pytest.param(c, e, id=name) for name, c, e in FIELDS])
def test_status_fields(change: Callable[[Any], object], error: type[TrustError]) -> None:
    """A status with a field that is missing, unknown or out of bounds is refused when it is read."""
    with pytest.raises(error):
        status.parse(edit_json(strict.canonical(full().to_json()), change))


def test_what_no_reader_accepts_is_not_signed() -> None:
    """A status that readers would refuse is refused when it is signed."""
    with pytest.raises(DocumentError):
        status.sign(replace(full(), revoked_grants=frozenset({"x"})), publisher())
    with pytest.raises(UntrustedKeyError):
        status.verify(status.sign(full(), stranger()), trust())
