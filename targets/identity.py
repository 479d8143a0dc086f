"""Which kernels an object holds: a digest of their source, and the version of the words they are called with."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import suppress

from edgeq.digest import sha256
from edgeq.kernels import isa
from edgeq.kernels.words.frame import ABI

__all__ = ["ABI", "DIGEST_FILE", "source_digest"]

DIGEST_FILE = "digest.txt"
"""In kernels/ of a wheel that leaves the kernels' sources out: the digest that they had."""


def source_digest() -> str:
    """SHA-256 over the names and contents of every file of kernels/."""
    root = os.path.dirname(isa.__file__)
    try:
        return content_of(os.path.join(root, DIGEST_FILE)).decode("ascii").strip()
    except FileNotFoundError:
        pass
    found = sorted(_sources(root, ()))
    state = sha256(repr(found).encode()).hexdigest()
    if known := _kept(state):
        return known
    digest = sha256(size=sum(size for _, size, _ in found))
    for parts, *_ in found:
        digest.update(f"{'/'.join(parts)}\0".encode())
        digest.update(content_of(os.path.join(root, *parts)))
        digest.update(b"\0")
    _keep(state, digest.hexdigest())
    return digest.hexdigest()


# --- kept beside Python's own byte code, and known again as that is: by the sources' sizes and dates ----------------------------


def _beside() -> str | None:
    """The file that keeps the digest; None where Python keeps no byte code."""
    cached = __spec__.cached if __spec__ else None
    return f"{cached.removesuffix('.pyc')}.digest" if cached else None


def _kept(state: str) -> str:
    """The digest of the sources in this state, "" if nobody has made it."""
    try:
        text = content_of(_beside() or "").decode("ascii")
    except (OSError, UnicodeDecodeError):
        return ""
    known, _, digest = text.partition(" ")
    return digest if known == state and len(digest) == len(state) else ""


def _keep(state: str, digest: str) -> None:
    where = _beside()
    if where is not None and not sys.dont_write_bytecode:
        beside = f"{where}.{os.getpid()}"
        with suppress(OSError):
            with open(beside, "w", encoding="ascii") as file:
                file.write(f"{state} {digest}")
            os.replace(beside, where)


def content_of(path: str, limit: int = sys.maxsize) -> bytes:
    """A small file's bytes, `limit` at most; Python's own files cost twice as much, and each start reads a dozen."""
    content = b""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        while len(content) < limit and (more := os.read(descriptor, min(1 << 16, limit - len(content)))):
            content += more
    finally:
        os.close(descriptor)
    return content


def _sources(folder: str, above: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], int, int]]:
    """The Python files below a folder, each as the parts of its path, its size and its date."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for name in os.listdir(descriptor):
            if name.endswith(".py"):
                status = os.stat(name, dir_fd=descriptor)  # a third less than by its whole path, for each of seventy
                yield (*above, name), status.st_size, status.st_mtime_ns
            elif "." not in name and name != "__pycache__" and os.path.isdir(inner := f"{folder}/{name}"):
                yield from _sources(inner, (*above, name))
    finally:
        os.close(descriptor)
