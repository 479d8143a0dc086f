"""How threads share an instruction out: in how many pieces each does its part, and where they begin (kernels/share.py)."""

from __future__ import annotations

from edgeq.kernels.isa import Isa
from edgeq.kernels.words import conv as cw
from edgeq.kernels.words import elementwise as ew
from edgeq.kernels.words.instruction import GRAIN_AT, LOOKS_AT
from edgeq.plan.types import Instruction

PIECE_NS = 2000.0
"""What the last pieces of a part take at least: each costs a call, 30 to 60 ns, and what it sets up."""

MOST_PIECES = 4
"""Pieces of a part, of which the last is an eighth."""

LATE = 0.25
"""How much longer than one thread another may take for its part before pieces of it are taken: data is not always as near."""

LOOK_NS = 25.0
"""What a look at the barrier takes, with the pause behind it."""

FEWEST_LOOKS = 40

CACHE_LINE = 64

BYTES = frozenset({"table_u8", "mean_u8", "fill_bytes"})
"""Kernels whose units are bytes of output."""


def shared_word(instruction: Instruction, ns: float, isa: Isa) -> int:
    """Word SHARE of an instruction that threads share and that takes one of them `ns` nanoseconds."""
    grain, pieces, last = _grain(instruction, isa), 1, ns / 2
    while (
        not instruction.beside
        and pieces < MOST_PIECES
        and last >= 2 * PIECE_NS
        and instruction.units >> (pieces + 2) >= grain
    ):
        pieces, last = pieces + 1, last / 2
    looks = max(int(ns / 2 * LATE / LOOK_NS), FEWEST_LOOKS) if pieces > 1 else 0
    return pieces | grain << GRAIN_AT | looks << LOOKS_AT


def _grain(instruction: Instruction, isa: Isa) -> int:
    """Units that a kernel takes at a time: pieces that are multiples of it cost no more than the whole."""

    def word(index: int) -> int:
        value = instruction.words.get(index, 0)
        return value if isinstance(value, int) else 0

    if instruction.kernel in BYTES or (instruction.kernel in ("add_u8", "mul_u8") and word(ew.FLAT)):
        return CACHE_LINE
    if instruction.kernel != "conv_u8":
        return 2 if instruction.kernel == "depthwise_rows" else 1
    if word(cw.BY_BLOCK):
        return word(cw.BY_BLOCK)
    if word(cw.STRIP) and not word(cw.LINEAR):
        return word(cw.OUT_W)
    if word(cw.STRIP) and word(cw.PAIRS) == cw.SHARED_PAIRS:
        return cw.SHARED_PAIRS_ROWS[word(cw.NV) - 1]
    if word(cw.STRIP):
        return cw.STRIP_ROWS[isa.registers >= 32][word(cw.NV)]
    return cw.STEP_ROWS[isa.dot][word(cw.NV)] if isa.by_steps else cw.TILE_ROWS[isa.registers >= 32][word(cw.NV)]
