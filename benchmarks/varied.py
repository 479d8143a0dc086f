"""More test samples than there are: each varied in ways that leave its label, so that a metric of 500 flips less by chance."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

STEPS = ((0, 0), (1, 0), (-1, 0), (0, 1), (0, -1), (2, 2), (-2, -2), (2, -2), (-2, 2))
"""Pixels down and right that a picture is moved by."""

FRAMES = (0, 1, -1, 2, -2, 3, -3)
"""Frames that a recording is moved by."""


def pictures(x: Array) -> Iterator[Array]:
    """(n, h, w, c) moved by up to two pixels, its border mirrored, and the same of it left to right: 18 times n."""
    for way in (x, x[:, :, ::-1]):
        yield from (_moved(way, step) for step in STEPS)


def recordings(x: Array) -> Iterator[Array]:
    """(n, frames, bands, 1) moved by up to three frames, the outermost repeated: 7 times n."""
    for step in FRAMES:
        edge = np.pad(x, ((0, 0), (3, 3), (0, 0), (0, 0)), mode="edge")
        yield edge[:, 3 - step : 3 - step + x.shape[1]]


def _moved(x: Array, step: tuple[int, int]) -> Array:
    wide = np.pad(x, ((0, 0), (2, 2), (2, 2), (0, 0)), mode="reflect")
    top, left = 2 - step[0], 2 - step[1]
    return wide[:, top : top + x.shape[1], left : left + x.shape[2]]
