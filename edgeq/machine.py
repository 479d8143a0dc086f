"""The compiled machine of this processor: an object that was built ahead for its family, or one built here from the source.

Objects built ahead (edgeq.targets) come first, the best that the processor may run: loading one needs neither Numba nor llvmlite,
which a device does not have. Where none fits, the kernels are compiled once and kept as an object file.

An object holds `edgeq_run(frame, thread)` and calls nothing but memcpy, memmove and memset. The file name of one compiled here
carries a digest of everything that went in: the kernels' source, the versions of the compilers, the processor and its features.
Its content carries a digest of itself: a damaged file is built anew, never run.
On x86-64 Linux a shared object is made of it, once (linked.py), so that later starts need no LLVM, which takes 52 MiB.
A folder that cannot be written means building for this process alone. Two processes that start at once wait for each other,
so that one builds. What earlier versions left there goes when there is something new (leftovers.py).

EDGEQ_CACHE names the folder; EDGEQ_ISA a plainer instruction set than the processor's own (tests run every one that fits);
EDGEQ_MACHINE what may be loaded: "auto", "aot" (never compile), "jit" (nothing built ahead) or a target's name.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from edgeq.digest import sha256
from edgeq.errors import MachineError, OutputError
from edgeq.files import only_ours, write_atomic
from edgeq.kernels import isa
from edgeq.records import dataclass
from edgeq.targets import objects
from edgeq.targets.detect import Cpu, detect
from edgeq.targets.identity import ABI, source_digest
from edgeq.targets.objects import cache_folder

__all__ = ["Host", "Machine", "Progress", "build", "cache_file", "cache_folder", "get", "host", "source_digest"]

Progress = Callable[[int, int, str], None]
"""done, total, what."""

ENTRY = "edgeq_run"
CALL = "edgeq_call"
MAGIC = b"edgeq-machine-1\n"

# What code is generated for when EDGEQ_ISA asks for less than the processor has.
_CPU_OF_ISA = {
    "sse42": "nehalem",
    "avx2": "haswell",
    "avxvnni": "alderlake",
    "avx512bw": "skylake-avx512",
    "avx512vnni": "cascadelake",
    "neon": "cortex-a72",
    "dotprod": "cortex-a76",
}


@dataclass(frozen=True)
class Machine:
    """The loaded machine: `run(frame_address, thread) -> status` releases the GIL."""

    run: Callable[[int, int], int]
    isa: isa.Isa
    cpu: str
    source: str  # "built" (ahead), "cache" or "compiled"
    target: str  # the family that an object was built ahead for, "" otherwise
    seconds: float
    keep: tuple[Any, ...]  # what must live as long as the code does
    call: int = 0  # address of kernels/entry.py's function for CPython, 0 where there is none
    kernels: str = ""  # digest of the sources that it was compiled from


@dataclass(frozen=True)
class Host:
    """The processor as the code generator sees it."""

    cpu: str
    features: str
    isa: isa.Isa


def host() -> Host:
    """This processor, or the part of it that EDGEQ_ISA leaves."""
    import llvmlite.binding as llvm

    chosen = _selected(llvm.get_host_cpu_features())
    if os.environ.get("EDGEQ_ISA"):
        return Host(_CPU_OF_ISA.get(chosen.name, "generic"), "", chosen)
    return Host(llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten(), chosen)


def cache_file(on: Host) -> Path:
    """The object's file for this processor and this version of the kernels."""
    from importlib import metadata

    versions = [f"{p} {metadata.version(p)}" for p in ("numba", "llvmlite")]
    facts = "\n".join([source_digest(), str(ABI), *versions, on.cpu, on.features, on.isa.name])
    return cache_folder() / f"machine-{on.isa.name}-{sha256(facts.encode()).hexdigest()[:32]}.o"


_lock = threading.Lock()
_loaded: list[Machine] = []


def get(progress: Progress | None = None) -> Machine:
    """The machine of this process, loading or building it at the first call; `progress` hears of a build."""
    with _lock:
        if not _loaded:
            _loaded.append(_built_ahead() or _load_or_build(progress or _tell))
        return _loaded[0]


# --- built ahead ----------------------------------------------------------------------------------------------------------


def wanted() -> str:
    """What EDGEQ_MACHINE asks for: "auto", "aot", "jit" or a target's name."""
    return os.environ.get("EDGEQ_MACHINE") or "auto"


def _built_ahead() -> Machine | None:
    """The best object that this processor may run, loaded; None if the kernels are to be compiled here instead."""
    mode, start = wanted(), time.perf_counter()
    if mode == "jit":
        return None
    chosen, refused = choose()
    if chosen is not None:
        return _load_built(chosen, start)
    reasons = "; ".join(f"{name}: {why}" for name, why in refused) or "there are none"
    if mode != "auto":
        raise MachineError(f"EDGEQ_MACHINE is {mode!r}: no kernels built ahead fit this processor ({reasons})")
    if not _has_numba():
        raise MachineError(
            f"no kernels built ahead fit this processor ({reasons}), and numba is not installed to compile them"
        )
    return None


def _has_numba() -> bool:
    """Whether there is something to compile with."""
    from importlib.util import find_spec

    try:
        return find_spec("numba") is not None
    except ImportError:  # a finder may say so by itself
        return False


def choose() -> tuple[objects.Candidate | None, list[tuple[str, str]]]:
    """The object to load, if there is one, and every other one that was looked at with the reason against it."""
    refused: list[tuple[str, str]] = []
    chosen = None
    mode = wanted()
    cpu = detect()
    for candidate in objects.candidates(cpu):
        why = unfit(candidate)
        if not why and mode == "auto" and chosen is None:
            why = outdone(candidate, cpu)
        if not why and mode not in ("auto", "aot", candidate.name):
            why = f"EDGEQ_MACHINE asks for {mode}"
        if not why and chosen is None:
            why = objects.damage(candidate)
            if not why:
                chosen = candidate
                continue
        if why:
            refused.append((candidate.name, why))
    return chosen, refused


def unfit(candidate: objects.Candidate) -> str:
    """Why an object is not to be loaded, "" if it may be."""
    asked = os.environ.get("EDGEQ_ISA")
    if candidate.refused or candidate.manifest is None:
        return candidate.refused
    if asked and candidate.manifest.isa != asked:
        return f"EDGEQ_ISA asks for {asked}"
    return "" if candidate.manifest.isa in isa.ALL else f"its instruction set {candidate.manifest.isa!r} is not known"


def outdone(candidate: objects.Candidate, cpu: Cpu) -> str:
    """Why an object that fits is left for Numba to do better, "" if it is not: the processor has wider vectors than it uses."""
    assert candidate.manifest is not None
    sets = {"x86_64": isa.X86, "aarch64": isa.ARM64}.get(cpu.architecture, ())
    widest = next((i.name for i in sets if cpu.features.issuperset(i.needs)), "")
    if widest in ("", candidate.manifest.isa) or os.environ.get("EDGEQ_ISA") or not _has_numba():
        return ""
    return f"it is for {candidate.manifest.isa}, this processor has {widest}, and Numba is here to compile for that"


def _load_built(candidate: objects.Candidate, start: float) -> Machine:
    assert candidate.manifest is not None
    m = candidate.manifest
    try:
        library, run, call = _opened(candidate.path)
    except OSError as error:
        raise MachineError(f"the kernels built ahead for {m.target} do not load: {error}") from None
    return Machine(
        run, isa.ALL[m.isa], m.cpu, "built", m.target, time.perf_counter() - start, (library,), call, m.kernels
    )


def _opened(path: Path) -> tuple[ctypes.CDLL, Any, int]:
    """A shared object with the kernels: itself, what runs a frame, and the address of CALL. Raises OSError."""
    library = ctypes.CDLL(os.fspath(path))
    run = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64, ctypes.c_int64)((ENTRY, library))
    return library, run, ctypes.cast(library[CALL], ctypes.c_void_p).value or 0


# --- compiled here --------------------------------------------------------------------------------------------------------


def _load_or_build(progress: Progress) -> Machine:
    from edgeq import leftovers, linked

    start = time.perf_counter()
    cpu = detect()
    like = _selected(dict.fromkeys(cpu.features, True))
    near = linked.place(like, cpu)
    known = linked.whole(near) if near is not None else None
    if near is not None and known is not None:
        with contextlib.suppress(OSError):  # a folder from which nothing may be run
            ready = _load_linked(near, like, known[0], start)
            for file in (near, known[1]):
                leftovers.used(file)
            return ready
    on = host()
    isa.select(on.isa)
    path = cache_file(on)
    found = _read_cached(path)
    if found is None:
        with _one_builder(path):
            found = _read_cached(path)
            if found is None:
                built = build(on, progress)
                _store(path, built)
                leftovers.prune(path.parent)
                if near is not None and like == on.isa:
                    linked.keep(near, built, on.cpu, path)
                return _load(built, on, "compiled", start)
    leftovers.used(path)
    if near is not None and like == on.isa:
        linked.keep(near, found, on.cpu, path)
    return _load(found, on, "cache", start)


def _selected(features: dict[str, bool]) -> isa.Isa:
    """The instruction set for a processor with these features, or the plainer one that EDGEQ_ISA names."""
    try:
        return isa.detect(features)
    except ValueError as e:
        raise MachineError(str(e)) from None


def _load_linked(path: Path, on: isa.Isa, cpu: str, start: float) -> Machine:
    library, run, call = _opened(path)
    isa.select(on)
    return Machine(run, on, cpu, "cache", "", time.perf_counter() - start, (library,), call, source_digest())


def _tell(done: int, total: int, what: str) -> None:
    """One line, once, and where a terminal shows it, how far it is."""
    live = sys.stderr.isatty()
    if done == 0:
        sys.stderr.write(f"edgeq: compiling its kernels for {what}, once on this machine …" + ("" if live else "\n"))
    elif live and done < total:
        sys.stderr.write(
            f"\redgeq: compiling its kernels, once on this machine: {100 * done // total} % ({what})\x1b[K"
        )
    elif done == total:
        sys.stderr.write(
            f"\redgeq: kernels compiled ({what})\x1b[K\n" if live else f"edgeq: kernels compiled ({what})\n"
        )
    sys.stderr.flush()


# --- the cache ------------------------------------------------------------------------------------------------------------


def _read_cached(path: Path) -> bytes | None:
    """The object, if the file is whole and belongs to this user (or root); anything else is as if it were not there."""
    try:
        with open(path, "rb") as f:
            if not only_ours(os.fstat(f.fileno())):
                return None
            blob = f.read()
    except OSError:
        return None
    head = len(MAGIC) + 32
    if len(blob) <= head or blob[: len(MAGIC)] != MAGIC:
        return None
    body = blob[head:]
    return body if sha256(body, len(body)).digest() == blob[len(MAGIC) : head] else None


def _store(path: Path, body: bytes) -> None:
    with contextlib.suppress(OutputError, OSError):  # a read-only or full disk costs a compilation, not the inference
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_atomic(path, MAGIC + sha256(body, len(body)).digest() + body, mode=0o600)


@contextlib.contextmanager
def _one_builder(path: Path) -> Iterator[None]:
    """Hold the folder's lock while building, so that processes that start at once do not all build."""
    handle: IO[bytes] | None = None
    try:
        import fcntl

        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = open(path.with_suffix(".lock"), "wb")  # noqa: SIM115 — closed below, and the lock with it
        fcntl.flock(handle, fcntl.LOCK_EX)
    except (OSError, ImportError):
        pass
    try:
        yield
    finally:
        if handle is not None:
            handle.close()


# --- building -------------------------------------------------------------------------------------------------------------


def build(on: Host, progress: Progress) -> bytes:
    """Compile the kernels to an object file; takes tens of seconds."""
    from edgeq.targets import here

    return here.build(on.isa, on.cpu, on.features, progress, lambda: _target_machine(on))


def _target_machine(on: Host) -> Any:
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    target = llvm.Target.from_default_triple()
    return target.create_target_machine(cpu=on.cpu, features=on.features, opt=3, reloc="pic", codemodel="default")


def _load(body: bytes, on: Host, source: str, start: float) -> Machine:
    import llvmlite.binding as llvm

    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), _target_machine(on))
    engine.add_object_file(llvm.ObjectFileRef.from_data(body))
    engine.finalize_object()
    address = engine.get_function_address(ENTRY)
    if not address:
        raise MachineError("the compiled kernels do not hold their entry point")
    run = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64, ctypes.c_int64)(address)
    seconds, call = time.perf_counter() - start, engine.get_function_address(CALL)
    return Machine(run, on.isa, on.cpu, source, "", seconds, (engine,), call, source_digest())
