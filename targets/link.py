"""From an object file to a shared object: LLVM's linker, from the system or from PyPI's ziglang."""

from __future__ import annotations

import shutil
import struct
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

from edgeq.errors import MachineError
from edgeq.targets.target import Target

FLAGS = ("-shared", "-s", "-z", "noexecstack", "--hash-style=gnu", "--build-id=none")

EM_ARM, EF_ARM_SOFT, EF_ARM_HARD = 40, 0x200, 0x400


def linker() -> tuple[str, ...]:
    """The command that links; MachineError where there is none."""
    if found := shutil.which("ld.lld"):
        return (found,)
    if find_spec("ziglang") is not None:
        return (sys.executable, "-m", "ziglang", "ld.lld")
    raise MachineError("no linker for other processors is installed: pip install 'edgeq[targets]', or Debian's lld")


def version() -> str:
    """The linker's own word for its version."""
    done = subprocess.run([*linker(), "--version"], capture_output=True, text=True, check=False)
    return done.stdout.strip().split("\n")[0]


def link(body: bytes, target: Target) -> bytes:
    """The shared object of one object file, with no library named in it."""
    with tempfile.TemporaryDirectory(prefix="edgeq-link-") as folder:
        source, result = Path(folder, "edgeq.o"), Path(folder, "edgeq.so")
        source.write_bytes(body)
        done = subprocess.run(
            [*linker(), *FLAGS, "-o", result.name, source.name], cwd=folder, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise MachineError(f"linking for {target.name} failed: {done.stderr.strip() or done.returncode}")
        linked = result.read_bytes()
    return hard_float(linked) if target.triple.endswith("hf") else linked


def hard_float(elf: bytes) -> bytes:
    """A 32-bit ARM object whose header says that floats travel in registers, without which glibc does not load it."""
    machine, flags = struct.unpack_from("<H", elf, 18)[0], struct.unpack_from("<I", elf, 36)[0]
    if elf[4] != 1 or machine != EM_ARM:
        raise MachineError("a 32-bit ARM object is expected")
    patched = bytearray(elf)
    struct.pack_into("<I", patched, 36, flags & ~EF_ARM_SOFT | EF_ARM_HARD)
    return bytes(patched)


def undefined(elf: bytes) -> frozenset[str]:
    """Names of the undefined symbols of an ELF file: of a shared object those that it wants from others."""
    wide = elf[4] == 2
    header = struct.unpack_from("<16xHHIQQQIHHHHHH" if wide else "<16xHHIIIIIHHHHHH", elf)
    offset, size, count = header[5], header[10], header[11]
    sections = [struct.unpack_from("<IIQQQQIIQQ" if wide else "<10I", elf, offset + i * size) for i in range(count)]
    found = set()
    for s in sections:
        if s[1] not in (2, 11):  # SHT_SYMTAB, SHT_DYNSYM
            continue
        names = sections[s[6]][4]
        for at in range(s[4], s[4] + s[5], s[9]):
            if wide:
                name, _, _, where, _, _ = struct.unpack_from("<IBBHQQ", elf, at)
            else:
                name, _, _, _, _, where = struct.unpack_from("<IIIBBH", elf, at)
            if where == 0 and name:
                start = names + name
                found.add(elf[start : elf.index(b"\0", start)].decode("ascii"))
    return frozenset(found)
