"""A rule for each target, over the operations of a graph. Facts are in edgeq/lint/facts.py, each with its source."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from edgeq.errors import InputError
from edgeq.graph import Activation, Graph, Op, Tensor
from edgeq.lint.facts import CUSTOM, LITERT_2_3, TFLITE_2_14, TFLM, XNNPACK_BYTES, XNNPACK_FLOAT
from edgeq.quantize.rules import RULES

REFUSED, SLOW, INEXACT = "refused", "slow", "inexact"

MODEL = -1
"""Index of a remark on the model as a whole."""


@dataclass(frozen=True)
class Remark:
    """One thing that a target does with an operation: kind (refused, slow, inexact), why, and what helps."""

    index: int
    operation: str
    kind: str
    reason: str
    remedy: str


@dataclass(frozen=True)
class _Seen:
    """An operation with what rules ask about it. data: its first computed input's type; weights: None where it has none."""

    index: int
    op: Op
    graph: Graph
    name: str
    data: str
    out: str
    weights: Tensor | None

    @property
    def per_channel(self) -> bool:
        """Whether its weights have several scales."""
        w = self.weights
        return w is not None and w.dtype != "float32" and w.quantization is not None and len(w.quantization.scale) > 1

    @property
    def hybrid(self) -> bool:
        """Whether integer weights meet float activations."""
        w = self.weights
        return w is not None and w.data is not None and w.dtype in ("int8", "uint8", "int4") and self.data == "float32"

    def option(self, name: str, default: Any = None) -> Any:
        """A field of its options."""
        values = self.op.options.values if self.op.options is not None else {}
        found = values.get(name)
        return default if found is None else found

    def is_static(self, k: int) -> bool:
        """Whether input k is a constant, or left out."""
        i = self.op.inputs[k] if k < len(self.op.inputs) else -1
        return i < 0 or self.graph.tensors[i].data is not None

    def remark(self, kind: str, reason: str, remedy: str) -> Remark:
        """A remark on this operation."""
        return Remark(self.index, self.name, kind, reason, remedy)


def lint(graph: Graph, target: str) -> list[Remark]:
    """All remarks on a checked graph, in order of execution, those on the whole model first. Raises InputError for a target
    that there is none of."""
    if target not in TARGETS:
        raise InputError(f"target must be one of {', '.join(TARGETS)}, got {target!r}")
    return list(TARGETS[target](graph))


# --- the TFLite runtimes ----------------------------------------------------------------------------------------------------


def _tflite(graph: Graph) -> Iterator[Remark]:
    yield from _rounding(graph, "tflite-runtime's optimized kernels and XNNPACK")
    for seen in _each(graph):
        yield from _version(seen, TFLITE_2_14, "tflite-runtime 2.14")
        shape = graph.tensors[seen.op.outputs[0]].shape if seen.op.outputs else ()
        if seen.op.code == "MUL" and seen.data in ("int8", "uint8", "int16") and len(shape) > 4:
            yield seen.remark(
                REFUSED, "tflite-runtime 2.14 aborts the process at MUL of integers with more than four dimensions",
                "keep it float ([[scope]] op = \"MUL\", precision = \"float\" in the recipe), or reshape around it",
            )  # fmt: skip
        yield from _slow_types(seen)


def _litert(graph: Graph) -> Iterator[Remark]:
    yield from _rounding(graph, "LiteRT's default, XNNPACK,")
    for seen in _each(graph):
        yield from _version(seen, LITERT_2_3, "ai-edge-litert 2.3")
        yield from _slow_types(seen)


def _version(seen: _Seen, highest: Mapping[str, int], runtime: str) -> Iterator[Remark]:
    if seen.op.code == "CUSTOM":
        if seen.op.custom_code not in CUSTOM:
            yield seen.remark(
                REFUSED, f"{runtime} has no custom operation {seen.op.custom_code!r}",
                "register its kernel with the runtime, or convert the model without it",
            )  # fmt: skip
        return
    most = highest.get(seen.op.code, 0)
    if not most:
        yield seen.remark(REFUSED, f"{runtime} has no {seen.op.code}", "convert the model without it")
    elif seen.op.version > most:
        yield seen.remark(
            REFUSED, f"version {seen.op.version} is asked for, {runtime} knows up to {most}",
            "quantize with edgeq, which asks for the least version that the types need, or convert for an older TensorFlow",
        )  # fmt: skip


def _slow_types(seen: _Seen) -> Iterator[Remark]:
    if seen.data == "int16" and seen.weights is not None:
        yield seen.remark(
            SLOW, "int16 activations run in reference kernels, not in XNNPACK",
            "take int8 where the accuracy allows: recipe int8, or mixed, which raises only the layers that need it",
        )  # fmt: skip


def _rounding(graph: Graph, whose: str) -> Iterator[Remark]:
    if any(s.weights is not None and s.data in ("int8", "uint8") for s in _each(graph)):
        yield Remark(
            MODEL, "model", INEXACT,
            f"{whose} round integer layers otherwise than the reference kernels: a code may differ by one, a softmax by more",
            "compare in that runtime's rounding: edgeq's --rounding xnnpack (default) or tflite",
        )  # fmt: skip


# --- TFLM -------------------------------------------------------------------------------------------------------------------


def _tflm(graph: Graph) -> Iterator[Remark]:
    yield from _fixed_shapes(graph, "TFLM plans memory once")
    for seen in _each(graph):
        if seen.op.code == "CUSTOM":
            if seen.op.custom_code not in CUSTOM:
                yield seen.remark(
                    REFUSED, f"TFLM has no custom operation {seen.op.custom_code!r}", "register its kernel (AddCustom)"
                )
            continue
        if seen.op.code not in TFLM:
            yield seen.remark(REFUSED, f"TFLM registers no {seen.op.code}", "convert the model without it")
            continue
        if seen.hybrid:
            yield seen.remark(
                REFUSED, "TFLM refuses hybrid models: integer weights on float activations",
                "quantize activations too: recipe int8 or int16x8 in place of dynamic or weights",
            )  # fmt: skip
        elif seen.weights is not None and seen.data == "uint8":
            yield seen.remark(
                REFUSED, "TFLM's layers take int8, int16 and float32, not uint8", "quantize with recipe int8"
            )
        elif seen.weights is not None and seen.data == "float32":
            yield seen.remark(
                SLOW, "float32 runs in reference kernels, far slower than CMSIS-NN's int8", "quantize with recipe int8"
            )
        if seen.op.code == "FULLY_CONNECTED" and seen.per_channel and not seen.hybrid:
            yield seen.remark(
                INEXACT, "TFLM before its per-channel FULLY_CONNECTED takes the first scale for every output, without a word",
                "take a TFLM of 2024 or later, or one scale: [[scope]] op = \"FULLY_CONNECTED\", per_channel = false",
            )  # fmt: skip
        if any(graph.tensors[i].dtype == "float16" for i in seen.op.inputs if i >= 0):
            yield seen.remark(REFUSED, "TFLM has no float16", "quantize, or convert with float32 weights")


# --- XNNPACK ----------------------------------------------------------------------------------------------------------------


def _xnnpack(graph: Graph) -> Iterator[Remark]:
    yield from _rounding(graph, "XNNPACK's kernels")
    for seen in _each(graph):
        why = _not_delegated(seen)
        if why is not None:
            reason, remedy = why
            yield seen.remark(SLOW, f"XNNPACK leaves it to the runtime's own kernel: {reason}", remedy)


_LAYERS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV")
_FUSABLE = (Activation.NONE, Activation.RELU, Activation.RELU6, Activation.RELU_N1_TO_1)


def _not_delegated(seen: _Seen) -> tuple[str, str] | None:
    code, convert = seen.op.code, "nothing in the recipe: it is the model's; other engines (edgeq) run it"
    floats = seen.data == "float32" and seen.out in ("float32", "int8", "uint8")
    if not floats and seen.data not in ("int8", "uint8"):
        return f"type {seen.data}", "take int8 (recipe int8), or float32 for this operation"
    if code not in (XNNPACK_FLOAT if floats else XNNPACK_BYTES):
        helps = (
            'keep it float: [[scope]] op = "' + code + '", precision = "float"' if code in XNNPACK_FLOAT else convert
        )
        return f"{code} of {seen.data} is not in its list", helps
    if seen.hybrid and seen.weights is not None and code != "FULLY_CONNECTED":
        return "dynamic range quantization", "quantize activations too: recipe int8"
    if code in _LAYERS:
        rule = RULES[code]
        positions = [k for k in (rule.weights, rule.bias) if k is not None]
        if any(not seen.is_static(k) for k in positions):
            return "weights or bias are computed", convert
        if code in ("CONV_2D", "DEPTHWISE_CONV_2D") and (len(seen.op.inputs) < 3 or seen.op.inputs[2] < 0):
            return "it wants a bias", "give the layer a bias before converting, zeros will do"
    if seen.option("fused_activation_function", Activation.NONE) not in _FUSABLE:
        return "its fused activation", convert
    if code == "SOFTMAX" and float(seen.option("beta", 1.0)) != 1.0:
        return "a softmax of beta other than 1", convert
    if code == "CONCATENATION" and len(seen.op.inputs) > 4:
        return f"{len(seen.op.inputs)} inputs, it takes two to four", "join them in steps"
    if code == "SPLIT" and len(seen.op.outputs) > 4:
        return f"{len(seen.op.outputs)} outputs, it takes two to four", "split in steps"
    if code in ("PAD", "RESHAPE", "RESIZE_BILINEAR", "MEAN", "TRANSPOSE", "SLICE") and not seen.is_static(1):
        return "its second input is computed", "convert the model with fixed shapes"
    if code == "MEAN" and len(seen.graph.tensors[seen.op.inputs[0]].shape) != 4:
        return "its input has not four dimensions", convert
    return None


# --- an NPU that takes one scale per tensor -----------------------------------------------------------------------------------


def _npu(graph: Graph) -> Iterator[Remark]:
    yield from _fixed_shapes(graph, "such compilers want fixed shapes")
    for seen in _each(graph):
        if seen.op.code in ("QUANTIZE", "DEQUANTIZE"):
            continue
        if seen.op.code == "CUSTOM":
            yield seen.remark(REFUSED, f"custom operation {seen.op.custom_code!r}", "convert the model without it")
        elif seen.hybrid or "float" in seen.data or "float" in seen.out:
            yield seen.remark(
                REFUSED, f"it runs in {seen.data if 'float' in seen.data else seen.out}, the NPU in int8",
                "quantize with recipe int8-per-tensor; what stays float there goes to the CPU and splits the model",
            )  # fmt: skip
        elif seen.data == "int16":
            yield seen.remark(REFUSED, "int16 activations, the NPU's are int8", "quantize with recipe int8-per-tensor")
        elif seen.per_channel:
            assert seen.weights is not None
            assert seen.weights.quantization is not None
            yield seen.remark(
                REFUSED, f"weights of {len(seen.weights.quantization.scale)} scales, it takes one per tensor",
                "quantize with recipe int8-per-tensor (edgeq finetune --from int8-per-tensor wins accuracy back)",
            )  # fmt: skip


# --- what they share ----------------------------------------------------------------------------------------------------------


def _fixed_shapes(graph: Graph, why: str) -> Iterator[Remark]:
    for i in graph.inputs:
        t = graph.tensors[i]
        if t.shape_signature is not None and any(d < 0 for d in t.shape_signature[1:]):
            yield Remark(
                MODEL, "input", REFUSED, f"input {t.name!r} has a size that is not fixed, and {why}",
                "convert the model with fixed input shapes",
            )  # fmt: skip


def _each(graph: Graph) -> Iterator[_Seen]:
    for n, op in enumerate(graph.ops):
        rule = RULES.get(op.code)
        weights = None
        if (
            rule is not None
            and rule.weights is not None
            and rule.weights < len(op.inputs)
            and op.inputs[rule.weights] >= 0
        ):
            weights = graph.tensors[op.inputs[rule.weights]]
        first = rule.data[0] if rule is not None and rule.data else 0
        inputs = [i for i in op.inputs if i >= 0]
        data = op.inputs[first] if first < len(op.inputs) and op.inputs[first] >= 0 else inputs[0] if inputs else -1
        yield _Seen(
            n, op, graph, op.custom_code or op.code, graph.tensors[data].dtype if data >= 0 else "",
            graph.tensors[op.outputs[0]].dtype if op.outputs else "", weights,
        )  # fmt: skip


TARGETS: Mapping[str, Callable[[Graph], Iterator[Remark]]] = MappingProxyType(
    {
        "tflite-runtime-2.14": _tflite,
        "litert": _litert,
        "tflm": _tflm,
        "xnnpack": _xnnpack,
        "npu-per-tensor": _npu,
    }
)
"""Target → its rule; edgeq itself is edgeq.fallback.lacking's."""
