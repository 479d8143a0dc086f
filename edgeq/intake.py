"""Local samples, wherever they come from: an NPZ or NPY file, a folder, a pipe, a Python function.

- `FILE.npz`, `FILE.npy`: arrays as edgeq.samples and edgeq.feed take them; labels in `y`.
- a folder: .npy, .wav, .png, .jpg and .jpeg files below it, in the order of their names, one sample each, but for sound, which
  is cut into as many as fit. Sound becomes numbers in [−1, 1], one channel, all of one rate; images are turned as they are to be
  shown, squeezed to the input's height and width and hold 0 to 255, of 16 bits too. With names like `folder/3/x.png`, below
  folders that are all named by whole numbers, of nine digits at most, those are the labels.
- `-`: frames on standard input, raw, little-endian, each as large as the model's inputs together.
- `FILE.py:name`: a function without arguments that gives samples one by one.

A preprocessing function `FILE.py:name` may stand between: it gets a sample as described and returns what the model takes.
`span` maps numbers: images' 0 to 255, or sound's −1 to 1, onto [low, high].
"""

from __future__ import annotations

import os
import select
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
import numpy.typing as npt

from edgeq.digest import sha256
from edgeq.errors import EdgeqError, InputError
from edgeq.feed import Source
from edgeq.graph import NUMPY_DTYPES, Graph, Tensor
from edgeq.records import dataclass
from edgeq.sounds import Sounds, mapped
from edgeq.userfile import Function, function

Array = npt.NDArray[Any]

IMAGES: Final = (".png", ".jpg", ".jpeg")
KINDS: Final = (".npy", ".wav", *IMAGES)

MOST_DIGITS: Final = 9
"""Of a label: a folder with a longer number for its name is of a date, or of a device."""

MAX_PIXELS: Final = 1 << 26
"""Of one image: a larger one is refused before it is decoded."""


@dataclass(frozen=True)
class Local:
    """Samples and, where they are known, a label for each: (N,) integers; reach: what their numbers reach by their kind, as
    pixels do, where nobody has mapped them."""

    samples: Source
    labels: Array | None = None
    reach: tuple[float, float] | None = None


def take(
    where: str,
    graph: Graph,
    *,
    span: tuple[float, float] | None = None,
    preprocess: str | None = None,
    raw: str | None = None,
    stdin: IO[bytes] | None = None,
    seconds: float | None = None,
) -> Local:
    """The samples that `where` names for this model. raw: the dtype of frames on standard input, by default the inputs';
    seconds: for so long standard input is waited for.

    Raises InputError for what is not there, or not what the rules above say.
    """
    change = None if preprocess is None else _called(preprocess, function(preprocess))
    if where == "-":
        until = None if seconds is None else time.monotonic() + seconds
        frames = _frames(graph, raw, span, sys.stdin.buffer if stdin is None else stdin, until)
        codes = any(graph.tensors[i].dtype == raw for i in graph.inputs)  # of the model's own dtype
        reach = REACHES.get(raw or "") if span is None and change is None and not codes else None
        return Local(_changed(frames, change), None, reach)
    if ".py:" in where:
        made = _called(where, function(where))()
        if not hasattr(made, "__iter__"):
            raise InputError(
                f"{where}: expected a function that gives samples one by one, it gave {type(made).__name__}"
            )
        return Local(_changed(_given(where, made), change))
    if os.path.isdir(where):
        return _folder(Path(where), graph, span, change)
    return _file(where, change)


def state(where: str) -> str:
    """What tells the samples that lie there now from those that lay there before: names, sizes and dates of files, digested."""
    path = Path(where.rpartition(":")[0] if ".py:" in where else where)
    paths = _files(path) if path.is_dir() else [path]
    digest = sha256()
    for p in paths:
        with suppress(OSError):  # no file: standard input, or what will be said when it is opened
            found = p.stat()
            digest.update(f"{p}\0{found.st_size} {found.st_mtime_ns}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def _called(named: str, f: Function) -> Function:
    """The user's function; what it raises is said in a line that names it."""

    def call(*arguments: Any) -> Any:
        try:
            return f(*arguments)
        except EdgeqError:
            raise
        except Exception as error:
            raise InputError(f"{named}: {type(error).__name__}: {error}") from error

    return call


def _given(named: str, made: Iterable[Any]) -> Iterator[Any]:
    """What the user's function gives, one by one."""
    give, end = _called(named, next), object()
    samples = iter(made)
    while (sample := give(samples, end)) is not end:
        yield sample


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
        return Local(array if change is None else _changed(_each(path, array), change))
    samples = Samples(path)
    labels = samples.get("y", None)
    if labels is not None and (labels.ndim != 1 or labels.dtype.kind not in "iu"):
        labels = None  # not a class for each sample
    if change is None:
        return Local(samples, labels)
    if "x" not in samples:
        raise InputError(
            f"{path}: expected samples 'x' for a function, found {', '.join(map(repr, samples)) or 'none'}"
        )
    return Local(_changed(_each(path, samples["x"]), change))


def _each(path: str, array: Array) -> Iterator[Any]:
    if not array.ndim:
        raise InputError(f"{path}: expected samples (N, …), found one number")
    return iter(array)


# --- standard input ---------------------------------------------------------------------------------------------------


REACHES: Final = {"uint8": (0.0, 255.0), "int16": (-32768.0, 32768.0)}
"""What pixels and sound reach in raw frames."""


def _frames(
    graph: Graph, raw: str | None, span: tuple[float, float] | None, stream: IO[bytes], until: float | None
) -> Iterator[tuple[Array, ...]]:
    """Whole frames, until the stream ends or time is up; with a span those of pixels (uint8) or sound (int16) mapped onto it."""
    tensors = [graph.tensors[i] for i in graph.inputs]
    dtypes = [_raw_dtype(t, raw) for t in tensors]
    if span is not None and (other := next((d for d in dtypes if d.name not in REACHES), None)) is not None:
        raise InputError(f"a span for frames of {other.name}: expected pixels (--raw uint8) or sound (--raw int16)")
    sizes = [t.size * d.itemsize for t, d in zip(tensors, dtypes, strict=True)]
    while frame := _exactly(stream, sum(sizes), until):
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


def _exactly(stream: IO[bytes], size: int, until: float | None) -> bytes:
    """A frame, or nothing at the end, or where it is not whole in time. Raises InputError where the stream ends inside one."""
    parts: list[bytes] = []
    left = size
    while left:
        if until is None:
            part = stream.read(left)
        elif select.select([stream], [], [], max(0.0, until - time.monotonic()))[0]:
            part = os.read(stream.fileno(), left)  # a buffered read would wait for all of it
        else:
            return b""
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

    def named(self, n: int) -> str:
        """What sample n is called where something is wrong with it."""
        return str(self._paths[n])


def _files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if p.suffix.lower() in KINDS and p.is_file())


def _folder(folder: Path, graph: Graph, span: tuple[float, float] | None, change: Function | None) -> Local:
    paths = _files(folder)
    if not paths:
        raise InputError(f"{folder}: expected files of {', '.join(KINDS)}, found none")
    if len(graph.inputs) != 1:
        raise InputError(f"{folder}: a folder holds samples for one input, the model has {len(graph.inputs)}")
    t = graph.tensors[graph.inputs[0]]
    names = [p.parent.name for p in paths]
    labels = np.array([int(n) for n in names]) if all(n.isdecimal() and len(n) <= MOST_DIGITS for n in names) else None
    plain = span is None and change is None
    if any(p.suffix.lower() == ".wav" for p in paths):
        if not all(p.suffix.lower() == ".wav" for p in paths):
            raise InputError(f"{folder}: expected sound alone, or none")
        sounds = Sounds(paths, t, span, change)
        return Local(sounds, None if labels is None else labels[sounds.files()], (-1.0, 1.0) if plain else None)

    def decode(path: Path) -> Any:
        sample = _npy(path) if path.suffix.lower() == ".npy" else _image(path, t, span, squeeze=change is None)
        return (sample if change is None else change(sample),)

    pictures = all(p.suffix.lower() in IMAGES for p in paths)
    return Local(_Files(paths, decode), labels, (0.0, 255.0) if plain and pictures else None)


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
        from PIL import Image, ImageOps
    except ImportError:
        raise InputError(f"{path}: images need Pillow (pip install 'edgeq[images]')") from None
    fits = len(t.shape) == 4 and t.shape[3] in (1, 3)
    if squeeze and not fits:
        raise InputError(
            f"{path}: an image cannot be input {t.name!r} of shape {list(t.shape)}: 1 or 3 channels are expected"
        )
    channels = t.shape[3] if fits else 3
    try:
        with warnings.catch_warnings(), Image.open(path) as image:
            warnings.simplefilter("ignore")
            if image.width * image.height > MAX_PIXELS:
                raise InputError(f"{path}: {image.width}×{image.height} pixels, the limit is {MAX_PIXELS}")
            shown = ImageOps.exif_transpose(image)
            if shown.mode.startswith("I"):  # 16 bits of grey, which a conversion would cut off at 255
                shown = Image.fromarray(np.asarray(shown, np.float32) / np.float32(257))
            else:
                shown = shown.convert("L" if channels == 1 else "RGB")
            if squeeze and shown.size != (t.shape[2], t.shape[1]):
                shown = shown.resize((t.shape[2], t.shape[1]), Image.Resampling.BILINEAR)
            pixels = np.asarray(shown, np.float32)
    except InputError:
        raise
    except Exception as error:  # a picture is anybody's, and its decoders raise what they come upon
        raise InputError(f"{path}: expected an image: {error}") from None
    whole = pixels.reshape(*pixels.shape[:2], -1)
    return mapped(np.broadcast_to(whole, (*whole.shape[:2], channels)), 0.0, 255.0, span)
