"""Operations on single values: arithmetic with broadcasting, and curves."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import erf, pi, sqrt
from types import MappingProxyType

import numpy as np

from edgeq.graph import Activation, Array
from edgeq.reverse.node import Node, Outcome, single, summed

Rule = Callable[[Node], Outcome]


def add(node: Node) -> Outcome:
    """a + b."""
    a, b = node.array(0), node.array(1)
    return single(a + b, lambda g: summed(g, a.shape), lambda g: summed(g, b.shape))


def sub(node: Node) -> Outcome:
    """a − b."""
    a, b = node.array(0), node.array(1)
    return single(a - b, lambda g: summed(g, a.shape), lambda g: summed(-g, b.shape))


def mul(node: Node) -> Outcome:
    """a · b."""
    a, b = node.array(0), node.array(1)
    return single(a * b, lambda g: summed(g * b, a.shape), lambda g: summed(g * a, b.shape))


def div(node: Node) -> Outcome:
    """a / b."""
    a, b = node.array(0), node.array(1)
    y = a / b
    return single(y, lambda g: summed(g / b, a.shape), lambda g: summed(-g * y / b, b.shape))


def squared_difference(node: Node) -> Outcome:
    """(a − b)²."""
    a, b = node.array(0), node.array(1)
    d = a - b
    return single(d * d, lambda g: summed(2 * g * d, a.shape), lambda g: summed(-2 * g * d, b.shape))


def chosen(larger: bool) -> Rule:
    """MAXIMUM and MINIMUM; of equals the first has the gradient."""

    def rule(node: Node) -> Outcome:
        a, b = node.array(0), node.array(1)
        first = a >= b if larger else a <= b
        y = np.where(first, a, b)
        return single(y, lambda g: summed(g * first, a.shape), lambda g: summed(g * ~first, b.shape))

    return rule


def prelu(node: Node) -> Outcome:
    """x, times alpha where it is negative."""
    x, alpha = node.array(0), node.array(1)
    low = x < 0
    y = np.where(low, x * alpha, x)
    return single(
        y, lambda g: g * np.where(low, alpha, 1).astype(g.dtype), lambda g: summed(g * np.where(low, x, 0), alpha.shape)
    )


def _curve(f: Callable[[Array], Array], slope: Callable[[Array, Array], Array]) -> Rule:
    """A function of one input; slope: of (x, y)."""

    def rule(node: Node) -> Outcome:
        x = node.array(0)
        y = f(x)
        return single(y, lambda g: (g * slope(x, y)).astype(g.dtype))

    return rule


def _clamp(low: float, high: float) -> Rule:
    return _curve(lambda x: np.clip(x, low, high), lambda x, y: (x > low) & (x < high))


def _logistic(x: Array) -> Array:
    y: Array = 0.5 * (1 + np.tanh(0.5 * x))
    return y


def _hard_swish(x: Array) -> Array:
    y: Array = x * np.clip(x + 3, 0, 6) / 6
    return y


def leaky_relu(node: Node) -> Outcome:
    """x, times the option alpha where it is negative."""
    x = node.array(0)
    alpha = float(node.option("alpha", 0.0))
    return single(
        np.where(x < 0, alpha * x, x).astype(x.dtype), lambda g: (g * np.where(x < 0, alpha, 1)).astype(g.dtype)
    )


_ERF = np.vectorize(erf, otypes=[np.float64])


def gelu(node: Node) -> Outcome:
    """x · Φ(x), or its approximation by tanh."""
    x = node.array(0)
    if node.option("approximate", False):
        c = sqrt(2 / pi)
        t = np.tanh(c * (x + 0.044715 * x**3))
        slope = 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * c * (1 + 3 * 0.044715 * x * x)
        y = 0.5 * x * (1 + t)
    else:
        phi = 0.5 * (1 + _ERF(x / sqrt(2)))
        slope = phi + x * np.exp(-0.5 * x * x) / sqrt(2 * pi)
        y = x * phi
    return single(y.astype(x.dtype), lambda g: (g * slope).astype(g.dtype))


def fused(code: int, y: Array) -> tuple[Array, Callable[[Array], Array]] | None:
    """A fused activation behind y: its value and its gradient; None where there is none."""
    bounds = {Activation.RELU: (0.0, np.inf), Activation.RELU6: (0.0, 6.0), Activation.RELU_N1_TO_1: (-1.0, 1.0)}
    if code == Activation.TANH:
        t = np.tanh(y)
        return t, lambda g: g * (1 - t * t)
    if code not in bounds:
        return None
    low, high = bounds[Activation(code)]
    inside = (y > low) & (y < high)
    return np.clip(y, low, high), lambda g: g * inside


CURVES: Mapping[str, Rule] = MappingProxyType(
    {
        "RELU": _clamp(0.0, np.inf),
        "RELU6": _clamp(0.0, 6.0),
        "RELU_N1_TO_1": _clamp(-1.0, 1.0),
        "RELU_0_TO_1": _clamp(0.0, 1.0),
        "LEAKY_RELU": leaky_relu,
        "GELU": gelu,
        "ELU": _curve(lambda x: np.where(x < 0, np.expm1(np.minimum(x, 0)), x), lambda x, y: np.where(x < 0, y + 1, 1)),
        "LOGISTIC": _curve(_logistic, lambda x, y: y * (1 - y)),
        "TANH": _curve(np.tanh, lambda x, y: 1 - y * y),
        "HARD_SWISH": _curve(
            _hard_swish, lambda x, y: np.where(x <= -3, 0, np.where(x >= 3, 1, (2 * x + 3) / 6))
        ),
        "EXP": _curve(np.exp, lambda x, y: y),
        "LOG": _curve(np.log, lambda x, y: 1 / x),
        "SQRT": _curve(np.sqrt, lambda x, y: 0.5 / np.maximum(y, 1e-12)),
        "RSQRT": _curve(lambda x: 1 / np.sqrt(x), lambda x, y: -0.5 * y / x),
        "SQUARE": _curve(np.square, lambda x, y: 2 * x),
        "ABS": _curve(np.abs, lambda x, y: np.sign(x)),
        "NEG": _curve(np.negative, lambda x, y: np.full_like(x, -1)),
        "SIN": _curve(np.sin, lambda x, y: np.cos(x)),
        "COS": _curve(np.cos, lambda x, y: -np.sin(x)),
    }
)  # fmt: skip
"""Operations of one input."""
