"""The files of an audit log: lines are appended, never changed, and what a state knows of the end is held against them.

The caller holds the lock of the state directory. edgeq.audit has the lines.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from edgeq import audit, limits
from edgeq.audit import Head
from edgeq.errors import AuditChainError, AuditCutError, AuditLineError, InputError, OutputError, StateRolledBackError
from edgeq.files import PRIVATE, read_limited, sync_folder

_NAME: Final = re.compile(r"audit-([0-9]{12})\.jsonl")
_TAIL: Final = 4 * limits.AUDIT_LINE  # more than the lines of one write and the one before them


def path(folder: Path, segment: int) -> Path:
    """The file whose first line has this number."""
    return folder / f"audit-{segment:012d}.jsonl"


def segments(folder: Path) -> list[int]:
    """The numbers of the first lines of the files in a directory, in order."""
    return sorted(int(match[1]) for name in os.listdir(folder) if (match := _NAME.fullmatch(name)))


def read(folder: Path) -> Iterator[tuple[int, bytes]]:
    """The files of a log, in order, as audit.verify takes them, one at a time in memory.

    Raises InputError, AuditCutError if there is none.
    """
    try:
        found = segments(folder)
    except OSError as error:
        raise InputError(f"{folder}: cannot be read: {error.strerror}") from None
    if not found:
        raise AuditCutError(f"{folder}: there is no audit log")
    for first in found:
        yield first, read_limited(path(folder, first), limits.AUDIT_FILE)


def is_full(folder: Path, head: Head) -> bool:
    """Whether the next checkpoint is to begin a new file."""
    with suppress(OSError):
        return path(folder, head.segment).stat().st_size >= limits.AUDIT_SEGMENT
    return False


def settle(folder: Path, head: Head) -> None:
    """Make the log end where the state says: append what a process that died could not, and refuse any other difference.

    Raises AuditCutError, AuditChainError, StateRolledBackError, AuditLineError, and OutputError if the disk does not take it.
    """
    if (found := segments(folder)) and found[-1] > head.segment:
        raise StateRolledBackError(
            f"the audit log has a file that begins with line {found[-1]}, the device state knows {head.sequence}: an older "
            "state was put in its place"
        )
    target = path(folder, head.segment)
    last, torn = _tail(target) if target.exists() else (None, b"")
    if last is None:
        _check_new_file(folder, head)
    missing = head.pending if last is None else _after(last, head)
    data = _joined(missing)
    if not data.startswith(torn):
        raise AuditChainError("audit log: the last line is unfinished, and not one that the device was writing")
    if data:
        _append(target, data, len(torn))


def append(folder: Path, head: Head) -> None:
    """Append the lines of the last write to a log that ends before them; raises OutputError."""
    _append(path(folder, head.segment), _joined(head.pending), 0)
    with suppress(OSError):  # they go the next time
        for old in segments(folder)[: -limits.AUDIT_SEGMENTS]:
            path(folder, old).unlink()


def _joined(lines: Sequence[str]) -> bytes:
    return b"".join(line.encode() + b"\n" for line in lines)


def _after(last: audit.Entry, head: Head) -> Sequence[str]:
    """The pending lines that come after this one, which is the last that is there."""
    for number, line in enumerate(head.pending):
        if last.digest == audit.parse(line.encode()).previous:
            return head.pending[number:]
    audit.check_end(last, head)
    return ()


def _check_new_file(folder: Path, head: Head) -> None:
    """Return if a file without a line is one that the pending lines begin, behind a whole one or at the very beginning."""
    opening = audit.parse(head.pending[0].encode())
    if opening.sequence != head.segment:
        raise AuditCutError(f"the file of the audit log that begins with line {head.segment} is missing or empty")
    if before := [first for first in segments(folder) if first < head.segment]:
        last, torn = _tail(path(folder, before[-1]))
        if last is None or torn or last.digest != opening.previous:
            raise AuditChainError("the audit log was changed in front of the line that the device wrote last")


def _tail(target: Path) -> tuple[audit.Entry | None, bytes]:
    """The last whole line of a file, if there is one, and what is behind it: the beginning of a line whose writer died."""
    try:
        with open(target, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _TAIL))
            data = file.read(_TAIL)
    except OSError as error:
        raise InputError(f"{target}: cannot be read: {error.strerror}") from None
    whole, feed, torn = data.rpartition(b"\n")
    if not feed and size > limits.AUDIT_LINE:
        raise AuditLineError(f"{target}: the last line has more than {limits.AUDIT_LINE} bytes")
    return (audit.parse(whole.rpartition(b"\n")[2]) if feed else None), torn


def _append(target: Path, data: bytes, torn: int) -> None:
    """Add `data` behind the last whole line, in place of the `torn` bytes there, which it begins with; raises OutputError."""
    try:
        is_new = not target.exists()
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, PRIVATE)
        try:
            os.lseek(descriptor, -torn, os.SEEK_END)
            written = 0
            while written < len(data):
                written += os.write(descriptor, data[written:])
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        if is_new:
            sync_folder(target.parent)
    except OSError as error:
        raise OutputError(f"{target}: cannot be written: {error.strerror}") from None
