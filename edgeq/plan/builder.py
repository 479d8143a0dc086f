"""The workbench of lowering: hands out blocks and constants, collects instructions, and turns them into a plan."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import lru_cache

import numpy as np

from edgeq.digest import blake2b
from edgeq.errors import CheckError, DataDependentError, UnsupportedError
from edgeq.graph import NUMPY_DTYPES, Activation, Array, Graph, Op, Tensor
from edgeq.kernels.isa import Isa
from edgeq.kernels.words import frame as fw
from edgeq.kernels.words.instruction import CONDITION, LIMIT, TARGET
from edgeq.packed import unpacked
from edgeq.plan.arena import ALIGNMENT, Block, aligned, place, place_by_middle
from edgeq.plan.assemble import assemble
from edgeq.plan.cost import estimated_ns, shared
from edgeq.plan.multiplier import activation_bounds, float_bits
from edgeq.plan.runnable import SLACK, WORTH
from edgeq.plan.types import CONSTANT, FLIPPED, Frame, Instruction, Lanes, Plan, Port, Ref, Rounding, Word
from edgeq.quantmod import QuantMod
from edgeq.records import dataclass, replace
from edgeq.tflite.limits import MAX_TENSOR_BYTES

MAX_ARENA_BYTES = 1 << 31
MAX_TURNS = 1 << 20
"""How often a loop comes back in one run before it is taken for endless."""


COPIED = 1 << 12
"""Bytes of a constant, up to which it is copied at once."""


@dataclass(frozen=True)
class Variable:
    """What a resource variable holds: type, shape, and where it lies."""

    dtype: str
    shape: tuple[int, ...]
    place: Ref


class Builder:
    """Collects one plan. The lowering functions are its only users."""

    def __init__(
        self,
        graph: Graph,
        rounding: Rounding,
        isa: Isa,
        *,
        keep: bool,
        reshaped: bool = False,
        lower: Callable[[Builder, Op], None] | None = None,
    ) -> None:
        self.graph, self.rounding, self.isa, self.keep, self.reshaped = graph, rounding, isa, keep, reshaped
        self._lower = lower
        self.depth = self.initialising = 0  # calls of subgraphs that are being laid out; those of CALL_ONCE among them
        self.tensors = [unpacked(t) for t in graph.tensors]
        self.instructions: list[Instruction] = []
        self.sizes: list[int] = []
        self.first: list[int] = []
        self.last: list[int] = []
        self.places: dict[int, Ref] = {}
        self.frames: dict[int, Frame] = {}  # what may be written with borders around it,
        self.framed: dict[int, Frame] = {}  # and what has been: its rows do not follow one another
        self.as_stated = True  # whether every shape so far is the one that the file gives
        self.folded: dict[int, Array] = {}
        self.required: dict[int, Array] = {}
        self.handles: dict[int, str] = {}  # tensor of a resource → the variable that it stands for
        self.variables: dict[str, Variable] = {}
        self.initial: list[tuple[Ref, Array]] = []
        self._constants: list[bytes | memoryview] = []
        self._constant_bytes = 0
        self._known: dict[
            object, tuple[bytes | memoryview, Ref]
        ] = {}  # by length and ends, or if others have them, by digest
        self._op = -1
        self._kept: list[object] = []

    @property
    def lanes(self) -> int:
        """32-bit lanes of a vector."""
        return self.isa.lanes

    @property
    def xnnpack(self) -> bool:
        """Whether LiteRT's default is the reference."""
        return self.rounding is Rounding.XNNPACK

    # --- tensors ----------------------------------------------------------------------------------------------------------

    def tensor(self, op: Op, k: int) -> Tensor:
        """Input k of an operation, which must be there."""
        i = op.inputs[k] if k < len(op.inputs) else -1
        if i < 0:
            raise CheckError(f"{self.where(op)} lacks its input {k}")
        return self.tensors[i]

    def optional(self, op: Op, k: int) -> Tensor | None:
        """Input k of an operation, or None."""
        i = op.inputs[k] if k < len(op.inputs) else -1
        return self.tensors[i] if i >= 0 else None

    def output(self, op: Op, k: int = 0) -> Tensor:
        """Output k of an operation."""
        return self.tensors[op.outputs[k]]

    def known(self, i: int) -> Array | None:
        """The values of a tensor that is known before anything runs, None for another."""
        return self.folded.get(i) if i in self.folded else self.tensors[i].data

    def constant_value(self, op: Op, k: int, dtype: str | None = None) -> Array:
        """The values of input k, which must be known before anything runs."""
        i = op.inputs[k] if k < len(op.inputs) else -1
        data = self.known(i) if i >= 0 else None
        if data is None:
            raise self.data_dependent(op, k, f"input {k} is computed; edgeq needs it to be a constant")
        if dtype is not None and data.dtype != np.dtype(dtype):
            raise UnsupportedError(f"{self.where(op)}: input {k} is {data.dtype}, {dtype} is expected")
        return data

    def is_constant(self, op: Op, k: int) -> bool:
        """Whether input k is there and constant."""
        i = op.inputs[k] if k < len(op.inputs) else -1
        return i >= 0 and self.known(i) is not None

    def require(self, op: Op, k: int, value: Array) -> None:
        """Input k must hold this when the model runs: now if it is a constant, at every call if it is an input of the model."""
        i = op.inputs[k]
        if self.is_constant(op, k):
            if not np.array_equal(self.constant_value(op, k).reshape(-1), value):
                raise CheckError(
                    f"{self.where(op)}: input {k} is {self.constant_value(op, k).tolist()}, {value.tolist()} is expected"
                )
        elif (
            i in self.graph.inputs
            and not self.reshaped
            and self.tensors[i].dtype == value.dtype.name
            and self.tensors[i].size == value.size
        ):
            self.required[i] = value
        else:
            raise self.data_dependent(op, k, f"input {k} is computed; edgeq needs it to be a constant or an input")

    def fold(self, op: Op, value: Array, k: int = 0) -> None:
        """Declare output k a constant."""
        self.folded[op.outputs[k]] = value

    def read(self, op: Op, k: int) -> Ref:
        """Where input k lies when the operation runs; a constant is laid out on first use."""
        i = op.inputs[k]
        if i not in self.places:
            data = self.known(i)
            if data is None:
                raise CheckError(
                    f"{self.where(op)} reads tensor {i} ({self.tensors[i].name}), which nothing has written"
                )
            self.places[i] = self.constant(stored(data))
        return self.places[i]

    def write(self, op: Op, k: int = 0) -> Ref:
        """A new block for output k."""
        i = op.outputs[k]
        self.places[i] = self.block(nbytes(self.tensors[i]))
        return self.places[i]

    def alias(self, op: Op) -> None:
        """Output 0 is input 0 under another shape."""
        data = self.known(op.inputs[0])
        if data is not None:
            self.fold(op, data.reshape(self.output(op).shape))
        self.view(op, 0, self.read(op, 0))

    def view(self, op: Op, k: int, place: Ref) -> None:
        """Output k is what lies there already."""
        self.places[op.outputs[k]] = place

    def zero_point(self, t: Tensor) -> int:
        """The zero point in the arena's numbers."""
        if t.quantization is None:
            raise CheckError(f"tensor {t.name!r} is {t.dtype} and has no quantization")
        z = int(t.quantization.zero_point[0])
        if t.dtype == "int16" and z != 0:
            raise UnsupportedError(f"tensor {t.name!r} is int16 with zero point {z}; 0 is expected")
        return z + 128 if t.dtype == "int8" else z

    def scale(self, t: Tensor) -> np.float32:
        """The per-tensor scale."""
        if t.quantization is None:
            raise CheckError(f"tensor {t.name!r} is {t.dtype} and has no quantization")
        if len(t.quantization.scale) != 1:
            raise UnsupportedError(f"activation {t.name!r} has {len(t.quantization.scale)} scales, one is expected")
        scale: np.float32 = t.quantization.scale[0]
        return scale if type(scale) is np.float32 else np.float32(scale)

    def bounds(self, t: Tensor, activation: int = Activation.NONE) -> tuple[int, int]:
        """The clamp of an integer output, in the arena's numbers."""
        low, high = (-32768, 32767) if t.dtype == "int16" else (0, 255)
        return activation_bounds(activation, float(self.scale(t)), self.zero_point(t), low, high)

    # --- memory -----------------------------------------------------------------------------------------------------------

    def block(self, size: int) -> Ref:
        """A new piece of the arena."""
        if size > MAX_ARENA_BYTES or sum(self.sizes[-1:]) + size > MAX_ARENA_BYTES:
            raise UnsupportedError(f"the model needs a buffer of {size} bytes, at most {MAX_ARENA_BYTES} are allowed")
        self.sizes.append(max(size, 1))
        at = len(self.instructions)
        self.first.append(at)
        self.last.append(at)
        return Ref(len(self.sizes) - 1)

    def constant(self, values: Array) -> Ref:
        """A piece of the constants with these bytes; equal bytes are stored once. An array of many has to stay as it is until the
        plan is finished: it is not copied before."""
        large = values.nbytes >= COPIED and values.flags.c_contiguous
        raw: bytes | memoryview = values.reshape(-1).view(np.uint8).data if large else values.tobytes()
        ends: object = raw if len(raw) <= 64 else (len(raw), bytes(raw[:32]), bytes(raw[-32:]))
        known = self._known.get(ends)
        if known is not None and known[0] != raw:  # only now is it worth looking at every byte
            ends = digest(raw)
            known = self._known.get(ends)
        if known is None:
            known = self._known[ends] = raw, Ref(CONSTANT, self._constant_bytes)
            self._constants.append(raw)
            self._constant_bytes += -(-max(len(raw), 1) // ALIGNMENT) * ALIGNMENT
        return known[1]

    def laid(self) -> dict[bytes, Ref]:
        """Where constants lie until now, by their digests."""
        return {digest(raw): place for raw, place in self._known.values()}

    def remembered(self, initial: Array) -> Ref:
        """A piece of the arena that keeps its bytes from run to run; `initial` are the first run's."""
        raw = np.frombuffer(np.ascontiguousarray(initial).tobytes(), np.uint8)
        place = self.block(max(raw.size, 1))
        self.initial.append((place, raw))
        return place

    # --- instructions -----------------------------------------------------------------------------------------------------

    def emit(
        self,
        kernel: str,
        units: int,
        words: Mapping[int, Word],
        macs: int = 0,
        *,
        beside: bool = False,
        lanes: Lanes | None = None,
    ) -> None:
        """Append a kernel call; a float word is stored as float32 bits. beside, lanes: see Instruction."""
        if units <= 0:
            return
        encoded: dict[int, int | Ref] = {}
        for w, v in words.items():
            if type(v) is int:
                encoded[w] = v
            elif isinstance(v, Ref):
                encoded[w] = v
                if v.block != CONSTANT:
                    self.last[v.block] = len(self.instructions)
            else:
                encoded[w] = float_bits(v) if isinstance(v, (float, np.floating)) else int(v)
        self.instructions.append(Instruction(kernel, units, encoded, self._op, macs, beside, lanes))

    def branch(self, condition: Ref | None = None) -> int:
        """Append a branch that is taken unless the byte at `condition` is not 0; where it leads is said by `lead`."""
        words: dict[int, int | Ref] = {TARGET: 0, LIMIT: MAX_TURNS} | (
            {} if condition is None else {CONDITION: condition}
        )
        self.instructions.append(Instruction("branch", 1, words, self._op))
        if condition is not None and condition.block != CONSTANT:
            self.last[condition.block] = len(self.instructions) - 1
        return len(self.instructions) - 1

    def lead(self, at: int, target: int | None = None, limit: int = MAX_TURNS) -> None:
        """Branch `at` goes to instruction `target`, the next one that is emitted by default."""
        to = len(self.instructions) if target is None else target
        old = self.instructions[at]
        self.instructions[at] = replace(old, words={**old.words, TARGET: to, LIMIT: limit})

    def hold(self, start: int) -> None:
        """What lay in the arena before instruction `start` and is read behind it stays there until now: a loop comes back."""
        end = len(self.instructions) - 1
        for k, (first, last) in enumerate(zip(self.first, self.last, strict=True)):
            if first <= start <= last:
                self.last[k] = end

    def outlast(self, op: Op, *, read: bool = False) -> None:
        """What an operation wrote, and with `read` what it reads, stays at least until its last instruction."""
        for i in (*op.outputs, *(op.inputs if read else ())):
            place = self.places.get(i)
            if place is not None and place.block != CONSTANT:
                self.last[place.block] = max(self.last[place.block], len(self.instructions) - 1)

    def lower(self, op: Op) -> None:
        """Emit another operation, one of a subgraph that is called."""
        if self._lower is None:
            raise self.unsupported(op, "a subgraph is called where none can be")
        self._lower(self, op)

    def at_op(self, index: int) -> None:
        """Instructions that follow belong to this operation."""
        self._op = index

    @property
    def at(self) -> int:
        """The operation that is being lowered."""
        return self._op

    def where(self, op: Op) -> str:
        """How messages name an operation."""
        return f"operation {self._op} ({op.custom_code or op.code})"

    def expect_shape(self, op: Op, shape: tuple[int, ...], k: int = 0) -> Tensor:
        """Output k under the shape that the inputs imply: the file's, or a new one where the file leaves it open."""
        t = self.output(op, k)
        if t.shape != shape:
            if not self.reshaped and not leaves_open(t):
                raise CheckError(f"{self.where(op)} yields shape {list(shape)}, the file says {list(t.shape)}")
            if any(d < 0 for d in shape) or math.prod(shape) * itemsize(t) > MAX_TENSOR_BYTES:
                raise CheckError(
                    f"{self.where(op)} yields shape {list(shape)}, at most {MAX_TENSOR_BYTES} bytes are expected"
                )
            signature = t.shape_signature if t.shape_signature and len(t.shape_signature) == len(shape) else None
            t = replace(t, shape=shape, shape_signature=signature)
            self.tensors[op.outputs[k]] = t
            self.as_stated = False
        return t

    def reshape(self, op: Op, shape: tuple[int, ...], k: int = 0) -> None:
        """Output k under a shape that the operation decides, whatever the file says."""
        self.as_stated = self.as_stated and self.output(op, k).shape == shape
        self.tensors[op.outputs[k]] = replace(self.output(op, k), shape=shape, shape_signature=None)

    def unsupported(self, op: Op, what: str) -> UnsupportedError:
        """The error for a sound operation that edgeq does not run."""
        return UnsupportedError(f"{self.where(op)}: {what}")

    def data_dependent(self, op: Op, k: int, what: str) -> DataDependentError:
        """The error for a plan that cannot be made before the values of input k are known (k = -1: before it runs)."""
        return DataDependentError(f"{self.where(op)}: {what}", op.inputs[k] if 0 <= k < len(op.inputs) else -1)

    def keep_alive(self, thing: object) -> None:
        """The plan holds on to this: the instructions know its address only."""
        self._kept.append(thing)

    # --- the result -------------------------------------------------------------------------------------------------------

    def finish(self, shown: bool = False, threads: int = 1) -> Plan:
        """Place the blocks for so many threads, and write the table; `shown`: tell where tensors lie that do not outlive the run,
        too."""
        end = len(self.instructions)
        inputs = tuple(self._port(i) for i in self.graph.inputs)
        outputs = tuple(self._port(i) for i in self.graph.outputs)
        for p in outputs:
            if p.place.block != CONSTANT:
                self.last[p.place.block] = end
        kept = {place.block for place, _ in self.initial}
        lives = [
            Block(s, -1 if self.keep or k in kept else a, end if self.keep or k in kept else z)
            for k, (s, a, z) in enumerate(zip(self.sizes, self.first, self.last, strict=True))
        ]
        costs = [estimated_ns(instruction, self.isa) for instruction in self.instructions]
        branches = [instruction.kernel == "branch" for instruction in self.instructions]
        flags, together = shared(costs, [instruction.units for instruction in self.instructions], branches)
        offsets, arena_bytes = (place_by_middle if threads > 1 and together < WORTH * sum(costs) else place)(lives)
        if arena_bytes > MAX_ARENA_BYTES:
            raise UnsupportedError(
                f"the model needs an arena of {arena_bytes} bytes, at most {MAX_ARENA_BYTES} are allowed"
            )
        words = assemble(self.instructions, offsets, costs, flags, self.isa, [p.size for p in outputs])
        constants = self._laid_out()
        live = {
            t: r
            for t, r in self.places.items()
            if t < len(self.graph.tensors)
            and r.block != CONSTANT
            and t not in self.framed
            and (self.keep or shown or self.last[r.block] >= end)
        }
        return Plan(
            table=words.table,
            arena_words=words.arena,
            constant_words=words.constants,
            constants=constants,
            arena_bytes=arena_bytes,
            offsets=offsets,
            inputs=inputs,
            outputs=outputs,
            nanoseconds=sum(costs),
            together=together,
            required=self.required,
            kept=tuple(self._kept),
            initial=tuple(self.initial),
            variables=self._variables(),
            instructions=tuple(self.instructions),
            rounding=self.rounding,
            places=live,
            folded=self.folded,
            tensors=tuple(self.tensors[: len(self.graph.tensors)]),
            framed={i: (self.places[i], frame) for i, frame in self.framed.items()} if shown else {},
        )

    def _variables(self) -> dict[str | int, tuple[Ref, int]]:
        """Where the model's variables lie: resources by name, variable tensors of the main subgraph by index."""
        kept = {place.block for place, _ in self.initial}
        found: dict[str | int, tuple[Ref, int]] = {}
        for name, v in self.variables.items():
            found[name] = (v.place, math.prod(v.shape) * NUMPY_DTYPES[v.dtype].itemsize)
        for i, t in enumerate(self.graph.tensors):
            if t.is_variable and i in self.places and self.places[i].block in kept:
                found[i] = (self.places[i], nbytes(t))
        return found

    def _laid_out(self) -> Array:
        """The constants behind one another, the first at a multiple of ALIGNMENT; their own arrays are let go one by one."""
        self._known.clear()
        out = aligned(self._constant_bytes + SLACK)
        at, view = 0, out.data
        for k, raw in enumerate(self._constants):
            view[at : at + len(raw)] = raw
            at += -(-max(len(raw), 1) // ALIGNMENT) * ALIGNMENT
            self._constants[k] = b""
        return out

    def _port(self, i: int) -> Port:
        t = self.tensors[i]
        if i not in self.places:
            data = self.known(i)
            if data is None:
                raise CheckError(f"output {t.name!r} is written by no operation")
            self.places[i] = self.constant(stored(data))
        kind = fw.FLIP if t.dtype == "int8" else fw.COPY
        return Port(i, self.places[i], nbytes(t), (nbytes(t), kind), self._float_words(t))

    def _float_words(self, t: Tensor) -> tuple[int, ...] | None:
        """How float32 values of an 8- or 16-bit tensor become its codes: QuantMod's C, d and p − 1."""
        q = t.quantization
        if q is None or len(q.scale) != 1 or t.dtype not in ("int8", "uint8", "int16"):
            return None
        kind = fw.QUANTIZE_S16 if t.dtype == "int16" else fw.QUANTIZE_U8
        return (nbytes(t), kind, *_transform_words(float(q.scale[0]), int(q.zero_point[0]), t.dtype))


@lru_cache(256)
def _transform_words(scale: float, zero_point: int, dtype: str) -> tuple[int, ...]:
    """C, d (the bits of a float64 each) and p − 1."""
    q = QuantMod.from_tflite(scale, zero_point, dtype)
    return (*np.array([q.C, q.d], np.float64).view(np.int64).tolist(), q.p - 1)


def digest(raw: bytes | memoryview) -> bytes:
    """What stands for these bytes: themselves if they are few, or their BLAKE2b and length, which is longer than that, so that no
    file can hold a few bytes which stand for many."""
    return bytes(raw) if len(raw) <= 64 else blake2b(raw) + len(raw).to_bytes(33, "big")


def leaves_open(t: Tensor) -> bool:
    """Whether a file does not fix a computed tensor's shape: a length of −1 in its signature, or no rank."""
    return -1 in (t.shape_signature or ()) or (not t.shape and not t.has_rank)


def stored(values: Array) -> Array:
    """Values as the arena holds them."""
    return values.view(np.uint8) ^ FLIPPED if values.dtype == np.int8 else values


def itemsize(t: Tensor) -> int:
    """Bytes of an element."""
    if t.dtype not in NUMPY_DTYPES:
        raise UnsupportedError(f"tensor {t.name!r} is of type {t.dtype}, which edgeq does not compute with")
    return NUMPY_DTYPES[t.dtype].itemsize


def nbytes(t: Tensor) -> int:
    """Bytes of a tensor."""
    return t.size * itemsize(t)
