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
from edgeq.kernels.words.instruction import FLOAT, WORDS
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
    """An operation as it was lowered first. able: whether it can be renumbered; own: which of its rows' words, flat, say where in
    its own constants something lies."""

    def __init__(self, b: Builder, op: Op, instructions: Sequence[Instruction], rows: Array) -> None:
        """b: which has lowered it; rows: of the table, one for each instruction."""
        self._instructions = instructions
        flipped = any(i.kernel == "pad_image" and mw.FLIP in i.words for i in instructions)
        known = not flipped and all(i.lanes is not None or i.kernel in ("copy_nd", *_BORDERS) for i in instructions)
        self.able = known and op.code in LAYERS and any(i.lanes for i in instructions) and takes(b, op)
        if self.able:
            w = b.tensor(op, 1)
            weights, by_channel = b.constant_value(op, 1), -1 if op.code == "DEPTHWISE_CONV_2D" else 0
            each = np.moveaxis(weights, by_channel, 0).reshape(b.output(op).shape[-1], -1)
            zero = 0 if w.dtype == "int8" else b.zero_point(w)
            self._sums = each.sum(axis=1, dtype=np.int64) - zero * each.shape[1]
            self._weights = w, weight_scales(b, op, w, len(self._sums))
            self._lanes = [i.lanes for i in instructions if i.lanes is not None]
            self._most = max(p.products for p in self._lanes)
            self._reach = b.isa.offset * int(np.abs(self._sums).max(initial=0))
            self._small = self._chosen(b, op, self._settled(b, op))
            self._lay(rows)

    def _lay(self, rows: Array) -> None:
        """Where multipliers and biases lie among the layer's own constants, and which channel's each of them is."""
        self._rows, self._size = rows.copy(), 0
        channels, own = np.arange(1, len(self._sums) + 1), []
        found: dict[int, list[tuple[Array, Array]]] = {cw.MULTIPLIER: [], cw.BIAS: []}
        for j, i in enumerate(self._instructions):
            for w in found if i.lanes is not None else ():
                assert i.lanes is not None
                which = ordered(channels[i.lanes.part], i.lanes.padded, i.lanes.order)
                there = np.flatnonzero(which)
                found[w].append((self._size // 4 + there, which[there] - 1))
                self._rows[j, w] = self._size
                own.append(j * WORDS + w)
                self._size += -(-4 * len(which) // ALIGNMENT) * ALIGNMENT
        self.own = np.array(own, np.int64)
        self._to, self._from = (
            {w: np.concatenate([pair[k] for pair in pairs]) for w, pairs in found.items()} for k in (0, 1)
        )
        self._in_lanes = [j for j, i in enumerate(self._instructions) if i.lanes is not None]
        self._borders = [j for j, i in enumerate(self._instructions) if i.lanes is None and i.kernel in _BORDERS]

    def _settled(self, b: Builder, op: Op) -> Array:
        """(channels,) int64: the bias less what the input's zero point adds to every sum."""
        raw, z = bias_values(b, op, 2, len(self._sums), "int32"), b.zero_point(b.tensor(op, 0))
        found: Array = raw.astype(np.int64) - z * self._sums
        return found

    def _biases(self, b: Builder, settled: Array) -> dict[int, Array]:
        """By what kernels take off each code, (channels,) int32."""
        return {offset: (settled + offset * self._sums).astype(np.int32) for offset in {0, b.isa.offset}}

    def _chosen(self, b: Builder, op: Op, settled: Array) -> list[bool]:
        """What lowering chooses kernels by: depthwise layers by a bias without an offset."""
        x, w, y = b.tensor(op, 0), b.tensor(op, 1), b.output(op)
        biases = self._biases(b, settled).values()
        return [stays_small(b, op, x, w, y, p.products, bias[p.part]) for p in self._lanes for bias in biases]

    def _as_chosen(self, b: Builder, op: Op, settled: Array, top: int, scales: Array) -> bool:
        """Whether that comes out as it did. top: no bias is greater; scales: of the weights."""
        greatest = np.float64(scales.max(initial=0))
        factor = np.float64(b.scale(b.tensor(op, 0))) * greatest / np.float64(b.scale(b.output(op)))
        if all(self._small) and factor * min(self._most * 255.0 * 255.0 + top, 2.0**31) < 2.0**31:
            return True
        return self._chosen(b, op, settled) == self._small

    def renumbered(self, b: Builder, op: Op) -> tuple[Array, Array] | None:
        """Its rows, whose words `own` are offsets into what comes then: constants of its own, bytes. None where lowering might
        choose otherwise."""
        if not self.able:
            return None
        settled = self._settled(b, op)
        top = int(np.abs(settled).max(initial=0)) + self._reach
        x, w, y = b.tensor(op, 0), b.tensor(op, 1), b.output(op)
        scales = self._weights[1] if w is self._weights[0] else weight_scales(b, op, w, len(self._sums))
        if not self._as_chosen(b, op, settled, top, scales):
            return None
        low, high = b.bounds(y, fused(op))
        numbers: Words = {cw.FAMILY: FLOAT, cw.ZERO_POINT: b.zero_point(y), cw.LO: low, cw.HI: high}
        bias = (settled + b.isa.offset * self._sums).astype(np.int32)
        behind = behind_relu(numbers)
        rows, constants = self._rows.copy(), np.zeros(self._size, np.uint8)
        for j, p in zip(self._in_lanes, self._lanes, strict=True):
            small = p.products * 255 * 255 + top < 1 << 23  # which most layers are, told without looking at each bias
            plain = p.plain and behind and (small or below_2_23(p.products, bias[p.part]))
            row = rows[j]
            row[cw.ZERO_POINT], row[cw.LO], row[cw.HI], row[cw.PLAIN] = numbers[cw.ZERO_POINT], low, high, plain
        for j in self._borders:
            rows[j, mw.VALUE] = fill_value(b, x if mw.X in self._instructions[j].words else y)
        factors = (b.scale(x) * scales).astype(np.float32) / b.scale(y)
        constants.view(np.float32)[self._to[cw.MULTIPLIER]] = factors[self._from[cw.MULTIPLIER]]
        constants.view(np.int32)[self._to[cw.BIAS]] = bias[self._from[cw.BIAS]]
        return rows, constants
