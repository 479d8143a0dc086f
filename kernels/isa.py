"""Which vector instructions the kernels are compiled for; decided once, before anything is compiled.

`ISA` is read when a kernel is compiled, never while it runs. `select` is called by whoever compiles: on the machine itself with
what the processor offers, or with the name of a target. The names are ordered from the plainest to the widest.
"""

from __future__ import annotations

import os

from edgeq.records import dataclass


@dataclass(frozen=True)
class Isa:
    """One instruction set as the kernels see it.

    `lanes`: 32-bit lanes of a vector. `dot`: the primitive of u8·s8 products ("vpdpbusd", "pmaddwd", "usdot", "sdot", "smull",
    "vmull", "portable"). `needs`: LLVM feature names that the processor must have.
    """

    name: str
    lanes: int
    dot: str
    needs: tuple[str, ...] = ()
    registers: int = 16

    @property
    def offset(self) -> int:
        """What the byte product takes off each unsigned activation because it multiplies signed bytes; the plan adds it back."""
        return 128 if self.dot in ("sdot", "smull", "vmull") else 0

    @property
    def by_steps(self) -> bool:
        """Whether byte tiles take four k-steps of activations at once, from lanes of a register."""
        return self.dot in ("usdot", "sdot", "smull")

    @property
    def matrix(self) -> bool:
        """Whether convolutions multiply two rows by two channels at once: usmmla, which i8mm has beside usdot."""
        return self.dot == "usdot"

    @property
    def small(self) -> bool:
        """Whether code must be small before it is fast: 32-bit ARM."""
        return self.dot == "vmull"

    @property
    def staggers(self) -> bool:
        """Whether strips of one and two vectors requantize half a tile while they multiply the other (kernels/staggered.py)."""
        return self.dot == "vpdpbusd" and self.registers >= 32

    @property
    def adds_rows(self) -> bool:
        """Whether sums of activations are found row by row, whole vectors of bytes at a time (kernels/sums.py)."""
        return self.dot in ("vpdpbusd", "pmaddwd")

    @property
    def own_rows(self) -> dict[int, int]:
        """Vectors of a register tile → rows, where a tile holds more than words.conv.TILE_ROWS counts; else empty."""
        if self.dot == "smull":  # 16 bytes of each row and two vectors of products
            return {4: 4, 2: 6, 1: 10}
        return {4: 5, 2: 8, 1: 12} if self.by_steps else {}  # 16 bytes of each row

    @property
    def least_weight(self) -> int:
        """The least weight that byte tiles and runs may hold: smull adds two products up in int16."""
        return -127 if self.dot in ("smull", "vmull") else -128


X86 = (
    Isa("avx512vnni", 16, "vpdpbusd", ("avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512vnni"), 32),
    Isa("avx512bw", 16, "pmaddwd", ("avx512f", "avx512bw", "avx512vl", "avx512dq"), 32),
    Isa("avxvnni", 8, "vpdpbusd", ("avx2", "fma", "avxvnni")),
    Isa("avx2", 8, "pmaddwd", ("avx2", "fma")),
    Isa("sse42", 4, "pmaddwd", ("sse4.2",)),
)
ARM64 = (
    Isa("i8mm", 4, "usdot", ("neon", "dotprod", "i8mm"), 32),
    Isa("dotprod", 4, "sdot", ("neon", "dotprod"), 32),
    Isa("neon", 4, "smull", ("neon",), 32),
)
ARM32 = (Isa("neon32", 4, "vmull", ("neon",)),)
PORTABLE = Isa("portable", 4, "portable")
ALL = {isa.name: isa for isa in (*X86, *ARM64, *ARM32, PORTABLE)}


def detect(features: dict[str, bool]) -> Isa:
    """The widest instruction set whose needs the processor meets; EDGEQ_ISA may name a plainer one."""
    fitting = [isa for isa in (*X86, *ARM64, PORTABLE) if all(features.get(n, False) for n in isa.needs)]
    wanted = os.environ.get("EDGEQ_ISA")
    if not wanted:
        return fitting[0]
    if wanted not in {isa.name for isa in fitting}:
        raise ValueError(f"EDGEQ_ISA is {wanted!r}, this processor offers {', '.join(isa.name for isa in fitting)}")
    return ALL[wanted]


_selected: list[Isa] = []


def select(isa: Isa) -> None:
    """Fix the instruction set of this process; a second, different choice is a programming error."""
    if _selected and _selected[0] != isa:
        raise RuntimeError(f"kernels are already set up for {_selected[0].name}, cannot switch to {isa.name}")
    if not _selected:
        _selected.append(isa)


def selected() -> Isa:
    """The instruction set that kernels compile for."""
    if not _selected:
        raise RuntimeError("isa.select() must come before the kernels are imported")
    return _selected[0]
