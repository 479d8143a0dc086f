"""RESIZE_BILINEAR and RESIZE_NEAREST_NEIGHBOR: which pixels and how near is found here, per row and per column."""

from __future__ import annotations

import numpy as np

from edgeq.errors import CheckError
from edgeq.graph import Array, Op
from edgeq.kernels.words import gather as gw
from edgeq.kernels.words import resize as rw
from edgeq.plan.builder import Builder, itemsize
from edgeq.plan.delegation import takes
from edgeq.plan.lower.slices import numbers
from edgeq.plan.multiplier import f32
from edgeq.plan.types import Words
from edgeq.plan.window import image, same_scale

MAX_SIZE = 1 << 20
"""Rows or columns of an output; float32 and 10-bit coordinates lose their meaning far below."""


def geometry(b: Builder, op: Op) -> tuple[tuple[int, int, int, int], tuple[int, int], bool, bool]:
    """Input shape, output rows and columns, align_corners, half_pixel_centers."""
    x = b.tensor(op, 0)
    shape, wanted = image(b, op, x), numbers(b, op, 1)
    if len(wanted) != 2 or not all(1 <= d <= MAX_SIZE for d in wanted) or max(shape[1:3]) > MAX_SIZE:
        raise CheckError(f"{b.where(op)}: {list(shape)} to {wanted}; two lengths from 1 to {MAX_SIZE} are expected")
    o = op.options
    assert o is not None
    corners, half = bool(o.align_corners), bool(o.half_pixel_centers)
    if corners and half:
        raise CheckError(f"{b.where(op)}: both align_corners and half_pixel_centers; one at most is expected")
    y = b.expect_shape(op, (shape[0], wanted[0], wanted[1], shape[3]))
    same_scale(b, op, x, y)
    return shape, (wanted[0], wanted[1]), corners, half


def ratio(size: int, out: int, corners: bool) -> np.float32:
    """Input pixels per output pixel."""
    return f32(f32(size - 1) / f32(out - 1)) if corners and out > 1 else f32(f32(size) / f32(out))


def entries(lower: Array, upper: Array, fraction: Array) -> Array:
    """(out, 3) int32; float32 fractions as bits."""
    bits = fraction.astype(np.float32).view(np.int32) if fraction.dtype.kind == "f" else fraction
    table: Array = np.stack([lower, upper, bits], axis=1).astype(np.int32)
    return table


def real_places(size: int, out: int, corners: bool, half: bool) -> Array:
    """reference_ops ComputeInterpolationValues."""
    i, scale = np.arange(out).astype(np.float32), ratio(size, out, corners)
    place = (i + f32(0.5)) * scale - f32(0.5) if half else i * scale
    lower = np.maximum(np.floor(place), 0).astype(np.int64)
    upper = np.minimum(np.ceil(place), size - 1).astype(np.int64)
    return entries(np.minimum(lower, size - 1), upper, place - lower.astype(np.float32))


def q10_places(size: int, out: int, corners: bool, half: bool) -> Array:
    """reference_ops ComputeInterpolationValuesInteger: 10 fraction bits."""
    scale = (1024 * size + out // 2) // out
    if corners and out > 1:
        scale = (1024 * (size - 1) + (out - 1) // 2) // (out - 1)
    place = np.arange(out, dtype=np.int64) * scale + (scale // 2 - 512 if half else 0)
    lower = np.maximum(np.where(place >= 0, place >> 10, -((-place) >> 10)), 0)
    upper = np.minimum(np.where(place >= -1023, (place + 1023) >> 10, 0), size - 1)
    return entries(np.minimum(lower, size - 1), np.maximum(upper, 0), place - 1024 * lower)


def q11_places(size: int, out: int, corners: bool, half: bool) -> Array:
    """xnn_indirection_init_resize_bilinear2d_hwc_q11: within the image, 11 fraction bits."""
    less = 1 if corners and out != 1 else 0
    scale = f32(f32(size - less) / f32(out - less))
    offset = f32(f32(0.5) * scale - f32(0.5)) if half else f32(0)
    place = np.clip(np.arange(out).astype(np.float32) * scale + offset, f32(0), f32(size - 1))
    lower = place.astype(np.int64)
    fraction = np.rint((place - lower.astype(np.float32)) * f32(2048)).astype(np.int64)
    return entries(lower, np.minimum(lower + 1, size - 1), fraction)


def bilinear(b: Builder, op: Op) -> None:
    """RESIZE_BILINEAR: float32, int8, uint8, int16."""
    (n, h, w, c), (rows, columns), corners, half = geometry(b, op)
    x = b.tensor(op, 0)
    kernel = {"float32": "resize_f32", "int8": "resize_u8", "uint8": "resize_u8", "int16": "resize_s16"}.get(x.dtype)
    if kernel is None:
        raise b.unsupported(op, f"on {x.dtype}")
    places, mode = q10_places, rw.Q10
    if takes(b, op):
        places, mode = q11_places, rw.Q11
    elif x.dtype in ("float32", "uint8"):
        places, mode = real_places, rw.REAL
    words: Words = {
        rw.IN_H: h, rw.IN_W: w, rw.C: c, rw.OUT_H: rows, rw.OUT_W: columns, rw.MODE: mode,
        rw.ROWS: b.constant(places(h, rows, corners, half)), rw.COLUMNS: b.constant(places(w, columns, corners, half)),
        rw.CENTRE: 128 if x.dtype == "int8" else 0,
    }  # fmt: skip
    b.emit(kernel, n * rows, {**words, rw.X: b.read(op, 0), rw.Y: b.write(op)})


def nearest_index(size: int, out: int, corners: bool, half: bool) -> Array:
    """GetNearestNeighbor."""
    place = (np.arange(out).astype(np.float32) + f32(0.5 if half else 0.0)) * ratio(size, out, corners)
    index = np.floor(place.astype(np.float64) + 0.5) if corners else np.floor(place)
    clamped: Array = np.clip(index.astype(np.int64), 0, size - 1)
    return clamped


def nearest(b: Builder, op: Op) -> None:
    """RESIZE_NEAREST_NEIGHBOR, any type: pixels gathered by constant indices."""
    (n, h, w, c), (rows, columns), corners, half = geometry(b, op)
    size = itemsize(b.tensor(op, 0))
    index = nearest_index(h, rows, corners, half)[:, None] * w + nearest_index(w, columns, corners, half)
    words: Words = {
        gw.INDICES: b.constant(index.astype(np.int32)), gw.DEPTH: 1, gw.COUNT: rows * columns, gw.OUTER: n,
        gw.STRIDE: h * w * c * size, gw.LIMITS: b.constant(np.array([h * w], np.int64)),
        gw.STRIDES: b.constant(np.array([c * size], np.int64)), gw.RUN: c * size,
    }  # fmt: skip
    b.emit("gather", n * rows * columns, {**words, gw.X: b.read(op, 0), gw.Y: b.write(op)})


LOWERINGS = {"RESIZE_BILINEAR": bilinear, "RESIZE_NEAREST_NEIGHBOR": nearest}
