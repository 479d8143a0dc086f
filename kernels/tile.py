"""Register tiles: MR rows by NV vectors of accumulators, generated from one description.

A tile multiplies MR rows of activations by a packed block of weights. A row is a list of segments, runs of bytes that lie
together in the input (a whole pixel for 1×1, kw pixels for k×k), so no im2col copy exists: the tile walks `n_segments` offsets,
the same for every row, from each row's own address.

    tile(rows, segments, n_segments, steps, weights, out)

rows: pointer to MR addresses; segments: pointer to byte offsets; steps: k-steps in a segment; weights: address of
[segment][step][NV·L lanes][k within step]; out: address of int32 [MR][NV·L], overwritten.

A k-step is four bytes ("u8": u8·s8), two int16 ("s16"), or one float32 (the float tile). A row may be read up to one step past a
segment's end: the weights there are zero, and the arena has room behind its last tensor.

"u8sum" also adds up each row's activations, for weights with a zero point (uint8 models): the sums follow the tile in `out`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit

from . import simd
from .memory import i32
from .simd import L
from .words.conv import TILE_ROWS

_KINDS = {  # loads of a weight vector and an activation broadcast, the multiply-add, bytes of activation per step
    "u8": ("load_quad", "broadcast_quad", "dot_u8s8", "zero_i32", 4),
    "u8sum": ("load_quad", "broadcast_quad", "dot_any", "zero_i32", 4),
    "s16": ("load_pair", "broadcast_pair", "dot_s16", "zero_i32", 4),
}


def source(kind: str, mr: int, nv: int) -> str:
    """The Python text of one tile."""
    load, broadcast, dot, zero, step = _KINDS[kind]
    rows, vectors = range(mr), range(nv)
    sums = kind == "u8sum"
    out = ["def tile(rows, segments, n_segments, steps, weights, out):"]
    out += [f"    c{i}_{j} = {zero}()" for i in rows for j in vectors]
    if sums:
        out += [f"    s{i} = {zero}()" for i in rows] + ["    ones = ones_quad()"]
    out += ["    for s in range(n_segments):", "        at = segments[s]"]
    out += [f"        r{i} = rows[{i}] + at" for i in rows]
    out += steps_of_four(mr, nv) if kind == "u8" else ["        for k in range(steps):"]
    out += [f"            w{j} = {load}(weights + {j * L * 4})" for j in vectors]
    for i in rows:
        out += [f"            x = {broadcast}(r{i} + k * {step})"]
        out += [f"            c{i}_{j} = {dot}(c{i}_{j}, x, w{j})" for j in vectors]
        if sums:
            out += [f"            s{i} = {dot}(s{i}, x, ones)"]
    out += [f"            weights += {nv * L * 4}"]
    out += [f"    store(out + {(i * nv + j) * L * 4}, c{i}_{j})" for i in rows for j in vectors]
    if sums:
        out += [f"    store(out + {(mr * nv + i) * L * 4}, s{i})" for i in rows]
    return "\n".join(out)


def steps_of_four(mr: int, nv: int) -> list[str]:
    """The loop over a segment's byte steps as far as they go four at a time, and the head of the loop over the others.

    Where an instruction multiplies by a lane (sdot by element), a row's 16 bytes are loaded once for four steps.
    """
    if not simd.ISA.by_steps:
        return ["        for k in range(steps):"]
    out = ["        for k in range(0, steps - 3, 4):"]
    out += [f"            x{i} = load_ready(r{i} + k * 4)" for i in range(mr)]
    for s in range(4):
        for j in range(nv):
            out += [f"            w = load_quad(weights + {(s * nv + j) * L * 4})"]
            out += [f"            c{i}_{j} = dot_step{s}(c{i}_{j}, x{i}, w)" for i in range(mr)]
    return [*out, f"            weights += {4 * nv * L * 4}", "        for k in range(steps & ~3, steps):"]


def fused_source(mr: int, nv: int) -> str:
    """The Python text of a u8 tile that requantizes in its registers and stores bytes.

        tile(rows, segments, n_segments, steps, weights, bias, scale, y, pitch, left, lo, hi, zero, sums)

    The sums start from the bias; `sums`, if not 0, is the address of an int32 more for each row. y: address of the first output;
    pitch: bytes from row to row; left: channels that exist from here on; lo, hi: float32 clamps less the zero point; zero: the
    zero point.
    """
    rows, vectors = range(mr), range(nv)
    out = ["def tile(rows, segments, n_segments, steps, weights, bias, scale, y, pitch, left, lo, hi, zero, sums):"]
    out += [f"    c0_{j} = load_i32(bias + {j * L * 4})" for j in vectors]
    out += [f"    c{i}_{j} = c0_{j}" for i in rows if i for j in vectors]
    chains = CHAINS // nv if mr == 1 else 1
    out += [f"    d{h}_{j} = zero_i32()" for h in range(1, chains) for j in vectors]
    out += ["    for s in range(n_segments):", "        at = segments[s]"]
    out += [f"        r{i} = rows[{i}] + at" for i in rows]
    if mr == 1:
        out += _one_row(nv, chains)
    else:
        out += ["        for k in range(steps):"]
        out += [f"            w{j} = load_quad(weights + {j * L * 4})" for j in vectors]
        for i in rows:
            out += [f"            x = broadcast_quad(r{i} + k * 4)"]
            out += [f"            c{i}_{j} = dot_u8s8(c{i}_{j}, x, w{j})" for j in vectors]
        out += [f"            weights += {nv * L * 4}"]
    out += [f"    c0_{j} = add_i32(c0_{j}, d{h}_{j})" for h in range(1, chains) for j in vectors]
    out += ["    if sums:"]
    out += [f"        c{i}_{j} = add_i32(c{i}_{j}, splat_i32(i32(sums)[{i}]))" for i in rows for j in vectors]
    out += ["    low, high, z = splat_f32(lo), splat_f32(hi), splat_i32(zero)", "    floor = np.int32(lo) + zero"]
    if nv >= 2:  # vectors of a row, or of two, become one of bytes: the plan has ordered the channels for that
        for j in vectors:
            out += [f"    f = load_f32(scale + {j * L * 4})"]
            out += [f"    c{i}_{j} = scaled_codes(c{i}_{j}, f, high)" for i in rows]
    if nv == 4:
        for i in rows:
            out += [f"    q{i} = pack_codes(c{i}_0, c{i}_1, c{i}_2, c{i}_3, zero, floor)"]
        out += [f"    if left >= {4 * L}:"]
        out += [f"        store(y + {i} * pitch, q{i})" for i in rows]
        out += ["    else:"]
        out += [f"        store_quad_some(y + {i} * pitch, q{i}, left)" for i in rows]
        return "\n".join(out)
    if nv == 2:
        for i in range(0, mr, 2):
            k = min(i + 1, mr - 1)
            out += [f"    q = pack_codes(c{i}_0, c{i}_1, c{k}_0, c{k}_1, zero, floor)"]
            out += [f"    store_first_half(y + {i} * pitch, q, left)"]
            out += [f"    store_second_half(y + {k} * pitch, q, left)"] if k > i else []
        return "\n".join(out)
    for j in vectors:
        out += [f"    f = load_f32(scale + {j * L * 4})"]
        out += [f"    c{i}_{j} = add_i32(scale_to_i32(c{i}_{j}, f, low, high), z)" for i in rows]
        out += [f"    if left >= {(j + 1) * L}:"]
        out += [f"        store_u8(y + {i} * pitch + {j * L}, c{i}_{j})" for i in rows]
        out += [f"    elif left > {j * L}:"]
        out += [f"        store_u8_some(y + {i} * pitch + {j * L}, c{i}_{j}, left - {j * L})" for i in rows]
    return "\n".join(out)


CHAINS = 8
"""Accumulators of a single row, which waits for each product's result otherwise."""


def _one_row(nv: int, chains: int) -> list[str]:
    """The k-steps of a single row, `chains` of them at a time, each with accumulators of its own."""
    step = nv * L * 4
    out = [f"        for k in range(0, steps - {chains - 1}, {chains}):"]
    for h in range(chains):
        out += [f"            x = broadcast_quad(r0 + k * 4 + {4 * h})"]
        names = [f"{f'd{h}' if h else 'c0'}_{j}" for j in range(nv)]
        out += [
            f"            {n} = dot_u8s8({n}, x, load_quad(weights + {h * step + j * L * 4}))"
            for j, n in enumerate(names)
        ]
    out += [f"            weights += {chains * step}"]
    out += [
        f"        for k in range(steps // {chains} * {chains}, steps):",
        "            x = broadcast_quad(r0 + k * 4)",
    ]
    out += [f"            c0_{j} = dot_u8s8(c0_{j}, x, load_quad(weights + {j * L * 4}))" for j in range(nv)]
    return [*out, f"            weights += {step}"]


def pairs_source(mr: int) -> str:
    """The Python text of a tile for layers of L/2 channels: a vector holds two neighbouring rows, mr of them in all.

        tile(rows, segments, n_segments, steps, weights, bias, scale, y, lo, hi, zero)

    Weights, bias and scale repeat their channels in both halves; outputs follow one another without gaps.
    """
    pairs = range(mr // 2)
    out = [
        "def tile(rows, segments, n_segments, steps, weights, bias, scale, y, lo, hi, zero):",
        "    c0 = load_i32(bias)",
    ]
    out += [f"    c{i} = c0" for i in pairs if i]
    out += ["    for s in range(n_segments):", "        at = segments[s]"]
    out += [f"        r{i} = rows[{i}] + at" for i in range(mr)]
    out += ["        for k in range(steps):", "            w = load_quad(weights)"]
    for i in pairs:
        out += [f"            c{i} = dot_u8s8(c{i}, broadcast_two(r{2 * i} + k * 4, r{2 * i + 1} + k * 4), w)"]
    out += [f"            weights += {L * 4}"]
    out += ["    low, high, z, f = splat_f32(lo), splat_f32(hi), splat_i32(zero), load_f32(scale)"]
    out += [f"    store_u8(y + {i * L}, add_i32(scale_to_i32(c{i}, f, low, high), z))" for i in pairs]
    return "\n".join(out)


def fused_f32_source(mr: int, nv: int) -> str:
    """The Python text of a float32 tile that starts from the bias, clamps and stores.

        tile(rows, segments, n_segments, steps, weights, bias, y, pitch, left, lo, hi)

    As fused_source, without requantization; lo and hi are the clamps.
    """
    rows, vectors = range(mr), range(nv)
    out = ["def tile(rows, segments, n_segments, steps, weights, bias, y, pitch, left, lo, hi):"]
    out += [f"    c0_{j} = load_f32(bias + {j * L * 4})" for j in vectors]
    out += [f"    c{i}_{j} = c0_{j}" for i in rows if i for j in vectors]
    out += ["    for s in range(n_segments):", "        at = segments[s]"]
    out += [f"        r{i} = rows[{i}] + at" for i in rows]
    out += ["        for k in range(steps):"]
    out += [f"            w{j} = load_f32(weights + {j * L * 4})" for j in vectors]
    for i in rows:
        out += [f"            x = broadcast_f32(r{i} + k * 4)"]
        out += [f"            c{i}_{j} = fma(c{i}_{j}, x, w{j})" for j in vectors]
    out += [f"            weights += {nv * L * 4}"]
    out += ["    low, high = splat_f32(lo), splat_f32(hi)"]
    out += [f"    c{i}_{j} = clamp_f32(c{i}_{j}, low, high)" for i in rows for j in vectors]
    for j in vectors:
        out += [f"    if left >= {(j + 1) * L}:"]
        out += [f"        store(y + {i} * pitch + {j * L * 4}, c{i}_{j})" for i in rows]
        out += [f"    elif left > {j * L}:"]
        out += [f"        store_f32_some(y + {i} * pitch + {j * L * 4}, c{i}_{j}, left - {j * L})" for i in rows]
    return "\n".join(out)


def make(kind: str, mr: int, nv: int) -> Callable[..., Any]:
    """Compile-ready tile of `kind` ("u8fused", "pairs" and "f32" are those that store results) with mr rows and nv vectors."""
    names = (n for n in dir(simd) if not n.startswith("_"))
    namespace: dict[str, Any] = {n: getattr(simd, n) for n in names} | {"np": np, "i32": i32}
    sources = {"u8fused": fused_source, "f32": fused_f32_source, "pairs": lambda mr, nv: pairs_source(mr)}
    exec(sources[kind](mr, nv) if kind in sources else source(kind, mr, nv), namespace)
    compiled: Callable[..., Any] = njit(namespace["tile"], error_model="numpy", no_cpython_wrapper=True)
    return compiled


WIDE = simd.ISA.registers >= 32
SHAPES = TILE_ROWS[WIDE] | simd.ISA.own_rows
"""NV → MR."""
SHAPES_SUM = {4: 5 if WIDE else 2}
