"""Layers fitted one after another to what they meet in the integer model.

A layer of the integer model reads x̂, with all that rounding upstream has done to it, and should write what the float
layer writes of the float x. With moments about the means m̂, m over rows of both, H = E[(x̂ − m̂)(x̂ − m̂)ᵀ] and
C = E[(x − m)(x̂ − m̂)ᵀ], the real weights that do so best are

    W' = (W·C + λ·W)·(H + λ·I)⁻¹,

drawn towards W by λ the more the fewer rows there are (least squares with the float model's own answers as targets: the
asymmetric reconstruction of Nagel et al., "Up or Down? Adaptive Rounding", ICML 2020, section 3.3, solved in closed form
as in Li et al., "GPTAQ", 2025). W' is rounded under H (edgeq.quantize.gptq), and the bias becomes b + W·m − Ŵ·m̂: bias
correction on quantized inputs, in order (Nagel et al. 2019, section 4.2). Layers are gone through in the order of
execution, each after the integer model has been run with those before it as they have become.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from edgeq.calibrate import Inputs, Progress, in_chunks, silent
from edgeq.feed import encode, quantmod_of
from edgeq.graph import Activation, Graph, Op
from edgeq.quantize.gptq import MOST, ROWS, SHRINKAGE
from edgeq.quantize.layout import Layout
from edgeq.quantize.parameters import Parameters
from edgeq.quantize.rewrite import rewrite
from edgeq.quantize.rounding import FINEST, Grade, layers, levelled, one_each
from edgeq.quantize.rules import RULES
from edgeq.quantize.weights import Coded
from edgeq.quantize.windows import rows
from edgeq.records import replace

if TYPE_CHECKING:
    from edgeq.stepping import Stepper

Array = npt.NDArray[Any]

DAMPING = 0.3
"""Of the Hessian's mean diagonal, added to it (see edgeq.quantize.gptq; chosen likewise): fitted weights lean on samples more
than rounded ones."""

JUDGED = 1024
"""Rows that tell which scale for all channels errs least."""

_ENDS = {Activation.RELU: (0.0, np.inf), Activation.RELU6: (0.0, 6.0), Activation.RELU_N1_TO_1: (-1.0, 1.0)}

HELD_BYTES = 32 << 20
"""Of float rows that wait for their layers."""


def fitted(
    graph: Graph,
    layout: Layout,
    parameters: Parameters,
    codes: Mapping[int, Coded],
    inputs: Sequence[Inputs],
    given: Mapping[int, Grade],
    kind: str,
    say: Progress = silent,
    longest: int = MOST,
) -> tuple[dict[int, Coded], dict[int, Array]]:
    """Weights and real biases (channels,) of every layer that runs in integers, with rows of up to `longest` weights.

    codes: of all layers, as they are until their turn comes; given: the grades of those that are not of the finest; kind: of
    codebooks.
    """
    biases: dict[int, Array] = {}
    found = dict(codes)
    able = [n for n in layers(layout) if n in layout.rules and _fits(graph, n, longest)]
    done = 0
    fed: list[Inputs] = []
    for group in _groups(graph, able, len(inputs)):
        exact = _rows(graph, {n: graph.ops[n].inputs[0] for n in group}, graph, group, inputs)
        for n in group:
            say(done, len(able), "fitting layers")
            done += 1
            coded = rewrite(graph, layout, parameters, codes=found, biases=biases)
            at = coded.tensors[graph.ops[n].inputs[0]]
            fed = fed or [tuple(encode(coded.graph, x)) for x in inputs]  # what feeds the model is not fitted
            met = _rows(_until(coded.graph, at), {n: at}, graph, [n], fed)
            if n in exact and n in met:
                both = exact.pop(n), met.pop(n)
                found[n], bias = _layer(graph, layout, n, *both, given.get(n, FINEST), kind, found[n])
                del both
                if bias is not None:
                    biases[n] = bias
    return found, biases


def _until(graph: Graph, tensor: int) -> Graph:
    """The graph as far as a tensor."""
    last = graph.main.producers().get(tensor, -1)
    return replace(graph.with_main(ops=graph.ops[: last + 1], outputs=(tensor,)), signatures=())


def _fits(graph: Graph, n: int, longest: int) -> bool:
    op = graph.ops[n]
    if op.code not in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"):
        return False
    shape = graph.tensors[op.inputs[1]].shape
    k = int(np.prod(shape[1:3])) if op.code == "DEPTHWISE_CONV_2D" else int(np.prod(shape[1:]))
    shared = sum(op.inputs[1] in other.inputs for other in graph.ops) > 1
    return k <= longest and not shared and graph.tensors[op.inputs[0]].data is None


def _each(graph: Graph, n: int, samples: int) -> int:
    """Rows that a sample gives layer n."""
    positions = int(np.prod(graph.tensors[graph.ops[n].outputs[0]].shape[:-1]))
    return max(1, min(positions, ROWS // samples))


def _groups(graph: Graph, able: Sequence[int], samples: int) -> Iterator[list[int]]:
    """Layers whose float rows fit in HELD_BYTES together."""
    group: list[int] = []
    held = 0
    for n in able:
        shape = graph.tensors[graph.ops[n].inputs[1]].shape
        size = 4 * samples * _each(graph, n, samples) * int(np.prod(shape[1:]))
        if group and held + size > HELD_BYTES:
            yield group
            group, held = [], 0
        group.append(n)
        held += size
    if group:
        yield group


def _rows(
    run: Graph, places: Mapping[int, int], graph: Graph, wanted: Sequence[int], inputs: Sequence[Inputs]
) -> dict[int, Array]:
    """The rows that layers meet when `run` runs: (n, k), depthwise (channels, taps, n); places: their inputs in it."""
    readers: dict[int, list[int]] = {}
    for n in wanted:
        readers.setdefault(places[n], []).append(n)

    def look(worker: int, step: Stepper, number: int, chunk: Sequence[Inputs]) -> list[tuple[int, Array]]:
        found = []
        for i, values in step.run(chunk):
            q = quantmod_of(run.tensors[i])
            for n in readers[i]:
                op = graph.ops[n]
                for x in values:
                    x = x.reshape(graph.tensors[op.inputs[0]].shape)
                    r = rows(
                        op,
                        x if q is None else q.dequantize(x),
                        graph.tensors[op.inputs[1]].shape,
                        _each(graph, n, len(inputs)),
                    )
                    if r is not None:
                        found.append((n, np.ascontiguousarray(r.transpose(2, 1, 0)) if r.ndim == 3 else r))
        return found

    out: dict[int, Array] = {}
    filled = dict.fromkeys(wanted, 0)
    for pieces in in_chunks(run, inputs, look, list(readers)):
        for n, r in pieces:  # as many of each sample
            along = 2 if r.ndim == 3 else 0
            if n not in out:
                shape = [len(inputs) * d if k == along else d for k, d in enumerate(r.shape)]
                out[n] = np.empty(shape, np.float32)
            start, filled[n] = filled[n], filled[n] + r.shape[along]
            some = slice(start, filled[n])
            out[n][(..., some) if along else some] = r
    return out


def _layer(
    graph: Graph, layout: Layout, n: int, exact: Array, met: Array, grade: Grade, kind: str, so_far: Coded
) -> tuple[Coded, Array | None]:
    """The codes of layer n and its real bias, None where it has none. exact, met: its rows (see _rows), which it works in."""
    op = graph.ops[n]
    rule = RULES[op.code]
    assert rule.weights is not None
    w = np.asarray(graph.tensors[op.inputs[rule.weights]].data)
    by_channel = np.moveaxis(w, rule.axis, 0)
    real = by_channel.reshape(len(by_channel), -1).astype(np.float64)  # (channels, k)
    depthwise = exact.ndim == 3
    along, times = (-1, len(real) // len(exact)) if depthwise else (0, 1)
    count = exact.shape[along]
    some, looked_at = slice(None, None, -(-count // JUDGED)), not one_each(layout, n, op.code)
    judged = [np.ascontiguousarray(r[..., some] if depthwise else r[some]) for r in (exact, met) if looked_at]
    m, m_hat = exact.mean(axis=along, dtype=np.float64), met.mean(axis=along, dtype=np.float64)
    exact -= np.expand_dims(m.astype(np.float32), along)
    met -= np.expand_dims(m_hat.astype(np.float32), along)
    columns, columns_hat = (exact, met) if depthwise else (exact.T, met.T)
    h = np.matmul(columns_hat, columns_hat.swapaxes(-1, -2)).astype(np.float64) / count
    c = np.matmul(columns, columns_hat.swapaxes(-1, -2)).astype(np.float64) / count
    k = h.shape[-1]
    diagonal = np.einsum("...ii->...i", h).mean(axis=-1)
    ridge = np.maximum((DAMPING + SHRINKAGE * k / count) * diagonal, 1e-30)
    regular = ridge[..., None, None] * np.eye(k)
    h, c = h + regular, c + regular
    if depthwise:
        h, c, m, m_hat = (np.repeat(a, times, axis=0) for a in (h, c, m, m_hat))
        target = np.linalg.solve(h, np.einsum("ci,cij->cj", real, c)[..., None])[..., 0]
    else:
        target = np.linalg.solve(h, (real @ c).T).T
    has_bias = rule.bias is not None and rule.bias < len(op.inputs) and op.inputs[rule.bias] >= 0
    bias = (
        np.asarray(graph.tensors[op.inputs[rule.bias]].data, np.float64).reshape(-1)
        if has_bias and rule.bias is not None
        else np.zeros(len(real))
    )

    def moved(weights: Array) -> Array:
        """The bias that makes up for what these weights, and what is met, do to the mean."""
        return bias + (real * m).sum(axis=1) - (weights * m_hat).sum(axis=1) if has_bias else bias

    @cache
    def wanted() -> Array:
        return _through(op, judged[0], real, bias)

    def error(weights: Array) -> float:
        return float(((_through(op, judged[1], weights, moved(weights)) - wanted()) ** 2).sum())

    coded = levelled(graph, layout, n, target, h, grade, kind, so_far, error)
    if not has_bias:
        return coded, None
    codes = np.moveaxis(coded.data, rule.axis, 0).reshape(len(real), -1).astype(np.float64)
    return coded, moved(codes * coded.scale.astype(np.float64)[:, None]).astype(np.float32)


def _through(op: Op, x: Array, w: Array, bias: Array) -> Array:
    """What a layer writes for rows x (n, k), or (channels, taps, n): (channels, n).

    Its activation is included: a RELU6 hides what lies beyond it (Nagel et al. 2020, equation 25).
    """
    assert op.options is not None
    if x.ndim == 3:
        x = np.repeat(x, len(w) // len(x), axis=0)
        y = np.matmul(w.astype(np.float32)[:, None, :], x)[:, 0]
    else:
        y = w.astype(np.float32) @ x.T
    least, most = _ENDS.get(op.options.values.get("fused_activation_function", 0), (-np.inf, np.inf))
    return np.asarray(np.clip(y + bias.astype(np.float32)[:, None], least, most))
