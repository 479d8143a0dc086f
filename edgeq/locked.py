"""Memory for what nobody else should see: kept out of swap and core dumps where the system allows it, and wiped.

It is anonymous memory of its own, not a part of the heap: when it goes, its pages go back to the system, which clears them.
"""

from __future__ import annotations

import mmap
import sys
from contextlib import suppress
from typing import Final

_ONCE: Final = 1 << 16
_HUGE: Final = 1 << 22


class LockedMemory:
    """Buffers that are wiped together. `locked` says whether all of them are kept out of swap.

    The system may refuse to lock as much as is asked for (`ulimit -l`); the buffers are then as good as others, and edgeq doctor
    says what to do.
    """

    __slots__ = ("__weakref__", "_buffers", "locked")

    def __init__(self) -> None:
        self._buffers: list[mmap.mmap] = []
        self.locked = True

    def take(self, size: int) -> memoryview:
        """A new buffer of `size` bytes, size ≥ 1, all zero, on a page of its own."""
        buffer = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) if _POSIX else mmap.mmap(-1, size)
        if hasattr(mmap, "MADV_DONTDUMP"):
            with suppress(OSError):
                buffer.madvise(mmap.MADV_DONTDUMP)
        if size >= _HUGE and hasattr(mmap, "MADV_HUGEPAGE"):
            with suppress(
                OSError
            ):  # a kernel without them; else a third of the time to open a large model goes to its pages
                buffer.madvise(mmap.MADV_HUGEPAGE)
        self.locked = _lock(buffer) and self.locked
        self._buffers.append(buffer)
        return memoryview(buffer)

    def wipe(self) -> None:
        """Overwrite every buffer with zeros. Whoever still reads one reads zeros."""
        zeros = bytes(_ONCE)
        for buffer in self._buffers:
            for start in range(0, len(buffer), _ONCE):
                buffer[start : start + _ONCE] = zeros[: len(buffer) - start]


_POSIX: Final = sys.platform != "win32"


def _lock(buffer: mmap.mmap) -> bool:
    """Whether the system keeps these pages out of swap."""
    import ctypes

    try:
        libc = ctypes.CDLL(None)
        first = ctypes.c_char.from_buffer(buffer)
        return bool(libc.mlock(ctypes.c_void_p(ctypes.addressof(first)), ctypes.c_size_t(len(buffer))) == 0)
    except (OSError, AttributeError, TypeError):
        return False
