"""SHA-256 and BLAKE2b without OpenSSL, where there is little to hash: to load its library takes 2 ms and 4 MiB.

`hashlib` takes SHA-256 from there always, and Python's own is fifteen times slower.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hashlib import _Hash as Hash

LITTLE = 1 << 19
"""Bytes that Python's own takes as long for as OpenSSL does to be loaded."""


def sha256(data: Any = b"", size: int = 0) -> Hash:
    """The state of a SHA-256 that took `data`; size: bytes that will come, if more."""
    if size <= LITTLE and "_hashlib" not in sys.modules:
        own = _own()
        if own is not None:
            return own(data)
    import hashlib

    return hashlib.sha256(data)


def _own() -> Callable[[Any], Hash] | None:
    name = "_sha2" if sys.version_info >= (3, 12) else "_sha256"
    try:
        found: Callable[[Any], Hash] = __import__(name).sha256
    except (ImportError, AttributeError):  # a Python that has OpenSSL's alone
        return None
    return found


def blake2b(data: Any) -> bytes:
    """BLAKE2b in 32 bytes."""
    try:
        from _blake2 import blake2b as own  # where hashlib has it from
    except ImportError:
        from hashlib import blake2b as own
    return own(data, digest_size=32).digest()
