"""What a device family is: what code is generated for it, what its processors must offer, and how it is tested."""

from __future__ import annotations

from dataclasses import dataclass

from edgeq.kernels.isa import ALL, Isa

V2 = ("ssse3", "sse4.2", "popcnt")
V3 = (*V2, "avx", "avx2", "fma", "bmi", "bmi2", "f16c", "lzcnt", "movbe")
V4 = (*V3, "avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512cd")
"""The x86-64 micro-architecture levels of the System V ABI, as far as code generated for them uses their features."""


@dataclass(frozen=True)
class Target:
    """One family of devices.

    triple, cpu, features: what LLVM generates code for. optimized_for: the processor whose costs its passes before that go by,
    where those of `cpu` are bad advice (for processors that work in order LLVM unrolls every loop). isa: which of the kernels'
    instruction sets (edgeq.kernels.isa).
    small: whether its code is made for few bytes before speed, inner loops too.
    needs: feature names of edgeq.targets.detect that a processor must offer; nothing else decides whether an object may run.
    parts: processors that it is tuned for, as detect names them; of several objects that may run, one that names the
    processor is preferred. emulate: the CPU of qemu-user to test it with, "" where qemu has none that offers it.
    platform: of a wheel for it. cipher: what seals bundles best there. order: among objects that may run, the highest wins.
    """

    name: str
    title: str
    triple: str
    cpu: str
    features: str
    isa: str
    needs: tuple[str, ...]
    order: int
    platform: str
    emulate: str
    cipher: str
    parts: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    optimized_for: str = ""
    small: bool = False
    notes: str = ""

    @property
    def architecture(self) -> str:
        """ "x86_64", "aarch64" or "armv7", as in the triple."""
        return self.triple.split("-")[0]

    @property
    def kernels_isa(self) -> Isa:
        """The kernels' description of the instruction set."""
        return ALL[self.isa]
