"""Where integers run: which operations take their integer form, which tensors hold codes, which of these share a
scale."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from edgeq.graph import Graph, Op
from edgeq.quantize.groups import Groups
from edgeq.quantize.rules import Rule, rule_for
from edgeq.quantmod import QuantMod
from edgeq.recipe import RECIPES, Recipe, Treatment
from edgeq.records import dataclass

INTEGERS: Mapping[str, str] = MappingProxyType({"int8": "int8", "int16x8": "int16"})
"""Precision of an operation that runs in integers → dtype of its activations."""

LEAST_STORED = 256
"""Weights that a float operation must have for it to pay to store them in int8."""


@dataclass(frozen=True)
class Layout:
    """The integer part of a float graph.

    rules: the operations that become integer, by index. dtypes: of the tensors that hold codes from then on, "int8" or
    "int16": that of the operation which writes them. homes: the same, and for what floats compute and integers read the
    dtype of its first reader. treatments: what the recipe says of each operation with weights;
    stored: the float operations whose weights are stored in int8, and how: "dynamic", "weights", or "convolution", a
    FULLY_CONNECTED as a 1 × 1 convolution, whose hybrid kernel has a scale per channel in every runtime. groups: each
    tensor that an integer operation reads or writes → one of those that share its scale, the same one for all of them.
    fixed: the scale and zero point of the groups that may have no other. constants: float constants whose codes are
    written in a group's scale, by group.
    """

    rules: Mapping[int, Rule]
    dtypes: Mapping[int, str]
    homes: Mapping[int, str]
    treatments: Mapping[int, Treatment]
    stored: Mapping[int, str]
    groups: Mapping[int, int]
    fixed: Mapping[int, QuantMod]
    constants: Mapping[int, tuple[int, ...]]

    def dtype(self, op: Op) -> str:
        """Of the activations that an integer operation writes."""
        return self.dtypes[op.outputs[0]]

    def members(self) -> dict[int, list[int]]:
        """The tensors of each group."""
        out: dict[int, list[int]] = {}
        for tensor, group in self.groups.items():
            out.setdefault(group, []).append(tensor)
        return out


def arrange(
    graph: Graph, recipe: Recipe = RECIPES["int8"], runs: Callable[[Graph, Op, Rule, str], bool] | None = None
) -> Layout:
    """The layout of a float graph's main subgraph.

    An operation that only moves values (same scale in and out) stays float where all that it reads is float: turning
    integer there would cost precision and gain nothing. Else it follows what it moves, in int16 if any of it is. runs:
    whether the engine has the integer form of an operation whose rule tells to ask; all have, where there is nobody to
    ask.
    """
    return _Arrangement(graph, recipe, runs).layout()


class _Arrangement:
    def __init__(self, graph: Graph, recipe: Recipe, runs: Callable[[Graph, Op, Rule, str], bool] | None) -> None:
        self._graph = graph
        self._recipe = recipe
        self._runs = runs
        self._groups = Groups()
        self._rules: dict[int, Rule] = {}
        self._dtypes: dict[int, str] = {}
        self._homes: dict[int, str] = {}
        self._treatments: dict[int, Treatment] = {}
        self._stored: dict[int, str] = {}
        self._outside = INTEGERS.get(recipe.precision)
        """Of the model's inputs, and of outputs that floats come to."""

    def layout(self) -> Layout:
        graph = self._graph
        if self._outside is not None:
            self._dtypes |= {i: self._outside for i in graph.inputs if graph.tensors[i].dtype == "float32"}
        for n, op in enumerate(graph.ops):
            rule = rule_for(op, graph.main)
            if rule is not None:
                self._place(n, op, rule)
        if self._outside is not None:
            for i in (*graph.inputs, *graph.outputs):
                if graph.tensors[i].dtype == "float32" and graph.tensors[i].data is None:
                    self._dtypes.setdefault(i, self._outside)
        for i in self._dtypes:
            self._groups.add(i)
        groups = self._groups
        return Layout(
            MappingProxyType(self._rules),
            MappingProxyType(self._dtypes),
            MappingProxyType({**self._homes, **self._dtypes}),
            MappingProxyType(self._treatments),
            MappingProxyType(self._stored),
            MappingProxyType({i: groups.find(i) for i in groups.parent}),
            MappingProxyType({groups.find(i): q for i, q in groups.fixed.items()}),
            MappingProxyType(groups.constants()),
        )

    def _place(self, n: int, op: Op, rule: Rule) -> None:
        """Make an operation integer, or store its weights so, or neither."""
        tensors, groups = self._graph.tensors, self._groups
        treatment = self._recipe.treatment(op.code, tensors[op.outputs[0]].name)
        if rule.weights is not None:
            self._treatments[n] = treatment
            if treatment.precision in ("dynamic", "weights") and tensors[op.inputs[rule.weights]].size >= LEAST_STORED:
                self._stored[n] = treatment.precision
        reads = [op.inputs[k] for k in rule.inputs(op) if k < len(op.inputs)]
        computed = [i for i in reads if tensors[i].data is None]
        dtype = INTEGERS.get(treatment.precision)
        if rule.same_scale:
            met = {self._dtypes[i] for i in computed if i in self._dtypes}
            dtype = None if dtype is None or not met else "int16" if "int16" in met else "int8"
        if dtype is None or not computed or (dtype == "int16" and not rule.wide):
            return
        if rule.asked and self._runs is not None and not self._runs(self._graph, op, rule, dtype):
            return
        self._rules[n] = rule
        self._dtypes |= dict.fromkeys(op.outputs, dtype)
        for i in (*computed, *op.outputs):
            groups.add(i)
        prescribed = rule.prescribed(dtype)
        if prescribed is not None:
            groups.fix(op.outputs[0], prescribed)
        if rule.same_scale:
            for i in op.outputs[1:]:
                groups.join(op.outputs[0], i)
            _share(groups, op.outputs[0], [i for i in computed if self._dtypes.get(i, dtype) == dtype])
            for i in reads:
                if tensors[i].data is not None:
                    groups.hold(op.outputs[0], i)
        for i in computed:
            self._homes.setdefault(i, dtype)


def _share(groups: Groups, out: int, reads: list[int]) -> None:
    """Let an operation's inputs share its output's scale.

    A scale that a kernel prescribes (softmax's) spreads to others only if all of them have it; else those that have it
    are read through a QUANTIZE, so that it does not clip the rest.
    """
    prescribed = {groups.fixed.get(groups.find(i)) for i in reads}
    for i in reads:
        if len(prescribed) == 1 or groups.find(i) not in groups.fixed:
            groups.join(out, i)
