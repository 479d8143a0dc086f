"""Gathering the byte code of the modules of a start into one file, for edgeq/bytecode.py: from the files that Python has made."""

from __future__ import annotations

import marshal
import os
import sys
from collections.abc import Iterable
from contextlib import suppress
from importlib.machinery import SourceFileLoader
from importlib.util import MAGIC_NUMBER

from edgeq.bytecode import MAGIC, PACKAGE, Finder, open_file
from edgeq.errors import OutputError
from edgeq.files import write_atomic
from edgeq.folded import FILES, parts
from edgeq.records import dataclass, replace

_PYC = 16
"""Bytes in front of the code in Python's own file: magic, flags, the source's date and size (PEP 552)."""


@dataclass(frozen=True)
class Entry:
    """A module: its source, by its path below the package, Python's own file of its code, the source's size
    and date in nanoseconds, whether it is a package, and where its code lies here."""

    source: str
    cached: str
    size: int
    date: int
    is_package: bool
    at: int
    length: int

    def listed(self, head: int) -> tuple[str, str, int, int, bool, int, int]:
        """The index's own words, where `head` bytes lie in front of all code."""
        return self.source, self.cached, self.size, self.date, self.is_package, self.at + head, self.length


def write(where: str, names: Iterable[str]) -> None:
    """Write the file at `where` with those of these modules, imported in this process, that Python keeps byte code of, and with
    what is in the file already and was not imported here.

    Where nothing can be written, or nothing is new (Python may keep no byte code, or know it again by a hash), nothing is.
    """
    if not os.access(os.path.dirname(where), os.W_OK):
        return
    folded: dict[str, dict[str, bytes]] = {}
    new = {name: found for name in names if (found := _module(name, folded)) is not None}
    if not new:
        return
    before = open_file(where)
    others = {name: found for name in before.index if name not in new and (found := _kept(before, name)) is not None}
    before.close()
    index, codes, at = {}, [], 0
    for name, (entry, code) in sorted((new | others).items()):
        index[name] = replace(entry, at=at)
        codes.append(code)
        at += len(code)
    head = 0
    for _ in range(2):  # places are counted from the file's start, and numbers in the index have one length each
        listed = marshal.dumps((PACKAGE, sys.version, {n: e.listed(head) for n, e in index.items()}))
        head = len(MAGIC) + 8 + len(listed)
    with suppress(OutputError):
        write_atomic(where, [MAGIC, len(listed).to_bytes(8, "little"), listed, *codes])


def _kept(before: Finder, name: str) -> tuple[Entry, bytes] | None:
    """What the file says of a module, and its code, if that is still its source's."""
    try:
        entry = Entry(*before.index[name])
        status = os.stat(f"{PACKAGE}/{entry.source}")
        code = os.pread(before.descriptor or -1, entry.length, entry.at)
    except (KeyError, OSError, TypeError):
        return None
    if (status.st_size, status.st_mtime_ns, len(code)) != (entry.size, entry.date, entry.length):
        return None
    return entry, code


def _module(name: str, folded: dict[str, dict[str, bytes]]) -> tuple[Entry, bytes] | None:
    """What the index says of a module, and its code; None if there is none that fits its source.

    folded: by file of several modules the code of each, for those that were asked for before.
    """
    spec = getattr(sys.modules.get(name), "__spec__", None)
    if spec is None or not isinstance(spec.loader, SourceFileLoader) or not spec.origin or not spec.cached:
        return None
    if not spec.origin.startswith(f"{PACKAGE}/"):
        return None
    try:
        status = os.stat(spec.origin)
        with open(spec.cached, "rb") as file:
            content = file.read()
    except OSError:
        return None
    dated = b"".join(
        (number & 0xFFFFFFFF).to_bytes(4, "little") for number in (0, int(status.st_mtime), status.st_size)
    )
    if content[:_PYC] != MAGIC_NUMBER + dated:
        return None
    code = content[_PYC:]
    if os.path.basename(spec.origin) in FILES:
        if spec.origin not in folded:
            whole = SourceFileLoader(name, spec.origin).get_code(name)
            folded[spec.origin] = {part.co_name: marshal.dumps(part) for part in parts(whole)}
        code = folded[spec.origin].get(name.rpartition(".")[2], b"")
    is_package = spec.submodule_search_locations is not None
    source = spec.origin.removeprefix(f"{PACKAGE}/")
    return Entry(source, spec.cached, status.st_size, status.st_mtime_ns, is_package, 0, len(code)), code
