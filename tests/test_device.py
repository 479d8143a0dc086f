"""The state directory: made once, read and replaced whole, by one process at a time."""

from __future__ import annotations

import fcntl
import os
import stat
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from trusted import LATER, NOW, device, new_device

from edgeq import device as devices
from edgeq import state
from edgeq.audit import Event
from edgeq.device import Store
from edgeq.errors import ClockUnsetError, OutputError, StateBusyError, StateDamagedError, StateError, StateMissingError
from edgeq.state import Newest, State


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A fresh state directory of the device."""
    devices.init(tmp_path / "state", device(), now=NOW)
    return Store(tmp_path / "state", device())


def see(version: int) -> Callable[[State], State]:
    """A change: remember this version of a model."""
    return lambda before: replace(before, models={"m": Newest(version, "00" * 32)})


def update(store: Store, change: Callable[[State], State]) -> State:
    """Make a change, whatever the audit log says of it."""
    return store.update(change, Event("checkpoint"), NOW)


def version(store: Store) -> int:
    """The version that the state remembers, 0 for none."""
    models = store.read().models
    return models["m"].version if models else 0


def test_init_makes_a_private_directory(store: Store) -> None:
    """A new state has seen the time and nothing else, and only its owner can read it."""
    fresh = store.read()
    assert fresh == replace(state.start(device().public.key_id, NOW), audit=fresh.audit)
    assert stat.S_IMODE(store.folder.stat().st_mode) == 0o700
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in store.folder.iterdir()}
    assert modes == {"state.json": 0o600, "audit-000000000001.jsonl": 0o600, "audit.pub": 0o644}


def test_init_takes_an_empty_directory(tmp_path: Path) -> None:
    """An empty directory that is there already, on its own partition perhaps, is used."""
    devices.init(tmp_path, device(), now=NOW)
    assert Store(tmp_path, device()).read().device == device().public.key_id


def test_init_replaces_nothing(store: Store) -> None:
    """A directory that holds anything is left as it is, a state most of all."""
    before = (store.folder / "state.json").read_bytes()
    with pytest.raises(OutputError, match="left as it is"):
        devices.init(store.folder, device(), now=LATER)
    assert (store.folder / "state.json").read_bytes() == before
    (store.folder / "state.json").unlink()
    with pytest.raises(OutputError, match="expected an empty directory"):
        devices.init(store.folder, device(), now=LATER)


def test_init_without_a_clock(tmp_path: Path) -> None:
    """No state starts by a clock that was never set."""
    with pytest.raises(ClockUnsetError):
        devices.init(tmp_path / "state", device(), now=NOW.replace(year=1970))
    assert not (tmp_path / "state").exists()


def test_update_is_remembered(store: Store) -> None:
    """What was changed is what is read, by another process as well as by this one."""
    after = update(store, see(4))
    assert after.models == {"m": Newest(4, "00" * 32)}
    assert Store(store.folder, device()).read() == after


def test_a_refused_update_changes_nothing(store: Store) -> None:
    """If the change raises, the state is what it was, and the next update goes through."""

    def refuse(_: State) -> State:
        raise KeyError("no")

    with pytest.raises(KeyError):
        update(store, refuse)
    assert version(store) == 0
    update(store, see(1))


def test_updates_wait_for_each_other(store: Store) -> None:
    """No update is lost among threads that all want one."""

    def add(before: State) -> State:
        return see(before.models["m"].version + 1 if before.models else 1)(before)

    threads = [threading.Thread(target=lambda: [update(store, add) for _ in range(10)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert version(store) == 40


def test_a_lock_that_is_kept(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that keeps the lock is waited for, but not for ever."""
    monkeypatch.setattr(devices, "LOCK_WAIT", 0.05)
    with devices._locked(store.folder, fcntl.LOCK_EX), pytest.raises(StateBusyError, match="locked by another process"):
        update(store, see(1))
    update(store, see(1))


def test_leftovers_of_the_dead_go(store: Store) -> None:
    """What a process left that died while it wrote is cleaned away by the next, and nothing else is."""
    for name in (".edgeq-0123456789abcdef.tmp", ".edgeq-short.tmp", "mine.tmp"):
        (store.folder / name).write_bytes(b"half a sta")
    update(store, see(1))
    assert {".edgeq-short.tmp", "mine.tmp"} == {name for name in os.listdir(store.folder) if "tmp" in name}


def test_reset_puts_aside(store: Store) -> None:
    """A reset starts anew and keeps what was there, readable or not, reset after reset."""
    update(store, see(4))
    before = {path.name: path.read_bytes() for path in store.folder.iterdir()}
    first = devices.reset(store.folder, device(), now=LATER)
    assert {path.name: path.read_bytes() for path in first.iterdir()} == before
    assert (version(store), store.read().time) == (0, int(LATER.timestamp()))
    (store.folder / "state.json").write_bytes(b"damaged")
    with pytest.raises(StateDamagedError):
        store.read()
    second = devices.reset(store.folder, device(), now=LATER)
    assert (second / "state.json").read_bytes() == b"damaged"
    assert {path.name: path.read_bytes() for path in first.iterdir()} == before
    assert version(store) == 0


def test_reset_is_for_a_new_key_too(store: Store) -> None:
    """A device that got a new key starts a new state over the one of its old key."""
    fresh = new_device()
    devices.reset(store.folder, fresh, now=LATER)
    assert Store(store.folder, fresh).read().device == fresh.public.key_id


def test_there_is_nothing_to_reset(tmp_path: Path) -> None:
    """A reset does not make a directory: a mistyped path is no new state."""
    with pytest.raises(StateMissingError, match="edgeq device init"):
        devices.reset(tmp_path / "none", device(), now=NOW)
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("what", ["nothing", "empty directory", "file"])
def test_a_state_that_is_not_there(tmp_path: Path, what: str) -> None:
    """Where there is no state, reading and updating both say so, and neither makes one."""
    path = tmp_path / "state"
    if what == "empty directory":
        path.mkdir()
    elif what == "file":
        path.write_bytes(b"")
    for use in (lambda: Store(path, device()).read(), lambda: update(Store(path, device()), see(1))):
        with pytest.raises(StateMissingError):
            use()
    assert not (path / "state.json").exists()


def test_a_state_that_is_no_file(tmp_path: Path) -> None:
    """A directory, or a file larger than a state can be, in the state's place is an error of its own."""
    (tmp_path / "state.json").mkdir()
    with pytest.raises(StateError, match="regular file"):
        Store(tmp_path, device()).read()
    (tmp_path / "state.json").rmdir()
    (tmp_path / "state.json").write_bytes(bytes(2**20 + 1))
    with pytest.raises(StateError, match="limit"):
        Store(tmp_path, device()).read()
