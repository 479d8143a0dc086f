"""The integer graph: codes for reals, and a QUANTIZE or DEQUANTIZE wherever an operation has no integer form."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from edgeq.graph import Graph, Op, Padding, Quantization, Tensor
from edgeq.quantize.canonical import prune
from edgeq.quantize.parameters import Parameters, Rewritten, form, quantization, transform
from edgeq.quantize.rules import RULES, Rule, hybrid_kernel
from edgeq.quantize.weights import Coded, quantize_weights
from edgeq.quantmod import QuantMod, named
from edgeq.records import replace
from edgeq.tflite.schema import table

if TYPE_CHECKING:
    from edgeq.quantize.layout import Layout

Array = npt.NDArray[Any]
Codes = Mapping[int, Coded]
"""By operation: weights that were rounded otherwise than to the nearest code; they count where their scale is wanted."""


Made = dict[tuple[Any, ...], tuple[Any, ...]]
"""By what they are made of, told by identity: tensors, and what holds that in memory."""

MOST_MADE: Final = 1 << 10
"""Constants that are kept."""


def rewrite(
    graph: Graph,
    layout: Layout,
    parameters: Parameters,
    per_channel: bool | None = None,
    codes: Codes | None = None,
    biases: Mapping[int, Array] | None = None,
    made: Made | None = None,
) -> Rewritten:
    """`graph` with the operations of `layout` in their integer form, and weights stored as it says.

    per_channel: overrules what the layout says of each operation. biases: real ones in place of the graph's, by operation. made:
    constants of this graph that were made before, and from then on those made now: the same object where nothing changed.
    """
    build = _Build(graph, layout, parameters, per_channel, codes or {}, biases or {}, {} if made is None else made)
    ops = {}
    for n, op in enumerate(graph.ops):
        if n in layout.rules:
            build.integer(n, op, layout.rules[n])
            ops[n] = len(build.ops) - 1
        else:
            ops_after = build.real(n, op)
            if n in layout.stored:
                ops[n] = len(build.ops) - 1 - ops_after
    done, place = prune(graph.with_main(tensors=tuple(build.tensors), ops=tuple(build.ops)))
    there = {i: i if i in place else build.pictures.get(i, -1) for i, t in enumerate(graph.tensors) if t.data is None}
    computed = {i: place[j] for i, j in there.items() if j >= 0 and j in place}
    return Rewritten(done, MappingProxyType(computed), MappingProxyType(ops))


def refilled(
    done: Rewritten, graph: Graph, layout: Layout, parameters: Parameters, n: int, codes: Coded, bias: Array | None
) -> Rewritten:
    """What was rewritten, with other weights in operation n, which runs in integers and shares them with no other."""
    op, there = graph.ops[n], done.graph.ops[done.ops[n]]
    rule, out = layout.rules[n], parameters[op.outputs[0]]
    source = form(parameters[op.inputs[rule.data[0]]], named(out.dtype))
    per_channel = layout.treatments[n].per_channel
    found = _constants(graph.tensors, op, rule, source, out, per_channel, codes, bias)
    tensors = list(done.graph.tensors)
    for k, coded in zip((rule.weights, rule.bias), found, strict=True):
        if coded is not None and k is not None:
            tensors[there.inputs[k]] = _constant(tensors[there.inputs[k]], coded)
    return replace(done, graph=done.graph.with_main(tensors=tuple(tensors)))


class _Build:
    """The graph as it grows. Tensors keep their index; what is new is appended."""

    def __init__(
        self,
        graph: Graph,
        layout: Layout,
        parameters: Parameters,
        per_channel: bool | None,
        codes: Codes,
        biases: Mapping[int, Array],
        made: Made,
    ) -> None:
        self.tensors = list(graph.tensors)
        self.ops: list[Op] = []
        self._floats = graph.tensors
        self._layout = layout
        self._parameters = parameters
        self._per_channel = per_channel
        self._rounded = codes
        self._biases = biases
        self._kept = made
        self.pictures: dict[int, int] = {}  # rows as pictures of one pixel, (rows, 1, 1, channels)
        self._readers = graph.main.consumers()
        self._outputs = graph.outputs
        self._made: dict[tuple[Any, ...], int] = {}  # what stands for a tensor in another form, made once
        for i in layout.dtypes:
            self.tensors[i] = self._code(graph.tensors[i], parameters[i])

    def integer(self, n: int, op: Op, rule: Rule) -> None:
        """An operation in its integer form."""
        inputs = list(op.inputs)
        out = self._parameters[op.outputs[0]]
        for k in rule.inputs(op):
            if k < len(inputs):
                inputs[k] = self._codes(inputs[k], named(out.dtype), out if rule.same_scale else None)
        if rule.weights is not None:
            self._weights(n, op, rule, inputs, out)
        self.ops.append(replace(op, inputs=tuple(inputs), version=1))

    def real(self, n: int, op: Op) -> int:
        """An operation that stays as it is, among reals; how many operations follow it."""
        inputs = [self._reals(i) for i in op.inputs]
        if n in self._layout.stored:
            self._store(n, op, inputs)
        outputs = list(op.outputs)
        after = []
        for k, i in enumerate(op.outputs):
            if i in self._layout.dtypes:
                outputs[k] = self._made[i, "real"] = self._new(_called(self._floats[i], "real"))
                after.append(Op("QUANTIZE", (outputs[k],), (i,)))
        done = replace(op, inputs=tuple(inputs), outputs=tuple(outputs))
        if self._layout.stored.get(n) == "convolution":
            done, back = self._convolution(done)
            after = [*back, *after]
        self.ops += [done, *after]
        return len(after)

    def _convolution(self, op: Op) -> tuple[Op, list[Op]]:
        """A FULLY_CONNECTED with weights (out, 1, 1, in) as a convolution of pictures of one pixel, and what follows it."""
        x, y = op.inputs[0], op.outputs[0]
        if x not in self.pictures:
            self.pictures[x] = self._picture(x, self.tensors[op.inputs[1]].shape[3])
            self.ops.append(self._reshape(x, self.pictures[x], (-1, *self.tensors[self.pictures[x]].shape[1:])))
        self.pictures[y] = self._picture(y, self.tensors[y].shape[-1])
        inputs = [self.pictures[x], *op.inputs[1:]]
        if len(inputs) < 3 or inputs[2] < 0:  # XNNPACK wants a bias
            out = self.tensors[op.inputs[1]].shape[0]
            inputs[2:] = [
                self._new(Tensor(f"{self.tensors[y].name}/bias", (out,), "float32", np.zeros(out, np.float32)))
            ]
        assert op.options is not None
        act = op.options.values.get("fused_activation_function", 0)
        options = table("Conv2DOptions", padding=Padding.VALID, stride_w=1, stride_h=1, fused_activation_function=act)
        done = Op("CONV_2D", tuple(inputs), (self.pictures[y],), options)
        alike = all(self._layout.stored.get(k) == "convolution" for k in self._readers.get(y, []))
        if alike and self._readers.get(y) and y not in self._outputs:
            return done, []  # nobody reads the rows
        return done, [self._reshape(self.pictures[y], y, (-1, *self.tensors[y].shape[1:]))]

    def _picture(self, i: int, channels: int) -> int:
        t = self.tensors[i]
        shape = (t.size // channels, 1, 1, channels)
        open_ = t.shape_signature is not None and -1 in t.shape_signature
        signature = (-1, *shape[1:]) if open_ else None
        return self._new(replace(_called(t, "picture"), shape=shape, shape_signature=signature))

    def _reshape(self, x: int, y: int, shape: tuple[int, ...]) -> Op:
        data = np.array(shape, np.int32)
        at = self._new(Tensor(f"{self.tensors[y].name}/shape", data.shape, "int32", data))
        return Op("RESHAPE", (x, at), (y,), table("ReshapeOptions", new_shape=data))

    def _codes(self, i: int, dtype: str, wanted: QuantMod | None) -> int:
        """Tensor i as codes, in the transform wanted or in its own."""
        t = self._floats[i]
        if t.data is not None:
            data = np.asarray(t.data)
            q = wanted or transform(float(data.min(initial=0.0)), float(data.max(initial=0.0)), dtype)
            return self._once((i, q), lambda: replace(self._code(t, q), data=q.quantize(data), buffer=0))
        q = wanted or form(self._parameters[i], dtype)
        if i in self._layout.dtypes and self._parameters[i] == q:
            return i
        key = (i, q)
        if key not in self._made:
            # tflite-runtime 2.14 has no way from 8 bits to 16 but through floats.
            source = self._reals(i) if dtype == "int16" and self._layout.dtypes.get(i) == "int8" else i
            self._made[key] = self._new(_called(self._code(t, q), "requantized"))
            self.ops.append(Op("QUANTIZE", (source,), (self._made[key],)))
        return self._made[key]

    def _reals(self, i: int) -> int:
        """Tensor i as real numbers."""
        if i not in self._layout.dtypes:
            return i
        key = (i, "real")
        if key not in self._made:
            self._made[key] = self._new(_called(self._floats[i], "real"))
            self.ops.append(Op("DEQUANTIZE", (i,), (self._made[key],)))
        return self._made[key]

    def _weights(self, n: int, op: Op, rule: Rule, inputs: list[int], out: QuantMod) -> None:
        """Put integer weights and bias into `inputs`."""
        assert rule.weights is not None
        source = form(self._parameters[op.inputs[rule.data[0]]], named(out.dtype))
        per_channel = self._layout.treatments[n].per_channel if self._per_channel is None else self._per_channel
        known, real = self._rounded.get(n), self._biases.get(n)
        own = [
            self._floats[op.inputs[k]] for k in (rule.weights, rule.bias) if k is not None and 0 <= k < len(op.inputs)
        ]
        held = (op, known, real, *own)
        of = (*map(id, held), float(source.scale), float(out.scale), named(out.dtype), per_channel)
        if of not in self._kept:
            coded = _constants(self._floats, op, rule, source, out, per_channel, known, real)
            if len(self._kept) >= MOST_MADE:
                self._kept.clear()
            self._kept[of] = (
                self._told(own[0], coded[0]),
                None
                if coded[1] is None or rule.bias is None
                else _constant(self._floats[op.inputs[rule.bias]], coded[1]),
                *held,
            )
        weights, bias = self._kept[of][:2]
        if len(self._readers[op.inputs[rule.weights]]) == 1:
            inputs[rule.weights] = self._new(weights)
        else:  # layers that share weights go on sharing them where their codes are the same; a bias is each layer's own
            q = weights.quantization
            key = (inputs[rule.weights], q.scale.tobytes(), q.axis, weights.data.tobytes())
            inputs[rule.weights] = self._once(key, lambda: weights)
        if bias is not None and rule.bias is not None:
            inputs[rule.bias] = self._new(bias)

    def _told(self, real: Tensor, coded: Coded) -> Tensor:
        """Weights in these codes: those of the candidate before, if they are the same in other scales of values."""
        of = (id(real), id(coded.data), coded.scale.tobytes(), coded.axis)
        if of not in self._kept:
            self._kept[of] = (_constant(real, coded), real, coded)
        made: Tensor = self._kept[of][0]
        return made

    def _store(self, n: int, op: Op, inputs: list[int]) -> None:
        """Put int8 weights into `inputs` of a float operation, behind a DEQUANTIZE where its kernel wants floats.

        A kernel that quantizes its input when it meets it takes one scale per tensor in FULLY_CONNECTED (tflite-runtime
        2.14 reads the first alone) and one per channel in CONV_2D. DEPTHWISE_CONV_2D's is left to TFLite: what stores
        weights only is exact.
        """
        rule = RULES[op.code]
        assert rule.weights is not None
        w = self._floats[op.inputs[rule.weights]]
        how = self._layout.stored[n]
        hybrid = how != "weights" and hybrid_kernel(op, self._floats)
        per_channel = self._layout.treatments[n].per_channel if self._per_channel is None else self._per_channel
        if how == "dynamic" and op.code == "FULLY_CONNECTED":
            per_channel = False
        known = self._rounded.get(n)
        weights, _ = quantize_weights(np.asarray(w.data), rule.axis, None, 1.0, 1.0, per_channel, known=known)
        weights = _rounding(known, weights)
        as_picture = how == "convolution"
        if as_picture:
            w = replace(w, shape=(w.shape[0], 1, 1, w.shape[1]), shape_signature=None)
            weights = replace(weights, data=weights.data.reshape(w.shape))
        key = (op.inputs[rule.weights], weights.scale.tobytes(), weights.axis, weights.data.tobytes(), as_picture)
        at = self._once(key, lambda: _constant(w, weights))
        if not hybrid:
            if (at, "real") not in self._made:
                self._made[at, "real"] = self._new(replace(_called(w, "real"), data=None, buffer=0))
                self.ops.append(Op("DEQUANTIZE", (at,), (self._made[at, "real"],)))
            at = self._made[at, "real"]
        inputs[rule.weights] = at

    def _once(self, key: tuple[Any, ...], make: Callable[[], Tensor]) -> int:
        if key not in self._made:
            self._made[key] = self._new(make())
        return self._made[key]

    def _code(self, t: Tensor, q: QuantMod) -> Tensor:
        of = (id(t), id(q))
        if of not in self._kept:
            self._kept[of] = (replace(t, dtype=named(q.dtype), quantization=quantization(q)), t, q)
        coded: Tensor = self._kept[of][0]
        return coded

    def _new(self, t: Tensor) -> int:
        self.tensors.append(t)
        return len(self.tensors) - 1


def _constants(
    floats: tuple[Tensor, ...],
    op: Op,
    rule: Rule,
    source: QuantMod,
    out: QuantMod,
    per_channel: bool,
    known: Coded | None,
    bias: Array | None,
) -> tuple[Coded, Coded | None]:
    """Weights and bias of an operation that reads codes of `source` and writes codes of `out`.

    known: the weights' codes, where they were rounded with regard to more than themselves; bias: a real one in place of the
    operation's own.
    """
    assert rule.weights is not None
    has_bias = rule.bias is not None and rule.bias < len(op.inputs) and op.inputs[rule.bias] >= 0
    own = np.asarray(floats[op.inputs[rule.bias]].data) if has_bias and rule.bias is not None else None
    weights, coded = quantize_weights(
        np.asarray(floats[op.inputs[rule.weights]].data),
        rule.axis,
        own if own is None or bias is None else bias,
        float(source.scale),
        float(out.scale),
        per_channel,
        out.dtype == np.int16,
        known,
    )
    return _rounding(known, weights), coded


def _rounding(found: Coded | None, near: Coded) -> Coded:
    """Weights as they were rounded with regard to more than themselves; a channel of another scale gets that."""
    if found is None or found.axis != near.axis or len(found.scale) != len(near.scale):
        return near
    if np.array_equal(found.scale, near.scale):
        return found
    shape = [1] * found.data.ndim
    shape[found.axis] = -1
    ratio = (found.scale.astype(np.float64) / near.scale.astype(np.float64)).reshape(shape)
    data = np.clip(np.rint(found.data * ratio), -127, 127).astype(np.int8)
    # Of a channel that is never used all are 0 in any scale: the same array tells plans that there is nothing to lay out anew.
    return replace(near, data=found.data if np.array_equal(data, found.data) else data)


def _called(t: Tensor, what: str) -> Tensor:
    return replace(t, name=f"{t.name}/{what}")


def _constant(t: Tensor, coded: Coded) -> Tensor:
    q = Quantization(coded.scale, np.zeros(len(coded.scale), np.int64), coded.axis)
    return replace(t, dtype=named(coded.data.dtype), data=coded.data, quantization=q, buffer=0)
