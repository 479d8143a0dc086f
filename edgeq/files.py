"""Reading and writing whole files: the one place where the package touches the disk with data that matters.

A file is either read whole, under a limit, through one descriptor, or not at all: what was checked is what is used. A
file is either written whole or left as it was: the bytes go to a file beside it, reach the disk, and only then take its
name.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path

from edgeq.errors import InputError, OutputError

PathLike = str | os.PathLike[str]

PUBLIC = 0o644
"""Mode of an ordinary result, before the umask."""

PRIVATE = 0o600
"""Mode of a file that holds a secret: its owner alone reads and writes it."""

PRIVATE_FOLDER = 0o700
"""Mode of a directory of such files."""

OTHERS_WRITE = 0o022
"""Bits of a mode that let somebody else than the owner write."""

_LEFTOVER = r"\.edgeq-[0-9a-f]{16}\.tmp"


def only_ours(status: os.stat_result) -> bool:
    """Whether a file belongs to this user, or to root, and nobody else writes it; False where files belong to nobody."""
    return hasattr(os, "getuid") and status.st_uid in (os.getuid(), 0) and not status.st_mode & OTHERS_WRITE


def read_limited(path: PathLike, limit: int) -> bytes:
    """The whole content of the regular file at `path`, at most `limit` bytes.

    Raises InputError when there is no such file, it is not a regular file, it is larger than `limit`, it changes while
    it is read, or the system refuses to read it.
    """
    name = os.fspath(path)
    with open_regular(path) as (file, size):
        if size > limit:
            raise InputError(f"{name}: the file has {size} bytes, the limit here is {limit}")
        try:
            with open(file.fileno(), "rb", closefd=False) as buffered:
                data = buffered.read(size + 1)
        except OSError as error:
            raise InputError(f"{name}: cannot be read: {_reason(error)}") from None
    if len(data) != size:
        raise InputError(f"{name}: the file changed while it was read: {size} bytes, then {len(data)}")
    return data


@contextmanager
def open_regular(path: PathLike, *, folder: int | None = None) -> Iterator[tuple[FileIO, int]]:
    """The regular file at `path`, open for reading without a buffer, and its size in bytes.

    The file is opened once, and its type and size are those of the open descriptor, so that a file replaced meanwhile
    changes nothing. A symbolic link is followed, since the user named it; inside `folder`, an open directory, none is.

    Raises InputError when there is no such file, it is not a regular file, or the system refuses to open it.
    """
    name = os.fspath(path)
    try:
        # O_NONBLOCK: opening a named pipe must not wait for its writer. It means nothing for a regular file.
        flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | (os.O_NOFOLLOW if folder is not None else 0)
        descriptor = os.open(name, flags, dir_fd=folder)
    except FileNotFoundError:
        raise InputError(f"{name}: there is no such file") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise InputError(f"{name}: cannot be read: {_reason(error)}") from None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise InputError(f"{name}: expected a regular file, found {_kind(status.st_mode)}")
        yield FileIO(descriptor, closefd=False), status.st_size
    finally:
        os.close(descriptor)


def write_atomic(
    path: PathLike,
    data: bytes | bytearray | memoryview | Iterable[bytes | memoryview],
    *,
    mode: int = PUBLIC,
    replace: bool = True,
) -> None:
    """Make `path` a regular file with the content `data` (or its pieces in order), whole or not at all.

    `mode` is cut by the umask, as for any new file. An existing file is replaced; the file that a symbolic link points
    to is replaced and the link stays. After any failure, an interrupt included, the old file is as it was and nothing
    lies beside it. With `replace` false there must be no file yet.

    Raises OutputError when the system refuses; any other exception of the iterable `data` passes through.
    """
    name = os.fspath(path)
    pieces = (data,) if isinstance(data, bytes | bytearray | memoryview) else data
    target = _target(name)
    beside = target.with_name(f".edgeq-{os.urandom(8).hex()}.tmp")  # _LEFTOVER, if this process dies
    try:
        _write(beside, pieces, mode)
        if replace:
            os.replace(beside, target)
        else:
            _name_once(beside, target)
    except BaseException as error:
        with suppress(OSError):
            beside.unlink()
        if isinstance(error, FileExistsError):
            raise OutputError(f"{name}: there is a file already; it was left as it is") from None
        if isinstance(error, OSError):
            raise OutputError(f"{name}: cannot be written: {_reason(error)}") from None
        raise
    try:
        sync_folder(target.parent)
    except OSError as error:
        raise OutputError(f"{name}: written, but the disk did not confirm it: {_reason(error)}") from None


def check_place(path: PathLike) -> None:
    """See that `path` is a place for a result, before the work for it is done; a disk may still be full in the end.

    Raises OutputError as `write_atomic` would.
    """
    name = os.fspath(path)
    folder = _target(name).parent
    try:
        if not stat.S_ISDIR(folder.stat().st_mode):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        if not os.access(folder, os.W_OK | os.X_OK):
            why = errno.EROFS if os.statvfs(folder).f_flag & os.ST_RDONLY else errno.EACCES
            raise OSError(why, os.strerror(why))
    except OSError as error:
        raise OutputError(f"{name}: cannot be written: {_reason(error)}") from None


def remove_leftovers(folder: PathLike, older: float | None = None) -> None:
    """Delete what processes that died inside `write_atomic` left in `folder`; older: only what was last written to so many
    seconds ago.

    The caller makes sure that nobody is writing there now, or has been for so long. A leftover that cannot be deleted harms
    nobody and stays.
    """
    names: list[str] = []
    with suppress(OSError):
        names = os.listdir(folder)
    for name in names:
        path = Path(folder, name)
        with suppress(OSError):  # of each by itself: one may get its name, or go, meanwhile
            if re.fullmatch(_LEFTOVER, name) and (older is None or time.time() - path.stat().st_mtime > older):
                os.unlink(path)


def _target(name: str) -> Path:
    """The file that is to be there, behind symbolic links. Raises OutputError where something else is."""
    try:
        target = Path(os.path.realpath(name))
        if target.exists() and not target.is_file():
            found = _kind(target.stat().st_mode)
            raise OutputError(f"{name}: cannot be written: expected a regular file, found {found}")
    except (OSError, ValueError) as error:
        raise OutputError(f"{name}: cannot be written: {_reason(error)}") from None
    return target


def _write(path: Path, pieces: Iterable[bytes | bytearray | memoryview], mode: int) -> None:
    # O_EXCL: the name is 64 random bits, so a file or link that is already there was not put there by chance.
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode), "wb") as file:
        for piece in pieces:
            file.write(piece)
        file.flush()
        os.fsync(file.fileno())


def _name_once(beside: Path, target: Path) -> None:
    """Give the file its name unless the name is taken: a hard link does both in one step, a rename would overwrite."""
    try:
        os.link(beside, target)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP):
            raise
        if target.exists():  # a file system without hard links (FAT) has no such step
            raise FileExistsError(errno.EEXIST, "File exists") from None
        os.replace(beside, target)
    else:
        beside.unlink()


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable; a file system that cannot sync folders (EINVAL) offers nothing better.

    Raises OSError.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)


def _kind(mode: int) -> str:
    for test, kind in (
        (stat.S_ISREG, "a regular file"),
        (stat.S_ISDIR, "a directory"),
        (stat.S_ISFIFO, "a named pipe"),
        (stat.S_ISSOCK, "a socket"),
    ):
        if test(mode):
            return kind
    return "a device"


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
