"""A rule per operation: from the shapes of its inputs to the shapes of its outputs, as TFLite's kernels prepare them.

The sources are the `Prepare` functions of tensorflow/lite/kernels. Rules raise CheckError where shapes contradict and
UnsupportedError where a shape depends on values that are known only when the model runs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from edgeq.shapes.node import Node, Shape
from edgeq.shapes.rules import constants, follow, moves, products, sequences, windows

Rule = Callable[[Node], Sequence[Shape]]


def _table(rules: Mapping[str, Rule]) -> Mapping[str, Rule]:
    return MappingProxyType({name: rule for names, rule in rules.items() for name in names.split()})


RULES: Mapping[str, Rule] = _table(
    {
        "ABS CEIL COS ELU EXP FLOOR GELU HARD_SWISH LEAKY_RELU LOG LOGISTIC LOGICAL_NOT NEG RELU RELU6 RELU_0_TO_1": follow.same,
        "RELU_N1_TO_1 ROUND RSQRT SIGN SIN SQRT SQUARE TANH CAST QUANTIZE DEQUANTIZE FAKE_QUANT ZEROS_LIKE CUMSUM": follow.same,
        "SOFTMAX LOG_SOFTMAX L2_NORMALIZATION LOCAL_RESPONSE_NORMALIZATION REVERSE_V2 REVERSE_SEQUENCE DENSIFY": follow.same,
        "ADD_N DYNAMIC_UPDATE_SLICE BUCKETIZE MATRIX_SET_DIAG COMPLEX_ABS REAL IMAG": follow.same,
        "ADD SUB MUL DIV FLOOR_DIV FLOOR_MOD MAXIMUM MINIMUM POW SQUARED_DIFFERENCE ATAN2 PRELU SELECT_V2": follow.broadcast,
        "EQUAL NOT_EQUAL LESS LESS_EQUAL GREATER GREATER_EQUAL LOGICAL_AND LOGICAL_OR BITWISE_XOR RIGHT_SHIFT": follow.broadcast,
        "SELECT": follow.select,
        "CONV_2D": windows.conv_2d,
        "DEPTHWISE_CONV_2D": windows.depthwise_conv_2d,
        "CONV_3D": windows.conv_3d,
        "CONV_3D_TRANSPOSE": windows.conv_3d_transpose,
        "RFFT2D": windows.rfft2d,
        "MATRIX_DIAG": moves.matrix_diag,
        "TRANSPOSE_CONV": windows.transpose_conv,
        "AVERAGE_POOL_2D MAX_POOL_2D L2_POOL_2D": windows.pool_2d,
        "FULLY_CONNECTED": products.fully_connected,
        "BATCH_MATMUL": products.batch_matmul,
        "MEAN SUM REDUCE_MAX REDUCE_MIN REDUCE_PROD REDUCE_ANY REDUCE_ALL": products.reduction,
        "ARG_MAX ARG_MIN": products.arg_extremum,
        "TOPK_V2": products.top_k,
        "RESHAPE": moves.reshape,
        "SQUEEZE": moves.squeeze,
        "EXPAND_DIMS": moves.expand_dims,
        "TRANSPOSE": moves.transpose,
        "PAD PADV2 MIRROR_PAD": moves.pad,
        "CONCATENATION": moves.concatenation,
        "PACK": moves.pack,
        "UNPACK": moves.unpack,
        "SPLIT": moves.split,
        "SPLIT_V": moves.split_v,
        "SLICE": moves.slice_,
        "STRIDED_SLICE": moves.strided_slice,
        "GATHER": moves.gather,
        "GATHER_ND": moves.gather_nd,
        "EMBEDDING_LOOKUP": moves.embedding_lookup,
        "TILE": moves.tile,
        "BROADCAST_TO": moves.broadcast_to,
        "BROADCAST_ARGS": moves.broadcast_args,
        "SPACE_TO_DEPTH": moves.space_to_depth,
        "DEPTH_TO_SPACE": moves.depth_to_space,
        "SPACE_TO_BATCH_ND": moves.space_to_batch_nd,
        "BATCH_TO_SPACE_ND": moves.batch_to_space_nd,
        "RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR": moves.resize_image,
        "SHAPE": constants.shape_of,
        "RANK": constants.scalar,
        "RANGE": constants.arange,
        "FILL RANDOM_UNIFORM RANDOM_STANDARD_NORMAL": constants.shaped_by(0),
        "ONE_HOT": constants.one_hot,
        "SVDF": sequences.svdf,
        "UNIDIRECTIONAL_SEQUENCE_LSTM": sequences.sequence_lstm,
        "LSTM": sequences.lstm,
        "UNIDIRECTIONAL_SEQUENCE_RNN": sequences.sequence_rnn,
        "RNN": sequences.rnn,
        "BIDIRECTIONAL_SEQUENCE_LSTM": sequences.bidirectional_lstm,
        "BIDIRECTIONAL_SEQUENCE_RNN": sequences.bidirectional_rnn,
        "SEGMENT_SUM": constants.segment_sum,
        "UNSORTED_SEGMENT_SUM UNSORTED_SEGMENT_PROD UNSORTED_SEGMENT_MAX UNSORTED_SEGMENT_MIN": constants.segments,
        "SPARSE_TO_DENSE": constants.shaped_by(1),
        "NON_MAX_SUPPRESSION_V4 NON_MAX_SUPPRESSION_V5": constants.suppression,
        "VAR_HANDLE READ_VARIABLE": follow.stated,
        "ASSIGN_VARIABLE CALL_ONCE": follow.nothing,
    }
)
"""Operation → its rule. IF and WHILE are walked (edgeq.shapes.infer); every other operation has no rule."""

CUSTOM_RULES: Mapping[str, Rule] = MappingProxyType({"TFLite_Detection_PostProcess": follow.stated})
"""The same for custom operations by name. The detections' number is an option, so the file says it."""
