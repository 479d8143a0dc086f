"""Which operations have an integer form in TFLite, and what that form asks of its tensors.

Source: TFLite's 8-bit quantization specification (ai.google.dev/edge/litert/models/quantization_spec) and the Prepare
functions of the kernels. There is a row for each operation whose integer form edgeq runs, since what calibrates and
judges is edgeq's engine. An operation without a row, or that misses its row's conditions, stays float between a
DEQUANTIZE and a QUANTIZE.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from edgeq.graph import Activation, Op, SubGraph
from edgeq.quantmod import QuantMod


@dataclass(frozen=True)
class Rule:
    """The integer form of one operation.

    data: positions of the inputs that are quantized like activations; () stands for all of them.
    weights, bias: positions, for operations that have them; axis: the weights' output channels.
    same_scale: every data input and every output shares one scale and zero point.
    output: the only scale and zero point that the kernel gives its output. rank: the most dimensions that it takes.
    """

    data: tuple[int, ...] = (0,)
    weights: int | None = None
    bias: int | None = None
    axis: int = 0
    same_scale: bool = False
    output: QuantMod | None = None
    rank: int = 8

    def inputs(self, op: Op) -> tuple[int, ...]:
        """Positions of the data inputs of an operation."""
        return self.data or tuple(range(len(op.inputs)))


_UNIT = QuantMod.from_tflite(1 / 256, -128, "int8")  # [0, 1)
_MOVES = Rule(same_scale=True)

RULES: Mapping[str, Rule] = MappingProxyType(
    {
        "CONV_2D": Rule(weights=1, bias=2),
        "DEPTHWISE_CONV_2D": Rule(weights=1, bias=2, axis=3),
        "FULLY_CONNECTED": Rule(weights=1, bias=2),
        "TRANSPOSE_CONV": Rule(data=(2,), weights=1, bias=3),
        "ADD": Rule(data=(0, 1)),
        "SUB": Rule(data=(0, 1)),
        "MUL": Rule(data=(0, 1), rank=4),  # tflite-runtime 2.14 aborts the process at a fifth dimension
        "MEAN": Rule(),
        "RELU": Rule(),
        "RELU6": Rule(),
        "LEAKY_RELU": Rule(),
        "SOFTMAX": Rule(output=_UNIT),
        "AVERAGE_POOL_2D": _MOVES,
        "MAX_POOL_2D": _MOVES,
        "CONCATENATION": Rule(data=(), same_scale=True),
        "EXPAND_DIMS": _MOVES,
        "MAXIMUM": Rule(data=(0, 1), same_scale=True),
        "MINIMUM": Rule(data=(0, 1), same_scale=True),
        "PAD": _MOVES,
        "RESHAPE": _MOVES,
        "SQUEEZE": _MOVES,
        "STRIDED_SLICE": _MOVES,
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
