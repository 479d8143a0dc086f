"""New scales for a model that is quantized already; the weights stay as they are, bit for bit.

A layer's accumulator counts in units of s_in · s_w. A new s_in changes the unit, so the bias is counted anew:
b' = round(b · s_in / s_in'). Multipliers, clamps and tables follow from the scales when the model is loaded.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.errors import QuantizeError
from edgeq.feed import quantmod_of
from edgeq.graph import Graph, Op, Quantization, Tensor
from edgeq.quantize.groups import Groups
from edgeq.quantize.parameters import quantization
from edgeq.quantize.parameters import transform as transform_of
from edgeq.quantize.rules import RULES, Rule
from edgeq.quantize.weights import MOST_MULTIPLIER
from edgeq.quantmod import QuantMod
from edgeq.records import dataclass, field, replace

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Scales:
    """Which tensors of an integer graph may have another scale.

    groups: quantized tensor → one of those that share its scale; pinned: the groups that keep theirs.
    """

    groups: Mapping[int, int]
    pinned: frozenset[int]

    def free(self) -> dict[int, list[int]]:
        """The tensors of each group that may change."""
        out: dict[int, list[int]] = {}
        for tensor, group in self.groups.items():
            if group not in self.pinned:
                out.setdefault(group, []).append(tensor)
        return out


def scales(graph: Graph, keep_io: bool = True) -> Scales:
    """The groups of an integer graph.

    Pinned are: what the caller feeds and reads (with keep_io); what a kernel prescribes; what an operation without a
    rule touches, since nothing is known of what it asks for; what shares its scale with a constant.
    """
    coded = {i: q for i, t in enumerate(graph.tensors) if t.data is None and (q := quantmod_of(t)) is not None}
    groups = Groups()
    for i in coded:
        groups.add(i)
    pinned = set(coded) & {*graph.inputs, *graph.outputs} if keep_io else set()
    for op in graph.ops:
        rule = RULES.get(op.code)
        touched = [i for i in (*op.inputs, *op.outputs) if i in coded]
        if op.code == "DEQUANTIZE":
            continue
        if rule is None:
            pinned.update(touched)
            continue
        if rule.output is not None:
            pinned.update(op.outputs)
        if rule.weights is not None and graph.tensors[op.inputs[rule.weights]].data is None:
            pinned.update(touched)  # weights that are computed: the bias counts in units of both scales
        if op.code == "QUANTIZE" and len(touched) == 2 and coded[touched[0]].scale == coded[touched[1]].scale:
            pinned.update(touched)  # from uint8 to int8 and the like, without loss as it is
        if rule.same_scale:
            out = op.outputs[0]
            for i in touched:
                if coded[i] == coded.get(out):  # uint8 concatenation takes inputs of other scales
                    groups.join(out, i)
            if any(graph.tensors[op.inputs[k]].data is not None for k in rule.inputs(op) if k < len(op.inputs)):
                pinned.add(out)
    found = {i: groups.find(i) for i in coded}
    return Scales(MappingProxyType(found), frozenset(found[i] for i in pinned if i in found))


def transform(graph: Graph, group: int, a: float, b: float) -> QuantMod:
    """The transform of a span in the dtype of a group's tensors."""
    return transform_of(a, b, graph.tensors[group].dtype)


@dataclass(frozen=True, eq=False)
class Counted:
    """What earlier calls for one graph have made, for those that follow.

    biases: by tensor, input and the input's scale; scaled: by tensor, the transform that it had last and what it was under it;
    limits: by operation, its greatest bias as a share of what there is room for, and the greatest of its weights' scales;
    readers: of each tensor.
    """

    biases: dict[tuple[int, int, float], Tensor] = field(default_factory=dict)
    scaled: dict[int, tuple[QuantMod, Tensor]] = field(default_factory=dict)
    limits: dict[int, tuple[float, float]] = field(default_factory=dict)
    readers: dict[int, list[int]] = field(default_factory=dict)

    def tensor(self, graph: Graph, i: int, q: QuantMod) -> Tensor:
        """A tensor of the graph under a transform."""
        known = self.scaled.get(i)
        if known is None or known[0] is not q:
            known = self.scaled[i] = q, replace(graph.tensors[i], quantization=quantization(q))
        return known[1]


def rescale(
    graph: Graph, found: Scales, spans: Mapping[int, tuple[float, float]], counted: Counted | None = None
) -> Graph:
    """The graph with the free groups' tensors in new scales, and every bias counted in the new units.

    counted: what earlier calls for this very graph have left, and this one leaves.
    """
    counted = Counted() if counted is None else counted
    new = {g: transform(graph, g, a, b) for g, (a, b) in spans.items()}
    _widen(graph, found, new, counted)
    tensors = list(graph.tensors)
    for i, group in found.groups.items():
        if group in new:
            tensors[i] = counted.tensor(graph, i, new[group])
    ops = list(graph.ops)
    if not counted.readers:
        counted.readers.update(graph.main.consumers())
    readers = counted.readers
    for n, op in enumerate(graph.ops):
        rule = RULES.get(op.code)
        if rule is None or rule.bias is None or rule.bias >= len(op.inputs) or op.inputs[rule.bias] < 0:
            continue
        source, at = op.inputs[rule.data[0]], op.inputs[rule.bias]
        if found.groups.get(source) not in new:
            continue
        key = at, source, _scale(tensors[source])
        if key not in counted.biases:
            counted.biases[key] = _recounted(graph.tensors[at], graph.tensors[source], tensors[source])
        bias = counted.biases[key]
        if len(readers[at]) == 1:
            tensors[at] = bias
        else:  # each layer that shares it has its own input scale now
            tensors.append(replace(bias, buffer=0))
            inputs = tuple(len(tensors) - 1 if k == rule.bias else i for k, i in enumerate(op.inputs))
            ops[n] = replace(op, inputs=inputs)
    return graph.with_main(tensors=tuple(tensors), ops=tuple(ops))


def _recounted(bias: Tensor, old: Tensor, new: Tensor) -> Tensor:
    """The bias in units of the new input scale; exact before the one rounding (halves to even)."""
    before, after = _scale(old), _scale(new)
    old_codes = np.asarray(bias.data).reshape(-1)
    about = old_codes * (float(before) / float(after))
    near = np.rint(about)
    most = float(np.abs(near).max(initial=0.0))
    if most < 2.0**40:  # so float64 errs by less than 2^-10: only what is close to a half is in doubt
        codes = near.astype(np.int64)
        about -= near
        np.abs(about, out=about)
        doubt = np.flatnonzero(about > 0.5 - 2.0**-9).tolist()  # it is 0.5 at most
    else:
        codes, doubt = np.zeros(len(near), object), list(range(len(near)))
    if doubt:
        (a, b), (c, d) = float(before).as_integer_ratio(), float(after).as_integer_ratio()
        for k in doubt:
            codes[k] = _nearest(int(old_codes[k]) * a * d, b * c)
    info = np.iinfo(old_codes.dtype)
    if 2.0 * most >= info.max and not all(
        info.min < c <= info.max for c in (codes.min(initial=0), codes.max(initial=0))
    ):
        raise QuantizeError(f"bias {bias.name!r} does not fit {bias.dtype} at input scale {after}")
    data = codes.astype(info.dtype).reshape(bias.shape)
    q = bias.quantization
    if q is not None and len(q.scale):
        q = Quantization((q.scale / before * after).astype(np.float32), q.zero_point, q.axis)
    return replace(bias, data=data, quantization=q, buffer=0)


def _nearest(a: int, b: int) -> int:
    """round(Fraction(a, b)), b > 0, without the reducing that takes most of the time (and 1.5 ms to import)."""
    whole, rest = divmod(a, b)
    return whole + (2 * rest > b or (2 * rest == b and whole % 2 == 1))


def _widen(graph: Graph, found: Scales, new: dict[int, QuantMod], counted: Counted) -> None:
    """Widen what would take a layer's multiplier s_in · s_w / s_out, or its bias, out of the runtimes' reach."""
    for n, op in enumerate(graph.ops):
        rule = RULES.get(op.code)
        if rule is None or rule.weights is None or op.inputs[rule.data[0]] not in found.groups:
            continue
        source = op.inputs[rule.data[0]]
        if n not in counted.limits:
            q = graph.tensors[op.inputs[rule.weights]].quantization
            counted.limits[n] = _bias_share(graph, op, rule), 0.0 if q is None else float(q.scale.max())
        share, step = counted.limits[n]
        if share:
            _at_least(graph, found, new, source, _scale(graph.tensors[source]) * share)
        if step and op.outputs[0] in found.groups:
            _at_least(graph, found, new, op.outputs[0], _at(graph, found, new, source) * step / MOST_MULTIPLIER)


def _bias_share(graph: Graph, op: Op, rule: Rule) -> float:
    """The greatest bias of a layer, as a share of what there is room for; 0 where it has none."""
    if rule.bias is None or rule.bias >= len(op.inputs) or op.inputs[rule.bias] < 0:
        return 0.0
    bias = np.asarray(graph.tensors[op.inputs[rule.bias]].data)
    return float(np.abs(bias).max(initial=0)) / (2.0**30 if bias.dtype == np.int32 else 2.0**38)


def _at_least(graph: Graph, found: Scales, new: dict[int, QuantMod], tensor: int, scale: float) -> None:
    """Give a tensor's group a scale of at least this, if it is free."""
    group = found.groups[tensor]
    if group in new and float(new[group].scale) < scale:
        lo, hi = new[group].limits
        factor = scale / float(new[group].scale)
        new[group] = transform(graph, group, float(lo) * factor, float(hi) * factor)


def _at(graph: Graph, found: Scales, new: Mapping[int, QuantMod], i: int) -> float:
    """A tensor's scale as it will be."""
    group = found.groups[i]
    return float(new[group].scale) if group in new else _scale(graph.tensors[i])


def _scale(t: Tensor) -> float:
    assert t.quantization is not None
    return float(t.quantization.scale[0])
