"""Strips: pixels that lie one step apart, a whole row of output or of a 1×1 layer, taken tile by tile inside one function.

Where a tile takes its rows' addresses from memory (kernels/tile.py), a strip adds the step to one address: no list of addresses
is made, more rows than there are general registers fit, and what a tile sets up is set up once a strip.

    strip(x, step, count, lines, line, y_line, segments, n_segments, steps, weights, bias, scale, y, pitch, left, lo, hi, zero, sums)

`lines` times count pixels (at least a tile's rows) from address x on, `step` bytes apart; from one line to the next `line` bytes
of input and `y_line` of output. The rest is as the fused tile of kernels/tile.py. The last tile of a line steps back so that it is
full. Several lines in one call: setting up and leaving a strip takes as long as a tile. Sums, scaled, fit an int32 (simd.codes).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit

from . import simd
from .memory import i32
from .simd import ISA, L
from .tile import WIDE
from .words.conv import STRIP_ROWS

ROWS = STRIP_ROWS[WIDE]
SHARES = WIDE or ISA.dot == "vpdpbusd"  # else widened weights leave too few registers

_HEAD = (
    "def strip(x, step, count, lines, line, y_line, segments, n_segments, steps, weights, bias, scale, y, pitch, left,"
    " lo, hi, zero, sums):"
)


def _opening(mr: int, names: list[str], nv: int) -> list[str]:
    """Constants, and a tile's beginning: where it starts, its accumulators."""
    out = [_HEAD, "    floor, top, m = np.int32(lo) + zero, np.int32(hi) + zero, np.int64(0)"]
    out += ["    plain = zero == 0 and floor == 0 and top == 255  # as behind a ReLU: saturation is all there is to do"]
    out += [f"    b{j} = load_i32(bias + {j * L * 4})" for j in range(nv)]
    out += ["    while lines > 0:", f"        m = min(m, count - {mr})"]
    out += [f"        {name} = b{name.split('_')[1] if '_' in name else 0}" for name in names]
    out += ["        w, first, to = weights, x + m * step, y + m * pitch"]
    out += ["        for s in range(n_segments):", "            p = first + segments[s]"]
    return out


def _closing(mr: int) -> list[str]:
    """On to the next tile, of the next line where this one is done."""
    out = [f"        m += {mr}", "        if m >= count:"]
    return [*out, "            m, lines, x, y = np.int64(0), lines - 1, x + line, y + y_line"]


def _rows(count: int) -> list[tuple[str, str]]:
    """For each row: a statement that comes before (or ""), and its address, four rows from one base."""
    found = []
    for i in range(count):
        before = "a = p" if i == 0 else "a = opaque(a + 4 * step)" if i % 4 == 0 else ""
        found.append((before, ("a", "a + step", "a + 2 * step", "a + 3 * step")[i % 4]))
    return found


def _packed(four: str) -> list[str]:
    """Four vectors of rounded products to bytes."""
    return [
        "        if plain:",
        f"            q = pack_plain({four})",
        "        else:",
        f"            q = cap(pack_codes({four}, zero, floor), top)",
    ]


def strip_source(mr: int, nv: int) -> str:
    """The Python text of a strip of tiles with mr rows and nv vectors."""
    rows, vectors = range(mr), range(nv)
    out = _opening(mr, [f"c{i}_{j}" for i in rows for j in vectors], nv)
    out += ["            for k in range(steps):"]
    out += [f"                w{j} = load_quad(w + {j * L * 4})" for j in vectors]
    for i, (before, address) in enumerate(_rows(mr)):
        out += [f"                {before}"] if before else []
        out += [f"                q = broadcast_quad({address})"]
        out += [f"                c{i}_{j} = dot_u8s8(c{i}_{j}, q, w{j})" for j in vectors]
    out += ["                p += 4", f"                w += {nv * L * 4}", "        if sums:"]
    out += [f"            c{i}_{j} = add_i32(c{i}_{j}, splat_i32(i32(sums)[m + {i}]))" for i in rows for j in vectors]
    for j in vectors:
        out += [f"        f = load_f32(scale + {j * L * 4})"]
        out += [f"        c{i}_{j} = codes(c{i}_{j}, f)" for i in rows]
    if nv == 4:
        for i in rows:
            out += _packed(f"c{i}_0, c{i}_1, c{i}_2, c{i}_3")
            out += [f"        if left >= {4 * L}:", "            store(to, q)"]
            out += ["        else:", "            store_quad_some(to, q, left)", "        to += pitch"]
    elif nv == 2:
        for i in range(0, mr, 2):
            out += _packed(f"c{i}_0, c{i}_1, c{i + 1}_0, c{i + 1}_1")
            out += ["        store_first_half(to, q, left)", "        store_second_half(to + pitch, q, left)"]
            out += ["        to += 2 * pitch"]
    else:
        out += _narrow_stores(mr)
    return "\n".join([*out, *_closing(mr)])


def _narrow_stores(mr: int) -> list[str]:
    """One vector of channels: four rows become one vector of bytes, in one piece where outputs follow one another."""
    out = []
    for i in range(0, mr, 4):
        out += [*_packed(f"c{i}_0, c{i + 1}_0, c{i + 2}_0, c{i + 3}_0"), "        q = in_rows(q)"]
        out += [f"        if pitch == {L} and left >= {L}:", "            store(to, q)"]
        out += ["        else:"]
        out += [f"            store_row_{r}(to + {r} * pitch, q, left)" for r in range(4)]
        out += ["        to += 4 * pitch"]
    return out


def shared_source(mr: int) -> str:
    """A strip for windows three pixels wide at stride 1, one vector of channels; a segment is a pixel.

    A pixel is loaded once for the three outputs whose windows it is in; loads, not products, limit the plain strip.
    """
    out = _opening(mr, [f"c{i}_0" for i in range(mr)], 1)
    out[-2:] = ["        for s in range(0, n_segments, 3):", "            p = first + segments[s]"]
    out += [f"            pixel = steps * {L * 4}", "            for k in range(steps):"]
    out += ["                w0, w1, w2 = load_quad(w), load_quad(w + pixel), load_quad(w + 2 * pixel)"]
    for i, (before, address) in enumerate(_rows(mr + 2)):
        out += [f"                {before}"] if before else []
        out += [f"                q = broadcast_quad({address})"]
        out += [f"                c{i - j}_0 = dot_u8s8(c{i - j}_0, q, w{j})" for j in range(3) if 0 <= i - j < mr]
    out += ["                p += 4", f"                w += {L * 4}", "            w += 2 * pixel"]
    out += ["        f = load_f32(scale)"]
    out += [f"        c{i}_0 = codes(c{i}_0, f)" for i in range(mr)]
    return "\n".join([*out, *_narrow_stores(mr), *_closing(mr)])


def pairs_source(mr: int) -> str:
    """A strip for layers of L/2 channels: a vector holds two neighbouring pixels; outputs follow one another.

    Weights, bias and scale repeat their channels in both halves.
    """
    pairs = range(mr // 2)
    out = _opening(mr, [f"c{i}" for i in pairs], 1)
    out += ["            for k in range(steps):", "                w0 = load_quad(w)"]
    for i in pairs:
        before = "a = p" if i == 0 else "a = opaque(a + 4 * step)" if i % 2 == 0 else ""
        first, second = ("a", "a + step") if i % 2 == 0 else ("a + 2 * step", "a + 3 * step")
        out += [f"                {before}"] if before else []
        out += [f"                c{i} = dot_u8s8(c{i}, broadcast_two({first}, {second}), w0)"]
    out += ["                p += 4", f"                w += {L * 4}"]
    out += ["        f = load_f32(scale)"]
    out += [f"        c{i} = codes(c{i}, f)" for i in pairs]
    for i in range(0, mr // 2, 4):
        out += [*_packed(f"c{i}, c{i + 1}, c{i + 2}, c{i + 3}"), "        store(to, in_rows(q))"]
        out += [f"        to += {4 * L}"]
    return "\n".join([*out, *_closing(mr)])


def make(source: str) -> Callable[..., Any]:
    """Compile-ready strip."""
    names = (n for n in dir(simd) if not n.startswith("_"))
    namespace: dict[str, Any] = {n: getattr(simd, n) for n in names} | {"np": np, "i32": i32}
    exec(source, namespace)
    compiled: Callable[..., Any] = njit(namespace["strip"], error_model="numpy", no_cpython_wrapper=True)
    return compiled


strip_4, strip_2, strip_1 = (make(strip_source(ROWS[nv], nv)) for nv in (4, 2, 1))
pairs = make(pairs_source(ROWS[1]))
shared = make(shared_source(ROWS[1])) if SHARES else strip_1
