"""Vectors as Numba types and LLVM values: what every vector operation is made of.

`Vec("i32", n)` is n lanes in a register. `L` is the number of 32-bit lanes; a "quad" is 4·L bytes, four products deep per lane,
which is what the byte dot products of x86 (vpdpbusd) and ARM (sdot) take.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import models, register_model

from .isa import selected

ISA = selected()
L = ISA.lanes

ELEMENTS = {
    "i8": ir.IntType(8),
    "i16": ir.IntType(16),
    "i32": ir.IntType(32),
    "i64": ir.IntType(64),
    "f32": ir.FloatType(),
}
BYTES = {"i8": 1, "i16": 2, "i32": 4, "i64": 8, "f32": 4}
I32 = ir.IntType(32)


class Vec(types.Type):  # type: ignore[misc]
    """Numba's type of a vector: element name and lane count."""

    def __init__(self, element: str, lanes: int) -> None:
        self.element, self.lanes = element, lanes
        super().__init__(f"Vec({element}x{lanes})")


@register_model(Vec)
class VecModel(models.PrimitiveModel):  # type: ignore[misc]
    """A vector is one LLVM value."""

    def __init__(self, dmm: Any, fe_type: Vec) -> None:
        super().__init__(dmm, fe_type, llvm(fe_type.element, fe_type.lanes))


def llvm(element: str, lanes: int) -> ir.VectorType:
    """The LLVM vector type."""
    return ir.VectorType(ELEMENTS[element], lanes)


VI32 = Vec("i32", L)
VF32 = Vec("f32", L)
VQUAD = Vec("i8", 4 * L)
VPAIR = Vec("i16", 2 * L)


def call(builder: Any, name: str, result: Any, *args: Any) -> Any:
    """Call an LLVM function by name, declared where it is not yet."""
    fn = cgutils.get_or_insert_function(builder.module, ir.FunctionType(result, [a.type for a in args]), name)
    return builder.call(fn, args)


def splat(builder: Any, scalar: Any, lanes: int) -> Any:
    """A scalar in every lane."""
    vector = ir.VectorType(scalar.type, lanes)
    v = builder.insert_element(ir.Constant(vector, ir.Undefined), scalar, ir.Constant(I32, 0))
    return builder.shuffle_vector(v, ir.Constant(vector, ir.Undefined), ir.Constant(ir.VectorType(I32, lanes), None))


def const(element: str, lanes: int, value: float) -> Any:
    """A constant in every lane."""
    return ir.Constant(llvm(element, lanes), [value] * lanes)


def shifted(builder: Any, v: Any, element: str, lanes: int, left: int, op: str, right: int) -> Any:
    """v as `lanes` elements, shifted left by constants, then right by `op` (lshr, ashr): what widens parts of a lane."""
    wide = builder.bitcast(v, llvm(element, lanes))
    if left:
        wide = builder.shl(wide, const(element, lanes, left))
    return getattr(builder, op)(wide, const(element, lanes, right))


def store_masked(builder: Any, name: str, value: Any, pointer: Any, mask: Any) -> None:
    """Store the lanes of `value` that the mask names."""
    align = ir.Constant(I32, 1)
    fn = cgutils.get_or_insert_function(
        builder.module,
        ir.FunctionType(ir.VoidType(), [value.type, pointer.type, align.type, mask.type]),
        name,
    )
    builder.call(fn, [value, pointer, align, mask])


def store_bytes_some(builder: Any, address: Any, vector: Any, count: Any) -> None:
    """The first `count` bytes of a byte vector; masked where that is an instruction, else through the stack."""
    kind, lanes = vector.type, vector.type.count
    if L == 16:
        n = builder.trunc(count, ir.IntType(8))
        mask = builder.icmp_unsigned("<", ir.Constant(kind, list(range(lanes))), splat(builder, n, lanes))
        store_masked(
            builder, f"llvm.masked.store.v{lanes}i8.p0", vector, builder.inttoptr(address, kind.as_pointer()), mask
        )
        return
    place = cgutils.alloca_once(builder, kind)
    builder.store(vector, place)
    p8 = ir.IntType(8).as_pointer()
    signature = ir.FunctionType(ir.VoidType(), [p8, p8, ir.IntType(64), ir.IntType(1)])
    copy = cgutils.get_or_insert_function(builder.module, signature, "llvm.memcpy.p0.p0.i64")
    never = ir.Constant(ir.IntType(1), 0)
    builder.call(copy, [builder.inttoptr(address, p8), builder.bitcast(place, p8), count, never])
