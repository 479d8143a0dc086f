"""What tiles of 64-bit ARM (kernels/steps.py) read: weights in the order in which they take them, where passes begin, biases."""

from __future__ import annotations

import numpy as np

from edgeq.graph import Array
from edgeq.kernels.isa import Isa
from edgeq.kernels.words import conv as cw
from edgeq.plan.builder import Builder
from edgeq.plan.types import Words

PASS = 4
"""k-steps of a pass, 16 bytes of a row."""

FAR = 32000.0
"""Scaled sums below this fit an int16 whatever their rounding, with a zero point added to them."""

TAPS = 3
"""Pixels of a row of a window, where each is loaded for three outputs."""


def step_words(b: Builder, packed: Array, segments: tuple[int, ...], bias: Array, nv: int, shared: bool) -> Words:
    """W, BLOCK, BIAS, STEPS, PASSES, N_PASSES in place of what other tiles read.

    packed: (blocks, segments, steps, lanes, 4) of `pack`; bias: (channels,) of the same lanes; shared: segments are pixels, three
    to a row of the window.
    """
    packed = even(packed, b.isa)
    taps = TAPS if shared else 1
    blocks, count, steps = packed.shape[:3]
    full = steps // PASS * PASS
    vectors = packed.reshape(blocks, count // taps, taps, steps, nv, -1)
    parts = [in_order(vectors[:, :, :, :full].reshape(*vectors.shape[:3], -1, PASS, *vectors.shape[4:]), b.isa)]
    for first, end in left_over(steps - full, b.isa):
        parts.append(vectors[:, :, :, None, full + first : full + end])
    rest = [in_order(part, b.isa) for part in parts[1:]]
    tail = (
        np.concatenate([r.reshape(blocks, count, -1) for r in rest], axis=2) if rest else np.zeros((blocks, 0), np.int8)
    )
    stream = np.concatenate([parts[0].reshape(blocks, -1), tail.reshape(blocks, -1)], axis=1)
    passes = [s + p * 16 for s in segments[::taps] for p in range(full // PASS)]
    return {
        cw.W: b.constant(np.ascontiguousarray(stream)), cw.BLOCK: stream.shape[1], cw.BIAS: b.constant(spread(bias, b.isa)),
        cw.STEPS: steps, cw.PASSES: b.constant(np.array(passes or [0], np.int64)), cw.N_PASSES: len(passes),
    }  # fmt: skip


def even(packed: Array, isa: Isa) -> Array:
    """Of `pack`, with as many steps as tiles take: usmmla takes two at a time."""
    return np.pad(packed, ((0, 0), (0, 0), (0, packed.shape[2] % 2), (0, 0), (0, 0))) if isa.matrix else packed


def left_over(steps: int, isa: Isa) -> list[tuple[int, int]]:
    """The pieces in which the 0 to 3 steps behind a segment's passes are taken."""
    if isa.matrix:
        return [(0, 2)] if steps else []
    if isa.dot == "smull" and steps > 1:
        return [(0, 2), (2, 3)][: steps - 1]
    return [(s, s + 1) for s in range(steps)]


def in_order(vectors: Array, isa: Isa) -> Array:
    """(blocks, rows, taps, passes, steps, nv, 16) → (blocks, rows, passes, steps / group, taps, nv, group · 16)."""
    blocks, rows, taps, passes, steps, nv, _ = vectors.shape
    group = 2 if isa.matrix or (isa.dot == "smull" and steps > 1) else 1
    grouped = vectors.reshape(blocks, rows, taps, passes, steps // group, group, nv, 16).transpose(
        0, 1, 3, 4, 2, 6, 5, 7
    )
    if isa.matrix:  # (…, two steps, four channels of 4 bytes) → two pairs of channels, 8 bytes of each; the upper first
        grouped = grouped[:, :, :, ::-1].reshape(*grouped.shape[:6], 2, 4, 4).swapaxes(6, 7)
    return np.ascontiguousarray(grouped)


def spread(bias: Array, isa: Isa) -> Array:
    """What a row's sums start from; smull has two of a channel, usmmla those of two rows in one register."""
    if isa.dot == "smull":
        return np.stack([bias, np.zeros_like(bias)], axis=1)
    if isa.matrix:
        return np.ascontiguousarray(np.broadcast_to(bias.reshape(-1, 1, 2), (len(bias) // 2, 2, 2)))
    return bias


def way(words: Words, weights: Array, bias: Array, zero: int, factors: Array) -> int:
    """How sums become bytes: SHORT, MOVED or, where codes may leave an int16 or are clamped, 0.

    weights: (channels, …) less their zero point; bias: (channels,); zero: of the activations; factors: (channels,), what scales
    sums.
    """
    if words[cw.LO] != 0 or words[cw.HI] != 255:
        return 0
    flat = weights.reshape(len(weights), -1).astype(np.float64)
    up, down = np.maximum(flat, 0).sum(axis=1), np.minimum(flat, 0).sum(axis=1)
    ends = bias + np.stack([up * (255 - zero) - down * zero, down * (255 - zero) - up * zero])
    far = np.abs(ends).max(axis=0)
    if far.max() >= 2.0**31 or (far * factors).max() >= FAR:
        return 0
    return cw.MOVED if words[cw.ZERO_POINT] else cw.SHORT
