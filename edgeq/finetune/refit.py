"""Layers of the student fitted in closed form, one after another, before it learns.

Few samples teach little when only their answers are looked at; but each position of a feature map is a row from which a layer
can learn what it should write, and a few hundred pictures are a hundred thousand rows. A layer of the student reads x̂ and should
write Y, what the float layer writes of the float x. The real weights that do so best,

    T = (E[(Y − ȳ)(x̂ − m̂)ᵀ] + λ·W)·(H + λ·I)⁻¹,    H = E[(x̂ − m̂)(x̂ − m̂)ᵀ],

drawn towards the float weights W, are what its codes and levels then come near to (descent.py), in a metric that knows what the
answers make of errors here (curvature.py; Li et al., "BRECQ", ICLR 2021). `edgeq quantize` fits a layer likewise, but rounds
once, column by column, to levels that were found before; here weights go back and forth, levels with them. The bias becomes
ȳ − Ŵ·m̂.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import gcd

import numpy as np

from edgeq.finetune.curvature import Curved
from edgeq.finetune.descent import descended, levelled
from edgeq.finetune.layers import Layer
from edgeq.finetune.slopes import Slope, pulled
from edgeq.finetune.student import Parameters, Student
from edgeq.finetune.walk import Walk
from edgeq.graph import Activation, Array, Graph, Op
from edgeq.quantize.rules import RULES
from edgeq.quantize.windows import rows
from edgeq.records import dataclass

ROWS = 16384
"""Rows that a layer is fitted on."""

DAMPING, SHRINKAGE = 0.1, 0.25
"""λ in means of H's diagonal, and what k/n rows of k weights add to it."""

_SMALL_PRIMES, _WIDE = 2 * 3 * 5 * 7, 16

MOST = 2304
"""Weights of a row beyond which H would be too large."""

FITTED = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")


@dataclass(frozen=True, eq=False)
class Fit:
    """What a layer is to write, and from what. h: (k, k), depthwise (channels, k, k), damped; target: T (channels, k); read,
    wanted: means (k,) or (channels, k), and (channels,)."""

    h: Array
    target: Array
    read: Array
    wanted: Array

    def bias(self, weights: Array) -> Array:
        """(channels,) that makes up for what these weights (channels, k) do to the mean."""
        return np.asarray(self.wanted - (weights * self.read).sum(axis=1))


def fittable(student: Student) -> tuple[Layer, ...]:
    """The layers that can be fitted: with codes, a bias, and a float counterpart."""
    weights = [y.weights for y in student.layers]
    return tuple(
        y
        for y in student.layers
        if y.op in student.counterparts
        and y.coded
        and y.bias is not None
        and weights.count(y.weights) == 1
        and student.real.ops[y.op].code in FITTED
        and _row(student, y) <= MOST
    )


def scarcest(student: Student) -> int:
    """Of the layers of `fittable`, the most weights of a row to a row that a sample gives."""
    found = [1]
    for y in fittable(student):
        out = student.real.tensors[student.real.ops[y.op].outputs[0]]
        found.append(_row(student, y) * out.shape[-1] // max(out.size, 1))
    return max(found)


def refitted(
    student: Student,
    teacher: Graph,
    at: Parameters,
    inputs: Sequence[Array],
    piece: int,
    curvature: Mapping[int, Curved],
    slopes: Mapping[int, Slope],
    advance: Callable[[], object] = lambda: None,
) -> Parameters:
    """The parameters with every layer of `fittable` fitted, on `inputs` (n, …) in the order of the graph's. curvature,
    slopes: of layers' outputs and weights, by operation, where they are known; advance: called after each layer."""
    out = dict(at)
    goals = tuple(student.targets)
    theirs = Walk(teacher, _targets(student, teacher), dict(zip(teacher.inputs, inputs, strict=True)), piece, _plain)
    ours = Walk(
        student.real,
        goals,
        dict(zip(student.start.inputs, inputs, strict=True)),
        piece,
        lambda i, v: student.coded(i, v, out),
    )
    for y in fittable(student):
        n = student.counterparts[y.op]
        theirs.until(n, {})
        ours.until(y.op, student.constants(out))
        fit = _fit(student, teacher, y, theirs.values, ours.values)
        if fit is not None:
            out = _placed(student, y, out, fit, curvature.get(y.op), slopes.get(y.op))
        advance()
    return out


def _plain(i: int, v: Array) -> Array:
    return v


def _targets(student: Student, teacher: Graph) -> tuple[int, ...]:
    """What has to be computed for all counterparts' inputs to be known."""
    return tuple(teacher.ops[n].outputs[0] for n in student.counterparts.values())


def _row(student: Student, y: Layer) -> int:
    shape = student.start.tensors[y.weights].shape
    depthwise = student.real.ops[y.op].code == "DEPTHWISE_CONV_2D"
    return int(np.prod(shape[1:3])) if depthwise else int(np.prod(shape[1:]))


def _fit(
    student: Student, teacher: Graph, y: Layer, theirs: Mapping[int, Array], ours: Mapping[int, Array]
) -> Fit | None:
    op, top = student.real.ops[y.op], teacher.ops[student.counterparts[y.op]]
    exact, met = _rows(teacher, top, theirs), _rows(student.real, op, ours)
    if exact is None or met is None or len(exact) != len(met) or len(met) < 2:
        return None
    rule = RULES[top.code]
    assert rule.weights is not None
    w = np.asarray(teacher.tensors[top.inputs[rule.weights]].data, np.float32)
    w = np.moveaxis(w, rule.axis, 0).reshape(w.shape[rule.axis], -1)
    bias = np.zeros(len(w))
    if rule.bias is not None and rule.bias < len(top.inputs) and top.inputs[rule.bias] >= 0:
        bias = np.asarray(teacher.tensors[top.inputs[rule.bias]].data, np.float64).reshape(-1)
    if met.ndim == 3:  # (n, taps, in_c), an input channel's for each of its outputs
        times = len(w) // met.shape[2]
        x, x_hat = (np.ascontiguousarray(a.transpose(2, 1, 0)) for a in (exact, met))
        if times > 1:
            x, x_hat = np.repeat(x, times, axis=0), np.repeat(x_hat, times, axis=0)
        y_ = np.matmul(w[:, None, :], x)[:, 0]
    else:
        x_hat = met.T
        y_ = w @ exact.T
    more = _beside(student, teacher, y, theirs, ours, len(met))
    if more is not None:
        y_ += more.T
    read, mean = x_hat.mean(axis=-1, dtype=np.float64), y_.mean(axis=1, dtype=np.float64)
    x_hat = x_hat - read[..., None].astype(np.float32)
    y_ -= mean[:, None].astype(np.float32)
    count = len(met)
    h = np.matmul(x_hat, x_hat.swapaxes(-1, -2)).astype(np.float64) / count
    both = np.matmul(x_hat, y_[..., None])[..., 0] if met.ndim == 3 else y_ @ x_hat.T
    k = h.shape[-1]
    ridge = (DAMPING + SHRINKAGE * k / count) * np.einsum("...jj->...j", h).mean(axis=-1)
    ridge = np.maximum(ridge, 1e-30)
    h = h + ridge[..., None, None] * np.eye(k)
    right = both.astype(np.float64) / count + ridge[..., None] * w
    target = np.linalg.solve(h, right[..., None])[..., 0] if met.ndim == 3 else np.linalg.solve(h, right.T).T
    return Fit(h, target, read, mean + bias)


def _rows(graph: Graph, op: Op, values: Mapping[int, Array]) -> Array | None:
    """What the layer meets, ROWS of it, evenly spread; its data are input 0."""
    x, out = values[op.inputs[0]], graph.tensors[op.outputs[0]]
    count = len(x) // max(1, graph.tensors[op.inputs[0]].shape[0]) * out.size // out.shape[-1]
    x = x.reshape(-1, *graph.tensors[op.inputs[0]].shape[1:])
    return rows(op, x, graph.tensors[op.inputs[1]].shape, -(-count // every(count, out.size // out.shape[-1])))


def every(count: int, positions: int = 1) -> int:
    """Which of so many rows are looked at: each so many-th, for ROWS at most; a number that shares no factor with how many
    `positions` a sample has, or the same few of them would stand for all."""
    step = -(-count // ROWS)
    while step > 1 and gcd(step, positions * (_SMALL_PRIMES if step > _WIDE else 2)) > 1:
        step += 1
    return step


def _beside(
    student: Student, teacher: Graph, y: Layer, theirs: Mapping[int, Array], ours: Mapping[int, Array], count: int
) -> Array | None:
    """(count, channels): what the other summand lacks, where all that the layer writes is added to what is computed already."""
    found = []
    for graph, n, values in (
        (teacher, student.counterparts[y.op], theirs),
        (student.real, y.op, ours),
    ):
        (out,) = graph.ops[n].outputs[:1]
        readers = graph.main.consumers().get(out, [])
        op = graph.ops[readers[0]] if len(readers) == 1 and out not in graph.outputs else None
        if op is None or op.code != "ADD" or _activation(graph.ops[n]) != Activation.NONE:
            return None
        other = op.inputs[1 - op.inputs.index(out)]
        if other not in values or other == out or graph.tensors[other].shape != graph.tensors[out].shape:
            return None
        found.append(values[other].reshape(-1, values[other].shape[-1]))
    lacking = found[0] - found[1]
    written = student.real.tensors[student.real.ops[y.op].outputs[0]]
    spread: Array = lacking[:: every(len(lacking), written.size // written.shape[-1])]
    return spread if len(spread) == count else None


def _activation(op: Op) -> int:
    values = op.options.values if op.options is not None else {}
    return int(values.get("fused_activation_function") or 0)


def _placed(
    student: Student, y: Layer, at: Parameters, fit: Fit, curved: Curved | None, slope: Slope | None
) -> dict[str, Array]:
    """The parameters with this layer's codes, levels and bias fitted."""
    step, codes, book = student.layer(y, at)
    target, g = fit.target, None
    if curved is not None and slope is not None:
        target = pulled(target, codes * step[:, None], fit.h, fit.read, slope, curved)
    target = target / step[:, None]
    if curved is not None and fit.h.ndim == 2:
        g = curved.shape * (step[:, None] * step)
        g = g / np.diag(g).mean()
    levels = None
    if book is not None and fit.h.ndim == 2:
        codes, levels = levelled(codes, target, fit.h, np.rint(book.levels), book.book, g)
    elif book is None:
        codes = descended(codes, target, fit.h, None, g)
    return student.placed(y, at, codes, levels, fit.bias(codes * step[:, None]))
