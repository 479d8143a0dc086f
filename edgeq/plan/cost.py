"""A rough time for an instruction: enough to tell what is worth sharing between threads, and in how many pieces each does its
part (kernels/share.py), not to promise anything.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from edgeq.kernels.isa import Isa
from edgeq.kernels.words import conv as cw
from edgeq.kernels.words import elementwise, move, pool, softmax
from edgeq.kernels.words.instruction import GRAIN_AT, LOOKS_AT
from edgeq.plan.types import Instruction, Ref

BYTE_MACS_PER_NS = {
    "avx512vnni": 300.0, "avx512bw": 110.0, "avxvnni": 150.0, "avx2": 60.0, "sse42": 28.0, "i8mm": 30.0, "dotprod": 30.0,
    "neon": 10.0, "neon32": 3.0,
}  # fmt: skip
"""Multiply-adds of bytes in whole layers; between what older and newer processors of a kind reach (docs/performance.md)."""

SHARE_OF_BYTES = {
    "conv_u8": 1.0, "conv_u8_sum": 0.6, "conv_hybrid": 0.6, "conv_f32": 0.22, "conv_s16": 0.2, "depthwise_rows": 0.35,
    "depthwise_strided": 0.3, "depthwise_runs": 0.25,
}  # fmt: skip
"""What a kernel reaches of that; any other counts as OTHER."""

OTHER = 0.06

MEETING_NS = 200.0
"""What a meeting of two threads takes: a cache line goes from core to core and back."""

UNEVEN = 1.08
"""An instruction's halves on two threads, over half of it: neither ends at the same time, nor is all data near."""

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

BYTES = frozenset({"table_u8", "mean_u8", "quantize_f32", "dequantize_f32", "rescale", "fill_bytes"})
"""Kernels whose units are bytes of output, or that take whole vectors of elements."""


def estimated_ns(instruction: Instruction, isa: Isa) -> float:
    """Nanoseconds on one core of a current processor with this instruction set, within a factor of about two."""
    if instruction.macs:
        share = SHARE_OF_BYTES.get(instruction.kernel, OTHER)
        return instruction.macs / (BYTE_MACS_PER_NS.get(isa.name, 5.0) * share)
    return instruction.units * _per_unit(instruction.kernel, instruction.words)


def shared(costs: Sequence[float], units: Sequence[int], fixed: Sequence[bool]) -> tuple[list[bool], float]:
    """Which instructions two threads share, and the nanoseconds that all take them together.

    The threads meet behind every instruction, except between two that thread 0 does alone: so a small one between two shared
    ones is shared, too. `fixed`: branches, before and behind which everybody meets. The cheapest choice by dynamic programming
    over what the last instruction was.
    """
    endless = float("inf")
    # The least nanoseconds if the last instruction was thread 0's alone, and if it was shared: they meet behind the inputs, and
    # at both ends of what they share.
    alone, together = endless, 3 * MEETING_NS
    chosen: list[tuple[bool, bool]] = []
    for cost, count, branch in zip(costs, units, fixed, strict=True):
        half = 0.0 if branch else cost * -(-count // 2) / count * UNEVEN if count > 1 else endless
        # Behind a shared instruction they have met already; one that comes behind thread 0's own waits for it.
        met, waited = together, alone + MEETING_NS
        chosen.append((together < alone, met < waited))
        alone, together = (
            min(alone, together) + (endless if branch else cost),
            min(met, waited) + half + MEETING_NS,
        )
    last, total = together < alone, min(alone, together)
    flags = []
    for ways in reversed(chosen):
        flags.append(last)
        last = ways[last]
    return flags[::-1], total


def _per_unit(kernel: str, words: Mapping[int, int | Ref]) -> float:
    def word(index: int, default: int = 1) -> int:
        value = words.get(index, default)
        return value if isinstance(value, int) else default

    if kernel == "copy_nd":
        return 2.0 + word(move.RUN) / 20
    if kernel == "pad_columns":
        return 3.0 + word(move.PITCH) / 80
    if kernel in ("pad_image", "pad_phases"):
        return 3.0 + (word(move.LINE) / 40 if move.X in words else 0.0)
    if kernel == "fill_bytes":
        return 1 / 40
    if kernel.startswith(("average", "maximum_")) and pool.KH in words:
        return word(pool.KH) * word(pool.KW) * word(pool.C) / 40
    if kernel.startswith("mean") or kernel == "reduce_any":
        from edgeq.kernels.words import reduce  # here and below: few models have these

        return 0.1 + word(reduce.REDUCED) / (2 if kernel == "mean_s16" else 30)
    if kernel == "arg_best":
        from edgeq.kernels.words import order

        return 0.1 + word(order.N) / 15
    if kernel in ("binary_int", "compare"):
        return 1 / 8 if word(elementwise.FLAT) else word(elementwise.INNER) / 8
    if kernel in ("table_u8", "quantize_f32", "dequantize_f32"):
        return 1 / 16
    if kernel == "rescale":
        return 1 / 4
    if kernel.startswith("softmax"):
        return word(softmax.N) * 3.0
    if kernel == "add_u8":
        return 1 / 16 if word(elementwise.FLAT) else word(elementwise.INNER) / 16
    if elementwise.INNER in words and kernel in ("mul_u8", "binary_s16", "binary_f32"):
        each = 1 / 2 if kernel == "binary_s16" else 1 / 10
        return each if word(elementwise.FLAT) else each * word(elementwise.INNER)
    return 0.5


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

    if instruction.kernel in BYTES or (instruction.kernel in ("add_u8", "mul_u8") and word(elementwise.FLAT)):
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
