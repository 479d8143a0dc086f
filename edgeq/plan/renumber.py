"""A layer in other scales, of its weights too, with other zero points and biases: what of its instructions changes then,
without lowering it again.

Of layers that are requantized in float32 (Instruction.lanes) that is a multiplier and a bias for each channel, the clamp, the
zero points and the borders' value. Where one of the choices that lowering makes might come out otherwise, nothing is found.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgeq.graph import Array, Op
from edgeq.kernels.words import conv as cw
from edgeq.kernels.words import move as mw
from edgeq.kernels.words.instruction import FLOAT
from edgeq.plan.arena import ALIGNMENT
from edgeq.plan.builder import Builder
from edgeq.plan.delegation import takes
from edgeq.plan.lower.conv import behind_relu, below_2_23
from edgeq.plan.requantize import bias_values, fused, ordered, stays_small, weight_scales
from edgeq.plan.types import Instruction, Words
from edgeq.plan.window import fill_value

LAYERS = frozenset({"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"})

_BORDERS = frozenset({"pad_image", "pad_columns", "pad_phases"})


class Layer:
    """An operation as it was lowered first. able: whether it can be renumbered."""

    def __init__(self, b: Builder, op: Op, instructions: Sequence[Instruction]) -> None:
        """b: which has lowered it."""
        self._instructions = instructions
        flipped = any(i.kernel == "pad_image" and mw.FLIP in i.words for i in instructions)
        known = not flipped and all(i.lanes is not None or i.kernel in ("copy_nd", *_BORDERS) for i in instructions)
        self.able = known and op.code in LAYERS and any(i.lanes for i in instructions) and takes(b, op)
        if self.able:
            w = b.tensor(op, 1)
            weights = b.constant_value(op, 1).astype(np.int64)
            weights -= 0 if w.dtype == "int8" else b.zero_point(w)
            by_channel = -1 if op.code == "DEPTHWISE_CONV_2D" else 0
            self._sums = np.moveaxis(weights, by_channel, 0).reshape(b.output(op).shape[-1], -1).sum(axis=1)
            self._small = self._chosen(b, op, self._biases(b, op))

    def _biases(self, b: Builder, op: Op) -> dict[int, Array]:
        """By what kernels take off each code, (channels,) int32: the bias less what the input's zero point adds to every sum."""
        raw, z = bias_values(b, op, 2, len(self._sums), "int32").astype(np.int64), b.zero_point(b.tensor(op, 0))
        return {offset: (raw - (z - offset) * self._sums).astype(np.int32) for offset in {0, b.isa.offset}}

    def _chosen(self, b: Builder, op: Op, biases: dict[int, Array]) -> list[bool]:
        """What lowering chooses kernels by: depthwise layers by a bias without an offset."""
        x, w, y = b.tensor(op, 0), b.tensor(op, 1), b.output(op)
        parts = [i.lanes for i in self._instructions if i.lanes is not None]
        return [stays_small(b, op, x, w, y, p.products, bias[p.part]) for p in parts for bias in biases.values()]

    def renumbered(self, b: Builder, op: Op) -> tuple[list[dict[int, int]], list[tuple[int, int]], Array] | None:
        """The words of each instruction that change; which of them (instruction, word) are offsets into what comes then:
        constants of their own. None where lowering might choose otherwise."""
        if not self.able:
            return None
        biases = self._biases(b, op)
        if self._chosen(b, op, biases) != self._small:
            return None
        x, y = b.tensor(op, 0), b.output(op)
        low, high = b.bounds(y, fused(op))
        numbers: Words = {cw.FAMILY: FLOAT, cw.ZERO_POINT: b.zero_point(y), cw.LO: low, cw.HI: high}
        scales = weight_scales(b, op, b.tensor(op, 1), len(self._sums))
        factors = (b.scale(x) * scales).astype(np.float32) / b.scale(y)
        words: list[dict[int, int]] = []
        own: list[tuple[int, int]] = []
        constants: list[Array] = []
        size = 0
        for j, i in enumerate(self._instructions):
            if i.lanes is None:
                words.append({mw.VALUE: fill_value(b, x if mw.X in i.words else y)} if i.kernel in _BORDERS else {})
                continue
            lanes, bias = i.lanes, biases[b.isa.offset][i.lanes.part]
            plain = lanes.plain and behind_relu(numbers) and below_2_23(lanes.products, bias)
            found = {cw.ZERO_POINT: b.zero_point(y), cw.LO: low, cw.HI: high, cw.PLAIN: int(plain)}
            for w, values in ((cw.MULTIPLIER, factors[lanes.part]), (cw.BIAS, bias)):
                blob = ordered(values, lanes.padded, lanes.order).view(np.uint8)
                found[w] = size
                own.append((j, w))
                constants += [blob, np.zeros(-blob.size % ALIGNMENT, np.uint8)]
                size += blob.size + len(constants[-1])
            words.append(found)
        return words, own, np.concatenate(constants)
