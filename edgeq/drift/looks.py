"""What is seen of one inference: for each quantized tensor, how much of it went beyond its codes, and how its codes lie.

Of an input given as real numbers, the wraps of Q(x) = floor(C·x + d) mod p are counted: floor((C·x + d)/p) ≠ 0. Inside the
model values are clamped before anybody sees them, so there the codes at the ends of the range are counted; the lower end is
left out where it stands for 0, which is where a ReLU puts what it cuts off. Large tensors are looked at in part.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from edgeq.feed import quantmod_of
from edgeq.graph import Graph
from edgeq.quantmod import QuantMod
from edgeq.records import dataclass

Array = npt.NDArray[Any]

MOST: Final = 1024
"""Elements of a tensor that are looked at."""

FEATURES: Final = 3
"""Share beyond the range; mean code; logarithm of the codes' spread. Codes are measured in units of the whole range."""

BOUNDED: Final = ("SOFTMAX", "LOGISTIC", "TANH", "L2_NORMALIZATION")
"""What computes nothing beyond the scale that its kernel prescribes."""

_UNMOVED: Final = ("RESHAPE", "SQUEEZE", "EXPAND_DIMS", "QUANTIZE")


@dataclass(frozen=True)
class Watched:
    """A tensor that is looked at: its index, name and transform, the step between elements,
    whether its range begins at 0, and whether its codes reach all that can come, as those of a softmax do."""

    index: int
    name: str
    quantmod: QuantMod
    step: int
    from_zero: bool
    bounded: bool


def watched(graph: Graph) -> tuple[Watched, ...]:
    """The tensors worth a look: quantized inputs, and what operations compute, but for those that only pass it on."""
    producers = graph.main.producers()
    out = []
    for i, t in enumerate(graph.tensors):
        q = quantmod_of(t)
        if q is None or t.data is not None or not (i in graph.inputs or i in producers) or not t.size:
            continue
        if i in producers and graph.ops[producers[i]].code in _UNMOVED and i not in graph.outputs:
            continue
        bounded = i in producers and graph.ops[producers[i]].code in BOUNDED
        out.append(
            Watched(i, t.name, q, _step(t.size, t.shape[-1] if t.shape else 1), float(q.limits[0]) == 0.0, bounded)
        )
    return tuple(out)


def _step(size: int, channels: int) -> int:
    """A step that takes about MOST elements, and meets every channel: it has no divisor in common with their number."""
    step = max(1, size // MOST)
    while step > 1 and math.gcd(step, channels) != 1:
        step += 1
    return step


def look(tensors: Sequence[Watched], values: Mapping[int, Array], given: Mapping[int, Array]) -> Array:
    """The features (len(tensors), FEATURES) float64. values: codes by tensor; given: real inputs, where they were."""
    out = np.zeros((len(tensors), FEATURES))
    for row, t in zip(out, tensors, strict=True):
        if t.index not in values:
            continue
        codes = values[t.index].reshape(-1)[:: t.step]
        low, high, mean, variance = _of_bytes(codes) if codes.dtype.itemsize == 1 else _of_words(codes)
        wraps = np.count_nonzero(t.quantmod.wraps(given[t.index].reshape(-1)[:: t.step])) if t.index in given else None
        row[:] = _features(t, codes.size, low, high, mean, variance, wraps)
    return out


def look_at(
    tensors: Sequence[Watched], values: Iterable[tuple[int, Array]], given: Mapping[int, Array], samples: int
) -> Array:
    """The same of several samples, (samples, len(tensors), FEATURES): codes and real inputs are (samples, elements) of a tensor.

    values: tensor by tensor, each looked at before the next is asked for.
    """
    out = np.zeros((samples, len(tensors), FEATURES))
    place = {t.index: k for k, t in enumerate(tensors)}
    for i, whole in values:
        if i not in place:
            continue
        t, codes = tensors[place[i]], whole[:, :: tensors[place[i]].step]
        rows = _of_rows(codes) if codes.dtype.itemsize == 1 else map(_of_words, codes)
        wraps: Sequence[int | None] = [None] * samples
        if i in given:
            wraps = np.count_nonzero(t.quantmod.wraps(given[i][:, :: t.step]), axis=1).tolist()
        for k, (row, beyond) in enumerate(zip(rows, wraps, strict=True)):
            out[k, place[i]] = _features(t, codes.shape[1], *row, beyond)
    return out


def _features(
    t: Watched, size: int, low: int, high: int, mean: float, variance: float, wraps: int | None
) -> tuple[float, float, float]:
    """low, high: how many of `size` codes are the lowest and the highest; wraps: of real inputs, None where codes were given."""
    top = float(t.quantmod.p - 1)
    beyond = wraps if wraps is not None else 0 if t.bounded else high + (0 if t.from_zero else low)
    spread = math.log(max(math.sqrt(max(variance, 0.0)) / top, 1e-4))
    return beyond / size, (mean + t.quantmod.offset) / top, spread


_BYTES: Final = {np.dtype(np.uint8): np.arange(256.0), np.dtype(np.int8): np.r_[0.0:128.0, -128.0:0.0]}
"""What each bit pattern of a byte stands for."""


def _of_bytes(codes: Array) -> tuple[int, int, float, float]:
    """How many are the lowest and the highest code, mean and variance: all from one count of the patterns.

    Of one row `_of_rows` says the same, but a look at a running model then takes 174 µs instead of 99 (keywords)."""
    counts = np.bincount(codes.view(np.uint8), minlength=256)
    value = _BYTES[codes.dtype]
    low, high = (0, 255) if codes.dtype == np.uint8 else (128, 127)
    mean = float(counts @ value) / codes.size
    return int(counts[low]), int(counts[high]), mean, float(counts @ (value * value)) / codes.size - mean * mean


def _of_rows(codes: Array) -> Iterable[tuple[int, int, float, float]]:
    """`_of_bytes` of each row (samples, elements)."""
    rows, size = codes.shape
    patterns = codes.view(np.uint8) + 256 * np.arange(rows)[:, None]
    counts = np.bincount(patterns.reshape(-1), minlength=256 * rows).reshape(rows, 256)
    value = _BYTES[codes.dtype]
    low, high = (0, 255) if codes.dtype == np.uint8 else (128, 127)
    mean = counts @ value / size  # sums of whole numbers are exact in any order
    variance = counts @ (value * value) / size - mean * mean
    return zip(counts[:, low].tolist(), counts[:, high].tolist(), mean.tolist(), variance.tolist(), strict=True)


def _of_words(codes: Array) -> tuple[int, int, float, float]:
    info = np.iinfo(codes.dtype)
    low, high = np.count_nonzero(codes == info.min), np.count_nonzero(codes == info.max)
    return low, high, float(codes.mean(dtype=np.float64)), float(codes.var(dtype=np.float64))
