"""An sshd of the tests' own on loopback, as a user with a home of its own: a device to deploy to.

OpenSSH's server comes from Debian into the tests' cache (tests.arm.fetch), not onto the system. nss_wrapper gives it a table of
users in which ours lives in a temporary folder, so that nothing of the real account is seen or touched.
"""

from __future__ import annotations

import os
import pwd
import resource
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from edgeq import machine
from tests.arm import fetch

RELAY = """
import os, select, socket, sys
host, port, limit = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
up = socket.create_connection((host, port))
while True:
    for ready in select.select([0, up], [], [])[0]:
        data = os.read(0, 65536) if ready == 0 else up.recv(65536)
        if ready == 0:
            limit -= len(data)
        if not data or limit < 0:
            sys.exit()
        up.sendall(data) if ready == 0 else os.write(1, data)
"""
"""A ProxyCommand that breaks the connection after so many bytes."""


@dataclass(frozen=True)
class Sshd:
    """A running server. `config` is what `ssh -F` needs to reach it as host "device"."""

    home: Path
    folder: Path
    port: int

    def config(self, name: str = "good", known: str | None = None, extra: str = "") -> str:
        """An ssh configuration; `known` is another content for known_hosts, `extra` more lines."""
        path, hosts = self.folder / f"config-{name}", self.folder / f"known-{name}"
        key = (self.folder / "host.pub").read_text().strip()
        hosts.write_text(f"[127.0.0.1]:{self.port} {key}\n" if known is None else known.format(port=self.port))
        path.write_text(
            f"Host device\n HostName 127.0.0.1\n Port {self.port}\n User {pwd.getpwuid(os.getuid()).pw_name}\n"
            f" IdentityFile {self.folder}/user\n IdentitiesOnly yes\n UserKnownHostsFile {hosts}\n"
            f" GlobalKnownHostsFile /dev/null\n{extra}"
        )
        return str(path)

    def cut_after(self, size: int) -> str:
        """A configuration with which the connection breaks after `size` bytes towards the device."""
        relay = self.folder / "relay.py"
        relay.write_text(RELAY)
        proxy = f" ProxyCommand {sys.executable} {relay} %h %p {size}\n"
        # The name that known_hosts is searched for does not change with a proxy.
        return self.config("cut", extra=proxy)


@contextmanager
def running(
    folder: Path,
    *,
    python: str = sys.executable,
    environment: Mapping[str, str] | None = None,
    file_size: int | None = None,
) -> Iterator[Sshd]:
    """A server whose only user's home is `folder`/home, where python3 is this Python, or the command `python`.

    `environment`: what commands there find beside HOME. `file_size`: no file grows beyond it there. Raises
    UnavailableError where Debian's packages cannot be had.
    """
    root = fetch.get("sshd")
    home, keys = folder / "home", folder / "sshd"
    (home / "bin").mkdir(parents=True)
    keys.mkdir()
    script = home / "bin/python3"
    script.write_text(f'#!/bin/sh\nexec {python} "$@"\n')
    script.chmod(0o755)
    for name in ("host", "user", "other"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(keys / name)], check=True)
    port = _free_port()
    variables = {
        "PATH": f"{home}/bin:/usr/bin:/bin",
        "EDGEQ_CACHE": str(machine.cache_folder()),  # the kernels that this machine has compiled
        **(environment or {}),
    }
    (keys / "sshd_config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {keys}/host\nAuthorizedKeysFile {keys}/user.pub\nPidFile none\n"
        "UsePAM no\nStrictModes no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin yes\n"
        f"SetEnv {' '.join(f'{name}={value}' for name, value in variables.items())}\n"
    )
    libraries = [root / part / f"{os.uname().machine}-linux-gnu" for part in ("lib", "usr/lib")]
    table = _users(keys, home)
    preload = next(root.rglob("libnss_wrapper.so"))
    env = {**os.environ, **table, "LD_PRELOAD": str(preload), "LD_LIBRARY_PATH": os.pathsep.join(map(str, libraries))}
    with _separation_folder(), open(keys / "log", "wb") as log:
        server = subprocess.Popen(
            [str(root / "usr/sbin/sshd"), "-D", "-e", "-f", str(keys / "sshd_config")],
            env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=_limiter(file_size),
        )  # fmt: skip
        try:
            _wait(port, server, keys / "log")
            yield Sshd(home, keys, port)
        finally:
            server.terminate()
            server.wait()


def _users(folder: Path, home: Path) -> dict[str, str]:
    """Tables in which this user lives in `home` and has a shell, and the server's unprivileged user exists."""
    me = pwd.getpwuid(os.getuid())
    (folder / "passwd").write_text(
        f"{me.pw_name}:x:{me.pw_uid}:{me.pw_gid}::{home}:/bin/sh\nsshd:x:65000:65000::/run/sshd:/usr/sbin/nologin\n"
    )
    (folder / "group").write_text(f"{me.pw_name}:x:{me.pw_gid}:\nsshd:x:65000:\n")
    return {"NSS_WRAPPER_PASSWD": str(folder / "passwd"), "NSS_WRAPPER_GROUP": str(folder / "group")}


@contextmanager
def _separation_folder() -> Iterator[None]:
    """/run/sshd, an empty folder that the server wants when it is started by root, for as long as it runs."""
    path = Path("/run/sshd")
    make = os.getuid() == 0 and not path.exists()
    if make:
        path.mkdir(mode=0o755)
    try:
        yield
    finally:
        if make:
            shutil.rmtree(path, ignore_errors=True)


def _limiter(file_size: int | None) -> Callable[[], None] | None:
    if file_size is None:
        return None
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (file_size, file_size))


def _free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def _wait(port: int, server: subprocess.Popen[bytes], log: Path) -> None:
    """Until it listens."""
    for _ in range(200):
        with socket.socket() as s:
            if s.connect_ex(("127.0.0.1", port)) == 0:
                return
        if server.poll() is not None:
            break
        time.sleep(0.05)
    raise RuntimeError(f"sshd does not listen: {log.read_text()}")
