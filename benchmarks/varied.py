"""More test samples than there are: each varied in ways that leave its label, so that a metric of 500 flips less by chance.

They come in blocks, and each tells which source it is of: samples of one source are alike, and are not as many as they look.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

STEPS = ((0, 0), (1, 0), (-1, 0), (0, 1), (0, -1), (2, 2), (-2, -2), (2, -2), (-2, 2))
"""Pixels down and right that a picture is moved by."""

FRAMES = (0, 1, -1, 2, -2, 3, -3)
"""Frames that a recording is moved by."""

CROPPINGS = 18
"""Blocks of crops."""

SIDES = 0.7, 1.0
"""Of a small picture's side, that a crop has."""

PIECES = 4
"""Of a clip's time."""

LEVELS = (0.0, -1.0, 1.0)
"""dB that a clip's level is moved by."""


@dataclass(frozen=True, eq=False)
class Block:
    """Samples x, as many as there are or a few to each; truth: what the task's metric wants beside them, None: nothing; source:
    what each score is of, (scores,) integers.
    """

    x: Array
    truth: Any
    source: Array


def blocks(some: Iterator[Array], truth: Array) -> Iterator[Block]:
    """Variants of all samples, a block each."""
    return (Block(x, truth, np.arange(len(x))) for x in some)


def pictures(x: Array) -> Iterator[Array]:
    """(n, h, w, c) moved by up to two pixels, its border mirrored, and the same of it left to right: 18 times n."""
    for way in (x, x[:, :, ::-1]):
        yield from (_moved(way, step) for step in STEPS)


def recordings(x: Array) -> Iterator[Array]:
    """(n, frames, bands, 1) moved by up to three frames, the outermost repeated: 7 times n."""
    for step in FRAMES:
        edge = np.pad(x, ((0, 0), (3, 3), (0, 0), (0, 0)), mode="edge")
        yield edge[:, 3 - step : 3 - step + x.shape[1]]


def crops(small: Array, photos: Array, size: int, seed: int = 100, times: int = CROPPINGS) -> Iterator[Block]:
    """Of each small picture (h, h, 3) a large part, of photographs (224, 224, 3) 60 parts in turn, some of them mirrored, each
    enlarged or shrunk to size × size: as many blocks as `times`, on the way of `seed` alone.
    """
    for k in range(times):
        draw = np.random.default_rng(seed + k)
        found = [_part(draw, p, round(SIDES[0] * len(p)), round(SIDES[1] * len(p)), size) for p in small]
        found += [_part(draw, photos[n % len(photos)], 96, 224, size) for n in range(60)]
        source = np.concatenate([np.arange(len(small)), len(small) + np.arange(60) % len(photos)])
        yield Block(np.stack(found), None, source)


def pieces(clips: Array, truth: Array, window: int = 5) -> Iterator[Block]:
    """Clips (n, frames, bands) in dB: the windows of a part of their time, their level moved: 12 blocks of n scores."""
    frames = np.lib.stride_tricks.sliding_window_view(clips, window, axis=1).transpose(0, 1, 3, 2)
    for level in LEVELS:
        for part in np.array_split(np.arange(frames.shape[1]), PIECES):
            x = frames[:, part].reshape(-1, window * clips.shape[2]).astype(np.float32) + np.float32(level)
            yield Block(x, truth, np.arange(len(clips)))


def resized(picture: Array, size: int) -> Array:
    """(h, w, 3) to (size, size, 3) float32, linear between the nearest pixels' middles."""
    out = picture.astype(np.float32)
    for axis in (0, 1):
        n = out.shape[axis]
        at = np.clip((np.arange(size) + 0.5) * n / size - 0.5, 0, n - 1)
        low = np.floor(at).astype(int)
        part = (at - low).astype(np.float32).reshape([-1 if a == axis else 1 for a in range(3)])
        out = out.take(low, axis) * (1 - part) + out.take(np.minimum(low + 1, n - 1), axis) * part
    return out


def _part(draw: np.random.Generator, picture: Array, least: int, most: int, size: int) -> Array:
    """A square of the picture, of a side between the two, mirrored or not, as size × size."""
    side = int(draw.integers(least, most + 1))
    top, left = draw.integers(0, len(picture) - side + 1, 2)
    found = picture[top : top + side, left : left + side]
    return resized(found[:, ::-1] if draw.random() < 0.5 else found, size)


def _moved(x: Array, step: tuple[int, int]) -> Array:
    wide = np.pad(x, ((0, 0), (2, 2), (2, 2), (0, 0)), mode="reflect")
    top, left = 2 - step[0], 2 - step[1]
    return wide[:, top : top + x.shape[1], left : left + x.shape[2]]
