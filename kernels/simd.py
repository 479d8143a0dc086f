"""Vectors of the selected instruction set as Numba values.

`Vec("i32", n)` is n lanes in a register. The operations below are intrinsics that emit LLVM vector IR, so a kernel written with
them is compiled as written: no vectoriser has to find it. `L` is the number of 32-bit lanes; a "quad" is 4·L bytes, four
products deep per lane, which is what the byte dot products of x86 (vpdpbusd) and ARM (sdot) take.

dot_u8s8(acc, x, w): acc[l] + Σ_{j<4} (x[l][j] − ISA.offset)·w[l][j], x unsigned bytes, w signed bytes of at least
ISA.least_weight, exact in int32 on every instruction set. dot_any allows −128 everywhere.
dot_s16(acc, x, w): acc[l] + Σ_{j<2} x[l][j]·w[l][j] of int16 pairs.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, register_model

from . import neon
from .isa import ARM32, ARM64, X86, selected

ISA = selected()
L = ISA.lanes

_ELEMENTS = {
    "i8": ir.IntType(8),
    "i16": ir.IntType(16),
    "i32": ir.IntType(32),
    "i64": ir.IntType(64),
    "f32": ir.FloatType(),
}
_BYTES = {"i8": 1, "i16": 2, "i32": 4, "i64": 8, "f32": 4}
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
    return ir.VectorType(_ELEMENTS[element], lanes)


VI32 = Vec("i32", L)
VF32 = Vec("f32", L)
VQUAD = Vec("i8", 4 * L)
VPAIR = Vec("i16", 2 * L)


def _call(builder: Any, name: str, result: Any, *args: Any) -> Any:
    fn = cgutils.get_or_insert_function(builder.module, ir.FunctionType(result, [a.type for a in args]), name)
    return builder.call(fn, args)


def _splat(builder: Any, scalar: Any, lanes: int) -> Any:
    vector = ir.VectorType(scalar.type, lanes)
    v = builder.insert_element(ir.Constant(vector, ir.Undefined), scalar, ir.Constant(I32, 0))
    return builder.shuffle_vector(v, ir.Constant(vector, ir.Undefined), ir.Constant(ir.VectorType(I32, lanes), None))


def _const(element: str, lanes: int, value: float) -> Any:
    return ir.Constant(llvm(element, lanes), [value] * lanes)


def _loader(vec: Vec) -> Any:
    @intrinsic
    def load(typingctx, address):
        def codegen(context, builder, signature, args):
            r = builder.load(builder.inttoptr(args[0], llvm(vec.element, vec.lanes).as_pointer()))
            r.align = _BYTES[vec.element]
            return r

        return vec(types.int64), codegen

    return load


load_i32 = _loader(VI32)
load_f32 = _loader(VF32)
load_quad = _loader(VQUAD)
load_pair = _loader(VPAIR)
load_16 = _loader(Vec("i8", 16))


@intrinsic
def store(typingctx, address, vector):
    """Write a vector's lanes to `address`."""

    def codegen(context, builder, signature, args):
        st = builder.store(args[1], builder.inttoptr(args[0], args[1].type.as_pointer()))
        st.align = _BYTES[vector.element]
        return context.get_dummy_value()

    return types.void(types.int64, vector), codegen


@intrinsic
def zero_i32(typingctx):
    """A vector of int32 zeros."""
    return VI32(), lambda context, builder, signature, args: _const("i32", L, 0)


@intrinsic
def zero_f32(typingctx):
    """A vector of float32 zeros."""
    return VF32(), lambda context, builder, signature, args: _const("f32", L, 0.0)


@intrinsic
def splat_i32(typingctx, value):
    """All lanes the same int32."""
    return VI32(types.int32), lambda context, builder, signature, args: _splat(builder, args[0], L)


@intrinsic
def splat_f32(typingctx, value):
    """All lanes the same float32."""
    return VF32(types.float32), lambda context, builder, signature, args: _splat(builder, args[0], L)


def _byte_splatter(vec: Vec) -> Any:
    @intrinsic
    def splat_bytes(typingctx, value):
        """All bytes the low byte of `value`."""

        def codegen(context, builder, signature, args):
            return _splat(builder, builder.trunc(args[0], ir.IntType(8)), vec.lanes)

        return vec(types.int64), codegen

    return splat_bytes


splat_quad, splat_16 = _byte_splatter(VQUAD), _byte_splatter(Vec("i8", 16))


def _broadcast32(vec: Vec) -> Any:
    @intrinsic
    def broadcast(typingctx, address):
        """The 32 bits at `address`, unaligned, in every lane."""

        def codegen(context, builder, signature, args):
            word = builder.load(builder.inttoptr(args[0], I32.as_pointer()))
            word.align = 1
            return builder.bitcast(_splat(builder, word, L), llvm(vec.element, vec.lanes))

        return vec(types.int64), codegen

    return broadcast


broadcast_quad = _broadcast32(VQUAD)
broadcast_pair = _broadcast32(VPAIR)
broadcast_f32 = _broadcast32(VF32)

_PMADDWD = {4: "llvm.x86.sse2.pmadd.wd", 8: "llvm.x86.avx2.pmadd.wd", 16: "llvm.x86.avx512.pmaddw.d.512"}
_VPDPBUSD = {8: "llvm.x86.avx512.vpdpbusd.256", 16: "llvm.x86.avx512.vpdpbusd.512"}


def _lane_shift(builder: Any, v: Any, element: str, lanes: int, left: int, op: str, right: int) -> Any:
    wide = builder.bitcast(v, llvm(element, lanes))
    if left:
        wide = builder.shl(wide, _const(element, lanes, left))
    return getattr(builder, op)(wide, _const(element, lanes, right))


def _dot_u8s8(builder: Any, acc: Any, x: Any, w: Any) -> Any:
    if ISA in (*ARM64, *ARM32):
        return neon.dot_signed(builder, ISA.dot, acc, neon.flip(builder, x) if ISA.offset else x, w)
    if ISA.dot == "vpdpbusd":
        return _call(builder, _VPDPBUSD[L], acc.type, acc, x, w)
    if ISA.dot == "pmaddwd":  # even and odd bytes widened to int16, two exact multiply-adds
        xe = _lane_shift(builder, x, "i16", 2 * L, 8, "lshr", 8)
        xo = _lane_shift(builder, x, "i16", 2 * L, 0, "lshr", 8)
        we = _lane_shift(builder, w, "i16", 2 * L, 8, "ashr", 8)
        wo = _lane_shift(builder, w, "i16", 2 * L, 0, "ashr", 8)
        acc = builder.add(acc, _call(builder, _PMADDWD[L], acc.type, xe, we))
        return builder.add(acc, _call(builder, _PMADDWD[L], acc.type, xo, wo))
    for j in range(4):  # any target: byte j of each lane widened by shifts
        xj = _lane_shift(builder, x, "i32", L, 24 - 8 * j, "lshr", 24)
        wj = _lane_shift(builder, w, "i32", L, 24 - 8 * j, "ashr", 24)
        acc = builder.add(acc, builder.mul(xj, wj))
    return acc


def _dot_any(builder: Any, acc: Any, x: Any, w: Any) -> Any:
    if ISA in (*ARM64, *ARM32):
        return neon.dot_any(builder, ISA.dot, acc, neon.flip(builder, x) if ISA.offset else x, w)
    return _dot_u8s8(builder, acc, x, w)


_VPDPWSSD = {8: "llvm.x86.avx512.vpdpwssd.256", 16: "llvm.x86.avx512.vpdpwssd.512"}


def _dot_s16(builder: Any, acc: Any, x: Any, w: Any) -> Any:
    if ISA in (*ARM64, *ARM32):
        return neon.dot_s16(builder, ISA.dot, acc, x, w)
    if ISA.dot == "vpdpbusd":
        return _call(builder, _VPDPWSSD[L], acc.type, acc, x, w)
    if ISA.dot in ("vpdpbusd", "pmaddwd"):
        return builder.add(acc, _call(builder, _PMADDWD[L], acc.type, x, w))
    for j in range(2):
        xj = _lane_shift(builder, x, "i32", L, 16 - 16 * j, "ashr", 16)
        wj = _lane_shift(builder, w, "i32", L, 16 - 16 * j, "ashr", 16)
        acc = builder.add(acc, builder.mul(xj, wj))
    return acc


@intrinsic
def dot_u8s8(typingctx, acc, x, w):
    """acc + four byte products per lane, x unsigned, w signed."""
    return VI32(acc, x, w), lambda context, builder, signature, args: _dot_u8s8(builder, *args)


@intrinsic
def dot_any(typingctx, acc, x, w):
    """As dot_u8s8, for weights of −128 too."""
    return VI32(acc, x, w), lambda context, builder, signature, args: _dot_any(builder, *args)


@intrinsic
def load_steps(typingctx, address):
    """16 bytes of activations, four k-steps, made ready for dot_step: ARM alone."""

    def codegen(context, builder, signature, args):
        x = builder.load(builder.inttoptr(args[0], neon.V16I8.as_pointer()))
        x.align = 1
        return neon.flip(builder, x) if ISA.offset else x

    return VQUAD(types.int64), codegen


def _dot_step(k: int) -> Any:
    @intrinsic
    def dot_step(typingctx, acc, x, w):
        """dot_u8s8 with the k-th 32 bits of what load_steps has loaded in every lane."""

        def codegen(context, builder, signature, args):
            return neon.dot_lane(builder, ISA.dot, args[0], args[1], k, args[2])

        return VI32(acc, x, w), codegen

    return dot_step


dot_step0, dot_step1, dot_step2, dot_step3 = (_dot_step(k) for k in range(4))


@intrinsic
def dot_s16(typingctx, acc, x, w):
    """acc + two int16 products per lane."""
    return VI32(acc, x, w), lambda context, builder, signature, args: _dot_s16(builder, *args)


@intrinsic
def fma(typingctx, acc, x, w):
    """acc + x·w per lane, fused where the processor has it."""

    def codegen(context, builder, signature, args):
        return _call(builder, f"llvm.fmuladd.v{L}f32", args[0].type, args[1], args[2], args[0])

    return VF32(acc, x, w), codegen


@intrinsic
def add_i32(typingctx, a, b):
    """Lane-wise sum, modulo 2^32."""
    return VI32(a, b), lambda context, builder, signature, args: builder.add(*args)


@intrinsic
def add_f32(typingctx, a, b):
    """Lane-wise float32 sum."""
    return VF32(a, b), lambda context, builder, signature, args: builder.fadd(*args)


@intrinsic
def clamp_f32(typingctx, v, lo, hi):
    """Lane-wise min(max(v, lo), hi)."""

    def codegen(context, builder, signature, args):
        v, lo, hi = args
        v = builder.select(builder.fcmp_ordered(">", v, lo), v, lo)
        return builder.select(builder.fcmp_ordered("<", v, hi), v, hi)

    return VF32(v, lo, hi), codegen


@intrinsic
def clamp_i32(typingctx, v, lo, hi):
    """Lane-wise min(max(v, lo), hi) of int32."""

    def codegen(context, builder, signature, args):
        v, lo, hi = args
        v = _call(builder, f"llvm.smax.v{L}i32", v.type, v, lo)
        return _call(builder, f"llvm.smin.v{L}i32", v.type, v, hi)

    return VI32(v, lo, hi), codegen


@intrinsic
def scale_to_i32(typingctx, acc, scale, lo, hi):
    """rint(clamp(float32(acc)·scale, lo, hi)), ties to even: XNNPACK's requantization before its zero point.

    lo and hi are whole numbers within ±2^22, so clamping first changes nothing and the conversion cannot overflow.
    Adding 1.5·2^23 rounds to even in the float adder itself; its low bits then are the integer.
    """

    def codegen(context, builder, signature, args):
        acc, scale, lo, hi = args
        f = builder.fmul(builder.sitofp(acc, scale.type), scale)
        if ISA in ARM64:
            f = _call(builder, "llvm.maxnum.v4f32", f.type, f, lo)
            return neon.to_nearest(builder, _call(builder, "llvm.minnum.v4f32", f.type, f, hi))
        f = builder.select(builder.fcmp_ordered(">", f, lo), f, lo)
        f = builder.select(builder.fcmp_ordered("<", f, hi), f, hi)
        f = builder.fadd(f, _const("f32", L, 12582912.0))
        return builder.sub(builder.bitcast(f, acc.type), _const("i32", L, 0x4B400000))

    return VI32(acc, scale, lo, hi), codegen


@intrinsic
def multiply_double_rounded(typingctx, acc, multiplier, left, right):
    """gemmlowp's MultiplyByQuantizedMultiplier per lane: doubling high multiply, then a rounding shift to the right.

    acc, multiplier, left, right: int32 vectors, left and right ≥ 0. The first rounding is half up: gemmlowp's
    (ab + (ab ≥ 0 ? 2^30 : 1 − 2^30)) / 2^31, truncated, is (ab + 2^30) >> 31. The second is half away from zero.
    """

    def codegen(context, builder, signature, args):
        acc, q, left, right = args
        if ISA in ARM64:
            return neon.multiply_double_rounded(builder, *args)
        wide = llvm("i64", L)
        ab = builder.mul(builder.sext(builder.shl(acc, left), wide), builder.sext(q, wide))
        ab = builder.ashr(builder.add(ab, _const("i64", L, 1 << 30)), _const("i64", L, 31))
        x = builder.trunc(ab, acc.type)
        mask = builder.sub(builder.shl(_const("i32", L, 1), right), _const("i32", L, 1))
        negative = builder.lshr(x, _const("i32", L, 31))
        threshold = builder.add(builder.lshr(mask, _const("i32", L, 1)), negative)
        up = builder.zext(builder.icmp_signed(">", builder.and_(x, mask), threshold), acc.type)
        return builder.add(builder.ashr(x, right), up)

    return VI32(acc, multiplier, left, right), codegen


def _narrow_store(element: str, masked: bool) -> Any:
    narrow = llvm(element, L)

    @intrinsic
    def store_all(typingctx, address, vector):
        """The low bits of each lane, packed, to `address`."""

        def codegen(context, builder, signature, args):
            st = builder.store(builder.trunc(args[1], narrow), builder.inttoptr(args[0], narrow.as_pointer()))
            st.align = _BYTES[element]
            return context.get_dummy_value()

        return types.void(types.int64, vector), codegen

    @intrinsic
    def store_some(typingctx, address, vector, count):
        """The low bits of the first `count` lanes, packed, to `address`; nothing behind them is touched."""

        def codegen(context, builder, signature, args):
            n = builder.trunc(args[2], I32)
            ids = ir.Constant(llvm("i32", L), list(range(L)))
            mask = builder.icmp_signed("<", ids, _splat(builder, n, L))
            p = builder.inttoptr(args[0], narrow.as_pointer())
            name = f"llvm.masked.store.v{L}{element}.p0"
            _masked(builder, name, builder.trunc(args[1], narrow), p, mask)
            return context.get_dummy_value()

        return types.void(types.int64, vector, types.int64), codegen

    return store_some if masked else store_all


def _masked(builder: Any, name: str, value: Any, pointer: Any, mask: Any) -> None:
    align = ir.Constant(I32, 1)
    fn = cgutils.get_or_insert_function(
        builder.module,
        ir.FunctionType(ir.VoidType(), [value.type, pointer.type, align.type, mask.type]),
        name,
    )
    builder.call(fn, [value, pointer, align, mask])


store_u8 = _narrow_store("i8", masked=False)
store_u8_some = _narrow_store("i8", masked=True)
store_i16 = _narrow_store("i16", masked=False)
store_i16_some = _narrow_store("i16", masked=True)


@intrinsic
def store_f32_some(typingctx, address, vector, count):
    """The first `count` float32 lanes to `address`; nothing behind them is touched."""

    def codegen(context, builder, signature, args):
        n = builder.trunc(args[2], I32)
        ids = ir.Constant(llvm("i32", L), list(range(L)))
        mask = builder.icmp_signed("<", ids, _splat(builder, n, L))
        p = builder.inttoptr(args[0], llvm("f32", L).as_pointer())
        _masked(builder, f"llvm.masked.store.v{L}f32.p0", args[1], p, mask)
        return context.get_dummy_value()

    return types.void(types.int64, vector, types.int64), codegen


def _widening_load(element: str, signed: bool) -> Any:
    @intrinsic
    def load(typingctx, address):
        def codegen(context, builder, signature, args):
            r = builder.load(builder.inttoptr(args[0], llvm(element, L).as_pointer()))
            r.align = _BYTES[element]
            return (builder.sext if signed else builder.zext)(r, llvm("i32", L))

        return VI32(types.int64), codegen

    return load


load_u8_as_i32 = _widening_load("i8", signed=False)
load_i8_as_i32 = _widening_load("i8", signed=True)
load_i16_as_i32 = _widening_load("i16", signed=True)


@intrinsic
def mul_i32(typingctx, a, b):
    """Lane-wise product, modulo 2^32."""
    return VI32(a, b), lambda context, builder, signature, args: builder.mul(*args)


@intrinsic
def mul_f32(typingctx, a, b):
    """Lane-wise float32 product."""
    return VF32(a, b), lambda context, builder, signature, args: builder.fmul(*args)


@intrinsic
def sub_f32(typingctx, a, b):
    """Lane-wise float32 difference."""
    return VF32(a, b), lambda context, builder, signature, args: builder.fsub(*args)


def _lesser(order: str) -> Any:
    @intrinsic
    def pick(typingctx, a, b):
        """a, or b where it is less (greater); b that is NaN never is."""

        def codegen(context, builder, signature, args):
            a, b = args
            return builder.select(builder.fcmp_ordered(order, b, a), b, a)

        return VF32(a, b), codegen

    return pick


min_f32, max_f32 = _lesser("<"), _lesser(">")


@intrinsic
def round_away_i32(typingctx, v, lo, hi):
    """v rounded to whole numbers, halves away from zero, and clamped to [lo, hi], whole numbers themselves."""

    def codegen(context, builder, signature, args):
        v, lo, hi = args
        bits = llvm("i32", L)
        sign = builder.and_(builder.bitcast(v, bits), _const("i32", L, 0x80000000))
        half = builder.bitcast(builder.or_(sign, _const("i32", L, 0x3F000000)), v.type)
        w = builder.fadd(v, half)
        w = builder.select(builder.fcmp_ordered(">", w, lo), w, lo)
        w = builder.select(builder.fcmp_ordered("<", w, hi), w, hi)
        return builder.fptosi(w, bits)

    return VI32(v, lo, hi), codegen


@intrinsic
def prelu_f32(typingctx, v, slope):
    """v where it is not negative, else v·slope."""

    def codegen(context, builder, signature, args):
        v, slope = args
        return builder.select(builder.fcmp_ordered(">=", v, _const("f32", L, 0.0)), v, builder.fmul(v, slope))

    return VF32(v, slope), codegen


@intrinsic
def ones_quad(typingctx):
    """A quad of ones: dot_u8s8 with it adds bytes up."""
    return VQUAD(), lambda context, builder, signature, args: _const("i8", 4 * L, 1)


@intrinsic
def sub_i32(typingctx, a, b):
    """Lane-wise difference, modulo 2^32."""
    return VI32(a, b), lambda context, builder, signature, args: builder.sub(*args)


@intrinsic
def to_f32(typingctx, v):
    """int32 lanes as float32, to nearest."""
    return VF32(v), lambda context, builder, signature, args: builder.sitofp(args[0], llvm("f32", L))


def _unpack(size: int, high: bool) -> Any:
    """vpunpck: in each 16-byte part, the low or high half of two vectors, elements of `size` bytes alternating."""
    count = 16 // size
    pattern = [
        part * count + count // 2 * high + i // 2 + (i % 2) * (4 * L // size)
        for part in range(L // 4)
        for i in range(count)
    ]
    element = {1: "i8", 2: "i16"}[size]

    @intrinsic
    def unpack(typingctx, a, b):
        def codegen(context, builder, signature, args):
            lanes = 4 * L // size
            a, b = (builder.bitcast(v, llvm(element, lanes)) for v in args)
            mixed = builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(I32, lanes), pattern))
            return builder.bitcast(mixed, llvm("i8", 4 * L))

        return VQUAD(a, b), codegen

    return unpack


unpack8_low, unpack8_high = _unpack(1, False), _unpack(1, True)
unpack16_low, unpack16_high = _unpack(2, False), _unpack(2, True)

_PACK_S16 = {4: "llvm.x86.sse2.packssdw.128", 8: "llvm.x86.avx2.packssdw", 16: "llvm.x86.avx512.packssdw.512"}
_PACK_U8 = {4: "llvm.x86.sse2.packuswb.128", 8: "llvm.x86.avx2.packuswb", 16: "llvm.x86.avx512.packuswb.512"}


@intrinsic
def pack_u8(typingctx, a, b, c, d):
    """Four vectors of numbers in [0, 255] to bytes: part p of the result holds lanes 4p … 4p + 3 of a, b, c, d in turn.

    Lane 4p + e of vector j thus is byte 16p + 4j + e: the inverse of what the unpacks do to four rows of bytes.
    """

    def codegen(context, builder, signature, args):
        if ISA in X86:
            half = llvm("i16", 2 * L)
            low = _call(builder, _PACK_S16[L], half, args[0], args[1])
            high = _call(builder, _PACK_S16[L], half, args[2], args[3])
            return _call(builder, _PACK_U8[L], llvm("i8", 4 * L), low, high)
        if ISA in ARM64:
            return neon.packed(builder, list(args), None)
        narrow = [builder.trunc(v, llvm("i8", L)) for v in args]
        both = ir.Constant(ir.VectorType(I32, 2 * L), list(range(2 * L)))
        ab, cd = (builder.shuffle_vector(x, y, both) for x, y in (narrow[:2], narrow[2:]))
        order = [j * L + 4 * p + e for p in range(L // 4) for j in range(4) for e in range(4)]
        return builder.shuffle_vector(ab, cd, ir.Constant(ir.VectorType(I32, 4 * L), order))

    return VQUAD(a, b, c, d), codegen


def _store_bytes_some(builder: Any, address: Any, vector: Any, count: Any) -> None:
    """The first `count` bytes of a byte vector; masked where that is an instruction, else through the stack."""
    kind, lanes = vector.type, vector.type.count
    if L == 16:
        n = builder.trunc(count, ir.IntType(8))
        mask = builder.icmp_unsigned("<", ir.Constant(kind, list(range(lanes))), _splat(builder, n, lanes))
        _masked(builder, f"llvm.masked.store.v{lanes}i8.p0", vector, builder.inttoptr(address, kind.as_pointer()), mask)
        return
    place = cgutils.alloca_once(builder, kind)
    builder.store(vector, place)
    p8 = ir.IntType(8).as_pointer()
    signature = ir.FunctionType(ir.VoidType(), [p8, p8, ir.IntType(64), ir.IntType(1)])
    copy = cgutils.get_or_insert_function(builder.module, signature, "llvm.memcpy.p0.p0.i64")
    never = ir.Constant(ir.IntType(1), 0)
    builder.call(copy, [builder.inttoptr(address, p8), builder.bitcast(place, p8), count, never])


@intrinsic
def store_quad_some(typingctx, address, vector, count):
    """The first `count` bytes of a quad to `address`; nothing behind them is touched."""

    def codegen(context, builder, signature, args):
        _store_bytes_some(builder, args[0], args[1], args[2])
        return context.get_dummy_value()

    return types.void(types.int64, vector, types.int64), codegen


@intrinsic
def shift_right_i32(typingctx, v, by):
    """Lane-wise arithmetic shift right by one scalar."""

    def codegen(context, builder, signature, args):
        return builder.ashr(args[0], _splat(builder, args[1], L))

    return VI32(v, types.int32), codegen


@intrinsic
def shift_each_i32(typingctx, v, by):
    """Lane-wise arithmetic shift right, each by its own number."""
    return VI32(v, by), lambda context, builder, signature, args: builder.ashr(*args)


_CVT = {4: "llvm.x86.sse2.cvtps2dq", 8: "llvm.x86.avx.cvt.ps2dq.256"}


@intrinsic
def scaled_codes(typingctx, acc, scale, hi):
    """rint(min(float32(acc)·scale, hi)), ties to even; far below the range it may be any number below −2^16.

    hi is at most 255. What comes out goes into `pack_codes`, which saturates.
    """

    def codegen(context, builder, signature, args):
        acc, scale, hi = args
        f = builder.fmul(builder.sitofp(acc, scale.type), scale)
        if ISA in ARM64:
            return neon.to_nearest(builder, _call(builder, "llvm.minnum.v4f32", f.type, f, hi))
        f = builder.select(builder.fcmp_ordered("<", f, hi), f, hi)
        if ISA not in X86:
            low = _const("f32", L, -65536.0)
            f = builder.select(builder.fcmp_ordered(">", f, low), f, low)
            f = builder.fadd(f, _const("f32", L, 12582912.0))  # as in scale_to_i32
            return builder.sub(builder.bitcast(f, acc.type), _const("i32", L, 0x4B400000))
        if L == 16:
            keep, all_lanes = ir.Constant(acc.type, ir.Undefined), ir.Constant(ir.IntType(16), -1)
            current = ir.Constant(I32, 4)
            return _call(builder, "llvm.x86.avx512.mask.cvtps2dq.512", acc.type, f, keep, all_lanes, current)
        return _call(builder, _CVT[L], acc.type, f)

    return VI32(acc, scale, hi), codegen


@intrinsic
def pack_codes(typingctx, a, b, c, d, zero, lo):
    """max(saturate(v + zero), lo) of four vectors as bytes, in the order of `pack_u8`; zero and lo are scalars in [0, 255]."""

    def codegen(context, builder, signature, args):
        a, b, c, d, zero, lo = args
        quad = llvm("i8", 4 * L)
        if ISA in X86:
            half = llvm("i16", 2 * L)
            offset = _splat(builder, builder.trunc(zero, ir.IntType(16)), 2 * L)
            add = f"llvm.sadd.sat.v{2 * L}i16"
            low = _call(builder, add, half, _call(builder, _PACK_S16[L], half, a, b), offset)
            high = _call(builder, add, half, _call(builder, _PACK_S16[L], half, c, d), offset)
            q = _call(builder, _PACK_U8[L], quad, low, high)
            return _call(
                builder, f"llvm.umax.v{4 * L}i8", quad, q, _splat(builder, builder.trunc(lo, ir.IntType(8)), 4 * L)
            )
        if ISA in ARM64:
            wide = _splat(builder, builder.trunc(zero, ir.IntType(16)), 8)
            q, low = neon.packed(builder, [a, b, c, d], wide), _splat(builder, builder.trunc(lo, ir.IntType(8)), 16)
            return _call(builder, "llvm.umax.v16i8", quad, q, low)
        offset, floor, top = _splat(builder, zero, L), _splat(builder, lo, L), _const("i32", L, 255)
        narrow = []
        for v in (a, b, c, d):
            v = _call(builder, f"llvm.smax.v{L}i32", v.type, builder.add(v, offset), floor)
            narrow.append(builder.trunc(_call(builder, f"llvm.smin.v{L}i32", v.type, v, top), llvm("i8", L)))
        both = ir.Constant(ir.VectorType(I32, 2 * L), list(range(2 * L)))
        ab, cd = (builder.shuffle_vector(x, y, both) for x, y in (narrow[:2], narrow[2:]))
        order = [j * L + 4 * p + e for p in range(L // 4) for j in range(4) for e in range(4)]
        return builder.shuffle_vector(ab, cd, ir.Constant(ir.VectorType(I32, 4 * L), order))

    return VQUAD(a, b, c, d, types.int32, types.int32), codegen


@intrinsic
def codes(typingctx, acc, scale):
    """rint(float32(acc)·scale), ties to even; it must fit an int32. What is beyond ±2^16 may come out nearer to that."""

    def codegen(context, builder, signature, args):
        acc, scale = args
        f = builder.fmul(builder.sitofp(acc, scale.type), scale)
        if ISA not in X86:
            for bound, far in ((-65536.0, ">"), (65536.0, "<")):
                limit = _const("f32", L, bound)
                f = builder.select(builder.fcmp_ordered(far, f, limit), f, limit)
            return builder.fptosi(_call(builder, f"llvm.rint.v{L}f32", f.type, f), acc.type)
        if L == 16:
            keep, all_lanes = ir.Constant(acc.type, ir.Undefined), ir.Constant(ir.IntType(16), -1)
            current = ir.Constant(I32, 4)
            return _call(builder, "llvm.x86.avx512.mask.cvtps2dq.512", acc.type, f, keep, all_lanes, current)
        return _call(builder, _CVT[L], acc.type, f)

    return VI32(acc, scale), codegen


@intrinsic
def pack_plain(typingctx, a, b, c, d):
    """saturate(v) of four vectors as bytes, in the order of `pack_u8`: `pack_capped` where it adds and clamps nothing."""

    def codegen(context, builder, signature, args):
        if ISA in X86:
            half = llvm("i16", 2 * L)
            low = _call(builder, _PACK_S16[L], half, args[0], args[1])
            high = _call(builder, _PACK_S16[L], half, args[2], args[3])
            return _call(builder, _PACK_U8[L], llvm("i8", 4 * L), low, high)
        nothing, top = _const("i32", L, 0), _const("i32", L, 255)
        narrow = []
        for v in args:
            v = _call(builder, f"llvm.smax.v{L}i32", v.type, v, nothing)
            narrow.append(builder.trunc(_call(builder, f"llvm.smin.v{L}i32", v.type, v, top), llvm("i8", L)))
        both = ir.Constant(ir.VectorType(I32, 2 * L), list(range(2 * L)))
        ab, cd = (builder.shuffle_vector(x, y, both) for x, y in (narrow[:2], narrow[2:]))
        order = [j * L + 4 * p + e for p in range(L // 4) for j in range(4) for e in range(4)]
        return builder.shuffle_vector(ab, cd, ir.Constant(ir.VectorType(I32, 4 * L), order))

    return VQUAD(a, b, c, d), codegen


@intrinsic
def max_quad(typingctx, a, b):
    """The greater of each two unsigned bytes."""
    return VQUAD(a, b), lambda context, builder, signature, args: _call(
        builder, f"llvm.umax.v{4 * L}i8", args[0].type, *args
    )


@intrinsic
def cap(typingctx, quad, hi):
    """Bytes no greater than the scalar hi."""

    def codegen(context, builder, signature, args):
        top = _splat(builder, builder.trunc(args[1], ir.IntType(8)), 4 * L)
        return _call(builder, f"llvm.umin.v{4 * L}i8", args[0].type, args[0], top)

    return VQUAD(quad, types.int32), codegen


def _half(builder: Any, quad: Any, k: int) -> Any:
    """The k-th 8 bytes of every 16: one of two rows that `pack_codes` has put side by side."""
    words = builder.bitcast(quad, llvm("i64", L // 2))
    chosen = ir.Constant(ir.VectorType(I32, L // 4), [2 * p + k for p in range(L // 4)])
    return builder.bitcast(builder.shuffle_vector(words, words, chosen), llvm("i8", 2 * L))


def _store_half(k: int) -> Any:
    @intrinsic
    def store_half(typingctx, address, vector, count):
        """Row k of two packed side by side, `count` bytes of it (2·L or more: all)."""

        def codegen(context, builder, signature, args):
            half = llvm("i8", 2 * L)
            row = _half(builder, args[1], k)
            pointer = builder.inttoptr(args[0], half.as_pointer())
            whole = builder.icmp_signed(">=", args[2], ir.Constant(ir.IntType(64), 2 * L))
            with builder.if_else(whole) as (then, otherwise):
                with then:
                    st = builder.store(row, pointer)
                    st.align = 1
                with otherwise:
                    _store_bytes_some(builder, args[0], row, args[2])
            return context.get_dummy_value()

        return types.void(types.int64, vector, types.int64), codegen

    return store_half


store_first_half, store_second_half = _store_half(0), _store_half(1)


@intrinsic
def broadcast_two(typingctx, first, second):
    """The 32 bits at address `first` in the lower half of the lanes, those at `second` in the upper half."""

    def codegen(context, builder, signature, args):
        halves = []
        for address in args:
            word = builder.load(builder.inttoptr(address, I32.as_pointer()))
            word.align = 1
            halves.append(_splat(builder, word, L))
        upper = ir.Constant(ir.VectorType(ir.IntType(1), L), [i >= L // 2 for i in range(L)])
        return builder.bitcast(builder.select(upper, halves[1], halves[0]), llvm("i8", 4 * L))

    return VQUAD(types.int64, types.int64), codegen


@intrinsic
def in_rows(typingctx, quad):
    """What `pack_codes` made of four vectors, in their order: the L bytes of the first, then those of the second, …"""

    def codegen(context, builder, signature, args):
        words = builder.bitcast(args[0], llvm("i32", L))
        order = [4 * p + i for i in range(4) for p in range(L // 4)]
        moved = builder.shuffle_vector(words, words, ir.Constant(ir.VectorType(I32, L), order))
        return builder.bitcast(moved, llvm("i8", 4 * L))

    return VQUAD(quad), codegen


def _store_row(k: int) -> Any:
    @intrinsic
    def store_row(typingctx, address, vector, count):
        """Bytes k·L … k·L + L − 1 of a quad, `count` of them (L or more: all)."""

        def codegen(context, builder, signature, args):
            part = ir.Constant(ir.VectorType(I32, L), list(range(k * L, k * L + L)))
            row = builder.shuffle_vector(args[1], args[1], part)
            whole = builder.icmp_signed(">=", args[2], ir.Constant(ir.IntType(64), L))
            with builder.if_else(whole) as (then, otherwise):
                with then:
                    st = builder.store(row, builder.inttoptr(args[0], row.type.as_pointer()))
                    st.align = 1
                with otherwise:
                    _store_bytes_some(builder, args[0], row, args[2])
            return context.get_dummy_value()

        return types.void(types.int64, vector, types.int64), codegen

    return store_row


store_row_0, store_row_1, store_row_2, store_row_3 = (_store_row(k) for k in range(4))


@intrinsic
def opaque(typingctx, address):
    """The same number, of which the compiler knows nothing: it cannot replace steps between addresses by a register each."""

    def codegen(context, builder, signature, args):
        if ISA not in (*X86, *ARM64):
            return args[0]
        kind = ir.FunctionType(ir.IntType(64), [ir.IntType(64)])
        return builder.asm(kind, "", "=r,0", [args[0]], side_effect=False)

    return types.int64(types.int64), codegen
