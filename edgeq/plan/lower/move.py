"""Operations that move values and change none: new shapes, orders, borders and repetitions."""

from __future__ import annotations

import math

import numpy as np

from edgeq.errors import CheckError
from edgeq.graph import Array, Op
from edgeq.kernels.words import move as mw
from edgeq.plan.builder import Builder, itemsize, leaves_open, nbytes
from edgeq.plan.lower.slices import axis_of, numbers
from edgeq.plan.types import Ref
from edgeq.plan.window import broadcasted, copy, fill_value, permuted, same_type, strides_of
from edgeq.tflite.limits import MAX_RANK


def reshape(b: Builder, op: Op) -> None:
    """RESHAPE: the shape (k,) of input 1 or of the options, with one −1 for what is left."""
    x = b.tensor(op, 0)
    shape = b.optional(op, 1)
    given = shape is not None and len(shape.shape) == 1 and shape.dtype == "int32"
    if b.is_constant(op, 1) or (given and leaves_open(b.output(op))):
        wanted = numbers(b, op, 1)
    elif op.options is not None and op.options.values.get("new_shape") is not None:
        wanted = list(op.options.new_shape)
    else:
        wanted = list(b.output(op).shape)
        if len(op.inputs) > 1 and op.inputs[1] >= 0:
            b.require(op, 1, np.array(wanted, b.tensor(op, 1).dtype))
    if len(wanted) > MAX_RANK:
        raise CheckError(f"{b.where(op)} to {len(wanted)} dimensions, at most {MAX_RANK} are expected")
    if wanted == [0] and x.size == 1 and not b.output(op).shape:
        wanted = []  # what old converters wrote for a scalar (reshape.cc)
    if wanted.count(-1) == 1:
        rest = math.prod(d for d in wanted if d != -1)
        wanted[wanted.index(-1)] = x.size // rest if rest else 0
    if math.prod(wanted) != x.size or any(d < 0 for d in wanted):
        raise CheckError(f"{b.where(op)}: {list(x.shape)} does not become {wanted}")
    same_type(b, op, x, b.expect_shape(op, tuple(wanted)))
    b.alias(op)


def squeeze(b: Builder, op: Op) -> None:
    """SQUEEZE: dimensions of 1 go, all of them or those that are named."""
    x = b.tensor(op, 0)
    named = op.options.values.get("squeeze_dims") if op.options is not None else None
    axes = {axis_of(b, op, a, len(x.shape)) for a in named or ()}
    axes = axes or {i for i, d in enumerate(x.shape) if d == 1}
    if any(x.shape[a] != 1 for a in axes):
        raise CheckError(f"{b.where(op)}: dimensions {sorted(axes)} of {list(x.shape)} are not all 1")
    same_type(b, op, x, b.expect_shape(op, tuple(d for i, d in enumerate(x.shape) if i not in axes)))
    b.alias(op)


def expand_dims(b: Builder, op: Op) -> None:
    """EXPAND_DIMS: a dimension of 1 at input 1."""
    x = b.tensor(op, 0)
    given = numbers(b, op, 1)
    if len(given) != 1:
        raise CheckError(f"{b.where(op)}: {len(given)} axes, 1 is expected")
    axis = axis_of(b, op, given[0], len(x.shape) + 1)
    same_type(b, op, x, b.expect_shape(op, (*x.shape[:axis], 1, *x.shape[axis:])))
    b.alias(op)


def transpose(b: Builder, op: Op) -> None:
    """TRANSPOSE: order (rank,)."""
    x, order = b.tensor(op, 0), numbers(b, op, 1)
    order = [axis_of(b, op, a, len(x.shape)) for a in order]
    if sorted(order) != list(range(len(x.shape))):
        raise CheckError(f"{b.where(op)}: order {order} of {len(x.shape)} dimensions")
    same_type(b, op, x, b.expect_shape(op, tuple(x.shape[i] for i in order)))
    moving = [i for i in order if x.shape[i] != 1]
    if moving == sorted(moving):
        b.alias(op)
    else:
        permuted(b, b.read(op, 0), b.write(op), x.shape, order, itemsize(x))


# --- borders --------------------------------------------------------------------------------------------------------------


def paddings(b: Builder, op: Op) -> Array:
    """(rank, 2) counts before and after each dimension."""
    counts, rank = b.constant_value(op, 1), len(b.tensor(op, 0).shape)
    if counts.shape != (rank, 2) or counts.dtype.kind != "i" or (counts < 0).any() or (counts > 1 << 31).any():
        raise CheckError(
            f"{b.where(op)}: paddings are {counts.dtype}{list(counts.shape)}, ({rank}, 2) counts are expected"
        )
    return counts.astype(np.int64)


def pad(b: Builder, op: Op) -> None:
    """PAD with real zero, PADV2 with the value of input 2."""
    x, counts = b.tensor(op, 0), paddings(b, op)
    y = b.expect_shape(op, tuple(int(d + p[0] + p[1]) for d, p in zip(x.shape, counts, strict=True)))
    same_type(b, op, x, y)
    size, target = itemsize(x), b.write(op)
    if op.code == "PADV2" and b.optional(op, 2) is not None:
        value = b.tensor(op, 2)
        if value.size != 1 or value.dtype != x.dtype:
            raise CheckError(f"{b.where(op)}: pads with {value.dtype}{list(value.shape)}, one {x.dtype} is expected")
        if y.size:
            broadcasted(b, b.read(op, 2), (), (y.size,), size, target)
    else:
        b.emit("fill_bytes", nbytes(y), {mw.Y: target, mw.VALUE: fill_value(b, y)})
    steps = strides_of(y.shape, size)
    at = sum(int(p[0]) * s for p, s in zip(counts, steps, strict=True))
    if x.size:
        copy(b, b.read(op, 0), target.at(at), x.shape, strides_of(x.shape, size), steps, size)


def mirror_pad(b: Builder, op: Op) -> None:
    """MIRROR_PAD: REFLECT leaves the border element out of the mirror image, SYMMETRIC takes it in."""
    x, counts = b.tensor(op, 0), paddings(b, op)
    symmetric = int(op.options is not None and op.options.mode == 1)
    if any(p.max() > d - 1 + symmetric for d, p in zip(x.shape, counts, strict=True)):
        raise CheckError(f"{b.where(op)}: paddings {counts.tolist()} are longer than {list(x.shape)} can mirror")
    y = b.expect_shape(op, tuple(int(d + p[0] + p[1]) for d, p in zip(x.shape, counts, strict=True)))
    same_type(b, op, x, y)
    size, target = itemsize(x), b.write(op)
    if not y.size:
        return
    steps = strides_of(y.shape, size)
    corner = target.at(sum(int(p[0]) * s for p, s in zip(counts, steps, strict=True)))
    copy(b, b.read(op, 0), corner, x.shape, strides_of(x.shape, size), steps, size)
    filled = list(x.shape)
    starts = [int(p[0]) for p in counts]
    for axis in range(len(x.shape)):
        first, last = starts[axis], starts[axis] + x.shape[axis] - 1
        for count, edge, way in ((int(counts[axis][0]), first, -1), (int(counts[axis][1]), last, 1)):
            if count:
                at = sum(s * t for d, (s, t) in enumerate(zip(starts, steps, strict=True)) if d != axis)
                inside = edge - way * (1 - symmetric)
                dims = tuple(count if d == axis else n for d, n in enumerate(filled))
                back = tuple(-way * t if d == axis else t for d, t in enumerate(steps))
                forth = tuple(way * t if d == axis else t for d, t in enumerate(steps))
                copy(b, target.at(at + inside * steps[axis]), target.at(at + (edge + way) * steps[axis]),
                     dims, back, forth, size)  # fmt: skip
        filled[axis], starts[axis] = y.shape[axis], 0


# --- repetition -----------------------------------------------------------------------------------------------------------


def broadcast_to(b: Builder, op: Op) -> None:
    """BROADCAST_TO the shape of input 1."""
    x, wanted = b.tensor(op, 0), tuple(numbers(b, op, 1))
    wide = (1,) * (len(wanted) - len(x.shape)) + x.shape
    if len(wide) != len(wanted) or any(d not in (1, n) for d, n in zip(wide, wanted, strict=True)):
        raise CheckError(f"{b.where(op)}: {list(x.shape)} does not broadcast to {list(wanted)}")
    same_type(b, op, x, b.expect_shape(op, wanted))
    broadcasted(b, b.read(op, 0), x.shape, wanted, itemsize(x), b.write(op))


def tile(b: Builder, op: Op) -> None:
    """TILE: the whole, repeated along each dimension."""
    x, times = b.tensor(op, 0), numbers(b, op, 1)
    if len(times) != len(x.shape) or any(t < 0 for t in times):
        raise CheckError(f"{b.where(op)}: multiples {times} of {len(x.shape)} dimensions")
    y = b.expect_shape(op, tuple(d * t for d, t in zip(x.shape, times, strict=True)))
    same_type(b, op, x, y)
    split = tuple(n for d in x.shape for n in (1, d))
    out = tuple(n for d, t in zip(x.shape, times, strict=True) for n in (t, d))
    broadcasted(b, b.read(op, 0), split, out, itemsize(x), b.write(op))


def fill(b: Builder, op: Op) -> None:
    """FILL: a shape, one value."""
    value, wanted = b.tensor(op, 1), tuple(numbers(b, op, 0))
    if value.size != 1:
        raise CheckError(f"{b.where(op)}: fills with {list(value.shape)}, one value is expected")
    y = b.expect_shape(op, wanted)
    same_type(b, op, value, y)
    if y.size:
        broadcasted(b, b.read(op, 1), (), (y.size,), itemsize(y), b.write(op))
    else:
        b.write(op)


def zeros_like(b: Builder, op: Op) -> None:
    """ZEROS_LIKE: zeros of the input's shape and type."""
    x = b.tensor(op, 0)
    y = b.expect_shape(op, x.shape)
    same_type(b, op, x, y)
    b.emit("fill_bytes", nbytes(y), {mw.Y: b.write(op), mw.VALUE: 128 if y.dtype == "int8" else 0})


# --- blocks ---------------------------------------------------------------------------------------------------------------


def space_to_depth(b: Builder, op: Op) -> None:
    """SPACE_TO_DEPTH: blocks of pixels become channels; DEPTH_TO_SPACE is its inverse."""
    x = b.tensor(op, 0)
    k = op.options.block_size if op.options is not None else 0
    if len(x.shape) != 4 or k < 1:
        raise CheckError(
            f"{b.where(op)}: input {list(x.shape)}, block {k}; four dimensions and at least 1 are expected"
        )
    n, h, w, c = x.shape
    deep = op.code == "SPACE_TO_DEPTH"
    if (h % k or w % k) if deep else c % (k * k):
        raise CheckError(f"{b.where(op)}: {list(x.shape)} does not divide into blocks of {k}")
    out = (n, h // k, w // k, c * k * k) if deep else (n, h * k, w * k, c // (k * k))
    same_type(b, op, x, b.expect_shape(op, out))
    split = (n, h // k, k, w // k, k, c) if deep else (n, h, w, k, k, c // (k * k))
    permuted(b, b.read(op, 0), b.write(op), split, (0, 1, 3, 2, 4, 5), itemsize(x))


def block_arguments(b: Builder, op: Op) -> tuple[list[int], Array]:
    """Block lengths (m,) and the (m, 2) counts of SPACE_TO_BATCH_ND and its inverse; input of rank m + 2 or m + 1."""
    blocks, counts = numbers(b, op, 1), b.constant_value(op, 2)
    rank = len(b.tensor(op, 0).shape)
    wrong = (
        counts.shape != (len(blocks), 2) or counts.dtype.kind != "i" or (counts < 0).any() or (counts > 1 << 31).any()
    )
    if wrong or not blocks or min(blocks) < 1 or rank < len(blocks) + 1:
        raise CheckError(f"{b.where(op)}: blocks {blocks}, borders {list(counts.shape)}, input of {rank} dimensions")
    return blocks, counts.astype(np.int64)


def space_to_batch_nd(b: Builder, op: Op) -> None:
    """SPACE_TO_BATCH_ND: padded with real zero, then each place in a block becomes a batch of its own."""
    x = b.tensor(op, 0)
    blocks, counts = block_arguments(b, op)
    m, size = len(blocks), itemsize(x)
    n, space, tail = x.shape[0], x.shape[1 : m + 1], x.shape[m + 1 :]
    padded = [int(d + p[0] + p[1]) for d, p in zip(space, counts, strict=True)]
    if any(d % k for d, k in zip(padded, blocks, strict=True)):
        raise CheckError(f"{b.where(op)}: padded lengths {padded} do not divide by {blocks}")
    cells = [d // k for d, k in zip(padded, blocks, strict=True)]
    y = b.expect_shape(op, (n * math.prod(blocks), *cells, *tail))
    same_type(b, op, x, y)
    source, full = b.read(op, 0), (n, *padded, *tail)
    if padded != list(space):
        wide = b.block(math.prod(full) * size)
        b.emit("fill_bytes", math.prod(full) * size, {mw.Y: wide, mw.VALUE: fill_value(b, x)})
        steps = strides_of(full, size)
        at = sum(int(p[0]) * s for p, s in zip(counts, steps[1:], strict=False))
        if x.size:
            copy(b, source, wide.at(at), x.shape, strides_of(x.shape, size), steps, size)
        source = wide
    split = (n, *(d for pair in zip(cells, blocks, strict=True) for d in pair), *tail)
    order = (*range(2, 2 * m + 1, 2), 0, *range(1, 2 * m, 2), *range(2 * m + 1, 2 * m + 1 + len(tail)))
    permuted(b, source, b.write(op), split, order, size)


def batch_to_space_nd(b: Builder, op: Op) -> None:
    """BATCH_TO_SPACE_ND: the inverse of SPACE_TO_BATCH_ND, with borders cut off."""
    x = b.tensor(op, 0)
    blocks, crops = block_arguments(b, op)
    m, size = len(blocks), itemsize(x)
    cells, tail = x.shape[1 : m + 1], x.shape[m + 1 :]
    if x.shape[0] % math.prod(blocks):
        raise CheckError(f"{b.where(op)}: a batch of {x.shape[0]} does not divide by blocks {blocks}")
    n = x.shape[0] // math.prod(blocks)
    whole = tuple(c * k for c, k in zip(cells, blocks, strict=True))
    space = tuple(int(d - p[0] - p[1]) for d, p in zip(whole, crops, strict=True))
    if any(d < 0 for d in space):
        raise CheckError(f"{b.where(op)}: crops {crops.tolist()} of {list(whole)}")
    same_type(b, op, x, b.expect_shape(op, (n, *space, *tail)))
    split = (*blocks, n, *cells, *tail)
    order = (m, *(i for k in range(m) for i in (m + 1 + k, k)), *range(2 * m + 1, 2 * m + 1 + len(tail)))
    if not crops.any():
        permuted(b, b.read(op, 0), b.write(op), split, order, size)
        return
    full = b.block(x.size * size)
    permuted(b, b.read(op, 0), full, split, order, size)
    steps = strides_of((n, *whole, *tail), size)
    at = sum(int(p[0]) * s for p, s in zip(crops, steps[1:], strict=False))
    out = (n, *space, *tail)
    target = b.write(op)
    if math.prod(out):
        copy(b, full.at(at), target, out, steps, strides_of(out, size), size)


def reverse_v2(b: Builder, op: Op) -> None:
    """REVERSE_V2: backwards along the axes of input 1."""
    x = b.tensor(op, 0)
    axes = {axis_of(b, op, a, len(x.shape)) for a in numbers(b, op, 1)}
    same_type(b, op, x, b.expect_shape(op, x.shape))
    size, source, target = itemsize(x), b.read(op, 0), b.write(op)
    steps = strides_of(x.shape, size)
    at = sum((x.shape[a] - 1) * steps[a] for a in axes)
    if x.size:
        copy(b, source.at(at), target, x.shape, tuple(-s if i in axes else s for i, s in enumerate(steps)), steps, size)


def bitcast(b: Builder, op: Op) -> None:
    """BITCAST between types of one size."""
    x = b.tensor(op, 0)
    y = b.expect_shape(op, x.shape)
    if itemsize(x) != itemsize(y):
        raise b.unsupported(op, f"from {x.dtype} to {y.dtype}")
    if "int8" in (x.dtype, y.dtype) and x.dtype != y.dtype:
        raise b.unsupported(op, f"from {x.dtype} to {y.dtype}")
    place: Ref = b.read(op, 0)
    b.view(op, 0, place)


LOWERINGS = {
    "RESHAPE": reshape,
    "SQUEEZE": squeeze,
    "EXPAND_DIMS": expand_dims,
    "TRANSPOSE": transpose,
    "PAD": pad,
    "PADV2": pad,
    "MIRROR_PAD": mirror_pad,
    "BROADCAST_TO": broadcast_to,
    "TILE": tile,
    "FILL": fill,
    "ZEROS_LIKE": zeros_like,
    "SPACE_TO_DEPTH": space_to_depth,
    "DEPTH_TO_SPACE": space_to_depth,
    "SPACE_TO_BATCH_ND": space_to_batch_nd,
    "BATCH_TO_SPACE_ND": batch_to_space_nd,
    "REVERSE_V2": reverse_v2,
    "BITCAST": bitcast,
}
