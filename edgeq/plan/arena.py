"""Where blocks lie: the arena as small as first fit by size makes it.

Blocks whose lifetimes meet do not overlap. Largest first, each at the lowest offset that is free for its whole life (greedy by
size: Pisarchyk & Lee, "Efficient Memory Management for Deep Neural Net Inference", 2020).

Where two threads share the work, each writes one half of a block, and memory that the other has written comes from that one's
cache before it can be written again. So blocks that use the same memory one after another had better have their middles in the
same place: `place_by_middle`, in an arena no larger.
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


def _by_size(blocks: Sequence[Block]) -> list[int]:
    """In which order they are placed, the largest first."""
    ordered = sorted([(-block.size, block.first, k) for k, block in enumerate(blocks)])
    return [k for _, _, k in ordered]


def place(blocks: Sequence[Block]) -> tuple[tuple[int, ...], int]:
    """Offsets of the blocks and the arena's size in bytes."""
    offsets = [0] * len(blocks)
    placed: list[tuple[int, int, int, int]] = []  # from where to where, and when
    total = 0
    for i in _by_size(blocks):
        size, first, last = -(-blocks[i].size // ALIGNMENT) * ALIGNMENT, blocks[i].first, blocks[i].last
        at = 0
        for start, end in sorted([(s, e) for s, e, a, z in placed if a <= last and first <= z]):
            if at + size <= start:
                break
            at = max(at, end)
        offsets[i] = at
        total = max(total, at + size)
        placed.append((at, at + size, first, last))
    return tuple(offsets), total


PINNED = (0, 2, 4, 8, 16)
"""How many of the largest blocks lie where `place` puts them, tried in turn until the others find room."""


def place_by_middle(blocks: Sequence[Block]) -> tuple[tuple[int, ...], int]:
    """As `place`, in no more bytes, with as few of them as is easily found in another half of a block than in the one before."""
    lowest, total = place(blocks)
    order = _by_size(blocks)
    for pinned in PINNED:
        found = _by_middle(blocks, order, total, [lowest[i] for i in order[:pinned]])
        if found is not None:
            return found, total
    return lowest, total


def _by_middle(
    blocks: Sequence[Block], order: Sequence[int], total: int, pinned: Sequence[int]
) -> tuple[int, ...] | None:
    """Offsets, the first ones of `order` given; None where there is no room in `total` bytes."""
    first, last = (np.array([getattr(blocks[i], end) for i in order]) for end in ("first", "last"))
    sizes = np.array([-(-blocks[i].size // ALIGNMENT) * ALIGNMENT for i in order])
    at, offsets = np.zeros(len(order), np.int64), [0] * len(order)
    for k, i in enumerate(order):
        size = sizes[k]
        if k < len(pinned):
            at[k] = pinned[k]
        else:
            start, end = at[:k], at[:k] + sizes[:k]
            meets = (first[:k] <= last[k]) & (first[k] <= last[:k])
            middle = (start + end)[~meets] // 2
            tried = np.concatenate([[0, total - size], end[meets], start[meets] - size, middle - size // 2])
            tried = np.unique(tried // ALIGNMENT * ALIGNMENT)
            tried = tried[(tried >= 0) & (tried + size <= total)]
            taken = (tried[:, None] < end[meets]) & (start[meets] < tried[:, None] + size)
            tried = tried[~taken.any(axis=1)]
            if not len(tried):
                return None
            low, half, high = tried[:, None], tried[:, None] + size // 2, tried[:, None] + size
            upper = np.minimum(half, end[~meets]) - np.maximum(low, middle)
            lower = np.minimum(high, middle) - np.maximum(half, start[~meets])
            at[k] = tried[np.argmin(np.maximum(upper, 0).sum(axis=1) + np.maximum(lower, 0).sum(axis=1))]
        offsets[i] = int(at[k])
    return tuple(offsets)
