"""Where blocks lie: the arena as small as first fit by size makes it.

Blocks whose lifetimes meet do not overlap. Largest first, each at the lowest offset that is free for its whole life (greedy by
size: Pisarchyk & Lee, "Efficient Memory Management for Deep Neural Net Inference", 2020).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgeq.graph import Array
from edgeq.records import dataclass

ALIGNMENT = 64


@dataclass(frozen=True)
class Block:
    """`size` bytes needed from instruction `first` to instruction `last`, both included."""

    size: int
    first: int
    last: int


def aligned(size: int) -> Array:
    """(size,) uint8, all 0, whose first byte lies at a multiple of ALIGNMENT."""
    raw = np.zeros(size + ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % ALIGNMENT
    return raw[start : start + size]


def place(blocks: Sequence[Block]) -> tuple[tuple[int, ...], int]:
    """Offsets of the blocks and the arena's size in bytes."""
    offsets = [0] * len(blocks)
    placed: list[int] = []
    total = 0
    for i in sorted(range(len(blocks)), key=lambda k: (-blocks[k].size, blocks[k].first, k)):
        block = blocks[i]
        size = -(-block.size // ALIGNMENT) * ALIGNMENT
        neighbours = sorted(
            (offsets[j], offsets[j] + -(-blocks[j].size // ALIGNMENT) * ALIGNMENT)
            for j in placed
            if blocks[j].first <= block.last and block.first <= blocks[j].last
        )
        at = 0
        for start, end in neighbours:
            if at + size <= start:
                break
            at = max(at, end)
        offsets[i] = at
        total = max(total, at + size)
        placed.append(i)
    return tuple(offsets), total
