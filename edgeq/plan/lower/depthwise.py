"""DEPTHWISE_CONV_2D: input channels repeated where the multiplier is above one; a single input channel is a plain convolution."""

from __future__ import annotations

import numpy as np

from edgeq.errors import CheckError
from edgeq.graph import Array, Op
from edgeq.kernels.words import depthwise as dw
from edgeq.plan.builder import Builder, itemsize
from edgeq.plan.lower.conv import is_wide, kind_of, product, window_rows
from edgeq.plan.requantize import bias_values, float_limits, pad_to, requantize_words
from edgeq.plan.types import Words
from edgeq.plan.window import axis, copy, image, padded_input

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


LOWERINGS = {"DEPTHWISE_CONV_2D": depthwise_conv_2d}
