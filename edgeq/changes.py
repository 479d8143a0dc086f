"""What calibration changes of a model, as a value: new scales for activations, new biases; weights never.

A Changes is the difference of two graphs, goes through bytes (the content of an overlay), and makes the second graph of
the first again. The bytes are canonical JSON with arrays in base64, little-endian.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from edgeq import limits, strict
from edgeq.errors import DocumentError, OverlayDamagedError
from edgeq.graph import Graph, Quantization, Tensor
from edgeq.records import dataclass, field, replace

Array = npt.NDArray[Any]

FORMAT: Final = "edgeq-changes/1"

_WHAT: Final = "changes"
_MOST: Final = 1 << 16
"""Tensors, and constants, that may change."""

_DTYPES: Final = {name: np.dtype(name).newbyteorder("<") for name in ("int32", "int64", "float32", "float64")}


@dataclass(frozen=True, eq=False)
class Constant:
    """A constant input of one operation: its codes, and the scales that they count in ((0,) where it has none)."""

    codes: Array
    scale: Array


@dataclass(frozen=True, eq=False)
class Changes:
    """tensors: index → (scale, zero_point). constants: (operation, position among its inputs) → what it is now.
    samples: how many were calibrated on. baseline: what edgeq.drift compares with later, by name."""

    tensors: Mapping[int, tuple[float, int]]
    constants: Mapping[tuple[int, int], Constant]
    samples: int = 0
    baseline: Mapping[str, Array] = field(default_factory=lambda: MappingProxyType({}))


def difference(before: Graph, after: Graph, samples: int = 0, baseline: Mapping[str, Array] | None = None) -> Changes:
    """What leads from `before` to `after`: the same operations, with other scales and other biases."""
    tensors = {}
    for i, (old, new) in enumerate(zip(before.tensors, after.tensors, strict=False)):
        if old.data is None and not _same_scale(old, new):
            assert new.quantization is not None
            tensors[i] = (float(new.quantization.scale[0]), int(new.quantization.zero_point[0]))
    constants = {}
    for n, (was, now) in enumerate(zip(before.ops, after.ops, strict=True)):
        for k, (i, j) in enumerate(zip(was.inputs, now.inputs, strict=True)):
            if i >= 0 and before.tensors[i].data is not None and not _same(before.tensors[i], after.tensors[j]):
                t = after.tensors[j]
                scale = np.zeros(0, np.float32) if t.quantization is None else t.quantization.scale
                constants[n, k] = Constant(np.asarray(t.data).reshape(-1), scale)
    return Changes(tensors, constants, samples, baseline or {})


def apply(graph: Graph, changes: Changes) -> Graph:
    """The graph with the changes. Raises OverlayDamagedError for changes that do not fit it."""
    tensors, ops = list(graph.tensors), list(graph.ops)
    for i, (scale, zero_point) in changes.tensors.items():
        if i >= len(graph.tensors):
            raise OverlayDamagedError(f"tensor {i} is to change, the model has {len(graph.tensors)}")
        tensors[i] = _rescaled(i, graph.tensors[i], scale, zero_point)
    readers = graph.main.consumers()
    for (n, k), constant in changes.constants.items():
        if n >= len(ops) or k >= len(ops[n].inputs) or ops[n].inputs[k] < 0:
            raise OverlayDamagedError(f"input {k} of operation {n} is to change, the model has no such input")
        at = ops[n].inputs[k]
        new = _refilled(at, graph.tensors[at], constant)
        if len(readers[at]) == 1:
            tensors[at] = new
        else:  # each operation that shares it has its own now
            tensors.append(replace(new, buffer=0))
            inputs = tuple(len(tensors) - 1 if p == k else i for p, i in enumerate(ops[n].inputs))
            ops[n] = replace(ops[n], inputs=inputs)
    return graph.with_main(tensors=tuple(tensors), ops=tuple(ops))


def _rescaled(i: int, t: Tensor, scale: float, zero_point: int) -> Tensor:
    if t.data is not None or t.quantization is None or len(t.quantization.scale) != 1:
        raise OverlayDamagedError(f"tensor {i} ({t.name}) is to get another scale, but it has none to change")
    info = np.iinfo(t.dtype)
    if not (math.isfinite(scale) and scale > 0 and info.min <= zero_point <= info.max):
        raise OverlayDamagedError(f"tensor {i} is to get scale {scale!r} and zero point {zero_point}: out of bounds")
    q = Quantization(np.array([scale], np.float32), np.array([zero_point], np.int64))
    return replace(t, quantization=q)


def _refilled(i: int, t: Tensor, constant: Constant) -> Tensor:
    data, q = t.data, t.quantization
    if data is None or t.dtype not in ("int32", "int64") or constant.codes.size != t.size:
        raise OverlayDamagedError(
            f"tensor {i} ({t.name}) is to get {constant.codes.size} other biases: it takes none such"
        )
    if np.asarray(data).dtype != constant.codes.dtype or len(constant.scale) != (0 if q is None else len(q.scale)):
        raise OverlayDamagedError(f"tensor {i} ({t.name}): the new biases are of another type or count of scales")
    if not (np.isfinite(constant.scale).all() and (constant.scale > 0).all()):
        raise OverlayDamagedError(f"tensor {i} ({t.name}): expected scales above 0")
    if q is not None and len(q.scale):
        q = Quantization(constant.scale, q.zero_point, q.axis)
    return replace(t, data=constant.codes.reshape(t.shape), quantization=q, buffer=0)


def _same_scale(a: Tensor, b: Tensor) -> bool:
    p, q = a.quantization, b.quantization
    if p is None or q is None or not len(p.scale) or not len(q.scale):
        return (p is None or not len(p.scale)) == (q is None or not len(q.scale))
    return np.array_equal(p.scale, q.scale) and np.array_equal(p.zero_point, q.zero_point)


def _same(a: Tensor, b: Tensor) -> bool:
    return a is b or (np.array_equal(np.asarray(a.data), np.asarray(b.data)) and _same_scale(a, b))


# --- bytes ------------------------------------------------------------------------------------------------------------


def to_bytes(changes: Changes) -> bytes:
    """The changes as bytes: the same for the same changes."""
    tensors = sorted(changes.tensors.items())
    return strict.canonical(
        {
            "format": FORMAT,
            "samples": changes.samples,
            "tensors": _spelled(np.array([i for i, _ in tensors], np.int32)),
            "scales": _spelled(np.array([s for _, (s, _) in tensors], np.float32)),
            "zero_points": _spelled(np.array([z for _, (_, z) in tensors], np.int32)),
            "constants": [
                {"operation": n, "input": k, "codes": _spelled(c.codes), "scale": _spelled(c.scale)}
                for (n, k), c in sorted(changes.constants.items())
            ],
            "baseline": {name: _spelled(a) for name, a in changes.baseline.items()},
        }
    )


def from_bytes(data: bytes) -> Changes:
    """The changes that `to_bytes` wrote. Raises as edgeq.strict does for anything else."""
    fields = strict.record(strict.parse_canonical(data, limits.OVERLAY_CONTENT, _WHAT), _FIELDS, _WHAT)
    index, scale, zero = fields["tensors"], fields["scales"], fields["zero_points"]
    if not (index.dtype == zero.dtype == np.int32 and scale.dtype == np.float32) or not (
        index.shape == scale.shape == zero.shape and index.ndim == 1 and len(index) <= _MOST
    ):
        raise DocumentError(f"{_WHAT}: expected as many scales and zero points as tensors")
    if (index < 0).any():
        raise DocumentError(f"{_WHAT}: expected tensor indices from 0 on, found {int(index.min())}")
    tensors = {int(i): (float(s), int(z)) for i, s, z in zip(index, scale, zero, strict=True)}
    constants = {(c["operation"], c["input"]): Constant(c["codes"], c["scale"]) for c in fields["constants"]}
    return Changes(tensors, constants, fields["samples"], fields["baseline"])


def _spelled(a: Array) -> dict[str, Any]:
    little = np.ascontiguousarray(a, _DTYPES[a.dtype.name])
    return {"dtype": a.dtype.name, "shape": list(a.shape), "data": strict.to_base64(little.tobytes())}


def _array(value: Any, what: str) -> Array:
    fields = strict.record(value, {"dtype": _any, "shape": _any, "data": _any}, what)
    dtype, shape, text = fields["dtype"], fields["shape"], fields["data"]
    if dtype not in _DTYPES or not isinstance(text, str):
        raise DocumentError(f"{what}: expected an array of {', '.join(_DTYPES)} in base64")
    if not isinstance(shape, list) or len(shape) > 4 or not all(type(n) is int and 0 <= n < 1 << 31 for n in shape):
        raise DocumentError(f"{what}: expected a shape of up to 4 dimensions")
    raw = strict.from_base64(text, what)
    if len(raw) != math.prod(shape) * _DTYPES[dtype].itemsize:
        raise DocumentError(f"{what}: expected {shape} {dtype}, found {len(raw)} bytes")
    return np.frombuffer(raw, _DTYPES[dtype]).astype(dtype).reshape(shape)


def _any(value: Any, what: str) -> Any:
    return value


def _constants(value: Any, what: str) -> list[dict[str, Any]]:
    if not isinstance(value, list) or len(value) > _MOST:
        raise DocumentError(f"{what}: expected an array of at most {_MOST} entries")
    return [strict.record(entry, _CONSTANT, f"{what}: {n}") for n, entry in enumerate(value)]


_INDEX: Final = strict.integer(0, 2**31 - 1)
_CONSTANT: Final[dict[str, strict.Check]] = {
    "operation": _INDEX,
    "input": _INDEX,
    "codes": _array,
    "scale": _array,
}
_NAME: Final = strict.text("[a-z_]+", "a name", 32)
_FIELDS: Final[dict[str, strict.Check]] = {
    "format": strict.only(FORMAT),
    "samples": strict.integer(0, limits.INTEGER),
    "tensors": _array,
    "scales": _array,
    "zero_points": _array,
    "constants": _constants,
    "baseline": strict.mapping(_NAME, _array, 16),
}
