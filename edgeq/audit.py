"""The audit log: what a device did and refused, each line holding the hash of the line before, some signed by the device.

Pure functions over bytes and time; edgeq.journal keeps the lines on the disk. docs/trust-formats.md has the format.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any, Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from edgeq import clock, dsse, limits, strict
from edgeq.errors import (
    AuditChainError,
    AuditCutError,
    AuditLineError,
    AuditSignatureError,
    BadSignatureError,
    StateRolledBackError,
    TrustError,
)
from edgeq.fields import KEY_ID, MODEL_ID, SOME_OPERATIONS, TIME, VERSION
from edgeq.keys import PublisherPublic, Signer, SigningKey
from edgeq.recipients import Identity
from edgeq.records import dataclass, field

CHECKPOINT_EVERY: Final = 64
"""The lines whose number is a multiple of this are checkpoints."""

_FIRST_PREVIOUS: Final = "00" * 32
_CHECKPOINT_TYPE: Final = "application/vnd.edgeq.checkpoint.v1+json"
_KEY_LABEL: Final = b"edgeq-audit/1 key"
_SCALAR_INFO: Final = b"edgeq-audit/1 scalar"
_P256_ORDER: Final = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
_HASH: Final = strict.hexadecimal(32)
_GRANT_ID: Final = strict.hexadecimal(16)
_NUMBER: Final = strict.integer(1, limits.INTEGER)


def _base64(value: Any, what: str) -> bytes:
    return strict.from_base64(value, what) if isinstance(value, str) else strict.encoded(0)(value, what)


_OPENING: Final[dict[str, strict.Check]] = {
    "model_id": MODEL_ID,
    "version": VERSION,
    "payload_sha256": _HASH,
    "grant_id": strict.optional(_GRANT_ID),
    "operations": SOME_OPERATIONS,
}
_EVENTS: Final[dict[str, dict[str, strict.Check]]] = {
    "start": {
        "device": KEY_ID,
        "log_id": strict.hexadecimal(16),
        "reason": strict.text("init|reset", "init or reset", 5),
    },
    "open": _OPENING,
    "export": _OPENING,
    "refuse": {
        "error": strict.text("[A-Za-z]+", "the name of an error", 64),
        **{name: strict.optional(check) for name, check in _OPENING.items()},
    },
    "status": {"authority": KEY_ID, "epoch": _NUMBER, "sha256": _HASH},
    "root": {"root_id": KEY_ID, "version": _NUMBER, "sha256": _HASH},
    "calibrate": {
        "outcome": strict.text("accepted|refused|rollback", "accepted, refused or rollback", 8),
        "payload_sha256": strict.optional(_HASH),
        "overlay_sha256": strict.optional(_HASH),
    },
    "mask": {"recipient": KEY_ID, "nonce": strict.integer(0, limits.INTEGER)},
    "checkpoint": {"device": KEY_ID, "signature": _base64},
}
_COMMON: Final[dict[str, strict.Check]] = {
    "sequence": _NUMBER,
    "previous": _HASH,
    "time": TIME,
    "event": lambda value, what: value,  # which chose the fields
}


@dataclass(frozen=True)
class Event:
    """Something that a device did: one of the events of docs/trust-formats.md, with its fields."""

    name: str
    fields: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Entry:
    """A line of the log, `time` in Unix seconds; `digest` is its hash, which the next line holds."""

    sequence: int
    previous: str
    time: int
    event: Event
    digest: str


@dataclass(frozen=True)
class Head:
    """Where a log ends: number and hash of its last line, the number of the first line in that line's file, and the lines
    of the last write, which may not have reached the file."""

    sequence: int
    hash: str
    segment: int
    pending: tuple[str, ...]


@dataclass(frozen=True)
class Verified:
    """A log that holds together: its first and last entry, how many of its entries are checkpoints, and how many of the
    last of them no checkpoint has signed yet."""

    first: Entry
    last: Entry
    checkpoints: int
    unsigned: int


# --- writing ----------------------------------------------------------------------------------------------------------


def signing_key(identity: Identity) -> SigningKey:
    """The key with which this device signs checkpoints; the same every time (FIPS 186-5, A.2.1)."""
    seed = identity.derive(_KEY_LABEL)
    wide = HKDFExpand(algorithm=hashes.SHA256(), length=48, info=_SCALAR_INFO).derive(seed.reveal())
    scalar = 1 + int.from_bytes(wide, "big") % (_P256_ORDER - 1)
    return SigningKey(ec.derive_private_key(scalar, ec.SECP256R1()))


def start(device: str, reason: str, now: datetime) -> Head:
    """The head of a new log, which has one line; `reason` is "init" or "reset"."""
    event = Event("start", {"device": device, "log_id": os.urandom(16).hex(), "reason": reason})
    line = _line(1, _FIRST_PREVIOUS, now, event)
    return Head(1, _digest(line), 1, (line.decode(),))


def extended(head: Head, event: Event, device: str, key: Signer, now: datetime, *, full: bool) -> Head:
    """The head after one more event, and a checkpoint before it if one is due; `full` says that its file is long enough."""
    lines: list[bytes] = []
    sequence, digest, segment = head.sequence, head.hash, head.segment
    if (sequence + 1) % CHECKPOINT_EVERY == 0:
        lines.append(_checkpoint(sequence + 1, digest, device, key, now))
        sequence, digest = sequence + 1, _digest(lines[0])
        segment = sequence if full else segment
    if event.name == "checkpoint":
        if not lines:
            lines.append(_checkpoint(sequence + 1, digest, device, key, now))
            sequence, digest = sequence + 1, _digest(lines[0])
    else:
        lines.append(_line(sequence + 1, digest, now, event))
        sequence, digest = sequence + 1, _digest(lines[-1])
    return Head(sequence, digest, segment, tuple(line.decode() for line in lines))


def _checkpoint(sequence: int, previous: str, device: str, key: Signer, now: datetime) -> bytes:
    unsigned = _line(sequence, previous, now, Event("checkpoint", {"device": device}))
    signature = key.sign(dsse.pae(_CHECKPOINT_TYPE, unsigned))
    fields = {"device": device, "signature": strict.to_base64(signature)}
    return _line(sequence, previous, now, Event("checkpoint", fields))


def _line(sequence: int, previous: str, now: datetime, event: Event) -> bytes:
    shown = max(0, clock.timestamp(now))  # a clock before 1970 has no other spelling here
    common = {"sequence": sequence, "previous": previous, "time": shown, "event": event.name}
    return strict.canonical({**common, **event.fields})


def _digest(line: bytes) -> str:
    return hashlib.sha256(line).hexdigest()


# --- reading ----------------------------------------------------------------------------------------------------------


def parse(line: bytes) -> Entry:
    """The entry that a line, without its line feed, spells; raises AuditLineError."""
    try:
        value = strict.parse_canonical(line, limits.AUDIT_LINE, "audit log")
        name = value.get("event") if isinstance(value, dict) else None
        if not isinstance(name, str) or name not in _EVENTS:
            raise AuditLineError(f"audit log: expected a line with one of the events {', '.join(_EVENTS)}")
        fields = strict.record(value, {**_COMMON, **_EVENTS[name]}, "audit log")
    except AuditLineError:
        raise
    except TrustError as error:
        raise AuditLineError(str(error)) from None
    event = Event(name, {field: fields[field] for field in _EVENTS[name]})
    return Entry(fields["sequence"], fields["previous"], fields["time"], event, _digest(line))


def entries(segments: Iterable[tuple[int, bytes]]) -> Iterator[Entry]:
    """The entries of a log, from its files in order, as `verify` takes them: for display, nothing is verified.

    Raises AuditLineError, AuditCutError.
    """
    for _, line in _lines(segments):
        yield parse(line)


def verify(segments: Iterable[tuple[int, bytes]], key: PublisherPublic, head: Head | None = None) -> Verified:
    """What a log is, from its files in order: (number of the first line, content).

    `key` is the device's audit key. `head` is where the device's state says that the log ends; without it, lines cut off
    behind the last checkpoint go unnoticed. Files that are missing before the first one are no fault.

    Raises AuditLineError, AuditChainError, AuditSignatureError, AuditCutError, StateRolledBackError.
    """
    begin: Entry | None = None
    last: Entry | None = None
    checkpoints = unsigned = 0
    for number, line in _lines(segments):
        entry = parse(line)
        _check_place(entry, last, number)
        unsigned += 1
        if entry.event.name == "checkpoint":
            _check_signature(line, entry, key)
            checkpoints, unsigned = checkpoints + 1, 0
        elif entry.sequence % CHECKPOINT_EVERY == 0 or (last is None and entry.sequence != 1):
            raise AuditSignatureError(
                f"audit log, line {entry.sequence}: expected a checkpoint, found {entry.event.name}"
            )
        begin, last = begin or entry, entry
    if begin is None or last is None:
        raise AuditCutError("the audit log is empty")
    if head is not None:
        check_end(last, head)
    return Verified(begin, last, checkpoints, unsigned)


def check_end(last: Entry, head: Head) -> None:
    """Return if a log whose last line this is ends where the state says; else raise."""
    if last.sequence < head.sequence:
        raise AuditCutError(f"the audit log ends with line {last.sequence}, the device wrote {head.sequence}")
    if last.sequence > head.sequence:
        raise StateRolledBackError(
            f"the audit log goes on to line {last.sequence}, the device state knows {head.sequence}: an older state was "
            "put in its place"
        )
    if last.digest != head.hash:
        raise AuditChainError(f"audit log, line {last.sequence}: not the line that the device wrote")


def _lines(segments: Iterable[tuple[int, bytes]]) -> Iterator[tuple[int | None, bytes]]:
    """Every line, with the number that its file's name gives to the first one of a file."""
    for first, content in segments:
        if not content.endswith(b"\n"):
            raise AuditCutError(f"audit log: the file that begins with line {first} ends within a line")
        for number, line in enumerate(content[:-1].split(b"\n")):
            yield (None if number else first), line


def _check_place(entry: Entry, before: Entry | None, first: int | None) -> None:
    where = f"audit log, line {entry.sequence}"
    if first is not None and entry.sequence != first:
        raise AuditCutError(f"{where}: its file's name says that it is line {first}")
    if (entry.sequence == 1) != (entry.event.name == "start") or (entry.sequence == 1) != (
        entry.previous == _FIRST_PREVIOUS
    ):
        raise AuditChainError(f"{where}: a log begins with the line 'start', and only there")
    if before is None:
        return
    if entry.sequence != before.sequence + 1:
        raise AuditChainError(f"{where}: expected line {before.sequence + 1}")
    if entry.previous != before.digest:
        raise AuditChainError(f"{where}: the line before it was changed")


def _check_signature(line: bytes, entry: Entry, key: PublisherPublic) -> None:
    value = strict.parse(line, limits.AUDIT_LINE, "audit log")
    del value["signature"]
    try:
        key.verify(dsse.pae(_CHECKPOINT_TYPE, strict.canonical(value)), entry.event.fields["signature"])
    except BadSignatureError:
        raise AuditSignatureError(
            f"audit log, line {entry.sequence}: the checkpoint is not signed by key {key.key_id[:16]}…"
        ) from None
