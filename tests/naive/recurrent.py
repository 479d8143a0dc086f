"""Layers that remember, from a state of zero: LSTMs, plain recurrent cells, SVDF.

Sources: TFLite kernels/lstm_eval.cc, kernels/internal/reference/svdf.h, kernels/internal/kernel_utils.cc.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from . import fixedpoint as fx
from . import gemmlowp16
from .node import Node, f32, scale_of, zero_point_of

Array = npt.NDArray[Any]
ACTIVATIONS = {
    0: lambda x: x, 1: lambda x: np.maximum(x, 0), 2: lambda x: np.clip(x, -1, 1), 3: lambda x: np.clip(x, 0, 6), 4: np.tanh,
}  # fmt: skip


def sigmoid(x: Array) -> Array:
    """1 / (1 + e^−x)."""
    return (1 / (1 + np.exp(-x.astype(np.float64)))).astype(f32)


def symmetric(x: Array, asymmetric: bool) -> tuple[Array, Array, Array]:
    """Rows as int8 with a scale and zero point of their own: tensor_utils Symmetric- and AsymmetricQuantizeFloats."""
    low, high = np.minimum(x.min(axis=1), 0), np.maximum(x.max(axis=1), 0)
    if asymmetric:
        wide = np.where(low == high, 1, (high.astype(np.float64) - low) / 255)
        from_low, from_high = -128 - low / wide, 127 - high / wide
        point = np.where(128 + np.abs(low / wide) < 127 + np.abs(high / wide), from_low, from_high)
        zero, scale = np.rint(np.clip(point, -128, 127)).astype(f32), wide.astype(f32)
        inverse, bottom = (f32(1) / scale).astype(f32), -128
    else:
        span = np.maximum(-low, high).astype(f32)
        zero, scale = np.zeros(len(x), f32), np.where(span == 0, f32(1), span / f32(127)).astype(f32)
        inverse, bottom = np.where(span == 0, f32(0), f32(127) / np.where(span == 0, f32(1), span)).astype(f32), -127
    q = np.clip(fx.round_half_away((zero[:, None] + x * inverse[:, None]).astype(f32)), bottom, 127)
    return q.astype(np.int64), scale, zero.astype(np.int64)


def times(node: Node, x: Array, k: int) -> Array:
    """x (batch, in) · wᵀ for weights k, which may be int8: then rows of x are quantized first."""
    w = node.array(k)
    if w.dtype == f32:
        return x @ w.T
    q, scale, zero = symmetric(x, bool(node.option("asymmetric_quantize_inputs", False)))
    total = (q - zero[:, None]) @ w.T.astype(np.int64)
    return total.astype(f32) * (scale * scale_of(node.tensor(k)))[:, None].astype(f32)


def real(node: Node, k: int) -> Array:
    """Input k as floats."""
    a = node.array(k)
    return a if a.dtype == f32 else (a.astype(f32) - zero_point_of(node.tensor(k))) * scale_of(node.tensor(k))


def steps_of(node: Node) -> Array:
    """The input with its steps first."""
    x = node.array(0)
    if x.ndim == 2:
        return x[None]
    return x if node.option("time_major", False) else np.swapaxes(x, 0, 1)


def laid_out(node: Node, steps: list[Array]) -> Array:
    """Outputs of steps as the input lies."""
    y = np.stack(steps)
    if node.array(0).ndim == 2:
        return y[0]
    return y if node.option("time_major", False) else np.swapaxes(y, 0, 1)


def normalized(z: Array, weights: Array) -> Array:
    """Layer normalization."""
    mean = z.mean(axis=1, keepdims=True)
    variance = (z * z).mean(axis=1, keepdims=True) - mean * mean
    return (z - mean) / np.sqrt(np.where(variance == 0, 1e-8, variance)) * weights


def direction(node: Node, at: int, states: tuple[int, int], norms: int, backward: bool) -> list[Array]:
    """One direction of a float LSTM whose weights begin at input `at`."""
    activation = ACTIVATIONS[node.option("fused_activation_function")]
    x = steps_of(node)
    h, c = (np.zeros(node.tensor(k).shape, f32) for k in states)
    coupled, out = not node.has(at), []

    def gate(k: int, peep: int, cell: Array, row: Array) -> Array:
        z = times(node, row, at + k) + times(node, h, at + 4 + k)
        if peep >= 0 and node.has(at + 8 + peep):
            z = z + cell * real(node, at + 8 + peep)
        if norms and node.has(norms + k):
            z = normalized(z, node.array(norms + k))
        return (z + node.array(at + 11 + k)).astype(f32)

    for row in x[::-1] if backward else x:
        f = sigmoid(gate(1, 1, c, row))
        i = 1 - f if coupled else sigmoid(gate(0, 0, c, row))
        c = f * c + i * activation(gate(2, -1, c, row))
        if node.option("cell_clip") > 0:
            c = np.clip(c, -node.option("cell_clip"), node.option("cell_clip"))
        h = sigmoid(gate(3, 2, c, row)) * activation(c)
        if node.has(at + 15):
            h = times(node, h.astype(f32), at + 15) + (node.array(at + 16) if node.has(at + 16) else 0)
            if node.option("proj_clip") > 0:
                h = np.clip(h, -node.option("proj_clip"), node.option("proj_clip"))
        h = h.astype(f32)
        out.append(h)
    return out[::-1] if backward else out


def lstm(node: Node) -> Array:
    """UNIDIRECTIONAL_SEQUENCE_LSTM."""
    if node.output.dtype == "int8":
        return integer_lstm(node)
    return laid_out(node, direction(node, 1, (18, 19), 20, False))


def bidirectional_lstm(node: Node) -> Array | tuple[Array, ...]:
    """BIDIRECTIONAL_SEQUENCE_LSTM."""
    ways = [laid_out(node, direction(node, at, s, 0, b)) for at, s, b in ((1, (35, 36), False), (18, (37, 38), True))]
    return np.concatenate(ways, axis=2) if node.option("merge_outputs") else tuple(ways)


def rnn(node: Node) -> Array:
    """UNIDIRECTIONAL_SEQUENCE_RNN, RNN."""
    activation, h, out = ACTIVATIONS[node.option("fused_activation_function")], np.zeros(node.tensor(4).shape, f32), []
    for row in steps_of(node):
        h = activation(times(node, row, 1) + times(node, h, 2) + node.array(3)).astype(f32)
        out.append(h)
    return laid_out(node, out)


def bidirectional_rnn(node: Node) -> Array | tuple[Array, ...]:
    """BIDIRECTIONAL_SEQUENCE_RNN, without an auxiliary input."""
    activation, ways = ACTIVATIONS[node.option("fused_activation_function")], []
    for at, backward in ((1, False), (5, True)):
        h, out = np.zeros(node.tensor(at + 3).shape, f32), []
        for row in steps_of(node)[::-1] if backward else steps_of(node):
            h = activation(times(node, row, at) + times(node, h, at + 1) + node.array(at + 2)).astype(f32)
            out.append(h)
        ways.append(laid_out(node, out[::-1] if backward else out))
    return np.concatenate(ways, axis=2) if node.option("merge_outputs") else tuple(ways)


def svdf(node: Node) -> Array:
    """SVDF: only the newest entry of an empty memory counts."""
    rank = node.option("rank")
    if node.output.dtype == "float32":
        newest = times(node, node.array(0), 1) * real(node, 2)[:, -1]
        y = newest.reshape(len(newest), -1, rank).sum(axis=2) + node.array(3)
        return ACTIVATIONS[node.option("fused_activation_function")](y).astype(f32)
    x = node.array(0).astype(np.int64) - zero_point_of(node.tensor(0))
    s_in, s_w, s_t, s_m = (scale_of(node.tensor(k)) for k in (0, 1, 2, 4))
    newest = scaled(x @ node.array(1).T.astype(np.int64), f32(f32(s_in * s_w) / s_m))
    product = np.clip(newest, -32768, 32767) * node.array(2)[:, -1].astype(np.int64)
    total = product.reshape(len(x), -1, rank).sum(axis=2) + node.array(3)
    y = scaled(total, f32(f32(s_m * s_t) / scale_of(node.output))) + zero_point_of(node.output)
    return np.clip(y, -128, 127).astype(np.int8)


def scaled(x: Array, scale: Any) -> Array:
    """MultiplyByQuantizedMultiplier, double rounding."""
    return fx.multiply_by_quantized_multiplier(x, *fx.quantize_multiplier(float(scale)))


def short(x: Array) -> Array:
    """Saturated to int16."""
    return np.clip(x, -32768, 32767)


def inverse_root(x: int) -> tuple[int, int]:
    """GetInvSqrtQuantizedMultiplierExp: multiplier and right shift."""
    if x <= 1:
        return (1 << 31) - 1, 0
    mul, shift = fx.saturating_rounding_doubling_high_mul, 11
    while x >= 1 << 29:
        x, shift = x // 4, shift + 1
    pairs = (31 - x.bit_length()) // 2 - 1
    shift, x = shift - pairs, x << 2 * pairs
    half, y = int(fx.rounding_divide_by_pot(np.int64(x >> 1), 1)), 1 << 28

    def wide(v: int) -> int:
        return min(max(v, -(1 << 31)), (1 << 31) - 1)

    for _ in range(5):
        y3 = wide(int(mul(np.int64(int(mul(np.int64(y), y))), y)) << 6)
        y = wide((int(mul(np.int64((1 << 28) + (1 << 27)), y)) - int(mul(np.int64(half), y3))) << 3)
    y = int(mul(np.int64(y), 1518500250))
    return (y << -shift, 0) if shift < 0 else (y, shift)


def truncated(a: int, b: int) -> int:
    """a / b towards zero."""
    return abs(a) // b * (1 if a >= 0 else -1)


def normalized_int16(z: Array, weights: Array, bias: Array, scale: Any) -> Array:
    """tensor_utils ApplyLayerNorm on int16."""
    n, out = z.shape[1], np.zeros_like(z)
    q, shift = fx.quantize_multiplier(float(scale))
    for b, row in enumerate(z.astype(object)):
        mean = truncated(int(row.sum()) * 1024, n)
        variance = truncated(int((row * row).sum()) * ((1 << 20) // n) - mean * mean, 1 << 20)
        inverse, down = inverse_root(variance if variance >= 1 else max(1, int(f32(10000) * f32(scale))))
        for j in range(n):
            v = int(fx.multiply_by_quantized_multiplier(np.int64(1024 * int(row[j]) - mean), inverse, -down))
            v = v * int(weights[j]) + int(bias[j])
            v = truncated(v + 512 if v > 0 else v - 512, 1024)
            out[b, j] = int(fx.multiply_by_quantized_multiplier(np.int64(v), q, shift + 12))
    return short(out)


def integer_lstm(node: Node) -> Array:
    """EvalInteger8x8_16: int8 activations, int16 gates and cell."""
    x, s = steps_of(node).astype(np.int64) - zero_point_of(node.tensor(0)), scale_of(node.tensor(0))
    s_h, z_h = scale_of(node.tensor(18)), zero_point_of(node.tensor(18))
    h, c = np.full(node.tensor(18).shape, z_h, np.int64), np.zeros(node.tensor(19).shape, np.int64)
    down = int(np.log2(scale_of(node.tensor(19))))
    inner = node.intermediates
    coupled, norm, project = not node.has(1), node.has(21), node.has(16)
    s_hidden, z_hidden = scale_of(inner[4]), zero_point_of(inner[4])
    cell_clip = int(f32(node.option("cell_clip")) / scale_of(node.tensor(19)))
    out = []

    def gate(k: int, peep: int, cell: Array, row: Array) -> Array:
        step = f32(scale_of(inner[k])) if norm else f32(2.0**-12)
        bias = np.zeros(c.shape[1], np.int64) if norm else node.array(12 + k)
        z = scaled(row @ node.array(1 + k).T.astype(np.int64) + bias, f32(f32(scale_of(node.tensor(1 + k)) * s) / step))
        r = (h - z_h) @ node.array(5 + k).T.astype(np.int64)
        z = short(short(z) + scaled(r, f32(f32(scale_of(node.tensor(5 + k)) * s_h) / step)))
        if peep >= 0 and node.has(9 + peep):
            p = scaled(cell * node.array(9 + peep), f32(2.0**down * scale_of(node.tensor(9 + peep)) / step))
            z = short(z + p)
        return normalized_int16(z, node.array(20 + k), node.array(12 + k), scale_of(node.tensor(20 + k))) if norm else z

    for row in x:
        f = gemmlowp16.logistic(gate(1, 1, c, row))
        i = 32767 - f if coupled else gemmlowp16.logistic(gate(0, 0, c, row))
        g = gemmlowp16.tanh_of(gate(2, -1, c, row), 3)
        c = short(fx.rounding_divide_by_pot(f * c, 15) + fx.rounding_divide_by_pot(i * g, 30 + down))
        c = np.clip(c, -cell_clip, cell_clip) if cell_clip > 0 else c
        product = gemmlowp16.logistic(gate(3, 2, c, row)) * gemmlowp16.tanh_of(c, 15 + down)
        hidden = scaled(product, f32(2.0**-15 / float(s_hidden) * 2.0**-15))
        hidden = np.clip(hidden - z_hidden if project else hidden + z_hidden, -128, 127)
        if project:
            total = (hidden + z_hidden) @ node.array(16).T.astype(np.int64) + (node.array(17) if node.has(17) else 0)
            hidden = scaled(total, f32(f32(scale_of(node.tensor(16)) * s_hidden) / s_h)) + z_h
            hidden = np.clip(hidden, -128, 127)
            clip = int(f32(node.option("proj_clip")) / s_h)
            hidden = np.clip(hidden, -clip, clip) if clip > 0 else hidden
        h = hidden
        out.append(h.astype(np.int8))
    return laid_out(node, out)
