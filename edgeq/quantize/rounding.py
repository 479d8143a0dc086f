"""The weights of a layer as codes, rounded with regard to the layer's inputs, or to a codebook."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from edgeq.codebooks import NARROWED
from edgeq.graph import Graph
from edgeq.quantize import codebook, gptq, grid
from edgeq.quantize.layout import Layout
from edgeq.quantize.rules import RULES, Rule
from edgeq.quantize.weights import Coded, quantize_weights
from edgeq.records import dataclass

if TYPE_CHECKING:
    from edgeq.quantize.importance import Importance

Array = npt.NDArray[Any]

SPARED = 0.03
"""Of all weights that would get a codebook: the smallest layers keep all codes as long as they are not more than this. The
first layer, the last and a bottleneck are small, and what is lost there is lost for all.
"""


SHARES = (1.0, 0.92, 0.84, 0.76, 0.68, 0.6, 0.5, *(0.4 * 0.8**k for k in range(16)))
"""Of the scale of a layer's largest weight, that are tried for all channels together."""

ROUNDED = 2
"""Of them, those with the least error of the nearest codes, at which weights are rounded under a Hessian."""

ALIKE = 4
"""Of them, those that are told apart by more than their errors' own squares, in large layers."""

LARGE = 1 << 20
"""Products, for an error of all rows of a layer, beyond which its scale is sought by the squares first."""

GIVEN_UP = 4.0
"""Times the least cost, beyond which a smaller scale is not looked for."""


@dataclass(frozen=True)
class Grade:
    """How finely the weights of a layer are coded.

    levels: of a codebook, 0 for none; step: of the scale, in steps that use all of int8. A step of 4 leaves codes of ±31,
    which an entropy code stores in fewer bits.
    """

    levels: int = 0
    step: float = 1.0


FINEST = Grade()


def grades(graph: Graph, layout: Layout) -> dict[int, Grade]:
    """What the layout says of those layers that are not of the finest grade."""
    return {n: Grade(layout.treatments[n].levels) for n in codebook_layers(graph, layout)}


def layers(layout: Layout) -> list[int]:
    """The operations whose weights are going to be codes."""
    return [n for n in layout.treatments if n in layout.stored or n in layout.rules]


def codebook_layers(graph: Graph, layout: Layout) -> frozenset[int]:
    """The layers whose weights get few levels: not depthwise ones, whose rows are too short for that, nor the smallest."""
    sizes = {
        n: graph.tensors[graph.ops[n].inputs[RULES[graph.ops[n].code].weights or 0]].size
        for n in layers(layout)
        if layout.treatments[n].levels and graph.ops[n].code != "DEPTHWISE_CONV_2D"
    }
    left = SPARED * sum(sizes.values())
    taken = set(sizes)
    for n in sorted(sizes, key=lambda n: (sizes[n], n)):
        left -= sizes[n]
        if left < 0:
            break
        taken.discard(n)
    return frozenset(taken)


def plain(graph: Graph, layout: Layout, n: int) -> Coded:
    """The weights of layer n, each at the nearest code; of the grid they lie on (edgeq.quantize.grid) where that errs less."""
    rule, w = _weights(graph, n)
    near = quantize_weights(w, rule.axis, None, 1.0, 1.0, one_each(layout, n, graph.ops[n].code))[0]
    real = _by_channel(w, rule.axis).astype(np.float64)
    at = _grids(real, near.scale)
    if at is None:
        return near
    best = _less(real, (_by_channel(near.data, rule.axis), near.scale), (_nearest(real, at), at), None)
    return _laid_out(graph, n, best, FINEST, near.axis)


def one_each(layout: Layout, n: int, code: str) -> bool:
    """Whether the weights of layer n have a scale per channel."""
    if layout.stored.get(n) == "dynamic" and code == "FULLY_CONNECTED":
        return False
    return layout.treatments[n].per_channel


def rounded(
    graph: Graph, layout: Layout, n: int, h: Array | None, grade: Grade, kind: str, of: Importance | None = None
) -> Coded:
    """The weights of layer n under its Hessian (see edgeq.quantize.gptq; None: unknown), or each at the nearest code.

    kind: of codebook; of: what the layer's errors do to the outputs, which counts where it has one scale. Weights that lie on a
    grid count in its step, others in a 127th of their channel's largest. One scale for all is that of several that costs least.
    """
    rule, own = _weights(graph, n)
    real = _by_channel(own, rule.axis).astype(np.float64)
    h = None if h is None else _for_each(h, real)
    near = plain(graph, layout, n)
    if grade == FINEST and (h is None or _exact(real, _by_channel(near.data, rule.axis), near.scale).all()):
        return near
    per_channel = one_each(layout, n, graph.ops[n].code)
    each = None
    if h is not None and not per_channel:
        if of is not None:
            h, each = of.metric(h)
        best = _best_scale(real, 0.0, h, grade, kind, lambda w: _total(real, w, h, each), _roughly(real, h, each))
        scale = best[1]
    else:
        scale = np.asarray(quantize_weights(real.astype(np.float32), 0, None, 1.0, 1.0, per_channel)[0].scale)
        best = _codes(real, scale, h, grade, kind), scale
    at = _grids(real, scale)
    if at is not None:
        best = _less(real, best, (_codes(real, at, h, grade, kind), at), h, grade, each)
    return _laid_out(graph, n, best, grade, near.axis)


def clipped(graph: Graph, layout: Layout, n: int, h: Array, kind: str, of: Importance | None = None) -> Coded | None:
    """The weights of layer n in the step of the grid that all of them lie on, those beyond ±127 clipped and made up for.

    None where there is no such grid, no weight beyond, or a scale per channel.
    """
    if one_each(layout, n, graph.ops[n].code):
        return None
    rule, own = _weights(graph, n)
    real = _by_channel(own, rule.axis).astype(np.float64)
    step = grid.steps(real, False).astype(np.float32)
    if not step[0] or np.abs(real).max() < 127.5 * step[0]:
        return None
    h = _for_each(h, real)
    h = h if of is None else of.metric(h)[0]
    return _laid_out(graph, n, (_codes(real, step, h, FINEST, kind), step), FINEST, 0)


def levelled(
    graph: Graph,
    layout: Layout,
    n: int,
    w: Array,
    h: Array,
    grade: Grade,
    kind: str,
    so_far: Coded,
    error: Callable[[Array], float],
    of: Importance | None = None,
) -> Coded:
    """Other real weights (channels, k) of layer n, rounded under a Hessian (k, k) or (channels, k, k).

    so_far: the layer's codes, of its own weights. Where those lie on a grid, and are in its step, they are held against the
    others channel by channel: rounding them costs nothing. Otherwise one scale for all is not that of the largest weight, but
    the one of several with the least error: what is clipped errs more, all else less (Nagel et al., "A White Paper on Neural
    Network Quantization", 2021, section 3.1). error: of the layer with these real weights (channels, k). of: what its errors do
    to the outputs, which then counts instead.
    """
    per_channel = one_each(layout, n, graph.ops[n].code)
    rule, stored = _weights(graph, n)
    own = _by_channel(stored, rule.axis).astype(np.float64)
    there = grade == FINEST and len(so_far.scale) == (len(w) if per_channel else 1)
    codes = _by_channel(so_far.data, rule.axis).astype(np.float64)
    if not per_channel:
        rough = None
        if of is not None:
            h, each = of.metric(h)
            rough = _roughly(w, h, each)

            def error(codes: Array) -> float:
                return _total(w, codes, h, each)

        at = grid.steps(own, False).astype(np.float32) if there else so_far.scale
        if there and at[0] == so_far.scale[0]:
            best = gptq.better(w / at, codes, h, _codes(w, at, h, grade, kind)), at
        else:
            best = _best_scale(w, so_far.scale.min() / 1024, h, grade, kind, error, rough)
        return _laid_out(graph, n, best, grade, 0)
    scale = np.maximum(np.abs(w).max(axis=1), 1e-30) / 127
    scale = np.maximum(scale, so_far.scale.min() / 1024).astype(np.float32)
    best = _codes(w, scale, h, grade, kind), scale
    if there and (_exact(own, codes, so_far.scale) & codes.any(axis=1)).any():
        best = _less(w, best, (codes, so_far.scale), h)
    return _laid_out(graph, n, best, grade, rule.axis)


def _best_scale(
    w: Array,
    least: float,
    h: Array,
    grade: Grade,
    kind: str,
    error: Callable[[Array], float],
    rough: Callable[[Array], float] | None = None,
) -> tuple[Array, Array]:
    """Codes at the one scale of several that errs least: the two that do so with the nearest codes are rounded under `h`.

    rough: less work than `error`, and tells the same but for a little: where it is given only the ALIKE best by it are looked at
    more closely.
    """

    def by(measure: Callable[[Array], float]) -> Callable[[float], float]:
        def nearest(s: float) -> float:
            at = np.array([max(s, least)], np.float32)
            return measure(_nearest(w, at) * float(at[0]))

        return nearest

    found = _tried(w, by(error if rough is None else rough))
    if rough is not None:
        found = sorted(found[:ALIKE], key=lambda s: (by(error)(s), -s))
    scales = [np.array([max(s, least)], np.float32) for s in found[:ROUNDED]]
    tried = [(_codes(w, at, h, grade, kind), at) for at in scales]
    return min(tried, key=lambda t: error(t[0] * (float(t[1][0]) * grade.step)))


def _grids(w: Array, scale: Array) -> Array | None:
    """The scales with a grid's in place of those, (channels,) or (1,), that do not tell weights (channels, k) exactly.

    None where no weights that they do not tell exactly lie on a grid.
    """
    exact = _exact(w, _nearest(w, scale), scale)
    if exact.all():
        return None
    out = np.array(scale)
    if len(scale) == len(w) > 1:
        out[~exact] = grid.steps(w[~exact], True)
    else:
        out[:] = grid.steps(w, False)
    return np.where(out > 0, out, scale) if (out[~exact] if len(out) == len(w) > 1 else out).any() else None


Codes = tuple[Array, Array]
"""Codes (channels, k), and their scale, (channels,) or (1,)."""


def _less(w: Array, a: Codes, b: Codes, h: Array | None, grade: Grade = FINEST, counted: Array | None = None) -> Codes:
    """Channel by channel, or with one scale as a whole, the codes that cost less; of equals `a`. counted: how much channels do
    then, (channels,)."""

    def costs(codes: Array, scale: Array) -> Array:
        s = scale.astype(np.float64)[:, None] * grade.step
        each = ((w - codes * s) ** 2).sum(axis=1) if h is None else gptq.cost(w, codes * s, h)
        each = each if counted is None else each * counted
        return each if len(scale) == len(w) else each.sum(keepdims=True)

    less = costs(*b) < costs(*a)
    return np.where(less[:, None], b[0], a[0]), np.where(less, b[1], a[1])


def _total(w: Array, other: Array, h: Array, each: Array | None) -> float:
    """What other weights than w (channels, k) cost together; each: how much channels count (channels,)."""
    costs = gptq.cost(w, other, h)
    return float((costs if each is None else costs * each).sum())


def _roughly(w: Array, h: Array, each: Array | None) -> Callable[[Array], float] | None:
    """What `_total` tells, by the Hessian's diagonal alone: errors of nearest codes go with nothing, and not with one another.
    None for a small layer, or one with a Hessian for each row.
    """
    if h.ndim != 2 or w.size * w.shape[1] < LARGE:
        return None
    diagonal = np.diag(h).astype(np.float64)

    def rough(other: Array) -> float:
        costs = ((w - other) ** 2) @ diagonal
        return float((costs if each is None else costs * each).sum())

    return rough


def _tried(w: Array, cost: Callable[[float], float]) -> list[float]:
    """Scales for all channels together, those first that cost least; of equals the larger.

    From that of the largest weight on down, for as long as what is clipped does not cost far more than all else: the largest
    weights may be of channels that are never used, and then the scale of the others is a fraction of theirs.
    """
    top = max(float(np.abs(w).max(initial=0.0)), 1e-30) / 127
    found: list[tuple[float, float]] = []
    for share in SHARES:
        found.append((cost(top * share), -top * share))
        if found[-1][0] > GIVEN_UP * min(found)[0]:
            break
    return [-s for _, s in sorted(found)]


def _nearest(w: Array, scale: Array) -> Array:
    """The code next to each weight."""
    codes: Array = np.clip(np.rint(w / scale.astype(np.float64)[:, None]), -127, 127)
    return codes


def _exact(w: Array, codes: Array, scale: Array) -> Array:
    """Whether the codes stand for these very weights, as far as float32 tells: (channels,) bool."""
    s = scale.astype(np.float64)[:, None]
    return np.asarray((np.abs(codes * s - w) <= grid.NEAR * s).all(axis=1))


def _codes(w: Array, scale: Array, h: Array | None, grade: Grade, kind: str) -> Array:
    """Codes of real weights (channels, k) at these scales, (channels,) or (1,), times the grade's step.

    Short depthwise windows are rounded at the very least cost.
    """
    real = w / (scale.astype(np.float64)[:, None] * grade.step)  # in units of their scales
    count = grade.levels
    if count:
        importance = np.ones(real.shape[1]) if h is None or h.ndim != 2 else np.diag(h)
        levels = codebook.levels(np.clip(real, -127, 127), importance, count, kind)
        codes = codebook.plain(real, levels).astype(np.float64)

        def nearest(column: Array, j: int) -> Array:
            return codebook.nearest(column, levels)
    else:
        most = 127 if grade.step <= 1.0 else NARROWED  # what is made up for may move weights beyond the largest
        codes = np.clip(np.rint(real), -most, most)

        def nearest(column: Array, j: int) -> Array:
            return np.clip(np.rint(column), -most, most)

    if h is not None:
        better = gptq.rounded_depthwise(real, h, nearest) if h.ndim == 3 else gptq.rounded(real, h, nearest)
        codes = gptq.better(real, codes, h, better)
        if h.ndim == 3 and not count and real.shape[1] <= gptq.TAPS:
            codes = gptq.better(real, codes, h, gptq.exact_depthwise(real, h))
    return codes


def _laid_out(graph: Graph, n: int, found: Codes, grade: Grade, axis: int) -> Coded:
    """Codes of layer n in the order of its weights, their scale in the grade's step."""
    rule, w = _weights(graph, n)
    shape = np.moveaxis(w, rule.axis, 0).shape
    data = np.ascontiguousarray(np.moveaxis(found[0].reshape(shape), 0, rule.axis)).astype(np.int8)
    return Coded(data, found[1] * np.float32(grade.step), axis)


def _weights(graph: Graph, n: int) -> tuple[Rule, Array]:
    """The rule of layer n, and its real weights as they are stored."""
    op = graph.ops[n]
    rule = RULES[op.code]
    assert rule.weights is not None
    return rule, np.asarray(graph.tensors[op.inputs[rule.weights]].data)


def _for_each(h: Array, w: Array) -> Array:
    """A depthwise layer's Hessians, one for each row of w (channels, k); another layer's as it is."""
    return np.repeat(h, len(w) // len(h), axis=0) if h.ndim == 3 and len(h) < len(w) else h


def all_rounded(
    graph: Graph,
    layout: Layout,
    known: Mapping[int, Array],
    given: Mapping[int, Grade],
    kind: str,
    of: Mapping[int, Importance] = MappingProxyType({}),
) -> dict[int, Coded]:
    """Every layer that `known` has a Hessian of, or that is not of the finest grade by `given`."""
    return {
        n: rounded(graph, layout, n, known.get(n), given.get(n, FINEST), kind, of.get(n))
        for n in layers(layout)
        if n in known or n in given
    }


def _by_channel(w: Array, axis: int) -> Array:
    moved = np.moveaxis(w, axis, 0)
    return moved.reshape(len(moved), -1)
