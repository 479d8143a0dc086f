"""Scale moved between channels by what that does to the outputs, where layers have one scale for all their weights.

On a link (edgeq.quantize.links) channel c may be multiplied by any s_c > 0, which changes no value at the outputs. An error of
a step Δ in the weights of a layer then is one of Δ·s_in/s_out in the weights that it had, so a channel that is heard and has
small weights wants a large s_out, and the layer's largest weights, which Δ comes from, a small one. Even ranges (Nagel et
al., ICCV 2019) give all channels the same; here each has what costs least at the outputs (edgeq.quantize.importance): with
D = E[(∂outputs/∂w)²] of each weight and A of each channel's values,

    Σ over layers, weights:  D·(s_in/s_out)²·(Δ²/12, or what is clipped, squared)   +   Σ over channels:  A·step²/12 / s²,

gone down by turns: the factors of a link given all steps, each channel by itself; a layer's step together with the links
around it.

RELU6 is no ReLU of scaled values: channels that come near to 6 stay as they are, and no other is lifted to where it would.
Nothing is known of weights that no sample moves: those had better not be clipped further than before.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from edgeq.graph import Graph
from edgeq.quantize import grid
from edgeq.quantize.equalize import CAP
from edgeq.quantize.importance import Importance
from edgeq.quantize.links import Link, links
from edgeq.quantize.rules import RULES
from edgeq.records import dataclass, replace

Array = npt.NDArray[Any]

FACTORS: Final = 2.0 ** (np.arange(-4, 5) / 2)
"""That a channel may have."""

STEPS: Final = 0.6, 0.8
"""Of a layer's step, that are tried."""

SHARES: Final = tuple(0.92**k for k in range(30))
"""Of a 127th of the largest weight, of which a layer's first step is one."""

PASSES: Final = 2

CLEAR: Final = 1.2
"""Times its largest value, that a channel must keep below RELU6's cap."""

LEAST: Final = 2.0
"""That a channel counts as reaching, however little it did: on other samples it may."""

FLOOR: Final = 0.02
"""Of what weights of a layer cost in the mean, that each costs at least for what it errs by more than before."""

WORTH: Final = 0.1
"""Of what a channel costs, that a factor has to save."""

FEWEST: Final = 1e-5
"""Of all cost at the start, that a factor has to save."""

HEAVY: Final = 0.002
"""Of all cost, that a layer must have for its step to be moved."""


@dataclass(frozen=True, eq=False)
class _Layer:
    """size, d: (n, k) float32, of weights, and what their squared errors cost; least: (n, k) the same for what errs by more than
    `base`: (n, k) squared errors at the start; whole: (n,) rows that were on the grid of the step then; width: of a row's inputs
    for each tap, 0 of a depthwise layer, which has one input channel for `times` rows.
    """

    size: Array
    d: Array
    least: Array
    base: Array
    whole: Array
    width: int
    times: int


@dataclass(frozen=True, eq=False)
class _State:
    """Factors of the links' channels, and the layers' steps."""

    factors: Mapping[Link, Array]
    steps: Mapping[int, float]

    def with_step(self, n: int, step: float) -> _State:
        return replace(self, steps={**self.steps, n: step})


def balanced(
    graph: Graph, important: Mapping[int, Importance], seen: Mapping[int, tuple[Array, Array]]
) -> list[tuple[Link, Array]]:
    """Links, each with factors of its channels (c,) to scale a float graph by (edgeq.quantize.equalize.scaled); none that stay
    as they are.

    important: of layers with one scale; seen: the channels' extremes, as edgeq.quantize.equalize.ends gives them.
    """
    found = [link for link in links(graph) if all(n in important for n in (*link.writers, *link.readers))]
    if not found:
        return []
    return _Balance(graph, found, important, seen).settled()


class _Balance:
    def __init__(
        self,
        graph: Graph,
        found: Sequence[Link],
        important: Mapping[int, Importance],
        seen: Mapping[int, tuple[Array, Array]],
    ) -> None:
        self._links = found
        self._up = {n: link for link in found for n in link.writers}
        self._down = {n: link for link in found for n in link.readers}
        every = sorted({*self._up, *self._down})
        self._layers: dict[int, _Layer] = {}
        steps: dict[int, float] = {}
        for n in every:
            self._layers[n], steps[n] = _read(graph, n, important[n])
        channels = {link: graph.tensors[link.tensors[0]].shape[-1] for link in found}
        self._start = _State({link: np.ones(count, np.float32) for link, count in channels.items()}, steps)
        self._able = {link: _able(link, seen) for link in found}
        self._heard = {link: _heard(graph, link, important, seen) for link in found}
        self._all = sum(self._cost(self._start, n) for n in every)

    def settled(self) -> list[tuple[Link, Array]]:
        at = self._start
        for _ in range(PASSES):
            for link in self._links:
                at = self._settled(at, link)
            for n in self._layers:
                if self._cost(at, n) > HEAVY * self._all:
                    at = self._stepped(at, n)
        return [(link, s.astype(np.float64)) for link, s in at.factors.items() if (s != 1).any()]

    def _stepped(self, at: _State, n: int) -> _State:
        """With another step of a layer and other factors around it, if that costs less."""
        around = [link for link in self._links if n in link.writers or n in link.readers]
        best, least = at, self._total(at, around)
        for share in STEPS:
            trial = at.with_step(n, share * at.steps[n])
            for link in around:
                trial = self._settled(trial, link)
            cost = self._total(trial, around)
            if cost < 0.999 * least:
                best, least = trial, cost
        return best

    def _settled(self, at: _State, link: Link) -> _State:
        """With the factors of a link that cost least, given all else."""
        s = at.factors[link]
        costs = self._costs(at, link)  # (factors, c)
        now, c = np.searchsorted(FACTORS, s * 0.999), np.arange(len(s))
        best = costs.argmin(axis=0)
        gain = costs[now, c] - costs[best, c]
        moves = (gain > WORTH * costs[now, c]) & (gain > FEWEST * self._all)
        factors = np.where(moves, FACTORS[best], s).astype(np.float32)
        return replace(at, factors={**at.factors, link: factors})

    def _costs(self, at: _State, link: Link) -> Array:
        """What each channel of a link costs with each of FACTORS: (factors, c)."""
        count = len(at.factors[link])
        out = np.full((len(FACTORS), count), np.inf)
        for k, factor in enumerate(FACTORS):
            if not self._able[link][k].any():
                continue
            out[k] = self._heard[link] / factor**2
            trial = replace(at, factors={**at.factors, link: np.full(count, factor, np.float32)})
            for n in link.writers:
                out[k] += self._each(trial, n).sum(axis=1)
            for n in link.readers:
                each, y = self._each(trial, n), self._layers[n]
                out[k] += (
                    each.sum(axis=0).reshape(-1, y.width).sum(axis=0)
                    if y.width
                    else each.sum(axis=1).reshape(-1, y.times).sum(axis=1)
                )
        return np.where(self._able[link], out, np.inf)

    def _total(self, at: _State, around: Sequence[Link]) -> float:
        touched = sorted({n for link in around for n in (*link.writers, *link.readers)})
        heard = sum(float((self._heard[link] / at.factors[link] ** 2).sum()) for link in around)
        return heard + sum(self._cost(at, n) for n in touched)

    def _cost(self, at: _State, n: int) -> float:
        return float(self._each(at, n).sum())

    def _each(self, at: _State, n: int) -> Array:
        """What each weight of a layer costs, (n, k)."""
        y, one = self._layers[n], np.ones(1, np.float32)
        out = at.factors[self._up[n]] if n in self._up else one
        read = at.factors[self._down[n]] if n in self._down else one
        if y.width:
            ratio = out[:, None] / (np.tile(read, y.d.shape[1] // y.width) if len(read) > 1 else read)
        else:
            ratio = (out / (np.repeat(read, y.times) if len(read) > 1 else read))[:, None]
        e = _errors(y.size * ratio, at.steps[n], y.whole)
        e /= ratio * ratio
        more = e - y.base
        np.maximum(more, 0, out=more)
        more *= y.least
        e *= y.d
        e += more
        return e


def carried(
    graph: Graph, important: Mapping[int, Importance], chosen: Sequence[tuple[Link, Array]]
) -> dict[int, Importance]:
    """What errors do in the graph that is scaled so."""
    up = {n: s for link, s in chosen for n in link.writers}
    down = {n: s for link, s in chosen for n in link.readers}
    found: dict[int, Importance] = {}
    for n, of in important.items():
        rows, k = of.each.shape
        out, read = up.get(n, np.ones(rows)), down.get(n, np.ones(1))
        if graph.ops[n].code == "DEPTHWISE_CONV_2D":
            by = np.repeat(read, rows // len(read))[:, None] / out[:, None] * np.ones(k)
        else:
            by = np.tile(read, k // len(read)) / out[:, None]
        found[n] = of.scaled(by, out) if n in up or n in down else of
    return found


def _read(graph: Graph, n: int, of: Importance) -> tuple[_Layer, float]:
    """A layer, and the step that costs least."""
    op = graph.ops[n]
    w = np.moveaxis(np.asarray(graph.tensors[op.inputs[1]].data, np.float32), RULES[op.code].axis, 0)
    w = w.reshape(len(w), -1)
    size, d = np.abs(w), np.where(w == 0, np.float32(0), of.each)
    depthwise, channels = op.code == "DEPTHWISE_CONV_2D", graph.tensors[op.inputs[1]].shape[-1]
    times = len(w) // graph.tensors[op.inputs[0]].shape[-1] if depthwise else 1
    top = max(float(size.max(initial=0.0)), 1e-30) / 127
    tried = [top * share for share in SHARES]
    if whole := float(grid.steps(w, False)[0]):
        tried.append(whole)
    costs = [float((d * _errors(size, step, _whole(size, step))).sum()) for step in tried]
    step = tried[int(np.argmin(costs))]
    whole_rows = _whole(size, step)
    least = np.where(w == 0, np.float32(0), np.float32(FLOOR) * of.each.mean(axis=0))
    return (
        _Layer(size, d, least, _errors(size, step, whole_rows), whole_rows, 0 if depthwise else channels, times),
        step,
    )


def _whole(size: Array, step: float) -> Array:
    """Rows of which each weight is a code: (n,) bool."""
    codes = size / step
    return np.asarray(((np.abs(codes - np.rint(codes)) < grid.NEAR) & (codes < 127.5)).all(axis=1))


def _errors(size: Array, step: float, whole: Array) -> Array:
    """Squared errors of weights of these sizes (n, k) in codes of this step, in the mean; none of those that are codes still, in
    rows that were whole."""
    out = size - np.float32(127 * step)
    np.maximum(out, np.float32(step / math.sqrt(12)), out=out)
    out *= out
    if whole.any():
        codes = size[whole] / np.float32(step)
        out[whole] *= np.abs(codes - np.rint(codes)) >= grid.NEAR
    return out


def _able(link: Link, seen: Mapping[int, tuple[Array, Array]]) -> Array:
    """Which factors each channel may have: (factors, c) bool."""
    factors = FACTORS[:, None]
    if link.capped:
        top = np.max([seen[i][1] for i in link.tensors], axis=0)
        reach = np.maximum(CLEAR * top, LEAST) * np.maximum(factors, 1.0)
        return np.asarray((reach <= CAP) & (top > 0) | (factors == 1))
    sizes = [np.maximum(-seen[i][0], seen[i][1]) for i in link.tensors]
    top = np.max([size / max(float(size.max(initial=0.0)), 1e-30) for size in sizes], axis=0)
    return np.asarray((factors * top <= 1) & (top > 0) | (factors == 1))


def _heard(
    graph: Graph, link: Link, important: Mapping[int, Importance], seen: Mapping[int, tuple[Array, Array]]
) -> Array:
    """What rounding each channel of a link to 8 bits costs: (c,)."""
    out = np.zeros(graph.tensors[link.tensors[0]].shape[-1])
    for n in link.writers:
        low, high = seen[graph.ops[n].outputs[0]]
        step = (max(float(high.max()), 0.0) - min(float(low.min()), 0.0)) / 255
        out += step * step / 12 * important[n].heard
    return out


__all__ = ["balanced", "carried"]
