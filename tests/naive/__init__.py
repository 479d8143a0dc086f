"""Naive twins: every operation in slow, obvious NumPy, bit for bit what the named runtime computes.

`run` is what the kernels are held against, and is itself held against tflite-runtime and LiteRT. The rounding family `tflite` is
TFLite's reference kernels (BUILTIN_REF of tflite-runtime 2.14), `xnnpack` is what LiteRT 2.3 runs by default. Float operations
follow the reference kernels' order of float32 sums in both families; only SOFTMAX's exponential may be an ulp off.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.graph import Activation, Graph

from . import conv, elementwise, pool, reduce, requant, resize, shape, softmax, transcendental
from .node import Node

Array = npt.NDArray[Any]

TWINS: Mapping[str, Callable[[Node], Array]] = MappingProxyType(
    {
        "ADD": elementwise.add,
        "AVERAGE_POOL_2D": pool.average_pool_2d,
        "CONCATENATION": shape.concatenation,
        "CONV_2D": conv.conv_2d,
        "DEPTHWISE_CONV_2D": conv.depthwise_conv_2d,
        "DEQUANTIZE": requant.dequantize,
        "FULLY_CONNECTED": conv.fully_connected,
        "HARD_SWISH": transcendental.hard_swish,
        "LEAKY_RELU": elementwise.leaky_relu,
        "LOGISTIC": transcendental.logistic,
        "MAX_POOL_2D": pool.max_pool_2d,
        "MEAN": reduce.mean,
        "MUL": elementwise.mul,
        "PAD": shape.pad,
        "QUANTIZE": requant.quantize,
        "RELU": elementwise.relu_with(Activation.RELU),
        "RELU6": elementwise.relu_with(Activation.RELU6),
        "RESHAPE": shape.reshape,
        "RESIZE_BILINEAR": resize.bilinear,
        "RESIZE_NEAREST_NEIGHBOR": resize.nearest,
        "SOFTMAX": softmax.softmax,
        "STRIDED_SLICE": shape.strided_slice,
        "SUB": elementwise.sub,
        "TANH": transcendental.tanh,
        "TRANSPOSE_CONV": conv.transpose_conv,
    }
)


def run(graph: Graph, inputs: Sequence[Array], rounding: str) -> dict[int, Array]:
    """Every tensor of the main subgraph, by index, for inputs given in the graph's order.

    `rounding` is "tflite" or "xnnpack". An operation without a twin raises NotImplementedError with its name.
    """
    if rounding not in ("tflite", "xnnpack"):
        raise ValueError(f"rounding must be tflite or xnnpack, got {rounding!r}")
    values: dict[int, Array] = {i: np.asarray(t.data) for i, t in enumerate(graph.tensors) if t.data is not None}
    values.update(zip(graph.inputs, inputs, strict=True))
    for op in graph.ops:
        if op.code not in TWINS:
            raise NotImplementedError(f"no twin for {op.code}")
        values[op.outputs[0]] = TWINS[op.code](node_of(graph, op, values, rounding))
    return values


def node_of(graph: Graph, op: Any, values: Mapping[int, Array], rounding: str) -> Node:
    """The operation with its tensors and the arrays known so far."""
    return Node(
        op=op,
        tensors=tuple(graph.tensors[i] if i >= 0 else None for i in op.inputs),
        arrays=tuple(values[i] if i >= 0 else None for i in op.inputs),
        output=graph.tensors[op.outputs[0]],
        rounding=rounding,
    )
