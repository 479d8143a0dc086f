"""The tamper matrix, rows 19 and 27: statuses that are old, expired or forged, and what a good one takes back."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from faults import failing_at_every_call, killed_at_every_call
from refusals import refused
from trusted import (
    LATER,
    NOW,
    Case,
    device,
    edit_json,
    good_case,
    granted,
    new_device,
    plain,
    publisher,
    sealed,
    stranger,
    trust,
)

from edgeq import device as devices
from edgeq import grant, status
from edgeq.audit import Event
from edgeq.device import Store
from edgeq.errors import (
    BadSignatureError,
    ClockSetBackError,
    EdgeqError,
    EncodingError,
    EnvelopeError,
    GrantOfflineError,
    GrantStatusError,
    MinimumVersionError,
    RevokedDeviceError,
    RevokedGrantError,
    RevokedKeyError,
    SignatureCountError,
    StateDamagedError,
    StateFullError,
    StatusExpiredError,
    StatusRollbackError,
    UntrustedKeyError,
)
from edgeq.keys import PublisherKey
from edgeq.state import StatusSeen
from edgeq.status import Status
from edgeq.trust import Trust

SECOND, DAY = timedelta(seconds=1), timedelta(days=1)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A fresh state directory of the device."""
    devices.init(tmp_path / "state", device(), now=NOW)
    return Store(tmp_path / "state", device())


def first(**changes: Any) -> Status:
    """The publisher's first status, with changes."""
    return replace(status.first(publisher().public.key_id, now=NOW, expires=LATER), **changes)


def signed(found: Status, key: PublisherKey | None = None) -> bytes:
    return status.sign(found, key or publisher())


def apply(store: Store, found: Status, now: datetime = NOW) -> None:
    store.apply_status(signed(found), trust(), now=now)


# --- row 19: an old or expired status ---------------------------------------------------------------------------------


def test_row_19_older_status(store: Store) -> None:
    """A status with a lower epoch than the last one applied is refused, however validly signed."""
    apply(store, first(epoch=5))
    for epoch in (1, 4):
        with refused(StatusRollbackError, match="epoch 5"):
            apply(store, first(epoch=epoch))
    apply(store, first(epoch=6))
    with refused(StatusRollbackError):
        apply(store, first(epoch=5))


def test_row_19_same_epoch(store: Store) -> None:
    """Another status of the epoch that was applied is refused; the very same one changes nothing."""
    data = signed(first(epoch=5))
    store.apply_status(data, trust(), now=NOW)
    before = store.read()
    store.apply_status(data, trust(), now=NOW)
    assert replace(store.read(), audit=before.audit) == before
    for other in (first(epoch=5, revoked_grants=frozenset({"00" * 16})), first(epoch=5)):  # the last: signed anew
        with refused(StatusRollbackError, match="another status"):
            apply(store, other)


def test_row_19_expired_status(store: Store) -> None:
    """A status that has expired is not applied, from the second on that it names."""
    for late in (timedelta(0), DAY):
        with refused(StatusExpiredError):
            apply(store, first(), now=LATER + late)
    apply(store, first(), now=LATER - SECOND)


@pytest.mark.parametrize("source", [sealed, plain], ids=["encrypted", "signed only"])
def test_row_19_status_expires_while_it_is_held(tmp_path: Path, store: Store, source: Callable[[], Any]) -> None:
    """Once the applied status has expired, nothing of its authority opens until a newer one is applied."""
    apply(store, first())
    case = good_case() if source is sealed else Case(plain().to_bytes(), None, device(), trust())
    case = case.but(state=store)
    assert case.but(now=LATER - SECOND).load(tmp_path)
    with refused(StatusExpiredError, match="edgeq status apply"):
        case.but(now=LATER).load(tmp_path)
    apply(store, first(epoch=2, expires=first().expires + 86_400), now=LATER)
    assert case.but(now=LATER).load(tmp_path)


def test_row_19_clock_before_the_issue(store: Store) -> None:
    """A status that was issued in the clock's future shows that the clock is behind, and is not applied."""
    later = first(issued=int((NOW + DAY).timestamp()))
    with refused(ClockSetBackError, match="set the clock"):
        apply(store, later)
    apply(store, later, now=NOW + DAY - timedelta(minutes=5))
    assert store.read().time == later.issued


def test_row_19_rolled_back_file(tmp_path: Path, store: Store) -> None:
    """Putting an older status's file in the place of the applied one is noticed."""
    old, new = signed(first()), signed(first(epoch=2))
    store.apply_status(old, trust(), now=NOW)
    (kept,) = store.folder.glob("status-*.json")
    store.apply_status(new, trust(), now=NOW)
    (path,) = store.folder.glob("status-*.json")
    assert path.name != kept.name
    for content in (old, b"", new[:-1], new + b" "):
        path.write_bytes(content)
        with refused(StateDamagedError):
            good_case().but(state=store.folder).load(tmp_path)
    path.unlink()
    with refused(StateDamagedError, match="cannot be read"):
        good_case().but(state=store.folder).load(tmp_path)
    path.write_bytes(new)
    assert good_case().but(state=store.folder).load(tmp_path)


def test_row_19_min_status_epoch(tmp_path: Path, store: Store) -> None:
    """A grant that asks for a status of an epoch opens once that epoch or a later one was applied."""
    case = good_case().but(grant=granted(sealed(), min_status_epoch=5), state=store)
    with refused(GrantStatusError, match="applied none"):
        case.load(tmp_path)
    apply(store, first(epoch=4))
    with refused(GrantStatusError, match="applied epoch 4"):
        case.load(tmp_path)
    for epoch in (5, 6):
        apply(store, first(epoch=epoch))
        assert case.load(tmp_path)


def test_row_19_max_offline_days(tmp_path: Path, store: Store) -> None:
    """A grant that asks for a fresh status opens until so many days after the issue of the newest one applied."""
    case = good_case().but(grant=granted(sealed(), max_offline_days=7), state=store)
    with refused(GrantOfflineError, match="applied none"):
        case.load(tmp_path)
    data = signed(first())
    store.apply_status(data, trust(), now=NOW)
    assert case.but(now=NOW + 7 * DAY).load(tmp_path)
    store.apply_status(data, trust(), now=NOW + 7 * DAY)  # the same again, which makes nothing fresh
    with refused(GrantOfflineError, match="2030-06-01"):
        case.but(now=NOW + 7 * DAY + SECOND).load(tmp_path)
    apply(store, first(epoch=2, issued=int((NOW + 7 * DAY).timestamp())), now=NOW + 7 * DAY)
    assert case.but(now=NOW + 14 * DAY).load(tmp_path)


def test_row_19_another_authoritys_status(tmp_path: Path, store: Store) -> None:
    """A status counts for the bundles of its own authority only: another trusted publisher's says nothing of them."""
    both = Trust((publisher().public, stranger().public))
    theirs = status.first(stranger().public.key_id, now=NOW, expires=LATER)
    theirs = status.revoking(replace(theirs, epoch=9), devices=frozenset({device().public.key_id}))
    store.apply_status(signed(theirs, stranger()), both, now=NOW)
    assert good_case().but(state=store).load(tmp_path)
    with refused(GrantStatusError):
        good_case().but(grant=granted(sealed(), min_status_epoch=5), state=store).load(tmp_path)


# --- row 8 and 9, for statuses: forged ones ---------------------------------------------------------------------------

FORGED: list[tuple[str, Callable[[dict[str, Any]], object], type[EdgeqError], int]] = [
    ("other payload", lambda value: value.update(payload="e30="), BadSignatureError, 8),
    ("other key id", lambda value: value["signatures"][0].update(keyid="00" * 32), UntrustedKeyError, 8),
    ("no key id", lambda value: value["signatures"][0].update(keyid=""), UntrustedKeyError, 8),
    ("no signature", lambda value: value.update(signatures=[]), SignatureCountError, 9),
    ("empty signature", lambda value: value["signatures"][0].update(sig=""), SignatureCountError, 9),
    ("signature twice", lambda value: value["signatures"].append(value["signatures"][0]), SignatureCountError, 9),
    (
        "a grant's type",
        lambda value: value.update(payloadType="application/vnd.edgeq.grant.v1+json"),
        EnvelopeError,
        10,
    ),
    (
        "base64 without padding",
        lambda value: value.update(payload=value["payload"].rstrip("=") + "A"),
        EncodingError,
        13,
    ),
]


@pytest.mark.parametrize(("change", "error", "row"), [pytest.param(c, e, r, id=name) for name, c, e, r in FORGED])
def test_forged_status(store: Store, change: Callable[[Any], object], error: type[EdgeqError], row: int) -> None:
    """A status whose envelope was changed in any way is refused, and the state stays as it was."""
    before = store.read()
    with refused(error, row=row):
        store.apply_status(edit_json(signed(first(epoch=3, issued=first().issued - 1)), change), trust(), now=NOW)
    assert store.read() == before


def test_row_08_strangers_status(store: Store) -> None:
    """A status by a key that is not trusted is refused, and one by another trusted key in this one's name."""
    theirs = status.first(stranger().public.key_id, now=NOW, expires=LATER)
    with refused(UntrustedKeyError):
        store.apply_status(signed(theirs, stranger()), trust(), now=NOW)
    both = Trust((publisher().public, stranger().public))
    with refused(UntrustedKeyError, match="does not speak for"):
        store.apply_status(signed(first(), stranger()), both, now=NOW)


def test_row_10_grant_as_a_status(store: Store) -> None:
    """A grant, signed by the same key, is no status."""
    with refused(EnvelopeError):
        store.apply_status(granted(sealed()), trust(), now=NOW)


def test_authorities_have_a_limit(store: Store) -> None:
    """A state that knows as many authorities as it has room for takes no more."""
    seen = StatusSeen(1, 1, 2, "00" * 32, "00" * 32)
    crowd = {f"{i:064x}": seen for i in range(16)}
    store.update(lambda before: replace(before, statuses=crowd), Event("checkpoint"), NOW)
    with pytest.raises(StateFullError):
        apply(store, first())


# --- row 27: what was revoked -----------------------------------------------------------------------------------------


def test_row_27_revoked_grant(tmp_path: Path, store: Store) -> None:
    """A revoked grant opens nothing; another grant for the same bundle does."""
    held, other = granted(sealed()), granted(sealed())
    case = good_case().but(state=store)
    assert case.but(grant=held).load(tmp_path)
    apply(store, first(revoked_grants=frozenset({grant.unverified(held).grant_id})))
    with refused(RevokedGrantError):
        case.but(grant=held).load(tmp_path)
    assert case.but(grant=other).load(tmp_path)


@pytest.mark.parametrize("encrypt", [True, False], ids=["encrypted", "signed only"])
def test_row_27_revoked_device(tmp_path: Path, store: Store, encrypt: bool) -> None:
    """A revoked device opens nothing, not even what is only signed; other devices do."""
    apply(store, first(revoked_devices=frozenset({device().public.key_id})))
    case = good_case() if encrypt else Case(plain().to_bytes(), None, device(), trust())
    with refused(RevokedDeviceError):
        case.but(state=store).load(tmp_path)
    other = new_device()
    devices.init(tmp_path / "other", other, now=NOW)
    theirs = Store(tmp_path / "other", other)
    apply(theirs, first(revoked_devices=frozenset({device().public.key_id})))
    assert case.but(
        state=theirs, identity=other, grant=granted(sealed(), to=other) if encrypt else None
    ).load(tmp_path)  # fmt: skip


@pytest.mark.parametrize("encrypt", [True, False], ids=["encrypted", "signed only"])
def test_row_27_revoked_signer(tmp_path: Path, store: Store, encrypt: bool) -> None:
    """Nothing that a revoked key has signed opens."""
    apply(store, first(revoked_keys=frozenset({publisher().public.key_id})))
    case = good_case() if encrypt else Case(plain().to_bytes(), None, device(), trust())
    with refused(RevokedKeyError):
        case.but(state=store).load(tmp_path)


def test_row_27_revoked_key_signs_a_status(store: Store) -> None:
    """A key that was revoked cannot take that back: its later statuses are not applied."""
    apply(store, first(revoked_keys=frozenset({publisher().public.key_id})))
    with refused(RevokedKeyError):
        apply(store, first(epoch=2))


@pytest.mark.parametrize("encrypt", [True, False], ids=["encrypted", "signed only"])
def test_row_27_minimum_version(tmp_path: Path, store: Store, encrypt: bool) -> None:
    """A version below the minimum of its model does not open; the minimum itself and other models do."""
    case = good_case() if encrypt else Case(plain().to_bytes(), None, device(), trust())
    apply(store, first(minimum_versions={"acme/spotter": 3, "acme/other": 9}))
    assert case.but(state=store).load(tmp_path)
    apply(store, first(epoch=2, minimum_versions={"acme/spotter": 4}))
    with refused(MinimumVersionError, match="the minimum is 4"):
        case.but(state=store).load(tmp_path)


def test_row_27_revoked_between_check_and_count(tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A revocation that is applied while a model is being decrypted still keeps it in."""
    held = granted(sealed())
    remember = Store.remember

    def revoke_first(self: Store, request: Any) -> None:
        apply(Store(store.folder, device()), first(revoked_grants=frozenset({grant.unverified(held).grant_id})))
        remember(self, request)

    monkeypatch.setattr(Store, "remember", revoke_first)
    with refused(RevokedGrantError):
        good_case().but(grant=held, state=store).load(tmp_path)
    assert not store.read().models


# --- applying is all or nothing ---------------------------------------------------------------------------------------


def test_killed_while_applying(tmp_path: Path, store: Store) -> None:
    """A process that is killed at any disk call of applying leaves the old status or the new one, whole."""
    case, epoch = good_case().but(state=store.folder), [1]
    apply(store, first())

    def work() -> None:
        apply(Store(store.folder, device()), first(epoch=epoch[0] + 1))

    def check(_: int) -> None:
        found = store.read().statuses[publisher().public.key_id].epoch
        assert found in (epoch[0], epoch[0] + 1)
        epoch[0] = found
        assert case.load(tmp_path)
        assert len(list(store.folder.glob("status-*.json"))) == 1

    assert killed_at_every_call(work, check) > 8


@pytest.mark.parametrize("reason", [errno.ENOSPC, errno.EIO], ids=errno.errorcode.get)
def test_disk_that_refuses_while_applying(tmp_path: Path, store: Store, reason: int) -> None:
    """With a disk that is full or broken, at whichever step, the old status or the new one holds, and the error is clear."""
    case = good_case().but(state=store.folder)
    apply(store, first())

    def work() -> None:
        last = store.read().statuses[publisher().public.key_id]
        apply(store, first(epoch=last.epoch + 1))

    for raised in failing_at_every_call(work, reason):
        if raised is not None:
            assert isinstance(raised, EdgeqError), raised
        assert case.load(tmp_path)


def test_status_file_for_many_processes(tmp_path: Path, store: Store) -> None:
    """Opening while another process applies one status after the other never finds a status missing."""
    apply(store, first())
    case = good_case().but(state=store.folder)
    child = os.fork()
    if not child:
        try:
            for epoch in range(2, 60):
                apply(Store(store.folder, device()), first(epoch=epoch))
        except BaseException:
            os._exit(1)
        os._exit(0)
    done = 0
    while not os.waitpid(child, os.WNOHANG)[0]:
        assert case.load(tmp_path)
        done += 1
    assert done > 3
    assert store.read().statuses[publisher().public.key_id].epoch == 59
