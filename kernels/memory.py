"""Addresses as typed pointers: how a kernel reaches the arena, the constants and its instruction.

An address is an int64. `u8(a)` is that address as a pointer to uint8, indexed like an array; nothing is checked, the plan has
proved every access. `copy` and `fill` are LLVM's memory intrinsics (memcpy and memset are the only symbols kernels may leave
undefined). `fetch_add` and `load_acquire` are what the barrier is made of.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

I64 = ir.IntType(64)


def _view(element: types.Type) -> Any:
    pointer = types.CPointer(element)

    @intrinsic
    def view(typingctx, address):
        def codegen(context, builder, signature, args):
            return builder.inttoptr(args[0], context.get_value_type(pointer))

        return pointer(types.int64), codegen

    return view


u8 = _view(types.uint8)
i8 = _view(types.int8)
i16 = _view(types.int16)
u16 = _view(types.uint16)
i32 = _view(types.int32)
u32 = _view(types.uint32)
i64 = _view(types.int64)
f32 = _view(types.float32)
f64 = _view(types.float64)


@intrinsic
def copy(typingctx, target, source, count):
    """Copy `count` bytes from address `source` to address `target`; the two do not overlap."""

    def codegen(context, builder, signature, args):
        p8 = ir.IntType(8).as_pointer()
        fn = cgutils.get_or_insert_function(
            builder.module,
            ir.FunctionType(ir.VoidType(), [p8, p8, I64, ir.IntType(1)]),
            "llvm.memcpy.p0.p0.i64",
        )
        builder.call(
            fn, [builder.inttoptr(args[0], p8), builder.inttoptr(args[1], p8), args[2], ir.Constant(ir.IntType(1), 0)]
        )
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), codegen


@intrinsic
def fill(typingctx, target, value, count):
    """Set `count` bytes from address `target` to the low byte of `value`."""

    def codegen(context, builder, signature, args):
        p8 = ir.IntType(8).as_pointer()
        fn = cgutils.get_or_insert_function(
            builder.module,
            ir.FunctionType(ir.VoidType(), [p8, ir.IntType(8), I64, ir.IntType(1)]),
            "llvm.memset.p0.i64",
        )
        byte = builder.trunc(args[1], ir.IntType(8))
        builder.call(fn, [builder.inttoptr(args[0], p8), byte, args[2], ir.Constant(ir.IntType(1), 0)])
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), codegen


@intrinsic
def fetch_add(typingctx, address, value):
    """Atomically add `value` to the int64 at `address`; returns what was there before."""

    def codegen(context, builder, signature, args):
        p = builder.inttoptr(args[0], I64.as_pointer())
        return builder.atomic_rmw("add", p, args[1], "acq_rel")

    return types.int64(types.int64, types.int64), codegen


@intrinsic
def load_acquire(typingctx, address):
    """The int64 at `address`, read with acquire ordering."""

    def codegen(context, builder, signature, args):
        p = builder.inttoptr(args[0], I64.as_pointer())
        return builder.load_atomic(p, "acquire", 8)

    return types.int64(types.int64), codegen


@intrinsic
def float_of_bits(typingctx, bits):
    """The float32 whose bit pattern is the low 32 bits of `bits`: how an instruction word carries a float."""

    def codegen(context, builder, signature, args):
        return builder.bitcast(builder.trunc(args[0], ir.IntType(32)), ir.FloatType())

    return types.float32(types.int64), codegen


@intrinsic
def f64_of_bits(typingctx, bits):
    """The float64 whose bit pattern is `bits`."""

    def codegen(context, builder, signature, args):
        return builder.bitcast(args[0], ir.DoubleType())

    return types.float64(types.int64), codegen


SPINS = 2000
"""Looks at the barrier before a thread gives its core away: about 20 µs, more than threads that all run ever wait."""

NAP = 20
"""Microseconds that it then sleeps at a time: on an idle core the system puts whoever waits for a busy one."""

MONOTONIC = 1
"""Linux's number of the clock that only goes forward."""

STANDBY = 20_000
"""Looks out for the next inference before a thread leaves the machine: some 200 µs."""

_PAUSE = {  # what tells the processor that this is a spin loop; `yield` is hint 1 on ARM
    "x86_64": ("llvm.x86.sse2.pause", None),
    "aarch64": ("llvm.aarch64.hint", 1),
    "arm64": ("llvm.aarch64.hint", 1),
    "armv7": ("llvm.arm.hint", 1),
}


@intrinsic
def pause(typingctx):
    """Tell the processor that this is a spin loop."""

    def codegen(context, builder, signature, args):
        known = _PAUSE.get(builder.module.triple.split("-")[0])
        if known is not None:
            name, hint = known
            given = [] if hint is None else [ir.Constant(ir.IntType(32), hint)]
            kind = ir.FunctionType(ir.VoidType(), [a.type for a in given])
            builder.call(cgutils.get_or_insert_function(builder.module, kind, name), given)
        return context.get_dummy_value()

    return types.void(), codegen


@intrinsic
def call(typingctx, address, argument):
    """Call the C function `int f(unsigned)` at an address; nothing where that is 0."""

    def codegen(context, builder, signature, args):
        word = ir.IntType(32)
        kind = ir.FunctionType(word, [word])
        with builder.if_then(builder.icmp_signed("!=", args[0], ir.Constant(I64, 0))):
            builder.call(builder.inttoptr(args[0], kind.as_pointer()), [builder.trunc(args[1], word)])
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), codegen


@intrinsic
def clock(typingctx, address, at):
    """Call the C function `int f(int, struct timespec *)` at an address for CLOCK_MONOTONIC, which writes to address `at`."""

    def codegen(context, builder, signature, args):
        word, p8 = ir.IntType(32), ir.IntType(8).as_pointer()
        kind = ir.FunctionType(word, [word, p8])
        given = [ir.Constant(word, MONOTONIC), builder.inttoptr(args[1], p8)]
        builder.call(builder.inttoptr(args[0], kind.as_pointer()), given)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), codegen


@intrinsic
def bits_of_f64(typingctx, value):
    """The bit pattern of a float64."""

    def codegen(context, builder, signature, args):
        return builder.bitcast(args[0], I64)

    return types.int64(types.float64), codegen
