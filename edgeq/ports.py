"""What a caller sees of a model: its inputs and outputs by name, and arrays on their way in and out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeq.errors import InputError
from edgeq.records import dataclass

if TYPE_CHECKING:
    from edgeq.graph import Array, Tensor
    from edgeq.quantmod import QuantMod


@dataclass(frozen=True)
class Port:
    """An input or output of a model: its name, shape, dtype, and for integers what real numbers they stand for.

    affine: scale and zero point as TFLite has them, None where values are what they are.
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    affine: tuple[float, int] | None = None

    @cached_property
    def quantmod(self) -> QuantMod | None:
        """Between real numbers and the port's integers; None where there is nothing between them."""
        if self.affine is None:
            return None
        from edgeq.quantmod import QuantMod  # on first use: who feeds integers never needs it

        return QuantMod.from_tflite(*self.affine, self.dtype.name)


def port(name: str, t: Tensor) -> Port:
    """What a caller sees of an input or output tensor. Raises InputError where its numbers mean nothing."""
    from edgeq.graph import NUMPY_DTYPES

    affine, q = None, t.quantization
    if q is not None and t.dtype in ("int8", "uint8", "int16") and len(q.scale) == 1:
        affine = float(q.scale[0]), int(q.zero_point[0])
    if t.dtype not in NUMPY_DTYPES:
        raise InputError(f"{name!r} is of type {t.dtype}, which has no NumPy arrays")
    made = Port(name, t.shape, NUMPY_DTYPES[t.dtype], affine)
    _ = made.quantmod  # raises now, not when a caller asks
    return made


def samples_of(a: Array, p: Port) -> tuple[int, bool]:
    """How many times the port's shape an array holds, and whether it is a batch (other than the port's own shape)."""
    if a.shape == p.shape:
        return 1, False
    if (
        p.shape
        and a.ndim == len(p.shape)
        and a.shape[1:] == p.shape[1:]
        and p.shape[0]
        and a.shape[0] % p.shape[0] == 0
    ):
        return a.shape[0] // p.shape[0], True
    expected = ["N" if p.shape[0] == 1 else f"N·{p.shape[0]}", *map(str, p.shape[1:])] if p.shape else []
    raise InputError(f"input {p.name!r} has shape {list(a.shape)}, ({', '.join(expected)}) is expected")


def in_order(x: Array | Mapping[str, Array], ports: Sequence[Port]) -> list[Array]:
    """The inputs' arrays in the order of the ports, from one array or a dict by name."""
    if isinstance(x, Mapping):
        names = [p.name for p in ports]
        if set(x) != set(names):
            raise InputError(f"inputs are named {sorted(map(str, x))}, {sorted(names)} are expected")
        return [np.asarray(x[n]) for n in names]
    if len(ports) == 1:
        return [np.asarray(x)]
    raise InputError(f"one array is given, a dict with {[p.name for p in ports]} is expected")


def gathered(x: Array | Mapping[str, Array], ports: Sequence[Port]) -> tuple[list[Array], int, bool]:
    """The inputs' arrays in order, how many samples they hold, and whether that is a batch."""
    given = in_order(x, ports)
    counts = [samples_of(a, p) for a, p in zip(given, ports, strict=True)]
    if len({n for n, _ in counts}) > 1:
        raise InputError(f"inputs hold {[n for n, _ in counts]} samples, the same number is expected")
    samples, batched = counts[0] if counts else (1, False)
    return given, samples, batched


def delivered(results: Sequence[Array], ports: Sequence[Port], dequantize: bool) -> Any:
    """The outputs as a caller gets them: one array, or a dict by name; as real numbers if asked."""
    if dequantize:
        results = [
            p.quantmod.dequantize(r) if p.quantmod is not None else r for r, p in zip(results, ports, strict=True)
        ]
    if len(results) == 1:
        return results[0]
    return {p.name: r for p, r in zip(ports, results, strict=True)}


def converted(a: Array, p: Port) -> Array:
    """The array in the port's dtype: unchanged, or floats quantized by the port's parameters (float32 ones by the machine)."""
    if a.dtype == p.dtype:
        return np.ascontiguousarray(a)
    if a.dtype.kind == "f":
        if p.dtype.kind == "f":
            return np.ascontiguousarray(a, p.dtype)
        if p.quantmod is not None and a.dtype == np.float32:
            return np.ascontiguousarray(a)
        if p.quantmod is not None:
            return np.ascontiguousarray(p.quantmod.quantize(np.ascontiguousarray(a)))
    also = " or floats" if p.quantmod is not None or p.dtype.kind == "f" else ""
    raise InputError(f"input {p.name!r} is {a.dtype}, {p.dtype}{also} is expected")
