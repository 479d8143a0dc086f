"""What a plan does, instruction by instruction: kernel, tile, memory, and the fewest cycles that the processor could take.

    cycles = max(MACs / MACs per cycle, bytes / BYTES_PER_CYCLE)

MACs per cycle follow from the instruction set (`rate`; docs/performance.md derives them), bytes are all that the operation reads
and writes, weights included. It is a floor, not a forecast: borders, requantization and half-filled tiles come on top.
`edgeq bench --profile` measures.
"""

from __future__ import annotations

from dataclasses import dataclass

from edgeq.graph import NUMPY_DTYPES, Graph, Op, Tensor
from edgeq.kernels.isa import Isa
from edgeq.kernels.words import conv as cw
from edgeq.kernels.words import elementwise as ew
from edgeq.kernels.words import move as mw
from edgeq.kernels.words.instruction import FLOAT
from edgeq.plan.types import CONSTANT, Instruction, Plan, Ref

BYTES_PER_CYCLE = 32
"""What a core moves between its second-level cache and its registers: half a cache line a cycle."""

ONE_512 = ("znver4", "icelake-client", "tigerlake", "rocketlake", "cannonlake")
"""Processors that start one 512-bit multiplication a cycle, where others start two."""

_MOVES = ("fill_bytes", "copy_nd", "pad_image", "pad_columns")
_ELEMENTWISE = ("add_u8", "mul_u8", "binary_s16", "binary_f32")


@dataclass(frozen=True)
class Step:
    """One instruction, or an operation that needs none (kernel "").

    op, code: the operation; tile: rows and vectors of a register tile as "6×4", "" for kernels without; units: what threads
    share out; moved: bytes read and written; cycles: see above; offset: where in the arena the result begins, None if it is
    not there; size: bytes of the operation's output.
    """

    op: int
    code: str
    kernel: str
    tile: str
    units: int
    macs: int
    moved: int
    cycles: int
    offset: int | None
    size: int


def steps(graph: Graph, plan: Plan, isa: Isa, cpu: str = "") -> list[Step]:
    """Every instruction of the plan in order, and between them the operations that it does without. cpu as in `rate`."""
    of_op: dict[int, list[Instruction]] = {k: [] for k in range(len(graph.ops))}
    for instruction in plan.instructions:
        of_op[instruction.op].append(instruction)
    found = []
    for k, op in enumerate(graph.ops):
        code, size = op.custom_code or op.code, sum(nbytes(graph.tensors[i]) for i in op.outputs)
        if not of_op[k]:
            found.append(Step(k, code, "", "", 0, 0, 0, 0, None, size))
        for instruction in of_op[k]:
            moved = bytes_moved(graph, op, instruction, of_op[k])
            busy = instruction.macs / rate(instruction.kernel, isa, cpu) if instruction.macs else 0.0
            found.append(
                Step(
                    k,
                    code,
                    instruction.kernel,
                    tile(instruction, isa),
                    instruction.units,
                    instruction.macs,
                    moved,
                    round(max(busy, moved / BYTES_PER_CYCLE)),
                    offset(plan, instruction),
                    size,
                )
            )
    return found


def tile(instruction: Instruction, isa: Isa) -> str:
    """Rows and vectors of the register tile that a matrix kernel works in, as kernels/tile.py makes them."""
    wide = isa.registers >= 32
    vectors = instruction.words.get(cw.NV, 4)
    if instruction.kernel in ("conv_u8", "conv_hybrid", "conv_f32"):
        assert isinstance(vectors, int)
        if instruction.kernel == "conv_u8" and isa.by_steps and instruction.words.get(cw.FAMILY) == FLOAT:
            height = cw.ACROSS[isa.dot] if instruction.words.get(cw.SHARED) else cw.STEP_ROWS[isa.dot][vectors]
            return f"{height}×{vectors}"
        if instruction.words.get(cw.PAIRS) == cw.SHARED_PAIRS:
            return f"{cw.SHARED_PAIRS_ROWS[vectors - 1]}×{vectors - 1}½"
        own = {} if instruction.words.get(cw.STRIP) else isa.own_rows
        rows = cw.STRIP_ROWS if instruction.words.get(cw.STRIP) else cw.TILE_ROWS
        return f"{own.get(vectors, rows[wide][vectors])}×{vectors}"
    if instruction.kernel == "conv_u8_sum":
        return f"{5 if wide else 2}×4"
    if instruction.kernel == "conv_s16":
        return f"{isa.own_rows.get(4, cw.TILE_ROWS[wide][4])}×4"
    return ""


def rate(kernel: str, isa: Isa, cpu: str = "") -> float:
    """MACs a cycle that a kernel's multiplications allow, with everything else for free.

    cpu: LLVM's name of the processor, which decides how often 512-bit multiplications start.
    """
    lanes, x86 = isa.lanes, isa.dot in ("vpdpbusd", "pmaddwd")
    starts = 2
    if lanes == 16 and (cpu in ONE_512 or (isa.dot == "pmaddwd" and not kernel.endswith("f32"))):
        starts = 1  # the additions behind vpmaddwd take the second port
    per_lane = {"vpdpbusd": 4, "usdot": 4, "sdot": 4, "pmaddwd": 2}.get(isa.dot, 1)
    if kernel.startswith("conv_u8") or kernel == "conv_hybrid":
        return starts * lanes * per_lane
    if kernel == "conv_s16":
        return starts * lanes * (2 if x86 else 1)
    if kernel in ("depthwise_runs", "depthwise_rows", "depthwise_strided"):
        return starts * lanes * per_lane * 0.75  # nine taps fill twelve products
    return starts * lanes


def bytes_moved(graph: Graph, op: Op, instruction: Instruction, siblings: list[Instruction]) -> int:
    """Bytes that an instruction reads and writes; those of an operation in several pieces are shared out by
    multiply-adds, or by units where there are none."""
    if instruction.kernel == "fill_bytes":
        return instruction.units
    if instruction.kernel == "copy_nd":
        run = instruction.words[mw.RUN]
        assert isinstance(run, int)
        return 2 * instruction.units * run
    if instruction.kernel == "pad_image" and mw.X not in instruction.words:  # borders alone
        left, right = instruction.words[mw.LEFT], instruction.words[mw.RIGHT]
        assert isinstance(left, int)
        assert isinstance(right, int)
        return instruction.units * (left + right)
    if instruction.kernel == "pad_columns":
        pitch = instruction.words[mw.PITCH]
        assert isinstance(pitch, int)
        return 2 * instruction.units * pitch
    if instruction.kernel in ("pad_image", "pad_phases"):
        return 2 * nbytes(graph.tensors[op.inputs[0]])  # and a border
    whole = sum(nbytes(graph.tensors[i]) for i in (*op.inputs, *op.outputs) if i >= 0)
    return (
        whole
        * (instruction.macs or instruction.units)
        // sum(s.macs or s.units for s in siblings if s.kernel not in _MOVES)
    )


def offset(plan: Plan, instruction: Instruction) -> int | None:
    """Where in the arena an instruction's output begins."""
    y = instruction.words.get(ew.Y if instruction.kernel in _ELEMENTWISE else mw.Y)
    return plan.offset(y) if isinstance(y, Ref) and y.block != CONSTANT else None


def nbytes(t: Tensor) -> int:
    """Bytes of a tensor; 0 for types that have no NumPy arrays."""
    return t.size * NUMPY_DTYPES[t.dtype].itemsize if t.dtype in NUMPY_DTYPES else 0
