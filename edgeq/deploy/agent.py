"""What runs on a device while edgeq deploys to it: sent over ssh's standard input, never installed.

The standard library alone, Python 3.7 or newer, and nothing of edgeq, which may not be there yet. Each call is one verb; the
answer is one line of JSON behind MARK, because a shell's profile may print, too. Whatever is changed gets its name by one rename
after its bytes are on the disk: a copy that breaks, a full disk or a lost battery leave what was there before.

    objects/SHA256     what was copied, by its content            parts/SHA256   a copy that broke, to be continued
    sites/ID/          unpacked wheels                             releases/ID/   bundle, grant, trust, environment
    current, previous  links to releases                           device.key, device.pub, state/
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import types
import zipfile
from collections.abc import Iterator
from typing import Any

MARK = "edgeq-agent-1 "

SPARE = 1 << 20
"""Bytes that stay free on the device's disk."""

_PIECE = 1 << 20


class RefusedError(Exception):
    """A verb cannot be done: a word for the caller, and a line for the user."""

    def __init__(self, error: str, message: str) -> None:
        super().__init__(message)
        self.error = error


# --- verbs ----------------------------------------------------------------------------------------------------------------


def probe(folder: str) -> dict[str, Any]:
    """What the device is and holds. On stdin: the source of edgeq.targets.detect."""
    detect = types.ModuleType("edgeq_detect")
    sys.modules[detect.__name__] = detect
    exec(compile(sys.stdin.buffer.read(), "detect", "exec"), detect.__dict__)
    cpu = detect.detect()
    return {
        "python": platform.python_version(),
        "system": platform.system(),
        "architecture": cpu.architecture,
        "features": sorted(cpu.features),
        "part": cpu.part,
        "packages": {name: _version(name) for name in ("edgeq", "numpy", "cryptography", "click", "numba")},
        "folder": os.getcwd(),
        "key": _read_text("device.pub"),
        "current": _link("current"),
        "previous": _link("previous"),
        "objects": _names("objects"),
        "parts": {name: os.path.getsize(os.path.join("parts", name)) for name in _names("parts")},
    }


def put(folder: str, sha256: str, size: str, offset: str) -> dict[str, Any]:
    """Take an object's bytes from `offset` on; what came before is in its part."""
    _put(sha256, int(size), int(offset))
    return {}


def _put(sha256: str, size: int, offset: int) -> None:
    _make("objects")
    _make("parts")
    part, path = os.path.join("parts", sha256), os.path.join("objects", sha256)
    _need(size - offset)
    stdin: Any = sys.stdin.buffer
    with open(part, "r+b" if offset else "wb") as file:
        file.seek(offset)
        file.truncate()
        try:
            while True:
                piece = stdin.read1(_PIECE)  # what has come, so that a copy that breaks keeps it
                if not piece:
                    break
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
        except OSError:
            with contextlib.suppress(OSError):
                os.unlink(part)
            raise
        found = file.tell()
    if found < size:
        raise RefusedError("broken", f"the copy broke off after {found} of {size} bytes: deploy again to continue")
    if found > size or _sha256(part) != sha256:
        os.unlink(part)
        raise RefusedError("damaged", "a copy does not have the content that was sent; it was removed: deploy again")
    os.replace(part, path)
    _sync("objects")


def site(folder: str) -> dict[str, Any]:
    """Unpack wheels that are objects. On stdin: {"id": …, "wheels": [[name, sha256], …]}."""
    wanted = _request()
    path = os.path.join("sites", _plain(wanted["id"]))
    if not os.path.isdir(path):
        _make("sites")
        _need(sum(_unpacked(_object(sha256), name) for name, sha256 in wanted["wheels"]))
        with _building("sites", path) as made:
            for name, sha256 in wanted["wheels"]:
                _unpack(_object(sha256), name, made)
    return {"packages": _packages(path)}


def identity(folder: str, python: str, site_id: str) -> dict[str, Any]:
    """Make the device's key if there is none, and its state if stdin asks for it; the key never leaves."""
    wanted = _request()
    made = not os.path.exists("device.key")
    if made:
        _edgeq(python, site_id, "keys", "new", "device", "device")
    if wanted["state"] and not os.path.exists("state"):
        _edgeq(python, site_id, "device", "init", "--identity", "device.key", "--state", "state")
    return {"made": made, "key": _read_text("device.pub"), "state": os.path.exists("state")}


def release(folder: str) -> dict[str, Any]:
    """Put a release together. On stdin: {"id", "site", "python", "files": {name: sha256}, "state", "about"}."""
    wanted = _request()
    path = os.path.join("releases", _plain(wanted["id"]))
    _make("releases")
    if os.path.isdir(path):
        return {"made": False}
    with _building("releases", path) as made:
        for name, sha256 in wanted["files"].items():
            os.link(_object(sha256), os.path.join(made, _plain(name)))
        _write(os.path.join(made, "release.json"), json.dumps(wanted, indent=2, sort_keys=True) + "\n")
        _write(
            os.path.join(made, "env"),
            "".join(f"{name}={value}\n" for name, value in _environment(path, wanted).items()),
        )
    return {"made": True}


def check(folder: str, release_id: str) -> dict[str, Any]:
    """Open a release's bundle and run it once, as an app would. On stdin: the program that does it."""
    path = os.path.join("releases", _plain(release_id))
    wanted = _described(path)
    environment = dict(os.environ, **_environment(path, wanted))
    done = subprocess.run(
        [wanted["python"], "-c", sys.stdin.buffer.read().decode()],
        env=environment, stdin=subprocess.DEVNULL, capture_output=True, check=False,
    )  # fmt: skip
    for line in done.stdout.decode("utf-8", "replace").splitlines():
        if line.startswith(MARK):
            answer: dict[str, Any] = json.loads(line[len(MARK) :])
            return answer
    return {"failed": _last_line(done)}


def switch(folder: str, release_id: str) -> dict[str, Any]:
    """Make a release the current one, keep the one before as previous, and remove what neither needs."""
    current = _link("current")
    if not os.path.isdir(os.path.join("releases", _plain(release_id))):
        raise RefusedError("gone", "the release is not there any more: another deployment ran meanwhile, deploy again")
    if current and current != release_id:
        _point("previous", current)
    _point("current", release_id)
    _prune()
    return {"current": _link("current"), "previous": _link("previous")}


# --- what verbs are made of -----------------------------------------------------------------------------------------------


def _request() -> Any:
    return json.loads(sys.stdin.buffer.read().decode())


def _plain(name: str) -> str:
    """A name that stays in its folder."""
    if not name or name.startswith(".") or "/" in name or "\0" in name:
        raise RefusedError("name", f"expected a plain name, found {name!r}")
    return name


def _object(sha256: str) -> str:
    path = os.path.join("objects", _plain(sha256))
    if not os.path.exists(path):
        raise RefusedError("gone", "an object is not there any more: another deployment ran meanwhile, deploy again")
    return path


def _environment(path: str, wanted: Any) -> dict[str, str]:
    """What an app of a release finds in its environment."""
    home = os.path.abspath(path)
    # Plans are kept here, not in a cache that services have elsewhere: the app's first start takes the self-check's.
    found = {"EDGEQ_IDENTITY": os.path.abspath("device.key"), "EDGEQ_PLANS": os.path.abspath("plans")}
    for name, variable in (("bundle.eqb", "EDGEQ_BUNDLE"), ("grant.eqg", "EDGEQ_GRANT"), ("trust", "EDGEQ_TRUST")):
        if name in wanted["files"]:
            found[variable] = os.path.join(home, name)
    if wanted["state"]:
        found["EDGEQ_STATE"] = os.path.abspath("state")
    if wanted["site"]:
        found["PYTHONPATH"] = os.path.abspath(os.path.join("sites", _plain(wanted["site"])))
    return found


def _edgeq(python: str, site_id: str, *arguments: str) -> None:
    """Run a command of edgeq's on this device."""
    environment = dict(os.environ)
    if site_id:
        environment["PYTHONPATH"] = os.path.abspath(os.path.join("sites", _plain(site_id)))
    done = subprocess.run(
        (python, "-m", "edgeq", *arguments),
        env=environment, stdin=subprocess.DEVNULL, capture_output=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise RefusedError("edgeq", f"edgeq {' '.join(arguments[:2])} failed there: {_last_line(done)}")


def _last_line(done: subprocess.CompletedProcess[bytes]) -> str:
    lines = (done.stderr or done.stdout).decode("utf-8", "replace").strip().splitlines()
    if done.returncode < 0:
        lines.append(f"killed by signal {-done.returncode}")
    return lines[-1] if lines else f"exit status {done.returncode}"


def _described(path: str) -> Any:
    text = _read_text(os.path.join(path, "release.json"))
    if text is None:
        raise RefusedError("gone", "there is no such release on the device")
    return json.loads(text)


def _unpacked(path: str, name: str) -> int:
    """Bytes that a wheel takes when it is unpacked. Raises RefusedError for one that is not a wheel."""
    try:
        with zipfile.ZipFile(path) as wheel:
            return sum(entry.file_size for entry in wheel.infolist())
    except zipfile.BadZipFile:
        raise RefusedError("wheel", f"{name} is not a wheel") from None


def _unpack(path: str, name: str, into: str) -> None:
    """A wheel's files, as pip lays them out in a target folder; scripts and headers are of no use there."""
    with zipfile.ZipFile(path) as wheel:
        for entry in wheel.infolist():
            parts = entry.filename.split("/")
            if entry.filename.startswith("/") or ".." in parts or "\\" in entry.filename:
                raise RefusedError("wheel", f"{name} holds a file that would lie outside: {entry.filename!r}")
            if parts[0].endswith(".data"):
                if len(parts) < 3 or parts[1] not in ("purelib", "platlib"):
                    continue
                entry.filename = "/".join(parts[2:])
            if entry.filename and not entry.is_dir():
                wheel.extract(entry, into)


def _packages(path: str) -> dict[str, str]:
    """Name and version of what an unpacked site holds."""
    found = {}
    for name in sorted(os.listdir(path)):
        if name.endswith(".dist-info"):
            package, _, version = name[: -len(".dist-info")].partition("-")
            found[package] = version
    return found


def _version(package: str) -> str | None:
    try:
        from importlib import metadata
    except ImportError:  # Python 3.7
        return None
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _need(size: int) -> None:
    """Refuse before anything is written where the disk has no room."""
    free = shutil.disk_usage(".").free
    if free < size + SPARE:
        raise RefusedError("full", f"the device's disk is full: expected {size + SPARE} bytes free, found {free}")


def _make(name: str) -> None:
    os.makedirs(name, exist_ok=True)


def _names(folder: str) -> list[str]:
    return sorted(os.listdir(folder)) if os.path.isdir(folder) else []


def _link(name: str) -> str | None:
    try:
        return os.path.basename(os.readlink(name))
    except OSError:
        return None


def _read_text(path: str) -> str | None:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except FileNotFoundError:
        return None


def _sha256(path: str) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for piece in iter(lambda: file.read(_PIECE), b""):
            digest.update(piece)
    return digest.hexdigest()


def _write(path: str, text: str) -> None:
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


def _sync(path: str) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _building(folder: str, path: str) -> Iterator[str]:
    """A folder to fill, which gets its name when everything in it is on the disk."""
    made = tempfile.mkdtemp(prefix=".", dir=folder)
    try:
        yield made
        for root, _, files in os.walk(made, topdown=False):
            for name in files:
                descriptor = os.open(os.path.join(root, name), os.O_RDONLY)
                os.fsync(descriptor)
                os.close(descriptor)
            _sync(root)
        os.chmod(made, 0o755)
        os.rename(made, path)
        _sync(folder)
    except BaseException:
        shutil.rmtree(made, ignore_errors=True)
        raise


def _point(name: str, release_id: str) -> None:
    """Make a link point at a release, in one step."""
    beside = f".{name}-{os.getpid()}"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(beside)
    os.symlink(os.path.join("releases", release_id), beside)
    os.replace(beside, name)
    _sync(".")


def _prune() -> None:
    """Remove releases, sites and objects that neither the current nor the previous release names."""
    kept = {name for name in (_link("current"), _link("previous")) if name}
    wanted = [_described(os.path.join("releases", name)) for name in kept]
    sites = {item["site"] for item in wanted}
    objects = {sha256 for item in wanted for sha256 in item["files"].values()}
    objects |= {sha256 for item in wanted for _, sha256 in item["wheels"]}
    for folder, keep in (("releases", kept), ("sites", sites), ("objects", objects), ("parts", ())):
        for name in _names(folder):
            if name not in keep:
                path = os.path.join(folder, name)
                if os.path.isdir(path):
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    with contextlib.suppress(OSError):
                        os.unlink(path)


def _main(arguments: list[str]) -> None:
    verb, folder = arguments[0], arguments[1]
    verbs = {f.__name__: f for f in (probe, put, site, identity, release, check, switch)}
    try:
        os.umask(0o077)
        os.chdir(os.path.expanduser("~"))
        if verb == "probe" and not os.path.isdir(folder):
            os.makedirs(folder)
        os.chdir(folder)
        with _alone(verb):
            answer = verbs[verb](folder, *arguments[2:])
    except RefusedError as refused:
        answer = {"error": refused.error, "message": str(refused)}
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        where = f"{error.filename}: " if error.filename else ""
        message = f"{where}{error.strerror}"
        answer = {
            "error": "full" if full else "system",
            "message": "the device's disk is full: " + message if full else message,
        }
    sys.stdout.write(MARK + json.dumps(answer) + "\n")
    sys.stdout.flush()


@contextlib.contextmanager
def _alone(verb: str) -> Iterator[None]:
    """One deployment changes a folder at a time; looking needs no lock."""
    if verb in ("probe", "check"):
        yield
        return
    import fcntl

    with open("lock", "wb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise RefusedError("busy", "another deployment is changing this folder") from None
        yield


if __name__ == "__main__" and len(sys.argv) > 2:
    _main(sys.argv[1:])
