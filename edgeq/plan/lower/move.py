"""Operations that move values and change none: RESHAPE and its kind, PAD, STRIDED_SLICE, CONCATENATION."""

from __future__ import annotations

import math

from edgeq.errors import CheckError
from edgeq.graph import Op, Tensor
from edgeq.kernels.words import move as mw
from edgeq.plan.builder import Builder, itemsize, nbytes
from edgeq.plan.window import copy, fill_value


def strides_of(shape: tuple[int, ...], size: int) -> tuple[int, ...]:
    """Byte strides of a contiguous array."""
    return tuple(math.prod(shape[i + 1 :]) * size for i in range(len(shape)))


def same_numbers(b: Builder, op: Op, x: Tensor, y: Tensor) -> None:
    """Refuse a type or scale that changes where only places should."""
    if x.dtype != y.dtype:
        raise CheckError(f"{b.where(op)} turns {x.dtype} into {y.dtype}; the same type is expected")
    if x.quantization is not None and y.quantization is not None and x.dtype in ("int8", "uint8", "int16"):
        same = (
            x.quantization.scale[0] == y.quantization.scale[0]
            and x.quantization.zero_point[0] == y.quantization.zero_point[0]
        )
        if not same:
            raise b.unsupported(op, "input and output differ in scale or zero point")


def reshape(b: Builder, op: Op) -> None:
    """RESHAPE, SQUEEZE, EXPAND_DIMS: the same values under the shape that the file states."""
    x, y = b.tensor(op, 0), b.output(op)
    if x.size != y.size or x.dtype != y.dtype:
        raise CheckError(f"{b.where(op)}: {x.dtype}{list(x.shape)} does not become {y.dtype}{list(y.shape)}")
    itemsize(x)
    b.alias(op)


def pad(b: Builder, op: Op) -> None:
    """PAD: (rank, 2) counts before and after, filled with real zero."""
    x, y = b.tensor(op, 0), b.output(op)
    counts = b.constant_value(op, 1)
    if counts.shape != (len(x.shape), 2) or counts.dtype.kind != "i" or (counts < 0).any():
        raise CheckError(
            f"{b.where(op)}: paddings are {counts.dtype}{list(counts.shape)}, ({len(x.shape)}, 2) counts are expected"
        )
    b.expect_shape(op, tuple(int(d + p[0] + p[1]) for d, p in zip(x.shape, counts, strict=True)))
    same_numbers(b, op, x, y)
    size, target = itemsize(x), b.write(op)
    b.emit("fill_bytes", nbytes(y), {mw.Y: target, mw.VALUE: fill_value(b, y)})
    steps = strides_of(y.shape, size)
    at = sum(int(p[0]) * s for p, s in zip(counts, steps, strict=True))
    if x.size:
        copy(b, b.read(op, 0), target.at(at), x.shape, strides_of(x.shape, size), steps, size)


def strided_slice(b: Builder, op: Op) -> None:
    """STRIDED_SLICE: begin, end, strides (rank,) with begin, end and shrink masks; reference: strided_slice_logic.h."""
    x, y = b.tensor(op, 0), b.output(op)
    o = op.options
    if o is None or o.ellipsis_mask or o.new_axis_mask or o.values.get("offset", False):
        raise b.unsupported(op, "with ellipsis, new axis or offset")
    rank = len(x.shape)
    begin, end, stride = (b.constant_value(op, k, "int32").reshape(-1).tolist() for k in (1, 2, 3))
    if not len(begin) == len(end) == len(stride) == rank:
        raise CheckError(
            f"{b.where(op)}: begin, end and strides have {len(begin)}, {len(end)}, {len(stride)} entries, {rank} are expected"
        )
    if any(s == 0 for s in stride):
        raise CheckError(f"{b.where(op)}: a stride is 0")
    starts, counts, shape = [], [], []
    for k, size in enumerate(x.shape):
        if o.shrink_axis_mask >> k & 1:
            start = begin[k] + size if begin[k] < 0 else begin[k]
            if not 0 <= start < size:
                raise CheckError(f"{b.where(op)}: index {begin[k]} of a dimension of {size}")
            starts.append(start)
            counts.append(1)
            continue
        first = None if o.begin_mask >> k & 1 else begin[k]
        last = None if o.end_mask >> k & 1 else end[k]
        span = range(*slice(first, last, stride[k]).indices(size))
        starts.append(span.start)
        counts.append(len(span))
        shape.append(len(span))
    b.expect_shape(op, tuple(shape))
    same_numbers(b, op, x, y)
    size, target = itemsize(x), b.write(op)
    steps = strides_of(x.shape, size)
    at = sum(s * t for s, t in zip(starts, steps, strict=True))
    by = tuple(s * (stride[k] if counts[k] > 1 else 1) for k, s in enumerate(steps))
    if math.prod(counts):
        copy(b, b.read(op, 0).at(at), target, tuple(counts), by, strides_of(tuple(counts), size), size)


def concatenation(b: Builder, op: Op) -> None:
    """CONCATENATION along one axis; quantized inputs have the output's scale."""
    y = b.output(op)
    axis = op.options.axis if op.options is not None else 0
    rank = len(y.shape)
    if not -rank <= axis < rank or (op.options is not None and op.options.values.get("fused_activation_function", 0)):
        raise b.unsupported(op, f"along axis {axis} of {rank} dimensions, or with a fused activation")
    axis %= rank
    xs = [b.tensor(op, k) for k in range(len(op.inputs))]
    for x in xs:
        same_numbers(b, op, x, y)
        if len(x.shape) != rank or x.shape[:axis] + x.shape[axis + 1 :] != y.shape[:axis] + y.shape[axis + 1 :]:
            raise CheckError(f"{b.where(op)}: input {list(x.shape)} does not go into {list(y.shape)} along axis {axis}")
    b.expect_shape(op, (*y.shape[:axis], sum(x.shape[axis] for x in xs), *y.shape[axis + 1 :]))
    size, target, at = itemsize(y), b.write(op), 0
    outer, tail = math.prod(y.shape[:axis]), math.prod(y.shape[axis + 1 :]) * size
    for k, x in enumerate(xs):
        run = x.shape[axis] * tail
        if run and outer:
            copy(b, b.read(op, k), target.at(at), (outer,), (run,), (y.shape[axis] * tail,), run)
        at += run


LOWERINGS = {
    "RESHAPE": reshape,
    "SQUEEZE": reshape,
    "EXPAND_DIMS": reshape,
    "PAD": pad,
    "STRIDED_SLICE": strided_slice,
    "CONCATENATION": concatenation,
}
