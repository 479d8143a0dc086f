"""Layers that remember: LSTM and plain recurrent cells over a sequence, and SVDF. Units are items of the batch.

What the inputs contribute is there already, for all steps at once (kernels/matmul.py); here a step adds what the last output
contributes and turns the gates. Gates lie in the order input, forget, cell, output. Sources: TFLite kernels/lstm_eval.cc,
kernels/internal/reference/svdf.h, kernels/internal/kernel_utils.cc (RnnBatchStep).
"""

from __future__ import annotations

import numpy as np
from numba import njit

from .fixedpoint import clamp, inverse_root, multiply_double, rounding_shift_right, wrap32
from .memory import copy, f32, float_of_bits, i8, i16, i32, i64, u8
from .transcendental import logistic_f32, root, tanh_f32
from .unary import least_and_greatest, quantize_row
from .words.kinds import F32
from .words.recurrent import (
    ACTIVATION,
    BACKWARD,
    BIAS,
    CELL,
    CELL_CLIP,
    CELL_SHIFT,
    CELL_TANH,
    CLIP,
    CLIP_PROJECTION,
    COUPLED,
    GUARD,
    H_MULTIPLIER,
    H_SHIFT,
    H_ZERO,
    HI,
    J_BIAS,
    J_CLIP,
    J_MULTIPLIER,
    J_SHIFT,
    KIND,
    LO,
    M1,
    MEMORY,
    MODE,
    NORM,
    NORM_BIAS,
    NORM_MULTIPLIER,
    NORM_SHIFT,
    NORMS,
    OUT,
    P_MULTIPLIER,
    P_SCALES,
    P_SHIFT,
    P_SUMS,
    PEEP,
    PEEPHOLE,
    PROJECTION,
    PROJECTION_BIAS,
    R_BIAS,
    R_MULTIPLIER,
    R_SCALES,
    R_SHIFT,
    R_SUMS,
    RANK,
    S1,
    SIGMOID,
    STATE,
    TABLES,
    TANH,
    TEMPORARY,
    WEIGHTS,
    X_B,
    X_T,
    Y_B,
    Y_T,
    ZERO_H,
    ZERO_Y,
    N,
    R,
    T,
    X,
    Y,
)


@njit(error_model="numpy")
def activated(kind, x):
    """ActivationFunctionType on float32."""
    if kind == 1:
        return max(x, np.float32(0))
    if kind == 2:
        return min(max(x, np.float32(-1)), np.float32(1))
    if kind == 3:
        return min(max(x, np.float32(0)), np.float32(6))
    return tanh_f32(x) if kind == 4 else x


@njit(error_model="numpy")
def add_product(scratch, z, x, w, scales, sums, codes, mode, k, n):
    """z (n,) += x (k,) · w (k, n), all float32; with scales w is bytes, and x is quantized to `codes` first."""
    if scales == 0:
        for i in range(k):
            a, row = f32(x)[i], f32(w + 4 * i * n)
            for j in range(n):
                f32(z)[j] += a * row[j]
        return
    low, high = least_and_greatest(x, k, scratch)
    if low == high:
        return
    scale, zero = quantize_row(x, codes, k, low, high, mode)
    for j in range(n):
        total = np.int32(0)
        for i in range(k):
            total += np.int32(u8(codes)[i]) * np.int32(i8(w)[i * n + j])
        total -= np.int32(zero) * i32(sums)[j]
        f32(z)[j] += np.float32(np.float32(total) * np.float32(scale * f32(scales)[j]))


@njit(error_model="numpy")
def normalize(z, weights, n):
    """Layer normalization of one gate: (z − mean) / √(variance + 1e-8), times its weights."""
    total, squares = np.float32(0), np.float32(0)
    for j in range(n):
        total += z[j]
        squares += np.float32(z[j] * z[j])
    mean = np.float32(total / np.float32(n))
    variance = np.float32(np.float32(squares / np.float32(n)) - np.float32(mean * mean))
    if variance == np.float32(0):
        variance = np.float32(1e-8)
    inverse = np.float32(np.float32(1) / root(variance))
    for j in range(n):
        z[j] = np.float32(np.float32((z[j] - mean) * inverse) * weights[j])


@njit(error_model="numpy")
def clipped(x, limit):
    """x within ±limit, where a limit is given."""
    return min(max(x, -limit), limit) if limit > 0 else x


@njit(error_model="numpy")
def gate(g, z, k, n):
    """Normalization and bias of gate k, whose n sums begin at z."""
    if g[NORM]:
        normalize(f32(z + 4 * k * n), f32(g[NORM] + 4 * k * n), n)
    if g[BIAS]:
        bias = f32(g[BIAS] + 4 * k * n)
        for j in range(n):
            f32(z + 4 * k * n)[j] += bias[j]


@njit(error_model="numpy")
def look_through(g, z, k, p, cell, n):
    """The peephole of gate k, row p of PEEPHOLE."""
    if g[PEEPHOLE]:
        weights = f32(g[PEEPHOLE] + 4 * p * n)
        for j in range(n):
            f32(z + 4 * k * n)[j] += np.float32(cell[j] * weights[j])


@njit(error_model="numpy")
def lstm_f32(g, scratch, lo, hi):
    """float32 LSTM; weights may be bytes (hybrid). TEMPORARY of an item: 4·N sums, N hidden values, N + OUT codes."""
    n, out = g[N], g[OUT]
    room = 4 * (5 * n) + (n + out + 3) // 4 * 4
    clip, clip_projection = float_of_bits(g[CLIP]), float_of_bits(g[CLIP_PROJECTION])
    for b in range(lo, hi):
        z = g[TEMPORARY] + b * room
        hidden, codes = z + 16 * n, z + 20 * n
        h, cell = g[STATE] + 4 * b * out, f32(g[CELL] + 4 * b * n)
        for step in range(g[T]):
            t = g[T] - 1 - step if g[BACKWARD] else np.int64(step)
            copy(z, g[X] + 4 * (t * g[X_T] + b * g[X_B]), 16 * n)
            add_product(scratch, z, h, g[R], g[R_SCALES], g[R_SUMS], codes, g[MODE], out, 4 * n)
            zi, zf, zc, zo = f32(z), f32(z + 4 * n), f32(z + 8 * n), f32(z + 12 * n)
            if not g[COUPLED]:
                look_through(g, z, np.int64(0), np.int64(0), cell, n)
                gate(g, z, np.int64(0), n)
            look_through(g, z, np.int64(1), np.int64(1), cell, n)
            gate(g, z, np.int64(1), n)
            gate(g, z, np.int64(2), n)
            for j in range(n):
                f = logistic_f32(zf[j])
                i = np.float32(np.float32(1) - f) if g[COUPLED] else logistic_f32(zi[j])
                c = np.float32(np.float32(f * cell[j]) + np.float32(i * activated(g[ACTIVATION], zc[j])))
                cell[j] = clipped(c, clip)
            look_through(g, z, np.int64(3), np.int64(2), cell, n)
            gate(g, z, np.int64(3), n)
            for j in range(n):
                f32(hidden)[j] = np.float32(logistic_f32(zo[j]) * activated(g[ACTIVATION], cell[j]))
            if g[PROJECTION]:
                for j in range(out):
                    f32(h)[j] = f32(g[PROJECTION_BIAS])[j] if g[PROJECTION_BIAS] else np.float32(0)
                add_product(scratch, h, hidden, g[PROJECTION], g[P_SCALES], g[P_SUMS], codes, g[MODE], n, out)
                for j in range(out):
                    f32(h)[j] = clipped(f32(h)[j], clip_projection)
            else:
                copy(h, hidden, 4 * n)
            copy(g[Y] + 4 * (t * g[Y_T] + b * g[Y_B]), h, 4 * out)


@njit(error_model="numpy")
def rnn_f32(g, scratch, lo, hi):
    """h = f(x + h · R), float32; R may be bytes. TEMPORARY of an item: N sums, N codes."""
    n = g[N]
    room = 4 * n + (n + 3) // 4 * 4
    for b in range(lo, hi):
        z, h = g[TEMPORARY] + b * room, g[STATE] + 4 * b * n
        for step in range(g[T]):
            t = g[T] - 1 - step if g[BACKWARD] else np.int64(step)
            copy(z, g[X] + 4 * (t * g[X_T] + b * g[X_B]), 4 * n)
            add_product(scratch, z, h, g[R], g[R_SCALES], g[R_SUMS], z + 4 * n, g[MODE], n, n)
            for j in range(n):
                f32(h)[j] = activated(g[ACTIVATION], f32(z)[j])
            copy(g[Y] + 4 * (t * g[Y_T] + b * g[Y_B]), h, 4 * n)


@njit(error_model="numpy")
def saturate16(x):
    """x clamped to int16."""
    return clamp(x, np.int64(-32768), np.int64(32767))


@njit(error_model="numpy")
def array(tables, k):
    """Where array k of a blob begins, 0 if there is none."""
    at = i64(tables)[k]
    return tables + at if at != 0 else at


@njit(error_model="numpy")
def add_scaled(z, x, w, bias, k, n, pitch, multiplier, shift):
    """int16 z (n,) += (bias + x (k,) uint8 · w (k, pitch)) · multiplier, saturating."""
    for j in range(n):
        total = i32(bias)[j]
        for i in range(k):
            total += np.int32(u8(x)[i]) * np.int32(i8(w)[i * pitch + j])
        q = multiply_double(np.int64(total), multiplier, shift)
        i16(z)[j] = np.int16(saturate16(q + np.int64(i16(z)[j])))


@njit(error_model="numpy")
def peep_s8(tables, z, k, p, cell, n):
    """The peephole of gate k."""
    if array(tables, PEEP):
        w = i16(array(tables, PEEP) + 2 * p * n)
        for j in range(n):
            product = np.int64(w[j]) * np.int64(cell[j])
            q = multiply_double(product, i64(array(tables, P_MULTIPLIER))[p], i64(array(tables, P_SHIFT))[p])
            at = i16(z + 2 * k * n)
            at[j] = np.int16(saturate16(q + np.int64(at[j])))


@njit(error_model="numpy")
def quotient(a, b):
    """a / b towards zero, b above 0."""
    return a // b if a >= 0 else -(-a // b)


@njit(error_model="numpy")
def norm_s8(tables, z, k, n):
    """tensor_utils ApplyLayerNorm on the int16 sums of gate k."""
    if array(tables, NORMS) == 0:
        return
    w, bias, x = i16(array(tables, NORMS) + 2 * k * n), i32(array(tables, NORM_BIAS) + 4 * k * n), i16(z + 2 * k * n)
    total, squares = np.int64(0), np.int64(0)
    for j in range(n):
        total += np.int64(x[j])
        squares += np.int64(x[j]) * np.int64(x[j])
    mean = quotient(total * 1024, n)
    variance = wrap32(quotient(squares * (1048576 // n) - mean * mean, np.int64(1048576)))
    inverse, shift = inverse_root(variance if variance >= 1 else i64(array(tables, GUARD))[k])
    for j in range(n):
        scaled = multiply_double(1024 * np.int64(x[j]) - mean, inverse, -shift)
        v = wrap32(scaled * np.int64(w[j]) + np.int64(bias[j]))
        v = quotient(v + 512 if v > 0 else v - 512, np.int64(1024))
        q = multiply_double(v, i64(array(tables, NORM_MULTIPLIER))[k], i64(array(tables, NORM_SHIFT))[k] + 12)
        x[j] = np.int16(saturate16(q))


@njit(error_model="numpy")
def lstm_s8(g, scratch, lo, hi):
    """8-bit LSTM with a 16-bit cell; X holds the inputs' int16 contributions. TEMPORARY of an item: 4·N int16, N bytes."""
    n, out, tables = g[N], g[OUT], g[TABLES]
    room = 8 * n + (n + 7) // 8 * 8
    sigmoid, tanh, cell_tanh = (
        i16(g[SIGMOID] + 65536),
        i16(g[TANH] + 65536),
        i16(g[CELL_TANH] + 65536),
    )
    down, clip = i64(tables)[CELL_SHIFT], i64(tables)[CELL_CLIP]
    for b in range(lo, hi):
        z = g[TEMPORARY] + b * room
        hidden, h, cell = z + 8 * n, g[STATE] + b * out, i16(g[CELL] + 2 * b * n)
        for step in range(g[T]):
            t = g[T] - 1 - step if g[BACKWARD] else np.int64(step)
            copy(z, g[X] + 2 * (t * g[X_T] + b * g[X_B]), 8 * n)
            for k in range(4):
                add_scaled(
                    z + 2 * k * n, h, g[R] + k * n, array(tables, R_BIAS) + 4 * k * n, out, n, 4 * n,
                    i64(array(tables, R_MULTIPLIER))[k], i64(array(tables, R_SHIFT))[k],
                )  # fmt: skip
            zi, zf, zc, zo = i16(z), i16(z + 2 * n), i16(z + 4 * n), i16(z + 6 * n)
            if not g[COUPLED]:
                peep_s8(tables, z, np.int64(0), np.int64(0), cell, n)
                norm_s8(tables, z, np.int64(0), n)
            peep_s8(tables, z, np.int64(1), np.int64(1), cell, n)
            norm_s8(tables, z, np.int64(1), n)
            norm_s8(tables, z, np.int64(2), n)
            for j in range(n):
                f = np.int64(sigmoid[np.int64(zf[j])])
                i = np.int64(32767) - f if g[COUPLED] else np.int64(sigmoid[np.int64(zi[j])])
                kept = rounding_shift_right(f * np.int64(cell[j]), np.int64(15))
                new = rounding_shift_right(i * np.int64(tanh[np.int64(zc[j])]), down)
                c = saturate16(saturate16(kept) + saturate16(new))
                cell[j] = np.int16(clamp(c, -clip, clip) if clip > 0 else c)
            peep_s8(tables, z, np.int64(3), np.int64(2), cell, n)
            norm_s8(tables, z, np.int64(3), n)
            target = hidden if g[PROJECTION] else h
            for j in range(n):
                p = np.int64(sigmoid[np.int64(zo[j])]) * np.int64(cell_tanh[np.int64(cell[j])])
                q = multiply_double(p, i64(tables)[H_MULTIPLIER], i64(tables)[H_SHIFT]) + i64(tables)[H_ZERO]
                u8(target)[j] = np.uint8(clamp(q, np.int64(0), np.int64(255)))
            if g[PROJECTION]:
                for j in range(out):
                    total = i32(array(tables, J_BIAS))[j]
                    for i in range(n):
                        total += np.int32(u8(hidden)[i]) * np.int32(i8(g[PROJECTION])[i * out + j])
                    q = multiply_double(np.int64(total), i64(tables)[J_MULTIPLIER], i64(tables)[J_SHIFT]) + g[ZERO_H]
                    q = clamp(q, np.int64(0), np.int64(255))
                    if i64(tables)[J_CLIP] > 0:
                        q = clamp(q - 128, -i64(tables)[J_CLIP], i64(tables)[J_CLIP]) + 128
                    u8(h)[j] = np.uint8(q)
            copy(g[Y] + t * g[Y_T] + b * g[Y_B], h, out)


@njit(error_model="numpy")
def svdf(g, scratch, lo, hi):
    """The memory moves on by one, X (batch, N · RANK) is its newest; filters sum it up by WEIGHTS, RANK of them make a unit.

    float32 (KIND F32) with BIAS and ACTIVATION, or int16 memory and weights (PEEPHOLE: int32 bias) to 8 bits.
    """
    n, rank, memory = g[N], g[RANK], g[MEMORY]
    for b in range(lo, hi):
        if g[KIND] == F32:
            for unit in range(n):
                total = np.float32(0)
                for f in range(unit * rank, (unit + 1) * rank):
                    m, w = f32(g[STATE] + 4 * (b * n * rank + f) * memory), f32(g[WEIGHTS] + 4 * f * memory)
                    part = np.float32(0)
                    for i in range(memory - 1):
                        m[i] = m[i + 1]
                    m[memory - 1] = f32(g[X])[b * n * rank + f]
                    for i in range(memory):
                        part += np.float32(m[i] * w[i])
                    total += part
                if g[BIAS]:
                    total += f32(g[BIAS])[unit]
                f32(g[Y])[b * n + unit] = activated(g[ACTIVATION], total)
        else:
            for unit in range(n):
                whole = np.int64(i32(g[PEEPHOLE])[unit])
                for f in range(unit * rank, (unit + 1) * rank):
                    s, v = i16(g[STATE] + 2 * (b * n * rank + f) * memory), i16(g[WEIGHTS] + 2 * f * memory)
                    for i in range(memory - 1):
                        s[i] = s[i + 1]
                    s[memory - 1] = i16(g[X])[b * n * rank + f]
                    for i in range(memory):
                        whole += np.int64(s[i]) * np.int64(v[i])
                q = multiply_double(wrap32(whole), g[M1], g[S1]) + g[ZERO_Y]
                u8(g[Y])[b * n + unit] = np.uint8(clamp(q, g[LO], g[HI]))
