"""x86-64 with AVX-512; Skylake-SP."""

from edgeq.targets.target import V4, Target

TARGET = Target(
    name="x86-64-v4",
    title="x86-64 with AVX-512; Skylake-SP",
    triple="x86_64-linux-gnu",
    cpu="x86-64-v4",
    features="",
    isa="avx512bw",
    needs=V4,
    order=40,
    platform="manylinux_2_17_x86_64",
    emulate="",
    cipher="aes-256-gcm",
    notes="vpmaddwd on 512 bits. qemu does not emulate AVX-512: tested where the processor has it.",
)
