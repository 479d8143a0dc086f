"""Pieces of one tensor: SLICE, STRIDED_SLICE, SPLIT, SPLIT_V, UNPACK. A piece that lies together is not copied."""

from __future__ import annotations

import math

from edgeq.errors import CheckError
from edgeq.graph import Op
from edgeq.plan.builder import Builder, itemsize
from edgeq.plan.slicing import Slice, plain, strided
from edgeq.plan.types import Ref
from edgeq.plan.window import copy, same_type, strides_of


def axis_of(b: Builder, op: Op, axis: int, rank: int) -> int:
    """The axis counted from the front."""
    if not -rank <= axis < rank:
        raise CheckError(f"{b.where(op)}: axis {axis} of {rank} dimensions")
    return axis % rank


MAX_NUMBERS = 1024
"""What a list of lengths holds at most; a product over a hostile one would take minutes."""


def numbers(b: Builder, op: Op, k: int) -> list[int]:
    """Input k, a constant vector of int32 or int64: a shape, sizes, axes or paddings, so no more than a few."""
    values = b.constant_value(op, k)
    if values.size > MAX_NUMBERS:
        raise CheckError(f"{b.where(op)}: input {k} lists {values.size} numbers, at most {MAX_NUMBERS} are expected")
    if values.dtype.kind != "i":
        raise b.unsupported(op, f"input {k} is {values.dtype}, int32 or int64 is expected")
    return [int(v) for v in values.reshape(-1)]


def piece(b: Builder, op: Op, x: Ref, shape: tuple[int, ...], part: Slice, size: int, k: int = 0) -> None:
    """Output k is this part of x, elements of `size` bytes: in place where it lies together, else copied."""
    steps = strides_of(shape, size)
    at = x.at(sum(s * t for s, t in zip(part.starts, steps, strict=True)))
    total = math.prod(part.counts)
    dims = [(c, s * t, t) for c, s, t in zip(part.counts, part.strides, steps, strict=True) if c > 1]
    together, run = True, size
    for c, step, _ in reversed(dims):
        together &= step == run
        run *= c
    if together and total:
        b.view(op, k, at)
        return
    target = b.write(op, k)
    if total:
        by = tuple(s * t for s, t in zip(part.strides, steps, strict=True))
        copy(b, at, target, part.counts, by, strides_of(part.counts, size), size)


def strided_slice(b: Builder, op: Op) -> None:
    """STRIDED_SLICE: begin, end, strides (k,) with the five masks."""
    x, o = b.tensor(op, 0), op.options
    assert o is not None
    try:
        part = strided(x.shape, numbers(b, op, 1), numbers(b, op, 2), numbers(b, op, 3), o)
    except ValueError as e:
        raise CheckError(f"{b.where(op)}: {e}") from None
    same_type(b, op, x, b.expect_shape(op, part.shape))
    piece(b, op, b.read(op, 0), x.shape, part, itemsize(x))


def slice_(b: Builder, op: Op) -> None:
    """SLICE: begin and size (rank,)."""
    x = b.tensor(op, 0)
    try:
        part = plain(x.shape, numbers(b, op, 1), numbers(b, op, 2))
    except ValueError as e:
        raise CheckError(f"{b.where(op)}: {e}") from None
    same_type(b, op, x, b.expect_shape(op, part.shape))
    piece(b, op, b.read(op, 0), x.shape, part, itemsize(x))


def pieces(b: Builder, op: Op, k: int, axis: int, lengths: list[int], drop: bool = False) -> None:
    """Input k cut along an axis into outputs of these lengths; `drop` leaves the axis out of their shapes."""
    x = b.tensor(op, k)
    if len(lengths) != len(op.outputs) or sum(lengths) != x.shape[axis] or min(lengths, default=0) < 0:
        raise CheckError(
            f"{b.where(op)}: {len(op.outputs)} outputs of lengths {lengths} from a dimension of {x.shape[axis]}"
        )
    source, at = b.read(op, k), 0
    for n, length in enumerate(lengths):
        counts = (*x.shape[:axis], length, *x.shape[axis + 1 :])
        starts = tuple(at if d == axis else 0 for d in range(len(x.shape)))
        out = counts[:axis] + counts[axis + 1 :] if drop else counts
        same_type(b, op, x, b.expect_shape(op, out, n))
        piece(b, op, source, x.shape, Slice(starts, counts, (1,) * len(counts), counts), itemsize(x), n)
        at += length


def split(b: Builder, op: Op) -> None:
    """SPLIT: axis (), input; equal lengths."""
    x = b.tensor(op, 1)
    axis = axis_of(b, op, numbers(b, op, 0)[0] if b.constant_value(op, 0).size == 1 else len(x.shape), len(x.shape))
    n = len(op.outputs)
    if x.shape[axis] % n or (op.options is not None and op.options.num_splits != n):
        raise CheckError(f"{b.where(op)}: a dimension of {x.shape[axis]} into {n} equal outputs")
    pieces(b, op, 1, axis, [x.shape[axis] // n] * n)


def split_v(b: Builder, op: Op) -> None:
    """SPLIT_V: input, lengths (k,) with one −1 for what is left, axis ()."""
    x, lengths = b.tensor(op, 0), numbers(b, op, 1)
    given = numbers(b, op, 2)
    axis = axis_of(b, op, given[0] if len(given) == 1 else len(x.shape), len(x.shape))
    if lengths.count(-1) == 1:
        lengths[lengths.index(-1)] = x.shape[axis] - sum(lengths) - 1
    pieces(b, op, 0, axis, lengths)


def unpack(b: Builder, op: Op) -> None:
    """UNPACK: one output for each index along an axis, which goes."""
    x, o = b.tensor(op, 0), op.options
    axis = axis_of(b, op, o.axis if o is not None else 0, len(x.shape))
    pieces(b, op, 0, axis, [1] * len(op.outputs), drop=True)


LOWERINGS = {
    "SLICE": slice_,
    "STRIDED_SLICE": strided_slice,
    "SPLIT": split,
    "SPLIT_V": split_v,
    "UNPACK": unpack,
}
