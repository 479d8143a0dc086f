"""Local samples, wherever they come from: an NPZ or NPY file, a folder, a pipe, a Python function.

- `FILE.npz`, `FILE.npy`: arrays as edgeq.samples and edgeq.feed take them; labels in `y`.
- a folder: .npy, .wav, .png, .jpg and .jpeg files below it, in the order of their names, one sample each, but for sound, which
  is cut into as many as fit. Sound becomes numbers in [−1, 1], one channel; images are squeezed to the input's height and width
  and hold 0 to 255. With names like `folder/3/x.png`, below folders that are all named by whole numbers, those are the labels.
- `-`: frames on standard input, raw, little-endian, each as large as the model's inputs together.
- `FILE.py:name`: a function without arguments that gives samples one by one.

A preprocessing function `FILE.py:name` may stand between: it gets a sample as described and returns what the model takes.
`span` maps numbers: images' 0 to 255, or sound's −1 to 1, onto [low, high].
"""

from __future__ import annotations

import importlib.util
import math
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
import numpy.typing as npt

from edgeq.errors import InputError
from edgeq.feed import Source
from edgeq.files import open_regular
from edgeq.graph import NUMPY_DTYPES, Graph, Tensor
from edgeq.records import dataclass

Array = npt.NDArray[Any]
Function = Callable[..., Any]

IMAGES: Final = (".png", ".jpg", ".jpeg")
KINDS: Final = (".npy", ".wav", *IMAGES)

MAX_PIXELS: Final = 1 << 26
"""Of one image: a larger one is refused before it is decoded."""

MAX_FILE: Final = 1 << 28
"""Bytes of one sample's file."""


@dataclass(frozen=True)
class Local:
    """Samples and, where they are known, a label for each: (N,) integers."""

    samples: Source
    labels: Array | None = None


def take(
    where: str,
    graph: Graph,
    *,
    span: tuple[float, float] | None = None,
    preprocess: str | None = None,
    raw: str | None = None,
    stdin: IO[bytes] | None = None,
) -> Local:
    """The samples that `where` names for this model. raw: the dtype of frames on standard input, by default the inputs'.

    Raises InputError for what is not there, or not what the rules above say.
    """
    change = None if preprocess is None else function(preprocess)
    if where == "-":
        return Local(_changed(_frames(graph, raw, span, sys.stdin.buffer if stdin is None else stdin), change))
    if ".py:" in where:
        made = function(where)()
        if not hasattr(made, "__iter__"):
            raise InputError(
                f"{where}: expected a function that gives samples one by one, it gave {type(made).__name__}"
            )
        return Local(_changed(iter(made), change))
    if os.path.isdir(where):
        return _folder(Path(where), graph, span, change)
    return _file(where, change)


def function(named: str) -> Function:
    """The function that FILE.py:name names. Raises InputError."""
    path, _, name = named.rpartition(":")
    if not path.endswith(".py") or not name.isidentifier():
        raise InputError(f"expected FILE.py:function, found {named!r}")
    spec = importlib.util.spec_from_file_location("edgeq_user_" + Path(path).stem, path)
    if spec is None or spec.loader is None or not os.path.isfile(path):
        raise InputError(f"{path}: there is no such Python file")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise InputError(f"{path}: {type(error).__name__}: {error}") from None
    found = getattr(module, name, None)
    if not callable(found):
        raise InputError(
            f"{path}: expected a function {name!r}, found {'none' if found is None else type(found).__name__}"
        )
    return found  # type: ignore[no-any-return]


def _changed(samples: Iterator[Any], change: Function | None) -> Iterator[Any]:
    if change is None:
        yield from samples
    else:
        for sample in samples:
            yield change(sample)


def _file(path: str, change: Function | None) -> Local:
    from edgeq.samples import Samples

    if path.endswith(".npy"):
        array = _npy(path)
        return Local(array if change is None else _changed(iter(array), change))
    samples = Samples(path)
    labels = samples.get("y", None)
    if labels is not None and (labels.ndim != 1 or labels.dtype.kind not in "iu"):
        labels = None  # not a class for each sample
    if change is None:
        return Local(samples, labels)
    return Local(_changed(iter(samples["x"]), change))


# --- standard input ---------------------------------------------------------------------------------------------------


REACHES: Final = {"uint8": (0.0, 255.0), "int16": (-32768.0, 32768.0)}
"""What pixels and sound reach in raw frames."""


def _frames(
    graph: Graph, raw: str | None, span: tuple[float, float] | None, stream: IO[bytes]
) -> Iterator[tuple[Array, ...]]:
    """Whole frames, until the stream ends; with a span those of pixels (uint8) or sound (int16) mapped onto it."""
    tensors = [graph.tensors[i] for i in graph.inputs]
    dtypes = [_raw_dtype(t, raw) for t in tensors]
    if span is not None and (other := next((d for d in dtypes if d.name not in REACHES), None)) is not None:
        raise InputError(f"a span for frames of {other.name}: expected pixels (--raw uint8) or sound (--raw int16)")
    sizes = [t.size * d.itemsize for t, d in zip(tensors, dtypes, strict=True)]
    while frame := _exactly(stream, sum(sizes)):
        arrays, at = [], 0
        for t, d, size in zip(tensors, dtypes, sizes, strict=True):
            values = np.frombuffer(frame, d, t.size, at).reshape(t.shape)
            arrays.append(values if span is None else mapped(values.astype(np.float32), *REACHES[d.name], span))
            at += size
        yield tuple(arrays)


def _raw_dtype(t: Tensor, raw: str | None) -> np.dtype[Any]:
    name = raw or t.dtype
    if name not in NUMPY_DTYPES:
        raise InputError(f"frames of {name!r}: expected one of {', '.join(NUMPY_DTYPES)}")
    return NUMPY_DTYPES[name].newbyteorder("<")


def _exactly(stream: IO[bytes], size: int) -> bytes:
    """A frame, or nothing at the end. Raises InputError where the stream ends inside one."""
    parts: list[bytes] = []
    left = size
    while left:
        part = stream.read(left)
        if not part:
            if parts:
                raise InputError(f"standard input ends {left} bytes before the end of a frame of {size}")
            return b""
        parts.append(part)
        left -= len(part)
    return b"".join(parts)


# --- folders ----------------------------------------------------------------------------------------------------------


class _Files(Sequence[Any]):
    """One sample per file, decoded when it is asked for."""

    def __init__(self, paths: Sequence[Path], decode: Callable[[Path], Any]) -> None:
        self._paths, self._decode = paths, decode

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, n: Any) -> Any:
        return self._decode(self._paths[n])


def _folder(folder: Path, graph: Graph, span: tuple[float, float] | None, change: Function | None) -> Local:
    paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in KINDS and p.is_file())
    if not paths:
        raise InputError(f"{folder}: expected files of {', '.join(KINDS)}, found none")
    if len(graph.inputs) != 1:
        raise InputError(f"{folder}: a folder holds samples for one input, the model has {len(graph.inputs)}")
    t = graph.tensors[graph.inputs[0]]
    if any(p.suffix.lower() == ".wav" for p in paths):
        if not all(p.suffix.lower() == ".wav" for p in paths):
            raise InputError(f"{folder}: expected sound alone, or none")
        return Local(_changed(_sounds(paths, t, span, whole=change is not None), change))
    names = [p.parent.name for p in paths]
    labels = np.array([int(n) for n in names]) if all(n.isdigit() for n in names) else None

    def decode(path: Path) -> Any:
        sample = _npy(path) if path.suffix.lower() == ".npy" else _image(path, t, span, squeeze=change is None)
        return (sample if change is None else change(sample),)

    return Local(_Files(paths, decode), labels)


def _npy(path: str | Path) -> Array:
    from edgeq.samples import read_npy

    try:
        return read_npy(path)
    except InputError as error:
        why = str(error).removeprefix(f"{path}: ")
        raise InputError(f"{path}: expected an NPY file of numbers: {why}") from None


def _image(path: Path, t: Tensor, span: tuple[float, float] | None, squeeze: bool) -> Array:
    """(height, width, channels) float32, at the size of the model's input unless a function does that."""
    try:
        from PIL import Image
    except ImportError:
        raise InputError(f"{path}: images need Pillow (pip install 'edgeq[images]')") from None
    if len(t.shape) != 4 or t.shape[3] not in (1, 3):
        raise InputError(
            f"{path}: an image cannot be input {t.name!r} of shape {list(t.shape)}: 1 or 3 channels are expected"
        )
    try:
        with Image.open(path) as image:
            if image.width * image.height > MAX_PIXELS:
                raise InputError(f"{path}: {image.width}×{image.height} pixels, the limit is {MAX_PIXELS}")
            shown = image.convert("L" if t.shape[3] == 1 else "RGB")
            if squeeze and shown.size != (t.shape[2], t.shape[1]):
                shown = shown.resize((t.shape[2], t.shape[1]), Image.Resampling.BILINEAR)
            pixels = np.asarray(shown, np.float32)
    except (OSError, ValueError, SyntaxError) as error:
        raise InputError(f"{path}: expected an image: {error}") from None
    return mapped(pixels.reshape(*pixels.shape[:2], t.shape[3]), 0.0, 255.0, span)


def _sounds(paths: Sequence[Path], t: Tensor, span: tuple[float, float] | None, whole: bool) -> Iterator[Any]:
    """Each file cut into as many inputs as fit, or each file whole for a function that makes features of it."""
    for path in paths:
        sound = mapped(_wav(path), -1.0, 1.0, span)
        if whole:
            yield sound
            continue
        size = math.prod(t.shape)
        if sum(d > 1 for d in t.shape) > 1:  # no waveform, but what somebody makes of one
            raise InputError(
                f"{path}: input {t.name!r} of shape {list(t.shape)} takes no plain sound: a function that makes of it what the "
                "model takes is expected (--preprocess FILE.py:f)"
            )
        if len(sound) < size:
            raise InputError(f"{path}: {len(sound)} samples of sound, input {t.name!r} takes {size}")
        for start in range(0, len(sound) - size + 1, size):
            yield (sound[start : start + size].reshape(t.shape),)


def _wav(path: Path) -> Array:
    """One channel of numbers in [−1, 1]: the mean of all channels."""
    import wave

    try:
        with open_regular(path) as (file, size):
            if size > MAX_FILE:
                raise InputError(f"{path}: {size} bytes, the limit is {MAX_FILE}")
            with wave.open(file, "rb") as sound:
                width, channels = sound.getsampwidth(), sound.getnchannels()
                frames = sound.readframes(sound.getnframes())
    except (wave.Error, EOFError, OSError) as error:
        raise InputError(f"{path}: expected a WAV file of PCM: {error}") from None
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
    return mono


def mapped(x: Array, low: float, high: float, span: tuple[float, float] | None) -> Array:
    """x with [low, high] mapped onto `span`; as it is without one."""
    if span is None:
        return x
    scale = (span[1] - span[0]) / (high - low)
    out: Array = ((x - low) * scale + span[0]).astype(np.float32)
    return out
