"""Arithmetic lane by lane: int32 and float32, and sums requantized to integers."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from . import neon
from .isa import ARM64
from .vec import I32, ISA, VF32, VI32, L, call, const, llvm, splat


@intrinsic
def zero_i32(typingctx):
    """A vector of int32 zeros."""
    return VI32(), lambda context, builder, signature, args: const("i32", L, 0)


@intrinsic
def zero_f32(typingctx):
    """A vector of float32 zeros."""
    return VF32(), lambda context, builder, signature, args: const("f32", L, 0.0)


@intrinsic
def splat_i32(typingctx, value):
    """All lanes the same int32."""
    return VI32(types.int32), lambda context, builder, signature, args: splat(builder, args[0], L)


@intrinsic
def splat_f32(typingctx, value):
    """All lanes the same float32."""
    return VF32(types.float32), lambda context, builder, signature, args: splat(builder, args[0], L)


@intrinsic
def fma(typingctx, acc, x, w):
    """acc + x·w per lane, fused where the processor has it."""

    def codegen(context, builder, signature, args):
        return call(builder, f"llvm.fmuladd.v{L}f32", args[0].type, args[1], args[2], args[0])

    return VF32(acc, x, w), codegen


@intrinsic
def fused(typingctx, x, w, y):
    """x·w + y per lane, rounded once."""

    def codegen(context, builder, signature, args):
        return call(builder, f"llvm.fma.v{L}f32", args[0].type, *args)

    return VF32(x, w, y), codegen


@intrinsic
def as_f32(typingctx, v):
    """The same bits as float32."""
    return VF32(v), lambda context, builder, signature, args: builder.bitcast(args[0], llvm("f32", L))


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
        v = call(builder, f"llvm.smax.v{L}i32", v.type, v, lo)
        return call(builder, f"llvm.smin.v{L}i32", v.type, v, hi)

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
            f = call(builder, "llvm.maxnum.v4f32", f.type, f, lo)
            return neon.to_nearest(builder, call(builder, "llvm.minnum.v4f32", f.type, f, hi))
        f = builder.select(builder.fcmp_ordered(">", f, lo), f, lo)
        f = builder.select(builder.fcmp_ordered("<", f, hi), f, hi)
        f = builder.fadd(f, const("f32", L, 12582912.0))
        return builder.sub(builder.bitcast(f, acc.type), const("i32", L, 0x4B400000))

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
        ab = builder.ashr(builder.add(ab, const("i64", L, 1 << 30)), const("i64", L, 31))
        x = builder.trunc(ab, acc.type)
        mask = builder.sub(builder.shl(const("i32", L, 1), right), const("i32", L, 1))
        negative = builder.lshr(x, const("i32", L, 31))
        threshold = builder.add(builder.lshr(mask, const("i32", L, 1)), negative)
        up = builder.zext(builder.icmp_signed(">", builder.and_(x, mask), threshold), acc.type)
        return builder.add(builder.ashr(x, right), up)

    return VI32(acc, multiplier, left, right), codegen


@intrinsic
def multiply_single(typingctx, x, multiplier, right):
    """x · multiplier / 2^right per lane, rounded once, half up; right is a scalar of at least 1. What comes out must fit."""

    def codegen(context, builder, signature, args):
        x, q, right = args
        wide = llvm("i64", L)
        right = builder.zext(right, ir.IntType(64))
        half = builder.shl(ir.Constant(right.type, 1), builder.sub(right, ir.Constant(right.type, 1)))
        product = builder.add(builder.mul(builder.sext(x, wide), builder.sext(q, wide)), splat(builder, half, L))
        return builder.trunc(builder.ashr(product, splat(builder, right, L)), x.type)

    return VI32(x, multiplier, types.int32), codegen


@intrinsic
def mul_i32(typingctx, a, b):
    """Lane-wise product, modulo 2^32."""
    return VI32(a, b), lambda context, builder, signature, args: builder.mul(*args)


@intrinsic
def mul_f32(typingctx, a, b):
    """Lane-wise float32 product."""
    return VF32(a, b), lambda context, builder, signature, args: builder.fmul(*args)


@intrinsic
def div_f32(typingctx, a, b):
    """Lane-wise float32 quotient."""
    return VF32(a, b), lambda context, builder, signature, args: builder.fdiv(*args)


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
        sign = builder.and_(builder.bitcast(v, bits), const("i32", L, 0x80000000))
        half = builder.bitcast(builder.or_(sign, const("i32", L, 0x3F000000)), v.type)
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
        return builder.select(builder.fcmp_ordered(">=", v, const("f32", L, 0.0)), v, builder.fmul(v, slope))

    return VF32(v, slope), codegen


@intrinsic
def sub_i32(typingctx, a, b):
    """Lane-wise difference, modulo 2^32."""
    return VI32(a, b), lambda context, builder, signature, args: builder.sub(*args)


@intrinsic
def to_f32(typingctx, v):
    """int32 lanes as float32, to nearest."""
    return VF32(v), lambda context, builder, signature, args: builder.sitofp(args[0], llvm("f32", L))


@intrinsic
def lanes(typingctx):
    """0, 1, 2, … as int32."""
    return VI32(), lambda context, builder, signature, args: ir.Constant(llvm("i32", L), list(range(L)))


@intrinsic
def lane_0(typingctx, v):
    """The first of int32 lanes."""
    return types.int32(v), lambda context, builder, signature, args: builder.extract_element(
        args[0], ir.Constant(I32, 0)
    )


def _down(by: int) -> Any:
    @intrinsic
    def down(typingctx, v):
        """Each of L lanes becomes the one so many behind it; the first come last."""
        order = ir.Constant(ir.VectorType(I32, L), [(i + by) % L for i in range(L)])
        return v(v), lambda context, builder, signature, args: builder.shuffle_vector(args[0], args[0], order)

    return down


down1, down2, down4, down8 = (_down(by) for by in (1, 2, 4, 8))


def _where(order: str) -> Any:
    @intrinsic
    def where(typingctx, a, b, x, y):
        """Lanes of x where those of a are greater than (less than, equal) those of b, which NaN never is, else lanes of y."""

        def codegen(context, builder, signature, args):
            a, b, x, y = args
            real = isinstance(a.type.element, ir.FloatType)
            return builder.select((builder.fcmp_ordered if real else builder.icmp_signed)(order, a, b), x, y)

        return x(a, b, x, y), codegen

    return where


where_greater, where_less, where_equal = _where(">"), _where("<"), _where("==")


@intrinsic
def turned(typingctx, v, mask):
    """int32 or float32 lanes with those bits changed that an int32 has set."""

    def codegen(context, builder, signature, args):
        bits = builder.bitcast(args[0], llvm("i32", L))
        return builder.bitcast(builder.xor(bits, splat(builder, args[1], L)), args[0].type)

    return v(v, types.int32), codegen


@intrinsic
def first_lanes(typingctx, v, count, w):
    """The first `count` lanes of v, of any kind, and those of w behind them."""

    def codegen(context, builder, signature, args):
        v, n, w = args
        lanes = v.type.count
        size = ir.IntType(8 if lanes == 4 * L else 32)
        ids = ir.Constant(ir.VectorType(size, lanes), list(range(lanes)))
        few = builder.icmp_signed("<", n, ir.Constant(n.type, lanes))
        n = builder.trunc(builder.select(few, n, ir.Constant(n.type, lanes)), size)
        return builder.select(builder.icmp_unsigned("<", ids, splat(builder, n, lanes)), v, w)

    return v(v, types.int64, w), codegen


@intrinsic
def truncated(typingctx, v):
    """float32 lanes as int32, towards zero; they must fit."""
    return VI32(v), lambda context, builder, signature, args: builder.fptosi(args[0], llvm("i32", L))


@intrinsic
def shift_right_i32(typingctx, v, by):
    """Lane-wise arithmetic shift right by one scalar."""

    def codegen(context, builder, signature, args):
        return builder.ashr(args[0], splat(builder, args[1], L))

    return VI32(v, types.int32), codegen


@intrinsic
def shift_each_i32(typingctx, v, by):
    """Lane-wise arithmetic shift right, each by its own number."""
    return VI32(v, by), lambda context, builder, signature, args: builder.ashr(*args)


def _fold(width: int) -> Any:
    if width == 4:  # whole 16 bytes: the even ones of a, then those of b
        first = [side + i for side in (0, L) for i in range(L) if i // 4 % 2 == 0]
    else:
        first = [side + 4 * p + k + i for p in range(L // 4) for k in range(0, 2, width) for side in (0, L)
                 for i in range(width)]  # fmt: skip
    apart = max(width, 2)

    @intrinsic
    def fold(typingctx, a, b):
        """Each `width` lanes of a and of b added to those 2 behind them (4: to the next 16 bytes); in turn, or a's first."""

        def codegen(context, builder, signature, args):
            orders = [ir.Constant(ir.VectorType(I32, L), [i + by for i in first]) for by in (0, apart)]
            return builder.add(*(builder.shuffle_vector(*args, order) for order in orders))

        return VI32(a, b), codegen

    return fold


fold_lanes, fold_pairs = _fold(1), _fold(2)
fold_parts = _fold(4) if L > 4 else fold_pairs
