"""Which version of an operation a file must ask for: the lowest whose TFLite kernel takes these types and options.

A runtime refuses an operation whose version is above the highest that it registers, so a file asks for no more than
it needs. The rules are those of TFLite's converter (tensorflow/lite/tools/versioning/op_version.cc), restated: each
thing that an operation uses came with some version, and it needs the highest of them. One rule is left out on
purpose: the converter asks for FULLY_CONNECTED 12 where the weights have a scale per row, which tflite-runtime 2.14
computes exactly, but registers up to 10.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from edgeq.graph import Activation, Op, SubGraph, Table, Tensor
from edgeq.lazy import Lazy
from edgeq.records import replace

_BY_DTYPE_TEXT = """
ABS int8=2 int16=3
ADD int8=2 int16=3 int64=4
ARG_MAX int8=2 bool=3
ARG_MIN int8=2 bool=3
AVERAGE_POOL_2D int8=2 int16=3
BATCH_MATMUL int8=2 int16=3
BATCH_TO_SPACE_ND int8=2 int16=4
BROADCAST_TO float32=2 int32=2 int64=2 bool=2 int8=3 int16=3
CONCATENATION int8=2 int16=3 uint32=4
CONV_2D int8=3 int16=4
DEPTHWISE_CONV_2D int8=3 int16=5
DEPTH_TO_SPACE int8=2
DEQUANTIZE int8=2 int16=3 float16=3 int4=6
EQUAL int8=2
EXP int8=2
FULLY_CONNECTED int8=4 int16=7
GATHER int8=2 bool=3 int16=4
GELU int8=2
GREATER int8=2
GREATER_EQUAL int8=2
L2_NORMALIZATION int8=2
LEAKY_RELU int16=2
LESS int8=2
LESS_EQUAL int8=2
LOGISTIC int8=2 int16=3
LOG_SOFTMAX int8=2
MAXIMUM int8=2 int16=4
MAX_POOL_2D int8=2 int16=3
MEAN int8=2 int16=3
MINIMUM int8=2 int16=4
MIRROR_PAD int8=2 int16=3
MUL int8=2 int16=4 int64=5 complex64=6
NOT_EQUAL int8=2
PACK int8=2 int16=3
PAD int8=2 int16=3
PADV2 int8=2 int16=3
REDUCE_MAX int8=2 int16=3
REDUCE_MIN int8=2 int16=3
RELU int8=2 uint8=2 int16=3
RELU6 int8=2 uint8=2 int16=3
RESIZE_BILINEAR int8=2 int16=4
RESIZE_NEAREST_NEIGHBOR int8=2 int16=4
RSQRT int8=2
SELECT int8=2
SLICE int8=2 string=3 int16=4
SOFTMAX int8=2 int16=3
SPACE_TO_BATCH_ND int8=2 int16=4
SPACE_TO_DEPTH int8=2
SPLIT int8=2 int32=3 int16=4
SPLIT_V int8=2
SQUARED_DIFFERENCE int8=2
STRIDED_SLICE int8=2 bool=3 string=5
SUB int8=2 int64=4 int16=5
SUM int8=2
TANH int8=2 int16=3
TOPK_V2 int8=2
TRANSPOSE int8=2 bool=3 int16=5
TRANSPOSE_CONV int8=2
UNPACK int8=2 uint8=2 bool=3 int16=4
"""

_BY_DTYPE_LINES = {name: rest for name, _, rest in (line.partition(" ") for line in _BY_DTYPE_TEXT.strip().split("\n"))}


def _by_dtype(name: str) -> Mapping[str, int]:
    return MappingProxyType({d: int(v) for d, v in (w.split("=") for w in _BY_DTYPE_LINES[name].split())})


BY_DTYPE: Mapping[str, Mapping[str, int]] = Lazy(_BY_DTYPE_LINES, _by_dtype)
"""Operation → dtype of its data input → the version that brought it; 1 for what is not listed."""

_DATA_INPUT = {"SPLIT": 1, "SELECT": 1, "TRANSPOSE_CONV": 2}
"""Operations whose data is not their first input."""

_BY_RANK: Mapping[str, tuple[tuple[int, int], ...]] = MappingProxyType(
    {
        "DIV": ((5, 2),), "MAXIMUM": ((5, 3),), "MINIMUM": ((5, 3),), "PAD": ((5, 4),), "PADV2": ((5, 4),),
        "SELECT": ((5, 3),), "SLICE": ((5, 5),), "STRIDED_SLICE": ((5, 4),), "SUB": ((5, 3),),
        "TRANSPOSE": ((5, 4), (6, 6)),
    }
)  # fmt: skip
"""Operation → (rank of its data input from which this holds, version)."""


UNDERSTATED = "version_needed"
"""Name in `Op.extra` under which the reader notes what an operation needed, where its file asked for less (many do,
and run).
"""


def noted(op: Op, graph: SubGraph) -> Op:
    """The operation as read, with a note if its version is below what the rules ask for."""
    needed = minimal_version(op, graph)
    if needed <= op.version:
        return op
    return replace(op, extra=Table("Operator", {**(op.extra.values if op.extra else {}), UNDERSTATED: needed}))


def written_version(op: Op, graph: SubGraph) -> int:
    """The version to write: the operation's own, unless it has come to need a higher one since it was read."""
    needed = minimal_version(op, graph)
    before = op.extra.values.get(UNDERSTATED, 0) if op.extra else 0
    return op.version if needed <= before else max(op.version, needed)


def minimal_version(op: Op, graph: SubGraph) -> int:
    """The lowest version of `op` that a runtime must know to run it as it stands in `graph`; 1 where no rule speaks
    of it.
    """
    data = _input(op, _DATA_INPUT.get(op.code, 0), graph)
    if data is None:
        return 1
    needs = [1, BY_DTYPE.get(op.code, {}).get(data.dtype, 1)]
    needs += [version for rank, version in _BY_RANK.get(op.code, ()) if len(data.shape) >= rank]
    if op.code in _BY_USE:
        needs += _BY_USE[op.code](op, data, graph)
    return max(needs)


def _input(op: Op, k: int, graph: SubGraph) -> Tensor | None:
    """The op's k-th input; None where it is omitted or not a tensor of the graph."""
    index = op.inputs[k] if k < len(op.inputs) else -1
    return graph.tensors[index] if 0 <= index < len(graph.tensors) else None


def _option(op: Op, name: str) -> Any:
    """An option's value, None where the operation has no such option."""
    return op.options.values.get(name) if op.options is not None else None


def _conv(op: Op, data: Tensor, graph: SubGraph) -> list[int]:
    weights = _input(op, 1, graph)
    needs = []
    if weights is not None:
        if weights.dtype == "int4":
            needs.append(7)
        if data.dtype == "float32" and weights.dtype == "int8":
            needs.append(5 if _per_axis(weights) else 2)
        if len(weights.shape) == 4 and len(data.shape) == 4 and weights.shape[3] != data.shape[3]:
            needs.append(6)  # grouped
    if _option(op, "quantized_bias_type"):
        needs.append(8)
    return needs


def _depthwise(op: Op, data: Tensor, graph: SubGraph) -> list[int]:
    weights = _input(op, 1, graph)
    needs = []
    if weights is not None:
        if weights.dtype == "int4":
            needs.append(7)
        if data.dtype == "float32" and weights.dtype == "int8":
            needs.append(6 if _per_axis(weights) else 4)
    if any((_option(op, name) or 1) != 1 for name in ("dilation_w_factor", "dilation_h_factor")):
        needs.append(2)
    return needs


def _fully_connected(op: Op, data: Tensor, graph: SubGraph) -> list[int]:
    weights = _input(op, 1, graph)
    needs = []
    if weights is not None:
        if weights.dtype == "int4":
            needs.append(10)
        if weights.sparsity is not None:
            needs.append(8)
        if data.dtype == "float32" and weights.dtype in ("int8", "uint8"):
            needs.append(9 if _option(op, "asymmetric_quantize_inputs") else 3)
    if _option(op, "weights_format"):
        needs.append(2)
    if _option(op, "keep_num_dims"):
        needs.append(5)
    if len(op.inputs) == 2:
        needs.append(6)
    if _option(op, "quantized_bias_type"):
        needs.append(11)
    return needs


def _transpose_conv(op: Op, data: Tensor, graph: SubGraph) -> list[int]:
    needs = []
    if _input(op, 3, graph) is not None:
        needs.append(3)
    if (_option(op, "fused_activation_function") or Activation.NONE) != Activation.NONE:
        needs.append(4)
    if _option(op, "quantized_bias_type"):
        needs.append(5)
    return needs


def _mul(op: Op, data: Tensor, graph: SubGraph) -> list[int]:
    """A product that is scaled up (s₁·s₂/s ≥ 1) came with version 3."""
    scales = []
    for i in (*op.inputs[:2], *op.outputs[:1]):
        q = graph.tensors[i].quantization if 0 <= i < len(graph.tensors) else None
        if q is None or len(q.scale) != 1:
            return []
        scales.append(float(q.scale[0]))
    return [3] if len(scales) == 3 and scales[0] * scales[1] >= scales[2] else []


def _add(op: Op, data: Tensor, graph: SubGraph) -> list[int]:
    return [5] if data.dtype == "int16" and data.quantization is None else []


def _resize(op: Op, data: Tensor, graph: SubGraph) -> list[int]:
    corners = op.code == "RESIZE_NEAREST_NEIGHBOR" and _option(op, "align_corners")
    return [3] if corners or _option(op, "half_pixel_centers") else []


def _strided_slice(op: Op, data: Tensor, graph: SubGraph) -> list[int]:
    masks = _option(op, "ellipsis_mask") or _option(op, "new_axis_mask")
    return ([6] if masks else []) + ([8] if _option(op, "offset") else [])


def _blocks(op: Op, data: Tensor, graph: SubGraph) -> list[int]:
    return [3] if len(data.shape) != 4 else []


def _gather(op: Op, data: Tensor, graph: SubGraph) -> list[int]:
    return [5] if _option(op, "batch_dims") else []


def _batch_matmul(op: Op, data: Tensor, graph: SubGraph) -> list[int]:
    return [4] if _option(op, "asymmetric_quantize_inputs") else []


def _dequantize(op: Op, data: Tensor, graph: SubGraph) -> list[int]:
    return [5] if _per_axis(data) else []


def _quantize(op: Op, data: Tensor, graph: SubGraph) -> list[int]:
    out = graph.tensors[op.outputs[0]] if op.outputs and 0 <= op.outputs[0] < len(graph.tensors) else None
    if out is None:
        return []
    return [3] if _per_axis(out) else [2] if out.dtype == "int16" else []


def _per_axis(t: Tensor) -> bool:
    return t.quantization is not None and t.quantization.per_axis


_BY_USE: Mapping[str, Callable[[Op, Tensor, SubGraph], list[int]]] = MappingProxyType(
    {
        "ADD": _add,
        "BATCH_MATMUL": _batch_matmul,
        "BATCH_TO_SPACE_ND": _blocks,
        "CONV_2D": _conv,
        "DEPTHWISE_CONV_2D": _depthwise,
        "DEQUANTIZE": _dequantize,
        "FULLY_CONNECTED": _fully_connected,
        "GATHER": _gather,
        "MUL": _mul,
        "QUANTIZE": _quantize,
        "RESIZE_BILINEAR": _resize,
        "RESIZE_NEAREST_NEIGHBOR": _resize,
        "SPACE_TO_BATCH_ND": _blocks,
        "STRIDED_SLICE": _strided_slice,
        "TRANSPOSE_CONV": _transpose_conv,
    }
)
"""Operation → what its options and its other tensors need."""
