"""The integer model as something that learns: its weights, biases and steps as real parameters, and the way back.

Values run through the float graph that the codes stand for (edgeq.quantize.reconstruct), with every coded tensor and every
coded weight read as its codes will have it. Parameters are kept in units of their own size, so that one rate serves all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from edgeq.feed import quantmod_of
from edgeq.finetune.codebook import Codebook, codebook_of, levels_of
from edgeq.finetune.layers import Layer, counterparts, float_weights, layers_of
from edgeq.finetune.steps import Codes, fake
from edgeq.graph import Array, Graph, Quantization, Tensor
from edgeq.quantize.canonical import real
from edgeq.quantize.compare import judged
from edgeq.quantize.reconstruct import reconstruct
from edgeq.quantize.rescale import scales
from edgeq.quantize.rules import RULES
from edgeq.quantize.weights import MOST_MULTIPLIER
from edgeq.records import replace
from edgeq.reverse import Tape
from edgeq.reverse.tape import path

Parameters = Mapping[str, Array]

_MOVING = ("RESHAPE", "SQUEEZE", "EXPAND_DIMS", "PAD", "MAX_POOL_2D", "CONCATENATION", "STRIDED_SLICE", "TRANSPOSE")
REACH = 1.0
"""How many codes a weight may move: what it was is known, and samples are few. Levels of a codebook lie too far apart for it."""

_CELL = 0.45
"""How far from its code, in steps, a weight may start: inside what is read as this code, so that the start is the start."""


class Student:
    """An integer graph that learns.

    `initial` are the parameters with which it answers as the graph does; `forward`, `backward` and `graph_of` take them
    as arguments. teacher: float weights in the order of the layers, to start from within their codes.
    """

    def __init__(self, start: Graph, teacher: Graph | None = None) -> None:
        self.start = start
        self.real = reconstruct(start)
        self.targets = tuple(judged(self.real))
        self.tape = Tape(self.real, self.targets)
        self.layers = layers_of(start, self.real, set(path(self.real, self.targets)))
        self.counterparts = counterparts(teacher, start, self.layers) if teacher is not None else {}
        self.free = scales(start)
        self._quantmods = {
            i: q for i, t in enumerate(start.tensors) if t.data is None and (q := quantmod_of(t)) is not None
        }
        self._codes = {i: Codes.of(start.tensors[i].dtype, int(q.zero_point)) for i, q in self._quantmods.items()}
        self._same = _moved_only(start, self.free.groups)
        self._units: dict[str, Array] = {}
        self._weights: dict[int, Codes] = {}
        self._reach: dict[int, Array] = {}
        # Of the last forward pass: steps' gradients, and what takes a weight's gradient on.
        self._grads: dict[str, Array] = {}
        self._backs: dict[int, Any] = {}
        self._books: dict[int, Codebook] = {}
        self.initial = self._parameters(teacher)

    # --- parameters ---------------------------------------------------------------------------------------------------

    @property
    def codebooks(self) -> int:
        """How many layers keep to few levels."""
        return len(self._books)

    def _parameters(self, teacher: Graph | None) -> dict[str, Array]:
        found: dict[str, Array] = {}
        floats = float_weights(teacher, self.start, self.counterparts) if teacher is not None else {}
        for y in self.layers:
            w = real(self.start.tensors[y.weights]).astype(np.float64)
            if y.coded and f"w{y.weights}" not in found:
                q = self.start.tensors[y.weights].quantization
                assert q is not None
                step = self._along(y, q.scale.astype(np.float64))
                self._weights[y.weights] = Codes.of(
                    self.start.tensors[y.weights].dtype, int(q.zero_point[0]) if len(q.zero_point) else 0, True
                )
                codes = w / step
                rows = self._rows(y, np.rint(codes))
                book = codebook_of(rows, size) if (size := levels_of(rows)) else None
                if book is not None:
                    size_levels = np.maximum(np.sqrt((book.levels**2).mean(axis=1, keepdims=True)), 1.0)
                    self._books[y.weights], self._units[f"c{y.weights}"] = book, size_levels
                    found[f"c{y.weights}"] = book.levels / size_levels
                if y.op in floats:
                    codes = self._within(y, codes, floats[y.op] / step, book)
                w = codes * step
                self._reach[y.weights] = step if book is None else step * self._along(y, _gap(book))
                found[f"s{y.weights}"] = np.log(q.scale.astype(np.float64))
            # Where codes lie close, smaller steps do: between the size of a weight and that of a code.
            unit = self._along(y, np.maximum(self._rms(y, w), 1e-12))
            if y.weights in self._reach:
                unit = np.sqrt(unit * np.minimum(self._reach[y.weights], unit))
            if f"w{y.weights}" not in found:
                self._units[f"w{y.weights}"] = unit
                found[f"w{y.weights}"] = (w / unit).astype(np.float32)
            if y.bias is not None:
                b = np.asarray(self.real.tensors[y.bias].data, np.float64)
                out = self.start.ops[y.op].outputs[0]
                size_out = 16 * float(self._quantmods[out].scale) if out in self._quantmods else 0.0
                self._units[f"b{y.bias}"] = np.array(size_out or max(float(np.sqrt((b * b).mean())), 1e-6))
                found[f"b{y.bias}"] = b / self._units[f"b{y.bias}"]
        for group, members in self.free.free().items():
            if any(i in self._quantmods for i in members):
                found[f"a{group}"] = np.array(np.log(float(self._quantmods[members[0]].scale)))
        return found

    def _codes_of(self, y: Layer) -> Array:
        q = self.start.tensors[y.weights].quantization
        assert q is not None
        zero = int(q.zero_point[0]) if len(q.zero_point) else 0
        return np.asarray(self.start.tensors[y.weights].data).astype(np.float64) - zero

    def _within(self, y: Layer, codes: Array, wanted: Array, book: Codebook | None) -> Array:
        """The float weights in steps, held inside what is read as the start's codes."""
        if book is None:
            return np.clip(wanted, np.rint(codes) - _CELL, np.rint(codes) + _CELL)
        rows, target = self._rows(y, codes), self._rows(y, wanted)
        levels, above = book.read(rows)
        which = above.sum(axis=0)
        of = book.levels[book.book]
        edges = 0.5 * (of[:, 1:] + of[:, :-1])
        k = of.shape[1]
        if k == 1:  # a layer that is never used: all of its weights are read as one
            return wanted
        low = np.where(which > 0, np.take_along_axis(edges, np.maximum(which - 1, 0), 1), -np.inf)
        high = np.where(which < k - 1, np.take_along_axis(edges, np.minimum(which, k - 2), 1), np.inf)
        # A little inside: the middle between two levels belongs to the lower one.
        held = np.clip(target, 0.98 * low + 0.02 * levels, 0.98 * high + 0.02 * levels)
        # A weight that was put to another level than its own on purpose (to make up for others) starts at that level.
        held = np.where((target >= low) & (target <= high), held, levels)
        return self._unrows(y, held, codes.shape)

    def _book(self, y: Layer, at: Parameters) -> Codebook:
        name, codes = f"c{y.weights}", self._weights[y.weights]
        levels = np.sort(at[name] * self._units[name], axis=1)
        return self._books[y.weights].at(np.clip(levels, codes.low, codes.high))

    def _along(self, y: Layer, per_channel: Array) -> Array:
        if per_channel.size == 1:
            return per_channel.reshape(())
        shape = [1] * len(self.start.tensors[y.weights].shape)
        shape[y.axis] = per_channel.size
        return per_channel.reshape(shape)

    def _rms(self, y: Layer, w: Array) -> Array:
        root: Array = np.sqrt((self._rows(y, w) ** 2).mean(axis=1))
        return root

    @staticmethod
    def _rows(y: Layer, w: Array) -> Array:
        return np.moveaxis(w, y.axis, 0).reshape(w.shape[y.axis], -1)

    @staticmethod
    def _unrows(y: Layer, rows: Array, shape: tuple[int, ...]) -> Array:
        front = (shape[y.axis], *(n for a, n in enumerate(shape) if a != y.axis % len(shape)))
        return np.moveaxis(rows.reshape(front), 0, y.axis)

    # --- there ----------------------------------------------------------------------------------------------------------

    def forward(
        self,
        at: Parameters,
        inputs: Mapping[int, Array],
        learn: bool = True,
        watched: Mapping[int, Callable[[Array, Array], None]] | None = None,
    ) -> dict[int, Array]:
        """The targets' values (float32) for a batch of inferences, inputs by tensor. watched: what is called on the way back with
        a tensor's values, as they were before they became codes, and their gradient."""
        self._grads, self._backs = {}, {}
        constants = self.constants(at)
        learned = constants if learn else ()
        steps = learn and any(k.startswith("a") for k in at)

        def after(i: int, v: Array) -> tuple[Array, Any] | None:
            found = self._coded(i, v, at)
            if watched is None or i not in watched:
                return found
            values, back = found if found is not None else (v, lambda g: g)

            def told(g: Array) -> Array:
                g = back(g)
                watched[i](v, g)
                return g

            return values, told

        values = self.tape.forward(inputs, constants, learned, after, steps)
        return {i: values[i] for i in self.targets}

    def constants(self, at: Parameters) -> dict[int, Array]:
        """Weights and biases by tensor, float32, as they are read."""
        found: dict[int, Array] = {}
        for y in self.layers:
            if y.weights not in found:
                found[y.weights] = self._read(y, at)
            if y.bias is not None:
                found[y.bias] = (at[f"b{y.bias}"] * self._units[f"b{y.bias}"]).astype(np.float32)
        return found

    def step_of(self, i: int, at: Parameters) -> tuple[str, float, Codes] | None:
        """The parameter that is the logarithm of a computed tensor's step, the step, and its codes; None where it cannot move."""
        if i not in self._quantmods or i in self._same or f"a{self.free.groups[i]}" not in at:
            return None
        name = f"a{self.free.groups[i]}"
        return name, float(np.exp(at[name])), self._codes[i]

    def coded(self, i: int, v: Array, at: Parameters) -> Array:
        """The values of a tensor as others read them."""
        found = self._coded(i, v, at)
        return v if found is None else found[0]

    def backward(self, gradients: Mapping[int, Array]) -> dict[str, Array]:
        """Gradients of the targets → those of the parameters of the last `forward`."""
        found = self.tape.backward(gradients)
        out = dict(self._grads)
        for y in self.layers:
            if y.bias is not None and y.bias in found:
                name = f"b{y.bias}"
                out[name] = found.pop(y.bias).astype(np.float64) * self._units[name]
            if y.weights in found:
                self._backs[y.weights](found.pop(y.weights), out)
        return out

    def _read(self, y: Layer, at: Parameters) -> Array:
        """The weights as their codes have them, float32."""
        name, unit = f"w{y.weights}", self._units[f"w{y.weights}"]
        unit = unit.astype(np.float32)
        w = at[name] * unit
        if not y.coded:
            self._backs[y.weights] = lambda g, out: out.__setitem__(name, g * unit)
            return w.astype(np.float32)
        log_step = at[f"s{y.weights}"]
        step = self._along(y, np.exp(log_step)).astype(np.float32)
        if y.weights in self._books:
            book, levels = self._book(y, at), f"c{y.weights}"
            codes, above = book.read(self._rows(y, w / step))

            def few(g: Array, out: dict[str, Array]) -> None:
                # The grid under a codebook stays: its levels are what moves.
                out[name] = g * unit
                out[levels] = book.gathered(above, self._rows(y, g * step)) * self._units[levels]

            self._backs[y.weights] = few
            return (self._unrows(y, codes, w.shape) * step).astype(np.float32)
        values, back = fake(w, step, self._weights[y.weights])

        def learned(g: Array, out: dict[str, Array]) -> None:
            gw, gs = back(g)
            out[name] = gw * unit
            rows = self._rows(y, gs).sum(axis=1, dtype=np.float64)
            out[f"s{y.weights}"] = rows if log_step.size > 1 else rows.sum(keepdims=True)

        self._backs[y.weights] = learned
        return values.astype(np.float32)

    def _coded(self, i: int, v: Array, at: Parameters) -> tuple[Array, Any] | None:
        if i not in self._quantmods or i in self._same:
            return None
        name = f"a{self.free.groups[i]}"
        step = np.float32(np.exp(at[name])) if name in at else np.float32(self._quantmods[i].scale)
        values, back = fake(v, step, self._codes[i])

        def gradient(g: Array) -> Array:
            gx, gs = back(g)
            if name in at:
                self._grads[name] = self._grads.get(name, np.zeros(())) + gs.sum(dtype=np.float64)
            return gx

        return values, gradient

    def held(self, at: Parameters, around: Parameters) -> dict[str, Array]:
        """The parameters with each coded weight within REACH codes of `around`; those of codebooks go where they like."""
        out = dict(at)
        for y in self.layers:
            if y.weights in self._reach and y.weights not in self._books:
                name = f"w{y.weights}"
                reach = (REACH * self._reach[y.weights] / self._units[name]).astype(np.float32)
                out[name] = np.clip(at[name], around[name] - reach, around[name] + reach)
        return out

    # --- a layer by itself --------------------------------------------------------------------------------------------

    def layer(self, y: Layer, at: Parameters) -> tuple[Array, Array, Codebook | None]:
        """A layer's steps (channels,), its weights as it reads them, in steps (channels, k), and its codebook."""
        book = self._book(y, at) if y.weights in self._books else None
        step = np.exp(at[f"s{y.weights}"].astype(np.float64))
        rows = self._rows(y, self._read(y, at).astype(np.float64))
        step = np.broadcast_to(step, (len(rows),))
        return step, np.rint(rows / step[:, None]), book

    def slope(self, y: Layer, gradients: Mapping[str, Array]) -> tuple[Array, Array]:
        """A layer's share of `backward`, as gradients of real weights (channels, k) and of its bias (channels,)."""
        w, b = f"w{y.weights}", f"b{y.bias}"
        weights = self._rows(y, gradients[w] / self._units[w]).astype(np.float64)
        return weights, np.broadcast_to(gradients[b] / self._units[b], (len(weights),))

    def placed(self, y: Layer, at: Parameters, codes: Array, levels: Array | None, bias: Array) -> dict[str, Array]:
        """The parameters with other codes (channels, k), levels (books, count) and bias (channels,) of a layer."""
        out = dict(at)
        step = np.exp(at[f"s{y.weights}"].astype(np.float64))
        name, shape = f"w{y.weights}", self.start.tensors[y.weights].shape
        w = self._unrows(y, codes * np.broadcast_to(step, (len(codes),))[:, None], shape)
        out[name] = (w / self._units[name]).astype(np.float32)
        if levels is not None:
            out[f"c{y.weights}"] = levels / self._units[f"c{y.weights}"]
        out[f"b{y.bias}"] = bias / self._units[f"b{y.bias}"]
        return out

    # --- and back -------------------------------------------------------------------------------------------------------

    def graph_of(self, at: Parameters) -> Graph:
        """The integer graph with these parameters: the start's tensors and operations, other numbers."""
        tensors, ops = list(self.start.tensors), list(self.start.ops)
        steps = self._activation_steps(at)
        for i, q in self._quantmods.items():
            group = self.free.groups[i]
            if group in steps and steps[group] != np.float32(q.scale):
                tensors[i] = replace(tensors[i], quantization=_scaled(tensors[i], np.array([steps[group]], np.float32)))
        readers = self.start.main.consumers()
        for y in self.layers:
            s_w = None
            if y.coded:
                s_w = np.exp(at[f"s{y.weights}"]).astype(np.float32)
                w = at[f"w{y.weights}"] * self._units[f"w{y.weights}"]
                tensors[y.weights] = self._constant(y, w, s_w, at)
            else:
                w = at[f"w{y.weights}"] * self._units[f"w{y.weights}"]
                tensors[y.weights] = replace(self.start.tensors[y.weights], data=w.astype(np.float32), buffer=0)
            if y.bias is None:
                continue
            rule = RULES[self.start.ops[y.op].code]
            assert rule.bias is not None
            old = self.start.ops[y.op].inputs[rule.bias]
            b = at[f"b{y.bias}"] * self._units[f"b{y.bias}"]
            made = _bias(self.start.tensors[old], b, tensors[y.source], s_w)
            if len(readers[old]) == 1:
                tensors[old] = made
            else:
                tensors.append(replace(made, buffer=0))
                inputs = list(ops[y.op].inputs)
                inputs[rule.bias] = len(tensors) - 1
                ops[y.op] = replace(ops[y.op], inputs=tuple(inputs))
        return self.start.with_main(tensors=tuple(tensors), ops=tuple(ops))

    def _constant(self, y: Layer, w: Array, s_w: Array, at: Parameters) -> Tensor:
        t = self.start.tensors[y.weights]
        v = w / self._along(y, s_w.astype(np.float64))
        codes = self._weights[y.weights]
        if y.weights in self._books:
            v = self._unrows(y, self._book(y, at).read(self._rows(y, v))[0], w.shape)
        assert t.quantization is not None
        zero = int(t.quantization.zero_point[0]) if len(t.quantization.zero_point) else 0
        data = (np.clip(np.rint(v), codes.low, codes.high) + zero).astype(np.asarray(t.data).dtype)
        return replace(t, data=data, quantization=_scaled(t, s_w), buffer=0)

    def _activation_steps(self, at: Parameters) -> dict[int, np.float32]:
        """Steps by group, none so fine beside a layer's input that the runtimes would refuse its multiplier."""
        steps = {int(k[1:]): np.float32(np.exp(v)) for k, v in at.items() if k.startswith("a")}
        for y in self.layers:
            out = self.start.ops[y.op].outputs[0]
            group = self.free.groups.get(out)
            if not y.coded or group not in steps or y.source not in self._quantmods:
                continue
            s_in = steps.get(self.free.groups[y.source], np.float32(self._quantmods[y.source].scale))
            least = np.float32(s_in * np.exp(at[f"s{y.weights}"]).max() / MOST_MULTIPLIER)
            steps[group] = max(steps[group], least)
        return steps


def _moved_only(start: Graph, groups: Mapping[int, int]) -> set[int]:
    """Tensors that hold values which another tensor of the same scale held before: codes already."""
    return {
        op.outputs[0]
        for op in start.ops
        if op.code in _MOVING
        and op.outputs[0] in groups
        and all(groups.get(i) == groups[op.outputs[0]] for i in op.inputs if i >= 0 and start.tensors[i].data is None)
    }


def _gap(book: Codebook) -> Array:
    """(channels,) how far levels lie apart on average, in codes."""
    spread = book.levels.max(axis=1) - book.levels.min(axis=1)
    gap: Array = np.maximum(spread / max(book.levels.shape[1] - 1, 1), 1.0)[book.book]
    return gap


def _scaled(t: Tensor, scale: Array) -> Quantization:
    q = t.quantization
    assert q is not None
    return Quantization(scale, q.zero_point, q.axis)


def _bias(t: Tensor, b: Array, source: Tensor, s_w: Array | None) -> Tensor:
    """A bias (channels,) as the layer counts it: codes in units of s_in · s_w, or real numbers."""
    if t.dtype == "float32":
        return replace(t, data=b.astype(np.float32), buffer=0)
    assert source.quantization is not None
    assert s_w is not None
    unit = float(source.quantization.scale[0]) * s_w.astype(np.float64)
    info = np.iinfo(np.asarray(t.data).dtype)
    data = np.clip(np.rint(b / unit), info.min + 1, info.max).astype(info.dtype).reshape(t.shape)
    return replace(
        t, data=data, quantization=Quantization(unit.astype(np.float32), np.zeros(len(unit), np.int64)), buffer=0
    )
