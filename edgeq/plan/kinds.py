"""Tensor types as the kernels for any type number them."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from edgeq.kernels.words import kinds

KINDS: Mapping[str, int] = MappingProxyType(
    {
        "uint8": kinds.U8, "bool": kinds.U8, "int8": kinds.S8, "int16": kinds.S16, "int32": kinds.S32, "int64": kinds.S64,
        "uint16": kinds.U16, "uint32": kinds.U32, "float32": kinds.F32, "float64": kinds.F64,
    }
)  # fmt: skip
"""Types that have a kind; uint64, float16, complex64 and complex128 can only be moved."""

INTEGERS = frozenset({"uint8", "int8", "int16", "int32", "int64", "uint16", "uint32"})
