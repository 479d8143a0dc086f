"""DEPTHWISE_CONV_2D: input channels repeated where the multiplier is above one; a single input channel is a plain convolution."""

from __future__ import annotations

import math

import numpy as np

from edgeq.errors import CheckError
from edgeq.graph import Array, Op
from edgeq.kernels.words import depthwise as dw
from edgeq.plan.builder import Builder, itemsize
from edgeq.plan.lower.conv import is_wide, kind_of, product, window_rows
from edgeq.plan.requantize import bias_values, float_limits, packing_order, pad_to, requantize_words
from edgeq.plan.types import Ref, Words
from edgeq.plan.window import Axis, axis, copy, image, padded_input

MAX_REPEATED_BYTES = 1 << 16
"""Weights that may be written out repeatedly so that blocks can hold several pixels' channels."""

MAX_TAPS = 511
"""Taps whose int16 · int8 products surely fit an int32."""


def depthwise_conv_2d(b: Builder, op: Op) -> None:
    """Input (n, h, w, c), weights (1, kh, kw, c · multiplier); output channel k reads input channel k // multiplier."""
    x, w, y = b.tensor(op, 0), b.tensor(op, 1), b.output(op)
    weights = b.constant_value(op, 1)
    n, h, width, c = image(b, op, x)
    if weights.ndim != 4 or weights.shape[0] != 1 or min(weights.shape) < 1 or weights.shape[3] % c:
        raise CheckError(
            f"{b.where(op)}: weights have shape {list(weights.shape)}, (1, height, width, multiple of {c}) is expected"
        )
    _, kh, kw, out_c = weights.shape
    o = op.options
    assert o is not None
    rows = axis(b, op, h, kh, o.stride_h, o.dilation_h_factor, o.padding)
    columns = axis(b, op, width, kw, o.stride_w, o.dilation_w_factor, o.padding)
    b.expect_shape(op, (n, rows.out, columns.out, out_c))
    kind = kind_of(b, op, x, w, y)
    size = itemsize(x)
    source = padded_input(b, b.read(op, 0), x, rows, columns)
    if c == 1:
        place = window_rows(source, n, 1, 1, rows, columns, size)
        product(
            b,
            op,
            kind,
            place,
            weights[0].transpose(2, 0, 1).reshape(out_c, len(place.segments), -1),
            slice(0, out_c),
            b.write(op),
            2,
        )
        return
    if out_c != c:
        times, pixels = out_c // c, n * rows.padded * columns.padded
        repeated = b.block(pixels * out_c * size)
        copy(b, source, repeated, (pixels * c, times), (size, 0), (times * size, size), size)
        source = repeated
    taps = [i * o.dilation_h_factor * columns.padded * out_c * size + j * o.dilation_w_factor * out_c * size
            for i in range(kh) for j in range(kw)]  # fmt: skip
    if kind == "u8" and (runs := as_runs(b, op, source, weights, rows, columns, taps)) is not None:
        units = n * rows.out * (1 if columns.stride == 1 else columns.out)
        macs = n * rows.out * columns.out * out_c * len(taps)
        b.emit("depthwise_runs", units, {**runs, dw.Y: b.write(op)}, macs=macs)
        return
    padded = -(-out_c // b.lanes) * b.lanes
    words: Words = {
        dw.X: source, dw.Y: b.write(op), dw.TAPS: b.constant(np.array(taps, np.int64)), dw.N_TAPS: len(taps),
        dw.OUT_W: columns.out, dw.OUT_HW: rows.out * columns.out, dw.ROW: rows.stride * columns.padded * out_c * size,
        dw.COLUMN: columns.stride * out_c * size, dw.IMAGE: rows.padded * columns.padded * out_c * size,
        dw.N: out_c, dw.Y_PITCH: out_c * size, dw.PADDED_N: padded,
    }  # fmt: skip
    flat = weights.reshape(len(taps), out_c)
    if kind == "f32":
        bias = bias_values(b, op, 2, out_c, "float32")
        words[dw.MULTIPLIER] = float_limits(b, op)
        values: Array = flat.astype(np.float32)
    elif kind == "s16":
        if len(taps) > MAX_TAPS:
            raise b.unsupported(op, f"a window of {len(taps)} taps on int16, at most {MAX_TAPS} are expected")
        bias = bias_values(b, op, 2, out_c, "int64")
        values = flat.astype(np.int32)
    else:
        values = flat.astype(np.int32) - (0 if w.dtype == "int8" else b.zero_point(w))
        raw = bias_values(b, op, 2, out_c, "int32").astype(np.int64)
        bias = (raw - b.zero_point(x) * values.sum(axis=0, dtype=np.int64)).astype(np.int32)
    if kind != "f32":
        words |= requantize_words(b, op, x, w, y, out_c, padded, is_wide(b, op, 2))
    full = np.zeros((len(taps), padded), values.dtype)
    full[:, :out_c] = values
    words[dw.W], words[dw.BIAS] = b.constant(full), b.constant(pad_to(bias, padded))
    pixels = n * rows.out * columns.out
    b.emit(
        {"u8": "depthwise_u8", "s16": "depthwise_s16", "f32": "depthwise_f32"}[kind],
        pixels,
        words,
        macs=pixels * out_c * len(taps),
    )


def as_runs(
    b: Builder, op: Op, source: Ref, weights: Array, rows: Axis, columns: Axis, taps: list[int]
) -> Words | None:
    """Words of depthwise_runs, or None where it does not apply (weights beyond a byte) or does not pay.

    Measured per block of four vectors: about as long as two rounds of the plain kernel, which does one vector of a pixel.
    """
    x, w, y = b.tensor(op, 0), b.tensor(op, 1), b.output(op)
    out_c, block = weights.shape[3], 4 * b.lanes
    flat = weights.reshape(len(taps), out_c).astype(np.int32) - (0 if w.dtype == "int8" else b.zero_point(w))
    if flat.min() < -128 or flat.max() > 127:
        return None
    run = columns.out * out_c if columns.stride == 1 else out_c
    blocks = -(-run // block)
    plain = run // out_c * -(-out_c // b.lanes)
    if 2 * blocks > plain:
        return None
    period = min(math.lcm(out_c, block) // block, blocks)
    if period * block * len(taps) > MAX_REPEATED_BYTES and period > -(-out_c // block):
        return None
    channel = (np.arange(period * block) % out_c)[packing_order(b.lanes, period)]
    quads = -(-len(taps) // 4)
    full = np.zeros((4 * quads, out_c), np.int8)
    full[: len(taps)] = flat
    packed = full[:, channel].reshape(quads, 4, period, block).transpose(2, 0, 3, 1)
    raw = bias_values(b, op, 2, out_c, "int32").astype(np.int64)
    bias = (raw - b.zero_point(x) * flat.sum(axis=0, dtype=np.int64)).astype(np.int32)
    line = columns.padded * out_c
    words: Words = {
        dw.X: source, dw.W: b.constant(packed), dw.BIAS: b.constant(bias[channel]), dw.N_TAPS: quads,
        dw.TAPS: b.constant(np.array(taps + [taps[-1]] * (4 * quads - len(taps)), np.int64)), dw.RUN: run, dw.PERIOD: period,
        dw.OUT_W: 1 if columns.stride == 1 else columns.out, dw.OUT_HW: rows.out * (1 if columns.stride == 1 else columns.out),
        dw.ROW: rows.stride * line, dw.COLUMN: columns.stride * out_c, dw.IMAGE: rows.padded * line, dw.Y_PITCH: run,
    }  # fmt: skip
    return words | requantize_words(b, op, x, w, y, out_c, out_c, is_wide(b, op, 2), channel)


LOWERINGS = {"DEPTHWISE_CONV_2D": depthwise_conv_2d}
