"""A rough time for an instruction: enough to tell what is worth sharing between threads, not to promise anything."""

from __future__ import annotations

from collections.abc import Mapping

from edgeq.kernels.words import elementwise, move, pool, reduce, softmax
from edgeq.plan.types import Instruction, Ref

MACS_PER_NS = {"conv_u8": 150.0, "conv_u8_sum": 100.0, "conv_hybrid": 100.0, "conv_f32": 40.0, "conv_s16": 30.0}
DEPTHWISE_MACS_PER_NS = {"depthwise_rows": 60.0, "depthwise_strided": 60.0, "depthwise_runs": 40.0}
OTHER_MACS_PER_NS = 20.0

SHARED_NS = 4000.0
"""Work below this stays with one thread: a meeting of two takes some 300 ns, and the second thread's cache is cold."""

PARALLEL_NS = 300_000.0
"""A call below this stays with one thread: waking the others takes 50 to 100 µs."""


def estimated_ns(instruction: Instruction) -> float:
    """Nanoseconds on one core of a current x86 processor, within a factor of about three."""
    if instruction.macs:
        rates = MACS_PER_NS | DEPTHWISE_MACS_PER_NS
        return instruction.macs / rates.get(instruction.kernel, OTHER_MACS_PER_NS)
    return instruction.units * _per_unit(instruction.kernel, instruction.words)


def _per_unit(kernel: str, words: Mapping[int, int | Ref]) -> float:
    def word(index: int, default: int = 1) -> int:
        value = words.get(index, default)
        return value if isinstance(value, int) else default

    if kernel == "copy_nd":
        return 2.0 + word(move.RUN) / 20
    if kernel in ("pad_image", "pad_phases"):
        return 10.0 + word(move.LINE) / 20
    if kernel == "fill_bytes":
        return 1 / 40
    if kernel.startswith(("average", "maximum_")) and pool.KH in words:
        return word(pool.KH) * word(pool.KW) * word(pool.C) / 8
    if kernel.startswith("mean"):
        return word(reduce.REDUCED) / 4
    if kernel.startswith("softmax"):
        return word(softmax.N) * 3.0
    if (
        elementwise.INNER in words
        and kernel in ("add_u8", "mul_u8", "binary_s16", "binary_f32")
        and not word(elementwise.FLAT)
    ):
        return word(elementwise.INNER) / 4
    return 0.5
