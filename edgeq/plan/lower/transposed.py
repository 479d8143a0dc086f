"""TRANSPOSE_CONV: a convolution over the spread-out input, or in float32 of all places of a stride side by side."""

from __future__ import annotations

import numpy as np

from edgeq.errors import CheckError
from edgeq.graph import Array, Op, Tensor
from edgeq.kernels.words import move as mw
from edgeq.plan.builder import Builder, itemsize
from edgeq.plan.lower.conv import kind_of, product
from edgeq.plan.lower.strips import window_rows
from edgeq.plan.requantize import bias_values
from edgeq.plan.types import Ref
from edgeq.plan.window import Axis, axis, copy, fill_value, image, padded_input
from edgeq.records import replace

MOST_PHASES = 16
"""Places in a stride's square up to which a transposed convolution computes them side by side."""


def transpose_conv(b: Builder, op: Op) -> None:
    """Output shape (4,), weights (out_c, kh, kw, in_c), input (n, h, w, in_c), bias: a convolution over the spread-out input.

    The input is written with stride − 1 zeros between its pixels and real borders, then convolved with the flipped kernel.
    """
    x, w, y = b.tensor(op, 2), b.tensor(op, 1), b.output(op)
    weights, shape = b.constant_value(op, 1), np.array(b.output(op).shape, np.int32)
    b.require(op, 0, shape)
    n, h, width, c = image(b, op, x)
    if weights.ndim != 4 or min(weights.shape) < 1 or weights.shape[3] != c or shape.size != 4:
        raise CheckError(f"{b.where(op)}: weights {list(weights.shape)}, output shape of {shape.size} numbers; "
                         f"(out, height, width, {c}) and 4 are expected")  # fmt: skip
    out_c, kh, kw, _ = weights.shape
    o = op.options
    assert o is not None
    out_h, out_w = int(shape[1]), int(shape[2])
    rows = axis(b, op, out_h, kh, o.stride_h, 1, o.padding)
    columns = axis(b, op, out_w, kw, o.stride_w, 1, o.padding)
    if (rows.out, columns.out) != (h, width) or int(shape[0]) != n or int(shape[3]) != out_c:
        raise CheckError(
            f"{b.where(op)}: output shape {shape.tolist()} does not lead back to the input's {list(x.shape)}"
        )
    b.expect_shape(op, (n, out_h, out_w, out_c))
    kind = kind_of(b, op, x, w, y)
    size = itemsize(x)
    if kind == "f32" and 1 < o.stride_h * o.stride_w <= MOST_PHASES:
        in_phases(b, op, weights, rows, columns)
        return
    # Input pixel i contributes to outputs i·stride − before … + k − 1; in the spread image it lies at i·stride + k − 1 − before.
    top, left = kh - 1 - rows.before, kw - 1 - columns.before
    tall, wide = out_h + kh - 1, out_w + kw - 1
    if tall * wide * n * c * size > 1 << 31:
        raise b.unsupported(op, "the spread-out input is larger than 2 GiB")
    spread = b.block(n * tall * wide * c * size)
    b.emit("fill_bytes", n * tall * wide * c * size, {mw.Y: spread, mw.VALUE: fill_value(b, x)})
    line = wide * c * size
    h_in = [i for i in range(h) if 0 <= top + i * o.stride_h < tall]
    w_in = [j for j in range(width) if 0 <= left + j * o.stride_w < wide]
    first = b.read(op, 2).at((h_in[0] * width + w_in[0]) * c * size)
    at = spread.at((top + h_in[0] * o.stride_h) * line + (left + w_in[0] * o.stride_w) * c * size)
    copy(b, first, at, (n, len(h_in), len(w_in)), (h * width * c * size, width * c * size, c * size),
         (tall * line, o.stride_h * line, o.stride_w * c * size), c * size)  # fmt: skip
    place = window_rows(spread, n, c, c, Axis(tall, kh, 1, 1, 0, out_h), Axis(wide, kw, 1, 1, 0, out_w), size)
    flipped = np.ascontiguousarray(weights[:, ::-1, ::-1, :]).reshape(out_c, kh, kw * c)
    product(b, op, kind, place, flipped, slice(0, out_c), b.write(op), 3, x_at=2)


def in_phases(b: Builder, op: Op, weights: Array, rows: Axis, columns: Axis) -> None:
    """TRANSPOSE_CONV in float32: outputs of each place modulo the strides are channels of one plain convolution, then put apart.

    With U = Y + before, output row Y takes taps k = U mod s, + s, … of input rows U // s, − 1, …
    """
    x, y = b.tensor(op, 2), b.output(op)
    out_c, kh, kw, c = weights.shape
    n, sh, sw = x.shape[0], rows.stride, columns.stride
    tall, wide = -(-kh // sh), -(-kw // sw)
    up, across = (
        Axis(
            a.out, t, 1, 1, t - 1 - a.before // a.stride, (a.before + a.size - 1) // a.stride - a.before // a.stride + 1
        )
        for a, t in ((rows, tall), (columns, wide))
    )
    full = np.zeros((out_c, tall * sh, wide * sw, c), np.float32)
    full[:, :kh, :kw] = weights
    parts = full.reshape(out_c, tall, sh, wide, sw, c)[:, ::-1, :, ::-1]  # the window's first row takes the last taps
    filters = np.ascontiguousarray(parts.transpose(2, 4, 0, 1, 3, 5)).reshape(sh * sw * out_c, tall, wide * c)
    bias = np.tile(bias_values(b, op, 3, out_c, "float32"), sh * sw)
    at = len(b.tensors)
    b.tensors += [
        Tensor("bias of all", bias.shape, "float32", bias),
        Tensor("side by side", (n, up.out, across.out, len(filters)), "float32"),
    ]
    whole = replace(op, inputs=(*op.inputs[:3], at), outputs=(at + 1,))
    place = window_rows(padded_input(b, b.read(op, 2), x, up, across), n, c, c, up, across, 4)
    product(b, whole, "f32", place, filters, slice(0, len(filters)), b.write(whole), 3, x_at=2)
    apart(b, b.places[at + 1], b.write(op), y, (sh, sw), (rows.before % sh, columns.before % sw), (up.out, across.out))


def apart(
    b: Builder, x: Ref, y: Ref, t: Tensor, stride: tuple[int, int], skipped: tuple[int, int], blocks: tuple[int, int]
) -> None:
    """Channels (stride, stride, channels) of each block to their pixels of y, less the first `skipped` rows and columns."""
    (n, h, w, c), (sh, sw), (down, across) = t.shape, stride, blocks
    line, of_block = w * c * 4, sh * sw * c * 4
    together = skipped[1] == 0 and across * sw == w  # a block's pixels of a row lie together on both sides
    for i in range(sh):
        row = max(-(-(skipped[0] - i) // sh), 0)  # blocks above whose row i is outside
        rows = -(-(h + skipped[0] - i) // sh) - row
        for j in range(1 if together else sw):
            column = max(-(-(skipped[1] - j) // sw), 0)
            columns = -(-(w + skipped[1] - j) // sw) - column
            run = (sw if together else 1) * c * 4
            source = x.at((row * across + column) * of_block + (i * sw + j) * c * 4)
            to = y.at((row * sh + i - skipped[0]) * line + (column * sw + j - skipped[1]) * c * 4)
            if rows > 0 and columns > 0:
                copy(b, source, to, (n, rows, columns), (down * across * of_block, across * of_block, of_block),
                     (h * line, sh * line, sw * c * 4), run)  # fmt: skip


LOWERINGS = {"TRANSPOSE_CONV": transpose_conv}
