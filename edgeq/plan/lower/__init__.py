"""One file per family of operations: each checks an operation completely and emits its instructions.

A file is imported when a model has one of its operations: a device that starts does not wait for the others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module

from edgeq.graph import Op
from edgeq.lazy import Lazy
from edgeq.plan.builder import Builder

Lowering = Callable[[Builder, Op], None]

_TEXT = """
chance RANDOM_UNIFORM RANDOM_STANDARD_NORMAL
control IF WHILE CALL_ONCE STABLEHLO_COMPOSITE
conv CONV_2D FULLY_CONNECTED
custom CUSTOM
depthwise DEPTHWISE_CONV_2D
detection NON_MAX_SUPPRESSION_V4 NON_MAX_SUPPRESSION_V5
elementwise ADD SUB MUL DIV MAXIMUM MINIMUM FLOOR_DIV FLOOR_MOD POW SQUARED_DIFFERENCE ATAN2 PRELU BITWISE_XOR
    RIGHT_SHIFT LOGICAL_AND LOGICAL_OR EQUAL NOT_EQUAL LESS GREATER LESS_EQUAL GREATER_EQUAL SELECT SELECT_V2 ADD_N
gather GATHER GATHER_ND EMBEDDING_LOOKUP SCATTER_ND DYNAMIC_UPDATE_SLICE
host RFFT2D COMPLEX_ABS REAL IMAG MATRIX_DIAG CONV_3D CONV_3D_TRANSPOSE
join CONCATENATION PACK
lstm UNIDIRECTIONAL_SEQUENCE_LSTM LSTM BIDIRECTIONAL_SEQUENCE_LSTM
matmul BATCH_MATMUL
move RESHAPE SQUEEZE EXPAND_DIMS TRANSPOSE PAD PADV2 MIRROR_PAD BROADCAST_TO TILE FILL ZEROS_LIKE SPACE_TO_DEPTH
    DEPTH_TO_SPACE SPACE_TO_BATCH_ND BATCH_TO_SPACE_ND REVERSE_V2 BITCAST
order ARG_MAX ARG_MIN TOPK_V2 CUMSUM
pick ONE_HOT SEGMENT_SUM UNSORTED_SEGMENT_SUM UNSORTED_SEGMENT_PROD UNSORTED_SEGMENT_MAX UNSORTED_SEGMENT_MIN
    REVERSE_SEQUENCE BUCKETIZE SPARSE_TO_DENSE MATRIX_SET_DIAG DENSIFY
pool L2_POOL_2D AVERAGE_POOL_2D MAX_POOL_2D
recurrent UNIDIRECTIONAL_SEQUENCE_RNN RNN BIDIRECTIONAL_SEQUENCE_RNN SVDF
reduce MEAN SUM REDUCE_PROD REDUCE_MAX REDUCE_MIN REDUCE_ANY REDUCE_ALL
rescale QUANTIZE DEQUANTIZE
resize RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR
rows L2_NORMALIZATION LOG_SOFTMAX LOCAL_RESPONSE_NORMALIZATION
slices SLICE STRIDED_SLICE SPLIT SPLIT_V UNPACK
softmax SOFTMAX
transposed TRANSPOSE_CONV
unary RELU RELU6 RELU_N1_TO_1 RELU_0_TO_1 LEAKY_RELU LOGISTIC TANH EXP HARD_SWISH SQRT RSQRT ABS NEG SQUARE FLOOR CEIL ROUND
    SIGN LOG SIN COS ELU LOGICAL_NOT GELU CAST
variables VAR_HANDLE READ_VARIABLE ASSIGN_VARIABLE
"""

_LINES = [line.split() for line in _TEXT.strip().replace("\n    ", " ").split("\n")]

FAMILIES: Mapping[str, tuple[str, ...]] = {name: tuple(operations) for name, *operations in _LINES}
"""Module of this package → the operations that are in its LOWERINGS."""

_HOMES = {operation: family for family, operations in FAMILIES.items() for operation in operations}


def _lowering(operation: str) -> Lowering:
    found: Lowering = import_module(f"{__name__}.{_HOMES[operation]}").LOWERINGS[operation]
    return found


LOWERINGS: Mapping[str, Lowering] = Lazy(_HOMES, _lowering)


def has_lowering(op: Op) -> bool:
    """Whether there is a lowering for this operation, by its own name where it is a custom one."""
    if op.code == "CUSTOM":
        from edgeq.customs import registered
        from edgeq.plan.lower.custom import OWN

        return op.custom_code in OWN or registered(op) is not None
    return op.code in LOWERINGS
