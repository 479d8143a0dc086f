"""Twins of operations that NumPy computes in edgeq too: here element by element, as their definitions say."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from . import fixedpoint as fx
from . import number
from .node import Node, centred, float_activation, scale_of, zero_point_of
from .recurrent import inverse_root
from .windows import patches

Array = npt.NDArray[Any]
f32 = np.float32


def rfft2d(node: Node) -> Array:
    """Σ x · exp(−2πi (r·j/m + c·k/n)), half of the columns."""
    x, (m, n) = node.array(0), (int(v) for v in node.array(1))
    padded = np.zeros((*x.shape[:-2], m, n), np.float64)
    rows, columns = min(m, x.shape[-2]), min(n, x.shape[-1])
    padded[..., :rows, :columns] = x[..., :rows, :columns]
    left = np.exp(-2j * np.pi * np.outer(np.arange(m), np.arange(m)) / m)
    right = np.exp(-2j * np.pi * np.outer(np.arange(n), np.arange(n // 2 + 1)) / n)
    return (left @ padded @ right).astype(np.complex64)


def complex_abs(node: Node) -> Array:
    """√(re² + im²)."""
    x = node.array(0).astype(np.complex128)
    return np.sqrt(x.real**2 + x.imag**2).astype(f32)


# --- volumes: windows begin `before` outside --------------------------------------------------------------------------------


def _axes(node: Node, sizes: tuple[int, ...], window: tuple[int, ...]) -> list[tuple[int, int, int, int]]:
    """Output size, stride, dilation and what is before, of depth, height and width."""
    found = []
    for size, k, a in zip(sizes, window, "dhw", strict=True):
        stride, dilation = node.option(f"stride_{a}"), node.option(f"dilation_{a}_factor")
        extent = (k - 1) * dilation + 1
        same = node.option("padding") == 0
        out = -(-size // stride) if same else (size - extent) // stride + 1
        found.append((out, stride, dilation, max((out - 1) * stride + extent - size, 0) // 2 if same else 0))
    return found


def _meetings(node: Node, sizes: tuple[int, ...], window: tuple[int, ...]) -> Any:
    """Every place of the smaller side, place in the window, and the pixel of the larger side that they meet."""
    axes = _axes(node, sizes, window)
    for at in np.ndindex(*(a[0] for a in axes)):
        for tap in np.ndindex(*window):
            pixel = tuple(i * a[1] - a[3] + j * a[2] for i, j, a in zip(at, tap, axes, strict=True))
            if all(0 <= p < n for p, n in zip(pixel, sizes, strict=True)):
                yield at, tap, pixel


def conv_3d(node: Node) -> Array:
    """Each output is the sum over its window."""
    x, w = node.array(0), node.array(1)
    out = np.zeros((x.shape[0], *(a[0] for a in _axes(node, x.shape[1:4], w.shape[:3])), w.shape[4]), np.float64)
    for at, tap, pixel in _meetings(node, x.shape[1:4], w.shape[:3]):
        out[(slice(None), *at)] += x[(slice(None), *pixel)].astype(np.float64) @ w[tap]
    if node.has(2):
        out += node.array(2)
    return float_activation(node.option("fused_activation_function"), out.astype(f32))


def conv_3d_transpose(node: Node) -> Array:
    """Each input is spread over its window."""
    shape, w, x = tuple(int(v) for v in node.array(0)), node.array(1), node.array(2)
    out = np.zeros(shape, np.float64)
    for at, tap, pixel in _meetings(node, shape[1:4], w.shape[:3]):
        out[(slice(None), *pixel)] += x[(slice(None), *at)].astype(np.float64) @ w[tap].T
    return out.astype(f32)


# --- pools, curves, a cell ------------------------------------------------------------------------------------------------


def l2_pool_2d(node: Node) -> Array:
    """√ of the mean of squares over the elements that exist."""
    window = (node.option("filter_height"), node.option("filter_width"))
    stride = (node.option("stride_h"), node.option("stride_w"))
    x = node.array(0)
    squares = patches(x * x, window, stride, (1, 1), node.option("padding"))
    counts = patches(np.ones_like(x), window, stride, (1, 1), node.option("padding"))
    mean = squares.sum(axis=(3, 4), dtype=f32) / counts.sum(axis=(3, 4), dtype=f32)
    return float_activation(node.option("fused_activation_function"), np.sqrt(mean))


def abs_quantized(node: Node) -> Array:
    """|x|, rescaled where the scales differ."""
    x, s_in, s_out = np.abs(centred(node, 0)), scale_of(node.tensor(0)), scale_of(node.output)
    if s_in != s_out:
        x = fx.multiply_by_quantized_multiplier(x, *fx.quantize_multiplier(float(f32(s_in / s_out))))
    return node.clamp(x + zero_point_of(node.output))


def rsqrt_int8(node: Node) -> Array:
    """1 / √x by an integer root with 20 bits behind the point."""
    q, shift = fx.quantize_multiplier(1.0 / float(f32(np.sqrt(scale_of(node.tensor(0))) * scale_of(node.output))))
    x = centred(node, 0)
    out = np.full(x.shape, 127, np.int64)
    for at in zip(*np.nonzero(x), strict=True):
        root, down = inverse_root(int(x[at]))
        wide = fx.multiply_by_quantized_multiplier(np.int64(1), root, 20 - down)
        out[at] = fx.multiply_by_quantized_multiplier(wide, q, shift - 20) + zero_point_of(node.output)
    return node.clamp(out)


def _curve(node: Node, x: Array) -> Array:
    """The operation on float32 x."""
    wide, y = x.astype(np.float64), node.output
    least = f32(np.iinfo(y.dtype).min - zero_point_of(y)) * scale_of(y)
    with np.errstate(all="ignore"):
        if node.op.code == "LOG":
            return np.where(x > 0, np.log(wide), least).astype(f32)
        if node.op.code == "RSQRT":
            return np.where(x > 0, f32(1) / np.sqrt(x), f32(32767) * scale_of(y)).astype(f32)
        if node.op.code == "SQRT":
            return np.sqrt(x)
        if node.op.code == "ELU":
            return np.where(x > 0, wide, np.expm1(wide)).astype(f32)
        return (
            number.gelu_of(wide, bool(node.option("approximate", False)))
            if node.op.code == "GELU"
            else np.exp(wide).astype(f32)
        )


def curve(node: Node) -> Array:
    """8 bits: every number by itself. int16: 513 samples, moved by half the error between them, and straight lines."""
    s_in, s_out = scale_of(node.tensor(0)), scale_of(node.output)
    if node.output.dtype != "int16":
        real = _curve(node, centred(node, 0).astype(f32) * s_in)
        v = (
            np.trunc((real / s_out).astype(np.float64))
            if node.op.code == "SQRT"
            else fx.round_half_away(real * f32(f32(1) / s_out))
        )
        return node.clamp(v.astype(np.int64) + zero_point_of(node.output))
    low, high = s_in * f32(-32768), s_in * f32(32767)
    step = f32((high - low) / f32(512))
    inverse = f32(f32(65536) / (s_out * f32(32767) - s_out * f32(-32768)))
    table = []
    for k in range(513):
        at = f32(low + f32(k) * step) if k < 512 else high
        value = f32(fx.round_half_away(_curve(node, np.array([at]))[0] * inverse))
        if k < 512:
            middle = f32(fx.round_half_away(_curve(node, np.array([f32(at + f32(step / f32(2)))]))[0] * inverse))
            following = _curve(node, np.array([f32(low + f32(k + 1) * step)]))[0] * inverse
            error = f32(f32(fx.round_half_away(f32(following + value) / f32(2))) - middle)
            value = f32(value - f32(fx.round_half_away(f32(error / f32(2)))))
        table.append(int(np.clip(value, -32768, 32767)))
    x, t = node.array(0).astype(np.int64), np.array(table, np.int64)
    at = 256 + (x >> 7)
    return node.clamp(t[at] + (((t[at + 1] - t[at]) * (x & 127) + 64) >> 7))


def quantized_sum(node: Node) -> Array:
    """Σ (x − z), by a float32 factor in LiteRT, by a fixed-point one in the reference."""
    axes, raw = tuple(int(a) for a in node.array(1)), node.array(0).astype(np.int64)
    total = raw.sum(axis=axes, keepdims=bool(node.option("keep_dims", False)))
    offset = raw.size // total.size * zero_point_of(node.tensor(0))
    m, zero = f32(scale_of(node.tensor(0)) / scale_of(node.output)), zero_point_of(node.output)
    if node.xnnpack:
        return node.clamp(np.rint(total.astype(f32) * m + (f32(zero) - f32(offset) * m)).astype(np.int64))
    return node.clamp(fx.multiply_by_quantized_multiplier(total - offset, *fx.quantize_multiplier(float(m))) + zero)


def basic_lstm(node: Node) -> tuple[Array, ...]:
    """Gates in the order input, new, forget, output."""
    x, before, w, bias, state = (node.array(k) for k in range(5))
    joined = np.concatenate([x, before], 1)
    gates = (joined.astype(np.float64) @ w.T.astype(np.float64) + bias).astype(f32)
    i, g, f, o = np.split(gates.astype(np.float64), 4, 1)
    kept = np.tanh(g) / (1 + np.exp(-i)) + state / (1 + np.exp(-f))
    return (np.tanh(kept) / (1 + np.exp(-o))).astype(f32), kept.astype(f32), joined, gates
