"""Integrity in use: a model that looks after its own parameters and arithmetic while it runs.

Every N inferences, one layer's packed parameters are hashed again, and one linear layer of 8 bits (fully connected, or a
convolution of 1×1) is run again and its result checked. Both go round: after as many checks as there are layers, all have
been looked at.

The check of a result: some rows X (m, k) of the layer's input and Y (m, n) of its output are taken out of a second run of the
plan, with the parameters that the model computes with. C = X·Wᵀ is computed apart from the kernels, from the weights of the
file, and checked by Freivalds' test (Probabilistic machines can use less running time, IFIP 1977): for a secret random r, C·r
must be X·(Wᵀ·r) modulo the prime p = 2³¹ − 1, where Wᵀ·r was computed when the model was loaded. A wrong C passes with
probability 1/p. Then every Y must be what C comes to within half a code. So a bit that flips in the packed weights, in the
file's weights, or in a product is told, and which.

The plan's table of instructions is hashed too. What this does not see: a fault that comes and goes between two checks.
"""

from __future__ import annotations

import hashlib
import secrets
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Final, NoReturn

import numpy as np

from edgeq.engine import Context, Model, aligned, judge
from edgeq.errors import InputError, IntegrityError
from edgeq.graph import Array, Graph, Op, Tensor
from edgeq.kernels.words import conv as cw
from edgeq.kernels.words import frame as fw
from edgeq.locked import LockedMemory
from edgeq.plan.types import CONSTANT, FLIPPED, Instruction, Ref

PRIME: Final = (1 << 31) - 1
"""Products of two residues fit 62 bits."""

ROWS: Final = 16
"""Rows of a layer that one check computes again."""

HALF: Final = 0.5 + 2.0**-8
"""Codes between a result and what it should be, and a little; two roundings one behind the other add up to the multiplier."""


@dataclass(frozen=True, eq=False)
class Layer:
    """A linear layer whose result can be checked: the number of its instruction, its operation, rows of its input.

    r: (n,) and fingerprint: (k,) are residues mod PRIME, fingerprint = Wᵀ·r.
    """

    number: int
    op: Op
    rows: int
    r: Array = field(repr=False)
    fingerprint: Array = field(repr=False)


class CheckedModel(Model):
    """A model that checks itself every `every` inferences; raises IntegrityError as soon as something is not what it was."""

    def __init__(
        self,
        graph: Graph,
        *,
        every: int,
        rounding: str = "xnnpack",
        threads: int = 1,
        memory: LockedMemory | None = None,
    ) -> None:
        if every < 1:
            raise InputError(f"selfcheck is {every}, at least 1 is expected")
        super().__init__(graph, rounding=rounding, threads=threads, memory=memory)
        self.every = every
        self._done, self._round, self._broken = 0, 0, ""
        self._checking = threading.Lock()
        self._spans = _spans(self.plan.instructions, self.program.constants.nbytes)
        self._hashes = [self._hash(span) for span in self._spans]
        self._table = hashlib.sha256(self.plan.table.tobytes()).digest()
        self._context = Context(self.plan, self.program.constants, 1)
        self._layers = [layer for layer in self._linear() if self._can_follow(layer)]

    @property
    def checked_layers(self) -> tuple[int, ...]:
        """The operations whose results are checked, by their numbers; the parameters of all are hashed."""
        return tuple(self.plan.instructions[layer.number].op for layer in self._layers)

    def __call__(self, x: Array | Mapping[str, Array], *, dequantize: bool = False) -> Any:
        """As Model; when a check is due, parameters are looked at before they are used, and the result before it is given."""
        if not self._is_due(x):
            return super().__call__(x, dequantize=dequantize)
        with self._checking:
            self._check_parameters()
            result = super().__call__(x, dequantize=dequantize)
            self._check_result(x)
            return result

    def check(self, x: Array | Mapping[str, Array]) -> None:
        """Check everything at once, results with the first sample of `x`; raises IntegrityError."""
        with self._checking:
            for _ in self._spans:
                self._check_parameters()
                self._round += 1
            for _ in self._layers:
                self._check_result(x)

    def _is_due(self, x: Array | Mapping[str, Array]) -> bool:
        """Count the samples; whether it is time for a check. Raises IntegrityError once one has failed."""
        with self._checking:
            if self._broken:
                raise IntegrityError(self._broken)
            self._done += self._samples(x)
            if self._done < self.every:
                return False
            self._done = 0
            return True

    def _samples(self, x: Array | Mapping[str, Array]) -> int:
        first = next(iter(x.values())) if isinstance(x, Mapping) else x
        shape = self.inputs[0].shape
        return max(1, np.asarray(first).size // max(1, int(np.prod(shape, dtype=np.int64))))

    def _check_parameters(self) -> None:
        """The instructions, and one layer's parameters."""
        if self._spans:
            k = self._round % len(self._spans)
            span = self._spans[k]
            if self._hash(span) != self._hashes[k]:
                self._fail(f"parameters changed in memory: {_name(self.graph, span.op)}")
        if hashlib.sha256(self.plan.table.tobytes()).digest() != self._table:
            self._fail("the plan's instructions changed in memory")

    def _check_result(self, x: Array | Mapping[str, Array]) -> None:
        """One layer's result."""
        if self._layers:
            try:
                self._follow(self._layers[self._round % len(self._layers)], self._prepare(x)[0])
            except IntegrityError as error:
                self._fail(str(error))
        self._round += 1

    def _fail(self, message: str) -> NoReturn:
        self._broken = message
        raise IntegrityError(message)

    def _hash(self, span: Span) -> bytes:
        return hashlib.sha256(self.program.constants[span.start : span.stop].data).digest()

    # --- results ------------------------------------------------------------------------------------------------------

    def _linear(self) -> list[Layer]:
        """The layers of int8 or uint8 whose input lies row by row in the arena."""
        found, rng = [], np.random.default_rng(secrets.randbits(128))
        for number, instruction in enumerate(self.plan.instructions):
            op = self.graph.ops[instruction.op] if instruction.op < len(self.graph.ops) else None
            if op is None or instruction.kernel != "conv_u8" or not _is_linear(self.plan.tensors, op):
                continue
            weights = _weights(self.plan.tensors, op)
            words = instruction.words
            if words.get(cw.COLUMN) != weights.shape[1] or words.get(cw.N) != weights.shape[0]:
                continue
            rows = self.plan.tensors[op.inputs[0]].size // weights.shape[1]
            r = rng.integers(0, PRIME, weights.shape[0])
            found.append(Layer(number, op, rows, r, _times(weights.T.astype(np.int64), r)))
        return found

    def _can_follow(self, layer: Layer) -> bool:
        """Whether the check reproduces the layer's result; not where an instruction does more than the layer."""
        rng = np.random.default_rng(0)
        inputs = [_random(p.shape, p.dtype, rng) for p in self.inputs]
        try:
            self._follow(layer, inputs)
        except (IntegrityError, InputError):
            return False
        return True

    def _follow(self, layer: Layer, inputs: Sequence[Array]) -> None:
        """Run the plan up to a layer, then with it, and hold the one against the other."""
        op, words = layer.op, self.plan.instructions[layer.number].words
        weights = _weights(self.plan.tensors, op).astype(np.float64)
        n, k = weights.shape
        rows = np.sort(np.random.default_rng(self._round).permutation(layer.rows)[:ROWS])
        self._run(inputs, layer.number)
        line, column = np.divmod(rows, int(words[cw.OUT_W]))  # type: ignore[arg-type]
        x = self._rows(words[cw.X], line * int(words[cw.ROW]) + column * int(words[cw.COLUMN]), k)  # type: ignore[arg-type]
        self._run(inputs, layer.number + 1)
        pitch = int(words[cw.Y_PITCH])  # type: ignore[arg-type]
        y = self._rows(words[cw.Y], rows * pitch + line * int(words.get(cw.Y_GAP, 0)), n)  # type: ignore[arg-type]
        given, out = self.plan.tensors[op.inputs[0]], self.plan.tensors[op.outputs[0]]
        c = x @ weights.T  # exact: products of 16 bits, sums far below 2^53
        if not (_times(c.astype(np.int64), layer.r) == _times(x.astype(np.int64), layer.fingerprint)).all():
            raise IntegrityError(
                f"a product is wrong, or the file's weights changed: {_name(self.graph, _of(self.plan, layer))}"
            )
        acc = c - _zero(given) * weights.sum(1) + _bias(self.plan.tensors, op, n)
        multiplier = _multiplier(given, self.plan.tensors[op.inputs[1]], out)
        expected = acc * multiplier + _zero(out)
        low, high = (float(int(words[w])) for w in (cw.LO, cw.HI))  # type: ignore[arg-type]
        wrong = (
            np.abs(y - np.clip(expected, low, high))
            > HALF + np.minimum(multiplier, 0.5) + np.abs(expected - _zero(out)) * 2.0**-20
        )
        if wrong.any():
            raise IntegrityError(f"a result is wrong: {_name(self.graph, _of(self.plan, layer))}")

    def _run(self, inputs: Sequence[Array], count: int) -> None:
        """The first `count` instructions on one sample, in a context of the check's own."""
        context = self._context
        frame = context.frame
        results = [aligned(max(1, p.size)) for p in self.plan.outputs]
        arrays = [np.ascontiguousarray(a).reshape(-1) for a in inputs]
        for slot, a, p in zip(context.slots, arrays, self.plan.inputs, strict=False):
            kinds = p.float_words if p.float_words is not None and a.dtype == np.float32 else p.words
            frame[slot + fw.BYTES : slot + fw.BYTES + len(kinds)] = kinds
        for slot, a in zip(context.slots, (*arrays, *results), strict=True):
            frame[slot] = a.ctypes.data
        frame[fw.BATCH], frame[fw.THREADS], frame[fw.COUNT] = 1, 1, count
        judge(self.program.machine.run(context.address, 0))

    def _rows(self, place: int | Ref, offsets: Array, size: int) -> Array:
        """(len(offsets), size) float64: the bytes that lie so far behind a place."""
        found = self._arena(place, int(offsets.max()) + size)
        values: Array = found[offsets[:, None] + np.arange(size)].astype(np.float64)
        return values

    def _arena(self, place: int | Ref, size: int) -> Array:
        """A copy of `size` bytes of the check's arena."""
        assert isinstance(place, Ref)
        start = self.plan.offset(place)
        return self._context.arena[start : start + size].copy()


@dataclass(frozen=True)
class Span:
    """Bytes of the constants that begin where an operation's parameters do."""

    start: int
    stop: int
    op: int


def _spans(instructions: Sequence[Instruction], size: int) -> list[Span]:
    """All constants, cut wherever an instruction's parameters begin."""
    starts = {0: 0}
    for instruction in instructions:
        for word in instruction.words.values():
            if isinstance(word, Ref) and word.block == CONSTANT:
                starts.setdefault(word.offset, instruction.op)
    cuts = [*sorted(start for start in starts if start < size), size]
    return [Span(a, b, starts[a]) for a, b in pairwise(cuts)]


def _is_linear(tensors: Sequence[Tensor], op: Op) -> bool:
    """Whether an operation is a matrix product with weights from the file, of 8 bits, each output pixel from one input pixel."""
    if op.code not in ("FULLY_CONNECTED", "CONV_2D"):
        return False
    x, w, y = tensors[op.inputs[0]], tensors[op.inputs[1]], tensors[op.outputs[0]]
    if w.data is None or w.data.dtype not in (np.int8, np.uint8) or any(t.quantization is None for t in (x, w, y)):
        return False
    if any(t.dtype not in ("int8", "uint8") for t in (x, w, y)) or x.dtype != y.dtype:
        return False
    if op.code == "FULLY_CONNECTED":
        return w.data.ndim == 2
    return w.data.ndim == 4 and w.shape[1:3] == (1, 1) and x.shape[:3] == y.shape[:3] and x.shape[3] == w.shape[3]


def _weights(tensors: Sequence[Tensor], op: Op) -> Array:
    """(n, k) int32, the zero point taken off."""
    t = tensors[op.inputs[1]]
    assert t.data is not None
    point = int(np.ravel(t.quantization.zero_point)[0])  # type: ignore[union-attr]
    return np.asarray(t.data.reshape(t.shape[0], -1).astype(np.int32) - point)


def _bias(tensors: Sequence[Tensor], op: Op, n: int) -> Array:
    if len(op.inputs) < 3 or op.inputs[2] < 0:
        return np.zeros(n)
    data = tensors[op.inputs[2]].data
    return np.zeros(n) if data is None else data.reshape(-1).astype(np.float64)


def _multiplier(x: Tensor, w: Tensor, y: Tensor) -> Array:
    """(n,) or (1,): what a sum of products is multiplied by."""
    scales = [np.ravel(t.quantization.scale).astype(np.float64) for t in (x, w, y)]  # type: ignore[union-attr]
    return np.asarray(scales[0] * scales[1] / scales[2])


def _zero(t: Tensor) -> float:
    """The zero point, in the arena's unsigned numbers."""
    point = int(np.ravel(t.quantization.zero_point)[0])  # type: ignore[union-attr]
    return float(point + int(FLIPPED) if t.dtype == "int8" else point)


def _times(a: Array, r: Array) -> Array:
    """a·r mod PRIME, (m, n) by (n,), a below 2^53 in magnitude."""
    return np.asarray(((a % PRIME) * r % PRIME).sum(1) % PRIME)


def _random(shape: tuple[int, ...], dtype: np.dtype[Any], rng: np.random.Generator) -> Array:
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        return rng.integers(info.min, info.max, shape, dtype, endpoint=True)
    return rng.normal(size=shape).astype(dtype)


def _of(plan: Any, layer: Layer) -> int:
    return int(plan.instructions[layer.number].op)


def _name(graph: Graph, op: int) -> str:
    return f"operation {op}, {graph.ops[op].code}" if 0 <= op < len(graph.ops) else f"operation {op}"
