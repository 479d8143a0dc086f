"""What a layer's weights meet: its input as rows, one for each product that they take part in (im2col)."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.graph import Op, Padding
from edgeq.quantmod import QuantMod
from edgeq.records import dataclass

Array = npt.NDArray[Any]


def rows(op: Op, x: Array, weights: tuple[int, ...], most: int) -> Array | None:
    """At most `most` rows of a layer's input, evenly spread, float32; None for a layer that is not laid out so.

    CONV_2D: (n, kh·kw·in_c), in the order of a weight's own axes; DEPTHWISE_CONV_2D: (n, kh·kw, in_c); FULLY_CONNECTED:
    (n, k). weights: their shape. Groups are None.
    """
    if op.code == "FULLY_CONNECTED":
        return _spread(x.reshape(-1, weights[1]), most)
    if op.code not in ("CONV_2D", "DEPTHWISE_CONV_2D") or op.options is None or x.ndim != 4:
        return None
    if op.code == "CONV_2D" and weights[3] != x.shape[3]:
        return None
    down, right = _sides(op, x.shape, weights)
    total = x.shape[0] * len(down) * len(right)
    at = np.arange(0, total, -(-total // most))
    image, at = np.divmod(at, len(down) * len(right))
    i, j = down[at // len(right)], right[at % len(right)]  # (n, kh), (n, kw)
    inside = ((i >= 0) & (i < x.shape[1]))[:, :, None] & ((j >= 0) & (j < x.shape[2]))[:, None, :]
    i, j = np.clip(i, 0, x.shape[1] - 1), np.clip(j, 0, x.shape[2] - 1)
    found = x[image[:, None, None], i[:, :, None], j[:, None, :]] * inside[..., None]
    if op.code == "CONV_2D":
        return np.asarray(found.reshape(len(found), -1), np.float32)
    return np.asarray(found.reshape(len(found), -1, x.shape[3]), np.float32)


def _spread(x: Array, most: int) -> Array:
    return np.array(x[:: -(-len(x) // most)], np.float32)  # its own: what it is cut from may be written again


def _sides(op: Op, shape: tuple[int, ...], weights: tuple[int, ...]) -> tuple[Array, Array]:
    """The rows, and the columns, that a window meets at each output position along a side: (out, k), outside: the border."""
    assert op.options is not None
    values = op.options.values
    window, stride = weights[1:3], (values["stride_h"], values["stride_w"])
    dilation = (values.get("dilation_h_factor") or 1, values.get("dilation_w_factor") or 1)
    places = []
    for size, k, s, d in zip(shape[1:3], window, stride, dilation, strict=True):
        extent = (k - 1) * d + 1
        same = values["padding"] == Padding.SAME
        count = -(-size // s) if same else (size - extent) // s + 1
        before = max((count - 1) * s + extent - size, 0) // 2 if same else 0
        places.append(np.arange(count)[:, None] * s + np.arange(k) * d - before)
    return places[0], places[1]


@dataclass(frozen=True, eq=False)
class Windows:
    """The windows of a layer that count on each sample: where they lie in its input, which then is cut without asking again.

    shape: of the input; width: of what lies at one place of it; at: (n, taps) places, flat; inside: which of those are no border,
    (n, taps, 1) float32, None where all are. down, right: the sides' places where all windows count, for pictures to be shifted.
    """

    shape: tuple[int, ...]
    width: int
    at: Array
    inside: Array | None
    sides: tuple[Array, Array] | None

    def __len__(self) -> int:
        return len(self.at)

    @property
    def nbytes(self) -> int:
        """Of a sample's windows as rows of float32."""
        return 4 * self.at.size * self.width

    def of(self, x: Array, q: QuantMod | None, some: slice = slice(None)) -> Array:
        """Of samples (m, …) with codes of q: (m, n, taps, width) float32, their own; some: of the windows."""
        at, inside = self.at[some], self.inside
        flat = x.reshape(len(x), -1, self.width)
        found = np.take(flat, at.reshape(-1), axis=1)
        real = found if q is None else q.dequantize(found)
        real = np.asarray(real, np.float32).reshape(len(x), *at.shape, self.width)
        if inside is not None:
            real *= inside[some]
        return real

    def shifted(self, x: Array, q: QuantMod | None) -> tuple[list[Array], Array]:
        """For each tap, what it meets at all windows of samples (m, …), less a value for each channel that is about their mean:
        views (images, rows, columns, width) float32; and those values.
        """
        assert self.sides is not None
        down, right = self.sides
        real = (x if q is None else q.dequantize(x)).reshape(-1, *self.shape[1:])
        about = np.asarray(np.einsum("nhwc->c", real) / np.float32(max(real.size // self.width, 1)), np.float32)
        top, left = -min(int(down.min()), 0), -min(int(right.min()), 0)
        high = top + max(int(down.max()) + 1, self.shape[1])
        wide = left + max(int(right.max()) + 1, self.shape[2])
        padded = np.empty((len(real), high, wide, self.width), np.float32)
        padded[:] = -about
        np.subtract(real, about, out=padded[:, top : top + self.shape[1], left : left + self.shape[2]])
        taps = []
        for i in range(down.shape[1]):
            rows = slice(top + int(down[0, i]), top + int(down[-1, i]) + 1, _step(down))
            for j in range(right.shape[1]):
                columns = slice(left + int(right[0, j]), left + int(right[-1, j]) + 1, _step(right))
                taps.append(padded[:, rows, columns])
        return taps, about


def _step(side: Array) -> int:
    return int(side[1, 0] - side[0, 0]) if len(side) > 1 else 1


def windows(op: Op, shape: tuple[int, ...], weights: tuple[int, ...], most: int) -> Windows | None:
    """At most `most` windows of a layer's input of this shape, evenly spread; None for a layer that `rows` does not lay out."""
    if op.code == "FULLY_CONNECTED":
        count = int(np.prod(shape)) // weights[1]
        return Windows(shape, weights[1], np.arange(0, count, -(-count // most))[:, None], None, None)
    if op.code not in ("CONV_2D", "DEPTHWISE_CONV_2D") or op.options is None or len(shape) != 4:
        return None
    if op.code == "CONV_2D" and weights[3] != shape[3]:
        return None
    down, right = _sides(op, shape, weights)
    total = shape[0] * len(down) * len(right)
    chosen = np.arange(0, total, -(-total // most))
    image, at = np.divmod(chosen, len(down) * len(right))
    i, j = down[at // len(right)], right[at % len(right)]  # (n, kh), (n, kw)
    inside = ((i >= 0) & (i < shape[1]))[:, :, None] & ((j >= 0) & (j < shape[2]))[:, None, :]
    i, j = np.clip(i, 0, shape[1] - 1), np.clip(j, 0, shape[2] - 1)
    flat = (image[:, None, None] * shape[1] + i[:, :, None]) * shape[2] + j[:, None, :]
    border = None if inside.all() else inside.reshape(len(at), -1, 1).astype(np.float32)
    all_of_them = len(chosen) == total
    return Windows(shape, shape[3], flat.reshape(len(at), -1), border, (down, right) if all_of_them else None)
