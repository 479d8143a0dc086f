"""Samples that wake what the given ones leave idle.

A float model was trained on more than the samples that calibrate. Units that are quiet on these answer to patterns of others,
and how their weights are rounded cannot be told from samples on which they are zero. So inputs are moved until a unit that was
picked by chance has a value as large as its layer's are (activation maximisation: Erhan et al., "Visualizing Higher-Layer
Features of a Deep Network", 2009), by the shortest way in standard deviations of the samples: where values are Gaussian and
independent, the likeliest sample that wakes it. That is Newton's step along the gradient of the unit's value.

That is done for the units of dense layers, which see each sample once. The float model answers those samples, too; that they look
like none of the given ones does not matter to a student that is to answer as it does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from edgeq.finetune.varied import Spread
from edgeq.graph import Activation, Array, Graph
from edgeq.quantize.rules import RULES
from edgeq.records import dataclass, replace
from edgeq.reverse import Tape
from edgeq.reverse.tape import path

STEPS = 2
"""Of Newton, to a unit."""

MOST_UNITS = 3
"""Units that are woken in a sample, one behind the other."""

MOST = 1.0
"""Standard deviations, root mean square over a sample's values, that a step may take."""

LEVEL = 0.98
"""The quantile of a layer's values that a unit may be brought to."""

FEW = 256
"""Samples that levels come from."""


@dataclass(frozen=True, eq=False)
class Layer:
    """A layer whose units are woken. tape: to its values, without the activation behind them; out: their tensor; level:
    how large they are."""

    tape: Tape
    out: int
    level: float


class Sought:
    """The layers of a float graph, and how their inputs move. seen: of each input, in the order of the graph's; piece: how
    many samples go through at once."""

    def __init__(
        self, graph: Graph, targets: Sequence[int], samples: Sequence[Array], seen: Sequence[Spread], piece: int = 64
    ) -> None:
        self._inputs, self._seen, self._piece = graph.inputs, tuple(seen), piece
        self._variances = [s.deviation.astype(np.float32) ** 2 for s in seen]
        layers = []
        for n in path(graph, targets)[:-1]:
            op = graph.ops[n]
            rule = RULES.get(op.code)
            # A unit of a convolution meets as many parts of samples as it has positions, and sleeps on few models' samples.
            if op.code != "FULLY_CONNECTED" or rule is None or rule.weights is None:
                continue
            plain = _unactivated(graph, n)
            tape = Tape(plain, op.outputs[:1])
            if not tape.batchable or not set(path(plain, op.outputs[:1])):
                continue
            values = [
                tape.forward(dict(zip(self._inputs, [a[at : at + piece] for a in samples], strict=True)), {})[
                    op.outputs[0]
                ]
                for at in range(0, min(FEW, len(samples[0])), piece)
            ]
            level = float(np.quantile(np.abs(np.concatenate(values)), LEVEL))
            if level > 0 and np.isfinite(level):
                layers.append(Layer(tape, op.outputs[0], level))
        self.layers = tuple(layers)

    @staticmethod
    def possible(graph: Graph, inputs: Sequence[Array]) -> bool:
        """Whether a graph's inputs can be moved: real numbers, a sample a row."""
        return all(a.dtype == np.float32 for a in inputs) and all(
            len(graph.tensors[i].shape) > 1 and graph.tensors[i].shape[0] == 1 for i in graph.inputs
        )

    def moved(self, inputs: Sequence[Array], draw: np.random.Generator, most: int = MOST_UNITS) -> list[Array]:
        """Samples (n, …), input by input, in which up to `most` units were woken."""
        n = len(inputs[0])
        if n > self._piece:
            pieces = [
                self.moved([a[k : k + self._piece] for a in inputs], draw, most) for k in range(0, n, self._piece)
            ]
            return [np.concatenate(parts) for parts in zip(*pieces, strict=True)]
        found = list(inputs)
        for _ in range(int(draw.integers(1, most + 1))) if self.layers else ():
            layer = self.layers[int(draw.integers(len(self.layers)))]
            units = layer.tape.graph.tensors[layer.out].shape[-1]
            unit = draw.integers(0, units, len(found[0]))
            wanted = (layer.level * draw.random(len(found[0]))).astype(np.float32)
            for _ in range(STEPS):
                found = self._stepped(layer, found, unit, wanted)
        return found

    def _stepped(self, layer: Layer, inputs: Sequence[Array], unit: Array, wanted: Array) -> list[Array]:
        """One step of Newton towards unit `unit` (n,) having the value `wanted` (n,), on average over positions."""
        slopes: dict[int, Array] = {}

        def watched(i: int, v: Array) -> tuple[Array, Callable[[Array], Array]] | None:
            if i not in self._inputs:
                return None

            def keep(g: Array) -> Array:
                slopes[i] = g
                return g

            return v, keep

        values = layer.tape.forward(dict(zip(self._inputs, inputs, strict=True)), {}, (), watched, True)[layer.out]
        n, rows = len(unit), np.arange(len(unit))
        by_unit = values.reshape(n, -1, values.shape[-1])
        slope = np.zeros_like(by_unit)
        slope[rows, :, unit] = 1 / by_unit.shape[1]
        layer.tape.backward({layer.out: slope.reshape(values.shape)})
        away = wanted - by_unit[rows, :, unit].mean(axis=1)
        ways = [slopes[i] * v if i in slopes else None for i, v in zip(self._inputs, self._variances, strict=True)]
        # δ = σ²·∇·away / Σ σ²·∇², and Σ (δ/σ)² = away² / Σ σ²·∇².
        steepness = sum(
            (slopes[i] * w).reshape(n, -1).sum(axis=1, dtype=np.float64)
            for i, w in zip(self._inputs, ways, strict=True)
            if w is not None
        )
        size = sum(a.size // n for a in inputs)
        factor = away / np.maximum(steepness, 1e-12)
        length = np.abs(away) / np.sqrt(np.maximum(steepness, 1e-12) * size)
        factor = (factor * np.minimum(1.0, MOST / np.maximum(length, 1e-12))).astype(np.float32)
        return [
            a if w is None else np.clip(a + w * factor.reshape(-1, *[1] * (a.ndim - 1)), s.low, s.high)
            for a, w, s in zip(inputs, ways, self._seen, strict=True)
        ]


def _unactivated(graph: Graph, n: int) -> Graph:
    """The graph with operation n without its activation: a unit that is off has a slope, too."""
    ops, options = list(graph.ops), graph.ops[n].options
    if options is not None and "fused_activation_function" in options.values:
        values = {**options.values, "fused_activation_function": Activation.NONE}
        ops[n] = replace(ops[n], options=replace(options, values=values))
    return graph.with_main(ops=tuple(ops))
