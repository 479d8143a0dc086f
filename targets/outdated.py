"""Objects of kernels that nobody loads any more: every version of the kernels leaves a folder of them in the user's cache.

When objects were built there, of the other folders the KEPT that were used last stay, and whatever was used within UNUSED
seconds: another version may be at work on this machine. A file's use is when it was written or, as the file system remembers
it, read, so that no start has to say anything.

Nothing here fails, and no process suffers: who has loaded an object keeps it. Files of other names stay, and so does the folder
that they are in.
"""

from __future__ import annotations

import contextlib
import math
import os
import re
import stat
import time
from collections.abc import Iterator
from pathlib import Path

from edgeq.targets.objects import cache_folder

KEPT = 3
UNUSED = 24 * 3600.0
_FOLDER = re.compile(r"[0-9a-f]{32}")
_FILE = re.compile(r"[a-z0-9-]+\.(?:json|so)|\.edgeq-[0-9a-f]{16}\.tmp")


def prune(built: Path) -> list[str]:
    """Remove objects of other kernels than those in `built`, a folder of the cache; the names of the folders that went.

    Of a folder elsewhere the neighbours are not ours, and stay.
    """
    if _FOLDER.fullmatch(built.name) is None or built.parent.parent != cache_folder():
        return []
    others = {f: [max(s.st_mtime, s.st_atime) for _, s in _files(f)] for f in _folders(built.parent) if f != built}
    used = sorted(((max(times), f.name) for f, times in others.items() if times), reverse=True)
    empty = [(_made(f), f.name) for f, times in others.items() if not times]
    now = time.time()
    return [name for when, name in used[KEPT:] + empty if now - when > UNUSED and _remove(built.parent / name)]


def _folders(of: Path) -> Iterator[Path]:
    """This user's folders of objects; links to some are not."""
    with contextlib.suppress(OSError), os.scandir(of) as entries:
        for entry in entries:
            if _FOLDER.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False):
                yield of / entry.name


def _files(folder: Path) -> Iterator[tuple[str, os.stat_result]]:
    """What lies in a folder of objects and is ours: regular files with such a name."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if _FILE.fullmatch(entry.name):
                with contextlib.suppress(OSError):
                    status = entry.stat(follow_symlinks=False)
                    if stat.S_ISREG(status.st_mode):
                        yield entry.path, status


def _made(folder: Path) -> float:
    """When an empty folder was made, or emptied by somebody who is about to remove it: it takes no other's place."""
    with contextlib.suppress(OSError):
        return folder.stat().st_mtime
    return math.inf


def _remove(folder: Path) -> bool:
    """Remove a folder's objects, manifests first: an object without one is nobody's."""
    for path, _ in sorted(_files(folder)):  # .json comes before .so
        with contextlib.suppress(OSError):
            os.unlink(path)
    with contextlib.suppress(OSError):
        folder.rmdir()
        return True
    return False
