"""Giving memory back that nobody uses any more.

The C library keeps what was freed for what will be asked for, in an arena for each thread; what one step of quantizing leaves
there fits the next one badly, and counts as the process's.
"""

from __future__ import annotations

import ctypes
from contextlib import suppress
from functools import cache
from typing import Any, Final

M_TRIM_THRESHOLD: Final = -1
M_MMAP_THRESHOLD: Final = -3
M_ARENA_MAX: Final = -8
"""Of mallopt, in malloc.h."""


@cache
def _trim() -> Any:
    """glibc's malloc_trim, None in another C library."""
    try:
        return getattr(ctypes.CDLL(None), "malloc_trim", None)
    except (OSError, TypeError):  # TypeError: CDLL(None) on Windows
        return None


def _set(parameter: int, value: int) -> None:
    """glibc's mallopt; nothing in another C library."""
    with suppress(OSError, TypeError, AttributeError):
        ctypes.CDLL(None).mallopt(parameter, value)


LARGE: Final = 1 << 20
"""Bytes of arrays that lie apart."""


def keep_apart() -> None:
    """From now on every large array has memory of its own, which goes back to the system with it, in glibc. By default what
    large arrays leave is kept as soon as one has gone, up to 32 MiB of it, and what comes next fits in it badly.
    """
    _set(M_MMAP_THRESHOLD, LARGE)


def one_arena() -> None:
    """From now on all threads share one arena, in glibc, for a process that is edgeq's own. Arenas of their own keep what threads
    freed: a tenth of what quantizing takes, now more and now less. Threads here hardly allocate at the same time.
    """
    _set(M_ARENA_MAX, 1)


FREE: Final = 4 << 20
"""Bytes at the heap's end that wait for what comes next."""


def keep_free() -> None:
    """From now on FREE bytes at the end of the heap are kept, in glibc. It gives back what exceeds an eighth of a megabyte,
    and for what comes next the system zeroes the same pages again: a fifth of the time that making pieces of a float model takes.
    """
    _set(M_TRIM_THRESHOLD, FREE)


def give_back() -> None:
    """Return what is free to the system, as far as the C library can: takes a millisecond or some."""
    trim = _trim()
    if trim is not None:
        trim(0)
