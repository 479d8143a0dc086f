"""Whole ranges of a byte convolution on 64-bit ARM, where an instruction multiplies by a lane of a register.

16 bytes of a row of activations serve four k-steps. A function holds the loops over pixels, blocks of channels, segments and
steps, so that what a tile sets up is set up once; each tile is MR rows by NV vectors of sums in registers.

    march(g, at, lo, hi, first, last)     pixels lo … hi − 1, MR or more; blocks first … last − 1 of channels
    across(g, at, lo, hi, first, last)    windows three pixels wide at stride 1: each pixel is loaded for three outputs
    alone(g, at, m, first, last)          the pixel m, several blocks at a time: a fully connected layer's single row

at: scratch; row addresses first, SUMMED sums of activations.

sdot, usdot: a step is one instruction for four channels. smull: two steps' products are added up in int16, which holds them as
long as no weight is −128 (Isa.least_weight), then in int32 by sadalp, in two sums for each channel that addp joins at the end: 16
products in 3 instructions. Sums, scaled, saturate: fcvtns, sqxtn, sqxtun.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit

from . import simd
from .memory import i32, i64
from .pixels import locate
from .simd import ISA, L
from .words import conv as words

PAIRED = ISA.dot == "smull"
ROWS = words.STEP_ROWS.get(ISA.dot, words.STEP_ROWS["sdot"])  # other instruction sets call nothing here

SUMMED = 4096
"""Where in the scratch the sums of activations lie."""

ONE_ROW = {4: (2, 1) if PAIRED else (4, 2, 1), 2: (1,), 1: (1,)}
"""NV → blocks that a single row takes at a time."""

Vectors = list[tuple[str, int]]
"""The vectors of a tile: the pointer to the block that each is in, and its number there."""


def _sums(i: int, j: int) -> list[str]:
    """The accumulators of row i, vector j."""
    return [f"c{i}_{j}l", f"c{i}_{j}h"] if PAIRED else [f"c{i}_{j}"]


def _step(mr: int, nv: int, vectors: Vectors, s: int, at: int, ahead: int = 0) -> list[str]:
    """Step s of the four in x0, x1, …, for a window's pixel `ahead`; its weights are those of step `at` from the pointers on."""
    out = []
    for j, (pointer, number) in enumerate(vectors):
        out += [f"u = load_quad({pointer} + {(at * nv + number) * L * 4})"]
        for i in range(mr):
            if PAIRED:
                for half, c in zip(("low", "high"), _sums(i, j), strict=True):
                    out += [f"{c} = add_long({c}, mull_{half}(step{s}(x{i + ahead}), u))"]
            else:
                out += [f"c{i}_{j} = dot_step{s}(c{i}_{j}, x{i + ahead}, u)"]
    return out


def _split(rows: int, s: int) -> list[str]:
    """Steps s and s + 1 of each row, in every lane."""
    return [f"a{i}, b{i} = step{s}(x{i}), step{s + 1}(x{i})" for i in range(rows)]


def _pairs(mr: int, nv: int, vectors: Vectors, at: int, ahead: int = 0) -> list[str]:
    """Two steps that _split has laid out, their products added up in int16; weights and `ahead` as in _step."""
    out = []
    for j, (pointer, number) in enumerate(vectors):
        out += [f"u = load_quad({pointer} + {(at * nv + number) * L * 4})"]
        out += [f"t = load_quad({pointer} + {((at + 1) * nv + number) * L * 4})"]
        for i in range(mr):
            for half, c in zip(("low", "high"), _sums(i, j), strict=True):
                out += [f"{c} = add_long({c}, mlal_{half}(mull_{half}(a{i + ahead}, u), b{i + ahead}, t))"]
    return out


def _two_steps(mr: int, nv: int, vectors: Vectors, s: int, at: int) -> list[str]:
    """Steps s and s + 1 of the four in x0, x1, …; weights as in _step."""
    return _split(mr, s) + _pairs(mr, nv, vectors, at)


def _segments(mr: int, nv: int, vectors: Vectors, row: Callable[[int], str], turns: int) -> list[str]:
    """The loops over segments and steps. `row`: where row i begins; turns: 16 bytes of rows at a time, 1 or 2 of them."""
    pointers = list(dict.fromkeys(p for p, _ in vectors))
    load = [f"x{i} = load_ready(r{i} + k)" for i in range(mr)]
    out = ["for s in range(n_segments):", "    begin = segments[s]"]
    out += [f"    r{i} = {row(i)} + begin" for i in range(mr)]
    twice: list[str] = []
    for turn in range(2):
        twice += [f"x{i} = load_ready(r{i} + k + {16 * turn})" for i in range(mr)]
        for s in (0, 2) if PAIRED else range(4):
            at = 4 * turn + s
            twice += _two_steps(mr, nv, vectors, s, at) if PAIRED else _step(mr, nv, vectors, s, at)
    once = twice[: len(twice) // 2]
    if turns == 2:
        out += ["    for k in range(0, even, 32):", *(f"        {line}" for line in twice)]
        out += [f"        {p} += {8 * nv * L * 4}" for p in pointers]
        out += ["    if even < whole:", "        k = even"]
    else:
        out += ["    for k in range(0, whole, 16):"]
    out += [f"        {line}" for line in once]
    out += [f"        {p} += {4 * nv * L * 4}" for p in pointers]
    out += ["    if rest:", "        k = whole", *(f"        {line}" for line in load)]
    if PAIRED:
        out += ["        if rest > 1:", *(f"            {line}" for line in _two_steps(mr, nv, vectors, 0, 0))]
        out += [f"            {p} += {2 * nv * L * 4}" for p in pointers]
        out += ["            if rest > 2:", *(f"                {line}" for line in _step(mr, nv, vectors, 2, 0))]
        out += [f"                {p} += {nv * L * 4}" for p in pointers]
        out += ["        else:", *(f"            {line}" for line in _step(mr, nv, vectors, 0, 0))]
        out += [f"            {p} += {nv * L * 4}" for p in pointers]
        return out
    for s in range(3):
        indent = "        " + "    " * (s > 0)
        out += [f"        if rest > {s}:"] * (s > 0)
        out += [f"{indent}{line}" for line in _step(mr, nv, vectors, s, 0)]
        out += [f"{indent}{p} += {nv * L * 4}" for p in pointers]
    return out


def _begin(mr: int, count: int, address: Callable[[int], str]) -> list[str]:
    """Sums that start from the bias."""
    out = []
    for j in range(count):
        if PAIRED:  # a channel has two sums: the bias goes to the first
            out += [f"b = load_i32({address(j)})", f"c0_{j}l, c0_{j}h = spread_low(b), spread_high(b)"]
            out += [f"c{i}_{j}{h} = c0_{j}{h}" for i in range(1, mr) for h in "lh"]
        else:
            out += [f"c0_{j} = load_i32({address(j)})"]
            out += [f"c{i}_{j} = c0_{j}" for i in range(1, mr)]
    return out


def _scaled(mr: int, count: int, address: Callable[[int], str]) -> list[str]:
    """Sums of activations added, and all of it scaled and rounded; c{i}_{j} are the results."""
    out = []
    if PAIRED:
        out += [f"c{i}_{j} = join_pairs(c{i}_{j}l, c{i}_{j}h)" for i in range(mr) for j in range(count)]
    out += ["if sums:"]
    out += [f"    e{i} = splat_i32(i32(sums)[{i}])" for i in range(mr)]
    out += [f"    c{i}_{j} = add_i32(c{i}_{j}, e{i})" for i in range(mr) for j in range(count)]
    for j in range(count):
        out += [f"f = load_f32({address(j)})"]
        out += [f"c{i}_{j} = codes(c{i}_{j}, f)" for i in range(mr)]
    return out


def _stores(fours: list[str], at_once: int, lines: Callable[[bool], list[str]]) -> list[str]:
    """Four vectors at a time to bytes, `q`, and to memory: by `lines(True)` where at least `at_once` channels are left."""
    packed = "cap(pack_codes({}, zero, floor), top)"
    out = [f"if left >= {at_once}:", "    if plain:"]
    for how, at in (("pack_plain({})", "        "), (packed, "        ")):
        out += ["    else:"] * (how == packed)
        for four in fours:
            out += [f"{at}q = {how.format(four)}", *(f"{at}{line}" for line in lines(True))]
    out += ["else:"]
    for four in fours:
        out += [f"    q = {packed.format(four)}", *(f"    {line}" for line in lines(False))]
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
    together += ["else:", *(f"    {line}" for line in apart)]
    return _stores(fours, nv * L, lambda whole: together if whole else apart)


_CONSTANTS = [
    "segments, n_segments, pitch = i64(g[SEGMENTS]), g[N_SEGMENTS], g[Y_PITCH]",
    "even, whole, rest = (g[STEPS] & ~7) * 4, (g[STEPS] & ~3) * 4, g[STEPS] & 3",
    "zero, floor, top = np.int32(g[ZERO_POINT]), np.int32(g[LO]), np.int32(g[HI])",
    "plain = zero == 0 and floor == 0 and top == 255  # as behind a ReLU: saturation is all there is to do",
]


def _straight_ahead(mr: int) -> list[str]:
    """The loop over pixels as far as their addresses are in `rows`; divisions only where a line of the output begins.

    ahead: the next pixel's address; straight: how many lie one step apart from there on.
    """
    return [
        "step, ahead, straight = g[COLUMN], g[X] + lo * g[COLUMN], (hi - lo) * g[LINEAR]",
        "while m < hi:",
        f"    if m > hi - {mr}:  # the last tile steps back so that it is full",
        f"        straight = (straight + m - hi + {mr}) * g[LINEAR]",
        f"        ahead -= (m - hi + {mr}) * step",
        f"        m = hi - {mr}",
        f"    if straight < {mr}:",
        f"        locate(g, rows, m, np.int64({mr}))",
        f"        ahead = rows[{mr - 1}] + step",
        f"        column = (m + {mr}) % g[OUT_W]",
        "        straight = g[OUT_W] - column if column else np.int64(0)",
        "    else:",
        f"        straight -= {mr}",
        *(line for i in range(mr) for line in (f"        rows[{i}] = ahead", "        ahead += step")),
    ]


def _tile(mr: int, nv: int, products: list[str]) -> list[str]:
    """A block's tile, from its bias to its bytes, and on to the next block."""
    return [
        *_begin(mr, nv, lambda j: f"bias + {j * L * 4}"),
        *products,
        *_scaled(mr, nv, lambda j: f"scale + {j * L * 4}"),
        "to = y",
        *_finish(mr, nv),
        f"bias += {nv * L * 4}",
        f"scale += {nv * L * 4}",
        f"y += {nv * L}",
        f"left -= {nv * L}",
    ]


def march_source(nv: int) -> str:
    """The Python text of `march` for tiles of nv vectors."""
    mr, vectors = ROWS[nv], [("w", j) for j in range(nv)]
    tile = _tile(mr, nv, _segments(mr, nv, vectors, lambda i: f"rows[{i}]", 1))
    out = ["def march(g, at, lo, hi, first, last):", *(f"    {line}" for line in _CONSTANTS)]
    out += ["    rows, m, sums, n = i64(at), lo, np.int64(0), first * " + str(nv * L)]
    out += [f"    {line}" for line in _straight_ahead(mr)]
    out += [
        "        if g[ONES]:",
        "            sums = at + SUMMED",
        f"            sum_rows(g, at, np.int64({mr}), sums)",
    ]
    out += ["        w, bias, scale = g[W] + first * g[BLOCK], g[BIAS] + n * 4, g[MULTIPLIER] + n * 4"]
    out += ["        y, left = g[Y] + m * pitch + n, g[N] - n"]
    out += ["        for block in range(first, last):", *(f"            {line}" for line in tile)]
    return "\n".join([*out, f"        m += {mr}"])


ACROSS = words.ACROSS.get(ISA.dot, 4)


def across_source() -> str:
    """The Python text of `across`, for tiles of four vectors."""
    mr, nv = ACROSS, 4
    taps: list[Vectors] = [[(f"w{j}", v) for v in range(nv)] for j in range(3)]
    loop = [f"x{i} = load_ready(q{i} + k)" for i in range(mr + 2)]
    if PAIRED:
        for s in (0, 2):
            loop += _split(mr + 2, s)
            loop += [line for j, vectors in enumerate(taps) for line in _pairs(mr, nv, vectors, s, j)]
    else:
        for j, vectors in enumerate(taps):
            loop += [line for s in range(4) for line in _step(mr, nv, vectors, s, s, j)]
    loop += [f"w{j} += {4 * nv * L * 4}" for j in range(3)]
    products = [
        "for s in range(0, n_segments, 3):",
        "    w0, w1, w2 = w, w + pixel, w + 2 * pixel",
        "    q0 = x + segments[s]",
        *(f"    q{i} = opaque(q{i - 1} + step)" for i in range(1, mr + 2)),
        "    for k in range(0, whole, 16):",
        *(f"        {line}" for line in loop),
        "    w += 3 * pixel",
    ]
    tile = _tile(mr, nv, products)
    out = ["def across(g, at, lo, hi, first, last):", *(f"    {line}" for line in _CONSTANTS)]
    out += ["    rows, m, sums, n = i64(at), lo, np.int64(0), first * " + str(nv * L)]
    out += [f"    step, pixel = g[COLUMN], g[STEPS] * {nv * L * 4}", "    while m < hi:"]
    out += [
        "        locate(g, rows, m, np.int64(1))",
        "        x = rows[0]",
        "        end = min(m - m % g[OUT_W] + g[OUT_W], hi)",
    ]
    out += [f"        while end - m >= {mr}:"]
    out += ["            w, bias, scale = g[W] + first * g[BLOCK], g[BIAS] + n * 4, g[MULTIPLIER] + n * 4"]
    out += ["            y, left = g[Y] + m * pitch + n, g[N] - n"]
    out += ["            for block in range(first, last):", *(f"                {line}" for line in tile)]
    out += [f"            x += {mr} * step", f"            m += {mr}"]
    out += ["        while m < end:", "            alone(g, at, m, first, last)", "            m += 1"]
    return "\n".join(out)


def alone_source(nv: int) -> str:
    """The Python text of `alone` for blocks of nv vectors."""

    one = {4: "store_quad_some(y, q, left)", 2: "store_first_half(y, q, left)", 1: "store_row_0(y, q, left)"}[nv]

    def blocks(count: int) -> list[str]:
        names = [f"w{b}" for b in range(count)]
        vectors = [(name, j) for name in names for j in range(nv)]
        head = ["w0 = w", *(f"w{b} = w{b - 1} + g[BLOCK]" for b in range(1, count))]
        out = [
            *head,
            *_begin(1, count * nv, lambda j: f"bias + {j * L * 4}"),
            *_segments(1, nv, vectors, lambda i: "row", 2),
            *_scaled(1, count * nv, lambda j: f"scale + {j * L * 4}"),
        ]
        for b in range(count):
            four = [f"c0_{b * nv + j}" for j in range(nv)] + ["z"] * (4 - nv)
            out += [f"q = cap(pack_codes({', '.join(four)}, zero, floor), top)"]
            out += [f"if left >= {4 * L}:", "    store(y, q)", "else:"] * (nv == 4)
            out += ["    " * (nv == 4) + one, f"y += {nv * L}", f"left -= {nv * L}"]
        out += [f"bias += {count * nv * L * 4}", f"scale += {count * nv * L * 4}"]
        return [*out, f"w = w{count - 1}"]

    out = ["def alone(g, at, m, first, last):", *(f"    {line}" for line in _CONSTANTS)]
    out += ["    rows, sums, n, z = i64(at), np.int64(0), first * " + str(nv * L) + ", zero_i32()"]
    out += ["    locate(g, rows, m, np.int64(1))", "    row = rows[0]"]
    out += ["    if g[ONES]:", "        sums = at + SUMMED", "        sum_rows(g, at, np.int64(1), sums)"]
    out += ["    w, bias, scale = g[W] + first * g[BLOCK], g[BIAS] + n * 4, g[MULTIPLIER] + n * 4"]
    out += ["    y, left, block = g[Y] + m * pitch + n, g[N] - n, first"]
    for count in ONE_ROW[nv]:
        out += [f"    while block + {count} <= last:", *(f"        {line}" for line in blocks(count))]
        out += [f"        block += {count}"]
    return "\n".join(out)


def _made(name: str, text: str, **others: Any) -> Callable[..., Any]:
    """Compile-ready function `name` of a source; one that is never called elsewhere than on 64-bit ARM."""
    names = (n for n in dir(simd) if not n.startswith("_"))
    namespace: dict[str, Any] = {n: getattr(simd, n) for n in names}
    namespace |= {n: getattr(words, n) for n in dir(words) if n.isupper()}
    namespace |= {"np": np, "i32": i32, "i64": i64, "locate": locate, "SUMMED": SUMMED} | others
    exec(text, namespace)
    compiled: Callable[..., Any] = njit(namespace[name], error_model="numpy", no_cpython_wrapper=True)
    return compiled


def march(nv: int, sum_rows: Any) -> Callable[..., Any]:
    """`march` for tiles of nv vectors. sum_rows(g, rows, count, sums): kernels/conv.py."""
    return _made("march", march_source(nv), sum_rows=sum_rows)


def alone(nv: int, sum_rows: Any) -> Callable[..., Any]:
    """`alone` for blocks of nv vectors."""
    return _made("alone", alone_source(nv), sum_rows=sum_rows)


def across(alone: Any) -> Callable[..., Any]:
    """`across`, for pixels in fours; `alone` takes what a line's end leaves."""
    return _made("across", across_source(), alone=alone)
