"""The kernels compiled here as a shared object, which the system loads by itself: a start then needs neither LLVM nor Numba.

It lies beside the object that it was made of and is found by what can be told without LLVM: the kernels' digest, the compilers'
versions as their folders are named, the processor as Linux describes it, and what of it this process may use. Behind the shared
object stand the processor's name and that of the object it was made of, a digest of everything before, and MAGIC; what is
damaged, or what others may have written, is as if it were not there.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
from pathlib import Path

from edgeq.digest import sha256
from edgeq.errors import OutputError
from edgeq.files import only_ours, write_atomic
from edgeq.kernels.isa import Isa
from edgeq.targets.detect import Cpu
from edgeq.targets.identity import ABI, content_of, source_digest
from edgeq.targets.objects import cache_folder

MAGIC = b"edgeq-linked-1\n"
WORDS = 192
"""Bytes of the processor's name, as LLVM calls it, and the object's, a line each."""

LARGEST = 1 << 25
_PASSING = re.compile(r"^(cpu MHz|bogomips|processor|physical id|core id|apicid|initial apicid)\b.*\n", re.MULTILINE)
"""What differs between the processors of one machine, or from one moment to the next."""


def place(on: Isa, cpu: Cpu) -> Path | None:
    """The file for this processor and this version of the kernels; None where that cannot be said, or in a folder that others
    may write: the system's loader takes names, and what was checked under one could be another file by then."""
    versions = [_version(package) for package in ("numba", "llvmlite")]
    described = _described()
    if sys.platform != "linux" or cpu.architecture != "x86_64" or not described or None in versions:
        return None
    asked = os.environ.get("EDGEQ_ISA", "")
    folder = cache_folder()
    try:
        if not only_ours(os.stat(folder)):
            return None
    except FileNotFoundError:  # it will be made
        pass
    except OSError:
        return None
    facts = [source_digest(), ABI, versions, described, sorted(cpu.features), on.name, asked]
    return folder / f"machine-{on.name}-{sha256(repr(facts).encode()).hexdigest()[:32]}.so"


def whole(path: Path) -> tuple[str, Path] | None:
    """The name of the processor that a file was made for and the object that it was made of, if the file is whole and belongs to
    this user (or root)."""
    try:
        if not only_ours(os.stat(path)):
            return None
        blob = content_of(os.fspath(path), LARGEST)
    except OSError:
        return None
    end = len(blob) - len(MAGIC) - 32
    if end < WORDS or blob[end + 32 :] != MAGIC or sha256(memoryview(blob)[:end], end).digest() != blob[end : end + 32]:
        return None
    cpu, _, name = blob[end - WORDS : end].rstrip(b"\0").decode("ascii", "replace").partition("\n")
    return cpu, path.with_name(name)


def keep(path: Path, body: bytes, cpu: str, source: Path) -> None:
    """Make the shared object of an object, which was compiled for this processor and lies at `source`, and keep it."""
    from edgeq.targets.shared import shared

    made, words = shared(body), f"{cpu}\n{source.name}".encode("ascii", "replace")
    if made is None or len(words) > WORDS:
        return
    content = made + words.ljust(WORDS, b"\0")
    with contextlib.suppress(OutputError, OSError):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_atomic(path, content + sha256(content, len(content)).digest() + MAGIC, mode=0o700)


def _version(package: str) -> str | None:
    """The installed version as the folder of its metadata is named: a tenth of what reading them takes."""
    from importlib.util import find_spec

    try:
        spec = find_spec(package)
        found = spec and spec.origin and os.listdir(Path(spec.origin).parents[1])
    except (ImportError, OSError, ValueError):
        return None
    names = [n for n in found or () if n.startswith(f"{package}-") and n.endswith(".dist-info")]
    return names[0] if len(names) == 1 else None


def _described() -> str:
    """What Linux says of the first processor: model, stepping, microcode, flags."""
    try:
        text = content_of("/proc/cpuinfo", 1 << 14).decode("ascii", "replace")
    except OSError:
        return ""
    return _PASSING.sub("", text.partition("\n\n")[0] + "\n")
