"""CONV_2D and FULLY_CONNECTED: weights packed for the tile, borders made real, zero points folded away."""

from __future__ import annotations

import numpy as np

from edgeq.errors import CheckError
from edgeq.graph import Array, Op, Tensor
from edgeq.kernels.words import conv as cw
from edgeq.kernels.words import move as mw
from edgeq.kernels.words import unary as uw
from edgeq.kernels.words.instruction import FLOAT
from edgeq.plan.builder import Builder, itemsize
from edgeq.plan.delegation import takes
from edgeq.plan.frames import framed
from edgeq.plan.lower.matmul import computed_weights
from edgeq.plan.lower.packing import (
    PER_STEP,
    by_pixel,
    in_blocks,
    joined_groups,
    of_steps,
    ones,
    pack,
    side_by_side,
    split_bytes,
    split_runs,
    vectors,
)
from edgeq.plan.lower.steps import step_words, way
from edgeq.plan.lower.strips import (
    FEWEST_PIXELS,
    Rows,
    by_block,
    float_line_words,
    in_strips,
    leaves_one,
    line_words,
    strip_words,
    window_rows,
)
from edgeq.plan.requantize import (
    bias_values,
    float_limits,
    ordered,
    packing_order,
    pad_to,
    requantize_words,
    stays_small,
    weight_scales,
)
from edgeq.plan.types import Lanes, Ref, Words
from edgeq.plan.window import Axis, axis, bordered, columns_input, image
from edgeq.records import replace


def kind_of(b: Builder, op: Op, x: Tensor, w: Tensor, y: Tensor) -> str:
    """Which kernel family the types ask for."""
    kinds = {
        ("float32", "float32", "float32"): "f32",
        ("int8", "int8", "int8"): "u8",
        ("uint8", "uint8", "uint8"): "u8",
        ("int16", "int8", "int16"): "s16",
        ("float32", "int8", "float32"): "hybrid",
    }
    kind = kinds.get((x.dtype, w.dtype, y.dtype))
    if kind is None:
        raise b.unsupported(
            op, f"input {x.dtype}, weights {w.dtype}, output {y.dtype} is no combination that edgeq runs"
        )
    return kind


def conv_2d(b: Builder, op: Op) -> None:
    """Input (n, h, w, in_c), weights (out_c, kh, kw, in_c / groups), bias (out_c,)."""
    x, w, y = b.tensor(op, 0), b.tensor(op, 1), b.output(op)
    weights = b.constant_value(op, 1)
    n, h, width, c = image(b, op, x)
    if weights.ndim != 4 or min(weights.shape) < 1:
        raise CheckError(
            f"{b.where(op)}: weights have shape {list(weights.shape)}, (out, height, width, in) is expected"
        )
    out_c, kh, kw, group_c = weights.shape
    if c % group_c or out_c % (c // group_c):
        raise CheckError(
            f"{b.where(op)}: {c} input channels do not divide into groups of {group_c} for {out_c} outputs"
        )
    o = op.options
    assert o is not None
    rows = axis(b, op, h, kh, o.stride_h, o.dilation_h_factor, o.padding)
    columns = axis(b, op, width, kw, o.stride_w, o.dilation_w_factor, o.padding)
    b.expect_shape(op, (n, rows.out, columns.out, out_c))
    kind = kind_of(b, op, x, w, y)
    groups = c // group_c
    if kind == "u8" and in_columns(b, op, n, weights, rows, columns):
        pixels, pitch = columns_input(b, b.read(op, 0), x, rows, columns)
        each = columns.out * rows.out
        place = Rows(pixels, (0,), 9 * kw, columns.out, each, n * each, pitch, 9 * columns.stride, rows.out * pitch)
        to = None if op.outputs[0] in b.frames else b.write(op)
        product(b, op, kind, place, weights.swapaxes(1, 2).reshape(out_c, 1, -1), slice(0, out_c), to, 2)
        return
    source, rows, columns = bordered(b, op, rows, columns)
    if kind == "hybrid":
        hybrid_conv(b, op, source, weights, rows, columns)
        return
    if groups == 1 and kind in ("u8", "f32") and op.outputs[0] in b.frames:
        place = window_rows(source, n, c, c, rows, columns, itemsize(x))
        product(b, op, kind, place, weights.reshape(out_c, len(place.segments), -1), slice(0, out_c), None, 2)
        return
    target = b.write(op)
    joined = joined_groups(groups, out_c // groups, b.lanes) if kind == "u8" else 1
    wide, zero = joined * group_c, b.zero_point(w) if joined > 1 and w.dtype == "uint8" else 0
    for g in range(groups // joined):
        part = slice(g * out_c * joined // groups, (g + 1) * out_c * joined // groups)
        place = window_rows(source.at(g * wide * itemsize(x)), n, c, wide, rows, columns, itemsize(x))
        filters = side_by_side(weights[part], joined, zero).reshape(part.stop - part.start, len(place.segments), -1)
        product(b, op, kind, place, filters, part, target, 2, joined=joined)


def in_columns(b: Builder, op: Op, n: int, weights: Array, rows: Axis, columns: Axis) -> bool:
    """Whether windows are of three rows of RGB, and in fewer steps where each lies in one piece (kernels/columns.py)."""
    out_c, kh, kw, c = weights.shape
    whole = (kh, c, rows.dilation, columns.dilation) == (3, 3, 1, 1) and c == b.tensor(op, 0).shape[3]
    fits = mw.LEAST_COLUMNS <= columns.size <= mw.MOST_COLUMNS and op.inputs[0] not in b.framed
    # As parts of weights runs of 9 bytes are faster.
    in_two = b.tensor(op, 1).dtype != "int8" and 2 * out_c <= b.lanes and not takes(b, op)
    return b.isa.lanes == 16 and whole and fits and not in_two and -(-9 * kw // 4) < 3 * -(-3 * kw // 4)


def hybrid_conv(b: Builder, op: Op, source: Ref, weights: Array, rows: Axis, columns: Axis) -> None:
    """conv.cc EvalHybrid: an image's floats to 8 bits at run time, symmetric about 0, or not where weights are per channel."""
    x, w, y = b.tensor(op, 0), b.tensor(op, 1), b.output(op)
    n, c, (out_c, _, _, group_c) = x.shape[0], x.shape[3], weights.shape
    groups = c // group_c
    mode = uw.SYMMETRIC if w.quantization is None or len(w.quantization.scale) == 1 else uw.ASYMMETRIC
    target, size = b.write(op), rows.padded * columns.padded * c
    for image_index in range(n):
        quantized, found = dynamic(b, source.at(4 * image_index * size), size, mode)
        at = target.at(4 * image_index * rows.out * columns.out * out_c)
        for g in range(groups):
            part = slice(g * out_c // groups, (g + 1) * out_c // groups)
            place = window_rows(quantized.at(g * group_c), 1, c, group_c, rows, columns, 1)
            filters = weights[part].reshape(out_c // groups, len(place.segments), -1)
            hybrid_product(b, op, place, filters, found, at, y.shape[-1], part)


def dynamic(b: Builder, x: Ref, count: int, mode: int) -> tuple[Ref, Ref]:
    """Emit the quantization of `count` floats; where the bytes and where their scale and zero point will lie."""
    quantized, found = b.block(count), b.block(8)
    b.emit("dynamic_u8", 1, {uw.X: x, uw.Y: quantized, uw.N: count, uw.RANGE: found, uw.MODE: mode})
    return quantized, found


def hybrid_product(
    b: Builder, op: Op, rows: Rows, weights: Array, found: Ref, y: Ref, total: int, part: slice = slice(None)
) -> None:
    """Emit (Σx·w − z·Σw)·(s·s_w) + bias in float32; part: which of the layer's channels the weights are of."""
    w, nv = b.tensor(op, 1), vectors(-(-len(weights) // b.lanes))
    if w.quantization is not None and np.any(w.quantization.zero_point != 0):
        raise b.unsupported(op, "int8 weights with a zero point other than 0")
    split, segments = split_bytes(weights.astype(np.int32), rows.segments, b.isa.least_weight)
    packed = pack(split, PER_STEP["hybrid"], nv * b.lanes)
    padded = packed.shape[0] * nv * b.lanes
    sums = weights.sum(axis=(1, 2), dtype=np.int64).astype(np.int32)
    bias, scales = bias_values(b, op, 2, total, "float32")[part], weight_scales(b, op, w, total)[part]
    words: Words = {
        cw.X: rows.x, cw.Y: y.at(4 * (part.start or 0)), cw.W: b.constant(packed), cw.BIAS: b.constant(pad_to(bias, padded)),
        cw.MULTIPLIER: b.constant(pad_to(scales, padded)), cw.LEFT: float_limits(b, op),
        cw.SEGMENTS: b.constant(np.array(segments, np.int64)), cw.N_SEGMENTS: len(segments), cw.STEPS: packed.shape[2],
        cw.OUT_W: rows.out_w, cw.OUT_HW: rows.out_hw, cw.ROW: rows.row, cw.COLUMN: rows.column, cw.IMAGE: rows.image,
        cw.LINEAR: rows.linear,
        cw.N: len(weights), cw.Y_PITCH: total * 4, cw.NV: nv, cw.BLOCK: packed[0].nbytes, cw.RANGE: found,
        cw.SUMS: b.constant(pad_to(sums, padded)),
    }  # fmt: skip
    b.emit("conv_hybrid", rows.pixels, words, macs=rows.pixels * len(weights) * len(rows.segments) * rows.length)


def product(
    b: Builder, op: Op, kind: str, rows: Rows, weights: Array, part: slice, y: Ref | None, bias_at: int, x_at: int = 0,
    joined: int = 1,
) -> None:  # fmt: skip
    """Emit rows · weights + bias. weights: (out, segments, length) as stored; part: which of the layer's channels these are.

    y: where the first pixel of all channels goes; None: to the output, in a frame if the kernel can write one. joined: groups
    whose filters lie side by side in these (packing.side_by_side).
    """
    x, w, out = b.tensor(op, x_at), b.tensor(op, 1), b.output(op)
    total = out.shape[-1]
    size = itemsize(out)
    count, lanes = len(weights), b.lanes
    words: Words = {
        cw.OUT_W: rows.out_w, cw.OUT_HW: rows.out_hw, cw.ROW: rows.row, cw.COLUMN: rows.column, cw.IMAGE: rows.image,
        cw.LINEAR: rows.linear,
        cw.N: count, cw.Y_PITCH: total * size,
    }  # fmt: skip
    if kind == "hybrid":
        raise b.unsupported(op, f"from {x.dtype} with weights of {w.dtype}")
    kernel, nv = {"f32": "conv_f32", "s16": "conv_s16", "u8": "conv_u8"}[kind], 4
    segments = rows.segments
    if kind == "f32":
        bias = bias_values(b, op, bias_at, total, "float32")[part]
        words[cw.MULTIPLIER] = float_limits(b, op)
        packed_from = weights.astype(np.float32, copy=False)
        nv = vectors(-(-count // lanes))
    elif kind == "s16":
        bias = bias_values(b, op, bias_at, total, "int64")[part]
        packed_from, segments, chunk = split_runs(weights.astype(np.int16), segments)
        words[cw.CHUNK] = chunk
    else:
        bias = bias_values(b, op, bias_at, total, "int32")[part]
        w_zero = 0 if w.dtype == "int8" else b.zero_point(w)
        centred = weights if w.dtype == "int8" else weights.astype(np.int32) - w_zero
        if w.dtype == "int8" and w.quantization is not None and np.any(w.quantization.zero_point != 0):
            raise b.unsupported(op, "int8 weights with a zero point other than 0")
        folded = bias.astype(np.int64) - (b.zero_point(x) - b.isa.offset) * sums(centred)
        bias = folded.astype(np.int32)  # modulo 2^32, as the accumulator is
        nv = vectors(-(-count // lanes))
        if w.dtype == "int8" and (b.isa.least_weight == -128 or weights.min(initial=0) > -128):
            packed_from = weights
        elif centred.min(initial=0) >= b.isa.least_weight and centred.max(initial=0) <= 127:
            packed_from = centred.astype(np.int8)
        elif takes(b, op) and (b.isa.adds_rows or (2 * count > lanes and b.isa.least_weight == -128)):
            packed_from = (weights.astype(np.int32) - 128).astype(np.int8)
            words |= {
                cw.SUM_WEIGHT: 128 - w_zero,
                cw.ONES: 1,
            }  # where they lie is known when runs are as long as they will be
        elif rows.length % 4 == 0:
            kernel, nv = "conv_u8_sum", 4
            packed_from = (weights.astype(np.int32) - 128).astype(np.int8)
            words[cw.SUM_WEIGHT] = 128 - w_zero
        else:
            packed_from, segments = split_bytes(centred.astype(np.int32), segments, b.isa.least_weight)
    order, tail = None, 0
    strips: Words = {}
    halved = kernel == "conv_u8" and 2 * count == 2 * total == lanes and takes(b, op)
    steps = -(-packed_from.shape[2] // PER_STEP[kind])
    if halved and (cw.ONES not in words or strip_words(b, rows, steps, 1, words | {cw.PAIRS: 1})):
        order = np.tile(np.arange(count), 2)
        words[cw.PAIRS] = 1
    if kernel == "conv_u8" and stays_small(b, op, x, w, out, weights[0].size, bias):
        nv, strips = in_strips(b, op, rows, steps, count, words)
        tail = int(strips.get(cw.TAIL, 0))  # type: ignore[arg-type]
        if strips.get(cw.SHARED):
            packed_from, segments = by_pixel(packed_from, segments, rows.column)
        elif b.isa.staggers and strips.get(cw.STRIP) and cw.PAIRS not in words | strips:
            ahead = max(cw.LEAD.get(n, 0) for n in (nv, tail))
            packed_from = of_steps(packed_from, ahead * PER_STEP[kind])
    if cw.ONES in words:
        run = rows.column if strips.get(cw.SHARED) and b.isa.adds_rows else weights.shape[2]
        words[cw.ONES] = b.constant(ones(b.isa, packed_from.shape, run))
    whole = count // (nv * lanes) * nv * lanes if tail else count
    if kernel == "conv_u8" and takes(b, op) and cw.PAIRS not in words:
        order = in_blocks(lanes, -(-whole // (nv * lanes)), nv, tail)
        if strips.get(cw.PAIRS):  # the last half vector twice
            half = np.arange((nv - 1) * lanes, (nv - 1) * lanes + lanes // 2)
            order = np.concatenate([packing_order(lanes, 1, nv - 1) if nv > 2 else np.arange(lanes), half, half])
    packed = pack(
        packed_from[:whole], PER_STEP[kind], nv * lanes, order if order is None or not tail else order[:whole]
    )
    weight_bytes = packed.reshape(-1)
    if tail and order is not None:
        behind = pack(packed_from[whole:], PER_STEP[kind], tail * lanes, order[whole:] - whole)
        weight_bytes = np.concatenate([weight_bytes, behind.reshape(-1)])
    padded = (packed.shape[0] * nv + tail) * lanes
    if kind != "f32":
        words |= requantize_words(b, op, x, part_of(w, part), out, count, padded, is_wide(b, op, bias_at), order)
    plain = bool(strips.get(cw.STRIP)) and b.isa.staggers
    if plain and behind_relu(words) and below_2_23(weights[0].size, bias):
        words[cw.PLAIN] = 1
    words |= {
        cw.X: rows.x, cw.SEGMENTS: b.constant(np.array(segments, np.int64)), cw.N_SEGMENTS: len(segments), cw.NV: nv,
    }  # fmt: skip
    bias_of = ordered(bias, padded, order)
    lanes_of = None
    if kernel == "conv_u8" and b.isa.by_steps and takes(b, op) and cw.PAIRS not in words:
        words |= step_words(b, packed, segments, bias_of, nv, bool(strips.get(cw.SHARED)))
        scales = np.float64(b.scale(x)) * weight_scales(b, op, part_of(w, part), count) / np.float64(b.scale(out))
        words[cw.WAY] = way(words, centred, bias_values(b, op, bias_at, total, "int32")[part], b.zero_point(x), scales)
    else:
        words |= {cw.W: b.constant(weight_bytes), cw.BIAS: b.constant(bias_of)}
        words |= {cw.STEPS: packed.shape[2], cw.BLOCK: packed[0].nbytes}
        lanes_of = Lanes(part, padded, order, weights[0].size, plain) if kind == "u8" and takes(b, op) else None
    units = rows.pixels
    lines: Words = {}
    if y is None:
        lines = float_line_words(b, op, rows, nv) if kind == "f32" else line_words(b, op, rows, nv, strips)
    one_left = kernel == "conv_u8" and not lines and leaves_one(b, rows, nv, words | strips, packed.nbytes)
    if one_left:
        units -= 1
    elif kernel == "conv_u8" and cw.PAIRS not in words | strips and by_block(rows.pixels, len(packed), packed.nbytes):
        halves = rows.pixels >= FEWEST_PIXELS
        units = len(packed) * (2 if halves else 1)
        strips = strips | {cw.BY_BLOCK: cw.BY_HALF_BLOCK if halves else 1, cw.PIXELS: rows.pixels}
    if y is None:
        y = framed(b, op) if lines else b.write(op)
        strips |= lines
    words[cw.Y] = y.at(part.start * size)
    macs = count * len(rows.segments) * rows.length // joined
    if one_left:
        last: Words = {cw.X: rows.x.at(units * rows.column), cw.Y: y.at(part.start * size + units * total * size)}
        last |= {cw.BY_BLOCK: 1, cw.PIXELS: 1}
        b.emit(kernel, len(packed), words | strips | last, macs=macs, beside=True, lanes=lanes_of)
    b.emit(kernel, units, words | strips, macs=(rows.pixels - one_left) * macs, lanes=lanes_of)


def sums(weights: Array) -> Array:
    """(out,) int64: each channel's weights, (out, segments, length) of 8 bits or less their zero point, added up."""
    narrow = weights[0].size < 1 << 22  # times 2^9 it is within int32, in which adding up is faster
    found: Array = weights.sum(axis=(1, 2), dtype=np.int32 if narrow else np.int64)
    return found.astype(np.int64)


def behind_relu(words: Words) -> bool:
    """Whether outputs are all that a byte holds, and 0 is the least of them."""
    return (words[cw.FAMILY], words[cw.ZERO_POINT], words[cw.LO], words[cw.HI]) == (FLOAT, 0, 0, 255)


def below_2_23(products: int, bias: Array) -> bool:
    """Whether no sum of so many products of bytes and a bias reaches 2^23."""
    return products * 255 * 255 + int(np.abs(bias.astype(np.int64)).max(initial=0)) < 1 << 23


def part_of(w: Tensor, part: slice) -> Tensor:
    """The weights with the scales of some channels only."""
    q = w.quantization
    if q is None or len(q.scale) == 1 or part == slice(0, len(q.scale)):
        return w
    return replace(w, quantization=replace(q, scale=q.scale[part], zero_point=q.zero_point[part]))


def is_wide(b: Builder, op: Op, bias_at: int) -> bool:
    """Whether the runtimes sum this layer in int64: an int64 bias says so; LiteRT's TRANSPOSE_CONV int16 does without one too."""
    bias = b.optional(op, bias_at)
    if bias is None:
        return b.xnnpack and op.code == "TRANSPOSE_CONV" and b.output(op).dtype == "int16"
    return bias.dtype == "int64"


def fully_connected(b: Builder, op: Op) -> None:
    """Input (…, k) as rows of k, weights (out, k), bias (out,)."""
    if not b.is_constant(op, 1):
        computed_weights(b, op)
        return
    x, w, y = b.tensor(op, 0), b.tensor(op, 1), b.output(op)
    weights = b.constant_value(op, 1)
    if weights.ndim != 2 or min(weights.shape) < 1:
        raise CheckError(f"{b.where(op)}: weights have shape {list(weights.shape)}, (out, in) is expected")
    if op.options is not None and op.options.values.get("weights_format", 0) != 0:
        raise b.unsupported(op, "shuffled weights")
    out_c, k = weights.shape
    if x.size % k or x.size == 0:
        raise CheckError(f"{b.where(op)}: input {list(x.shape)} does not divide into rows of {k}")
    m = x.size // k
    keep = op.options is not None and bool(op.options.values.get("keep_num_dims", False))
    if keep and (not x.shape or x.shape[-1] != k):
        raise CheckError(f"{b.where(op)}: input {list(x.shape)} keeps its dimensions, a last one of {k} is expected")
    b.expect_shape(op, (*x.shape[:-1], out_c) if keep else (m, out_c))
    kind = kind_of(b, op, x, w, y)
    if kind == "hybrid":
        target = b.write(op)
        asymmetric = op.options is not None and bool(op.options.values.get("asymmetric_quantize_inputs", False))
        for row in range(m):  # each row has a scale of its own (fully_connected.cc EvalHybrid)
            source = b.read(op, 0).at(4 * row * k)
            quantized, found = dynamic(b, source, k, uw.ASYMMETRIC if asymmetric else uw.SYMMETRIC)
            one = Rows(quantized, (0,), k, 1, 1, 1, 0, 0, 0)
            hybrid_product(b, op, one, weights.reshape(out_c, 1, k), found, target.at(4 * row * out_c), out_c)
        return
    rows = Rows(b.read(op, 0), (0,), k, m, m, m, 0, k * itemsize(x), 0)
    target = b.write(op)
    product(b, op, kind, rows, weights.reshape(out_c, 1, k), slice(0, out_c), target, 2)


LOWERINGS = {"CONV_2D": conv_2d, "FULLY_CONNECTED": fully_connected}
