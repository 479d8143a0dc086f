"""Addresses as typed pointers: how a kernel reaches the arena, the constants and its instruction.

An address is an int64. `u8(a)` is that address as a pointer to uint8, indexed like an array; nothing is checked, the plan has
proved every access. `copy` and `fill` are LLVM's memory intrinsics (memcpy and memset are the only symbols kernels may leave
undefined). `fetch_add` and `load_acquire` are what the barrier is made of.
"""

from __future__ import annotations

import platform
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

_YIELD = {  # sched_yield by its number, since the machine links against nothing; (assembly, its registers)
    "x86_64": ("syscall", "={rax},{rax},~{rcx},~{r11},~{memory}", 24),
    "aarch64": ("svc #0", "={x0},{x8},~{memory}", 124),
}
_PAUSE = {"x86_64": "pause", "aarch64": "yield"}


@intrinsic
def pause(typingctx):
    """Tell the processor that this is a spin loop."""

    def codegen(context, builder, signature, args):
        text = _PAUSE.get(_architecture())
        if text is not None:
            builder.asm(ir.FunctionType(ir.VoidType(), []), text, "", [], side_effect=True)
        return context.get_dummy_value()

    return types.void(), codegen


@intrinsic
def give_way(typingctx):
    """Let another thread have this core, where the operating system is Linux."""

    def codegen(context, builder, signature, args):
        known = _YIELD.get(_architecture())
        if known is not None:
            text, registers, number = known
            signature = ir.FunctionType(I64, [I64])
            builder.asm(signature, text, registers, [ir.Constant(I64, number)], side_effect=True)
        return context.get_dummy_value()

    return types.void(), codegen


def _architecture() -> str:
    """The processor's name where the system is Linux, else an empty one: system calls have other numbers elsewhere."""
    return platform.machine() if platform.system() == "Linux" else ""


@intrinsic
def bits_of_f64(typingctx, value):
    """The bit pattern of a float64."""

    def codegen(context, builder, signature, args):
        return builder.bitcast(args[0], I64)

    return types.int64(types.float64), codegen
