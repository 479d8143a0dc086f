"""Bias correction: what rounding the weights did to each channel's mean goes back into the bias.

With x the layer's input on real samples, the rounded weights Ŵ move the mean of channel c by (Ŵ − W)·E[x]. That is
known per channel from the mean input alone, and the bias can take it off (Nagel et al., "Data-Free Quantization
Through Weight Equalization and Bias Correction", ICCV 2019, section 4.2, with measured means). A convolution's mean
input is one for each tap of its window, since the border meets some taps and not others.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from edgeq.calibrate import Inputs, in_chunks
from edgeq.graph import Graph, Op, Padding
from edgeq.quantize.canonical import real
from edgeq.quantize.weights import INT32_MAX, WIDE_ROOM
from edgeq.records import replace

if TYPE_CHECKING:
    from edgeq.quantize.rewrite import Made
    from edgeq.stepping import Stepper

Array = npt.NDArray[Any]

_LAYERS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")


def mean_inputs(graph: Graph, inputs: Iterable[Inputs]) -> dict[int, Array]:
    """E[x] for each convolution and fully connected layer of a float graph, by operation.

    Convolutions: (kh, kw, in_c), the mean over samples and output positions of what each tap of the window meets; fully
    connected: (k,).
    """
    readers: dict[int, list[int]] = {}
    for n, op in enumerate(graph.ops):
        if op.code in _LAYERS and graph.tensors[op.inputs[1]].data is not None:
            readers.setdefault(op.inputs[0], []).append(n)

    def look(worker: int, step: Stepper, number: int, chunk: Sequence[Inputs]) -> list[tuple[int, Array]]:
        found = []
        for i, values in step.run(chunk):
            x = values.reshape(-1, *graph.tensors[i].shape[1:])
            for n in readers[i]:
                found.append(
                    (n, len(chunk) * _mean_input(graph.ops[n], x, graph.tensors[graph.ops[n].inputs[1]].shape))
                )
        return found

    sums: dict[int, Array] = {}
    runs = list(inputs)
    for found in in_chunks(graph, runs, look, list(readers)):
        for n, mean in found:
            sums[n] = sums[n] + mean if n in sums else mean
    return {n: s / len(runs) for n, s in sums.items()}


def _mean_input(op: Op, x: Array, weights: tuple[int, ...]) -> Array:
    if op.code == "FULLY_CONNECTED":
        return _mean(x.reshape(-1, weights[1]))
    assert op.options is not None
    values = op.options.values
    window = weights[1:3]
    # The mean over the batch and over the rows first: what is left to slice per tap is small.
    columns = _mean(x.reshape(len(x), -1)).reshape(x.shape[1:]) if len(x) > 1 else x[0]
    places = []  # of each tap: the inputs that it meets inside the border, and output positions along each side
    for size, k, side in zip(x.shape[1:3], window, "hw", strict=True):
        stride, dilation = values[f"stride_{side}"], values.get(f"dilation_{side}_factor") or 1
        extent = (k - 1) * dilation + 1
        same = values["padding"] == Padding.SAME
        count = -(-size // stride) if same else (size - extent) // stride + 1
        before = max((count - 1) * stride + extent - size, 0) // 2 if same else 0
        taps = []
        for i in range(k):
            first = i * dilation - before
            skipped = -(min(first, 0) // stride)
            last = min(size, first + (count - 1) * stride + 1)
            taps.append(slice(first + skipped * stride, max(last, 0), stride))
        places.append((taps, count))
    (down, rows), (right, steps) = places
    out = np.empty((*window, x.shape[3]))
    for i, there in enumerate(down):
        row = columns[there].sum(axis=0, dtype=np.float64) / rows
        for j, at in enumerate(right):
            out[i, j] = row[at].sum(axis=0) / steps
    return out


def _mean(x: Array) -> Array:
    """Over the first axis, (k,) float64 from (n, k)."""
    return np.asarray((np.ones(len(x), x.dtype) @ x).astype(np.float64) / len(x))


def correct(
    graph: Graph, coded: Graph, places: Mapping[int, int], means: Mapping[int, Array], made: Made | None = None
) -> Graph:
    """The integer graph with corrected biases.

    graph: the float graph; places: its operations → those of `coded` (int8 weights; int32 biases, each layer's own, or float
    ones); means: as `mean_inputs` gives them; made: see edgeq.quantize.rewrite. A layer without a bias keeps being without.
    """
    tensors, ops = list(coded.tensors), list(coded.ops)
    sources = coded.main.producers()
    for n, m in means.items():
        op = ops[places[n]] if n in places else None
        if op is None or len(op.inputs) < 3 or op.inputs[2] < 0:
            continue
        at = op.inputs[1]
        while tensors[at].data is None and at in sources:  # behind a DEQUANTIZE
            at = ops[sources[at]].inputs[0]
        w, rounded = np.asarray(graph.tensors[graph.ops[n].inputs[1]].data), tensors[at]
        bias = tensors[op.inputs[2]]
        if rounded.dtype != "int8" or rounded.data is None or bias.data is None:
            continue
        of = (n, id(rounded), id(bias), id(m))
        if made is not None and of in made:
            tensors[op.inputs[2]] = made[of][0]
            continue
        moved = mean_shift(graph.ops[n].code, real(rounded).astype(np.float64).reshape(w.shape) - w, m)
        if bias.quantization is None:  # weights are stored in int8, the rest is float
            moved_bias = (np.asarray(bias.data, np.float64) - moved.reshape(bias.shape)).astype(np.float32)
            tensors.append(replace(bias, data=moved_bias, buffer=0))  # others may share what was there
            ops[places[n]] = replace(op, inputs=(*op.inputs[:2], len(tensors) - 1, *op.inputs[3:]))
            continue
        scale = bias.quantization.scale.astype(np.float64)
        codes = np.asarray(bias.data).astype(np.int64) - np.rint(moved / scale).astype(np.int64)
        most = WIDE_ROOM if bias.dtype == "int64" else INT32_MAX
        data = np.clip(codes, -most, most).astype(bias.dtype)
        tensors[op.inputs[2]] = replace(bias, data=data)
        if made is not None:
            made[of] = (tensors[op.inputs[2]], rounded, bias, m)
    return coded.with_main(tensors=tuple(tensors), ops=tuple(ops))


def mean_shift(code: str, difference: Array, mean: Array) -> Array:
    """(Ŵ − W)·E[x] per output channel."""
    if code == "FULLY_CONNECTED":
        product: Array = difference @ mean
    elif code == "CONV_2D":
        groups = mean.shape[2] // difference.shape[3]  # grouped convolution: each block of outputs reads its own inputs
        split = difference.reshape(groups, -1, *difference.shape[1:])
        product = np.concatenate(
            [np.tensordot(d, mean[:, :, g * d.shape[3] : (g + 1) * d.shape[3]], 3) for g, d in enumerate(split)]
        )
    else:
        multiplier = difference.shape[3] // mean.shape[2]
        product = (difference[0] * np.repeat(mean, multiplier, axis=2)).sum(axis=(0, 1))
    return product
