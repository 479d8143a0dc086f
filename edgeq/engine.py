"""Running a plan: arenas, threads, and the model that a user calls.

A `Context` is one inference's memory: arena, scratch, frame and a copy of the instruction table with addresses filled in. A model
keeps the contexts it has made and hands one to each call, so that calls from several threads do not meet; constants are shared.
With threads > 1, worker threads enter the machine beside the caller where the plan says that it pays; such calls go one after
another. Short calls take those along that stand by since the last one; only long ones wait for a thread to be woken.
"""

from __future__ import annotations

import ctypes
import math
import threading
import weakref
from collections.abc import Mapping, Sequence
from functools import partial
from time import perf_counter
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeq import direct
from edgeq.check import check
from edgeq.errors import CustomOpError, InputError, MachineError
from edgeq.graph import NUMPY_DTYPES, Array, Graph, Tensor
from edgeq.kernels.words import frame as fw
from edgeq.kernels.words.instruction import SCRATCH_BYTES
from edgeq.locked import LockedMemory
from edgeq.machine import Machine, Progress, get
from edgeq.packed import densified
from edgeq.plan import Plan, make_plan
from edgeq.plan.builder import SLACK
from edgeq.plan.cost import PARALLEL_NS, WORTH
from edgeq.plan.types import CONSTANT, FLIPPED, Rounding
from edgeq.quantmod import QuantMod
from edgeq.records import dataclass

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

ALIGNMENT = 64
STAGED_BYTES = 1 << 14
"""Inputs and outputs up to this size are copied once more, in Python, where that is cheaper than finding their addresses."""

DENSE = 200e-6
"""Seconds from one short call to the next within which a thread, once in the machine, is still there for the one after."""

STALLED = 2.0
"""A long call of all threads that takes so many times as long as the fastest one, or longer than one thread alone, has waited for
a core that somebody else had."""

ALONE_NS = 5e7
"""How long inferences are done alone at most after such a call, in nanoseconds; between 15 and 4095 of them."""

SAMPLES_PER_CALL = 64
"""Samples that one entry into the machine runs: enough to hide the entry, few enough for Ctrl-C."""


@dataclass(frozen=True)
class Port:
    """An input or output of a model: its name, shape, dtype, and for integers what real numbers they stand for."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    quantmod: QuantMod | None


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


def _usleep() -> int:
    """The address of the C library's usleep, 0 where it has none."""
    try:
        return ctypes.cast(ctypes.CDLL(None).usleep, ctypes.c_void_p).value or 0
    except (AttributeError, OSError, TypeError):  # TypeError: CDLL(None) on Windows
        return 0


def secret(memory: LockedMemory, size: int) -> Array:
    """(size,) uint8 in memory that is wiped with the model, its first byte on a page."""
    return np.frombuffer(memory.take(size + ALIGNMENT), np.uint8)[:size]  # a last vector may reach beyond the end


class Context:
    """Memory of one inference at a time."""

    def __init__(self, plan: Plan, constants: Array, threads: int, arena: Array | None = None) -> None:
        self.arena = aligned(plan.arena_bytes + SLACK) if arena is None else arena
        self.scratch = aligned(SCRATCH_BYTES * threads)
        self.barrier = aligned(fw.LINE * max(threads, 1)).view(np.int64)
        self.states = [ctypes.c_int64.from_buffer(self.barrier.data, t * fw.LINE) for t in range(1, threads)]
        self.suspended = ctypes.c_int64.from_buffer(self.barrier.data, 8 * fw.SUSPENDED)
        self.looked = -math.inf  # when a call last found that a thread is gone
        for state in self.states:
            state.value = fw.GONE
        self.table = plan.table.copy()
        flat = self.table.reshape(-1)
        base, constant_base = self.arena.ctypes.data, constants.ctypes.data
        flat[plan.arena_words] += base
        flat[plan.constant_words] += constant_base
        ports = (*plan.inputs, *plan.outputs)
        self.frame = np.zeros(fw.RECORDS + fw.RECORD_WORDS * len(ports), np.int64)
        f = self.frame
        f[fw.INSTRUCTIONS], f[fw.COUNT], f[fw.THREADS] = self.table.ctypes.data, len(self.table), threads
        f[fw.BARRIER], f[fw.SCRATCH] = self.barrier.ctypes.data, self.scratch.ctypes.data
        f[fw.REST], f[fw.ATTEND] = _usleep() if threads > 1 else 0, 1
        f[fw.PATIENCE], f[fw.MOST_ALONE] = 1, min(max(ALONE_NS / max(plan.nanoseconds, 1.0), 15), 4095)
        f[fw.N_INPUTS], f[fw.N_OUTPUTS] = len(plan.inputs), len(plan.outputs)
        for i, p in enumerate(ports):
            at = constant_base + p.place.offset if p.place.block == CONSTANT else base + plan.offset(p.place)
            record = f[fw.RECORDS + i * fw.RECORD_WORDS :]
            record[fw.PLACE] = at
            record[fw.BYTES : fw.BYTES + len(p.words)] = p.words
        self.address = int(f.ctypes.data)
        self.slots = [fw.RECORDS + i * fw.RECORD_WORDS for i in range(len(ports))]
        self.reset(plan)

    def reset(self, plan: Plan, *, resources: bool = True) -> None:
        """What the model remembers, as it was before the first run; without `resources` those of VAR_HANDLE stay."""
        stay = set() if resources else {place for key, (place, _) in plan.variables.items() if isinstance(key, str)}
        for place, values in plan.initial:
            if place in stay:
                continue
            start = plan.offset(place)
            self.arena[start : start + values.size] = values

    def recall(self, plan: Plan, variables: Mapping[str | int, Array]) -> None:
        """Put in what `remember` of this or another plan has kept of the same variables."""
        for key, (place, size) in plan.variables.items():
            kept, start = variables.get(key), plan.offset(place)
            if kept is not None and kept.size == size:
                self.arena[start : start + size] = kept

    def remember(self, plan: Plan, variables: dict[str | int, Array], *, tensors: bool = True) -> None:
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

    def __init__(self, plan: Plan, constants: Array, x: Port, y: Port, dtype: np.dtype[Any]) -> None:
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

    The model's own dtype and, where the input is quantized on the way, float32 are kinds of input with a frame each.
    """

    def __init__(self, plan: Plan, constants: Array, x: Port, y: Port, address: int, threads: int) -> None:
        super().__init__(plan, constants, threads)
        self.frame[fw.ATTEND] = 0  # nobody can be woken while the interpreter's lock is held
        self.constants, self.floats = constants, self.frame.copy()
        kinds = [(x.dtype, self.address)]
        words = plan.inputs[0].float_words
        if words is not None:
            self.floats[self.slots[0] + fw.BYTES :][: len(words)] = words
            kinds.append((np.dtype(np.float32), self.floats.ctypes.data))
        self.frame[fw.BATCH] = self.floats[fw.BATCH] = 1
        # Not a copy of zeros: NumPy lets go of the interpreter's lock for one, and wakes, each time, a thread that waits for it.
        self.blank = partial(np.empty, y.shape, y.dtype)
        self.call = direct.bind(address, direct.ticket(x.shape, kinds))


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

    def __init__(self, plan: Plan, machine: Machine, threads: int = 1, memory: LockedMemory | None = None) -> None:
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
        self._fastest = self._lone = math.inf  # seconds, of a long call of all threads, and of one alone
        self._alone = 0  # how many calls were done alone after the last one that stalled
        self._only = Context(plan, self.constants, threads) if plan.initial else None
        self._recalling = threading.Lock()  # who holds it may change what the model remembers

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
        if self._only is not None:
            with self._recalling:
                if variables is not None:
                    self._only.reset(self.plan)
                    self._only.recall(self.plan, variables)
                self.run_in(self._only, inputs, outputs, samples)
                if variables is not None:
                    self._only.remember(self.plan, variables)
            return
        context = self.acquire()
        try:
            self.run_in(context, inputs, outputs, samples)
        finally:
            self._free.append(context)

    def reset(self) -> None:
        """Forget what earlier runs have left behind."""
        if self._only is not None:
            with self._recalling:
                self._only.reset(self.plan)

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
            if attend and not context.suspended.value:
                if self._lone < math.inf or self._fastest == math.inf:
                    return self._enter_together(context, self._workers)
                # The second is done alone, so that there is something to hold the others against.
                context.suspended.value = 1
            context.frame[fw.ATTEND] = 0
            self._send_for_next(context, self._workers)
            start = perf_counter()
            status = self.machine.run(context.address, 0)
            if attend:
                self._lone = min(self._lone, (perf_counter() - start) / context.frame[fw.BATCH])
            return self._enter_together(context, self._workers) if status == fw.LEFT else status

    def _enter_together(self, context: Context, workers: ThreadPoolExecutor) -> int:
        """One entry of all threads, those woken that must be. One that stalls is followed by some that thread 0 does alone."""
        context.frame[fw.ATTEND], status, start = 1, fw.LEFT, perf_counter()
        while status == fw.LEFT:
            self._send(context, workers)
            status = self.machine.run(context.address, 0)
        taken = (perf_counter() - start) / context.frame[fw.BATCH]
        self._fastest = min(self._fastest, taken)
        if taken < min(STALLED * self._fastest, self._lone):
            self._alone //= 2
        else:
            self._alone = min(4 * self._alone + 1, int(context.frame[fw.MOST_ALONE]))
            context.suspended.value = self._alone
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
            if now - before < DENSE + self.plan.nanoseconds * 1e-9:
                self._send(context, workers)

    def _send(self, context: Context, workers: ThreadPoolExecutor) -> None:
        if context.suspended.value:
            return
        for t, state in enumerate(context.states, 1):
            if state.value == fw.GONE:
                state.value = fw.COMING
                workers.submit(enter, self.machine, context, t)

    def close(self) -> None:
        """Stop the worker threads."""
        if self._workers is not None:
            self._workers.shutdown()


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
        if threads < 1:
            raise InputError(f"threads is {threads}, at least 1 is expected")
        try:
            family = Rounding(rounding)
        except ValueError:
            raise InputError(f"rounding is {rounding!r}, 'xnnpack' or 'tflite' is expected") from None
        if not checked:
            graph = densified(graph)
            check(graph)
        machine = get(progress)
        self.plan = make_plan(graph, machine.isa, family)
        self.graph = graph
        tensors = self.plan.tensors
        self.inputs = tuple(port(n, tensors[i]) for n, i in zip(graph.input_names(), graph.inputs, strict=True))
        self.outputs = tuple(port(n, tensors[i]) for n, i in zip(graph.output_names(), graph.outputs, strict=True))
        self._program: Program | None = Program(self.plan, machine, threads, memory)
        self._memory, threads = memory, self._program.threads
        if memory is not None:
            weakref.finalize(self, memory.wipe)
        self._staged: dict[np.dtype[Any], list[Staged]] = {}
        self._one_shape: tuple[int, ...] = ()
        self._direct: Direct | None = None
        self._team = threads > 1
        if self._can_call_directly(machine):
            x, y = self.inputs[0], self.outputs[0]
            self._direct = Direct(self.plan, self._program.constants, x, y, machine.call, threads)
        if self._can_stage(threads):
            self._one_shape = self.inputs[0].shape
            accepted = [self.inputs[0].dtype, *([np.dtype(np.float32)] if self.plan.inputs[0].float_words else [])]
            self._staged = {dtype: [] for dtype in accepted}

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
            if self._team:
                self.program.muster(fast)
            found = fast.call(x, fast.blank())
            if found is not None:
                return found
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
        """Whether there is one input of any value, one output, and nothing that is remembered."""
        plain = not self.plan.required and not self.plan.initial
        return len(self.inputs) == len(self.outputs) == 1 and plain

    def _can_call_directly(self, machine: Machine) -> bool:
        """Whether single samples may go through the builtin: nothing in between lets another thread into the frame.

        Of more than two threads some might be called and one have left, which the builtin could not wake.
        """
        short = self.plan.nanoseconds <= direct.HELD_NS and all(i.kernel != "call_out" for i in self.plan.instructions)
        return self._is_simple() and short and self.program.threads <= 2 and machine.call != 0 and direct.fits()

    def reset(self) -> None:
        """Forget what earlier calls have left in the model's variables. Calls of such a model go one after another."""
        self.program.reset()

    def _can_stage(self, threads: int) -> bool:
        """Whether single samples go through `_run_staged`: input and output are small too."""
        small = all(p.size <= STAGED_BYTES for p in (*self.plan.inputs, *self.plan.outputs))
        return self._is_simple() and threads == 1 and small

    def _run_staged(self, x: Array, free: list[Staged]) -> Array:
        """One sample in the model's own shape and type: what a tiny model's call is made of, kept short (1.5 µs measured)."""
        program = self._program
        if program is None:
            raise InputError("the model is closed")
        try:
            context = free.pop()
        except IndexError:
            context = Staged(self.plan, program.constants, self.inputs[0], self.outputs[0], x.dtype)
        context.input[...] = x
        status = program.machine.run(context.address, 0)
        result = context.output.copy()
        free.append(context)
        judge(status)
        return result

    def _prepare(self, x: Array | Mapping[str, Array]) -> tuple[list[Array], int, bool]:
        given, samples, batched = gathered(x, self.inputs)
        for i, value in self.plan.required.items():
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


def port(name: str, t: Tensor) -> Port:
    """What a caller sees of an input or output tensor."""
    quantmod = None
    if t.quantization is not None and t.dtype in ("int8", "uint8", "int16") and len(t.quantization.scale) == 1:
        quantmod = QuantMod.from_tflite(float(t.quantization.scale[0]), int(t.quantization.zero_point[0]), t.dtype)
    if t.dtype not in NUMPY_DTYPES:
        raise InputError(f"{name!r} is of type {t.dtype}, which has no NumPy arrays")
    return Port(name, t.shape, NUMPY_DTYPES[t.dtype], quantmod)


def samples_of(a: Array, p: Port) -> tuple[int, bool]:
    """How many times the port's shape an array holds, and whether it is a batch (other than the port's own shape)."""
    if a.shape == p.shape:
        return 1, False
    if (
        p.shape
        and a.ndim == len(p.shape)
        and a.shape[1:] == p.shape[1:]
        and p.shape[0]
        and a.shape[0] % p.shape[0] == 0
    ):
        return a.shape[0] // p.shape[0], True
    expected = ["N" if p.shape[0] == 1 else f"N·{p.shape[0]}", *map(str, p.shape[1:])] if p.shape else []
    raise InputError(f"input {p.name!r} has shape {list(a.shape)}, ({', '.join(expected)}) is expected")


def in_order(x: Array | Mapping[str, Array], ports: Sequence[Port]) -> list[Array]:
    """The inputs' arrays in the order of the ports, from one array or a dict by name."""
    if isinstance(x, Mapping):
        names = [p.name for p in ports]
        if set(x) != set(names):
            raise InputError(f"inputs are named {sorted(map(str, x))}, {sorted(names)} are expected")
        return [np.asarray(x[n]) for n in names]
    if len(ports) == 1:
        return [np.asarray(x)]
    raise InputError(f"one array is given, a dict with {[p.name for p in ports]} is expected")


def gathered(x: Array | Mapping[str, Array], ports: Sequence[Port]) -> tuple[list[Array], int, bool]:
    """The inputs' arrays in order, how many samples they hold, and whether that is a batch."""
    given = in_order(x, ports)
    counts = [samples_of(a, p) for a, p in zip(given, ports, strict=True)]
    if len({n for n, _ in counts}) > 1:
        raise InputError(f"inputs hold {[n for n, _ in counts]} samples, the same number is expected")
    samples, batched = counts[0] if counts else (1, False)
    return given, samples, batched


def delivered(results: Sequence[Array], ports: Sequence[Port], dequantize: bool) -> Any:
    """The outputs as a caller gets them: one array, or a dict by name; as real numbers if asked."""
    if dequantize:
        results = [
            p.quantmod.dequantize(r) if p.quantmod is not None else r for r, p in zip(results, ports, strict=True)
        ]
    if len(results) == 1:
        return results[0]
    return {p.name: r for p, r in zip(ports, results, strict=True)}


def converted(a: Array, p: Port) -> Array:
    """The array in the port's dtype: unchanged, or floats quantized by the port's parameters (float32 ones by the machine)."""
    if a.dtype == p.dtype:
        return np.ascontiguousarray(a)
    if a.dtype.kind == "f":
        if p.dtype.kind == "f":
            return np.ascontiguousarray(a, p.dtype)
        if p.quantmod is not None and a.dtype == np.float32:
            return np.ascontiguousarray(a)
        if p.quantmod is not None:
            return np.ascontiguousarray(p.quantmod.quantize(np.ascontiguousarray(a)))
    also = " or floats" if p.quantmod is not None or p.dtype.kind == "f" else ""
    raise InputError(f"input {p.name!r} is {a.dtype}, {p.dtype}{also} is expected")


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
        graph = densified(graph)
        check(graph)
        machine = get(progress)
        plan = make_plan(graph, machine.isa, Rounding(rounding), keep=True)
        self.graph = graph
        self._program = Program(plan, machine, threads, memory)
        self._context = self._program.acquire()
        tensors = self._program.plan.tensors
        self._outputs = [np.empty(tensors[i].shape, NUMPY_DTYPES[tensors[i].dtype]) for i in graph.outputs]
        self._views = {i: self._view(i) for i in self._program.plan.places}

    @property
    def nanoseconds(self) -> float:
        """What a run takes, as the plan estimates it."""
        return float(self._program.plan.nanoseconds)

    def run(self, inputs: Sequence[Array]) -> Mapping[int, Array]:
        """Inputs in the model's own dtypes and shapes, in order → tensor index → values, valid until the next run.

        Holds inputs and everything computed; constants are in the graph.
        """
        arrays = []
        for a, i in zip(inputs, self.graph.inputs, strict=True):
            t = self.graph.tensors[i]
            if a.shape != t.shape or a.dtype != NUMPY_DTYPES[t.dtype]:
                raise InputError(f"input {t.name!r} is {a.dtype}{list(a.shape)}, {t.dtype}{list(t.shape)} is expected")
            arrays.append(np.ascontiguousarray(a))
        self._program.run_in(self._context, arrays, self._outputs, 1)
        return {
            i: (v ^ FLIPPED).view(np.int8) if self.graph.tensors[i].dtype == "int8" else v
            for i, v in self._views.items()
        }

    def _view(self, i: int) -> Array:
        plan = self._program.plan
        t = plan.tensors[i]
        dtype = np.dtype(np.uint8) if t.dtype == "int8" else NUMPY_DTYPES[t.dtype]
        start = plan.offset(plan.places[i])
        return self._context.arena[start : start + t.size * dtype.itemsize].view(dtype).reshape(t.shape)
