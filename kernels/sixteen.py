"""Sixteen float32 or int32 at once, however wide the processor's vectors are: LLVM makes one, two or four registers of them.

`+`, `-`, `*` and `>>`, `<<`, `^` (shifts without sign) work lane by lane, integers modulo 2³². Nothing here is contracted or
reordered: float arithmetic gives the same numbers on every processor, `fma` rounds once.
"""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.typing.templates import ConcreteTemplate, infer_global, signature
from numba.extending import intrinsic, lower_builtin, models, register_model

LANES = np.uint64(16)
_COUNT = int(LANES)


class Sixteen(types.Type):  # type: ignore[misc]
    """Numba's type of sixteen numbers of one kind."""

    def __init__(self, scalar: Any, element: Any) -> None:
        self.scalar, self.vector = scalar, ir.VectorType(element, _COUNT)
        super().__init__(f"Sixteen({scalar})")


@register_model(Sixteen)
class SixteenModel(models.PrimitiveModel):  # type: ignore[misc]
    """Sixteen numbers are one LLVM value."""

    def __init__(self, dmm: Any, fe_type: Sixteen) -> None:
        super().__init__(dmm, fe_type, fe_type.vector)


F = Sixteen(types.float32, ir.FloatType())
I = Sixteen(types.uint32, ir.IntType(32))  # noqa: E741 - as F is of floats


def _operators(kind: Sixteen, **names: str) -> None:
    """Make Python's operators mean these LLVM instructions for two of `kind`."""
    for name, instruction in names.items():
        function = getattr(operator, name)
        template = type(f"{name}_{kind.scalar}", (ConcreteTemplate,), {"cases": [signature(kind, kind, kind)]})
        infer_global(function)(template)

        def lower(context: Any, builder: Any, sig: Any, args: Any, instruction: str = instruction) -> Any:
            return getattr(builder, instruction)(*args)

        lower_builtin(function, kind, kind)(lower)


_operators(F, add="fadd", sub="fsub", mul="fmul")
_operators(I, add="add", sub="sub", rshift="lshr", lshift="shl", xor="xor")


def _call(builder: Any, name: str, result: Any, *args: Any) -> Any:
    fn = cgutils.get_or_insert_function(builder.module, ir.FunctionType(result, [a.type for a in args]), name)
    return builder.call(fn, args)


def _at(context: Any, builder: Any, kind: Any, array: Any, index: Any, vector: Any) -> Any:
    """Where a vector lies that begins at an element of a C-contiguous array, and the alignment that is sure."""
    data = context.make_array(kind)(context, builder, array).data
    where = builder.bitcast(builder.gep(data, [index]), vector.as_pointer())
    return where, kind.dtype.bitwidth // 8


@intrinsic
def load(typingctx, array, i):
    """Elements i … i + 15 of a float32 array (uint64 i)."""

    def codegen(context, builder, signature, args):
        where, align = _at(context, builder, array, *args, F.vector)
        return builder.load(where, align=align)

    return F(array, types.uint64), codegen


@intrinsic
def put(typingctx, array, i, numbers):
    """The low bits of sixteen integers to elements i … i + 15 of an integer array."""

    def codegen(context, builder, signature, args):
        narrow = ir.VectorType(ir.IntType(array.dtype.bitwidth), _COUNT)
        where, align = _at(context, builder, array, args[0], args[1], narrow)
        builder.store(builder.trunc(args[2], narrow), where, align=align)
        return context.get_dummy_value()

    return types.void(array, types.uint64, I), codegen


@intrinsic
def all_of(typingctx, number):
    """The same float32 or uint32 sixteen times."""
    kind = F if number == types.float32 else I

    def codegen(context, builder, signature, args):
        undefined = ir.Constant(kind.vector, ir.Undefined)
        first = builder.insert_element(undefined, args[0], ir.Constant(ir.IntType(32), 0))
        zeros = ir.Constant(ir.VectorType(ir.IntType(32), _COUNT), None)
        return builder.shuffle_vector(first, undefined, zeros)

    return kind(kind.scalar), codegen


@intrinsic
def fma(typingctx, a, b, c):
    """a·b + c, rounded once."""
    return F(F, F, F), lambda context, builder, signature, args: _call(builder, "llvm.fma.v16f32", F.vector, *args)


@intrinsic
def about(typingctx, a, b, c):
    """a·b + c, rounded once or twice, as the processor has it."""
    return F(F, F, F), lambda context, builder, signature, args: _call(builder, "llvm.fmuladd.v16f32", F.vector, *args)


@intrinsic
def magnitude(typingctx, a):
    """|a|."""
    return F(F), lambda context, builder, signature, args: _call(builder, "llvm.fabs.v16f32", F.vector, *args)


@intrinsic
def bits(typingctx, a):
    """The bits of floats."""
    return I(F), lambda context, builder, signature, args: builder.bitcast(args[0], I.vector)


@intrinsic
def of_bits(typingctx, a):
    """The floats that have these bits."""
    return F(I), lambda context, builder, signature, args: builder.bitcast(args[0], F.vector)


@intrinsic
def least(typingctx, a, b):
    """The lesser of each two integers, without sign."""
    return I(I, I), lambda context, builder, signature, args: _call(builder, "llvm.umin.v16i32", I.vector, *args)


@intrinsic
def most(typingctx, a, b):
    """The greater of each two integers, without sign."""
    return I(I, I), lambda context, builder, signature, args: _call(builder, "llvm.umax.v16i32", I.vector, *args)


@intrinsic
def any_above(typingctx, a, bound):
    """Whether any integer is greater than its bound, without sign."""

    def codegen(context, builder, signature, args):
        above = builder.icmp_unsigned(">", *args)
        return _call(builder, "llvm.vector.reduce.or.v16i1", ir.IntType(1), above)

    return types.boolean(I, I), codegen
