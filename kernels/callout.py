"""Operations that the machine does not have: a C function of the application's, called with the words of the instruction.

`call_out` is one unit of work. Word FUNCTION is the address of `int64 f(int64 *arguments)`; the arguments are the words from
ARGUMENTS on: addresses in the arena and the constants, and plain integers. Any answer but 0 is a fault.
"""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from .fault import fault
from .words.callout import ARGUMENTS, FUNCTION
from .words.frame import CUSTOM

_I64 = ir.IntType(64)


@intrinsic
def call(typingctx, function, words, first):
    """The int64 that the C function at address `function` makes of the words from number `first` on."""

    def codegen(context, builder, signature, args):
        kind = ir.FunctionType(_I64, [_I64.as_pointer()])
        callee = builder.inttoptr(args[0], kind.as_pointer())
        return builder.call(callee, [builder.gep(args[1], [args[2]])])

    return types.int64(types.int64, types.CPointer(types.int64), types.int64), codegen


@njit(error_model="numpy")
def call_out(g, scratch, lo, hi):
    """Call the function; see above."""
    if call(g[FUNCTION], g, np.int64(ARGUMENTS)) != 0:
        fault(g, scratch, CUSTOM)
