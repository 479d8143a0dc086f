"""Starting where an earlier process has ended: the plan of an encrypted model is kept, sealed (edgeq/shelf.py), and taken again.

What is asked before a model is opened is asked each time, and its bytes are decrypted and their digest checked as ever; what is
left out is to read, check and plan them again, and to import what does that. The label of an entry names everything that a plan
depends on: the kernels and their instruction set, the rounding, NumPy, and the files of this edgeq, so that another edgeq,
another object or another model finds nothing here.

EDGEQ_PLANS names the folder where plans are kept, or is "off".
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from edgeq.engine import Model
from edgeq.machine import cache_folder, get
from edgeq.plan.stored import from_content, storable, to_parts
from edgeq.ports import Port

if TYPE_CHECKING:
    from edgeq.graph import Graph
    from edgeq.locked import LockedMemory
    from edgeq.shelf import Shelf

OFF = "off"

FOLDERS = ("plan", "plan/lower", "tflite")
MODULES = (
    "check",
    "customs",
    "graph",
    "lazy",
    "packed",
    "passes",
    "ports",
    "quantmod",
    "records",
    "resume",
    "spelling",
    "subgraphs",
)
"""What decides what a plan is, beside the kernels: these folders' modules, and these of the package's own."""


def folder() -> str | None:
    """Where plans are kept: EDGEQ_PLANS, or beside compiled kernels; None where they are not."""
    named = os.environ.get("EDGEQ_PLANS")
    if named == OFF:
        return None
    return named or os.path.join(cache_folder(), "plans")


def take(shelf: Shelf, memory: LockedMemory, read: Callable[[], Graph], rounding: str, threads: int) -> Model | None:
    """The model of the plan that was kept, None if there is none. `read` gives the graph, checked, when somebody asks for it."""
    where, label = folder(), _label(rounding, threads)
    if where is None or not label or threads < 1:
        return None
    content = shelf.take(where, label, memory)
    if content is None:
        return None
    plan, (inputs, outputs) = from_content(content)
    return Model.resumed(plan, _ports(inputs), _ports(outputs), threads, memory, read, rounding)


def keep(shelf: Shelf, model: Model, rounding: str, threads: int) -> bool:
    """Keep a model's plan for the next process, if it means the same there; whether it was kept."""
    where, label = folder(), _label(rounding, threads)
    if where is None or not label or not storable(model.plan):
        return False
    about = [[[p.name, p.shape, p.dtype.name, p.affine] for p in side] for side in (model.inputs, model.outputs)]
    return shelf.put(where, label, to_parts(model.plan, model.program.constants, about))


def _ports(described: list[tuple[str, list[int], str, list[float] | None]]) -> tuple[Port, ...]:
    return tuple(
        Port(name, tuple(shape), np.dtype(dtype), None if affine is None else (float(affine[0]), int(affine[1])))
        for name, shape, dtype, affine in described
    )


def _label(rounding: str, threads: int) -> bytes:
    """Everything that a plan depends on but the model; empty if it depends on more, which an application has brought along."""
    customs = sys.modules.get("edgeq.customs")
    machine = get()
    if (customs is not None and customs.any_registered()) or not machine.kernels:
        return b""
    facts = [
        "plan 1", np.__version__, sys.byteorder, str(sys.maxsize), rounding, str(threads > 1),
        machine.kernels, machine.isa.name, machine.cpu, *_modules(),
    ]  # fmt: skip
    return "\n".join(facts).encode()


@cache
def _modules() -> tuple[str, ...]:
    """The files of FOLDERS and MODULES, each with its size and date, as Python's own cache knows a module again; once in a
    process, which does not import them again either."""
    package = os.path.dirname(__file__)
    found = [_dated(name, os.stat(f"{package}/{name}.py")) for name in _own(package)]
    for below in FOLDERS:
        folder = os.open(f"{package}/{below}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            names = sorted(name for name in os.listdir(folder) if name.endswith(".py"))
            found += [_dated(f"{below}/{name}", os.stat(name, dir_fd=folder)) for name in names]
        finally:
            os.close(folder)
    return tuple(found)


def _own(package: str) -> tuple[str, ...]:
    """MODULES, or the files that a device's wheel has them in, beside this one."""
    if os.path.exists(f"{package}/{MODULES[0]}.py"):
        return MODULES
    from edgeq.folded import FILES

    return ("resume", *(file.removesuffix(".py") for file in FILES))


def _dated(name: str, status: os.stat_result) -> str:
    return f"{name} {status.st_size} {status.st_mtime_ns}"
