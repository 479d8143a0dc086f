"""MediaPipe's custom operations: pooling that remembers where, and landmarks that say what part of an image to look at.

Sources: mediapipe/util/tflite/operations max_pool_argmax.cc, max_unpooling.cc, landmarks_to_transform_matrix.cc,
transform_tensor_bilinear.cc and transform_landmarks.cc, the latter three in version 2. NumPy computes them.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Mapping

import numpy as np

from edgeq.errors import CheckError
from edgeq.graph import Array, Op
from edgeq.plan.builder import Builder
from edgeq.plan.flexbuffer import integers, scalars
from edgeq.plan.lower.custom import call
from edgeq.plan.lower.host import quietly, taps
from edgeq.plan.multiplier import f32, float_bounds
from edgeq.plan.window import axis, image

MAX_STEP = 64
"""Of a window or stride; a window has no more taps than host.MAX_TAPS."""


def floats(b: Builder, op: Op, inputs: int, outputs: int) -> None:
    """Refuse other numbers of tensors, and other types than float32."""
    if len(op.inputs) != inputs or len(op.outputs) != outputs:
        raise CheckError(
            f"{b.where(op)} has {len(op.inputs)} inputs and {len(op.outputs)} outputs, {inputs} and {outputs} are expected"
        )
    types = [b.tensor(op, k).dtype for k in range(inputs)] + [b.output(op, k).dtype for k in range(outputs)]
    if set(types) != {"float32"}:
        raise b.unsupported(op, f"on {types}")


def pooling(b: Builder, op: Op) -> tuple[int, tuple[int, int], tuple[int, int], int]:
    """Padding, strides (height, width), window (height, width) and activation: a TfLitePoolParams."""
    raw = op.custom_options or b""
    if len(raw) < 24:
        raise CheckError(f"{b.where(op)}: {len(raw)} bytes of options, at least 24 are expected")
    padding, stride_w, stride_h, width, height, activation = struct.unpack("<iiiiii", raw[:24])
    if padding not in (1, 2) or not all(1 <= v <= MAX_STEP for v in (stride_w, stride_h, width, height)):
        raise CheckError(
            f"{b.where(op)}: padding {padding}, strides {stride_h} and {stride_w}, a window of {height} by {width}"
        )
    return padding - 1, (stride_h, stride_w), (height, width), activation


def max_pool_argmax(b: Builder, op: Op) -> None:
    """MaxPoolingWithArgmax2D: maxima, and behind them where in the window each first lay, as a float and a tenth."""
    floats(b, op, 1, 2)
    padding, strides, window, activation = pooling(b, op)
    n, h, w, c = image(b, op, b.tensor(op, 0))
    rows, columns = (axis(b, op, d, k, s, 1, padding) for d, k, s in zip((h, w), window, strides, strict=True))
    low, high = float_bounds(activation)
    edges, each = [(a.before, a.behind) for a in (rows, columns)], taps(b, op, [rows, columns])

    @quietly
    def kernel(x: Array, y: Array, where: Array) -> None:
        least = np.finfo(f32).min
        padded = np.pad(x, [(0, 0), *edges, (0, 0)], constant_values=-np.inf)
        best, place = np.full(y.shape, least), np.zeros(y.shape, f32)
        for k, (_, pixels) in enumerate(each):
            seen = padded[pixels]
            more = seen > best
            best, place = np.where(more, seen, best), np.where(more, f32(k), place)
        y[...], where[...] = np.clip(best, low, high), place + f32(0.1)

    shape = (n, rows.out, columns.out, c)
    call(b, op, kernel, [shape, shape], macs=math.prod(shape) * math.prod(window))


def max_unpool(b: Builder, op: Op) -> None:
    """MaxUnpooling2D: values back where MaxPoolingWithArgmax2D found them, zeros elsewhere; what lies outside is left out."""
    floats(b, op, 2, 1)
    _, strides, window, _ = pooling(b, op)
    x = b.tensor(op, 0)
    n, h, w, c = image(b, op, x)
    if b.tensor(op, 1).shape != x.shape:
        raise CheckError(f"{b.where(op)}: places {list(b.tensor(op, 1).shape)} for values {list(x.shape)}")
    size = h * window[0], w * window[1]
    before = [
        max((d - 1) * s + k - whole, 0) // 2 for d, s, k, whole in zip((h, w), strides, window, size, strict=True)
    ]  # ComputePadding

    @quietly
    def kernel(x: Array, where: Array, y: Array) -> None:
        place = np.clip(np.nan_to_num(where), -(2.0**30), 2.0**30).astype(np.int64)
        rows = np.arange(h)[:, None, None] * strides[0] - before[0] + np.trunc(place / window[1]).astype(np.int64)
        columns = np.arange(w)[:, None] * strides[1] - before[1] + np.fmod(place, window[1])
        inside = (rows >= 0) & (rows < size[0]) & (columns >= 0) & (columns < size[1])
        batch, _, _, channel = np.nonzero(inside)
        y[batch, rows[inside], columns[inside], channel] = x[inside]

    call(b, op, kernel, [(n, *size, c)], macs=x.size * 8)


def landmarks_to_matrix(b: Builder, op: Op) -> None:
    """Landmarks2TransformMatrix: landmarks (1, n, 3) → (1, 4, 4), what maps a crop of the output's size around some of them to
    the image: turned so that two of them lie level, as large as all that are listed, and a factor.
    """
    floats(b, op, 1, 1)
    shape = b.tensor(op, 0).shape
    try:
        found, chosen = scalars(op.custom_options or b""), integers(op.custom_options or b"", "subset_idxs")
        left, right = int(found["left_rotation_idx"]), int(found["right_rotation_idx"])
        height, width = int(found["output_height"]), int(found["output_width"])
        scale_x, scale_y, target = (f32(found[k]) for k in ("scale_x", "scale_y", "target_rotation_radians"))
    except (ValueError, KeyError, OverflowError) as error:
        raise CheckError(f"{b.where(op)}: its options are no such map: {error}") from None
    sound = len(shape) == 3 and shape[0] == 1 and shape[2] == 3 and chosen
    if not sound or not all(0 <= i < shape[1] for i in (left, right, *chosen)) or min(height, width) < 1:
        raise CheckError(f"{b.where(op)}: landmarks {list(shape)} and {len(chosen)} that are listed do not go together")
    if not (scale_x > 0 and scale_y > 0 and np.isfinite([scale_x, scale_y, target]).all()):
        raise CheckError(f"{b.where(op)}: scales {scale_x} and {scale_y}, numbers above 0 are expected")

    @quietly
    def kernel(x: Array, y: Array) -> None:
        points = x[0, :, :2].astype(np.float64)
        turn = float(target) - math.atan2(*(points[right] - points[left])[::-1])
        rotation = _rotation(turn)
        seen = points[chosen] @ rotation.T
        low, high = seen.min(0), seen.max(0)
        middle = _rotation(-turn) @ ((low + high) / 2)
        scale = np.array([scale_x, scale_y], np.float64) * (high - low) / (width, height)
        y[0] = np.eye(4)
        y[0, :2, :2] = _rotation(-turn) * scale
        y[0, :2, 3] = middle - y[0, :2, :2].astype(np.float64) @ (width / 2, height / 2)

    call(b, op, kernel, [(1, 4, 4)])


def _rotation(angle: float) -> Array:
    return np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])


def transform_bilinear(b: Builder, op: Op) -> None:
    """TransformTensorBilinear: an image (1, h, w, c) seen through a matrix (1, 4, 4), mixed between pixels, 0 outside."""
    floats(b, op, 2, 1)
    n, h, w, c = image(b, op, b.tensor(op, 0))
    try:
        found = scalars(op.custom_options or b"")
        rows, columns = int(found["output_height"]), int(found["output_width"])
    except (ValueError, KeyError, OverflowError) as error:
        raise CheckError(f"{b.where(op)}: its options are no such map: {error}") from None
    if n != 1 or b.tensor(op, 1).size != 16 or min(rows, columns) < 1:
        raise CheckError(
            f"{b.where(op)}: an image of shape {[n, h, w, c]} and a matrix of {b.tensor(op, 1).size} numbers"
        )

    @quietly
    def kernel(x: Array, matrix: Array, y: Array) -> None:
        m = matrix.reshape(4, 4)[:2].astype(f32)
        shift = m[:, 3] + (m[:, 0] * f32(0.5) + m[:, 1] * f32(0.5) - f32(0.5))
        across, down = np.arange(columns, dtype=f32), np.arange(rows, dtype=f32)[:, None]
        px, py = (m[k, 0] * across + m[k, 1] * down + shift[k] for k in (0, 1))
        inside = (px >= 0) & (px <= w - 1) & (py >= 0) & (py <= h - 1)
        px, py = np.where(inside, px, f32(0)), np.where(inside, py, f32(0))
        left, top = np.floor(px).astype(np.int64), np.floor(py).astype(np.int64)
        right, low = (px - left).astype(f32)[..., None], (py - top).astype(f32)[..., None]
        image_ = np.pad(x[0], [(0, 1), (0, 1), (0, 0)])
        upper = (1 - right) * image_[top, left] + right * image_[top, left + 1]
        lower = (1 - right) * image_[top + 1, left] + right * image_[top + 1, left + 1]
        y[0] = np.where(inside[..., None], low * lower + (1 - low) * upper, f32(0))

    call(b, op, kernel, [(1, rows, columns, c)], macs=rows * columns * c * 16)


def transform_landmarks(b: Builder, op: Op) -> None:
    """TransformLandmarks: x and y of landmarks (1, n, 2 or 3) through a matrix (1, 4, 4); z stays."""
    floats(b, op, 2, 1)
    shape = b.tensor(op, 0).shape
    if len(shape) != 3 or shape[2] not in (2, 3) or b.tensor(op, 1).size != 16:
        raise CheckError(f"{b.where(op)}: landmarks {list(shape)} and a matrix of {b.tensor(op, 1).size} numbers")

    @quietly
    def kernel(x: Array, matrix: Array, y: Array) -> None:
        m = matrix.reshape(4, 4)
        y[...] = x
        for k in (0, 1):
            y[..., k] = x[..., 0] * m[k, 0] + x[..., 1] * m[k, 1] + m[k, 3]

    call(b, op, kernel, [shape])


LOWERINGS: Mapping[str, Callable[[Builder, Op], None]] = {
    "MaxPoolingWithArgmax2D": max_pool_argmax,
    "MaxUnpooling2D": max_unpool,
    "Landmarks2TransformMatrix": landmarks_to_matrix,
    "TransformTensorBilinear": transform_bilinear,
    "TransformLandmarks": transform_landmarks,
}
