"""Memory that passes through once: reading ahead of the processor's own guess, and writing past the caches.

An ordinary store of a whole line first reads the line from memory; one that goes past the caches does not, and leaves what is
there. Both are worth it for arrays that no cache holds, and for those only. Addresses are uint64.
"""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

LINE = 64
_LINE = ir.VectorType(ir.IntType(8), LINE)
_I32 = ir.IntType(32)


@intrinsic
def pass_line(typingctx, target, source):
    """Copy LINE bytes from `source` to `target`, both multiples of LINE, past the caches; `settle` comes before any reader."""

    def codegen(context, builder, signature, args):
        to, line = (builder.inttoptr(a, _LINE.as_pointer()) for a in args)
        store = builder.store(builder.load(line, align=LINE), to, align=LINE)
        store.set_metadata("nontemporal", builder.module.add_metadata([ir.Constant(_I32, 1)]))
        return context.get_dummy_value()

    return types.void(types.uint64, types.uint64), codegen


@intrinsic
def settle(typingctx):
    """What pass_line has written comes before everything that this thread writes next, to every other thread."""

    def codegen(context, builder, signature, args):
        builder.fence("seq_cst")
        return context.get_dummy_value()

    return types.void(), codegen


@intrinsic
def prefetch(typingctx, address):
    """Ask for the line at an address, which may be any: nothing faults."""

    def codegen(context, builder, signature, args):
        p8 = ir.IntType(8).as_pointer()
        kind = ir.FunctionType(ir.VoidType(), [p8, _I32, _I32, _I32])
        read, keep, data = (ir.Constant(_I32, v) for v in (0, 3, 1))
        fn = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        builder.call(fn, [builder.inttoptr(args[0], p8), read, keep, data])
        return context.get_dummy_value()

    return types.void(types.uint64), codegen
