"""`edgeq doctor`: what this machine offers edgeq, and what to do about what it lacks."""

from __future__ import annotations

import os
import platform
import stat
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import click

from edgeq import __version__
from edgeq.cli import figures, show
from edgeq.identities import is_chip

NEEDED = ("numpy", "numba", "cryptography", "flatbuffers", "rich")
PEERS = {"litert": "ai-edge-litert", "tflite": "tflite-runtime"}


@dataclass(frozen=True)
class Finding:
    """One thing looked at. `state`: "ok", "note" (works, could be better) or "problem" (something will fail)."""

    what: str
    state: str
    found: str
    advice: str = ""


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON document instead of a table.")
@click.pass_context
def doctor(ctx: click.Context, as_json: bool) -> None:
    """Report what this machine offers edgeq.

    With a line of advice wherever there is something to do. Looks at Python and the packages, the processor, the
    compiled kernels, the cipher, key files (EDGEQ_IDENTITY and *.key here) and other runtimes. Exits with 1 if
    something would fail.
    """
    findings = list(examine(Path()))
    if as_json:
        show.as_json([vars(f) for f in findings])
    else:
        show.table(["", "what", "found", "advice"], [[f.state, f.what, f.found, f.advice] for f in findings])
    if any(f.state == "problem" for f in findings):
        ctx.exit(1)


def examine(folder: Path) -> Iterator[Finding]:
    """Every finding, key files looked for in `folder`."""
    yield Finding("edgeq", "ok", __version__)
    yield _python()
    yield from map(_package, _needed())
    yield from _machine()
    yield from _trust(folder)
    yield from (_peer(extra, package) for extra, package in PEERS.items())


def _python() -> Finding:
    found = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    if (3, 10) <= sys.version_info < (3, 14):
        return Finding("python", "ok", found)
    return Finding("python", "problem", found, "use Python 3.10 to 3.13")


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _needed() -> Iterator[str]:
    """The packages that this installation asks for: a device's does without Numba and rich."""
    try:
        asked = [r for r in metadata.requires("edgeq") or () if "extra ==" not in r]
    except metadata.PackageNotFoundError:
        asked = list(NEEDED)
    yield from (n for n in NEEDED if n not in ("numba", "rich") or any(r.startswith(n) for r in asked))


def _package(name: str) -> Finding:
    version = _version(name)
    if version is None:
        return Finding(name, "problem", "not installed", f"pip install {name}")
    return Finding(name, "ok", version)


def _machine() -> Iterator[Finding]:
    """The processor, and the kernels that will run on it: built ahead, or compiled here."""
    from edgeq import machine
    from edgeq.errors import EdgeqError
    from edgeq.targets.detect import detect

    chosen, refused = machine.choose() if machine.wanted() != "jit" else (None, [])
    for name, why in refused:
        yield Finding(f"kernels {name}", "ok" if "this processor lacks" in why or "asks for" in why else "note", why)
    if chosen is not None and chosen.manifest is not None:
        cpu = detect()
        yield Finding("processor", "ok", f"{cpu.part or cpu.architecture}, {os.cpu_count()} cores")
        size, built = figures.size(chosen.manifest.size), f"kernels for {chosen.manifest.isa}"
        yield Finding("kernels", "ok", f"built ahead for {chosen.name}: {built}, {size} in {chosen.path.parent}")
        return
    try:
        host = machine.host()
        path = machine.cache_file(host)
    except (EdgeqError, ImportError) as error:
        yield Finding(
            "processor", "problem", str(error), "models cannot run here: install a wheel for this device, or numba"
        )
        return
    yield Finding("processor", "ok", f"{host.cpu}, kernels for {host.isa.name}, {os.cpu_count()} cores")
    folder = path.parent
    if path.is_file():
        yield Finding("kernels", "ok", f"compiled, {figures.size(path.stat().st_size)} in {folder}")
    elif _writable(folder):
        yield Finding(
            "kernels", "note", f"not compiled yet, will be kept in {folder}", "the first run compiles them, once"
        )
    else:
        yield Finding(
            "kernels",
            "note",
            f"{folder} cannot be written",
            "every process compiles them anew: set EDGEQ_CACHE to a folder",
        )


def _writable(folder: Path) -> bool:
    """Whether the folder can be written, or be made."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)


def _trust(folder: Path) -> Iterator[Finding]:
    """The cipher, the clock that grants are held against, and key files."""
    yield _cipher()
    now = time.time()
    today = time.strftime("%Y-%m-%d", time.gmtime(now))
    if now < time.mktime((2024, 1, 1, 0, 0, 0, 0, 0, 0)):
        yield Finding("clock", "problem", today, "set the clock: grants are refused before their time")
    else:
        yield Finding("clock", "ok", today)
    yield from _leaks()
    identity = os.environ.get("EDGEQ_IDENTITY")
    if identity and is_chip(identity):
        yield Finding("device key", "ok", f"in a chip: {identity}")
        identity = None
    paths = {Path(p) for p in (identity,) if p} | set(folder.glob("*.key"))
    yield from map(_key_file, sorted(paths))


def _leaks() -> Iterator[Finding]:
    """Ways on which a decrypted model could get from memory to a disk."""
    yield _swap()
    yield _core_dumps()
    yield _lockable()


def _swap() -> Finding:
    try:
        devices = [line.split()[0] for line in Path("/proc/swaps").read_text().splitlines()[1:]]
    except (OSError, IndexError):
        return Finding("swap", "ok", "not known here")
    plain = [name for name in devices if not name.startswith(("/dev/zram", "/dev/dm-", "/dev/mapper/"))]
    if not plain:
        return Finding("swap", "ok", f"{', '.join(devices)}: in memory or mapped" if devices else "none")
    advice = "memory that cannot be locked may be written there: encrypt it (crypttab) or use zram"
    return Finding("swap", "note", ", ".join(plain), advice)


def _core_dumps() -> Finding:
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_CORE)
    try:
        pattern = Path("/proc/sys/kernel/core_pattern").read_text().strip()
    except OSError:
        pattern = "core"
    handled = pattern.startswith("|")  # a handler gets the dump whatever the limit says
    if soft == 0 and not handled:
        return Finding("core dumps", "ok", "off (ulimit -c 0)")
    advice = "models are left out, intermediate values and keys are not: ulimit -c 0, or LimitCORE=0 in a unit"
    limit = "no limit" if soft == resource.RLIM_INFINITY else figures.size(soft)
    found = f"to {pattern.split()[0]}" if handled else f"up to {limit}"
    return Finding("core dumps", "note", found, advice)


def _lockable() -> Finding:
    """How much memory a process may keep out of swap."""
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    if soft == resource.RLIM_INFINITY or os.geteuid() == 0:
        return Finding("locked memory", "ok", "as much as is asked for")
    found = f"up to {figures.size(soft)}"
    return Finding(
        "locked memory", "note", found, "larger models can be swapped out: ulimit -l, or LimitMEMLOCK= in a unit"
    )


def _cipher() -> Finding:
    """Whether the suite is there, and how fast its cipher is on this machine."""
    try:
        from cryptography.hazmat.primitives import hpke  # noqa: F401 — present since cryptography 47
        from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
    except ImportError:
        return Finding("cipher", "problem", "cryptography without HPKE", "pip install 'cryptography>=47'")
    cipher, chunk = ChaCha20Poly1305(bytes(32)), bytes(1 << 16)
    best = min(
        _seconds(lambda: cipher.encrypt(bytes(12), chunk, None)) for _ in range(50)
    )  # timing only: nothing is kept
    return Finding("cipher", "ok", f"ChaCha20-Poly1305 at {len(chunk) / best / 1e6:.0f} MB/s")


def _seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def _key_file(path: Path) -> Finding:
    """Whether others can read a key, and what a key in a file protects against."""
    what = f"key {path}"
    try:
        status = path.stat()
    except OSError as error:
        return Finding(what, "problem", error.strerror or str(error), "EDGEQ_IDENTITY names a file that cannot be read")
    mode = f"mode {stat.S_IMODE(status.st_mode):04o}"
    if status.st_mode & 0o077:
        return Finding(
            what, "problem", f"{mode}: others can read it", f"chmod 600 {path}, and replace the key if they did"
        )
    return Finding(
        what,
        "note",
        mode,
        "in a file, a key does not protect against a copied disk; in a chip it does",
    )


def _peer(extra: str, package: str) -> Finding:
    version = _version(package)
    what = f"peer {extra}"
    if version is None:
        if extra == "tflite" and sys.version_info >= (3, 12):
            return Finding(what, "ok", "not installed (ends at Python 3.11)")
        return Finding(what, "ok", "not installed", f"to compare: pip install 'edgeq[{extra}]'")
    if extra == "tflite" and (_version("numpy") or "").split(".")[0] != "1":
        return Finding(what, "note", f"{package} {version}", "fails with numpy 2: pip install 'numpy<2'")
    return Finding(what, "ok", f"{package} {version}")
