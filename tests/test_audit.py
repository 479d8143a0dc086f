"""The audit log: what is written down, how it is chained and signed, and how it goes on after a process died."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from faults import failing_at_every_call, killed_at_every_call, killed_at_random
from rooted import first, following, signed
from trusted import (
    LATER,
    NOW,
    Case,
    device,
    good_case,
    granted,
    new_device,
    plain,
    publisher,
    sealed,
    stranger,
    trust,
)

from edgeq import admit, audit, grant, journal, limits, state, status, strict
from edgeq import device as devices
from edgeq.audit import Entry, Event, Head
from edgeq.device import Store
from edgeq.errors import AuditLineError, EdgeqError, OutputError
from edgeq.keys import parse_publisher_public
from edgeq.opening import open_bytes

NOTHING = Event("refuse", {**admit.described(()), "operations": None, "error": "GrantError"})


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A fresh state directory of the device."""
    devices.init(tmp_path / "state", device(), now=NOW)
    return Store(tmp_path / "state", device())


@dataclass(frozen=True)
class Log:
    """A log that verified, with its entries."""

    entries: tuple[Entry, ...]
    unsigned: int


def verified(store: Store) -> Log:
    """The log, held against the state and the device's audit key."""
    found = store.verify_audit()
    key = parse_publisher_public((store.folder / devices.AUDIT_KEY).read_bytes())
    assert audit.verify(journal.read(store.folder), key) == found
    entries = tuple(audit.entries(journal.read(store.folder)))
    assert (entries[0], entries[-1]) == (found.first, found.last)
    assert found.checkpoints == sum(entry.event.name == "checkpoint" for entry in entries)
    return Log(entries, found.unsigned)


def events(store: Store) -> list[tuple[str, dict[str, Any]]]:
    """The events of the log after its first line."""
    return [(entry.event.name, dict(entry.event.fields)) for entry in verified(store).entries[1:]]


def write(store: Store, times: int = 1) -> None:
    """Write lines down."""
    for _ in range(times):
        store.update(lambda before: before, NOTHING, NOW)


# --- what is written down ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", [sealed, plain], ids=["encrypted", "signed only"])
@pytest.mark.parametrize("operation", ["load", ("calibrate", "export"), ("debug", "load")])
def test_openings(tmp_path: Path, store: Store, source: Callable[[], Any], operation: Any) -> None:
    """Every opening is written down with the model, the grant and what it was for."""
    held = granted(sealed(), allow=grant.OPERATIONS) if source is sealed else None
    assert Case(source().to_bytes(), held, device(), trust(), operation, state=store).load(tmp_path)
    expected = {
        "model_id": "acme/spotter",
        "version": 3,
        "payload_sha256": hashlib.sha256(source().payload).hexdigest(),
        "grant_id": None if held is None else grant.unverified(held).grant_id,
        "operations": (operation,) if isinstance(operation, str) else operation,
    }
    assert events(store) == [("open", expected)]


def test_refusals_say_what_was_known(tmp_path: Path, store: Store) -> None:
    """A refusal is written down by its type, with as much of the opening as had been verified by then."""
    case = good_case().but(state=store)
    held = granted(sealed(), expires=LATER)
    for attempt in (
        case.but(trust=stranger().public),
        case.but(grant=granted(sealed(), to=new_device())),
        case.but(grant=held, now=LATER),
        case.but(grant=None),
        case.but(operation="export"),
        case.but(now=NOW.replace(year=1970)),
        case.but(now=NOW.replace(year=1969)),
    ):
        with pytest.raises(EdgeqError):
            attempt.load(tmp_path)
    found = [(f["error"], f["model_id"], f["grant_id"] is not None, f["operations"]) for _, f in events(store)]
    assert found == [
        ("UntrustedKeyError", None, False, ("load",)),
        ("GrantDeviceError", "acme/spotter", True, ("load",)),
        ("GrantExpiredError", "acme/spotter", True, ("load",)),
        ("NoGrantError", "acme/spotter", False, ("load",)),
        ("GrantOperationError", "acme/spotter", True, ("export",)),
        ("ClockUnsetError", "acme/spotter", True, ("load",)),
        ("ClockUnsetError", "acme/spotter", True, ("load",)),
    ]
    times = [entry.time for entry in verified(store).entries[1:]]
    assert times == [*[int(NOW.timestamp())] * 2, int(LATER.timestamp()), *[int(NOW.timestamp())] * 2,
                     int(NOW.replace(year=1970).timestamp()), 0]  # fmt: skip
    assert store.read().time == int(NOW.timestamp())


def test_an_exported_model(tmp_path: Path, store: Store) -> None:
    """Handing an opened model to another runtime is written down, and refused if the grant does not allow it."""
    (tmp_path / "m.eqb").write_bytes(sealed().to_bytes())
    for allow in (("load",), ("export", "load")):
        opened = open_bytes(
            tmp_path / "m.eqb", grant=granted(sealed(), allow=allow), state=store, trust=trust(), now=NOW
        )
        if "export" in allow:
            opened.export()
        else:
            with pytest.raises(EdgeqError, match="not export"):
                opened.export()
    names = [(name, fields["operations"]) for name, fields in events(store)]
    assert names == [("open", ("load",)), ("open", ("load",)), ("export", ("export",))]
    assert not store.read().loads


def test_statuses_and_roots(store: Store) -> None:
    """Every status and every version of a root that the device takes is written down; what it refuses is not."""
    data = status.sign(status.first(publisher().public.key_id, now=NOW, expires=LATER), publisher())
    store.apply_status(data, trust(), now=NOW)
    for version in (first(), following(first())):
        store.apply_root(signed(version, 0, 1), now=NOW)
    with pytest.raises(EdgeqError):
        store.apply_root(signed(first(), 0, 1), now=NOW)
    assert [(name, fields.get("epoch", fields.get("version"))) for name, fields in events(store)] == [
        ("status", 1),
        ("root", 1),
        ("root", 2),
    ]


def test_a_log_begins(store: Store) -> None:
    """A log says of which device it is and why it begins; after a reset another one begins."""
    (begin,) = verified(store).entries
    assert (begin.sequence, begin.event.name, begin.event.fields["reason"]) == (1, "start", "init")
    assert begin.event.fields["device"] == device().public.key_id
    write(store, 3)
    aside = devices.reset(store.folder, device(), now=LATER)
    (again,) = verified(store).entries
    assert again.event.fields["reason"] == "reset"
    assert again.event.fields["log_id"] != begin.event.fields["log_id"]
    key = audit.signing_key(device()).public
    assert audit.verify(journal.read(aside), key).last.sequence == 4


# --- the chain --------------------------------------------------------------------------------------------------------


def test_each_line_holds_the_hash_of_the_one_before(store: Store) -> None:
    """Lines are numbered, canonical, and chained by SHA-256, as anybody can compute it."""
    write(store, 5)
    lines = journal.path(store.folder, 1).read_bytes().splitlines()
    assert [json.loads(line)["sequence"] for line in lines] == [1, 2, 3, 4, 5, 6]
    for before, line in pairwise(lines):
        assert json.loads(line)["previous"] == hashlib.sha256(before).hexdigest()
        assert strict.canonical(json.loads(line)) == line


def test_checkpoints_come_by_themselves(store: Store) -> None:
    """Every 64th line is a checkpoint, and what comes after the last one is told as not signed yet."""
    for lines in (61, 1, 1, 62, 1, 1):
        write(store, lines)
        found = verified(store)
        numbers = [entry.sequence for entry in found.entries if entry.event.name == "checkpoint"]
        assert numbers == list(range(64, found.entries[-1].sequence + 1, 64))
        assert found.unsigned == found.entries[-1].sequence - (numbers[-1] if numbers else 0)


def test_checkpoint_on_request(store: Store) -> None:
    """A checkpoint that is asked for signs all there is, also where one was due anyway."""
    write(store, 2)
    assert store.checkpoint(now=NOW) == 4
    assert verified(store).unsigned == 0
    write(store, 58)
    assert store.read().audit.sequence == 62
    write(store)
    assert store.checkpoint(now=NOW) == 64
    assert [entry.sequence for entry in verified(store).entries if entry.event.name == "checkpoint"] == [4, 64]


def test_the_audit_key(store: Store) -> None:
    """The audit key is the same every time, differs between devices, and `audit.pub` is a P-256 key that openssl reads."""
    public = audit.signing_key(device()).public
    assert public.key_id == audit.signing_key(device()).public.key_id
    assert public.key_id != audit.signing_key(new_device()).public.key_id
    assert load_pem_public_key((store.folder / "audit.pub").read_bytes()) == public.signing


def test_a_checkpoint_verifies_without_edgeq(store: Store) -> None:
    """The signature is over the DSSE encoding of the line without its signature."""
    store.checkpoint(now=NOW)
    value = json.loads(journal.path(store.folder, 1).read_bytes().splitlines()[-1])
    signature = strict.from_base64(value.pop("signature"), "signature")
    body = json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
    kind = b"application/vnd.edgeq.checkpoint.v1+json"
    message = b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(body), body)
    audit.signing_key(device()).public.verify(message, signature)


# --- files ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def small_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files that are long enough after a few lines, and of which few are kept, on a disk that is not waited for."""
    monkeypatch.setattr(limits, "AUDIT_SEGMENT", 2000)
    monkeypatch.setattr(limits, "AUDIT_SEGMENTS", 4)
    monkeypatch.setattr(os, "fsync", lambda _: None)


@pytest.mark.usefixtures("small_files")
def test_rotation(store: Store) -> None:
    """A new file begins with a checkpoint, the chain goes on over the files, and each verifies from there on."""
    write(store, 200)
    assert journal.segments(store.folder) == [1, 64, 128, 192]
    found = verified(store)
    assert [entry.sequence for entry in found.entries] == list(range(1, store.read().audit.sequence + 1))
    key = audit.signing_key(device()).public
    for kept in (1, 2, 3):
        later = audit.verify(list(journal.read(store.folder))[-kept:], key, store.read().audit)
        assert later.last == found.entries[-1]
        assert (later.first.event.name, later.first.sequence) == ("checkpoint", journal.segments(store.folder)[-kept])


@pytest.mark.usefixtures("small_files")
def test_old_files_go(store: Store) -> None:
    """Of more files than are kept the oldest goes, and the rest verifies."""
    write(store, 400)
    assert journal.segments(store.folder) == [192, 256, 320, 384]
    assert verified(store).entries[0].sequence == 192


@pytest.mark.usefixtures("small_files")
def test_files_that_were_moved_away(store: Store) -> None:
    """A log goes on when all files but the last were moved away, and when the one before the next was too."""
    write(store, 130)
    for old in journal.segments(store.folder)[:-1]:
        journal.path(store.folder, old).unlink()
    write(store, 130)
    assert journal.segments(store.folder)[0] == 128
    assert verified(store).entries[-1].sequence == store.read().audit.sequence


def test_the_longest_lines_fit() -> None:
    """The longest line that there can be is below the limit of a line, and a file of them below that of a file."""
    opening = {
        "model_id": "m" * limits.MODEL_ID,
        "version": limits.INTEGER,
        "payload_sha256": "f" * 64,
        "grant_id": "f" * 32,
        "operations": grant.OPERATIONS,
    }
    last = Head(limits.INTEGER - 1, "f" * 64, 1, ("",))
    longest = Event("refuse", {**opening, "error": "E" * 64})
    key = audit.signing_key(device())
    for event in (longest, Event("checkpoint")):
        lines = audit.extended(last, event, "f" * 64, key, NOW, full=False).pending
        assert max(map(len, lines)) <= limits.AUDIT_LINE // 4
        assert all(isinstance(audit.parse(line.encode()), Entry) for line in lines)


# --- processes that die, disks that refuse ----------------------------------------------------------------------------


@pytest.mark.usefixtures("small_files")
def test_killed_at_every_step(store: Store) -> None:
    """A process that is killed at any disk call leaves a log that goes on without a gap, at a new file as well."""
    for lines in (1, 60, 126):
        write(store, lines - store.read().audit.sequence)
        at = [store.read().audit.sequence]

        def check(_: int, at: list[int] = at) -> None:
            found = verified(store).entries[-1].sequence
            assert at[0] <= found <= at[0] + 2
            at[0] = found

        assert killed_at_every_call(lambda: write(store), check) > 6


@pytest.mark.usefixtures("small_files")
def test_killed_at_random(store: Store) -> None:
    """Killed at 200 random moments, the log is whole each time and longer at the end."""
    killed_at_random(lambda: write(store), lambda: verified(store), times=200)
    assert store.read().audit.sequence > 10


@pytest.mark.parametrize("reason", [errno.ENOSPC, errno.EIO, errno.EROFS], ids=errno.errorcode.get)
@pytest.mark.usefixtures("small_files")
def test_disks_that_refuse(store: Store, reason: int) -> None:
    """With a disk that is full or broken, at whichever step, no line is lost: what the log does not take, it gets later."""
    write(store, 61)
    for raised in failing_at_every_call(lambda: write(store), reason):
        assert raised is None or isinstance(raised, EdgeqError), raised
        entries = verified(store).entries
        assert entries[-1].sequence == store.read().audit.sequence


def test_a_line_that_the_log_did_not_take(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the log cannot be written, the opening holds, since the state has its line, and the next one catches up."""

    def full(*_: object) -> None:
        raise OutputError("full")

    with monkeypatch.context() as patch:
        patch.setattr(journal, "append", full)
        write(store)
    assert len(journal.path(store.folder, 1).read_bytes().splitlines()) == 1
    write(store)
    assert [entry.sequence for entry in verified(store).entries] == [1, 2, 3]


@pytest.mark.parametrize("kept", [0, 1, 5, 100])
def test_a_line_that_was_half_written(store: Store, monkeypatch: pytest.MonkeyPatch, kept: int) -> None:
    """A line of which the disk has only the beginning is finished from the state."""
    write(store, 2)
    path = journal.path(store.folder, 1)
    whole = path.read_bytes()
    before = whole[: whole[:-1].rindex(b"\n") + 1]
    path.write_bytes(whole[: len(before) + kept])
    assert [entry.sequence for entry in verified(store).entries] == [1, 2, 3]
    assert path.read_bytes() == whole


# --- lines ------------------------------------------------------------------------------------------------------------

LINES: list[tuple[str, Callable[[dict[str, Any]], object]]] = [
    ("unknown event", lambda value: value.update(event="nothing")),
    ("event that is no text", lambda value: value.update(event=1)),
    ("no event", lambda value: value.pop("event")),
    ("unknown field", lambda value: value.update(more=1)),
    ("missing field", lambda value: value.pop("error")),
    ("sequence zero", lambda value: value.update(sequence=0)),
    ("short hash", lambda value: value.update(previous="00")),
    ("negative time", lambda value: value.update(time=-1)),
    ("error that is no name", lambda value: value.update(error="no such")),
    ("unknown operation", lambda value: value.update(operations=["train"])),
]


@pytest.mark.parametrize("change", [pytest.param(change, id=name) for name, change in LINES])
def test_malformed_lines(store: Store, change: Callable[[Any], object]) -> None:
    """A line with a field that is missing, unknown or out of bounds is refused, as is anything that is no such line."""
    write(store)
    value = json.loads(journal.path(store.folder, 1).read_bytes().splitlines()[-1])
    change(value)
    with pytest.raises(AuditLineError):
        audit.parse(strict.canonical(value))


@pytest.mark.parametrize("line", [b"", b"{}", b"[]", b"null", b"{", b"\xff", b'{"event":"open"}', b" " * 5000])
def test_what_is_no_line(line: bytes) -> None:
    """Whatever is not a line of a log is refused as that."""
    with pytest.raises(AuditLineError):
        audit.parse(line)


def test_what_parses_writes_back(store: Store) -> None:
    """Every line that is read writes to the same bytes."""
    store.checkpoint(now=NOW + timedelta(days=1))
    write(store)
    for line in journal.path(store.folder, 1).read_bytes().splitlines():
        entry = audit.parse(line)
        fields = dict(entry.event.fields)
        if "signature" in fields:
            fields["signature"] = strict.to_base64(fields["signature"])
        again = audit._line(entry.sequence, entry.previous, NOW, Event(entry.event.name, fields))
        assert json.loads(again) | {"time": entry.time} == json.loads(line)


def test_the_state_is_what_holds_the_end(store: Store) -> None:
    """The end of the log that the state names is its last line."""
    write(store, 3)
    head, last = store.read().audit, verified(store).entries[-1]
    assert (head.sequence, head.hash, head.segment) == (last.sequence, last.digest, 1)
    assert replace(store.read(), audit=head) == state.read(
        (store.folder / "state.json").read_bytes(), state.mac_key(device()), store.device
    )
