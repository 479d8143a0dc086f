"""Making a float model ready: Graph → Graph steps that change no value, only how it is said."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.errors import QuantizeError
from edgeq.graph import Activation, Graph, Op, Signature, Tensor
from edgeq.quantize.rules import RULES
from edgeq.records import replace

Array = npt.NDArray[Any]


def fold_dequantize(graph: Graph) -> Graph:
    """Constants behind a DEQUANTIZE (float16 or integer weights) become the float32 constants that they stand for."""
    tensors = list(graph.tensors)
    ops = []
    for op in graph.ops:
        source = tensors[op.inputs[0]] if op.code == "DEQUANTIZE" else None
        if source is None or source.data is None or op.outputs[0] in graph.outputs:
            ops.append(op)
            continue
        out = tensors[op.outputs[0]]
        tensors[op.outputs[0]] = replace(out, data=real(source).reshape(out.shape), quantization=None, buffer=0)
    return graph.with_main(tensors=tuple(tensors), ops=tuple(ops))


def fold_weights(graph: Graph, but: Collection[int] = ()) -> Graph:
    """Integer weights of float layers (a dynamic-range model's) become the float32 constants that they stand for; `but`:
    operations that keep theirs. The same graph if there are none.
    """
    tensors = list(graph.tensors)
    for n, op in enumerate(graph.ops):
        rule = RULES.get(op.code)
        if n in but or rule is None or rule.weights is None or tensors[op.inputs[rule.data[0]]].dtype != "float32":
            continue
        i = op.inputs[rule.weights]
        if tensors[i].data is not None and tensors[i].dtype != "float32":
            tensors[i] = replace(tensors[i], dtype="float32", data=real(tensors[i]), quantization=None, buffer=0)
    same = all(a is b for a, b in zip(tensors, graph.tensors, strict=True))
    return graph if same else graph.with_main(tensors=tuple(tensors))


def real(tensor: Tensor) -> Array:
    """A constant's real values, float32, of its shape: scale · (q − zero_point) along its axis if it is quantized."""
    data = np.asarray(tensor.data)
    if data.dtype.kind == "f":
        return data.astype(np.float32)
    q = tensor.quantization
    if q is None or not len(q.scale):
        raise QuantizeError(f"constant {tensor.name!r} of type {tensor.dtype} has no scale to give it a real value")
    shape = [1] * data.ndim
    if len(q.scale) > 1:
        shape[q.axis] = len(q.scale)
    zero = q.zero_point if len(q.zero_point) else np.zeros(1, np.int64)
    scale = q.scale.astype(np.float64).reshape(shape)
    zero = zero.reshape(shape if len(zero) > 1 else (1,) * data.ndim)
    if (
        data.dtype.itemsize == 1 and np.abs(zero).max() < 1 << 15
    ):  # a step is a whole number of at most 16 bits, and so is exact
        few = data.astype(np.float32)
        if zero.any():
            few -= zero.astype(np.float32)
        return np.multiply(few, q.scale.astype(np.float32).reshape(shape), out=few)  # rounded once
    # In float64, and rounded once: an int32 bias has more bits than a float32. Only an int64 one may have more than a float64.
    steps = np.asarray(np.subtract(data, zero, dtype=np.int64 if data.dtype.itemsize > 4 else np.float64))  # of () too
    reals = np.multiply(scale, steps, out=steps if steps.dtype == np.float64 else None)
    return np.asarray(reals, np.float32)


_FUSES = {"RELU": Activation.RELU, "RELU6": Activation.RELU6, "RELU_N1_TO_1": Activation.RELU_N1_TO_1}
_HOSTS = ("ADD", "SUB", "MUL", "CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")


def fuse_activations(graph: Graph) -> Graph:
    """A RELU, RELU6 or RELU_N1_TO_1 that alone reads what an operation writes becomes its fused activation.

    The integer kernel then clamps as it requantizes, and no codes are spent on what the activation cuts off.
    """
    ops: list[Op | None] = list(graph.ops)
    for i, op in enumerate(graph.ops):
        if op.code not in _FUSES:
            continue
        middle = op.inputs[0]
        host = graph.main.producers().get(middle)
        if host is None or middle in graph.outputs or len(graph.main.consumers()[middle]) != 1:
            continue
        producer = ops[host]
        if producer is None or producer.code not in _HOSTS or producer.options is None:
            continue
        if producer.options.values.get("fused_activation_function", 0) != Activation.NONE:
            continue
        values = {**producer.options.values, "fused_activation_function": int(_FUSES[op.code])}
        ops[host] = replace(producer, outputs=op.outputs, options=replace(producer.options, values=values))
        ops[i] = None
    return graph.with_main(ops=tuple(op for op in ops if op is not None))


def prune(graph: Graph) -> tuple[Graph, dict[int, int]]:
    """The graph without the tensors that nothing refers to any more, and the new index of each that stays."""
    main = graph.main
    used = {*main.inputs, *main.outputs}
    for op in main.ops:
        used.update(i for i in (*op.inputs, *op.outputs, *op.intermediates) if i >= 0)
    for s in graph.signatures:
        if s.subgraph == 0:
            used.update(i for _, i in (*s.inputs, *s.outputs))
    order = sorted(used)
    place = {old: new for new, old in enumerate(order)}
    place[-1] = -1
    ops = tuple(
        replace(
            op,
            inputs=tuple(place[i] for i in op.inputs),
            outputs=tuple(place[i] for i in op.outputs),
            intermediates=tuple(place[i] for i in op.intermediates),
        )
        for op in main.ops
    )
    graph = graph.with_main(
        tensors=tuple(main.tensors[i] for i in order),
        ops=ops,
        inputs=tuple(place[i] for i in main.inputs),
        outputs=tuple(place[i] for i in main.outputs),
    )
    return replace(graph, signatures=tuple(_renumbered(s, place) for s in graph.signatures)), place


def _renumbered(signature: Signature, place: Mapping[int, int]) -> Signature:
    if signature.subgraph != 0:
        return signature
    return replace(
        signature,
        inputs=tuple((n, place[i]) for n, i in signature.inputs),
        outputs=tuple((n, place[i]) for n, i in signature.outputs),
    )
