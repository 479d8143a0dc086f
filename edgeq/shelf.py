"""What was made of an encrypted model, kept from one start to the next: sealed with the model's own content key.

An entry is a file in the user's cache that nobody opens who could not open the model itself: its key comes from the content key,
so the grant, the device's key and every rule are asked first, each time. The file's name and its key are bound to a label, which
says what the entry was made of and with what: an entry of anything else does not open. The cache is private to its user (as
compiled kernels are, which lie beside it): a file that others can write is not read. What does not open is as if it were not
there.

    entry = MAGIC ‖ salt (32) ‖ size of the content (8, big-endian) ‖ edgeq.stream under the content key and SHA-256 of
            (MAGIC ‖ salt ‖ size ‖ label), in place of a manifest's hash
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from io import FileIO
from stat import S_ISREG
from typing import Final

from edgeq import limits, stream
from edgeq.errors import DecryptError
from edgeq.files import only_ours
from edgeq.locked import LockedMemory
from edgeq.recipients import ContentKey

MAGIC: Final = b"edgeq-kept-plan-1\n"
SALT: Final = 32
HEAD: Final = len(MAGIC) + SALT + 8
NAME: Final = 40
"""Hexadecimal digits of an entry's file name."""

HALF_WRITTEN: Final = 3600.0
"""Seconds: nobody takes that long to write an entry."""


class Shelf:
    """The entries of one opened bundle. Holds its content key, so it lives no longer than it takes to load the model."""

    __slots__ = ("_bundle", "_key")

    def __init__(self, key: ContentKey, manifest_hash: bytes, payload_sha256: str) -> None:
        self._key, self._bundle = key, manifest_hash + bytes.fromhex(payload_sha256)

    def take(self, folder: str, label: bytes, memory: LockedMemory) -> memoryview | None:
        """What was kept in a folder under this label, decrypted into `memory`; None if there is nothing that opens."""
        try:
            # O_NONBLOCK, as in edgeq.files: a named pipe must not make anybody wait.
            descriptor = os.open(self._file(folder, label), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            with FileIO(descriptor) as file:
                length, head = _private(file), file.read(HEAD)
                size = int.from_bytes(head[HEAD - 8 :], "big")
                if (
                    not head.startswith(MAGIC)
                    or not 0 < size <= limits.KEPT_PLAN
                    or length != HEAD + stream.sealed_size(size)
                ):
                    return None
                content = memory.take(size)
                stream.decrypt_into(content, self._key, self._bound(head, label), _chunks(file))
                return content
        except (OSError, DecryptError):
            return None

    def put(self, folder: str, label: bytes, parts: Sequence[memoryview]) -> bool:
        """Keep the `parts` in order as one content; whether that was done: a folder that is full or cannot be written keeps
        nothing."""
        size = sum(map(len, parts))
        if not 0 < size <= limits.KEPT_PLAN:
            return False
        head = MAGIC + os.urandom(SALT) + size.to_bytes(8, "big")
        sealed = stream.encrypt(self._key, self._bound(head, label), parts, size)
        with suppress(OSError):
            _write(self._file(folder, label), head, sealed)
            return True
        return False

    def _bound(self, head: bytes, label: bytes) -> bytes:
        return hashlib.sha256(head + self._bundle + label).digest()

    def _file(self, folder: str, label: bytes) -> str:
        return os.path.join(folder, hashlib.sha256(self._bundle + label).hexdigest()[:NAME])


def _private(file: FileIO) -> int:
    """The length of a file of this user's, or root's, that nobody else writes; −1 of another."""
    status = os.fstat(file.fileno())
    return status.st_size if only_ours(status) else -1


def _chunks(file: FileIO) -> Iterator[memoryview]:
    """What is left of a file, sealed chunk by sealed chunk; all share one buffer."""
    buffer = memoryview(bytearray(stream.SEALED_CHUNK))
    while length := file.readinto(buffer):
        yield buffer[:length]


def _write(name: str, *parts: bytes | bytearray) -> None:
    """Whole or not at all, but not forced to the disk: an entry that a power cut damages does not open, and is made again."""
    where = os.path.dirname(name)
    os.makedirs(where, mode=0o700, exist_ok=True)
    beside = f"{name}.{os.urandom(8).hex()}.tmp"
    try:
        with open(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
            for part in parts:
                file.write(part)
        os.replace(beside, name)
    except BaseException:
        with suppress(OSError):
            os.unlink(beside)
        raise
    _make_room(where)


def _make_room(where: str) -> None:
    """Remove entries that were not used for limits.KEPT_PLANS_DAYS, and then those that were used longest ago, until they are
    no more than limits.KEPT_PLANS and KEPT_PLANS_BYTES; and what others left half written an hour ago and more.

    Used: written or, as the file system remembers it, read, so that a start that only reads has nothing to do. Only files with
    an entry's name are touched: EDGEQ_PLANS may name a folder that has others in it. Other processes may do the same now.
    """
    now, found = time.time(), []
    with os.scandir(where) as entries:
        for entry in entries:
            name, _, more = entry.name.partition(".")
            if len(name) != NAME or name.strip("0123456789abcdef") or (more and not more.endswith(".tmp")):
                continue
            with suppress(OSError):
                status = entry.stat(follow_symlinks=False)
                used = max(status.st_mtime, status.st_atime)
                if not more and S_ISREG(status.st_mode):
                    found.append((used, status.st_size, entry.path))
                elif more and now - used > HALF_WRITTEN:
                    os.unlink(entry.path)
    total = 0
    for number, (used, size, path) in enumerate(sorted(found, reverse=True)):
        total += size
        old = now - used > 86400 * limits.KEPT_PLANS_DAYS
        if old or number >= limits.KEPT_PLANS or total > limits.KEPT_PLANS_BYTES:
            with suppress(OSError):
                os.unlink(path)
