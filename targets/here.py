"""The kernels for this processor, compiled as for any other: by a process of its own, with the code generator of crosscompile.

That takes three quarters of the time that Numba takes where it may run what it compiles, since no engine makes code of each
kernel that nobody calls; and the 600 MB that Numba took go with the process. Where none can be started, or it fails, the kernels
are compiled in this one.

python -m edgeq.targets.here ISA CPU FEATURES FILE     progress as lines "done total what" on stdout, the object into FILE
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from edgeq.kernels.isa import Isa
from edgeq.targets import crosscompile, emit
from edgeq.targets.target import Target


def build(isa: Isa, cpu: str, features: str, progress: emit.Progress, target_machine: Callable[[], Any]) -> bytes:
    """The object file for the processor that LLVM calls `cpu`; takes tens of seconds. The kernels' `isa` is selected already.

    target_machine: LLVM's, for where this process compiles.
    """
    what = f"{cpu} ({isa.name})"
    body = _in_a_process(
        isa.name, cpu, features, lambda done, total, name: progress(done, total, name if done else what)
    )
    if body is not None:
        return body
    from numba.core import config

    if os.environ.get("EDGEQ_ISA"):
        config.CPU_NAME, config.CPU_FEATURES = cpu, features
    return emit.emit(emit.compile_kernels(progress, _named(isa.name, cpu)), target_machine())


def _in_a_process(isa: str, cpu: str, features: str, progress: emit.Progress) -> bytes | None:
    """None if there is no Python to start, or what was started has not done it."""
    python = sys.executable or ""
    if getattr(sys, "frozen", False) or not os.path.basename(python).lower().startswith("python"):
        return None  # an app that brings Python along: what it calls its executable may be the app
    found = [str(Path(__file__).absolute().parents[2]), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, found))}
    try:
        with tempfile.TemporaryDirectory(prefix="edgeq-") as folder:
            file = Path(folder) / "machine.o"
            command = [python, "-m", __name__, isa, cpu, features, str(file)]
            with subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
            ) as child:
                try:
                    _listen(child, progress)
                except BaseException:
                    child.kill()
                    raise
            return file.read_bytes() if child.returncode == 0 else None
    except OSError:
        return None


def _named(isa: str, cpu: str) -> str:
    return f"{cpu} ({isa})"


def _listen(child: subprocess.Popen[str], progress: emit.Progress) -> None:
    assert child.stdout is not None
    for line in child.stdout:
        done, total, what = line.rstrip("\n").split(" ", 2)
        progress(int(done), int(total), what)


def main(arguments: Sequence[str]) -> int:
    """Compile for the process that started this one."""
    import llvmlite.binding as llvm

    isa, cpu, features, file = arguments
    target = Target(
        name="here", title="this processor", triple=llvm.get_process_triple(), cpu=cpu, features=features, isa=isa,
        needs=(), order=0, platform="", emulate="", cipher="",
    )  # fmt: skip
    machine = crosscompile.install(target)
    text = emit.compile_kernels(lambda done, total, what: print(done, total, what, flush=True), _named(isa, cpu))
    Path(file).write_bytes(emit.emit(text, machine))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
