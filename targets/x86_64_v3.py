"""x86-64 with AVX2; Haswell, Zen and later."""

from edgeq.targets.target import V3, Target

TARGET = Target(
    name="x86-64-v3",
    title="x86-64 with AVX2; Haswell, Zen and later",
    triple="x86_64-linux-gnu",
    cpu="x86-64-v3",
    features="",
    isa="avx2",
    needs=V3,
    order=20,
    platform="manylinux_2_17_x86_64",
    emulate="Haswell",
    cipher="aes-256-gcm",
    notes="Exact products of widened bytes: vpmaddwd on 256 bits.",
)
