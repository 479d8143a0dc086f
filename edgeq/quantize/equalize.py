"""Equalisation: scale moved between the channels of neighbouring layers, which changes no value at the outputs.

On a link (edgeq.quantize.links) channel c may be multiplied by any s_c > 0: row c of the writers' weights and biases by
s_c, column c of the readers' by 1/s_c. Two choices of s are of use. `by_weights` gives both sides like ranges, √(r₂/r₁), for
weights that have one scale per tensor (Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias
Correction", ICCV 2019, section 4.1). `by_activations` lifts channels whose values are small beside the tensor's largest,
which one scale per tensor resolves poorly; weights with a scale per channel take that in for nothing on the writer's side
(as in Xiao et al., "SmoothQuant", ICML 2023, the other way round; Finkelstein et al., "Same, Same But Different", 2019).

RELU6 is no ReLU of scaled values: only channels that stay clear of 6 are scaled there, and no further than that they still
do; `uncapped` makes it a RELU (as Nagel et al. do), which changes values, and is for the search to judge. `absorbed` moves
what a channel never falls below into the readers' biases (Nagel et al., section 4.1.3).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from edgeq.calibrate import Inputs, in_chunks
from edgeq.graph import Activation, Graph, Op
from edgeq.quantize.links import Link
from edgeq.records import replace

if TYPE_CHECKING:
    from edgeq.stepping import Stepper

Array = npt.NDArray[Any]

CAP = 6.0
CLEAR = 1.25
"""How many times its largest value a channel must be able to grow before it meets RELU6's cap."""

MOST = 32.0
"""By how much one channel is lifted over another."""

PASSES = 8
"""Over all links: each is settled given its neighbours."""


def uncapped(graph: Graph, found: Sequence[Link]) -> tuple[Graph, list[Link]]:
    """The graph with RELU in place of the RELU6 on links, and the links as they are then."""
    ops = list(graph.ops)
    producers = graph.main.producers()
    for link in found:
        for n in {*link.writers, *(producers[i] for i in link.tensors)} if link.capped else ():
            op = ops[n]
            if op.code == "RELU6":
                ops[n] = replace(op, code="RELU")
            elif op.options is not None and op.options.values.get("fused_activation_function") == Activation.RELU6:
                values = {**op.options.values, "fused_activation_function": int(Activation.RELU)}
                ops[n] = replace(op, options=replace(op.options, values=values))
    return graph.with_main(ops=tuple(ops)), [replace(link, capped=False) for link in found]


def ends(graph: Graph, found: Sequence[Link], inputs: Sequence[Inputs]) -> dict[int, tuple[Array, Array]]:
    """The least and the largest value of each channel, by tensor on a link: (c,) twice."""
    tensors = [i for link in found for i in link.tensors]

    def look(worker: int, step: Stepper, number: int, chunk: Sequence[Inputs]) -> list[tuple[int, Array, Array]]:
        return [(i, *_ends(v, graph.tensors[i].shape[-1])) for i, v in step.run(chunk)]

    seen: dict[int, tuple[Array, Array]] = {}
    for some in in_chunks(graph, inputs, look, tensors):
        for i, lo, hi in some:
            old = seen.get(i, (lo, hi))
            seen[i] = np.minimum(old[0], lo), np.maximum(old[1], hi)
    return seen


def _ends(values: Array, channels: int) -> tuple[Array, Array]:
    """The least and the largest value of each channel of some samples (samples, elements): (channels,) twice. Some places side by
    side are gone through as if they were one: rows of a few channels are short."""
    at_once = math.gcd(values.shape[1] // channels, 64)
    rows = values.reshape(len(values), -1, at_once * channels)
    low, high = (end.reduce(rows, axis=(0, 1)).reshape(at_once, channels) for end in (np.minimum, np.maximum))
    return low.min(axis=0), high.max(axis=0)


def by_weights(graph: Graph, found: Sequence[Link], seen: Mapping[int, tuple[Array, Array]]) -> Graph:
    """The graph with like ranges of weights on both sides of each link."""
    factors = {link: np.ones(_channels(graph, link)) for link in found}
    rows = {link: {n: _rows(graph, n) for n in link.writers} for link in found}
    columns = {link: {k: _columns(graph, k, len(factors[link])) for k in link.readers} for link in found}
    for _ in range(PASSES):
        for link in found:
            # What the writer's and the readers' other links did to these weights is in their ranges already.
            own = _rows_now(graph, link, found, factors, rows)
            others = _columns_now(graph, link, found, factors, columns)
            live = (own > 0) & (others > 0)
            s = np.where(live, np.sqrt(np.where(live, others, 1) / np.where(live, own, 1)), 1.0)
            if len(link.writers) + len(link.readers) > 2 and live.any():  # in units of their own: only ratios count
                s = np.where(live, s / np.exp(np.log(s[live]).mean()), 1.0)
            factors[link] = _bounded(factors[link] * s, link, seen)
    return scaled(graph, [(link, factors[link]) for link in found])


def by_activations(
    graph: Graph, found: Sequence[Link], seen: Mapping[int, tuple[Array, Array]], strength: float = 0.5
) -> Graph:
    """The graph with channels lifted towards the largest: all the way where only depthwise layers read, else by the
    `strength`-th power of that.
    """
    chosen = []
    for link in found:
        # Each tensor has a step of its own: a channel is as small as where it comes nearest to the tensor's largest value.
        most = [np.maximum(-seen[i][0], seen[i][1]).astype(np.float64) for i in link.tensors]
        top = np.max([t / max(float(t.max(initial=0.0)), 1e-30) for t in most], axis=0)
        free = all(graph.ops[k].code == "DEPTHWISE_CONV_2D" for k in link.readers)
        # Half way at most: what calibration did not see of a small channel is then still no more than of the largest.
        ratio = np.maximum(np.where(top > 0, 1 / np.where(top > 0, top, 1), 1.0) / 2, 1.0)
        chosen.append((link, _bounded(np.minimum(ratio, MOST) ** (1.0 if free else strength), link, seen)))
    return scaled(graph, chosen)


def _bounded(s: Array, link: Link, seen: Mapping[int, tuple[Array, Array]]) -> Array:
    """Factors that keep channels clear of a cap: those that come near it stay as they are."""
    s = np.clip(s, 1 / MOST, MOST)
    if not link.capped:
        return np.asarray(s)
    top = np.max([seen[i][1] for i in link.tensors], axis=0)
    room = CAP / np.maximum(CLEAR * top, 1e-9)
    return np.where(room < 1, 1.0, np.minimum(s, room))


def scaled(graph: Graph, chosen: Sequence[tuple[Link, Array]]) -> Graph:
    """The graph with each link's channels multiplied by its factors (c,). Weights that layers share become their own."""
    up: dict[int, Array] = {n: s for link, s in chosen for n in link.writers}
    down: dict[int, Array] = {k: s for link, s in chosen for k in link.readers}
    tensors, ops = list(graph.tensors), list(graph.ops)
    for n in sorted({*up, *down}):
        op = graph.ops[n]
        w = np.asarray(graph.tensors[op.inputs[1]].data, np.float64)
        inputs = list(op.inputs)
        if n in down:
            s = down[n]
            # Depthwise, input channel c feeds outputs c·m … c·m + m − 1, and the flattened input of FULLY_CONNECTED is 1 × c.
            w = w / (np.repeat(s, w.shape[3] // len(s)) if op.code == "DEPTHWISE_CONV_2D" else s)
        if n in up:
            s = up[n]
            w = w * s.reshape((-1,) + (1,) * (w.ndim - 1) if op.code != "DEPTHWISE_CONV_2D" else (-1,))
            if len(inputs) > 2 and inputs[2] >= 0:
                b = graph.tensors[inputs[2]]
                tensors.append(replace(b, data=(np.asarray(b.data, np.float64) * s).astype(np.float32), buffer=0))
                inputs[2] = len(tensors) - 1
        tensors.append(replace(graph.tensors[op.inputs[1]], data=w.astype(np.float32), buffer=0))
        inputs[1] = len(tensors) - 1
        ops[n] = replace(op, inputs=tuple(inputs))
    return graph.with_main(tensors=tuple(tensors), ops=tuple(ops))


def absorbed(graph: Graph, found: Sequence[Link], seen: Mapping[int, tuple[Array, Array]]) -> Graph:
    """The graph with what a channel never falls below taken off it, and put into the biases of what reads it.

    Only where nothing but a ReLU lies between, and no border meets the channel: a 1 × 1 convolution or FULLY_CONNECTED.
    """
    tensors, ops = list(graph.tensors), list(graph.ops)
    for link in found:
        op = ops[link.writers[0]]
        lo, hi = seen[link.tensors[0]]
        # Never below by as much as its values lie apart: others than those seen will keep to it too.
        floor = np.maximum(lo.astype(np.float64) - (hi - lo), 0.0)
        fits = len(link.tensors) == 1 and not link.capped and len(op.inputs) > 2 and op.inputs[2] >= 0
        if not (fits and floor.any() and all(_borderless(graph, k) for k in link.readers)):
            continue
        ops[link.writers[0]] = _shifted(tensors, op, -floor)
        for k in link.readers:
            w = np.asarray(tensors[ops[k].inputs[1]].data, np.float64)
            ops[k] = _shifted(tensors, ops[k], w.reshape(len(w), -1) @ floor)
    return graph.with_main(tensors=tuple(tensors), ops=tuple(ops))


def _borderless(graph: Graph, n: int) -> bool:
    op = graph.ops[n]
    if len(op.inputs) < 3 or op.inputs[2] < 0:
        return False
    w = graph.tensors[op.inputs[1]].shape
    return op.code == "FULLY_CONNECTED" or (op.code == "CONV_2D" and w[1:3] == (1, 1))


def _shifted(tensors: list[Any], op: Op, shift: Array) -> Op:
    b = tensors[op.inputs[2]]
    tensors.append(replace(b, data=(np.asarray(b.data, np.float64) + shift).astype(np.float32), buffer=0))
    return replace(op, inputs=(*op.inputs[:2], len(tensors) - 1))


def _channels(graph: Graph, link: Link) -> int:
    return graph.tensors[link.tensors[0]].shape[-1]


def _rows(graph: Graph, n: int) -> Array:
    """The largest weight of each output channel."""
    op = graph.ops[n]
    w = np.abs(np.asarray(graph.tensors[op.inputs[1]].data, np.float64))
    return np.asarray(w.max(axis=(0, 1, 2)) if op.code == "DEPTHWISE_CONV_2D" else w.reshape(len(w), -1).max(axis=1))


def _columns(graph: Graph, n: int, channels: int) -> Array:
    """The largest weight that meets each input channel."""
    op = graph.ops[n]
    w = np.abs(np.asarray(graph.tensors[op.inputs[1]].data, np.float64))
    if op.code == "DEPTHWISE_CONV_2D":
        return np.asarray(w.max(axis=(0, 1, 2)).reshape(channels, -1).max(axis=1))
    return np.asarray(w.reshape(-1, w.shape[-1]).max(axis=0))


def _rows_now(
    graph: Graph,
    link: Link,
    found: Sequence[Link],
    factors: Mapping[Link, Array],
    rows: Mapping[Link, Mapping[int, Array]],
) -> Array:
    """The writers' rows under the factors so far: their own, and those on their columns as far as a depthwise row has one."""
    every = []
    for n, own in rows[link].items():
        own = own * factors[link]
        if graph.ops[n].code == "DEPTHWISE_CONV_2D":
            for other in found:
                if n in other.readers:
                    own = own / np.repeat(factors[other], len(own) // len(factors[other]))
        every.append(own)
    return _largest(every)


def _columns_now(
    graph: Graph,
    link: Link,
    found: Sequence[Link],
    factors: Mapping[Link, Array],
    columns: Mapping[Link, Mapping[int, Array]],
) -> Array:
    """The readers' columns under the factors so far, likewise."""
    every = []
    for k, others in columns[link].items():
        others = others / factors[link]
        if graph.ops[k].code == "DEPTHWISE_CONV_2D":
            for other in found:
                if k in other.writers and len(factors[other]) == len(others):
                    others = others * factors[other]
        every.append(others)
    return _largest(every)


def _largest(every: Sequence[Array]) -> Array:
    """Of several layers, each beside its own largest: they have scales of their own."""
    if len(every) == 1:
        return every[0]
    return np.asarray(np.max([v / max(float(v.max(initial=0.0)), 1e-30) for v in every], axis=0))
