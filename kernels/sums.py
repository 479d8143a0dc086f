"""Sums of rows' activations, times SUM_WEIGHT: what weights with a zero point add to every channel.

    Σx·(w − z) = Σx·(w − 128) + (128 − z)·Σx

On x86 a row's bytes are loaded as they lie, a vector at a time or, where runs are short, a part of one from each of two or four
rows; they are multiplied by ONES and added up in lanes, and the lanes of L rows are folded into a vector of L sums. ONES holds 1
for every byte of a run and 0 behind it: first for whole vectors, then for parts if those are used. Elsewhere a tile multiplies
rows by ONES as if they were the weights of a channel.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit

from . import simd, steps
from .load_store import load_parts
from .memory import i32, i64
from .pieces import R1, u8_1, u8_1s
from .simd import ISA, L
from .words.conv import COLUMN, N_SEGMENTS, ONES, ROW, SEGMENTS, STEPS, SUM_WEIGHT

SHARED = L // 4
"""Rows that share a vector at most: folding adds up within 16 bytes first."""

SUMMED, SUM_ACC = steps.SUMMED, 4096  # scratch: sums of activations; behind them the tile that finds them


def _added(shared: int, rows: list[str], indent: str) -> list[str]:
    """c0 = sums of the bytes at L addresses, `rows`, from each segment on; a vector is shared by so many of them."""
    part, names = 4 * L // shared, [f"c{i}" for i in range(L // shared)]
    bases = [row for row in rows if row.isidentifier()]
    out = [f"{name} = zero_i32()" for name in names]
    out += ["for s in range(n_segments):", "    one, at = ones, segments[s]"]
    out += [f"    {base} = {base.upper()} + at" for base in bases]
    out += ["    for v in range(vectors):", "        w = load_quad(one)"]
    for j, name in enumerate(names):  # lane j of part p will be that of row 4p + j, or of the next four vectors
        taken = [rows[j // 4 * 4 * shared + j % 4 + 4 * k] for k in range(shared)]
        out += [f"        {name} = dot_u8s8({name}, load_{shared}(({', '.join(taken)},)), w)"]
    out += [
        f"        {base} = opaque({base} + {part})" for base in bases
    ]  # else LLVM keeps an address for each row, in memory
    out += [f"        one, at = one + {4 * L}, at + {part}"]
    for fold in ("fold_lanes", "fold_pairs", "fold_parts", "fold_parts"):
        if len(names) > 1:
            out += [f"{a} = {fold}({a}, {b})" for a, b in zip(names[::2], names[1::2], strict=True)]
            names = names[::2]
    return [indent + line for line in out]


def strip_source(shared: int) -> str:
    """The Python text of what adds up L or more pixels of each of some lines, one step apart.

    strip(x, step, count, lines, line, segments, n_segments, vectors, ones, weight, out)
    """
    rows = [f"a{i // 4}" + ("", " + step", " + 2 * step", " + 3 * step")[i % 4] for i in range(L)]
    out = ["def strip(x, step, count, lines, line, segments, n_segments, vectors, ones, weight, out):"]
    out += ["    for _ in range(lines):", "        m = np.int64(0)", "        while m < count:"]
    out += [f"            m = min(m, count - {L})", "            A0 = x + m * step"]
    out += [f"            A{i} = opaque(A{i - 1} + 4 * step)" for i in range(1, L // 4)]
    out += _added(shared, rows, " " * 12)
    out += ["            store(out + m * 4, mul_i32(c0, splat_i32(np.int32(weight))))", f"            m += {L}"]
    return "\n".join([*out, "        x, out = x + line, out + count * 4"])


def rows_source() -> str:
    """The Python text of what adds up L rows, each from its own address: rows(addresses, segments, …, out)."""
    out = ["def rows(addresses, segments, n_segments, vectors, ones, weight, out):"]
    out += _added(1, [f"addresses[{i}] + at" for i in range(L)], "    ")
    return "\n".join([*out, "    store(out, mul_i32(c0, splat_i32(np.int32(weight))))"])


def _made(name: str, text: str) -> Callable[..., Any]:
    names = (n for n in dir(simd) if not n.startswith("_"))
    namespace: dict[str, Any] = {n: getattr(simd, n) for n in names} | {"np": np}
    namespace |= {f"load_{parts}": load for parts, load in load_parts.items()}
    exec(text, namespace)
    compiled: Callable[..., Any] = njit(namespace[name], error_model="numpy", no_cpython_wrapper=True)
    return compiled


_rows = _made("rows", rows_source())
_strip_1 = _made("strip", strip_source(1))
_strip_2 = _made("strip", strip_source(2)) if SHARED >= 2 else _strip_1
_strip_4 = _made("strip", strip_source(4)) if SHARED >= 4 else _strip_2


@njit(error_model="numpy")
def _by_row(g, rows_at, count, sums):
    done, vectors = np.int64(0), (g[STEPS] + L - 1) // L
    while done < count:
        rows = i64(rows_at + done * 8)
        for i in range(count - done, L):  # the scratch has room for L addresses
            rows[i] = rows[0]
        _rows(rows, i64(g[SEGMENTS]), g[N_SEGMENTS], vectors, g[ONES], g[SUM_WEIGHT], sums + done * 4)
        done += L


@njit(error_model="numpy")
def _by_tile(g, rows_at, count, sums):
    segments, acc, done = i64(g[SEGMENTS]), sums + SUM_ACC, np.int64(0)
    while done < count:
        take, rows = np.int64(1), i64(rows_at + done * 8)
        if count - done >= R1:
            take = np.int64(R1)
            u8_1(rows, segments, g[N_SEGMENTS], g[STEPS], g[ONES], acc)
        else:
            u8_1s(rows, segments, g[N_SEGMENTS], g[STEPS], g[ONES], acc)
        for i in range(take):
            i32(sums)[done + i] = i32(acc)[i * L] * np.int32(g[SUM_WEIGHT])
        done += take


sum_rows = _by_row if ISA.adds_rows else _by_tile
"""sum_rows(g, rows_at, count, sums): of `count` rows, whose addresses begin at rows_at, to address `sums`."""


@njit(error_model="numpy")
def _some(g, rows_at, x, count, sums):
    """Up to R1 pixels, or L, that lie one step apart."""
    rows, step = i64(rows_at), g[COLUMN]
    for i in range(count):
        rows[i] = x
        x += step
    sum_rows(g, rows_at, count, sums)


@njit(error_model="numpy")
def _lines_by_row(g, rows_at, x, count, lines, sums):
    if count < L:
        for line in range(lines):
            _some(g, rows_at, x + line * g[ROW], count, sums + line * count * 4)
        return
    step, line, segments, n_segments, ones, weight = (
        g[COLUMN],
        g[ROW],
        i64(g[SEGMENTS]),
        g[N_SEGMENTS],
        g[ONES],
        g[SUM_WEIGHT],
    )
    vectors = (g[STEPS] + L - 1) // L
    if g[STEPS] * 4 <= L and SHARED >= 4:
        _strip_4(x, step, count, lines, line, segments, n_segments, np.int64(1), ones + 4 * L, weight, sums)
    elif g[STEPS] * 2 <= L and SHARED >= 2:
        _strip_2(x, step, count, lines, line, segments, n_segments, np.int64(1), ones + 4 * L, weight, sums)
    else:
        _strip_1(x, step, count, lines, line, segments, n_segments, vectors, ones, weight, sums)


@njit(error_model="numpy")
def _lines_by_tile(g, rows_at, x, count, lines, sums):
    for line in range(lines):
        done = np.int64(0)
        while done < count:
            take = min(np.int64(R1), count - done)
            if take < R1 and count >= R1:
                done, take = count - R1, np.int64(R1)
            _some(g, rows_at, x + line * g[ROW] + done * g[COLUMN], take, sums + (line * count + done) * 4)
            done += take


_lines = _lines_by_row if ISA.adds_rows else _lines_by_tile


@njit(error_model="numpy")
def sum_lines(g, rows_at, x, count, lines):
    """For `lines` of `count` pixels, one step apart from address x on; where the sums are: 0 if the layer needs none."""
    if not g[ONES]:
        return np.int64(0)
    _lines(g, rows_at, x, count, lines, rows_at + SUMMED)
    return rows_at + SUMMED
