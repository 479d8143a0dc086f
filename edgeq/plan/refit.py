"""Plans of graphs that differ in scales, zero points and biases alone: one is made whole, the others where they differ.

Where a layer's numbers change, its instructions stay where they are and write where they wrote; only words and constants become
others. If something else would change (a kernel that suits the new numbers better, a block of another size), there is no refitted
plan, and the graph is planned as any other.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

import numpy as np

from edgeq.graph import Array, Graph, Op, Tensor
from edgeq.kernels.isa import Isa
from edgeq.kernels.words.instruction import WORDS
from edgeq.packed import unpacked
from edgeq.plan.arena import ALIGNMENT, aligned
from edgeq.plan.bounded import bounded
from edgeq.plan.build import lower
from edgeq.plan.builder import Builder, digest, nbytes
from edgeq.plan.frames import frames
from edgeq.plan.runnable import SLACK
from edgeq.plan.types import CONSTANT, Instruction, Plan, Port, Ref, Rounding
from edgeq.records import dataclass, replace

if TYPE_CHECKING:
    from edgeq.plan.renumber import Layer

MOST_BYTES: Final = 1 << 14
"""Of a constant that may change: biases do, weights do not."""

REMEMBERED: Final = 4
"""Forms of an operation that are kept: a search goes back and forth."""


MOST_READ: Final = 512
"""Tensors whose numbers are remembered."""


class OtherLayoutError(Exception):
    """What is lowered anew needs other memory or other instructions than it had."""


@dataclass(frozen=True, eq=False)
class _Form:
    """An operation's rows of the table; own: flat indices into them whose value is an offset into `constants`."""

    rows: Array
    own: Array
    constants: Array


@dataclass(frozen=True, eq=False)
class Patch:
    """One operation in other numbers: `start`, where its rows begin among the words of the table; words: (n,) those rows, flat;
    arena, constants: which of them are offsets into the arena, or from the start of the plan's constants; kept: what else they
    point at."""

    start: int
    words: Array
    arena: Array
    constants: Array
    kept: Array


class Refit:
    """The plan of one graph, and plans of others in the same memory. able: whether there can be any."""

    def __init__(
        self, graph: Graph, isa: Isa, rounding: str | Rounding = Rounding.XNNPACK, *, shown: bool = False
    ) -> None:
        """graph: checked; shown: as for make_plan, and inputs too live until their readers are done."""
        self._make(graph, isa, Rounding(rounding), shown)

    @bounded
    def _make(self, graph: Graph, isa: Isa, rounding: Rounding, shown: bool) -> None:
        b = Builder(graph, rounding, isa, keep=False, lower=lower)
        if not shown:
            b.frames = frames(b)
        self._graph, self._builder = graph, b
        self._starts = [(0, 0)]
        for i in graph.inputs:
            if i not in b.places and b.graph.tensors[i].data is None:
                b.places[i] = b.block(nbytes(b.graph.tensors[i]))
        for index, op in enumerate(graph.ops):
            self._starts[-1] = len(b.instructions), len(b.sizes)
            b.at_op(index)
            lower(b, op)
            if shown:
                b.outlast(op, read=True)
            self._starts.append((len(b.instructions), len(b.sizes)))
        if b.frames and not b.as_stated:
            raise OtherLayoutError
        self._laid = b.laid()
        self.plan = b.finish(shown)
        whole = all(i.kernel not in ("branch", "call_out") for i in b.instructions)
        self.able = b.as_stated and whole and not (b.initial or b.variables or self.plan.kept)
        self._read: dict[tuple[int, int], tuple[Tensor, tuple[object, ...] | None]] = {}
        self._forms: list[OrderedDict[tuple[object, ...], _Form]] = [OrderedDict() for _ in graph.ops]
        self._layers: list[Layer | None] = [None] * len(graph.ops)
        self._renumbers = True

    def of(self, graph: Graph) -> Plan | None:
        """The plan of another graph, checked as the first was; None where it is not the first in other numbers."""
        if graph is self._graph:
            return self.plan
        if not self.able or not _alike(self._graph, graph):
            return None
        try:
            return self._refitted(graph)
        except OtherLayoutError:
            return None

    def rest(self) -> None:
        """Forget operations in other numbers: what comes next is lowered anew."""
        self._read.clear()
        for forms in self._forms:
            forms.clear()

    @bounded
    def patch(self, graph: Graph, n: int) -> Patch:
        """What of the plan changes where another graph, one that `of` has a plan for, has other numbers in operation n alone.

        Raises OtherLayoutError where it would be another plan.
        """
        old, op = self._graph.ops[n], graph.ops[n]
        if not self.able or (op.code, op.outputs, len(op.inputs)) != (old.code, old.outputs, len(old.inputs)):
            raise OtherLayoutError
        form = self._lowered(_Again(self._builder, self._graph, graph, self._laid), n, op)
        start = self._starts[n][0] * WORDS
        words = form.rows.reshape(-1).copy()
        own = aligned(form.constants.nbytes + SLACK)
        own[: form.constants.nbytes] = form.constants
        words[form.own] += own.ctypes.data - self.plan.constants.ctypes.data
        arena, constants = (
            there[slice(*np.searchsorted(there, (start, start + len(words))))] - start
            for there in (self.plan.arena_words, self.plan.constant_words)
        )
        return Patch(start, words, arena, constants, own)

    @bounded
    def _refitted(self, graph: Graph) -> Plan:
        b = None
        table, base = self.plan.table.copy(), self.plan.constants
        parts: list[tuple[int, _Form]] = []
        size = 0
        before, after = self._graph.tensors, graph.tensors
        changed = {k for k, (t, new) in enumerate(zip(before, after, strict=False)) if t is not new}
        for n, (old, op) in enumerate(zip(self._graph.ops, graph.ops, strict=True)):
            if op is old and changed.isdisjoint(op.inputs) and changed.isdisjoint(op.outputs):
                continue
            key = tuple(
                None if i < 0 or (i == k and i not in changed) else self._numbers(after[i], k)
                for i, k in zip((*op.inputs, *op.outputs), (*old.inputs, *old.outputs), strict=True)
            )
            if not any(key):
                continue
            if not self._builder.folded.keys().isdisjoint(op.outputs):
                raise OtherLayoutError  # who reads what is computed before a run was laid out with it
            form = self._forms[n].get(key)
            if form is None:
                b = b or _Again(self._builder, self._graph, graph, self._laid)
                form = self._forms[n][key] = self._lowered(b, n, op)
                if len(self._forms[n]) > REMEMBERED:
                    self._forms[n].popitem(last=False)
            else:
                self._forms[n].move_to_end(key)
            start = self._starts[n][0]
            table[start : start + len(form.rows)] = form.rows
            parts.append((start * WORDS, form))
            size += form.constants.nbytes
        own, at = aligned(size + SLACK), 0
        away = own.ctypes.data - base.ctypes.data  # what is new lies beside the first's constants, which are not copied
        for start, form in parts:
            own[at : at + form.constants.nbytes] = form.constants
            table.reshape(-1)[start + form.own] += away + at
            at += form.constants.nbytes
        ports = _Again(self._builder, self._graph, graph, self._laid) if b is None else b
        return replace(
            self.plan,
            table=table,
            kept=(own,),
            inputs=tuple(ports.port(i) for i in graph.inputs),
            outputs=tuple(ports.port(i) for i in graph.outputs),
            tensors=tuple(ports.tensors[: len(graph.tensors)]),
            instructions=(),
        )

    def _numbers(self, t: Tensor, k: int) -> tuple[object, ...] | None:
        """See `_numbers`; k: which of the first graph's it is held against. Those of the tensors seen last are remembered."""
        at = id(t), k
        found = self._read.get(at)
        if found is None:
            if len(self._read) >= MOST_READ:
                self._read.clear()
            found = self._read[at] = t, _numbers(t, self._graph.tensors[k])
        return found[1]

    def _renumbered(self, b: _Again, n: int, op: Op, before: Sequence[Instruction]) -> _Form | None:
        """As `_lowered`, where that can be reckoned from what was lowered first."""
        layer = self._layers[n]
        if layer is None and self._renumbers:
            try:
                from edgeq.plan.renumber import Layer
            except ImportError:  # 32-bit ARM's wheel has no room for it
                self._renumbers = False
                return None
            self._builder.at_op(n)
            start = self._starts[n][0]
            rows = self.plan.table[start : start + len(before)]
            layer = self._layers[n] = Layer(self._builder, self._graph.ops[n], before, rows)
        if layer is None or not layer.able or not all(b.rescaled(i) for i in op.inputs[1:2]):
            return None
        b.at_op(n)
        if (found := layer.renumbered(b, op)) is None:
            return None
        rows, constants = found
        return _Form(rows, layer.own, constants)

    def _lowered(self, b: _Again, n: int, op: Op) -> _Form:
        """One operation of another graph, in the place of the first graph's."""
        start, end = self._starts[n], self._starts[n + 1]
        before = self.plan.instructions[start[0] : end[0]]
        if (form := self._renumbered(b, n, op, before)) is not None:
            return form
        found, constants = b.again(n, op, start[1], end[1])
        if len(found) != len(before):
            raise OtherLayoutError
        rows = self.plan.table[start[0] : end[0]].copy()
        own = []
        base = self.plan.constants.nbytes - SLACK
        for j, (new, old) in enumerate(zip(found, before, strict=True)):
            if (new.kernel, new.units) != (old.kernel, old.units):
                raise OtherLayoutError
            for w in old.words.keys() - new.words.keys():  # a word that is not there is 0
                if isinstance(old.words[w], Ref):
                    raise OtherLayoutError
                rows[j, w] = 0
            for w, v in new.words.items():
                there = old.words.get(w, 0)
                if not isinstance(v, Ref):
                    if isinstance(there, Ref):
                        raise OtherLayoutError
                    rows[j, w] = v
                elif not isinstance(there, Ref) or v.block != there.block:
                    raise OtherLayoutError
                elif v.block != CONSTANT:
                    if v.offset != there.offset:
                        raise OtherLayoutError
                elif v.offset >= base:
                    own.append(j * WORDS + w)
                    rows[j, w] = v.offset - base
                else:
                    rows[j, w] = v.offset
        return _Form(rows, np.array(own, np.int64), constants)


class _Again(Builder):
    """The workbench of one operation that has been lowered before, with other numbers: it hands out the same blocks."""

    def __init__(self, first: Builder, old: Graph, graph: Graph, laid: Mapping[bytes, Ref]) -> None:
        self.__dict__.update(first.__dict__)
        self._first, self._laid = first, laid
        self.graph = graph
        self.tensors = [
            t if new is before else unpacked(new)
            for t, new, before in zip(first.tensors, graph.tensors, old.tensors, strict=False)
        ]
        self.tensors += [unpacked(t) for t in graph.tensors[len(self.tensors) :]]
        # What the first graph has behind its own tensors, and this one has not, is not read any more.

    def again(self, n: int, op: Op, block: int, end: int) -> tuple[list[Instruction], Array]:
        """Lower operation n, which had blocks block … end − 1; its instructions, and the constants that are new."""
        first = self._first
        self.instructions, self.last = [], list(first.last)
        self.places, self.framed, self.folded = dict(first.places), dict(first.framed), dict(first.folded)
        self._constants, self._constant_bytes, self._known = [], first._constant_bytes, {}
        for i in op.inputs:
            if i >= 0 and self.known(i) is not None and (i >= len(first.graph.tensors) or self.other(i)):
                self.places.pop(i, None)  # it is laid out anew if it is read as it is
        self._next, self._end = block, end
        self.at_op(n)
        lower(self, op)
        if self._next != end:
            raise OtherLayoutError
        raw = np.zeros(self._constant_bytes - first._constant_bytes, np.uint8)
        at = 0
        for part in self._constants:
            raw[at : at + len(part)] = np.frombuffer(part, np.uint8)
            at += -(-max(len(part), 1) // ALIGNMENT) * ALIGNMENT
        return self.instructions, raw

    def other(self, i: int) -> bool:
        """Whether a tensor is another than the first graph's."""
        return self.graph.tensors[i] is not self._first.graph.tensors[i]

    def rescaled(self, i: int) -> bool:
        """Whether a tensor is the first graph's, but for other scales, of as many channels."""
        if not self.other(i):
            return True
        t, old = self.graph.tensors[i], self._first.graph.tensors[i]
        q, p = t.quantization, old.quantization
        if q is None or p is None or t.data is not old.data or (t.dtype, t.shape) != (old.dtype, old.shape):
            return False
        alike = (q.axis, len(q.scale)) == (p.axis, len(p.scale))
        return alike and np.array_equal(q.zero_point, p.zero_point)

    def block(self, size: int) -> Ref:
        if self._next >= self._end or self.sizes[self._next] != max(size, 1):
            raise OtherLayoutError
        self._next += 1
        return Ref(self._next - 1)

    def constant(self, values: Array) -> Ref:
        found = self._laid.get(digest(values.tobytes()))
        return super().constant(values) if found is None else found

    def port(self, i: int) -> Port:
        """An input or output of the model."""
        return self._port(i)


def _alike(old: Graph, new: Graph) -> bool:
    """Whether the graphs differ in numbers at most: the same operations on tensors of the same types and shapes."""
    if len(old.subgraphs) != 1 or len(new.subgraphs) != 1 or (old.inputs, old.outputs) != (new.inputs, new.outputs):
        return False
    if len(old.ops) != len(new.ops) or len(new.tensors) < len(old.tensors):
        return False
    return all(
        a is b
        or ((a.code, a.outputs, a.custom_code) == (b.code, b.outputs, b.custom_code)
            and a.options is b.options and len(a.inputs) == len(b.inputs))
        for a, b in zip(old.ops, new.ops, strict=True)
    ) and all(
        a is b or ((a.dtype, a.shape) == (b.dtype, b.shape) and (a.data is None) == (b.data is None))
        for a, b in zip(old.tensors, new.tensors, strict=False)
    )  # fmt: skip


def _numbers(t: Tensor, old: Tensor) -> tuple[object, ...] | None:
    """What a tensor holds that plans depend on, None where that is what `old` holds."""
    if t is old:
        return None
    q, p = t.quantization, old.quantization
    data = t.data is not old.data
    if q is p and not data:
        return None
    if t.data is not None and data:
        raw = np.ascontiguousarray(t.data)
        if raw.nbytes > MOST_BYTES:
            raise OtherLayoutError
        content: object = raw.tobytes()
    else:
        content = None
    return content, None if q is None else (q.scale.tobytes(), q.zero_point.tobytes(), q.axis), t.shape, t.dtype
