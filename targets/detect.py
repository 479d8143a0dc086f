"""What this processor offers, without a compiler: names of features, and of the processor where it tells.

ARM: the auxiliary vector (HWCAP, HWCAP2), which is what the kernel lets programs use; the processor's name from MIDR_EL1 or
/proc/cpuinfo, which decides preferences only. x86: glibc's own CPUID table from 2.33 on, of which it holds what the operating
system has enabled, else the flags of /proc/cpuinfo. A user-mode emulator passes the host's /proc/cpuinfo on, but emulates CPUID
and HWCAP, hence the order. Feature names are LLVM's.
"""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

try:
    from edgeq.records import dataclass
except ImportError:  # sent to a device by itself, before edgeq is there
    from dataclasses import dataclass

AT_HWCAP, AT_HWCAP2 = 16, 26

# Linux, arch/arm64/include/uapi/asm/hwcap.h
_ARM64 = {
    "neon": (AT_HWCAP, 1),
    "aes": (AT_HWCAP, 3),
    "sha2": (AT_HWCAP, 6),
    "crc32": (AT_HWCAP, 7),
    "atomics": (AT_HWCAP, 8),
    "fp16": (AT_HWCAP, 10),
    "rdm": (AT_HWCAP, 12),
    "rcpc": (AT_HWCAP, 15),
    "dotprod": (AT_HWCAP, 20),
    "i8mm": (AT_HWCAP2, 13),
}
# Linux, arch/arm/include/uapi/asm/hwcap.h
_ARM32 = {"neon": (AT_HWCAP, 12), "vfpv4": (AT_HWCAP, 16), "idiva": (AT_HWCAP, 17)}

# CPUID: leaf as glibc counts them (sysdeps/x86/include/bits/platform/x86.h), register (eax, ebx, ecx, edx), bit.
_X86 = {
    "ssse3": (0, 2, 9),
    "fma": (0, 2, 12),
    "sse4.2": (0, 2, 20),
    "movbe": (0, 2, 22),
    "popcnt": (0, 2, 23),
    "aes": (0, 2, 25),
    "avx": (0, 2, 28),
    "f16c": (0, 2, 29),
    "bmi": (1, 1, 3),
    "avx2": (1, 1, 5),
    "bmi2": (1, 1, 8),
    "avx512f": (1, 1, 16),
    "avx512dq": (1, 1, 17),
    "avx512cd": (1, 1, 28),
    "avx512bw": (1, 1, 30),
    "avx512vl": (1, 1, 31),
    "avx512vnni": (1, 2, 11),
    "lzcnt": (2, 2, 5),
    "avxvnni": (6, 0, 4),
}
_PROC_NAMES = {"sse4_2": "sse4.2", "bmi1": "bmi", "abm": "lzcnt", "avx512_vnni": "avx512vnni", "avx_vnni": "avxvnni"}
"""Where Linux's word for a flag is not LLVM's."""

_ARM_PARTS = {
    0xD03: "cortex-a53", 0xD04: "cortex-a35", 0xD05: "cortex-a55", 0xD07: "cortex-a57", 0xD08: "cortex-a72",
    0xD09: "cortex-a73", 0xD0A: "cortex-a75", 0xD0B: "cortex-a76", 0xD0C: "neoverse-n1", 0xD0D: "cortex-a77",
    0xD40: "neoverse-v1", 0xD41: "cortex-a78", 0xD46: "cortex-a510", 0xD47: "cortex-a710", 0xD49: "neoverse-n2",
}  # fmt: skip


@dataclass(frozen=True)
class Cpu:
    """This processor: "x86_64", "aarch64", "armv7" or another architecture, its features, and its name or ""."""

    architecture: str
    features: frozenset[str]
    part: str = ""

    def lacks(self, needs: tuple[str, ...]) -> tuple[str, ...]:
        """Which of these features are missing."""
        return tuple(n for n in needs if n not in self.features)


def detect() -> Cpu:
    """This processor as Linux shows it to this process; without features on other systems."""
    architecture = _architecture()
    if sys.platform != "linux":
        return Cpu(architecture, frozenset())
    if architecture == "x86_64":
        return Cpu(architecture, _x86())
    if architecture in ("aarch64", "armv7"):
        return Cpu(architecture, _arm(architecture), _part())
    return Cpu(architecture, frozenset())


def _architecture() -> str:
    """Of this process: a 32-bit Python on a 64-bit ARM kernel is "armv7"."""
    machine = os.uname().machine.lower() if hasattr(os, "uname") else ""
    if machine in ("x86_64", "amd64"):
        return "x86_64" if sys.maxsize > 1 << 32 else "i686"
    if machine.startswith(("aarch64", "arm64", "armv7", "armv8")):
        return "aarch64" if sys.maxsize > 1 << 32 else "armv7"
    return machine


def _arm(architecture: str) -> frozenset[str]:
    """Features from the auxiliary vector."""
    getauxval = ctypes.CDLL(None).getauxval
    getauxval.argtypes, getauxval.restype = [ctypes.c_ulong], ctypes.c_ulong
    words = {kind: getauxval(kind) for kind in (AT_HWCAP, AT_HWCAP2)}
    names = _ARM64 if architecture == "aarch64" else _ARM32
    return frozenset(name for name, (kind, bit) in names.items() if words[kind] >> bit & 1)


def _x86() -> frozenset[str]:
    """Features from glibc's table of CPUID, or from /proc/cpuinfo."""
    try:
        leaf_of = ctypes.CDLL(None).__x86_get_cpuid_feature_leaf  # struct cpuid_feature: cpuid[4], active[4]
    except (AttributeError, OSError):
        return _flags(_read("/proc/cpuinfo"))
    leaf_of.argtypes, leaf_of.restype = [ctypes.c_uint], ctypes.POINTER(ctypes.c_uint32)
    active = {leaf: leaf_of(leaf)[4:8] for leaf in {leaf for leaf, _, _ in _X86.values()}}
    return frozenset(name for name, (leaf, register, bit) in _X86.items() if active[leaf][register] >> bit & 1)


def _flags(cpuinfo: str) -> frozenset[str]:
    """LLVM's names of the first processor's flags."""
    line = next((x for x in cpuinfo.splitlines() if x.startswith("flags")), "")
    return frozenset(_PROC_NAMES.get(f, f) for f in line.partition(":")[2].split())


def _part() -> str:
    """The first ARM core's name, "" for one that is not listed."""
    midr = _read("/sys/devices/system/cpu/cpu0/regs/identification/midr_el1").strip()
    if midr.startswith("0x"):
        return _ARM_PARTS.get(int(midr, 16) >> 4 & 0xFFF, "") if int(midr, 16) >> 24 & 0xFF == 0x41 else ""
    for line in _read("/proc/cpuinfo").splitlines():
        if line.startswith("CPU part"):
            return _ARM_PARTS.get(int(line.partition(":")[2], 16), "")
    return ""


def _read(path: str) -> str:
    try:
        return Path(path).read_text("ascii", "replace")
    except OSError:
        return ""
