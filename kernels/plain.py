"""What the vector operations are on any processor: LLVM IR without an instruction set's own intrinsics."""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from .vec import I32, L, call, const, llvm, shifted


def dot_u8s8(builder: Any, acc: Any, x: Any, w: Any) -> Any:
    """acc + four byte products per lane: byte j of each lane widened by shifts."""
    for j in range(4):
        xj = shifted(builder, x, "i32", L, 24 - 8 * j, "lshr", 24)
        wj = shifted(builder, w, "i32", L, 24 - 8 * j, "ashr", 24)
        acc = builder.add(acc, builder.mul(xj, wj))
    return acc


def dot_s16(builder: Any, acc: Any, x: Any, w: Any) -> Any:
    """acc + two int16 products per lane."""
    for j in range(2):
        xj = shifted(builder, x, "i32", L, 16 - 16 * j, "ashr", 16)
        wj = shifted(builder, w, "i32", L, 16 - 16 * j, "ashr", 16)
        acc = builder.add(acc, builder.mul(xj, wj))
    return acc


def saturated(builder: Any, vectors: list[Any], low: Any) -> Any:
    """Four int32 vectors clamped to [low, 255], packed to bytes."""
    top = const("i32", L, 255)
    clamped = []
    for v in vectors:
        v = call(builder, f"llvm.smax.v{L}i32", v.type, v, low)
        clamped.append(call(builder, f"llvm.smin.v{L}i32", v.type, v, top))
    return packed(builder, clamped)


def packed(builder: Any, vectors: list[Any]) -> Any:
    """The low bytes of four int32 vectors, in the order of `quads.pack_u8`."""
    narrow = [builder.trunc(v, llvm("i8", L)) for v in vectors]
    both = ir.Constant(ir.VectorType(I32, 2 * L), list(range(2 * L)))
    ab, cd = (builder.shuffle_vector(x, y, both) for x, y in (narrow[:2], narrow[2:]))
    order = [j * L + 4 * p + e for p in range(L // 4) for j in range(4) for e in range(4)]
    return builder.shuffle_vector(ab, cd, ir.Constant(ir.VectorType(I32, 4 * L), order))
