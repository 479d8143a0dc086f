"""Whole ranges of a byte convolution on 64-bit ARM, where an instruction multiplies by a lane of a register.

A pass takes 16 bytes of each row of activations, four k-steps. A function holds the loops over pixels, blocks of channels and
passes, so that what a tile sets up is set up once; each tile is MR rows by NV vectors of sums in registers. Weights lie in the
order in which passes take them (edgeq/plan/lower/steps.py), so that one instruction loads four vectors and moves on.

    march(g, at, lo, hi, first, last)     pixels lo … hi − 1, MR or more; blocks first … last − 1 of channels
    across(g, at, lo, hi, first, last)    windows three pixels wide at stride 1: each pixel is loaded for three outputs; what
                                          made the borders has flipped the bytes that signed products need flipped
    alone(g, at, m, first, last)          the pixel m, several blocks at a time: a fully connected layer's single row

at: scratch; row addresses first, SUMMED sums of activations.

sdot: a step is one instruction for four channels. smull: two steps' products are added up in int16, which holds them as long as
no weight is −128 (Isa.least_weight), then in int32 by sadalp, in two sums for each channel that addp joins at the end: 16
products in 3 instructions. usmmla: eight bytes of two rows by those of two channels, into a register of four sums. Sums, scaled,
saturate: fcvtns, sqxtn, sqxtun; where none leaves an int16 (WAY), lower halves are taken as they are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit

from edgeq.records import replace

from . import passes, simd
from .memory import i32, i64
from .passes import MATRIX, PAIRED, Shape
from .pixels import locate, next_line, situate
from .simd import ISA, L
from .words import conv as words

ROWS = words.STEP_ROWS.get(ISA.dot, words.STEP_ROWS["sdot"])  # other instruction sets call nothing here
VECTOR = L * 4
"""Bytes of a vector."""

WIDER = 2 if PAIRED or MATRIX else 1
"""Vectors that the bias of a vector of channels fills (edgeq/plan/lower/steps.py)."""

SUMMED = 4096
"""Where in the scratch the sums of activations lie."""

ONE_ROW = {4: (4, 2, 1) if WIDER == 1 else (2, 1), 2: (1,), 1: (1,)}
"""NV → blocks that a single row takes at a time."""


Take = Callable[[str], None]


def _taker(out: list[str], pointer: str, load: str, at_once: int = 4) -> Take:
    """What adds lines to `out` that give a name to the next vector from `pointer` on; loads of 4 or 1 move the pointer."""
    names: list[str] = []

    def take(name: str) -> None:
        if not names and at_once == 4:
            names.extend(f"{pointer}_{k}" for k in range(4))
            out.extend([f"{', '.join(names)} = {load}({pointer})", f"{pointer} = opaque({pointer} + {4 * VECTOR})"])
        elif not names:
            names.append(f"{load}({pointer})")
        out.append(f"{name} = {names.pop(0)}")
        if at_once == 1:
            out.append(f"{pointer} += {VECTOR}")

    return take


def _indented(lines: list[str], by: int = 1) -> list[str]:
    return ["    " * by + line for line in lines]


def _passes(shape: Shape, read: str = "load_ready({})") -> list[str]:
    """The loops over passes, then over what is left of each segment: 1 to 3 steps (MATRIX: 2). Row i begins at r{i}."""

    def piece(first: int, steps: int) -> list[str]:
        return passes.lines(replace(shape, first=first, steps=steps))

    load = [f"x{i} = {read.format(f'r{i} + k')}" for i in range(shape.mr)]
    out = ["for p in range(n_passes):", "    k = passes[p]", *_indented(load + piece(0, 4))]
    out += ["if rest:", "    for s in range(n_segments):", "        k = segments[s] + whole", *_indented(load, 2)]
    if MATRIX:
        return out + _indented(piece(0, 2), 2)
    if PAIRED:
        out += ["        if rest > 1:", *_indented(piece(0, 2), 3)]
        out += ["            if rest > 2:", *_indented(piece(2, 1), 4)]
        return [*out, "        else:", *_indented(piece(0, 1), 3)]
    out += _indented(piece(0, 1), 2)
    for s in (1, 2):
        out += [f"        if rest > {s}:", *_indented(piece(s, 1), 3)]
    return out


def _begin(mr: int, count: int) -> list[str]:
    """Sums that start from the bias, loaded for each row: one instruction for two vectors, where a copy is one for each."""
    out: list[str] = []
    for i in range(0, mr, 2 if MATRIX else 1):
        names = passes.sums(i, count)
        out += ["bias = opaque(bias)"] if i == 0 or len(names) > 1 else []
        out += [f"{name} = load_i32(bias + {n * VECTOR})" for n, name in enumerate(names) if i == 0 or len(names) > 1]
        out += [f"{names[0]} = {passes.sums(0, count)[0]}"] if i and len(names) == 1 else []
    return [*out, f"bias += {count * VECTOR * WIDER}"]


def _scaled(mr: int, count: int) -> list[str]:
    """Sums of activations added, and all of it scaled and rounded; c{i}_{j} are the results."""
    out = []
    if PAIRED:
        out += [f"c{i}_{j} = join_pairs(c{i}_{j}l, c{i}_{j}h)" for i in range(mr) for j in range(count)]
    if MATRIX:
        for i in sorted(range(mr), key=lambda i: (i & ~1, -i)):
            half = "high" if i % 2 else "low"
            out += [f"c{i}_{j} = join_{half}(m{i & ~1}_{2 * j}, m{i & ~1}_{2 * j + 1})" for j in range(count)]
    out += ["if sums:"]
    out += [f"    e{i} = splat_i32(i32(sums)[{i}])" for i in range(mr)]
    out += [f"    c{i}_{j} = add_i32(c{i}_{j}, e{i})" for i in range(mr) for j in range(count)]
    take = _taker(out, "scale", *(("load_f32", 1) if count % 4 else ("load_f32s", 4)))
    for j in range(count):
        take("f")
        out += [f"c{i}_{j} = codes(c{i}_{j}, f)" for i in range(mr)]
    return out


def _stores(fours: list[str], at_once: int, lines: Callable[[bool], list[str]]) -> list[str]:
    """Four vectors at a time to bytes, `q`, and to memory: by `lines(True)` where at least `at_once` channels are left."""
    packed = "cap(pack_codes({}, zero, floor), top)"
    out = [f"if left >= {at_once}:"]
    for test, how in (
        ("if way == SHORT:", "pack_short({})"),
        ("elif way == MOVED:", "pack_moved({}, zero)"),
        ("else:", packed),
    ):
        out += [f"    {test}"]
        for four in fours:
            out += _indented([f"q = {how.format(four)}", *lines(True)], 2)
    out += ["else:"]
    for four in fours:
        out += _indented([f"q = {packed.format(four)}", *lines(False)])
    return out


def _finish(mr: int, nv: int) -> list[str]:
    """A tile's results, rows `pitch` bytes apart, from address `to` on; `left` channels of them exist."""
    if nv == 4:
        fours = [", ".join(f"c{i}_{j}" for j in range(4)) for i in range(mr)]
        return _stores(
            fours, 4 * L, lambda whole: ["store(to, q)" if whole else "store_quad_some(to, q, left)", "to += pitch"]
        )
    rows = 4 // nv
    if nv == 2:
        fours = [f"c{i}_0, c{i}_1, c{i + 1}_0, c{i + 1}_1" for i in range(0, mr, 2)]
        apart = ["store_first_half(to, q, left)", "store_second_half(to + pitch, q, left)", "to += 2 * pitch"]
    else:
        fours = [f"c{i}_0, c{i + 1}_0, c{i + 2}_0, c{i + 3}_0" for i in range(0, mr, 4)]
        apart = [*(f"store_row_{r}(to + {r} * pitch, q, left)" for r in range(4)), "to += 4 * pitch"]
    together = [f"if pitch == {nv * L}:", "    store(to, q)", f"    to += {rows * nv * L}"]
    together += ["else:", *_indented(apart)]
    return _stores(fours, nv * L, lambda whole: together if whole else apart)


def _opening(nv: int) -> list[str]:
    """What a function needs of its instruction, once."""
    return [
        "passes, n_passes, segments, n_segments = i64(g[PASSES]), g[N_PASSES], i64(g[SEGMENTS]), g[N_SEGMENTS]",
        "whole, rest, pitch, way = (g[STEPS] & ~3) * 4, g[STEPS] & 3, g[Y_PITCH], g[WAY]",
        "zero, floor, top = np.int32(g[ZERO_POINT]), np.int32(g[LO]), np.int32(g[HI])",
        f"rows, sums, n, step = i64(at), np.int64(0), first * {nv * L}, g[COLUMN]",
        f"weights, biases = g[W] + first * g[BLOCK], g[BIAS] + n * {4 * WIDER}",
        "scales, outputs, channels = g[MULTIPLIER] + n * 4, g[Y] + n, g[N] - n",
    ]


_TILES = ["w, bias, scale, y, left = weights, biases, scales, outputs + m * pitch, channels"]


def _tile(mr: int, nv: int, products: list[str]) -> list[str]:
    """A block's tile, from its bias to its bytes, and on to the next block."""
    tile = [*_begin(mr, nv), *products, *_scaled(mr, nv), "to = y", *_finish(mr, nv)]
    return [*_TILES, "for block in range(first, last):", *_indented([*tile, f"y += {nv * L}", f"left -= {nv * L}"])]


def march_source(nv: int) -> str:
    """The Python text of `march` for tiles of nv vectors.

    ahead: the next pixel's address; straight: how many lie one step apart from there on.
    """
    mr = ROWS[nv]
    tile = _tile(mr, nv, ["w0 = w", *_passes(Shape(mr, nv)), "w = w0"])
    out = [
        *_opening(nv),
        "m = lo",
        "ahead, straight, start, lines = situate(g, m)",
        "while m < hi:",
        f"    if m > hi - {mr}:  # the last tile steps back so that it is full",
        f"        m = hi - {mr}",
        "        ahead, straight, start, lines = situate(g, m)",
        f"    if straight > {mr}:",
        "        r0 = ahead",
        *(f"        r{i} = r{i - 1} + step" for i in range(1, mr)),
        f"        ahead = r{mr - 1} + step",
        f"        straight -= {mr}",
        "    else:",
        f"        for i in range({mr}):",
        "            rows[i] = ahead",
        "            straight -= 1",
        "            if straight:",
        "                ahead += step",
        "            else:",
        "                ahead, straight, start, lines = next_line(g, start, lines)",
        *(f"        r{i} = rows[{i}]" for i in range(mr)),
        "    if g[ONES]:",
        *(f"        rows[{i}] = r{i}" for i in range(mr)),
        "        sums = at + SUMMED",
        f"        sum_rows(g, at, np.int64({mr}), sums)",
        *_indented(tile),
        f"    m += {mr}",
    ]
    return "\n".join(["def march(g, at, lo, hi, first, last):", *_indented(out)])


ACROSS = words.ACROSS.get(ISA.dot, 4)


def across_source() -> str:
    """The Python text of `across`, for tiles of four vectors."""
    mr, nv = ACROSS, 4
    products = [
        "for p in range(n_passes):",
        "    k = x + passes[p]",
        "    x0 = load_quad(k)",
        *(f"    x{i} = load_quad(k + o{i})" for i in range(1, mr + 2)),
        *_indented(passes.lines(Shape(mr, nv, taps=3))),
    ]
    out = [
        *_opening(nv),
        *(f"o{i} = opaque({i} * step)" for i in range(1, mr + 2)),
        "m = lo",
        "x, straight, start, lines = situate(g, m)",
        "while m < hi:",
        "    end = min(m + straight, hi)",
        f"    while end - m >= {mr}:",
        *_indented(_tile(mr, nv, ["w0 = w", *products, "w = w0"]), 2),
        f"        x += {mr} * step",
        f"        m += {mr}",
        "    while m < end:",
        "        alone(g, at, m, first, last)",
        "        m += 1",
        "    x, straight, start, lines = next_line(g, start, lines)",
    ]
    return "\n".join(["def across(g, at, lo, hi, first, last):", *_indented(out)])


def alone_source(nv: int) -> str:
    """The Python text of `alone` for blocks of nv vectors."""
    one = {4: "store_quad_some(y, q, left)", 2: "store_first_half(y, q, left)", 1: "store_row_0(y, q, left)"}[nv]

    def blocks(count: int) -> list[str]:
        out = [
            "w0 = w",
            *(f"w{b} = w + {b} * g[BLOCK]" for b in range(1, count)),
            *_begin(1, count * nv),
            *_passes(Shape(1, nv, count), "xor_quad(load_quad({}), flip)" if ISA.offset else "load_ready({})"),
            *_scaled(1, count * nv),
        ]
        for b in range(count):
            four = [f"c0_{b * nv + j}" for j in range(nv)] + ["z"] * (4 - nv)
            out += [f"q = cap(pack_codes({', '.join(four)}, zero, floor), top)"]
            out += [f"if left >= {4 * L}:", "    store(y, q)", "else:"] * (nv == 4)
            out += ["    " * (nv == 4) + one, f"y += {nv * L}", f"left -= {nv * L}"]
        return [*out, f"w = w{count - 1}"]

    out = [
        *_opening(nv),
        "z, block = zero_i32(), first",
        "flip = splat_quad(np.int64(0 if g[SHARED] else 128))",
        "locate(g, rows, m, np.int64(1))",
        "r0 = rows[0]",
        "if g[ONES]:",
        "    sums = at + SUMMED",
        "    sum_rows(g, at, np.int64(1), sums)",
        *_TILES,
    ]
    for count in ONE_ROW[nv]:
        out += [f"while block + {count} <= last:", *_indented([*blocks(count), f"block += {count}"])]
    return "\n".join(["def alone(g, at, m, first, last):", *_indented(out)])


def _made(name: str, text: str, **others: Any) -> Callable[..., Any]:
    """Compile-ready function `name` of a source; one that is never called elsewhere than on 64-bit ARM."""
    names = (n for n in dir(simd) if not n.startswith("_"))
    namespace: dict[str, Any] = {n: getattr(simd, n) for n in names}
    namespace |= {n: getattr(words, n) for n in dir(words) if n.isupper()}
    namespace |= {"np": np, "i32": i32, "i64": i64, "locate": locate, "situate": situate, "next_line": next_line}
    namespace |= {"SUMMED": SUMMED} | passes.FENCES | others
    exec(text, namespace)
    compiled: Callable[..., Any] = njit(namespace[name], error_model="numpy", no_cpython_wrapper=True)
    return compiled


def march(nv: int, sum_rows: Any) -> Callable[..., Any]:
    """`march` for tiles of nv vectors. sum_rows(g, rows, count, sums): kernels/sums.py."""
    return _made("march", march_source(nv), sum_rows=sum_rows)


def alone(nv: int, sum_rows: Any) -> Callable[..., Any]:
    """`alone` for blocks of nv vectors."""
    return _made("alone", alone_source(nv), sum_rows=sum_rows)


def across(alone: Any) -> Callable[..., Any]:
    """`across`, for pixels in fours; `alone` takes what a line's end leaves."""
    return _made("across", across_source(), alone=alone)
