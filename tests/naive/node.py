"""What a twin is given: one operation with its tensors and the arrays that flow into it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.graph import Activation, Op, Tensor

from .fixedpoint import round_half_away

Array = npt.NDArray[Any]
f32 = np.float32


@dataclass(frozen=True)
class Node:
    """An operation, its tensors (None for an omitted input), its input arrays, its output tensor, the rounding family."""

    op: Op
    tensors: tuple[Tensor | None, ...]
    arrays: tuple[Array | None, ...]
    output: Tensor
    rounding: str
    intermediates: tuple[Tensor, ...] = ()

    @property
    def xnnpack(self) -> bool:
        """Whether LiteRT's default is the reference, and not TFLite's reference kernels."""
        return self.rounding == "xnnpack"

    def option(self, name: str, default: Any = 0) -> Any:
        """A builtin option, `default` where the operation carries no options table."""
        return default if self.op.options is None else self.op.options.values.get(name, default)

    def array(self, k: int) -> Array:
        """Input k, which must be there."""
        a = self.arrays[k]
        if a is None:
            raise ValueError(f"{self.op.code}: input {k} is needed and absent")
        return a

    def tensor(self, k: int) -> Tensor:
        """Input tensor k, which must be there."""
        t = self.tensors[k]
        if t is None:
            raise ValueError(f"{self.op.code}: input {k} is needed and absent")
        return t

    def has(self, k: int) -> bool:
        """Whether optional input k is given."""
        return k < len(self.arrays) and self.arrays[k] is not None

    def clamp(self, q: Array) -> Array:
        """q clamped to the output's type and to the fused activation, as an array of the output's type."""
        low, high = activation_range(self.option("fused_activation_function"), self.output)
        return np.clip(q, low, high).astype(self.output.dtype)


def scale_of(t: Tensor) -> np.float32:
    """The per-tensor scale."""
    return f32(quantization(t).scale[0])


def zero_point_of(t: Tensor) -> int:
    """The per-tensor zero point."""
    return int(quantization(t).zero_point[0])


def quantization(t: Tensor) -> Any:
    """The tensor's quantization, which must be there."""
    if t.quantization is None:
        raise ValueError(f"tensor {t.name!r} has no quantization")
    return t.quantization


def centred(node: Node, k: int) -> Array:
    """Input k minus its zero point, int64."""
    return node.array(k).astype(np.int64) - zero_point_of(node.tensor(k))


def activation_range(activation: int, t: Tensor) -> tuple[int, int]:
    """CalculateActivationRangeQuantized: the bounds zero_point + round(f / scale), within the type's own.

    f / scale is a float32 division, rounded half away from zero. XNNPACK rounds ties to even; the two differ only where 6 / scale
    is exactly a half, which no scale found in a model has been.
    """
    info = np.iinfo(t.dtype)
    low, high = int(info.min), int(info.max)

    def quantize(f: float) -> int:
        return zero_point_of(t) + int(round_half_away(f32(f) / scale_of(t)))

    if activation in (Activation.RELU, Activation.RELU6):
        low = max(low, quantize(0.0))
    if activation == Activation.RELU6:
        high = min(high, quantize(6.0))
    if activation == Activation.RELU_N1_TO_1:
        low, high = max(low, quantize(-1.0)), min(high, quantize(1.0))
    return low, high


def float_activation(activation: int, x: Array) -> Array:
    """The fused activation on float32 values."""
    low, high = {
        Activation.RELU: (0.0, np.inf),
        Activation.RELU6: (0.0, 6.0),
        Activation.RELU_N1_TO_1: (-1.0, 1.0),
    }.get(Activation(activation), (-np.inf, np.inf))
    return np.clip(x, f32(low), f32(high))
