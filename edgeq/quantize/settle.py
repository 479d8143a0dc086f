"""Biases settled by measurement: each layer's mean output is moved to what the float model gives on the same samples.

Rounding and clipping move the mean of a channel by a constant that shows on a few samples, and a bias can take it off
(Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction", ICCV 2019, section 4.2; here the
means are measured on what the integer model itself computes, layer after layer, so that each correction sees those before
it). A tuned rounding offset f of Q(x) = floor(C·x + d) is the same thing: it moves every sum by (f − ½).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from edgeq.calibrate import Inputs, in_chunks
from edgeq.errors import InputError
from edgeq.feed import encode, quantmod_of
from edgeq.graph import Graph, Op
from edgeq.plan.refit import OtherLayoutError
from edgeq.quantize.canonical import fold_dequantize, fold_weights, fuse_activations, prune
from edgeq.quantize.rules import RULES
from edgeq.quantize.weights import INT32_MAX
from edgeq.records import dataclass, replace
from edgeq.teacher import check_interface
from edgeq.trim import LARGE, give_back

if TYPE_CHECKING:
    from edgeq.stepping import Forms, Stepper

Array = npt.NDArray[Any]

PASSES: Final = 16
"""Times that an integer model runs over the samples where one pass does not do: layers beyond so many are settled several at
once."""

SUMMED: Final = 1 << 16
"""Codes of 8 bits whose sum stays below 2^24."""


@dataclass(frozen=True)
class Layer:
    """A layer with weights: its operation and output tensor in the integer graph, and its output in the teacher."""

    op: int
    output: int
    wanted: int


def prepared(graph: Graph, teacher: Graph) -> Graph:
    """The teacher of an integer graph, said as the quantizer says what it quantizes, so that its layers end where those do.

    Raises InputError for one with other inputs or outputs.
    """
    check_interface(graph, teacher)
    return prune(fuse_activations(fold_weights(fold_dequantize(teacher))))[0]


def layers(coded: Graph, teacher: Graph) -> tuple[Layer, ...]:
    """The layers of the integer graph beside those of the teacher, in execution order.

    Raises InputError unless both have the same layers: as many, of the same kinds and weight shapes.
    """
    ours, theirs = _weighted(coded), _weighted(teacher)
    mine = [(coded.ops[n].code, _weights(coded, coded.ops[n])) for n in ours]
    other = [(teacher.ops[n].code, _weights(teacher, teacher.ops[n])) for n in theirs]
    if mine != other:
        where = next(
            (k for k, (a, b) in enumerate(zip(mine, other, strict=False)) if a != b), min(len(mine), len(other))
        )
        raise InputError(
            f"the teacher is of another network: it has {len(other)} layers, the model {len(mine)}, and layer {where} differs"
        )
    return tuple(
        Layer(n, coded.ops[n].outputs[0], teacher.ops[m].outputs[0]) for n, m in zip(ours, theirs, strict=True)
    )


def settle(
    coded: Graph,
    found: Sequence[Layer],
    wanted: Mapping[int, Array],
    inputs: Sequence[Inputs],
    forms: Forms | None = None,
) -> Graph:
    """The integer graph with biases that bring each layer's mean output towards the wanted one.

    wanted: by operation, (len(inputs), channels): the mean output of each channel on each of the inputs; forms: where graphs like
    this are planned.
    """
    able = [layer for layer in found if _bias(coded, layer.op) is not None and layer.op in wanted]
    fed = [tuple(encode(coded, x)) for x in inputs]
    try:
        return _walked(coded, able, wanted, fed, forms)
    except OtherLayoutError:
        pass
    at_once = -(-len(able) // PASSES) or 1
    graph = coded
    for start in range(0, len(able), at_once):
        group = able[start : start + at_once]
        means = _means(graph, group, fed)
        for layer in group:
            graph = _moved(graph, layer.op, steady(wanted[layer.op] - means[layer.op]))
    return graph


def _walked(
    coded: Graph, able: Sequence[Layer], wanted: Mapping[int, Array], fed: Sequence[Inputs], forms: Forms | None
) -> Graph:
    """As `settle`, in one pass over the samples. Raises OtherLayoutError where that does not go."""
    from edgeq.stepping import Forms, Walk

    graph, waiting = coded, {layer.output: layer for layer in able}

    def of(i: int, values: Array) -> Array:
        return channel_means(values.reshape(len(values), -1, graph.tensors[i].shape[-1]))

    walk = Walk(coded, forms or Forms(), len(fed), waiting)
    if walk.plan.constants.nbytes > LARGE:
        give_back()  # what planning it leaves, beside images side by side
    for i, mean in walk.means(fed, of):
        layer, q = waiting[i], quantmod_of(graph.tensors[i])
        real = mean if q is None else (mean - float(q.zero_point)) * float(q.scale)
        graph = _moved(graph, layer.op, steady(wanted[layer.op] - real))
        walk.change(graph, layer.op)
    return graph


def steady(errors: Array) -> Array:
    """How far to move each channel, (channels,): by its mean error, less as that differs between samples (n, channels).

    An error that is the same on every sample will be there on those to come. One that comes and goes is as likely another
    there: of m ± s, m²/(m² + s²) of m is taken off, which is the most that helps if the next sample is none of these.
    """
    mean, variance = errors.mean(axis=0), errors.var(axis=0)
    share = np.divide(mean**2, mean**2 + variance, out=np.zeros_like(mean), where=mean != 0.0)
    moved: Array = mean * share
    return moved


def _means(graph: Graph, group: Sequence[Layer], fed: Sequence[Inputs]) -> dict[int, Array]:
    """The mean output of each channel on each encoded input: (len(fed), channels), by operation."""
    met = outputs_means(graph, [layer.output for layer in group], fed)
    means = {}
    for layer in group:
        q, mean = quantmod_of(graph.tensors[layer.output]), met[layer.output]
        # The mean of codes is enough: decoding is linear.
        means[layer.op] = mean if q is None else (mean - float(q.zero_point)) * float(q.scale)
    return means


def outputs_means(graph: Graph, tensors: Sequence[int], fed: Sequence[Inputs]) -> dict[int, Array]:
    """The mean of each channel of the tensors' last axis, on each input: (len(fed), channels) float64, by tensor."""

    def look(worker: int, step: Stepper, number: int, chunk: Sequence[Inputs]) -> dict[int, Array]:
        return {
            i: channel_means(values.reshape(len(values), -1, graph.tensors[i].shape[-1]))
            for i, values in step.run(chunk)
        }

    rows = list(in_chunks(graph, fed, look, tensors))
    return {i: np.concatenate([row[i] for row in rows]) for i in tensors}


def channel_means(values: Array) -> Array:
    """(samples, positions, channels) → the mean of each channel on each sample: (samples, channels) float64. Floats may lie in
    rows: (samples, rows, positions, channels)."""
    if values.ndim == 4:
        return np.asarray(values.mean(axis=(1, 2), dtype=np.float64))
    samples, positions, channels = values.shape
    # A product with ones adds up four to ten times as fast as a mean does. Codes of 8 bits float32 adds exactly.
    kind = np.dtype(np.float64 if values.itemsize > 1 or positions > SUMMED else np.float32)
    sums: Array = np.zeros((samples, channels), kind)
    ones: Array = np.ones((1, positions), kind)
    step, rows = max(1, SUMMED // max(positions * channels, 1)), max(1, SUMMED // max(channels, 1))
    for k in range(0, samples, step):
        for start in range(0, positions, rows):
            part: Array = values[k : k + step, start : start + rows].astype(kind)
            sums[k : k + step] += (ones[:, : part.shape[1]] @ part)[:, 0]
    return sums.astype(np.float64) / positions


def _moved(graph: Graph, n: int, by: Array) -> Graph:
    """The graph with layer n's bias moved by real amounts (channels,); a shared bias becomes the layer's own."""
    at = _bias(graph, n)
    op = graph.ops[n]
    rule = RULES[op.code]
    assert at is not None
    assert rule.weights is not None
    x, w, b = graph.tensors[op.inputs[rule.data[0]]], graph.tensors[op.inputs[rule.weights]], graph.tensors[at]
    assert x.quantization is not None
    assert w.quantization is not None
    unit = float(x.quantization.scale[0]) * w.quantization.scale.astype(np.float64)
    codes = np.asarray(b.data).astype(np.int64).reshape(-1) + np.rint(by / unit).astype(np.int64)
    limit = INT32_MAX if b.dtype == "int32" else 2**46
    data = np.clip(codes, -limit, limit).astype(np.asarray(b.data).dtype).reshape(b.shape)
    tensors = list(graph.tensors)
    if len(graph.main.consumers()[at]) == 1:
        tensors[at] = replace(b, data=data, buffer=0)
        return graph.with_main(tensors=tuple(tensors))
    tensors.append(replace(b, data=data, buffer=0))
    inputs = tuple(len(tensors) - 1 if k == rule.bias else i for k, i in enumerate(op.inputs))
    ops = (*graph.ops[:n], replace(op, inputs=inputs), *graph.ops[n + 1 :])
    return graph.with_main(tensors=tuple(tensors), ops=ops)


def _weighted(graph: Graph) -> list[int]:
    """The layers whose weights are constants, in execution order."""
    out = []
    for n, op in enumerate(graph.ops):
        rule = RULES.get(op.code)
        if rule is not None and rule.weights is not None and graph.tensors[op.inputs[rule.weights]].data is not None:
            out.append(n)
    return out


def _weights(graph: Graph, op: Op) -> tuple[int, ...]:
    position = RULES[op.code].weights
    assert position is not None
    return graph.tensors[op.inputs[position]].shape


def _bias(graph: Graph, n: int) -> int | None:
    """The bias of a quantized layer, None where it has none or is not quantized per tensor at its input and output."""
    op = graph.ops[n]
    rule = RULES[op.code]
    if rule.bias is None or rule.bias >= len(op.inputs) or op.inputs[rule.bias] < 0:
        return None
    at = op.inputs[rule.bias]
    quantized = all(quantmod_of(graph.tensors[i]) is not None for i in (op.inputs[rule.data[0]], op.outputs[0]))
    t = graph.tensors[at]
    return at if quantized and t.data is not None and t.dtype in ("int32", "int64") else None
