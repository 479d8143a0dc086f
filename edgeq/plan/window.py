"""Windows over images: output sizes, padding, and the padded copy that lets kernels forget about borders."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from edgeq.errors import CheckError
from edgeq.graph import Op, Padding, Tensor
from edgeq.kernels.words import move as mw
from edgeq.plan.builder import Builder, itemsize
from edgeq.plan.types import Ref, Words
from edgeq.records import dataclass, replace


@dataclass(frozen=True)
class Axis:
    """One spatial axis: input size, window, stride, dilation; padding before, output size.

    `room`: elements that there are where borders are as wide as another reader needs them, else 0.
    """

    size: int
    window: int
    stride: int
    dilation: int
    before: int
    out: int
    room: int = 0

    @property
    def padded(self) -> int:
        """Input elements that the windows reach over, borders included; never less than what is there."""
        return max(
            self.room, (self.out - 1) * self.stride + (self.window - 1) * self.dilation + 1, self.before + self.size
        )

    @property
    def behind(self) -> int:
        """Elements of the border behind."""
        return self.padded - self.before - self.size


def axis(b: Builder, op: Op, size: int, window: int, stride: int, dilation: int, padding: int) -> Axis:
    """TFLite's ComputeOutSize and ComputePadding (kernels/padding.h)."""
    if stride < 1 or dilation < 1 or window < 1:
        raise CheckError(
            f"{b.where(op)} has stride {stride}, dilation {dilation}, window {window}; at least 1 is expected"
        )
    extent = (window - 1) * dilation + 1
    if padding == Padding.SAME:
        out = -(-size // stride)
        before = max((out - 1) * stride + extent - size, 0) // 2
    elif padding == Padding.VALID:
        out, before = (size + stride - extent) // stride, 0
    else:
        raise CheckError(f"{b.where(op)} has padding {padding}, SAME (0) or VALID (1) is expected")
    if out < 1:
        raise CheckError(f"{b.where(op)}: a window of {extent} does not fit an input of {size}")
    return Axis(size, window, stride, dilation, before, out)


def image(b: Builder, op: Op, t: Tensor) -> tuple[int, int, int, int]:
    """(batch, height, width, channels) of a tensor that must be an image batch without empty dimensions."""
    if len(t.shape) != 4 or min(t.shape) < 1:
        raise CheckError(
            f"{b.where(op)}: input {t.name!r} has shape {list(t.shape)}, (batch, height, width, channels) is expected"
        )
    return t.shape[0], t.shape[1], t.shape[2], t.shape[3]


def fill_value(b: Builder, t: Tensor) -> int:
    """The byte that is real zero in a tensor."""
    if t.dtype not in ("int8", "uint8"):
        return 0
    return b.zero_point(t) if t.quantization is not None else 128 if t.dtype == "int8" else 0


def bordered(b: Builder, op: Op, rows: Axis, columns: Axis) -> tuple[Ref, Axis, Axis]:
    """The input with its borders made real, as `padded_input`, or in the frame that it was written in; and the axes there."""
    x, frame = b.read(op, 0), b.framed.get(op.inputs[0])
    if frame is None:
        return padded_input(b, x, b.tensor(op, 0), rows, columns), rows, columns
    start = x.at(-rows.before * frame.pitch - columns.before * frame.c)
    return start, replace(rows, room=frame.height), replace(columns, room=frame.width)


def padded_input(b: Builder, x: Ref, t: Tensor, rows: Axis, columns: Axis) -> Ref:
    """The input with its borders made real, or the input itself where there are none."""
    n, h, w, c = t.shape
    if rows.padded == h and columns.padded == w:
        return x
    size = itemsize(t)
    out = b.block(n * rows.padded * columns.padded * c * size)
    words: Words = {
        mw.X: x, mw.Y: out, mw.VALUE: fill_value(b, t), mw.LINE: w * c * size, mw.LEFT: columns.before * c * size,
        mw.RIGHT: (columns.padded - columns.before - w) * c * size, mw.HEIGHT: h, mw.TOP: rows.before,
        mw.PADDED_HEIGHT: rows.padded,
    }  # fmt: skip
    b.emit("pad_image", n * rows.padded, words)
    return out


def columns_input(b: Builder, x: Ref, t: Tensor, rows: Axis, columns: Axis) -> tuple[Ref, int]:
    """For each line of output the three rows of an RGB image that its windows are in, column by column; bytes of such a line."""
    n, h, w, c = t.shape
    pitch = 9 * columns.padded + 1  # of the last pixels' vector one byte too many is written
    pitch += -pitch % 64
    out = b.block(n * rows.out * pitch)
    words: Words = {
        mw.X: x, mw.Y: out, mw.VALUE: fill_value(b, t), mw.LINE: w * c, mw.LEFT: columns.before, mw.RIGHT: columns.behind,
        mw.HEIGHT: h, mw.TOP: rows.before, mw.PADDED_HEIGHT: rows.out, mw.STRIDE: rows.stride, mw.PITCH: pitch,
    }  # fmt: skip
    b.emit("pad_columns", n * rows.out, words)
    return out, pitch


def phased_input(b: Builder, x: Ref, t: Tensor, rows: Axis, columns: Axis) -> tuple[Ref, int]:
    """The input with real borders and each row's pixels sorted by their place modulo the stride; pixels of a phase."""
    n, h, w, c = t.shape
    run, each = c * itemsize(t), -(-columns.padded // columns.stride)
    out = b.block(n * rows.padded * columns.stride * each * run)
    words: Words = {
        mw.X: x, mw.Y: out, mw.VALUE: fill_value(b, t), mw.LINE: w * run, mw.RUN: run, mw.LEFT: columns.before, mw.HEIGHT: h,
        mw.TOP: rows.before, mw.PADDED_HEIGHT: rows.padded, mw.STRIDE: columns.stride, mw.PIXELS: each,
    }  # fmt: skip
    b.emit("pad_phases", n * rows.padded, words)
    return out, each


def copy(
    b: Builder, x: Ref, y: Ref, dims: tuple[int, ...], xs: tuple[int, ...], ys: tuple[int, ...], run: int,
    *, x_at: Ref | None = None, y_at: Ref | None = None,
) -> None:  # fmt: skip
    """y[i…] = x[i…] for runs of `run` bytes; xs and ys are byte strides. At most five dims after merging what lies together.

    `x_at`, `y_at`: where an int64 lies that is added to the address when the machine runs.
    """
    merged: list[tuple[int, int, int]] = []
    for d, sx, sy in zip(dims, xs, ys, strict=True):
        if d == 1:
            continue
        if merged and merged[-1][1] == sx * d and merged[-1][2] == sy * d:
            merged[-1] = (merged[-1][0] * d, sx, sy)
        else:
            merged.append((d, sx, sy))
    while merged and merged[-1][1] == run and merged[-1][2] == run:
        run *= merged.pop()[0]
    head, tail = merged[:-5], merged[-5:]
    five = [(1, 0, 0)] * (5 - len(tail)) + tail
    units = int(np.prod([d for d, _, _ in five]))
    words: Words = {mw.RUN: run}
    words |= {w: at for w, at in ((mw.X_AT, x_at), (mw.Y_AT, y_at)) if at is not None}
    words |= {w: d for w, (d, _, _) in zip((mw.D1, mw.D2, mw.D3, mw.D4), five[1:], strict=True)}
    words |= {w: s for w, (_, s, _) in zip((mw.X0, mw.X1, mw.X2, mw.X3, mw.X4), five, strict=True)}
    words |= {w: s for w, (_, _, s) in zip((mw.Y0, mw.Y1, mw.Y2, mw.Y3, mw.Y4), five, strict=True)}
    for index in np.ndindex(*(d for d, _, _ in head)):
        ox = sum(i * s for i, (_, s, _) in zip(index, head, strict=True))
        oy = sum(i * s for i, (_, _, s) in zip(index, head, strict=True))
        b.emit("copy_nd", units, {mw.X: x.at(ox), mw.Y: y.at(oy), **words})


def strides_of(shape: tuple[int, ...], size: int) -> tuple[int, ...]:
    """Byte strides of a contiguous array."""
    return tuple(math.prod(shape[i + 1 :]) * size for i in range(len(shape)))


def same_type(b: Builder, op: Op, x: Tensor, y: Tensor) -> None:
    """Refuse another type where only places should change. TFLite moves codes and does not look at their scales."""
    if x.dtype != y.dtype:
        raise CheckError(f"{b.where(op)} turns {x.dtype} into {y.dtype}; the same type is expected")


def same_scale(b: Builder, op: Op, x: Tensor, y: Tensor) -> None:
    """As same_type, and refuse another scale or zero point, as TFLite does where it looks at them."""
    same_type(b, op, x, y)
    p, q = x.quantization, y.quantization
    if (
        p is not None
        and q is not None
        and x.dtype in ("int8", "uint8", "int16")
        and (p.scale[0] != q.scale[0] or p.zero_point[0] != q.zero_point[0])
    ):
        raise CheckError(
            f"{b.where(op)}: input {x.name!r} and output differ in scale or zero point; equal ones are expected"
        )


def permuted(b: Builder, x: Ref, y: Ref, shape: tuple[int, ...], order: Sequence[int], size: int) -> None:
    """y = x of `shape` with its dimensions in this order."""
    steps = strides_of(shape, size)
    dims = tuple(shape[i] for i in order)
    if math.prod(dims):
        copy(b, x, y, dims, tuple(steps[i] for i in order), strides_of(dims, size), size)


def broadcasted(
    b: Builder, x: Ref, shape: tuple[int, ...], out: tuple[int, ...], size: int, y: Ref | None = None
) -> Ref:
    """x of `shape` repeated to `out` (NumPy's rules, which hold): in y or a block of its own, or x itself where nothing is."""
    if y is None and math.prod(shape) == math.prod(out):
        return x
    target = b.block(math.prod(out) * size) if y is None else y
    wide = (1,) * (len(out) - len(shape)) + shape
    steps = tuple(0 if d == 1 else s for d, s in zip(wide, strides_of(wide, size), strict=True))
    if math.prod(out):
        copy(b, x, target, out, steps, strides_of(out, size), size)
    return target
