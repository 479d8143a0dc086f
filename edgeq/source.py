"""What lies behind a path: a plain model, a bundle as a file or as a directory, or another signed directory.

Each file is opened once, and its type and size are those of the open descriptor; what is verified is what is then used.
Nothing here is believed: edgeq.loader asks the questions.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from io import FileIO
from typing import Final

from edgeq import container, errors, limits
from edgeq.bundle import FILES, PAYLOAD_FILE
from edgeq.errors import InputError
from edgeq.files import PathLike, open_regular
from edgeq.manifest import MANIFEST_FILE
from edgeq.oms import SIGNATURE_FILE
from edgeq.records import dataclass
from edgeq.second import SIGNATURE_FILE as SECOND_FILE

_IDENTIFIER: Final = b"TFL3"  # of .tflite flatbuffers, behind four bytes of offset
_HASHED_AT_ONCE: Final = 256 * 1024  # stays in a core's own cache between reading and hashing
_LEVELS: Final = 32  # directories inside directories


@dataclass(frozen=True, eq=False)
class Stored:
    """Bytes of an open file, in memory only as far as the caller keeps them."""

    file: FileIO
    offset: int
    size: int

    def chunks(self, length: int) -> Iterator[memoryview]:
        """The bytes in pieces of `length`, the last may be shorter. All pieces share one buffer: use each at once.

        Raises TruncatedError if the file has become shorter, InputError if it cannot be read.
        """
        buffer = memoryview(bytearray(min(length, self.size)))
        for start in range(0, self.size, length):
            piece = buffer[: min(length, self.size - start)]
            self._fill(piece, start)
            yield piece

    def read(self) -> memoryview:
        """All the bytes, in one read-only buffer. Raises as `chunks` does."""
        buffer = memoryview(bytearray(self.size))
        self._fill(buffer, 0)
        return buffer.toreadonly()

    def sha256(self) -> str:
        """SHA-256 of the bytes, in hex. Raises as `chunks` does."""
        digest = hashlib.sha256()
        for piece in self.chunks(_HASHED_AT_ONCE):
            digest.update(piece)
        return digest.hexdigest()

    def _fill(self, buffer: memoryview, start: int) -> None:
        """Read from `start` on until `buffer` is full, without moving the file's own position: threads may share it."""
        filled = 0
        while filled < len(buffer):
            try:
                count = os.preadv(self.file.fileno(), [buffer[filled:]], self.offset + start + filled)
            except OSError as error:
                raise InputError(f"the file cannot be read: {error.strerror}") from None
            if not count:
                raise errors.TruncatedError(
                    f"the file became shorter while it was read, by {len(buffer) - filled} bytes"
                )
            filled += count


@dataclass(frozen=True, eq=False)
class PlainModel:
    """A .tflite file."""

    content: Stored


@dataclass(frozen=True, eq=False)
class StoredBundle:
    """A bundle: the small parts in memory, the payload still in its file; `second` is b"" where there is none."""

    manifest: bytes
    signature: bytes
    payload: Stored
    second: bytes = b""


@dataclass(frozen=True, eq=False)
class StoredDirectory:
    """A signed directory that is not a bundle: its signature, and the open directory."""

    signature: bytes
    folder: int

    def digests(self) -> dict[str, str]:
        """SHA-256 in hex of every file but the signature, by relative POSIX path; raises FileSetError, InputError."""
        digests = {}
        for path, stored in _walk(self.folder, ""):
            if path != SIGNATURE_FILE:
                digests[path] = stored.sha256()
                if len(digests) > limits.DIRECTORY_FILES:
                    raise errors.FileSetError(f"more than {limits.DIRECTORY_FILES} files in one directory")
        return digests


@contextmanager
def open_source(path: PathLike) -> Iterator[PlainModel | StoredBundle | StoredDirectory]:
    """What lies behind `path`, open until the context ends.

    Raises InputError for a path that cannot be opened, NotAModelError for a file that is neither, ContainerError,
    LengthError, TruncatedError, SuiteError for a bundle that is framed wrongly, FileSetError for a directory that holds
    other than it should.
    """
    with ExitStack() as stack:
        yield _open_directory(path, stack) if os.path.isdir(path) else _open_file(path, stack)


def _open_file(path: PathLike, stack: ExitStack) -> PlainModel | StoredBundle:
    name = os.fspath(path)
    file, size = stack.enter_context(open_regular(path))
    if size > limits.PAYLOAD + 2 * limits.SIGNATURE + limits.MANIFEST + limits.PAYLOAD_ALIGNMENT:
        raise errors.LengthError(f"{name}: {size} bytes, more than a model or bundle can have")
    header = bytes(Stored(file, 0, min(size, container.HEADER_SIZE)).read())
    if header[4:8] == _IDENTIFIER:
        if size > limits.PAYLOAD:
            raise errors.LengthError(f"{name}: {size} bytes, a model has at most {limits.PAYLOAD}")
        return PlainModel(Stored(file, 0, size))
    if header[: len(container.MAGIC)] != container.MAGIC:
        raise errors.NotAModelError(
            f"{name}: expected a .tflite model or a bundle, found neither (first bytes {header[:8]!r})"
        )
    layout = container.parse_header(header, size)
    manifest, signature, second = container.split_front(layout, bytes(Stored(file, 0, layout.payload_offset).read()))
    return StoredBundle(manifest, signature, Stored(file, layout.payload_offset, layout.payload_size), second)


def _open_directory(path: PathLike, stack: ExitStack) -> StoredBundle | StoredDirectory:
    name = os.fspath(path)
    folder = stack.enter_context(_open_folder(name, None))
    names = set(_names(folder))
    if SIGNATURE_FILE not in names:
        raise errors.NotAModelError(f"{name}: expected a bundle's directory, found no {SIGNATURE_FILE} in it")
    if names.isdisjoint({MANIFEST_FILE, PAYLOAD_FILE}):
        return StoredDirectory(_small(SIGNATURE_FILE, limits.SIGNATURE, folder), folder)
    signed_again = SECOND_FILE in names
    if names - {SECOND_FILE} != FILES:
        odd = ", ".join(sorted((names ^ FILES) - {SECOND_FILE}))
        raise errors.FileSetError(f"{name}: expected {', '.join(sorted(FILES))} alone; missing or extra: {odd[:128]!a}")
    file, size = stack.enter_context(_open_inside(PAYLOAD_FILE, folder))
    if not 1 <= size <= limits.PAYLOAD:
        raise errors.LengthError(f"{PAYLOAD_FILE}: {size} bytes, expected 1 to {limits.PAYLOAD}")
    manifest = _small(MANIFEST_FILE, limits.MANIFEST, folder)
    signature = _small(SIGNATURE_FILE, limits.SIGNATURE, folder)
    second = _small(SECOND_FILE, limits.SIGNATURE, folder) if signed_again else b""
    return StoredBundle(manifest, signature, Stored(file, 0, size), second)


def _walk(folder: int, prefix: str) -> Iterator[tuple[str, Stored]]:
    """Every file below an open directory, open until the next one is asked for."""
    if prefix.count("/") > _LEVELS:
        raise errors.FileSetError(f"directories nested deeper than {_LEVELS}")
    for name in _names(folder):
        path = prefix + name
        if stat.S_ISDIR(_mode(name, folder)):
            with _open_folder(name, folder) as inner:
                yield from _walk(inner, f"{path}/")
        else:
            with _open_inside(name, folder) as (file, size):
                yield path, Stored(file, 0, size)


def _small(name: str, limit: int, folder: int) -> bytes:
    with _open_inside(name, folder) as (file, size):
        if not 1 <= size <= limit:
            raise errors.LengthError(f"{name}: {size} bytes, expected 1 to {limit}")
        return bytes(Stored(file, 0, size).read())


@contextmanager
def _open_inside(name: str, folder: int) -> Iterator[tuple[FileIO, int]]:
    """A regular file in an open directory; a symbolic link could leave it, so there are none."""
    if not stat.S_ISREG(_mode(name, folder)):
        raise errors.FileSetError(f"{name!a}: expected regular files only, no symbolic links or devices")
    with open_regular(name, folder=folder) as opened:  # which does not follow a link put there meanwhile
        yield opened


def _names(folder: int) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError as error:
        raise InputError(f"the directory cannot be read: {error.strerror}") from None


def _mode(name: str, folder: int) -> int:
    try:
        return os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode
    except OSError as error:
        raise InputError(f"{name!a}: cannot be read: {error.strerror}") from None


@contextmanager
def _open_folder(name: str, folder: int | None) -> Iterator[int]:
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | (os.O_NOFOLLOW if folder is not None else 0)
    try:
        descriptor = os.open(name, flags, dir_fd=folder)
    except OSError as error:
        raise InputError(f"{name}: cannot be read: {error.strerror}") from None
    try:
        yield descriptor
    finally:
        os.close(descriptor)
