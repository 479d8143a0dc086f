"""The arena planner: nothing that lives at the same time overlaps, and little room is wasted."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeq.plan.arena import ALIGNMENT, Block, place, place_by_middle

BLOCKS = st.lists(
    st.tuples(st.integers(1, 5000), st.integers(0, 20), st.integers(0, 20)).map(
        lambda b: Block(b[0], min(b[1:]), max(b[1:]))
    ),
    max_size=30,
)


Placed = tuple[tuple[int, ...], int]


@pytest.mark.parametrize("placing", [place, place_by_middle])
@given(blocks=BLOCKS)
def test_lives_that_meet_never_share_bytes(placing: Callable[[list[Block]], Placed], blocks: list[Block]) -> None:
    """Any two blocks are apart in time or in space, aligned, and inside the arena, which is as small either way."""
    offsets, total = placing(blocks)
    assert total == place(blocks)[1]
    for i, a in enumerate(blocks):
        assert offsets[i] % ALIGNMENT == 0
        assert offsets[i] + a.size <= total
        for j in range(i):
            b = blocks[j]
            apart_in_time = a.last < b.first or b.last < a.first
            apart_in_space = offsets[i] + a.size <= offsets[j] or offsets[j] + b.size <= offsets[i]
            assert apart_in_time or apart_in_space


def test_a_chain_needs_two_neighbours() -> None:
    """A chain of equal tensors needs room for two of them, whatever its length."""
    assert place([Block(6400, i, i + 1) for i in range(50)])[1] == 2 * 6400


def test_the_arena_is_no_larger_than_everything() -> None:
    """Blocks that all live at once lie one behind the other."""
    assert place([Block(64 * n, 0, 9) for n in (3, 1, 2)]) == ((0, 320, 192), 384)


def test_blocks_of_two_threads_have_their_middles_in_one_place() -> None:
    """What uses memory again, after a large tensor, is halved where that was halved, so far as others leave room."""
    blocks = [Block(64 * n, k, k + 1) for k, n in enumerate((100, 20, 60, 10, 40, 8, 30))]
    offsets, _ = place_by_middle(blocks)
    middles = [at + b.size // 2 for at, b in zip(offsets, blocks, strict=True)]
    assert len(set(middles[::2])) == 1
