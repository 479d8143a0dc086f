"""The float functions of the machine, over all exponents, beside float64."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import erf
from typing import Any

import engine_models as models
import numpy as np
import pytest

from edgeq.engine import build
from edgeq.tflite.schema import table

f32 = np.float32
SPECIAL = np.array(
    [0, -0.0, np.inf, -np.inf, np.nan, 1e-45, -1e-45, 88.72, 88.73, -87.3, -103.9, -104, 1, -1, 0.5, -0.5, 1.5, 2.5,
     8388607.5, 8191.9, 8192.5, 1e30], f32,
)  # fmt: skip
EVERYWHERE = np.arange(-(1 << 31), 1 << 31, 65539, dtype=np.int64).astype(np.int32).view(f32)
"""float32 numbers of every exponent and sign."""

NEAR = np.linspace(-20, 20, 40_001, dtype=f32)


@dataclass(frozen=True)
class Curve:
    """An operation, what it computes in float64, and by how much it may be off: absolutely, or in units in the last place."""

    op: str
    exact: Callable[[Any], Any]
    absolute: float = 0.0
    ulps: float = 0.0
    options: Any = None
    below: float = np.inf


CURVES = (
    Curve("EXP", np.exp, ulps=1, absolute=1.5e-45),
    Curve("LOG", np.log, ulps=1),
    Curve("LOGISTIC", lambda x: 1 / (1 + np.exp(-x)), absolute=9e-8),
    Curve("TANH", np.tanh, ulps=2),
    Curve("ELU", lambda x: np.where(x < 0, np.expm1(np.minimum(x, 0)), x), ulps=1),
    Curve("GELU", lambda x: x / 2 * (1 + np.vectorize(erf, otypes=[float])(x / np.sqrt(2))), absolute=1e-6, ulps=1,
          options=table("GeluOptions", approximate=False)),
    Curve("GELU", lambda x: x / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))), absolute=1e-6, ulps=1,
          options=table("GeluOptions", approximate=True)),
    Curve("HARD_SWISH", lambda x: x * np.clip(x + 3, 0, 6) / 6, absolute=1e-6, ulps=2, below=1e30),
    Curve("SIN", np.sin, absolute=1.2e-7, ulps=1, below=1e6),
    Curve("COS", np.cos, absolute=1.2e-7, ulps=1, below=1e6),
    Curve("SQRT", np.sqrt),
    Curve("RSQRT", lambda x: 1 / np.sqrt(x), ulps=1),
    Curve("ABS", np.abs), Curve("NEG", np.negative), Curve("FLOOR", np.floor), Curve("CEIL", np.ceil),
    Curve("ROUND", np.rint), Curve("SIGN", np.sign), Curve("SQUARE", np.square),
    Curve("LEAKY_RELU", lambda x: np.where(x >= 0, x, x * np.float64(f32(0.1))), ulps=1, absolute=1.5e-45,
          options=table("LeakyReluOptions", alpha=0.1)),
    Curve("RELU6", lambda x: np.clip(x, 0, 6)),
)  # fmt: skip


@pytest.mark.parametrize("number", range(len(CURVES)), ids=lambda n: f"{n} {CURVES[n].op}")
def test_curves_over_all_exponents(number: int) -> None:
    """Every float32 comes out within the bound; infinities, zeros and what is not a number as in float64."""
    curve = CURVES[number]
    x = np.concatenate([SPECIAL, EVERYWHERE, NEAR])
    x = x[~(np.abs(x) >= curve.below)]
    with (
        build(models.unary(curve.op, "float32", shape=(1, len(x)), options=curve.options)) as model,
        np.errstate(all="ignore"),
    ):
        y = model(x[None])[0]
        exact = curve.exact(x.astype(np.float64))
        wanted = exact.astype(f32)
        off = np.abs(y.astype(np.float64) - exact)
        step = np.spacing(np.abs(wanted)).astype(np.float64)
    same = (y == wanted) | (np.isnan(y) & np.isnan(wanted))
    good = same | (off <= curve.absolute) | (off <= (curve.ulps + 0.5) * step)
    assert good.all(), [(a, b, c) for a, b, c in zip(x[~good], y[~good], wanted[~good], strict=True)][:8]


@pytest.mark.parametrize("count", [1, 2, 3, 7, 15, 16, 17, 31, 33, 100])
def test_nothing_behind_the_end_is_touched(count: int) -> None:
    """A tensor of any length comes out whole, beside another that lies behind it."""
    x = np.random.default_rng(count).normal(0, 3, (1, count)).astype(f32)
    with build(models.unary("EXP", "float32", shape=(1, count))) as model:
        np.testing.assert_allclose(model(x), np.exp(x), rtol=3e-7)
    with build(models.softmax("float32", shape=(5, count))) as model:
        rows = np.random.default_rng(count).normal(0, 9, (5, count)).astype(f32)
        e = np.exp((rows - rows.max(axis=1, keepdims=True)).astype(np.float64))
        np.testing.assert_allclose(model(rows), e / e.sum(axis=1, keepdims=True), atol=3e-7)
