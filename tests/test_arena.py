"""The arena planner: nothing that lives at the same time overlaps, and little room is wasted."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edgeq.plan.arena import ALIGNMENT, Block, place

BLOCKS = st.lists(
    st.tuples(st.integers(1, 5000), st.integers(0, 20), st.integers(0, 20)).map(
        lambda b: Block(b[0], min(b[1:]), max(b[1:]))
    ),
    max_size=30,
)


@given(BLOCKS)
def test_lives_that_meet_never_share_bytes(blocks: list[Block]) -> None:
    """Any two blocks are apart in time or in space, aligned, and inside the arena."""
    offsets, total = place(blocks)
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
