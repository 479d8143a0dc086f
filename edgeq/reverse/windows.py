"""Windows over images: padding, patches as rows of a matrix, and the way back."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgeq.graph import Array, Padding
from edgeq.reverse.node import Node


@dataclass(frozen=True)
class Window:
    """How a window of `size` walks over an image; every field is (vertical, horizontal). before, after: padding."""

    size: tuple[int, int]
    stride: tuple[int, int]
    dilation: tuple[int, int]
    before: tuple[int, int]
    after: tuple[int, int]
    out: tuple[int, int]

    def padded(self, x: Array, value: float = 0.0) -> Array:
        """(n, h, w, c) with its border."""
        if not any((*self.before, *self.after)):
            return x
        pads = ((0, 0), (self.before[0], self.after[0]), (self.before[1], self.after[1]), (0, 0))
        return np.pad(x, pads, constant_values=value)

    def cut(self, padded: Array, shape: tuple[int, ...]) -> Array:
        """The image of `shape` without its border."""
        top, left = self.before
        return padded[:, top : top + shape[1], left : left + shape[2]]

    def tap(self, i: int, j: int) -> tuple[slice, slice, slice]:
        """Where in a padded image tap (i, j) meets the output's positions."""
        top, left = i * self.dilation[0], j * self.dilation[1]
        return (
            slice(None),
            slice(top, top + (self.out[0] - 1) * self.stride[0] + 1, self.stride[0]),
            slice(left, left + (self.out[1] - 1) * self.stride[1] + 1, self.stride[1]),
        )

    @property
    def plain(self) -> bool:
        """Whether each output position reads the one input position at its place."""
        return self.size == (1, 1) and self.stride == (1, 1)

    def patches(self, padded: Array) -> Array:
        """(n·oh·ow, kh·kw·c): what each output position meets."""
        n, c = padded.shape[0], padded.shape[3]
        if self.plain:
            return padded.reshape(-1, c)
        s = padded.strides
        (sy, sx), (dy, dx) = self.stride, self.dilation
        view = np.lib.stride_tricks.as_strided(
            padded, (n, *self.out, *self.size, c), (s[0], s[1] * sy, s[2] * sx, s[1] * dy, s[2] * dx, s[3])
        )
        return view.reshape(-1, self.size[0] * self.size[1] * c)

    def spread(self, g: Array, w: Array, padded_shape: tuple[int, ...]) -> Array:
        """`scattered` of g (n·oh·ow, out_c) times w (out_c, kh, kw, c), a tap at a time: the products of all taps together
        would go through memory twice."""
        n, _, _, c = padded_shape
        if self.plain:
            whole: Array = (g @ w.reshape(len(w), -1)).reshape(padded_shape)
            return whole
        out = np.zeros(padded_shape, g.dtype)
        for i in range(self.size[0]):
            for j in range(self.size[1]):
                out[self.tap(i, j)] += (g @ w[:, i, j]).reshape(n, *self.out, c)
        return out

    def scattered(self, rows: Array, padded_shape: tuple[int, ...]) -> Array:
        """The sum of `rows` (n·oh·ow, kh·kw·c) over the positions of a padded image that they were read from."""
        n, _, _, c = padded_shape
        if self.plain:
            return rows.reshape(padded_shape)
        rows = rows.reshape(n, *self.out, *self.size, c)
        out = np.zeros(padded_shape, rows.dtype)
        for i in range(self.size[0]):
            for j in range(self.size[1]):
                out[self.tap(i, j)] += rows[:, :, :, i, j]
        return out


def window(node: Node, shape: tuple[int, ...], size: tuple[int, int]) -> Window:
    """The window of a convolution or pooling over an image of `shape` (n, h, w, c)."""
    stride = (int(node.option("stride_h", 1)), int(node.option("stride_w", 1)))
    dilation = (int(node.option("dilation_h_factor", 1)), int(node.option("dilation_w_factor", 1)))
    extents = [(k - 1) * d + 1 for k, d in zip(size, dilation, strict=True)]
    if node.option("padding", Padding.SAME) == Padding.SAME:
        out = [-(-n // s) for n, s in zip(shape[1:3], stride, strict=True)]
        total = [max((o - 1) * s + e - n, 0) for o, s, e, n in zip(out, stride, extents, shape[1:3], strict=True)]
    else:
        out = [(n - e) // s + 1 for n, e, s in zip(shape[1:3], extents, stride, strict=True)]
        total = [0, 0]
    before = (total[0] // 2, total[1] // 2)
    return Window(size, stride, dilation, before, (total[0] - before[0], total[1] - before[1]), (out[0], out[1]))
