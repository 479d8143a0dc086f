"""What running needs of a plan, and nothing that making one needs: a process that has a plan already imports this alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeq.records import dataclass

if TYPE_CHECKING:
    from edgeq.graph import Array

SLACK = 256
"""Bytes behind arena and constants: vector loads may read, never use, up to a vector past a row's end."""

WORTH = 0.9
"""Threads work together where that is estimated to take less than this share of one's time."""

PARALLEL_NS = 300_000.0
"""A call from this on waits until the other threads have been woken, which takes 50 to 100 µs; one below it runs on those that
still stand by from the call before."""

CONSTANT = -1
"""The block of what lies in the constants."""

FLIPPED = np.uint8(0x80)
"""int8 lies in the arena as uint8 with this bit changed: q + 128. Kernels then know one 8-bit type."""


@dataclass(frozen=True)
class Ref:
    """An address not yet known: `offset` bytes into block `block` of the arena, or into the constants (block −1)."""

    block: int
    offset: int = 0

    def at(self, offset: int) -> Ref:
        """The same place, `offset` bytes further."""
        return Ref(self.block, self.offset + offset)


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
class Runnable:
    """What the machine needs, with addresses left open.

    table: (n, WORDS) int64; arena_words, constant_words: flat indices into table whose value is an offset into the arena or the
    constants; constants: (bytes,) uint8; arena_bytes: what tensors and temporaries need; offsets: of each block of the arena.
    nanoseconds: a rough estimate of one inference on one core, see plan/cost.py; together: of one by two threads.
    required: tensor index of an input → the only value that this plan can run with (a shape that it was made for).
    kept: what must live as long as the plan does (functions that it calls).
    initial: what stays in the arena from run to run (a model's state), and the bytes that it starts with; variables: the same by
    the resource's name or the variable tensor's index, with its bytes.
    """

    table: Array
    arena_words: Array
    constant_words: Array
    constants: Array
    arena_bytes: int
    offsets: tuple[int, ...]
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    nanoseconds: float
    together: float
    required: Mapping[int, Array]
    kept: tuple[Any, ...]
    initial: tuple[tuple[Ref, Array], ...]
    variables: Mapping[str | int, tuple[Ref, int]]

    @property
    def constant_bytes(self) -> int:
        """Size of packed weights, biases, multipliers and tables."""
        return int(self.constants.nbytes)

    def offset(self, place: Ref) -> int:
        """Byte offset of an arena place."""
        return self.offsets[place.block] + place.offset
