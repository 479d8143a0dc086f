"""Which operations and types a runtime does not have, so that it cannot be asked; found by asking, and kept true by a test.

The reference resolver of tflite-runtime 2.14 lacks some operations that its default has; both check types as their kernels do.
"""

from __future__ import annotations

ALL = "all"

ABSENT: dict[str, dict[str, tuple[str, ...]]] = {
    "tflite": {
        "ARG_MAX": ("int16", "int64", "bool"),
        "ARG_MIN": ("int16", "int64", "bool"),
        "BATCH_TO_SPACE_ND": ("bool",),
        "BITWISE_XOR": ("uint16",),
        "BROADCAST_TO": ("uint8",),
        "CAST": ("uint16",),
        "CEIL": (ALL,),
        "CUMSUM": (ALL,),
        "DEPTH_TO_SPACE": ("int8", "int16", "bool"),
        "DIV": ("int8",),
        "DYNAMIC_UPDATE_SLICE": ("uint8", "int16"),
        "ELU": (ALL,),
        "EMBEDDING_LOOKUP": ("int16", "int32", "int64"),
        "GATHER_ND": ("bool",),
        "GELU": ("int16",),
        "GREATER": ("int16", "bool"),
        "GREATER_EQUAL": ("bool",),
        "LESS": ("bool",),
        "LESS_EQUAL": ("int16", "bool"),
        "LOG": ("int8", "int16"),
        "MIRROR_PAD": ("bool",),
        "NOT_EQUAL": ("int16",),
        "PACK": ("bool",),
        "RFFT2D": (ALL,),
        "RIGHT_SHIFT": ("uint16",),
        "RSQRT": ("int16",),
        "SEGMENT_SUM": (ALL,),
        "ROUND": (ALL,),
        "SPACE_TO_BATCH_ND": ("bool",),
        "SQRT": ("int8",),
        "SPACE_TO_DEPTH": ("int16", "bool"),
        "SPLIT": ("int64", "bool"),
        "SPLIT_V": ("bool",),
        "TILE": ("int16",),
        "UNPACK": ("int64",),
    },
    "xnnpack": {
        "ARG_MAX": ("int16", "int64"),
        "ARG_MIN": ("int16", "int64"),
        "BROADCAST_TO": ("uint8",),
        "DEPTH_TO_SPACE": ("int16", "bool"),
        "GREATER": ("bool",),
        "GREATER_EQUAL": ("bool",),
        "LESS": ("bool",),
        "LESS_EQUAL": ("bool",),
        "PACK": ("bool",),
        "SPACE_TO_DEPTH": ("int16", "bool"),
        "SPLIT": ("bool",),
        "SPLIT_V": ("bool",),
        "UNPACK": ("int64",),
    },
}
"""Rounding family → operation → input types that its runtime refuses."""


def is_absent(op: str, dtype: str, rounding: str) -> bool:
    """Whether the family's runtime refuses an operation on this input type."""
    types = ABSENT[rounding].get(op, ())
    return dtype in types or ALL in types
