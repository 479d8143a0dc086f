"""Frames: tensors that are written with room for borders around them, so that no layer copies its input to make them real.

A tensor of bytes lies in a frame where convolutions and sums alone write and read it, and one of the readers needs borders; a
tensor of floats where convolutions alone do. Its rows then lie further apart than its pixels fill. Who writes it may still choose
a block without a frame (`Builder.framed` says what came of it); readers ask `window.bordered`.
"""

from __future__ import annotations

import numpy as np

from edgeq.errors import CheckError
from edgeq.graph import Op, Tensor
from edgeq.kernels.words import move as mw
from edgeq.plan.builder import Builder, itemsize
from edgeq.plan.types import Frame, Ref
from edgeq.plan.window import axis, fill_value

SORTED = 48
"""Channels up to which a strided depthwise layer sorts its input's pixels: those make their borders themselves."""

_WRITERS = ("CONV_2D", "ADD")
_READERS = ("CONV_2D", "DEPTHWISE_CONV_2D", "ADD")


def frames(b: Builder) -> dict[int, Frame]:
    """For each tensor that may lie in a frame, the frame that holds the borders of all of its readers."""
    graph = b.graph
    readers: dict[int, list[Op]] = {}
    writers: dict[int, Op] = {}
    for op in graph.ops:
        for i in dict.fromkeys(op.inputs):
            readers.setdefault(i, []).append(op)
        for i in op.outputs:
            writers[i] = op
    found = {}
    for i, op in writers.items():
        t = b.tensors[i]
        if op.code not in _WRITERS or i in graph.outputs or not _fits(op, t):
            continue
        if len(t.shape) != 4 or t.shape[0] != 1 or min(t.shape) < 1 or t.data is not None:
            continue
        if op.code == "ADD" and any(b.tensors[k].shape != t.shape or b.tensors[k].dtype != t.dtype for k in op.inputs):
            continue
        borders = [_borders(b, reader, i, t) for reader in readers.get(i, [])]
        whole = [x for x in borders if x is not None]
        if len(whole) == len(borders) and any(any(x) for x in whole):
            top, bottom, left, right = (max(x[k] for x in whole) for k in range(4))
            _, h, w, c = t.shape
            found[i] = Frame(top, bottom, left, right, h, w, c * itemsize(t))
    return found


def _fits(op: Op, t: Tensor) -> bool:
    """Whether an operation can write tensors of this type into frames."""
    return op.code == "CONV_2D" if t.dtype == "float32" else t.dtype in ("int8", "uint8") and t.quantization is not None


def _borders(b: Builder, op: Op, i: int, t: Tensor) -> tuple[int, int, int, int] | None:
    """Rows above and below, pixels before and behind that a reader needs; None if it cannot read from a frame."""
    if op.code not in _READERS or any(b.tensors[k].dtype != t.dtype for k in (*op.inputs[:1], *op.outputs)):
        return None
    if op.code == "ADD":
        same = t.dtype != "float32" and all(
            b.tensors[k].shape == t.shape and b.known(k) is None for k in (*op.inputs, *op.outputs)
        )
        return (0, 0, 0, 0) if same else None
    weights = b.known(op.inputs[1]) if len(op.inputs) > 1 else None
    if op.inputs[0] != i or i in op.inputs[1:] or op.options is None or weights is None or weights.ndim != 4:
        return None
    if t.dtype == "float32" and weights.dtype != np.float32:
        return None  # the input is quantized in one piece
    o, (_, kh, kw, _) = op.options, weights.shape
    if op.code == "DEPTHWISE_CONV_2D" and (weights.shape[3] != t.shape[3] or (o.stride_w > 1 and t.shape[3] <= SORTED)):
        return None
    if op.code == "CONV_2D" and (kh, kw, o.stride_h, o.stride_w) == (1, 1, 1, 1):
        return None  # which takes pixels as one long row
    try:
        rows = axis(b, op, t.shape[1], kh, o.stride_h, o.dilation_h_factor, o.padding)
        columns = axis(b, op, t.shape[2], kw, o.stride_w, o.dilation_w_factor, o.padding)
    except CheckError:
        return None  # said where the operation is lowered
    return rows.before, rows.behind, columns.before, columns.behind


def framed(b: Builder, op: Op) -> Ref:
    """A frame for the output, whose borders are written now; where its first pixel goes."""
    i = op.outputs[0]
    frame = b.frames[i]
    size = frame.height * frame.pitch
    block = b.block(size)
    b.emit("pad_image", frame.height, {
        mw.Y: block, mw.VALUE: fill_value(b, b.tensors[i]), mw.LINE: frame.w * frame.c, mw.LEFT: frame.left * frame.c,
        mw.RIGHT: frame.right * frame.c, mw.HEIGHT: frame.h, mw.TOP: frame.top, mw.PADDED_HEIGHT: frame.height,
    })  # fmt: skip
    b.framed[i] = frame
    b.places[i] = block.at(frame.top * frame.pitch + frame.left * frame.c)
    return b.places[i]
