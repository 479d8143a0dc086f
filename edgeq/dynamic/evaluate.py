"""Walking a graph piece by piece: what is planned, what is kept, and what is done between pieces.

A piece is planned for the shapes of what flows into it, and for the values of what gives shapes in it. Where its plan has
to stop (a RESHAPE to what the piece itself computes), the piece ends; it is run, and the next one begins with the values
that are there. IF and WHILE whose shapes change are walked here, other operations without a shape are edgeq.dynamic.host's.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence

import numpy as np

from edgeq.dynamic.host import HOSTS
from edgeq.engine import Program, zeros
from edgeq.errors import CheckError, DataDependentError, InputError, MachineError
from edgeq.graph import NUMPY_DTYPES, Array, Graph, Op
from edgeq.locked import LockedMemory
from edgeq.machine import Machine
from edgeq.packed import unpacked
from edgeq.plan.piece import PRELUDE, Piece, make_piece
from edgeq.plan.types import Rounding
from edgeq.records import dataclass, field
from edgeq.shapes.node import Node
from edgeq.subgraphs import promoted

MAX_KEPT = 64
MAX_KEPT_BYTES = 1 << 28
"""Pieces that are kept, and the memory that they may take together; the one that was not used for longest goes first."""

MAX_PLANNED = 1 << 10
MAX_TURNS = 1 << 16
"""Pieces that one run may plan, and turns that its loops may make together, before it is taken for endless."""

MAX_DEPTH = 16
"""Calls inside one another."""


@dataclass(eq=False)
class Part:
    """A subgraph as the main one, and when its tensors are made and used last."""

    index: int
    graph: Graph
    made: Mapping[int, int]
    last: Mapping[int, int]
    hosted: set[int] = field(default_factory=set)
    pinned: dict[int, frozenset[int]] = field(default_factory=dict)
    live: dict[int, frozenset[int]] = field(default_factory=dict)

    def in_file(self, index: int) -> int:
        """A subgraph's place in the file, for its place in `graph`, where main and this one have changed places."""
        return {0: self.index, self.index: 0}.get(index, index)

    def alive(self, at: int) -> frozenset[int]:
        """Tensors that are there before operation `at` and used by it or later."""
        if at not in self.live:
            self.live[at] = frozenset(i for i, k in self.made.items() if k < at <= self.last.get(i, -1))
        return self.live[at]


@dataclass(frozen=True, eq=False)
class Made:
    """A piece ready to run."""

    piece: Piece
    program: Program
    memory: LockedMemory | None
    size: int


class Evaluator:
    """Runs a checked graph on arrays of any shape that it can take. Not for several threads at once."""

    def __init__(
        self,
        graph: Graph,
        machine: Machine,
        rounding: Rounding,
        threads: int = 1,
        *,
        keep: bool = False,
        secret: bool = False,
        most_ns: float = float("inf"),
    ) -> None:
        """keep: every tensor's value is kept for `values`; secret: parameters lie in memory that is wiped; most_ns: what a
        run may take, as its plans estimate it.
        """
        self._graph, self._machine, self._rounding, self._threads = graph, machine, rounding, threads
        self._keep, self._secret, self._most_ns = keep, secret, most_ns
        self._parts: dict[int, Part] = {}
        self._made: OrderedDict[tuple[object, ...], Made] = OrderedDict()
        self._planned = self._turns = 0
        self._spent = 0.0
        self.variables: dict[str | int, Array] = {}
        self.values: dict[int, Array] = {}
        """What the last run has computed, by tensor of the main subgraph."""

    def run(self, inputs: Sequence[Array]) -> list[Array]:
        """Outputs of the main subgraph, in the shapes that they turn out to have, for its inputs in their own dtypes.

        Raises InputError where the inputs lead to shapes or values that contradict an operation or are too large.
        """
        self._planned = self._turns = 0
        self._spent = 0.0
        try:
            return self._subgraph(0, inputs, 0)
        except CheckError as error:
            raise InputError(f"these inputs cannot be run: {error}") from error
        except MemoryError:
            raise MachineError("there is no memory for what these inputs lead to") from None

    def reset(self, *, resources: bool = True) -> None:
        """Forget what earlier runs have left in the model's variables; without `resources` those of VAR_HANDLE stay."""
        for key in [k for k in self.variables if resources or not isinstance(k, str)]:
            del self.variables[key]

    def close(self) -> None:
        """Release the pieces."""
        while self._made:
            self._forget()

    # --- walking ----------------------------------------------------------------------------------------------------------

    def _subgraph(self, index: int, inputs: Sequence[Array], depth: int) -> list[Array]:
        part = self._part(index)
        g = part.graph.main
        if len(inputs) != len(g.inputs):
            raise CheckError(f"subgraph {index} is given {len(inputs)} inputs, it has {len(g.inputs)}")
        if depth > MAX_DEPTH:
            raise InputError(f"more than {MAX_DEPTH} calls inside one another")
        values: dict[int, Array] = {}
        for i, value in zip(g.inputs, inputs, strict=True):
            t = g.tensors[i]
            if t.dtype not in NUMPY_DTYPES or NUMPY_DTYPES[t.dtype] != value.dtype:
                raise CheckError(f"subgraph {index} is given {value.dtype} for {t.name!r}, {t.dtype} is expected")
            values[i] = value
        at = 0
        while at < len(g.ops):
            if g.ops[at].code in PRELUDE:
                at += 1  # every piece has them
                continue
            at = self._step(part, at, values, depth)
            if not self._keep:
                for i in values.keys() - part.alive(at):
                    del values[i]
        if depth == 0:
            self.values = values if self._keep else {}
        return [self._value(part, values, i) for i in g.outputs]

    def _step(self, part: Part, at: int, values: dict[int, Array], depth: int) -> int:
        """Run a piece, or one operation without a plan; where to go on."""
        if at not in part.hosted:
            try:
                made = self._piece(part, at, values)
            except DataDependentError as error:
                if not _has_host(part.graph.ops[at]):
                    raise InputError(str(error)) from error
                part.hosted.add(at)
            else:
                self._run(made, values)
                return made.piece.stop
        op = part.graph.ops[at]
        outputs = self._call(part, op, values, depth) if op.code in CALLS else self._host(part, at, values)
        for i, value in zip(op.outputs, outputs, strict=True):
            t = part.graph.tensors[i]
            if t.dtype not in NUMPY_DTYPES or NUMPY_DTYPES[t.dtype] != value.dtype:
                raise CheckError(f"operation {at} ({op.code}) yields {value.dtype}, {t.dtype} is expected")
            values[i] = value
        return at + 1

    def _host(self, part: Part, at: int, values: Mapping[int, Array]) -> list[Array]:
        """The outputs of an operation that NumPy computes."""
        op, tensors = part.graph.ops[at], part.graph.tensors
        inputs = [self._value(part, values, i) if i >= 0 else None for i in op.inputs]
        shapes = [a.shape if a is not None else None for a in inputs]
        outputs = [tensors[i] for i in op.outputs]
        node = Node(op, f"operation {at} ({op.code})", shapes, inputs, [t.shape for t in outputs])
        try:
            with np.errstate(all="ignore"):
                found = HOSTS[op.code](node, outputs)
            return [np.asarray(a, NUMPY_DTYPES[t.dtype], order="C") for a, t in zip(found, outputs, strict=True)]
        except (ValueError, IndexError, TypeError, OverflowError, KeyError) as error:
            raise node.wrong(f"cannot be computed: {error}") from None

    def _call(self, part: Part, op: Op, values: Mapping[int, Array], depth: int) -> list[Array]:
        """The outputs of an operation that calls subgraphs."""
        o = op.options
        assert o is not None
        inputs = [self._value(part, values, i) for i in op.inputs]

        def call(index: int, arrays: Sequence[Array]) -> list[Array]:
            return self._subgraph(part.in_file(index), arrays, depth + 1)

        if op.code == "IF":
            return call(o.then_subgraph_index if _truth(inputs[0]) else o.else_subgraph_index, inputs[1:])
        if op.code == "STABLEHLO_COMPOSITE":
            return call(o.decomposition_subgraph_index, inputs)
        while _truth(call(o.cond_subgraph_index, inputs)[0]):
            self._turns += 1
            if self._turns > MAX_TURNS:
                raise InputError(f"the loop makes more than {MAX_TURNS} turns")
            inputs = call(o.body_subgraph_index, inputs)
        return inputs

    # --- pieces -----------------------------------------------------------------------------------------------------------

    def _piece(self, part: Part, at: int, values: Mapping[int, Array]) -> Made:
        """The piece from operation `at` on for these values, made if it is not there."""
        alive = {i: values[i] for i in sorted(part.alive(at) & values.keys())}
        key = self._key(part, at, alive)
        found = self._made.get(key)
        if found is not None:
            self._made.move_to_end(key)
            return found
        self._planned += 1
        if self._planned > MAX_PLANNED:
            raise InputError(f"these inputs lead to more than {MAX_PLANNED} plans in one run")
        wanted = (lambda stop: frozenset(part.made)) if self._keep else part.alive
        known = part.pinned.get(at, frozenset())
        piece = make_piece(part.graph, at, alive, known, wanted, self._machine.isa, self._rounding)
        part.pinned[at] = known | piece.pinned
        memory = LockedMemory() if self._secret else None
        program = Program(piece.plan, self._machine, self._threads, memory)
        made = Made(piece, program, memory, piece.plan.arena_bytes + piece.plan.constants.nbytes)
        self._made[self._key(part, at, alive)] = made
        while len(self._made) > 1 and (
            len(self._made) > MAX_KEPT or sum(m.size for m in self._made.values()) > MAX_KEPT_BYTES
        ):
            self._forget()
        return made

    def _key(self, part: Part, at: int, alive: Mapping[int, Array]) -> tuple[object, ...]:
        pinned = part.pinned.get(at, frozenset())
        given = tuple(alive[i].tobytes() if i in pinned else None for i in alive)
        return (part.index, at, tuple(a.shape for a in alive.values()), given)

    def _forget(self) -> None:
        """Let go of the piece that was used least recently."""
        _, made = self._made.popitem(last=False)
        made.program.close()
        if made.memory is not None:
            made.memory.wipe()

    def _run(self, made: Made, values: dict[int, Array]) -> None:
        """Run a piece on what is there; what it computes is there afterwards."""
        piece, program = made.piece, made.program
        self._spent += piece.plan.nanoseconds
        if self._spent > self._most_ns:
            raise InputError(f"these inputs lead to more than {self._most_ns / 1e9:g} s of work")
        tensors = piece.plan.tensors
        outputs = [zeros(tensors[i].shape, NUMPY_DTYPES[tensors[i].dtype]) for i in piece.outputs]
        program.run([np.asarray(values[i], order="C") for i in piece.inputs], outputs, 1, self.variables)
        values.update(zip(piece.outputs, outputs, strict=True))

    # --- tensors ----------------------------------------------------------------------------------------------------------

    def _part(self, index: int) -> Part:
        if index not in self._parts:
            graph = promoted(self._graph, index)
            made = dict.fromkeys(graph.inputs, -1)
            last: dict[int, int] = dict.fromkeys(graph.outputs, len(graph.ops))
            for k, op in enumerate(graph.ops):
                made.update((i, k) for i in op.outputs if graph.tensors[i].dtype in NUMPY_DTYPES)
                last.update((i, max(k, last.get(i, -1))) for i in op.inputs)
            self._parts[index] = Part(index, graph, made, last)
        return self._parts[index]

    def _value(self, part: Part, values: Mapping[int, Array], i: int) -> Array:
        found = values.get(i)
        if found is None:
            t = unpacked(part.graph.tensors[i])
            if t.data is None or t.dtype not in NUMPY_DTYPES:
                raise CheckError(f"tensor {t.name!r} of type {t.dtype} has no value")
            found = t.data
        return found


CALLS = ("IF", "WHILE", "STABLEHLO_COMPOSITE")


def _has_host(op: Op) -> bool:
    return op.code in CALLS or op.code in HOSTS


def _truth(a: Array) -> bool:
    if a.dtype != np.bool_ or a.size != 1:
        raise CheckError(f"a condition is {a.dtype}{list(a.shape)}, one bool is expected")
    return bool(a.reshape(-1)[0])
