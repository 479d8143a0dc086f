"""Plain numbers: integers that wrap, comparisons, booleans, reductions, casts, float32 functions; quantized pairs of 8 bits."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from . import fixedpoint as fx
from .floating import in_order
from .node import Node, centred, f32, float_activation, scale_of, zero_point_of

Array = npt.NDArray[Any]


def binary(function: Callable[[Array, Array], Array]) -> Callable[[Node], Array]:
    """Two arrays of the output's type; float32 with the fused activation."""

    def run(node: Node) -> Array:
        with np.errstate(all="ignore"):
            y = function(node.array(0), node.array(1)).astype(node.output.dtype)
        return float_activation(node.option("fused_activation_function"), y) if y.dtype == f32 else y

    return run


def truncated(x: Array, y: Array) -> Array:
    """Division of integers towards zero, of floats as it is."""
    if x.dtype.kind == "f":
        return x / y
    return np.where((x < 0) != (y < 0), -(np.abs(x) // np.abs(y)), np.abs(x) // np.abs(y))


def floor_divide(x: Array, y: Array) -> Array:
    """floor(x / y), the quotient rounded to float32 first where it is one."""
    return np.floor(x / y) if x.dtype.kind == "f" else np.floor_divide(x, y)


def right_shift(x: Array, y: Array) -> Array:
    """Arithmetic shift by at least 0 and less than the type's bits."""
    return np.right_shift(x, np.clip(y, 0, x.dtype.itemsize * 8 - 1))


def squared_difference(x: Array, y: Array) -> Array:
    """(x − y)²."""
    return (x - y) * (x - y)


def prelu(x: Array, y: Array) -> Array:
    """x above 0, x · y below."""
    return np.where(x >= 0, x, x * y)


def comparison(function: Callable[[Array, Array], Array]) -> Callable[[Node], Array]:
    """To bool; 8 bits with scales: both to fixed point with 8 more bits, by their own scale."""

    def run(node: Node) -> Array:
        x, y = node.array(0), node.array(1)
        if x.dtype.itemsize == 1 and x.dtype != bool and node.tensor(0).quantization is not None:
            x, y = (
                fx.multiply_by_quantized_multiplier(
                    centred(node, k) << 8, *fx.quantize_multiplier(float(scale_of(node.tensor(k))))
                )
                for k in (0, 1)
            )
        return function(x, y)

    return run


def squared_difference_int8(node: Node) -> Array:
    """squared_difference.cc."""
    s1, s2, s_out = float(scale_of(node.tensor(0))), float(scale_of(node.tensor(1))), float(scale_of(node.output))
    twice = 2 * max(s1, s2)
    x, y = (
        fx.multiply_by_quantized_multiplier(centred(node, k) << 7, *fx.quantize_multiplier(s / twice))
        for k, s in enumerate((s1, s2))
    )
    back = fx.quantize_multiplier(twice * twice / ((1 << 14) * s_out))
    return node.clamp(fx.multiply_by_quantized_multiplier((x - y) * (x - y), *back) + zero_point_of(node.output))


def prelu_8bit(node: Node) -> Array:
    """prelu.cc."""
    s_in, s_alpha, s_out = scale_of(node.tensor(0)), scale_of(node.tensor(1)), scale_of(node.output)
    x, alpha = np.broadcast_arrays(centred(node, 0), centred(node, 1))
    up = fx.multiply_by_quantized_multiplier(x, *fx.quantize_multiplier(float(f32(s_in / s_out))))
    down = fx.quantize_multiplier(float(f32(f32(s_in * s_alpha) / s_out)))
    below = fx.multiply_by_quantized_multiplier(x * alpha, *down)
    return node.clamp(np.where(x >= 0, up, below) + zero_point_of(node.output))


def div_8bit(node: Node) -> Array:
    """reference_ops::Div on 8 bits: a reciprocal, and the dividend shifted to the left as far as it goes."""
    real = float(f32(scale_of(node.tensor(0)) / f32(scale_of(node.tensor(1)) * scale_of(node.output))))
    multiplier, shift = fx.quantize_multiplier(real)
    x, y = np.broadcast_arrays(centred(node, 0), centred(node, 1))
    out = np.zeros(x.shape, np.int64)
    for at in np.ndindex(x.shape):
        p, q = int(x[at]), int(y[at])
        over = abs(q).bit_length() - 1
        inverse = int(np.sign(q)) * reciprocal((abs(q) << (31 - over)) - (1 << 31))
        headroom = 31 - p.bit_length() if p >= 0 else 32 - (-2 * p - 1).bit_length()
        high = fx.saturating_rounding_doubling_high_mul(np.int64(p << headroom), inverse)
        total = shift - over - headroom
        out[at] = fx.rounding_divide_by_pot(fx.saturating_rounding_doubling_high_mul(high, multiplier), -total)
    return node.clamp(out + zero_point_of(node.output))


def reciprocal(fraction: int) -> int:
    """gemmlowp one_over_one_plus_x_for_x_in_0_1, Q0.31."""
    mul = fx.saturating_rounding_doubling_high_mul
    half = (fraction + (1 << 31)) >> 1
    x = 1515870810 + int(mul(half, -1010580540))
    for _ in range(3):
        x += min(max(int(mul(x, (1 << 29) - int(mul(half, x)))) << 2, -(1 << 31)), (1 << 31) - 1)
    return min(x << 1, (1 << 31) - 1)


# --- one array --------------------------------------------------------------------------------------------------------------


def erf(x: Array) -> Array:
    """The error function."""
    return np.vectorize(math.erf, otypes=[np.float64])(x)


def gelu(node: Node) -> Array:
    """x · Φ(x), or by tanh."""
    return gelu_of(node.array(0).astype(np.float64), bool(node.option("approximate", False)))


def gelu_of(x: Array, approximate: bool) -> Array:
    """The same, of numbers."""
    if approximate:
        return (0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))).astype(f32)
    return (0.5 * x * (1 + erf(x / math.sqrt(2)))).astype(f32)


def unary(function: Callable[[Array], Array]) -> Callable[[Node], Array]:
    """In float64, rounded once to float32; integers as they are."""

    def run(node: Node) -> Array:
        x = node.array(0)
        with np.errstate(all="ignore"):
            y = function(x.astype(np.float64) if x.dtype == f32 else x)
        return y.astype(node.output.dtype)

    return run


def elu(x: Array) -> Array:
    """x above 0, e^x − 1 below."""
    return np.where(x >= 0, x, np.expm1(np.minimum(x, 0)))


def rsqrt(x: Array) -> Array:
    """1 / √x, both float32."""
    return f32(1) / np.sqrt(x.astype(f32))


def cast(node: Node) -> Array:
    """C's conversion; from float32 towards zero, saturating; of complex numbers the real part."""
    x, target = node.array(0), np.dtype(node.output.dtype)
    if x.dtype.kind == "c":
        return x.real.astype(target)
    if x.dtype.kind == "f" and target.kind in "iu":
        info = np.iinfo(target)
        whole = np.trunc(np.nan_to_num(x.astype(np.float64), nan=0.0))
        return np.where(whole >= info.max, info.max, np.where(whole <= info.min, info.min, whole)).astype(target)
    return x.astype(target)


def select(node: Node) -> Array:
    """Where the condition holds input 1, else input 2; SELECT takes a vector for the first dimension."""
    c, x = node.array(0), node.array(1)
    if node.op.code == "SELECT" and c.ndim == 1 and x.ndim > 1:
        c = c.reshape(-1, *(1,) * (x.ndim - 1))
    return np.where(c, x, node.array(2))


def add_n(node: Node) -> Array:
    """The sum from the first to the last."""
    total = node.array(0)
    for k in range(1, len(node.arrays)):
        total = total + node.array(k)
    return total


# --- reductions -------------------------------------------------------------------------------------------------------------


def reduction(function: np.ufunc) -> Callable[[Node], Array]:
    """Along the axes of input 1, from 0 or 1 in raster order where that shows."""

    def run(node: Node) -> Array:
        x = node.array(0)
        axes = tuple(sorted({int(a) % max(x.ndim, 1) for a in node.array(1).reshape(-1)})) if x.ndim else ()
        if x.dtype == f32 and function is np.add:
            moved = np.moveaxis(x, axes, range(len(axes)))
            total: Array = in_order(moved.reshape(-1, *moved.shape[len(axes) :]))
        else:
            total = function.reduce(x, axis=axes, dtype=x.dtype)
        return np.asarray(total).reshape(node.output.shape)

    return run
