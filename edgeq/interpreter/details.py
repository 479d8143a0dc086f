"""Tensors as TFLite's interpreter describes them: dicts, NumPy types, constant values."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgeq.graph import NUMPY_DTYPES, Array, Tensor
from edgeq.interpreter.errors import ArgumentError

TYPES: dict[str, type] = {
    **{name: dtype.type for name, dtype in NUMPY_DTYPES.items()},
    "string": np.bytes_,
    "resource": np.object_,
    "variant": np.object_,
    "int4": np.int8,
    "int2": np.int8,
    "uint4": np.uint8,
}
"""Type of the schema → the NumPy type that stands for it; packed integers are shown unpacked."""

PACKED = {"int4": (4, True), "uint4": (4, False), "int2": (2, True)}
"""Type → bits of an element, and whether it has a sign."""


def describe(t: Tensor, index: int, shape: tuple[int, ...]) -> dict[str, Any]:
    """A tensor as the interpreter's `get_tensor_details` shows it, in its shape of now.

    Of quantized tensors, `quantization` is (scale, zero point) where there is one scale, else (0.0, 0).
    """
    q = t.quantization
    scales = np.array([] if q is None else q.scale, np.float32)
    zero_points = np.array([] if q is None else q.zero_point, np.int64).astype(np.int32)
    one = len(scales) == 1
    block = 0 if q is None or q.details is None else int(q.details.values.get("block_size", 0))
    return {
        "name": t.name,
        "index": index,
        "shape": np.array(shape, np.int32),
        "shape_signature": np.array(t.shape_signature or shape, np.int32),
        "dtype": TYPES.get(t.dtype, np.void),
        "quantization": (float(scales[0]), int(zero_points[0])) if one else (0.0, 0),
        "quantization_parameters": {
            "scales": scales,
            "zero_points": zero_points,
            "quantized_dimension": 0 if q is None else q.axis,
            "block_size": block,
        },
        "sparsity_parameters": {},
    }


def constant(t: Tensor) -> Array:
    """A copy of a constant's values; raises ArgumentError for a type that NumPy has not."""
    assert t.data is not None
    if t.dtype in NUMPY_DTYPES:
        return t.data.copy()
    if t.dtype in PACKED:
        return _unpacked(t)
    if t.dtype == "string":
        return _strings(t)
    raise ArgumentError(f"tensor {t.name!r} is of type {t.dtype}, which has no NumPy array")


def _unpacked(t: Tensor) -> Array:
    """Elements of 2 or 4 bits, the lowest bits of a byte first, as one byte each."""
    assert t.data is not None
    bits, signed = PACKED[t.dtype]
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    values = (t.data[:, None] >> shifts & ((1 << bits) - 1)).reshape(-1)[: t.size].astype(np.int16)
    if signed:
        values -= (values >> (bits - 1)) << bits
    return values.astype(TYPES[t.dtype]).reshape(t.shape)


def _strings(t: Tensor) -> Array:
    """TFLite's string buffer: a count, then as many offsets and the end, int32 each, then the bytes (string_util.h)."""
    assert t.data is not None
    raw = t.data.tobytes()
    count = int.from_bytes(raw[:4], "little")
    if count != t.size or len(raw) < 4 * (count + 2):
        raise ArgumentError(f"tensor {t.name!r} holds {count} strings in {len(raw)} bytes, {t.size} are expected")
    bounds = np.frombuffer(raw, "<u4", count + 1, 4).tolist()
    out = np.empty(count, object)
    for k in range(count):
        out[k] = raw[bounds[k] : bounds[k + 1]]
    return out.reshape(t.shape)
