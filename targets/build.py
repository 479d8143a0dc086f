"""Objects for targets: one process each, kept by the digest of what went in, the same bytes from the same inputs.

python -m edgeq.targets.build NAME FOLDER     one target; progress as lines "done total what" on stdout
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

from edgeq.errors import MachineError
from edgeq.files import write_atomic
from edgeq.targets import crosscompile, emit, link, outdated, softmath
from edgeq.targets.identity import ABI, source_digest
from edgeq.targets.objects import FORMAT, Manifest
from edgeq.targets.table import TARGETS
from edgeq.targets.target import Target

Progress = Callable[[str, int, int], None]
"""target, done, total."""


def inputs_digest(target: Target) -> str:
    """SHA-256 over everything that decides an object's bytes."""
    facts = {
        "target": asdict(target),
        "kernels": source_digest(),
        "abi": ABI,
        "versions": versions(),
        "compiler": [
            hashlib.sha256(Path(str(m.__file__)).read_bytes()).hexdigest() for m in (crosscompile, emit, link, softmath)
        ],
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def versions() -> dict[str, str]:
    """The compilers' and the linker's."""
    return crosscompile.versions() | {"linker": link.version()}


def is_built(target: Target, folder: Path) -> bool:
    """Whether `folder` holds this target's object, made of what would go in now, whole."""
    try:
        manifest = Manifest.from_json((folder / f"{target.name}.json").read_bytes())
        content = (folder / f"{target.name}.so").read_bytes()
    except (OSError, ValueError):
        return False
    return manifest.inputs == inputs_digest(target) and hashlib.sha256(content).hexdigest() == manifest.sha256


def build(targets: Sequence[Target], folder: Path, progress: Progress, processes: int = 2) -> list[str]:
    """Build into `folder` what is not there yet, `processes` at once; returns the names that were compiled.

    In the user's cache, what is new makes room: objects of kernels that were there before go (targets/outdated.py).

    Raises MachineError with the compiler's words if one fails; the others are finished first.
    """
    link.linker()  # say so before half a minute's work
    missing = [t for t in targets if not is_built(t, folder)]
    folder.mkdir(mode=0o755, parents=True, exist_ok=True)
    lock = threading.Lock()

    def tell(name: str, done: int, total: int) -> None:
        with lock:
            progress(name, done, total)

    with ThreadPoolExecutor(max(1, processes)) as pool:
        failures = [f for f in pool.map(lambda t: _in_a_process(t, folder, tell), missing) if f]
    if failures:
        raise MachineError("; ".join(failures))
    if missing:
        outdated.prune(folder)
    return [t.name for t in missing]


def _in_a_process(target: Target, folder: Path, progress: Progress) -> str:
    """Build one target in a process of its own; returns what went wrong, "" if nothing did."""
    command = [sys.executable, "-m", "edgeq.targets.build", target.name, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        errors: list[str] = []
        reader = threading.Thread(target=lambda: errors.append(child.stderr.read()))  # type: ignore[union-attr]
        reader.start()
        for line in child.stdout:
            done, total = line.split()[:2]
            progress(target.name, int(done), int(total))
        reader.join()
    if child.returncode:
        last = next((x for x in reversed("".join(errors).splitlines()) if x.strip()), f"exit {child.returncode}")
        return f"building for {target.name} failed: {last}"
    return ""


def build_here(target: Target, folder: Path, progress: emit.Progress) -> Manifest:
    """Build one target in this process, which then can build no other."""
    digest = inputs_digest(target)
    machine = crosscompile.install(target)
    text = emit.compile_kernels(progress, target.name)
    provided = softmath.TEXT if target.architecture == "armv7" else ""
    body = link.link(emit.emit(text, machine, provided, small=target.small), target)
    if loose := link.undefined(body) - emit.ALLOWED_SYMBOLS:
        raise MachineError(
            f"the object for {target.name} wants {', '.join(sorted(loose))}; only memory moves are expected"
        )
    manifest = Manifest(
        format=FORMAT, target=target.name, architecture=target.architecture, isa=target.isa, needs=target.needs,
        parts=target.parts, order=target.order, triple=target.triple, cpu=target.cpu, features=target.features, abi=ABI,
        kernels=source_digest(), inputs=digest, sha256=hashlib.sha256(body).hexdigest(), size=len(body),
        versions=versions(),
    )  # fmt: skip
    # The manifest last: a shared object without one, or of another one, is not used.
    write_atomic(folder / f"{target.name}.so", body, mode=0o755)
    write_atomic(folder / f"{target.name}.json", manifest.to_json())
    return manifest


def main(arguments: Sequence[str]) -> int:
    """Build one target for the process that started this one."""
    name, folder = arguments
    build_here(TARGETS[name], Path(folder), lambda done, total, what: print(done, total, what, flush=True))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
