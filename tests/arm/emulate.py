"""Processors that this machine does not have: Python on an emulated CPU, with the packages of a device.

An ARM guest runs Debian's Python for its architecture under qemu-user, which enforces the CPU: what a Cortex-A72 does not have
dies with SIGILL. An x86 guest is this Python under an older processor, or by itself where qemu has no such processor.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pip

from edgeq.targets.detect import detect
from edgeq.targets.table import TARGETS
from tests.arm import fetch

ROOT = Path(__file__).resolve().parents[2]
MACHINES = {"aarch64": "arm64", "armv7": "armhf"}
EMULATORS = {"aarch64": "qemu-aarch64", "armv7": "qemu-arm", "x86_64": "qemu-x86_64"}


@dataclass(frozen=True)
class Guest:
    """A Python on a processor. `command` starts it; `environment` is what it finds beside ours."""

    architecture: str
    cpu: str
    command: tuple[str, ...]
    environment: Mapping[str, str]

    def run(self, *arguments: str, timeout: float = 600, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run Python there with these arguments, without input. PYTHONPATH is put before the device's own packages."""
        return subprocess.run(
            [*self.command, *arguments], env=self._found(variables), stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=timeout, check=False,
        )  # fmt: skip

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Begin to run Python there, with nobody to listen."""
        nobody = subprocess.DEVNULL
        return subprocess.Popen(
            [*self.command, *arguments], env=self._found({}), stdin=nobody, stdout=nobody, stderr=nobody
        )

    def _found(self, variables: Mapping[str, str]) -> dict[str, str]:
        found = {name: value for name, value in os.environ.items() if not name.startswith(("EDGEQ_", "PYTHON"))}
        found.update(self.environment)
        found.update(variables)
        found["PYTHONPATH"] = os.pathsep.join(
            part for part in (variables.get("PYTHONPATH"), self.environment.get("PYTHONPATH")) if part
        )
        return found


def guest(architecture: str, cpu: str, *, extra: tuple[str, ...] = ()) -> Guest:
    """A guest of this architecture on this CPU of qemu's; "" is this processor itself. `extra`: more fetched parts."""
    if not cpu:
        return Guest(architecture, cpu, (sys.executable,), {})
    emulator = fetch.get("qemu") / EMULATORS[architecture]
    if architecture == "x86_64":
        # Without a name for its kernels, the OpenBLAS in NumPy's wheels takes some that this processor does not have.
        return Guest(architecture, cpu, (str(emulator), "-cpu", cpu, sys.executable), {"OPENBLAS_CORETYPE": "Nehalem"})
    machine = MACHINES[architecture]
    root = fetch.get(machine)
    paths = [fetch.get(part) for part in (f"site-{machine}", *extra)]
    environment = {}
    if architecture == "armv7":
        libraries = root / "usr/lib/arm-linux-gnueabihf"
        environment["LD_LIBRARY_PATH"] = f"{libraries}/blas:{libraries}/lapack"
        paths.append(root / "usr/lib/python3/dist-packages")
    environment["PYTHONPATH"] = os.pathsep.join(map(str, paths))
    given = [
        part for name, value in environment.items() if name == "LD_LIBRARY_PATH" for part in ("-E", f"{name}={value}")
    ]
    environment.pop("LD_LIBRARY_PATH", None)  # it is for the guest, not for the emulator
    command = (str(emulator), "-cpu", cpu, "-L", str(root), *given, str(root / "usr/bin/python3.11"))
    return Guest(architecture, cpu, command, environment)


def install(there: Guest, wheel: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    """What the guest's own pip says to a wheel, to be installed in `folder`/site."""
    alone = folder / "pip-alone"
    alone.mkdir()
    (alone / "pip").symlink_to(Path(pip.__file__).parent)
    options = ("--no-index", "--no-deps", "--disable-pip-version-check", "--target", str(folder / "site"))
    return there.run("-m", "pip", "install", *options, str(wheel), PYTHONPATH=str(alone))


def installed(there: Guest, wheel: Path, folder: Path) -> Guest:
    """The guest with a wheel under `folder`, beside what it has."""
    done = install(there, wheel, folder)
    assert done.returncode == 0, done.stderr
    paths = os.pathsep.join([str(folder / "site"), there.environment["PYTHONPATH"]])
    return replace(there, environment={**there.environment, "PYTHONPATH": paths})


def guest_for(name: str) -> Guest:
    """The guest to test a target on. Raises LookupError with the reason where there is none."""
    target = TARGETS[name]
    if not target.emulate and (lacking := detect().lacks(target.needs)):
        raise LookupError(f"this processor lacks {', '.join(lacking)}, and qemu has none that offers it")
    return guest(target.architecture, target.emulate)
