"""The state directory: where a device keeps what it remembers, read and replaced whole, by one process at a time.

The rules are in edgeq.state; this is their disk. The directory itself is what gets locked: a lock file could be deleted
under a process that holds it, and the next process would then lock another one.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from edgeq import admit, audit, journal, limits, pem, state, status
from edgeq import root as roots
from edgeq.admit import Memory, Request
from edgeq.audit import Event
from edgeq.errors import (
    EdgeqError,
    InputError,
    OutputError,
    RootVersionError,
    StateBusyError,
    StateDamagedError,
    StateError,
    StateMissingError,
    TrustError,
)
from edgeq.files import PRIVATE, PRIVATE_FOLDER, PUBLIC, PathLike, read_limited, remove_leftovers, write_atomic
from edgeq.recipients import Identity, Secret
from edgeq.records import dataclass, field, replace
from edgeq.root import Root
from edgeq.state import RootSeen, State, StatusSeen
from edgeq.status import Status
from edgeq.trust import Trust

STATE_FILE: Final = "state.json"
AUDIT_KEY: Final = "audit.pub"

LOCK_WAIT: Final = 30.0
"""Seconds to wait for another process that changes the state; each holds it for milliseconds."""

_REPLACED: Final = "replaced-"
_ROOT: Final = "root-"
_STATUS: Final = "status-"


@dataclass(frozen=True, eq=False)
class Store:
    """The state directory of a device, and the device's own key to it. Nothing is read before it is asked for."""

    folder: Path
    identity: Identity
    _key: Secret = field(init=False, repr=False)
    _known: dict[str, Status] = field(init=False, repr=False, default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_key", state.mac_key(self.identity))

    @property
    def device(self) -> str:
        """The device's key id."""
        return self.identity.public.key_id

    def read(self) -> State:
        """What the device remembers; raises StateMissingError, StateDamagedError, StateDeviceError, StateError.

        No lock is needed for this one file: it is only ever replaced whole.
        """
        path = self.folder / STATE_FILE
        try:
            data = read_limited(path, limits.STATE)
        except InputError as error:
            if os.path.lexists(path):
                raise StateError(str(error)) from None
            raise StateMissingError(
                f"{self.folder}: there is no device state (edgeq device init makes one; if there was one, ask why)"
            ) from None
        return state.read(data, self._key, self.device)

    def root(self) -> Root | None:
        """The root that this device believes; raises as `read` does, StateBusyError."""
        with _locked(self.folder, fcntl.LOCK_SH):
            return self._root(self.read())

    def recall(self, authority: str) -> Memory:
        """What the device remembers, with the newest status of this authority. Raises as `read` does, StateBusyError."""
        with _locked(self.folder, fcntl.LOCK_SH):
            return self._memory(self.read(), authority)

    def check(self, request: Request) -> None:
        """Return if nothing that the device remembers speaks against an opening; raises as admit.check does."""
        admit.check(request, self.recall(request.authority))

    def remember(self, request: Request) -> None:
        """Write an opening down, if nothing that the device remembers by now speaks against it.

        Raises as admit.admit and `update` do, RootVersionError if the root was replaced since the request was made; the
        opening has then not happened.
        """

        def change(before: State) -> State:
            self._check_root(before, request.trust)
            return admit.admit(request, self._memory(before, request.authority))

        self.update(
            change, Event("open", admit.described(request.operations, request.signed, request.grant)), request.now
        )

    def export(self, request: Request) -> None:
        """Write down that an opened model was handed to another runtime; raises as `update` does."""
        fields = admit.described(("export",), request.signed, request.grant)
        self.update(lambda before: before, Event("export", fields), request.now)

    def calibrated(
        self, outcome: str, payload_sha256: str | None, overlay_sha256: str | None, *, now: datetime
    ) -> None:
        """Write down how a calibration ended: "accepted", "refused" or "rollback", and the overlay that holds from then on,
        None for none; raises as `update` does."""
        fields = {"outcome": outcome, "payload_sha256": payload_sha256, "overlay_sha256": overlay_sha256}
        self.update(lambda before: before, Event("calibrate", fields), now)

    def refuse(self, error: TrustError, known: Mapping[str, Any], now: datetime) -> None:
        """Write a refusal down: its type, and what was known of the opening by then. If that fails, it stays a refusal."""
        fields = {**known, "error": type(error).__name__}
        with suppress(EdgeqError):
            self.update(lambda before: before, Event("refuse", fields), now)

    def take_nonce(self, recipient: str, nonce: int | None, *, now: datetime) -> int:
        """The next nonce to mask an array for this owner with, or the one given; it is remembered before it is returned.

        Raises NonceReusedError for one that is not above all before, StateFullError, and as `update` does.
        """
        after = self.update(
            lambda before: state.masking(before, recipient, nonce),
            lambda after: Event("mask", {"recipient": recipient, "nonce": after.masks[recipient]}),
            now,
        )
        return after.masks[recipient]

    def checkpoint(self, *, now: datetime) -> int:
        """Sign the audit log as far as it goes, and return the number of its last line; raises as `update` does."""
        return self.update(lambda before: before, Event("checkpoint"), now).audit.sequence

    def apply_root(self, data: bytes, *, now: datetime) -> Root:
        """Believe a root from now on: the first one that this device is given, or the version after the one that it has.

        Raises as root.verify does, and as root.follow does if there is one already, RootExpiredError, ClockError, and as
        `update` does; the state is then what it was.
        """
        found = roots.parse(data).root
        fields = {"root_id": found.root_id, "version": found.version, "sha256": roots.sha256(data)}
        self.update(lambda before: self._with_root(before, data, now), Event("root", fields), now)
        return found

    def apply_status(self, data: bytes, trust: Trust, *, now: datetime) -> Status:
        """Take a status into the state, if it is signed by an authority in `trust` and newer than its last one.

        Raises as status.verify does, RevokedKeyError, StatusRollbackError, StatusExpiredError, ClockError, and as `update`
        does; the state is then what it was.
        """
        found, signer = status.verify(data, trust)
        seen = status.seen(found, data, signer)

        def change(before: State) -> State:
            self._check_root(before, trust)
            when = state.trusted_time(before, now)
            trust.check_status_key(signer, when)
            last = before.statuses.get(found.authority)
            if last is not None and last.epoch:
                status.check_keys(self._status(last), frozenset((signer,)))
            status.check_newer(seen, last)
            status.check_time(found, when)
            after = state.informed(before, when, found.authority, seen)
            write_atomic(self._status_path(seen), data, mode=PRIVATE)
            return after

        fields = {"authority": found.authority, "epoch": found.epoch, "sha256": seen.sha256}
        self.update(change, Event("status", fields), now)
        return found

    def update(self, change: Callable[[State], State], event: Event | Callable[[State], Event], now: datetime) -> State:
        """Replace what the device remembers by `change` of it, with a line in the audit log, and return that; nobody else
        changes it meanwhile. The line may depend on what is remembered then.

        The state is written first, and holds the line: if the log does not take it now, it gets it the next time.

        Raises as `read` does, what `change` raises, StateBusyError, AuditError, StateRolledBackError, and OutputError if
        the disk does not take the state; the state is then what it was.
        """
        with _locked(self.folder, fcntl.LOCK_EX):
            before = self.read()
            journal.settle(self.folder, before.audit)
            full = journal.is_full(self.folder, before.audit)
            changed = change(before)
            said = event if isinstance(event, Event) else event(changed)
            head = audit.extended(before.audit, said, self.device, audit.signing_key(self.identity), now, full=full)
            after = replace(changed, audit=head)
            self._write(after)
            with suppress(OutputError):
                journal.append(self.folder, head)
        return after

    def verify_audit(self) -> audit.Verified:
        """What the audit log is, held to its end against this device's state; raises as audit.verify and `update` do."""
        with _locked(self.folder, fcntl.LOCK_EX):
            head = self.read().audit
            journal.settle(self.folder, head)
            return audit.verify(journal.read(self.folder), audit.signing_key(self.identity).public, head)

    def _check_root(self, remembered: State, trust: Trust) -> None:
        """Return if this trust is the one that the device has to go by; another process may have replaced its root."""
        if remembered.root is not None and self._root(remembered) != trust.root:
            raise RootVersionError(
                "the root that this device believes is not the one asked about, or was replaced: try again"
            )

    def _root(self, remembered: State) -> Root | None:
        seen = remembered.root
        return None if seen is None else roots.parse(self._named(self._root_path(seen), limits.ROOT, seen.sha256)).root

    def _with_root(self, before: State, data: bytes, now: datetime) -> State:
        """The state with this root, its file already written."""
        when = state.trusted_time(before, now)
        last = before.root
        if last is None:
            found = roots.verify(data)
        else:
            held = self._named(self._root_path(last), limits.ROOT, last.sha256)
            found = roots.follow(roots.parse(held).root, held, data)
        roots.check_time(found, when)
        seen = RootSeen(found.root_id, found.version, roots.sha256(data))
        write_atomic(self._root_path(seen), data, mode=PRIVATE)
        return state.rooted(before, when, seen, found.issued, found.status)

    def _memory(self, remembered: State, authority: str) -> Memory:
        seen = remembered.statuses.get(authority)
        return Memory(remembered, None if seen is None else self._status(seen))

    def _status(self, seen: StatusSeen) -> Status:
        """The status with the hash that the state holds. It was verified when it was applied; it is read once a Store."""
        if seen.sha256 not in self._known:
            self._known[seen.sha256] = status.known(self._named(self._status_path(seen), limits.STATUS, seen.sha256))
        return self._known[seen.sha256]

    def _named(self, path: Path, limit: int, sha256: str) -> bytes:
        """A file that the state names by its hash: whoever puts another one there, or none, gets nothing opened."""
        try:
            data = read_limited(path, limit)
        except InputError as error:
            raise StateDamagedError(f"the state names a file that cannot be read: {error}") from None
        if hashlib.sha256(data).hexdigest() != sha256:
            raise StateDamagedError(f"{path}: not the file that this device has applied")
        return data

    def _root_path(self, seen: RootSeen) -> Path:
        return self.folder / f"{_ROOT}{seen.sha256}.json"

    def _status_path(self, seen: StatusSeen) -> Path:
        return self.folder / f"{_STATUS}{seen.sha256}.json"

    def _write(self, after: State) -> None:
        write_atomic(self.folder / STATE_FILE, state.write(after, self._key), mode=PRIVATE)
        self._sweep(after)

    def _begin(self, fresh: State) -> None:
        """Write the first state, the log's first line, and the key that verifies it."""
        key = audit.signing_key(self.identity).public
        write_atomic(self.folder / AUDIT_KEY, pem.public_bytes([key.signing]), mode=PUBLIC)
        self._write(fresh)
        with suppress(OutputError):  # as in `update`
            journal.append(self.folder, fresh.audit)

    def _sweep(self, current: State) -> None:
        """Delete what no state names any more: leftovers of processes that died, statuses and roots of before."""
        remove_leftovers(self.folder)
        named = {self._status_path(seen).name for seen in current.statuses.values()}
        if current.root is not None:
            named.add(self._root_path(current.root).name)
        with suppress(OSError):  # what stays harms nobody
            for name in os.listdir(self.folder):
                if name.startswith((_ROOT, _STATUS)) and name not in named:
                    os.unlink(self.folder / name)


def init(folder: PathLike, identity: Identity, *, now: datetime, root: bytes | None = None) -> State:
    """Make the state directory of a device that has seen nothing yet, and believes a root if one (its file) is given.

    Raises OutputError if there is something in `folder` already or it cannot be made, ClockError, and as root.verify does.
    """
    store = Store(Path(folder), identity)
    fresh = state.start(store.device, now)
    if root is not None:
        roots.verify(root)  # before anything is made
    try:
        os.makedirs(store.folder, PRIVATE_FOLDER, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{store.folder}: cannot be made: {error.strerror}") from None
    with _locked(store.folder, fcntl.LOCK_EX):
        found = sorted(os.listdir(store.folder))
        if STATE_FILE in found:
            raise OutputError(f"{store.folder}: there is a device state already; it was left as it is")
        if found:
            raise OutputError(f"{store.folder}: expected an empty directory, found {found[0]!a}; it was left as it is")
        fresh = fresh if root is None else store._with_root(fresh, root, now)
        store._begin(fresh)
    return fresh


def reset(folder: PathLike, identity: Identity, *, now: datetime) -> Path:
    """Start the state of a device anew, whatever is there, and return the directory in which the old one now lies.

    Raises StateMissingError if there is no directory, StateBusyError, OutputError, ClockUnsetError.
    """
    store = Store(Path(folder), identity)
    fresh = state.start(store.device, now, "reset")
    if not store.folder.is_dir():
        raise StateMissingError(f"{store.folder}: there is no state directory to reset (edgeq device init makes one)")
    with _locked(store.folder, fcntl.LOCK_EX):
        aside = _put_aside(store.folder, now)
        store._begin(fresh)
    return aside


@contextmanager
def _locked(folder: Path, kind: int) -> Iterator[None]:
    """Nobody else is in here for this directory, neither another thread nor another process; several with LOCK_SH.

    Raises StateMissingError if there is no such directory, StateBusyError after LOCK_WAIT.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise StateMissingError(f"{folder}: there is no state directory: {error.strerror}") from None
    try:
        _lock(descriptor, kind, folder)
        yield
    finally:  # a process that is killed leaves no lock; one that another thread forked meanwhile keeps none
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_UN)
        os.close(descriptor)


def _lock(descriptor: int, kind: int, folder: Path) -> None:
    deadline = time.monotonic() + LOCK_WAIT
    while True:
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise StateBusyError(f"{folder}: locked by another process for more than {LOCK_WAIT:.0f} s") from None
            time.sleep(0.002)
        except OSError as error:
            raise StateError(f"{folder}: the state directory cannot be locked: {error.strerror}") from None


def _put_aside(folder: Path, now: datetime) -> Path:
    """Move everything in the directory into a new one inside it; what an earlier reset put aside stays where it is."""
    name = f"{_REPLACED}{now:%Y%m%dT%H%M%S}Z"
    taken = os.listdir(folder)
    number = next(n for n in range(len(taken) + 1) if f"{name}-{n}" not in taken)
    aside = folder / f"{name}-{number}"
    try:
        aside.mkdir(PRIVATE_FOLDER)
        for entry in taken:
            if not entry.startswith(_REPLACED):
                os.rename(folder / entry, aside / entry)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be reset: {error.strerror}") from None
    return aside
