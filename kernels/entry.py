"""The way in for Python itself: a function of CPython's METH_FASTCALL kind, so that a call costs what a builtin's does.

`call(ticket, x, y)` runs one sample if x is exactly the array that the ticket (words/ticket.py) describes: type, dtype, shape,
elements in order. It returns y, the array that the output has been written to, or None where it has done nothing or where the
machine did not return 0; then the caller goes the long way, which finds words for it. The interpreter's lock is held
throughout: no two threads meet in the frame, and the plan is short (edgeq/direct.py).
"""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from .memory import i32, i64
from .words.frame import ADDRESS, RECORD_WORDS, RECORDS
from .words.ticket import (
    ARRAY_DATA,
    ARRAY_DESCR,
    ARRAY_DIMS,
    ARRAY_FLAGS,
    ARRAY_RANK,
    DIMS,
    IN_ORDER,
    KINDS,
    NONE,
    OBJECT_TYPE,
    PAIRS,
    RANK,
    REFERENCES,
    TYPE,
)

MACHINE = "edgeq_machine"
"""How this function calls the machine. It is compiled alone and linked to it: all kernels need not be optimised once more."""

_I64 = ir.IntType(64)


@intrinsic
def run(typingctx, frame, thread):
    """The machine's `run`."""

    def codegen(context, builder, signature, args):
        callee = cgutils.get_or_insert_function(builder.module, ir.FunctionType(_I64, [_I64, _I64]), MACHINE)
        return builder.call(callee, args)

    return types.int64(types.int64, types.int64), codegen


@njit(error_model="numpy")
def frame_for(t, x):
    """The frame that the ticket has for array x, 0 if there is none."""
    a = i64(x)
    if a[OBJECT_TYPE] != t[TYPE] or i32(x + 8 * ARRAY_RANK)[0] != t[RANK]:
        return np.int64(0)
    if np.int64(i32(x + 8 * ARRAY_FLAGS)[0]) & IN_ORDER != IN_ORDER:
        return np.int64(0)
    dims = i64(a[ARRAY_DIMS])
    for i in range(t[RANK]):
        if dims[i] != t[DIMS + i]:
            return np.int64(0)
    for k in range(t[KINDS]):
        if a[ARRAY_DESCR] == t[PAIRS + 2 * k]:
            return t[PAIRS + 2 * k + 1]
    return np.int64(0)


@njit(error_model="numpy")
def none(t):
    """None, with a reference for the caller; from Python 3.12 on it is immortal: its count is negative and stays."""
    if i32(t[NONE])[0] >= 0:
        i64(t[NONE])[REFERENCES] += 1
    return t[NONE]


@njit(error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True)
def call(ticket_object, arguments, count):
    """PyObject *call(PyObject *ticket, PyObject *const *arguments, Py_ssize_t count); see above."""
    t = i64(i64(ticket_object)[ARRAY_DATA])
    if count != 2:
        return none(t)
    x, y = i64(arguments)[0], i64(arguments)[1]
    frame = frame_for(t, x)
    if frame == 0:
        return none(t)
    f = i64(frame)
    f[RECORDS + ADDRESS], f[RECORDS + RECORD_WORDS + ADDRESS] = i64(x)[ARRAY_DATA], i64(y)[ARRAY_DATA]
    if run(frame, np.int64(0)) != 0:
        return none(t)
    i64(y)[REFERENCES] += 1
    return y
