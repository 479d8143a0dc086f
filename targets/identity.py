"""Which kernels an object holds: a digest of their source, and the version of the words they are called with."""

from __future__ import annotations

import hashlib
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
    for path in sorted(root.rglob("*.py")):
        digest.update(f"{path.relative_to(root).as_posix()}\0".encode())
        digest.update(path.read_bytes())
        digest.update(b"\0")
    return digest.hexdigest()
