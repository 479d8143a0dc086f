"""Sound for models that take it: WAV files of PCM, each cut into as many inputs as fit, or whole for a function.

One channel, the mean of all, of numbers in [−1, 1]. A file's header is read first, and its sound only where a piece is asked
for, so that a folder of hours of it takes no memory.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from edgeq.errors import InputError
from edgeq.files import open_regular
from edgeq.graph import Tensor

Array = npt.NDArray[Any]

MAX_FILE: Final = 1 << 28
"""Bytes of a file that a function gets whole."""

HEADER: Final = 44
"""Bytes before the sound, at least."""


class Sounds(Sequence[Any]):
    """Sound: each file cut into as many inputs as fit, or each file whole for a function that makes features of it."""

    def __init__(
        self, paths: Sequence[Path], t: Tensor, span: tuple[float, float] | None, change: Callable[[Array], Any] | None
    ) -> None:
        self._paths, self._t, self._span, self._change = paths, t, span, change
        self._size = math.prod(t.shape)
        if change is None and sum(d > 1 for d in t.shape) > 1:  # no waveform, but what somebody makes of one
            raise InputError(
                f"{paths[0]}: input {t.name!r} of shape {list(t.shape)} takes no plain sound: a function that makes of it "
                "what the model takes is expected (--preprocess FILE.py:f)"
            )
        pieces, first = [], None
        for path in paths:
            rate, length = _sound(path)
            first = first or rate
            if rate != first:
                raise InputError(f"{path}: {rate} Hz, {paths[0]} has {first} Hz: expected sound of one rate")
            if change is None and length < self._size:
                raise InputError(f"{path}: {length} samples of sound, input {t.name!r} takes {self._size}")
            pieces.append(1 if change is not None else length // self._size)
        self._ends = list(accumulate(pieces))

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, n: Any) -> Any:
        file = bisect_right(self._ends, n)
        if self._change is not None:
            return self._change(mapped(_wav(self._paths[file]), -1.0, 1.0, self._span))
        start = (n - (self._ends[file - 1] if file else 0)) * self._size
        piece = _wav(self._paths[file], start, self._size)
        return (mapped(piece, -1.0, 1.0, self._span).reshape(self._t.shape),)

    def named(self, n: int) -> str:
        """What sample n is called where something is wrong with it."""
        return str(self._paths[bisect_right(self._ends, n)])

    def files(self) -> list[int]:
        """For each sample which file it is of."""
        return [bisect_right(self._ends, n) for n in range(len(self))]


def _sound(path: Path) -> tuple[int, int]:
    """How many samples a second, and how many of them, a file has."""
    with _opened(path) as (sound, size):
        frame = sound.getsampwidth() * sound.getnchannels()
        return sound.getframerate(), min(sound.getnframes(), max(0, size - HEADER) // frame)


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, int]]:
    """A WAV file, and how many bytes it has. Raises InputError, within, too."""
    import wave

    try:
        with open_regular(path) as (file, size), wave.open(file, "rb") as sound:
            yield sound, size
    except (wave.Error, EOFError, OSError, RuntimeError) as error:  # the last for a chunk that ends behind the file
        raise InputError(f"{path}: expected a WAV file of PCM: {str(error) or 'it ends too early'}") from None


def _wav(path: Path, start: int = 0, size: int | None = None) -> Array:
    """One channel of numbers in [−1, 1]: the mean of all channels; all of it, or `size` of them."""
    with _opened(path) as (sound, length):
        if size is None and length > MAX_FILE:
            raise InputError(f"{path}: {length} bytes, the limit is {MAX_FILE}")
        width, channels = sound.getsampwidth(), sound.getnchannels()
        sound.setpos(start)
        frames = sound.readframes(sound.getnframes() if size is None else size)
    frames = frames[: len(frames) - len(frames) % (width * channels)]  # of a recording that was cut off
    if width == 1:
        values = (np.frombuffer(frames, np.uint8).astype(np.float32) - 128) / 128
    elif width in (2, 4):
        values = np.frombuffer(frames, f"<i{width}").astype(np.float32) / float(1 << (8 * width - 1))
    elif width == 3:
        bytes3 = np.frombuffer(frames, np.uint8).reshape(-1, 3).astype(np.int32)
        codes = (bytes3[:, 0] | bytes3[:, 1] << 8 | bytes3[:, 2] << 16) << 8 >> 8
        values = codes.astype(np.float32) / float(1 << 23)
    else:
        raise InputError(f"{path}: expected 8 to 32 bits a sample, found {8 * width}")
    mono: Array = values.reshape(-1, channels).mean(axis=1, dtype=np.float32)
    if size is not None and len(mono) != size:
        raise InputError(f"{path}: {start + len(mono)} samples of sound, fewer than its header says")
    return mono


def mapped(x: Array, low: float, high: float, span: tuple[float, float] | None) -> Array:
    """x with [low, high] mapped onto `span`; as it is without one."""
    if span is None:
        return x
    scale = (span[1] - span[0]) / (high - low)
    out: Array = ((x - low) * scale + span[0]).astype(np.float32)
    return out
