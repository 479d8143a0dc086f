"""Vectors from memory and to it: whole, widened, narrowed, in every lane, or the first few lanes."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from . import neon
from .isa import ARM64, X86
from .vec import BYTES, I32, ISA, VF32, VI32, VPAIR, VQUAD, L, Vec, call, llvm, splat, store_bytes_some, store_masked


def _loader(vec: Vec) -> Any:
    @intrinsic
    def load(typingctx, address):
        def codegen(context, builder, signature, args):
            r = builder.load(builder.inttoptr(args[0], llvm(vec.element, vec.lanes).as_pointer()))
            r.align = BYTES[vec.element]
            return r

        return vec(types.int64), codegen

    return load


load_i32 = _loader(VI32)
load_f32 = _loader(VF32)
load_quad = _loader(VQUAD)
load_pair = _loader(VPAIR)
load_16 = _loader(Vec("i8", 16))


def _four_loader(vec: Vec) -> Any:
    @intrinsic
    def load(typingctx, address):
        """Four vectors, one behind the other, by one instruction (ld1): ARM alone."""

        def codegen(context, builder, signature, args):
            kind, name = llvm(vec.element, vec.lanes), f"v{vec.lanes}{vec.element}"
            four = ir.LiteralStructType([kind] * 4)
            pointer = builder.inttoptr(args[0], kind.as_pointer())
            loaded = call(builder, f"llvm.aarch64.neon.ld1x4.{name}.p0", four, pointer)
            vectors = [builder.extract_value(loaded, k) for k in range(4)]
            return context.make_tuple(builder, signature.return_type, vectors)

        return types.UniTuple(vec, 4)(types.int64), codegen

    return load


load_i32s, load_f32s, load_quads = (_four_loader(vec) for vec in (VI32, VF32, VQUAD))


@intrinsic
def store(typingctx, address, vector):
    """Write a vector's lanes to `address`."""

    def codegen(context, builder, signature, args):
        st = builder.store(args[1], builder.inttoptr(args[0], args[1].type.as_pointer()))
        st.align = BYTES[vector.element]
        return context.get_dummy_value()

    return types.void(types.int64, vector), codegen


def _broadcast32(vec: Vec) -> Any:
    @intrinsic
    def broadcast(typingctx, address):
        """The 32 bits at `address`, unaligned, in every lane."""

        def codegen(context, builder, signature, args):
            word = builder.load(builder.inttoptr(args[0], I32.as_pointer()))
            word.align = 1
            return builder.bitcast(splat(builder, word, L), llvm(vec.element, vec.lanes))

        return vec(types.int64), codegen

    return broadcast


broadcast_quad = _broadcast32(VQUAD)
broadcast_pair = _broadcast32(VPAIR)
broadcast_f32 = _broadcast32(VF32)


@intrinsic
def broadcast_two(typingctx, first, second):
    """The 32 bits at address `first` in the lower half of the lanes, those at `second` in the upper half."""

    def codegen(context, builder, signature, args):
        halves = []
        for address in args:
            word = builder.load(builder.inttoptr(address, I32.as_pointer()))
            word.align = 1
            halves.append(splat(builder, word, L))
        upper = ir.Constant(ir.VectorType(ir.IntType(1), L), [i >= L // 2 for i in range(L)])
        return builder.bitcast(builder.select(upper, halves[1], halves[0]), llvm("i8", 4 * L))

    return VQUAD(types.int64, types.int64), codegen


def _parts_loader(parts: int) -> Any:
    @intrinsic
    def load(typingctx, addresses):
        """A quad from `parts` addresses, a part as long as any other from each."""

        def codegen(context, builder, signature, args):
            size = 4 * L // parts
            pieces = []
            for i in range(parts):
                address = builder.extract_value(args[0], i)
                piece = builder.load(builder.inttoptr(address, llvm("i8", size).as_pointer()))
                piece.align = 1
                pieces.append(piece)
            while len(pieces) > 1:
                lanes = 2 * pieces[0].type.count
                order = ir.Constant(ir.VectorType(I32, lanes), list(range(lanes)))
                pieces = [builder.shuffle_vector(a, b, order) for a, b in zip(pieces[::2], pieces[1::2], strict=True)]
            return pieces[0]

        return VQUAD(types.UniTuple(types.int64, parts)), codegen

    return load


load_parts = {parts: _parts_loader(parts) for parts in (1, 2, 4)}
"""How many → what loads a quad from so many addresses."""


@intrinsic
def splat_two(typingctx, address):
    """The int32 at `address` in the lower half of the lanes, the one behind it in the upper half."""

    def codegen(context, builder, signature, args):
        two = builder.load(builder.inttoptr(args[0], ir.VectorType(I32, 2).as_pointer()))
        two.align = 4
        order = [2 * i // L for i in range(L)]
        return builder.shuffle_vector(two, two, ir.Constant(ir.VectorType(I32, L), order))

    return VI32(types.int64), codegen


@intrinsic
def load_ready(typingctx, address):
    """16 bytes of activations as dot_ready, dot_step and mull take them: ARM alone."""

    def codegen(context, builder, signature, args):
        x = builder.load(builder.inttoptr(args[0], neon.V16I8.as_pointer()))
        x.align = 1
        return neon.flip(builder, x) if ISA.offset else x

    return VQUAD(types.int64), codegen


def _widening_load(element: str, signed: bool) -> Any:
    @intrinsic
    def load(typingctx, address):
        def codegen(context, builder, signature, args):
            r = builder.load(builder.inttoptr(args[0], llvm(element, L).as_pointer()))
            r.align = BYTES[element]
            return (builder.sext if signed else builder.zext)(r, llvm("i32", L))

        return VI32(types.int64), codegen

    return load


load_u8_as_i32 = _widening_load("i8", signed=False)
load_i8_as_i32 = _widening_load("i8", signed=True)
load_i16_as_i32 = _widening_load("i16", signed=True)


def _narrow_store(element: str, masked: bool) -> Any:
    narrow = llvm(element, L)

    @intrinsic
    def store_all(typingctx, address, vector):
        """The low bits of each lane, packed, to `address`."""

        def codegen(context, builder, signature, args):
            st = builder.store(builder.trunc(args[1], narrow), builder.inttoptr(args[0], narrow.as_pointer()))
            st.align = BYTES[element]
            return context.get_dummy_value()

        return types.void(types.int64, vector), codegen

    @intrinsic
    def store_some(typingctx, address, vector, count):
        """The low bits of the first `count` lanes, packed, to `address`; nothing behind them is touched."""

        def codegen(context, builder, signature, args):
            n = builder.trunc(args[2], I32)
            ids = ir.Constant(llvm("i32", L), list(range(L)))
            mask = builder.icmp_signed("<", ids, splat(builder, n, L))
            p = builder.inttoptr(args[0], narrow.as_pointer())
            name = f"llvm.masked.store.v{L}{element}.p0"
            store_masked(builder, name, builder.trunc(args[1], narrow), p, mask)
            return context.get_dummy_value()

        return types.void(types.int64, vector, types.int64), codegen

    return store_some if masked else store_all


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
        mask = builder.icmp_signed("<", ids, splat(builder, n, L))
        p = builder.inttoptr(args[0], llvm("f32", L).as_pointer())
        store_masked(builder, f"llvm.masked.store.v{L}f32.p0", args[1], p, mask)
        return context.get_dummy_value()

    return types.void(types.int64, vector, types.int64), codegen


@intrinsic
def store_quad_some(typingctx, address, vector, count):
    """The first `count` bytes of a quad to `address`; nothing behind them is touched."""

    def codegen(context, builder, signature, args):
        store_bytes_some(builder, args[0], args[1], args[2])
        return context.get_dummy_value()

    return types.void(types.int64, vector, types.int64), codegen


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
                    store_bytes_some(builder, args[0], row, args[2])
            return context.get_dummy_value()

        return types.void(types.int64, vector, types.int64), codegen

    return store_half


store_first_half, store_second_half = _store_half(0), _store_half(1)


@intrinsic
def store_two_rows(typingctx, first, second, quad, count):
    """Both of two rows packed side by side to two addresses, `count` bytes of each (2·L or more: all).

    On x86 one permutation puts them behind one another. LLVM is not told what it is: it would make one for each row.
    """

    def codegen(context, builder, signature, args):
        quad, half = args[2], llvm("i8", 2 * L)

        def unknown(v: Any) -> Any:
            return builder.asm(ir.FunctionType(v.type, [v.type]), "", "=v,0", [v], side_effect=False)

        if ISA in X86:
            words = builder.bitcast(quad, llvm("i64", L // 2))
            order = ir.Constant(ir.VectorType(I32, L // 2), [2 * p + k for k in range(2) for p in range(L // 4)])
            behind = unknown(builder.bitcast(builder.shuffle_vector(words, words, order), quad.type))

        def rows(v: Any) -> list[Any]:
            if ISA not in X86:
                return [_half(builder, quad, k) for k in range(2)]
            parts = [ir.Constant(ir.VectorType(I32, 2 * L), list(range(k * 2 * L, (k + 1) * 2 * L))) for k in range(2)]
            return [builder.shuffle_vector(v, v, part) for part in parts]

        whole = builder.icmp_signed(">=", args[3], ir.Constant(ir.IntType(64), 2 * L))
        with builder.if_else(whole, likely=True) as (then, otherwise):
            with then:  # an upper half that goes to memory alone needs no instruction to take it apart
                for address, row in zip(args, rows(behind if ISA in X86 else quad), strict=False):
                    st = builder.store(row, builder.inttoptr(address, half.as_pointer()))
                    st.align = 1
            with otherwise:
                for address, row in zip(args, rows(unknown(behind) if ISA in X86 else quad), strict=False):
                    store_bytes_some(builder, address, row, args[3])
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, quad, types.int64), codegen


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
                    store_bytes_some(builder, args[0], row, args[2])
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


@intrinsic
def once(typingctx):
    """In a loop: LLVM does not write its body out several times, which it does with every short one."""

    def codegen(context, builder, signature, args):
        nothing = builder.asm(ir.FunctionType(ir.VoidType(), []), "", "", [], side_effect=True)
        nothing.attributes.add("convergent")
        return context.get_dummy_value()

    return types.void(), codegen


@intrinsic
def pinned(typingctx, v):
    """The same vector, made at this place: the compiler moves it neither behind other pinned vectors nor into branches."""

    def codegen(context, builder, signature, args):
        if ISA not in X86:
            return args[0]
        kind = ir.FunctionType(args[0].type, [args[0].type])
        return builder.asm(kind, "", "=v,0", [args[0]], side_effect=True)

    return v(v), codegen


@intrinsic
def either_half(typingctx, first, second):
    """The lower half of one quad's lanes and the upper half of another's."""

    def codegen(context, builder, signature, args):
        order = [i if i < L // 2 else L + i for i in range(L)]
        words = [builder.bitcast(v, llvm("i32", L)) for v in args]
        mixed = builder.shuffle_vector(*words, ir.Constant(ir.VectorType(I32, L), order))
        return builder.bitcast(mixed, llvm("i8", 4 * L))

    return VQUAD(first, second), codegen


def _pair_store(end: bool) -> Any:
    @intrinsic
    def store_pair(typingctx, first, second, quad, count):
        """What `pack_codes` made of (a, m, b, m) as two rows: a and the lower half of m, b and the upper half of m.

        2·L bytes of each, 3/2·L of which mean something: what is behind is written later. store_pair_end: `count` of the second.
        """

        def codegen(context, builder, signature, args):
            parts, half = range(L // 4), L // 8
            order = [4 * p for p in parts] + [4 * p + 1 for p in range(half)] * 2
            order += [4 * p + 2 for p in parts] + [4 * p + 1 for p in range(half, 2 * half)] * 2
            words = builder.bitcast(args[2], llvm("i32", L))
            for k in range(2):
                some = ir.Constant(ir.VectorType(I32, L // 2), order[k * L // 2 : (k + 1) * L // 2])
                row = builder.bitcast(builder.shuffle_vector(words, words, some), llvm("i8", 2 * L))
                if k and end:
                    store_bytes_some(builder, args[k], row, args[3])
                else:
                    st = builder.store(row, builder.inttoptr(args[k], row.type.as_pointer()))
                    st.align = 1
            return context.get_dummy_value()

        return types.void(types.int64, types.int64, quad, types.int64), codegen

    return store_pair


store_pair, store_pair_end = _pair_store(False), _pair_store(True)


@intrinsic
def store_eighths(typingctx, address, pitch, quad, count):
    """8 bytes of a quad to `address`, the next 8 `pitch` bytes behind it, and so on; of the last 8 only `count`."""

    def codegen(context, builder, signature, args):
        words = builder.bitcast(args[2], llvm("i64", L // 2))
        at = args[0]
        for i in range(L // 2):
            word = builder.extract_element(words, ir.Constant(I32, i))
            if i == L // 2 - 1:
                store_bytes_some(builder, at, builder.bitcast(word, llvm("i8", 8)), args[3])
            else:
                st = builder.store(word, builder.inttoptr(at, word.type.as_pointer()))
                st.align = 1
            at = builder.add(at, args[1])
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, quad, types.int64), codegen
