"""Models whose every value lies next to a rounding tie, where float widths, orders of operations and tie rules show.

Random inputs meet a tie once in 10^4 to 10^7 values; these meet one in each, so a formula that is wrong in the last bit of a
scale, or in the direction of a tie, fails here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.graph import Graph

from .cases import constant, f32, generator, single, tensor

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Tie:
    """A model and the inputs that bring it to its ties."""

    name: str
    graph: Graph
    inputs: tuple[Array, ...]


def bounds(dtype: str) -> tuple[int, int]:
    """The type's least and greatest value."""
    info = np.iinfo(dtype)
    return int(info.min), int(info.max)


def accumulators(rng: np.random.Generator, multipliers: Array, limit: int) -> Array:
    """One integer per real multiplier m with m · acc just beside k + ½, |k| < limit: the nearest of many k."""
    k = rng.integers(-limit, limit, (20 if np.ptp(multipliers) == 0 else 2000, len(multipliers))) + 0.5
    acc = np.rint(k / multipliers)
    best = np.abs(acc * multipliers - k).argmin(axis=0)
    return acc[best, np.arange(len(multipliers))].astype(np.int64)


def products() -> Iterator[Tie]:
    """The four sums of products: weights do nothing (the input is real 0), the bias is the accumulator."""
    channels = 600
    for code in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV"):
        for dtype in ("int8", "uint8", "int16"):
            for per_channel in (False, True) if dtype != "uint8" else (False,):
                name = f"{code} {dtype}{' per channel' if per_channel else ''}"
                rng = generator(name)
                kind, zero = ("uint8", 128) if dtype == "uint8" else ("int8", 0)
                z = {"int8": 3, "uint8": 131, "int16": 0}[dtype]
                s_in, s_out = f32(rng.uniform(0.01, 0.1)), f32(rng.uniform(0.02, 0.2))
                s_w = rng.uniform(1e-5, 1e-3, channels if per_channel else 1).astype(f32)
                if dtype == "int16":
                    s_w = s_w * f32(50)  # so that the 16-bit multiplier is used, and accumulators stay in range
                real = np.float64(s_in) * np.broadcast_to(s_w, channels) / np.float64(s_out)
                acc = accumulators(rng, real, 120 if dtype != "int16" else 32000)
                wide = "int64" if dtype == "int16" else "int32"
                b = tensor("b", (channels,), wide, s_in * s_w, data=acc.astype(wide))
                shape = {
                    "CONV_2D": (channels, 1, 1, 1),
                    "DEPTHWISE_CONV_2D": (1, 1, 1, channels),
                    "FULLY_CONNECTED": (channels, 1),
                    "TRANSPOSE_CONV": (channels, 1, 1, 1),
                }[code]
                axis = 3 if per_channel and code == "DEPTHWISE_CONV_2D" else 0
                w = tensor("w", shape, kind, s_w, zero, data=np.full(shape, zero + 1, kind), axis=axis)
                dense = code == "FULLY_CONNECTED"
                x_shape = (1, 1) if dense else (1, 1, 1, channels if code == "DEPTHWISE_CONV_2D" else 1)
                y_shape = (1, channels) if dense else (1, 1, 1, channels)
                x, y = tensor("x", x_shape, dtype, s_in, z), tensor("y", y_shape, dtype, s_out, z)
                yield Tie(name, joined(code, x, w, b, y), (np.full(x_shape, z, dtype),))


def joined(code: str, x: Any, w: Any, b: Any, y: Any) -> Graph:
    """The graph of one product with stride 1."""
    strides = {"padding": 0, "stride_w": 1, "stride_h": 1}
    dilations = {"dilation_w_factor": 1, "dilation_h_factor": 1}
    if code == "CONV_2D":
        return single(code, [x, w, b], y, "Conv2DOptions", **strides, **dilations)
    if code == "DEPTHWISE_CONV_2D":
        return single(code, [x, w, b], y, "DepthwiseConv2DOptions", depth_multiplier=1, **strides, **dilations)
    if code == "FULLY_CONNECTED":
        return single(code, [x, w, b], y, "FullyConnectedOptions")
    return single(code, [constant("shape", y.shape), w, x, b], y, "TransposeConvOptions", **strides)


def ratio_near_tie(rng: np.random.Generator, most: int) -> tuple[np.float32, np.float32]:
    """Two scales whose ratio is (2k + 1) / 2x in float32 for some |x| ≤ most, between 0.2 and 3."""
    while True:
        x, k = int(rng.integers(2, most)), int(rng.integers(0, 127))
        if 0.2 < (2 * k + 1) / (2 * x) < 3:
            s_out = f32(rng.uniform(0.01, 0.1))
            return f32(float(s_out) * (2 * k + 1) / (2 * x)), s_out


def rescalings() -> Iterator[Tie]:
    """QUANTIZE, LEAKY_RELU, RELU: all 256 values of scales whose ratio meets a tie; 8.8 multipliers that are ties themselves."""
    for dtype in ("int8", "uint8"):
        low, high = bounds(dtype)
        z = low + 128
        values = np.tile(np.arange(low, high + 1).astype(dtype), 2)[:505]  # 505 leaves a tail behind groups of 16
        for k in range(30):
            rng = generator(f"rescale {dtype} {k}")
            if k % 2:
                s_in, s_out = ratio_near_tie(rng, 128)
            else:
                s_out = f32(rng.uniform(0.01, 0.1)) if k % 4 else f32(0.0625)
                s_in = f32(float(s_out) * (int(rng.integers(60, 600)) + 0.5) / 256)
            x, y = tensor("x", values.shape, dtype, s_in, z), tensor("y", values.shape, dtype, s_out, z)
            yield Tie(f"QUANTIZE {dtype} {k}", single("QUANTIZE", [x], y), (values,))
            other = "uint8" if dtype == "int8" else "int8"
            y2 = tensor("y", values.shape, other, s_out, bounds(other)[0] + 128)
            yield Tie(f"QUANTIZE {dtype} → {other} {k}", single("QUANTIZE", [x], y2), (values,))
            yield Tie(f"RELU {dtype} {k}", single("RELU", [x], y), (values,))
            alpha = float(rng.choice([0.1, 0.3, 0.5, 0.77, -0.3, 1.7]))
            leaky = single("LEAKY_RELU", [x], y, "LeakyReluOptions", alpha=alpha)
            yield Tie(f"LEAKY_RELU {dtype} alpha {alpha} {k}", leaky, (values,))


def means() -> Iterator[Tie]:
    """MEAN: sums whose mean is beside a tie, with zero points; n not a power of two, and n = 2^k, where ties are exact."""
    for dtype in ("int8", "uint8"):
        low, high = bounds(dtype)
        for k in range(30):
            rng = generator(f"mean {dtype} {k}")
            n = int(rng.integers(2, 60)) if k % 3 else 2 ** int(rng.integers(1, 6))
            s_in, s_out = ratio_near_tie(rng, 128)
            if k % 3 == 0:
                s_in = s_out
            z_in, z_out = (int(z) for z in rng.integers(low, high + 1, 2))
            real = float(s_in) / float(s_out) / n
            wanted = np.unique(np.rint((np.arange(-127, 128) + 0.5) / real)).astype(np.int64) + n * z_in
            wanted = wanted[(wanted >= n * low) & (wanted <= n * high)]
            base, rest = wanted // n, wanted % n
            values = (base[:, None] + (np.arange(n) < rest[:, None])).astype(dtype)
            x, y = tensor("x", values.shape, dtype, s_in, z_in), tensor("y", wanted.shape, dtype, s_out, z_out)
            yield Tie(
                f"MEAN {dtype} of {n} ({k})",
                single("MEAN", [x, constant("axes", [1])], y, "ReducerOptions", keep_dims=False),
                (values,),
            )


def sums() -> Iterator[Tie]:
    """ADD, SUB and MUL: all pairs of 8-bit values, output scales that make many of them ties."""
    for code in ("ADD", "SUB", "MUL"):
        for dtype in ("int8", "uint8"):
            low, high = bounds(dtype)
            z = low + 128
            a, b = (v.ravel().astype(dtype) for v in np.meshgrid(*[np.arange(low, high + 1)] * 2))
            for k in range(4):
                rng = generator(f"{code} {dtype} {k}")
                s1 = f32(rng.uniform(0.01, 0.1))
                s2 = s1 if k % 2 else f32(rng.uniform(0.01, 0.1))
                turn = (2 * int(rng.integers(20, 100)) + 1) / (2 * int(rng.integers(20, 100)))
                s_out = f32(float(s1) * turn) if code != "MUL" else f32(float(s1) * float(s2) * turn * 60)
                ins = [tensor("a", a.shape, dtype, s1, z), tensor("b", b.shape, dtype, s2, z)]
                options = {} if code == "MUL" else {"pot_scale_int16": False}
                graph = single(
                    code, ins, tensor("y", a.shape, dtype, s_out, z), f"{code.capitalize()}Options", **options
                )
                yield Tie(f"{code} {dtype} {k}", graph, (a, b))


def halves() -> Iterator[Tie]:
    """float32 to integers: exact halves, and quotients a float32 ulp away from one; sizes with a tail."""
    for dtype in ("int8", "uint8", "int16"):
        z = {"int8": 3, "uint8": 131, "int16": 0}[dtype]
        for scale in (0.5, 0.043, 0.0021):
            for size in (5, 37, 256):
                half = (np.arange(size) % 200 - 100 + 0.5) * scale
                for step, x in (("", half), (" up", np.nextafter(half.astype(f32), f32(np.inf)))):
                    graph = single("QUANTIZE", [tensor("x", (size,), "float32")], tensor("y", (size,), dtype, scale, z))
                    yield Tie(f"QUANTIZE float32 → {dtype} by {scale} of {size}{step}", graph, (x.astype(f32),))


def ties() -> list[Tie]:
    """All of them."""
    return [*products(), *rescalings(), *means(), *sums(), *halves()]
