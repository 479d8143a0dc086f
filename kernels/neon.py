"""What the vector operations are on ARM: LLVM IR for 16-byte vectors, for each of the byte dot products that ARM has.

usdot (i8mm) multiplies unsigned by signed bytes. sdot (dotprod) and smull multiply signed ones: activations have their top bit
flipped first, which takes 128 off each, and the plan puts 128·Σw back into the bias (Isa.offset). smull gives int16 products of 8
pairs; two of a lane are added in int16, which holds their sum as long as no weight is −128 (Isa.least_weight), two such sums in
int32 by sadalp: 16 products in 4 instructions.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from .vec import I32, call

V16I8, V8I8 = ir.VectorType(ir.IntType(8), 16), ir.VectorType(ir.IntType(8), 8)
V8I16, V4I16 = ir.VectorType(ir.IntType(16), 8), ir.VectorType(ir.IntType(16), 4)
V4I32, V4F32 = ir.VectorType(I32, 4), ir.VectorType(ir.FloatType(), 4)


def shuffle(builder: Any, a: Any, b: Any, picked: list[int]) -> Any:
    """Lanes of a and b side by side, by number."""
    return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(I32, len(picked)), picked))


def part(builder: Any, v: Any, first: int, count: int) -> Any:
    """`count` lanes from number `first` on."""
    return shuffle(builder, v, ir.Constant(v.type, ir.Undefined), list(range(first, first + count)))


def flip(builder: Any, x: Any) -> Any:
    """Unsigned bytes as signed ones, 128 less."""
    return builder.xor(x, ir.Constant(x.type, [-128] * x.type.count))


def dot_signed(builder: Any, dot: str, acc: Any, x: Any, w: Any) -> Any:
    """acc[l] + Σ_{j<4} x[l][j]·w[l][j]; x unsigned for usdot, signed otherwise."""
    if dot in ("sdot", "usdot"):
        return call(builder, f"llvm.aarch64.neon.{dot}.v4i32.v16i8", V4I32, acc, x, w)
    low, high = (multiplied(builder, dot, part(builder, x, k, 8), part(builder, w, k, 8)) for k in (0, 8))
    pairs = added_pairs(builder, dot, low, high)
    return added_long(builder, dot, acc, pairs)


def dot_lane(builder: Any, dot: str, acc: Any, x: Any, k: int, w: Any) -> Any:
    """dot_signed with the k-th 32 bits of x in every lane, ordered so that sdot and sudot take them by element."""
    same = lane(builder, x, k)
    return dot_signed(builder, dot, acc, w, same) if dot == "sdot" else dot_signed(builder, dot, acc, same, w)


def dot_any(builder: Any, dot: str, acc: Any, x: Any, w: Any) -> Any:
    """As dot_signed, for weights of −128 too."""
    if dot in ("sdot", "usdot"):
        return dot_signed(builder, dot, acc, x, w)
    zero = ir.Constant(V4I32, [0] * 4)
    low, high = (
        added_long(builder, dot, zero, multiplied(builder, dot, part(builder, x, k, 8), part(builder, w, k, 8)))
        for k in (0, 8)
    )
    return builder.add(acc, added_pairs(builder, dot, low, high))


def multiplied(builder: Any, dot: str, a: Any, b: Any) -> Any:
    """Widening product of 8 bytes or 4 int16: smull."""
    wide = V8I16 if a.type.count == 8 else V4I32
    name = "llvm.arm.neon.vmulls" if dot == "vmull" else "llvm.aarch64.neon.smull"
    return call(builder, f"{name}.{'v8i16' if wide is V8I16 else 'v4i32'}", wide, a, b)


def added_pairs(builder: Any, dot: str, a: Any, b: Any) -> Any:
    """Sums of neighbours, those of a before those of b: addp; on 32-bit ARM on halves (vpadd)."""
    size, count = ("i16", 8) if a.type.count == 8 else ("i32", 4)
    if dot != "vmull":
        return call(builder, f"llvm.aarch64.neon.addp.v{count}{size}", a.type, a, b)
    half = ir.VectorType(a.type.element, count // 2)
    name = f"llvm.arm.neon.vpadd.v{count // 2}{size}"
    sums = [
        call(builder, name, half, part(builder, v, 0, count // 2), part(builder, v, count // 2, count // 2))
        for v in (a, b)
    ]
    return shuffle(builder, sums[0], sums[1], list(range(count)))


def added_long(builder: Any, dot: str, acc: Any, v: Any) -> Any:
    """acc + sums of neighbouring int16: sadalp."""
    if dot == "vmull":
        return call(builder, "llvm.arm.neon.vpadals.v4i32.v8i16", V4I32, acc, v)
    return builder.add(acc, call(builder, "llvm.aarch64.neon.saddlp.v4i32.v8i16", V4I32, v))


def dot_s16(builder: Any, dot: str, acc: Any, x: Any, w: Any) -> Any:
    """acc[l] + Σ_{j<2} x[l][j]·w[l][j] of int16 pairs."""
    low, high = (multiplied(builder, dot, part(builder, x, k, 4), part(builder, w, k, 4)) for k in (0, 4))
    return builder.add(acc, added_pairs(builder, dot, low, high))


def lane(builder: Any, x: Any, k: int) -> Any:
    """The k-th 32 bits of 16 bytes in every lane: an operand of sdot by element."""
    words = builder.bitcast(x, V4I32)
    return builder.bitcast(shuffle(builder, words, ir.Constant(V4I32, ir.Undefined), [k] * 4), V16I8)


def apart(builder: Any, v: Any) -> Any:
    """The same vector, of which the compiler knows nothing: it multiplies halves of it by smull and smull2, not by copies."""
    kind = ir.FunctionType(v.type, [v.type])
    return builder.asm(kind, "", "=w,0", [v], side_effect=False)


def half_product(builder: Any, a: Any, b: Any, high: bool) -> Any:
    """int16 products of the low or high 8 bytes: smull, smull2."""
    return multiplied(builder, "smull", *(part(builder, v, 8 * high, 8) for v in (a, b)))


def widened(builder: Any, x: Any, k: int) -> Any:
    """Bytes 4k … 4k + 3 as int32: tbl, which takes zeros for what is beyond 16."""
    picked = ir.Constant(V16I8, [4 * k + i // 4 if i % 4 == 0 else 255 for i in range(16)])
    return builder.bitcast(call(builder, "llvm.aarch64.neon.tbl1.v16i8", V16I8, x, picked), V4I32)


def added_wide(builder: Any, acc: Any, v: Any, high: bool) -> Any:
    """acc + four of eight int16: saddw, saddw2."""
    return builder.add(acc, builder.sext(part(builder, v, 4 * high, 4), V4I32))


def spread(builder: Any, v: Any, high: bool) -> Any:
    """The lower or upper two int32 of four, each with a zero behind it."""
    return shuffle(builder, v, ir.Constant(V4I32, [0] * 4), [2 * high, 4, 2 * high + 1, 4])


def to_nearest(builder: Any, f: Any) -> Any:
    """float32 to int32, ties to even, saturating: fcvtns."""
    return call(builder, "llvm.aarch64.neon.fcvtns.v4i32.v4f32", V4I32, f)


def _halves(builder: Any, vectors: list[Any], upper: bool) -> list[Any]:
    """The lower or upper int16 of four int32 vectors, in two: uzp1, uzp2."""
    shorts = [builder.bitcast(v, V8I16) for v in vectors]
    return [shuffle(builder, shorts[k], shorts[k + 1], list(range(upper, 16, 2))) for k in (0, 2)]


def _to_bytes(builder: Any, rows: list[Any]) -> Any:
    """Two int16 vectors saturated to unsigned bytes: sqxtun."""
    narrow = [call(builder, "llvm.aarch64.neon.sqxtun.v8i8", V8I8, r) for r in rows]
    return shuffle(builder, narrow[0], narrow[1], list(range(16)))


def packed_short(builder: Any, vectors: list[Any], offset: Any) -> Any:
    """As packed, for numbers that fit an int16, with `offset` too."""
    rows = _halves(builder, vectors, False)
    return _to_bytes(builder, [builder.add(r, offset) for r in rows] if offset is not None else rows)


def packed_high(builder: Any, vectors: list[Any], by: Any) -> Any:
    """Upper halves of four int32 vectors, shifted right by an int16 vector, saturated to unsigned bytes."""
    return _to_bytes(builder, [builder.ashr(r, by) for r in _halves(builder, vectors, True)])


def packed(builder: Any, vectors: list[Any], offset: Any) -> Any:
    """Four int32 vectors, saturated to int16, plus `offset` (int16 vector), saturated to unsigned bytes."""
    halves = [call(builder, "llvm.aarch64.neon.sqxtn.v4i16", V4I16, v) for v in vectors]
    both = list(range(8))
    rows = [shuffle(builder, halves[k], halves[k + 1], both) for k in (0, 2)]
    if offset is not None:
        rows = [call(builder, "llvm.aarch64.neon.sqadd.v8i16", V8I16, r, offset) for r in rows]
    return _to_bytes(builder, rows)


def multiply_double_rounded(builder: Any, acc: Any, q: Any, left: Any, right: Any) -> Any:
    """gemmlowp's fixedpoint_neon.h: sqrdmulh, then a rounding shift (srshl) that a fixup makes round away from zero."""
    high = call(builder, "llvm.aarch64.neon.sqrdmulh.v4i32", V4I32, builder.shl(acc, left), q)
    down = builder.sub(ir.Constant(V4I32, [0] * 4), right)
    fixup = builder.ashr(builder.and_(high, down), ir.Constant(V4I32, [31] * 4))
    high = call(builder, "llvm.aarch64.neon.sqadd.v4i32", V4I32, high, fixup)
    return call(builder, "llvm.aarch64.neon.srshl.v4i32", V4I32, high, down)
