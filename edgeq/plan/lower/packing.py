"""Weights in the order in which tiles of products take them, cut to what a byte or a sum holds."""

from __future__ import annotations

import numpy as np

from edgeq.graph import Array
from edgeq.kernels.isa import Isa
from edgeq.plan.lower.steps import even
from edgeq.plan.requantize import packing_order

PER_STEP = {"u8": 4, "s16": 2, "f32": 1, "hybrid": 4}

MAX_PRODUCTS = 512
"""int16 times int8 products that surely fit an int32: 512 · 2^15 · 2^7 = 2^31, and −128 · −32768 never fills all of them
since weights of int16x8 are symmetric."""


def vectors(blocks: int) -> int:
    """Vectors per tile for this many vectors of channels: as wide as possible, with as little padding as possible."""
    return min((1, 2, 4), key=lambda nv: -(-blocks // nv) * nv * (1 + 0.1 / nv))


def in_blocks(lanes: int, blocks: int, nv: int, tail: int) -> Array | None:
    """The channel in each lane: the order in which tiles of several vectors pack bytes, for blocks of nv and one of tail."""
    if nv == 1:
        return None
    order = packing_order(lanes, blocks, nv)
    behind = packing_order(lanes, 1, tail) if tail > 1 else np.arange(tail * lanes)
    return np.concatenate([order, order.size + behind]) if tail else order


def pack(weights: Array, per_step: int, lanes: int, order: Array | None = None) -> Array:
    """(out, segments, length) → (blocks, segments, steps, lanes, per_step), zeros where there is nothing.

    `order`: which padded channel goes to each lane; as they come by default.
    """
    out, segments, length = weights.shape
    steps, blocks = -(-length // per_step), -(-out // lanes)
    # A step of a lane is four bytes, which are moved in one; block by block, or large weights would be there three times.
    whole = np.empty((blocks, segments, steps * per_step * weights.itemsize // 4, lanes), np.int32)
    as_they_are = order is None and weights.itemsize == 4
    order = np.arange(blocks * lanes) if order is None else order
    for block, channels in zip(whole, order.reshape(blocks, lanes), strict=True):
        if as_they_are and channels[-1] < out:
            block[:] = weights[channels[0] : channels[-1] + 1].view(np.int32).transpose(1, 2, 0)
            continue
        full = np.zeros((lanes, segments, steps * per_step), weights.dtype)
        there = channels < out
        full[there, :, :length] = weights[channels[there]]
        block[:] = full.view(np.int32).transpose(1, 2, 0)
    return whole.view(weights.dtype).reshape(blocks, segments, steps, lanes, per_step)


def by_pixel(weights: Array, segments: tuple[int, ...], pixel: int) -> tuple[Array, tuple[int, ...]]:
    """Runs of three pixels taken apart: (out, segments, 3·pixel) → (out, 3·segments, pixel), and where each begins."""
    return weights.reshape(len(weights), -1, pixel), tuple(s + j * pixel for s in segments for j in range(3))


def of_steps(weights: Array, length: int) -> Array:
    """Runs of weights at least so long, with zeros behind."""
    out, segments, there = weights.shape
    if length <= there:
        return weights
    full = np.zeros((out, segments, length), weights.dtype)  # a tenth of what np.pad takes
    full[:, :, :there] = weights
    return full


def split_bytes(weights: Array, segments: tuple[int, ...], least: int) -> tuple[Array, tuple[int, ...]]:
    """Each weight as a sum of bytes from `least` to 127; a run is walked again where one byte is not enough."""
    parts, walked = [np.clip(weights, least, 127)], list(segments)
    rest, again = weights - parts[0], np.arange(len(segments))
    while rest.any():
        kept = rest.any(axis=(0, 2))
        rest, again = rest[:, kept], again[kept]
        parts.append(np.clip(rest, least, 127))
        rest = rest - parts[-1]
        walked += [segments[i] for i in again]
    return np.concatenate(parts, axis=1).astype(np.int8), tuple(walked)


def split_runs(weights: Array, segments: tuple[int, ...]) -> tuple[Array, tuple[int, ...], int]:
    """int16 runs cut so that each holds at most MAX_PRODUCTS; also how many runs an int32 can sum up."""
    out, count, length = weights.shape
    parts = -(-length // (MAX_PRODUCTS - 2))
    piece = -(-length // parts)
    piece += piece % 2
    full = np.zeros((out, count, parts * piece), weights.dtype)
    full[:, :, :length] = weights
    cut = tuple(s + p * piece * 2 for s in segments for p in range(parts))
    return full.reshape(out, count * parts, piece), cut, max(1, (MAX_PRODUCTS - 2) // piece)


def ones(isa: Isa, shape: tuple[int, ...], length: int) -> Array:
    """What kernels/sums.py multiplies activations by, to add them up: 1 for each of a run's `length` elements, 0 behind it.

    shape: (out, segments, steps of weights) of the layer's own weights.
    """
    if (
        isa.adds_rows
    ):  # a run is read in whole vectors; or in halves or quarters where it fits one, several rows at a time
        vector, steps = 4 * isa.lanes, -(-shape[2] // PER_STEP["u8"])
        whole = (np.arange(-(-shape[2] // vector) * vector) < length).astype(np.int8)
        shared = next(n for n in (4, 2, 1) if n == 1 or (n * 4 <= isa.lanes and n * steps <= isa.lanes))
        return np.concatenate([whole, np.tile(whole[: vector // shared], shared)]) if shared > 1 else whole
    weights = np.broadcast_to(np.arange(shape[2]) < length, (1, *shape[1:]))
    return even(pack(weights.astype(np.int8), PER_STEP["u8"], isa.lanes), isa)


def joined_groups(groups: int, out: int, lanes: int) -> int:
    """Groups of `out` channels each that fill a vector together: as many products as apart, but more in a row."""
    return max(n for n in range(1, groups + 1) if groups % n == 0 and (n == 1 or n * out <= lanes))


def side_by_side(weights: Array, groups: int, zero: int) -> Array:
    """Filters (out, height, width, in) of so many groups as filters of all their inputs: `zero` for those of other groups."""
    if groups == 1:
        return weights
    out, height, width, c = weights.shape
    full = np.full((groups, out // groups, height, width, groups, c), zero, weights.dtype)
    each = np.arange(groups)
    full[each, :, :, :, each] = weights.reshape(groups, out // groups, height, width, c)
    return full.reshape(out, height, width, groups * c)
