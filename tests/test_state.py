"""What a device remembers: the rules of time, versions and loads, and the bytes that hold them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from trusted import LATER, NOW, device, edit_json, new_device

from edgeq import clock, limits, state, strict
from edgeq.audit import Head
from edgeq.errors import (
    ClockSetBackError,
    ClockUnsetError,
    RollbackError,
    StateDamagedError,
    StateDeviceError,
    StateFullError,
    VersionReuseError,
)
from edgeq.state import Loads, Newest, State, StatusSeen

SECOND = timedelta(seconds=1)
ONE, TWO = "11" * 32, "22" * 32


def fresh() -> State:
    """The state of a device that has seen NOW and nothing else."""
    return state.start(device().public.key_id, NOW)


def full() -> State:
    """A state with something in every field."""
    return replace(
        fresh(),
        models={"acme/spotter": Newest(3, ONE), "acme/other": Newest(1, TWO)},
        loads={"ab" * 16: Loads(2, None), "cd" * 16: Loads(1, int(LATER.timestamp()))},
        statuses={ONE: StatusSeen(4, 1_900_000_000, 1_950_000_000, TWO, ONE)},
    )


# --- time -------------------------------------------------------------------------------------------------------------


def test_time_goes_on() -> None:
    """The clock's time holds as long as it is not behind what was seen."""
    assert state.trusted_time(fresh(), NOW) == NOW
    assert state.trusted_time(fresh(), LATER) == LATER


def test_a_clock_a_little_behind() -> None:
    """A clock that is up to five minutes behind is taken to show the latest time seen, never an earlier one."""
    assert state.trusted_time(fresh(), NOW - clock.SKEW) == NOW
    with pytest.raises(ClockSetBackError, match="set back"):
        state.trusted_time(fresh(), NOW - clock.SKEW - SECOND)


@pytest.mark.parametrize("year", [1, 1969, 1970, 2024])
def test_a_clock_that_was_never_set(year: int) -> None:
    """No state starts, and none is held, by a clock that shows a time before there was this format."""
    then = datetime(year, 12, 31, tzinfo=timezone.utc)
    with pytest.raises(ClockUnsetError, match="never set"):
        state.start("00" * 32, then)
    with pytest.raises(ClockUnsetError):
        state.trusted_time(replace(fresh(), time=0), then)


@given(st.lists(st.integers(-10_000, 10_000), max_size=20))
def test_time_never_goes_back(steps: list[int]) -> None:
    """Whatever the clock shows, the time that openings are held against never becomes earlier."""
    current, before, shown = fresh(), NOW, NOW
    for number, step in enumerate(steps, 1):
        shown += timedelta(seconds=step)
        try:
            when = state.trusted_time(current, shown)
        except ClockSetBackError:
            assert shown < before - clock.SKEW
            continue
        assert when == max(shown, before)
        current, before = state.opened(current, when, "m", number, ONE), when


# --- versions and loads -----------------------------------------------------------------------------------------------


def test_versions_only_rise() -> None:
    """The newest version and any newer one open, with their payload; older ones and other payloads do not."""
    seen = full()
    state.check_version(seen, "acme/spotter", 3, ONE)
    state.check_version(seen, "acme/spotter", 4, TWO)
    state.check_version(seen, "acme/unseen", 1, TWO)
    with pytest.raises(RollbackError, match="version 3"):
        state.check_version(seen, "acme/spotter", 2, ONE)
    with pytest.raises(VersionReuseError):
        state.check_version(seen, "acme/spotter", 3, TWO)


def test_opening_is_remembered() -> None:
    """After an opening the newest version, the payload and the time are those of the opening."""
    after = state.opened(full(), LATER, "acme/spotter", 9, TWO)
    assert after.models["acme/spotter"] == Newest(9, TWO)
    assert after.models["acme/other"] == full().models["acme/other"]
    assert after.time == int(LATER.timestamp())


def test_loads_are_counted() -> None:
    """Loads count up by one for their grant alone, and go when the grant has expired."""
    after = state.counted(state.counted(full(), "ab" * 16, None), "ef" * 16, None)
    assert [after.count(name * 16) for name in ("ab", "cd", "ef", "99")] == [3, 1, 1, 0]
    kept = state.opened(after, LATER - SECOND, "m", 1, ONE)
    assert set(kept.loads) == {"ab" * 16, "cd" * 16, "ef" * 16}
    assert set(state.opened(after, LATER, "m", 1, ONE).loads) == {"ab" * 16, "ef" * 16}


def test_a_full_state_says_so() -> None:
    """A state has room for a fixed number of models and grants, and forgets none of them for a new one."""
    models = {f"m{i}": Newest(1, ONE) for i in range(limits.STATE_MODELS)}
    crowded = replace(fresh(), models=models)
    state.opened(crowded, NOW, "m0", 2, ONE)
    with pytest.raises(StateFullError):
        state.opened(crowded, NOW, "another", 1, ONE)
    grants = {f"{i:032x}": Loads(1, None) for i in range(limits.STATE_GRANTS)}
    crowded = replace(fresh(), loads=grants)
    state.counted(crowded, f"{0:032x}", None)
    with pytest.raises(StateFullError):
        state.counted(crowded, "ff" * 16, None)


def test_the_largest_state_fits() -> None:
    """A state with every entry it may have, each as long as it can be, stays below the limit of its file."""
    most = limits.INTEGER
    lines = ("x" * limits.AUDIT_LINE,) * 2
    largest = State(
        "ff" * 32,
        253_402_300_799,
        Head(most, ONE, most, lines),
        models={f"{i:x}".rjust(limits.MODEL_ID, "m"): Newest(most, ONE) for i in range(limits.STATE_MODELS)},
        loads={f"{i:032x}": Loads(most, 253_402_300_799) for i in range(limits.STATE_GRANTS)},
        statuses={
            f"{i:064x}": StatusSeen(most, 253_402_300_799, 253_402_300_799, ONE, TWO)
            for i in range(limits.STATE_AUTHORITIES)
        },
    )
    key = state.mac_key(device())
    data = state.write(largest, key)
    assert len(data) <= limits.STATE
    assert state.read(data, key, "ff" * 32) == largest


# --- the bytes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [fresh, full])
def test_what_is_written_reads_back(make: Callable[[], State]) -> None:
    """A state that was written reads back equal, and writes to the same bytes."""
    key, remembered = state.mac_key(device()), make()
    data = state.write(remembered, key)
    assert state.read(data, key, device().public.key_id) == remembered
    assert state.write(state.read(data, key, device().public.key_id), key) == data


def test_keys_are_derived_per_device_and_label() -> None:
    """A device derives the same secret every time, another for every label, and no other device derives it."""
    one = device().derive(b"label").reveal()
    assert len(one) == 32
    assert device().derive(b"label").reveal() == one
    assert device().derive(b"labels").reveal() != one
    assert new_device().derive(b"label").reveal() != one
    assert one.hex() not in repr(device().derive(b"label"))


CHANGES: list[tuple[str, Callable[[dict[str, Any]], object]]] = [
    ("time", lambda value: value["state"].update(time=1)),
    ("lower version", lambda value: value["state"]["models"]["acme/spotter"].update(version=2)),
    ("model forgotten", lambda value: value["state"]["models"].clear()),
    ("fewer loads", lambda value: value["state"]["loads"]["ab" * 16].update(count=1)),
    ("loads forgotten", lambda value: value["state"]["loads"].clear()),
    ("status forgotten", lambda value: value["state"]["statuses"].clear()),
    ("no MAC", lambda value: value.pop("mac")),
    ("zero MAC", lambda value: value.update(mac="00" * 32)),
    ("short MAC", lambda value: value.update(mac="00")),
    ("no state", lambda value: value.pop("state")),
    ("state is no object", lambda value: value.update(state=[])),
    ("more beside it", lambda value: value.update(more=1)),
]


@pytest.mark.parametrize("change", [pytest.param(change, id=name) for name, change in CHANGES])
def test_a_changed_state_is_refused(change: Callable[[Any], object]) -> None:
    """Not one field of a state can be changed without the device's key."""
    key = state.mac_key(device())
    with pytest.raises(StateDamagedError, match="edgeq device reset"):
        state.read(edit_json(state.write(full(), key), change), key, device().public.key_id)


FIELDS: list[tuple[str, Callable[[dict[str, Any]], object]]] = [
    ("other format", lambda value: value.update(format="edgeq-state/2")),
    ("other suite", lambda value: value.update(suite="edgeq-2")),
    ("unknown field", lambda value: value.update(admin=True)),
    ("missing field", lambda value: value.pop("loads")),
    ("negative time", lambda value: value.update(time=-1)),
    ("time as text", lambda value: value.update(time="2030-01-01")),
    ("count of zero", lambda value: value["loads"]["ab" * 16].update(count=0)),
    ("grant by another name", lambda value: value["loads"].update(x={"count": 1, "expires": None})),
    ("version zero", lambda value: value["models"]["acme/spotter"].update(version=0)),
    ("model by another name", lambda value: value["models"].update({"": {"version": 1, "payload_sha256": ONE}})),
    ("log without a last line", lambda value: value["audit"].update(pending=[])),
    ("log with lines that are none", lambda value: value["audit"].update(pending=[1])),
    ("log with three lines", lambda value: value["audit"].update(pending=["", "", ""])),
    ("models as a list", lambda value: value.update(models=[])),
    ("too many models", lambda value: value.update(
        models={f"m{i}": {"version": 1, "payload_sha256": ONE} for i in range(limits.STATE_MODELS + 1)})),
]  # fmt: skip


@pytest.mark.parametrize("change", [pytest.param(change, id=name) for name, change in FIELDS])
def test_a_malformed_state_is_refused(change: Callable[[Any], object]) -> None:
    """A field out of its bounds is refused even under a good MAC."""
    key = state.mac_key(device())
    value = full().to_json()
    change(value)
    data = strict.canonical({"mac": state._mac(value, key), "state": value})
    with pytest.raises(StateDamagedError):
        state.read(data, key, device().public.key_id)


def test_another_devices_state() -> None:
    """A state that another device wrote is refused as that."""
    other = new_device()
    data = state.write(state.start(other.public.key_id, NOW), state.mac_key(other))
    with pytest.raises(StateDeviceError, match=other.public.key_id[:16]):
        state.read(data, state.mac_key(device()), device().public.key_id)
