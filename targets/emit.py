"""From kernels to an object file: compile every kernel with Numba as it is set up, and emit what `edgeq_run` reaches.

The object has two public functions, `int64 edgeq_run(int64 frame, int64 thread)` and the one of kernels/entry.py, edgeq_call, and
leaves nothing undefined but memcpy, memmove and memset.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any

from edgeq.errors import MachineError
from edgeq.kernels.words import KERNELS

Progress = Callable[[int, int, str], None]
"""done, total, what."""

ENTRY, CALL = "edgeq_run", "edgeq_call"
PRODUCTS = re.compile(
    r"edgeq7kernels\d+(conv|depthwise|depthwise_rows|depthwise_steps|matmul|pixels|strip|tile)\d|dynamic"
)
"""What the functions with the inner loops of products are called; those made for a tile are "dynamic" to Numba."""

ALLOWED_SYMBOLS = frozenset({"memcpy", "memset", "memmove"})


def compile_kernels(progress: Progress, what: str) -> str:
    """The optimised LLVM module of the machine, for whatever Numba compiles for; takes tens of seconds.

    edgeq.kernels.isa.select() comes first.
    """
    import llvmlite.binding as llvm
    from numba import types

    from edgeq.kernels import entry, machine

    start = time.perf_counter()
    total = len(KERNELS) + 2
    progress(0, total, what)
    pointer = types.CPointer(types.int64)
    for i, kernel in enumerate(machine.FUNCTIONS):
        kernel.compile((pointer, types.int64, types.int64, types.int64))
        progress(i + 1, total, KERNELS[i])
    machine.run.compile((types.int64, types.int64))
    progress(total - 1, total, "linking")
    llvm.add_symbol(entry.MACHINE, 1)  # Numba's engine asks where it is; nobody calls it from there
    entry.call.compile((types.int64, types.int64, types.int64))
    (body,), (call,) = machine.run.inspect_llvm().values(), entry.call.inspect_llvm().values()
    module = llvm.parse_assembly(body)
    module.link_in(llvm.parse_assembly(call.replace(f"@{entry.MACHINE}(", f"@{ENTRY}(")))
    text = re.sub(rf"^declare [^@]*@{ENTRY}\(.*$", "", str(module), flags=re.MULTILINE)  # `reduce` defines it
    progress(total, total, f"{time.perf_counter() - start:.0f} s")
    return text


def emit(text: str, target_machine: Any, provided: str = "", *, small: bool = False) -> bytes:
    """Numba's optimised module → an object file. `provided`: LLVM text of functions that the code generator may call; `small`:
    few bytes before speed, in inner loops too."""
    module = reduce(text, target_machine, provided, small=small)
    return bytes(target_machine.emit_object(module))


def reduce(text: str, target_machine: Any, provided: str = "", *, small: bool = False) -> Any:
    """Numba's optimised module with two public functions, and only what those reach."""
    import llvmlite.binding as llvm

    wrappers = _wrapper(text, ENTRY, "frame_address", 2) + _wrapper(text, CALL, "ticket_object", 3)
    module = llvm.parse_assembly(text + wrappers)
    for function in module.functions:
        if not function.is_declaration and function.name not in (ENTRY, CALL):
            function.linkage = "internal"
    for variable in module.global_variables:
        if not variable.is_declaration:
            variable.linkage = "internal"
    if provided:
        module.link_in(llvm.parse_assembly(provided))
    for function in module.functions:
        if not function.is_declaration:
            function.add_function_attribute("nounwind")
            if small or not PRODUCTS.search(function.name):
                function.add_function_attribute("optsize")  # of code only: loops were unrolled and vectorized before
            if small:
                function.add_function_attribute("minsize")
    builder = llvm.create_pass_builder(target_machine, llvm.create_pipeline_tuning_options(speed_level=2))
    passes = llvm.create_new_module_pass_manager()
    passes.add_global_dead_code_eliminate_pass()
    if small:  # across functions, now that nobody else calls them: a twentieth less
        for name in (
            "always_inliner",
            "ipsccp",
            "dead_arg_elimination",
            "argument_promotion",
            "simplify_cfg",
            "sinking",
        ):
            getattr(passes, f"add_{name}_pass")()
        passes.add_global_dead_code_eliminate_pass()
    passes.run(module, builder)
    loose = {f.name for f in module.functions if f.is_declaration and not f.name.startswith("llvm.")} - ALLOWED_SYMBOLS
    if loose:
        raise MachineError(f"the compiled kernels call {', '.join(sorted(loose))}; only memory moves are expected")
    return module


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
