"""The machine's table: a row of words for each instruction, and between which of them the threads wait for one another."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgeq.graph import Array
from edgeq.kernels.isa import Isa
from edgeq.kernels.words import OPCODES
from edgeq.kernels.words import frame as fw
from edgeq.kernels.words import move as mw
from edgeq.kernels.words.instruction import BRANCH, MEET, OP, ORIGIN, SHARE, TARGET, UNITS, WORDS
from edgeq.plan.cost import shared_word
from edgeq.plan.types import CONSTANT, Instruction, Ref
from edgeq.records import dataclass


@dataclass(frozen=True)
class Assembled:
    """The table, (instructions, WORDS) int64, and which of its words, counted from its first, are offsets to which the address of
    the arena, or of the constants, is added when it is loaded: int64 each."""

    table: Array
    arena: Array
    constants: Array


def assemble(
    instructions: Sequence[Instruction],
    offsets: Sequence[int],
    costs: Sequence[float],
    flags: Sequence[bool],
    isa: Isa,
    outputs: Sequence[int],
) -> Assembled:
    """The words of these instructions, whose blocks lie at these offsets (bytes), and which take so long by estimate (ns).

    flags: which of them threads share. outputs: bytes of each output of the model.
    """
    arena: list[int] = []
    constants: list[int] = []
    rows: list[list[int]] = []
    for i, instruction in enumerate(instructions):
        row = [0] * WORDS
        row[OP], row[UNITS] = OPCODES.get(instruction.kernel, BRANCH), instruction.units
        row[ORIGIN] = instruction.op
        for w, v in instruction.words.items():
            if isinstance(v, Ref):
                (constants if v.block == CONSTANT else arena).append(i * WORDS + w)
                v = v.offset if v.block == CONSTANT else offsets[v.block] + v.offset
            row[w] = v
        rows.append(row)
    table = np.array(rows, np.int64).reshape(-1, WORDS)
    table[:, SHARE] = [
        shared_word(instruction, cost, isa) if flag else 0
        for instruction, cost, flag in zip(instructions, costs, flags, strict=True)
    ]
    _meet(table, instructions, outputs)
    return Assembled(table, np.array(arena, np.int64), np.array(constants, np.int64))


def _meet(table: Array, instructions: Sequence[Instruction], outputs: Sequence[int]) -> None:
    """Mark in the table behind which instructions the threads wait for one another."""
    solo = table[:, SHARE] == 0
    # Nobody waits between two instructions of thread 0; behind the last small outputs are thread 0's too.
    following = np.append(solo[1:], all(size < fw.SHARED_BYTES for size in outputs))
    table[:, MEET] = ~(solo & following)
    for i, instruction in enumerate(instructions):
        if instruction.beside and not solo[i + 1]:
            table[i, MEET] = 0
    borders = [
        instruction.kernel == "pad_image" and mw.X not in instruction.words and bool(solo[i])
        for i, instruction in enumerate(instructions)
    ]
    for i in [i for i, border in enumerate(borders) if border]:
        # Who comes next writes what is inside these borders of thread 0's: it waits for what was before them alone.
        table[i, MEET] = 0
        if i and not borders[i - 1]:
            table[i - 1, MEET] = 1
    for i, instruction in enumerate(instructions):
        if instruction.kernel == "branch":  # everybody comes to a branch, and to where it leads, at the same time
            before = [i, i - 1, int(table[i, TARGET]) - 1]
            table[[k for k in before if k >= 0], MEET] = 1
