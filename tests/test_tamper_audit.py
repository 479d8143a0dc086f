"""The tamper matrix, row 28 and the rest of row 26: an audit log that was changed, and a state that was put back."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from refusals import refused
from trusted import NOW, device, good_case, granted, new_device, sealed

from edgeq import admit, audit, journal, limits, strict
from edgeq import device as devices
from edgeq.audit import Event
from edgeq.device import Store
from edgeq.errors import (
    AuditChainError,
    AuditCutError,
    AuditError,
    AuditLineError,
    AuditSignatureError,
    EdgeqError,
    StateRolledBackError,
)

Lines = list[bytes]
NOTHING = Event("refuse", {**admit.described(()), "operations": None, "error": "GrantError"})


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state directory of the device whose log has 130 lines and two checkpoints; not to be changed."""
    folder = tmp_path_factory.mktemp("audit") / "state"
    devices.init(folder, device(), now=NOW)
    grow(Store(folder, device()), 130)
    return folder


@pytest.fixture
def store(tmp_path: Path, written: Path) -> Store:
    """A copy of that directory."""
    shutil.copytree(written, tmp_path / "state")
    return Store(tmp_path / "state", device())


def grow(store: Store, length: int) -> None:
    """Write lines down until the log is that long."""
    while (number := store.read().audit.sequence) < length:
        store.update(lambda before: before, NOTHING, NOW + timedelta(seconds=number))


def lines(store: Store) -> Lines:
    """The lines of the log, which is one file."""
    return journal.path(store.folder, 1).read_bytes().splitlines()


def verify(changed: Lines, store: Store | None = None) -> audit.Verified:
    """Verify lines as a log, by the key alone, or against the state of the device too."""
    head = None if store is None else store.read().audit
    return audit.verify([(1, b"".join(line + b"\n" for line in changed))], audit.signing_key(device()).public, head)


def edited(line: bytes, **changes: Any) -> bytes:
    """A line with other values."""
    return strict.canonical({**json.loads(line), **changes})


def rechained(changed: Lines, start: int) -> Lines:
    """The lines from `start` on, numbered and chained anew: all that can be done without the device's key."""
    for number in range(max(start, 1), len(changed)):
        digest = audit._digest(changed[number - 1])
        changed[number] = edited(changed[number], sequence=number + 1, previous=digest)
    return changed


def test_untouched(store: Store) -> None:
    """What the tests below damage is a log that verifies."""
    assert verify(lines(store), store).last.sequence == 130
    assert verify(lines(store)).unsigned == 2


# --- row 28: without the key ------------------------------------------------------------------------------------------


def edit(found: Lines, at: int) -> Lines:
    found[at] = edited(found[at], time=json.loads(found[at])["time"] + 1)
    return found


def remove(found: Lines, at: int) -> Lines:
    return [*found[:at], *found[at + 1 :]]


def swap(found: Lines, at: int) -> Lines:
    found[at], found[at - 1] = found[at - 1], found[at]
    return found


def repeat(found: Lines, at: int) -> Lines:
    return [*found[:at], found[at], *found[at:]]


def insert(found: Lines, at: int) -> Lines:
    more = audit._line(at + 1, audit._digest(found[at - 1]), NOW, NOTHING)
    return [*found[:at], more, *found[at:]]


CHANGES = [edit, remove, swap, repeat, insert]
PLACES = [1, 2, 40, 62, 63, 64, 100, 127, 128]


@pytest.mark.parametrize("change", CHANGES, ids=[change.__name__ for change in CHANGES])
@pytest.mark.parametrize("at", PLACES)
def test_row_28_changed_line(store: Store, change: Callable[[Lines, int], Lines], at: int) -> None:
    """A line that was edited, removed, moved, repeated or put in breaks the chain, wherever it is."""
    with refused(AuditChainError, AuditSignatureError, AuditCutError):
        verify(change(lines(store), at))


@pytest.mark.parametrize("change", CHANGES, ids=[change.__name__ for change in CHANGES])
@pytest.mark.parametrize("at", PLACES)
def test_row_28_changed_line_and_chain(store: Store, change: Callable[[Lines, int], Lines], at: int) -> None:
    """With the chain made to fit again, the next checkpoint does not: it signs the hash of the line before it."""
    changed = rechained(change(lines(store), at), at - 1)
    if at < 127:
        with refused(AuditSignatureError, AuditCutError):
            verify(changed)
    with refused(AuditError, StateRolledBackError):
        verify(changed, store)


def test_row_28_last_line_changed(store: Store) -> None:
    """Behind the last checkpoint, where the key alone cannot tell, the state does."""
    for at in (128, 129):
        for change in (edit, remove, repeat, insert):
            changed = rechained(change(lines(store), at), at)
            assert verify(changed)
            with refused(AuditChainError, AuditCutError, StateRolledBackError):
                verify(changed, store)


@pytest.mark.parametrize("kept", [0, 1, 2, 63, 64, 65, 127, 128, 129])
def test_row_28_tail_cut(store: Store, kept: int) -> None:
    """A log that was cut off is noticed by the state, wherever the cut is; an empty one by itself."""
    with refused(AuditCutError):
        verify(lines(store)[:kept], store)
    if not kept:
        with refused(AuditError):
            verify([])


def test_row_28_cut_within_a_line(store: Store) -> None:
    """A log that ends within a line is refused as that."""
    data = journal.path(store.folder, 1).read_bytes()
    for cut in (1, 2, 100):
        with refused(AuditCutError):
            audit.verify([(1, data[:-cut])], audit.signing_key(device()).public)


def test_row_28_head_cut(store: Store) -> None:
    """A log cannot begin at any line: only at its own beginning, or in a later file, which begins with a checkpoint."""
    with refused(AuditCutError):
        verify(lines(store)[1:])
    with refused(AuditSignatureError):
        audit.verify([(2, b"\n".join([*lines(store)[1:], b""]))], audit.signing_key(device()).public)
    assert audit.verify([(64, b"\n".join([*lines(store)[63:], b""]))], audit.signing_key(device()).public)


def test_row_28_checkpoint_left_out(store: Store) -> None:
    """A line that should be a checkpoint and is none shows a log that goes on without the device."""
    found = lines(store)
    found[63] = audit._line(64, audit._digest(found[62]), NOW, NOTHING)
    with refused(AuditSignatureError, match="expected a checkpoint"):
        verify(rechained(found[:100], 64))


@pytest.mark.parametrize("signature", ["", "AAAA", "of another line", "of another device"])
def test_row_28_checkpoint_forged(store: Store, signature: str) -> None:
    """A checkpoint with no signature, another line's, or another device's is refused."""
    found = lines(store)
    if signature == "of another line":
        signature = json.loads(found[127])["signature"]
    elif signature == "of another device":
        key = audit.signing_key(new_device())
        signature = json.loads(audit._checkpoint(64, audit._digest(found[62]), store.device, key, NOW))["signature"]
    found[63] = edited(found[63], signature=signature)
    with refused(AuditSignatureError):
        verify(found[:64])


def test_row_28_another_devices_log(tmp_path: Path, store: Store) -> None:
    """The log of another device does not verify under this one's key, and a key of another device verifies no log of this."""
    other = new_device()
    devices.init(tmp_path / "other", other, now=NOW)
    theirs = Store(tmp_path / "other", other)
    theirs.checkpoint(now=NOW)
    with refused(AuditSignatureError):
        audit.verify(journal.read(theirs.folder), audit.signing_key(device()).public)
    with refused(AuditSignatureError):
        audit.verify(journal.read(store.folder), audit.signing_key(other).public)


def test_row_28_spliced_logs(tmp_path: Path, store: Store) -> None:
    """The end of an earlier log of the same device does not fit the beginning of the present one."""
    before = lines(store)
    devices.reset(store.folder, device(), now=NOW)
    grow(store, 130)
    for at in (1, 60, 100):
        with refused(AuditChainError):
            verify(lines(store)[:at] + before[at:])


@pytest.mark.parametrize(
    "line",
    [b"", b"{}", b"not json", b'{"sequence":1}', b"x" * (limits.AUDIT_LINE + 1)],
    ids=lambda line: repr(line[:12]),
)
def test_row_28_line_that_is_none(store: Store, line: bytes) -> None:
    """Anything in the log that is no line of one is refused."""
    found = lines(store)
    with refused(AuditLineError):
        verify([*found[:70], line, *found[70:]])


def test_row_28_white_space(store: Store) -> None:
    """A line has one spelling: the same values spelled otherwise are not the line."""
    found = lines(store)
    found[10] = json.dumps(json.loads(found[10])).encode()
    with refused(AuditLineError):
        verify(found)


# --- row 28: on the device --------------------------------------------------------------------------------------------


def put(store: Store, data: bytes) -> None:
    journal.path(store.folder, 1).write_bytes(data)


def cut_whole_lines(store: Store) -> None:
    put(store, b"\n".join([*lines(store)[:-3], b""]))


def emptied(store: Store) -> None:
    put(store, b"")


def deleted(store: Store) -> None:
    journal.path(store.folder, 1).unlink()


def last_line_edited(store: Store) -> None:
    put(store, b"\n".join([*edit(lines(store), -1), b""]))


def line_appended(store: Store) -> None:
    found = lines(store)
    more = audit._line(len(found) + 1, audit._digest(found[-1]), NOW, NOTHING)
    put(store, b"\n".join([*found, more, b""]))


def file_appended(store: Store) -> None:
    found = lines(store)
    more = audit._checkpoint(
        len(found) + 1, audit._digest(found[-1]), store.device, audit.signing_key(new_device()), NOW
    )
    journal.path(store.folder, len(found) + 1).write_bytes(more + b"\n")


def rubbish_appended(store: Store) -> None:
    put(store, journal.path(store.folder, 1).read_bytes() + b"rubbish")


def long_rubbish_appended(store: Store) -> None:
    put(store, journal.path(store.folder, 1).read_bytes() + bytes(100_000))


ON_THE_DEVICE = [
    (cut_whole_lines, AuditCutError),
    (emptied, AuditCutError),
    (deleted, AuditCutError),
    (last_line_edited, AuditChainError),
    (line_appended, StateRolledBackError),
    (file_appended, StateRolledBackError),
    (rubbish_appended, AuditChainError),
    (long_rubbish_appended, AuditLineError),
]


@pytest.mark.parametrize(("damage", "error"), ON_THE_DEVICE, ids=[damage.__name__ for damage, _ in ON_THE_DEVICE])
def test_row_28_damaged_log_opens_nothing(
    tmp_path: Path, store: Store, damage: Callable[[Store], None], error: type[EdgeqError]
) -> None:
    """With a log whose end is not the one that the device wrote, nothing opens, and nothing is added to it."""
    case = good_case().but(state=store)
    assert case.load(tmp_path)
    grow(store, 133)
    damage(store)
    before = {path.name: path.read_bytes() for path in store.folder.iterdir()}
    with refused(error):
        case.load(tmp_path)
    assert {path.name: path.read_bytes() for path in store.folder.iterdir()} == before


# --- row 26: a state that was put back --------------------------------------------------------------------------------


def test_row_26_state_put_back(tmp_path: Path, store: Store) -> None:
    """Putting an older state back, to get loads back, is noticed by the log, were it one load only."""
    case = good_case().but(grant=granted(sealed(), max_loads=2), state=store)
    kept = (store.folder / "state.json").read_bytes()
    for _ in range(2):
        assert case.load(tmp_path)
        newer = (store.folder / "state.json").read_bytes()
        (store.folder / "state.json").write_bytes(kept)
        with refused(StateRolledBackError):
            case.load(tmp_path)
        (store.folder / "state.json").write_bytes(newer)


def test_row_26_state_put_back_with_a_shorter_log(tmp_path: Path, store: Store) -> None:
    """A state put back together with its log is what only a counter in hardware would notice: a copy that was kept of the
    log does."""
    kept = tmp_path / "kept"
    shutil.copytree(store.folder, kept)
    assert good_case().but(state=store).load(tmp_path)
    watched = list(journal.read(store.folder))
    shutil.rmtree(store.folder)
    shutil.copytree(kept, store.folder)
    assert good_case().but(state=store).load(tmp_path)
    with refused(AuditError):
        audit.check_end(audit.verify(watched, audit.signing_key(device()).public).last, store.read().audit)
