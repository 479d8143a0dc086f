"""The tamper matrix, rows 18 and 24 to 26: older versions, clocks, counted loads, and the state that remembers them."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from faults import failing_at_every_call, killed_at_every_call, killed_at_random
from refusals import note, refused
from trusted import LATER, NOW, Case, device, good_case, granted, model, new_device, publisher, sealed, trust

from edgeq import device as devices
from edgeq import seal, state
from edgeq.device import STATE_FILE, Store
from edgeq.errors import (
    ClockSetBackError,
    ClockUnsetError,
    EdgeqError,
    GrantConditionError,
    GrantDeviceError,
    GrantExpiredError,
    GrantLoadsError,
    GrantNotYetValidError,
    NoGrantError,
    OutputError,
    RollbackError,
    StateDamagedError,
    StateDeviceError,
    StateError,
    StateMissingError,
    UnsignedError,
    VersionReuseError,
)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A fresh state directory of the device."""
    devices.init(tmp_path / "state", device(), now=NOW)
    return Store(tmp_path / "state", device())


def version(number: int, *, encrypt: bool = True, size: int = 1000) -> Case:
    """A case that loads a version of a model."""
    source = seal.seal(model(size), publisher(), model_id="acme/spotter", version=number, encrypt=encrypt)
    return Case(source.to_bytes(), granted(source) if encrypt else None, device(), trust())


# --- row 18: an older version -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("encrypt", [True, False], ids=["encrypted", "signed only"])
def test_row_18_older_version(tmp_path: Path, store: Store, encrypt: bool) -> None:
    """Once a version was opened, no older one opens, however validly signed; the same and newer ones do."""
    old, current, new = (version(n, encrypt=encrypt).but(state=store) for n in (1, 2, 3))
    assert old.load(tmp_path)
    assert current.load(tmp_path)
    with refused(RollbackError):
        old.load(tmp_path)
    assert current.load(tmp_path)
    assert new.load(tmp_path)
    for case in (old, current):
        with refused(RollbackError):
            case.load(tmp_path)


@pytest.mark.parametrize("encrypt", [True, False], ids=["encrypted", "signed only"])
def test_row_18_same_version_other_payload(tmp_path: Path, store: Store, encrypt: bool) -> None:
    """A second bundle under a version that was opened is refused: a version names one payload."""
    first = version(2, encrypt=encrypt, size=1000).but(state=store)
    second = version(2, encrypt=encrypt, size=2000).but(state=store)
    assert first.load(tmp_path)
    with refused(VersionReuseError):
        second.load(tmp_path)
    assert first.load(tmp_path)


def test_row_18_models_do_not_mix(tmp_path: Path, store: Store) -> None:
    """Versions are counted for each model on its own."""
    assert version(7).but(state=store).load(tmp_path)
    other = sealed(model_id="acme/other", version=1)
    assert good_case(other).but(state=store).load(tmp_path)
    with refused(RollbackError):
        version(6).but(state=store).load(tmp_path)


def test_row_18_a_refused_version_is_not_remembered(tmp_path: Path, store: Store) -> None:
    """A newer bundle that this device cannot open does not keep it from the one that it can."""
    newer = seal.seal(model(1000), publisher(), model_id="acme/spotter", version=9)
    foreign = Case(newer.to_bytes(), granted(newer, to=new_device()), device(), trust(), state=store)
    damaged = bytearray(newer.to_bytes())
    damaged[-1] ^= 1
    current = version(2).but(state=store)
    with refused(GrantDeviceError):
        foreign.load(tmp_path)
    with refused(EdgeqError):
        foreign.but(data=bytes(damaged), grant=granted(newer)).load(tmp_path)
    assert current.load(tmp_path)


def test_row_18_without_a_state_nothing_is_remembered(tmp_path: Path) -> None:
    """What the state adds is the state's: without one, any version opens that is signed and granted."""
    assert version(2).load(tmp_path)
    assert version(1).load(tmp_path)


# --- row 24: the clock ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encrypt", [True, False], ids=["encrypted", "signed only"])
def test_row_24_clock_set_back(tmp_path: Path, store: Store, encrypt: bool) -> None:
    """A clock behind the latest time seen opens nothing, and the error says which two times disagree."""
    case = version(1, encrypt=encrypt).but(state=store)
    assert case.but(now=LATER).load(tmp_path)
    for behind in (timedelta(minutes=6), timedelta(days=1), timedelta(days=89)):
        with refused(ClockSetBackError, match="2030-08-30"):
            case.but(now=LATER - behind).load(tmp_path)
    assert case.but(now=LATER).load(tmp_path)


def test_row_24_expired_grant_and_a_clock_set_back(tmp_path: Path, store: Store) -> None:
    """A grant that expired does not come back to life when the clock is set back, by a little or by a lot."""
    case = good_case().but(grant=granted(sealed(), expires=LATER), state=store)
    assert case.load(tmp_path)
    assert good_case(sealed(model_id="acme/other")).but(state=store, now=LATER).load(tmp_path)
    with refused(GrantExpiredError):
        case.but(now=LATER - timedelta(minutes=4)).load(tmp_path)
    with refused(ClockSetBackError):
        case.but(now=NOW).load(tmp_path)


@pytest.mark.parametrize("year", [1, 1969, 1970, 2000, 2024])
@pytest.mark.parametrize("encrypt", [True, False], ids=["encrypted", "signed only"])
def test_row_24_clock_never_set(tmp_path: Path, store: Store, year: int, encrypt: bool) -> None:
    """With a state, a clock that was never set opens nothing, not even what needs no grant."""
    with refused(ClockUnsetError, match="never set"):
        version(1, encrypt=encrypt).but(state=store, now=datetime(year, 1, 1, tzinfo=timezone.utc)).load(tmp_path)


# --- row 25: counted loads --------------------------------------------------------------------------------------------


def limited(loads: int, store: Store | None) -> Case:
    """A case that loads so often."""
    return good_case(sealed(1000)).but(grant=granted(sealed(1000), max_loads=loads), state=store)


def test_row_25_max_loads(tmp_path: Path, store: Store) -> None:
    """A grant opens as often as it says, counted on its own, and never again."""
    three, two = limited(3, store), limited(2, store)
    for _ in range(2):
        assert three.load(tmp_path)
        assert two.load(tmp_path)
    assert three.load(tmp_path)
    for case in (three, two, three.but(now=LATER)):
        with refused(GrantLoadsError):
            case.load(tmp_path)


def test_row_25_every_operation_counts(tmp_path: Path, store: Store) -> None:
    """An opening counts as one whatever it is for."""
    terms = {"allow": ("calibrate", "export", "load"), "max_loads": 3}
    case = good_case(sealed(1000)).but(grant=granted(sealed(1000), **terms), state=store)
    for operation in ("load", "export", "calibrate"):
        assert case.but(operation=operation).load(tmp_path)
    for operation in ("load", "export", "calibrate"):
        with refused(GrantLoadsError):
            case.but(operation=operation).load(tmp_path)


def test_row_25_what_fails_does_not_count(tmp_path: Path, store: Store) -> None:
    """A load that was refused or failed uses none of the loads."""
    case = limited(1, store)
    damaged = bytearray(case.data)
    damaged[-1] ^= 1
    for broken in (case.but(data=bytes(damaged)), case.but(operation="export"), case.but(identity=new_device())):
        with refused(EdgeqError):
            broken.load(tmp_path)
    assert case.load(tmp_path)


def test_row_25_fifty_processes(tmp_path: Path, store: Store) -> None:
    """Of fifty processes that use a grant for ten loads at the same moment, exactly ten get the model."""
    case = limited(10, store)
    go, ready = os.pipe()
    children = []
    for number in range(50):
        (tmp_path / str(number)).mkdir()
        child = os.fork()
        if not child:
            os.close(ready)
            os.read(go, 1)  # returns when the parent closes its end
            os._exit(_outcome(case, tmp_path / str(number)))
        children.append(child)
    os.close(ready)
    outcomes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    os.close(go)
    for outcome in outcomes[10:]:
        note("accepted" if outcomes.count(0) > 10 and not outcome else "GrantLoadsError")
    assert (outcomes.count(0), outcomes.count(1)) == (10, 40)
    assert _count(store) == 10


def _outcome(case: Case, folder: Path) -> int:
    """0 for a model, 1 for a used-up grant, 2 for anything else."""
    try:
        return 0 if case.load(folder) == model(1000) else 2
    except GrantLoadsError:
        return 1
    except BaseException:
        return 2


def test_row_25_killed_at_every_step(tmp_path: Path, store: Store) -> None:
    """A process that is killed at any disk call of a load leaves the old count or the new one, and a state that works."""
    case = limited(1000, store)
    before = [0]

    def check(_: int) -> None:
        count = _count(store)
        assert before[0] <= count <= before[0] + 1
        assert case.load(tmp_path)
        before[0] = count + 1
        assert _count(store) == before[0]
        note("old or new")

    assert killed_at_every_call(lambda: case.load(tmp_path), check) > 5


def test_row_25_killed_at_random(tmp_path: Path, store: Store) -> None:
    """Killed at 200 random moments between and within loads, the state is whole and no count goes back."""
    case, counts = limited(1_000_000, store), [0]

    def check() -> None:
        counts.append(_count(store))
        assert counts[-1] >= counts[-2]
        note("old or new")

    killed_at_random(lambda: case.load(tmp_path), check, times=200)
    assert counts[-1] > 10
    assert case.load(tmp_path)
    assert _count(store) == counts[-1] + 1


def _count(store: Store) -> int:
    return sum(loads.count for loads in store.read().loads.values())


# --- row 26: the state itself -----------------------------------------------------------------------------------------


def deleted(store: Store) -> None:
    (store.folder / STATE_FILE).unlink()


def directory_deleted(store: Store) -> None:
    shutil.rmtree(store.folder)


def emptied(store: Store) -> None:
    (store.folder / STATE_FILE).write_bytes(b"")


def cut(store: Store) -> None:
    (store.folder / STATE_FILE).write_bytes((store.folder / STATE_FILE).read_bytes()[:-1])


def too_large(store: Store) -> None:
    (store.folder / STATE_FILE).write_bytes(bytes(2**21))


def a_directory(store: Store) -> None:
    deleted(store)
    (store.folder / STATE_FILE).mkdir()


def another_devices(store: Store) -> None:
    other = new_device()
    shutil.rmtree(store.folder)
    devices.init(store.folder, other, now=NOW)


def another_devices_renamed(store: Store) -> None:
    """Another device's state in which this device's id was put."""
    other = new_device()
    forged = state.write(state.start(store.device, NOW), state.mac_key(other))
    (store.folder / STATE_FILE).write_bytes(forged)


DAMAGES = [
    (deleted, StateMissingError),
    (directory_deleted, StateMissingError),
    (emptied, StateDamagedError),
    (cut, StateDamagedError),
    (too_large, StateError),
    (a_directory, StateError),
    (another_devices, StateDeviceError),
    (another_devices_renamed, StateDamagedError),
]


@pytest.mark.parametrize(("damage", "error"), DAMAGES, ids=[damage.__name__ for damage, _ in DAMAGES])
def test_row_26_damaged_state(
    tmp_path: Path, store: Store, damage: Callable[[Store], None], error: type[EdgeqError]
) -> None:
    """With a state that is gone, damaged or another device's, nothing opens, granted or signed only, and none is made."""
    case = limited(5, store)
    assert case.load(tmp_path)
    damage(store)
    before = sorted(store.folder.rglob("*"))
    for attempt in (case, version(1, encrypt=False).but(state=store)):
        with refused(error):
            attempt.load(tmp_path)
    assert sorted(store.folder.rglob("*")) == before


def test_row_26_every_flipped_bit(tmp_path: Path, store: Store) -> None:
    """No bit of the state can be flipped."""
    limited(5, store).load(tmp_path)
    path = store.folder / STATE_FILE
    data = path.read_bytes()
    for place in range(8 * len(data)):
        flipped = bytearray(data)
        flipped[place // 8] ^= 1 << place % 8
        path.write_bytes(flipped)
        with refused(StateError):
            store.read()


def test_row_26_state_of_a_state_directory_of_another_device(tmp_path: Path, store: Store) -> None:
    """A store that belongs to another device than the identity is refused."""
    with refused(StateDeviceError):
        good_case().but(state=store, identity=new_device()).load(tmp_path)


@pytest.mark.parametrize("reason", [errno.ENOSPC, errno.EROFS, errno.EIO, errno.EDQUOT], ids=errno.errorcode.get)
def test_row_26_disk_that_refuses(tmp_path: Path, store: Store, reason: int) -> None:
    """With a disk that is full, read-only or broken, at whichever step, no counted load opens and the state stays whole."""
    case, refusals = limited(1000, store), 0
    for raised in failing_at_every_call(lambda: case.load(tmp_path), reason):
        count = _count(store)
        if raised is not None:
            assert isinstance(raised, EdgeqError), raised
            note(type(raised).__name__)
            refusals += 1
        assert case.load(tmp_path)
        assert _count(store) == count + 1
    assert refusals >= 5


def test_row_26_full_disk_gives_no_model(tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the load cannot be written down, the model does not come out, and the load is not used."""
    case = limited(1, store)

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch, refused(OutputError, match="No space left"):
        patch.setattr(os, "fsync", full)
        case.load(tmp_path)
    assert case.load(tmp_path)


# --- conditions and states that are not given -------------------------------------------------------------------------


@pytest.mark.parametrize("condition", ["max_loads", "max_offline_days", "min_status_epoch"])
def test_conditions_need_a_state(tmp_path: Path, condition: str) -> None:
    """A condition that needs a device state is refused where there is none, not skipped."""
    with pytest.raises(GrantConditionError, match=f"{condition}, which needs a device state"):
        good_case().but(grant=granted(sealed(), **{condition: 1})).load(tmp_path)


def test_a_state_needs_its_device(tmp_path: Path, store: Store) -> None:
    """A state by its path needs the device's key, even for a bundle that is only signed."""
    with pytest.raises(NoGrantError, match="identity"):
        version(1, encrypt=False).but(state=store.folder, identity=None).load(tmp_path)
    assert version(1, encrypt=False).but(state=store.folder).load(tmp_path)
    assert version(2, encrypt=False).but(state=store, identity=None).load(tmp_path)


def test_a_plain_model_beside_a_state(tmp_path: Path, store: Store) -> None:
    """Where a state is given, a plain model is no substitute for a bundle."""
    with pytest.raises(UnsignedError):
        Case(model(1000), state=store).load(tmp_path)


def test_not_before_is_held_against_the_trusted_time(tmp_path: Path, store: Store) -> None:
    """A grant that has not started opens nothing, with a state as without."""
    with pytest.raises(GrantNotYetValidError):
        good_case().but(grant=granted(sealed(), not_before=LATER), state=store).load(tmp_path)
