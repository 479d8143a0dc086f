"""Running a plan: arenas, threads, and the entries into the machine.

A `Context` is one inference's memory: arena, scratch, frame and a copy of the instruction table with addresses filled in. A
program keeps the contexts it has made and hands one to each call, so that calls from several threads do not meet; constants are
shared. With threads > 1, worker threads enter the machine beside the caller where the plan says that it pays; such calls go one
after another. Short calls take those along that stand by since the last one; only long ones wait for a thread to be woken.
"""

from __future__ import annotations

import ctypes
import math
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeq import direct
from edgeq.errors import CustomOpError, InputError, MachineError
from edgeq.kernels.words import frame as fw
from edgeq.kernels.words import ticket as tw
from edgeq.kernels.words.instruction import SCRATCH_BYTES
from edgeq.plan.runnable import CONSTANT, PARALLEL_NS, SLACK, WORTH, Runnable

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

    from edgeq.graph import Array
    from edgeq.locked import LockedMemory
    from edgeq.machine import Machine
    from edgeq.ports import Port

ALIGNMENT = 64
DENSE = 200e-6
"""Seconds from one short call to the next within which a thread, once in the machine, is still there for the one after."""

WAKING_NS = 100_000
"""What it costs those who call to send a thread into the machine."""

COLD_CALLS = 3
"""Calls that one thread does at first: the machine compares later ones with what the last two of these take."""

CREDIT = 20
"""How many inferences' time an account begins with: the first call of several threads waits until they are made, some ms."""

SAMPLES_PER_CALL = 64
"""Samples that one entry into the machine runs: enough to hide the entry, few enough for Ctrl-C."""


def zeros(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """An array of zeros; raises MachineError where there is no memory for it: a small file may ask for gigabytes."""
    try:
        return np.zeros(shape, dtype)
    except MemoryError:
        size = math.prod(shape) * dtype.itemsize
        raise MachineError(f"an array of {size} bytes is needed, and there is no memory for it") from None
    except ValueError:  # NumPy multiplies the dimensions that are not 0, too
        raise MachineError(f"an array of shape {list(shape)} is needed, more than NumPy can hold") from None


def aligned(size: int) -> Array:
    """(size,) uint8 whose first byte lies at a multiple of ALIGNMENT, zeroed."""
    raw = zeros((size + ALIGNMENT,), np.dtype(np.uint8))
    start = -raw.ctypes.data % ALIGNMENT
    return raw[start : start + size]


def _of_c(name: str) -> int:
    """The address of a function of the C library, 0 where it has none."""
    try:
        return ctypes.cast(getattr(ctypes.CDLL(None), name), ctypes.c_void_p).value or 0
    except (AttributeError, OSError, TypeError):  # TypeError: CDLL(None) on Windows
        return 0


def secret(memory: LockedMemory, size: int) -> Array:
    """(size,) uint8 in memory that is wiped with the model, its first byte on a page."""
    return np.frombuffer(memory.take(size + ALIGNMENT), np.uint8)[:size]  # a last vector may reach beyond the end


class Context:
    """Memory of one inference at a time."""

    def __init__(self, plan: Runnable, constants: Array, threads: int, arena: Array | None = None) -> None:
        self.arena = aligned(plan.arena_bytes + SLACK) if arena is None else arena
        self.scratch = aligned(SCRATCH_BYTES * threads)
        self.lines = aligned(fw.LINE * (threads + 1)).view(np.int64).reshape(threads + 1, -1)
        self.barrier = self.lines[threads]
        self.states = [ctypes.c_int64.from_buffer(self.lines[t].data) for t in range(1, threads)]
        self.account = self.lines[0].data
        self.account[fw.SUSPENDED], self.account[fw.SINCE] = COLD_CALLS, 1
        self.account[fw.BALANCE] = min(int(CREDIT * plan.nanoseconds), fw.SAVED)
        self.looked = -math.inf  # when a call last found that a thread is gone
        for state in self.states:
            state.value = fw.GONE
        self.table = np.empty_like(plan.table)
        self.adopt(plan, constants)
        base, constant_base = self.arena.ctypes.data, constants.ctypes.data
        ports = (*plan.inputs, *plan.outputs)
        self.frame = np.zeros(fw.RECORDS + fw.RECORD_WORDS * len(ports), np.int64)
        f = self.frame
        f[fw.INSTRUCTIONS], f[fw.COUNT], f[fw.THREADS] = self.table.ctypes.data, len(self.table), threads
        f[fw.BARRIER], f[fw.SCRATCH] = self.barrier.ctypes.data, self.scratch.ctypes.data
        f[fw.STATES], f[fw.ESTIMATE] = self.lines.ctypes.data, max(plan.nanoseconds, 1)
        f[fw.ATTEND] = 1
        if threads > 1:
            f[fw.REST], f[fw.CLOCK] = _of_c("usleep"), _of_c("clock_gettime") if sys.maxsize >> 32 else 0
        f[fw.N_INPUTS], f[fw.N_OUTPUTS] = len(plan.inputs), len(plan.outputs)
        for i, p in enumerate(ports):
            at = constant_base + p.place.offset if p.place.block == CONSTANT else base + plan.offset(p.place)
            record = f[fw.RECORDS + i * fw.RECORD_WORDS :]
            record[fw.PLACE] = at
            record[fw.BYTES : fw.BYTES + len(p.words)] = p.words
        self.address = int(f.ctypes.data)
        self.slots = [fw.RECORDS + i * fw.RECORD_WORDS for i in range(len(ports))]
        self.reset(plan)

    def adopt(self, plan: Runnable, constants: Array) -> None:
        """Run this plan from now on, another in the same memory (edgeq.plan.refit)."""
        self.table[:] = plan.table
        flat = self.table.reshape(-1)
        flat[plan.arena_words] += self.arena.ctypes.data
        flat[plan.constant_words] += constants.ctypes.data

    def reset(self, plan: Runnable, *, resources: bool = True) -> None:
        """What the model remembers, as it was before the first run; without `resources` those of VAR_HANDLE stay."""
        stay = set() if resources else {place for key, (place, _) in plan.variables.items() if isinstance(key, str)}
        for place, values in plan.initial:
            if place in stay:
                continue
            start = plan.offset(place)
            self.arena[start : start + values.size] = values

    def recall(self, plan: Runnable, variables: Mapping[str | int, Array]) -> None:
        """Put in what `remember` of this or another plan has kept of the same variables."""
        for key, (place, size) in plan.variables.items():
            kept, start = variables.get(key), plan.offset(place)
            if kept is not None and kept.size == size:
                self.arena[start : start + size] = kept

    def remember(self, plan: Runnable, variables: dict[str | int, Array], *, tensors: bool = True) -> None:
        """Keep what the variables hold now, (bytes,) uint8 each; without `tensors` those of VAR_HANDLE alone."""
        for key, (place, size) in plan.variables.items():
            if not tensors and not isinstance(key, str):
                continue
            start = plan.offset(place)
            variables[key] = self.arena[start : start + size].copy()


class Staged(Context):
    """A context with arrays of its own for one sample of one input and one output: a call need not look addresses up.

    `dtype` is the input's own, or float32 for an input that is quantized on the way.
    """

    def __init__(self, plan: Runnable, constants: Array, x: Port, y: Port, dtype: np.dtype[Any]) -> None:
        super().__init__(plan, constants, 1)
        self.input, self.output = np.zeros(x.shape, dtype), np.zeros(y.shape, y.dtype)
        for slot, a in zip(self.slots, (self.input, self.output), strict=True):
            self.frame[slot] = a.ctypes.data
        words = plan.inputs[0].float_words
        if words is not None and dtype == np.float32:
            self.frame[self.slots[0] + fw.BYTES :][: len(words)] = words
        self.frame[fw.BATCH] = 1


class Direct(Context):
    """A context that the machine's builtin (edgeq/direct.py) runs single samples in, from the caller's array to a new one.

    The model's own dtype and, where the input is quantized on the way, float32 are kinds of input with a frame each. A model that
    remembers has one memory for all calls, that of `only`; what else runs there shuts the builtin out meanwhile.
    """

    def __init__(self, program: Program, x: Port, y: Port) -> None:
        plan, only = program.plan, program.only
        if only is None:
            super().__init__(plan, program.constants, program.threads)
        else:
            self.__dict__.update(only.__dict__)
            self.frame = only.frame.copy()
            self.address = int(self.frame.ctypes.data)
        self.frame[fw.ATTEND] = 0  # nobody can be woken while the interpreter's lock is held
        self.other = self.lines[1].data  # the second thread's line, read in less time than ctypes takes
        self.constants, self.floats = program.constants, self.frame.copy()
        kinds = [(x.dtype, self.address)]
        words = plan.inputs[0].float_words
        if words is not None:
            self.floats[self.slots[0] + fw.BYTES :][: len(words)] = words
            kinds.append((np.dtype(np.float32), self.floats.ctypes.data))
        self.frame[fw.BATCH] = self.floats[fw.BATCH] = 1
        # Not a copy of zeros: NumPy lets go of the interpreter's lock for one, and wakes, each time, a thread that waits for it.
        self.blank: Any = partial(np.empty, y.shape, y.dtype)
        self._ticket = direct.ticket(x.shape, kinds)
        self.call = direct.bind(program.machine.call, self._ticket)
        self._kinds = len(kinds)
        program.direct = self

    def shut(self) -> None:
        """Take no array from now on; no call is under way, since one holds the interpreter's lock from beginning to end."""
        self._ticket[tw.KINDS] = 0

    def open(self) -> None:
        """Take arrays again."""
        self._ticket[tw.KINDS] = self._kinds


def judge(status: int) -> None:
    """Turn the machine's answer into an error, if it is one."""
    if status > 0 and status & 0xFF == fw.CUSTOM:
        from edgeq.plan.callout import failure

        error = failure()
        if error is not None and not isinstance(error, Exception):
            raise error  # Ctrl-C, not a failure
        why = "it raised an exception" if error is None else f"{type(error).__name__}: {error}"
        raise CustomOpError(f"operation {status >> 8}: its registered kernel failed: {why}") from error
    if status == fw.NOT_A_NUMBER:
        raise InputError("the input holds NaN, which has no code")
    if status > 0:
        what = {
            fw.INDEX: "an index lies outside its tensor",
            fw.DIVISION: "an integer is divided by 0",
            fw.ENDLESS: "the loop does not end",
        }[status & 0xFF]
        raise InputError(f"operation {status >> 8}: {what}")
    if status != 0:
        raise MachineError(f"the machine stopped with status {status}; 0 is expected")


def enter(machine: Machine, context: Context, thread: int) -> None:
    """What a worker does; it holds the context for as long as it may look at it."""
    machine.run(context.address, thread)


def _workers(count: int) -> ThreadPoolExecutor:
    """Threads that enter the machine beside the caller; imported here, since one thread needs none of it."""
    from concurrent.futures import ThreadPoolExecutor

    return ThreadPoolExecutor(count, thread_name_prefix="edgeq")


class Program:
    """A plan made ready on this machine: arrays in, arrays out, no names and no conversions.

    `threads` are as many as were asked for, or 1 where several take longer than one.
    """

    def __init__(self, plan: Runnable, machine: Machine, threads: int = 1, memory: LockedMemory | None = None) -> None:
        threads = threads if plan.together < WORTH * plan.nanoseconds else 1
        self.plan, self.machine, self.threads = plan, machine, threads
        if memory is None and plan.constants.ctypes.data % ALIGNMENT == 0:
            self.constants = plan.constants
        else:
            self.constants = aligned(plan.constants.nbytes) if memory is None else secret(memory, plan.constants.nbytes)
            self.constants[:] = plan.constants
        if memory is not None and plan.constants.flags.writeable:
            plan.constants[:] = 0  # private parameters lie in that memory alone
        self._free: list[Context] = []
        self._workers = _workers(threads - 1) if threads > 1 else None
        self._turn = threading.Lock()
        self.only = Context(plan, self.constants, threads) if plan.initial else None
        self.direct: Direct | None = None
        self._recalling = threading.Lock()

    def run(
        self,
        inputs: Sequence[Array],
        outputs: Sequence[Array],
        samples: int,
        variables: dict[str | int, Array] | None = None,
    ) -> None:
        """Contiguous arrays of the ports' dtypes; `samples` of each port's size lie behind one another in every array.

        variables: what other plans of the same model have left in its variables, and where this one leaves them.
        """
        if self.only is not None:
            with self._alone():
                if variables is not None:
                    self.only.reset(self.plan)
                    self.only.recall(self.plan, variables)
                self.run_in(self.only, inputs, outputs, samples)
                if variables is not None:
                    self.only.remember(self.plan, variables)
            return
        context = self.acquire()
        try:
            self.run_in(context, inputs, outputs, samples)
        finally:
            self._free.append(context)

    def reset(self) -> None:
        """Forget what earlier runs have left behind."""
        if self.only is not None:
            with self._alone():
                self.only.reset(self.plan)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Who is in here may change what the model remembers."""
        with self._recalling:
            try:
                if self.direct is not None:
                    self.direct.shut()
                yield
            finally:
                if self.direct is not None:
                    self.direct.open()

    def acquire(self) -> Context:
        """A context that nobody else uses."""
        try:
            return self._free.pop()
        except IndexError:
            return Context(self.plan, self.constants, self.threads)

    def run_in(self, context: Context, inputs: Sequence[Array], outputs: Sequence[Array], samples: int) -> None:
        """As `run`, in a context of the caller's."""
        frame = context.frame
        addresses = [a.ctypes.data for a in (*inputs, *outputs)]
        for slot, a, p in zip(context.slots, inputs, self.plan.inputs, strict=False):
            words = p.float_words if p.float_words is not None and a.dtype == np.float32 else p.words
            frame[slot + fw.BYTES : slot + fw.BYTES + len(words)] = words
        sizes = [a.nbytes // max(samples, 1) for a in (*inputs, *outputs)]
        for start in range(0, samples, SAMPLES_PER_CALL):
            for slot, address, size in zip(context.slots, addresses, sizes, strict=True):
                frame[slot] = address + start * size
            batch = min(SAMPLES_PER_CALL, samples - start)
            frame[fw.BATCH] = batch
            judge(self.enter(context, attend=self.plan.nanoseconds * batch >= PARALLEL_NS))

    def enter(self, context: Context, attend: bool) -> int:
        """One entry of all threads into a context whose frame is filled in; `attend`: wait for those that must be woken."""
        if self._workers is None:
            return self.machine.run(context.address, 0)
        with self._turn:
            if attend and not context.account[fw.SUSPENDED]:
                return self._enter_together(context, self._workers)
            context.frame[fw.ATTEND] = 0
            self._send_for_next(context, self._workers)
            status = self.machine.run(context.address, 0)
            return self._enter_together(context, self._workers) if status == fw.LEFT else status

    def _enter_together(self, context: Context, workers: ThreadPoolExecutor) -> int:
        """One entry of all threads, those woken that must be."""
        context.frame[fw.ATTEND], status = 1, fw.LEFT
        while status == fw.LEFT:
            self._send(context, workers)
            status = self.machine.run(context.address, 0)
        return status

    def muster(self, context: Context) -> None:
        """Before a call that waits for nobody: send threads in that are gone, if calls come so close that it pays."""
        for state in context.states:
            if state.value == fw.GONE and self._workers is not None:
                with self._turn:
                    self._send_for_next(context, self._workers)
                break

    def _send_for_next(self, context: Context, workers: ThreadPoolExecutor) -> None:
        if any(state.value == fw.GONE for state in context.states):
            now, before = perf_counter(), context.looked
            context.looked = now
            if now - before < DENSE + self.plan.nanoseconds * 1e-9 and self._send(context, workers):
                context.account[fw.BALANCE] -= WAKING_NS

    def _send(self, context: Context, workers: ThreadPoolExecutor) -> bool:
        """Whether a thread was gone and is on its way now."""
        gone = (
            []
            if context.account[fw.SUSPENDED]
            else [(t, s) for t, s in enumerate(context.states, 1) if s.value == fw.GONE]
        )
        for t, state in gone:
            state.value = fw.COMING
            workers.submit(enter, self.machine, context, t)
        return bool(gone)

    def close(self) -> None:
        """Stop the worker threads."""
        if self._workers is not None:
            self._workers.shutdown()
