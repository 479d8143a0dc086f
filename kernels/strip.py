"""Strips: pixels that lie one step apart, a whole row of output or of a 1×1 layer, taken tile by tile inside one function.

Where a tile takes its rows' addresses from memory (kernels/tile.py), a strip adds the step to one address: no list of addresses
is made, more rows than there are general registers fit, and what a tile sets up is set up once a strip.

    strip(x, step, count, lines, line, y_line, segments, n_segments, steps, weights, bias, scale, y, pitch, left, lo, hi, zero,
          sums)

`lines` times count pixels (at least a tile's rows) from address x on, `step` bytes apart; from one line to the next `line` bytes
of input and `y_line` of output. sums: an int32 for each pixel, line after line, that is added to each of its channels; 0: none.
The rest is as the fused tile of kernels/tile.py. The last tile of a line steps back so that it is full. Several lines in one
call: setting up and leaving a strip takes as long as a tile. Sums, scaled, fit an int32 (simd.codes).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numba import njit

from . import simd
from .memory import i32
from .simd import ISA, L
from .tile import WIDE
from .words.conv import SHARED_PAIRS_ROWS, STRIP_ROWS

ROWS = STRIP_ROWS[WIDE]
SHARES = WIDE or ISA.dot == "vpdpbusd"  # else widened weights leave too few registers

HEAD = (
    "def strip(x, step, count, lines, line, y_line, segments, n_segments, steps, weights, bias, scale, y, pitch, left,"
    " lo, hi, zero, sums):"
)


def _opening(mr: int, names: list[str], nv: int) -> list[str]:
    """Constants, and a tile's beginning: where it starts, its accumulators."""
    out = [HEAD, "    floor, top, m = np.int32(lo) + zero, np.int32(hi) + zero, np.int64(0)"]
    out += ["    plain = zero == 0 and floor == 0 and top == 255  # as behind a ReLU: saturation is all there is to do"]
    out += [f"    b{j} = load_i32(bias + {j * L * 4})" for j in range(nv)]
    out += [
        "    more = count * 4 if sums else np.int64(0)",
        "    while lines > 0:",
        f"        m = min(m, count - {mr})",
    ]
    out += [f"        {name} = b{name.split('_')[1] if '_' in name else 0}" for name in names]
    out += ["        w, first, to = weights, x + m * step, y + m * pitch"]
    return out


def _each(counter: str, count: str, by: int, body: list[str], indent: str) -> list[str]:
    """A loop that runs once at least. Had it a way around it, LLVM would copy what the sums begin from for that way too."""
    out = [f"{indent}{counter} = np.int64(0)", f"{indent}while True:", *(f"{indent}    {line}" for line in body)]
    return [*out, f"{indent}    {counter} += {by}", f"{indent}    if {counter} >= {count}:", f"{indent}        break"]


def _rows_of_windows(rows: int, step: list[str], after: Sequence[str] = (), by: int = 1) -> list[str]:
    """The loops over segments and steps. step: what is done with the addresses a0, a4, … of every fourth of `rows` pixels."""
    bases = [f"a{i}" for i in range(0, rows, 4)]
    begin = ["a0 = first + segments[s]"]
    begin += [f"{now} = opaque({last} + 4 * step)" for last, now in itertools.pairwise(bases)]
    inner = _each("k", "steps", 1, [*step, *(f"{a} += 4" for a in bases)], "")
    return _each("s", "n_segments", by, [*begin, *inner, *after], "        ")


def _closing(mr: int) -> list[str]:
    """On to the next tile, of the next line where this one is done."""
    out = [f"        m += {mr}", "        if m >= count:"]
    return [*out, "            m, lines, x, y, sums = np.int64(0), lines - 1, x + line, y + y_line, sums + more"]


def _row(i: int) -> str:
    """The address of pixel i, four pixels from one base."""
    return f"a{i // 4 * 4}" + ("", " + step", " + 2 * step", " + 3 * step")[i % 4]


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
    step = [f"w{j} = load_quad(w + {j * L * 4})" for j in vectors]
    for i in rows:
        step += [f"q = broadcast_quad({_row(i)})", *(f"c{i}_{j} = dot_u8s8(c{i}_{j}, q, w{j})" for j in vectors)]
    out += _rows_of_windows(mr, [*step, f"w += {nv * L * 4}"])
    out += _summed([(f"c{i}_{j}", f"splat_i32(i32(sums)[m + {i}])") for i in rows for j in vectors])
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
            out += ["        store_two_rows(to, to + pitch, q, left)", "        to += 2 * pitch"]
    else:
        out += _narrow_stores(mr)
    return "\n".join([*out, *_closing(mr)])


def _summed(added: list[tuple[str, str]]) -> list[str]:
    """Sums of activations added to each accumulator, if there are any."""
    return ["        if sums:", *(f"            {name} = add_i32({name}, {what})" for name, what in added)]


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
    out += [f"        pixel = steps * {L * 4}"]
    step = ["w0, w1, w2 = load_quad(w), load_quad(w + pixel), load_quad(w + 2 * pixel)"]
    for i in range(mr + 2):
        step += [f"q = broadcast_quad({_row(i)})"]
        step += [f"c{i - j}_0 = dot_u8s8(c{i - j}_0, q, w{j})" for j in range(3) if 0 <= i - j < mr]
    out += _rows_of_windows(mr + 2, [*step, f"w += {L * 4}"], ["w += 2 * pixel"], 3)
    out += _summed([(f"c{i}_0", f"splat_i32(i32(sums)[m + {i}])") for i in range(mr)])
    out += ["        f = load_f32(scale)"]
    out += [f"        c{i}_0 = codes(c{i}_0, f)" for i in range(mr)]
    return "\n".join([*out, *_narrow_stores(mr), *_closing(mr)])


def pairs_source(mr: int) -> str:
    """A strip for layers of L/2 channels: a vector holds two neighbouring pixels; outputs follow one another.

    Weights, bias and scale repeat their channels in both halves.
    """
    pairs = range(mr // 2)
    out = _opening(mr, [f"c{i}" for i in pairs], 1)
    step = ["w0, a = load_quad(w), a0"]
    for i in (
        pairs
    ):  # one base moves from four pixels to the next: LLVM would keep sixteen addresses, most of them in memory
        step += ["a = opaque(a + 4 * step)"] if i and i % 2 == 0 else []
        first, second = ("a", "a + step") if i % 2 == 0 else ("a + 2 * step", "a + 3 * step")
        step += [f"c{i} = dot_u8s8(c{i}, broadcast_two({first}, {second}), w0)"]
    out += _rows_of_windows(1, [*step, f"w += {L * 4}"])
    out += _summed([(f"c{i}", f"splat_two(sums + (m + {2 * i}) * 4)") for i in pairs])
    out += ["        f = load_f32(scale)"]
    out += [f"        c{i} = codes(c{i}, f)" for i in pairs]
    for i in range(0, mr // 2, 4):
        out += [*_packed(f"c{i}, c{i + 1}, c{i + 2}, c{i + 3}"), "        store(to, in_rows(q))"]
        out += [f"        to += {4 * L}"]
    return "\n".join([*out, *_closing(mr)])


def shared_pairs_source(mr: int, full: int) -> str:
    """A strip for layers of up to half a vector of channels more than `full` vectors: two pixels share one for what is more.

    Weights, bias and scale repeat these channels. A row is written as if the half were full, before the row behind it is; the
    last one of a tile exactly.
    """
    pairs = range(mr // 2)
    each = [(f"{name}{i}_{j}", j, 2 * i + k) for i in pairs for k, name in enumerate("cd") for j in range(full)]
    both = [(f"m{i}_{full}", full, 2 * i) for i in pairs]
    out = _opening(mr, [name for name, _, _ in each + both], full + 1)
    step = [f"w{j} = load_quad(w + {j * L * 4})" for j in range(full + 1)]
    for i in pairs:
        step += [f"q, r = broadcast_quad({_row(2 * i)}), broadcast_quad({_row(2 * i + 1)})"]
        step += [
            f"{n}{i}_{j} = dot_u8s8({n}{i}_{j}, {x}, w{j})" for n, x in (("c", "q"), ("d", "r")) for j in range(full)
        ]
        step += [f"m{i}_{full} = dot_u8s8(m{i}_{full}, either_half(q, r), w{full})"]
    out += _rows_of_windows(mr, [*step, f"w += {(full + 1) * L * 4}"])
    added = [(name, f"splat_i32(i32(sums)[m + {pixel}])") for name, _, pixel in each]
    out += _summed(added + [(name, f"splat_two(sums + (m + {pixel}) * 4)") for name, _, pixel in both])
    for j in range(full + 1):
        out += [f"        f = load_f32(scale + {j * L * 4})"]
        out += [f"        {name} = codes({name}, f)" for name, at, _ in each + both if at == j]
    if full == 2:  # halves of four pairs fill a vector
        for i in range(0, mr // 2, 4):
            out += _packed(", ".join(name for name, _, _ in both[i : i + 4]))
            out += [f"        store_eighths(to + {2 * i} * pitch + {2 * L}, pitch, in_rows(q), left - {2 * L})"]
    for i in pairs:
        if full == 2:
            out += [*_packed(f"c{i}_0, c{i}_1, d{i}_0, d{i}_1"), "        store_two_rows(to, to + pitch, q, left)"]
        else:
            store = "store_pair_end" if i == mr // 2 - 1 else "store_pair"
            out += [*_packed(f"c{i}_0, m{i}_1, d{i}_0, m{i}_1"), f"        {store}(to, to + pitch, q, left)"]
        out += ["        to += 2 * pitch"]
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
shared_pairs = {
    full: make(shared_pairs_source(rows, full)) if WIDE and L == 16 else pairs
    for full, rows in SHARED_PAIRS_ROWS.items()
}
shared = make(shared_source(ROWS[1])) if SHARES else strip_1
