"""Debian packages of any architecture, unpacked into a folder: with apt-get, without root, nothing of the system changed.

apt gets a root of its own in a temporary folder, with the machine's own mirror and keys in it, so that what it downloads is
signed as everything else on the machine is. `dpkg-deb -x` unpacks without running a package's scripts: a userland that is
only read, by an emulator.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from pathlib import Path

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")


class UnavailableError(Exception):
    """What the emulated tests need cannot be had here; the message says why, in one line."""


def host() -> str:
    """This machine's architecture in Debian's word. Raises UnavailableError where there is no dpkg."""
    if shutil.which("dpkg") is None:
        raise UnavailableError("dpkg is not installed: expected a Debian machine")
    return _run(["dpkg", "--print-architecture"]).strip()


def unpack(packages: list[str], *, suite: str, architecture: str, into: Path, depends: bool = True) -> None:
    """Unpack packages of a suite (with all that they depend on, or alone) into the folder `into`.

    Raises UnavailableError if this is not a Debian machine with apt, or the mirror does not have or give them.
    """
    for tool in ("apt-get", "dpkg-deb"):
        if shutil.which(tool) is None:
            raise UnavailableError(f"{tool} is not installed: expected a Debian machine")
    with tempfile.TemporaryDirectory(prefix="edgeq-apt-") as folder:
        root = Path(folder)
        apt = _private_apt(root, f"deb [{_signed()}] {_mirror()} {suite} main\n", architecture)
        _run([*apt, "update"])
        if depends:
            _run([*apt, "install", "--yes", "--download-only", *packages])
        else:
            _run([*apt, "download", *packages], cwd=root / "cache/archives")
        into.mkdir(parents=True, exist_ok=True)
        for archive in sorted((root / "cache/archives").glob("*.deb")):
            _run(["dpkg-deb", "-x", str(archive), str(into)])


def _private_apt(root: Path, source: str, architecture: str) -> list[str]:
    """apt-get with its state, cache and configuration below `root`."""
    for name in ("state/lists/partial", "cache/archives/partial", "etc/preferences.d", "etc/apt.conf.d"):
        (root / name).mkdir(parents=True)
    (root / "state/status").touch()
    (root / "etc/sources.list").write_text(source)
    options = {
        "Dir::State": root / "state",
        "Dir::State::status": root / "state/status",
        "Dir::Cache": root / "cache",
        "Dir::Etc::sourcelist": root / "etc/sources.list",
        "Dir::Etc::sourceparts": "/dev/null",
        "Dir::Etc::preferencesparts": root / "etc/preferences.d",
        "APT::Architecture": architecture,
        "APT::Architectures::": architecture,
        "APT::Install-Recommends": "false",
        "APT::Sandbox::User": "root",
        "Acquire::Languages": "none",
        "Acquire::Retries": "3",
        "Debug::NoLocking": "true",
    }
    return ["apt-get", "--quiet", *(part for name, value in options.items() for part in ("-o", f"{name}={value}"))]


def _mirror() -> str:
    """The mirror that this machine takes Debian from."""
    listed = _run(["apt-get", "indextargets", "--format", "$(REPO_URI) $(COMPONENT)", "Created-By: Packages"])
    for line in listed.splitlines():
        if found := re.fullmatch(r"(\S+/debian/?) main", line.strip()):
            return found[1]
    raise UnavailableError(
        "none of apt's sources on this machine is a Debian mirror: expected one that ends in /debian"
    )


def _signed() -> str:
    """How the mirror's signature is checked: by Debian's keyring, or the keys that apt trusts anyway."""
    return f"signed-by={KEYRING}" if KEYRING.exists() else ""


def _run(command: list[str], cwd: Path | None = None) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return done.stdout
    last = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()]
    raise UnavailableError(f"{command[0]} failed: {last[-1] if last else f'exit status {done.returncode}'}")
