"""One subgraph made ready: arrays for its inputs and outputs that stay where they are, and a run between them."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import numpy as np

from edgeq.engine import Context, Program, judge, zeros
from edgeq.graph import NUMPY_DTYPES, Array, Graph
from edgeq.interpreter.errors import StateError
from edgeq.kernels.words import frame as fw
from edgeq.machine import Machine
from edgeq.plan.runnable import PARALLEL_NS
from edgeq.plan.types import FLIPPED, Plan


class Bound(Context):
    """A context over arrays that stay where they are, so that a run looks no addresses up."""

    def __init__(self, plan: Plan, constants: Array, arrays: Sequence[Array], threads: int) -> None:
        super().__init__(plan, constants, threads)
        for slot, array in zip(self.slots, arrays, strict=True):
            self.frame[slot + fw.ADDRESS] = array.ctypes.data
        self.frame[fw.BATCH] = 1


class Session:
    """A planned graph with one set of values, all zero at first."""

    def __init__(
        self, graph: Graph, plan: Plan, machine: Machine, threads: int, shared: dict[str | int, Array] | None = None
    ) -> None:
        """shared: what resource variables hold, where other subgraphs have the same."""
        self.graph, self.plan = graph, plan
        self._shared = shared if any(isinstance(key, str) for key in plan.variables) else None
        self._program = Program(plan, machine, threads)
        self.arrays: dict[int, Array] = {}  # the memory of inputs and outputs
        for i in (*graph.inputs, *graph.outputs):
            if i not in self.arrays:
                t = plan.tensors[i]
                self.arrays[i] = zeros(t.shape, NUMPY_DTYPES[t.dtype])
        self._inputs = [self.arrays[i] for i in graph.inputs]
        self._outputs = [self.arrays[i] for i in graph.outputs]
        self._run, self._alone = machine.run, self._program.threads == 1
        self._context = Bound(plan, self._program.constants, (*self._inputs, *self._outputs), self._program.threads)
        self._attend = plan.nanoseconds >= PARALLEL_NS
        self._required = tuple(plan.required.items())
        self._watched = list(self.arrays.values())
        self._references = [sys.getrefcount(a) for a in self._watched]

    def invoke(self) -> None:
        """Run once, from the inputs' arrays to the outputs'.

        Raises StateError if an input holds another value than the plan was made for, InputError and MachineError as a
        model's call does.
        """
        for i, value in self._required:
            if not np.array_equal(self.arrays[i].reshape(-1), value):
                found, name = self.arrays[i].tolist(), self.graph.tensors[i].name
                raise StateError(f"input {name!r} is {found}, this model is made for {value.tolist()}")
        if self._shared is not None:
            self._context.recall(self.plan, self._shared)
        address = self._context.address
        judge(self._run(address, 0) if self._alone else self._program.enter(self._context, self._attend))
        if self._shared is not None:
            self._context.remember(self.plan, self._shared, tensors=False)

    def reset(self) -> None:
        """Forget what earlier runs have left in variable tensors; resource variables stay, as in TFLite."""
        self._context.reset(self.plan, resources=False)

    def shape(self, i: int) -> tuple[int, ...] | None:
        """The shape of a tensor, where this has it."""
        return self.plan.tensors[i].shape

    def held(self) -> bool:
        """Whether anybody but this session refers to the memory of an input or output."""
        return [sys.getrefcount(a) for a in self._watched] != self._references

    def computed(self, i: int) -> Array | None:
        """A copy of what an operation has computed and the last run has left, None if nothing is left of it."""
        if i in self.plan.folded:
            return self.plan.folded[i].copy()
        if i not in self.plan.places:
            return None
        t = self.plan.tensors[i]
        dtype = np.dtype(np.uint8) if t.dtype == "int8" else NUMPY_DTYPES[t.dtype]
        start = self.plan.offset(self.plan.places[i])
        raw = self._context.arena[start : start + t.size * dtype.itemsize].view(dtype).reshape(t.shape)
        return (raw ^ FLIPPED).view(np.int8) if t.dtype == "int8" else raw.copy()

    def close(self) -> None:
        """Stop worker threads."""
        self._program.close()
