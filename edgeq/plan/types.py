"""What a plan is made of."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType
from typing import Any

import numpy as np

from edgeq.graph import Array, Tensor
from edgeq.kernels.words import kinds
from edgeq.plan.runnable import CONSTANT, FLIPPED, Port, Ref, Runnable
from edgeq.records import dataclass, field

__all__ = [
    "CONSTANT",
    "FLIPPED",
    "INTEGERS",
    "KINDS",
    "Frame",
    "Instruction",
    "Lanes",
    "Plan",
    "Port",
    "Ref",
    "Rounding",
    "Runnable",
    "Word",
    "Words",
]


KINDS: Mapping[str, int] = MappingProxyType(
    {
        "uint8": kinds.U8, "bool": kinds.U8, "int8": kinds.S8, "int16": kinds.S16, "int32": kinds.S32, "int64": kinds.S64,
        "uint16": kinds.U16, "uint32": kinds.U32, "float32": kinds.F32, "float64": kinds.F64,
    }
)  # fmt: skip
"""Tensor types as the kernels for any type number them; uint64, float16, complex64 and complex128 can only be moved."""

INTEGERS = frozenset({"uint8", "int8", "int16", "int32", "int64", "uint16", "uint32"})


class Rounding(str, Enum):
    """Whose integers come out: TFLite's reference kernels', or those of LiteRT's default (XNNPACK)."""

    TFLITE = "tflite"
    XNNPACK = "xnnpack"


Word = int | float | np.integer[Any] | np.floating[Any] | Ref
Words = dict[int, Word]
"""Words of an instruction while it is being made; a float becomes the bits of a float32."""


@dataclass(frozen=True, eq=False)
class Lanes:
    """Which of a layer's channels an instruction's BIAS and MULTIPLIER hold: `part` of them, zeros behind them up to `padded`, in
    `order`, where there is one. products: that make one of its sums; plain: whether it may be told PLAIN."""

    part: slice
    padded: int
    order: Array | None
    products: int
    plain: bool = False


@dataclass(frozen=True)
class Instruction:
    """One kernel call: its name, units of work, words by index; which operation it comes from and its multiply-adds.

    beside: nothing of it is touched by the next instruction, which no thread waits with for others that are at this one; lanes:
    of a layer that is requantized in float32.
    """

    kernel: str
    units: int
    words: Mapping[int, int | Ref]
    op: int
    macs: int = 0
    beside: bool = False
    lanes: Lanes | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Frame:
    """An image of h × w pixels of c bytes between rows and pixels of borders (edgeq/plan/frames.py)."""

    top: int
    bottom: int
    left: int
    right: int
    h: int
    w: int
    c: int

    @property
    def width(self) -> int:
        """Pixels of a row, borders included."""
        return self.left + self.w + self.right

    @property
    def height(self) -> int:
        """Rows, borders included."""
        return self.top + self.h + self.bottom

    @property
    def pitch(self) -> int:
        """Bytes from one row to the next."""
        return self.width * self.c


@dataclass(frozen=True, eq=False)
class Plan(Runnable):
    """Everything that is known of a plan: what running needs, and where it comes from.

    places: tensor index → place, for the tensors that still hold their value when a run ends (all of them if the plan was made
    with keep or shown). folded: tensor index → the value of what planning computed. tensors: the graph's, in the shapes that
    the plan gives them: those that a file leaves open are found by planning. framed: of others that are shown the place of the
    first pixel, and the frame.
    """

    instructions: tuple[Instruction, ...]
    rounding: Rounding
    places: Mapping[int, Ref]
    folded: Mapping[int, Array]
    tensors: tuple[Tensor, ...]
    framed: Mapping[int, tuple[Ref, Frame]] = field(default_factory=dict)

    @property
    def macs(self) -> int:
        """Multiply-adds of one inference."""
        return sum(i.macs for i in self.instructions)
