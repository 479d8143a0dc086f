"""RESIZE_BILINEAR and RESIZE_NEAREST_NEIGHBOR. Same scale in and out; both options of where pixels lie."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from .delegation import takes
from .fixedpoint import round_half_away
from .node import Node, f32

Array = npt.NDArray[Any]


def nearest(node: Node) -> Array:
    """x (n, h, w, c), size (2,) int32: the pixel that each output pixel falls on, in float32 coordinates."""
    x = node.array(0)
    rows, columns = (nearest_index(node, x.shape[1 + k], int(node.array(1)[k])) for k in (0, 1))
    return x[:, rows][:, :, columns]


def nearest_index(node: Node, size: int, out_size: int) -> Array:
    """GetNearestNeighbor along one axis."""
    corners = bool(node.option("align_corners", False)) and out_size > 1
    scale = f32(size - 1) / f32(out_size - 1) if corners else f32(size) / f32(out_size)
    offset = f32(0.5 if node.option("half_pixel_centers", False) else 0.0)
    place = (np.arange(out_size).astype(f32) + offset) * scale
    index = round_half_away(place) if node.option("align_corners", False) else np.floor(place)
    return np.clip(index.astype(np.int64), 0, size - 1)


def bilinear(node: Node) -> Array:
    """x (n, h, w, c), size (2,) int32: four neighbours weighted by nearness."""
    if takes(node):
        return bilinear_q11(node)
    if node.output.dtype in ("float32", "uint8"):
        return bilinear_float(node)
    return bilinear_q10(node)


def bilinear_float(node: Node) -> Array:
    """reference_ops::ResizeBilinear: each neighbour by its weight, then the sum, in float32; uint8 adds a half and truncates."""
    x = node.array(0).astype(f32)
    (fy, y0, y1), (fx, x0, x1) = (float_places(node, x.shape[1 + k], int(node.array(1)[k])) for k in (0, 1))
    fy, fx = fy[None, :, None, None], fx[None, None, :, None]
    one = f32(1)
    total = (
        x[:, y0][:, :, x0] * (one - fy) * (one - fx)
        + x[:, y1][:, :, x0] * fy * (one - fx)
        + x[:, y0][:, :, x1] * (one - fy) * fx
        + x[:, y1][:, :, x1] * fy * fx
    )
    return total if node.output.dtype == "float32" else (total + f32(0.5)).astype(node.output.dtype)


def float_places(node: Node, size: int, out_size: int) -> tuple[Array, Array, Array]:
    """ComputeInterpolationValues: distance from the lower neighbour, lower and upper neighbour."""
    corners = bool(node.option("align_corners", False)) and out_size > 1
    scale = f32(size - 1) / f32(out_size - 1) if corners else f32(size) / f32(out_size)
    value = np.arange(out_size).astype(f32)
    half = node.option("half_pixel_centers", False)
    place = (value + f32(0.5)) * scale - f32(0.5) if half else value * scale
    lower = np.maximum(np.floor(place), 0).astype(np.int64)
    upper = np.minimum(np.ceil(place), size - 1).astype(np.int64)
    return place - lower.astype(f32), np.minimum(lower, size - 1), upper


def bilinear_q10(node: Node) -> Array:
    """reference_ops::ResizeBilinearInteger: 10 fraction bits along each axis, rounded half away from zero."""
    x = node.array(0).astype(np.int64)
    (fy, y0, y1), (fx, x0, x1) = (integer_places(node, x.shape[1 + k], int(node.array(1)[k])) for k in (0, 1))
    fy, fx = fy[None, :, None, None], fx[None, None, :, None]
    total = (
        x[:, y0][:, :, x0] * (1024 - fy) * (1024 - fx)
        + x[:, y1][:, :, x0] * fy * (1024 - fx)
        + x[:, y0][:, :, x1] * (1024 - fy) * fx
        + x[:, y1][:, :, x1] * fy * fx
    )
    magnitude = (np.abs(total) + (1 << 19)) >> 20
    return np.where(total > 0, magnitude, -magnitude).astype(node.output.dtype)


def integer_places(node: Node, size: int, out_size: int) -> tuple[Array, Array, Array]:
    """ComputeInterpolationValuesInteger: as float_places, in units of 2^-10; C's division truncates."""
    scale = (1024 * size + out_size // 2) // out_size
    if node.option("align_corners", False) and out_size > 1:
        scale = (1024 * (size - 1) + (out_size - 1) // 2) // (out_size - 1)
    value = np.arange(out_size)
    place = value * scale + scale // 2 - 512 if node.option("half_pixel_centers", False) else value * scale
    lower = np.maximum(truncated(place), 0)
    upper = np.minimum(truncated(place + 1023), size - 1)
    return place - 1024 * lower, np.minimum(lower, size - 1), upper


def truncated(x: Array) -> Array:
    """x / 1024 towards zero."""
    return np.where(x >= 0, x >> 10, -((-x) >> 10))


def bilinear_q11(node: Node) -> Array:
    """XNNPACK s8/u8 ibilinear: 11 fraction bits along each axis, first across, then down, one rounding, half up."""
    x = node.array(0).astype(np.int64)
    (fy, y0, y1), (fx, x0, x1) = (q11_places(node, x.shape[1 + k], int(node.array(1)[k])) for k in (0, 1))
    fy, fx = fy[None, :, None, None], fx[None, None, :, None]
    top = (x[:, y0][:, :, x0] << 11) + (x[:, y0][:, :, x1] - x[:, y0][:, :, x0]) * fx
    bottom = (x[:, y1][:, :, x0] << 11) + (x[:, y1][:, :, x1] - x[:, y1][:, :, x0]) * fx
    total = (top << 11) + (bottom - top) * fy
    return ((total + (1 << 21)) >> 22).astype(node.output.dtype)


def q11_places(node: Node, size: int, out_size: int) -> tuple[Array, Array, Array]:
    """xnn_indirection_init_resize_bilinear2d_hwc_q11: float32 coordinates within the image, the fraction in 2^-11."""
    corners = bool(node.option("align_corners", False))
    legacy = not corners and not node.option("half_pixel_centers", False)
    adjusted = 1 if corners and out_size != 1 else 0
    scale = f32(size - adjusted) / f32(out_size - adjusted)
    offset = f32(0) if corners or legacy else f32(0.5) * scale - f32(0.5)
    place = np.clip(np.arange(out_size).astype(f32) * scale + offset, f32(0), f32(size - 1))
    lower = place.astype(np.int64)
    fraction = np.rint((place - lower.astype(f32)) * f32(2048)).astype(np.int64)
    return fraction, lower, np.minimum(lower + 1, size - 1)
