"""Numba as a cross compiler: kernels compiled for another processor than this one's.

`install` makes this process compile for a target, and for nothing else any more: Numba keeps what it has compiled, so a process
serves one target, and nothing that it compiles can run here. It replaces the code generator behind Numba's typed functions by one
with the target's LLVM machine and without an execution engine, which exists for the host alone. That is not Numba's public
interface: versions outside VERSIONS are refused.

What is not done, because it does not work: `numba.pycc` compiles the functions that a kernel calls for the host; retargeting LLVM
text after the fact keeps the host's vectors.
"""

from __future__ import annotations

import platform
from importlib import metadata
from typing import Any

from edgeq.errors import MachineError
from edgeq.kernels import isa
from edgeq.targets.target import Target

VERSIONS = ("0.61.", "0.62.", "0.63.", "0.64.", "0.65.", "0.66.", "0.67.", "0.68.")
"""Numba's versions that this was written against."""

_installed: list[tuple[Target, Any]] = []


def install(target: Target) -> Any:
    """Make this process compile for `target`; returns LLVM's machine. Comes before any kernel is imported."""
    if _installed:
        raise RuntimeError(
            f"this process compiles for {_installed[0][0].name} already; each target takes a process of its own"
        )
    version = metadata.version("numba")
    if not version.startswith(VERSIONS):
        raise MachineError(f"numba {version} is installed, the cross compiler knows {VERSIONS[0]}x to {VERSIONS[-1]}x")
    import llvmlite.binding as llvm
    from numba.core import config

    if target.small:  # what matters is written in vectors; loops that LLVM widens would be a tenth of the object
        config.LOOP_VECTORIZE = config.SLP_VECTORIZE = 0
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    isa.select(target.kernels_isa)
    machine, optimizing = (
        llvm.Target.from_triple(target.triple).create_target_machine(
            cpu=cpu, features=target.features, opt=3, reloc="pic", codemodel="default"
        )
        for cpu in (target.cpu, target.optimized_for or target.cpu)
    )
    _replace_code_generator(target, optimizing)
    _installed.append((target, machine))
    return machine


def _replace_code_generator(target: Target, machine: Any) -> None:
    import llvmlite.ir
    from numba.core import cgutils, codegen
    from numba.core.registry import cpu_target

    class Library(codegen.AOTCodeLibrary):  # type: ignore[misc]
        """Compiled functions that no engine loads."""

        def get_pointer_to_function(self, name: str) -> int:
            """Nested functions ask for one; nobody calls it."""
            self._ensure_finalized()
            return 0

    class Generator(codegen.CPUCodegen):  # type: ignore[misc]
        """numba.core.codegen.CPUCodegen without its engine."""

        _library_class = Library

        def _init(self, llvm_module: Any) -> None:
            self._tm = machine
            self._tm_features = target.features
            self._target_data = machine.target_data
            self._data_layout = str(self._target_data)
            self._loopvect, self._opt_level = False, 0  # of the first, cheap pass; the full one follows config.OPT
            llvm_module.triple = target.triple

        def _create_empty_module(self, name: str) -> Any:
            module = llvmlite.ir.Module(cgutils.normalize_ir_text(name))
            module.triple = target.triple
            if self._data_layout:
                module.data_layout = self._data_layout
            return module

        def magic_tuple(self) -> tuple[str, str, str]:
            return target.triple, target.cpu, target.features

        def _add_module(self, module: Any) -> None:
            pass

        def set_env(self, env_name: str, env: Any) -> None:
            pass

        def _check_llvm_bugs(self) -> None:
            pass

    context = cpu_target.target_context
    context._internal_codegen = Generator("edgeq.targets")
    context.is32bit = target.architecture == "armv7"  # Numba then has 64-bit division of its own
    # Nothing compiled here is called from Python.
    context.create_cpython_wrapper = lambda *args, **kwargs: None
    context.create_cfunc_wrapper = lambda *args, **kwargs: None
    context.get_executable = _no_executable


def _no_executable(library: Any, fndesc: Any, env: Any) -> Any:
    """In place of an entry point: an object that is like no other, since Numba looks functions up by it."""
    library._ensure_finalized()
    return [].append


def versions() -> dict[str, str]:
    """What an object depends on beside the kernels' source."""
    import llvmlite.binding as llvm

    return {
        "numba": metadata.version("numba"),
        "llvmlite": metadata.version("llvmlite"),
        "llvm": ".".join(map(str, llvm.llvm_version_info)),
        "python": platform.python_version(),
    }
