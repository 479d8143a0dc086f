"""A pass of kernels/steps.py as the text of its lines: 16 bytes of each row of activations by weights that lie in streams.

One load fills four registers that lie side by side. What uses them comes before the next load by a fence: LLVM's scheduler would
load ahead, and its allocator, short of four such registers, would then move sums through memory (328 instructions for 221).

    sdot            sdot by element: four products of a channel
    smull           smull, smlal: two steps added up in int16; sadalp into two sums of a channel
    usdot (MATRIX)  zip1, zip2: eight bytes of two rows; usmmla: by those of two channels
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from edgeq.records import dataclass

from .vec import ISA, VI32

PAIRED, MATRIX = ISA.dot == "smull", ISA.matrix
AT_ONCE = 4
"""Registers that a load fills."""


@dataclass(frozen=True)
class Shape:
    """A tile's rows, vectors of a block and blocks; k-steps, `first` of the four and how many; pixels of a window's row."""

    mr: int
    nv: int
    blocks: int = 1
    first: int = 0
    steps: int = 4
    taps: int = 1

    @property
    def streams(self) -> list[str]:
        """The pointers to each block's weights."""
        return [f"w{b}" for b in range(self.blocks)]

    @property
    def sums(self) -> list[str]:
        """All accumulators."""
        return [name for i in range(0, self.mr, 2 if MATRIX else 1) for name in sums(i, self.nv * self.blocks)]

    @property
    def pixels(self) -> list[str]:
        """The activations; row i's for tap t are x{i + t}."""
        return [f"x{i}" for i in range(self.mr + self.taps - 1)]


def sums(i: int, count: int) -> list[str]:
    """The sums of row i (MATRIX: of rows i and i + 1) of `count` vectors of channels, in the order of their bias."""
    if PAIRED:
        return [f"c{i}_{j}{h}" for j in range(count) for h in "lh"]
    return [f"m{i}_{j}" for j in range(2 * count)] if MATRIX else [f"c{i}_{j}" for j in range(count)]


@dataclass(frozen=True)
class Piece:
    """Lines that use the next `count` vectors of weights of a block, given their names."""

    block: int
    count: int
    lines: Callable[[list[str]], list[str]]


def _by_element(shape: Shape) -> Iterator[Piece]:
    for s in range(shape.first, shape.first + shape.steps):
        for tap in range(shape.taps):
            for j in range(shape.nv * shape.blocks):

                def lines(w: list[str], s: int = s, tap: int = tap, j: int = j) -> list[str]:
                    return [f"c{i}_{j} = dot_step{s}(c{i}_{j}, x{i + tap}, {w[0]})" for i in range(shape.mr)]

                yield Piece(j // shape.nv, 1, lines)


def _in_pairs(shape: Shape) -> Iterator[Piece]:
    """Of four rows, two at a time by two vectors: their steps and the sums fill the registers."""
    group, vectors, top = min(shape.steps, 2), min(shape.nv, 2), min(shape.mr, 2)
    for s in range(shape.first, shape.first + shape.steps, group):
        for tap in range(shape.taps):
            for j in range(0, shape.nv * shape.blocks, vectors):

                def lines(w: list[str], s: int = s, tap: int = tap, j: int = j) -> list[str]:
                    out = []
                    for above in range(0, shape.mr, top):
                        pixels = range(above, above + top + shape.taps - 1) if j == tap == 0 or shape.mr > top else ()
                        out += [f"a{i}_{k} = step{s + k}(x{i})" for i in pixels for k in range(group)]
                        for n, i in ((n, i) for n in range(vectors) for i in range(above, above + top)):
                            for half, c in (("low", f"c{i}_{j + n}l"), ("high", f"c{i}_{j + n}h")):
                                product = f"mull_{half}(a{i + tap}_0, {w[n * group]})"
                                if group == 2:
                                    product = f"mlal_{half}({product}, a{i + tap}_1, {w[2 * n + 1]})"
                                out += [f"{c} = add_long({c}, {product})"]
                    return out

                yield Piece(j // shape.nv, group * vectors, lines)


def _by_matrix(shape: Shape) -> Iterator[Piece]:
    last = shape.mr + shape.taps - 2
    for s in range(
        shape.first + shape.steps - 2, shape.first - 1, -2
    ):  # upper halves first: lower ones take a row's place
        half, known = "high" if s else "low", set[int]()
        for tap in range(shape.taps):
            fresh = {i + tap for i in range(0, shape.mr, 2)} - known
            known |= fresh
            for j in range(shape.nv * shape.blocks):
                joined = [f"y{i} = pair_{half}(x{i}, x{min(i + 1, last)})" for i in sorted(fresh) if j == 0]

                def lines(w: list[str], j: int = j, tap: int = tap, joined: list[str] = joined) -> list[str]:
                    pairs = [(i, 2 * j + k, w[k]) for k in (0, 1) for i in range(0, shape.mr, 2)]
                    return joined + [f"m{i}_{n} = matrix(m{i}_{n}, y{i + tap}, {u})" for i, n, u in pairs]

                yield Piece(j // shape.nv, 2, lines)


def lines(shape: Shape) -> list[str]:
    """The text of a pass: streams move, sums grow. It calls what kernels/simd.py has and fence{number of sums}."""
    pieces = list((_in_pairs if PAIRED else _by_matrix if MATRIX else _by_element)(shape))
    whole = sum(p.count for p in pieces if p.block == 0) % AT_ONCE == 0
    ready: dict[int, list[str]] = {b: [] for b in range(shape.blocks)}
    out: list[str] = []
    for piece in pieces:
        stream, names, taken = f"w{piece.block}", ready[piece.block], list[str]()
        for k in range(piece.count):
            if not names and whole:
                names.extend(f"{stream}_{n}" for n in range(AT_ONCE))
                out += [f"{', '.join(names)} = load_quads({stream})"]
            elif not names:
                names.append(f"v{k}")
                out += [f"v{k} = load_quad({stream})", f"{stream} += {16}"]
            taken.append(names.pop(0))
        out += piece.lines(taken)
        if whole and not names:
            held = ", ".join([*shape.streams, *shape.sums])
            out += [f"{stream} += {16 * AT_ONCE}", f"{held} = fence{shape.blocks}_{len(shape.sums)}({held})"]
    return out


def fence(streams: int, count: int) -> Any:
    """(addresses, sums): the same, but what comes from one of them afterwards needs all of them; no instruction."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        result, every = ir.LiteralStructType([a.type for a in args]), range(streams + count)
        constraints = ",".join(["=r"] * streams + ["=w"] * count + [str(k) for k in every])
        made = builder.asm(ir.FunctionType(result, result.elements), "", constraints, args, side_effect=False)
        return context.make_tuple(builder, signature.return_type, [builder.extract_value(made, k) for k in every])

    kinds = [types.int64] * streams + [VI32] * count
    namespace: dict[str, Any] = {"signature": types.Tuple(kinds)(*kinds), "codegen": codegen}
    exec(
        f"def fence(typingctx, {', '.join(f'a{k}' for k in range(len(kinds)))}):\n    return signature, codegen\n",
        namespace,
    )
    return intrinsic(namespace["fence"])


FENCES = {f"fence{b}_{n}": fence(b, n) for b in (1, 2, 4) for n in (1, 2, 4, 8, 12, 16, 20)}
