"""The system's ssh as a way to run the agent on a device: one connection, reused; host keys always held against the known ones.

Everything about reaching a host (keys, ports, jumps) is the user's ssh configuration; what it may not do is weaken the check of
the host's key, so that option is given on the command line, which ssh obeys before any file.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import IO, Any, Final

from edgeq.deploy.address import Address
from edgeq.deploy.agent import MARK
from edgeq.errors import DeployError, DeviceFullError, HostKeyError

Sent = Callable[[int], None]
"""Hears how many bytes have been handed to ssh so far."""

_FAILED: Final = 255
"""ssh's own exit status, where not even a command ran."""

_NO_PYTHON: Final = 127
_HOST_KEY: Final = ("Host key verification failed", "REMOTE HOST IDENTIFICATION HAS CHANGED", "host key is known")
_ERRORS: Final[dict[str, type[DeployError]]] = {"full": DeviceFullError}


@dataclass(frozen=True)
class Connection:
    """A device that answers: the ssh command that reaches it, and the Python that runs the agent there."""

    address: Address
    command: tuple[str, ...]
    python: str

    def call(self, verb: str, *arguments: str, data: Iterable[bytes] = (), sent: Sent | None = None) -> dict[str, Any]:
        """What the agent answers to a verb. `data` follows the agent's source on its standard input.

        Raises DeployError and its kinds: the agent refused, or the connection broke.
        """
        source = agent_source()
        program = f"import sys;exec(compile(sys.stdin.buffer.read({len(source)}),'edgeq-agent','exec'))"
        remote = [self.python, "-c", program, verb, self.address.folder, *arguments]
        command = [*self.command, self.address.destination, "--", " ".join(map(shlex.quote, remote))]
        try:
            return self._answer(*_exchange(command, source, data, sent))
        except FileNotFoundError:
            raise DeployError(f"{command[0]}: there is no such program here: expected OpenSSH's client") from None

    def _answer(self, status: int, out: bytes, err: bytes) -> dict[str, Any]:
        for line in out.decode("utf-8", "replace").splitlines():
            if line.startswith(MARK):
                answer: dict[str, Any] = json.loads(line[len(MARK) :])
                if "error" in answer:
                    raise _ERRORS.get(answer["error"], DeployError)(f"{self.address}: {answer['message']}")
                return answer
        if status == _NO_PYTHON:
            raise DeployError(f"{self.address}: there is no {self.python} on the device: expected Python 3.10 or newer")
        raise failure(self.address, status, err)


@contextmanager
def connect(address: Address, *, python: str, options: Sequence[str] = ()) -> Iterator[Connection]:
    """A connection that several calls share, so that a password is asked for once. `options` go to ssh as they are.

    Raises DeployError if the host cannot be reached or does not let us in, HostKeyError if its key is not the known one.
    """
    program = shutil.which("ssh")
    if program is None:
        raise DeployError("ssh is not installed here: expected OpenSSH's client")
    ask = "ask" if sys.stdin.isatty() else "yes"
    base = [
        program,
        f"-oStrictHostKeyChecking={ask}",
        "-oConnectTimeout=20",
        "-oServerAliveInterval=15",
        "-T",
        *options,
    ]
    if ask == "yes":
        base.append("-oBatchMode=yes")
    with tempfile.TemporaryDirectory(prefix="edgeq-", dir=_short_folder()) as folder:
        socket = ("-S", os.path.join(folder, "ssh"))
        log = Path(folder, "log")
        with open(log, "wb") as errors:  # not a pipe: the process in the background would keep it open
            command = [*base, *socket, "-M", "-N", "-f", address.destination]
            status = subprocess.run(command, stdin=_terminal(), stdout=errors, stderr=errors, check=False).returncode
        if status:
            raise failure(address, status, log.read_bytes())
        try:
            yield Connection(address, (*base, *socket, "-oControlMaster=no"), python)
        finally:
            subprocess.run([*base, *socket, "-O", "exit", address.destination], capture_output=True, check=False)


def failure(address: Address, status: int, err: bytes) -> DeployError:
    """What went wrong, from ssh's exit status and last words."""
    text = err.decode("utf-8", "replace")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if any(words in text for words in _HOST_KEY):
        known = "is not the one that is known for it" if "CHANGED" in text else "is not known here"
        return HostKeyError(
            f"{address.destination}: the host's key {known}, so nothing was sent: compare its fingerprint with the device's "
            "(ssh-keygen -lf on its console), then correct known_hosts"
        )
    last = lines[-1] if lines else f"exit status {status}"
    what = "cannot be reached, or the connection broke" if status == _FAILED else "the command there failed"
    return DeployError(f"{address.destination}: {what}: {last}")


def agent_source() -> bytes:
    """The agent's source, as it is sent."""
    return resources.files("edgeq.deploy").joinpath("agent.py").read_bytes()


def _exchange(command: list[str], source: bytes, data: Iterable[bytes], sent: Sent | None) -> tuple[int, bytes, bytes]:
    """Run a command, feed it while it reads, and return its exit status, stdout and stderr."""
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert child.stdin is not None
    assert child.stdout is not None
    assert child.stderr is not None
    found: dict[str, bytes] = {}

    def read(name: str, stream: IO[bytes]) -> None:
        found[name] = stream.read()

    readers = [threading.Thread(target=read, args=pair) for pair in (("out", child.stdout), ("err", child.stderr))]
    for reader in readers:
        reader.start()
    try:
        with suppress(BrokenPipeError):  # it stopped reading: its answer or exit status says why
            child.stdin.write(source)
            total = 0
            for piece in data:
                child.stdin.write(piece)
                total += len(piece)
                if sent is not None:
                    sent(total)
        with suppress(BrokenPipeError):
            child.stdin.close()
        status = child.wait()
    finally:
        if child.poll() is None:
            child.kill()
            child.wait()
        for reader in readers:
            reader.join()
        child.stdout.close()
        child.stderr.close()
    return status, found["out"], found["err"]


def _terminal() -> int | None:
    """ssh's standard input: ours where somebody sits at it, else nothing."""
    return None if sys.stdin.isatty() else subprocess.DEVNULL


def _short_folder() -> str | None:
    """A socket's path has about a hundred characters: the system's temporary folder if ours is long."""
    return "/tmp" if len(tempfile.gettempdir()) > 50 and os.path.isdir("/tmp") else None
