"""Entry points for registered kernels: what the machine's `call_out` calls, `int64 f(int64 *words)`.

A function compiled by Numba is wrapped in one that makes arrays of the words and is compiled with it. Any other Python
function is wrapped in a C callback, which keeps what it raises for `failure`: the machine knows a number only.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from edgeq.errors import CustomOpError
from edgeq.records import dataclass

Callback = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p)

_raised = threading.local()


@dataclass(frozen=True)
class Argument:
    """One argument of a kernel: an array behind an address, where `dtype` is given; else `value`, a number or None."""

    dtype: np.dtype[Any] | None = None
    shape: tuple[int, ...] = ()
    output: bool = False
    value: int | float | bool | None = None


@dataclass(frozen=True)
class Entry:
    """A C function: its address, and what must live as long as it does."""

    address: int
    keep: Any


def failure() -> BaseException | None:
    """What a Python kernel of this thread has raised since the last call of this, if anything."""
    error: BaseException | None = getattr(_raised, "error", None)
    _raised.error = None
    return error


def is_raw(kernel: Any) -> bool:
    """Whether a kernel is a C function already, made by numba.cfunc."""
    return _of_numba(kernel) and hasattr(kernel, "native_name")


def entry(kernel: Any, arguments: Sequence[Argument], where: str) -> Entry:
    """The C function for a kernel with these arguments, which arrive in this order, numbers and None without a word.

    Raises CustomOpError where Numba cannot compile it for them.
    """
    if is_raw(kernel):
        return _raw(kernel, where)
    if _of_numba(kernel) and hasattr(kernel, "py_func"):
        try:
            return _compiled(kernel, tuple(arguments))
        except Exception as error:  # Numba's errors have no common root that says no more than that
            raise CustomOpError(f"{where}: Numba cannot compile its kernel: {_gist(error)}") from error
    return _interpreted(kernel, arguments)


def _of_numba(kernel: Any) -> bool:
    return type(kernel).__module__.partition(".")[0] == "numba"


def _gist(error: Exception) -> str:
    """The last line of what Numba says: the first ones are its own pipeline."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {' '.join(lines[:3])}"[:300]


# --- Python -----------------------------------------------------------------------------------------------------------


def _interpreted(kernel: Callable[..., Any], arguments: Sequence[Argument]) -> Entry:
    """A callback that copies in and out: what a Python function keeps of its arrays stays valid."""
    count = sum(a.dtype is not None for a in arguments)

    def call(pointer: int) -> int:
        try:
            words = iter((ctypes.c_int64 * count).from_address(pointer))
            given: list[Any] = []
            results: list[tuple[int, Any]] = []
            for a in arguments:
                if a.dtype is None:
                    given.append(a.value)
                    continue
                address = next(words)
                if a.output:
                    flat = np.zeros(int(np.prod(a.shape)), a.dtype)
                    results.append((address, flat))
                else:
                    flat = (
                        np.frombuffer(ctypes.string_at(address, _bytes(a)), a.dtype)
                        if _bytes(a)
                        else np.empty(0, a.dtype)
                    )
                given.append(flat.reshape(a.shape))
            returned = kernel(*given)
            if returned is not None:
                raise TypeError(f"the kernel returns {type(returned).__name__}, writing into its outputs is expected")
            for address, flat in results:
                ctypes.memmove(address, flat.ctypes.data, flat.nbytes)
        except BaseException as error:
            if getattr(_raised, "error", None) is None:  # the machine tells of the first failure
                _raised.error = error
            return 1
        return 0

    callback = Callback(call)
    address = ctypes.cast(callback, ctypes.c_void_p).value
    assert address is not None
    return Entry(address, callback)


def _bytes(a: Argument) -> int:
    assert a.dtype is not None
    return int(np.prod(a.shape)) * a.dtype.itemsize


# --- Numba ------------------------------------------------------------------------------------------------------------


def _raw(kernel: Any, where: str) -> Entry:
    from numba import types

    expected = types.int64(types.CPointer(types.int64))
    if kernel._sig != expected:
        raise CustomOpError(f"{where}: its kernel is a cfunc {kernel._sig}, {expected} is expected")
    return Entry(int(kernel.address), kernel)


@lru_cache(maxsize=64)
def _compiled(kernel: Any, arguments: tuple[Argument, ...]) -> Entry:
    """A C function around a compiled one; 1 is what it answers where the kernel raises."""
    from llvmlite import ir
    from numba import carray, cfunc, types
    from numba.extending import intrinsic

    def pointer(typingctx, address):  # type: ignore[no-untyped-def]
        def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
            return builder.inttoptr(args[0], ir.IntType(8).as_pointer())

        return types.voidptr(types.int64), codegen

    names: dict[str, Any] = {"kernel": kernel, "carray": carray, "pointer": intrinsic(pointer)}
    given, word = [], 0
    for k, a in enumerate(arguments):
        if a.dtype is None:
            given.append(repr(a.value))
        else:
            names[f"s{k}"], names[f"t{k}"] = a.shape, a.dtype
            given.append(f"carray(pointer(words[{word}]), s{k}, t{k})")
            word += 1
    source = (
        "def entry(words):\n    try:\n"
        f"        kernel({', '.join(given)})\n"
        "    except Exception:\n        return 1\n    return 0\n"
    )
    exec(source, names)
    compiled = cfunc(types.int64(types.CPointer(types.int64)))(names["entry"])
    return Entry(int(compiled.address), compiled)
