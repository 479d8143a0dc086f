"""Samples on their way into a model: any source of real numbers, cut into what one inference takes.

A source is one of
- an array (N, …), for a model with one input;
- a mapping from input name to such arrays, N samples each: the signature's name or the tensor's own (a single input may
  also be called "x");
- an iterable of samples, each a tuple of arrays in the order of the model's inputs, a mapping by name, or one array; it
  is gone through once, so it may be a generator.

Where a row has another shape than the input but as many elements, it is read in row-major order. A model of batch size
B takes B rows at a time; rows that do not fill the last batch are left out.
"""

from __future__ import annotations

import math
import mmap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.errors import InputError
from edgeq.graph import NUMPY_DTYPES, Graph, Tensor
from edgeq.quantmod import DTYPES, QuantMod

Array = npt.NDArray[Any]
RELEASED = 1 << 20
"""Bytes of mapped samples after which their pages are given back."""

Source = Array | Mapping[str, Array] | Iterable[Any]


def quantmod_of(tensor: Tensor) -> QuantMod | None:
    """The transform of a per-tensor quantized integer tensor, None for any other."""
    q = tensor.quantization
    if q is None or tensor.dtype not in DTYPES or len(q.scale) != 1:
        return None
    return _quantmod(float(q.scale[0]), int(q.zero_point[0]) if len(q.zero_point) else 0, tensor.dtype)


@lru_cache(1024)
def _quantmod(scale: float, zero_point: int, dtype: str) -> QuantMod:
    return QuantMod.from_tflite(scale, zero_point, dtype)


def feed(graph: Graph, samples: Source, named: Callable[[int], str] | None = None) -> Iterator[tuple[Array, ...]]:
    """One tuple of arrays per inference, in the order of the graph's inputs and of their shapes.

    Real numbers for float and for quantized inputs (float32): what comes in a quantized input's own dtype is taken for
    codes and dequantized, all else for the numbers themselves. Other inputs get their own dtype. named: what sample n is
    called in errors, if not what `samples.named` says or "sample n". Raises InputError.
    """
    call = named or getattr(samples, "named", None) or "sample {}".format
    if isinstance(samples, (np.ndarray, Mapping)):
        yield from _rows(graph, _by_input(graph, samples), call)
        return
    for n, sample in enumerate(samples):
        try:
            yield from _inferences(graph, sample)
        except InputError as error:
            raise InputError(f"{call(n)}: {error}") from error


def _inferences(graph: Graph, sample: Any) -> Iterator[tuple[Array, ...]]:
    """What one sample of an iterable gives: an inference, or of an array of several rows as many."""
    if isinstance(sample, (np.ndarray, np.generic, Mapping, int, float)):
        arrays = _by_input(graph, sample if isinstance(sample, Mapping) else np.asarray(sample))
    else:
        try:
            arrays = [np.asarray(a) for a in sample]
        except (TypeError, ValueError) as error:
            what = f"an array, arrays by name or one for each input is expected, got {type(sample).__name__}"
            raise InputError(f"{what}: {error}") from None
        if len(arrays) != len(graph.inputs):
            raise InputError(f"a sample must hold {len(graph.inputs)} arrays, one per input, got {len(arrays)}")
    shapes = [graph.tensors[i].shape for i in graph.inputs]
    if all(a.size == math.prod(s) for a, s in zip(arrays, shapes, strict=True)):
        yield _shaped(graph, arrays)
    else:
        yield from _rows(graph, arrays)


def count(graph: Graph, samples: Source) -> int | None:
    """How many inferences `feed` will give, None where only going through it would tell."""
    if isinstance(samples, (np.ndarray, Mapping)):
        return _runs(graph, _by_input(graph, samples))[1]
    return len(samples) if isinstance(samples, Sequence) else None


def encode(graph: Graph, inputs: Sequence[Array]) -> list[Array]:
    """What `feed` gave, as the graph's inputs take it: quantized where they are."""
    out = []
    for i, x in zip(graph.inputs, inputs, strict=True):
        q = quantmod_of(graph.tensors[i])
        out.append(x if q is None or x.dtype == q.dtype else q.quantize(x))
    return out


def _by_input(graph: Graph, samples: Array | Mapping[str, Array]) -> list[Array]:
    names = graph.input_names()
    if not isinstance(samples, Mapping):
        if len(names) != 1:
            raise InputError(f"the model has {len(names)} inputs ({', '.join(names)}): give samples by name")
        return [samples]
    if len(names) == 1 and names[0] not in samples and "x" in samples:
        return [np.asarray(samples["x"])]
    own = [graph.tensors[i].name for i in graph.inputs]
    keys = [n if n in samples or own.count(t) > 1 else t for n, t in zip(names, own, strict=True)]
    missing = [n for n, key in zip(names, keys, strict=True) if key not in samples]
    if missing:
        raise InputError(f"expected samples for {', '.join(map(repr, missing))}, found {', '.join(map(repr, samples))}")
    return [np.asarray(samples[key]) for key in keys]


def _rows_a_run(graph: Graph, k: int, array: Array, shape: tuple[int, ...]) -> int:
    """How many leading rows of `array` make input k of one inference."""
    if array.ndim:
        row, whole = math.prod(array.shape[1:]), math.prod(shape)
        if shape and shape[0] and row * shape[0] == whole:
            return shape[0]
        if row == whole:
            return 1
    wanted = ", ".join(map(str, shape[1:]))
    raise InputError(f"input {graph.input_names()[k]!r}: expected samples (N, {wanted}), got shape {array.shape}")


def _runs(graph: Graph, arrays: Sequence[Array]) -> tuple[list[int], int]:
    """How many leading rows of each input's array (N, …) make one inference, and how many inferences there are."""
    shapes = [graph.tensors[i].shape for i in graph.inputs]
    rows = [_rows_a_run(graph, k, a, s) for k, (a, s) in enumerate(zip(arrays, shapes, strict=True))]
    runs = {len(a) // r for a, r in zip(arrays, rows, strict=True)}
    if len(runs) > 1:
        found = ", ".join(f"{len(a)} for {n!r}" for a, n in zip(arrays, graph.input_names(), strict=True))
        raise InputError(f"expected as many samples for each input, got {found}")
    return rows, runs.pop()


def _rows(
    graph: Graph, arrays: Sequence[Array], named: Callable[[int], str] | None = None
) -> Iterator[tuple[Array, ...]]:
    """Inferences out of arrays (N, …), one per input; named: what the n-th is called in errors."""
    rows, runs = _runs(graph, arrays)
    if runs == 0:
        raise InputError(f"expected at least {rows[0]} samples, which make one batch, got {len(arrays[0])}")
    fed = 0
    for n in range(runs):
        piece = [a[n * r : (n + 1) * r] for a, r in zip(arrays, rows, strict=True)]
        try:
            made = _shaped(graph, piece)
        except InputError as error:
            raise error if named is None else InputError(f"{named(n)}: {error}") from None
        yield made
        fed += sum(a.nbytes for a in piece)
        if fed >= RELEASED:
            let_go(arrays)
            fed = 0


def mapping_of(array: Array) -> mmap.mmap | None:
    """The file's mapping that an array's elements lie in, if they do, and it can hold nothing but the file."""
    base: Any = array
    while base is not None and not isinstance(base, mmap.mmap):
        base = getattr(base, "base", None)
    if base is None or not hasattr(mmap, "MADV_DONTNEED"):
        return None
    with memoryview(base) as view:
        return base if view.readonly else None


def let_go(arrays: Iterable[Array]) -> None:
    """Give back the pages of mapped samples that were read: those count as the process's until then, and are read again from
    the system's cache. Pages that the process has locked stay."""
    found = {id(m): m for m in map(mapping_of, arrays) if m is not None}
    for m in found.values():
        with suppress(OSError):
            m.madvise(mmap.MADV_DONTNEED)


def stacked(arrays: Sequence[Array]) -> Array:
    """Arrays of one shape and dtype behind one another, (n, …). Of mapped ones no two are there at a time: the system maps up to
    megabytes around each."""
    out = np.empty((len(arrays), *arrays[0].shape), arrays[0].dtype)
    for k, a in enumerate(arrays):
        out[k] = a
        let_go((a,))
    return out


def _shaped(graph: Graph, arrays: Sequence[Array]) -> tuple[Array, ...]:
    """Each array in its input's shape and dtype, real where the input is."""
    out = []
    for i, a in zip(graph.inputs, arrays, strict=True):
        t = graph.tensors[i]
        q = quantmod_of(t)
        if a.dtype.kind not in "biuf":
            raise InputError(f"input {t.name!r}: expected numbers, got {a.dtype}")
        a = a.reshape(t.shape)
        if q is not None:
            a = q.dequantize(a) if a.dtype == q.dtype else np.asarray(a, np.float32)
        else:
            dtype = NUMPY_DTYPES.get(t.dtype)
            if dtype is None:
                raise InputError(f"input {t.name!r} is of type {t.dtype}, which samples cannot have")
            if a.dtype.kind == "f" and dtype.kind != "f":
                raise InputError(f"input {t.name!r} takes {t.dtype}, got {a.dtype}")
            a = np.asarray(a, dtype)
        if a.dtype.kind == "f" and not np.isfinite(a).all():
            raise InputError(f"input {t.name!r}: samples must be finite, found NaN or infinity")
        out.append(np.asarray(a, order="C"))  # what lies across memory would be copied so, and run as if it did not
    return tuple(out)
