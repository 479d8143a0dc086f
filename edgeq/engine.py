"""The model that a user calls, and the tracer that shows every tensor of one.

A model comes from a graph, which is checked and planned, or from a plan that was made before (edgeq/resume.py): then nothing that
checks or plans is imported, and its graph is read when somebody asks for it.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeq import direct
from edgeq.errors import InputError
from edgeq.kernels.words import frame as fw
from edgeq.machine import Progress, get
from edgeq.plan.runnable import FLIPPED
from edgeq.ports import Port, converted, delivered, gathered, in_order, port, samples_of
from edgeq.program import Context, Direct, Program, Staged, aligned, enter, judge, secret, zeros

if TYPE_CHECKING:
    from edgeq.graph import Array, Graph
    from edgeq.locked import LockedMemory
    from edgeq.plan.runnable import Runnable
    from edgeq.plan.types import Plan

__all__ = [
    "Context",
    "Model",
    "Port",
    "Program",
    "Tracer",
    "aligned",
    "build",
    "converted",
    "delivered",
    "enter",
    "gathered",
    "in_order",
    "judge",
    "port",
    "samples_of",
    "secret",
    "zeros",
]

STAGED_BYTES = 1 << 14
"""Inputs and outputs up to this size are copied once more, in Python, where that is cheaper than finding their addresses."""


class Model:
    """A model ready to run: call it with an array, or with a dict of arrays by input name.

    Arrays of an input's dtype are taken as they are; floats for an integer input are quantized by the input's parameters. The
    leading dimension may be any multiple of the model's own: samples are run one after another in a single entry into the
    machine. Returns the output's array, or a dict by name if there are several; integers stay integers unless `dequantize`.
    """

    def __init__(
        self,
        graph: Graph,
        *,
        rounding: str = "xnnpack",
        threads: int = 1,
        progress: Progress | None = None,
        memory: LockedMemory | None = None,
        checked: bool = False,
    ) -> None:
        from edgeq.plan import make_plan
        from edgeq.plan.types import Rounding

        if threads < 1:
            raise InputError(f"threads is {threads}, at least 1 is expected")
        try:
            family = Rounding(rounding)
        except ValueError:
            raise InputError(f"rounding is {rounding!r}, 'xnnpack' or 'tflite' is expected") from None
        if not checked:
            from edgeq.check import sound  # here and below: not for a plan that was made before

            graph = sound(graph)
        machine = get(progress)
        plan = make_plan(graph, machine.isa, family, threads=threads)
        tensors = plan.tensors
        inputs = tuple(port(n, tensors[i]) for n, i in zip(graph.input_names(), graph.inputs, strict=True))
        outputs = tuple(port(n, tensors[i]) for n, i in zip(graph.output_names(), graph.outputs, strict=True))
        self._graph: Graph | None = graph
        self._plan: Plan | None = plan
        self._threads = threads
        self._start(plan, inputs, outputs, Program(plan, machine, threads, memory), memory)

    @classmethod
    def resumed(
        cls,
        runnable: Runnable,
        inputs: tuple[Port, ...],
        outputs: tuple[Port, ...],
        threads: int,
        memory: LockedMemory,
        read: Callable[[], Graph],
        rounding: str,
    ) -> Model:
        """A model of a plan that was made before for this machine; its constants lie in `memory` already, and it requires nothing
        of its inputs. `read` gives the checked graph that it was made of."""
        model = cls.__new__(cls)
        model._graph = model._plan = None
        model.kept = True
        model._read, model._rounding, model._threads = read, rounding, threads
        model._start(runnable, inputs, outputs, Program(runnable, get(), threads), memory)
        return model

    def _start(
        self,
        runnable: Runnable,
        inputs: tuple[Port, ...],
        outputs: tuple[Port, ...],
        program: Program,
        memory: LockedMemory | None,
    ) -> None:
        """Everything that a call needs, made once."""
        self.inputs, self.outputs, self._runnable = inputs, outputs, runnable
        self._program: Program | None = program
        self._memory = memory
        if memory is not None:
            weakref.finalize(self, memory.wipe)
        self._staged: dict[np.dtype[Any], list[Staged]] = {}
        self._one_shape: tuple[int, ...] = ()
        self._direct: Direct | None = None
        self._team = program.threads > 1
        if self._can_call_directly(program):
            x, y = inputs[0], outputs[0]
            self._direct = Direct(program, x, y)
        if self._can_stage(program.threads):
            self._one_shape = inputs[0].shape
            accepted = [inputs[0].dtype, *([np.dtype(np.float32)] if runnable.inputs[0].float_words else [])]
            self._staged = {dtype: [] for dtype in accepted}

    _read: Callable[[], Graph]
    _rounding: str
    kept = False
    """Whether the plan lies where this user's next process finds it (edgeq/resume.py)."""

    @property
    def graph(self) -> Graph:
        """The checked graph; of a model that was started from a kept plan it is read now. Raises InputError if such a one is
        closed."""
        if self._graph is None:
            _ = self.program  # a closed model's bytes are wiped
            self._graph = self._read()
        return self._graph

    @property
    def plan(self) -> Plan:
        """The whole plan; of a model that was started from a kept one it is made again now, for those who look into it."""
        if self._plan is None:
            from edgeq.plan import make_plan

            plan = make_plan(self.graph, self.program.machine.isa, self._rounding, threads=self._threads)
            plan.constants[:] = 0  # as Program leaves them: private parameters lie in its memory alone
            self._plan = plan
        return self._plan

    @property
    def program(self) -> Program:
        """The plan on this machine, for those who measure it."""
        if self._program is None:
            raise InputError("the model is closed")
        return self._program

    def __call__(self, x: Array | Mapping[str, Array], *, dequantize: bool = False) -> Any:
        """Run on x; see the class."""
        fast = self._direct
        if fast is not None and not dequantize:
            if self._team and fast.other[fw.STATE] == fw.GONE and not fast.account[fw.SUSPENDED]:
                self.program.muster(fast)
            try:
                found = fast.call(x, fast.blank())
            except (
                StopIteration
            ):  # a model that watches itself (edgeq.drift.model) gave out so many blanks, and looks now
                found = None
            except MemoryError:  # said below, where there is none for the long way either
                found = None
            if found is not None:
                return found
        return self._call(x, dequantize)

    def _call(self, x: Array | Mapping[str, Array], dequantize: bool) -> Any:
        """What the builtin does not take."""
        if self._staged and type(x) is np.ndarray and x.shape == self._one_shape and x.dtype in self._staged:
            result = self._run_staged(x, self._staged[x.dtype])
            q = self.outputs[0].quantmod if dequantize else None
            return result if q is None else q.dequantize(result)
        program = self.program
        arrays, samples, batched = self._prepare(x)
        results = [zeros((samples, *p.shape), p.dtype) for p in self.outputs]
        program.run(arrays, results, samples)
        shaped = [self._shape(r, p, batched) for r, p in zip(results, self.outputs, strict=True)]
        return delivered(shaped, self.outputs, dequantize)

    def _is_simple(self) -> bool:
        """Whether there is one input of any value and one output."""
        return len(self.inputs) == len(self.outputs) == 1 and not self._runnable.required

    def _can_call_directly(self, program: Program) -> bool:
        """Whether single samples may go through the builtin: nothing in between lets another thread into the frame.

        Of more than two threads some might be called and one have left, which the builtin could not wake.
        """
        short = self._runnable.nanoseconds <= direct.HELD_NS and not self._runnable.kept
        return self._is_simple() and short and program.threads <= 2 and program.machine.call != 0 and direct.fits()

    def reset(self) -> None:
        """Forget what earlier calls have left in the model's variables, or a call that raised an error half-way. Calls of such a
        model go one after another."""
        self.program.reset()

    def _can_stage(self, threads: int) -> bool:
        """Whether single samples go through `_run_staged`: input and output are small too, and nothing is remembered."""
        small = not self._runnable.initial and all(
            p.size <= STAGED_BYTES for p in (*self._runnable.inputs, *self._runnable.outputs)
        )
        return self._is_simple() and threads == 1 and small

    def _run_staged(self, x: Array, free: list[Staged]) -> Array:
        """One sample in the model's own shape and type: what a tiny model's call is made of, kept short (1.5 µs measured)."""
        program = self._program
        if program is None:
            raise InputError("the model is closed")
        try:
            context = free.pop()
        except IndexError:
            context = Staged(self._runnable, program.constants, self.inputs[0], self.outputs[0], x.dtype)
        context.input[...] = x
        status = program.machine.run(context.address, 0)
        result = context.output.copy()
        free.append(context)
        judge(status)
        return result

    def _prepare(self, x: Array | Mapping[str, Array]) -> tuple[list[Array], int, bool]:
        given, samples, batched = gathered(x, self.inputs)
        for i, value in self._runnable.required.items():
            k = self.graph.inputs.index(i)
            if value.size and not (given[k].reshape(-1, value.size) == value).all():
                raise InputError(
                    f"input {self.inputs[k].name!r} is {given[k].tolist()}, this model is made for {value.tolist()}"
                )
        return [converted(a, p) for a, p in zip(given, self.inputs, strict=True)], samples, batched

    @staticmethod
    def _shape(result: Array, p: Port, batched: bool) -> Array:
        if not batched:
            return result.reshape(p.shape)
        return result.reshape(-1, *p.shape[1:]) if p.shape else result

    def close(self) -> None:
        """Release memory and threads; the model cannot be called afterwards."""
        if self._program is not None:
            self._program.close()
            self._program = self._direct = None
            if self._memory is not None:
                self._memory.wipe()

    def __enter__(self) -> Model:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def build(
    graph: Graph,
    *,
    rounding: str = "xnnpack",
    threads: int = 1,
    progress: Progress | None = None,
    memory: LockedMemory | None = None,
    checked: bool = False,
) -> Model:
    """Check, plan and pack a graph. `progress` hears of the kernels' compilation, which happens once on a machine.

    `memory` is for private parameters: what is packed lies there, and all of it, the graph's own data too if that lies there, is
    wiped when the model is closed or gone. `checked`: this very graph is dense and has been through `check`.
    """
    return Model(graph, rounding=rounding, threads=threads, progress=progress, memory=memory, checked=checked)


class Tracer:
    """Runs a graph and shows every tensor: what calibration and comparison look through."""

    def __init__(
        self,
        graph: Graph,
        rounding: str = "xnnpack",
        *,
        threads: int = 1,
        progress: Progress | None = None,
        memory: LockedMemory | None = None,
    ) -> None:
        from edgeq.check import sound
        from edgeq.graph import NUMPY_DTYPES
        from edgeq.plan import make_plan

        graph = sound(graph)
        machine = get(progress)
        plan = make_plan(graph, machine.isa, rounding, keep=True)
        self.graph = graph
        self._program = Program(plan, machine, threads, memory)
        self._context = self._program.acquire()
        self._accepted = [(graph.tensors[i].shape, NUMPY_DTYPES[graph.tensors[i].dtype]) for i in graph.inputs]
        self._outputs = [np.empty(plan.tensors[i].shape, NUMPY_DTYPES[plan.tensors[i].dtype]) for i in graph.outputs]
        self._views = {i: self._view(plan, i) for i in plan.places}

    @property
    def nanoseconds(self) -> float:
        """What a run takes, as the plan estimates it."""
        return float(self._program.plan.nanoseconds)

    def run(self, inputs: Sequence[Array]) -> Mapping[int, Array]:
        """Inputs in the model's own dtypes and shapes, in order → tensor index → values, valid until the next run.

        Holds inputs and everything computed; constants are in the graph.
        """
        arrays = []
        for a, i, (shape, dtype) in zip(inputs, self.graph.inputs, self._accepted, strict=True):
            if a.shape != shape or a.dtype != dtype:
                t = self.graph.tensors[i]
                raise InputError(f"input {t.name!r} is {a.dtype}{list(a.shape)}, {t.dtype}{list(shape)} is expected")
            arrays.append(np.ascontiguousarray(a))
        self._program.run_in(self._context, arrays, self._outputs, 1)
        return {
            i: (v ^ FLIPPED).view(np.int8) if self.graph.tensors[i].dtype == "int8" else v
            for i, v in self._views.items()
        }

    def _view(self, plan: Plan, i: int) -> Array:
        from edgeq.graph import NUMPY_DTYPES

        t = plan.tensors[i]
        dtype = np.dtype(np.uint8) if t.dtype == "int8" else NUMPY_DTYPES[t.dtype]
        start = plan.offset(plan.places[i])
        return self._context.arena[start : start + t.size * dtype.itemsize].view(dtype).reshape(t.shape)
