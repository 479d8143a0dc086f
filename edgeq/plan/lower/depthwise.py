"""DEPTHWISE_CONV_2D: input channels repeated where the multiplier is above one; a single input channel is a plain convolution."""

from __future__ import annotations

import math
from functools import cached_property

import numpy as np

from edgeq.errors import CheckError
from edgeq.graph import Array, Op, Padding, Quantization
from edgeq.kernels.words import depthwise as dw
from edgeq.kernels.words import unary as uw
from edgeq.plan.builder import Builder, itemsize
from edgeq.plan.delegation import takes
from edgeq.plan.lower.conv import dynamic, is_wide, kind_of, product
from edgeq.plan.lower.packing import split_bytes
from edgeq.plan.lower.strips import window_rows
from edgeq.plan.requantize import (
    bias_values,
    float_limits,
    packing_order,
    pad_to,
    requantize_words,
    stays_small,
    weight_scales,
)
from edgeq.plan.types import Lanes, Ref, Words
from edgeq.plan.window import Axis, axis, bordered, copy, image, phased_input
from edgeq.records import dataclass

MAX_REPEATED_BYTES = 1 << 16
"""Weights that may be written out repeatedly so that blocks can hold several pixels' channels."""

FULL = 0.7
"""Share of a block's bytes that a pixel's channels must fill for blocks to begin anew at every pixel."""

MAX_PHASED = 48
"""Channels up to which sorting pixels by phase pays; with more, pixels are runs long enough."""

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
    if kind == "u8" and 1 < c == out_c and columns.stride > 1 and c <= MAX_PHASED and not fills_steps(b, c):
        in_phases(b, op, n, rows, columns, weights.reshape(-1, c))
        return
    source, rows, columns = bordered(b, op, rows, columns)
    if kind == "hybrid":
        hybrid(b, op, source, weights, rows, columns)
        return
    if c == 1:
        place = window_rows(source, n, 1, 1, rows, columns, size)
        filters = weights[0].transpose(2, 0, 1).reshape(out_c, len(place.segments), -1)
        product(b, op, kind, place, filters, slice(0, out_c), b.write(op), 2)
        return
    if out_c != c:
        times, pixels = out_c // c, n * rows.padded * columns.padded
        repeated = b.block(pixels * out_c * size)
        copy(b, source, repeated, (pixels * c, times), (size, 0), (times * size, size), size)
        source = repeated
    taps = [i * o.dilation_h_factor * columns.padded * out_c * size + j * o.dilation_w_factor * out_c * size
            for i in range(kh) for j in range(kw)]  # fmt: skip
    layer = Layer(op, source, n, rows, columns, weights.reshape(len(taps), out_c), tuple(taps), weights_zero(b, op))
    if kind == "f32":
        float_runs(b, layer)
    elif kind == "s16" or not (strided(b, layer) or byte_runs(b, layer)):
        single_pixels(b, layer, kind)


def hybrid(b: Builder, op: Op, source: Ref, weights: Array, rows: Axis, columns: Axis) -> None:
    """depthwise_conv.cc EvalHybridPerChannel: an image's floats to 8 bits at run time, (Σx·w − z·Σw)·(s·s_w) + bias.

    Computed by the float kernels: sums of products of integers below 2^24 are exact in float32.
    """
    from edgeq.plan.lower import compose  # few models need it

    x, w, o = b.tensor(op, 0), b.tensor(op, 1), op.options
    assert o is not None
    n, c, (_, kh, kw, out_c) = x.shape[0], x.shape[3], weights.shape
    if w.quantization is None or np.any(w.quantization.zero_point != 0):
        raise b.unsupported(op, "int8 weights with a zero point other than 0")
    if 255 * int(np.abs(weights.astype(np.int64)).sum(axis=(1, 2)).max()) >= 1 << 24:
        raise b.unsupported(op, f"a window of {kh}×{kw} on quantized weights")
    image_shape, out = (1, rows.padded, columns.padded, c), (1, rows.out, columns.out, out_c)
    scales = compose.constant(b, weight_scales(b, op, w, out_c).astype(np.float32))
    sums = compose.constant(b, weights.sum(axis=(0, 1, 2), dtype=np.int64).astype(np.float32))
    filters = compose.constant(b, weights.astype(np.float32))
    bias = compose.constant(b, bias_values(b, op, 2, out_c, "float32"))
    codes = Quantization(np.ones(1, np.float32), np.zeros(1, np.int64))
    options = {"padding": Padding.VALID, "stride_h": o.stride_h, "stride_w": o.stride_w, "dilation_h_factor": o.dilation_h_factor,
               "dilation_w_factor": o.dilation_w_factor, "depth_multiplier": out_c // c}  # fmt: skip
    target, size = b.write(op), rows.padded * columns.padded * c
    for k in range(n):
        quantized, found = dynamic(b, source.at(4 * k * size), size, uw.ASYMMETRIC)
        bytes_ = compose.placed(b, image_shape, "uint8", quantized, codes)
        scale, zero = compose.placed(b, (1,), "float32", found), compose.placed(b, (1,), "int32", found.at(4))
        image_ = compose.step(b, "DEQUANTIZE", (bytes_,), image_shape)
        products = compose.step(
            b, "DEPTHWISE_CONV_2D", (image_, filters), out, options="DepthwiseConv2DOptions", **options
        )
        zeros = compose.step(b, "CAST", (zero,), (1,))
        less = compose.step(b, "MUL", (zeros, sums), (out_c,), options="MulOptions")
        exact = compose.step(b, "SUB", (products, less), out, options="SubOptions")
        factor = compose.step(b, "MUL", (scale, scales), (out_c,), options="MulOptions")
        real = compose.step(b, "MUL", (exact, factor), out, options="MulOptions")
        y = compose.step(
            b, "ADD", (real, bias), out, options="AddOptions", fused_activation_function=o.fused_activation_function
        )
        pixels = rows.out * columns.out * out_c
        copy(b, b.places[y], target.at(4 * k * pixels), (pixels,), (4,), (4,), 4)


def fills_steps(b: Builder, channels: int) -> bool:
    """Whether a pixel's channels fill vectors of 64-bit ARM well, whose strided kernel then needs no pixels sorted."""
    block = 4 * b.lanes
    return b.isa.by_steps and channels / block >= FULL * -(-channels // block)


@dataclass(frozen=True, eq=False)
class Layer:
    """A depthwise layer whose borders are real: filters (taps, channels) as stored, the taps' byte offsets in a window, and the
    zero point of 8-bit filters."""

    op: Op
    source: Ref
    n: int
    rows: Axis
    columns: Axis
    filters: Array
    taps: tuple[int, ...]
    zero: int = 0

    @cached_property
    def centred(self) -> Array:
        """8-bit filters less their zero point, int32."""
        return self.filters.astype(np.int32) - self.zero

    @cached_property
    def sums(self) -> Array:
        """(channels,) int64: each channel's filter, less its zero point, added up."""
        found: Array = self.centred.sum(axis=0, dtype=np.int64)
        return found

    @property
    def channels(self) -> int:
        """Output channels, which input channels equal."""
        return int(self.filters.shape[1])

    @property
    def macs(self) -> int:
        """Multiply-adds."""
        return self.n * self.rows.out * self.columns.out * self.filters.size

    @property
    def run(self) -> int:
        """Elements that lie together in input and output: a row at stride 1, else a pixel."""
        return self.channels * (self.columns.out if self.columns.stride == 1 else 1)

    @property
    def units(self) -> int:
        """Runs in the output."""
        return self.n * self.rows.out * (1 if self.columns.stride == 1 else self.columns.out)

    def words(self, size: int, per_line: int) -> Words:
        """Where runs lie; `per_line` of them in an output row."""
        line = self.columns.padded * self.channels * size
        return {
            dw.X: self.source, dw.OUT_W: per_line, dw.OUT_HW: self.rows.out * per_line, dw.ROW: self.rows.stride * line,
            dw.COLUMN: self.columns.stride * self.channels * size, dw.IMAGE: self.rows.padded * line,
        }  # fmt: skip

    def period(self, block: int) -> int:
        """Blocks after which channels begin anew, or that a run has."""
        return min(math.lcm(self.channels, block) // block, -(-self.run // block))


def weights_zero(b: Builder, op: Op) -> int:
    """The zero point of a layer's 8-bit weights, as they are stored."""
    w = b.tensor(op, 1)
    return b.zero_point(w) if w.dtype == "uint8" else 0


def folded_bias(b: Builder, layer: Layer, offset: int = 0) -> Array:
    """(channels,) int32: the bias less what the input's zero point adds to every sum, modulo 2^32.

    `offset`: what the kernel takes off each activation (Isa.offset).
    """
    raw = bias_values(b, layer.op, 2, layer.channels, "int32").astype(np.int64)
    folded: Array = raw - (b.zero_point(b.tensor(layer.op, 0)) - offset) * layer.sums
    return folded.astype(np.int32)


def small_sums(b: Builder, layer: Layer) -> bool:
    """See requantize.stays_small."""
    x, w, y = b.tensor(layer.op, 0), b.tensor(layer.op, 1), b.output(layer.op)
    bias = folded_bias(b, layer)
    return stays_small(b, layer.op, x, w, y, len(layer.taps), bias)


def too_long(layer: Layer, period: int, block: int, size: int) -> bool:
    """Whether repeating the weights costs too much memory."""
    repeated = period > -(-layer.channels // block)
    return repeated and period * block * len(layer.taps) * size > MAX_REPEATED_BYTES


def float_runs(b: Builder, layer: Layer) -> None:
    """float32: weights [vector of a place][tap][lanes]; a place is a pixel, or at stride 1 as many as make whole vectors."""
    lanes, channels, run = b.lanes, layer.channels, layer.channels * layer.columns.out
    place = math.lcm(channels, lanes)
    repeated = place * len(layer.taps) * 4 > MAX_REPEATED_BYTES and place > channels
    if layer.columns.stride > 1 or repeated or 2 * place > run:
        place = channels
    starts = np.minimum(np.arange(0, place, lanes), max(place - lanes, 0))
    channel = (starts[:, None] + np.arange(lanes)) % channels  # (vectors, lanes)
    packed = layer.filters.astype(np.float32)[:, channel].transpose(1, 0, 2)
    bias = bias_values(b, layer.op, 2, channels, "float32")[channel]
    taps, n_taps = np.array(layer.taps, np.int64), len(layer.taps)
    square = layer.rows.window == layer.columns.window == 3
    words: Words = layer.words(4, 1) | {
        dw.W: b.constant(packed), dw.BIAS: b.constant(bias), dw.MULTIPLIER: float_limits(b, layer.op), dw.RUN: run,
        dw.ROLL: place, dw.LINE: place * 4 * layer.columns.stride, dw.TAPS: b.constant(taps), dw.N_TAPS: n_taps,
        dw.Y_PITCH: run * 4, dw.Y: b.write(layer.op), dw.FAMILY: int(square),
    }  # fmt: skip
    b.emit("depthwise_f32", layer.n * layer.rows.out, words, macs=layer.macs)


def byte_runs(b: Builder, layer: Layer) -> bool:
    """Emit depthwise_runs or depthwise_rows; False where neither pays.

    Measured per block of four vectors: about as long as two rounds of the plain kernel, which does one vector of a pixel.
    """
    block = 4 * b.lanes
    plain = layer.run // layer.channels * -(-layer.channels // b.lanes)
    filters = layer.centred
    if (
        2 * -(-layer.run // block) > plain
        or too_long(layer, layer.period(block), block, 1)
        or beyond_two_bytes(b, filters)
    ):
        return False
    vertical = layer.rows.stride == 1 and layer.rows.dilation == 1 and layer.columns.stride == 1
    if vertical and layer.rows.out > 1 and small_sums(b, layer):
        two_rows(b, layer, filters)
        return True
    emit_runs(b, layer, filters)
    return True


def beyond_two_bytes(b: Builder, filters: Array) -> bool:
    """Whether some weight is no sum of two bytes that the byte products take."""
    return bool(filters.min() < 2 * b.isa.least_weight or filters.max() > 254)


def emit_runs(b: Builder, layer: Layer, filters: Array) -> None:
    """Emit depthwise_runs: quads of any four taps."""
    split, taps = split_bytes(filters[None], layer.taps, b.isa.least_weight)
    parts = split[0]
    quads = -(-len(taps) // 4)
    full = np.zeros((4 * quads, layer.channels), np.int8)
    full[: len(parts)] = parts
    per_line = 1 if layer.columns.stride == 1 else layer.columns.out
    words: Words = layer.words(1, per_line) | {
        dw.TAPS: b.constant(np.array(taps + taps[-1:] * (4 * quads - len(taps)), np.int64)), dw.N_TAPS: quads,
        dw.RUN: layer.run, dw.Y_PITCH: layer.run,
    }  # fmt: skip
    emit_bytes(b, layer, "depthwise_runs", layer.units, words, full.reshape(quads, 1, 4, -1), filters)


def in_phases(b: Builder, op: Op, n: int, rows: Axis, columns: Axis, filters: Array) -> None:
    """Few channels at a stride: with pixels sorted by phase, a row of output reads runs, as at stride 1."""
    x, s, channels = b.tensor(op, 0), columns.stride, filters.shape[1]
    source, each = phased_input(b, b.read(op, 0), x, rows, columns)
    places = [j * columns.dilation for j in range(columns.window)]
    taps = tuple(
        (i * rows.dilation * s * each + p % s * each + p // s) * channels for i in range(rows.window) for p in places
    )
    line = Axis(s * each, 1, 1, 1, 0, columns.out)
    layer = Layer(op, source, n, rows, line, filters, taps, weights_zero(b, op))
    block = 4 * b.lanes
    if too_long(layer, layer.period(block), block, 1) or beyond_two_bytes(b, layer.centred):
        single_pixels(b, layer, "u8")
    else:
        emit_runs(b, layer, layer.centred)


def strided(b: Builder, layer: Layer) -> bool:
    """Emit depthwise_strided where it applies: 3×3 at horizontal stride 2, channels that fill vectors well."""
    rows, columns, channels, block = layer.rows, layer.columns, layer.channels, 4 * b.lanes
    filters = layer.centred
    if (
        (rows.window, columns.window, columns.stride, columns.dilation) != (3, 3, 2, 1)
        or channels / block < FULL * -(-channels // block)
        or np.abs(filters).max() > 127
        or not small_sums(b, layer)
    ):
        return False
    quads = np.zeros((3, 1, 4, channels), np.int8)
    quads[:, 0, :3] = filters.reshape(3, 3, channels).transpose(1, 0, 2)
    line = columns.padded * channels
    words: Words = layer.words(1, 1) | {
        dw.LINES: rows.out, dw.LINE: rows.dilation * line, dw.COLUMN: channels, dw.ROLL: channels,
        dw.RUN: columns.out * channels, dw.Y_PITCH: columns.out * channels,
    }  # fmt: skip
    if direct(b, layer, filters):
        words, quads = words | {dw.DIRECT: 1}, filters.astype(np.int8)
    emit_bytes(b, layer, "depthwise_strided", layer.n * rows.out, words, quads, filters, True)
    return True


def two_rows(b: Builder, layer: Layer, filters: Array) -> None:
    """Emit depthwise_rows: for each kernel column, quads of rows whose weights come once for each row of output."""
    rows, columns, channels = layer.rows, layer.columns, layer.channels
    kh, kw, block = rows.window, columns.window, 4 * b.lanes
    line, step = columns.padded * channels, columns.dilation * channels
    high = -(-(kh + 1) // 4)
    taps = np.array([min(i, kh) * line + j * step for j in range(kw) for i in range(4 * high)]).reshape(-1, 4)
    low = np.clip(filters, b.isa.least_weight, 127)
    quads, beyond = row_quads(low, kh, kw, high), filters - low
    whole = not beyond.any()
    if not whole:  # as uint8 weights less their zero point may be beyond a signed byte
        rest = row_quads(beyond, kh, kw, high)
        again = np.flatnonzero(rest.any(axis=(1, 2, 3)))
        quads, taps = np.concatenate([quads, rest[again]]), np.concatenate([taps, taps[again]])
    rolls = kh == kw == 3 and whole and channels / block >= FULL * -(-channels // block)
    words: Words = layer.words(1, 1) | {
        dw.TAPS: b.constant(taps.astype(np.int64)), dw.N_TAPS: len(quads), dw.LINES: rows.out,
        dw.COLUMN: step, dw.ROLL: channels if rolls else 0, dw.RUN: columns.out * channels, dw.Y_PITCH: columns.out * channels,
    }  # fmt: skip
    if direct(b, layer, filters):
        words, quads = words | {dw.DIRECT: 1}, filters.astype(np.int8)
    emit_bytes(b, layer, "depthwise_rows", layer.n * rows.out, words, quads, filters, rolls)


def direct(b: Builder, layer: Layer, filters: Array) -> bool:
    """Whether smull multiplies tap by tap (kernels/depthwise_steps.py): 3×3, every weight a byte that it takes."""
    window = layer.rows.window == layer.columns.window == 3
    return b.isa.dot == "smull" and window and bool(np.abs(filters).max() <= 127)


def row_quads(filters: Array, kh: int, kw: int, high: int) -> Array:
    """(taps, channels) → (kw·high, 2, 4, channels) int8: `high` quads of rows for each column, for either row of output."""
    channels = filters.shape[1]
    full = np.zeros((kw, 2, 4 * high, channels), np.int8)
    by_column = filters.reshape(kh, kw, channels).transpose(1, 0, 2)
    full[:, 0, :kh], full[:, 1, 1 : kh + 1] = by_column, by_column
    return full.reshape(kw, 2, high, 4, channels).transpose(0, 2, 1, 3, 4).reshape(kw * high, 2, 4, channels)


def emit_bytes(
    b: Builder,
    layer: Layer,
    kernel: str,
    units: int,
    words: Words,
    quads: Array,
    filters: Array,
    by_pixel: bool = False,
) -> None:
    """Weights (quads, rows of output, 4, channels) int8 into blocks, or (taps, channels) DIRECT ones.

    `by_pixel`: every pixel begins with a new block.
    """
    op, block = layer.op, 4 * b.lanes
    period = -(-layer.channels // block) if by_pixel else layer.period(block)
    channel = (np.arange(period * block) % layer.channels)[packing_order(b.lanes, period)]
    count, outs = quads.shape[:2]
    if words.get(dw.DIRECT):
        packed = quads[:, channel].reshape(count, period, block).transpose(1, 0, 2)
    else:
        packed = quads[..., channel].reshape(count, outs, 4, period, block).transpose(3, 0, 1, 4, 2)
    x, w, y = b.tensor(op, 0), b.tensor(op, 1), b.output(op)
    words |= {
        dw.W: b.constant(packed), dw.BIAS: b.constant(folded_bias(b, layer, b.isa.offset)[channel]), dw.PERIOD: period,
    }  # fmt: skip
    words |= requantize_words(b, op, x, w, y, layer.channels, layer.channels, is_wide(b, op, 2), channel)
    lanes = Lanes(slice(0, layer.channels), layer.channels, channel, len(layer.taps)) if takes(b, op) else None
    b.emit(kernel, units, words | {dw.Y: b.write(op)}, macs=layer.macs, lanes=lanes)


def single_pixels(b: Builder, layer: Layer, kind: str) -> None:
    """A vector of channels of one pixel at a time: int16, and what byte_runs leaves."""
    op, channels = layer.op, layer.channels
    padded = -(-channels // b.lanes) * b.lanes
    if kind == "s16":
        if len(layer.taps) > MAX_TAPS:
            raise b.unsupported(op, f"a window of {len(layer.taps)} taps on int16, at most {MAX_TAPS} are expected")
        bias, filters, size = bias_values(b, op, 2, channels, "int64"), layer.filters.astype(np.int32), 2
    else:
        filters, size = layer.centred, 1
        bias = folded_bias(b, layer)
    full = np.zeros((len(layer.taps), padded), np.int32)
    full[:, :channels] = filters
    words: Words = layer.words(size, layer.columns.out) | {
        dw.W: b.constant(full), dw.BIAS: b.constant(pad_to(bias, padded)), dw.N: channels, dw.Y_PITCH: channels * size,
        dw.TAPS: b.constant(np.array(layer.taps, np.int64)), dw.N_TAPS: len(layer.taps), dw.PADDED_N: padded,
    }  # fmt: skip
    x, w, y = b.tensor(op, 0), b.tensor(op, 1), b.output(op)
    words |= requantize_words(b, op, x, w, y, channels, padded, is_wide(b, op, 2))
    kernel = "depthwise_s16" if kind == "s16" else "depthwise_u8"
    b.emit(kernel, layer.n * layer.rows.out * layer.columns.out, words | {dw.Y: b.write(op)}, macs=layer.macs)


LOWERINGS = {"DEPTHWISE_CONV_2D": depthwise_conv_2d}
