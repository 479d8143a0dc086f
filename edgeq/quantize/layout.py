"""Where integers run: which operations take their integer form, which tensors hold codes, which of these share a
scale."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from edgeq.graph import Graph
from edgeq.quantize.rules import Rule, rule_for
from edgeq.quantmod import QuantMod


@dataclass(frozen=True)
class Layout:
    """The integer part of a float graph.

    rules: the operations that become integer, by index. coded: the tensors that hold codes from then on. groups: each
    tensor that an integer operation reads or writes → one of those that share its scale, the same one for all of them.
    fixed: the scale and zero point of the groups that may have no other. constants: float constants whose codes are
    written in a group's scale, by group.
    """

    rules: Mapping[int, Rule]
    coded: frozenset[int]
    groups: Mapping[int, int]
    fixed: Mapping[int, QuantMod]
    constants: Mapping[int, tuple[int, ...]]

    def members(self) -> dict[int, list[int]]:
        """The tensors of each group."""
        out: dict[int, list[int]] = {}
        for tensor, group in self.groups.items():
            out.setdefault(group, []).append(tensor)
        return out


def arrange(graph: Graph) -> Layout:
    """The layout of a float graph's main subgraph.

    An operation that only moves values (same scale in and out) stays float where all that it reads is float: turning
    integer there would cost precision and gain nothing.
    """
    groups = Groups()
    coded = {i for i in graph.inputs if graph.tensors[i].dtype == "float32"}
    rules: dict[int, Rule] = {}
    for n, op in enumerate(graph.ops):
        rule = rule_for(op, graph.main)
        if rule is None:
            continue
        reads = [op.inputs[k] for k in rule.inputs(op) if k < len(op.inputs)]
        computed = [i for i in reads if graph.tensors[i].data is None]
        if not computed or (rule.same_scale and not coded.intersection(computed)):
            continue
        rules[n] = rule
        coded.update(op.outputs)
        for i in (*computed, *op.outputs):
            groups.add(i)
        if rule.output is not None:
            groups.fix(op.outputs[0], rule.output)
        if rule.same_scale:
            for i in op.outputs[1:]:
                groups.join(op.outputs[0], i)
            _share(groups, op.outputs[0], computed)
            for i in reads:
                if graph.tensors[i].data is not None:
                    groups.hold(op.outputs[0], i)
    for i in (*graph.inputs, *graph.outputs):
        if graph.tensors[i].dtype == "float32" and graph.tensors[i].data is None:
            coded.add(i)
            groups.add(i)
    return Layout(
        MappingProxyType(rules),
        frozenset(coded),
        MappingProxyType({i: groups.find(i) for i in groups.parent}),
        MappingProxyType({groups.find(i): q for i, q in groups.fixed.items()}),
        MappingProxyType(groups.constants()),
    )


def _share(groups: Groups, out: int, reads: list[int]) -> None:
    """Let an operation's inputs share its output's scale.

    A scale that a kernel prescribes (softmax's) spreads to others only if all of them have it; else those that have it
    are read through a QUANTIZE, so that it does not clip the rest.
    """
    prescribed = {groups.fixed.get(groups.find(i)) for i in reads}
    for i in reads:
        if len(prescribed) == 1 or groups.find(i) not in groups.fixed:
            groups.join(out, i)


class Groups:
    """Disjoint sets of tensors; a set may have a prescribed scale."""

    def __init__(self) -> None:
        self.parent: dict[int, int] = {}
        self.fixed: dict[int, QuantMod] = {}
        self._held: list[tuple[int, int]] = []

    def add(self, i: int) -> None:
        """A set of its own for a tensor that is in none."""
        self.parent.setdefault(i, i)

    def find(self, i: int) -> int:
        """The tensor that stands for its set."""
        while self.parent[i] != i:
            self.parent[i] = self.parent[self.parent[i]]
            i = self.parent[i]
        return i

    def join(self, a: int, b: int) -> None:
        """Make one set of two."""
        a, b = self.find(a), self.find(b)
        if a != b:
            self.parent[b] = a
            q = self.fixed.pop(b, None)
            if q is not None:
                self.fixed[a] = q

    def fix(self, i: int, q: QuantMod) -> None:
        """Prescribe the scale of a tensor's set."""
        self.fixed[self.find(i)] = q

    def hold(self, i: int, constant: int) -> None:
        """Note that a constant is written in the scale of a tensor's set."""
        self._held.append((i, constant))

    def constants(self) -> dict[int, tuple[int, ...]]:
        """The constants of each set."""
        out: dict[int, tuple[int, ...]] = {}
        for i, constant in self._held:
            out[self.find(i)] = (*out.get(self.find(i), ()), constant)
        return out
