"""Compiled kernels that nobody uses any more: every version of the kernels and of their compilers leaves an object in the cache.

Of each instruction set the KEPT that were used last stay, and whatever was used within UNUSED seconds: another version may be at
work on this machine. When an object is loaded, its time of modification says so, at most once every TOLD seconds.

Nothing here fails, and no process suffers: who has opened a file keeps it, and who comes after compiles again. A lock goes only
when nobody holds it; if somebody opens it at that moment, two processes may both build, which costs time and nothing else.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
import time
from collections.abc import Iterator
from pathlib import Path

KEPT = 6
UNUSED = 24 * 3600.0
TOLD = 3600.0
_NAME = re.compile(r"machine-([a-z0-9]+)-[0-9a-f]{32}\.(o|so|lock)")


def used(path: Path) -> None:
    """Say that an object was used now."""
    with contextlib.suppress(OSError):
        if abs(time.time() - path.stat().st_mtime) > TOLD:
            os.utime(path)


def prune(folder: Path) -> list[str]:
    """Remove from the cache's folder what is left over; the names of the files removed."""
    now, removed = time.time(), []
    objects: dict[tuple[str, str], list[tuple[float, str]]] = {}
    locks: dict[str, float] = {}
    for name, isa, kind, when in _ours(folder):
        if kind == "lock":
            locks[name] = when
        else:
            objects.setdefault((isa, kind), []).append((when, name))
    for found in objects.values():
        for when, name in sorted(found, reverse=True)[KEPT:]:
            if now - when > UNUSED and _remove(folder / name):
                removed.append(name)
    left = {name for found in objects.values() for _, name in found}.difference(removed)
    for name, when in locks.items():
        if f"{name.removesuffix('.lock')}.o" not in left and now - when > UNUSED and _remove_unheld(folder / name):
            removed.append(name)
    return removed


def _ours(folder: Path) -> Iterator[tuple[str, str, str, float]]:
    """Name, instruction set, kind and time of this user's objects and locks: regular files with such a name."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            named = _NAME.fullmatch(entry.name)
            if named is None:
                continue
            with contextlib.suppress(OSError):
                status = entry.stat(follow_symlinks=False)
                if stat.S_ISREG(status.st_mode) and (not hasattr(os, "getuid") or status.st_uid == os.getuid()):
                    yield entry.name, named[1], named[2], status.st_mtime


def _remove(path: Path) -> bool:
    with contextlib.suppress(OSError):
        path.unlink()
        return True
    return False


def _remove_unheld(path: Path) -> bool:
    """Remove a lock unless a process holds it."""
    with contextlib.suppress(OSError, ImportError):
        import fcntl

        with open(path, "rb") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()
            return True
    return False
