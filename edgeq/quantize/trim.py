"""Giving memory back that nobody uses any more.

The C library keeps what was freed for what will be asked for, in an arena for each thread; what one step of quantizing leaves
there fits the next one badly, and counts as the process's.
"""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Any


@cache
def _trim() -> Any:
    """glibc's malloc_trim, None in another C library."""
    try:
        return getattr(ctypes.CDLL(None), "malloc_trim", None)
    except (OSError, TypeError):  # TypeError: CDLL(None) on Windows
        return None


def give_back() -> None:
    """Return what is free to the system, as far as the C library can: takes a millisecond or some."""
    trim = _trim()
    if trim is not None:
        trim(0)
