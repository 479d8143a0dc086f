"""The fields that several documents share, each with its bounds: a model id is the same thing in a bundle and in a root."""

from __future__ import annotations

from typing import Any, Final

from edgeq import errors, limits, strict

SUITE: Final = "edgeq-1"
"""The one suite: docs/bundle-format.md says which algorithms it names."""

_ALPHANUMERIC: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
MODEL_ID: Final = strict.spelled(
    _ALPHANUMERIC, _ALPHANUMERIC + "._/-", f"1 to {limits.MODEL_ID} of A–Z a–z 0–9 . _ / -", limits.MODEL_ID
)
VERSION: Final = strict.integer(1, limits.INTEGER)
KEY_ID: Final = strict.hexadecimal(32)
TIME: Final = strict.integer(0, 253_402_300_799)
"""Unix seconds, to the end of the year 9999."""

OPERATIONS: Final = ("calibrate", "debug", "export", "load")
"""load: run the model. calibrate: change its parameters. debug: read intermediate tensors. export: let the .tflite out."""


def _some_operations(value: Any, what: str) -> tuple[str, ...]:
    if isinstance(value, list) and value and value == [name for name in OPERATIONS if name in value]:
        return tuple(value)
    raise errors.DocumentError(f"{what}: expected some of {', '.join(OPERATIONS)}, sorted, each once")


SOME_OPERATIONS: Final[strict.Check] = _some_operations
"""Some of OPERATIONS, sorted, each once, given back as a tuple."""
