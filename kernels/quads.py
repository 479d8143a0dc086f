"""Vectors of bytes: dot products, and int32 lanes packed to bytes.

dot_u8s8(acc, x, w): acc[l] + Σ_{j<4} (x[l][j] − ISA.offset)·w[l][j], x unsigned bytes, w signed bytes of at least
ISA.least_weight, exact in int32 on every instruction set. dot_any allows −128 everywhere.
dot_s16(acc, x, w): acc[l] + Σ_{j<2} x[l][j]·w[l][j] of int16 pairs.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from . import neon, plain, x86
from .isa import ARM32, ARM64, X86
from .vec import I32, ISA, VI32, VPAIR, VQUAD, L, Vec, call, const, llvm, splat


def _byte_splatter(vec: Vec) -> Any:
    @intrinsic
    def splat_bytes(typingctx, value):
        """All bytes the low byte of `value`."""

        def codegen(context, builder, signature, args):
            return splat(builder, builder.trunc(args[0], ir.IntType(8)), vec.lanes)

        return vec(types.int64), codegen

    return splat_bytes


splat_quad, splat_16 = _byte_splatter(VQUAD), _byte_splatter(Vec("i8", 16))


@intrinsic
def ones_quad(typingctx):
    """A quad of ones: dot_u8s8 with it adds bytes up."""
    return VQUAD(), lambda context, builder, signature, args: const("i8", 4 * L, 1)


def _dot_u8s8(builder: Any, acc: Any, x: Any, w: Any) -> Any:
    if ISA in (*ARM64, *ARM32):
        return neon.dot_signed(builder, ISA.dot, acc, neon.flip(builder, x) if ISA.offset else x, w)
    return (x86 if ISA in X86 else plain).dot_u8s8(builder, acc, x, w)


def _dot_any(builder: Any, acc: Any, x: Any, w: Any) -> Any:
    if ISA in (*ARM64, *ARM32):
        return neon.dot_any(builder, ISA.dot, acc, neon.flip(builder, x) if ISA.offset else x, w)
    return _dot_u8s8(builder, acc, x, w)


def _dot_s16(builder: Any, acc: Any, x: Any, w: Any) -> Any:
    if ISA in (*ARM64, *ARM32):
        return neon.dot_s16(builder, ISA.dot, acc, x, w)
    return (x86 if ISA in X86 else plain).dot_s16(builder, acc, x, w)


@intrinsic
def dot_u8s8(typingctx, acc, x, w):
    """acc + four byte products per lane, x unsigned, w signed."""
    return VI32(acc, x, w), lambda context, builder, signature, args: _dot_u8s8(builder, *args)


@intrinsic
def dot_any(typingctx, acc, x, w):
    """As dot_u8s8, for weights of −128 too."""
    return VI32(acc, x, w), lambda context, builder, signature, args: _dot_any(builder, *args)


@intrinsic
def dot_ready(typingctx, acc, x, w):
    """As dot_u8s8, of what load_ready has loaded: ARM alone."""
    return VI32(acc, x, w), lambda context, builder, signature, args: neon.dot_signed(builder, ISA.dot, *args)


def _dot_step(k: int) -> Any:
    @intrinsic
    def dot_step(typingctx, acc, x, w):
        """dot_u8s8 with the k-th 32 bits of what load_ready has loaded in every lane."""

        def codegen(context, builder, signature, args):
            return neon.dot_lane(builder, ISA.dot, args[0], args[1], k, args[2])

        return VI32(acc, x, w), codegen

    return dot_step


dot_step0, dot_step1, dot_step2, dot_step3 = (_dot_step(k) for k in range(4))


@intrinsic
def dot_s16(typingctx, acc, x, w):
    """acc + two int16 products per lane."""
    return VI32(acc, x, w), lambda context, builder, signature, args: _dot_s16(builder, *args)


def _step(k: int) -> Any:
    @intrinsic
    def step(typingctx, x):
        """The k-th 32 bits of what load_ready has loaded, in every lane."""
        return VQUAD(x), lambda context, builder, signature, args: neon.apart(builder, neon.lane(builder, args[0], k))

    return step


step0, step1, step2, step3 = (_step(k) for k in range(4))


def _widened(k: int) -> Any:
    @intrinsic
    def widened(typingctx, x):
        """Bytes 4k … 4k + 3 of 16 as int32: ARM alone."""
        return VI32(x), lambda context, builder, signature, args: neon.widened(builder, args[0], k)

    return widened


widened0, widened1, widened2, widened3 = (_widened(k) for k in range(4))


def _halves(high: bool) -> Any:
    @intrinsic
    def mull(typingctx, a, b):
        """int16 products of signed bytes, 8 of 16."""
        return VPAIR(a, b), lambda context, builder, signature, args: neon.half_product(builder, *args, high)

    @intrinsic
    def mlal(typingctx, acc, a, b):
        """acc + int16 products of signed bytes, 8 of 16."""

        def codegen(context, builder, signature, args):
            return builder.add(args[0], neon.half_product(builder, args[1], args[2], high))

        return VPAIR(acc, a, b), codegen

    @intrinsic
    def spread(typingctx, v):
        """Two of four int32, each with a zero behind it: two sums of a channel that begin from one number."""
        return VI32(v), lambda context, builder, signature, args: neon.spread(builder, args[0], high)

    @intrinsic
    def wide(typingctx, acc, v):
        """acc + four of eight int16."""
        return VI32(acc, v), lambda context, builder, signature, args: neon.added_wide(builder, *args, high)

    return mull, mlal, spread, wide


mull_low, mlal_low, spread_low, wide_low = _halves(False)
mull_high, mlal_high, spread_high, wide_high = _halves(True)


@intrinsic
def add_long(typingctx, acc, v):
    """acc + sums of neighbouring int16: ARM alone."""
    return VI32(acc, v), lambda context, builder, signature, args: neon.added_long(builder, ISA.dot, *args)


@intrinsic
def join_pairs(typingctx, a, b):
    """Sums of neighbouring int32, those of a before those of b: ARM alone."""
    return VI32(a, b), lambda context, builder, signature, args: neon.added_pairs(builder, ISA.dot, *args)


def _joined(vec: Vec, high: bool) -> Any:
    @intrinsic
    def joined(typingctx, a, b):
        """The lower or upper 8 bytes of a, then those of b: ARM alone."""
        half = range(high * vec.lanes // 2, (high + 1) * vec.lanes // 2)
        picked = [k + side for side in (0, vec.lanes) for k in half]
        return vec(a, b), lambda context, builder, signature, args: neon.shuffle(builder, *args, picked)

    return joined


join_low, join_high = (_joined(VI32, high) for high in (False, True))
pair_low, pair_high = (_joined(VQUAD, high) for high in (False, True))


@intrinsic
def matrix(typingctx, acc, x, w):
    """acc + products of two rows of 8 bytes, unsigned, by two of signed ones: rows of two sums; i8mm alone."""

    def codegen(context, builder, signature, args):
        return call(builder, "llvm.aarch64.neon.usmmla.v4i32.v16i8", args[0].type, *args)

    return VI32(acc, x, w), codegen


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


@intrinsic
def as_pairs(typingctx, v):
    """The same bits as pairs of int16."""
    return VPAIR(v), lambda context, builder, signature, args: builder.bitcast(args[0], llvm("i16", 2 * L))


@intrinsic
def as_i32(typingctx, v):
    """The same bits as int32."""
    return VI32(v), lambda context, builder, signature, args: builder.bitcast(args[0], llvm("i32", L))


@intrinsic
def add_short(typingctx, a, b):
    """Sums of the 16 bits of two quads, modulo 2^16."""

    def codegen(context, builder, signature, args):
        pairs = [builder.bitcast(v, llvm("i16", 2 * L)) for v in args]
        return builder.bitcast(builder.add(*pairs), args[0].type)

    return VQUAD(a, b), codegen


@intrinsic
def shift_left_pairs(typingctx, v, by):
    """Each int16 times 2^by; what leaves it is lost."""

    def codegen(context, builder, signature, args):
        return builder.shl(args[0], splat(builder, builder.trunc(args[1], ir.IntType(16)), 2 * L))

    return VPAIR(v, types.int64), codegen


@intrinsic
def pack_u8(typingctx, a, b, c, d):
    """Four vectors of numbers in [0, 255] to bytes: part p of the result holds lanes 4p … 4p + 3 of a, b, c, d in turn.

    Lane 4p + e of vector j thus is byte 16p + 4j + e: the inverse of what the unpacks do to four rows of bytes.
    """

    def codegen(context, builder, signature, args):
        if ISA in X86:
            return x86.packed(builder, list(args), None)
        if ISA in ARM64:
            return neon.packed(builder, list(args), None)
        return plain.packed(builder, list(args))

    return VQUAD(a, b, c, d), codegen


@intrinsic
def scaled_codes(typingctx, acc, scale, hi):
    """rint(min(float32(acc)·scale, hi)), ties to even; far below the range it may be any number below −2^16.

    hi is at most 255. What comes out goes into `pack_codes`, which saturates.
    """

    def codegen(context, builder, signature, args):
        acc, scale, hi = args
        f = builder.fmul(builder.sitofp(acc, scale.type), scale)
        if ISA in ARM64:
            return neon.to_nearest(builder, call(builder, "llvm.minnum.v4f32", f.type, f, hi))
        f = builder.select(builder.fcmp_ordered("<", f, hi), f, hi)
        if ISA not in X86:
            low = const("f32", L, -65536.0)
            f = builder.select(builder.fcmp_ordered(">", f, low), f, low)
            f = builder.fadd(f, const("f32", L, 12582912.0))  # as in scale_to_i32
            return builder.sub(builder.bitcast(f, acc.type), const("i32", L, 0x4B400000))
        return x86.to_nearest(builder, f)

    return VI32(acc, scale, hi), codegen


@intrinsic
def pack_codes(typingctx, a, b, c, d, zero, lo):
    """max(saturate(v + zero), lo) of four vectors as bytes, in the order of `pack_u8`; zero and lo are scalars in [0, 255]."""

    def codegen(context, builder, signature, args):
        a, b, c, d, zero, lo = args
        quad = llvm("i8", 4 * L)
        if ISA in X86:
            q, low = x86.packed(builder, [a, b, c, d], zero), splat(builder, builder.trunc(lo, ir.IntType(8)), 4 * L)
            return call(builder, f"llvm.umax.v{4 * L}i8", quad, q, low)
        if ISA in ARM64:
            wide = splat(builder, builder.trunc(zero, ir.IntType(16)), 8)
            q, low = neon.packed(builder, [a, b, c, d], wide), splat(builder, builder.trunc(lo, ir.IntType(8)), 16)
            return call(builder, "llvm.umax.v16i8", quad, q, low)
        offset = splat(builder, zero, L)
        return plain.saturated(builder, [builder.add(v, offset) for v in (a, b, c, d)], splat(builder, lo, L))

    return VQUAD(a, b, c, d, types.int32, types.int32), codegen


@intrinsic
def codes(typingctx, acc, scale):
    """rint(float32(acc)·scale), ties to even; it must fit an int32. What is beyond ±2^16 may come out nearer to that."""

    def codegen(context, builder, signature, args):
        acc, scale = args
        f = builder.fmul(builder.sitofp(acc, scale.type), scale)
        if ISA in ARM64:
            return neon.to_nearest(builder, f)
        if ISA not in X86:
            for bound, far in ((-65536.0, ">"), (65536.0, "<")):
                limit = const("f32", L, bound)
                f = builder.select(builder.fcmp_ordered(far, f, limit), f, limit)
            return builder.fptosi(call(builder, f"llvm.rint.v{L}f32", f.type, f), acc.type)
        return x86.to_nearest(builder, f)

    return VI32(acc, scale), codegen


@intrinsic
def rounded(typingctx, f):
    """float32 to int32, ties to even; what does not fit becomes the least int32. x86 alone."""
    return VI32(f), lambda context, builder, signature, args: x86.to_nearest(builder, args[0])


@intrinsic
def pack_plain(typingctx, a, b, c, d):
    """saturate(v) of four vectors as bytes, in the order of `pack_u8`: `pack_codes` where it adds and clamps nothing."""

    def codegen(context, builder, signature, args):
        if ISA in X86:
            return x86.packed(builder, list(args), None)
        if ISA in ARM64:
            return neon.packed(builder, list(args), None)
        return plain.saturated(builder, list(args), const("i32", L, 0))

    return VQUAD(a, b, c, d), codegen


@intrinsic
def pack_short(typingctx, a, b, c, d):
    """As pack_plain, for numbers that fit an int16: ARM alone."""
    return VQUAD(a, b, c, d), lambda context, builder, signature, args: neon.packed_short(builder, list(args), None)


@intrinsic
def pack_moved(typingctx, a, b, c, d, zero):
    """saturate(v + zero) of four vectors as bytes, for sums that fit an int16: ARM alone."""

    def codegen(context, builder, signature, args):
        wide = splat(builder, builder.trunc(args[4], ir.IntType(16)), 8)
        return neon.packed_short(builder, list(args[:4]), wide)

    return VQUAD(a, b, c, d, types.int32), codegen


@intrinsic
def pack_high(typingctx, a, b, c, d, by):
    """saturate(v >> by) of four vectors as bytes, by from 16 to 31: upper halves alone are shifted. ARM alone."""

    def codegen(context, builder, signature, args):
        wide = splat(builder, builder.trunc(builder.sub(args[4], ir.Constant(I32, 16)), ir.IntType(16)), 8)
        return neon.packed_high(builder, list(args[:4]), wide)

    return VQUAD(a, b, c, d, types.int32), codegen


LOOKS_UP = ISA in X86 or ISA in ARM64
"""Whether `looked_up` is there: bytes of a register picked by those of another."""

_PSHUFB = {4: "llvm.x86.ssse3.pshuf.b.128", 8: "llvm.x86.avx2.pshuf.b", 16: "llvm.x86.avx512.pshuf.b.512"}


@intrinsic
def load_table(typingctx, address):
    """256 bytes as `looked_up` takes them: 16 vectors, 16 bytes in each part.

    On x86 not bytes of the table, but what is to be added (xor) to those that come from the vectors before.
    """

    def codegen(context, builder, signature, args):
        parts, quad = [], llvm("i8", 4 * L)
        for k in range(16):
            at = builder.add(args[0], ir.Constant(ir.IntType(64), 16 * k))
            row = builder.load(builder.inttoptr(at, neon.V16I8.as_pointer()))
            row.align = 1
            every = ir.Constant(ir.VectorType(I32, 4 * L), [i % 16 for i in range(4 * L)])
            parts.append(builder.shuffle_vector(row, row, every))
        if ISA in X86:
            parts = [parts[0], *(builder.xor(a, b) for a, b in pairwise(parts))]
            for k in range(8, 16):
                parts[k] = builder.xor(parts[k], parts[k - 8])
        assert all(p.type == quad for p in parts)
        return context.make_tuple(builder, signature.return_type, parts)

    return types.UniTuple(VQUAD, 16)(types.int64), codegen


@intrinsic
def looked_up(typingctx, table, x):
    """table[x] of each byte: x86 and 64-bit ARM.

    ARM's tbx keeps what it has where an index is beyond 64. pshufb gives 0 for an index with its top bit set: with 16 less at
    each step a byte below 128 takes part in steps 0 … x / 16, one above in the eight behind x / 16 − 8.
    """

    def codegen(context, builder, signature, args):
        parts, x = cgutils.unpack_tuple(builder, args[0], 16), args[1]
        if ISA in ARM64:
            y = call(builder, "llvm.aarch64.neon.tbl4.v16i8", x.type, *parts[:4], x)
            for k in range(4, 16, 4):
                far = builder.sub(x, const("i8", 16, 16 * k))
                y = call(builder, "llvm.aarch64.neon.tbx4.v16i8", x.type, y, *parts[k : k + 4], far)
            return y
        y = call(builder, _PSHUFB[L], x.type, parts[0], x)
        for k in range(1, 16):
            step = const("i8", 4 * L, 16)
            x = builder.sub(x, step) if k <= 8 else call(builder, f"llvm.ssub.sat.v{4 * L}i8", x.type, x, step)
            y = builder.xor(y, call(builder, _PSHUFB[L], x.type, parts[k], x))
        return y

    return VQUAD(table, x), codegen


@intrinsic
def xor_quad(typingctx, a, b):
    """Bit by bit, where one of two is set."""
    return VQUAD(a, b), lambda context, builder, signature, args: builder.xor(*args)


@intrinsic
def max_quad(typingctx, a, b):
    """The greater of each two unsigned bytes."""
    return VQUAD(a, b), lambda context, builder, signature, args: call(
        builder, f"llvm.umax.v{4 * L}i8", args[0].type, *args
    )


@intrinsic
def min_quad(typingctx, a, b):
    """The lesser of each two unsigned bytes."""
    return VQUAD(a, b), lambda context, builder, signature, args: call(
        builder, f"llvm.umin.v{4 * L}i8", args[0].type, *args
    )


@intrinsic
def and_quad(typingctx, a, b):
    """Bit by bit, where both are set."""
    return VQUAD(a, b), lambda context, builder, signature, args: builder.and_(*args)


@intrinsic
def or_quad(typingctx, a, b):
    """Bit by bit, where either is set."""
    return VQUAD(a, b), lambda context, builder, signature, args: builder.or_(*args)


@intrinsic
def cap(typingctx, quad, hi):
    """Bytes no greater than the scalar hi."""

    def codegen(context, builder, signature, args):
        top = splat(builder, builder.trunc(args[1], ir.IntType(8)), 4 * L)
        return call(builder, f"llvm.umin.v{4 * L}i8", args[0].type, args[0], top)

    return VQUAD(quad, types.int32), codegen


@intrinsic
def in_rows(typingctx, quad):
    """What `pack_codes` made of four vectors, in their order: the L bytes of the first, then those of the second, …"""

    def codegen(context, builder, signature, args):
        words = builder.bitcast(args[0], llvm("i32", L))
        order = [4 * p + i for i in range(4) for p in range(L // 4)]
        moved = builder.shuffle_vector(words, words, ir.Constant(ir.VectorType(I32, L), order))
        return builder.bitcast(moved, llvm("i8", 4 * L))

    return VQUAD(quad), codegen
