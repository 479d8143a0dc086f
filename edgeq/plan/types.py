"""What a plan is made of."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any

import numpy as np

from edgeq.graph import Array, Tensor
from edgeq.records import dataclass, field


class Rounding(str, Enum):
    """Whose integers come out: TFLite's reference kernels', or those of LiteRT's default (XNNPACK)."""

    TFLITE = "tflite"
    XNNPACK = "xnnpack"


@dataclass(frozen=True)
class Ref:
    """An address not yet known: `offset` bytes into block `block` of the arena, or into the constants (block −1)."""

    block: int
    offset: int = 0

    def at(self, offset: int) -> Ref:
        """The same place, `offset` bytes further."""
        return Ref(self.block, self.offset + offset)


CONSTANT = -1

Word = int | float | np.integer[Any] | np.floating[Any] | Ref
Words = dict[int, Word]
"""Words of an instruction while it is being made; a float becomes the bits of a float32."""


@dataclass(frozen=True)
class Instruction:
    """One kernel call: its name, units of work, words by index; which operation it comes from and its multiply-adds."""

    kernel: str
    units: int
    words: Mapping[int, int | Ref]
    op: int
    macs: int = 0


@dataclass(frozen=True)
class Port:
    """Where an input or output of the model lies: tensor index, place, bytes, what happens to it on the way (words/frame.py).

    `words` are the record's behind its addresses: bytes and kind for values of the tensor's own type; `float_words` those for
    float32 values of a quantized input, None where there is no such thing.
    """

    tensor: int
    place: Ref
    size: int
    words: tuple[int, ...]
    float_words: tuple[int, ...] | None = None


@dataclass(frozen=True, eq=False)
class Plan:
    """Everything the machine needs, with addresses left open.

    table: (n, WORDS) int64; arena_words, constant_words: flat indices into table whose value is an offset into the arena or the
    constants; constants: (bytes,) uint8; arena_bytes: what tensors and temporaries need; places: tensor index → place, for the
    tensors that still hold their value when a run ends (all of them if the plan was made with keep or shown). required: tensor
    index of an input → the only value that this plan can run with (a shape that it was made for). nanoseconds: a rough
    estimate of one inference on one core, see plan/cost.py; together: of one by two threads. folded: tensor index → the
    value of what planning computed. tensors: the graph's, in the shapes that the plan gives them: those that a file leaves
    open are found by planning.
    kept: what must live as long as the plan does (functions that it calls).
    initial: what stays in the arena from run to run (a model's state), and the bytes that it starts with; variables: the same by
    the resource's name or the variable tensor's index, with its bytes.
    """

    instructions: tuple[Instruction, ...]
    table: Array
    arena_words: Array
    constant_words: Array
    constants: Array
    arena_bytes: int
    offsets: tuple[int, ...]
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    rounding: Rounding
    places: Mapping[int, Ref] = field(default_factory=dict)
    required: Mapping[int, Array] = field(default_factory=dict)
    nanoseconds: float = 0.0
    folded: Mapping[int, Array] = field(default_factory=dict)
    kept: tuple[Any, ...] = ()
    tensors: tuple[Tensor, ...] = ()
    initial: tuple[tuple[Ref, Array], ...] = ()
    variables: Mapping[str | int, tuple[Ref, int]] = field(default_factory=dict)
    together: float = 0.0

    @property
    def constant_bytes(self) -> int:
        """Size of packed weights, biases, multipliers and tables."""
        return int(self.constants.nbytes)

    @property
    def macs(self) -> int:
        """Multiply-adds of one inference."""
        return sum(i.macs for i in self.instructions)

    def offset(self, place: Ref) -> int:
        """Byte offset of an arena place."""
        return self.offsets[place.block] + place.offset


FLIPPED = np.uint8(0x80)
"""int8 lies in the arena as uint8 with this bit changed: q + 128. Kernels then know one 8-bit type."""
