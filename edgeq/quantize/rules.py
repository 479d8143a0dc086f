"""Which operations have an integer form in TFLite, and what that form asks of its tensors.

Source: TFLite's 8-bit quantization specification (ai.google.dev/edge/litert/models/quantization_spec) and the Prepare
functions of the kernels. There is a row for each operation whose integer form edgeq runs, since what calibrates and
judges is edgeq's engine. An operation without a row, or that misses its row's conditions, stays float between a
DEQUANTIZE and a QUANTIZE.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np

from edgeq.graph import Activation, Op, SubGraph, Tensor
from edgeq.quantmod import QuantMod
from edgeq.records import dataclass


@dataclass(frozen=True)
class Rule:
    """The integer form of one operation.

    data: positions of the inputs that are quantized like activations; () stands for all of them.
    weights, bias: positions, for operations that have them; axis: the weights' output channels.
    same_scale: every data input and every output shares one scale and zero point.
    output: the only scale and zero point that the kernel gives its output. rank: the most dimensions that it takes.
    wide: whether there is an int16 form too; wide_output: the only scale that its kernel gives its output. asked: ask the
    engine whether it runs the integer form of the operation at hand, since it does not run all that TFLite has.
    """

    data: tuple[int, ...] = (0,)
    weights: int | None = None
    bias: int | None = None
    axis: int = 0
    same_scale: bool = False
    output: QuantMod | None = None
    rank: int = 8
    wide: bool = True
    wide_output: QuantMod | None = None
    asked: bool = False

    def prescribed(self, dtype: str) -> QuantMod | None:
        """The only scale and zero point that the kernel of this dtype gives its output."""
        return self.output if dtype == "int8" else self.wide_output

    def inputs(self, op: Op) -> tuple[int, ...]:
        """Positions of the data inputs of an operation."""
        return self.data or tuple(range(len(op.inputs)))


_UNIT = QuantMod.from_tflite(1 / 256, -128, "int8")  # [0, 1)
_SIGNED_UNIT = QuantMod.from_tflite(1 / 128, 0, "int8")  # [−1, 1)
_WIDE_UNIT = QuantMod.from_tflite(1 / 32768, 0, "int16", p=65536)  # [−1, 1)
_MOVES = Rule(same_scale=True)
_NARROW_MOVES = Rule(same_scale=True, wide=False, asked=True)

RULES: Mapping[str, Rule] = MappingProxyType(
    {
        "CONV_2D": Rule(weights=1, bias=2),
        "DEPTHWISE_CONV_2D": Rule(weights=1, bias=2, axis=3),
        "FULLY_CONNECTED": Rule(weights=1, bias=2),
        "TRANSPOSE_CONV": Rule(data=(2,), weights=1, bias=3),
        "ADD": Rule(data=(0, 1)),
        "SUB": Rule(data=(0, 1)),
        "MUL": Rule(data=(0, 1), rank=4),  # tflite-runtime 2.14 aborts the process at a fifth dimension
        "SQUARED_DIFFERENCE": Rule(data=(0, 1), rank=4, wide=False),
        "BATCH_MATMUL": Rule(data=(0, 1), asked=True),
        "MEAN": Rule(),
        "SUM": Rule(wide=False, asked=True),
        "RELU": Rule(),
        "RELU6": Rule(),
        "RELU_N1_TO_1": Rule(wide=False),
        "LEAKY_RELU": Rule(),
        "PRELU": Rule(data=(0, 1), rank=4, wide=False),
        "HARD_SWISH": Rule(wide=False),
        "GELU": Rule(wide=False, asked=True),
        "ELU": Rule(wide=False, asked=True),
        "EXP": Rule(wide=False, asked=True),
        "RSQRT": Rule(wide=False, asked=True),
        "LOGISTIC": Rule(output=_UNIT, wide_output=_WIDE_UNIT),
        "TANH": Rule(output=_SIGNED_UNIT, wide_output=_WIDE_UNIT),
        "SOFTMAX": Rule(output=_UNIT, wide_output=_WIDE_UNIT),
        "LOG_SOFTMAX": Rule(output=QuantMod.from_tflite(16 / 256, 127, "int8"), wide=False, asked=True),
        "L2_NORMALIZATION": Rule(output=_SIGNED_UNIT, wide=False, asked=True),
        "AVERAGE_POOL_2D": _MOVES,
        "MAX_POOL_2D": _MOVES,
        "CONCATENATION": Rule(data=(), same_scale=True),
        "PACK": Rule(data=(), same_scale=True),
        "EXPAND_DIMS": _MOVES,
        "MAXIMUM": Rule(data=(0, 1), same_scale=True),
        "MINIMUM": Rule(data=(0, 1), same_scale=True),
        "PAD": _MOVES,
        "PADV2": Rule(data=(0, 2), same_scale=True, asked=True),
        "MIRROR_PAD": _NARROW_MOVES,
        "RESHAPE": _MOVES,
        "SQUEEZE": _MOVES,
        "STRIDED_SLICE": _MOVES,
        "SLICE": _MOVES,
        "SPLIT": Rule(data=(1,), same_scale=True),
        "SPLIT_V": _NARROW_MOVES,
        "UNPACK": _MOVES,
        "TRANSPOSE": _MOVES,
        "GATHER": Rule(same_scale=True, wide=False),
        "RESIZE_BILINEAR": _MOVES,
        "RESIZE_NEAREST_NEIGHBOR": _MOVES,
        "SPACE_TO_DEPTH": _NARROW_MOVES,
        "DEPTH_TO_SPACE": _NARROW_MOVES,
        "SPACE_TO_BATCH_ND": _NARROW_MOVES,
        "BATCH_TO_SPACE_ND": _NARROW_MOVES,
        "SELECT_V2": Rule(data=(1, 2), same_scale=True, rank=4, wide=False, asked=True),
        "REDUCE_MAX": _NARROW_MOVES,
        "REDUCE_MIN": _NARROW_MOVES,
        # Only in graphs that are quantized already: the way from one scale to another.
        "QUANTIZE": Rule(),
    }
)

_FUSABLE = (Activation.NONE, Activation.RELU, Activation.RELU6, Activation.RELU_N1_TO_1)


def rule_for(op: Op, graph: SubGraph) -> Rule | None:
    """The rule of an operation on float32 tensors, None where it has no integer form as it stands."""
    rule = RULES.get(op.code)
    if rule is None or op.code == "QUANTIZE":
        return None
    values = op.options.values if op.options is not None else {}
    if values.get("fused_activation_function", Activation.NONE) not in _FUSABLE:
        return None
    if values.get("weights_format"):  # FULLY_CONNECTED's shuffled weights have no per-channel kernel
        return None
    real = [op.inputs[k] for k in rule.inputs(op) if k < len(op.inputs)] + list(op.outputs)
    if any(i < 0 or graph.tensors[i].dtype != "float32" or graph.tensors[i].is_variable for i in real):
        return None
    if any(len(graph.tensors[i].shape) > rule.rank for i in real):
        return None
    constants = (graph.tensors[i].data for i in real)
    if any(data is not None and not np.isfinite(data).all() for data in constants):  # the least of x and ∞ has no code
        return None
    if rule.weights is not None and not _is_real_constant(op, rule.weights, graph):
        return None
    has_bias = rule.bias is not None and rule.bias < len(op.inputs) and op.inputs[rule.bias] >= 0
    if has_bias and not _is_real_constant(op, rule.bias, graph):
        return None
    return rule


def _is_real_constant(op: Op, position: int | None, graph: SubGraph) -> bool:
    if position is None or position >= len(op.inputs) or op.inputs[position] < 0:
        return False
    t = graph.tensors[op.inputs[position]]
    return t.data is not None and t.dtype == "float32"


def hybrid_kernel(op: Op, tensors: tuple[Tensor, ...]) -> bool:
    """Whether every runtime quantizes the input of this operation by itself when its weights are int8."""
    if op.code == "FULLY_CONNECTED":
        return True
    x, w = (tensors[i] for i in op.inputs[:2])
    return op.code == "CONV_2D" and w.shape[3] == x.shape[3]
