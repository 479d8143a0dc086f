"""TFLite's interpreter over edgeq's machine: tensors by index, resizing, allocation, and runs.

The order of calls, what is allowed when, and what is raised are those of TFLite: shapes may change until `allocate`
makes memory; memory that somebody still looks at is neither run nor replaced. Where TFLite hands out memory that holds
nothing yet, or lets a model's constants be overwritten, edgeq refuses.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeq.errors import CheckError, DataDependentError, EdgeqError, GrantOperationError, MachineError
from edgeq.graph import NUMPY_DTYPES, Array, Graph, SubGraph
from edgeq.interpreter.details import constant, describe
from edgeq.interpreter.errors import ArgumentError, StateError, in_both
from edgeq.interpreter.session import Session
from edgeq.machine import Machine
from edgeq.plan import Plan, make_plan
from edgeq.plan.types import Rounding
from edgeq.shapes import resize
from edgeq.subgraphs import promoted
from edgeq.tflite.limits import MAX_TENSOR_BYTES

if TYPE_CHECKING:
    from edgeq.interpreter.dynamic import DynamicSession

HELD = """There is at least 1 reference to internal data in the interpreter in the form of a numpy array or slice. Be sure to \
only hold the function returned from tensor() if you are using raw data access."""
NULL = "Tensor data is null. Run allocate_tensors() first"
UNALLOCATED = "Cannot set tensor: Tensor is unallocated. Try calling allocate_tensors() first"


@dataclass(frozen=True)
class Options:
    """How every subgraph is run: whose integers, on how many threads, with every tensor kept, and whether constants and
    intermediate values may be read.
    """

    rounding: Rounding
    threads: int
    keep: bool
    readable: bool


class Runner:
    """One subgraph of a model: its shapes of now, and its memory once it is allocated."""

    def __init__(
        self, graph: Graph, index: int, machine: Machine, options: Options, shared: dict[str | int, Array] | None = None
    ) -> None:
        """shared: what the resource variables of all subgraphs hold, None where there is one subgraph to run."""
        self._graph, self._shared = promoted(graph, index), shared
        self._machine, self._options = machine, options
        self._shapes: dict[int, tuple[int, ...]] = {}
        self._plan: Plan | None = None
        self._session: Session | DynamicSession | None = None
        self._dynamic = False
        self._memory: Mapping[int, Array] = {}
        self._allocated = self._graph

    @property
    def subgraph(self) -> SubGraph:
        """As the file has it."""
        return self._graph.main

    @property
    def resized(self) -> Mapping[int, tuple[int, ...]]:
        """Inputs with another shape than the file's."""
        return self._shapes

    def prepare(self) -> None:
        """Plan for the file's own shapes; raises UnsupportedError for what edgeq lacks.

        Shapes that contradict are no reason to give up: files that are meant to be resized have placeholders. Nor are shapes
        that depend on values: every run plans for its own.
        """
        try:
            self._plan = make_plan(
                self._graph,
                self._machine.isa,
                self._options.rounding,
                keep=self._options.keep,
                threads=self._options.threads,
            )
        except CheckError:
            self._plan = None
        except DataDependentError:
            if not self._is_dynamic():
                raise
            self._dynamic = True

    def _is_dynamic(self) -> bool:
        """Whether a plan lacks nothing but values that a run will know."""
        from edgeq.dynamic import is_dynamic  # few models need it

        return is_dynamic(self._graph, self._options.rounding)

    def resize(self, i: int, shape: Sequence[int], strict: bool) -> None:
        """Give an input another shape, from the next allocation on."""
        if self._session is not None and self._session.held():
            raise StateError(HELD)
        new = self._new_shape(shape)
        i = operator.index(i)
        if i not in self.subgraph.inputs:
            raise StateError(
                f"Attempting to resize tensor {i}, one of the inputs {list(self.subgraph.inputs)} is expected."
            )
        now = self.shape(i)
        if strict:
            self._check_strict(i, now, new)
        if any(d < 0 for d in new) or np.prod(new, dtype=np.float64) > MAX_TENSOR_BYTES:
            raise StateError(f"shape {list(new)} has a negative dimension or too many elements.")
        if new != now:
            self._shapes[i] = new
            self._drop()

    def _new_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        given = np.array(shape, dtype=np.int32)
        if given.ndim != 1:
            raise ArgumentError(f"Shape should be 1D instead of {given.ndim}.")
        return tuple(given.tolist())

    def _check_strict(self, i: int, now: tuple[int, ...], new: tuple[int, ...]) -> None:
        signature = self.subgraph.tensors[i].shape_signature or now
        if len(new) != len(now):
            raise StateError(f"Attempting to resize tensor {i} of {len(now)} dimensions to {len(new)}.")
        for k, (mark, was, size) in enumerate(zip(signature, now, new, strict=True)):
            if mark != -1 and was != size:
                raise StateError(
                    f"Attempting to resize dimension {k} of tensor {i} with value {was} to {size}. ResizeInputTensorStrict "
                    "only allows mutating unknown dimensions identified by -1."
                )

    def allocate(self) -> None:
        """Make memory for the shapes of now; nothing happens where it is there."""
        if self._session is not None:
            if self._session.held():
                raise StateError(HELD)
            return
        if not self._dynamic:
            try:
                self._allocate()
                return
            except DataDependentError:
                if not self._is_dynamic():
                    raise
                self._dynamic = True
        from edgeq.interpreter.dynamic import DynamicSession

        options = self._options
        self._session = DynamicSession(
            self._graph,
            self._shapes,
            self._machine,
            options.rounding,
            options.threads,
            keep=options.keep,
            shared=self._shared,
        )
        self._memory = self._session.arrays

    def _allocate(self) -> None:
        graph = resize(self._graph, self._shapes) if self._shapes else self._graph
        plan = self._plan
        if plan is None or self._shapes:
            plan = make_plan(
                graph, self._machine.isa, self._options.rounding, keep=self._options.keep, threads=self._options.threads
            )
        self._session = Session(graph, plan, self._machine, self._options.threads, self._shared)
        self._memory = self._session.arrays
        self._allocated = graph.with_main(tensors=plan.tensors)
        if not self._shapes:
            self._plan = plan

    def invoke(self) -> None:
        """Run."""
        session = self._session
        if session is None:
            raise StateError("Invoke called on model that is not ready.")
        if session.held():
            raise StateError(HELD)
        try:
            session.invoke()
        except EdgeqError as error:  # no context manager here: entering one costs as much as a tiny model's run
            raise in_both(error, RuntimeError) from error

    def reset(self) -> None:
        """Forget what earlier runs have left in variable tensors."""
        if self._session is not None:
            self._session.reset()

    def shape(self, i: int) -> tuple[int, ...]:
        """The shape of a tensor: as asked for, as allocated, or as the file has it."""
        found = self._session.shape(i) if self._session is not None else None
        return self._shapes.get(i, self._allocated.tensors[i].shape) if found is None else found

    def describe(self, i: int) -> dict[str, Any]:
        """A tensor's details."""
        return describe(self.subgraph.tensors[self._index(i)], operator.index(i), self.shape(i))

    def set(self, i: int, value: Any) -> None:
        """Copy a value into an input or output."""
        memory = self._memory.get(i)
        if memory is not None and type(value) is np.ndarray and fits(value, memory):
            memory[...] = value
            return
        i = self._index(i)
        t, shape, given = self.subgraph.tensors[i], self.shape(i), np.asarray(value)
        if (name := _type_name(given)) != t.dtype.upper():
            raise ArgumentError(
                f"Cannot set tensor: Got value of type {name} but expected type {t.dtype.upper()} for input {i}, name: {t.name} "
            )
        if given.ndim != len(shape):
            raise ArgumentError(
                f"Cannot set tensor: Dimension mismatch. Got {given.ndim} but expected {len(shape)} for input {i}."
            )
        for k, (got, expected) in enumerate(zip(given.shape, shape, strict=True)):
            if got != expected:
                raise ArgumentError(
                    f"Cannot set tensor: Dimension mismatch. Got {got} but expected {expected} for dimension {k} of input {i}."
                )
        if t.data is not None:
            raise ArgumentError(f"Cannot set tensor: {i} ({t.name}) is a constant of the model")
        if self._session is None:
            raise ArgumentError(UNALLOCATED)
        memory = self._memory.get(i)
        if memory is None:
            raise ArgumentError(f"Cannot set tensor: {i} ({t.name}) is computed by the model")
        memory[...] = given

    def get(self, i: int) -> Any:
        """A copy of a tensor's value; of a single number NumPy's scalar, as TFLite gives it."""
        memory = self._memory.get(i)
        try:
            found = self._copy(self._index(i)) if memory is None else memory.copy()
        except MemoryError:
            raise MachineError(f"no memory for a copy of tensor {i}, of shape {list(self.shape(i))}") from None
        return found if found.ndim else found[()]

    def view(self, i: int) -> Array:
        """The memory of an input or output; of any other tensor a copy that cannot be written to."""
        memory = self._memory.get(i)
        if memory is not None:
            return memory[...]
        found = self._copy(self._index(i))
        found.setflags(write=False)
        return found

    def _copy(self, i: int) -> Array:
        """A copy of a constant or an intermediate value."""
        t = self.subgraph.tensors[i]
        visible = self._options.readable or i in (*self.subgraph.inputs, *self.subgraph.outputs)
        if not visible:
            raise GrantOperationError(
                f"tensor {i} ({t.name}) is inside a bundle: experimental_preserve_all_tensors=True shows it, under a grant "
                "that allows debug"
            )
        if t.data is not None:
            return constant(t)
        if self._session is None:
            raise ArgumentError(NULL)
        found = self._session.computed(i)
        if found is None and self._dynamic and i in self.subgraph.outputs:
            raise ArgumentError(NULL)
        if found is None:
            raise ArgumentError(
                f"tensor {i} ({t.name}) is an intermediate value: experimental_preserve_all_tensors=True keeps it"
            )
        return found

    def _index(self, i: Any) -> int:
        index, count = operator.index(i), len(self.subgraph.tensors)
        if not 0 <= index < count:
            raise ArgumentError(f"Invalid tensor index {index} exceeds max tensor index {count}")
        return index

    def _drop(self) -> None:
        if self._session is not None:
            self._session.close()
            self._session, self._memory = None, {}


def fits(value: Array, memory: Array) -> bool:
    """Whether an array can be copied as it is."""
    return value.dtype == memory.dtype and value.shape == memory.shape


def _type_name(a: Array) -> str:
    """TFLite's name for an array's type."""
    if a.dtype.kind in "OSU":
        return "STRING"
    return a.dtype.name.upper() if a.dtype.name in NUMPY_DTYPES else "NOTYPE"


def entries(graph: Graph) -> tuple[int, ...]:
    """The subgraphs that are run by name or by default: the first, and those of signatures."""
    return tuple(dict.fromkeys((0, *(s.subgraph for s in graph.signatures))))


class Native:
    """A model's subgraphs, each made ready when it is first asked for."""

    def __init__(self, graph: Graph, machine: Machine, options: Options) -> None:
        self.graph = graph
        self._machine, self._options = machine, options
        self._runners: dict[int, Runner] = {}
        self._variables: dict[str | int, Array] | None = {} if len(entries(graph)) > 1 else None
        for index in entries(graph):
            self.runner(index)

    def runner(self, index: int = 0) -> Runner:
        """The subgraph of this index; raises UnsupportedError for what edgeq lacks."""
        index, count = operator.index(index), len(self.graph.subgraphs)
        if not 0 <= index < count:
            raise ArgumentError(f"Invalid subgraph index {index} exceeds max subgraph index {count}")
        if index not in self._runners:
            runner = Runner(self.graph, index, self._machine, self._options, self._variables)
            runner.prepare()
            self._runners[index] = runner
        return self._runners[index]
