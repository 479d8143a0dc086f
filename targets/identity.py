"""Which kernels an object holds: a digest of their source, and the version of the words they are called with."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from edgeq.kernels import isa
from edgeq.kernels.words.frame import ABI

__all__ = ["ABI", "DIGEST_FILE", "source_digest"]

DIGEST_FILE = "digest.txt"
"""In kernels/ of a wheel that leaves the kernels' sources out: the digest that they had."""


def source_digest() -> str:
    """SHA-256 over the names and contents of every file of kernels/."""
    root = Path(isa.__file__).parent
    try:
        return (root / DIGEST_FILE).read_text("ascii").strip()
    except FileNotFoundError:
        pass
    digest = hashlib.sha256()
    for parts in sorted(_sources(os.fspath(root), ())):
        digest.update(f"{'/'.join(parts)}\0".encode())
        digest.update(_content(os.path.join(root, *parts)))
        digest.update(b"\0")
    return digest.hexdigest()


def _content(path: str) -> bytes:
    """A small file's bytes; Python's own files cost twice as much, and each start reads fifty."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        content = b"".join(iter(lambda: os.read(descriptor, 1 << 16), b""))
    finally:
        os.close(descriptor)
    return content


def _sources(folder: str, above: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """The Python files below a folder, each as the parts of its path."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.endswith(".py"):
                yield (*above, entry.name)
            elif entry.is_dir() and entry.name != "__pycache__":
                yield from _sources(entry.path, (*above, entry.name))
