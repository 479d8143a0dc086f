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

from . import (
    conv,
    elementwise,
    host,
    move,
    number,
    pool,
    recurrent,
    reduce,
    requant,
    resize,
    rows,
    shape,
    softmax,
    transcendental,
)
from .node import Node

Array = npt.NDArray[Any]

Twin = Callable[[Node], Array | tuple[Array, ...]]


def by_type(quantized: Twin, plain: Twin, *types: str) -> Twin:
    """One twin for the output types that are named, another for the rest."""
    return lambda node: (quantized if node.output.dtype in types else plain)(node)


def fully_connected(node: Node) -> Array:
    """By weights that the file holds, or that are computed."""
    return (conv.fully_connected if node.tensor(1).data is not None else rows.computed_weights)(node)


TWINS: Mapping[str, Twin] = MappingProxyType(
    {
        "ABS": by_type(host.abs_quantized, number.unary(np.abs), "int8", "int16"),
        "ADD": by_type(number.binary(np.add), elementwise.add, "int32", "int64"),
        "ADD_N": number.add_n,
        "ARG_MAX": move.arg_max,
        "ARG_MIN": move.arg_min,
        "ATAN2": number.binary(np.arctan2),
        "AVERAGE_POOL_2D": pool.average_pool_2d,
        "BATCH_MATMUL": rows.batch_matmul,
        "BATCH_TO_SPACE_ND": move.batch_to_space_nd,
        "BIDIRECTIONAL_SEQUENCE_LSTM": recurrent.bidirectional_lstm,
        "BIDIRECTIONAL_SEQUENCE_RNN": recurrent.bidirectional_rnn,
        "BITWISE_XOR": number.binary(np.bitwise_xor),
        "BROADCAST_TO": move.broadcast_to,
        "BUCKETIZE": rows.bucketize,
        "CAST": number.cast,
        "CEIL": number.unary(np.ceil),
        "CONCATENATION": shape.concatenation,
        "COMPLEX_ABS": host.complex_abs,
        "CONV_2D": conv.conv_2d,
        "CONV_3D": host.conv_3d,
        "CONV_3D_TRANSPOSE": host.conv_3d_transpose,
        "COS": number.unary(np.cos),
        "CUMSUM": move.cumsum,
        "DEPTHWISE_CONV_2D": conv.depthwise_conv_2d,
        "DEPTH_TO_SPACE": move.depth_to_space,
        "DEQUANTIZE": requant.dequantize,
        "DIV": by_type(number.div_8bit, number.binary(number.truncated), "int8", "uint8"),
        "DYNAMIC_UPDATE_SLICE": move.dynamic_update_slice,
        "ELU": by_type(host.curve, number.unary(number.elu), "int8"),
        "EMBEDDING_LOOKUP": move.embedding_lookup,
        "EQUAL": number.comparison(np.equal),
        "EXP": by_type(host.curve, number.unary(np.exp), "int8", "int16"),
        "EXPAND_DIMS": shape.reshape,
        "FILL": move.fill,
        "FLOOR": number.unary(np.floor),
        "FLOOR_DIV": number.binary(number.floor_divide),
        "FLOOR_MOD": number.binary(np.mod),
        "FULLY_CONNECTED": fully_connected,
        "GATHER": move.gather,
        "GATHER_ND": move.gather_nd,
        "GELU": by_type(host.curve, number.gelu, "int8", "uint8", "int16"),
        "GREATER": number.comparison(np.greater),
        "GREATER_EQUAL": number.comparison(np.greater_equal),
        "HARD_SWISH": transcendental.hard_swish,
        "IMAG": number.unary(np.imag),
        "L2_POOL_2D": host.l2_pool_2d,
        "L2_NORMALIZATION": rows.l2_normalization,
        "LEAKY_RELU": elementwise.leaky_relu,
        "LESS": number.comparison(np.less),
        "LESS_EQUAL": number.comparison(np.less_equal),
        "LOCAL_RESPONSE_NORMALIZATION": rows.local_response_normalization,
        "LOG": by_type(host.curve, number.unary(np.log), "int8", "int16"),
        "LOG_SOFTMAX": rows.log_softmax,
        "LOGICAL_AND": number.binary(np.logical_and),
        "LOGICAL_NOT": number.unary(np.logical_not),
        "LOGICAL_OR": number.binary(np.logical_or),
        "LOGISTIC": transcendental.logistic,
        "LSTM": lambda node: (host.basic_lstm if node.option("kernel_type") else recurrent.lstm)(node),
        "MATRIX_DIAG": rows.matrix_diag,
        "MATRIX_SET_DIAG": rows.matrix_diag,
        "MAXIMUM": number.binary(np.maximum),
        "MAX_POOL_2D": pool.max_pool_2d,
        "MEAN": reduce.mean,
        "MINIMUM": number.binary(np.minimum),
        "MIRROR_PAD": move.mirror_pad,
        "MUL": by_type(number.binary(np.multiply), elementwise.mul, "int32", "int64", "uint32"),
        "NEG": number.unary(np.negative),
        "NON_MAX_SUPPRESSION_V4": rows.non_max_suppression,
        "NON_MAX_SUPPRESSION_V5": rows.non_max_suppression,
        "NOT_EQUAL": number.comparison(np.not_equal),
        "ONE_HOT": rows.one_hot,
        "PACK": move.pack,
        "PAD": shape.pad,
        "PADV2": move.pad_v2,
        "POW": number.binary(np.power),
        "PRELU": by_type(number.prelu_8bit, number.binary(number.prelu), "int8", "uint8"),
        "QUANTIZE": requant.quantize,
        "REAL": number.unary(np.real),
        "REDUCE_ALL": number.reduction(np.logical_and),
        "REDUCE_ANY": number.reduction(np.logical_or),
        "REDUCE_MAX": number.reduction(np.maximum),
        "REDUCE_MIN": number.reduction(np.minimum),
        "REDUCE_PROD": number.reduction(np.multiply),
        "RELU_0_TO_1": number.unary(lambda x: np.clip(x, np.float32(0), np.float32(1))),
        "RELU": elementwise.relu_with(Activation.RELU),
        "RELU6": elementwise.relu_with(Activation.RELU6),
        "RESHAPE": shape.reshape,
        "RESIZE_BILINEAR": resize.bilinear,
        "RESIZE_NEAREST_NEIGHBOR": resize.nearest,
        "REVERSE_SEQUENCE": rows.reverse_sequence,
        "REVERSE_V2": move.reverse_v2,
        "RIGHT_SHIFT": number.binary(number.right_shift),
        "RFFT2D": host.rfft2d,
        "RNN": recurrent.rnn,
        "ROUND": number.unary(np.rint),
        "RSQRT": lambda node: {"int8": host.rsqrt_int8, "int16": host.curve}.get(
            node.output.dtype, number.unary(number.rsqrt)
        )(node),
        "SCATTER_ND": move.scatter_nd,
        "SEGMENT_SUM": rows.segment(np.add, lambda i: 0),
        "SELECT": number.select,
        "SELECT_V2": number.select,
        "SIGN": number.unary(np.sign),
        "SIN": number.unary(np.sin),
        "SLICE": move.slice_,
        "SOFTMAX": softmax.softmax,
        "SPACE_TO_BATCH_ND": move.space_to_batch_nd,
        "SPACE_TO_DEPTH": move.space_to_depth,
        "SPARSE_TO_DENSE": rows.sparse_to_dense,
        "SPLIT": move.split,
        "SPLIT_V": move.split_v,
        "SQRT": by_type(host.curve, number.unary(np.sqrt), "int8"),
        "SQUARE": number.unary(np.square),
        "SQUARED_DIFFERENCE": by_type(number.squared_difference_int8, number.binary(number.squared_difference), "int8"),
        "SQUEEZE": shape.reshape,
        "STRIDED_SLICE": shape.strided_slice,
        "SUB": by_type(number.binary(np.subtract), elementwise.sub, "int32", "int64"),
        "SUM": by_type(host.quantized_sum, number.reduction(np.add), "int8", "uint8", "int16"),
        "SVDF": recurrent.svdf,
        "TANH": transcendental.tanh,
        "TILE": move.tile,
        "TOPK_V2": move.top_k,
        "TRANSPOSE": move.transpose,
        "TRANSPOSE_CONV": conv.transpose_conv,
        "UNIDIRECTIONAL_SEQUENCE_LSTM": recurrent.lstm,
        "UNIDIRECTIONAL_SEQUENCE_RNN": recurrent.rnn,
        "UNPACK": move.unpack,
        "UNSORTED_SEGMENT_MAX": rows.segment(np.maximum, lambda i: i.min),
        "UNSORTED_SEGMENT_MIN": rows.segment(np.minimum, lambda i: i.max),
        "UNSORTED_SEGMENT_PROD": rows.segment(np.multiply, lambda i: 1),
        "UNSORTED_SEGMENT_SUM": rows.segment(np.add, lambda i: 0),
        "ZEROS_LIKE": number.unary(np.zeros_like),
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
        found = TWINS[op.code](node_of(graph, op, values, rounding))
        values.update(zip(op.outputs, found if isinstance(found, tuple) else (found,), strict=True))
    return values


def node_of(graph: Graph, op: Any, values: Mapping[int, Array], rounding: str) -> Node:
    """The operation with its tensors and the arrays known so far."""
    return Node(
        op=op,
        tensors=tuple(graph.tensors[i] if i >= 0 else None for i in op.inputs),
        arrays=tuple(values.get(i) if i >= 0 else None for i in op.inputs),
        output=graph.tensors[op.outputs[0]],
        rounding=rounding,
        intermediates=tuple(graph.tensors[i] for i in op.intermediates),
    )
