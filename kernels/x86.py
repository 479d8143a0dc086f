"""What the vector operations are on x86: pmaddwd of widened bytes, or vpdpbusd; conversions and packs that saturate."""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from .vec import I32, ISA, L, call, llvm, shifted, splat

_PMADDWD = {4: "llvm.x86.sse2.pmadd.wd", 8: "llvm.x86.avx2.pmadd.wd", 16: "llvm.x86.avx512.pmaddw.d.512"}
_VPDPBUSD = {8: "llvm.x86.avx512.vpdpbusd.256", 16: "llvm.x86.avx512.vpdpbusd.512"}
_VPDPWSSD = {8: "llvm.x86.avx512.vpdpwssd.256", 16: "llvm.x86.avx512.vpdpwssd.512"}
_PACK_S16 = {4: "llvm.x86.sse2.packssdw.128", 8: "llvm.x86.avx2.packssdw", 16: "llvm.x86.avx512.packssdw.512"}
_PACK_U8 = {4: "llvm.x86.sse2.packuswb.128", 8: "llvm.x86.avx2.packuswb", 16: "llvm.x86.avx512.packuswb.512"}
_CVT = {4: "llvm.x86.sse2.cvtps2dq", 8: "llvm.x86.avx.cvt.ps2dq.256"}


def dot_u8s8(builder: Any, acc: Any, x: Any, w: Any) -> Any:
    """acc + four byte products per lane: one instruction, or even and odd bytes widened to int16, two exact multiply-adds."""
    if ISA.dot == "vpdpbusd":
        return call(builder, _VPDPBUSD[L], acc.type, acc, x, w)
    xe = shifted(builder, x, "i16", 2 * L, 8, "lshr", 8)
    xo = shifted(builder, x, "i16", 2 * L, 0, "lshr", 8)
    we = shifted(builder, w, "i16", 2 * L, 8, "ashr", 8)
    wo = shifted(builder, w, "i16", 2 * L, 0, "ashr", 8)
    acc = builder.add(acc, call(builder, _PMADDWD[L], acc.type, xe, we))
    return builder.add(acc, call(builder, _PMADDWD[L], acc.type, xo, wo))


def dot_s16(builder: Any, acc: Any, x: Any, w: Any) -> Any:
    """acc + two int16 products per lane."""
    if ISA.dot == "vpdpbusd":
        return call(builder, _VPDPWSSD[L], acc.type, acc, x, w)
    return builder.add(acc, call(builder, _PMADDWD[L], acc.type, x, w))


def to_nearest(builder: Any, f: Any) -> Any:
    """float32 to int32, ties to even; what does not fit becomes the least int32."""
    result = llvm("i32", L)
    if L == 16:
        keep, all_lanes = ir.Constant(result, ir.Undefined), ir.Constant(ir.IntType(16), -1)
        current = ir.Constant(I32, 4)
        return call(builder, "llvm.x86.avx512.mask.cvtps2dq.512", result, f, keep, all_lanes, current)
    return call(builder, _CVT[L], result, f)


def packed(builder: Any, vectors: list[Any], offset: Any) -> Any:
    """Four int32 vectors, saturated to int16, plus `offset` (a scalar or None), saturated to unsigned bytes."""
    half = llvm("i16", 2 * L)
    wide = None if offset is None else splat(builder, builder.trunc(offset, ir.IntType(16)), 2 * L)
    rows = []
    for first, second in (vectors[:2], vectors[2:]):
        row = call(builder, _PACK_S16[L], half, first, second)
        rows.append(row if wide is None else call(builder, f"llvm.sadd.sat.v{2 * L}i16", half, row, wide))
    return call(builder, _PACK_U8[L], llvm("i8", 4 * L), *rows)
