"""The compiled machine of this processor: built once from the kernels' source, kept as an object file, loaded from there.

The object holds `edgeq_run(frame, thread)` and calls nothing but memcpy, memmove and memset, so loading it needs neither Numba
nor the Python that built it. Its file name carries a digest of everything that went in: the kernels' source, the versions of
the compilers, the processor and its features. Its content carries a digest of itself: a damaged file is built anew, never run.
A folder that cannot be written means building for this process alone. Two processes that start at once wait for each other,
so that one builds.

EDGEQ_CACHE names the folder; EDGEQ_ISA a plainer instruction set than the processor's own (tests run every one that fits).
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import IO, Any

from edgeq.errors import MachineError, OutputError
from edgeq.files import write_atomic
from edgeq.kernels import isa
from edgeq.kernels.words import KERNELS
from edgeq.kernels.words.frame import ABI

Progress = Callable[[int, int, str], None]
"""done, total, what."""

ENTRY = "edgeq_run"
CALL = "edgeq_call"
ALLOWED_SYMBOLS = {"memcpy", "memset", "memmove"}
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
    source: str  # "cache" or "compiled"
    seconds: float
    keep: tuple[Any, ...]  # what must live as long as the code does
    call: int = 0  # address of kernels/entry.py's function for CPython, 0 where there is none


@dataclass(frozen=True)
class Host:
    """The processor as the code generator sees it."""

    cpu: str
    features: str
    isa: isa.Isa


def host() -> Host:
    """This processor, or the part of it that EDGEQ_ISA leaves."""
    import llvmlite.binding as llvm

    features = dict(llvm.get_host_cpu_features())
    try:
        chosen = isa.detect(features)
    except ValueError as e:
        raise MachineError(str(e)) from None
    if os.environ.get("EDGEQ_ISA"):
        return Host(_CPU_OF_ISA.get(chosen.name, "generic"), "", chosen)
    return Host(llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten(), chosen)


def cache_folder() -> Path:
    """Where objects are kept: EDGEQ_CACHE, or the user's cache folder."""
    if named := os.environ.get("EDGEQ_CACHE"):
        return Path(named)
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(base) / "edgeq"


def cache_file(on: Host) -> Path:
    """The object's file for this processor and this version of the kernels."""
    versions = [f"{p} {metadata.version(p)}" for p in ("numba", "llvmlite")]
    facts = "\n".join([source_digest(), str(ABI), *versions, on.cpu, on.features, on.isa.name])
    return cache_folder() / f"machine-{on.isa.name}-{hashlib.sha256(facts.encode()).hexdigest()[:32]}.o"


def source_digest() -> str:
    """SHA-256 over the names and contents of every file of kernels/."""
    digest = hashlib.sha256()
    root = Path(isa.__file__).parent
    for path in sorted(root.rglob("*.py")):
        digest.update(f"{path.relative_to(root)}\0".encode())
        digest.update(path.read_bytes())
        digest.update(b"\0")
    return digest.hexdigest()


_lock = threading.Lock()
_loaded: list[Machine] = []


def get(progress: Progress | None = None) -> Machine:
    """The machine of this process, loading or building it at the first call; `progress` hears of a build."""
    with _lock:
        if not _loaded:
            _loaded.append(_load_or_build(progress or _tell))
        return _loaded[0]


def _load_or_build(progress: Progress) -> Machine:
    start = time.perf_counter()
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
                return _load(built, on, "compiled", start)
    return _load(found, on, "cache", start)


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
            status = os.fstat(f.fileno())
            if hasattr(os, "getuid") and status.st_uid not in (os.getuid(), 0):
                return None
            if status.st_mode & 0o022:
                return None
            blob = f.read()
    except OSError:
        return None
    head = len(MAGIC) + 32
    if len(blob) <= head or blob[: len(MAGIC)] != MAGIC:
        return None
    body = blob[head:]
    return body if hashlib.sha256(body).digest() == blob[len(MAGIC) : head] else None


def _store(path: Path, body: bytes) -> None:
    with contextlib.suppress(OutputError, OSError):  # a read-only or full disk costs a compilation, not the inference
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_atomic(path, MAGIC + hashlib.sha256(body).digest() + body, mode=0o600)


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
    import llvmlite.binding as llvm
    from numba.core import config

    llvm.initialize_native_asmparser()  # the barrier's pause and yield are inline assembly
    if os.environ.get("EDGEQ_ISA"):
        config.CPU_NAME, config.CPU_FEATURES = on.cpu, on.features
    from numba import types

    from edgeq.kernels import entry, machine

    start = time.perf_counter()
    total = len(KERNELS) + 2
    progress(0, total, f"{on.cpu} ({on.isa.name})")
    pointer = types.CPointer(types.int64)
    for i, kernel in enumerate(machine.FUNCTIONS):
        kernel.compile((pointer, types.int64, types.int64, types.int64))
        progress(i + 1, total, KERNELS[i])
    machine.run.compile((types.int64, types.int64))
    entry.call.compile((types.int64, types.int64, types.int64))
    progress(total - 1, total, "linking")
    body = _emit(next(iter(entry.call.inspect_llvm().values())), on)
    progress(total, total, f"{time.perf_counter() - start:.0f} s")
    return body


def _emit(text: str, on: Host) -> bytes:
    """Numba's optimised module → an object with two public functions and nothing undefined but memory moves."""
    import llvmlite.binding as llvm

    wrappers = _wrapper(text, ENTRY, "frame_address", 2) + _wrapper(text, CALL, "ticket_object", 3)
    module = llvm.parse_assembly(text + wrappers)
    for function in module.functions:
        if not function.is_declaration and function.name not in (ENTRY, CALL):
            function.linkage = "internal"
    for variable in module.global_variables:
        if not variable.is_declaration:
            variable.linkage = "internal"
    target = _target_machine(on)
    builder = llvm.create_pass_builder(target, llvm.create_pipeline_tuning_options(speed_level=2))
    passes = llvm.create_new_module_pass_manager()
    passes.add_global_dead_code_eliminate_pass()
    passes.run(module, builder)
    loose = {f.name for f in module.functions if f.is_declaration and not f.name.startswith("llvm.")} - ALLOWED_SYMBOLS
    if loose:
        raise MachineError(f"the compiled kernels call {', '.join(sorted(loose))}; only memory moves are expected")
    return bytes(target.emit_object(module))


def _wrapper(text: str, public: str, first: str, count: int) -> str:
    """A public function of `count` int64 that calls the one whose first argument has this name."""
    name = re.search(rf'^define [^@]*@("[^"]+"|[^\s(]+)\(.*%arg\.{first}\b', text, re.MULTILINE)
    if name is None:
        raise MachineError("the compiled kernels do not hold their entry point")
    given = ", ".join(f"i64 %a{i}" for i in range(count))
    return (
        f"define i64 @{public}({given}) {{\n"
        "  %result = alloca i64\n  %excinfo = alloca ptr\n"
        f"  %status = call i32 @{name[1]}(ptr %result, ptr %excinfo, {given})\n"
        "  %value = load i64, ptr %result\n  ret i64 %value\n}\n"
    )


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
    return Machine(
        run, on.isa, on.cpu, source, time.perf_counter() - start, (engine,), engine.get_function_address(CALL)
    )
