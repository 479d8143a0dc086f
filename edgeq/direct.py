"""Calling the machine as CPython calls its own builtins, where a foreign call would cost more than a tiny model.

`bind` makes a builtin function out of the machine's `call` (kernels/entry.py) and a ticket: `function(x, y)` returns y, or None
where x is not what the ticket describes. It reads NumPy's and CPython's objects in place, so `fits` compares their layout with
real ones first; where it differs (another interpreter, a build without the lock) there is no builtin, only the foreign call.
"""

from __future__ import annotations

import ctypes
import functools
import struct
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from edgeq.kernels.words import ticket as tw

if TYPE_CHECKING:
    from edgeq.graph import Array

HELD_NS = 200_000.0
"""Estimated nanoseconds up to which a call may hold the interpreter's lock; Python itself switches threads every 5 ms."""

METH_FASTCALL = 0x0080

Function: TypeAlias = "Callable[[Any, Array], Any]"


class MethodDef(ctypes.Structure):
    """PyMethodDef."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("function", ctypes.c_void_p),
        ("flags", ctypes.c_int),
        ("doc", ctypes.c_char_p),
    )


_definitions: dict[int, MethodDef] = {}  # builtins refer to them for as long as they live


@functools.cache
def fits() -> bool:
    """Whether objects lie in memory as words/ticket.py says."""
    if sys.implementation.name != "cpython" or sys.maxsize >> 32 == 0 or "t" in getattr(sys, "abiflags", ""):
        return False
    a = np.zeros((3, 5), np.float32)
    words = _words(id(a), 9)
    dims = _words(words[tw.ARRAY_DIMS], 2) if words[tw.ARRAY_RANK] & 0xFFFFFFFF == 2 else ()
    return (
        words[tw.OBJECT_TYPE] == id(np.ndarray)
        and words[tw.ARRAY_DATA] == a.__array_interface__["data"][0]
        and dims == a.shape
        and words[tw.ARRAY_DESCR] == id(a.dtype)
        and words[tw.ARRAY_FLAGS] & 0xFFFFFFFF == a.flags.num
        and 0 < words[tw.REFERENCES] & 0xFFFFFFFF <= sys.getrefcount(a)
    )


def _words(address: int, count: int) -> tuple[int, ...]:
    """What lies there; a ctypes array would be a class of its own."""
    return struct.unpack(f"{count}q", ctypes.string_at(address, 8 * count))


def ticket(shape: Sequence[int], kinds: Sequence[tuple[np.dtype[Any], int]]) -> Array:
    """What an input must be: its shape, and for each dtype the address of the frame that runs it."""
    words = np.zeros(tw.DIMS + len(shape), np.int64)
    words[tw.TYPE], words[tw.RANK], words[tw.KINDS], words[tw.NONE] = id(np.ndarray), len(shape), len(kinds), id(None)
    for k, (dtype, frame) in enumerate(kinds):
        words[tw.PAIRS + 2 * k :][:2] = id(dtype), frame
    words[tw.DIMS :] = shape
    return words


def bind(address: int, made: Array) -> Function:
    """The machine's `call` at `address` as a builtin that holds the ticket."""
    definition = _definitions.setdefault(address, MethodDef(b"call", address, METH_FASTCALL, None))
    make = ctypes.pythonapi.PyCFunction_NewEx
    make.restype, make.argtypes = ctypes.py_object, (ctypes.c_void_p, ctypes.py_object, ctypes.c_void_p)
    function: Function = make(ctypes.addressof(definition), made, None)
    return function
