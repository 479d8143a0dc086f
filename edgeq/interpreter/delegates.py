"""Op resolvers and delegates, which choose who computes in TFLite: here edgeq does, and they choose its rounding at most."""

from __future__ import annotations

import enum
import warnings
from collections.abc import Sequence
from typing import Any, NoReturn

from edgeq.interpreter.errors import ArgumentError
from edgeq.plan.types import Rounding


@enum.unique
class OpResolverType(enum.Enum):
    """Whose kernels TFLite would run, by its own names and numbers.

    BUILTIN_REF are its reference kernels, whose integers are edgeq's rounding "tflite"; all others are "xnnpack".
    """

    AUTO = 0
    BUILTIN = 1
    BUILTIN_REF = 2
    BUILTIN_WITHOUT_DEFAULT_DELEGATES = 3


def resolver_named(given: Any) -> OpResolverType:
    """The resolver: a member of the enumeration, or of one with the same names (tflite_runtime's, ai_edge_litert's)."""
    if isinstance(given, enum.Enum) and type(given).__name__ == "OpResolverType":
        found = OpResolverType.__members__.get(given.name)
        if found is not None:
            return found
    raise ArgumentError(f"Unrecognized passed in op resolver type: {given}")


def rounding_of(resolver: OpResolverType, rounding: str | None) -> Rounding:
    """The rounding asked for by name, else the one that the resolver implies."""
    if rounding is None:
        return Rounding.TFLITE if resolver is OpResolverType.BUILTIN_REF else Rounding.XNNPACK
    try:
        return Rounding(rounding)
    except ValueError:
        raise ArgumentError(f"rounding is {rounding!r}, 'xnnpack' or 'tflite' is expected") from None


def ignore_delegates(delegates: Sequence[Any] | None) -> None:
    """Delegates change who computes, not what comes out: edgeq computes all, and says so once."""
    if delegates:
        warnings.warn(
            f"{len(delegates)} delegate(s) ignored: edgeq runs every operation with its own kernels", stacklevel=3
        )


class Delegate:
    """TFLite's handle of a delegate's library: there is none here."""

    def __init__(self, library: str, options: dict[str, Any] | None = None) -> None:
        load_delegate(library, options)


def load_delegate(library: str, options: dict[str, Any] | None = None) -> NoReturn:
    """Always raises ValueError, as TFLite's does for a delegate that it cannot load.

    Apps that have a way without the delegate then take it.
    """
    raise ArgumentError(f"Failed to load delegate from {library}\nedgeq runs models on the CPU and loads no delegates")
