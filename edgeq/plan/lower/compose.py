"""Operations made of others: tensors that no file has, and lowerings called in order over them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edgeq.graph import Array, Op, Quantization, Tensor
from edgeq.plan.builder import Builder
from edgeq.plan.types import Ref
from edgeq.tflite.schema import table


def placed(b: Builder, shape: Sequence[int], dtype: str, place: Ref, quantization: Quantization | None = None) -> int:
    """A tensor over what lies there."""
    b.tensors.append(Tensor("", tuple(shape), dtype, quantization=quantization))
    b.places[len(b.tensors) - 1] = place
    return len(b.tensors) - 1


def constant(b: Builder, values: Array) -> int:
    """A constant tensor."""
    b.tensors.append(Tensor("", values.shape, values.dtype.name, values))
    return len(b.tensors) - 1


def step(
    b: Builder,
    code: str,
    inputs: Sequence[int],
    shape: Sequence[int],
    dtype: str = "float32",
    options: str | None = None,
    **values: Any,
) -> int:
    """Lower one operation; its output's tensor."""
    b.tensors.append(Tensor("", tuple(shape), dtype))
    y = len(b.tensors) - 1
    last(b, code, inputs, y, options, **values)
    return y


def last(b: Builder, code: str, inputs: Sequence[int], y: int, options: str | None = None, **values: Any) -> None:
    """Lower one operation whose output is tensor y."""
    b.lower(Op(code, tuple(inputs), (y,), table(options, **values) if options else None))
