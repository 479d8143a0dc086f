"""What the emulated tests run on: QEMU, two ARM userlands, the wheels of a device, an sshd. Fetched once, kept in a folder.

    python -m tests.arm.fetch [NAME…]

Everything comes through apt-get and pip (see `debian`) into EDGEQ_CACHE/arm, or build/arm of the checkout. Each part is put
together beside its place and renamed into it when it is whole; its name holds a digest of what it was asked for, so that a
changed list is fetched anew.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.arm import debian
from tests.arm.debian import UnavailableError

GUEST_SUITE = "bookworm"  # Python 3.11, which Raspberry Pi OS 12 has
QEMU_SUITE = "trixie"  # QEMU 10, static; bookworm's 7.2 shows guests the host's /proc/cpuinfo

USERLAND = ["libpython3.11-stdlib", "python3.11-minimal", "libstdc++6", "libgomp1", "libatomic1", "libffi8", "libssl3"]

# What a device has beside edgeq, then LiteRT as peer and oracle.
DEVICE = ["numpy==1.26.4", "cryptography>=47", "cffi", "pycparser", "click>=8.1", "flatbuffers>=24.3"]
PEER = ["ai-edge-litert==2.3.0", "backports.strenum", "tqdm", "typing-extensions"]
JIT = ["numba", "llvmlite"]
SSHD = ["openssh-server", "openssh-sftp-server", "libnss-wrapper", "libwrap0"]
LLVM = ["llvm-19", "libllvm19", "libedit2", "libz3-4", "libxml2", "libicu72", "libbsd0", "libmd0"]  # objdump, mca
GLIBC = ("2014", "_2_17", "_2_24", "_2_26", "_2_27", "_2_28", "_2_31", "_2_34", "_2_35")


@dataclass(frozen=True)
class Part:
    """One folder of the cache: its name, what it is made of, and the function that fills it."""

    name: str
    recipe: tuple[str, ...]
    fill: Callable[[Path], None]

    @property
    def path(self) -> Path:
        """Where it lies once it is whole."""
        digest = hashlib.sha256("\n".join(self.recipe).encode()).hexdigest()
        return cache() / f"{self.name}-{digest[:12]}"


def cache() -> Path:
    """The folder of everything fetched."""
    if named := os.environ.get("EDGEQ_CACHE"):
        return Path(named) / "arm"
    return Path(__file__).resolve().parents[2] / "build" / "arm"


def get(name: str) -> Path:
    """The folder of a part, fetched if it is not there. Raises UnavailableError if it cannot be."""
    part = PARTS[name]
    path = part.path
    if path.is_dir():
        return path
    cache().mkdir(parents=True, exist_ok=True)
    sys.stderr.write(f"edgeq: fetching {name} for the emulated tests …\n")
    start = time.perf_counter()
    with tempfile.TemporaryDirectory(dir=cache(), prefix=f".{name}-") as folder:
        made = Path(folder) / "made"
        made.mkdir()
        part.fill(made)
        if not path.is_dir():  # else another process was faster
            made.rename(path)
    sys.stderr.write(f"edgeq: {name}: {time.perf_counter() - start:.0f} s, {path}\n")
    return path


def _debian(packages: list[str], suite: str, architecture: str = "", depends: bool = True) -> Callable[[Path], None]:
    def fill(into: Path) -> None:
        debian.unpack(packages, suite=suite, architecture=architecture or debian.host(), into=into, depends=depends)
        shutil.rmtree(into / "usr/share/doc", ignore_errors=True)

    return fill


def _qemu(into: Path) -> None:
    with tempfile.TemporaryDirectory(dir=into.parent) as folder:
        debian.unpack(["qemu-user"], suite=QEMU_SUITE, architecture=debian.host(), into=Path(folder), depends=False)
        for name in ("qemu-aarch64", "qemu-arm", "qemu-x86_64"):
            shutil.move(Path(folder) / "usr/bin" / name, into / name)


def _wheels(packages: list[str], machine: str) -> Callable[[Path], None]:
    def fill(into: Path) -> None:
        platforms = [part for glibc in GLIBC for part in ("--platform", f"manylinux{glibc}_{machine}")]
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile",
                   "--no-deps", "--only-binary=:all:", "--python-version", "3.11", "--implementation", "cp",
                   *platforms, "--target", str(into), *packages]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
            raise UnavailableError(f"pip failed: {lines[-1] if lines else done.stderr.strip()[-200:]}")

    return fill


PARTS = {
    part.name: part
    for part in (
        Part("qemu", ("qemu-user", QEMU_SUITE), _qemu),
        Part("arm64", (GUEST_SUITE, *USERLAND), _debian(USERLAND, GUEST_SUITE, "arm64")),
        Part("site-arm64", tuple(DEVICE), _wheels(DEVICE, "aarch64")),
        Part("peer-arm64", tuple(PEER), _wheels(PEER, "aarch64")),
        Part("jit-arm64", tuple(JIT), _wheels(JIT, "aarch64")),
        Part("armhf", (GUEST_SUITE, *USERLAND, "python3-numpy", "python3-cffi-backend"),
             _debian([*USERLAND, "python3-numpy", "python3-cffi-backend"], GUEST_SUITE, "armhf")),
        Part("site-armhf", tuple(d for d in DEVICE if not d.startswith(("numpy", "cffi"))),
             _wheels([d for d in DEVICE if not d.startswith(("numpy", "cffi"))], "armv7l")),
        Part("sshd", (GUEST_SUITE, *SSHD), _debian(SSHD, GUEST_SUITE, depends=False)),
        Part("llvm", (GUEST_SUITE, *LLVM), _debian(LLVM, GUEST_SUITE, depends=False)),
    )
}  # fmt: skip


if __name__ == "__main__":
    try:
        for name in sys.argv[1:] or PARTS:
            print(get(name))
    except UnavailableError as error:
        sys.exit(f"error: {error}")
