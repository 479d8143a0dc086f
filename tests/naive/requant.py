"""QUANTIZE and DEQUANTIZE."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from .delegation import takes
from .fixedpoint import multiply_by_quantized_multiplier, multiply_half_up, quantize_multiplier, round_half_away
from .node import Node, centred, f32, scale_of, zero_point_of

Array = npt.NDArray[Any]


LANES = 16  # what LiteRT's AVX2 loops take at a time where they requantize 8-bit values
FLOAT_LANES = 8  # ... and where they quantize float32


def quantize(node: Node) -> Array:
    """float32 to integers, or integers of one scale to integers of another."""
    return from_float(node) if node.tensor(0).dtype == "float32" else from_integer(node)


def from_integer(node: Node) -> Array:
    """(q − zero_point) · s_in / s_out + zero_point, the quotient of the scales in float64 unless XNNPACK takes it."""
    source, target = node.tensor(0).dtype, node.output.dtype
    s_in, s_out = scale_of(node.tensor(0)), scale_of(node.output)
    x = centred(node, 0)
    multiplier = quantize_multiplier(float(s_in) / float(s_out))
    q = multiply_by_quantized_multiplier(x, *multiplier)
    if takes(node):
        # XNNPACK `xnn_init_qs8_cvt_params`: an 8.8 multiplier, half up.
        q = (x * int(np.rint(256 * f32(s_in / s_out))) + 128) >> 8
    elif node.xnnpack and {source, target} <= {"int8", "uint8"}:
        # XNNPACK leaves this one to LiteRT's builtin, whose vector loop rounds the second time half up and whose tail does not.
        vector = np.arange(x.size).reshape(x.shape) < x.size // LANES * LANES
        q = np.where(vector, multiply_half_up(x, *multiplier), q)
    return node.clamp(q + zero_point_of(node.output))


def from_float(node: Node) -> Array:
    """x / scale to nearest plus the zero point; how it is divided and where ties go depends on who does it."""
    x, scale = node.array(0).astype(f32), scale_of(node.output)
    if not node.xnnpack:
        rounded = round_half_away(x / scale)
    else:
        rounded = np.rint(x * (f32(1) / scale))
        if node.output.dtype == "int16":
            # XNNPACK leaves int16 to LiteRT's builtin: its vector loop does the same, its tail divides in float64.
            vector = np.arange(x.size).reshape(x.shape) < x.size // FLOAT_LANES * FLOAT_LANES
            rounded = np.where(vector, rounded, round_half_away(x.astype(np.float64) / np.float64(scale)))
    # float64 holds every float32, so that a value beyond int64 saturates and does not wrap.
    info = np.iinfo(node.output.dtype)
    return np.clip(rounded.astype(np.float64) + zero_point_of(node.output), info.min, info.max).astype(info.dtype)


def dequantize(node: Node) -> Array:
    """scale · (q − zero_point), one float32 multiplication."""
    if node.tensor(0).dtype == "float16":
        return node.array(0).astype(np.float32)
    return (centred(node, 0).astype(f32) * scale_of(node.tensor(0))).astype(np.float32)
