"""What each builtin operation takes: how many inputs and outputs, which inputs may be left out, which options it needs.

From TFLite's kernels (each op's Prepare) and its schema. One line is one operation:

    NAME inputs outputs [options] [?k]

A count is a number, a range "2-3", or "1+" for one or more. `?k` marks input k as one that −1 may stand for, `?` all
of them. Options that are named in parentheses may be absent. Operations that are not listed (StableHLO's) take what
they like here.
"""

from __future__ import annotations

from collections.abc import Mapping

from edgeq.lazy import Lazy
from edgeq.records import dataclass

_TEXT = """
ABS 1 1
ADD 2 1 AddOptions
ADD_N 1+ 1
ARG_MAX 2 1 ArgMaxOptions
ARG_MIN 2 1 ArgMinOptions
ASSIGN_VARIABLE 2 0
ATAN2 2 1
AVERAGE_POOL_2D 1 1 Pool2DOptions
BATCH_MATMUL 2 1 BatchMatMulOptions
BATCH_TO_SPACE_ND 3 1
BIDIRECTIONAL_SEQUENCE_LSTM 48 1-2 BidirectionalSequenceLSTMOptions ?
BIDIRECTIONAL_SEQUENCE_RNN 12 1-2 BidirectionalSequenceRNNOptions ?
BITCAST 1 1
BITWISE_XOR 2 1
BROADCAST_ARGS 2 1
BROADCAST_TO 2 1
BUCKETIZE 1 1 BucketizeOptions
CALL 0+ 0+ CallOptions
CALL_ONCE 0 0 CallOnceOptions
CAST 1 1 (CastOptions)
CEIL 1 1
COMPLEX_ABS 1 1
CONCATENATION 1+ 1 ConcatenationOptions
CONV_2D 2-3 1 Conv2DOptions ?2
CONV_3D 2-3 1 Conv3DOptions ?2
CONV_3D_TRANSPOSE 3-4 1 Conv3DOptions ?3
COS 1 1
CUMSUM 2 1 CumsumOptions
DENSIFY 1 1
DEPTH_TO_SPACE 1 1 DepthToSpaceOptions
DEPTHWISE_CONV_2D 2-3 1 DepthwiseConv2DOptions ?2
DEQUANTIZE 1 1
DILATE 3 1
DIV 2 1 DivOptions
DYNAMIC_UPDATE_SLICE 3 1
ELU 1 1
EMBEDDING_LOOKUP 2 1
EMBEDDING_LOOKUP_SPARSE 5 1 EmbeddingLookupSparseOptions
EQUAL 2 1
EXP 1 1
EXPAND_DIMS 2 1
FAKE_QUANT 1 1 FakeQuantOptions
FILL 2 1
FLOOR 1 1
FLOOR_DIV 2 1
FLOOR_MOD 2 1
FULLY_CONNECTED 2-3 1-2 FullyConnectedOptions ?2
GATHER 2 1 GatherOptions
GATHER_ND 2 1
GELU 1 1 GeluOptions
GREATER 2 1
GREATER_EQUAL 2 1
HARD_SWISH 1 1
HASHTABLE 0 1 HashtableOptions
HASHTABLE_FIND 3 1
HASHTABLE_IMPORT 3 0
HASHTABLE_LOOKUP 3 2
HASHTABLE_SIZE 1 1
IF 1+ 0+ IfOptions
IMAG 1 1
L2_NORMALIZATION 1 1 L2NormOptions
L2_POOL_2D 1 1 Pool2DOptions
LEAKY_RELU 1 1 LeakyReluOptions
LESS 2 1
LESS_EQUAL 2 1
LOCAL_RESPONSE_NORMALIZATION 1 1 LocalResponseNormalizationOptions
LOG 1 1
LOG_SOFTMAX 1 1
LOGICAL_AND 2 1
LOGICAL_NOT 1 1
LOGICAL_OR 2 1
LOGISTIC 1 1
LSH_PROJECTION 2-3 1 LSHProjectionOptions ?2
LSTM 5-24 1-4 LSTMOptions ?
MATRIX_DIAG 1 1
MATRIX_SET_DIAG 2 1
MAX_POOL_2D 1 1 Pool2DOptions
MAXIMUM 2 1
MEAN 2 1 ReducerOptions
MINIMUM 2 1
MIRROR_PAD 2 1 MirrorPadOptions
MUL 2 1 MulOptions
MULTINOMIAL 2 1 RandomOptions
NEG 1 1
NON_MAX_SUPPRESSION_V4 5 2
NON_MAX_SUPPRESSION_V5 6 3
NOT_EQUAL 2 1
ONE_HOT 4 1 OneHotOptions
PACK 1+ 1 PackOptions
PAD 2 1
PADV2 3 1
POW 2 1
PRELU 2 1
QUANTIZE 1 1
RANDOM_STANDARD_NORMAL 1 1 RandomOptions
RANDOM_UNIFORM 1 1 RandomOptions
RANGE 3 1
RANK 1 1
READ_VARIABLE 1 1
REAL 1 1
REDUCE_ALL 2 1 ReducerOptions
REDUCE_ANY 2 1 ReducerOptions
REDUCE_MAX 2 1 ReducerOptions
REDUCE_MIN 2 1 ReducerOptions
REDUCE_PROD 2 1 ReducerOptions
REDUCE_WINDOW 5 1 ReduceWindowOptions
RELU 1 1
RELU6 1 1
RELU_0_TO_1 1 1
RELU_N1_TO_1 1 1
RESHAPE 1-2 1 (ReshapeOptions)
RESIZE_BILINEAR 2 1 ResizeBilinearOptions
RESIZE_NEAREST_NEIGHBOR 2 1 ResizeNearestNeighborOptions
REVERSE_SEQUENCE 2 1 ReverseSequenceOptions
REVERSE_V2 2 1
RFFT2D 2 1
RIGHT_SHIFT 2 1
RNN 5 1 RNNOptions
ROUND 1 1
RSQRT 1 1
SCATTER_ND 3 1
SEGMENT_SUM 2 1
SELECT 3 1
SELECT_V2 3 1
SHAPE 1 1 ShapeOptions
SIGN 1 1
SIN 1 1
SKIP_GRAM 1 1 SkipGramOptions
SLICE 3 1
SOFTMAX 1 1 SoftmaxOptions
SPACE_TO_BATCH_ND 3 1
SPACE_TO_DEPTH 1 1 SpaceToDepthOptions
SPARSE_TO_DENSE 4 1 SparseToDenseOptions
SPLIT 2 1+ SplitOptions
SPLIT_V 3 1+ SplitVOptions
SQRT 1 1
SQUARE 1 1
SQUARED_DIFFERENCE 2 1
SQUEEZE 1 1 SqueezeOptions
STABLEHLO_COMPOSITE 0+ 1+ StableHLOCompositeOptions
STRIDED_SLICE 4 1 StridedSliceOptions
SUB 2 1 SubOptions
SUM 2 1 ReducerOptions
SVDF 5 1 SVDFOptions ?3
TANH 1 1
TILE 2 1
TOPK_V2 2 2
TRANSPOSE 2 1
TRANSPOSE_CONV 3-4 1 TransposeConvOptions ?3
UNIDIRECTIONAL_SEQUENCE_LSTM 20-24 1 UnidirectionalSequenceLSTMOptions ?
UNIDIRECTIONAL_SEQUENCE_RNN 5 1 SequenceRNNOptions
UNIQUE 1 2 UniqueOptions
UNPACK 1 1+ UnpackOptions
UNSORTED_SEGMENT_MAX 3 1
UNSORTED_SEGMENT_MIN 3 1
UNSORTED_SEGMENT_PROD 3 1
UNSORTED_SEGMENT_SUM 3 1
VAR_HANDLE 0 1 VarHandleOptions
WHERE 1 1
WHILE 1+ 1+ WhileOptions
ZEROS_LIKE 1 1
"""


@dataclass(frozen=True)
class Arity:
    """How many tensors an operation takes or gives: `least` to `most`, None for no end."""

    least: int
    most: int | None

    def allows(self, count: int) -> bool:
        """Whether an operation may have `count` of them."""
        return self.least <= count and (self.most is None or count <= self.most)

    def __str__(self) -> str:
        if self.most is None:
            return f"{self.least} or more"
        return str(self.least) if self.least == self.most else f"{self.least} to {self.most}"


@dataclass(frozen=True)
class OpFacts:
    """One builtin operation. `options` is the table that it reads, None for none; `optional_inputs` None means any of
    them.
    """

    inputs: Arity
    outputs: Arity
    options: str | None = None
    options_required: bool = False
    optional_inputs: frozenset[int] | None = frozenset()

    def may_omit(self, k: int) -> bool:
        """Whether −1 may stand for input k."""
        return self.optional_inputs is None or k in self.optional_inputs


def _arity(text: str) -> Arity:
    if text.endswith("+"):
        return Arity(int(text[:-1]), None)
    least, _, most = text.partition("-")
    return Arity(int(least), int(most or least))


def _facts(name: str) -> OpFacts:
    inputs, outputs, *rest = _LINES[name].split()
    omitted = [w[1:] for w in rest if w.startswith("?")]
    optional = None if "" in omitted else frozenset(map(int, omitted))
    options = next((w for w in rest if not w.startswith("?")), None)
    required = options is not None and not options.startswith("(")
    return OpFacts(_arity(inputs), _arity(outputs), options and options.strip("()"), required, optional)


_LINES = {name: rest for name, _, rest in (line.partition(" ") for line in _TEXT.strip().split("\n"))}

OP_FACTS: Mapping[str, OpFacts] = Lazy(_LINES, _facts)
"""Builtin operation → what it takes."""
