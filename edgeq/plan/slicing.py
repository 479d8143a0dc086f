"""What SLICE and STRIDED_SLICE ask for, as NumPy would be asked: one index per dimension.

Source: TFLite kernels/internal/strided_slice_logic.h and kernels/strided_slice.cc (BuildStridedSliceParams).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edgeq.records import dataclass

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Slice:
    """Per input dimension: where it starts, how many elements, their distance; and the shape that comes out."""

    starts: Shape
    counts: Shape
    strides: Shape
    shape: Shape


def strided(shape: Shape, begin: Sequence[int], end: Sequence[int], stride: Sequence[int], options: Any) -> Slice:
    """STRIDED_SLICE with all its masks. Raises ValueError with what is wrong."""
    if not len(begin) == len(end) == len(stride):
        raise ValueError(
            f"begin, end and strides have {len(begin)}, {len(end)}, {len(stride)} entries; equal numbers are expected"
        )
    if any(s == 0 for s in stride):
        raise ValueError("a stride is 0")
    added = sum(1 for i in range(len(begin)) if options.new_axis_mask >> i & 1 and not options.ellipsis_mask >> i & 1)
    ellipses = [i for i in range(len(begin)) if options.ellipsis_mask >> i & 1]
    covered = len(shape) - (len(begin) - added - len(ellipses))
    if len(ellipses) > 1 or covered < 0:
        raise ValueError(f"{len(begin)} entries for {len(shape)} dimensions, {len(ellipses)} of them ellipses")
    starts: list[int] = []
    counts: list[int] = []
    strides: list[int] = []
    out: list[int] = []

    def take(span: range, stride: int) -> None:
        starts.append(span.start)
        counts.append(len(span))
        strides.append(stride)

    def whole(n: int) -> None:
        for _ in range(n):
            size = shape[len(starts)]
            take(range(size), 1)
            out.append(size)

    for i in range(len(begin)):
        if i in ellipses:
            whole(covered)
        elif options.new_axis_mask >> i & 1:
            out.append(1)
        else:
            size = shape[len(starts)]
            if options.shrink_axis_mask >> i & 1:
                start = begin[i] + size if begin[i] < 0 else begin[i]
                if not 0 <= start < size:
                    raise ValueError(f"index {begin[i]} of a dimension of {size}")
                span = range(start, start + 1)
            else:
                stop = begin[i] + end[i] if getattr(options, "offset", False) else end[i]
                first = None if options.begin_mask >> i & 1 else begin[i]
                last = None if options.end_mask >> i & 1 else stop
                span = range(*slice(first, last, stride[i]).indices(size))
                out.append(len(span))
            take(span, stride[i] if len(span) > 1 else 1)
    if not ellipses:
        whole(covered)
    return Slice(tuple(starts), tuple(counts), tuple(strides), tuple(out))


def plain(shape: Shape, begin: Sequence[int], size: Sequence[int]) -> Slice:
    """SLICE: −1 for a size means all that is left. Raises ValueError with what is wrong."""
    if not len(begin) == len(size) == len(shape):
        raise ValueError(f"begin and size have {len(begin)} and {len(size)} entries, {len(shape)} are expected")
    counts = tuple(d - b if s == -1 else s for d, b, s in zip(shape, begin, size, strict=True))
    for d, b, c in zip(shape, begin, counts, strict=True):
        if not (b >= 0 and c >= 0 and b + c <= d):
            raise ValueError(f"{c} elements from {b} of a dimension of {d}")
    return Slice(tuple(begin), counts, (1,) * len(shape), counts)
