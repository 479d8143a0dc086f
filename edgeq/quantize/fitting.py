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

from collections.abc import Mapping, Sequence
from functools import cache
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.calibrate import Inputs, Progress, silent
from edgeq.feed import encode, let_go, quantmod_of
from edgeq.graph import Graph, Op
from edgeq.plan.multiplier import float_bounds
from edgeq.quantize.frontier import Frontier, Stage, gone
from edgeq.quantize.gptq import MOST, SHRINKAGE
from edgeq.quantize.gptq import rows as rows_of
from edgeq.quantize.importance import Importance
from edgeq.quantize.layout import Layout
from edgeq.quantize.moments import Moments, moments
from edgeq.quantize.parameters import Parameters
from edgeq.quantize.rewrite import refilled, rewrite
from edgeq.quantize.rounding import FINEST, Grade, layers, levelled, one_each
from edgeq.quantize.rules import RULES
from edgeq.quantize.weights import Coded
from edgeq.quantize.windows import Windows, windows
from edgeq.quantmod import QuantMod
from edgeq.records import dataclass

Array = npt.NDArray[Any]

DAMPING = 3.0
"""Of the Hessian's mean diagonal, added to it: fitted weights lean on samples more than rounded ones (see edgeq.quantize.gptq).
Chosen of 0.1, 0.3, 1, 3 and 10 on calibration samples that judge, of six models."""

COARSE_DAMPING = 0.3
"""The same where some layers have few levels or coarse steps: far more is lost there than what samples mislead to."""

OWED = 0.3
"""The same where a layer makes up for what an ADD joins with its output: that is drawn towards nothing."""

JUDGED = 1024
"""Rows that tell which scale for all channels errs least."""


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
    of: Mapping[int, Importance] = MappingProxyType({}),
) -> tuple[dict[int, Coded], dict[int, Array]]:
    """Weights and real biases (channels,) of every layer that runs in integers, with rows of up to `longest` weights.

    codes: of all layers, as they are until their turn comes; given: the grades of those that are not of the finest; kind: of
    codebooks; of: what errors of layers with one scale do to the outputs.
    """
    biases: dict[int, Array] = {}
    found = dict(codes)
    cuts = {n: _cut(graph, n, len(inputs)) for n in layers(layout) if n in layout.rules and _fits(graph, n, longest)}
    able = {n: cut for n, cut in cuts.items() if cut is not None}
    if not able:
        return found, biases
    coded = rewrite(graph, layout, parameters, codes=found)
    beside = {n: i for n in able if (i := _beside(graph, layout, n)) is not None}
    read = [i for n in able for i in (*((beside[n],) if n in beside else ()), graph.ops[n].inputs[0])]
    fed = []
    for x in inputs:
        fed.append(tuple(encode(coded.graph, x)))
        let_go(x)
    real, integer = Frontier(graph, inputs, read), Frontier(coded.graph, fed, [coded.tensors[i] for i in read])

    def transform(i: int) -> QuantMod | None:
        return quantmod_of(coded.graph.tensors[coded.tensors[i]])

    for k, (n, cut) in enumerate(able.items()):
        say(k, len(able), "fitting layers")
        op, owed = graph.ops[n], None
        if n in beside:
            ways = real.stage(), integer.stage(coded.graph)
            owed = _owed(ways, transform(beside[n]), len(inputs), _each(graph, n, len(inputs)))
        ways = real.stage(), integer.stage(coded.graph)
        judged = not one_each(layout, n, op.code) and n not in of
        damping = COARSE_DAMPING if given else DAMPING
        seen = _seen(op, cut, ways, transform(op.inputs[0]), len(inputs), judged, owed)
        found[n], bias = _layer(graph, layout, n, *seen, given.get(n, FINEST), kind, found[n], damping, of.get(n))
        if bias is not None:
            biases[n] = bias
        coded = refilled(coded, graph, layout, parameters, n, found[n], bias)
    return found, biases


def _fits(graph: Graph, n: int, longest: int) -> bool:
    op = graph.ops[n]
    if op.code not in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"):
        return False
    shape = graph.tensors[op.inputs[1]].shape
    k = int(np.prod(shape[1:3])) if op.code == "DEPTHWISE_CONV_2D" else int(np.prod(shape[1:]))
    shared = sum(op.inputs[1] in other.inputs for other in graph.ops) > 1
    return k <= longest and not shared and graph.tensors[op.inputs[0]].data is None


def _beside(graph: Graph, layout: Layout, n: int) -> int | None:
    """The tensor, computed in front of layer n, that an ADD joins with what the layer writes and nothing else reads."""
    op = graph.ops[n]
    out = op.outputs[0]
    readers = [k for k, other in enumerate(graph.ops) if out in other.inputs]
    fused = op.options is not None and op.options.values.get("fused_activation_function", 0)
    if len(readers) != 1 or out in graph.outputs or fused or op.code == "DEPTHWISE_CONV_2D":
        return None
    add = graph.ops[readers[0]]
    others = [i for i in add.inputs if i != out]
    if add.code != "ADD" or readers[0] not in layout.rules or len(others) != 1:
        return None
    t = graph.tensors[others[0]]
    there = graph.main.producers().get(others[0], n) < n and t.data is None and t.shape == graph.tensors[out].shape
    return others[0] if there else None


def _owed(ways: tuple[Stage, Stage], q: QuantMod | None, samples: int, most: int) -> Array:
    """What the integer model's tensor, codes of q, lacks of the float model's, where the layer beside it has its windows:
    (samples, windows, channels) float32.
    """

    def look(start: int, values: Sequence[Array]) -> Array:
        exact, met = (a.reshape(len(a), -1, a.shape[-1]) for a in values)
        every = -(-exact.shape[1] // most)
        exact, met = exact[:, ::every], met[:, ::every]
        return np.asarray(exact - (met if q is None else q.dequantize(met)), np.float32)

    return np.concatenate(list(gone(ways, samples, 0, look)))


def _cut(graph: Graph, n: int, samples: int) -> Windows | None:
    """The windows of layer n that a sample gives it, ROWS of all samples; None where they cannot be told."""
    op = graph.ops[n]
    return windows(op, graph.tensors[op.inputs[0]].shape, graph.tensors[op.inputs[1]].shape, _each(graph, n, samples))


def _each(graph: Graph, n: int, samples: int) -> int:
    """Rows of a sample at most."""
    positions = int(np.prod(graph.tensors[graph.ops[n].outputs[0]].shape[:-1]))
    return max(1, min(positions, rows_of(graph.ops[n]) // samples))


@dataclass(frozen=True, eq=False)
class Owed:
    """What the tensor that an ADD joins with a layer's output lacks: the layer can make up for what of it goes with its inputs.

    mean: (channels,); product: Σ(d − mean)·x̂ᵀ over the layer's rows (channels, k); rows: those d that judge, (n, channels).
    """

    mean: Array
    product: Array
    rows: Array


def _seen(
    op: Op, cut: Windows, ways: tuple[Stage, Stage], q: QuantMod | None, samples: int, judged: bool, owed: Array | None
) -> tuple[Moments, list[Array], Owed | None]:
    """What a layer meets on all samples, in the float model and in the integer one (there codes of q), and if `judged` about
    JUDGED of its rows in each: (n, k), depthwise (channels, taps, n). owed: see _owed.
    """
    depthwise = op.code == "DEPTHWISE_CONV_2D"
    every = -(-len(cut) * samples // JUDGED)
    mean = np.zeros(0) if owed is None else owed.mean(axis=(0, 1), dtype=np.float64)

    def look(start: int, values: Sequence[Array]) -> tuple[Moments, list[list[Array]], Array | None]:
        exact, met = values
        rows: list[list[Array]] = [[], []]
        for k in range(len(exact)) if judged else ():
            some = slice(-((start + k) * len(cut)) % every, None, every)
            for x, there, side in ((exact, None, rows[0]), (met, q, rows[1])):
                side.extend(cut.of(x[k : k + 1], there, some))
        both = None
        if owed is not None:
            less = (owed[start : start + len(met)] - mean.astype(np.float32)).reshape(-1, len(mean))
            both = (less.T @ cut.of(met, q).reshape(len(less), -1)).astype(np.float64)
        return moments(cut, depthwise, met, q, exact), rows, both

    whole: list[Moments] = []
    rows: tuple[list[Array], list[Array]] = ([], [])
    products: list[Array] = []
    for part, some, both in gone(
        ways, samples, 2 * cut.nbytes, look
    ):  # in order, so that it is the same on any threads
        whole = [whole[0].merged(part) if whole else part]
        for side, more in zip(rows, some, strict=True):
            side.extend(more)
        if both is not None:
            products = [products[0] + both if products else both]
    told = None if owed is None else Owed(mean, products[0], owed.reshape(-1, len(mean))[::every])
    return whole[0], [_laid_out(side, depthwise) for side in rows if side], told


def _laid_out(rows: Sequence[Array], depthwise: bool) -> Array:
    """Rows (n, taps, width) behind one another: (n, k), depthwise (channels, taps, n)."""
    whole = np.concatenate(rows)
    return np.ascontiguousarray(whole.transpose(2, 1, 0)) if depthwise else whole.reshape(len(whole), -1)


def _layer(
    graph: Graph,
    layout: Layout,
    n: int,
    seen: Moments,
    judged: Sequence[Array],
    owed: Owed | None,
    grade: Grade,
    kind: str,
    so_far: Coded,
    damping: float,
    of: Importance | None = None,
) -> tuple[Coded, Array | None]:
    """The codes of layer n and its real bias, None where it has none. judged: rows of both models (see _seen);
    owed: what the layer's output is to make up for beside; damping: of the moments.
    """
    op = graph.ops[n]
    rule = RULES[op.code]
    assert rule.weights is not None
    w = np.asarray(graph.tensors[op.inputs[rule.weights]].data)
    by_channel = np.moveaxis(w, rule.axis, 0)
    real = by_channel.reshape(len(by_channel), -1).astype(np.float64)  # (channels, k)
    depthwise = seen.h.ndim == 3
    times = len(real) // len(seen.h) if depthwise else 1
    assert seen.exact is not None
    assert seen.c is not None
    count, m, m_hat = int(seen.counts.sum()), seen.mean(seen.exact), seen.mean(seen.met)
    h, c = seen.about(seen.met, seen.h), seen.about(seen.exact, seen.c)
    k = h.shape[-1]
    diagonal = np.einsum("...ii->...i", h).mean(axis=-1)
    ridge = np.maximum((damping + SHRINKAGE * k / count) * diagonal, 1e-30)
    for products in (h, c):
        np.einsum("...ii->...i", products)[...] += ridge[..., None]
    if depthwise:
        h, c, m, m_hat = (np.repeat(a, times, axis=0) for a in (h, c, m, m_hat))
        target = np.linalg.solve(h, np.einsum("ci,cij->cj", real, c)[..., None])[..., 0]
    else:
        target = np.linalg.solve(h, (real @ c).T).T
        if owed is not None:
            less = (damping - min(OWED, damping)) * diagonal * np.eye(k)
            target = target + np.linalg.solve(h - less, owed.product.T / count).T
    del c
    has_bias = rule.bias is not None and rule.bias < len(op.inputs) and op.inputs[rule.bias] >= 0
    bias = (
        np.asarray(graph.tensors[op.inputs[rule.bias]].data, np.float64).reshape(-1)
        if has_bias and rule.bias is not None
        else np.zeros(len(real))
    )

    def moved(weights: Array) -> Array:
        """The bias that makes up for what these weights, and what is met, do to the mean."""
        more = 0.0 if owed is None else owed.mean
        return bias + more + (real * m).sum(axis=1) - (weights * m_hat).sum(axis=1) if has_bias else bias

    @cache
    def wanted() -> Array:
        exact = _through(op, judged[0], real, bias)
        return exact if owed is None else exact + owed.rows.T

    def error(weights: Array) -> float:
        return float(((_through(op, judged[1], weights, moved(weights)) - wanted()) ** 2).sum())

    coded = levelled(graph, layout, n, target, h, grade, kind, so_far, error, of)
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
        x = x if len(x) == len(w) else np.repeat(x, len(w) // len(x), axis=0)  # a copy of as much again
        y = np.matmul(w.astype(np.float32)[:, None, :], x)[:, 0]
    else:
        y = w.astype(np.float32) @ x.T
    least, most = float_bounds(op.options.values.get("fused_activation_function", 0))
    return np.asarray(np.clip(y + bias.astype(np.float32)[:, None], least, most))
