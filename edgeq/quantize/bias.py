"""Bias correction: what rounding the weights did to each channel's mean goes back into the bias.

With x the layer's input on real samples, the rounded weights Ŵ move the mean of channel c by (Ŵ − W)·E[x]. That is
known per channel from the mean input alone, and the bias can take it off (Nagel et al., "Data-Free Quantization
Through Weight Equalization and Bias Correction", ICCV 2019, section 4.2, with measured means). A convolution's mean
input is one for each tap of its window, since the border meets some taps and not others.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.calibrate import Inputs, tracer
from edgeq.graph import Graph, Op, Padding
from edgeq.quantize.canonical import real
from edgeq.quantize.weights import INT32_MAX, WIDE_ROOM

Array = npt.NDArray[Any]

_LAYERS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")


def mean_inputs(graph: Graph, inputs: Iterable[Inputs]) -> dict[int, Array]:
    """E[x] for each convolution and fully connected layer of a float graph, by operation.

    Convolutions: (kh, kw, in_c), the mean over samples and output positions of what each tap of the window meets; fully
    connected: (k,).
    """
    trace = tracer(graph)
    layers = [
        n for n, op in enumerate(graph.ops) if op.code in _LAYERS and graph.tensors[op.inputs[1]].data is not None
    ]
    sums: dict[int, Array] = {}
    runs = 0
    for x in inputs:
        values = trace(x)
        for n in layers:
            op = graph.ops[n]
            mean = _mean_input(op, np.asarray(values[op.inputs[0]]), graph.tensors[op.inputs[1]].shape)
            sums[n] = sums[n] + mean if n in sums else mean
        runs += 1
    return {n: s / runs for n, s in sums.items()}


def _mean_input(op: Op, x: Array, weights: tuple[int, ...]) -> Array:
    if op.code == "FULLY_CONNECTED":
        flat: Array = x.reshape(-1, weights[1]).mean(axis=0, dtype=np.float64)
        return flat
    assert op.options is not None
    values = op.options.values
    window = weights[1:3]
    stride = (values["stride_h"], values["stride_w"])
    dilation = (values.get("dilation_h_factor") or 1, values.get("dilation_w_factor") or 1)
    pads = []
    for size, k, s, d in zip(x.shape[1:3], window, stride, dilation, strict=True):
        extent = (k - 1) * d + 1
        total = max((-(-size // s) - 1) * s + extent - size, 0) if values["padding"] == Padding.SAME else 0
        pads.append((total // 2, total - total // 2))
    x = np.pad(x, [(0, 0), *pads, (0, 0)])
    # The mean over the batch and over the rows first: what is left to slice per tap is small.
    columns = x.mean(axis=0, dtype=np.float64)
    # Output positions along each side.
    steps = [(columns.shape[a] - ((window[a] - 1) * dilation[a] + 1)) // stride[a] + 1 for a in (0, 1)]
    out = np.empty((*window, x.shape[3]))
    for i in range(window[0]):
        top = i * dilation[0]
        row = columns[top : top + (steps[0] - 1) * stride[0] + 1 : stride[0]].mean(axis=0)
        for j in range(window[1]):
            left = j * dilation[1]
            out[i, j] = row[left : left + (steps[1] - 1) * stride[1] + 1 : stride[1]].mean(axis=0)
    return out


def correct(graph: Graph, coded: Graph, places: Mapping[int, int], means: Mapping[int, Array]) -> Graph:
    """The integer graph with corrected biases.

    graph: the float graph; places: its operations → those of `coded` (int8 weights, int32 biases, each layer's own);
    means: as `mean_inputs` gives them. A layer without a bias keeps being without.
    """
    tensors = list(coded.tensors)
    for n, m in means.items():
        op = coded.ops[places[n]] if n in places else None
        if op is None or len(op.inputs) < 3 or op.inputs[2] < 0:
            continue
        w, rounded = np.asarray(graph.tensors[graph.ops[n].inputs[1]].data), coded.tensors[op.inputs[1]]
        if rounded.dtype != "int8":
            continue
        moved = _moved(op.code, real(rounded).astype(np.float64) - w, m)
        bias = coded.tensors[op.inputs[2]]
        if bias.quantization is None:  # weights are stored in int8, the rest is float
            continue
        scale = bias.quantization.scale.astype(np.float64)
        codes = np.asarray(bias.data).astype(np.int64) - np.rint(moved / scale).astype(np.int64)
        most = WIDE_ROOM if bias.dtype == "int64" else INT32_MAX
        data = np.clip(codes, -most, most).astype(bias.dtype)
        tensors[op.inputs[2]] = replace(bias, data=data)
    return coded.with_main(tensors=tuple(tensors))


def _moved(code: str, difference: Array, mean: Array) -> Array:
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
